"""Parts of complex numbers; absolute value and sign, which see a length and a direction.

Cotangents of complex expressions pair without conjugation: a cotangent c of z stands for the real
number Re(c * dz), so that the derivative of a holomorphic function is multiplied as it is for real
numbers, and the gradient of a real function f of z is df/dx - i df/dy.
"""

from __future__ import annotations

import numpy as np

from symgraph.dtypes import (
    DType,
    bool_,
    complex64,
    complex128,
    every,
    float32,
    float64,
    floats,
    inexact,
    numeric,
)
from symgraph.dtypes import dtype as as_dtype

from ..define import Formula, elementwise
from .compare import eq
from .select import where

_REAL = {complex64: float32, complex128: float64}


def real_dtype(d: DType) -> DType:
    """The dtype of the parts of a number."""
    return _REAL.get(d, d)


def complex_dtype(d: DType) -> DType:
    """The dtype of complex numbers with parts of dtype `d`."""
    return complex128 if d is float64 else complex64


@elementwise("complex", accepts=floats, result=complex_dtype)
class complex(Formula):
    """re + i im.  re, im: floats, promoted together -> complex64, or complex128 for float64."""

    def evaluate(re, im):
        result = np.empty(
            np.broadcast_shapes(re.shape, im.shape), complex_dtype(as_dtype(re.dtype)).np
        )
        result.real, result.imag = re, im
        return result

    host = "complex numbers have no native form"

    def vjp(re, im, out, dy):
        return real(dy), -imag(dy)


@elementwise("real", result=real_dtype)
class real(Formula):
    """The real part, in the dtype of the parts; x itself if it is real."""

    evaluate = np.real

    def vjp(x, out, dy):
        return (complex(dy, 0.0) if x.dtype.kind == "c" else dy,)

    def lower(b, x):
        return x


@elementwise("imag", accepts=numeric, result=real_dtype)
class imag(Formula):
    """The imaginary part, in the dtype of the parts; 0 if x is real."""

    evaluate = np.imag

    def vjp(x, out, dy):
        return (complex(0.0, -dy) if x.dtype.kind == "c" else None,)

    def lower(b, x):
        return b.const(0, x)


@elementwise("conj", accepts=numeric)
class conj(Formula):
    """The complex conjugate; x itself if it is real."""

    evaluate = np.conjugate

    def vjp(x, out, dy):
        return (conj(dy),)

    def lower(b, x):
        return x


@elementwise("angle", accepts=inexact, result=real_dtype)
class angle(Formula):
    """The argument of a complex number, in (-pi, pi]; 0 or pi if x is real.

    Its derivative at 0 is taken as 0.
    """

    evaluate = np.angle

    def vjp(x, out, dy):
        if x.dtype.kind != "c":
            return (None,)
        length = real(x * conj(x))
        turned = complex(-imag(x), -real(x)) / where(eq(length, 0), 1, length)
        return (dy * turned,)

    def lower(b, x):
        return b.call("atan2", b.const(0.0, x), x)


@elementwise("sign", accepts=numeric, refuses={bool_: "cast to a number first"})
class sign(Formula):
    """-1, 0 or 1, NaN for NaN; if x is complex x / |x|, and 0 at 0. No derivative of reals."""

    evaluate = np.sign
    kinks = (0.0,)

    def vjp(x, out, dy):
        if x.dtype.kind != "c":
            return (None,)
        length = abs(x)
        return ((dy - conj(dy * out * out)) * where(eq(length, 0), 0, 0.5 / length),)

    def lower(b, x):
        kind = as_dtype(b.dtype(x)).kind
        zero, one = b.const(0, x), b.const(1, x)
        positive = b.select(b.op("gt", x, zero), one, zero)
        if kind == "u":
            return positive
        result = b.select(b.op("lt", x, zero), b.const(-1, x), positive)
        return result if kind == "i" else b.select(b.op("ne", x, x), x, result)


@elementwise("abs", accepts=every, result=real_dtype)
class abs(Formula):
    """Absolute value; the smallest integer is its own. The derivative at 0 is 0.

    Complex x -> its length, real.
    """

    evaluate = np.absolute
    kinks = (0.0,)

    def vjp(x, out, dy):
        return (dy * conj(sign(x)) if x.dtype.kind == "c" else dy * sign(x),)

    def lower(b, x):
        return b.op("abs", x) if as_dtype(b.dtype(x)).kind in "if" else x


@elementwise("fabs", accepts=floats)
class fabs(Formula):
    """Absolute value in floats; integers are taken in the default float."""

    evaluate = np.fabs
    kinks = (0.0,)

    def vjp(x, out, dy):
        return (dy * sign(x),)

    def lower(b, x):
        return b.op("abs", x)
