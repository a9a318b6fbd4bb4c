"""How far a result is from the exact one: in units in the last place, and absolutely."""

from __future__ import annotations

from typing import Any

import numpy as np

#: an error below this is none, where a result is the small difference of large numbers
ABSOLUTE = 1e-6


def of(got: Any, exact: Any) -> dict[str, float]:
    """The largest error over all parts of a result (arrays, or tuples and lists of them).

    ulp: in units of the result's dtype, of elements that are off by more than ABSOLUTE; any ulp,
    absolute: of all elements. Integers are exact or infinitely wrong. NaN and infinities must be
    where the exact result has them.
    """
    found = [_error(np.asarray(a), np.asarray(b)) for a, b in zip(_parts(got), _parts(exact))]
    return dict(zip(("ulp", "any ulp", "absolute"), map(max, zip(*found))))


def _parts(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _error(got: np.ndarray, exact: np.ndarray) -> tuple[float, ...]:
    wrong = (np.inf, np.inf, np.inf)
    if got.shape != exact.shape:
        return wrong
    if got.dtype.kind != "f" or not np.array_equal(np.isfinite(got), np.isfinite(exact)):
        same = np.array_equal(got, exact, equal_nan=got.dtype.kind == "f")
        return (0.0, 0.0, 0.0) if same else wrong
    finite = np.isfinite(exact)
    if not np.array_equal(got[~finite], exact[~finite].astype(got.dtype), equal_nan=True):
        return wrong
    off = np.abs(got[finite].astype("d") - exact[finite])
    unit = np.spacing(np.abs(exact[finite]).astype(got.dtype)).astype("d")
    ulp = off / unit
    kinds = np.where(off > ABSOLUTE, ulp, 0.0), ulp, off
    return tuple(float(kind.max(initial=0.0)) for kind in kinds)
