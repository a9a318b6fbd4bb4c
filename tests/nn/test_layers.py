"""Layers: shapes, values, gradients, parameters, and the two graphs of a model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import symgraph as sg
from symgraph import nn
from tests.strategies import values

X = values((6, 4), "float64", 0)


def layers() -> dict[str, nn.Layer]:
    """One of each kind, 4 features wide, in float64."""
    slopes = np.array([0.1, 0.2, 0.3, 0.4])
    return {
        "dense": nn.Dense(4, 3, rng=0, bias=values((3,), "float64", 1), dtype="float64"),
        "dense, no bias": nn.Dense(4, 3, sg.tanh, rng=0, bias=None, dtype="float64"),
        "activation": nn.Activation(sg.elu, alpha=0.5),
        "prelu": nn.PReLU(4, slopes, dtype="float64"),
        "norm": nn.LayerNorm(4, dtype="float64"),
        "dropout": nn.Dropout(0.4, rng=3),
        "sequential": nn.Sequential(
            nn.Dense(4, 5, sg.tanh, rng=0, dtype="float64"),
            sg.sigmoid,
            nn.Dense(5, 2, rng=1, dtype="float64"),
        ),
    }


MEANING: dict[str, Callable[..., np.ndarray]] = {
    "dense": lambda x, w, b: x @ w + b,
    "dense, no bias": lambda x, w: np.tanh(x @ w),
    "activation": lambda x: np.where(x > 0, x, 0.5 * np.expm1(x)),
    "prelu": lambda x, a: np.where(x > 0, x, a * x),
    "norm": lambda x, g, b: (
        (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * g + b
    ),
    "dropout": lambda x: x,
    "sequential": lambda x, v, a, w, b: 1 / (1 + np.exp(-np.tanh(x @ v + a))) @ w + b,
}


@pytest.mark.parametrize("name", MEANING)
def test_layer_means_what_it_says(name: str) -> None:
    layer = layers()[name]
    x = sg.array("x", ("n", 4), "float64")
    y = layer(x, deterministic=True)
    wanted = MEANING[name](X, *[w.get_value() for w in layer.parameters()])
    assert y.array_type.shape[1:] == wanted.shape[1:]
    for mode in ("reference", "native"):
        got = sg.function([x], y, mode=mode)(X)
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", MEANING)
def test_gradients_by_finite_differences(name: str) -> None:
    layer = layers()[name]
    parameters = layer.parameters()

    def call(x: sg.Expr, *new: sg.Expr) -> sg.Expr:
        return sg.expr.substitute([layer(x, deterministic=True)], list(zip(parameters, new)))[0]

    sg.verify_grad(call, [X, *[w.get_value() for w in parameters]])


def test_more_leading_axes() -> None:
    x = sg.array("x", ("n", 7, 4), "float64")
    for name in ("dense", "norm", "prelu"):
        shape = layers()[name](x).array_type.shape
        assert len(shape) == 3 and shape[1] == 7


def test_dense_refuses_another_width() -> None:
    layer = nn.Dense(4, 3, rng=0)
    with pytest.raises(sg.ShapeError, match="matmul"):
        layer(sg.array("x", ("n", 5)))


def test_parameters_and_variables_by_path() -> None:
    tied = nn.Dense(4, 4, rng=0)
    model = nn.Sequential(tied, sg.relu, tied, nn.Dropout(0.5, rng=1), nn.LayerNorm(4))
    paths = ["layers.0.weight", "layers.0.bias", "layers.3.stream", "layers.4.gain"]
    assert list(model.variables()) == [*paths, "layers.4.bias"]
    assert [w.name for w in model.parameters()] == [
        "dense.weight",
        "dense.bias",
        "norm.gain",
        "norm.bias",
    ]


def test_representation_names_sizes_and_functions() -> None:
    model = nn.Sequential(nn.Dense(4, 3, sg.tanh, rng=0), nn.Dropout(0.25, rng=0), nn.PReLU(3))
    assert repr(model) == "Sequential(Dense(4 -> 3, tanh), Dropout(0.25), PReLU(3))"
    assert repr(nn.Activation(sg.elu, alpha=0.5)) == "Activation(elu, alpha=0.5)"
    assert len(model) == 3 and model[1] is list(model)[1]


def test_sequential_refuses_what_cannot_be_called() -> None:
    with pytest.raises(sg.GraphError, match="Sequential: part 1 is neither a layer nor a function"):
        nn.Sequential(sg.relu, 3)  # type: ignore[arg-type]


def test_layer_without_call_says_so() -> None:
    class Empty(nn.Layer):
        pass

    with pytest.raises(NotImplementedError, match="Empty lacks __call__"):
        Empty()(sg.vector("x"))


# --- dropout


def dropped(p: float, seed: int, calls: int = 1, mode: str = "native") -> list[np.ndarray]:
    x = sg.array("x", (None, 50))
    f = sg.function([x], nn.Dropout(p, rng=seed)(x), mode=mode)
    return [f(np.ones((400, 50), np.float32)) for _ in range(calls)]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_statistics(p: float) -> None:
    (y,) = dropped(p, seed=11)
    zeros = (y == 0).mean()
    assert zeros == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / y.size))
    assert np.unique(y[y != 0]).tolist() == [np.float32(1 / (1 - p))]
    assert y.mean() == pytest.approx(1, abs=5 * np.sqrt(p / (1 - p) / y.size))


def test_dropout_draws_anew_each_call_and_as_its_seed_says() -> None:
    first, second = dropped(0.5, seed=1, calls=2)
    assert not np.array_equal(first, second)
    again = dropped(0.5, seed=1, calls=2)
    assert np.array_equal(first, again[0]) and np.array_equal(second, again[1])
    assert not np.array_equal(first, dropped(0.5, seed=2)[0])
    assert np.array_equal(first, dropped(0.5, seed=1, mode="reference")[0])


def test_dropout_gradient_uses_the_same_mask() -> None:
    x = sg.array("x", (None, 50))
    y = nn.Dropout(0.5, rng=1)(x)
    value, slope = sg.function([x], [y, sg.grad(y.sum(), x)])(np.ones((40, 50), np.float32))
    assert np.array_equal(value, slope)


def test_deterministic_graph_has_no_random_numbers() -> None:
    x = sg.array("x", (None, 3))
    layer = nn.Dropout(0.5, rng=0)
    assert layer(x, deterministic=True) is x and nn.Dropout(0.0, rng=0)(x) is x
    model = nn.mlp([3, 8, 2], dropout=0.5, rng=0)
    assert not sg.function([x], model(x, deterministic=True)).request.updates
    assert len(sg.function([x], model(x)).request.updates) == 1


def test_dropout_shares_a_stream_and_refuses_wrong_probabilities() -> None:
    stream = sg.RandomStream(4)
    x = sg.array("x", (None, 50))
    a, b = nn.Dropout(0.5, rng=stream)(x), nn.Dropout(0.5, rng=stream)(x)
    one, other = sg.function([x], [a, b])(np.ones((40, 50), np.float32))
    assert not np.array_equal(one, other)
    for p in (1.0, -0.1, "half"):
        with pytest.raises(sg.GraphError, match="Dropout: expected 0 <= p < 1, got"):
            nn.Dropout(p, rng=0)  # type: ignore[arg-type]


def test_mlp_sizes_and_seeds() -> None:
    model = nn.mlp([784, 500, 500, 10], dropout=0.2, rng=0)
    assert [type(x).__name__ for x in model] == ["Dense", "Dropout", "Dense", "Dropout", "Dense"]
    shapes = [w.array_type.shape for w in model.parameters()]
    assert shapes == [(784, 500), (500,), (500, 500), (500,), (500, 10), (10,)]
    same, other = (nn.mlp([5, 4, 3], rng=s).parameters()[0].get_value() for s in (0, 1))
    assert np.array_equal(same, nn.mlp([5, 4, 3], rng=0).parameters()[0].get_value())
    assert not np.array_equal(same, other)
    assert model(sg.matrix("x")).array_type.shape[1] == 10
