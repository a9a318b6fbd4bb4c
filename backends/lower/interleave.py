"""Nests that write beside each other in every row of one array become one nest, row by row.

One after the other they would pass over the whole array as often as there are parts, each time
writing pieces of its rows; memory likes rows that are written from one end to the other.

    for i in 0..n: A(i)        for j in 0..n: B(j)     -->     for i in 0..n: j = i; A(i); B(j)

Where all of it outgrows the caches, seams.py writes the row instead, in whole vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from symgraph.dims import SizeLike, known_le

from ..irtext import BYTES
from ..loops import (
    INDEX,
    Block,
    Buffer,
    Const,
    For,
    If,
    Kernel,
    Let,
    Load,
    Stmt,
    Ty,
    Value,
    Var,
    While,
)
from ..targets import Target
from . import seams, streaming
from .request import Built

PARTS = 8  # more are nests of their own, which have one code if they are alike
LONG = 1 << 14  # elements of a row from which on its pieces are as good as rows
STATEMENTS = 120  # of all parts together
ZERO, ONE = Const(0, Ty(INDEX)), Const(1, Ty(INDEX))


def interleaved(parts: Sequence[Built], widths: Sequence[SizeLike], target: Target) -> Built | None:
    """One nest for parts that may run in any order, or at once; its buffers are theirs in turn.

    widths: elements of each part in a row of the result, where they follow each other. None where
    the parts have no loop over rows in common, the rows are long, or it would be too much code.
    """
    row: SizeLike = 0
    for width in widths:
        row = row + width
    if not 1 < len(parts) <= PARTS or known_le(LONG, row) is True:
        return None
    loops = [_row_loop(part) for part in parts]
    sizes = {None if loop is None else _size(part, loop) for part, loop in zip(parts, loops)}
    if len(sizes) != 1 or None in sizes:
        return None
    return _Merge(parts, [loop for loop in loops if loop is not None], widths, row, target).run()


def _row_loop(part: Built) -> For | None:
    """The one loop that a plain nest consists of, if its turns are independent rows."""
    if part.bounds or part.split or part.kernel.faults:
        return None
    loops = [s for s in part.kernel.body if not isinstance(s, Let)]
    if len(loops) != 1 or not isinstance(loops[0], For):
        return None
    loop = loops[0]
    plain = loop.kind == "parallel" and not loop.carries
    return loop if plain and loop.start == ZERO and loop.step == ONE else None


def _size(part: Built, loop: For) -> SizeLike | None:
    """How many rows there are."""
    if isinstance(loop.stop, Const):
        return int(loop.stop.value)
    dims = part.kernel.dims
    return part.dims[dims.index(loop.stop)] if loop.stop in dims else None


class _Merge:
    """Builds the one nest."""

    def __init__(
        self,
        parts: Sequence[Built],
        loops: Sequence[For],
        widths: Sequence[SizeLike],
        row: SizeLike,
        target: Target,
    ):
        self.parts, self.loops, self.widths, self.target = parts, loops, widths, target
        rows = _size(parts[0], loops[0])
        assert rows is not None
        self.rows, self.elements = rows, rows * row
        self.shared: dict[SizeLike, Var] = {}
        self.index = Var("row", Ty(INDEX))
        self.block = Block()  # what comes before the loop

    def run(self) -> Built | None:
        for number, part in enumerate(self.parts):
            for old, size in zip(part.kernel.dims, part.dims):
                self.block.stmts.append(Let(old, "add", (self._dim(size), ZERO)))
            self.block.stmts += [s for s in part.kernel.body if isinstance(s, Let)]
            _rename(part.kernel, number)
        inside: list[Stmt] = []
        for loop in self.loops:
            inside += [Let(loop.var, "add", (self.index, ZERO)), *loop.body]
        if sum(1 for _ in _statements(inside)) > STATEMENTS:
            return None
        body = self._streaming() or tuple(inside)
        stop = self._dim(self.rows)
        loop = For(self.index, ZERO, stop, ONE, body, (), "parallel")
        return self._built((*self.block.stmts, loop))

    def _streaming(self) -> tuple[Stmt, ...] | None:
        """A row in whole vectors past the caches if this call is large, else as it is."""
        found = seams.pieces(self.parts, self.loops, list(map(self._dim, self.widths)))
        if not found:
            return None
        output = BYTES[found[0].store.buffer.dtype]
        reads = [part.kernel.buffers[: len(part.reads)] for part in self.parts]
        moved = output + max(sum(BYTES[buffer.dtype] for buffer in part) for part in reads)
        if not seams.may_join(found, self.elements, moved, self.target):
            return None
        top, lanes = self.block, found[0].store.value.type.lanes
        limit = streaming.limit(self.target, moved)
        large = seams.condition(top, found, self._dim(self.elements), limit)
        ahead = top.let("ahead", type=Ty(INDEX), attr=(found[0].store.buffer, lanes))
        row = Block(top._names)

        for loop, piece in zip(self.loops, found):
            row.stmts += [Let(loop.var, "add", (self.index, ZERO)), *piece.before]

        def joined(b: Block) -> tuple[()]:
            seams.Row(b, found).joined(ahead)
            return ()

        def plain(b: Block) -> tuple[()]:
            seams.Row(b, found).one_by_one()
            return ()

        row.branch(large, joined, plain)
        return tuple(row.stmts)

    def _dim(self, size: SizeLike) -> Value:
        if isinstance(size, int):
            return Const(size, Ty(INDEX))
        return self.shared.setdefault(size, Var(f"n{len(self.shared)}", Ty(INDEX)))

    def _built(self, body: tuple[Stmt, ...]) -> Built:
        reads = [len(part.reads) for part in self.parts]
        buffers = [b for part, n in zip(self.parts, reads) for b in part.kernel.buffers[:n]]
        buffers += [b for part, n in zip(self.parts, reads) for b in part.kernel.buffers[n:]]
        name, dims = self.parts[0].kernel.name, self.shared
        work: SizeLike = 0
        for part in self.parts:
            work = work + part.work
        read = tuple(node for part in self.parts for node in part.reads)
        kernel = Kernel(name, tuple(buffers), tuple(dims.values()), body)
        return Built(kernel, read, tuple(dims), work)


def _rename(kernel: Kernel, number: int) -> None:
    """Names of a part are its own: a kernel's text tells it from others."""
    named: dict[int, Var | Buffer] = {id(x): x for x in kernel.buffers}
    named |= {id(x): x for x in kernel.dims}
    for stmt in _statements(kernel.body):
        named |= {id(x): x for x in _defined(stmt)}
    for x in named.values():
        x.name = f"{x.name}_{number}"


def _statements(body: Sequence[Stmt]) -> Iterator[Stmt]:
    stack = list(body)
    while stack:
        stmt = stack.pop()
        yield stmt
        if isinstance(stmt, (For, While, If)):
            stack.extend(stmt.body)
        if isinstance(stmt, If):
            stack.extend(stmt.orelse)


def _defined(stmt: Stmt) -> list[Var]:
    if isinstance(stmt, (Let, Load)):
        return [stmt.var]
    if isinstance(stmt, (For, While)):
        own = [stmt.var] if isinstance(stmt, For) else []
        return own + [x for c in stmt.carries for x in (c.var, c.result)]
    return [y.result for y in stmt.yields] if isinstance(stmt, If) else []
