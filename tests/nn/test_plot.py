"""Curves in the terminal and as PNG."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path

import pytest

from symgraph.nn import plot


def test_a_curve_of_eighths() -> None:
    assert plot.curve([0.0, 7.0, 15.0], "title", width=3, height=2).splitlines() == [
        "title",
        "       15 ┤  █",
        "        0 ┤▁██",
        "          └───",
        "           1 3",
    ]
    assert plot.curve([0.0, 2.0, 7.0], width=9, height=1).splitlines()[0].endswith("┤▁▁▁▃▃▃███")


def test_logarithm_and_averages() -> None:
    values = [10.0**-i for i in range(8) for _ in range(20)]
    lines = plot.curve(values, width=8, height=8, log=True).splitlines()
    assert [line.count("█") for line in lines[:8]] == [1, 1, 2, 3, 4, 5, 6, 7]
    assert lines[0].split()[0] == "1" and lines[7].split()[0] == "1e-07"
    assert lines[-1].split() == ["1", "160"]


def test_values_that_are_not_finite_leave_a_gap() -> None:
    text = plot.curve([1.0, math.nan, 2.0, math.inf], width=4, height=1)
    assert text.splitlines()[0].endswith("┤▁ █")
    assert plot.curve([math.nan], "t") == "t\n(no finite values)"
    assert plot.curve([]) == "(no finite values)"
    assert "▁" in plot.curve([3.0, 3.0, 3.0], height=1)


def test_ascii_where_the_encoding_has_no_blocks() -> None:
    assert plot.shows_blocks(io.TextIOWrapper(io.BytesIO(), "utf-8"))
    assert not plot.shows_blocks(io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert plot.curve([1.0, 5.0, 2.0], "t", ascii=True).isascii()


def test_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "loss.png"
    curves = {"seed 0": [1.0, 0.5], "seed 1": [2.0, 0.1]}
    plot.save_png(path, {"cost": curves, "accuracy": curves}, log=["cost"], title="t")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 5000


def test_png_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "\.\[demo\]"'):
        plot.save_png(tmp_path / "loss.png", {"cost": {"a": [1.0]}})
