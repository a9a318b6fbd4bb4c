"""How far results may move when every operation on floats rounds another way.

That much debug mode allows. The graph is evaluated again with each float result disturbed by a few
units in the last place, a sum by as many of its terms' magnitudes, what a loop carries out by
those of a loop over magnitudes, and the logarithm of a sum near 1 by as many of 1. Where the
results part, the program itself is that sensitive to rounding, so no stage can be blamed for less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from symgraph.dims import Atom
from symgraph.evaluate import compute
from symgraph.expr import Expr, toposort
from symgraph.ops.contract import MatMul
from symgraph.ops.define import Elementwise
from symgraph.ops.loop import Scan
from symgraph.ops.nnet import LogSoftmax, LogSumExp
from symgraph.ops.reduce import Cumulative, Reduce

UNITS = 4.0  # of disturbance, either way
RUNS = 3
OUT_THERE = 2.0**-6  # times 1 / eps: what a pole reaches if rounding decides how near it is
SUMS = (Reduce, Cumulative, MatMul, Scan)
LOGARITHMS = (LogSoftmax, LogSumExp)
KEEPS = frozenset({"neg", "abs", "maximum", "minimum", "where", "sign", "floor", "ceil", "trunc"})
EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


def spread(
    roots: Sequence[Expr],
    given: Mapping[Expr, Any],
    sizes: Mapping[Atom, Any],
    expected: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """How far each element of the roots' values moves.

    Infinite where it stops being finite, or is near a pole.
    """
    moved = [np.zeros(e.shape) for e in expected]
    for seed in range(RUNS):
        values = _disturbed(roots, given, sizes, np.random.default_rng(seed))
        for m, v, e in zip(moved, values, expected):
            np.maximum(m, distance(v, e), out=m)
    return moved


def distance(value: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """How far a disturbed value is off; what rounding moves by its own size out there has a pole.

    (1 / (a sum that is 0, or all but 0) is infinite or not by the order of the sum.)
    """
    name = expected.dtype.name
    out_there = OUT_THERE / EPS[name] if name in EPS else np.inf
    with np.errstate(all="ignore"):
        v, e = value.astype(np.complex128), expected.astype(np.complex128)
        far, size = np.abs(v - e), np.maximum(np.abs(v), np.abs(e))
        same = (value == expected) | ((value != value) & (expected != expected))
        pole = (far >= np.abs(e) / 2) & (size > out_there)
    return np.where(same, 0.0, np.where(np.isfinite(far) & ~pole, far, np.inf))


def _disturbed(
    roots: Sequence[Expr],
    given: Mapping[Expr, Any],
    sizes: Mapping[Atom, Any],
    noise: np.random.Generator,
) -> list[np.ndarray]:
    done: dict[int, Any] = {id(x): v for x, v in given.items()}
    for node in toposort(roots, blockers=given):
        if id(node) not in done:
            operands = [done[id(x)] for x in node.inputs]
            done[id(node)] = _with_noise(
                node, compute(node, operands, sizes), operands, sizes, noise
            )
    return [np.asarray(done[id(x)]) for x in roots]


def _with_noise(
    node: Expr,
    value: Any,
    operands: Sequence[Any],
    sizes: Mapping[Atom, Any],
    noise: np.random.Generator,
) -> Any:
    """The value, moved if the op rounds."""
    if not _rounds(node):
        return value
    size = value
    with np.errstate(all="ignore"):
        if isinstance(node.op, SUMS) and node.op.name != "prod":
            size = compute(node, [np.abs(x) for x in operands], sizes)
        elif isinstance(node.op, LOGARITHMS):
            size = 1 + np.abs(value)
    if isinstance(value, tuple):
        return tuple(_moved(v, s, noise) for v, s in zip(value, size))
    return _moved(value, size, noise)


def _moved(value: np.ndarray, size: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    """The value moved by a few units in the last place of `size`, if it is of floats."""
    if value.dtype.name not in EPS:
        return value
    with np.errstate(all="ignore"):
        signs = noise.choice([-1.0, 1.0], value.shape)  # no draw so small that it rounds to nothing
        step = UNITS * EPS[value.dtype.name] * signs * noise.uniform(0.5, 1, value.shape)
        return np.asarray(value + step * size).astype(value.dtype)


def _rounds(node: Expr) -> bool:
    """Whether the op computes (movement and selection do not round)."""
    if isinstance(node.op, Elementwise):
        return node.op.name not in KEEPS
    if isinstance(node.op, SUMS):
        return node.op.name not in ("max", "min")
    return node.op.expand is not None
