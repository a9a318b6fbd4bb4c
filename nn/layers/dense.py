"""The fully connected layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from symgraph.expr import Expr

from ..init import Initializer, generator, glorot_uniform, parameter
from .layer import Layer


class Dense(Layer):
    """activation(x @ weight + bias).   x: [..., inputs] -> [..., outputs].

    weight, bias: initializer, number or array (bias None: there is none). rng: a seed or a
    generator for the initial values. activation: a function of an expression.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        activation: Callable[[Expr], Expr] | None = None,
        *,
        rng: int | np.random.Generator,
        weight: Initializer | Any = glorot_uniform,
        bias: Initializer | Any = 0.0,
        name: str = "dense",
        dtype: Any = None,
    ):
        rng = generator(rng)
        self.activation = activation
        self.weight = parameter(weight, (inputs, outputs), rng, f"{name}.weight", dtype)
        self.bias = (
            None if bias is None else parameter(bias, (outputs,), rng, f"{name}.bias", dtype)
        )

    def __call__(self, x: Expr, deterministic: bool = False) -> Expr:
        y = x @ self.weight
        if self.bias is not None:
            y = y + self.bias
        return y if self.activation is None else self.activation(y)

    def describe(self) -> str:
        sizes = " -> ".join(map(str, self.weight.array_type.shape))
        named = getattr(self.activation, "__name__", None)
        return sizes + (f", {named}" if named else "")
