"""The multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from symgraph.expr import Expr
from symgraph.ops.elementwise import relu

from ..init import generator, glorot_uniform, he_normal
from ..layers import Dense, Dropout, Layer, Sequential


def mlp(
    sizes: Sequence[int],
    activation: Callable[[Expr], Expr] = relu,
    *,
    dropout: float = 0.0,
    rng: int | np.random.Generator,
) -> Sequential:
    """Dense layers of the given sizes with activations, and dropout, between them.

    mlp([784, 500, 500, 10], rng=0) takes x: [n, 784] to scores: [n, 10].
    """
    rng = generator(rng)
    layers: list[Layer] = []
    last = len(sizes) - 2
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        hidden = i < last
        layers.append(
            Dense(
                inputs,
                outputs,
                activation if hidden else None,
                weight=he_normal if hidden else glorot_uniform,
                rng=rng,
                name=f"hidden{i + 1}" if hidden else "output",
            )
        )
        if hidden and dropout:
            layers.append(Dropout(dropout, rng=rng))
    return Sequential(*layers)
