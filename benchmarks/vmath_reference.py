"""What the elementary functions are: NumPy's and SciPy's in wider arithmetic, mpmath's on request.

float32 is compared with float64 (good to 2**-28 of its units), float64 with the 64 significant bits
of x86's long double (2**-11 of its units). The error function has no long double: its candidates
are found with SciPy and judged by mpmath, as is whatever turns out worst.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.exact_special import SPECIAL, by_mpmath, special

LONG = np.longdouble
JUDGED = frozenset({*SPECIAL, "gelu"})  # no long double: SciPy screens, mpmath judges


def _sigmoid(x: Any) -> Any:
    e = np.exp(-abs(x))
    return np.where(x < 0, e, np.ones_like(e)) / (1 + e)


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))


def _in_float64(name: str) -> Callable[[Any], Any]:
    function = special(name)
    return lambda x: function(x.astype(np.float64))


def _gelu(x: Any) -> Any:
    import scipy.special

    return x * scipy.special.ndtr(x.astype(np.float64))


def _exprel(x: Any) -> Any:
    quotient = np.expm1(x) / np.where(x == 0, 1, x)
    return np.where(x == 0, 1, np.where(x == np.inf, x, quotient))


# Name -> the same function in the arithmetic of its arguments (JUDGED: in float64).
REFERENCE: dict[str, Callable[..., Any]] = {
    **{n: getattr(np, n) for n in "exp exp2 expm1 log log2 log10 log1p".split()},
    **{n: getattr(np, n) for n in "sin cos tan sinh cosh tanh cbrt hypot logaddexp fmod".split()},
    **{"a" + n: getattr(np, "arc" + n) for n in "sin cos tan sinh cosh tanh tan2".split()},
    "pow": np.power,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sqrt": np.sqrt,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "log_sigmoid": lambda x: -_softplus(-x),
    "gelu": _gelu,
    "exprel": _exprel,
    **{name: _in_float64(name) for name in SPECIAL},
}


def exact_values(name: str, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
    """The function in the next wider arithmetic."""
    wide: Any = LONG if inputs[0].dtype == np.float64 else np.float64
    with np.errstate(all="ignore"):
        if name == "fmod":  # exact as it is
            return np.fmod(*inputs).astype(wide)
        if name in JUDGED:
            return REFERENCE[name](inputs[0]).astype(wide)
        return REFERENCE[name](*(a.astype(wide) for a in inputs))


def _mp_sigmoid(mp: Any, x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def _mp_softplus(mp: Any, x: Any) -> Any:
    return mp.log1p(mp.exp(x))


# Names that mpmath spells otherwise or does not have.
_BY_MPMATH: dict[str, Callable[..., Any]] = {
    "exp2": lambda mp, x: mp.power(2, x),
    "log2": lambda mp, x: mp.log(x) / mp.log(2),
    "pow": lambda mp, x, y: mp.power(x, y),
    "rsqrt": lambda mp, x: 1 / mp.sqrt(x),
    "sigmoid": _mp_sigmoid,
    "softplus": _mp_softplus,
    "log_sigmoid": lambda mp, x: -_mp_softplus(mp, -x),
    "exprel": lambda mp, x: mp.expm1(x) / x if x else mp.mpf(1),
    "gelu": lambda mp, x: x * mp.erfc(-x / mp.sqrt(2)) / 2,
    "cbrt": lambda mp, x: mp.sign(x) * mp.cbrt(abs(x)),
    "logaddexp": lambda mp, x, y: max(x, y) + mp.log1p(mp.exp(-abs(x - y))),
}


def judged_values(name: str, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
    """The function of a few finite arguments by mpmath, as long doubles."""
    import mpmath

    if name in SPECIAL:
        return by_mpmath(name, inputs[0])
    function = _BY_MPMATH.get(name) or (lambda mp, *a: getattr(mp, name)(*a))
    out = np.empty(inputs[0].shape, LONG)
    with mpmath.workdps(60):
        for i, arguments in enumerate(zip(*(a.ravel().tolist() for a in inputs))):
            exact = function(mpmath, *map(mpmath.mpf, arguments))
            high = float(exact)
            out.flat[i] = LONG(high)
            if np.isfinite(high):
                out.flat[i] += LONG(float(exact - mpmath.mpf(high)))
    return out
