"""Memory of large results is used again: how much may lie idle, and who gives it back.

Fresh memory costs as much as a loop that waits for memory: the system clears each page at the first
touch. Results of `LEAST` bytes or more therefore come from blocks that died with earlier results;
recycling_ir.py says how. Of results of any size that fits: doubling 4 MiB is 7 times as fast as in
fresh memory, 64 MiB to 800 MiB 2.6 to 2.9 times. Idle blocks hold at most a `SHARE` of the memory
that this process may use; `Function.free` and the end of the interpreter give them back.
"""

from __future__ import annotations

import atexit
import ctypes
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import cgroups
from .layout_check import default_handler
from .recycling_ir import LEAST

SHARE = 1 / 16
UNKNOWN = 1 << 32  # bytes of a machine that does not say

_handler: Any = None  # the capsule that NumPy knows it by
_library: Any = None  # of the runtime, once it is loaded; None where memory is not recycled


def attach(library: Any) -> None:
    """The runtime's library, which has the handler, is loaded."""
    global _library, _handler
    _library = library
    _handler = _call("recycling_start", ctypes.py_object, ctypes.c_int64, ctypes.c_void_p)(
        idle_limit(), default_handler()
    )
    atexit.register(_end)


def handler() -> Any:
    """The capsule by which NumPy knows this way to memory; None where there is none."""
    return _handler


def idle_limit() -> int:
    """Bytes that idle blocks may hold."""
    return int(SHARE * min(_machine_memory(), cgroups.limit("memory")))


def _machine_memory() -> int:
    """Bytes of the machine's memory, `UNKNOWN` if it does not say."""
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        found = 0
    return found if found > 0 else UNKNOWN


def set_limit(limit: int) -> int:
    """Let idle blocks hold at most so many bytes; the limit before."""
    return _call("recycling_limit", ctypes.c_int64, ctypes.c_int64)(limit)


def kept() -> int:
    """Bytes in idle blocks."""
    return _call("recycling_kept", ctypes.c_int64)() if _library is not None else 0


def release() -> int:
    """Give idle blocks back to the system; the number of bytes."""
    return _call("recycling_release", ctypes.c_int64)() if _library is not None else 0


def empty(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """An array for a result, made from Python as the generated entry makes it."""
    if _library is None or dtype.itemsize * int(np.prod(shape, dtype=object)) < LEAST:
        return np.empty(shape, dtype)
    pointer, dims = ctypes.c_void_p, (ctypes.c_ssize_t * len(shape))(*shape)
    new = _call(
        "new_large",
        ctypes.py_object,
        ctypes.py_object,
        ctypes.py_object,
        ctypes.c_int,
        pointer,
        pointer,
        pointer,
        ctypes.c_int,
        pointer,
    )
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(dtype))  # which the new array takes
    return new(np.ndarray, dtype, len(shape), dims, None, None, 0, None)


def _call(name: str, result: Any, *arguments: Any) -> Any:
    return ctypes.PYFUNCTYPE(result, *arguments)(_library.address(f"symgraph.{name}"))


def _end() -> None:
    set_limit(0)
    release()
