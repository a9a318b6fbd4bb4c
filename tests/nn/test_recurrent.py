"""Recurrent layers: what they mean step by step, their gradients, their directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph import nn
from tests.strategies import values

STEPS, ROWS, INPUTS, SIZE = 5, 3, 4, 2
X = values((STEPS, ROWS, INPUTS), "float64", 0)


def layer(kind: str, **named: Any) -> nn.Recurrent:
    """In float64, with biases that are not zero."""
    make = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind]
    bias = values((make.gates * SIZE,), "float64", 1)
    more = {"inner": np.array([0.3, -0.2])} if kind == "gru" else {}
    return make(INPUTS, SIZE, rng=0, bias=bias, dtype="float64", **more, **named)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def expected(kind: str, x: np.ndarray, w: np.ndarray, u: np.ndarray, b: np.ndarray, *inner: Any):
    """The states one after another, as the sources write them."""
    h, c = np.zeros((x.shape[1], SIZE)), np.zeros((x.shape[1], SIZE))
    states = []
    for row in x:
        given, again = row @ w + b, h @ u
        if kind == "rnn":
            h = np.tanh(given + again)
        elif kind == "lstm":
            i, f, g, o = np.split(given + again, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            (xr, xz, xg), (hr, hz, hg) = np.split(given, 3, axis=1), np.split(again, 3, axis=1)
            z = sigmoid(xz + hz)
            h = (1 - z) * np.tanh(xg + sigmoid(xr + hr) * (hg + inner[0])) + z * h
        states.append(h)
    return np.array(states)


KINDS = ["rnn", "lstm", "gru"]


@pytest.mark.parametrize("mode", ["native", "reference"])
@pytest.mark.parametrize("kind", KINDS)
def test_states_of_every_step(kind: str, mode: str) -> None:
    made = layer(kind)
    x = sg.array("x", ("steps", "n", INPUTS), "float64")
    weights = [w.get_value() for w in made.parameters()]
    f = sg.function([x], made(x), mode=mode)
    for value in (X, X[:1], X[:, :1], X[:0]):
        got = f(value)
        want = expected(kind, value, *weights).reshape(got.shape)
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_backwards_is_forwards_of_the_flipped_sequence(kind: str) -> None:
    x = sg.array("x", X.shape, "float64")
    f, b = (sg.function([x], layer(kind, reverse=r)(x)) for r in (False, True))
    np.testing.assert_array_equal(b(X), f(np.ascontiguousarray(X[::-1]))[::-1])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_finite_differences(kind: str) -> None:
    made = layer(kind)
    parameters = made.parameters()

    def call(x: sg.Expr, *new: sg.Expr) -> sg.Expr:
        return sg.expr.substitute([made(x)], list(zip(parameters, new)))[0]

    sg.verify_grad(call, [X, *[w.get_value() for w in parameters]])


def test_initial_states_and_the_memory_of_an_lstm() -> None:
    made = layer("lstm")
    x = sg.array("x", X.shape, "float64")
    h, c = (sg.array(name, (ROWS, SIZE), "float64") for name in "hc")
    whole, parts = sg.function([x], made(x)), sg.function([x, h, c], made.run(x, [h, c]))
    two = [sg.array("first", (2, ROWS, INPUTS), "float64")]
    begin = sg.function(two, made.run(two[0], [sg.zeros((ROWS, SIZE), "float64")] * 2))
    states = [s[-1] for s in begin(X[:2])]
    rest = sg.array("rest", (STEPS - 2, ROWS, INPUTS), "float64")
    end = sg.function([rest, h, c], made.run(rest, [h, c])[0])
    np.testing.assert_allclose(end(X[2:], *states), whole(X)[2:], rtol=1e-12)
    assert [s.shape for s in parts(X, *states)] == [(STEPS, ROWS, SIZE)] * 2


def test_an_lstm_begins_with_remembering() -> None:
    made = nn.LSTM(INPUTS, SIZE, rng=0)
    assert made.bias.get_value().tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert repr(made) == "LSTM(4 -> 2)" and len(nn.GRU(3, 2, rng=0, reverse=True).parameters()) == 4
    gates = np.split(made.recurrent.get_value(), 4, axis=1)
    for gate in gates:  # each orthogonal by itself
        np.testing.assert_allclose(gate.T @ gate, np.eye(SIZE), atol=1e-6)


def test_one_loop_without_python_that_learns() -> None:
    """Whether the first of eight numbers is positive: nothing of it is left but the state."""
    x, t = sg.array("x", (8, 32, 1)), sg.array("t", (32,), "int64")
    made, read = nn.LSTM(1, 8, rng=0), nn.Dense(8, 2, rng=1)
    cost = nn.cross_entropy(read(made(x)[-1]), t)
    updates = nn.Adam(0.03).minimize(cost, [*made.parameters(), *read.parameters()])
    step = sg.function([x, t], cost, updates=updates, host_calls="forbid")
    random = np.random.default_rng(0)
    costs = []
    for _ in range(150):
        value = random.standard_normal((8, 32, 1)).astype(np.float32)
        costs.append(float(step(value, (value[0, :, 0] > 0).astype(np.int64))))
    assert np.mean(costs[:5]) > 0.6 and np.mean(costs[-10:]) < 0.2
