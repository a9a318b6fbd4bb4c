"""Products with a dtype: types, values, gradients and errors, by the definition with casts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph as sg
from symgraph.dtypes import dtype as as_dtype
from symgraph.errors import DTypeError
from symgraph.expr import apply
from symgraph.ops.contract import MatMul
from symgraph.ops.convolve import Convolve
from symgraph.ops.product_dtypes import NARROW
from tests.strategies import EVERY, seeds, values

SHORT = ["int8", "uint8", "int16", "uint16"]
KIND = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}


def full_range(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    if dtype in SHORT:
        info, rng = np.iinfo(dtype), np.random.default_rng(seed)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return values(shape, dtype, seed)


@given(st.sampled_from(SHORT), st.sampled_from(SHORT), st.integers(0, 40), seeds)
def test_short_integers_are_exact(left: str, right: str, k: int, seed: int) -> None:
    a, b = full_range((3, k), left, seed), full_range((k, 4), right, seed + 1)
    x, y = sg.array("x", a.shape, left), sg.array("y", b.shape, right)
    given_ = {x: a, y: b}
    want = (a.astype("i8") @ b.astype("i8")).astype("i4")
    for product in (
        sg.matmul(x, y, dtype="int32"),
        sg.dot(x, y, dtype="int32"),
        sg.tensordot(x, y, 1, dtype="int32"),
        sg.einsum("ik,kj->ij", x, y, dtype="int32"),
        sg.transpose(sg.einsum("ik,kj->ji", x, y, dtype="int32")),
    ):
        assert product.dtype == "int32"
        assert np.array_equal(sg.evaluate(product, given_), want)


@given(st.sampled_from(EVERY), st.sampled_from(EVERY), st.sampled_from(EVERY), seeds)
def test_as_of_cast_operands(left: str, right: str, wanted: str, seed: int) -> None:
    a, b = values((2, 5), left, seed), values((5, 3), right, seed + 1)
    x, y = sg.array("x", a.shape, left), sg.array("y", b.shape, right)
    kinds = [as_dtype(d).kind for d in (left, right, wanted)]
    if KIND[kinds[2]] < max(KIND[k] for k in kinds[:2]):
        with pytest.raises(DTypeError, match="cannot hold"):
            sg.matmul(x, y, dtype=wanted)
        return
    ours = sg.matmul(x, y, dtype=wanted)
    by_casts = sg.matmul(x.astype(wanted), y.astype(wanted))
    got, want = sg.evaluate([ours, by_casts], {x: a, y: b})
    assert ours.dtype == wanted and np.array_equal(got, want)


def test_einsum_sums_in_the_dtype() -> None:
    a, b = (full_range((3, 4, 50), d, 1) for d in ("uint8", "int8"))
    x, y = sg.array("x", a.shape, "uint8"), sg.array("y", b.shape, "int8")
    for formula in ("ijk,ijk->i", "ijk,ijl->ikl", "ijk,lmk->il", "ijk,ijk->ijk", "ijk,ljk->"):
        got = sg.evaluate(sg.einsum(formula, x, y, dtype="int32"), {x: a, y: b})
        assert np.array_equal(got, np.einsum(formula, a.astype("i8"), b.astype("i8"), dtype="i8"))
    three = sg.einsum("ijk,ijk,ijl->il", x, y, y, dtype="int64")
    want = np.einsum("ijk,ijk,ijl->il", *(v.astype("i8") for v in (a, b, b)))
    assert np.array_equal(sg.evaluate(three, {x: a, y: b}), want)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradients_of_halves(dtype: str) -> None:
    """They are those of the product in float32, rounded once to the operands' dtype."""
    a, b = values((3, 6), dtype, 1), values((6, 4), dtype, 2)
    x, y = sg.array("x", a.shape, dtype), sg.array("y", b.shape, dtype)
    loss = sg.sum(sg.matmul(x, y, dtype="float32") ** 2)
    wide = sg.sum(sg.matmul(x.astype("float32"), y.astype("float32")) ** 2)
    for ours, want in zip(sg.grad(loss, [x, y]), sg.grad(wide, [x, y])):
        assert ours.dtype == dtype
        assert np.array_equal(*sg.evaluate([ours, want], {x: a, y: b}))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradients_of_convolved_halves(dtype: str) -> None:
    a, b = values((1, 5, 5, 2), dtype, 1), values((3, 3, 2, 4), dtype, 2)
    x, w = sg.array("x", a.shape, dtype), sg.array("w", b.shape, dtype)
    conv = sg.conv2d(x, w, 1, 1, layout="NHWC", dtype="float32")
    wide = sg.conv2d(x.astype("float32"), w.astype("float32"), 1, 1, layout="NHWC")
    losses = [sg.sum(sg.tanh(y)) for y in (conv, wide)]
    for ours, want in zip(*(sg.grad(loss, [x, w]) for loss in losses)):
        assert ours.dtype == dtype
        assert np.array_equal(*sg.evaluate([ours, want], {x: a, w: b}))


def test_integers_have_no_gradient() -> None:
    x, y = sg.array("x", (2, 3), "uint8"), sg.array("y", (3, 2), "int8")
    scale = sg.array("scale", (2,))
    loss = sg.sum(sg.matmul(x, y, dtype="int32") * scale)
    (slope,) = sg.grad(loss, [scale])
    a, b = values((2, 3), "uint8", 1), values((3, 2), "int8", 2)
    got = sg.evaluate(slope, {x: a, y: b, scale: np.ones(2, "f4")})
    assert np.array_equal(got, (a.astype("i4") @ b).sum(0))


def test_only_narrow_pairs_stay() -> None:
    """Every other pair is cast when the expression is built: there is one op for both."""
    for result, pairs in NARROW.items():
        for left, right in pairs:
            x, y = sg.array("x", (2, 3), left), sg.array("y", (3, 2), right)
            product = sg.matmul(x, y, dtype=result)
            assert product.inputs == (x, y) and product.op == MatMul(result)
    x, y = sg.array("x", (2, 3), "int8"), sg.array("y", (3, 2), "int8")
    assert sg.matmul(x, y, dtype="int64").op == MatMul()
    with pytest.raises(DTypeError, match="not multiplied as they are into int64"):
        apply(MatMul(as_dtype("int64")), x, y)
    with pytest.raises(DTypeError, match="dtypes differ: int8 and uint8"):
        apply(MatMul(), x, y.astype("uint8"))


def test_shown() -> None:
    assert repr(MatMul()) == "matmul"
    assert repr(MatMul(as_dtype("int32"))) == "matmul{dtype=int32}"
    x, w = sg.array("x", (1, 4, 4, 2), "uint8"), sg.array("w", (3, 3, 2, 4), "int8")
    convolved = sg.conv2d(x, w, layout="NHWC", dtype="int32")
    assert isinstance(convolved.op, Convolve) and "dtype=int32" in repr(convolved.op)
