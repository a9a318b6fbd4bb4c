"""Functions named as NumPy's mean what NumPy's mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import symgraph as sg

NAN = np.nan
RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(3, 4))
HOLES = np.where(RNG.random((5, 6)) < 0.4, NAN, RNG.normal(size=(5, 6)))
HOLES[2], HOLES[:, 1] = NAN, NAN
HOLES[0, 0] = -np.inf
CUBE = RNG.normal(size=(2, 3, 4))
COMPLEX = MATRIX + 1j * MATRIX[::-1]
INTEGERS = RNG.integers(-9, 9, (3, 4))


def value(x: Any) -> Any:
    """What an expression, or a list of them, is."""
    if isinstance(x, (list, tuple)):
        return [value(e) for e in x]
    return sg.evaluate(x) if isinstance(x, sg.Expr) else x


def same(got: Any, want: Any) -> None:
    if isinstance(want, (list, tuple)):
        assert len(got) == len(want)
        for g, w in zip(got, want):
            same(g, w)
        return
    assert np.shape(got) == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-15)


REDUCTIONS = "nansum nanprod nanmax nanmin nanmean nanvar nanstd".split()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_without_nan(name: str, axis: Any, keepdims: bool) -> None:
    for x in (HOLES, INTEGERS, MATRIX):
        want = getattr(np, name)(x, axis=axis, keepdims=keepdims)
        d = "float64" if x.dtype.kind == "i" and name in ("nanmean", "nanvar", "nanstd") else None
        options = {} if d is None else {"dtype": d}
        same(value(getattr(sg, name)(x, axis, keepdims=keepdims, **options)), want)


@pytest.mark.filterwarnings("ignore")
def test_freedom_that_is_used_up_is_nan() -> None:
    x = np.array([[1.0, NAN, NAN], [1.0, 2.0, NAN], [NAN, NAN, NAN]])
    for name in ("nanvar", "nanstd"):
        same(value(getattr(sg, name)(x, 1, ddof=1)), getattr(np, name)(x, axis=1, ddof=1))
    same(value(sg.nanvar(HOLES[3:] + 2j * HOLES[3:], 1)), np.nanvar(HOLES[3:] * (1 + 2j), axis=1))


@given(arrays.arrays("d", (3, 4), elements=st.sampled_from([1.0, 2.0, -1.0, np.inf, NAN])))
def test_positions_without_nan(x: np.ndarray) -> None:
    x[:, 0] = np.where(np.isnan(x).all(axis=1), 5.0, x[:, 0])  # NumPy raises, ours gives 0
    same(value(sg.nanargmax(x, 1)), np.nanargmax(x, axis=1))
    same(value(sg.nanargmin(x, 1)), np.nanargmin(x, axis=1))
    same(value(sg.nanargmax(x)), np.nanargmax(x))


def test_positions_among_nothing_are_0() -> None:
    x = np.full((2, 3), NAN)
    assert value(sg.nanargmax(x, 1)).tolist() == value(sg.nanargmin(x, 1)).tolist() == [0, 0]


def test_gradients_skip_nan() -> None:
    x = sg.array("x", (4,), "float64")
    total = sg.nanvar(x) + sg.nanmax(x) + sg.nanmean(x) * sg.nansum(x)
    slope = value_at(sg.grad(total, x), x, np.array([1.0, NAN, 4.0, 2.0]))
    assert slope[1] == 0 and np.isfinite(slope).all() and (slope[[0, 2, 3]] != 0).all()


def value_at(y: sg.Expr, x: sg.Expr, at: np.ndarray) -> np.ndarray:
    return np.asarray(sg.evaluate(y, {x: at}))


WEIGHTS = np.array([0.5, 1.0, 2.0, 0.25])
CASES: dict[str, Callable[[Any], Any]] = {
    "average": lambda m: m.average(MATRIX, 1, WEIGHTS),
    "average of all": lambda m: m.average(MATRIX, weights=MATRIX**2),
    "average kept": lambda m: m.average(MATRIX, axis=-1, weights=WEIGHTS, keepdims=True),
    "average alone": lambda m: m.average(MATRIX, 0),
    "around": lambda m: m.around(MATRIX, 2),
    "fabs": lambda m: m.fabs(MATRIX),
    "positive": lambda m: m.positive(INTEGERS),
    "float_power": lambda m: m.float_power(INTEGERS, -2),
    "shift left": lambda m: m.bitwise_left_shift(INTEGERS, 3),
    "shift right": lambda m: m.bitwise_right_shift(INTEGERS, 1),
    "size": lambda m: (m.size(CUBE), m.size(CUBE, 1), m.ndim(CUBE)),
    "meshgrid": lambda m: m.meshgrid(WEIGHTS, MATRIX[:, 0]),
    "meshgrid of 3": lambda m: m.meshgrid(WEIGHTS, WEIGHTS[:2], MATRIX[:, 0], indexing="ij"),
    "meshgrid of 3 xy": lambda m: m.meshgrid(WEIGHTS, WEIGHTS[:2], MATRIX[:, 0], sparse=True),
    "meshgrid of 1": lambda m: m.meshgrid(WEIGHTS),
    "dstack": lambda m: m.dstack([MATRIX, MATRIX]),
    "dstack of vectors": lambda m: m.dstack([WEIGHTS, WEIGHTS]),
    "column_stack": lambda m: m.column_stack([WEIGHTS, MATRIX.T, WEIGHTS]),
    "row_stack": lambda m: getattr(m, "row_stack" if m is sg else "vstack")([MATRIX, WEIGHTS]),
    "atleast_3d": lambda m: [m.atleast_3d(x) for x in (2.0, WEIGHTS, MATRIX, CUBE)],
    "cross": lambda m: m.cross(CUBE[0], CUBE[1], axis=0),
    "cross of rows": lambda m: m.cross(CUBE.transpose(0, 2, 1), MATRIX[:, 0]),
    "rot90": lambda m: [m.rot90(CUBE, k, axes) for k in range(-3, 5) for axes in ((0, 1), (2, 0))],
    "select": lambda m: m.select([MATRIX > 0.5, MATRIX > 0], [MATRIX, 2 * MATRIX], -1.0),
    "logspace": lambda m: m.logspace(-2, 3, 11, base=2.0, dtype="float64"),
    "logspace open": lambda m: m.logspace(0, 1, 7, endpoint=False, dtype="float64"),
    "geomspace": lambda m: m.geomspace(1, 1000, 4, dtype="float64"),
    "geomspace below 0": lambda m: m.geomspace(-2, -0.1, 9, dtype="float64"),
    "geomspace open": lambda m: m.geomspace(1.0, 10.0, 5, endpoint=False, dtype="float64"),
    "indices": lambda m: m.indices((2, 3, 4)),
    "indices sparse": lambda m: m.indices((2, 3), sparse=True),
    "unstack": lambda m: m.unstack(CUBE, axis=-1) if m is sg else list(np.moveaxis(CUBE, -1, 0)),
    "vander": lambda m: [m.vander(WEIGHTS), m.vander(WEIGHTS, 2, True), m.vander(INTEGERS[0], 6)],
    "trapezoid": lambda m: [m.trapezoid(MATRIX), m.trapezoid(MATRIX, dx=0.1, axis=0)],
    "trapezoid over places": lambda m: m.trapezoid(MATRIX, WEIGHTS),
    "trapezoid over matrix": lambda m: m.trapezoid(MATRIX, MATRIX**2, axis=0),
    "diagflat": lambda m: [m.diagflat(MATRIX, k) for k in (-2, 0, 1)],
    "hsplit": lambda m: [*m.hsplit(MATRIX, 2), *m.hsplit(WEIGHTS, [1, 3])],
    "vsplit": lambda m: m.vsplit(MATRIX, 3),
    "dsplit": lambda m: m.dsplit(CUBE, [1, 2]),
    "broadcast_shapes": lambda m: m.broadcast_shapes((2, 1), (3,), (1, 1, 3)),
    "isreal": lambda m: [m.isreal(x) for x in (MATRIX, COMPLEX, COMPLEX * 0)],
    "iscomplex": lambda m: [m.iscomplex(x) for x in (MATRIX, COMPLEX, COMPLEX * 0)],
    "objects": lambda m: [m.iscomplexobj(COMPLEX), m.isrealobj(COMPLEX), m.iscomplexobj(MATRIX)],
    "frexp": lambda m: m.frexp(np.array([0.0, -0.0, 3.0, -8.0, 5e-324, np.inf, -np.inf, NAN])),
    "modf": lambda m: m.modf(np.array([0.0, -0.0, 3.25, -8.0, -1.5, np.inf, -np.inf, NAN])),
    "spacing": lambda m: m.spacing(np.array([0.0, -0.0, 1.0, -1.0, 1.7e308, np.inf, NAN])),
    "gcd": lambda m: m.gcd(INTEGERS, np.array([12, 18, 0, -128])),
    "lcm": lambda m: m.lcm(INTEGERS, np.array([12, 18, 0, -128])),
}


@pytest.mark.parametrize("name", CASES)
def test_as_numpy(name: str) -> None:
    build = CASES[name]
    same(value(build(sg)), build(np))


def test_cumulative_with_a_start() -> None:
    x = INTEGERS.astype("int8")
    got = value(sg.cumulative_sum(x, 1, include_initial=True))
    assert got.dtype == np.int64
    same(got, np.concatenate([np.zeros((3, 1)), np.cumsum(x, axis=1)], 1))
    same(value(sg.cumulative_prod(MATRIX, 0)), np.cumprod(MATRIX, axis=0))
    same(value(sg.cumulative_prod(WEIGHTS, include_initial=True)), [1.0, *np.cumprod(WEIGHTS)])


@pytest.mark.parametrize("dtype", ["float64", "complex128", "int8", "bool"])
def test_products_of_vectors(dtype: str) -> None:
    a, b = (RNG.integers(-3, 4, s).astype(dtype) for s in ((2, 3, 4), (2, 4)))
    if dtype == "complex128":
        a, b = a * (1 - 0.5j), b * (2 + 1j)
    plain = [np.matmul(a, b[..., None])[..., 0], np.matmul(b.conj()[:, None], a.swapaxes(1, 2))]
    results = [
        sg.matvec(a, b),
        sg.vecmat(b, a.swapaxes(1, 2)),
        sg.vecdot(a, b[:, None]),
        sg.vecdot(a, a, axis=1),
    ]
    wants = [
        plain[0],
        plain[1][:, 0],
        np.matmul(a.conj()[..., None, :], b[:, None, :, None])[..., 0, 0],
        np.einsum("ijk,ijk->ik", a.conj(), a),
    ]
    for got, want in zip(results, wants):
        assert str(got.dtype) == dtype
        same(value(got), want)


def test_equality_of_arrays() -> None:
    holes = np.array([1.0, NAN])
    assert value(sg.array_equal(MATRIX, MATRIX.copy()))
    assert not value(sg.array_equal(MATRIX, MATRIX + 1e-15))
    assert not value(sg.array_equal(MATRIX, MATRIX[:2]))
    assert not value(sg.array_equal(np.ones(1), np.ones(3)))
    assert not value(sg.array_equal(holes, holes)) and value(sg.array_equal(holes, holes, True))
    assert value(sg.allclose(MATRIX, MATRIX * (1 + 1e-9)))
    assert not value(sg.allclose(MATRIX, MATRIX + 1.0))
    assert not value(sg.allclose(holes, holes)) and value(sg.allclose(holes, holes, equal_nan=True))


def test_ones_do_not_broadcast_in_equality() -> None:
    x, y = sg.array("x", (1,)), sg.array("y", ("n",))
    same_ = sg.function([x, y], sg.array_equal(x, y))
    one, three = np.ones(1, "f"), np.ones(3, "f")
    assert same_(one, one) and not same_(one, three)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sg.meshgrid(WEIGHTS, indexing="yx"), sg.GraphError, "indexing"),
        (lambda: sg.meshgrid(MATRIX), sg.ShapeError, "expected vectors"),
        (lambda: sg.cross(MATRIX, MATRIX), sg.ShapeError, "size 4, not 3"),
        (lambda: sg.unstack(sg.array("x", ("n",))), sg.ShapeError, "must be known"),
        (lambda: sg.cumulative_sum(MATRIX), sg.AxisError, "needs an axis"),
        (lambda: sg.vander(MATRIX), sg.ShapeError, "expected a vector"),
        (lambda: sg.geomspace(0, 3), sg.GraphError, "cannot be 0"),
        (lambda: sg.select([MATRIX > 0], [1, 2]), sg.ShapeError, "do not pair"),
        (lambda: sg.average(MATRIX, None, WEIGHTS), sg.GraphError, "one axis"),
        (lambda: sg.vsplit(WEIGHTS, 2), sg.AxisError, "rank >= 2"),
        (lambda: sg.matvec(WEIGHTS, WEIGHTS), sg.ShapeError, "rank >= 2"),
        (lambda: sg.positive(MATRIX > 0), sg.DTypeError, "positive"),
        (lambda: sg.fabs(COMPLEX), sg.DTypeError, "fabs"),
        (lambda: sg.gcd(MATRIX, 2), sg.DTypeError, "gcd"),
        (lambda: sg.broadcast_shapes((2,), (3,)), sg.ShapeError, "broadcast"),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
