"""Activation functions of neural networks.

At a kink the derivative is that of the left side, as is the convention: relu has 0 at 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symgraph.dtypes import floats, reals
from symgraph.errors import GraphError
from symgraph.expr import Expr, user_site
from symgraph.leaves import lift

from ..define import Formula, elementwise, scipy_special, wide
from .arithmetic import add, mul, true_div
from .compare import gt
from .exponential import exp, expm1
from .logistic import sigmoid, softplus
from .parts import abs
from .select import clip, minimum, where
from .special import ndtr
from .trigonometric import tanh

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


@elementwise("relu", accepts=reals)
class _relu(Formula):
    """maximum(x, 0). The derivative at 0 is 0."""

    def evaluate(x):
        return np.maximum(x, 0)

    kinks = (0.0,)

    def vjp(x, y, dy):
        return (where(gt(y, 0), dy, 0),)  # y, which stays in memory for the next layer anyway

    def lower(b, x):
        return b.op("max", x, b.const(0, x))


def relu(x: Any, alpha: Any = 0) -> Expr:
    """x where it is positive, else alpha * x. The derivative at 0 is alpha."""
    if isinstance(alpha, (int, float)) and alpha == 0:
        return _relu(x)
    return leaky_relu(x, alpha)


def leaky_relu(x: Any, alpha: Any = 0.01) -> Expr:
    """x where it is positive, else alpha * x. The derivative at 0 is alpha."""
    return where(gt(x, 0), x, mul(alpha, x))


def relu6(x: Any) -> Expr:
    """x between 0 and 6."""
    return minimum(_relu(x), 6)


def elu(x: Any, alpha: Any = 1.0) -> Expr:
    """x where it is positive, else alpha * (exp(x) - 1).

    Source: Clevert et al. 2015, equation 15.
    """
    return where(gt(x, 0), x, mul(alpha, expm1(minimum(x, 0))))


def celu(x: Any, alpha: Any = 1.0) -> Expr:
    """x where it is positive, else alpha * (exp(x / alpha) - 1).  Source: Barron 2017."""
    return where(gt(x, 0), x, mul(alpha, expm1(true_div(minimum(x, 0), alpha))))


def selu(x: Any) -> Expr:
    """Self-normalizing elu: SELU_SCALE * elu(x, SELU_ALPHA).

    Source: Klambauer et al. 2017, equation 2.
    """
    return mul(SELU_SCALE, elu(x, SELU_ALPHA))


@elementwise("silu", accepts=floats)
class silu(Formula):
    """x * sigmoid(x), also called swish."""

    def evaluate(x):
        return x * scipy_special("expit")(x)

    def vjp(x, y, dy):
        s = sigmoid(x)
        return (dy * (s * (1 + x * (1 - s))),)

    def lower(b, x):
        return b.op("mul", x, b.call("sigmoid", x))


@elementwise("gelu", accepts=floats)
class _gelu(Formula):
    """x * ndtr(x).  Source: Hendrycks and Gimpel 2016."""

    def evaluate(x):
        return x * scipy_special("ndtr")(x)

    def vjp(x, y, dy):
        density = exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
        return (dy * (ndtr(x) + x * density),)

    def lower(b, x):
        return b.call("gelu", x)


_TANH_SCALE = 2 * math.sqrt(2 / math.pi)
_TANH_CUBE = 0.044715 * _TANH_SCALE


def _tanh_argument(x):
    return x * _TANH_SCALE + x * x * x * _TANH_CUBE


@elementwise("gelu_tanh", accepts=floats)
class gelu_tanh(Formula):
    """x/2 * (1 + tanh(u)) = x * sigmoid(2 u) with u = sqrt(2/pi) (x + 0.044715 x**3).

    Source: Hendrycks and Gimpel 2016, section 2.
    """

    @wide
    def evaluate(x):
        from scipy.special import expit

        return x * expit(_tanh_argument(x))

    def vjp(x, y, dy):
        s = sigmoid(_tanh_argument(x))
        inner = x * x * (3 * _TANH_CUBE) + _TANH_SCALE
        return (dy * (s + x * (s * (1 - s)) * inner),)

    def lower(b, x):
        cube = b.op("mul", b.op("mul", x, x), b.op("mul", x, b.const(_TANH_CUBE, x)))
        inner = b.op("add", b.op("mul", x, b.const(_TANH_SCALE, x)), cube)
        return b.op("mul", x, b.call("sigmoid", inner))


def gelu(x: Any, approximate: bool | str = False) -> Expr:
    """Gaussian error linear unit x * ndtr(x); approximate=True or "tanh" takes its tanh form."""
    if not isinstance(approximate, (bool, str)) or approximate not in (False, True, "none", "tanh"):
        raise GraphError(
            f"gelu: approximate={approximate!r}: expected a bool, 'none' or 'tanh'",
            site=user_site(),
        )
    return gelu_tanh(x) if approximate in (True, "tanh") else _gelu(x)


def mish(x: Any) -> Expr:
    """x * tanh(softplus(x)).  Source: Misra 2019."""
    node = lift(x)
    return mul(node, tanh(softplus(node)))


def softsign(x: Any) -> Expr:
    """x / (1 + |x|)."""
    node = lift(x)
    return true_div(node, add(abs(node), 1))


def hard_sigmoid(x: Any, slope: float = 0.2, shift: float = 0.5) -> Expr:
    """slope * x + shift between 0 and 1: the straight line of sigmoid, in Theano's slope."""
    return clip(add(mul(x, slope), shift), 0.0, 1.0)


def hard_tanh(x: Any, low: Any = -1.0, high: Any = 1.0) -> Expr:
    """x between low and high."""
    return clip(x, low, high)


def hard_silu(x: Any) -> Expr:
    """x * hard_sigmoid(x, 1/6), also called hard swish.

    Source: Howard et al. 2019 (MobileNetV3), section 5.2.
    """
    node = lift(x)
    return mul(node, hard_sigmoid(node, 1 / 6))
