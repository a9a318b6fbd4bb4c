"""Fused loops against every peer: elementwise chains, reductions, rows, movement, random numbers.

    python -m benchmarks.loops [--quick] [--check] [--threads N] [--cpu x86-64-v3] [--rows A,B]

All in float32. Each row states three things about us beside the ratio to the fastest peer: the CPU
time of a cold compilation, the largest error against float64, and, where memory is the limit, the
share of the bandwidth that this machine showed in this run.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks import dialects
from benchmarks.dialects import Formula
from benchmarks.harness import Row, Work, main
from benchmarks.limits import cache_sizes, footprints
from benchmarks.overhead import call_jax, call_numba, call_numpy, call_pytensor, call_symgraph
from benchmarks.overhead import two_vectors as vectors_of
from benchmarks.timing import Statement

COMPILATION = 0.030  # CPU seconds of a cold one
ULP = 4.0
BANDWIDTH = 0.75  # of what the machine's own loop reaches
SHAPE = (4096, 1000)
PEERS = {
    "numpy": dialects.numpy,
    "jax": dialects.jax,
    "torch": dialects.torch,
    "pytensor": dialects.pytensor,
}


def memory(bytes: float, kind: str = "triad") -> Work:
    """Work that moves `bytes`, at the rate of the smallest cache that holds them."""
    sizes = footprints(cache_sizes(), 1)
    level = next((name for name, size in sizes.items() if bytes <= 2 * size), "DRAM")
    return Work(bytes=bytes, level=f"{kind}_{level}")


def row(
    name: str,
    inputs: Any,
    formula: Formula,
    loop: str,
    work: Work,
    goal: Mapping[str, float],
    tolerance: float = 1e-5,
    **more: Any,
) -> Row:
    """A row in which everybody computes `formula`; `loop` is numba's."""
    peers = {peer: dialect(formula) for peer, dialect in PEERS.items()}
    return Row(
        name,
        inputs,
        dialects.symgraph(formula),
        {**peers, "numba": dialects.numba(loop)},
        reference="numpy",
        tolerance=tolerance,
        exact=dialects.exact(formula),
        work=work,
        goal={**goal, "ulp": ULP, "build": COMPILATION},
        slow=frozenset({"pytensor"}),
        **more,
    )


# --- elementwise ---

SIZES = (1_000, 100_000, 10_000_000)


def vectors(count: int, size: int) -> Any:
    """A maker of vectors of normal numbers."""
    return lambda random: tuple(random.standard_normal((count, size), dtype="f"))


def multiply_add(m: Any, a: Any, b: Any, c: Any) -> Any:
    return a * b + c


def gate(m: Any, a: Any, x: Any, b: Any, c: Any) -> Any:
    return m.tanh(a * x + b) * m.sigmoid(c)


def gelu(m: Any, x: Any) -> Any:
    return 0.5 * x * (1 + m.erf(x * 0.5**0.5))


def log1p_exp(m: Any, x: Any) -> Any:
    return m.log(1 + m.exp(x))


#: formula -> name, number of inputs, goals of the three sizes
ELEMENTWISE: dict[Any, tuple[str, int, tuple[float, ...]]] = {
    multiply_add: ("a*b+c", 3, (4.0, 1.0, 1.4)),
    gate: ("tanh(ax+b)*sigmoid(c)", 4, (6.0, 1.8, 3.5)),
    gelu: ("gelu(erf)", 1, (8.0, 1.3, 4.0)),
    log1p_exp: ("log(1+exp x)", 1, (3.0, 1.3, 4.0)),
}


def elementwise_rows() -> list[Row]:
    rows = []
    for formula, (name, count, goals) in ELEMENTWISE.items():
        for size, ratio in zip(SIZES, goals):
            goal = {"ratio": ratio}
            if formula is multiply_add and size == SIZES[-1]:
                goal["fraction"] = BANDWIDTH
            rows.append(
                row(
                    f"{name} {size:.0e}".replace("e+0", "e"),
                    vectors(count, size),
                    formula,
                    formula.__name__,
                    memory(4.0 * (count + 1) * size),
                    goal,
                    quick=size == SIZES[1] or (formula is multiply_add and size > SIZES[1]),
                )
            )
    return rows


# --- rows of a matrix ---


def matrix(random: np.random.Generator) -> tuple[np.ndarray]:
    return (random.standard_normal(SHAPE, dtype="f"),)


def positive_matrix(random: np.random.Generator) -> tuple[np.ndarray]:
    """Numbers whose sum does not cancel, so that an error in it is relative to it."""
    return (random.random(SHAPE, dtype="f"),)


def affine_matrix(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    """A scale near 1 and a small shift, as layers have them: nothing large cancels."""
    scale = random.uniform(0.25, 1, SHAPE[1]).astype("f")
    return (*matrix(random), scale, random.uniform(-0.1, 0.1, SHAPE[1]).astype("f"))


def labelled_matrix(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return (*matrix(random), random.integers(0, SHAPE[1], SHAPE[0]))


def matrix_bytes() -> float:
    return 4.0 * SHAPE[0] * SHAPE[1]


def fused_rows() -> list[Row]:
    return [
        row(
            "softmax",
            matrix,
            lambda m, x: m.softmax(x),
            "softmax",
            memory(2 * matrix_bytes()),
            {"ratio": 1.9},
        ),
        row(
            "layernorm",
            affine_matrix,
            lambda m, x, scale, shift: m.layer_norm(x, scale, shift),
            "layer_norm",
            memory(2 * matrix_bytes()),
            {"ratio": 0.95},
        ),
        row(
            "log-softmax + NLL with gradient",
            labelled_matrix,
            lambda m, x, labels: m.cross_entropy(x, labels),
            "cross_entropy",
            memory(2 * matrix_bytes()),
            {"ratio": 1.5},
        ),
    ]


# --- reductions ---

AXES = (0, 1, None)
#: word -> inputs, goals of the ratio over axis 0, 1, all
REDUCTIONS = {
    "sum": (positive_matrix, (1.0, 1.0, 1.0)),
    "mean": (positive_matrix, (1.0, 1.0, 1.0)),
    "max": (matrix, (1.0, 1.0, 1.0)),
    "var": (matrix, (4.0, 1.8, 4.0)),
    "argmax": (matrix, (15.0, 0.9, 0.9)),
}
NEAR = ("sum", "mean", "max")  # whose axes must be near each other
#: Their goals are set against what the libraries offer. Numba offers no such reduction: its loop,
#: written for one axis by hand, is shown and not counted.
BY_HAND = ("var", "argmax")


def reduction(word: str, axis: int | None) -> Formula:
    return lambda m, x: getattr(m, word)(x, axis=axis)


def reduction_rows() -> list[Row]:
    rows = []
    for word, (inputs, goals) in REDUCTIONS.items():
        near = word in NEAR
        for axis, ratio in zip(AXES, goals):
            place = "all" if axis is None else str(axis)
            rows.append(
                row(
                    f"{word} over {place}",
                    inputs,
                    reduction(word, axis),
                    f"{word}_{place}",
                    memory(matrix_bytes(), "read"),
                    {"ratio": ratio, **({"spread": 1.5} if near else {})},
                    group=word if near else None,
                    quick=word in ("sum", "argmax"),
                    shown=frozenset({"numba"}) if word in BY_HAND else frozenset(),
                    tolerance=1e-4,  # peers that add in one chain
                )
            )
    for word in ("sum", "max"):
        rows.append(
            row(
                f"{word} over all 1e7",
                lambda random: (random.random(SIZES[-1], dtype="f"),),
                reduction(word, None),
                f"{word}_all",
                memory(4.0 * SIZES[-1], "read"),
                {"fraction": BANDWIDTH},
                quick=word == "sum",
                tolerance=1e-2,  # numba's chain again, ten million long
            )
        )
    return rows


# --- movement ---

SIDE = 2048
CONCATENATED = (4096, 250)


def four_matrices(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return tuple(random.standard_normal((4, *CONCATENATED), dtype="f"))


TABLE, WORDS = (20_000, 128), 8_192


def words_of_a_text(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    """A table, words of which some are frequent, and what the loss weighs each row with."""
    words = (TABLE[0] * random.random(WORDS) ** 1.5).astype(np.int64)
    table = random.standard_normal(TABLE, dtype="f")
    return table, words, random.random((WORDS, TABLE[1]), dtype="f")  # sums that do not cancel


def movement_rows() -> list[Row]:
    return [
        row(
            "transpose 2048x2048",
            lambda random: (random.standard_normal((SIDE, SIDE), dtype="f"),),
            lambda m, x: m.transposed(x),
            "transposed",
            memory(8.0 * SIDE * SIDE),
            {"ratio": 4.0},
        ),
        row(
            "concatenate 4 + relu",
            four_matrices,
            lambda m, *parts: m.relu(m.concatenate(parts, 1)),
            "concatenate_relu",
            memory(8.0 * 4 * CONCATENATED[0] * CONCATENATED[1]),
            {"ratio": 1.2},
        ),
        row(
            "embedding + gradient",
            words_of_a_text,
            lambda m, table, words, weights: m.embedding(table, words, weights),
            "embedding",
            memory(4.0 * TABLE[0] * TABLE[1] + 16.0 * WORDS * TABLE[1]),
            {"ratio": 1.2},
            needs="take",
        ),
    ]


# --- random numbers ---

DRAWS = 10_000_000


def draw_symgraph(word: str) -> Any:
    def build() -> Statement:
        import symgraph as sg

        return Statement("f()", f=sg.function([], getattr(sg.RandomStream(1), word)(DRAWS)))

    return build


def draw_numpy(word: str) -> Any:
    def build() -> Statement:
        draw = getattr(np.random.default_rng(1), word)
        return Statement("draw(n, dtype='f')", draw=draw, n=DRAWS)

    return build


def draw_jax(word: str) -> Any:
    def build() -> Statement:
        import jax

        draw = jax.jit(lambda key: getattr(jax.random, word)(key, (DRAWS,)))
        key = jax.random.key(1)
        return Statement("draw(key).block_until_ready()", draw=draw, key=key)

    return build


def draw_torch(word: str) -> Any:
    def build() -> Statement:
        import torch

        torch.set_num_threads(dialects.threads())
        return Statement("draw(n)", draw=getattr(torch, word), n=DRAWS)

    return build


def draw_numba(loop: str) -> Any:
    def build() -> Statement:
        from benchmarks import numba_loops

        return Statement("draw(n)", draw=getattr(numba_loops, loop), n=DRAWS)

    return build


#: ours, numpy's, jax's, torch's, numba's word, and the goal
DISTRIBUTIONS = [
    ("normal", "standard_normal", "normal", "randn", "normal", 2.0),
    ("uniform", "random", "uniform", "rand", "uniform", 1.5),
]


def random_rows() -> list[Row]:
    return [
        Row(
            f"{ours} 1e7",
            lambda random: (),
            draw_symgraph(ours),
            {
                "numpy": draw_numpy(of_numpy),
                "jax": draw_jax(of_jax),
                "torch": draw_torch(of_torch),
                "numba": draw_numba(of_numba),
            },
            tolerance=None,  # everybody has a generator of their own
            work=memory(4.0 * DRAWS),
            goal={"ratio": ratio, "build": COMPILATION},
        )
        for ours, of_numpy, of_jax, of_torch, of_numba, ratio in DISTRIBUTIONS
    ]


# --- calls ---


def call_torch(x: np.ndarray, y: np.ndarray) -> Statement:
    import torch

    return Statement("x + y", x=torch.from_numpy(x), y=torch.from_numpy(y))


COMPILED = {"numba": call_numba, "jax": call_jax, "pytensor": call_pytensor}


def call_rows() -> list[Row]:
    return [
        Row(
            "call x+y, eager peers",
            vectors_of(1),
            call_symgraph,
            {"numpy": call_numpy, "torch": call_torch},
            goal={"ratio": 3.0},
        ),
        Row(
            "call x+y, compiled peers", vectors_of(1), call_symgraph, COMPILED, goal={"ratio": 5.0}
        ),
    ]


def rows() -> list[Row]:
    """The whole table."""
    parts = (elementwise_rows, fused_rows, reduction_rows, movement_rows, random_rows, call_rows)
    return [row for part in parts for row in part()]


if __name__ == "__main__":
    sys.exit(main("loops", rows()))
