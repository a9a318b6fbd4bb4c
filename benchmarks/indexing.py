"""Rows and elements at integer indices, and their gradients, against NumPy, PyTorch and JAX.

    python -m benchmarks.indexing [--quick] [--check]

Rows are named N x D [K]: K indices into a table of N rows of D float32. A gradient is zeros with
the K rows of a cotangent added; an update adds them to a table that is there.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from benchmarks.harness import Row, main
from benchmarks.timing import Statement

SIZES = [(50_000, 256, 8192), (1000, 64, 256), (50_000, 16, 131_072), (1_000_000, 1, 1_000_000)]


def operands(n: int, d: int, k: int) -> Any:
    """A maker of a table, indices into it and rows to add."""
    rest = (d,) if d > 1 else ()

    def make(random: np.random.Generator) -> tuple[np.ndarray, ...]:
        table = random.standard_normal((n, *rest)).astype(np.float32)
        rows = random.standard_normal((k, *rest)).astype(np.float32)
        return table, random.integers(0, n, k).astype(np.int32), rows

    return make


def _inputs(table: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> Any:
    import symgraph as sg

    return (
        sg.array("table", table.shape),
        sg.array("ids", ids.shape, "int32"),
        sg.array("rows", rows.shape),
    )


def take_symgraph(table: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> Statement:
    import symgraph as sg

    t, i, _ = _inputs(table, ids, rows)
    return Statement("f(t, i)", f=sg.function([t, i], sg.embedding(t, i)), t=table, i=ids)


def take_numpy(table: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> Statement:
    return Statement("take(t, i, 0)", take=np.take, t=table, i=ids)


def take_torch(table: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> Statement:
    import torch

    return Statement(
        "take(t, 0, i)", take=torch.index_select, t=torch.tensor(table), i=torch.tensor(ids)
    )


def take_jax(table: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> Statement:
    import jax

    f = jax.jit(lambda t, i: t[i])
    return Statement(
        "f(t, i).block_until_ready()", f=f, t=jax.device_put(table), i=jax.device_put(ids)
    )


def slope_symgraph(table: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> Statement:
    import symgraph as sg

    t, i, y = _inputs(table, ids, rows)
    slope = sg.grad((sg.embedding(t, i) * y).sum(), t)
    return Statement("f(i, y)", f=sg.function([i, y], slope), i=ids, y=rows)


def slope_numpy(table: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> Statement:
    def slope(i: np.ndarray, y: np.ndarray) -> np.ndarray:
        result = np.zeros_like(table)
        np.add.at(result, i, y)
        return result

    return Statement("f(i, y)", f=slope, i=ids, y=rows)


def slope_torch(table: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> Statement:
    import torch

    like = torch.tensor(table)
    return Statement(
        "zeros(like).index_add_(0, i, y)",
        zeros=torch.zeros_like,
        like=like,
        i=torch.tensor(ids),
        y=torch.tensor(rows),
    )


def slope_jax(table: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> Statement:
    import jax
    import jax.numpy as jnp

    f = jax.jit(lambda i, y: jnp.zeros(table.shape, jnp.float32).at[i].add(y))
    return Statement(
        "f(i, y).block_until_ready()", f=f, i=jax.device_put(ids), y=jax.device_put(rows)
    )


def update_symgraph(table: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> Statement:
    import symgraph as sg

    _, i, y = _inputs(table, ids, rows)
    w = sg.shared(np.zeros_like(table), "w")
    f = sg.function([i, y], [], updates={w: sg.inc_subtensor(w[i], y)})
    return Statement("f(i, y)", f=f, i=ids, y=rows)


def update_numpy(table: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> Statement:
    return Statement("add(w, i, y)", add=np.add.at, w=np.zeros_like(table), i=ids, y=rows)


def update_torch(table: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> Statement:
    import torch

    w = torch.zeros_like(torch.tensor(table))
    return Statement("w.index_add_(0, i, y)", w=w, i=torch.tensor(ids), y=torch.tensor(rows))


KINDS = {
    "take": (take_symgraph, {"numpy": take_numpy, "torch": take_torch, "jax": take_jax}, 0.0),
    "gradient": (
        slope_symgraph,
        {"numpy": slope_numpy, "torch": slope_torch, "jax": slope_jax},
        1e-5,
    ),
    "update": (update_symgraph, {"numpy": update_numpy, "torch": update_torch}, None),
}

ROWS = [
    Row(
        f"{kind} {n} x {d} [{k}]",
        operands(n, d, k),
        ours,
        peers,
        tolerance=tolerance,
        goal={"ratio": 1.2},
        quick=n <= 1000,
    )
    for kind, (ours, peers, tolerance) in KINDS.items()
    for n, d, k in SIZES
]

if __name__ == "__main__":
    sys.exit(main("indexing", ROWS))
