"""Products against NumPy: matmul, dot, tensordot, einsum and their gradients and errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph as sg
from symgraph.errors import AxisError, DTypeError, GraphError, ShapeError
from symgraph.expr import apply
from symgraph.ops.contract import MatMul
from tests.strategies import EVERY, check, check_gradient, seeds, values

TOLERANCE = {"float16": 2e-3, "bfloat16": 1e-2, "float32": 1e-5, "complex64": 1e-5}
SIDE = st.integers(0, 4)
MAYBE_EMPTY = st.integers(0, 5)


def tolerance(dtype: str) -> float:
    return TOLERANCE.get(dtype, 1e-13 if dtype in ("float64", "complex128") else 0.0)


def through_float32(function):
    """Halves are multiplied in float32 and rounded once."""

    def product(*operands):
        dtype = operands[0].dtype
        if dtype.itemsize == 2 and dtype.kind not in "iu":
            return function(*[o.astype(np.float32) for o in operands]).astype(dtype)
        return function(*operands)

    return product


@st.composite
def products(draw):
    """Shapes that np.matmul accepts."""
    k, m, n = draw(MAYBE_EMPTY), draw(SIDE), draw(SIDE)
    batch = draw(st.lists(st.integers(1, 3), max_size=2))
    left = tuple(draw(st.sampled_from([1, b])) for b in batch)[draw(st.integers(0, len(batch))) :]
    right = tuple(b for b in batch)[draw(st.integers(0, len(batch))) :]
    return (
        draw(st.sampled_from([(*left, m, k), (k,)])),
        draw(st.sampled_from([(*right, k, n), (k,)])),
    )


@given(products(), st.sampled_from(EVERY), seeds)
def test_matmul(case, dtype, seed):
    a, b = values(case[0], dtype, seed), values(case[1], dtype, seed + 1)
    known_only = len(case[0]) > 2 or len(case[1]) > 2
    check(
        sg.matmul,
        through_float32(np.matmul),
        a,
        b,
        tolerance=tolerance(dtype),
        symbolic=False if known_only else None,
    )


@given(st.lists(SIDE, max_size=3), st.lists(SIDE, max_size=3), SIDE, st.data(), seeds)
def test_dot_and_inner(left, right, k, data, seed):
    dtype = data.draw(st.sampled_from(["float64", "int8", "complex64"]))
    a = values((*left, k), dtype, seed)
    inside = (*right[:-1], k, *right[-1:])
    check(sg.dot, np.dot, a, values(inside, dtype, seed), tolerance=tolerance(dtype))
    last = values((*right, k), dtype, seed)
    check(sg.inner, np.inner, a, last, tolerance=tolerance(dtype))
    check(sg.outer, np.outer, a, last, tolerance=tolerance(dtype))
    check(sg.dot, np.dot, a, np.asarray(a.dtype.type(3)))


@given(st.data(), seeds)
def test_tensordot(data, seed):
    count = data.draw(st.integers(0, 2))
    shared = [data.draw(SIDE) for _ in range(count)]
    a = values((2, 3, *shared), "float64", seed)
    b = values((*shared, 4), "float64", seed)
    check(
        lambda x, y: sg.tensordot(x, y, count),
        lambda x, y: np.tensordot(x, y, count),
        a,
        b,
        tolerance=1e-13,
    )
    axes = ([-1 - i for i in range(count)], list(range(count))[::-1])
    check(
        lambda x, y: sg.tensordot(x, y, axes),
        lambda x, y: np.tensordot(x, y, axes),
        a,
        b,
        tolerance=1e-13,
    )


def test_vdot():
    for dtype in ("complex128", "float64"):
        a, b = values((2, 3), dtype, 0), values((3, 2), dtype, 1)
        check(sg.vdot, np.vdot, a, b, tolerance=1e-14, symbolic=False)


def test_batched_dot():
    a, b = values((5, 2, 3), "float64", 0), values((5, 3, 4), "float64", 1)
    check(sg.batched_dot, np.matmul, a, b, tolerance=1e-14)
    rows = lambda x, y: np.einsum("bk,bk->b", x, y)  # noqa: E731
    check(sg.batched_dot, rows, a[:, 0], b[:, :, 0], tolerance=1e-14)
    scaled = lambda x, y: x[:, None, None] * y  # noqa: E731
    check(sg.batched_dot, scaled, a[:, 0, 0], b, tolerance=1e-14)
    two = lambda x, y: sg.batched_tensordot(x, y, [[1, 2], [2, 1]])  # noqa: E731
    c = values((5, 3, 2), "float64", 2)
    check(two, lambda x, y: np.einsum("bij,bji->b", x, y), a, c, tolerance=1e-14)


def test_integers_wrap():
    a, b = np.full((1, 4), 100, "int8"), np.full((4, 1), 100, "int8")
    with np.errstate(all="ignore"):
        check(sg.matmul, np.matmul, a, b)


def test_promotion():
    assert sg.matmul(sg.matrix("a", "int32"), sg.matrix("b", "float32")).dtype == "float32"
    assert sg.dot(sg.vector("a", "bool"), sg.vector("b", "bool")).dtype == "bool"


# --- einsum ---

FORMULAS = {
    "ij,jk->ik": [(3, 4), (4, 5)],
    "ij,jk": [(3, 4), (4, 5)],
    "ii->i": [(4, 4)],
    "ii": [(4, 4)],
    "iiii->i": [(3, 3, 3, 3)],
    "ijkj->ik": [(2, 3, 4, 3)],
    "i,j": [(3,), (4,)],
    "i,i": [(3,), (3,)],
    "ij->": [(3, 4)],
    "ij->ji": [(3, 4)],
    "ba": [(3, 4)],
    "...ij,jk": [(2, 3, 4), (4, 5)],
    "...ij,...jk->...ik": [(2, 3, 3, 4), (3, 4, 5)],
    "i...,i...->...": [(2, 3), (2, 3)],
    "...->...": [(2, 3)],
    "iij,jk->ik": [(3, 3, 4), (4, 2)],
    "bij,bjk->bik": [(2, 3, 4), (2, 4, 5)],
    "ij,ij->ij": [(3, 4), (3, 4)],
    "ij,kj->ikj": [(3, 4), (2, 4)],
    ",ij": [(), (3, 4)],
    "i,ij,j->": [(3,), (3, 4), (4,)],
    "ij,jk,kl,lm->im": [(3, 4), (4, 5), (5, 6), (6, 2)],
    "ijk,ilm,njm,nlk,abc->": [(2, 3, 4), (2, 5, 6), (7, 3, 6), (7, 5, 4), (2, 2, 2)],
    "bhqd,bhkd->bhqk": [(2, 3, 4, 5), (2, 3, 6, 5)],
    "ij,j->ij": [(3, 0), (0,)],
    "ij,jk->ik ": [(3, 0), (0, 2)],
}


@pytest.mark.parametrize("formula", FORMULAS)
def test_einsum(formula):
    operands = [values(s, "float64", i) for i, s in enumerate(FORMULAS[formula])]
    check(
        lambda *xs: sg.einsum(formula, *xs),
        lambda *xs: np.einsum(formula, *xs),
        *operands,
        tolerance=1e-12,
    )
    if all(o.size for o in operands) and sum(o.size for o in operands) < 60:
        check_gradient(lambda *xs: sg.einsum(formula, *xs), *operands)


def test_einsum_broadcasts_ones_and_counts():
    a, b = values((1,), "float64", 0), values((3,), "float64", 1)
    sums = lambda x, y: np.einsum("i,i", np.broadcast_to(x, 3), y)  # noqa: E731
    check(lambda x, y: sg.einsum("i,i", x, y), sums, a, b, symbolic=False, tolerance=1e-13)
    x, y = values((3, 2), "bool", 0), values((2, 4), "bool", 1)
    check(lambda u, v: sg.einsum("ij,jk->ik", u, v), np.matmul, x, y)


def test_einsum_errors():
    x, y = sg.array("x", (2, 3)), sg.array("y", (4, 5))
    for formula, text in {
        "ij,jk->il": "'l' is no label of an operand",
        "ij,kl->ii": "comes twice in the result",
        "ij": "1 terms for 2 operands",
        "i1,jk": "is not letters",
        "...ij,jk->ik": None,
    }.items():
        if text is not None:
            with pytest.raises(GraphError, match=text):
                sg.einsum(formula, x, y)
    with pytest.raises(GraphError, match="lacks the '...'"):
        sg.einsum("...j->j", x)
    with pytest.raises(ShapeError, match="label 'j' has sizes 3 and 4"):
        sg.einsum("ij,jk", x, y)
    with pytest.raises(ShapeError, match="does not fit an operand of rank 2"):
        sg.einsum("ijk,jk", x, y)


# --- gradients ---


@pytest.mark.parametrize(
    "left, right",
    [((2, 3), (3, 4)), ((3,), (3, 2)), ((2, 3), (3,)), ((3,), (3,)), ((4, 2, 3), (3, 2))],
)
def test_gradients(left, right):
    a, b = values(left, "float64", 0), values(right, "float64", 1)
    check_gradient(sg.matmul, a, b)
    check_gradient(sg.dot, a, b)


def test_gradients_through_broadcast_batches():
    a, b = values((1, 2, 3), "float64", 0), values((4, 3, 2), "float64", 1)
    check_gradient(sg.matmul, a, b, symbolic=False)
    check_gradient(lambda x, y: sg.grad((sg.matmul(x, y) ** 2).sum(), x), a, b, symbolic=False)


def test_complex_gradients():
    a, b = values((2, 3), "complex128", 0), values((3, 2), "complex128", 1)
    sg.verify_grad(sg.matmul, [a, b])
    sg.verify_grad(sg.vdot, [a, a])


# --- errors ---


def test_the_error_names_the_users_words():
    x, W = sg.array("x", ("n", 784)), sg.array("W", (700, 10))
    with pytest.raises(ShapeError) as info:
        x @ W
    line = info.value.site[1]
    assert str(info.value) == (
        "matmul(x, W): inner sizes differ: expected 784 (axis 1 of x), got 700 (axis 0 of W)\n"
        f"  tests/symgraph/test_contract.py:{line}   x @ W\n"
        f"  x: float32[n, 784]  test_contract.py:{line - 2}\n"
        f"  W: float32[700, 10]  test_contract.py:{line - 2}"
    )


def test_errors():
    x = sg.array("x", (2, 3))
    with pytest.raises(ShapeError, match="matmul: expected ranks of 1 or more, got a 0-d"):
        sg.matmul(x, 2.0)
    with pytest.raises(ShapeError, match=r"inner sizes differ: expected 3 \(axis 1 of x\), got 4"):
        sg.dot(x, sg.array("y", (4,)))
    with pytest.raises(ShapeError, match="batch: shapes do not broadcast"):
        sg.matmul(sg.array("a", (2, 3, 3)), sg.array("b", (4, 3, 3)))
    with pytest.raises(AxisError, match="expected axes from 0 to 2, got 3"):
        sg.tensordot(x, x, 3)
    with pytest.raises(AxisError, match="do not pair"):
        sg.tensordot(x, x, ([0, 1], [0]))
    with pytest.raises(DTypeError, match="dtypes differ"):
        apply(MatMul(), x, sg.array("y", (3, 2), "int8"))
    n = sg.array("n", (None, None))
    with pytest.raises(ShapeError, match=r"inner sizes: expected n.shape\[1\] == 3, got 2"):
        (n @ sg.array("m", (3, 3))).eval({n: np.zeros((2, 2), "f")})
