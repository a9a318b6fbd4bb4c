"""Convolutional layers: plain, in groups, transposed, and followed by a batch normalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from symgraph.expr import Expr
from symgraph.ops import conv
from symgraph.ops.elementwise import relu
from symgraph.ops.movement import reshape_to

from ..init import Initializer, generator, he_normal, parameter
from .layer import Layer
from .norm import BatchNorm


class Convolution(Layer):
    """Base of convolutional layers: activation(convolution of x and weight + bias).

    x: [n, inputs, *image] -> [n, outputs, *positions], or channels-last with the layout's name.
    window, stride, padding, dilation: an int, or one per axis; padding also as in sg.conv2d.
    weight: initializer, number or array, [*window, inputs / groups, outputs] in either layout, as
    it is read. bias: the same, of the outputs; None: there is none.
    """

    rank: ClassVar[int] = 2
    convolve: ClassVar[Callable[..., Expr]] = conv.conv2d
    transposed: ClassVar[bool] = False

    def __init__(
        self,
        inputs: int,
        outputs: int,
        window: int | Sequence[int],
        stride: Any = 1,
        padding: Any = "valid",
        activation: Callable[[Expr], Expr] | None = None,
        *,
        rng: int | np.random.Generator,
        dilation: Any = 1,
        groups: int = 1,
        weight: Initializer | Any = he_normal,
        bias: Initializer | Any = 0.0,
        layout: str | None = None,
        name: str = "conv",
        dtype: Any = None,
        **options: Any,
    ):
        rng = generator(rng)
        self.layout = layout or f"NC{conv.SPATIAL[self.rank]}"
        conv.layout_of(name, self.rank, self.layout)
        size = conv.per_axis(f"{name}: window", window, self.rank, 1)
        pair = (inputs, outputs // groups) if self.transposed else (outputs, inputs // groups)
        self.activation = activation
        self.options = {
            "stride": stride, "padding": padding, "dilation": dilation, "groups": groups, **options
        }  # fmt: skip
        if callable(weight):  # drawn in the order whose fans are known
            weight = np.moveaxis(weight((*pair, *size), rng), (0, 1), (-1, -2))
        shape = (*size, *pair[::-1])
        self.weight = parameter(weight, shape, rng, f"{name}.weight", dtype)
        self.bias = (
            None if bias is None else parameter(bias, (outputs,), rng, f"{name}.bias", dtype)
        )

    def __call__(self, x: Expr, deterministic: bool = False) -> Expr:
        order = conv.SPATIAL[self.rank] + ("OI" if self.transposed else "IO")
        y = type(self).convolve(x, self.weight, layout=self.layout, kernel=order, **self.options)
        if self.bias is not None:
            y = y + over_channels(self.bias, y.ndim, self.layout)
        return y if self.activation is None else self.activation(y)

    def describe(self) -> str:
        shape = ", ".join(map(str, self.weight.array_type.shape))
        plain = {"stride": 1, "padding": "valid", "dilation": 1, "groups": 1}
        rest = [f"{k}={v}" for k, v in self.options.items() if plain.get(k, 0) != v]
        named = getattr(self.activation, "__name__", None)
        return ", ".join([f"weight [{shape}]", *rest, *([named] if named else [])])


def over_channels(vector: Expr, ndim: int, layout: str) -> Expr:
    """A vector of the channels as an operand that broadcasts over n and the image."""
    if layout.endswith("C"):
        return vector
    return reshape_to(vector, (*vector.array_type.shape, *[1] * (ndim - 2)))


class Conv1d(Convolution):
    __doc__ = Convolution.__doc__
    rank, convolve = 1, conv.conv1d


class Conv2d(Convolution):
    __doc__ = Convolution.__doc__


class Conv3d(Convolution):
    __doc__ = Convolution.__doc__
    rank, convolve = 3, conv.conv3d


class ConvTranspose2d(Convolution):
    """activation(transposed convolution + bias), which enlarges.

    x: [n, inputs, h, w] -> [n, outputs, height, width]; weight [kh, kw, outputs / groups, inputs].
    Arguments as Conv2d's, and output_padding; see sg.conv_transpose2d.
    """

    convolve, transposed = conv.conv_transpose2d, True


class ConvTranspose1d(ConvTranspose2d):
    __doc__ = ConvTranspose2d.__doc__
    rank, convolve = 1, conv.conv_transpose1d


class ConvTranspose3d(ConvTranspose2d):
    __doc__ = ConvTranspose2d.__doc__
    rank, convolve = 3, conv.conv_transpose3d


class Depthwise2d(Conv2d):
    """A convolution of each channel by itself, into `multiplier` channels.

    x: [n, channels, h, w] -> [n, channels * multiplier, ...]. Arguments as Conv2d's.
    """

    def __init__(self, channels: int, window: Any, *args: Any, multiplier: int = 1, **named: Any):
        super().__init__(channels, channels * multiplier, window, *args, groups=channels, **named)


class ConvNorm2d(Layer):
    """activation(batch normalization(convolution without bias)). Arguments as Conv2d's."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        window: Any,
        stride: Any = 1,
        activation: Callable[[Expr], Expr] | None = relu,
        *,
        name: str = "conv",
        dtype: Any = None,
        **named: Any,
    ):
        padding = named.pop("padding", window // 2 if isinstance(window, int) else "same")
        self.conv = Conv2d(
            inputs, outputs, window, stride, padding, bias=None, name=name, dtype=dtype, **named
        )
        axis = -1 if self.conv.layout.endswith("C") else 1
        self.norm = BatchNorm(outputs, axis=axis, name=f"{name}.norm", dtype=dtype)
        self.activation = activation

    def __call__(self, x: Expr, deterministic: bool = False) -> Expr:
        y = self.norm(self.conv(x, deterministic), deterministic)
        return y if self.activation is None else self.activation(y)

    def describe(self) -> str:
        named = getattr(self.activation, "__name__", None)
        return self.conv.describe() + (f", {named}" if named else "")
