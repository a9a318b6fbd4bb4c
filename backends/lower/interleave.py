"""Nests that write beside each other in every row of one array become one nest, row by row.

One after the other they would pass over the whole array as often as there are parts, each time
writing pieces of its rows; memory likes rows that are written from one end to the other.

    for i in 0..n: A(i)        for j in 0..n: B(j)     -->     for i in 0..n: j = i; A(i); B(j)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from symgraph.dims import SizeLike, known_le

from ..loops import INDEX, Buffer, Const, For, If, Kernel, Let, Load, Stmt, Ty, Var, While
from .request import Built

PARTS = 8  # more are nests of their own, which have one code if they are alike
LONG = 1 << 14  # elements of a row from which on its pieces are as good as rows
STATEMENTS = 120  # of all parts together
ZERO, ONE = Const(0, Ty(INDEX)), Const(1, Ty(INDEX))


def interleaved(parts: Sequence[Built], row: SizeLike) -> Built | None:
    """One nest for parts that may run in any order, or at once; its buffers are theirs in turn.

    row: elements that a row of the result has. None where the parts have no loop over rows in
    common, the rows are long, or it would be too much code.
    """
    if not 1 < len(parts) <= PARTS or known_le(LONG, row) is True:
        return None
    loops = [_row_loop(part) for part in parts]
    sizes = {None if loop is None else _size(part, loop) for part, loop in zip(parts, loops)}
    if len(sizes) != 1 or None in sizes:
        return None
    return _merged(parts, [loop for loop in loops if loop is not None])


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


def _merged(parts: Sequence[Built], loops: Sequence[For]) -> Built | None:
    shared: dict[SizeLike, Var] = {}
    before: list[Stmt] = []
    inside: list[Stmt] = []
    index = Var("row", Ty(INDEX))
    for number, (part, loop) in enumerate(zip(parts, loops)):
        for old, size in zip(part.kernel.dims, part.dims):
            new = shared.setdefault(size, Var(f"n{len(shared)}", Ty(INDEX)))
            before.append(Let(old, "add", (new, ZERO)))
        before += [s for s in part.kernel.body if isinstance(s, Let)]
        inside += [Let(loop.var, "add", (index, ZERO)), *loop.body]
        _rename(part.kernel, number)
    if sum(1 for _ in _statements(inside)) > STATEMENTS:
        return None
    rows = _size(parts[0], loops[0])
    assert rows is not None
    stop = shared[rows] if rows in shared else Const(rows, Ty(INDEX))
    body = (*before, For(index, ZERO, stop, ONE, tuple(inside), (), "parallel"))
    reads = [len(part.reads) for part in parts]
    buffers = [b for part, n in zip(parts, reads) for b in part.kernel.buffers[:n]]
    buffers += [b for part, n in zip(parts, reads) for b in part.kernel.buffers[n:]]
    kernel = Kernel(parts[0].kernel.name, tuple(buffers), tuple(shared.values()), body)
    work: SizeLike = 0
    for part in parts:
        work = work + part.work
    read = tuple(node for part in parts for node in part.reads)
    return Built(kernel, read, tuple(shared), work)


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
