"""How large compiled programs are on other machines: bytes of code and data for each target.

    python -m benchmarks.portability [--targets cortex-a72,cortex-a7] [--json FILE]

The programs are those that tests/cross links and runs under an emulator. Nothing is timed: an
emulator's time says nothing about the machine it imitates.
"""

from __future__ import annotations

import argparse
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

import symgraph as sg
from symgraph.expr import substitute

from .report import versions

TARGETS = ("x86-64-v2", "x86-64-v3", "x86-64-v4", "cortex-a72", "cortex-a7")
Graph = tuple[list[sg.Expr], list[sg.Expr]]  # inputs, outputs


class Program(NamedTuple):
    """A program by what it shows. tolerance: max|error| relative to max|expected| in a test."""

    graph: Callable[[], Graph]
    tolerance: float


def chain() -> Graph:
    """Elementwise functions fused into one loop."""
    x, y = sg.array("x", ("n",)), sg.array("y", ("n",))
    smooth = sg.tanh(x * 2 + y) * sg.sigmoid(y) - sg.log1p(sg.exp(-sg.abs(x)))
    return [x, y], [smooth, sg.where(x > y, sg.sin(x), sg.erf(y))]


def softmax() -> Graph:
    """Rows that stay in cache while they are reduced twice."""
    x = sg.array("x", ("n", "m"))
    return [x], [sg.softmax(x, axis=1), sg.logsumexp(x, axis=1)]


def matmul() -> Graph:
    """Products of known and of unknown sizes, of a row, and of a transposed matrix."""
    a, b, c = sg.array("a", ("n", 65)), sg.array("b", (65, "m")), sg.array("c", (40, 65))
    return [a, b, c], [a @ b, a[:1] @ b, c @ c.T]


def columns() -> Graph:
    """Reductions over the leading axis."""
    x = sg.array("x", ("n", 37))
    return [x], [x.sum(axis=0), x.max(axis=0), x.argmax(axis=0), x.var(axis=0)]


def _network(weights: list[sg.Expr], x: sg.Expr) -> sg.Expr:
    for w, b in zip(weights[0:-2:2], weights[1:-2:2]):
        x = sg.relu(x @ w + b)
    return x @ weights[-2] + weights[-1]


WIDTHS = (64, 100, 50, 10)
LAYERS = [shape for i, o in zip(WIDTHS, WIDTHS[1:]) for shape in ((i, o), (o,))]


def mlp() -> Graph:
    """A network's forward pass with its weights inside."""
    x, rng = sg.array("x", ("n", WIDTHS[0])), np.random.default_rng(0)
    values = [rng.standard_normal(s).astype(np.float32) / 8 for s in LAYERS]
    return [x], [sg.log_softmax(_network([sg.shared(v) for v in values], x), axis=1)]


def training() -> Graph:
    """A step of gradient descent: weights in, new weights and the loss out."""
    x, labels = sg.array("x", ("n", WIDTHS[0])), sg.array("labels", ("n",), "int32")
    weights = [sg.array(f"w{i}", shape) for i, shape in enumerate(LAYERS)]
    scores = _network([w / 8 for w in weights], x)
    picked = sg.one_hot(labels, WIDTHS[-1]) * sg.log_softmax(scores, axis=1)
    loss = -picked.sum(axis=1).mean()
    steps = [w - 0.1 * g for w, g in zip(weights, sg.grad(loss, weights))]
    return [x, labels, *weights], [loss, *steps]


def recurrence() -> Graph:
    """A loop over time with a state, its last value and all of them."""
    x, h = sg.array("x", ("n", 5)), sg.array("h", (5,))
    w = sg.constant(np.random.default_rng(1).standard_normal((5, 5)).astype(np.float32) / 3)
    states, _ = sg.scan(lambda row, old: sg.tanh(row + old @ w), [x], [h])
    return [x, h], [states, states[-1] * 2]


def branch() -> Graph:
    """One of two computations, as data decides."""
    x, flag = sg.array("x", ("n",)), sg.array("flag", (), "bool")
    return [x, flag], [sg.cond(flag, lambda: sg.exp(x), lambda: x * x)]


def randomness() -> Graph:
    """Draws from a counter-based generator; the same bits everywhere."""
    state, stream = sg.array("state", (2,), "uint64"), sg.RandomStream(3)
    draws = [stream.bits((33,)), stream.bits((9,), "uint64"), stream.uniform((33,))]
    draws += [stream.normal((33,)), stream.normal((9,), dtype="float64"), stream.permutation(11)]
    return [state], substitute(draws, [(stream.state, state)])


def half() -> Graph:
    """float16 and bfloat16, computed in float32."""
    x, y = sg.array("x", ("n",), "float16"), sg.array("y", ("n",), "bfloat16")
    return [x, y], [sg.tanh(x) * x + x * 0.5, sg.exp(x).sum(), y * y - 1, x.astype("float32")]


def double() -> Graph:
    """float64 functions and sums."""
    x = sg.array("x", ("n",), "float64")
    return [x], [sg.exp(-x * x) * sg.cos(x), sg.log(sg.abs(x) + 1).sum(), sg.abs(x) ** sg.tanh(x)]


def integers() -> Graph:
    """Divisions, shifts and casts of integers that 32-bit machines have no instruction for."""
    i, j = sg.array("i", ("n",), "int64"), sg.array("j", ("n",), "int16")
    parts = [i // 7 + i % 3, sg.right_shift(i * 1234567891, 5), i.astype("float64") / 3, i.cumsum()]
    wide = (i.astype("float64") * 1e9).astype("int64")
    return [i, j], [*parts, wide, i.astype("float32"), j // 4, (j * j).sum(), j.astype("uint8")]


def movement() -> Graph:
    """Slices, joins, borders and permutations of axes."""
    x = sg.array("x", ("n", 6))
    return [x], [sg.concatenate([x.T, x.T[:, ::-1]], axis=1), sg.pad(x, 2), x[::-2, 1:5:3]]


def indexing() -> Graph:
    """Rows and elements at indices, and what they add up to on the way back."""
    table, labels = sg.array("table", (10, 37)), sg.array("labels", ("n",), "int32")
    rows = sg.embedding(table, labels)
    slope = sg.grad((sg.tanh(rows) * table[labels, labels - 10][:, None]).sum(), table)
    counts = sg.bincount(labels, length=10)
    return [table, labels], [rows, table.T[labels], slope, counts, table.at[:, labels].set(2.0)]


def convolutions() -> Graph:
    """Two layers with a border between them, and the gradients of both kernels."""
    x, v = sg.array("x", ("n", 3, 7, 6)), sg.array("v", (8, 3, 3, 3))
    w, b = sg.array("w", (6, 4, 3, 2)), sg.array("b", (8, 1, 1))
    hidden = sg.relu(sg.conv2d(x, v, padding=1) + b)
    y = sg.conv2d(hidden, w, stride=2, padding=((1, 0), (0, 1)), groups=2)
    return [x, v, w, b], [y, *sg.grad((y * y).sum(), [x, v, w, b])]


def attention() -> Graph:
    """Two heads, causal, and what it sends back."""
    q, k, v = (sg.array(name, (2, s, 12)) for name, s in zip("qkv", "nmm"))
    result = sg.attention(q, k, v, causal=True)
    return [q, k, v], [result, *sg.grad((result * result).sum(), [q, k, v])]


PROGRAMS = {
    f.__name__: Program(f, tolerance)
    for f, tolerance in (
        (chain, 1e-6),
        (softmax, 1e-6),
        (attention, 1e-5),
        (matmul, 1e-6),
        (columns, 1e-6),
        (mlp, 2e-6),
        (training, 2e-6),
        (recurrence, 1e-6),
        (branch, 1e-6),
        (randomness, 0.0),
        (half, 1e-3),
        (double, 1e-14),
        (integers, 1e-15),
        (movement, 0.0),
        (indexing, 1e-6),
        (convolutions, 1e-5),
    )
}


# --- sizes ---


class Bytes(NamedTuple):
    """What a program takes on a machine."""

    file: int  # of the static library, symbol tables included
    code: int
    data: int  # constants


def measured(graph: Graph, target: str) -> Bytes:
    """The sizes of a program compiled for a target."""
    from symgraph.backends.aot import compile_ahead

    ahead = compile_ahead(*graph, target)
    parts = [section_bytes(data) for data in ahead.objects.values()]
    return Bytes(len(ahead.library), sum(p[0] for p in parts), sum(p[1] for p in parts))


def section_bytes(data: bytes) -> tuple[int, int]:
    """Bytes of code, and of everything else that is loaded, in an ELF object.

    Source: System V ABI, chapter 4: sections with SHF_ALLOC; those with SHF_EXECINSTR are code.
    """
    wide = data[4] == 2
    (table,) = struct.unpack_from("<Q" if wide else "<I", data, 0x28 if wide else 0x20)
    size, count = struct.unpack_from("<HH", data, 0x3A if wide else 0x2E)
    code = rest = 0
    for at in range(table, table + size * count, size):
        flags, _, _, length = struct.unpack_from("<4Q" if wide else "<4I", data, at + 8)
        code += length if flags & 6 == 6 else 0
        rest += length if flags & 6 == 2 else 0
    return code, rest


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--targets", default=",".join(TARGETS), help="names, with commas between")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    names = options.targets.split(",")
    rows = {
        name: {t: measured(program.graph(), t) for t in names} for name, program in PROGRAMS.items()
    }
    print("code + constants, bytes (static library, bytes)")
    print(f"{'':<12}" + "".join(f"{t:>24}" for t in names))
    for name, row in rows.items():
        cells = [f"{b.code} + {b.data} ({b.file})" for b in row.values()]
        print(f"{name:<12}" + "".join(f"{cell:>24}" for cell in cells))
    if options.json:
        figures = {n: {t: b._asdict() for t, b in row.items()} for n, row in rows.items()}
        found = {"benchmark": "portability", "versions": versions(), "rows": figures}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
