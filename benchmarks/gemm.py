"""Matrix products of float32 against NumPy (OpenBLAS): cubes, layers of a small network, vectors.

    python -m benchmarks.gemm [--quick] [--check]

Rows are named M x K x N; "T" marks an operand that is given transposed, as gradients have it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from benchmarks.harness import Row, Work, main
from benchmarks.timing import Statement

# (M, K, N), A transposed, B transposed, goal: speed relative to NumPy
CUBES = [((n, n, n), False, False, 1.0 if n < 1024 else 0.9) for n in (64, 128, 256, 512, 1024)]
LAYERS = [
    ((128, 784, 500), False, False, 1.0),
    ((784, 128, 500), True, False, 1.0),
    ((128, 500, 784), False, True, 1.0),
    ((128, 500, 10), False, False, 0.9),
    ((16, 512, 512), False, False, 1.0),
]
VECTORS = [
    ((1, 784, 500), False, False, 0.9),
    ((1, 1024, 1024), False, False, 0.9),
    ((1, 1024, 1024), False, True, 0.9),
    ((1024, 1024, 1), False, False, 0.9),
]
QUICK = {(64, 64, 64), (512, 512, 512), (128, 784, 500), (1, 784, 500)}


def operands(sizes: tuple[int, int, int], turn_a: bool, turn_b: bool) -> Any:
    """A maker of A and B as they lie in memory."""
    m, k, n = sizes
    shapes = (k, m) if turn_a else (m, k), (n, k) if turn_b else (k, n)
    return lambda random: tuple(random.standard_normal(s).astype(np.float32) for s in shapes)


def product_symgraph(turn_a: bool, turn_b: bool) -> Any:
    """Ours, compiled for the sizes at hand."""

    def build(a: np.ndarray, b: np.ndarray) -> Statement:
        import symgraph as sg

        x, y = sg.array("x", a.shape), sg.array("y", b.shape)
        result = (x.T if turn_a else x) @ (y.T if turn_b else y)
        return Statement("f(a, b)", f=sg.function([x, y], result), a=a, b=b)

    return build


def product_numpy(turn_a: bool, turn_b: bool) -> Any:
    """NumPy's, on the same memory."""

    def build(a: np.ndarray, b: np.ndarray) -> Statement:
        return Statement("x @ y", x=a.T if turn_a else a, y=b.T if turn_b else b)

    return build


def row(sizes: tuple[int, int, int], turn_a: bool, turn_b: bool, goal: float) -> Row:
    """One product; the tolerance is K * eps for operands of unit variance."""
    m, k, n = sizes
    name = f"{m}{'T' * turn_a} x {k} x {n}{'T' * turn_b}"
    size = 4 * (m * k + k * n + m * n)
    return Row(
        name,
        operands(sizes, turn_a, turn_b),
        product_symgraph(turn_a, turn_b),
        {"numpy": product_numpy(turn_a, turn_b)},
        tolerance=k * float(np.finfo(np.float32).eps),
        work=Work(operations=2 * m * k * n, bytes=size, level="read_L2"),
        goal={"ratio": goal},
        quick=sizes in QUICK,
    )


if __name__ == "__main__":
    sys.exit(main("gemm", [row(*case) for case in CUBES + LAYERS + VECTORS]))
