"""Quotients of gamma functions: rgamma, beta, binom.

They are computed in float64 from gamma and lgamma, and rounded to the operands' dtype. Where an
argument is beyond gamma's range its logarithm is taken by Stirling's series, which does not lose
the digits that the difference of two large logarithms would.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..dtypes import float64, floats
from ..expr import Expr
from .define import cast, promote_operands
from .elementwise import (
    abs,
    eq,
    exp,
    floor,
    gamma,
    gammasgn,
    ge,
    gt,
    le,
    lgamma,
    log,
    log1p,
    logical_and,
    logical_or,
    lt,
    maximum,
    minimum,
    rint,
    where,
)
from .gradient import stop_gradient

LARGEST = 170.0  # gamma of this is finite
STIRLING = 10.0  # from here on eight terms of the series are exact to the last bit
# log gamma(x) = (x - 1/2) log x - x + log(2 pi)/2 + 1/(12 x) - 1/(360 x**3) + ...
SERIES = (
    1 / 12,
    -1 / 360,
    1 / 1260,
    -1 / 1680,
    1 / 1188,
    -691 / 360360,
    1 / 156,
    -3617 / 122400,
)


def _in_float64(what: str, formula: Callable[..., Expr], *operands: Any) -> Expr:
    nodes = promote_operands(what, operands, frozenset(floats))
    return cast(formula(*[cast(x, float64) for x in nodes]), nodes[0].dtype)


def rgamma(x: Any) -> Expr:
    """1 / gamma(x), 0 at gamma's poles.  x: floats."""
    return _in_float64("rgamma", _rgamma, x)


def _rgamma(x: Any) -> Expr:
    pole = logical_and(lt(x, 0), eq(floor(x), x))
    moderate = logical_or(pole, le(abs(x), LARGEST))
    # gamma is infinite sooner than its reciprocal is 0, and 0 sooner than that is infinite
    inside = 1 / gamma(where(pole, 1, where(moderate, x, 1)))
    outside = where(moderate, 1.5, x)
    far = gammasgn(outside) * exp(-lgamma(outside))
    return where(pole, 0, where(moderate, inside, far))


def beta(a: Any, b: Any) -> Expr:
    """gamma(a) gamma(b) / gamma(a + b).

    a, b: floats. Large arguments of which one is negative lose the digits of lgamma.
    """
    return _in_float64("beta", _beta, a, b)


def _beta(a: Expr, b: Expr) -> Expr:
    high, low = maximum(a, b), minimum(a, b)
    positive = logical_and(gt(low, 0), ge(high, STIRLING))
    series = _stirling_beta(where(positive, high, STIRLING), where(positive, low, 1))
    return where(positive, series, _beta_by_gamma(where(positive, 1, a), where(positive, 1, b)))


def _beta_by_gamma(a: Expr, b: Expr) -> Expr:
    """From gamma itself, from its logarithm where an argument is beyond its range."""
    total = a + b
    moderate = le(maximum(maximum(abs(a), abs(b)), abs(total)), LARGEST)
    usual = _rgamma(where(moderate, total, 2)) * gamma(where(moderate, a, 1))
    usual = usual * gamma(where(moderate, b, 1))
    x, y = where(moderate, 1, a), where(moderate, 1, b)
    signs = gammasgn(x) * gammasgn(y) * gammasgn(x + y)
    far = signs * exp(lgamma(x) + lgamma(y) - lgamma(x + y))
    return where(moderate, usual, far)


def _stirling_beta(q: Expr, p: Expr) -> Expr:
    """beta(p, q) for 0 < p <= q, q >= STIRLING.  Source: DiDonato and Morris, TOMS 18 (1992)."""
    total = p + q
    shared = _correction(q) - _correction(total)
    both = ge(p, STIRLING)
    one, two = where(both, 1, p), where(both, p, STIRLING)
    tail = log1p(-p / total)
    small = gamma(one) * exp(shared + one - one * log(total) + (q - 0.5) * tail)
    ratio = (two - 0.5) * log(two / total) + q * tail - 0.5 * log(q)
    large = exp(ratio + shared + _correction(two)) * math.sqrt(2 * math.pi)
    return where(both, large, small)


def _correction(x: Expr) -> Expr:
    """What Stirling's formula lacks, for x >= STIRLING."""
    inverse = 1 / x
    z = inverse * inverse
    total = z * SERIES[-1] + SERIES[-2]
    for c in reversed(SERIES[:-2]):
        total = total * z + c
    return total * inverse


EXACT = 2.0**50  # results of whole numbers are whole: they are rounded up to here


def binom(n: Any, k: Any) -> Expr:
    """gamma(n + 1) / (gamma(k + 1) gamma(n - k + 1)): the binomial coefficient, whole for whole
    n and k up to 2**50; NaN for negative whole n.

    n, k: floats.
    """
    return _in_float64("binom", _binom, n, k)


def _binom(n: Expr, k: Expr) -> Expr:
    whole_n = eq(floor(n), n)
    undefined, whole = logical_and(lt(n, 0), whole_n), logical_and(whole_n, eq(floor(k), k))
    rest = n - k
    moderate = le(maximum(maximum(abs(n), abs(k)), abs(rest)), LARGEST - 1)
    top = gamma(where(logical_and(moderate, ge(n, 0) | ~whole_n), n, 1) + 1)
    usual = top * _rgamma(where(moderate, k, 1) + 1) * _rgamma(where(moderate, rest, 1) + 1)
    far = 1 / ((n + 1) * _beta(where(moderate, 200, rest + 1), where(moderate, 1, k + 1)))
    value: Expr = where(moderate, usual, far)
    near = logical_and(whole, lt(abs(value), EXACT))
    value = value + stop_gradient(where(near, rint(value) - value, 0))
    return where(undefined, math.nan, value)


__all__ = ["rgamma", "beta", "binom"]
