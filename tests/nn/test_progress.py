"""The progress bar: when it is silent, and what it draws."""

from __future__ import annotations

import io
import time

import pytest

from symgraph.nn import progress
from symgraph.nn.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(stream: io.StringIO, seconds: float, clock: pytest.MonkeyPatch, **options: bool) -> str:
    """What a bar of ten parts writes, when they take so many seconds in all."""
    now = 100.0
    clock.setattr(time, "monotonic", lambda: now)
    with Progress(10, stream, **options) as bar:
        for i in range(10):
            now += seconds / 10
            bar.advance(f"part {i}")
    return stream.getvalue()


def test_a_terminal_sees_it_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYMGRAPH_PROGRESS", raising=False)
    text = drawn(Terminal(), 5.0, monkeypatch)
    frames = text.split("\r\x1b[K")
    assert frames[0] == "" and frames[-1] == ""  # the line is taken away at the end
    assert frames[1] == "[####" + "-" * 20 + "]  20%  0:04 left  part 1"
    assert len(frames) == 11 and "100%" in frames[-2]


def test_silent_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYMGRAPH_PROGRESS", raising=False)
    assert drawn(io.StringIO(), 5.0, monkeypatch) == ""
    assert drawn(Terminal(), 0.9, monkeypatch) == ""
    assert drawn(Terminal(), 5.0, monkeypatch, wanted=False) == ""
    monkeypatch.setenv("SYMGRAPH_PROGRESS", "0")
    assert drawn(Terminal(), 5.0, monkeypatch) == ""


def test_it_draws_at_most_ten_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYMGRAPH_PROGRESS", raising=False)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    assert drawn(Terminal(), 0.3, monkeypatch).count("%") <= 4


def test_the_line_fits_the_terminal() -> None:
    bar = Progress(0, Terminal())
    bar.label = "x" * 200
    assert len(bar.line(80)) == 79 and bar.line(0) == ""


def test_a_stream_that_is_closed_or_missing_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    assert not Progress(1, closed).enabled
    monkeypatch.setattr("sys.stderr", None)
    assert not Progress(1).enabled
