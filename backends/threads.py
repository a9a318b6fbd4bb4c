"""How many threads run one kernel: the user's number, and what the native pool is told of it.

The default is SYMGRAPH_THREADS, else the CPUs this process may use: its affinity, and what the
quota of its control groups is worth. Results do not depend on the number.
"""

from __future__ import annotations

import ctypes
import functools
import math
import operator
import os
from typing import Any

from symgraph.errors import ArgumentError, GraphError
from symgraph.sites import user_site

from . import cgroups, targets
from .pool_ir import LEAST_WORK, has_pool

MOST = 1024

_chosen: int | None = None
_least = LEAST_WORK
_library: Any = None  # of the runtime, once it is loaded; None where there is no pool
_lost = False  # a thread forked while it ran a region: in the child nobody will finish that


def set_threads(n: int) -> None:
    """How many threads, the calling one among them, run one kernel from now on.

    Kernels with too little work run on the calling thread alone, whatever the number; results are
    the same, bit for bit. Threads start when they are first needed.

    Raises: ArgumentError unless n is an integer from 1 to 1024.
    """
    global _chosen
    _chosen = _checked(n, f"set_threads({n!r})")
    if _library is not None:
        _call("pool_threads", ctypes.c_int)(_chosen)


def get_threads() -> int:
    """How many threads may run one kernel; see `set_threads`. 1 on systems other than Linux.

    Raises: ArgumentError if SYMGRAPH_THREADS decides and is not a number from 1 to 1024.
    """
    here = targets.detect()
    if not has_pool(here.triple, here.arch):
        return 1
    return _chosen or _default()


def _checked(n: Any, what: str) -> int:
    try:
        count = operator.index(n)
    except TypeError:
        count = 0
    if isinstance(n, bool) or not 1 <= count <= MOST:
        raise ArgumentError(
            f"{what}: expected an integer from 1 to {MOST}, got {n!r}", site=user_site()
        )
    return count


def _default() -> int:
    asked = os.environ.get("SYMGRAPH_THREADS", "").strip()
    if not asked:
        return min(MOST, available_cpus())
    return _checked(int(asked) if asked.isdecimal() else asked, "SYMGRAPH_THREADS")


# --- the CPUs there are ---


@functools.cache
def available_cpus() -> int:
    """The CPUs that this process may keep busy."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, math.ceil(min(count, cgroups.limit("cpu"))))


# --- the native pool ---


def attach(library: Any) -> None:
    """The runtime's library, which has the pool, is loaded."""
    global _library
    _library = library
    _call("pool_threads", ctypes.c_int)(get_threads())
    _call("pool_least", ctypes.c_int64)(_least)


def set_least_work(work: int) -> int:
    """The element-operations from which a kernel is cut: for tests. Gives the number before."""
    global _least
    before, _least = _least, work
    if _library is not None:
        _call("pool_least", ctypes.c_int64)(work)
    return before


def _call(name: str, *arguments: Any, result: Any = None) -> Any:
    return ctypes.PYFUNCTYPE(result, *arguments)(_library.address(f"symgraph.{name}"))


def check_lost() -> None:
    """Stop a call whose workers did not come along when its thread forked.

    Raises: GraphError.
    """
    global _lost
    if _lost:
        _lost = False
        raise GraphError(
            "the process forked in a signal handler while a function ran on several threads; "
            "the child cannot finish that call"
        )


def _after_fork() -> None:
    """In a child process there are no workers; they are made again when needed."""
    global _lost
    if _library is not None:
        _lost = bool(_call("pool_reset", result=ctypes.c_int)())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
