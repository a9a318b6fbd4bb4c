"""Philox4x32-10, the counter-based generator behind every random draw, in NumPy.

Source: Salmon, Moraes, Dror, Shaw, Parallel random numbers: as easy as 1, 2, 3 (SC 2011), and its
Random123.
"""

from __future__ import annotations

from typing import Any

import numpy as np

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)

_HALF = np.uint64(32)


def philox4x32(
    key0: Any, key1: Any, c0: Any, c1: Any, c2: Any, c3: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The four words of each block.   All uint32, broadcast together."""
    words = [np.asarray(x, np.uint32) for x in (key0, key1, c0, c1, c2, c3)]
    k0, k1, c0, c1, c2, c3 = np.broadcast_arrays(*words)
    with np.errstate(over="ignore"):
        for r in range(ROUNDS):
            high0, low0 = _product(MULTIPLIERS[0], c0)
            high1, low1 = _product(MULTIPLIERS[1], c2)
            step0, step1 = (np.uint32(r * step & 0xFFFFFFFF) for step in KEY_STEPS)
            c0, c1 = high1 ^ c1 ^ (k0 + step0), low1
            c2, c3 = high0 ^ c3 ^ (k1 + step1), low0
    return c0, c1, c2, c3


def _product(multiplier: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """High and low halves of the 64-bit product."""
    wide = x.astype(np.uint64) * np.uint64(multiplier)
    return (wide >> _HALF).astype(np.uint32), wide.astype(np.uint32)


__all__ = ["KEY_STEPS", "MULTIPLIERS", "ROUNDS", "philox4x32"]
