"""Normalization layers."""

from __future__ import annotations

from typing import Any

from symgraph.dims import SizeLike, product
from symgraph.expr import Expr, apply
from symgraph.leaves import Shared, lift, normalize_axis, size_value
from symgraph.ops.define import cast
from symgraph.ops.elementwise import maximum, sqrt
from symgraph.ops.gradient import Normalized
from symgraph.ops.movement import reshape_to
from symgraph.ops.nnet import layer_norm
from symgraph.ops.reduce import computed_in
from symgraph.ops.statistics import mean

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


class BatchNorm(Layer):
    """Each channel to mean 0 and variance 1 over the batch, then gain * x + bias.

    x: [n, features, ...], or [..., features] with axis=-1 -> the same. A call to train takes the
    batch's own statistics and tells by `updates` how the running ones move towards them (by
    `momentum`; the running variance is the unbiased one); a deterministic call takes the running
    ones. Halves are averaged in float32, in which the running statistics are kept.
    Source: Ioffe and Szegedy 2015, algorithms 1 and 2.
    """

    def __init__(
        self,
        features: int,
        axis: int = 1,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        *,
        name: str = "norm",
        dtype: Any = None,
    ):
        self.axis, self.momentum, self.epsilon = axis, momentum, epsilon
        self.gain = parameter(1.0, (features,), 0, f"{name}.gain", dtype)
        self.bias = parameter(0.0, (features,), 0, f"{name}.bias", dtype)
        kept_in = computed_in(self.gain.dtype)
        self.mean = parameter(0.0, (features,), 0, f"{name}.mean", kept_in)
        self.variance = parameter(1.0, (features,), 0, f"{name}.variance", kept_in)
        self.moved: list[Expr | None] = [None, None]

    def __call__(self, x: Expr, deterministic: bool = False) -> Expr:
        axis = normalize_axis(self.axis, x.ndim, "BatchNorm")
        wide = cast(x, self.mean.dtype)
        gain, bias = (cast(self._along(v, wide, axis), wide.dtype) for v in (self.gain, self.bias))
        if deterministic:  # one multiplication and one addition for each element
            centre, variance = (self._along(v, wide, axis) for v in (self.mean, self.variance))
            scale = gain / sqrt(variance + self.epsilon)
            return cast(wide * scale + (bias - centre * scale), x.dtype)
        others = tuple(a for a in range(x.ndim) if a != axis)
        centre = mean(wide, others, keepdims=True)
        offsets = wide - centre
        variance = mean(offsets * offsets, others, keepdims=True)
        self._remember(centre, variance, product(x.array_type.shape[a] for a in others))
        spread: Expr = sqrt(variance + self.epsilon)
        inverse = 1 / spread
        y = offsets * (gain * inverse) + bias
        return cast(apply(Normalized(others), y, wide, offsets, inverse, gain, bias), x.dtype)

    def _along(self, v: Expr, x: Expr, axis: int) -> Expr:
        """A vector of the channels along their axis of x."""
        sizes = v.array_type.shape
        return reshape_to(v, tuple(sizes[0] if a == axis else 1 for a in range(x.ndim)))

    def _remember(self, centre: Expr, variance: Expr, count: SizeLike) -> None:
        """How the running statistics move."""
        n = cast(lift(size_value(count)), self.mean.dtype)
        unbiased = variance * (n / maximum(n - 1, 1))
        self.moved = [
            kept + self.momentum * (reshape_to(new, kept.array_type.shape) - kept)
            for kept, new in ((self.mean, centre), (self.variance, unbiased))
        ]

    def moves(self) -> list[tuple[Shared, Expr | None]]:
        return list(zip((self.mean, self.variance), self.moved))

    def describe(self) -> str:
        return str(self.gain.array_type.shape[0])
