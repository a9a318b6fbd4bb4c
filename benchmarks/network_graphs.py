"""The networks of nn.models told to other libraries: one walk over the layers, one writer for each.

A writer says what a convolution, a product and so on are in its library; `told` goes through a
model's layers in order and calls it. For inference the batch normalizations are folded into the
convolutions before them, as every deployment does. Images are handed over as [n, c, h, w].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import symgraph as sg
from symgraph import nn
from symgraph.leaves import Shared
from symgraph.nn.layers import (
    Activation,
    Conv2d,
    ConvNorm2d,
    Dense,
    Dropout,
    Flatten,
    GlobalPool,
    MaxPool,
    Sequential,
)
from symgraph.nn.models.mobilenet import InvertedResidual
from symgraph.nn.models.resnet import Residual

SEED = 20240229


class Network(NamedTuple):
    """A model, the shape of one input, and the multiplications that one input takes.

    first: those of the first layer, whose input has no gradient.
    """

    name: str
    make: Callable[..., Sequential]
    image: tuple[int, ...]
    products: float
    first: float


NETWORKS = {
    network.name: network
    for network in (
        Network("ResNet-18", nn.resnet18, (3, 224, 224), 1.814e9, 118e6),
        Network("ResNet-50", nn.resnet50, (3, 224, 224), 4.089e9, 118e6),
        Network("VGG-16", nn.vgg16, (3, 224, 224), 15.47e9, 86.7e6),
        Network("MobileNet-V2", nn.mobilenet_v2, (3, 224, 224), 0.301e9, 10.8e6),
        Network("LeNet-5", nn.lenet5, (1, 28, 28), 416_520, 117_600),
        Network(
            "MLP 784-500-500-10", lambda **o: nn.mlp([784, 500, 500, 10], **o), (784,), 647e3, 392e3
        ),
    )
}


def model(network: Network, settled: bool = True) -> Sequential:
    """The network with the weights that everybody gets.

    settled: with running statistics and gains as training leaves them, not those of the beginning,
    so that folding them wrongly is seen.
    """
    made = network.make(rng=SEED)
    random = np.random.default_rng(SEED)
    for name, w in made.variables().items() if settled else ():
        value = w.get_value()
        if name.endswith("variance"):
            w.set_value(random.uniform(0.8, 1.6, value.shape).astype(value.dtype))
        elif name.endswith("gain"):
            w.set_value(random.uniform(0.5, 1.0, value.shape).astype(value.dtype))
        elif value.ndim == 1:  # biases and means
            w.set_value(random.normal(0, 0.1, value.shape).astype(value.dtype))
    return made


def batch_of(network: Network, batch: int, random: np.random.Generator) -> np.ndarray:
    return random.standard_normal((batch, *network.image)).astype(np.float32)


# ---------------------------------------------------------------------------------------- the walk


class Writer:
    """What a library calls the parts. x and results are values of its own kind.

    activation: None, "relu" or "relu6". Weights come as variables of ours: [h, w, in / groups, out]
    for convolutions, [in, out] for products.
    """

    def __init__(self) -> None:
        self.folded: dict[ConvNorm2d, tuple[np.ndarray, np.ndarray]] = {}

    def conv(self, x: Any, w: Any, b: Any, options: dict[str, int], activation: Any) -> Any:
        raise NotImplementedError

    def dense(self, x: Any, w: Any, b: Any, activation: Any) -> Any:
        raise NotImplementedError

    def max_pool(self, x: Any, window: int, stride: int, padding: int) -> Any:
        raise NotImplementedError

    def mean(self, x: Any) -> Any:
        raise NotImplementedError

    def flatten(self, x: Any) -> Any:
        raise NotImplementedError

    def add(self, x: Any, y: Any, activation: Any) -> Any:
        raise NotImplementedError

    def conv_norm(self, x: Any, layer: ConvNorm2d) -> Any:
        if layer not in self.folded:
            self.folded[layer] = folded(layer)
        return self.conv(x, *self.folded[layer], options(layer.conv), activation(layer))


def told(layer: Any, x: Any, writer: Writer) -> Any:
    """The result of a layer for x, in the writer's words."""
    return _TOLD[type(layer)](layer, x, writer)


def activation(layer: Any) -> str | None:
    """The name of a layer's activation."""
    if layer.activation is None:
        return None
    name: str = layer.activation.__name__
    assert name in ("relu", "relu6"), name
    return name


def options(conv: Conv2d) -> dict[str, int]:
    """Stride, padding and groups as single numbers."""
    padding = conv.options["padding"]
    return {
        "stride": conv.options["stride"],
        "padding": 0 if padding == "valid" else padding,
        "groups": conv.options["groups"],
    }


def folded(layer: ConvNorm2d) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of the one convolution that does both."""
    norm = layer.norm
    gain, bias, mean, variance = (
        v.get_value().astype(np.float64) for v in (norm.gain, norm.bias, norm.mean, norm.variance)
    )
    scale = gain / np.sqrt(variance + norm.epsilon)
    weight = layer.conv.weight.get_value() * scale
    return weight.astype(np.float32), (bias - mean * scale).astype(np.float32)


def _sequential(layer: Sequential, x: Any, writer: Writer) -> Any:
    for part in layer:
        x = told(part, x, writer)
    return x


def _residual(layer: Residual, x: Any, writer: Writer) -> Any:
    shortcut = x if layer.shortcut is None else told(layer.shortcut, x, writer)
    return writer.add(told(layer.body, x, writer), shortcut, "relu")


def _inverted(layer: InvertedResidual, x: Any, writer: Writer) -> Any:
    y = told(layer.body, x, writer)
    return writer.add(x, y, None) if layer.residual else y


def _pool(layer: MaxPool, x: Any, writer: Writer) -> Any:
    window, padding = layer.options["window"], layer.options["padding"]
    stride = layer.options["stride"] or window
    return writer.max_pool(x, window, stride, 0 if padding == "valid" else padding)


_TOLD: dict[type, Callable[[Any, Any, Writer], Any]] = {
    Sequential: _sequential,
    Residual: _residual,
    InvertedResidual: _inverted,
    ConvNorm2d: lambda layer, x, writer: writer.conv_norm(x, layer),
    Conv2d: lambda layer, x, writer: writer.conv(
        x, layer.weight, layer.bias, options(layer), activation(layer)
    ),
    Dense: lambda layer, x, writer: writer.dense(x, layer.weight, layer.bias, activation(layer)),
    MaxPool: _pool,
    GlobalPool: lambda layer, x, writer: writer.mean(x),
    Flatten: lambda layer, x, writer: writer.flatten(x),
    Dropout: lambda layer, x, writer: x,
    # VGG's adaptive mean, which leaves images of 7 x 7 as they are
    Activation: lambda layer, x, writer: x,
}


def value(w: Any) -> np.ndarray:
    """The array of a variable, or the array."""
    return w.get_value(borrow=True) if isinstance(w, Shared) else w


def outer_first(w: np.ndarray) -> np.ndarray:
    """A convolution's weight as [out, in / groups, h, w]."""
    return np.ascontiguousarray(w.transpose(3, 2, 0, 1))


# ------------------------------------------------------------------------------------------- torch


class TorchWriter(Writer):
    """Calls of torch.nn.functional; `hold` turns weights into tensors, once each."""

    def __init__(self, hold: Callable[[np.ndarray], Any]):
        import torch

        super().__init__()
        self.torch, self.functional = torch, torch.nn.functional
        self.hold = hold
        self.held: dict[int, tuple[Any, Any]] = {}

    def tensor(self, w: Any) -> Any:
        if id(w) not in self.held:
            array = value(w)
            self.held[id(w)] = self.hold(outer_first(array) if array.ndim == 4 else array), w
        return self.held[id(w)][0]

    def active(self, x: Any, name: str | None) -> Any:
        return x if name is None else getattr(self.functional, name)(x)

    def conv(self, x: Any, w: Any, b: Any, options: dict[str, int], activation: Any) -> Any:
        bias = None if b is None else self.tensor(b)
        y = self.functional.conv2d(x, self.tensor(w), bias, **options)
        return self.active(y, activation)

    def dense(self, x: Any, w: Any, b: Any, activation: Any) -> Any:
        return self.active(self.torch.addmm(self.tensor(b), x, self.tensor(w)), activation)

    def max_pool(self, x: Any, window: int, stride: int, padding: int) -> Any:
        return self.functional.max_pool2d(x, window, stride, padding)

    def mean(self, x: Any) -> Any:
        return x.mean((2, 3))

    def flatten(self, x: Any) -> Any:
        return x.flatten(1)

    def add(self, x: Any, y: Any, activation: Any) -> Any:
        return self.active(x + y, activation)


class TorchTrainer(TorchWriter):
    """The same for training: normalizations take the batch's statistics and move the running."""

    def conv_norm(self, x: Any, layer: ConvNorm2d) -> Any:
        y = self.conv(x, layer.conv.weight, None, options(layer.conv), None)
        norm = layer.norm
        running = [self.tensor(v).detach() for v in (norm.mean, norm.variance)]
        gain, bias = self.tensor(norm.gain), self.tensor(norm.bias)
        y = self.functional.batch_norm(y, *running, gain, bias, True, norm.momentum, norm.epsilon)
        return self.active(y, activation(layer))


# --------------------------------------------------------------------------------------------- jax


class JaxWriter(Writer):
    """jax.lax in channels-last order; `parameters` holds arrays by the variables' ids."""

    def __init__(self, parameters: dict[int, Any] | None = None):
        import jax

        super().__init__()
        self.jax, self.np = jax, jax.numpy
        self.parameters = parameters or {}
        self.moved: dict[int, Any] = {}

    def array(self, w: Any) -> Any:
        return self.parameters[id(w)] if id(w) in self.parameters else self.np.asarray(value(w))

    def active(self, x: Any, name: str | None) -> Any:
        return x if name is None else getattr(self.jax.nn, name)(x)

    def conv(self, x: Any, w: Any, b: Any, options: dict[str, int], activation: Any) -> Any:
        y = self.jax.lax.conv_general_dilated(
            *(x, self.array(w), (options["stride"],) * 2, ((options["padding"],) * 2,) * 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=options["groups"],
        )
        return self.active(y if b is None else y + self.array(b), activation)

    def dense(self, x: Any, w: Any, b: Any, activation: Any) -> Any:
        return self.active(x @ self.array(w) + self.array(b), activation)

    def max_pool(self, x: Any, window: int, stride: int, padding: int) -> Any:
        size, step = (1, window, window, 1), (1, stride, stride, 1)
        around = ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0))
        return self.jax.lax.reduce_window(x, -self.np.inf, self.jax.lax.max, size, step, around)

    def mean(self, x: Any) -> Any:
        return x.mean((1, 2))

    def flatten(self, x: Any) -> Any:
        return x.transpose(0, 3, 1, 2).reshape(len(x), -1) if x.ndim == 4 else x

    def add(self, x: Any, y: Any, activation: Any) -> Any:
        return self.active(x + y, activation)


class JaxTrainer(JaxWriter):
    """The same for training; `moved` collects the running statistics."""

    def conv_norm(self, x: Any, layer: ConvNorm2d) -> Any:
        y = self.conv(x, layer.conv.weight, None, options(layer.conv), None)
        norm, count = layer.norm, y.size // y.shape[-1]
        mean, variance = y.mean((0, 1, 2)), y.var((0, 1, 2))
        for kept, new in ((norm.mean, mean), (norm.variance, variance * count / (count - 1))):
            old = self.array(kept)
            self.moved[id(kept)] = old + norm.momentum * (new - old)
        scale = self.array(norm.gain) * self.jax.lax.rsqrt(variance + norm.epsilon)
        y = (y - mean) * scale + self.array(norm.bias)
        return self.active(y, activation(layer))


# ------------------------------------------------------------------------------------ ours, trained


def training_step(network: Network, batch: int, rate: float) -> Any:
    """Our step of plain gradient descent: f(x, labels) -> the cost."""
    net = model(network, settled=False)
    x = sg.array("x", (batch, *network.image))
    labels = sg.array("labels", (batch,), "int64")
    cost = nn.cross_entropy(net(x), labels)
    updates = [*nn.SGD(rate).minimize(cost, net.parameters()), *net.updates()]
    return sg.function([x, labels], cost, updates=updates)
