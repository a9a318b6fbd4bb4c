"""Kernels on threads: what is cut, the same bits for every number, and the number itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph import dims
from symgraph.backends import pool_ir, split, targets, threads
from symgraph.backends.driver import walk
from symgraph.backends.interpret import interpret
from symgraph.backends.loops import Const, For, Kernel
from symgraph.backends.plan import plan
from symgraph.backends.program import Launch, Program
from symgraph.backends.simulate import simulate
from symgraph.backends.verify_loops import verify
from symgraph.dims import evaluate_dim

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


SIZES = (1, 2, 7, 64, 129, 200, 513)


@given(
    st.tuples(*[st.sampled_from(SIZES)] * 3),
    st.tuples(*[st.booleans()] * 3),
    st.sampled_from(["float32", "float64", "int32"]),
    st.sampled_from(["plain", "x", "y", "both"]),
    st.sampled_from([None, 1, 3]),
)
@settings(max_examples=40)
def test_products(
    size: tuple[int, int, int],
    known: tuple[bool, bool, bool],
    dtype: str,
    turned: str,
    batch: int | None,
) -> None:
    """By rows, by columns, by items; a row or a column left over is summed as all others are."""
    m, k, n = size
    names = [s if fixed else name for s, fixed, name in zip(size, known, "mkn")]
    shapes = [[names[0], names[1]], [names[1], names[2]]]
    given_shapes = [[m, k], [k, n]]
    for i, name in enumerate(("x", "y")):
        if turned in (name, "both"):
            shapes[i].reverse()
            given_shapes[i].reverse()
    front: list[Any] = [] if batch is None else ["b"]
    count = [] if batch is None else [batch]
    x, y = (sg.array(name, (*front, *s), dtype) for name, s in zip("xy", shapes))
    rng = np.random.default_rng(m * 7 + k * 3 + n)
    a, b = ((rng.normal(size=(*count, *s)) * 4).astype(dtype) for s in given_shapes)

    def product(p: Any, q: Any) -> Any:
        p = p.swapaxes(-1, -2) if turned in ("x", "both") else p
        q = q.swapaxes(-1, -2) if turned in ("y", "both") else q
        return p @ q

    with eager():
        f = sg.function([x, y], [product(x, y)], optimize="none", cache=False)
        (got,) = for_each_count(f, [a, b])
    bound = 0.0 if dtype == "int32" else (k + 2) * np.finfo(dtype).eps
    wrong = np.abs(got.astype("float64") - product(a.astype("float64"), b.astype("float64")))
    assert (wrong <= bound * product(np.abs(a).astype("float64"), np.abs(b)) + 0).all()


@pytest.mark.parametrize("n", [1, 7, 33])
@pytest.mark.parametrize("turned", [False, True])
def test_a_row_left_over(eager: None, n: int, turned: bool) -> None:
    """A product of one row takes its sums in another order; a range of one row must not."""
    x, y = sg.array("x", ("m", 1000)), sg.array("y", (n, 1000) if turned else (1000, n))
    f = sg.function([x, y], [x @ (y.T if turned else y)], cache=False)
    (cut,) = splits(plan([x, y], [x @ (y.T if turned else y)], target=targets.host()))
    assert isinstance(cut.grain, int) and str(cut.extent) == "m"
    rng = np.random.default_rng(n)
    b = rng.normal(size=y.array_type.shape).astype(np.float32)
    for length in (cut.grain, 2 * cut.grain, 4 * cut.grain):
        a = rng.normal(size=(3 * length + 1, 1000)).astype(np.float32)  # four ranges, the last of 1
        for_each_count(f, [a, b])


@given(
    st.integers(0, 700), st.integers(0, 9), st.sampled_from(["x86-64", "x86-64-v4", "cortex-a72"])
)
def test_a_range_writes_what_lies_in_it(n: int, k: int, name: str) -> None:
    """And nothing else: ranges that overlap would not show in results that are made twice alike."""
    x, y = sg.array("x", ("n",)), sg.array("y", ("n", 5))
    for value, shape in ((x * 2, (n,)), (sg.sum(y, axis=1), (n, 5)), (y.T + 1, (n, 5))):
        program = plan([x, y], [value], target=targets.target(name))
        (step,) = (s for s in walk(program.steps) if isinstance(s, Launch))
        cut, kernel = step.split, step.kernel
        assert cut is not None and isinstance(cut.grain, int)
        extent = n if "n" in str(cut.extent) else 5
        begin = min(k * cut.grain, extent)
        end = min(begin + 2 * cut.grain, extent)
        source = np.random.default_rng(n).normal(size=shape).astype(np.float32)
        whole, part = (np.full(5 * n + 9, 7, np.float32) for _ in "xy")
        sizes = [evaluate_dim(d, {dims.Size("n"): n}) for d in step.dims]
        for out, limits in ((whole, (0, extent)), (part, (begin, end))):
            assert interpret(kernel, [source.ravel(), out], [*sizes, *limits]) == 0
        written = np.flatnonzero(part != 7)
        np.testing.assert_array_equal(part[written], whole[written])
        share = (end - begin) / extent if extent else 0
        assert len(written) == round(share * np.count_nonzero(whole != 7))


def test_the_first_bad_index_is_told(eager: None) -> None:
    """Ranges before it end well, those behind it fail too or do not start."""
    x, i = sg.array("x", (50,)), sg.array("i", ("n",), "int64")
    f = sg.function([x, i], x[i] * 2, cache=False)
    values = np.arange(50, dtype=np.float32)
    for first in (0, 63, 64, 30_000, 99_999):
        index = np.arange(100_000) % 50
        index[first:] = 50 + np.arange(100_000 - first)
        for count in COUNTS:
            sg.set_threads(count)
            for _ in range(10):
                with pytest.raises(sg.IndexFault, match="index 50 is out of"):
                    f(values, index)
            good = np.arange(100_000) % 50
            np.testing.assert_array_equal(f(values, good), values[good] * 2)


def test_scatters_keep_their_order(eager: None) -> None:
    x, y = sg.array("x", (40, 300)), sg.array("y", ("n", 300))
    i = sg.array("i", ("n",), "int64")
    rng = np.random.default_rng(8)
    index = rng.integers(0, 40, 5000)
    arrays = [rng.normal(size=s).astype(np.float32) for s in ((40, 300), (5000, 300))]
    outputs = [sg.inc_subtensor(x[i], y), sg.set_subtensor(x[i], y)]
    f = sg.function([x, y, i], outputs, cache=False)
    added, put = for_each_count(f, [*arrays, index])
    want = arrays[0].copy()
    want[index] = arrays[1]
    np.testing.assert_array_equal(put, want)
    total = arrays[0].astype(np.float64)
    np.add.at(total, index, arrays[1])
    np.testing.assert_allclose(added, total, atol=1e-3)


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


# --- the number ---


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
