"""Relations that sizes must have: decided at once where the sizes tell, else recorded as guards.

`infer` calls require_equal and require_le; whoever wants to know which guards an expression needs
re-runs infer inside `recording`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .dims import SizeLike, known_equal, known_le
from .errors import ShapeError


class Guard(NamedTuple):
    """A relation between sizes checked at call time: left == right (or left <= right)."""

    left: SizeLike
    right: SizeLike
    relation: str  # "==" or "<="
    what: str  # for the message, e.g. "add: axis 0"
    of_index: bool = False  # an index that data decides: 0 <= index, or index + 1 <= size


_recorder = threading.local()


@contextmanager
def recording(sink: Callable[[Guard], None]) -> Iterator[None]:
    """Within this block every undecidable relation is given to `sink`."""
    before = getattr(_recorder, "sink", None)
    _recorder.sink = sink
    try:
        yield
    finally:
        _recorder.sink = before


def require_equal(a: SizeLike, b: SizeLike, what: str) -> None:
    """a == b: raises ShapeError if never, records a guard if it cannot be decided."""
    _require(known_equal(a, b), Guard(a, b, "==", what))


def require_le(a: SizeLike, b: SizeLike, what: str, index: bool = False) -> None:
    """a <= b: raises ShapeError if never, records a guard if it cannot be decided."""
    _require(known_le(a, b), Guard(a, b, "<=", what, index))


def _require(known: bool | None, guard: Guard) -> None:
    if known is False:
        verb = "sizes differ" if guard.relation == "==" else "size too large"
        raise ShapeError(f"{guard.what}: {verb}: {guard.left} and {guard.right}")
    sink = getattr(_recorder, "sink", None)
    if known is None and sink is not None:
        sink(guard)
