"""sin, cos, tan."""

from __future__ import annotations

from . import tables
from .number import Num, fma, polynomial, where
from .reduction import Reduced, reduce
from .registry import function


def sin_core(reduced: Reduced) -> Num:
    """sin(r + low), |r| <= pi/4."""
    r = reduced.r
    z = r * r
    odd = polynomial(z, tables.SIN[r.format.dtype])
    if r.format.dtype == "float32":
        return fma(z * r, odd, r)
    return r + fma(z * r, odd, reduced.low * fma(z, -0.5, 1.0))


def cos_core(reduced: Reduced) -> Num:
    """cos(r + low), |r| <= pi/4; float64 puts back what 1 - r*r/2 lost (fdlibm's k_cos.c)."""
    r = reduced.r
    z = r * r
    even = polynomial(z, tables.COS[r.format.dtype])
    if r.format.dtype == "float32":
        return fma(z * z, even, fma(z, -0.5, 1.0))
    half = z * 0.5
    head = 1.0 - half
    lost = (1.0 - head) - half
    return head + (lost + fma(z * z, even, -(r * reduced.low)))


def quarter_turns(x: Num) -> Reduced:
    """|x| by quarter turns, to one rounding for float32 and with its low part for float64."""
    return reduce(abs(x), careful=x.format.dtype == "float64")


def by_quadrant(reduced: Reduced, turns: int) -> Num:
    """sin(|x| + turns pi/2)."""
    quadrant = reduced.quadrant + turns if turns else reduced.quadrant
    odd = (quadrant & 1).ne(0)
    magnitude = where(odd, cos_core(reduced), sin_core(reduced))
    sign = (quadrant & 2) << (reduced.r.format.width - 2)
    return (magnitude.bits() ^ sign).float()


def with_sign(result: Num, x: Num) -> Num:
    """The result, negated where x is negative."""
    return (result.bits() ^ (x.bits() & x.format.sign_bit)).float()


@function("sin", float32=(2.0, 2.5), float64=(1.5, 1.5))
def sin(x: Num) -> Num:
    return with_sign(by_quadrant(quarter_turns(x), 0), x)


@function("cos", float32=(2.0, 2.5), float64=(1.5, 1.5))
def cos(x: Num) -> Num:
    return by_quadrant(quarter_turns(x), 1)


@function("tan", float32=(2.5, 2.5), float64=(2.0, 2.0))
def tan(x: Num) -> Num:
    """A polynomial, or minus its reciprocal in odd quadrants."""
    reduced = reduce(abs(x), careful=True)
    r = reduced.r
    z = r * r
    lost = fma(reduced.low, z, reduced.low)  # low (1 + tan(r)**2), nearly
    t = r + fma(z * r, polynomial(z, tables.TAN[r.format.dtype]), lost)
    reciprocal = (reduced.quadrant & 1).ne(0)
    return with_sign(where(reciprocal, -1.0 / t, t), x)
