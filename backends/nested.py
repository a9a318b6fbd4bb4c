"""Rows and steps of a product that are nests of axes: their sizes and strides, and where rows lie.

    row r     = (i_0, ..., i_p)   A at  sum of i_j * a_m_j,   C at  sum of i_j * c_m_j
    step k    = (k_0, ..., k_q)   A at  sum of k_j * a_k_j,   B at  sum of k_j * b_k_j

Axes are listed outermost first. The innermost ones keep the names that a plain product has for
them: a_row, c_row, a_col, b_row. A convolution is such a product: its rows are the points of its
result, its steps the points of its window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .loops import Block, Buffer, Const, Value

DIMS = (
    *("batch", "M", "N", "K", "a_batch", "a_row", "a_col"),
    *("b_batch", "b_row", "b_col", "c_batch", "c_row"),
)
MOST_AXES = 4  # of rows, and of steps


class Shape(NamedTuple):
    """How many axes rows and steps have.

    lead: axes of steps that are gone through one by one around all else; the next one is cut into
    blocks, the rest runs in registers. scattered: the rows of C lie along the axes as well; else
    they follow each other at a distance of c_row.
    """

    rows: int = 1
    steps: int = 1
    lead: int = 0
    scattered: bool = False

    @property
    def is_plain(self) -> bool:
        """A matrix product: one axis each."""
        return self.rows == self.steps == 1 and not self.scattered

    def dims(self) -> tuple[str, ...]:
        """The dims of the kernel: DIMS; sizes of all axes but the outermost of rows; strides.

        M is the size of the outermost axis of rows, K the number of steps.
        """
        if self.is_plain:
            return DIMS
        outer = range(self.rows - 1)
        names = [*DIMS, *(f"m{j + 1}" for j in outer), *(f"a_m{j}" for j in outer)]
        if self.scattered:
            names += [f"c_m{j}" for j in outer]
        if self.steps > 1:
            names += [f"k{j}" for j in range(self.steps)]
            names += [f"{x}_k{j}" for x in "ab" for j in range(self.steps - 1)]
        return tuple(names)


class StepAxis(NamedTuple):
    """One axis of steps: its size, and how far A and B move along it."""

    size: Value
    a: Value
    b: Value


class RowTable(NamedTuple):
    """Where the rows of a block lie in A, and in C if they are scattered there; from `start` on."""

    start: Value
    a: Buffer
    c: Buffer | None


def fill(
    b: Block,
    sizes: Sequence[Value],
    steps: Sequence[Sequence[Value]],
    tables: Sequence[Buffer],
    rows: tuple[Value, Value],
) -> None:
    """Write the addresses of rows [start, stop) to each table: sums of index times step.

    sizes: of the axes but the outermost. Indices count up like an odometer: nothing is divided but
    for the first row.
    """
    start, stop = rows
    indices: list[Value] = []
    rest = start
    for size in reversed(sizes):
        indices.insert(0, b.let("rem", rest, size))
        rest = b.let("div", rest, size)
    indices.insert(0, rest)
    first = [_sum(b, indices, step) for step in steps]
    jumps = [[_jump(b, step, sizes, j) for j in range(len(sizes))] for step in steps]
    count = b.let("sub", stop, start)
    inner = indices[1:]
    with b.loop(0, count, carries=[*inner, *first], hint="row") as r:
        at = list(r.carried[len(inner) :])
        for table, address in zip(tables, at):
            r.store(table, r.var, r.cast(address, table.dtype))
        moved = [r.let("add", x, step[-1]) for x, step in zip(at, steps)]
        after: list[Value] = []
        carry: Value = Const(True, r.let("eq", r.var, r.var).type)
        for j in reversed(range(len(inner))):
            up = r.let("add", r.carried[j], r.let("select", carry, r.index(1), r.index(0)))
            carry = r.let("eq", up, sizes[j])
            after.insert(0, r.let("select", carry, r.index(0), up))
            moved = [
                r.let("add", x, r.let("select", carry, jump[j], r.index(0)))
                for x, jump in zip(moved, jumps)
            ]
        r.next(*after, *moved)


def _sum(b: Block, indices: Sequence[Value], step: Sequence[Value]) -> Value:
    total: Value = b.index(0)
    for index, by in zip(indices, step):
        total = b.let("add", total, b.let("mul", index, by))
    return total


def _jump(b: Block, step: Sequence[Value], sizes: Sequence[Value], j: int) -> Value:
    """What an address gains when axis j + 1 starts again and axis j goes on."""
    return b.let("sub", step[j], b.let("mul", sizes[j], step[j + 1]))
