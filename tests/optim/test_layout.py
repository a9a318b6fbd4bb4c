"""Chains of convolutions run channels-last inside, with one transpose at either end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.expr import Expr, toposort
from symgraph.leaves import Shared
from symgraph.optim.pipeline import optimize

RNG = np.random.default_rng(0)


class Network:
    """Layers whose parameters are collected."""

    def __init__(self) -> None:
        self.params: list[Shared] = []

    def param(self, *shape: int) -> Shared:
        value = RNG.uniform(0.5, 1.5, shape) / np.sqrt(np.prod(shape[1:]))
        self.params.append(sg.shared(value.astype("float64")))
        return self.params[-1]

    def conv(self, x: Expr, out: int, size: int, stride: int = 1, groups: int = 1) -> Expr:
        w = self.param(out, x.array_type.shape[1] // groups, size, size)
        return sg.conv2d(x, w, stride, size // 2, groups=groups)

    def norm(self, x: Expr) -> Expr:
        """Normalized over the batch, scaled by parameters of the channels."""
        gain, bias = (self.param(x.array_type.shape[1]) for _ in range(2))
        centred = x - sg.mean(x, (0, 2, 3), keepdims=True)
        scale = sg.sqrt(sg.mean(centred * centred, (0, 2, 3), keepdims=True) + 1e-5)
        return centred / scale * gain.reshape((1, -1, 1, 1)) + bias.dimshuffle("x", 0, "x", "x")

    def residual(self, x: Expr, out: int, stride: int) -> Expr:
        y = sg.relu(self.norm(self.conv(x, out, 3, stride)))
        y = self.norm(self.conv(y, out, 3))
        if stride > 1 or x.array_type.shape[1] != out:
            x = self.norm(self.conv(x, out, 1, stride))
        return sg.relu(x + y)


def plain(net: Network, x: Expr) -> Expr:
    return net.conv(sg.relu(net.conv(x, 4, 3)), 5, 3, 2)


def residual(net: Network, x: Expr) -> Expr:
    y = sg.max_pool(sg.relu(net.norm(net.conv(x, 4, 5, 2))), 3, 2, 1)
    for out, stride in ((4, 1), (8, 2), (8, 1)):
        y = net.residual(y, out, stride)
    return sg.global_avg_pool(y) @ net.param(8, 3)


def branches(net: Network, x: Expr) -> Expr:
    """Joins, depthwise, padding, slices, gates."""
    y = sg.concatenate([sg.relu(net.conv(x, 4, 1)), sg.tanh(net.conv(x, 2, 3))], 1)
    y = sg.relu6(net.conv(y, 6, 3, groups=6))
    y = sg.pad(y, [(0, 0), (0, 0), (1, 2), (0, 1)])[:, :, 1:]
    gate = sg.sigmoid(sg.global_avg_pool(y) @ net.param(6, 6))
    return sg.avg_pool(net.conv(y * gate[:, :, None, None], 3, 3), 2)


def enlarged(net: Network, x: Expr) -> Expr:
    """Down and up again, by repetition and between neighbours."""
    y = sg.relu(net.conv(x, 4, 3, 2))
    z = sg.relu(net.conv(sg.resize(net.conv(y, 4, 3, 2), 6), 4, 3))
    return net.conv(sg.resize(sg.concatenate([y, z], 1), (12, 12), "linear"), 2, 3)


def flat(net: Network, x: Expr) -> Expr:
    """A dense layer behind the last pool, a mask behind the first convolution."""
    y = net.conv(x, 4, 3)
    mask = sg.array("mask", y.array_type.shape, "float64")
    y = sg.max_pool(sg.relu(net.conv(y * mask, 5, 3)), 2)
    return sg.reshape(y, (2, -1)) @ net.param(5 * 6 * 6, 3)


def image_transposes(outputs: Sequence[Expr]) -> list[Expr]:
    """Transposes of images; those of kernels, [h, w, in, out], stay where they are."""
    kernels = {(2, 3, 1, 0), (3, 2, 0, 1)}
    found = [n for n in toposort(outputs) if n.op.name == "transpose" and n.ndim == 4]
    return [n for n in found if n.op.axes not in kernels]  # type: ignore[attr-defined]


Build = Callable[[Network, Any], Expr]
#: forward, and with the gradients of all parameters
ALLOWED: list[tuple[Build, int, int]] = [
    (plain, 2, 2),
    (residual, 1, 1),
    (branches, 2, 2),
    (flat, 3, 4),
    (enlarged, 2, 2),
]


@pytest.mark.parametrize(
    ("build", "forward", "training"), ALLOWED, ids=lambda x: getattr(x, "__name__", str(x))
)
def test_transposes_are_at_the_ends(build: Build, forward: int, training: int) -> None:
    net = Network()
    x = sg.array("x", (2, 3, 12, 12), "float64")
    y = build(net, x)
    gradients = sg.grad((y * y).sum(), net.params)
    inputs = [n for n in toposort([y]) if n.op.name == "input"]
    values = {n: RNG.normal(size=n.array_type.shape) for n in inputs}
    for outputs, count in (([y], forward), ([y, *gradients], training)):
        better, journal = optimize(outputs)
        assert not journal.exhausted
        assert len(image_transposes(better)) == count < len(image_transposes(outputs))
        for got, want in zip(sg.evaluate(better, values), sg.evaluate(outputs, values)):
            scale = np.abs(want).max()
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-11 * scale)


def test_nothing_moves_without_a_convolution() -> None:
    x, y = (sg.array(n, (2, 5, 4, 3)) for n in "xy")
    turned, other = (sg.transpose(z, (0, 3, 1, 2)) for z in (x, y))
    for node in (
        sg.exp(turned) + other,
        sg.max_pool(turned, 2),
        sg.concatenate([turned, other], 1),
        sg.pad(turned, 1),
    ):
        better, journal = optimize([node])
        assert not any(f.family == "canonicalize" and "transpose" in f.rule for f in journal)
        assert better == [node]


def test_the_users_channels_last_stays() -> None:
    x, w = sg.array("x", ("n", "h", "w", 3)), sg.array("w", (3, 3, 3, 4))
    y = sg.max_pool(sg.relu(sg.conv2d(x, w, layout="NHWC")), 2, layout="NHWC")
    better, _ = optimize([y])
    assert not image_transposes(better)


def test_symbolic_sizes() -> None:
    net = Network()
    x = sg.array("x", ("n", 3, "h", "w"), "float64")
    y = residual(net, x)
    assert len(image_transposes(optimize([y])[0])) == 1


def test_explain_says_what_is_transposed() -> None:
    net = Network()
    x = sg.array("x", (1, 3, 6, 6), "float64")
    lines = sg.function([x], plain(net, x)).explain().splitlines()
    first, second = (line for line in lines if line.startswith("convolution, channels last:"))
    assert "x float64[1, 6, 6, 3] transposed, w float64[3, 3, 3, 4] transposed" in first
    assert "-> y float64[1, 6, 6, 4]   " in first and "test_layout.py" in first
    assert "x float64[1, 6, 6, 4], w" in second
    assert "-> y float64[1, 3, 3, 5], then transposed to float64[1, 5, 3, 3]" in second
