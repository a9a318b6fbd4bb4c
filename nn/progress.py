"""A progress bar on standard error, for people who wait: only on a terminal and after a second.

SYMGRAPH_PROGRESS=0 switches it off.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import Any, TextIO

PATIENCE = 1.0  # seconds before the bar is first drawn
INTERVAL = 0.1  # seconds between two drawings
_WIDTH = 24


class Progress:
    """Counts up to `total`; a context manager that takes its line away at the end."""

    def __init__(self, total: int, stream: TextIO | None = None, wanted: bool = True):
        self.total, self.done, self.label = total, 0, ""
        self.stream = sys.stderr if stream is None else stream
        allowed = wanted and os.environ.get("SYMGRAPH_PROGRESS") != "0"
        self.enabled = allowed and _is_terminal(self.stream)
        self._began = time.monotonic()
        self._next = self._began + PATIENCE
        self._drawn = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: Any) -> None:
        self.clear()

    def clear(self) -> None:
        """Take the line away until it is drawn again, so that something else can be written."""
        if self._drawn:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
            self._drawn = False

    def advance(self, label: str) -> None:
        """One more is done; the line is drawn anew if it is time."""
        self.done += 1
        self.label = label
        if self.enabled and time.monotonic() >= self._next:
            self._next = time.monotonic() + INTERVAL
            self._drawn = True
            self.stream.write("\r\x1b[K" + self.line(shutil.get_terminal_size().columns))
            self.stream.flush()

    def line(self, columns: int) -> str:
        """Label, bar, share and the time that is left, in at most `columns` signs."""
        share = min(self.done / self.total, 1.0) if self.total else 1.0
        filled = int(share * _WIDTH)
        bar = "#" * filled + "-" * (_WIDTH - filled)
        elapsed = time.monotonic() - self._began
        left = elapsed * (1 / share - 1) if share else 0.0
        return f"[{bar}] {share:4.0%}  {_clock(left)} left  {self.label}"[: max(columns - 1, 0)]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # no stream at all, or a closed one
        return False
