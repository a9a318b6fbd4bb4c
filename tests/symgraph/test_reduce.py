"""Reductions, running sums and statistics against NumPy; gradients at zeros and ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph as sg
from symgraph.errors import AxisError, DTypeError, GraphError, ShapeError
from tests.strategies import (
    COMPLEXES,
    EVERY,
    FLOATS,
    INTEGERS,
    REALS,
    check,
    check_gradient,
    seeds,
    shapes,
    values,
)

TOLERANCE = {"float16": 2e-3, "bfloat16": 1e-2, "float32": 2e-6, "complex64": 2e-6}


def tolerance(dtype: str) -> float:
    return TOLERANCE.get(dtype, 1e-13 if dtype in ("float64", "complex128") else 0.0)


@st.composite
def reductions(draw, min_side=0):
    """A shape, axes of it (None, one, several) and keepdims."""
    shape = draw(shapes(max_dims=4, min_side=min_side))
    n = len(shape)
    axes = st.lists(st.integers(0, n - 1), unique=True).map(tuple) if n else st.just(())
    one = st.integers(-n, n - 1) if n else st.none()
    return shape, draw(st.one_of(st.none(), one, axes)), draw(st.booleans())


def exact(x: np.ndarray) -> np.ndarray:
    """In a dtype that NumPy accumulates well: halves as float64."""
    return x.astype(np.float64) if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x


def numpy_total(function, x, axis, keepdims):
    result = function(exact(x), axis=axis, keepdims=keepdims)
    return np.asarray(result).astype(x.dtype) if x.dtype.kind not in "biu" else result


@pytest.mark.parametrize("name", ["sum", "prod"])
@given(reductions(), st.sampled_from(EVERY), seeds)
def test_sum_and_prod(name, case, dtype, seed):
    shape, axis, keepdims = case
    x = values(shape, dtype, seed)
    ours, numpys = getattr(sg, name), getattr(np, name)
    check(
        lambda v: ours(v, axis, keepdims=keepdims),
        lambda v: numpy_total(numpys, v, axis, keepdims),
        x,
        tolerance=tolerance(dtype) * 8,
    )


@pytest.mark.parametrize("name", ["max", "min"])
@given(reductions(min_side=1), st.sampled_from(REALS), seeds)
def test_max_and_min(name, case, dtype, seed):
    shape, axis, keepdims = case
    x = values(shape, dtype, seed, special=True)
    ours, numpys = getattr(sg, name), getattr(np, name)
    check(
        lambda v: ours(v, axis, keepdims),
        lambda v: np.asarray(numpys(exact(v), axis=axis, keepdims=keepdims)).astype(v.dtype),
        x,
    )


@pytest.mark.parametrize("name", ["any", "all", "count_nonzero"])
@given(reductions(), st.sampled_from(EVERY), seeds)
def test_truth(name, case, dtype, seed):
    shape, axis, keepdims = case
    x = values(shape, dtype, seed, special=True)
    ours, numpys = getattr(sg, name), getattr(np, name)
    check(
        lambda v: ours(v, axis, keepdims=keepdims),
        lambda v: numpys(v != 0, axis=axis, keepdims=keepdims),
        x,
    )


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@given(shapes(min_dims=1, min_side=1), st.data(), st.sampled_from(REALS), seeds)
def test_positions(name, shape, data, dtype, seed):
    axis = data.draw(st.one_of(st.none(), st.integers(-len(shape), len(shape) - 1)))
    keepdims = data.draw(st.booleans())
    x = values(shape, dtype, seed, special=True)
    ours, numpys = getattr(sg, name), getattr(np, name)
    check(lambda v: ours(v, axis, keepdims), lambda v: numpys(exact(v), axis, keepdims=keepdims), x)


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
@given(shapes(min_dims=1), st.data(), st.sampled_from(EVERY), seeds)
def test_running(name, shape, data, dtype, seed):
    axis = data.draw(st.one_of(st.none(), st.integers(-len(shape), len(shape) - 1)))
    x = values(shape, dtype, seed)
    ours, numpys = getattr(sg, name), getattr(np, name)

    def expected(v):
        result = numpys(exact(v), axis=axis)
        return result.astype(v.dtype) if v.dtype.kind not in "biu" else result

    check(lambda v: ours(v, axis), expected, x, tolerance=tolerance(dtype) * 8)


def test_dtypes_of_sums():
    for dtype, expected in {"bool": "int64", "int8": "int64", "uint16": "uint64"}.items():
        assert sg.sum(sg.vector("x", dtype)).dtype == expected
        assert sg.cumprod(sg.vector("x", dtype)).dtype == expected
        assert sg.mean(sg.vector("x", dtype)).dtype == "float32"
    x = sg.vector("x", "float16")
    assert sg.sum(x).dtype == "float16"
    assert sg.sum(x, dtype="float32").dtype == "float32"
    assert sg.sum(x, acc_dtype="float64").dtype == "float16"
    big = np.full(3, 60000, "float16")
    assert sg.sum(x, dtype="float32").eval({x: big}) == 180000
    assert sg.mean(x).eval({x: big}) == 60000


def test_the_reference_sum_of_float32_is_rounded_once():
    x = np.float32([1, 1e-8] * 1000)
    assert sg.sum(sg.constant(x)).eval() == np.float32(x.astype(np.float64).sum())


def test_nan_wins_and_first_occurrence():
    x = sg.vector("x")
    value = np.float32([1, np.nan, 3, np.nan])
    assert np.isnan(sg.max(x).eval({x: value})) and np.isnan(sg.min(x).eval({x: value}))
    assert sg.argmax(x).eval({x: value}) == 1
    assert sg.argmin(x).eval({x: np.float32([2, 1, 1])}) == 1


# --- gradients ---


@given(reductions(min_side=1), seeds)
def test_gradients(case, seed):
    shape, axis, keepdims = case
    x = values(shape, "float64", seed)
    sg.verify_grad(lambda v: sg.sum(v, axis, keepdims=keepdims) ** 2, [x], tests=1)
    sg.verify_grad(lambda v: sg.prod(v, axis, keepdims=keepdims), [x], tests=1, rel_tol=1e-5)
    sg.verify_grad(lambda v: sg.max(v, axis, keepdims), [x], tests=1, eps=1e-6, rel_tol=1e-3)


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
@pytest.mark.parametrize("function", [sg.prod, sg.cumprod])
def test_products_with_zeros(function, zeros):
    x = np.array([1.5, -2.0, 0.5, 3.0, -1.0])
    x[[1, 3, 4][:zeros]] = 0
    check_gradient(lambda v: function(v), x)

    def slope(v):
        return sg.grad((function(v) * np.array([1.0, -2.0, 3.0, 0.5, 2.0])).sum(), v)

    sg.verify_grad(slope, [x])


def test_products_over_several_axes():
    x = values((2, 3, 2), "float64", 0)
    x[0, 1, 0] = x[1, 2, 1] = 0
    check_gradient(lambda v: sg.prod(v, (0, 2)), x)
    check_gradient(lambda v: sg.cumprod(v, 1), x)
    check_gradient(lambda v: sg.cumsum(v, -1) ** 2, x)


@pytest.mark.parametrize("function", [sg.cumprod, sg.cumsum, sg.prod, sg.sum])
@pytest.mark.parametrize("size", [0, 1, 2])
def test_gradients_of_short_axes(function, size):
    x = values((2, size), "float64", 1)
    check_gradient(lambda v: function(v, 1) ** 2, x)


def test_ties_share_the_cotangent():
    x = sg.array("x", (2, 3))
    value = np.float32([[1, 2, 2], [5, 5, 5]])
    got = sg.grad(sg.max(x, 1).sum(), x).eval({x: value})
    np.testing.assert_allclose(got, [[0, 0.5, 0.5], [1 / 3] * 3], rtol=1e-6)


def test_complex_gradients():
    x = values((2, 3), "complex128", 0)
    for function in (sg.sum, sg.prod, sg.cumsum, sg.cumprod, sg.mean):
        sg.verify_grad(lambda v, f=function: f(v, 1), [x])


# --- statistics ---


@given(reductions(min_side=1), st.sampled_from(["mean", "var", "std"]), seeds, st.data())
def test_statistics(case, name, seed, data):
    shape, axis, keepdims = case
    dtype = data.draw(st.sampled_from([*FLOATS, *INTEGERS, *COMPLEXES, "bool"]))
    x = values(shape, dtype, seed)
    options = {"ddof": data.draw(st.integers(0, 1))} if name != "mean" else {}
    kind = {"c": np.zeros(0, x.dtype).real.dtype if name != "mean" else x.dtype}
    result = kind.get(x.dtype.kind, np.dtype("float32") if x.dtype.kind in "biu" else x.dtype)

    def expected(v):
        wide = v.astype(np.complex128 if v.dtype.kind == "c" else np.float64)
        answer = getattr(np, name)(wide, axis=axis, keepdims=keepdims, **options)
        return np.asarray(answer).astype(result)

    def ours(v):
        return getattr(sg, name)(v, axis, keepdims=keepdims, **options)

    size = x.size // max(np.asarray(expected(x)).size, 1)
    if size <= options.get("ddof", 0):
        return
    check(
        ours, expected, x, tolerance=max(tolerance(dtype), 1e-6 * (dtype in INTEGERS)) * 16 + 1e-6
    )


def test_statistics_of_too_few():
    x = sg.vector("x")
    for function in (sg.mean, sg.var, sg.std):
        assert np.isnan(function(x).eval({x: np.zeros(0, "f")}))
    assert np.isnan(sg.var(x, ddof=1).eval({x: np.ones(1, "f")}))


def test_gradients_of_statistics():
    x = values((3, 4), "float64", 0)
    check_gradient(lambda v: sg.mean(v, 0) ** 2, x)
    check_gradient(lambda v: sg.var(v, 1, ddof=1), x)
    check_gradient(lambda v: sg.std(v), x)
    check_gradient(lambda v: sg.norm(v, axis=1), x)
    check_gradient(lambda v: sg.ptp(v, axis=1), x)


@pytest.mark.parametrize("ord", [None, 0, 1, 2, 3, -1, np.inf, -np.inf, 2.5])
def test_norms_of_vectors(ord):
    x = values((3, 4), "float64", 0)
    for axis in (0, -1):
        check(
            lambda v, a=axis: sg.norm(v, ord, a),
            lambda v, a=axis: np.linalg.norm(v, ord, a),
            x,
            tolerance=1e-14,
        )
    check(lambda v: v[0].norm(ord), lambda v: np.linalg.norm(v[0], ord), x, tolerance=1e-14)


@pytest.mark.parametrize("ord", [None, "fro", 1, -1, np.inf, -np.inf])
@pytest.mark.parametrize("axis", [(0, 1), (1, 0), (-1, -3)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_norms_of_matrices(ord, axis, keepdims):
    x = values((3, 4, 2), "complex128", 0)
    check(
        lambda v: sg.norm(v, ord, axis, keepdims),
        lambda v: np.linalg.norm(v, ord, axis, keepdims),
        x,
        tolerance=1e-14,
    )


def test_norm_of_everything():
    x = values((3, 4, 2), "float32", 0)
    check(lambda v: sg.norm(v), np.linalg.norm, x, tolerance=1e-6)
    with pytest.raises(GraphError, match="ord=2 over 2 axes is not supported"):
        sg.norm(sg.matrix("x"), 2)


def test_ptp_and_second_names():
    x = values((3, 4), "int16", 0)
    check(lambda v: sg.ptp(v, 1), lambda v: np.ptp(v, 1), x)
    check(lambda v: sg.max_and_argmax(v, 1), lambda v: (v.max(1), v.argmax(1)), x)
    assert sg.amax is sg.max


# --- errors ---


def test_errors():
    x = sg.array("x", (2, 0))
    with pytest.raises(ShapeError, match="max: axis 1 is empty: nothing to take the max of"):
        sg.max(x, 1)
    with pytest.raises(ShapeError, match="argmin: axis 0 is empty"):
        sg.argmin(x)
    assert sg.max(x, 0).eval({x: np.zeros((2, 0), "f")}).shape == (0,)
    with pytest.raises(AxisError, match="sum: axis 2 is out of range for rank 2"):
        x.sum(2)
    with pytest.raises(AxisError, match="names an axis twice"):
        x.sum((0, -2))
    with pytest.raises(AxisError, match="axis must be an integer"):
        x.sum(1.0)
    with pytest.raises(DTypeError, match="max: dtype complex64 is not accepted"):
        sg.max(sg.vector("z", "complex64"))
    y = sg.vector("y")
    with pytest.raises(
        ShapeError, match=r"min: axis 0 is empty: expected 1 <= y.shape\[0\], got 0"
    ):
        y.min().eval({y: np.zeros(0, "f")})
