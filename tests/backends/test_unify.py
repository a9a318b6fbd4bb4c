"""Sizes that a guard makes equal are one size in the plan."""

from __future__ import annotations

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.unify import equal_sizes, unify
from symgraph.dims import dim, fresh_dim, single_atom
from symgraph.expr import toposort
from symgraph.relations import Guard


def test_a_chosen_name_wins_over_an_anonymous_one() -> None:
    n, other = dim("n"), fresh_dim("x.shape[0]")
    for guard in (Guard(n, other, "==", ""), Guard(other, n, "==", "")):
        assert equal_sizes([guard]) == {single_atom(other): n}


def test_chains_of_equalities_end_in_one_size() -> None:
    a, b, c = (fresh_dim(x) for x in "abc")
    sizes = equal_sizes([Guard(a, b, "==", ""), Guard(b, c, "==", ""), Guard(c, 7, "==", "")])
    assert set(sizes.values()) == {7} and len(sizes) == 3


def test_inequalities_and_polynomials_say_nothing() -> None:
    n, m = dim("n"), dim("m")
    assert equal_sizes([Guard(n, m, "<=", ""), Guard(n * m, m + 1, "==", "")]) == {}


def test_kernels_over_equal_sizes_fuse() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    f = sg.function([x, y], [sg.exp(x) * 2, sg.exp(x) + y])
    assert "1 launches" in f.explain()
    a = np.arange(3, dtype="float32")
    first, second = f(a, a)
    np.testing.assert_allclose(second - first, a - np.exp(a), rtol=1e-5)
    with pytest.raises(sg.ShapeError, match="expected"):
        f(a, np.ones(4, "float32"))


def test_guards_that_contradict_each_other_refuse_every_call() -> None:
    x = sg.vector("x")
    f = sg.function([x], [x + np.ones(3, "float32"), x + np.ones(4, "float32")])
    for n in (3, 4):
        with pytest.raises(sg.ShapeError):
            f(np.ones(n, "float32"))


def test_sizes_inside_of_records_are_unified_too() -> None:
    x, y = sg.array("x", (1, 1, "w")), sg.array("y", (1, 1, None))
    w = dim("w")
    both = sg.max_pool(y, 3, 2, 1) + sg.conv1d(y, np.ones((1, 1, 3), "float32"), 2, 1)
    guards = [Guard(y.array_type.shape[2], w, "==", "")]
    (new,), stands_for = unify([both + x.sum()], guards)
    assert list(stands_for.values()) == [y]
    for node in toposort([new]):
        if node.op.name in ("max_pool", "convolve"):
            assert node.op._values[0].image == (w,)
