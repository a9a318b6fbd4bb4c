"""How far a compiled result may be from its meaning: one table by kind of op and dtype.

A bound is `units` units in the last place (of the result's dtype) of a size. What the size is tells
the kind: the element's own magnitude, the largest of the array, or what the same formula gives for
the operands' magnitudes (sum of |x|, |A| |B|: the error of a sum is relative to that).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from symgraph.backends import vmath
from symgraph.dtypes import DType
from symgraph.dtypes import dtype as as_dtype

from .arrays import FloatFacts


class Bound(NamedTuple):
    """size: "exact" (the same bits), "each", "largest", "terms" or "factors".

    "factors" is "each" where no order of multiplying over- or underflows on the way.

    float32, float64: units; half: units beyond a half of float32's, for halves, which are computed
    in float32 and rounded after each op. floor: "each" takes at
    least this magnitude, for formulas that cancel. chain: one more unit per term of a sum, up to so
    many terms. sway: this times what one unit in the operands changes, for the tails of functions
    that are steep there (the reference is not better).
    """

    size: str
    float32: float = 0.0
    float64: float = 0.0
    half: float = 1.0
    floor: float = 0.0
    chain: int = 0
    sway: float = 0.0

    def units(self, d: DType, terms: int = 1) -> float:
        """Units in the last place of dtype d, of a result of `terms` terms."""
        if self.size == "exact":
            return 0.0
        own = self.float64 if d == "float64" else self.float32
        if d.bits == 16:
            own = self.half + own * 2.0**-12
        return own + (1.0 if d.bits > 16 else 2.0**-12) * min(terms, self.chain)


EXACT = Bound("exact")
#: by kind of op; elementwise functions are below
KINDS: dict[str, Bound] = {
    "exact": EXACT,
    # Reductions: at most 64 additions in one accumulator, then a tree and the blocks' total.
    "sum": Bound("terms", 12.0, 80.0, chain=64),
    "running sum": Bound("terms", 2.0, 1.0, chain=1 << 20),
    "product": Bound("factors", 2.0, 2.0, chain=1 << 20),
    "contraction": Bound("terms", 4.0, 4.0, chain=1 << 12),
    # Compositions of reductions and elementary functions, of well-conditioned operands.
    "normalization": Bound("largest", 16.0, 32.0, half=6.0, chain=64),
    "conditioned": Bound("terms", 16.0, 32.0, half=6.0, chain=64),
    "loss": Bound("largest", 16.0, 32.0, half=6.0, chain=64),
    "composite": Bound("each", 16.0, 16.0, half=6.0, floor=1e-3),
    "uniform": EXACT,
    "normal": EXACT,
    "distribution": Bound("each", 8.0, 8.0, half=3.0, floor=1.0),
    # Complex operands run in Python, but through other expressions than the reference's.
    "complex": Bound("largest", 8.0, 8.0),
}

#: units by which operands move to see how steep a function is: fewer than the reference's own steps
#: would often show none
STEPS = 16
REFERENCE_UNITS = {"float32": 0.5, "float64": 2.0}  # errors of evaluate itself

#: elementwise ops that are not one elementary function, or whose reference is less exact
_COMPOSED: dict[str, Bound] = {
    "erfc": Bound("each", 3.0, 4.0, sway=1.0),
    "ndtr": Bound("each", 5.0, 8.0, sway=2.5),
    "gelu": Bound("each", 6.0, 9.0, sway=2.5),
    "gelu_tanh": Bound("each", 6.0, 6.0, sway=2.0),
    "silu": Bound("each", 4.0, 4.0, sway=1.0),
    "logaddexp": Bound("each", 3.0, 4.0, floor=1.0),
    "logaddexp2": Bound("each", 6.0, 6.0, floor=1.0),
    "logit": Bound("each", 6.0, 6.0),
    "xlogy": Bound("each", 3.0, 4.0),
    "xlog1py": Bound("each", 3.0, 4.0),
    "exp10": Bound("each", 2.5, 4.0, sway=1.0),
    "erfcx": Bound("each", 4.0, 6.0, sway=1.0),
    "log_ndtr": Bound("each", 5.0, 8.0),
    "cosm1": Bound("each", 6.0, 6.0),
    "powm1": Bound("each", 8.0, 8.0),
    "entr": Bound("each", 3.0, 4.0),
    "rel_entr": Bound("each", 4.0, 6.0),
    "kl_div": Bound("each", 8.0, 8.0),
    # float32 is computed in float64; the inverses' reference is as far off as their formula.
    **dict.fromkeys(("boxcox", "boxcox1p"), Bound("each", 1.0, 8.0)),
    **dict.fromkeys(("inv_boxcox", "inv_boxcox1p"), Bound("each", 1.0, 8.0, sway=4.0)),
    "sinc": Bound("each", 6.0, 6.0),
    "deg2rad": Bound("each", 1.5, 1.5),
    "rad2deg": Bound("each", 1.5, 1.5),
}
#: computed by SciPy on both sides: nothing but the same bits
HOST = frozenset({"gamma", "lgamma", "digamma", "polygamma", "erfinv"})


def of_elementwise(name: str) -> Bound:
    """The bound of an elementwise op: what vmath states, or 0 for exact operations alone."""
    if name in _COMPOSED:
        return _COMPOSED[name]
    function = vmath.FUNCTIONS.get(name)
    if function is None or not function.ulp or name in HOST:
        return EXACT
    stated = {d: max(bound) for d, bound in function.ulp.items()}
    return Bound("each", *(stated[d] + REFERENCE_UNITS[d] for d in ("float32", "float64")))


def allowed(
    bound: Bound, want: np.ndarray, sizes: np.ndarray | None, terms: int, moved: np.ndarray
) -> np.ndarray:
    """The allowed absolute error of each element, infinite where the terms may overflow.

    sizes: magnitudes for "terms" and "factors". moved: the value at operands STEPS units away.
    """
    d = as_dtype(want.dtype)
    if not d.is_inexact or bound.size == "exact":
        return np.zeros(want.shape)
    facts = FloatFacts(d) if d.is_float else FloatFacts(as_dtype(f"float{d.bits // 2}"))
    with np.errstate(all="ignore"):
        magnitude = np.abs(want.astype(np.complex128 if d.kind == "c" else np.float64))
        if bound.size == "terms":
            assert sizes is not None
            size = np.where(sizes <= facts.max, sizes, np.inf)
        elif bound.size == "factors":
            assert sizes is not None
            size = np.where(sizes <= facts.max, np.nan_to_num(magnitude), np.inf)
        elif bound.size == "largest":
            finite = magnitude[np.isfinite(magnitude)]
            size = np.full(want.shape, finite.max(initial=0.0))
        else:
            size = np.where(np.isfinite(magnitude), magnitude, 0.0)
        unit = facts.eps * np.maximum(size, max(bound.floor, facts.tiny))
        sway = (
            np.nan_to_num(np.abs(moved.astype(np.float64) - want.astype(np.float64))) / STEPS
            if bound.sway
            else 0
        )
        return (
            bound.units(d if d.is_float else as_dtype(f"float{d.bits // 2}"), terms) * unit
            + bound.sway * sway
        )


def disagreement(got: np.ndarray, want: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Where got is neither want (NaN for NaN) nor within the tolerance.

    Where nothing is allowed the sign of zero counts.
    """
    complex_ = want.dtype.kind == "c"
    inexact = as_dtype(want.dtype).is_inexact
    if not inexact:
        return np.asarray(got != want)
    wide = np.complex128 if complex_ else np.float64
    with np.errstate(all="ignore"):
        fine, rough = got.astype(wide), want.astype(wide)
        same = (fine == rough) | (np.isnan(fine) & np.isnan(rough))
        if not complex_:
            same &= ~((tolerance == 0) & (rough == 0) & (np.signbit(fine) != np.signbit(rough)))
        close = np.abs(fine - rough) <= tolerance
        return ~(same | close | np.isinf(tolerance))
