"""Kernels on threads: the same bits for every number, faults, signals, forks, callers at once."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.backends import jit, pool_ir, runtime, split, targets, threads
from symgraph.backends.blocks import CONTEXT_BYTES, FIELDS
from symgraph.backends.driver import walk
from symgraph.backends.loops import Const, For, Kernel
from symgraph.backends.plan import plan
from symgraph.backends.program import Launch, Program
from symgraph.backends.simulate import simulate
from symgraph.backends.verify_loops import verify

from .. import programs
from ..conformance.test_random_programs import same
from ..programs import Case, cases, compare

HERE = targets.detect()
pytestmark = pytest.mark.skipif(
    not pool_ir.has_pool(HERE.triple, HERE.arch), reason="there is no pool on this system"
)
COUNTS = (1, 2, 4)
ONE_PART = 1 << 14  # elements of a whole reduction's part


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """Cut every kernel that can be cut, however little it does."""
    floor, least, count = split.FLOOR, threads.set_least_work(0), sg.get_threads()
    split.FLOOR = 0
    try:
        yield
    finally:
        split.FLOOR = floor
        threads.set_least_work(least)
        sg.set_threads(count)


@pytest.fixture(name="eager")
def _eager() -> Iterator[None]:
    with eager():
        yield


def for_each_count(function: Any, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The results, the same for every number of threads."""
    found = []
    for count in COUNTS:
        sg.set_threads(count)
        found.append([np.asarray(v) for v in function(*arrays)])
    assert all(same(got, found[0]) for got in found[1:])
    return found[0]


def splits(program: Program) -> list[split.Split]:
    steps = walk(program.steps)
    return [s.split for s in steps if isinstance(s, Launch) and s.split is not None]


# --- the same bits ---


@contextlib.contextmanager
def sizes(n: int, m: int) -> Iterator[None]:
    """Random programs with other values of their named sizes."""
    before = dict(programs.SIZES)
    programs.SIZES.update(n=n, m=m)
    try:
        yield
    finally:
        programs.SIZES.update(before)


numbers = st.integers(0, 2**16)
recipes = st.tuples(
    st.lists(numbers, min_size=2, max_size=4),
    st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=5, max_size=20),
    numbers,
)


@given(recipes, st.sampled_from([(5, 9), (70, 33), (200, 130), (1000, 17)]))
@settings(max_examples=40)
def test_random_programs_give_the_same_bits(recipe: Any, size: tuple[int, int]) -> None:
    with eager(), sizes(*size):
        case = programs.build(*recipe)
        function = sg.function(
            case.inputs, list(case.outputs), on_unused_input="ignore", optimize="none", cache=False
        )
        compare(case, for_each_count(function, case.arrays))


@given(cases(12))
@settings(max_examples=30)
def test_the_interpreter_runs_ranges(case: Case) -> None:
    with eager(), sizes(70, 33):
        for name in ("x86-64-v4", "cortex-a72"):
            program = plan(case.inputs, case.outputs, target=targets.target(name))
            for step in walk(program.steps):
                if isinstance(step, Launch):
                    verify(step.kernel)
            arrays = tuple(programs.values(x, np.random.default_rng(0)) for x in case.inputs)
            compare(case._replace(arrays=arrays), simulate(program, arrays, [])[0])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "int64", "bool"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "symbolic"])
def test_whole_reductions_at_the_edges_of_parts(eager: None, dtype: str, known: bool) -> None:
    rng = np.random.default_rng(7)
    whole = 64 * ONE_PART  # from here on parts grow
    for n in (0, 1, 5, ONE_PART, ONE_PART + 1, 3 * ONE_PART - 1, whole, whole + 3):
        if n == 0 and known:
            continue
        x = sg.array("x", (n if known else "n",), dtype)
        values = (rng.normal(size=n) * 3).astype(dtype)
        outputs = [sg.sum(x), sg.any(x)] if dtype == "bool" else [sg.sum(x), sg.prod(x[:9])]
        if n:
            outputs += [sg.max(x), sg.argmin(x)]
        f = sg.function([x], outputs, cache=False, host_calls="forbid")
        got = for_each_count(f, [values])
        with np.errstate(all="ignore"):
            total = values.astype("float64" if "float" in dtype else "int64").sum()
        scale = np.abs(values.astype("float64")).sum() + 1
        rounding = {"float32": 1e-6, "float64": 1e-13, "float16": 1e-3}.get(dtype, 0.0)
        if dtype != "float16" or scale < 60000:
            wrong = abs(float(got[0]) - float(np.asarray(total).astype(got[0].dtype)))
            assert wrong <= rounding * scale
        if n:
            assert got[2] == values.max() and got[3] == values.argmin()


@pytest.mark.parametrize("name", ["x86-64", "x86-64-v4", "cortex-a72"])
def test_what_is_cut(name: str) -> None:
    """Maps, rows, columns, whole reductions, random bits: each has a range over its outer axis."""
    x, y = sg.array("x", ("n",)), sg.array("y", ("n", "m"))
    bits = sg.RandomStream(3).uniform(x.shape)
    for value, extent, merges in [
        (sg.tanh(x), "n", False),
        (y * 2, "m*n", False),
        (sg.softmax(y), "n", False),
        (sg.sum(y, axis=0), "m", False),
        (sg.sum(x), "n", True),
        (sg.sum(y), "m*n", True),
        (bits, "n", False),
    ]:
        program = plan([x, y], [value], target=targets.target(name))
        found = splits(program)
        assert found, value
        assert {str(s.extent) for s in found} == {extent}
        assert {s.merges for s in found} == {merges}


def test_little_work_has_no_range() -> None:
    x = sg.array("x", (100,))
    assert not splits(plan([x], [sg.tanh(x)], target=targets.host()))


def test_a_loop_that_depends_on_its_order_is_not_cut() -> None:
    for kind, carries in (("serial", False), ("reduce", True), ("parallel", False)):
        loop = For(  # starts at 1: it is not the whole axis
            split.Var("i", split.Ty("index")),
            Const(1 if kind == "parallel" else 0, split.Ty("index")),
            Const(9, split.Ty("index")),
            Const(1, split.Ty("index")),
            (),
            (),
            kind,
        )
        assert split.ranged(Kernel("k", (), (), (loop,))) is None, (kind, carries)


def test_random_bits_and_large_maps(eager: None) -> None:
    u = sg.RandomStream(5).uniform((100_003,))
    n = sg.RandomStream(6).normal((301, 77))
    x = sg.array("x", (301, 77))
    f = [sg.function([x], [u, sg.tanh(n * x), sg.softmax(x)], cache=False) for _ in COUNTS]
    values = np.random.default_rng(1).normal(size=(301, 77)).astype(np.float32)
    found = []
    for count, function in zip(COUNTS, f):
        sg.set_threads(count)
        found.append(function(values))
    assert same(found[0][2:], found[1][2:]) and same(found[0][2:], found[2][2:])


def test_updates_in_place(eager: None) -> None:
    start = np.random.default_rng(2).normal(size=100_000).astype(np.float32)
    results = []
    for count in COUNTS:
        sg.set_threads(count)
        w = sg.shared(start.copy(), "w")
        step = sg.function([], sg.sum(w), updates={w: w * 0.5 + sg.tanh(w)}, cache=False)
        totals = [step() for _ in range(20)]
        results.append([*totals, w.get_value()])
    assert same(results[0], results[1]) and same(results[0], results[2])


# --- the pool itself ---

_TASK = """
define i32 @task(ptr %context, ptr %frame, i64 %begin, i64 %end) {
  BODY
}
declare i32 @symgraph.parallel(ptr, ptr, ptr, i64, i64, i64)
define i32 @region(ptr %context, ptr %frame, i64 %extent, i64 %grain) {
  %r = call i32 @symgraph.parallel(ptr %context, ptr @task, ptr %frame, i64 %extent, i64 %grain,
    i64 1000000000)
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


def run(code: str, **variables: str) -> str:
    """Output of Python code in a process of its own, which must end well."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **variables},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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


# --- the number ---


def test_the_number() -> None:
    before = sg.get_threads()
    try:
        sg.set_threads(np.int64(3))  # type: ignore[arg-type]
        assert sg.get_threads() == 3
    finally:
        sg.set_threads(before)


@pytest.mark.parametrize("value", [0, -1, 1025, 2.0, "2", None, True])
def test_numbers_that_are_none(value: Any) -> None:
    with pytest.raises(sg.ArgumentError, match=r"expected an integer from 1 to 1024, got"):
        sg.set_threads(value)


def test_the_environment_gives_the_number() -> None:
    ask = "import symgraph as sg; print(sg.get_threads())"
    assert run(ask, SYMGRAPH_THREADS="7") == "7\n"
    assert run(ask, SYMGRAPH_THREADS="") == f"{threads.available_cpus()}\n"
    for wrong in ("0", "two", "-1", "1e3"):
        refuse = (
            "import symgraph as sg\n"
            "try: sg.get_threads()\n"
            "except sg.ArgumentError as error: print(error.message)\n"
        )
        assert run(refuse, SYMGRAPH_THREADS=wrong).startswith(
            "SYMGRAPH_THREADS: expected an integer from 1 to 1024, got "
        )


def test_affinity_counts() -> None:
    one = sorted(os.sched_getaffinity(0))[0]
    code = f"import os, symgraph as sg; os.sched_setaffinity(0, [{one}]); print(sg.get_threads())"
    assert run(code, SYMGRAPH_THREADS="") == "1\n"


@pytest.mark.parametrize(
    ("files", "membership", "quota"),
    [
        ({"a/b/cpu.max": "150000 100000"}, "0::/a/b\n", 1.5),
        ({"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n", 0.5),
        ({"cpu/j/cpu.cfs_quota_us": "300000", "cpu/j/cpu.cfs_period_us": "100000"}, "3:cpu:/j", 3),
        ({"cpu/j/cpu.cfs_quota_us": "-1", "cpu/j/cpu.cfs_period_us": "100000"}, "3:cpu:/j", None),
        ({}, "nonsense\n", None),
        ({"cpu.max": "broken"}, "0::/\n", None),
    ],
)
def test_quotas(files: dict[str, str], membership: str, quota: Any, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "self").write_text(membership)
    found = threads.cgroup_quota(tmp_path / "self", tmp_path)
    assert found == (float("inf") if quota is None else quota)
