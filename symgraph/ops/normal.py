"""Normal numbers from random bits, the same to the last bit on every target.

One formula, written over the operations that IEEE 754 rounds correctly (+ - * / sqrt, conversions,
no fused multiply-add, no library function), serves compiled code (`lower`) and the reference
(`evaluate`, through `NumpyBuilder`).

The top bit is the sign; the others are the tail probability p = (m + 1/2) / 2**n in (0, 1/2], whose
normal quantile is
taken by rational approximations: the range near 1/2, and the tail in r = sqrt(-log(p)).

Source: M. J. Wichura, Algorithm AS 241: the percentage points of the normal distribution, Applied
Statistics 37 (1988): PPND7 for float32 (1 part in 1e7, up to 6.2), PPND16 for float64 (1 part in
1e16, up to 9.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..dtypes import DType, float32, float64, uint32, uint64
from ..expr import Expr
from ..op import ScalarBuilder
from .define import Formula, cast, elementwise


class Rational(NamedTuple):
    """A quotient of polynomials, lowest power first, in (argument - shift)."""

    above: tuple[float, ...]
    below: tuple[float, ...]
    shift: float = 0.0


class Method(NamedTuple):
    """What the formula needs to know of a format."""

    dtype: str
    bits: int
    mantissa: int  # explicit bits
    log_terms: int  # of the series of atanh
    centre: Rational  # in 0.425**2 - q*q, for q = 1/2 - p up to 0.425
    tail: Rational  # in r, up to 5
    far: Rational | None  # in r, beyond 5


PPND7 = Method(
    "float32",
    32,
    23,
    5,
    Rational(
        (3.3871327179e0, 5.0434271938e1, 1.5929113202e2, 5.9109374720e1),
        (1.0, 1.7895169469e1, 7.8757757664e1, 6.7187563600e1),
    ),
    Rational(
        (1.4234372777e0, 2.7568153900e0, 1.3067284816e0, 1.7023821103e-1),
        (1.0, 7.3700164250e-1, 1.2021132975e-1),
        1.6,
    ),
    None,
)

PPND16 = Method(
    "float64",
    64,
    52,
    12,
    Rational(
        (
            3.3871328727963666080e0,
            1.3314166789178437745e2,
            1.9715909503065514427e3,
            1.3731693765509461125e4,
            4.5921953931549871457e4,
            6.7265770927008700853e4,
            3.3430575583588128105e4,
            2.5090809287301226727e3,
        ),
        (
            1.0,
            4.2313330701600911252e1,
            6.8718700749205790830e2,
            5.3941960214247511077e3,
            2.1213794301586595867e4,
            3.9307895800092710610e4,
            2.8729085735721942674e4,
            5.2264952788528545610e3,
        ),
    ),
    Rational(
        (
            1.42343711074968357734e0,
            4.63033784615654529590e0,
            5.76949722146069140550e0,
            3.64784832476320460504e0,
            1.27045825245236838258e0,
            2.41780725177450611770e-1,
            2.27238449892691845833e-2,
            7.74545014278341407640e-4,
        ),
        (
            1.0,
            2.05319162663775882187e0,
            1.67638483018380384940e0,
            6.89767334985100004550e-1,
            1.48103976427480074590e-1,
            1.51986665636164571966e-2,
            5.47593808499534494600e-4,
            1.05075007164441684324e-9,
        ),
        1.6,
    ),
    Rational(
        (
            6.65790464350110377720e0,
            5.46378491116411436990e0,
            1.78482653991729133580e0,
            2.96560571828504891230e-1,
            2.65321895265761230930e-2,
            1.24266094738807843860e-3,
            2.71155556874348757815e-5,
            2.01033439929228813265e-7,
        ),
        (
            1.0,
            5.99832206555887937690e-1,
            1.36929880922735805310e-1,
            1.48753612908506148525e-2,
            7.86869131145613259100e-4,
            1.84631831751005468180e-5,
            1.42151175831644588870e-7,
            2.04426310338993978564e-15,
        ),
        5.0,
    ),
)


class Number:
    """A scalar of a builder with operators: what the formula is written in."""

    __slots__ = ("b", "value")

    def __init__(self, b: ScalarBuilder, value: Any):
        self.b = b
        self.value = value

    def _op(self, name: str, *others: Any) -> Number:
        return Number(self.b, self.b.op(name, self.value, *map(self._lift, others)))

    def _lift(self, x: Any) -> Any:
        return x.value if isinstance(x, Number) else self.b.const(x, self.value)

    def const(self, x: float) -> Number:
        return Number(self.b, self.b.const(x, self.value))

    def __add__(self, x: Any) -> Number:
        return self._op("add", x)

    def __sub__(self, x: Any) -> Number:
        return self._op("sub", x)

    def __mul__(self, x: Any) -> Number:
        return self._op("mul", x)

    def __truediv__(self, x: Any) -> Number:
        return self._op("div", x)

    def __and__(self, x: Any) -> Number:
        return self._op("and", x)

    def __or__(self, x: Any) -> Number:
        return self._op("or", x)

    def __rshift__(self, x: Any) -> Number:
        return self._op("shr", x)

    def __le__(self, x: Any) -> Number:
        return self._op("le", x)

    def __ge__(self, x: Any) -> Number:
        return self._op("ge", x)

    def sqrt(self) -> Number:
        return self._op("sqrt")

    def neg(self) -> Number:
        return self._op("neg")

    def cast(self, dtype: str) -> Number:
        return Number(self.b, self.b.cast(self.value, dtype))

    def bitcast(self, dtype: str) -> Number:
        return Number(self.b, self.b.bitcast(self.value, dtype))

    def choose(self, yes: Number, no: Number) -> Number:
        return Number(self.b, self.b.select(self.value, yes.value, no.value))


def normal_quantile(b: ScalarBuilder, bits: Any, method: Method) -> Any:
    """The normal number that the bits stand for."""
    word = Number(b, bits)
    top = method.bits - 1
    p = ((word & ((1 << top) - 1)).cast(method.dtype) + 0.5) * 2.0**-method.bits
    q = p.const(0.5) - p
    near = q * _rational(p.const(0.180625) - q * q, method.centre)
    r = _minus_log(p, method).sqrt()
    tail = _rational(r, method.tail)
    if method.far is not None:
        tail = (r <= 5.0).choose(tail, _rational(r, method.far))
    size = (q <= 0.425).choose(near, tail)
    return ((word >> top) >= 1).choose(size.neg(), size).value


def _rational(x: Number, f: Rational) -> Number:
    t = x - f.shift if f.shift else x
    return _polynomial(t, f.above) / _polynomial(t, f.below)


def _polynomial(x: Number, coefficients: Sequence[float]) -> Number:
    total = x.const(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total


def _minus_log(p: Number, method: Method) -> Number:
    """-log(p): p = f * 2**e with f in [1, 2), log(f) by the series of atanh around sqrt(2)."""
    integer = f"int{method.bits}"
    bias = (1 << (method.bits - method.mantissa - 2)) - 1
    raw = p.bitcast(integer)
    exponent = ((raw >> method.mantissa) - bias).cast(method.dtype)
    ones = bias << method.mantissa
    f = ((raw & ((1 << method.mantissa) - 1)) | ones).bitcast(method.dtype)
    root = math.sqrt(2.0)
    s = (f - root) / (f + root)
    series = _polynomial(s * s, [2.0 / (2 * k + 1) for k in range(method.log_terms)])
    return ((exponent + 0.5) * math.log(2.0) + s * series).neg()


class NumpyBuilder:
    """A ScalarBuilder whose scalars are NumPy arrays: the formula as its own reference."""

    OPS = {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "div": np.divide,
        "and": np.bitwise_and,
        "or": np.bitwise_or,
        "shr": np.right_shift,
        "le": np.less_equal,
        "ge": np.greater_equal,
        "sqrt": np.sqrt,
        "neg": np.negative,
    }

    def const(self, value: float, like: np.ndarray) -> np.ndarray:
        return np.array(value, like.dtype)

    def cast(self, x: np.ndarray, dtype: str) -> np.ndarray:
        return x.astype(dtype)

    def bitcast(self, x: np.ndarray, dtype: str) -> np.ndarray:
        return np.ascontiguousarray(x).view(dtype).reshape(x.shape)

    def select(self, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(condition, x, y)

    def op(self, name: str, *args: np.ndarray) -> np.ndarray:
        return self.OPS[name](*args)

    def call(self, function: str, *args: np.ndarray) -> np.ndarray:
        raise NotImplementedError(function)

    def dtype(self, x: np.ndarray) -> str:
        return str(x.dtype)


@elementwise("normal_from_bits32", accepts=(uint32,), result=float32)
class normal_from_bits32(Formula):
    """Normal float32 numbers.   bits: uint32, uniformly random."""

    vjp = None

    def evaluate(bits):
        return normal_quantile(NumpyBuilder(), bits, PPND7)

    def lower(b, bits):
        return normal_quantile(b, bits, PPND7)


@elementwise("normal_from_bits64", accepts=(uint64,), result=float64)
class normal_from_bits64(Formula):
    """Normal float64 numbers.   bits: uint64, uniformly random."""

    vjp = None

    def evaluate(bits):
        return normal_quantile(NumpyBuilder(), bits, PPND16)

    def lower(b, bits):
        return normal_quantile(b, bits, PPND16)


def normal_from_bits(bits: Expr, dtype: DType) -> Expr:
    """Normal numbers of a float dtype from uint32 (uint64 for float64)."""
    made = normal_from_bits64(bits) if dtype is float64 else normal_from_bits32(bits)
    return cast(made, dtype)


__all__ = ["normal_from_bits", "normal_from_bits32", "normal_from_bits64"]
