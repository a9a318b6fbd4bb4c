"""Loops and branches: bodies are rewritten, unused parts go, decided choices are made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.evaluate import evaluate
from symgraph.expr import toposort
from symgraph.ops.branch import Cond
from symgraph.ops.loop import Scan, build
from symgraph.optim.pipeline import optimize

rng = np.random.default_rng(0)


def agree(outputs: list[sg.Expr], values: dict[sg.Expr, Any], level: str = "full") -> list[sg.Expr]:
    """The optimized outputs, after comparing values and types."""
    better, _ = optimize(outputs, level)
    for old, new, a, b in zip(outputs, better, evaluate(outputs, values), evaluate(better, values)):
        assert old.type == new.type
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    again, journal = optimize(better, level)
    assert all(x is y for x, y in zip(better, again)), str(journal)
    return better


def ops_of(kind: type, outputs: list[sg.Expr]) -> list[Any]:
    return [x.op for x in toposort(outputs) if isinstance(x.op, kind)]


@pytest.fixture
def x() -> sg.Expr:
    return sg.array("x", (5, 3))


def recurrent(x: sg.Expr) -> tuple[Any, dict[sg.Expr, Any]]:
    """A loop with two states, of which one does not feed the other, and two outputs."""
    h, g, w, v = (sg.array(n, s) for n, s in zip("hgwv", [(3,), (3,), (3, 3), (3,)]))

    def step(xs: Any, states: Any) -> Any:
        a, b = states
        new = sg.tanh(sg.negative(-xs[0]) * 1 + sg.dot(a, w))
        return [new, b + v], [sg.log(1 + sg.exp(new)), b * 2], {}

    built = build("loop", step, [x], [h, g], 5)
    arrays = {e: rng.normal(size=e.type.shape).astype("float32") for e in (x, h, g, w, v)}
    return built, arrays


def test_bodies_are_rewritten(x: sg.Expr) -> None:
    built, values = recurrent(x)
    (new,) = agree([built.outputs[0]], values)
    body = toposort(ops_of(Scan, [new])[0].region.results)
    assert {n.op.name for n in body} >= {"softplus", "tanh"}
    assert not {n.op.name for n in body} & {"log", "exp", "neg"}


def test_unused_states_outputs_and_captures_go(x: sg.Expr) -> None:
    built, values = recurrent(x)
    (new,) = agree([built.outputs[0]], values)
    (op,) = ops_of(Scan, [new])
    assert (op.sequences, op.states, op.outputs) == (1, 1, 1) and len(op.region.params) == 3
    (new,) = agree([built.final[1]], values)
    (op,) = ops_of(Scan, [new])
    assert (op.sequences, op.states, op.outputs) == (0, 1, 0) and len(op.region.params) == 2


def test_all_of_a_loop_may_be_used(x: sg.Expr) -> None:
    built, values = recurrent(x)
    outputs = [*built.stacked, *built.outputs, *built.final]
    agree(outputs, values)
    agree(outputs, values, "safe")
    agree(outputs[::-1], values)


def test_gradients_of_loops_agree(x: sg.Expr) -> None:
    built, values = recurrent(x)
    loss = built.outputs[0].sum() + built.final[1].sum()
    agree([loss, *sg.grad(loss, [e for e in values])], values)


def test_equal_captures_become_one(x: sg.Expr) -> None:
    h, w = sg.array("h", (3,)), sg.array("w", (3,))

    def step(xs: Any, states: Any) -> Any:
        return [states[0] * (w * 1) + states[0] * w], [], {}

    built = build("loop", step, [x], [h], 5)
    values = {
        x: np.ones((5, 3), "float32"),
        h: np.ones(3, "float32"),
        w: np.full(3, 0.5, "float32"),
    }
    (new,) = agree([built.final[0]], values)
    (op,) = ops_of(Scan, [new])
    assert len(op.region.params) == 2  # the state and w; the sequence is not read


def test_captured_numbers_move_inside(x: sg.Expr) -> None:
    h = sg.array("h", (3,))
    one = sg.exp(sg.constant(0.0))

    def step(xs: Any, states: Any) -> Any:
        return [states[0] * one + xs[0]], [], {}

    built = build("loop", step, [x], [h], 5)
    values = {x: np.ones((5, 3), "float32"), h: np.ones(3, "float32")}
    (new,) = agree([built.final[0]], values)
    (op,) = ops_of(Scan, [new])
    assert [n.op.name for n in toposort(op.region.results)] == ["param", "param", "add"]


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("reverse", [False, True])
def test_short_loops_vanish(steps: int, reverse: bool) -> None:
    x, h = sg.array("x", (steps, 3)), sg.array("h", (3,))
    built = build(
        "loop", lambda xs, hs: ([hs[0] + xs[0]], [hs[0] * 2], {}), [x], [h], steps, reverse=reverse
    )
    values = {x: np.ones((steps, 3), "float32"), h: np.ones(3, "float32")}
    better = agree([*built.stacked, *built.outputs, *built.final], values)
    assert not ops_of(Scan, better)


def test_decided_choices_are_made() -> None:
    c, v = sg.array("c", ()), sg.array("v", ("k",))
    outputs = [
        sg.cond(sg.constant(True), c + 1, c * 2),
        sg.cond(sg.constant(False), c + 1, c * 2),
        sg.cond(c > 0, c * 1, sg.negative(-c)),
        sg.cond(v.shape[0] >= 0, c, c * 3),
    ]
    better = agree(outputs, {c: np.float32(2), v: np.zeros(2, "float32")})
    assert not ops_of(Cond, better) and better[2] is c and better[3] is c


def test_negated_predicates_turn_the_arms() -> None:
    c, p = sg.array("c", ()), sg.array("p", (), "bool")
    node = sg.cond(sg.logical_not(p), sg.exp(c), sg.tanh(c))
    for truth in (True, False):
        (new,) = agree([node], {c: np.float32(0.5), p: np.bool_(truth)})
    (op,) = ops_of(Cond, [new])
    assert op.then.results[0].op.name == "tanh"


def test_branches_lose_unused_results_and_captures() -> None:
    c, d, p = sg.array("c", ()), sg.array("d", ()), sg.array("p", (), "bool")
    first, second = sg.cond(p, [sg.exp(c), sg.sin(d)], [sg.tanh(c), sg.cos(d)])
    values = {c: np.float32(0.5), d: np.float32(0.1), p: np.bool_(True)}
    (new,) = agree([first], values)
    (op,) = ops_of(Cond, [new])
    assert len(op.then.results) == 1 and len(op.then.params) == 1
    agree([first, second], values)


def test_nested_bodies_are_rewritten_and_slimmed(x: sg.Expr) -> None:
    h, p = sg.array("h", (3,)), sg.array("p", (), "bool")

    def step(xs: Any, states: Any) -> Any:
        chosen, _ = sg.cond(
            p, [states[0] * 1 + xs[0], states[0]], [sg.log(1 + sg.exp(states[0])), xs[0]]
        )
        return [chosen], [], {}

    built = build("loop", step, [x], [h], 5)
    values = {x: np.ones((5, 3), "float32"), h: np.ones(3, "float32"), p: np.bool_(False)}
    (new,) = agree([built.final[0]], values)
    (outer,) = ops_of(Scan, [new])
    (inner,) = ops_of(Cond, list(outer.region.results))
    assert len(inner.then.results) == 1
    assert "softplus" in {n.op.name for n in toposort(inner.orelse.results)}


def test_firings_inside_count_for_the_limit(x: sg.Expr) -> None:
    built, values = recurrent(x)
    outputs = [built.outputs[0]]
    total = len(optimize(outputs)[1])
    expected = evaluate(outputs, values)
    for limit in range(total + 1):
        better, journal = optimize(outputs, limit=limit)
        assert len(journal) == limit
        np.testing.assert_allclose(evaluate(better, values)[0], expected[0], rtol=1e-5)


def test_symbolic_lengths(x: sg.Expr) -> None:
    xs = sg.array("xs", ("n", 3))
    built = build(
        "loop", lambda s, h: ([h[0] * 1 + s[0]], [], {}), [xs], [sg.zeros((3,))], xs.type.shape[0]
    )
    for n in (0, 1, 4):
        agree([built.final[0], built.stacked[0]], {xs: np.ones((n, 3), "float32")})
