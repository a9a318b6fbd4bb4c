"""Folding: constants are computed, sizes stay sizes, and what must wait for the call waits."""

from __future__ import annotations

import numpy as np

import symgraph as sg
from symgraph.expr import apply, toposort
from symgraph.leaves import Constant, DimValue
from symgraph.ops.movement import BroadcastTo, Iota
from symgraph.optim.pipeline import optimize


def folded(node: sg.Expr) -> sg.Expr:
    return optimize([node])[0][0]


def test_arithmetic_of_constants_is_done() -> None:
    a = sg.constant(np.arange(6, dtype="float32").reshape(2, 3))
    new = folded(sg.softmax(sg.exp(a) @ sg.transpose(a), -1).sum(0))
    assert isinstance(new.op, Constant) and new.dtype == "float32"
    assert np.allclose(new.op.value.sum(), 2.0)


def test_what_is_smaller_as_it_stands_is_kept() -> None:
    for node in (
        apply(BroadcastTo((1000, 1000)), sg.constant(1.0)),
        apply(Iota(100_000, sg.int64)),
    ):
        assert folded(node) is node


def test_large_results_are_not_made() -> None:
    column = sg.constant(np.arange(2000, dtype="float32").reshape(2000, 1))
    row = sg.constant(np.arange(2000, dtype="float32").reshape(1, 2000))
    node = column + row
    assert folded(node) is node


def test_a_large_constant_may_be_turned_into_another() -> None:
    a = sg.constant(np.ones((800, 800), "float32") * np.arange(800, dtype="float32"))
    assert isinstance(folded(sg.exp(a * 1e-3)).op, Constant)


def test_arithmetic_of_sizes_is_a_size() -> None:
    x = sg.array("x", ("n", "m"))
    n, m = x.shape
    cases = {
        n + m: "m + n",
        n * 2 - 1: "2*n - 1",
        sg.maximum(n, n + 1): "n + 1",
        (n * 6) // 3: "2*n",
        n - n: "0",
        (n * 4) % 2: "0",
        n * m: "m*n",
    }
    for node, text in cases.items():
        new = folded(node)
        shown = new.op.dim if isinstance(new.op, DimValue) else new.op
        assert str(shown) in (text, " + ".join(reversed(text.split(" + "))), "n*m"), (text, shown)


def test_a_size_divided_by_a_size_is_left_as_it_may_be_zero() -> None:
    n, m = sg.array("x", ("n", "m")).shape
    assert folded((n * m) // m).op.name == "floor_divide"


def test_arithmetic_of_sizes_that_could_wrap_is_left() -> None:
    x = sg.array("x", ("n", "m", "k"))
    n, m, k = x.shape
    node = n * m * k
    assert any(new.op.name == "mul" for new in toposort([folded(node)]))
    far = n * (1 << 40)
    assert folded(far) is far


def test_comparisons_of_sizes_are_decided_where_they_can_be() -> None:
    n = sg.array("x", ("n",)).shape[0]
    assert folded(n >= 0).op == sg.constant(True).op
    assert folded(sg.eq(n, n + 1)).op == sg.constant(False).op
    node = n > 3
    assert folded(node) is node


def test_random_draws_wait_for_the_call() -> None:
    from symgraph.ops.random import RandomBits

    state = sg.constant(np.array([1, 2], "uint64"))
    draws = [f for f in (RandomBits,) if len(f.fields) == 3]
    for draw in draws:
        node = apply(draw((4,), sg.uint32, 0), state)
        assert folded(node) is node


def test_a_failing_assertion_of_constants_waits_for_the_call() -> None:
    from symgraph.ops.effects import assert_

    node = assert_(sg.constant(1.0), sg.constant(False), "no")
    assert folded(node) is node
    assert folded(assert_(sg.constant(1.0), sg.constant(True))).op.name == "constant"


def test_folding_can_be_excluded() -> None:
    node = sg.constant(1.0) + sg.constant(2.0)
    assert optimize([node], exclude="fold")[0][0] is node
