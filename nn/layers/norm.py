"""Normalization layers."""

from __future__ import annotations

from typing import Any

from symgraph.expr import Expr
from symgraph.ops.nnet import layer_norm

from ..init import parameter
from .layer import Layer


class LayerNorm(Layer):
    """Each row to mean 0 and variance 1 over its features, then gain * x + bias.

    x: [..., features] -> the same.   Source: Ba, Kiros, Hinton, "Layer Normalization", 2016.
    """

    def __init__(
        self, features: int, epsilon: float = 1e-5, *, name: str = "norm", dtype: Any = None
    ):
        self.epsilon = epsilon
        self.gain = parameter(1.0, (features,), 0, f"{name}.gain", dtype)
        self.bias = parameter(0.0, (features,), 0, f"{name}.bias", dtype)

    def __call__(self, x: Expr, deterministic: bool = False) -> Expr:
        return layer_norm(x, self.gain, self.bias, epsilon=self.epsilon)

    def describe(self) -> str:
        return str(self.gain.array_type.shape[0])
