"""Sizes: what their normal form and their proofs decide is true for every value of the names."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symgraph import dims, relations
from symgraph.dims import (
    Size,
    ceildiv,
    dim,
    dim_max,
    dim_min,
    evaluate_dim,
    floordiv,
    known_equal,
    known_le,
    value_of,
)
from symgraph.errors import ShapeError

N, M, V = dim("n"), dim("m"), value_of("v", 1)
ATOMS = {"n": next(iter(dims.atoms(N))), "m": next(iter(dims.atoms(M)))}
VALUES = [0, 1, 2, 3, 4, 7, 30]
SIGNED = [-9, -2, -1, 0, 1, 5]


def assignments():
    value = next(iter(dims.atoms(V)))
    for n, m, v in itertools.product(VALUES, VALUES, SIGNED):
        yield {ATOMS["n"]: n, ATOMS["m"]: m, value: v}


@st.composite
def sizes(draw, depth=2):
    """A polynomial in n, m, v with max, min and floordiv inside, and its meaning in Python."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from([N, M, V, N, M, *range(-3, 4)]))
    a, b = draw(sizes(depth - 1)), draw(sizes(depth - 1))
    kind = draw(st.sampled_from(["+", "-", "*", "max", "min", "//"]))
    if kind == "//":
        return floordiv(a, draw(st.integers(1, 4)))
    operations = {
        "+": lambda: a + b,
        "-": lambda: a - b,
        "*": lambda: a * b,
        "max": lambda: dim_max(a, b),
        "min": lambda: dim_min(a, b),
    }
    return operations[kind]()


@pytest.fixture(autouse=True)
def without_sympy(monkeypatch):
    """Proofs by cases and samples only: SymPy takes too long for thousands of questions."""
    dims._prove.cache_clear()
    dims._nonnegative.cache_clear()
    monkeypatch.setattr(dims, "_prove_by_sympy", lambda question, difference: None)
    yield
    dims._prove.cache_clear()
    dims._nonnegative.cache_clear()


@settings(max_examples=300)
@given(sizes(), sizes())
def test_what_is_known_is_true(a, b):
    below, same = known_le(a, b), known_equal(a, b)
    for values in assignments():
        x, y = evaluate_dim(a, values), evaluate_dim(b, values)
        if below is not None:
            assert (x <= y) is below, (str(a), str(b), values)
        if same is not None:
            assert (x == y) is same, (str(a), str(b), values)


@settings(max_examples=200)
@given(sizes(), st.integers(1, 5))
def test_division_rounds_down(a, k):
    for values in assignments():
        x = evaluate_dim(a, values)
        assert evaluate_dim(floordiv(a, k), values) == x // k
        assert evaluate_dim(ceildiv(a, k), values) == -(-x // k)


def test_input_values_have_any_sign():
    assert known_le(0, V) is None and known_le(0, N) is True
    assert known_le(0, dim_max(V, 0)) is True
    assert isinstance(ATOMS["n"], Size)


KNOWN = [
    (dim_min(N, M), N),
    (0, dim_max(N - 3, 0)),
    (dim_max(N - 3, 0), N),
    (floordiv(N, 2) * 2, N),
    (N, floordiv(N, 2) * 2 + 1),
    (0, V + N * dim_min(1, dim_max(0 - V, 0)) - V),
    (dim_max(dim_min(V, N), 0), N),
    (7 - dim_max(N, 1) * floordiv(7, dim_max(N, 1)), dim_max(N, 1) - 1),
]


@pytest.mark.parametrize("a, b", KNOWN, ids=lambda d: str(d))
def test_what_indexing_asks_is_decided_by_cases(a, b):
    assert known_le(a, b) is True


@pytest.mark.parametrize("a, b", [(N, M), (dim_max(N, 3), M), (1, dim_max(N - 500, 0))])
def test_what_depends_is_not_known(a, b):
    assert known_le(a, b) is None and known_equal(a, b) is None


def test_equality_that_never_holds_is_an_error():
    with pytest.raises(ShapeError, match="x: sizes differ: n and n \\+ 1"):
        relations.require_equal(N, N + 1, "x")
    with pytest.raises(ShapeError, match="x: size too large: n \\+ 2 and n"):
        relations.require_le(N + 2, N, "x")
