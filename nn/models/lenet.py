"""LeNet-5: two convolutions and three dense layers for images of digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from symgraph.expr import Expr
from symgraph.ops.elementwise import relu

from ..init import generator
from ..layers import Conv2d, Dense, Flatten, MaxPool, Sequential


def lenet5(
    classes: int = 10,
    activation: Callable[[Expr], Expr] = relu,
    *,
    rng: int | np.random.Generator,
    **options: Any,
) -> Sequential:
    """x: [n, 1, 28, 28] -> scores [n, classes].

    61,706 parameters for 10 classes: the 28 x 28 form, whose zeros around the image stand for the
    32 x 32 of the source, with all channels connected and maxima for its trained averages.
    options: of the layers, as dtype and weight.
    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning ...", 1998, section II.B.
    """
    rng = generator(rng)
    return Sequential(
        Conv2d(1, 6, 5, padding=2, activation=activation, rng=rng, name="conv1", **options),
        MaxPool(2),
        Conv2d(6, 16, 5, activation=activation, rng=rng, name="conv2", **options),
        MaxPool(2),
        Flatten(),
        Dense(400, 120, activation, rng=rng, name="dense1", **options),
        Dense(120, 84, activation, rng=rng, name="dense2", **options),
        Dense(84, classes, rng=rng, name="output", **options),
    )
