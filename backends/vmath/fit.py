"""Fits the polynomials of `tables` with mpmath; never imported at run time.

Run `python backends/vmath/fit.py` and write what it prints to backends/vmath/tables.py. Each polynomial is the
Chebyshev interpolant of a smooth remainder on its interval (close to minimax: within a factor of two of the best error),
so the leading terms of every function stay exact.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath as mp

mp.mp.dps = 60

LN2 = mp.log(2)
PI = mp.pi


class Fit(NamedTuple):
    """One table: what the polynomial stands for, the function, its interval and the coefficients for each dtype."""

    name: str
    meaning: str
    function: Callable[[Any], Any]
    low: dict[str, Any]
    high: dict[str, Any]
    count: dict[str, int]
    split: bool = False  # precede the coefficients by what the rounding of the constant term lost


def both(value: Any) -> dict[str, Any]:
    return {"float32": value, "float64": value}


def remainder(function: Callable, terms: int, power: int, squared: bool = False) -> Callable:
    """(function(x) - its Taylor terms below x**power) / x**power, and the limit at 0; of z = x*x if squared."""
    series = mp.taylor(function, 0, power + 40)

    def value(argument: Any) -> Any:
        x = mp.sqrt(argument) if squared else argument
        if abs(x) < mp.mpf("0.05"):
            return mp.fsum(c * x**k for k, c in enumerate(series[power:]))
        return (function(x) - mp.fsum(series[k] * x**k for k in range(terms))) / x**power

    return value


def scaled_erfc(t: Any) -> Any:
    """(1 + 2a) exp(a*a) erfc(a) at a = 4 (1 + t) / (1 - t) (Shepherd and Laframboise, Math. Comp. 36, 1981)."""
    a = 4 * (1 + t) / (1 - t)
    return (1 + 2 * a) * mp.exp(a * a) * mp.erfc(a)


def counts(float32: int, float64: int) -> dict[str, int]:
    return {"float32": float32, "float64": float64}


def ends(float32: Any, float64: Any) -> dict[str, Any]:
    return {"float32": float32, "float64": float64}


HALF_LN2 = LN2 / 2 * mp.mpf("1.01")
SQUARE = mp.mpf("1.01")  # intervals are a hair wider than what the reductions give
ROOT2 = mp.sqrt(2)

FITS = [
    Fit("EXPM1", "(exp(r) - 1 - r) / r**2, |r| <= ln(2)/2", remainder(mp.expm1, 2, 2),
        both(-HALF_LN2), both(HALF_LN2), counts(5, 10)),
    Fit("EXP2M1", "(2**r - 1) / r, |r| <= 1/2", remainder(lambda r: mp.expm1(r * LN2), 1, 1),
        both(mp.mpf("-0.505")), both(mp.mpf("0.505")), counts(6, 12)),
    Fit("LOG1P", "(log(1 + f) - f + f**2/2) / f**3, sqrt(1/2) <= 1 + f <= sqrt(2)", remainder(mp.log1p, 3, 3),
        both(1 / ROOT2 - 1), both(ROOT2 - 1), {"float32": 9}),
    Fit("ATANH", "(2 atanh(s) - 2 s) / s**3 in s**2, |s| <= 3 - sqrt(8)", remainder(lambda s: 2 * mp.atanh(s), 3, 3, True),
        both(0), both((3 - mp.sqrt(8)) ** 2 * SQUARE), counts(3, 7)),
    Fit("ATANH_5", "(2 atanh(s) - 2 s - 2 s**3/3) / s**5, the same way", remainder(lambda s: 2 * mp.atanh(s), 5, 5, True),
        both(0), both((3 - mp.sqrt(8)) ** 2 * SQUARE), counts(4, 8)),
    Fit("CBRT_START", "w**(-1/3), 1/2 <= w <= 4, roughly", lambda w: w ** (-mp.mpf(1) / 3),
        both(mp.mpf(1) / 2), both(4), counts(5, 5)),
    Fit("SIN", "(sin(r) - r) / r**3 in r**2, |r| <= pi/4", remainder(mp.sin, 3, 3, True),
        both(0), both((PI / 4) ** 2 * SQUARE), counts(3, 6)),
    Fit("COS", "(cos(r) - 1 + r**2/2) / r**4 in r**2, |r| <= pi/4", remainder(mp.cos, 4, 4, True),
        both(0), both((PI / 4) ** 2 * SQUARE), counts(3, 6)),
    Fit("TAN", "(tan(r) - r) / r**3 in r**2, |r| <= pi/4", remainder(mp.tan, 3, 3, True),
        both(0), both((PI / 4) ** 2 * SQUARE), counts(7, 15)),
    Fit("ASIN", "(asin(x) - x) / x**3 in x**2, |x| <= 1/2", remainder(mp.asin, 3, 3, True),
        both(0), both(SQUARE / 4), counts(5, 13)),
    Fit("ATAN", "(atan(x) - x) / x**3 in x**2, |x| <= 1 (float32), sqrt(2) - 1 (float64)", remainder(mp.atan, 3, 3, True),
        both(0), ends(SQUARE, (ROOT2 - 1) ** 2 * SQUARE), counts(10, 11)),
    Fit("SINH", "(sinh(x) - x) / x**3 in x**2, |x| <= 1", remainder(mp.sinh, 3, 3, True),
        both(0), both(SQUARE), counts(4, 7)),
    Fit("ERF", "erf(x)/x - 1 in x**2, |x| <= 1", remainder(mp.erf, 1, 1, True),
        both(0), both(SQUARE), counts(7, 12)),
    Fit("LOG_ERFC", "log(erfc(2 + t)), 1 <= 2 + t <= 4 (float32), 6 (float64)", lambda t: mp.log(mp.erfc(2 + t)),
        both(-1), ends(mp.mpf("2.02"), mp.mpf("4.02")), counts(9, 24)),
    Fit("ERFCX", "(1 + 2a) exp(a*a) erfc(a) in (a - 4)/(a + 4), 1/2 <= a <= 10.1 (float32), 27.3 (float64)", scaled_erfc,
        both(mp.mpf("-0.78")), ends(mp.mpf("6.1") / mp.mpf("14.1"), mp.mpf("23.3") / mp.mpf("31.3")), counts(11, 22), True),
]  # fmt: skip


def coefficients(fit: Fit, dtype: str) -> tuple[list[float], Any]:
    """Lowest first, rounded to the dtype, and the largest error of the fit before that rounding."""
    interval = [fit.low[dtype], fit.high[dtype]]
    highest_first, error = mp.chebyfit(fit.function, interval, fit.count[dtype], error=True)
    values = [float(c) for c in reversed(highest_first)]
    if fit.name == "ERF":
        values[0] = float(highest_first[-1] - 1)
    if dtype == "float32":
        values = [struct.unpack("<f", struct.pack("<f", v))[0] for v in values]
    if fit.split:
        values.insert(0, float(highest_first[-1] - mp.mpf(values[0])))
    return values, error


def parts(value: Any, widths: list[int]) -> list[float]:
    """Floats that sum to the value, each with at most so many significant bits, each nearest to what is left."""
    found = []
    for width in widths:
        exponent = int(mp.floor(mp.log(abs(value), 2)))
        unit = mp.mpf(2) ** (exponent - width + 1)
        part = mp.nint(value / unit) * unit
        found.append(float(part))
        value -= part
    return found


# name: (meaning, value, widths of the parts for each dtype)
SPLITS: dict[str, tuple[str, Any, dict[str, list[int]]]] = {
    "HALF_PI": (
        "pi/2 for reductions with a fused multiply-add",
        PI / 2,
        {"float32": [24, 24, 24], "float64": [53, 53, 53]},
    ),
    "HALF_PI_SHORT": (
        "pi/2 for reductions without: n times a short part is exact",
        PI / 2,
        {"float32": [12, 12, 12, 12, 24], "float64": [33, 33, 33, 53]},
    ),
    "PI": ("pi in two parts", PI, {"float32": [24, 24], "float64": [53, 53]}),
    "LN2": (
        "ln(2) in two parts, the high part so short that an exponent times it is exact",
        LN2,
        {"float32": [15, 24], "float64": [41, 53]},
    ),
    "TWO_THIRDS": (
        "2/3 in two parts",
        mp.mpf(2) / 3,
        {"float32": [24, 24], "float64": [53, 53]},
    ),
    "LOG10_2": (
        "log10(2) in two parts, the same way",
        LN2 / mp.log(10),
        {"float32": [15, 24], "float64": [41, 53]},
    ),
    "LOG2_E": ("1 / ln(2) in two parts", 1 / LN2, {"float32": [24, 24], "float64": [53, 53]}),
    "LOG10_E": (
        "1 / ln(10) in two parts",
        1 / mp.log(10),
        {"float32": [24, 24], "float64": [53, 53]},
    ),
}


def two_over_pi_words() -> list[int]:
    """64 zero bits and the first 1216 bits of 2/pi, as 64-bit words."""
    with mp.workdps(400):
        bits = int(mp.floor(2 / mp.pi * mp.mpf(2) ** (64 * 19)))
    return [0] + [(bits >> (64 * k)) & (2**64 - 1) for k in reversed(range(19))]


def print_splits() -> None:
    for name, (meaning, value, widths) in SPLITS.items():
        print(f"# {meaning}")
        print(f"{name} = {{")
        for dtype, bits in widths.items():
            print(f'    "{dtype}": (')
            for part in parts(value, bits):
                print(f"        {part!r},")
            print("    ),")
        print("}")


def main() -> None:
    print('"""Polynomial coefficients, lowest first; written by `fit`, do not edit."""\n')
    for fit in FITS:
        print(f"# {fit.meaning}")
        print(f"{fit.name} = {{")
        for dtype in fit.count:
            values, error = coefficients(fit, dtype)
            print(f'    "{dtype}": (  # |error| < {mp.nstr(error, 2)}')
            for value in values:
                print(f"        {value!r},")
            print("    ),")
        print("}")
    print_splits()
    print("# 64 zero bits, then the bits of 2/pi, highest first")
    print("TWO_OVER_PI = (")
    for word in two_over_pi_words():
        print(f"    0x{word:016X},")
    print(")")


if __name__ == "__main__":
    main()
