"""Residual networks of 18, 34 and 50 layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from symgraph.expr import Expr
from symgraph.ops.elementwise import relu

from ..init import generator
from ..layers import ConvNorm2d, Dense, GlobalPool, Layer, MaxPool, Sequential


class Residual(Layer):
    """relu(body(x) + x), x convolved by 1 x 1 where shapes differ.   [n, c, h, w] -> [n, d, ...]"""

    def __init__(self, body: Sequential, shortcut: ConvNorm2d | None):
        self.body, self.shortcut = body, shortcut

    def __call__(self, x: Expr, deterministic: bool = False) -> Expr:
        y = self.body(x, deterministic)
        return relu(y + (x if self.shortcut is None else self.shortcut(x, deterministic)))

    def describe(self) -> str:
        return repr(self.body)


def basic(inputs: int, width: int, stride: int, **named: Any) -> tuple[Sequential, int]:
    """Two 3 x 3 convolutions, and their outputs."""
    first = ConvNorm2d(inputs, width, 3, stride, **named)
    return Sequential(first, ConvNorm2d(width, width, 3, 1, None, **named)), width


def bottleneck(inputs: int, width: int, stride: int, **named: Any) -> tuple[Sequential, int]:
    """1 x 1 to fewer channels, 3 x 3 (which has the stride), 1 x 1 to four times as many."""
    layers = (
        ConvNorm2d(inputs, width, 1, **named),
        ConvNorm2d(width, width, 3, stride, **named),
        ConvNorm2d(width, 4 * width, 1, 1, None, **named),
    )
    return Sequential(*layers), 4 * width


def _resnet(
    block: Any, depths: tuple[int, ...], classes: int, rng: Any, **named: Any
) -> Sequential:
    named = {"rng": generator(rng), **named}
    layers: list[Layer] = [ConvNorm2d(3, 64, 7, 2, **named), MaxPool(3, 2, 1)]
    inputs = 64
    for stage, depth in enumerate(depths):
        for i in range(depth):
            stride = 2 if stage and not i else 1
            body, outputs = block(inputs, 64 << stage, stride, **named)
            same = stride == 1 and inputs == outputs
            shortcut = None if same else ConvNorm2d(inputs, outputs, 1, stride, None, **named)
            layers.append(Residual(body, shortcut))
            inputs = outputs
    return Sequential(*layers, GlobalPool(), Dense(inputs, classes, name="output", **named))


def resnet18(classes: int = 1000, *, rng: int | np.random.Generator, **options: Any) -> Sequential:
    """x: [n, 3, h, w] -> scores [n, classes]; 11,689,512 parameters.

    options: of the layers, as dtype and weight.   Source: He et al. 2016, table 1, shortcuts B.
    """
    return _resnet(basic, (2, 2, 2, 2), classes, rng, **options)


def resnet34(classes: int = 1000, *, rng: int | np.random.Generator, **options: Any) -> Sequential:
    """As resnet18, deeper; 21,797,672 parameters."""
    return _resnet(basic, (3, 4, 6, 3), classes, rng, **options)


def resnet50(classes: int = 1000, *, rng: int | np.random.Generator, **options: Any) -> Sequential:
    """As resnet18, of bottlenecks with the stride in their 3 x 3; 25,557,032 parameters."""
    return _resnet(bottleneck, (3, 4, 6, 3), classes, rng, **options)
