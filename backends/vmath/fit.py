"""Writes the modules of tables: fits polynomials and quotients, splits constants, with mpmath.

    python backends/vmath/fit.py > tables.py
    python backends/vmath/fit.py quotient_tables > quotient_tables.py
    python backends/vmath/fit.py bessel_tables > bessel_tables.py

Each polynomial is the Chebyshev interpolant of a smooth remainder on its interval (its error is
close to the least possible), so the leading terms of every function stay exact. Each quotient of
polynomials is the minimax one that is exact at 0. Nothing imports this at run time.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath as mp

mp.mp.dps = 60

LN2 = mp.log(2)
PI = mp.pi
ROOT2 = mp.sqrt(2)

Pair = tuple[Any, Any]  # for float32, for float64
Interval = tuple[Any, Any]


class Fit(NamedTuple):
    """One polynomial: its name and meaning, the function, intervals and numbers of coefficients.

    split: the coefficients follow what the rounding of the constant term lost.
    """

    name: str
    meaning: str
    function: Callable[[Any], Any]
    intervals: tuple[Interval, Interval]
    counts: Pair  # None where a dtype has no use for it
    split: bool = False


def remainder(function: Callable, power: int) -> Callable:
    """(function(x) - its Taylor terms below x**power) / x**power, whose limit at 0 is finite."""
    series = mp.taylor(function, 0, power + 40)

    def value(x: Any) -> Any:
        if abs(x) < mp.mpf("0.05"):
            return mp.fsum(c * x**k for k, c in enumerate(series[power:]))
        return (function(x) - mp.fsum(series[k] * x**k for k in range(power))) / x**power

    return value


def of_square(function: Callable, power: int) -> Callable:
    """The same remainder as a function of z = x*x."""
    plain = remainder(function, power)
    return lambda z: plain(mp.sqrt(z))


def less_one(function: Callable) -> Callable:
    return lambda z: function(z) - 1


def scaled_erfc(t: Any) -> Any:
    """(1 + 2a) exp(a*a) erfc(a) at a = 4 (1 + t) / (1 - t).

    Source: Shepherd and Laframboise, Math. Comp. 36 (1981).
    """
    a = 4 * (1 + t) / (1 - t)
    return (1 + 2 * a) * mp.exp(a * a) * mp.erfc(a)


def within(low: Any, high: Any, high64: Any = None) -> tuple[Interval, Interval]:
    """The interval for float32 and for float64."""
    return (low, high), (low, high if high64 is None else high64)


def squares(high: Any, high64: Any = None) -> tuple[Interval, Interval]:
    """z = x*x for |x| up to `high`, and a hair more than reductions give."""
    wider = mp.mpf("1.01")
    return within(0, high**2 * wider, None if high64 is None else high64**2 * wider)


def log2_tail(a: Any) -> Any:
    """log2 of the normal distribution's tail beyond a."""
    return mp.log(mp.erfc(a / ROOT2) / 2, 2)


HALF_LN2 = LN2 / 2 * mp.mpf("1.01")
S_MAX = 3 - mp.sqrt(8)  # f / (2 + f) at 1 + f = sqrt(2)


def twice_atanh(s: Any) -> Any:
    return 2 * mp.atanh(s)


FITS = [
    Fit(
        "EXPM1",
        "(exp(r) - 1 - r) / r**2, |r| <= ln(2)/2",
        remainder(mp.expm1, 2),
        within(-HALF_LN2, HALF_LN2),
        (5, 10),
    ),
    Fit(
        "EXPM1_SIXTEENTH",
        "(exp(r) - 1) / r, |r| <= ln(2)/32",
        remainder(mp.expm1, 1),
        within(-HALF_LN2 / 16, HALF_LN2 / 16),
        (3, None),
    ),
    Fit(
        "EXP2M1",
        "(2**r - 1) / r, |r| <= 1/2",
        remainder(lambda r: mp.expm1(r * LN2), 1),
        within(mp.mpf("-0.505"), mp.mpf("0.505")),
        (6, 12),
    ),
    Fit(
        "LOG1P",
        "(log(1 + f) - f + f**2/2) / f**3, sqrt(1/2) <= 1 + f <= sqrt(2)",
        remainder(mp.log1p, 3),
        within(1 / ROOT2 - 1, ROOT2 - 1),
        (9, None),
    ),
    Fit(
        "LOG1P_UNIT",
        "(log(1 + e) - e) / e**2, 0 <= e <= 1",
        remainder(mp.log1p, 2),
        within(0, mp.mpf("1.0001")),
        (10, None),
    ),
    Fit(
        "ATANH",
        "(2 atanh(s) - 2 s) / s**3 in s**2, |s| <= 3 - sqrt(8)",
        of_square(twice_atanh, 3),
        squares(S_MAX),
        (None, 7),
    ),
    Fit(
        "ATANH_5",
        "(2 atanh(s) - 2 s - 2 s**3/3) / s**5, the same way",
        of_square(twice_atanh, 5),
        squares(S_MAX),
        (None, 8),
    ),
    Fit(
        "LOG2_RATIO",
        "log2(1 + f) / f, sqrt(1/2) <= 1 + f <= sqrt(2), to 2**-36: for pow of float32",
        remainder(lambda f: mp.log1p(f) / LN2, 1),
        within(1 / ROOT2 - 1, ROOT2 - 1),
        (None, 13),
    ),
    Fit(
        "EXP2_SHORT",
        "2**r, |r| <= 1/2, to 2**-30: for pow of float32",
        lambda r: mp.mpf(2) ** r,
        within(mp.mpf("-0.505"), mp.mpf("0.505")),
        (None, 7),
    ),
    Fit(
        "CBRT_START",
        "w**(-1/3), 1/2 <= w <= 4, roughly",
        lambda w: w ** (-mp.mpf(1) / 3),
        within(mp.mpf(1) / 2, 4),
        (5, 5),
    ),
    Fit(
        "SIN",
        "(sin(r) - r) / r**3 in r**2, |r| <= pi/4",
        of_square(mp.sin, 3),
        squares(PI / 4),
        (3, 6),
    ),
    Fit(
        "COS",
        "(cos(r) - 1 + r**2/2) / r**4 in r**2, |r| <= pi/4",
        of_square(mp.cos, 4),
        squares(PI / 4),
        (3, 6),
    ),
    Fit(
        "TAN",
        "(tan(r) - r) / r**3 in r**2, |r| <= pi/4",
        of_square(mp.tan, 3),
        squares(PI / 4),
        (7, 15),
    ),
    Fit(
        "ASIN",
        "(asin(x) - x) / x**3 in x**2, |x| <= 1/2",
        of_square(mp.asin, 3),
        squares(mp.mpf(1) / 2),
        (5, 13),
    ),
    Fit(
        "ATAN",
        "(atan(x) - x) / x**3 in x**2, |x| <= 1 (float32), sqrt(2) - 1 (float64)",
        of_square(mp.atan, 3),
        squares(mp.mpf(1), ROOT2 - 1),
        (10, 11),
    ),
    Fit(
        "SINH",
        "(sinh(x) - x) / x**3 in x**2, |x| <= 1",
        of_square(mp.sinh, 3),
        squares(mp.mpf(1)),
        (4, 7),
    ),
    Fit(
        "ERF",
        "erf(x)/x - 1 in x**2, |x| <= 1",
        less_one(of_square(mp.erf, 1)),
        squares(mp.mpf(1)),
        (7, 12),
    ),
    Fit(
        "LOG_ERFC",
        "log(erfc(2 + t)), 1 <= 2 + t <= 4 (float32), 6 (float64)",
        lambda t: mp.log(mp.erfc(2 + t)),
        within(-1, mp.mpf("2.02"), mp.mpf("4.02")),
        (9, 24),
    ),
    Fit(
        "ERFCX",
        "(1 + 2a) exp(a*a) erfc(a) in (a - 4)/(a + 4), 1/2 <= a <= 10.1 (float32), 27.3 (float64)",
        scaled_erfc,
        within(mp.mpf("-0.78"), mp.mpf("6.1") / mp.mpf("14.1"), mp.mpf("23.3") / mp.mpf("31.3")),
        (11, 22),
        split=True,
    ),
]

BESSEL_TURN = 8  # where the Bessel functions change from their power series to the tail's form


def bessel_ratio(order: int) -> Callable:
    """I0(x) or 2 I1(x)/x, less 1, divided by z = x*x."""

    def value(z: Any) -> Any:
        if abs(z) < mp.mpf("1e-6"):
            return (1 + z / (8 * (order + 2))) / (4 * (order + 1))
        x = mp.sqrt(z)
        return (mp.besseli(order, x) * (2 / x) ** order - 1) / z

    return value


def bessel_tail(order: int) -> Callable:
    """sqrt(x) exp(-x) I(x), as a function of t = 2 * BESSEL_TURN / x - 1; its limit at infinity."""

    def value(t: Any) -> Any:
        u = (t + 1) / (2 * BESSEL_TURN)
        if u < mp.mpf("1e-5"):
            m = mp.mpf(4 * order * order)
            return (1 - (m - 1) * u / 8 + (m - 1) * (m - 9) * u * u / 128) / mp.sqrt(2 * PI)
        return mp.besseli(order, 1 / u) * mp.exp(-1 / u) / mp.sqrt(u)

    return value


BESSEL_FITS = [
    fit
    for order, ratio in enumerate(("I0(x)", "2 I1(x) / x"))
    for fit in (
        Fit(
            f"I{order}",
            f"({ratio} - 1) / x**2 in x**2, |x| <= {BESSEL_TURN}",
            bessel_ratio(order),
            squares(BESSEL_TURN),
            (10, 15),
        ),
        Fit(
            f"I{order}_TAIL",
            f"sqrt(x) exp(-x) I{order}(x) in {2 * BESSEL_TURN} / x - 1, x >= {BESSEL_TURN}",
            bessel_tail(order),
            within(-1, 1),
            (8, 24),
        ),
    )
]


class Quotient(NamedTuple):
    """A quotient of two polynomials for float32 that is exact at 0; the lower one starts with 1.

    counts: coefficients above and below. allowed: the error to balance, by argument and value.
    """

    name: str
    meaning: str
    function: Callable[[Any], Any]
    interval: Interval
    counts: tuple[int, int]
    allowed: Callable[[Any, Any], Any]


QUOTIENTS = [
    Quotient(
        "LOG2_TAIL",
        "log2(erfc(a/sqrt(2)) / 2), 0 <= a <= 14.45",
        log2_tail,
        (mp.mpf(0), mp.mpf("14.45")),
        (6, 5),
        lambda a, value: 1 + a * a,
    ),
]


class Split(NamedTuple):
    """A constant as a sum of floats: how many significant bits each may have."""

    name: str
    meaning: str
    value: Any
    widths: tuple[list[int] | None, list[int]]  # None where a dtype has no use for it


FULL = ([24, 24], [53, 53])
SHORT = ([15, 24], [41, 53])  # so short that an exponent times the high part is exact

SPLITS = [
    Split(
        "HALF_PI",
        "pi/2 for reductions with a fused multiply-add",
        PI / 2,
        ([24, 24, 24], [53, 53, 53]),
    ),
    Split(
        "HALF_PI_SHORT",
        "pi/2 for reductions without: n times a short part is exact",
        PI / 2,
        ([12, 12, 12, 12, 24], [33, 33, 33, 53]),
    ),
    Split("PI", "pi in two parts", PI, FULL),
    Split("LN2", "ln(2) in two parts, the high one short", LN2, SHORT),
    Split("LOG10_2", "log10(2) in two parts, the high one short", LN2 / mp.log(10), SHORT),
    Split("LOG2_E", "1 / ln(2) in two parts", 1 / LN2, FULL),
    Split("LOG10_E", "1 / ln(10) in two parts", 1 / mp.log(10), FULL),
    Split("TWO_THIRDS", "2/3 in two parts", mp.mpf(2) / 3, (None, [53, 53])),
]
DTYPES = ("float32", "float64")


def coefficients(fit: Fit, index: int) -> tuple[list[float], Any]:
    """Lowest first, rounded to the dtype, and the largest error of the fit before that rounding."""
    interval = list(fit.intervals[index])
    highest_first, error = mp.chebyfit(fit.function, interval, fit.counts[index], error=True)
    values = [float(c) for c in reversed(highest_first)]
    if DTYPES[index] == "float32":
        values = [single(v) for v in values]
    if fit.split:
        values.insert(0, float(highest_first[-1] - mp.mpf(values[0])))
    return values, error


ROUNDS = 30  # of reweighting


def minimax(quotient: Quotient) -> tuple[list[float], list[float], Any]:
    """Coefficients above and below, and the largest error in units of what is allowed.

    Weighted least squares, linear in the coefficients with the last round's denominator, whose
    weights grow where the error is large (Lawson).
    """
    function, (start, end), (above, below) = quotient.function, quotient.interval, quotient.counts
    count = 8 * (above + below)
    points = [start + (end - start) * (1 - mp.cos(PI * i / (count - 1))) / 2 for i in range(count)]
    values = [function(x) for x in points]
    at_zero = function(mp.mpf(0))
    allowed = [quotient.allowed(x, v) for x, v in zip(points, values)]
    weights, denominators = [mp.mpf(1)] * count, [mp.mpf(1)] * count
    found: list[tuple[Any, list, list]] = []
    for _ in range(ROUNDS):
        rows, sides = [], []
        for x, v, w, a, d in zip(points, values, weights, allowed, denominators):
            scale = mp.sqrt(w) / (a * d)
            rows.append([scale * x**k for k in range(1, above)])
            rows[-1] += [-scale * v * x**k for k in range(1, below)]
            sides.append(scale * (v - at_zero))
        matrix = mp.matrix(rows)
        solution = list(mp.lu_solve(matrix.T * matrix, matrix.T * mp.matrix(sides)))
        top = [at_zero, *solution[: above - 1]]
        bottom = [mp.mpf(1), *solution[above - 1 :]]
        denominators = [mp.polyval(bottom[::-1], x) for x in points]
        errors = [
            abs(mp.polyval(top[::-1], x) / d - v) / a
            for x, v, a, d in zip(points, values, allowed, denominators)
        ]
        found.append((max(errors), top, bottom))
        mean = mp.fsum(w * e for w, e in zip(weights, errors)) / count
        weights = [w * e / mean for w, e in zip(weights, errors)]
    error, top, bottom = min(found, key=lambda f: f[0])
    return [single(c) for c in top], [single(c) for c in bottom], error


def single(value: Any) -> float:
    """The nearest float32."""
    return struct.unpack("<f", struct.pack("<f", float(value)))[0]


def parts(value: Any, widths: list[int]) -> list[float]:
    """Floats that sum to the value, each the nearest of its width to what is left."""
    found = []
    for width in widths:
        exponent = int(mp.floor(mp.log(abs(value), 2)))
        unit = mp.mpf(2) ** (exponent - width + 1)
        part = mp.nint(value / unit) * unit
        found.append(float(part))
        value -= part
    return found


def two_over_pi_words() -> list[int]:
    """64 zero bits and the first 1216 bits of 2/pi, as 64-bit words."""
    with mp.workdps(400):
        bits = int(mp.floor(2 / mp.pi * mp.mpf(2) ** (64 * 19)))
    return [0] + [(bits >> (64 * k)) & (2**64 - 1) for k in reversed(range(19))]


def table(name: str, meaning: str, rows: dict[str, tuple[list[float], str]]) -> list[str]:
    """The lines of one dictionary: dtype -> numbers, with a note for each dtype."""
    lines = [f"# {meaning}", f"{name} = {{"]
    for dtype, (values, note) in rows.items():
        lines.append(f'    "{dtype}": ({note}')
        lines += [f"        {v!r}," for v in values]
        lines.append("    ),")
    return [*lines, "}"]


def heading(what: str) -> list[str]:
    """The first lines of a module of tables."""
    return [f'"""{what}; written by `fit`, do not edit."""', ""]


def fitted(fits: list[Fit]) -> list[str]:
    """The lines of polynomials."""
    lines = []
    for fit in fits:
        rows = {}
        for index, dtype in enumerate(DTYPES):
            if fit.counts[index] is not None:
                values, error = coefficients(fit, index)
                rows[dtype] = (values, f"  # |error| < {mp.nstr(error, 2)}")
        lines += table(fit.name, fit.meaning, rows)
    return lines


def tables() -> list[str]:
    """The lines of tables.py."""
    lines = [*heading("Coefficients, lowest first, and constants"), *fitted(FITS)]
    for split in SPLITS:
        rows = {d: (parts(split.value, w), "") for d, w in zip(DTYPES, split.widths) if w}
        lines += table(split.name, split.meaning, rows)
    lines += ["# 64 zero bits, then the bits of 2/pi, highest first", "TWO_OVER_PI = ("]
    lines += [f"    0x{word:016X}," for word in two_over_pi_words()]
    return [*lines, ")"]


def quotient_tables() -> list[str]:
    """The lines of quotient_tables.py."""
    lines = heading("Quotients of polynomials: coefficients, lowest first")
    for quotient in QUOTIENTS:
        above, below, error = minimax(quotient)
        note = f"  # |error| < {mp.nstr(error, 2)} of what is allowed"
        for ending, meaning, values in (
            ("_ABOVE", quotient.meaning, above),
            ("_BELOW", "its denominator", below),
        ):
            lines += table(quotient.name + ending, meaning, {"float32": (values, note)})
    return lines


def bessel_tables() -> list[str]:
    """The lines of bessel_tables.py."""
    turn = ["# where the two forms meet", f"TURN = {float(BESSEL_TURN)}"]
    first = heading("Modified Bessel functions: coefficients, lowest first")
    return [*first, *turn, *fitted(BESSEL_FITS)]


MODULES = {
    "tables": tables,
    "quotient_tables": quotient_tables,
    "bessel_tables": bessel_tables,
}

if __name__ == "__main__":
    print("\n".join(MODULES[(sys.argv[1:] or ["tables"])[0]]()))
