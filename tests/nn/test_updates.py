"""Update rules against NumPy for 20 steps, schedules, clipping, and the rules' state."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph import nn
from symgraph.nn import schedules

STEPS = 20
A = np.array([[3.0, 0.5], [0.5, 1.0]])


def gradient(p: np.ndarray) -> np.ndarray:
    """Of the cost below."""
    return A @ p + np.cos(p)


def cost(p: sg.Expr) -> sg.Expr:
    return 0.5 * (p * (sg.constant(A) @ p)).sum() + sg.sin(p).sum()


def sgd(p: Any, g: Any, m: dict[str, Any], t: int) -> Any:
    return p - 0.1 * g


def momentum(p: Any, g: Any, m: dict[str, Any], t: int) -> Any:
    m["v"] = 0.8 * m.get("v", 0) - 0.1 * g
    return p + m["v"]


def nesterov(p: Any, g: Any, m: dict[str, Any], t: int) -> Any:
    m["v"] = 0.8 * m.get("v", 0) - 0.1 * g
    return p + 0.8 * m["v"] - 0.1 * g


def rmsprop(p: Any, g: Any, m: dict[str, Any], t: int) -> Any:
    m["s"] = 0.95 * m.get("s", 0) + 0.05 * g**2
    return p - 0.1 * g / (np.sqrt(m["s"]) + 1e-6)


def adagrad(p: Any, g: Any, m: dict[str, Any], t: int) -> Any:
    m["s"] = m.get("s", 0) + g**2
    return p - 0.1 * g / (np.sqrt(m["s"]) + 1e-6)


def adam(p: Any, g: Any, m: dict[str, Any], t: int, decay: float = 0.0) -> Any:
    m["m"] = 0.9 * m.get("m", 0) + 0.1 * g
    m["s"] = 0.99 * m.get("s", 0) + 0.01 * g**2
    mean, square = m["m"] / (1 - 0.9**t), m["s"] / (1 - 0.99**t)
    return p - 0.1 * (mean / (np.sqrt(square) + 1e-6) + decay * p)


def adamw(p: Any, g: Any, m: dict[str, Any], t: int) -> Any:
    return adam(p, g, m, t, decay=0.3)


RULES: dict[str, tuple[Callable[[], nn.Update], Callable[..., Any]]] = {
    "sgd": (lambda: nn.SGD(0.1), sgd),
    "momentum": (lambda: nn.Momentum(0.1, 0.8), momentum),
    "nesterov": (lambda: nn.Nesterov(0.1, 0.8), nesterov),
    "rmsprop": (lambda: nn.RMSProp(0.1, 0.95, 1e-6), rmsprop),
    "adagrad": (lambda: nn.Adagrad(0.1, 1e-6), adagrad),
    "adam": (lambda: nn.Adam(0.1, (0.9, 0.99), 1e-6), adam),
    "adamw": (lambda: nn.AdamW(0.1, (0.9, 0.99), 1e-6, decay=0.3), adamw),
}


@pytest.mark.parametrize("mode", ["reference", "native"])
@pytest.mark.parametrize("name", RULES)
def test_rule_follows_its_formula(name: str, mode: str) -> None:
    make, formula = RULES[name]
    start = np.array([[1.0, -2.0, 0.3], [0.5, 4.0, -1.0]])
    p = sg.shared(start, "p")
    step = sg.function([], cost(p), updates=make().minimize(cost(p), [p]), mode=mode)
    wanted, memory = start.copy(), {}
    for t in range(1, STEPS + 1):
        step()
        wanted = formula(wanted, gradient(wanted), memory, t)
        np.testing.assert_allclose(p.get_value(), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_rule_keeps_the_parameters_dtype(name: str) -> None:
    p = sg.shared(np.array([[1.0, -2.0]], np.float32), "p")
    rule = RULES[name][0]()
    step = sg.function([], [], updates=rule.minimize((p * p).sum(), [p]))
    before = p.get_value()
    step()
    step()
    assert p.get_value().dtype == np.float32 and not np.array_equal(p.get_value(), before)
    assert rule.step.get_value() == 2


def test_adamw_spares_vectors_unless_told() -> None:
    def moved(**options: Any) -> np.ndarray:
        p = sg.shared(np.ones(3), "p")
        rule = nn.AdamW(0.1, decay=0.5, **options)
        sg.function([], [], updates=rule([p], [sg.zeros(3, "float64")]))()
        return p.get_value()

    assert np.array_equal(moved(), np.ones(3))
    np.testing.assert_allclose(moved(decays=lambda p: True), np.full(3, 0.95), rtol=1e-12)


def test_first_adam_step_is_exact_in_float32() -> None:
    p = sg.shared(np.float32([0.0]), "p")
    g = sg.constant(np.float32([1e-3]))
    sg.function([], [], updates=nn.Adam(1.0, epsilon=0.0)([p], [g]))()
    assert p.get_value()[0] == pytest.approx(-1.0, abs=3e-7)  # 1 - 0.999 loses four digits


def test_state_has_names_and_starts_with_zeros() -> None:
    a, b = sg.shared(np.ones(2), "w"), sg.shared(np.ones((2, 2)), "w")
    rule = nn.Adam()
    rule([a, b], [a, b])
    names = ["step", "w.mean", "w.square", "w.mean.2", "w.square.2"]
    assert list(rule.variables()) == names == [w.name for w in rule.variables().values()]
    assert not any(w.get_value().any() for w in rule.variables().values())


def test_wrong_number_of_gradients() -> None:
    p = sg.shared(np.ones(2), "p")
    with pytest.raises(sg.GraphError, match="SGD: 1 parameters, 2 gradients"):
        nn.SGD()([p], [p, p])


def test_parameters_must_be_shared_variables() -> None:
    x = sg.vector("x")
    with pytest.raises(sg.GraphError, match="SGD: x is not a shared variable"):
        nn.SGD()([x], [x])  # type: ignore[list-item]


# --- rates


def rates(rate: Any, steps: int) -> np.ndarray:
    """The rate of each step: how far a parameter with gradient 1 moves."""
    p = sg.shared(np.zeros(1), "p")
    step = sg.function([], [], updates=nn.SGD(rate)([p], [sg.ones(1, "float64")]))
    path = []
    for _ in range(steps):
        step()
        path.append(p.get_value()[0])
    return -np.diff([0.0, *path])


SCHEDULES: dict[str, tuple[schedules.Schedule, Callable[[int], float]]] = {
    "constant": (schedules.constant(0.3), lambda i: 0.3),
    "step": (schedules.step_decay(0.5, 4, 0.1), lambda i: 0.5 * 0.1 ** (i // 4)),
    "exponential": (schedules.exponential(0.5, 5, 0.2), lambda i: 0.5 * 0.2 ** (i / 5)),
    "cosine": (
        schedules.cosine(0.5, 8, 0.1),
        lambda i: 0.1 + 0.4 * (1 + math.cos(math.pi * min(i / 8, 1))) / 2,
    ),
    "warmup": (schedules.warmup(0.5, 4), lambda i: 0.5 * min((i + 1) / 4, 1)),
    "warmup, cosine": (
        schedules.warmup(schedules.cosine(0.5, 8), 4),
        lambda i: min((i + 1) / 4, 1) * 0.25 * (1 + math.cos(math.pi * min(max(i - 4, 0) / 8, 1))),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_follows_its_formula(name: str) -> None:
    schedule, formula = SCHEDULES[name]
    np.testing.assert_allclose(rates(schedule, 14), [formula(i) for i in range(14)], rtol=1e-9)


def test_rate_may_be_a_shared_variable() -> None:
    rate, p = sg.shared(0.5, "rate"), sg.shared(np.zeros(1), "p")
    step = sg.function([], [], updates=nn.SGD(rate)([p], [sg.ones(1, "float64")]))
    step()
    rate.set_value(0.25)
    step()
    assert p.get_value()[0] == -0.75


def test_float64_parameters_see_the_whole_rate() -> None:
    assert rates(0.1, 1)[0] == 0.1


@pytest.mark.parametrize("make", [schedules.step_decay, schedules.exponential, schedules.cosine])
def test_schedule_without_steps_is_refused(make: Any) -> None:
    with pytest.raises(sg.GraphError, match="expected more than 0 steps, got 0"):
        make(0.1, 0)


# --- clipping


def test_clip_by_value() -> None:
    g = sg.constant(np.array([-3.0, -0.5, 0.0, 2.0]))
    (clipped,) = sg.function([], nn.clip_by_value([g], 1.0))()
    assert clipped.tolist() == [-1.0, -0.5, 0.0, 1.0]


@pytest.mark.parametrize("mode", ["reference", "native"])
@pytest.mark.parametrize("limit", [1.0, 5.0, 100.0])
def test_clip_by_global_norm(limit: float, mode: str) -> None:
    a, b = sg.array("a", (3,), "float64"), sg.array("b", (2, 2), "float32")
    values = [np.array([3.0, -4.0, 0.0]), np.full((2, 2), 6.0, np.float32)]
    norm = math.sqrt(25 + 144)
    f = sg.function([a, b], nn.clip_by_norm([a, b], limit), mode=mode)
    for got, value in zip(f(*values), values):
        assert got.dtype == value.dtype
        np.testing.assert_allclose(got, value * min(1, limit / norm), rtol=1e-6)
    assert not any(g.any() for g in f(*(np.zeros_like(v) for v in values)))


def test_norm_of_half_floats_does_not_overflow() -> None:
    g = sg.constant(np.full(100, 1000, np.float16))
    norm, (clipped,) = nn.global_norm([g]), nn.clip_by_norm([g], 10.0)
    found = sg.function([], [norm, clipped])()
    assert found[0] == 10000 and found[1].dtype == np.float16 and (found[1] == 1).all()


def test_minimize_clips_first() -> None:
    p = sg.shared(np.array([3.0, 4.0]), "p")
    updates = nn.SGD(1.0).minimize(
        0.5 * (p * p).sum(), [p], clip=lambda gradients: nn.clip_by_norm(gradients, 1.0)
    )
    sg.function([], [], updates=updates)()
    np.testing.assert_allclose(p.get_value(), [2.4, 3.2], rtol=1e-12)
