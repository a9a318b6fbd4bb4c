"""The pool itself: ranges, faults, signals, callers at once, forks."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.backends import jit, runtime, targets
from symgraph.backends.blocks import CONTEXT_BYTES, FIELDS

from ..conformance.test_random_programs import same
from .test_threads import COUNTS, eager, pytestmark, run

__all__ = ["pytestmark"]


@pytest.fixture(name="eager")
def _eager() -> Iterator[None]:
    with eager():
        yield


_TASK = """
define i32 @task(ptr %context, ptr %frame, i64 %begin, i64 %end, ptr %scratch) {
  BODY
}
declare i32 @symgraph.parallel(ptr, ptr, ptr, i64, i64, i64, i64)
define i32 @region(ptr %context, ptr %frame, i64 %extent, i64 %grain) {
  %r = call i32 @symgraph.parallel(ptr %context, ptr @task, ptr %frame, i64 %extent, i64 %grain,
    i64 1000000000, i64 0)
  ret i32 %r
}
"""
_SUM = """
  %n = sub i64 %end, %begin
  %a = atomicrmw add ptr %frame, i64 %n monotonic
  %calls = getelementptr i64, ptr %frame, i64 1
  %b = atomicrmw add ptr %calls, i64 1 monotonic
  ret i32 0
"""
_FAULT = """
  %from = load i64, ptr %frame
  %bad = icmp sgt i64 %end, %from
  %at = call i64 @llvm.smax.i64(i64 %begin, i64 %from)
  %p = getelementptr i8, ptr %context, i64 PAYLOAD
  store i64 %at, ptr %p
  %code = select i1 %bad, i32 7, i32 0
  ret i32 %code
"""


class Region:
    """A region with a task written in LLVM: call(extent, grain) gives (code, frame, payload)."""

    def __init__(self, body: str):
        text = _TASK.replace("BODY", body.replace("PAYLOAD", str(FIELDS["payload0"])))
        text += "declare i64 @llvm.smax.i64(i64, i64)\n"
        imports = {"symgraph.parallel": runtime.address("symgraph.parallel")}
        obj = jit.compile_object(text, targets.host())
        self.library = jit.load([obj], ["region"], imports)
        words = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
        self.function = ctypes.CFUNCTYPE(ctypes.c_int32, *words)(self.library.address("region"))

    def __call__(self, extent: int, grain: int, first: int = 0) -> tuple[int, list[int], int]:
        context = (ctypes.c_int64 * (CONTEXT_BYTES // 8))((1 << 63) - 1)
        frame = (ctypes.c_int64 * 2)(first, 0)
        code = self.function(context, frame, extent, grain)
        return code, list(frame), context[FIELDS["payload0"] // 8]


@given(st.integers(0, 5000), st.sampled_from([1, 3, 64, 96, 16384]), st.sampled_from([1, 2, 5]))
def test_every_element_is_in_one_range(extent: int, grain: int, count: int) -> None:
    region = _region(_SUM)
    with eager():
        sg.set_threads(count)
        code, (total, calls), _ = region(extent, grain)
        assert code == 0 and total == extent
        assert calls <= max(1, -(-extent // grain))
        if count > 1 and extent > 2 * grain and extent < 1024:
            assert calls > 1


_regions: dict[str, Region] = {}


def _region(body: str) -> Region:
    if body not in _regions:
        _regions[body] = Region(body)
    return _regions[body]


@given(st.integers(0, 999), st.sampled_from(COUNTS))
def test_the_lowest_fault_wins(first: int, count: int) -> None:
    """All elements from `first` on are bad: its range is the one that counts."""
    region = _region(_FAULT)
    with eager():
        sg.set_threads(count)
        for _ in range(20):
            assert region(1000, 1, first)[::2] == (7, first)
        assert region(1000, 1, 1000)[0] == 0


def test_assertions_on_threads(eager: None) -> None:
    x = sg.array("x", ("n",))
    f = sg.function([x], sg.assert_(x, x < 1, "too large"), cache=False)
    for count in COUNTS:
        sg.set_threads(count)
        values = np.zeros(100_000, np.float32)
        assert (f(values) == 0).all()
        values[77_777] = 2
        with pytest.raises(sg.AssertionFault, match="too large"):
            f(values)


def workers() -> list[int]:
    """Thread ids of this process other than those that Python knows."""
    known = {t.native_id for t in threading.enumerate()}
    return [int(t) for t in os.listdir("/proc/self/task") if int(t) not in known]


def test_workers_start_when_needed_and_take_no_signals() -> None:
    code = (
        "import os, numpy as np, symgraph as sg\n"
        "sg.set_threads(3)\n"
        "x = sg.array('x', ('n',)); f = sg.function([x], sg.tanh(x))\n"
        "tasks = lambda: set(os.listdir('/proc/self/task'))\n"
        "f(np.zeros(10, 'float32')); before = tasks()\n"
        "f(np.zeros(10**6, 'float32')); new = tasks() - before\n"
        "assert len(new) == 2, (before, new)\n"
        "for t in new:\n"
        "    lines = open(f'/proc/self/task/{t}/status').read().splitlines()\n"
        "    blocked = int(next(l.split()[1] for l in lines if l.startswith('SigBlk')), 16)\n"
        "    assert blocked >> 1 & 1 and blocked >> 13 & 1, hex(blocked)\n"
    )
    run(code)


def test_the_process_ends_while_workers_spin() -> None:
    code = (
        "import numpy as np, symgraph as sg\n"
        "sg.set_threads(4)\n"
        "x = sg.array('x', ('n',)); f = sg.function([x], sg.tanh(x))\n"
        "f(np.zeros(10**6, 'float32'))\n"
    )
    for _ in range(5):
        run(code)


# --- interrupts ---


class Stop(Exception):
    """Raised by the signal handler."""


@contextlib.contextmanager
def alarm(seconds: float, handler: Any) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def long_function() -> tuple[Any, np.ndarray]:
    """Some seconds of work in one kernel, and its argument."""
    x = sg.array("x", ("n",))
    y = x
    for _ in range(100):
        y = sg.erf(sg.tanh(y))
    return sg.function([x], y, optimize="none"), np.zeros(8_000_000, np.float32)


@pytest.mark.parametrize("count", COUNTS)
def test_a_signal_stops_all_threads(count: int) -> None:
    def handler(*_: Any) -> None:
        raise Stop

    f, values = long_function()
    before = sg.get_threads()
    sg.set_threads(count)
    try:
        began = time.monotonic()
        with pytest.raises(Stop), alarm(0.2, handler):
            f(values)
        assert time.monotonic() - began < 1.5
        assert (f(values[:50_000]) == 0).all()
    finally:
        sg.set_threads(before)


def test_other_python_threads_run_meanwhile() -> None:
    f, values = long_function()
    with eager():
        sg.set_threads(2)
        ticks, done = [0], threading.Event()

        def tick() -> None:
            while not done.is_set():
                ticks[0] += 1
                time.sleep(0.001)

        other = threading.Thread(target=tick)
        other.start()
        try:
            f(values[:500_000])
        finally:
            done.set()
            other.join()
        assert ticks[0] > 5


# --- callers at once ---


def test_python_threads_at_once(eager: None) -> None:
    sg.set_threads(2)
    x = sg.array("x", ("n",))
    f = sg.function([x], sg.sum(sg.tanh(x)), cache=False)
    g = sg.function([x], sg.exp(x) * 2, cache=False)
    values = np.random.default_rng(3).normal(size=60_000).astype(np.float32)
    want = [np.asarray(f(values)), g(values)]
    wrong: list[Any] = []

    def work() -> None:
        for _ in range(100):
            if not same([np.asarray(f(values)), g(values)], want):
                wrong.append(1)

    callers = [threading.Thread(target=work) for _ in range(4)]
    for t in callers:
        t.start()
    for t in callers:
        t.join(60)
    assert not wrong and not any(t.is_alive() for t in callers)


def test_a_call_inside_a_region() -> None:
    """A signal handler calls another function while the region below it has the pool."""
    f, values = long_function()
    x = sg.array("x", ("n",))
    g = sg.function([x], sg.sum(sg.exp(x)), cache=False)
    small = np.linspace(-1, 1, 70_000, dtype=np.float32)
    inside: list[Any] = []
    with eager():
        sg.set_threads(2)
        want = g(small)
        with alarm(0.05, lambda *_: inside.append(g(small))):
            result = f(values[:1_000_000])
    assert (result == 0).all() and inside == [want]


# --- forks ---


def forked(check: Any, seconds: int = 20) -> int:
    """The status of a child that runs `check`; a child that hangs is killed by an alarm."""
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        try:
            os._exit(0 if check() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_children_of_fork(eager: None) -> None:
    sg.set_threads(3)
    x = sg.array("x", ("n",))
    f = sg.function([x], sg.sum(sg.tanh(x)), cache=False)
    values = np.random.default_rng(4).normal(size=60_000).astype(np.float32)
    want = f(values)
    for _ in range(100 if settings.get_current_profile_name() == "ci" else 1000):
        f(values)
        assert forked(lambda: f(values) == want and f(values) == want) == 0
    assert f(values) == want


def test_forks_while_another_thread_runs_a_region() -> None:
    f, values = long_function()
    x = sg.array("x", ("n",))
    g = sg.function([x], sg.tanh(x), cache=False)
    small = np.ones(60_000, np.float32)
    want = g(small)
    with eager():
        sg.set_threads(2)
        busy = threading.Thread(target=lambda: f(values[:1_000_000]))
        busy.start()
        for _ in range(20):
            assert forked(lambda: bool((g(small) == want).all())) == 0
        busy.join()


def test_a_fork_inside_a_region() -> None:
    """A signal handler forks: the parent goes on, the child is told that it cannot."""
    f, values = long_function()
    children: list[int] = []

    def handler(*_: Any) -> None:
        children.append(os.fork())

    before = sg.get_threads()
    sg.set_threads(2)
    parent = os.getpid()
    try:
        with alarm(0.1, handler):
            result = f(values[:2_000_000])
        status = 0
    except sg.GraphError as error:
        result, status = None, 3 if "forked" in str(error) else 4
    finally:
        if os.getpid() != parent:
            again = status == 3 and bool((f(values[:60_000]) == 0).all())
            os._exit(0 if again else 1)
        sg.set_threads(before)
    assert result is not None and len(children) == 1
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
