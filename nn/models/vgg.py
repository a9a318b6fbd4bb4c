"""VGG-16: thirteen 3 x 3 convolutions in five stages, and three dense layers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from symgraph.ops.elementwise import relu
from symgraph.ops.pool import adaptive_avg_pool

from ..init import generator
from ..layers import Activation, Conv2d, Dense, Dropout, Flatten, Layer, MaxPool, Sequential

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg16(
    classes: int = 1000,
    *,
    dropout: float = 0.5,
    rng: int | np.random.Generator,
    **options: Any,
) -> Sequential:
    """x: [n, 3, h, w], 224 x 224 in the source -> scores [n, classes].

    138,357,544 parameters, 15.5 billion multiplications at 224 x 224. Images of other sizes are
    averaged to 7 x 7 before the dense layers. options: of the layers, as dtype and weight.
    Source: Simonyan and Zisserman 2015, table 1, configuration D.
    """
    rng = generator(rng)
    layers: list[Layer] = []
    inputs = 3
    for i, widths in enumerate(STAGES, 1):
        for j, width in enumerate(widths, 1):
            named = {"rng": rng, "name": f"conv{i}_{j}", **options}
            layers.append(Conv2d(inputs, width, 3, padding=1, activation=relu, **named))
            inputs = width
        layers.append(MaxPool(2))
    layers += [Activation(partial(adaptive_avg_pool, size=7)), Flatten()]
    for k, (rows, width) in enumerate(((25088, 4096), (4096, 4096)), 1):
        layers.append(Dense(rows, width, relu, rng=rng, name=f"dense{k}", **options))
        if dropout:
            layers.append(Dropout(dropout, rng=rng))
    return Sequential(*layers, Dense(4096, classes, rng=rng, name="output", **options))
