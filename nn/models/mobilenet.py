"""MobileNet-V2: inverted residuals, whose 3 x 3 convolutions are depthwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from symgraph.expr import Expr
from symgraph.ops.elementwise import relu6

from ..init import generator
from ..layers import ConvNorm2d, Dense, Dropout, GlobalPool, Layer, Sequential

#: how much the channels are expanded, channels, blocks, stride of the first
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(Layer):
    """1 x 1 to more channels, depthwise 3 x 3, 1 x 1 to few, plus x where shapes agree.

    x: [n, inputs, h, w] -> [n, outputs, ...]
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, **named: Any):
        wide = inputs * expansion
        expand = [ConvNorm2d(inputs, wide, 1, 1, relu6, **named)] if expansion > 1 else []
        self.body = Sequential(
            *expand,
            ConvNorm2d(wide, wide, 3, stride, relu6, groups=wide, **named),
            ConvNorm2d(wide, outputs, 1, 1, None, **named),
        )
        self.residual = stride == 1 and inputs == outputs

    def __call__(self, x: Expr, deterministic: bool = False) -> Expr:
        y = self.body(x, deterministic)
        return x + y if self.residual else y

    def describe(self) -> str:
        return repr(self.body)


def mobilenet_v2(
    classes: int = 1000, *, dropout: float = 0.2, rng: int | np.random.Generator, **options: Any
) -> Sequential:
    """x: [n, 3, h, w], 224 x 224 in the source -> scores [n, classes].

    3,504,872 parameters, 300 million multiplications at 224 x 224. options: of the layers, as dtype
    and weight.   Source: Sandler et al. 2018, table 2.
    """
    named: dict[str, Any] = {"rng": generator(rng), **options}
    layers: list[Layer] = [ConvNorm2d(3, 32, 3, 2, relu6, **named)]
    inputs = 32
    for expansion, outputs, blocks, stride in STAGES:
        for i in range(blocks):
            step = stride if i == 0 else 1
            layers.append(InvertedResidual(inputs, outputs, step, expansion, **named))
            inputs = outputs
    layers += [ConvNorm2d(inputs, 1280, 1, 1, relu6, **named), GlobalPool()]
    if dropout:
        layers.append(Dropout(dropout, rng=named["rng"]))
    return Sequential(*layers, Dense(1280, classes, name="output", **named))
