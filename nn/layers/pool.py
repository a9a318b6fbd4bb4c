"""Pooling layers, and the step from images to rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from symgraph.expr import Expr
from symgraph.ops import pool
from symgraph.ops.shaping import flatten

from .layer import Layer


class MaxPool(Layer):
    """sg.max_pool with fixed options.   x: [n, c, *image] -> [n, c, *positions]"""

    function: ClassVar[Callable[..., Expr]] = pool.max_pool

    def __init__(self, window: Any, stride: Any = None, padding: Any = "valid", **options: Any):
        self.options = {"window": window, "stride": stride, "padding": padding, **options}

    def __call__(self, x: Expr, deterministic: bool = False) -> Expr:
        return type(self).function(x, **self.options)

    def describe(self) -> str:
        return ", ".join(f"{k}={v}" for k, v in self.options.items() if v is not None)


class AvgPool(MaxPool):
    """sg.avg_pool with fixed options.   x: [n, c, *image] -> [n, c, *positions]"""

    function = pool.avg_pool


class GlobalPool(Layer):
    """The mean of each channel, or with largest=True its largest.   x: [n, c, *image] -> [n, c]"""

    def __init__(self, largest: bool = False, layout: str | None = None):
        self.largest, self.layout = largest, layout

    def __call__(self, x: Expr, deterministic: bool = False) -> Expr:
        function = pool.global_max_pool if self.largest else pool.global_avg_pool
        return function(x, layout=self.layout)

    def describe(self) -> str:
        return "max" if self.largest else "mean"


class Flatten(Layer):
    """All axes but the first made one.   x: [n, ...] -> [n, features]"""

    def __call__(self, x: Expr, deterministic: bool = False) -> Expr:
        return flatten(x, 2)
