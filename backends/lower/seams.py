"""Rows of pieces that lie beside each other, as whole vectors past the caches.

    for i: A(i); B(j)     -->     store what is before the first aligned vector, elements of A
                                  for i: A(i), aligned, past the caches
                                  the vector where A ends and B begins, from both, past the caches
                                  for j: B(j), and so on; what is left over, elements of the last

A piece alone begins and ends inside a vector, and what is written in parts is read before: half of
what such stores gain would be lost. Pieces are taken as their loops over whole vectors say: a
vector anywhere else is the body of that loop at another index, under a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from symgraph.dims import SizeLike, known_le

from ..irtext import BYTES
from ..loops import INDEX, Block, Const, For, Let, Load, Poll, Stmt, Store, Ty, Value, Var
from ..targets import Target
from . import streaming
from .request import Built
from .scalar import HALF

MOST = 12  # statements of a vector's code above which memory is not what a loop waits for
CODE = 40  # statements of all pieces: each is there five times
LONG = 1 << 14  # elements of a piece's row from which on its loop has to poll


class Piece(NamedTuple):
    """A piece of a row: what a row needs before, the code of a vector `at` an index, elements."""

    before: Sequence[Let | Load]
    at: Var
    code: Sequence[Let | Load]
    store: Store
    size: Value


def pieces(parts: Sequence[Built], rows: Sequence[For], sizes: Sequence[Value]) -> list[Piece]:
    """The pieces that rows of parts consist of; none if one has no plain loop over vectors."""
    found = [_piece(part, row, size) for part, row, size in zip(parts, rows, sizes)]
    known = [piece for piece in found if piece is not None]
    types = {piece.store.value.type for piece in known}
    return known if len(known) == len(found) and len(types) == 1 else []


def _piece(part: Built, row: For, size: Value) -> Piece | None:
    before, loop = _vectors(row.body)
    if loop is None or not loop.body or len(loop.body) > MOST:
        return None
    *code, store = loop.body
    if not isinstance(store, Store) or not _is_whole(store, loop):
        return None
    known = {loop.var, row.var, *part.kernel.dims}
    known |= {s.var for s in (*part.kernel.body, *before) if isinstance(s, (Let, Load))}
    kept: list[Let | Load] = []
    for s in code:
        if not isinstance(s, (Let, Load)) or not known.issuperset(_used(s)) or _is_call(s):
            return None
        known.add(s.var)
        kept.append(s)
    return Piece(before, loop.var, kept, store, size) if known.issuperset(_used(store)) else None


def _is_whole(store: Store, loop: For) -> bool:
    """Whether a store is of a vector in order, and the loop goes from one to the next."""
    lanes = store.value.type.lanes
    in_order = store.mask is None and store.offset.type.lanes == 1
    return in_order and lanes > 1 and loop.step == Const(lanes, Ty(INDEX))


def _is_call(s: Let | Load) -> bool:
    return isinstance(s, Let) and s.op == "call"


def _vectors(body: Sequence[Stmt]) -> tuple[list[Let | Load], For | None]:
    """The values before the first loop, and the loop over vectors in it: in blocks, or not."""
    before: list[Let | Load] = []
    for s in body:
        if isinstance(s, For):
            inner = next((x for x in s.body if isinstance(x, For)), None)
            return before, s if inner is None else inner
        if isinstance(s, (Let, Load)):
            before.append(s)
        elif not isinstance(s, Poll):
            break
    return before, None


def _used(s: Let | Load | Store) -> list[Var]:
    """The variables that a statement reads."""
    values: Sequence[Value | None]
    if isinstance(s, Let):
        values = s.args
    else:
        values = (s.offset, s.mask, s.value if isinstance(s, Store) else None)
    return [v for v in values if isinstance(v, Var)]


def may_join(found: Sequence[Piece], elements: SizeLike, moved: int, target: Target) -> bool:
    """Whether rows of these pieces may be worth it: there may be more `elements` than caches hold.

    moved: bytes for each.
    """
    if target.arch != "x86-64" or not 0 < sum(len(piece.code) for piece in found) <= CODE:
        return False
    dtype, lanes = found[0].store.value.type
    wide = lanes * BYTES[dtype] >= streaming.LEAST_BYTES and dtype not in HALF
    sizes = [piece.size for piece in found]
    fit = all(not isinstance(n, Const) or lanes <= n.value <= LONG for n in sizes)
    masked = target.masked_memory(min(BYTES[_memory(s)] for p in found for s in (*p.code, p.store)))
    return (
        wide and fit and masked and known_le(elements, streaming.limit(target, moved)) is not True
    )


def _memory(s: Let | Load | Store) -> str:
    return "int64" if isinstance(s, Let) else s.buffer.dtype


def condition(b: Block, found: Sequence[Piece], elements: Value, limit: int) -> Value:
    """Whether this call's pieces outgrow the caches, and each has a vector, but needs no poll."""
    lanes = found[0].store.value.type.lanes
    good = b.let("gt", elements, b.index(limit))
    for size in dict.fromkeys(p.size for p in found if isinstance(p.size, Var)):
        good = b.let("and", good, b.let("ge", size, b.index(lanes)))
        good = b.let("and", good, b.let("le", size, b.index(LONG)))
    return good


class Row:
    """Writes one row of pieces."""

    def __init__(self, b: Block, found: Sequence[Piece]):
        self.b, self.pieces = b, found
        self.lanes = found[0].store.value.type.lanes

    def one_by_one(self) -> None:
        """A piece after the other; in blocks, to poll."""
        b = self.b
        ends = {p.size: b.let("and", p.size, b.index(-self.lanes)) for p in self.pieces}
        longest = self._longest()
        with b.loop(0, longest, LONG, kind="parallel", hint="chunk") as chunk:
            stop = chunk.let("add", chunk.var, chunk.index(LONG))
            self._poll(chunk, chunk.let("sub", chunk.let("min", stop, longest), chunk.var))
            for piece in self.pieces:
                end = ends[piece.size]
                first, last = (chunk.let("min", at, end) for at in (chunk.var, stop))
                with chunk.loop(first, last, self.lanes, kind="parallel") as body:
                    body.store(piece.store.buffer, *_value(body, piece, body.var, None))
        for piece in self.pieces:
            end = ends[piece.size]
            self._store_some(piece, end, b.let("sub", piece.size, end))

    def joined(self, ahead: Value) -> None:
        """Past the caches; `ahead` elements from its memory's start is the first aligned vector."""
        b, lanes = self.b, self.lanes
        self._poll(b, self._longest())
        self._ask()
        first = self.pieces[0]
        begin = _place(b, first, b.index(0))
        start: Value = b.let("and", b.let("sub", ahead, begin), b.index(lanes - 1))
        self._store_some(first, b.index(0), start)
        for number, piece in enumerate(self.pieces):
            length = b.let("sub", piece.size, start)
            end = b.let("add", start, b.let("and", length, b.index(-lanes)))
            with b.loop(start, end, lanes, kind="parallel") as body:
                offset, value = _value(body, piece, body.var, None)
                body.store(piece.store.buffer, offset, value, stream=True)
            left = b.let("sub", piece.size, end)
            if number + 1 == len(self.pieces):
                self._store_some(piece, end, left)
                return
            seam = b.let("gt", left, b.index(0))
            b.branch(seam, self._seam(piece, self.pieces[number + 1], end, left))
            start = b.let("and", b.let("sub", b.index(0), left), b.index(lanes - 1))

    def _seam(
        self, piece: Piece, after: Piece, end: Value, left: Value
    ) -> Callable[[Block], tuple[()]]:
        """The vector in which the last elements of a piece and the first of the next one lie."""

        def write(b: Block) -> tuple[()]:
            mine = self._below(b, left)
            offset, value = _value(b, piece, end, mine)
            _, others = _value(b, after, b.let("sub", b.index(0), left), b.let("not", mine))
            line = b.let("select", mine, value, others)
            b.store(piece.store.buffer, offset, line, stream=True)
            return ()

        return write

    def _ask(self) -> None:
        """Prefetch what the next row ends in: no store passes one that waits for its line."""
        b, last = self.b, self.pieces[-1]
        place = _place(b, last, last.size)
        for piece in self.pieces:
            place = b.let("add", place, piece.size)
        b.prefetch(last.store.buffer, place)

    def _longest(self) -> Value:
        longest, *others = dict.fromkeys(piece.size for piece in self.pieces)
        for size in others:
            longest = self.b.let("max", longest, size)
        return longest

    def _poll(self, b: Block, elements: Value) -> None:
        work = sum(len(piece.code) for piece in self.pieces)
        b.poll(b.let("mul", elements, b.index(work)))

    def _store_some(self, piece: Piece, start: Value, count: Value) -> None:
        mask = self._below(self.b, count)
        offset, value = _value(self.b, piece, start, mask)
        self.b.store(piece.store.buffer, offset, value, mask)

    def _below(self, b: Block, count: Value) -> Value:
        """The mask of the first `count` lanes."""
        return b.let("lt", b.let("iota", type=Ty(INDEX, self.lanes)), b.splat(count, self.lanes))


def _place(b: Block, piece: Piece, index: Value) -> Value:
    """The offset of a piece's vector at an index."""
    offset = piece.store.offset
    needed: set[Value] = {offset}
    code: list[Let | Load] = []
    for s in reversed(piece.code):
        if s.var in needed:
            needed.update(_used(s))
            code.insert(0, s)
    return _again(b, code, piece.at, index, None).get(offset, offset)


def _value(b: Block, piece: Piece, index: Value, mask: Value | None) -> tuple[Value, Value]:
    """The offset of a piece's vector at an index, and the vector."""
    known = _again(b, piece.code, piece.at, index, mask)
    offset, value = piece.store.offset, piece.store.value
    return known.get(offset, offset), known.get(value, value)


def _again(
    b: Block, code: Sequence[Let | Load], at: Var, index: Value, mask: Value | None
) -> dict[Value, Value]:
    """Emit the code of a vector for another index; what has become of its variables."""
    known: dict[Value, Value] = {at: index}
    for s in code:
        if isinstance(s, Let):
            args = [known.get(x, x) for x in s.args]
            known[s.var] = b.let(s.op, *args, type=s.var.type, attr=s.attr)
        else:
            own = s.mask if s.mask is None else known.get(s.mask, s.mask)
            lanes, offset = s.var.type.lanes, known.get(s.offset, s.offset)
            known[s.var] = b.load(s.buffer, offset, lanes, mask if lanes > 1 else own)
    return known
