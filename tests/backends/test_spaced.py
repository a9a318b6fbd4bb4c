"""Evenly spaced elements as whole vectors and shuffles; axes too short to have the lanes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.backends.emit_spaced import Spaced, spaced
from symgraph.backends.loops import INDEX, Block, Let, Ty, Value, Var
from symgraph.backends.targets import MOST_SPACED, host, target
from tests.backends.test_loops import GuardedArray

DTYPES = ("bool", "int8", "uint16", "float16", "float32", "int64", "float64")
KINDS = ("sum", "max", "min", "argmax", "argmin")


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return rng.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)


@given(
    st.sampled_from([s for s in range(-MOST_SPACED - 1, MOST_SPACED + 2) if s]),
    st.integers(1, 50),
    st.sampled_from(DTYPES),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=80)
def test_every_step_picks_its_own_elements(
    step: int, count: int, dtype: str, symbolic: bool, seed: int
) -> None:
    """The slice begins and ends with elements that it takes; the memory behind is not mapped."""
    size = (count - 1) * abs(step) + 1
    with GuardedArray(size, dtype) as guarded:
        x = guarded.array
        x[:] = numbers(np.random.default_rng(seed), x.shape, dtype)
        a = sg.array("a", ("n",) if symbolic else x.shape, dtype)
        f = sg.function([a], ~a[::step] if dtype == "bool" else a[::step] * 2)
        np.testing.assert_array_equal(f(x), ~x[::step] if dtype == "bool" else x[::step] * 2)


@given(
    st.integers(2, MOST_SPACED + 3),
    st.sampled_from([1, 5, 31, 64, 129, 1000]),
    st.sampled_from(DTYPES),
    st.sampled_from(KINDS),
    st.integers(0, 1),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=120)
def test_reductions_of_narrow_arrays_are_exact(
    columns: int, rows: int, dtype: str, kind: str, axis: int, symbolic: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2 if kind == "sum" or dtype == "bool" else 5, (rows, columns)).astype(dtype)
    if np.dtype(dtype).kind == "f" and kind != "sum":
        for value in (np.nan, np.inf, -np.inf, -0.0):
            x[rng.random(x.shape) < 0.05] = value
    a = sg.array("a", ("n" if symbolic else rows, columns), dtype)
    got = sg.function([a], getattr(sg, kind)(a, axis))(x)
    want = getattr(np, kind)(x, axis)
    np.testing.assert_array_equal(got, want.astype(got.dtype))


@given(st.integers(2, 9), st.integers(1, 200), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_narrow_rows_with_what_is_computed_of_them(columns: int, rows: int, seed: int) -> None:
    """Operands of every shape beside the narrow one; several reductions that need each other."""
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(rows, columns)), rng.normal(size=columns)
    a, b = sg.array("a", ("n", columns), "float64"), sg.array("b", (columns,), "float64")
    y = a * b
    outputs = [sg.var(y, 1), sg.var(y, 0), sg.sum(sg.exp(y - sg.max(y, 1, keepdims=True)), 1)]
    z = x * w
    wanted = [z.var(1), z.var(0), np.exp(z - z.max(1, keepdims=True)).sum(1)]
    for got, want in zip(sg.function([a, b], outputs)(x, w), wanted):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


def offsets(make: Any) -> tuple[Value, dict[Var, Let]]:
    b = Block()
    offset = make(b)
    return offset, {s.var: s for s in b.stmts if isinstance(s, Let)}


def test_what_is_spaced_is_seen_in_any_order_and_nothing_else() -> None:
    first, type = Var("first", Ty(INDEX)), Ty(INDEX, 8)

    def made(b: Block, step: Value, swap: bool) -> Value:
        factors = [b.let("iota", type=type), b.splat(step, 8)]
        terms = [b.splat(first, 8), b.let("mul", *factors[:: -1 if swap else 1])]
        return b.let("add", *terms[:: -1 if swap else 1])

    assert spaced(*offsets(lambda b: made(b, b.index(3), False))) == Spaced(first, 3)
    assert spaced(*offsets(lambda b: made(b, b.index(3), True))) == Spaced(first, 3)
    assert spaced(*offsets(lambda b: made(b, first, False))) is None
    assert spaced(*offsets(lambda b: b.let("iota", type=type))) is None


def test_spaced_loads_are_whole_vectors_in_the_code() -> None:
    if host().spaced(host().lanes(4), 4) < 2:
        pytest.skip("no vectors here")
    a = sg.array("a", (1000, 2), "float32")
    text = str(sg.function([a], sg.sum(a, 1)).source("llvm"))
    assert "shufflevector" in text


def test_the_largest_step_needs_lanes_and_byte_shuffles() -> None:
    old, new = target("x86-64"), target("x86-64-v4")
    assert old.spaced(16, 1) == 1 and old.spaced(4, 4) == 2
    assert new.spaced(64, 1) == MOST_SPACED and new.spaced(8, 8) == 4
