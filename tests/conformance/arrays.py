"""Arrays to sweep over: values of each dtype (ordinary, special, extreme) in each memory layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from symgraph.dtypes import DType

MODES = ("ordinary", "special", "extreme")

_SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -2.5]
#: factors of the largest, the smallest normal and the smallest number
_EXTREME = [
    (1.0, "max"),
    (0.5, "max"),
    (1.0, "tiny"),
    (0.75, "tiny"),
    (1.0, "least"),
    (3.0, "least"),
]


class FloatFacts:
    """The extreme numbers of a float dtype, as Python floats."""

    def __init__(self, d: DType):
        digits, low, high = {
            "float16": (11, -14, 15),
            "bfloat16": (8, -126, 127),
            "float32": (24, -126, 127),
            "float64": (53, -1022, 1023),
        }[str(d)]
        self.eps = 2.0 ** (1 - digits)
        self.tiny = 2.0**low
        self.least = float(np.ldexp(1.0, low - digits + 1))
        self.max = (2.0 - self.eps) * 2.0**high


def draw(shape: Sequence[int], d: DType, mode: str, rng: np.random.Generator) -> np.ndarray:
    """An array in C order.

    ordinary: small numbers. special: NaN, infinities, signed zeros, powers of 2 among them.
    extreme: the largest, the smallest and subnormal numbers among them; integers over their range.
    """
    shape = tuple(shape)
    if d.kind == "b":
        return rng.random(shape) < 0.5
    if d.is_integer:
        return _integers(shape, d, mode, rng)
    if d.kind == "c":
        result = np.empty(shape, d.np)
        result.real, result.imag = (_floats(shape, d.bits // 2, mode, rng) for _ in range(2))
        return result
    with np.errstate(all="ignore"):
        x = rng.normal(size=shape) * 2
        if mode != "ordinary":
            odd = _SPECIAL if mode == "special" else _extremes(d)
            x = np.where(rng.random(shape) < 0.5, rng.choice(odd, shape), x)
        return np.asarray(x).astype(d.np)


def _floats(shape: tuple[int, ...], bits: int, mode: str, rng: np.random.Generator) -> np.ndarray:
    from symgraph.dtypes import float32, float64

    mode = "ordinary" if mode == "extreme" else mode
    return draw(shape, float32 if bits == 32 else float64, mode, rng)


def _extremes(d: DType) -> list[float]:
    facts = FloatFacts(d)
    sizes = [factor * getattr(facts, name) for factor, name in _EXTREME]
    return [*sizes, *[-s for s in sizes], 0.0, -0.0]


def _integers(shape: tuple[int, ...], d: DType, mode: str, rng: np.random.Generator) -> np.ndarray:
    info = np.iinfo(d.np)
    if mode == "ordinary":
        return rng.integers(max(info.min, -9), 10, shape).astype(d.np)
    edges = [
        info.min,
        info.min + 1,
        info.max,
        info.max - 1,
        0,
        1,
        info.max // 2,
        d.bits,
        d.bits - 1,
    ]
    edges += [-1, -2] if d.is_signed else [2, 3]
    if mode == "special":
        return rng.choice(np.array(edges, d.np), shape)
    return rng.integers(info.min, info.max, shape, d.np, endpoint=True)


# ------------------------------------------------------------------------------------------ layouts


def _fortran(x: np.ndarray) -> np.ndarray:
    return np.array(x, order="F")


def _sliced(x: np.ndarray) -> np.ndarray:
    room = np.zeros(tuple(2 * s + 1 for s in x.shape), x.dtype)
    view = room[(*(slice(1, 2 * s + 1, 2) for s in x.shape), ...)]
    view[...] = x
    return view


def _reversed(x: np.ndarray) -> np.ndarray:
    every = (slice(None, None, -1),) * x.ndim
    return x[every].copy()[every] if x.ndim else x


def _broadcast(x: np.ndarray) -> np.ndarray:
    """The first row repeated by a stride of 0 (other values than x)."""
    return np.broadcast_to(x[:1], x.shape) if x.ndim and x.shape[0] else x


def _unaligned(x: np.ndarray) -> np.ndarray:
    room = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    room[...] = x
    return room


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": lambda x: x,
    "F": _fortran,
    "sliced": _sliced,
    "reversed": _reversed,
    "broadcast": _broadcast,
    "unaligned": _unaligned,
}
