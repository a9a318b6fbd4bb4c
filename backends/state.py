"""What functions keep between calls: cells of shared variables, and each Function's state block.

A cell is a small block of memory that native code reads and updates without Python: lock word, data
pointer, spare buffer, sizes, and the ndarrays that own both buffers (offsets in blocks.CELL).
It is `Shared.runtime` and `Shared.lock` of its variable from the first function on.

The lock has one writer or several readers. Native code only tries it; whoever does not get it waits
here, in Python, with the GIL released between tries. A thread that is inside a native call (in a
signal handler, a host call) may read what the call below it holds, since updates become visible
only when that call ends; it cannot write.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from symgraph.errors import GraphError
from symgraph.leaves import Shared

from . import runtime
from .blocks import ARENAS, CELL, FIRM_READ, POLITE_READ, STATE, STATE_BYTES, WRITE

NESTED_PATIENCE = 1.0  # seconds that a nested call waits for a lock which its own thread may hold


_cells: weakref.WeakSet[Cell] = weakref.WeakSet()


def _after_fork() -> None:
    """In a child process the threads that held locks do not exist."""
    if not _cells or runtime.depth():
        return
    for cell in _cells:
        cell.word("lock").value = cell.word("waiting").value = 0
        cell._depth, cell._modes = 0, []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Cell:
    """The run-time storage of one shared variable."""

    def __init__(self, owner: Shared):
        ndim = len(owner.array_type.shape)
        self.label = owner.label
        self._memory = ctypes.create_string_buffer(CELL["dims"] + 8 * max(1, ndim))
        self.address = ctypes.addressof(self._memory)
        self._depth = 0  # of Python-level locks held by the owning thread
        self._modes: list[str] = []
        _cells.add(self)
        weakref.finalize(self, _drop_arrays, self._memory).atexit = False
        self._set_array(_own(owner.storage, 1))

    # --- fields ---

    def word(self, field: str) -> Any:
        """An integer field, as a ctypes object on its memory."""
        return ctypes.c_int64.from_address(self.address + CELL[field])

    def _pointer(self, field: str) -> Any:
        return ctypes.c_void_p.from_buffer(self._memory, CELL[field])

    def _object(self, field: str) -> Any:
        at = self._pointer(field).value
        return ctypes.cast(at, ctypes.py_object).value if at else None

    def _set_array(self, array: np.ndarray) -> None:
        _exchange(self._memory, "array", array)
        self._pointer("data").value = array.ctypes.data
        for axis, size in enumerate(array.shape):
            ctypes.c_int64.from_address(self.address + CELL["dims"] + 8 * axis).value = size

    # --- value ---

    def current(self) -> np.ndarray:
        """The array that is the value now."""
        return self._object("array")

    def spare(self) -> np.ndarray | None:
        """The buffer the next swap writes into, if there is one."""
        return self._object("spare")

    def replace(self, array: np.ndarray) -> None:
        """Make `array` the value; the caller holds the lock.  Raises GraphError inside a call."""
        if self.word("lock").value != -threading.get_ident() or self._modes[-1:] != ["exclusive"]:
            raise GraphError(
                f"{self.label}: cannot be set inside a call of a function that uses it"
            )
        if self.current().shape != array.shape:
            self._set_spare(None)
        self._set_array(_own(array, 2))

    def ensure_spare(self) -> None:
        """Have a spare buffer of the value's shape. The caller holds the lock."""
        if self.spare() is None:
            self._set_spare(np.empty_like(self.current()))

    def _set_spare(self, array: np.ndarray | None) -> None:
        _exchange(self._memory, "spare", array)
        self._pointer("spare_data").value = array.ctypes.data if array is not None else None

    # --- lock ---

    def __enter__(self) -> Cell:
        """Exclusive access for Python code; inside a native call of this thread, read access."""
        me = threading.get_ident()
        if self.is_mine():
            mode = "exclusive" if self._depth else "nested"
        elif runtime.depth():
            take = runtime.call("try_shared", ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
            _wait(lambda: take(self.address, 0) or BUSY, [], NESTED_PATIENCE, self.label)
            mode = "shared"
        else:
            take = runtime.call("try_exclusive", ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
            _wait(lambda: take(self.address, me) or BUSY, [self], None, self.label)
            mode = "exclusive"
        self._modes.append(mode)
        self._depth += mode == "exclusive"
        return self

    def __exit__(self, *_: Any) -> None:
        mode = self._modes.pop()
        self._depth -= mode == "exclusive"
        if mode == "shared" or mode == "exclusive" and not self._depth:
            runtime.call("release", None, ctypes.c_void_p)(self.address)

    def is_mine(self) -> bool:
        """Whether this thread has the cell locked for writing."""
        return self.word("lock").value == -threading.get_ident()


def _exchange(memory: Any, field: str, new: Any) -> None:
    """Put an object (or nothing) into a cell's field that owns its reference."""
    word = ctypes.c_void_p.from_buffer(memory, CELL[field])
    old = word.value
    if new is not None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(new))
    word.value = id(new) if new is not None else None
    if old:
        ctypes.pythonapi.Py_DecRef(ctypes.cast(old, ctypes.py_object))


def _drop_arrays(memory: Any) -> None:
    for field in ("array", "spare"):
        _exchange(memory, field, None)


def cell_of(variable: Shared) -> Cell:
    """The cell of a shared variable, made when the first function needs it."""
    with variable.lock:
        if variable.runtime is None:
            cell = Cell(variable)
            variable.runtime, variable.lock = cell, cell  # type: ignore[assignment]
            return cell
    return variable.runtime


BUSY = object()  # what an attempt returns that did not get its locks


def retry(attempt: Callable[[], Any], cells: Sequence[tuple[Cell, bool]], label: str) -> Any:
    """What `attempt` returns once it gets the locks of `cells` (each with: does it write?).

    Raises: GraphError where waiting could not end: this thread is inside a call that holds one of
    them.
    """
    mine = [c for c, _ in cells if c.is_mine()]
    if mine:
        raise GraphError(
            f"{label}: cannot run inside a call, of the same thread, that updates {mine[0].label}"
        )
    patience = NESTED_PATIENCE if runtime.depth() else None
    return _wait(attempt, [c for c, write in cells if write], patience, label)


def _wait(
    attempt: Callable[[], Any], queue: Sequence[Cell], patience: float | None, label: str
) -> Any:
    """Try until it works, the GIL released in between; cells in `queue` hold readers back."""
    for cell in queue:
        cell.word("waiting").value += 1
    try:
        pause, end = 1e-5, time.monotonic() + patience if patience is not None else None
        while (result := attempt()) is BUSY:
            if end is not None and time.monotonic() > end:
                raise GraphError(f"{label}: in use by the call that this code runs inside")
            time.sleep(pause)
            pause = min(pause * 1.5, 2e-3)
        return result
    finally:
        for cell in queue:
            cell.word("waiting").value -= 1


def _own(array: np.ndarray, holders: int) -> np.ndarray:
    """An array that native code may write: exact, writable, held by `holders` known places.

    A borrowed array that its user still holds, or gave to two variables, is copied once, here.
    """
    known = holders + 2  # and our own parameter, and getrefcount's
    if (
        type(array) is np.ndarray
        and array.flags.writeable
        and array.flags.owndata
        and sys.getrefcount(array) <= known
    ):
        return array
    return np.array(array, order="C", copy=True, subok=False)


class State:
    """The block of memory that the entry finds in its Function: what copies do not share."""

    def __init__(
        self,
        cells: Sequence[Cell],
        writes: Sequence[bool],
        constants: Sequence[np.ndarray],
        keys: Sequence[str],
        launches: int,
    ):
        self._memory = ctypes.create_string_buffer(STATE_BYTES)
        self.address = ctypes.addressof(self._memory)
        weakref.finalize(self, _free_arenas, self._memory).atexit = False
        self._kept = (tuple(cells), tuple(constants), tuple(keys))
        self._blocks: list[Any] = []
        locked: dict[Cell, bool] = {}
        for cell, write in zip(cells, writes):
            locked[cell] = locked.get(cell, False) or write
        self.locked = tuple(locked.items())
        self._set("locks", len(locked))
        reads = FIRM_READ if any(locked.values()) else POLITE_READ
        rows = [x for c, w in self.locked for x in (c.address, WRITE if w else reads)]
        self._set("lock_table", self._block(rows))
        self._set("cells", self._block([c.address for c in cells]))
        self._set("constants", self._block([a.ctypes.data for a in constants]))
        self._set("keys", self._block([id(k) for k in keys]))
        self.profile = (ctypes.c_int64 * max(1, 2 * launches))()
        self._set("profile", ctypes.addressof(self.profile))

    def _set(self, field: str, value: int) -> None:
        ctypes.c_int64.from_address(self.address + STATE[field]).value = value

    def _block(self, words: Sequence[int]) -> int:
        block = (ctypes.c_int64 * max(1, len(words)))(*words)
        self._blocks.append(block)
        return ctypes.addressof(block)

    def take_numbers(self, plain: bool) -> None:
        """Whether numbers go in by the rules that native code knows."""
        self._set("numbers", plain)

    @property
    def calls(self) -> int:
        """Native calls so far."""
        return ctypes.c_int64.from_address(self.address + STATE["calls"]).value

    def count(self) -> None:
        """Count a call that did not go through the entry."""
        self._set("calls", self.calls + 1)

    def free(self) -> int:
        """Give idle arenas back to the system; the number of bytes."""
        return _free_arenas(self._memory)


def _free_arenas(memory: Any) -> int:
    freed = 0
    for i in range(ARENAS):
        slot = ctypes.c_void_p.from_buffer(memory, STATE["arenas"] + 8 * i)
        at, slot.value = slot.value, None
        if at:
            freed += ctypes.c_int64.from_address(at - 56).value
            raw = ctypes.c_void_p.from_address(at - 64).value
            ctypes.pythonapi.PyMem_RawFree(ctypes.c_void_p(raw))
    return freed
