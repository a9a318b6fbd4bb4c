"""Python's garbage collector, told to wait while a compilation builds trees that stay alive.

Each of its full passes looks at every object of the process, and a compilation, which makes many
objects and hardly any cycles, sets several off.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 100_000  # objects made between two passes over the young ones; Python's own is 700

_lock = threading.Lock()
_waiting = 0  # compilations under way
_before = (0, 0, 0)


@contextmanager
def patient_collector() -> Iterator[None]:
    """Collect less often until the last of the blocks under way, of any thread, has ended."""
    global _waiting, _before
    with _lock:
        if not _waiting:
            _before = gc.get_threshold()
            if 0 < _before[0] < PATIENCE:  # 0: the user has switched it off
                gc.set_threshold(PATIENCE, *_before[1:])
        _waiting += 1
    try:
        yield
    finally:
        with _lock:
            _waiting -= 1
            if not _waiting:
                gc.set_threshold(*_before)
