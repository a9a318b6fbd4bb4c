"""Layers of images: options, layouts, batch normalization and its running statistics."""

from __future__ import annotations

import numpy as np
import pytest

import symgraph as sg
from symgraph import nn
from tests.strategies import values

IMAGE = values((2, 3, 6, 5), "float64", 0)


def last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 1, -1)


def test_convolution_is_the_function_plus_bias() -> None:
    layer = nn.Conv2d(
        3, 4, (3, 2), 2, 1, sg.tanh, rng=0, dilation=1, bias=values((4,), "float64", 1),
        dtype="float64",
    )  # fmt: skip
    w, b = (v.get_value() for v in layer.parameters())
    assert w.shape == (3, 2, 3, 4)
    got = sg.evaluate(layer(sg.constant(IMAGE)))
    want = np.tanh(sg.evaluate(sg.conv2d(IMAGE, w, 2, 1, kernel="HWIO")) + b[:, None, None])
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("groups", [1, 3])
def test_channels_last_holds_the_same_weights(groups: int) -> None:
    common = {"rng": 5, "groups": groups, "padding": "same", "dtype": "float64"}
    plain, turned = nn.Conv2d(3, 6, 3, **common), nn.Conv2d(3, 6, 3, layout="NHWC", **common)
    assert turned.weight.array_type.shape == (3, 3, 3 // groups, 6)
    np.testing.assert_array_equal(turned.weight.get_value(), plain.weight.get_value())
    want = sg.evaluate(plain(sg.constant(IMAGE)))
    got = sg.evaluate(turned(sg.constant(last(IMAGE))))
    np.testing.assert_allclose(got, last(want), rtol=1e-12, atol=1e-12)


def test_initial_values_have_the_variance_of_their_fans() -> None:
    weight = nn.Conv2d(64, 128, 5, rng=0).weight.get_value()
    assert weight.std() == pytest.approx(np.sqrt(2 / (64 * 25)), rel=0.01)
    weight = nn.ConvTranspose2d(64, 128, 5, rng=0, weight=nn.init.glorot_normal).weight.get_value()
    assert weight.std() == pytest.approx(np.sqrt(2 / ((64 + 128) * 25)), rel=0.01)


def test_every_rank_and_direction() -> None:
    for rank, (down, up) in {
        1: (nn.Conv1d, nn.ConvTranspose1d),
        2: (nn.Conv2d, nn.ConvTranspose2d),
        3: (nn.Conv3d, nn.ConvTranspose3d),
    }.items():
        x = sg.array("x", ("n", 3, *[8] * rank))
        y = down(3, 4, 4, 2, 1, rng=0)(x)
        assert y.array_type.shape[1:] == (4, *[4] * rank)
        back = up(4, 3, 4, 2, 1, rng=0)
        assert back.weight.array_type.shape == (*[4] * rank, 3, 4)
        assert back(y).array_type.shape[1:] == (3, *[8] * rank)


def test_depthwise_takes_each_channel_by_itself() -> None:
    layer = nn.Depthwise2d(3, 3, padding=1, multiplier=2, rng=0, bias=None, dtype="float64")
    got = sg.evaluate(layer(sg.constant(IMAGE)))
    w = layer.weight.get_value()
    for c in range(3):
        kernel = w[..., 2 * c : 2 * c + 2]
        want = sg.evaluate(sg.conv2d(IMAGE[:, c : c + 1], kernel, padding=1, kernel="HWIO"))
        np.testing.assert_allclose(got[:, 2 * c : 2 * c + 2], want, rtol=1e-12, atol=1e-13)


def test_pools_and_flatten() -> None:
    x = sg.constant(IMAGE)
    same = [
        (nn.MaxPool(2), sg.max_pool(x, 2)),
        (nn.MaxPool(3, 2, 1), sg.max_pool(x, 3, 2, 1)),
        (nn.AvgPool(2, ceil_mode=True), sg.avg_pool(x, 2, ceil_mode=True)),
        (nn.GlobalPool(), sg.mean(x, (2, 3))),
        (nn.GlobalPool(largest=True), sg.max(x, (2, 3))),
        (nn.Flatten(), sg.reshape(x, (2, 90))),
    ]
    for layer, want in same:
        np.testing.assert_array_equal(*sg.evaluate([layer(x), want]))


def test_embedding_reads_rows() -> None:
    layer = nn.Embedding(5, 3, rng=0)
    ids = np.array([[4, 0], [2, 2]])
    got = sg.evaluate(layer(sg.constant(ids)))
    np.testing.assert_array_equal(got, layer.weight.get_value()[ids])


@pytest.mark.parametrize("axis", [1, -1])
def test_batch_norm_moves_its_statistics_when_training(axis: int) -> None:
    layer = nn.BatchNorm(3, axis=axis, dtype="float64")
    layer.gain.set_value(np.array([1.0, 2.0, 3.0]))
    layer.bias.set_value(np.array([0.5, 0.0, -0.5]))
    shape = ("n", 3, 6, 5) if axis == 1 else ("n", 6, 5, 3)
    x = sg.array("x", shape, "float64")
    assert layer.updates() == []
    y = layer(x)
    step = sg.function([x], y, updates=layer.updates())
    value = IMAGE if axis == 1 else last(IMAGE)
    first = value if axis == 1 else np.moveaxis(value, -1, 1)
    mean, variance = first.mean((0, 2, 3)), first.var((0, 2, 3))
    got = step(value)
    got = got if axis == 1 else np.moveaxis(got, -1, 1)

    def along(v: np.ndarray) -> np.ndarray:
        return np.asarray(v).reshape(-1, 1, 1)

    def normalized(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
        scale = along([1.0, 2.0, 3.0]) / np.sqrt(along(variance) + 1e-5)
        return (first - along(mean)) * scale + along([0.5, 0.0, -0.5])

    np.testing.assert_allclose(got, normalized(mean, variance), rtol=1e-11, atol=1e-12)
    unbiased = variance * 60 / 59
    np.testing.assert_allclose(layer.mean.get_value(), 0.1 * mean, rtol=1e-12)
    np.testing.assert_allclose(layer.variance.get_value(), 0.9 + 0.1 * unbiased, rtol=1e-12)
    used = sg.function([x], layer(x, deterministic=True))(value)
    used = used if axis == 1 else np.moveaxis(used, -1, 1)
    want = normalized(layer.mean.get_value(), layer.variance.get_value())
    np.testing.assert_allclose(used, want, rtol=1e-11, atol=1e-12)


def test_batch_norm_gradient() -> None:
    layer = nn.BatchNorm(3, dtype="float64")

    def call(x: sg.Expr, gain: sg.Expr, bias: sg.Expr) -> sg.Expr:
        return sg.expr.substitute([layer(x)], [(layer.gain, gain), (layer.bias, bias)])[0]

    sg.verify_grad(call, [IMAGE, np.array([1.0, 2.0, 0.5]), np.zeros(3)])


def test_batch_norm_gradient_of_the_gradient() -> None:
    """The one formula for the derivative has the derivative that the steps have."""

    def slope(x: sg.Expr, one_formula: bool) -> sg.Expr:
        if one_formula:
            y = nn.BatchNorm(3, dtype="float64")(x)
        else:
            offsets = x - x.mean((0, 2, 3), keepdims=True)
            y = offsets / sg.sqrt((offsets * offsets).mean((0, 2, 3), keepdims=True) + 1e-5)
        return sg.grad((sg.sin(y) * sg.constant(IMAGE)).sum(), x)

    x = sg.array("x", IMAGE.shape, "float64")
    for of in (lambda s: s, lambda s: sg.grad((s * s * s).sum(), x)):
        got, want = (sg.function([x], of(slope(x, how)))(IMAGE) for how in (True, False))
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9 * abs(want).max())


def test_statistics_are_variables_but_no_parameters() -> None:
    model = nn.Sequential(nn.ConvNorm2d(3, 4, 3, rng=0), nn.Sequential(nn.BatchNorm(4)))
    names = set(model.variables())
    assert {"layers.0.norm.mean", "layers.0.norm.variance", "layers.1.layers.0.mean"} <= names
    assert len(model.parameters()) == 5 and len(names) == 9
    x = sg.array("x", ("n", 3, 6, 6))
    model(x, deterministic=True)
    assert model.updates() == []
    model(x)
    assert [w.label for w, _ in model.updates()] == [
        "conv.norm.mean", "conv.norm.variance", "norm.mean", "norm.variance"
    ]  # fmt: skip


def test_batch_norm_of_halves_keeps_float32_statistics() -> None:
    layer = nn.BatchNorm(2, dtype="float16")
    x = np.full((1000, 2), 100, "float16")
    y = layer(sg.constant(x))
    assert y.dtype == "float16" and layer.mean.dtype == "float32"
    sg.function([], y, updates=layer.updates())()
    np.testing.assert_allclose(layer.mean.get_value(), 10, rtol=1e-6)
