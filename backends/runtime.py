"""The Python half of the runtime: addresses of symbols, the poll callback, the nesting of calls.

`host_entries` counts how often native code entered Python: between the kernels of an ordinary call
it does not move.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from typing import Any

import numpy as np

from symgraph.dtypes import dtype
from symgraph.errors import InternalError

from . import numbers_ir, pool_ir, recycling, recycling_ir, threads
from .layout_check import NUMPY_FUNCTIONS, Layout, layout, numpy_symbol, python_symbol
from .module_symbols import exported, undefined
from .runtime_ir import runtime_text

host_entries = 0


def depth() -> int:
    """How many native calls of this thread wait for the Python code that runs now.

    A signal handler or a host call that would wait for a lock asks it: the lock may be held by its
    own thread further down. Native code keeps the list, since a signal handler can run before the
    first instruction of any Python function that native code calls.
    """
    return call("depth", ctypes.c_int64, ctypes.c_int64)(threading.get_ident())


def entered() -> None:
    """Count one call from native code into Python."""
    global host_entries
    host_entries += 1


def poll() -> None:
    """Run pending signal handlers; what they raise stops the call that polls."""
    entered()
    ctypes.pythonapi.PyErr_CheckSignals()
    threads.check_lost()


_NAMES = {name: "_" + name for name in ("slow", "contended", "host")}


@functools.cache
def objects() -> dict[str, int]:
    """Addresses of the Python objects that generated code names; they live for ever."""
    found = {f"symgraph.name_{name}": id(method) for name, method in _NAMES.items()}
    found |= {name: id(type) for name, type in numbers_ir.OBJECTS.items()}
    return found | {"symgraph.poll_object": id(poll), "PyArray_Type": id(np.ndarray)}


def address(symbol: str) -> int:
    """The address of a symbol that an entry, a driver or the runtime imports.

    Raises: InternalError for a name that nothing here defines.
    """
    if symbol.startswith("descr."):
        return id(_descr(symbol[len("descr.") :]))
    if symbol.startswith("scalar."):
        return id(_descr(symbol[len("scalar.") :]).type)
    if symbol in objects():
        return objects()[symbol]
    if symbol in NUMPY_FUNCTIONS:
        return numpy_symbol(symbol)
    if symbol.startswith("symgraph."):
        return library().address(symbol)
    if symbol.startswith("Py"):
        return python_symbol(symbol)
    return _process_symbol(symbol)


def _process_symbol(symbol: str) -> int:
    try:
        found = getattr(ctypes.CDLL(None), symbol)
    except AttributeError:
        raise InternalError(f"generated code needs {symbol!r}, which nothing defines") from None
    return ctypes.cast(found, ctypes.c_void_p).value or 0


@functools.cache
def _descr(name: str) -> np.dtype:
    return dtype(name).np


@functools.cache
def library() -> Any:
    """The runtime library of this process."""
    from . import jit, targets
    from .objects import compiled

    here = targets.host()
    text = runtime_text(here.triple, here.arch, layout() or Layout.expected())
    imports = {name: address(name) for name in undefined([text])}
    found = jit.load([compiled(text, here, jit.QUICK)], exported(text), imports)
    jit.keep_forever(found)  # workers stay in its code, arrays need it, until the process ends
    if pool_ir.has_pool(here.triple, here.arch):
        threads.attach(found)
    if recycling_ir.available():
        recycling.attach(found)
    return found


@functools.cache
def call(name: str, result: Any, *arguments: Any) -> Any:
    """A function of the runtime library for use from Python, the GIL kept."""
    return ctypes.PYFUNCTYPE(result, *arguments)(library().address(f"symgraph.{name}"))
