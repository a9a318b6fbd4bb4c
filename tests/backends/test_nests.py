"""Fused nests: columns that rows stream by, values kept between passes, moments, places."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.backends.loops_text import to_text
from symgraph.backends.lower.columns import CHUNK, FEW_ROWS, ROWS
from symgraph.backends.lower.moments import NEAR
from symgraph.backends.lower.next_rows import LEVEL, SHARE
from symgraph.backends.lower.rows import CHAIN
from symgraph.backends.plan import plan
from symgraph.backends.program import Launch
from symgraph.backends.simulate import simulate
from symgraph.backends.targets import host, target
from symgraph.backends.verify_loops import verify

OTHERS = [target(name) for name in ("x86-64", "x86-64-v3", "x86-64-v4", "cortex-a72", "cortex-a9")]
KINDS = ("sum", "max", "min", "prod", "mean", "argmax", "argmin")
SYMBOLIC = {1: ("n",), 2: ("n", "m"), 3: ("n", "m", "k")}


def compiled(make: Any, x: np.ndarray, symbolic: bool, **options: Any) -> Any:
    a = sg.array("a", SYMBOLIC[x.ndim] if symbolic else x.shape, str(x.dtype))
    return sg.function([a], make(a), **options)


def loops(make: Any, shape: tuple[Any, ...]) -> str:
    a = sg.array("a", shape, "float32")
    return str(sg.function([a], make(a)).source("loops"))


def special(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Many ties; for floats also zeros of both signs, infinities and NaN."""
    x = rng.integers(0, 5, shape).astype(dtype)
    if np.dtype(dtype).kind == "f":
        for value in (np.nan, np.inf, -np.inf, -0.0):
            x[rng.random(shape) < 0.02] = value
    return x


# ------------------------------------------------------------------------------------------ columns

shapes = st.tuples(
    st.sampled_from([FEW_ROWS, FEW_ROWS + 1, CHAIN - 1, CHAIN, CHAIN + 1, 3 * CHAIN + 5]),
    st.sampled_from([1, 2, 15, 16, 17, 65, CHUNK // 8 + 3]),
)


@given(shapes, st.sampled_from(["float32", "float64", "int16", "int64", "bool"]), st.booleans())
@settings(max_examples=25)
def test_columns_of_small_numbers_are_exact(
    shape: tuple[int, int], dtype: str, symbolic: bool
) -> None:
    """Sums of small integers are exact in every dtype, so that every index and tail is tested."""
    x = np.random.default_rng(0).integers(-3, 4, shape).astype(dtype)
    kinds = [k for k in KINDS if k != "prod" and (dtype != "bool" or k != "mean")]
    f = compiled(lambda a: [getattr(sg, k)(a, 0) for k in kinds], x, symbolic)
    for kind, got in zip(kinds, f(x)):
        wide = x.astype("float64") if kind == "mean" else x
        want = getattr(np, kind)(wide, 0)
        np.testing.assert_allclose(got, want, rtol=1e-6 if kind == "mean" else 0, err_msg=kind)


@pytest.mark.parametrize("machine", OTHERS, ids=lambda t: t.name)
def test_columns_on_every_target(machine: Any) -> None:
    x = np.random.default_rng(1).normal(size=(FEW_ROWS + 3, 37)).astype("float32")
    a = sg.array("a", ("n", "m"), "float32")
    outputs = [
        sg.sum(a, 0),
        sg.argmax(a, 0),
        sg.var(a, 0),
        sg.softmax(a, 0),
        sg.var(a),
        sg.argmin(a, 1),
    ]
    program = plan([a], outputs, target=machine)
    for step in program.steps:
        if isinstance(step, Launch):
            verify(step.kernel)
    got, _ = simulate(program, [x], [])
    wide = x.astype("float64")
    powers = np.exp(wide - wide.max(0))
    want = [wide.sum(0), x.argmax(0), wide.var(0), powers / powers.sum(0), wide.var(), x.argmin(1)]
    for one, other in zip(got, want):
        np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-6)


@given(
    shapes,
    st.sampled_from(["float16", "float32", "float64"]),
    st.sampled_from(["max", "min"]),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=40)
def test_extremes_of_columns_keep_every_nan(
    shape: tuple[int, int], dtype: str, kind: str, often: float, seed: int
) -> None:
    """A NaN anywhere in a column, in any row of those taken together, wins over infinities too."""
    rng = np.random.default_rng(seed)
    x = special(rng, shape, dtype)
    x[np.isnan(x)] = 0
    columns = np.flatnonzero(rng.random(shape[1]) < often)
    x[rng.integers(0, shape[0], len(columns)), columns] = np.nan
    got = compiled(lambda a: getattr(sg, kind)(a, 0), x, True)(x)
    np.testing.assert_array_equal(got, getattr(np, kind)(x, 0))


@given(
    st.integers(1, 700),
    st.sampled_from(["float16", "float32", "float64"]),
    st.sampled_from(["max", "min"]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_extremes_of_rows_keep_every_nan(
    size: int, dtype: str, kind: str, symbolic: bool, seed: int
) -> None:
    """A NaN at any place of a row, among infinities too, is the row's result and no other's."""
    rng = np.random.default_rng(seed)
    x = special(rng, (9, size), dtype)
    x[np.isnan(x)] = 0
    for row in (1, 4, 8):
        x[row, rng.integers(size)] = np.nan
    got = compiled(lambda a: getattr(sg, kind)(a, 1), x, symbolic)(x)
    np.testing.assert_array_equal(got, getattr(np, kind)(x, 1))
    for row in (0, 1):
        one = compiled(lambda a: getattr(sg, kind)(a), x[row], symbolic)(x[row])
        np.testing.assert_array_equal(one, getattr(np, kind)(x[row]))


@pytest.mark.parametrize("machine", OTHERS, ids=lambda t: t.name)
def test_extremes_of_columns_on_every_target(machine: Any) -> None:
    x = np.random.default_rng(3).normal(size=(FEW_ROWS + 9, 21)).astype("float32")
    np.fill_diagonal(x, np.nan)
    x[:, -1] = -np.inf
    a = sg.array("a", ("n", "m"), "float32")
    program = plan([a], [sg.max(a, 0), sg.min(a, 0)], target=machine)
    got, _ = simulate(program, [x], [])
    for one, kind in zip(got, (np.max, np.min)):
        np.testing.assert_array_equal(one, kind(x, 0))


@pytest.mark.parametrize("machine", OTHERS, ids=lambda t: t.name)
def test_extremes_of_rows_on_every_target(machine: Any) -> None:
    x = np.random.default_rng(3).normal(size=(5, 300)).astype("float32")
    x[1, 17] = x[2, 299] = x[4, 0] = np.nan
    a = sg.array("a", ("n", "m"), "float32")
    got, _ = simulate(plan([a], [sg.max(a, 1), sg.min(a, 1)], target=machine), [x], [])
    for one, kind in zip(got, (np.max, np.min)):
        np.testing.assert_array_equal(one, kind(x, 1))


def kernel_text(make: Any, shape: tuple[Any, ...], machine: Any) -> str:
    a = sg.array("a", shape, "float32")
    (step,) = plan([a], [make(a)], target=machine).steps
    return to_text(step.kernel)


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4"])
def test_the_next_rows_are_asked_for_while_these_are_read(name: str) -> None:
    """Every row read together with others has its line of the next turn asked for, nothing else."""
    machine = target(name)
    down = partial(kernel_text, lambda a: sg.max(a * 2, 0), machine=machine)
    (body,) = (part for part in down(("n", "m")).split("  for ") if "prefetch" in part)
    assert body.count("prefetch @x0") == body.count("= @x0[") == ROWS
    assert body.count(f"to L{LEVEL}") == ROWS
    assert body.count("if ") == 1  # it depends on the sizes, and there is no turn after the last
    large = max(machine.l2, machine.l3 // SHARE) // 4 // 1000 + 1
    assert "prefetch" not in down((large - 1, 1000))
    assert "prefetch" in down((large, 1000))
    assert "prefetch" not in kernel_text(lambda a: sg.max(a, 1), ("n", "m"), machine)


@pytest.mark.parametrize("make", [sg.sum, sg.max, sg.argmin, sg.var])
def test_rows_of_an_array_that_no_cache_keeps(make: Any) -> None:
    machine = host()
    rows = max(machine.l2, machine.l3 // SHARE) // 4 // 999 + 7
    x = np.random.default_rng(4).integers(0, 100, (rows, 999)).astype("float32")
    got = compiled(lambda a: make(a, 0), x, True)(x)
    want = getattr(np, make.__name__)(x.astype("float64"), 0)
    np.testing.assert_allclose(got, want, rtol=1e-6 if make is sg.var else 0)


def test_more_columns_than_a_chunk_and_axes_in_the_middle() -> None:
    rng = np.random.default_rng(2)
    x = rng.integers(-9, 9, (3, FEW_ROWS + 9, 2 * CHUNK + 21)).astype("float32")
    for symbolic in (False, True):
        f = compiled(lambda a: [sg.sum(a, 1), sg.max(a, (0, 1)), sg.argmin(a, 1)], x, symbolic)
        for got, want in zip(f(x), (x.sum(1), x.max((0, 1)), x.argmin(1))):
            np.testing.assert_array_equal(got, want)


def test_rows_stream_by_in_one_loop_over_the_columns() -> None:
    text = loops(lambda a: sg.sum(a, 0), ("n", "m"))
    outermost = next(line for line in text.splitlines() if line.lstrip().startswith("for "))
    assert "chunk" in outermost and "parallel" in outermost
    assert "stack" in text


def test_lanes_go_along_the_rows_that_are_reduced() -> None:
    """However many results there are, contiguous as they are."""
    text = loops(lambda a: [sg.mean(a, 1), sg.var(a, 1), sg.max(a, 1)], ("n", "m"))
    assert "hsum(" in text and "hmax(" in text  # across lanes, so these are of one row


# -------------------------------------------------------------------------------------- accuracy


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_keep_their_error_bound(axis: Any, dtype: str) -> None:
    """Equal values of one sign: the rounding errors of a long chain would add up."""
    x = np.full((20_000, 33), 0.1, dtype)
    got = compiled(lambda a: sg.sum(a, axis), x, True)(x)
    exact = x.astype(np.longdouble).sum(axis)
    blocks = x.size / CHAIN if dtype == "float64" else 0
    bound = (CHAIN + 8 + blocks) * np.finfo(dtype).eps * np.abs(exact)
    assert (np.abs(got - exact) <= bound).all()


def hard(rng: np.random.Generator, kind: str, n: int) -> np.ndarray:
    x = rng.normal(size=(n, 3)).astype("float32")
    if kind == "far":
        x += 1000
    elif kind == "sorted":
        x = np.sort(x, 0)
    elif kind == "outlier":
        x[0] = 1e6
    elif kind == "constant":
        x[:] = 0.1
    elif kind == "steps":
        x += 100 * (np.arange(n) // 512)[:, None].astype("float32")
    return x


@pytest.mark.parametrize("kind", ["plain", "far", "sorted", "outlier", "constant", "steps"])
@pytest.mark.parametrize("symbolic", [False, True])
def test_variance_in_one_pass_is_as_good_as_in_two(kind: str, symbolic: bool) -> None:
    """Against float64, about the mean as float32 has it."""
    x = hard(np.random.default_rng(3), kind, 3 * NEAR + 77)
    y = np.ascontiguousarray(x.T)
    a = sg.array("a", ("n", "m") if symbolic else x.shape, "float32")
    b = sg.array("b", ("k", "l") if symbolic else y.shape, "float32")
    over = [(a, 0), (b, 1), (a, None)]
    f = sg.function([a, b], [g(node, axis) for g in (sg.mean, sg.var) for node, axis in over])
    results = f(x, y)
    wide = x.astype("float64")
    eps = float(np.finfo("float32").eps)
    for mean, got, axis in zip(results, results[3:], (0, 0, None)):
        want = ((wide - mean) ** 2).mean(axis)
        assert (np.abs(got - want) <= CHAIN * eps * want).all()


def test_moments_of_nothing_and_of_what_is_not_finite() -> None:
    a = sg.array("a", ("n", "m"), "float32")
    apart = a - sg.mean(a, 0, keepdims=True)
    f = sg.function([a], [sg.sum(apart * apart, 0), sg.mean(a, 0), sg.var(a)])
    squares, mean, _ = f(np.zeros((0, 5), "float32"))
    assert (squares == 0).all() and np.isnan(mean).all()
    x = np.ones((100, 40), "float32")
    x[7, 3], x[9, 4], x[50, 5] = np.inf, np.nan, -np.inf
    squares, mean, total = f(x)
    assert np.isnan(squares[[3, 4, 5]]).all() and np.isnan(total)
    np.testing.assert_array_equal(mean[[3, 4, 5]], [np.inf, np.nan, -np.inf])
    assert (np.delete(squares, [3, 4, 5]) == 0).all()


MEAN_AND_VARIANCE = sg.function(
    [MATRIX := sg.array("a", ("n", "m"), "float32")], [sg.mean(MATRIX, 1), sg.var(MATRIX, 1)]
)


@given(
    st.integers(1, 2 * NEAR + 99),
    st.sampled_from([0.0, 1e4, -3e37, 2e38]),
    st.sampled_from([1.0, 1e-3, 1e38]),
    st.lists(st.sampled_from([np.inf, -np.inf, np.nan, 3e38, -3e38]), max_size=2),
    st.integers(0, 2**32 - 1),
)
def test_means_told_by_distances(
    n: int, shift: float, scale: float, odd: list[float], seed: int
) -> None:
    """Beside a variance, a mean comes from distances: as near as a sum, and as infinite."""
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore", invalid="ignore"):
        x = (shift + scale * rng.standard_normal((2, n))).astype("float32")
        x[0, rng.integers(0, n, len(odd))] = odd
        (mean, _), wide = MEAN_AND_VARIANCE(x), x.astype("float64")
        want = wide.mean(1)
        bound = (2 * CHAIN + 16) * np.finfo("float32").eps * np.abs(wide).mean(1)
    whole = np.isfinite(wide).all(1)
    np.testing.assert_array_equal(mean[~whole], want[~whole].astype("float32"))
    sums = whole & (np.abs(wide).sum(1) < np.finfo("float32").max)  # no partial sum can overflow
    assert (np.abs(mean[sums] - want[sums]) <= bound[sums]).all()


@pytest.mark.parametrize("row", [[-3e38, 3e38, -1.5e38], [1e37, -3.4e38, 3.4e38, -9e37]])
def test_a_mean_is_finite_where_a_distance_from_it_is_not(row: list[float]) -> None:
    x = np.array([row, row], "float32")
    np.testing.assert_allclose(
        MEAN_AND_VARIANCE(x)[0], x.astype("float64").mean(1), rtol=1e-5, atol=1e32
    )


def test_squares_about_something_else_than_the_mean() -> None:
    """The value that the distances are from need only be computed from the sum."""
    x = np.random.default_rng(4).normal(size=(200, 50)).astype("float32")
    a = sg.array("a", ("n", "m"), "float32")
    about = 2 * sg.sum(a, 0) + 1
    got = sg.function([a], sg.sum((a - about) ** 2, 0))(x)
    wide = x.astype("float64")
    np.testing.assert_allclose(got, ((wide - (2 * wide.sum(0) + 1)) ** 2).sum(0), rtol=1e-5)


# -------------------------------------------------------------------------------- arg-reductions


@given(
    st.sampled_from(["float32", "float64", "float16", "int8", "int64", "uint8", "bool"]),
    st.sampled_from([(1, 1), (5, 3), (40, 130), (300, 17), (3, 1029), (2, 20_000)]),
    st.booleans(),
    st.integers(0, 1 << 30),
)
@settings(max_examples=30)
def test_first_of_the_best_wins(
    dtype: str, shape: tuple[int, int], symbolic: bool, seed: int
) -> None:
    x = special(np.random.default_rng(seed), shape, dtype)
    axes = (0, 1, None)
    f = compiled(lambda a: [g(a, k) for g in (sg.argmax, sg.argmin) for k in axes], x, symbolic)
    want = [g(x, k) for g in (np.argmax, np.argmin) for k in axes]
    for got, expected in zip(f(x), want):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("at", [0, 1, 15, 16, 130, 1 << 20, (1 << 21) + 17])
def test_place_in_a_long_array(at: int) -> None:
    x = np.zeros(at + 40, "float32")
    x[at:] = 1
    assert compiled(sg.argmax, x, True)(x) == at
    x[:] = -np.inf
    assert compiled(sg.argmax, x, True)(x) == 0
    x[at] = np.nan
    assert compiled(sg.argmin, x, True)(x) == at


# ---------------------------------------------------------------------- values kept between passes


def test_softmax_computes_each_exponential_once() -> None:
    """The last pass reads back what the pass of the sum stored."""
    for shape in ((7, 300), (7, 9000), ("n", "m")):
        for axis in (0, 1):
            text = loops(partial(sg.softmax, axis=axis), shape)
            assert "exp" in text
            after_sum = text[text.rindex("call[exp]") :]
            assert "= @y0[" in after_sum, text


def squares_of_powers(a: Any) -> Any:
    """Three passes that need an exponential, and no output that could hold it."""
    powers = sg.exp(a)
    total = sg.sum(powers, 1, keepdims=True)
    return sg.sum((powers / total) ** 3, 1)


@pytest.mark.parametrize("shape", [(5, 40), (3, 4096), (3, 4097), (4, 1), (30, 7)])
@pytest.mark.parametrize("symbolic", [False, True])
def test_kept_values_are_right_for_every_length(shape: tuple[int, int], symbolic: bool) -> None:
    x = np.random.default_rng(5).normal(size=shape).astype("float32")
    f = compiled(lambda a: [squares_of_powers(a), sg.softmax(a), sg.log_softmax(a)], x, symbolic)
    powers = np.exp(x.astype("float64"))
    chances = powers / powers.sum(1, keepdims=True)
    for got, want in zip(f(x), ((chances**3).sum(1), chances, np.log(chances))):
        np.testing.assert_allclose(got, want, rtol=3e-6, atol=1e-6)


def test_scratch_row_where_no_output_fits() -> None:
    assert "row" in loops(squares_of_powers, (8, 1000))
    assert "row" not in loops(squares_of_powers, (8, 100_000))


def test_output_that_holds_values_never_takes_its_input_s_place() -> None:
    """The pass that stores the exponential comes before the last reading of the input."""
    rng = np.random.default_rng(6)
    x, w = rng.normal(size=(9, 6)).astype("float32"), rng.normal(size=(6, 40)).astype("float32")
    a, b = sg.array("a", ("n", 6), "float32"), sg.array("b", (6, 40), "float32")
    t = sg.dot(a, b)
    powers = sg.exp(t)
    y = powers * t / sg.sum(powers, 1, keepdims=True)
    got = sg.function([a, b], sg.dot(y, sg.transpose(b)))(x, w)
    t = x.astype("float64") @ w
    want = np.exp(t) * t / np.exp(t).sum(1, keepdims=True) @ w.T
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)

    state = sg.shared(x.copy(), "state")
    powers = sg.exp(state)
    sg.function([], [], updates={state: powers * state / sg.sum(powers, 1, keepdims=True)})()
    t = x.astype("float64")
    want = np.exp(t) * t / np.exp(t).sum(1, keepdims=True)
    np.testing.assert_allclose(state.get_value(), want, rtol=1e-5, atol=1e-6)
