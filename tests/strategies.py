"""What tests draw (shapes, arrays) and how they compare a function with one of NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import symgraph as sg
from symgraph.dtypes import dtype as as_dtype

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "bfloat16", "float32", "float64"]
COMPLEXES = ["complex64", "complex128"]
REALS = ["bool", *INTEGERS, *FLOATS]
EVERY = [*REALS, *COMPLEXES]


def shapes(min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 5) -> Any:
    """Shapes with empty axes, axes of size 1 and 0-d among them."""
    return hnp.array_shapes(
        min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side
    )


seeds = st.integers(0, 2**32 - 1)


def values(shape: Sequence[int], dtype: str, seed: int, special: bool = False) -> np.ndarray:
    """Ordinary numbers; with `special` some NaN, infinities and signed zeros among floats."""
    rng = np.random.default_rng(seed)
    d = as_dtype(dtype)
    if d.kind == "b":
        return rng.random(shape) < 0.5
    if d.is_integer:
        low = -9 if d.is_signed else 0
        return rng.integers(low, 10, shape).astype(d.np)
    x = np.asarray(rng.normal(size=shape) * 2)
    if d.kind == "c":
        return np.asarray(x + 1j * rng.normal(size=shape)).astype(d.np)
    if special and x.size:
        odd = rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0], x.shape)
        x = np.where(rng.random(x.shape) < 0.2, odd, x)
    return np.asarray(x).astype(d.np)


def inputs_like(arrays: Sequence[Any], symbolic: bool) -> list[sg.Expr]:
    """An input for each array, its sizes known or not."""
    return [
        sg.array(f"x{i}", (None,) * np.ndim(a) if symbolic else np.shape(a), np.asarray(a).dtype)
        for i, a in enumerate(arrays)
    ]


def check(
    ours: Callable[..., Any],
    numpys: Callable[..., Any],
    *arrays: Any,
    symbolic: bool | None = None,
    tolerance: float = 0.0,
) -> None:
    """Types and values of ours(*inputs) equal NumPy's, for known sizes and for symbolic ones.

    symbolic: only one of the two. tolerance: max|error| relative to max|expected|; 0 is exact.
    """
    with np.errstate(all="ignore"):
        wanted = numpys(*arrays)
    many = isinstance(wanted, (list, tuple))
    for free in (False, True) if symbolic is None else (symbolic,):
        inputs = inputs_like(arrays, free)
        result = ours(*inputs)
        found = sg.evaluate(list(result) if many else [result], dict(zip(inputs, arrays)))
        expressions = list(result) if many else [result]
        assert len(found) == len(wanted if many else [wanted])
        for expr, got, want in zip(expressions, found, wanted if many else [wanted]):
            want = np.asarray(want)
            assert str(expr.dtype) == want.dtype.name, (expr.dtype, want.dtype)
            assert got.shape == want.shape, (got.shape, want.shape)
            if not free:
                assert expr.array_type.shape == want.shape
            assert_close(got, want, tolerance)


def assert_close(got: np.ndarray, want: np.ndarray, tolerance: float = 0.0) -> None:
    """Equal up to max|want| * tolerance; NaN equals NaN, infinities equal themselves."""
    got, want = (_plain(np.asarray(a)) for a in (got, want))
    if not tolerance:
        np.testing.assert_array_equal(got, want)
        return
    finite = np.abs(want[np.isfinite(want)])
    np.testing.assert_allclose(
        got, want, rtol=0, atol=tolerance * max(finite.max(initial=0), 1e-30)
    )


def _plain(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64) if x.dtype.kind in "fV" or x.dtype.name == "bfloat16" else x


def gradients(
    fun: Callable[..., sg.Expr], arrays: Sequence[Any], symbolic: bool
) -> list[np.ndarray]:
    """Gradients of a fixed weighted sum of fun's result."""
    inputs = inputs_like(arrays, symbolic)
    result = fun(*inputs)
    size = sg.evaluate(result, dict(zip(inputs, arrays))).size
    weights = np.cos(np.arange(size) * 1.7).astype(np.asarray(arrays[0]).dtype)
    cost = (result.ravel() * sg.constant(weights)).sum()
    return sg.evaluate(sg.grad(cost, inputs), dict(zip(inputs, arrays)))


def check_gradient(fun: Callable[..., sg.Expr], *arrays: Any, symbolic: bool = True) -> None:
    """The gradient is that of finite differences, and the same where sizes are symbolic."""
    sg.verify_grad(fun, list(arrays))
    if symbolic:
        doubles = [np.asarray(a, np.float64) for a in arrays]
        pairs = zip(gradients(fun, doubles, False), gradients(fun, doubles, True))
        for known, free in pairs:
            np.testing.assert_allclose(free, known, rtol=1e-12, atol=1e-12)
