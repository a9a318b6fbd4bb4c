"""Recycled memory of large results: owned, never shared by two live arrays, bounded, given back."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.backends import cgroups, layout_check, recycling
from symgraph.backends.recycling_ir import LEAST, SLOTS, available
from symgraph.evaluate import evaluate

pytestmark = pytest.mark.skipif(not available(), reason="memory is not recycled here")

MIB = 1 << 20
N = LEAST // 4  # float32 elements from which memory is recycled


def handler(a: np.ndarray) -> str:
    from numpy._core import multiarray

    return multiarray.get_handler_name(a)


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    gc.collect()
    recycling.release()
    yield
    gc.collect()
    recycling.release()


@pytest.fixture(scope="module")
def shift() -> Any:
    """x + k, whose value tells which call made an array."""
    x, k = sg.array("x", ("n",)), sg.array("k", ())
    return sg.function([x, k], x + k)


def zeros(n: int) -> np.ndarray:
    return np.zeros(n, np.float32)


def scalar(k: float) -> np.ndarray:
    return np.array(k, np.float32)


# --- what an array over recycled memory is ---


@pytest.mark.parametrize("n", [N, N + 1, 3 * N + 7])
def test_the_array_owns_its_memory(shift: Any, n: int) -> None:
    a = shift(zeros(n), scalar(3))
    assert handler(a) == "symgraph" and type(a) is np.ndarray and a.base is None
    assert a.flags.owndata and a.flags.writeable and a.flags.c_contiguous and a.flags.aligned
    assert a.ctypes.data % 64 == 0 and sys.getsizeof(a) > a.nbytes
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(a)), a)


def test_small_arrays_are_numpys(shift: Any) -> None:
    assert handler(shift(zeros(N - 1), scalar(1))) != "symgraph"
    assert handler(shift(zeros(0), scalar(1))) != "symgraph"
    assert handler(np.empty(N, np.float32)) != "symgraph"  # ours only inside the call


def test_a_known_size_decides_when_compiling() -> None:
    for n in (N - 1, N):
        x = sg.array("x", (n,))
        assert (handler(sg.function([x], x + 1)(zeros(n))) == "symgraph") == (n == N)


def test_memory_is_used_again(shift: Any) -> None:
    a = shift(zeros(2 * N), scalar(1))
    at = a.ctypes.data
    del a
    assert recycling.kept() >= 2 * LEAST
    b = shift(zeros(2 * N - 100), scalar(2))
    assert b.ctypes.data == at and recycling.kept() == 0 and (b == 2).all()
    del b
    assert shift(zeros(N), scalar(1)).ctypes.data != at  # would waste half of it


@pytest.mark.parametrize("n", [1, N // 2, 2 * N - 5, 2 * N, 2 * N + 5, 5 * N])
def test_resize_works(shift: Any, n: int) -> None:
    a = shift(zeros(2 * N), scalar(3))
    a.resize(n, refcheck=False)
    assert (a[: 2 * N] == 3).all() and (a[2 * N :] == 0).all()
    other = shift(zeros(2 * N), scalar(4))
    assert not np.shares_memory(a, other) and (a[: 2 * N] == 3).all()


def test_tracemalloc_counts_it(shift: Any) -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        a = shift(zeros(4 * N), scalar(1))
        during, _ = tracemalloc.get_traced_memory()
        assert during - before >= a.nbytes
        del a
        assert tracemalloc.get_traced_memory()[0] - before < LEAST
    finally:
        tracemalloc.stop()


def test_a_handler_of_the_users_stays_in_force(shift: Any) -> None:
    """Our own, installed by hand, stands in for one: another address than NumPy's default."""
    set_handler = recycling.ctypes.PYFUNCTYPE(
        recycling.ctypes.py_object, recycling.ctypes.py_object
    )(layout_check.numpy_symbol("PyDataMem_SetHandler"))
    ours = recycling.handler()
    default = set_handler(ours)
    try:
        assert handler(np.empty(3)) == "symgraph"
        assert (shift(zeros(N), scalar(2)) == 2).all()
        assert handler(np.empty(3)) == "symgraph"
        big = np.zeros(N, np.float32)
        assert (big == 0).all()
    finally:
        assert set_handler(default) is ours


def test_every_kind_of_result() -> None:
    x = sg.array("x", ("n", "m"), "float64")
    values = {"a": x + 1, "b": sg.sum(x, axis=1), "c": x.T * 2, "d": sg.concatenate([x, x])}
    f = sg.function([x], values)
    for shape in [(512, 700), (3, 5), (1024, 1024), (0, 3)]:
        array = np.random.default_rng(0).normal(size=shape)
        for _ in range(3):
            for key, got in f(array).items():
                np.testing.assert_allclose(got, evaluate(values[key], {x: array}), rtol=1e-12)


def test_new_values_of_shared_variables() -> None:
    s = sg.shared(zeros(2 * N), "s")
    f = sg.function([], sg.sum(s), updates={s: s + 1})
    kept = s.get_value()
    for i in range(5):
        assert f() == 2 * N * i
    assert (kept == 0).all() and (s.get_value() == 5).all()


@pytest.fixture(scope="module")
def resized() -> Any:
    """A shared variable of any length, and functions that give it another value, by name."""
    s, x = sg.shared(zeros(1), "s", shape=("n",)), sg.array("x", ("m",))
    new = {
        "grow": sg.concatenate([s, s]),
        "halve": s[::2] * 1,
        "add": s + 1,
        "turn": s[::-1] * 2,
        "put": x,
    }
    functions = {}
    for name, value in new.items():
        inputs = [x] if name == "put" else []
        functions[name] = sg.function(inputs, s * 1, updates={s: value})
    plans = {name: f.source("plan") for name, f in functions.items()}
    assert all("update s: rebind" in plans[name] for name in ("grow", "halve", "put"))
    assert "update s: swap" in plans["add"] and "update s: swap" in plans["turn"]
    return s, functions


NEW_VALUES = {
    "grow": lambda a: np.concatenate([a, a]),
    "halve": lambda a: a[::2],
    "add": lambda a: a + 1,
    "turn": lambda a: a[::-1] * 2,
}
LENGTHS = [1, N // 2, N - 1, N, 2 * N + 1]


@settings(max_examples=30, deadline=None)
@example(N, [("add", 1), ("grow", 1), ("add", 1), ("put", 1), ("turn", 1)])
@given(
    st.sampled_from(LENGTHS),
    st.lists(
        st.tuples(st.sampled_from([*NEW_VALUES, "put", "set"]), st.sampled_from(LENGTHS)),
        max_size=12,
    ),
)
def test_shared_variables_that_change_their_size(
    resized: Any, first: int, steps: list[tuple[str, int]]
) -> None:
    s, functions = resized
    want = np.arange(first, dtype=np.float32) % 7
    s.set_value(want)
    olds: list[tuple[np.ndarray, np.ndarray]] = []
    for name, n in steps:
        if name == "grow" and want.size > 4 * N:
            continue
        given = np.arange(n, dtype=np.float32) % 5
        if name == "set":
            s.set_value(given)
            want = given
            continue
        olds.append((functions[name](*[given] * (name == "put")), want))
        want = given if name == "put" else NEW_VALUES[name](want)
        np.testing.assert_array_equal(s.get_value(), want)
        for old, was in olds[-3:]:
            np.testing.assert_array_equal(old, was)
    assert (handler(s.get_value(borrow=True)) == "symgraph") <= (want.size >= N)


def test_the_old_value_is_recycled() -> None:
    s, x = sg.shared(zeros(1), "s", shape=("n",)), sg.array("x", ("m",))
    put = sg.function([x], [], updates={s: x})
    put(zeros(2 * N))
    kept = s.get_value(borrow=True)
    at = kept.ctypes.data
    assert handler(kept) == "symgraph"
    put(zeros(3 * N))
    assert s.get_value(borrow=True).ctypes.data != at
    assert (kept == 0).all()  # whoever holds it keeps it
    del kept
    put(zeros(2 * N))
    assert s.get_value(borrow=True).ctypes.data == at


# --- nobody else's memory ---


def test_views_keep_memory_alive(shift: Any) -> None:
    a = shift(zeros(2 * N), scalar(1))
    views = [a[5:10], a[::-1], a.reshape(2, N)[1], a.view(np.int32)[:7], memoryview(a)[3:4]]
    copies = [np.array(v) for v in views]
    del a
    others = [shift(zeros(2 * N), scalar(k)) for k in range(2, 6)]
    for view, copy in zip(views, copies):
        np.testing.assert_array_equal(np.asarray(view), copy)
        assert not any(np.shares_memory(np.asarray(view), o) for o in others)
    for k, other in enumerate(others, 2):
        assert (other == k).all()


class Holder:
    """In a cycle with itself; puts its array into `saved` when it dies."""

    saved: list[np.ndarray]

    def __init__(self, array: np.ndarray, saved: list[np.ndarray]):
        self.array, self.saved, self.me = array, saved, self

    def __del__(self) -> None:
        self.saved.append(self.array)


def test_cycles_and_resurrection(shift: Any) -> None:
    saved: list[np.ndarray] = []
    for k in range(6):
        Holder(shift(zeros(N), scalar(k)), saved)
        gc.collect()
        shift(zeros(N), scalar(99))
    assert [float(a.min()) for a in saved] == [float(a.max()) for a in saved] == list(range(6))
    assert len({a.ctypes.data for a in saved}) == 6


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([N, N + 1, 5 * N // 4, 2 * N, 4 * N]), st.integers(0, 5)),
        max_size=25,
    )
)
def test_live_arrays_never_share(shift: Any, steps: list[tuple[int, int]]) -> None:
    """Each step makes an array in one of six places, where another may die."""
    live: dict[int, tuple[np.ndarray, int]] = {}
    for k, (n, place) in enumerate(steps):
        live[place] = (shift(zeros(n), scalar(k))[n // 3 :], k)
        assert recycling.kept() <= recycling.idle_limit()
        for a, want in live.values():
            assert (a == want).all()


def test_threads(shift: Any) -> None:
    wrong: list[Any] = []

    def work(seed: int) -> None:
        rng, mine = np.random.default_rng(seed), {}
        for i in range(60):
            n, k = int(rng.choice([N, 5 * N // 4, 2 * N])), seed * 1000 + i
            mine[i % 3] = (shift(zeros(n), scalar(k)), k)
            wrong.extend(k for a, k in mine.values() if not (a == k).all())

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


# --- bounds ---


def test_what_is_kept_is_bounded(shift: Any) -> None:
    many = [shift(zeros(N), scalar(k)) for k in range(2 * SLOTS)]
    many.clear()
    assert LEAST <= recycling.kept() <= SLOTS * (LEAST + 1 * MIB)
    before = recycling.set_limit(3 * LEAST)
    try:
        many = [shift(zeros(N), scalar(k)) for k in range(5)]
        many.clear()
        assert recycling.kept() == 3 * LEAST
        del many
        large = shift(zeros(4 * N), scalar(1))  # larger than the limit: at once back to the system
        del large
        assert recycling.kept() <= 3 * LEAST
    finally:
        assert recycling.set_limit(before) == 3 * LEAST
    assert before == recycling.idle_limit()


def test_the_limit_is_a_share_of_what_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < recycling.idle_limit() <= whole // 16
    for allowed, want in ((float("inf"), whole // 16), (2**30, 2**26), (2**62, whole // 16)):
        monkeypatch.setattr(cgroups, "limit", lambda controller, n=allowed: n)
        assert recycling.idle_limit() == want

    def unknown(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(os, "sysconf", unknown)
    assert recycling.idle_limit() == recycling.UNKNOWN // 16


def test_results_of_any_size_are_recycled() -> None:
    """Only the first page is ever written, so that no memory is used."""
    n = recycling.idle_limit()
    n -= n % (1 << 20)
    a = recycling.empty((n,), np.dtype("int8"))
    a[0], at = 7, a.ctypes.data
    del a
    assert recycling.kept() == n
    b = recycling.empty((n,), np.dtype("int8"))
    assert b.ctypes.data == at and b[0] == 7
    del b
    c = recycling.empty((n + (1 << 20),), np.dtype("int8"))
    del c
    assert recycling.kept() <= n


def test_free_gives_it_back(shift: Any) -> None:
    shift(zeros(4 * N), scalar(1))
    kept = recycling.kept()
    assert kept >= 4 * LEAST and shift.free() >= kept
    assert recycling.kept() == 0 and shift.free() == 0


def resident() -> int:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_no_leak(shift: Any) -> None:
    rng, x, k = np.random.default_rng(0), zeros(2 * N), scalar(1)
    sizes = rng.integers(N, 2 * N, 10_000)

    def run(some: np.ndarray) -> int:
        for n in some:
            shift(x[:n], k)
        return recycling.release() * 0 + resident()

    at = [run(part) for part in np.split(sizes, 4)]
    assert at[-1] - at[0] < 16 * MIB  # one array in a thousand would be 10 times that


LIMITED = """
import resource, numpy as np, symgraph as sg
x = sg.array("x", ("n",)); y = sg.array("y", ("n",))
f = sg.function([x, y], sg.reshape(x, (-1, 1)) + y)
f(np.ones(1024, np.float32), np.ones(1024, np.float32))
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (200 << 20),) * 2)
big = np.ones(20_000, np.float32)
for _ in range(3):
    try:
        f(big, big)
    except MemoryError:
        print("none")
small = np.ones(3000, np.float32)
held = [f(small, small) for _ in range(4)]
print(all((h == 2).all() for h in held), np.empty(3).sum() is not None)
from numpy._core import multiarray
print(multiarray.get_handler_name())
"""


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits address space")
def test_no_memory() -> None:
    assert run(LIMITED).split() == ["none"] * 3 + ["True", "True", "default_allocator"]


FORKED = """
import os, numpy as np, symgraph as sg
x = sg.array("x", ("n",)); f = sg.function([x], x + 1)
a = np.zeros(1 << 20, np.float32)
b = f(a); f(a)
child = os.fork()
c = f(a + 1)
good = (b == 1).all() and (c == 2).all()
for k in range(5):
    good &= bool((f(a + k) == k + 1).all()) and bool((b == 1).all())
del b, c
good &= bool((f(a) == 1).all())
if child == 0:
    os._exit(0 if good else 1)
print(good, os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork() -> None:
    assert run(FORKED).split() == ["True", "0"]


LATE = """
import sys, atexit, numpy as np, symgraph as sg
x = sg.array("x", ("n",)); f = sg.function([x], x + 1)
a = np.zeros(1 << 20, np.float32)
sys.modules["numpy"].kept_for_ever = [f(a) for _ in range(3)]
class Late:
    def __init__(self, v): self.v, self.me = v, self
    def __del__(self): assert self.v[7] == 1; self.v = None
late = Late(f(a))
atexit.register(lambda: print(bool((f(a) == 1).all())))
"""


def test_the_end_of_the_interpreter() -> None:
    assert run(LATE).split() == ["True"]


# --- from Python ---


@given(st.lists(st.integers(0, 1 << 11), max_size=3), st.sampled_from(["float64", "int8", "bool"]))
@settings(max_examples=30, deadline=None)
def test_empty(shape: list[int], dtype: str) -> None:
    if np.prod(shape, dtype=float) > 1 << 24:
        shape = shape[:2]
    kind = np.dtype(dtype)
    before = sys.getrefcount(kind)
    a = recycling.empty(shape, kind)
    assert a.shape == tuple(shape) and a.dtype == kind and a.flags.owndata
    assert (handler(a) == "symgraph") == (a.nbytes >= LEAST)
    del a
    assert sys.getrefcount(kind) == before


def test_empty_raises() -> None:
    with pytest.raises(MemoryError):
        recycling.empty([1 << 30, 1 << 28], np.dtype("float64"))
    with pytest.raises(ValueError):
        recycling.empty([1 << 40, 1 << 40], np.dtype("float64"))
    assert handler(np.empty(3)) != "symgraph"
