"""Special functions as references: SciPy's for float64 arguments, mpmath's for wider ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

LONG = np.longdouble
DIGITS = 60


class Special(NamedTuple):
    """A function of mpmath numbers, where it is used, and what stands beside that."""

    exact: Callable[[Any, Any], Any]  # of the mpmath module and a number
    low: float
    high: float
    below: Callable[[Any], Any]  # of long doubles
    above: Callable[[Any], Any]


def _constant(value: float) -> Callable[[Any], Any]:
    return lambda x: np.full_like(x, value)


def _log_ndtr(mp: Any, x: Any) -> Any:
    half = mp.erfc(abs(x) / mp.sqrt(2)) / 2
    return mp.log(half) if x < 0 else mp.log1p(-half)


def _far_log_ndtr(x: Any) -> Any:
    with np.errstate(all="ignore"):
        return -x * x / 2 - np.log(-x) - LONG("0.918938533204672741780329736")


def _ndtri(mp: Any, p: Any) -> Any:
    """Newton's steps from SciPy's number, which has 15 digits."""
    from scipy.special import ndtri

    if p > 0.5:
        return -_ndtri(mp, 1 - p)
    if not p > 0:
        return mp.mpf("nan") if p < 0 or p != p else mp.mpf("-inf")
    y = mp.mpf(float(ndtri(float(p))))
    for _ in range(3):
        y -= (mp.erfc(-y / mp.sqrt(2)) / 2 - p) * mp.sqrt(2 * mp.pi) * mp.exp(y * y / 2)
    return y


def _bessel(order: int, scaled: bool) -> Special:
    def exact(mp: Any, x: Any) -> Any:
        return mp.besseli(order, x) * (mp.exp(-abs(x)) if scaled else 1)

    def far(x: Any) -> Any:
        a = np.abs(x)
        with np.errstate(all="ignore"):
            m = 4 * order * order
            series = 1 - (m - 1) / (8 * a) + (m - 1) * (m - 9) / (128 * a * a)
            size = series / np.sqrt(2 * LONG("3.14159265358979323846264338") * a)
        size = size if scaled else np.full_like(x, np.inf)
        return np.copysign(size, x) if order else size

    end = 1e6 if scaled else 720.0
    return Special(exact, -end, end, far, far)


SPECIAL: dict[str, Special] = {
    "erf": Special(lambda mp, x: mp.erf(x), -30, 30, _constant(-1.0), _constant(1.0)),
    "erfc": Special(lambda mp, x: mp.erfc(x), -30, 30, _constant(2.0), _constant(0.0)),
    "erfcx": Special(
        lambda mp, x: mp.exp(x * x) * mp.erfc(x),
        -27,
        1e4,
        _constant(np.inf),
        lambda x: (1 - 1 / (2 * x * x)) / (x * LONG("1.77245385090551602729816748334")),
    ),
    "log_ndtr": Special(_log_ndtr, -1e4, 50, _far_log_ndtr, _constant(-0.0)),
    "ndtri": Special(_ndtri, -1, 2, _constant(np.nan), _constant(np.nan)),
    "exp10": Special(lambda mp, x: mp.mpf(10) ** x, -400, 400, _constant(0.0), _constant(np.inf)),
    "i0": _bessel(0, False),
    "i1": _bessel(1, False),
    "i0e": _bessel(0, True),
    "i1e": _bessel(1, True),
}
ODD = ("erf", "i1", "i1e")  # zeros of either sign are themselves


def special(name: str) -> Callable[[Any], Any]:
    """SciPy's function of float64, with the limits that it lacks."""

    def reference(x: Any) -> Any:
        import scipy.special

        result = getattr(scipy.special, name)(x)
        if name in ("i0", "i1"):  # SciPy: NaN at the infinities
            result = np.where(
                np.isinf(x), np.copysign(np.inf, x) if name == "i1" else np.inf, result
            )
        if name == "i1" or name == "i1e":
            result = np.where(x == 0, x, result)
        return result

    return reference


def by_mpmath(name: str, x: np.ndarray) -> np.ndarray:
    """Long doubles from numbers of 60 digits."""
    import mpmath

    known = SPECIAL[name]
    with np.errstate(all="ignore"):
        out = np.where(x > 0, known.above(x), known.below(x)).astype(LONG)
    out[np.isnan(x)] = np.nan
    with mpmath.workdps(DIGITS):
        for i, value in enumerate(x.ravel().astype(float).tolist()):
            if known.low <= value <= known.high:
                exact = known.exact(mpmath, mpmath.mpf(value))
                high = LONG(float(exact))
                if np.isfinite(high):
                    high += LONG(float(exact - mpmath.mpf(float(exact))))
                out.flat[i] = high
    if name in ODD:
        out = np.where(x == 0, x, out)
    return out
