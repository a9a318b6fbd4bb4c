"""The kernel of a convolution in which each channel is a group of its own: no channels are summed.

    y[line, q, c] = epilogue(sum over taps of x[line, q * stride + tap, c] * w[tap, c])

A line is everything but the last spatial axis and the channels. Vectors run along the channels; the
taps of one vector stay in registers while q goes along the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as points
from typing import NamedTuple

from symgraph.dims import SizeLike, product

from .loops import Block, Buffer, Kernel, LoopBlock, Stmt, Value
from .lower.request import Dims
from .macrokernel import Epilogue, Position, across, times
from .microkernel import BYTES, Tile, arithmetic
from .targets import Target

MOST_TAPS = 64  # of a window that is taken apart in code


class Depthwise(NamedTuple):
    """A convolution without zeros around its image.

    dtypes: of x and w; out: of y. positions: batch, then the spatial sizes of y; x, y: how far each
    array moves along these; taps: how far x moves along each axis of the window; window: its sizes.
    """

    dtypes: tuple[str, str]
    out: str
    positions: tuple[SizeLike, ...]
    channels: SizeLike
    x: tuple[SizeLike, ...]
    y: tuple[SizeLike, ...]
    window: tuple[int, ...]
    taps: tuple[SizeLike, ...]
    w: tuple[SizeLike, ...]


def build(
    what: Depthwise,
    target: Target,
    dims: Dims,
    epilogue: Epilogue | None = None,
    extra: Sequence[Buffer] = (),
) -> Kernel:
    """The kernel; buffers: x, w, y, then `extra`; its dims are those that `dims` holds then."""
    emitter = _Emitter(what, target, dims, epilogue or (lambda b, sums, at: sums))
    body = emitter.run()
    buffers = (emitter.image, emitter.kernel, emitter.result, *extra)
    name = "_".join(dict.fromkeys(("depthwise", *what.dtypes)))
    return Kernel(name, buffers, tuple(dims.vars), body)


class _Emitter:
    def __init__(self, what: Depthwise, target: Target, dims: Dims, epilogue: Epilogue):
        self.what, self.dims, self.epilogue = what, dims, epilogue
        self.arithmetic = arithmetic(*what.dtypes, target.has_fma)
        self.image, self.kernel = map(Buffer, "xw", what.dtypes)
        self.result = Buffer("y", what.out, "w")
        wide = BYTES[self.arithmetic.accumulate]
        lanes = target.lanes(wide)
        vector = Tile(1, 1, lanes)
        rest = (vector, True) if target.masked_memory(wide) else (Tile(1, 1, 1), False)
        full = isinstance(what.channels, int) and what.channels % lanes == 0
        self.tiles = ((vector, False),) if full else ((vector, False), rest)

    def run(self) -> tuple[Stmt, ...]:
        what, b = self.what, Block()
        lines = self.dims(product(what.positions[:-1]))
        work = self.dims(product((what.positions[-1], what.channels, *what.window)))
        with b.loop(0, lines, kind="parallel", hint="line") as line:
            line.poll(line.let("div", work, line.index(8)))
            at_x, at_y = self._line(line)
            for c, tile, mask in across(line, self.tiles, self.dims(what.channels)):
                self._vector(c, tile, mask, line, (at_x, at_y))
        return tuple(b.stmts)

    def _line(self, b: LoopBlock) -> tuple[Value, Value]:
        """Where a line begins in x and in y."""
        what = self.what
        rest: Value = b.var
        at_x: Value = b.index(0)
        at_y: Value = b.index(0)
        for axis in reversed(range(len(what.positions) - 1)):
            index = rest
            if axis:
                size = self.dims(what.positions[axis])
                index, rest = b.let("rem", rest, size), b.let("div", rest, size)
            at_x = b.let("add", at_x, times(b, index, self.dims(what.x[axis])))
            at_y = b.let("add", at_y, times(b, index, self.dims(what.y[axis])))
        return at_x, at_y

    def _vector(
        self, c: LoopBlock, tile: Tile, mask: Value | None, line: LoopBlock, at: tuple[Value, Value]
    ) -> None:
        """One vector of channels along a line."""
        what, arith = self.what, self.arithmetic
        every = list(points(*map(range, what.window)))
        weights = []
        for tap in every:
            at_tap = self._at(c, c.var, tap, what.w)
            weights.append(c.cast(c.load(self.kernel, at_tap, tile.lanes, mask), arith.accumulate))
        starts = [self._at(c, c.let("add", at[0], c.var), tap, what.taps) for tap in every]
        home, many = c.let("add", at[1], c.var), self.dims(what.positions[-1])
        first = times(c, line.var, many)
        with c.loop(0, many, hint="q") as q:
            along = times(q, q.var, self.dims(what.x[-1]))
            total: Value = arith.zeros(tile.lanes)
            for start, weight in zip(starts, weights):
                x = q.load(self.image, q.let("add", start, along), tile.lanes, mask)
                total = arith.dot(q, q.cast(x, arith.accumulate), weight, total)
            row = q.let("add", first, q.var)
            value = self.epilogue(q, total, Position(q.index(0), row, c.var, mask))
            where = q.let("add", home, times(q, q.var, self.dims(what.y[-1])))
            q.store(self.result, where, q.cast(value, what.out), mask)

    def _at(self, b: Block, start: Value, tap: tuple[int, ...], steps: Sequence[SizeLike]) -> Value:
        """`start` moved to a tap."""
        offset: SizeLike = 0
        for index, step in zip(tap, steps):
            offset = offset + index * step
        return start if offset == 0 else b.let("add", start, self.dims(offset))
