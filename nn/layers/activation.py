"""Activations as layers: any function of an expression, and those with parameters of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from symgraph.expr import Expr
from symgraph.ops.elementwise import where

from ..init import parameter
from .layer import Layer


class Activation(Layer):
    """function(x, **options), as in Activation(sg.elu, alpha=0.5).   x: [...] -> [...]."""

    def __init__(self, function: Callable[..., Expr], **options: Any):
        self.function = function
        self.options = options

    def __call__(self, x: Expr, deterministic: bool = False) -> Expr:
        return self.function(x, **self.options)

    def describe(self) -> str:
        named = getattr(self.function, "__name__", repr(self.function))
        return ", ".join([named, *(f"{k}={v}" for k, v in self.options.items())])


class PReLU(Layer):
    """x where it is positive, else slope * x with a learned slope for each feature (the last axis).

    Source: He et al. 2015, equation 1.
    """

    def __init__(self, features: int, slope: Any = 0.25, *, name: str = "prelu", dtype: Any = None):
        self.slope = parameter(slope, (features,), 0, f"{name}.slope", dtype)

    def __call__(self, x: Expr, deterministic: bool = False) -> Expr:
        return where(x > 0, x, self.slope * x)

    def describe(self) -> str:
        return str(self.slope.array_type.shape[0])
