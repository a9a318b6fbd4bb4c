"""Identities that matter to differentiation: gradients stopped, scaled, clipped, sent elsewhere.

Their value is their first input (`expand` says so), so compiled code is free of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arraytype import Array
from ..dims import product
from ..errors import DTypeError, ShapeError
from ..expr import Expr, apply, user_site
from ..leaves import lift
from ..op import Op
from .define import cast
from .elementwise import clip


class Identity(Op, abstract=True):
    """The value of the first input; subclasses differ in their vjp."""

    def infer(self, x: Array, *others: Array) -> Array:
        return x

    def evaluate(self, x: np.ndarray, *others: np.ndarray) -> np.ndarray:
        return x

    def expand(self, x: Expr, *others: Expr) -> Expr:
        return x


class StopGradient(Identity):
    """x as a constant. `connected`: its derivative is zero (True), or it counts as absent."""

    name = "stop_gradient"
    connected: bool
    vjp = None


class GradScale(Identity):
    """x, its cotangent multiplied by a number."""

    name = "grad_scale"
    factor: float

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr]:
        return [cotangent * self.factor]


class GradClip(Identity):
    """x, its cotangent limited to [low, high] element by element."""

    name = "grad_clip"
    low: float
    high: float

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr]:
        return [clip(cotangent, self.low, self.high)]


class SurrogateGradient(Identity):
    """The value of the first input with the derivative of the second."""

    name = "surrogate_gradient"

    def infer(self, x: Array, *others: Array) -> Array:
        (surrogate,) = others
        if not x.accepts(surrogate):
            raise ShapeError(f"surrogate_gradient: expected a surrogate of {x}, got {surrogate}")
        return x

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr | None]:
        return [None, cotangent]


class Normalized(Identity):
    """The first input, which is (x - mean) * inverse * gain + bias over `axes`.

    The others: x, x - mean, and with axes of size 1 inverse = 1 / sqrt(variance of x + a constant),
    gain and bias. Differentiated step by step, mean and variance would each send a sum through the
    whole of x again; what they come to is one formula with two sums, taken in one pass.
    """

    name = "normalized"
    axes: tuple[int, ...]

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr | None]:
        from .reduce import sum  # here: reductions know gradients, which are these
        from .statistics import count

        _, x, offsets, inverse, gain, _ = inputs
        even = sum(cotangent, self.axes, keepdims=True)
        along = sum(cotangent * offsets, self.axes, keepdims=True) * inverse
        n = count(product(x.array_type.shape[a] for a in self.axes), x.dtype)
        rest = cotangent - even / n - offsets * (along * inverse / n)
        return [None, rest * (inverse * gain), None, None, along, even]


def stop_gradient(x: Any) -> Expr:
    """x, through which no gradient flows: derivatives with respect to what is behind are zero."""
    return apply(StopGradient(True), lift(x))


def disconnected_grad(x: Any) -> Expr:
    """As stop_gradient, but what is only behind it counts as disconnected: grad() raises."""
    return apply(StopGradient(False), lift(x))


zero_grad = consider_constant = stop_gradient


def grad_scale(x: Any, factor: float) -> Expr:
    """x, its gradient multiplied by `factor` (-1 reverses it)."""
    return apply(GradScale(_number("grad_scale", factor)), _float("grad_scale", x))


def grad_clip(x: Any, lower: float, upper: float) -> Expr:
    """x, its gradient limited to [lower, upper] element by element."""
    low, high = _number("grad_clip", lower), _number("grad_clip", upper)
    if not low <= high:
        raise ShapeError(
            f"grad_clip: expected lower <= upper, got {lower} and {upper}", site=user_site()
        )
    return apply(GradClip(low, high), _float("grad_clip", x))


def surrogate_gradient(value: Any, surrogate: Any) -> Expr:
    """`value`, differentiated as if it were `surrogate` (straight-through: round(x) and x).

    Both of one shape; the surrogate is cast to the dtype of value.
    """
    x = _float("surrogate_gradient", value)
    return apply(SurrogateGradient(), x, cast(lift(surrogate, x.dtype), x.dtype))


def _number(what: str, value: Any) -> float:
    if isinstance(value, (int, float, np.integer, np.floating)):
        return float(value)
    raise DTypeError(f"{what}: expected a number, got {value!r}", site=user_site())


def _float(what: str, x: Any) -> Expr:
    node = lift(x)
    if not node.dtype.is_inexact:
        raise DTypeError(f"{what}: expected a float, got {node.array_type}", site=user_site())
    return node
