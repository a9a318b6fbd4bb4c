"""The generated entry: what it takes itself, what it hands to Python, what it costs."""

from __future__ import annotations

import gc
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import symgraph as sg
from symgraph.backends import build, bundle, layout_check
from symgraph.backends.native_type import Native

from .. import emitted


def count_slow(f: Any, *args: Any) -> int:
    """How many of the arguments of one call were converted."""
    before = f.profile().copies
    f(*args)
    return f.profile().copies - before


def test_the_layout_is_known_here() -> None:
    assert layout_check.layout() is not None


def test_a_function_is_a_native_callable() -> None:
    x = sg.vector("x")
    f = sg.function([x], x)
    assert (
        isinstance(f, Native)
        and callable(f)
        and repr(f) == "<symgraph function function(x), native>"
    )
    assert type(f).__flags__ >> 11 & 1  # calls go straight to the entry
    assert list(map(f, [np.ones(1, np.float32)])) == [1] and f(
        *(np.ones(1, np.float32),)
    ).tolist() == [1]
    f.note = "attributes are free"


def test_a_native_object_without_code_is_not_callable() -> None:
    with pytest.raises(TypeError):
        Native()()


def test_exact_arrays_are_taken_as_they_are() -> None:
    x = sg.matrix("x")
    f = sg.function([x], x * 2)
    value = np.ones((3, 4), np.float32)
    assert count_slow(f, value) == 0 and f.profile().calls == 1
    value.flags.writeable = False
    assert count_slow(f, value) == 0
    assert (
        count_slow(f, value.T) == 1
        and count_slow(f, value[:, ::2]) == 1
        and count_slow(f, value.astype(np.int8)) == 1
    )
    assert count_slow(f, np.ones((3, 1), np.float32)[:, :1]) == 0


types = st.sampled_from(["float32", "float64", "int32", "uint8", "bool"])


@given(
    hnp.arrays(types, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)),
    st.sampled_from(["C", "F", "stride", "reverse", "swap"]),
)
def test_any_layout_gives_the_same_values(value: np.ndarray, layout: str) -> None:
    x = sg.array("x", [None] * value.ndim, str(value.dtype))
    f = sg.function([x], x)
    shown = {
        "C": lambda a: a,
        "F": lambda a: np.array(a, order="F"),
        "stride": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
        "reverse": lambda a: a[::-1] if a.ndim else a,
        "swap": lambda a: a.astype(a.dtype.newbyteorder()),
    }[layout](value)
    got = f(shown)
    assert got.dtype == value.dtype and np.array_equal(
        got, np.asarray(shown), equal_nan=value.dtype.kind == "f"
    )
    assert got.flags.c_contiguous and got.flags.owndata and got.flags.writeable


def test_reference_counts_are_stable() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    functions = [sg.function([x, y], out) for out in (x + y, [x, y], (x + y,), {"a": x + y})]
    a, d = np.ones(2, np.float32), np.dtype(np.float32)
    calls = [lambda f=f: f(a, a) for f in functions]
    calls += [lambda f=f: _swallow(f, a) for f in functions]
    calls += [lambda f=f: _swallow(f, a, None) for f in functions]
    for call in calls:
        call()
        before = sys.getrefcount(a), sys.getrefcount(d)
        for _ in range(300):
            call()
        gc.collect()
        after = sys.getrefcount(a), sys.getrefcount(d)
        assert all(abs(p - q) < 30 for p, q in zip(before, after))


def _swallow(f: Any, *args: Any) -> None:
    with pytest.raises(sg.SymgraphError):
        f(*args)


def test_memory_does_not_grow() -> None:
    import resource

    x = sg.matrix("x")
    f = sg.function([x], sg.softmax(x @ x.T).sum(axis=0))
    values = [np.ones((n, 30), np.float32) for n in range(1, 200)]
    for v in values:
        f(v)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(30):
        for v in values:
            f(v)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2000  # kB, for 6000 calls
    assert f.free() > 0 and f.free() == 0
    f(values[0])


def test_a_call_costs_less_than_numpy() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    f, a = sg.function([x, y], x + y), np.ones(1, np.float32)
    ours, theirs = [], []
    for _ in range(15):
        for times, code in ((ours, "f(a, a)"), (theirs, "a + a")):
            loop: dict[str, Any] = {}
            exec(f"def loop(f, a):\n    for _ in range(2000):\n        {code}", loop)
            began = time.thread_time()
            loop["loop"](f, a)
            times.append(time.thread_time() - began)
    assert 2 * min(ours) < min(theirs)


def test_the_usual_way_is_straight() -> None:
    """Code lies as it is written: what is likely comes next, and nothing jumps over the rest."""
    likely = re.compile(r"br i1 %\w+, label %(\w+), label %\w+, !prof !0\n(\w+):")
    checks = 0
    for text in emitted.corpus():
        if ".entry(" in text:
            found = likely.findall(text)
            assert len(found) == text.count(", !prof !0") and all(a == b for a, b in found)
            assert text.index("\ndone") < text.index("\nstopped")
            checks += len(found)
        elif ".sizes(" in text:
            _, _, after = text.partition(".sizes(")
            usual = after.split("ret i32 0")[0]
            assert "ret i32" not in usual  # what is wrong is told behind it
    assert checks > 100


def test_an_arena_of_any_size() -> None:
    x = sg.array("x", ("n", "n"))
    f = sg.function([x], ((x @ x) @ (x @ x.T)).sum(axis=1))
    for n in (1, 2, 3, 40, 5, 200, 0, 7):
        value = np.random.default_rng(n).standard_normal((n, n)).astype(np.float32)
        want = ((value @ value) @ (value @ value.T)).sum(axis=1)
        assert np.allclose(f(value), want, atol=1e-4 * max(1, abs(want).max(initial=0)))


def test_memory_that_cannot_be_had() -> None:
    n = sg.scalar("n", dtype="int64")
    f = sg.function([n], [sg.zeros(n, "int8"), sg.zeros((n, 2))], mode="native")
    with pytest.raises(MemoryError):
        f(2**56)
    assert [v.shape for v in f(3)] == [(3,), (3, 2)]


def test_every_allocation_may_fail() -> None:
    hooks = pytest.importorskip("_testcapi")
    x, w = sg.matrix("x"), sg.shared(np.ones((40, 40), np.float32), "w")
    v = sg.shared(np.ones(1, np.float32), "v", shape=("m",))
    f = sg.function([x], [(x @ w) @ w, x.sum()], updates={w: w.T + 1, v: sg.concatenate([v, v])})
    value, failed = np.ones((30, 40), np.float32), 0
    f(value)
    for n in range(25):
        f.free()
        before = w.get_value(), v.get_value()[:4]
        v.set_value(before[1])
        try:
            hooks.set_nomemory(n, n + 1)
            try:
                f(value)
            finally:
                hooks.remove_mem_hooks()
        except MemoryError:
            failed += 1
            assert np.array_equal(w.get_value(), before[0])
            assert np.array_equal(v.get_value(), before[1])
    assert failed >= 3


def test_a_process_ends_quietly() -> None:
    import subprocess

    code = (
        "import symgraph as sg, numpy as np\n"
        "x, w = sg.matrix('x'), sg.shared(np.ones((9, 9), 'f'), 'w')\n"
        "f = sg.function([x], (x @ w) @ w, updates={w: w.T})\n"
        "f(np.ones((200, 9), 'f'))\n"
    )
    root = Path(sg.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stderr == ""


def test_functions_are_not_pickled() -> None:
    import pickle

    x = sg.vector("x")
    with pytest.raises(TypeError, match="function: a compiled function cannot be pickled"):
        pickle.dumps(sg.function([x], x))


@pytest.fixture
def through_ctypes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if functions did not know the object layout (locks still use the runtime)."""
    for module in (build, bundle):
        monkeypatch.setattr(module, "layout", lambda: None)


def test_functions_work_without_the_entry(through_ctypes: None) -> None:
    x, w = sg.array("x", ("n",)), sg.shared(np.ones(2, np.float32), "w")
    v = sg.shared(np.ones(1, np.float32), "v", shape=("m",))
    y = sg.exp(x).sum() + sg.lgamma(w)
    for _ in range(2):
        f = sg.function(
            [x],
            {"y": y, "z": x * 1},
            updates={w: w[::-1] + 1, v: sg.concatenate([v, v])},
        )
        assert type(f).__name__ == "CtypesFunction"
        got = f([1, 2])
        assert np.allclose(got["y"], np.exp(1) + np.exp(2), rtol=1e-6) and got["z"].tolist() == [
            1,
            2,
        ]
        assert w.get_value().tolist() == [2, 2] and v.get_value().tolist() == [1, 1]
        w.set_value([1, 1]), v.set_value([1])
        with pytest.raises(sg.ArgumentError):
            f(np.ones((1, 1), np.float32))
    p = sg.function([x], sg.assert_(x, x > 0, "positive"))
    with pytest.raises(sg.AssertionFault, match="positive"):
        p([-1.0])
    assert p([1.0]).tolist() == [1] and p.profile().calls == 1
