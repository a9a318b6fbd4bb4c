"""The values of a loop nest: each entry is emitted once, at the outermost loop it depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symgraph.dims import SizeLike
from symgraph.errors import InternalError
from symgraph.expr import Expr
from symgraph.leaves import Constant, DimValue
from symgraph.ops.define import Cast, Elementwise
from symgraph.ops.gather import Indexed

from ..affine import Strided, identity
from ..loops import INDEX, Block, Buffer, Const, Ty, Value
from ..targets import Target
from ..weights import weight
from . import indirect, scalar
from .ahead import rows_ahead
from .passes import Held
from .request import Bound, Dims, Nest
from .space import make_space
from .trace import Entry, Tracer, depends

FEW = 8  # work in a wider dtype that decides nothing: at most one part in so many


class Values:
    """State while one nest is emitted: the open loops, their blocks, what each level computed."""

    def __init__(self, nest: Nest, target: Target):
        self.nest, self.target = nest, target
        rank = len(nest.space)
        tracer = Tracer(rank, nest.stored)
        self.feeds: list[tuple[Expr, int]] = []
        for node in nest.reductions:
            self.feeds.append((node, tracer.want(node.inputs[0], identity(rank))))
        self.root_entries = [tracer.want(root.node, root.map) for root in nest.roots]
        self.root_indices = [
            tracer.want_indices(root.scatter, root.map) if root.scatter is not None else ()
            for root in nest.roots
        ]
        self.entries = tracer.entries
        data = _data(self.entries, [*self.root_entries, *(feed for _, feed in self.feeds)])
        lanes = max(1, target.vector_bytes // _lane_bytes(self.entries, data))
        self.registers = target.vector_registers
        self.masked = target.masked_memory(min([8, *map(_memory_bytes, self.entries)]))
        self._lay_out(lanes)
        if self._index_in_lanes():
            self._lay_out(min(lanes, max(1, target.vector_bytes // 8)))
        self.masked = self.masked and not self._loads_by_lane()
        self.bounds: list[Bound] = []  # what the faults behind those of checks mean
        self.dims = Dims()
        self.read_buffers: dict[int, Buffer] = {}
        self.read_nodes: list[Expr] = []
        for e in self.entries:
            if e.kind in ("load", "gather") and id(e.node) not in self.read_buffers:
                self.read_buffers[id(e.node)] = Buffer(
                    f"x{len(self.read_nodes)}", str(e.node.array_type.dtype), "r"
                )
                self.read_nodes.append(e.node)
        self.write_buffers = [
            Buffer(f"y{k}", str(r.node.array_type.dtype), "w" if r.combine == "set" else "rw")
            for k, r in enumerate(nest.roots)
        ]
        self.blocks: list[Block] = [Block()]
        self.scopes: list[dict[Any, Value]] = [{}]
        self.open_axes: list[int | None] = []
        self.index: dict[int, Value] = {}
        self.lanes = 1  # of the vector axis, while its loop is open
        self.mask: Value | None = None
        self.streams = False  # whether stores go past the caches, while such a loop is open
        self.held: dict[int, Held] = {}
        self.pass_number = 0  # which pass over the reduced axes is being emitted

    def _lay_out(self, lanes: int) -> None:
        """The loops, and which of them each entry varies with."""
        nest = self.nest
        sizes = [e.node.array_type.dtype.bytes for e in self.entries if e.kind == "load"]
        self.space = make_space(
            nest.space,
            nest.reduced,
            [e.address for e in self.entries if e.address is not None],
            [r.target for r in nest.roots],
            lanes,
            nest.reduced if nest.cumulative else nest.ordered,
            min((self.target.spaced(lanes, size) for size in sizes), default=1),
        )
        kept_bits = sum(1 << a for a, r in enumerate(self.space.reduced) if not r)
        self.reduced_bits = sum(1 << a for a, r in enumerate(self.space.reduced) if r)
        self.bits = depends(self.entries, self._axis_bits, kept_bits)

    def _index_in_lanes(self) -> bool:
        """Whether each lane has an index of its own: those fill a register sooner."""
        axis = self.space.vector
        return axis is not None and any(
            e.kind == "index" and bits >> axis & 1 for e, bits in zip(self.entries, self.bits)
        )

    def _loads_by_lane(self) -> bool:
        """Whether a load under a mask is one for each lane, and a choice: code without end."""
        axis = self.space.vector
        return axis is not None and any(
            e.kind == "load"
            and e.address is not None
            and self.space.strides(e.address)[axis] not in (0, 1)
            and not self.target.gather(e.node.array_type.dtype.bytes)
            for e in self.entries
        )

    # -------------------------------------------------------------------------------- open loops

    def _push(self, block: Block, axis: int | None, index: Value) -> None:
        self.blocks.append(block)
        self.scopes.append({})
        self.open_axes.append(axis)
        if axis is not None:
            self.index[axis] = index

    def _pop(self) -> None:
        self.blocks.pop()
        self.scopes.pop()
        axis = self.open_axes.pop()
        if axis is not None:
            del self.index[axis]

    # -------------------------------------------------------------------------------- values

    def _axis_bits(self, address: Strided) -> int:
        return sum(1 << a for a, s in enumerate(self.space.strides(address)) if s != 0)

    def _level(self, bits: int) -> int:
        """How many open loops a value that varies with these axes has to be inside of."""
        for level in range(len(self.open_axes), 0, -1):
            axis = self.open_axes[level - 1]
            if axis is not None and bits >> axis & 1:
                return level
        return 0

    def _values(self, wanted: list[int]) -> list[Value]:
        """Values of entries, emitted now where they are not there yet.

        Operands first, no recursion.
        """
        needed: set[int] = set()
        stack = [i for i in wanted if self._known(i) is None]
        while stack:
            i = stack.pop()
            if i not in needed and self._known(i) is None:
                needed.add(i)
                stack.extend(() if self._in_memory(i) else self.entries[i].args)
        for i in sorted(needed):
            level = self._level(self.bits[i])
            self.scopes[level][self._key(i)] = self._emit(i, self.blocks[level], level)
            if self.entries[i].kind == "index":
                rows_ahead(self, i, level)
        return [self._must(i) for i in wanted]

    def _is_read(self, i: int) -> bool:
        """Whether an earlier pass stored the value of an entry for this one."""
        return i in self.held and self.held[i].made < self.pass_number

    def _in_memory(self, i: int) -> bool:
        """Whether an entry need not be computed: its value was stored by this nest."""
        return self._is_read(i)

    def _moving(self, i: int) -> bool:
        """Whether an entry varies with a reduced axis."""
        return bool(self.bits[i] & self.reduced_bits)

    def _column(self, i: int, b: Block) -> Value | None:
        """The value of an entry of the kept axes, if it lies in a stack array."""
        return None

    def _hold(self) -> list[tuple[Buffer, Value, Value, Value | None]]:
        """The stores of what this pass computes here for later ones."""
        b = self.blocks[-1]
        stores: list[tuple[Buffer, Value, Value, Value | None]] = []
        for i, held in self.held.items():
            if held.made == self.pass_number:
                offset, lanes = self._address(held.address)
                value = scalar.align(b, self._must(i), lanes)
                stores.append((held.buffer, offset, value, self.mask if lanes > 1 else None))
        return stores

    def _forget(self, axis: int) -> None:
        """The index of an open axis moves: what varies with it is to be computed anew."""
        for level in range(self.open_axes.index(axis) + 1, len(self.scopes)):
            scope = self.scopes[level]
            self.scopes[level] = {k: v for k, v in scope.items() if self._is_fixed(k, axis)}

    def _is_fixed(self, key: Any, axis: int) -> bool:
        """Whether a key of a scope names something that does not vary with an axis."""
        if isinstance(key, tuple):
            return key[0] == "splat" and not self.bits[key[1]] >> axis & 1
        return key >= len(self.bits) or not self.bits[key] >> axis & 1

    def _key(self, i: int) -> int:
        """What an entry's value is filed under: a reduction has one however it is read."""
        entry = self.entries[i]
        return id(entry.node) if entry.kind == "reduction" else i

    def _known(self, i: int) -> Value | None:
        key = self._key(i)
        for scope in reversed(self.scopes):
            if key in scope:
                return scope[key]
        return None

    def _must(self, i: int) -> Value:
        value = self._known(i)
        if value is None:
            raise InternalError(
                f"lowering: {self.entries[i].node.label} is read before it is computed"
            )
        return value

    def _emit(self, i: int, b: Block, level: int) -> Value:
        entry = self.entries[i]
        node, op = entry.node, entry.node.op
        if self._is_read(i):
            held = self.held[i]
            offset, lanes = self._address(held.address, level)
            return b.load(held.buffer, offset, lanes, self.mask if lanes > 1 else None)
        column = self._column(i, b)
        if column is not None:
            return column
        dtype = str(node.array_type.dtype)
        if isinstance(op, Constant) and entry.kind == "const":
            value = op.value.reshape(())
            return Const(float(value) if dtype == "bfloat16" else value.item(), Ty(dtype))
        if isinstance(op, DimValue) and entry.kind == "size":
            return b.cast(self.dims(op.dim), "int64")
        if entry.kind in ("load", "iota"):
            return self._read(entry, dtype, b, level)
        args = [self._must(a) for a in entry.args]
        if entry.kind == "index":
            return self._inside(entry, args[0], b)
        if entry.kind == "gather":
            assert entry.address is not None
            offset, lanes = self._indirect(entry.address, args, entry.steps, level)
            mask = self.mask if lanes > 1 else None
            return b.load(self.read_buffers[id(node)], offset, lanes, mask)
        if isinstance(op, Cast):
            return scalar.cast(b, op, args[0])
        assert isinstance(op, Elementwise), entry.kind
        lanes = max(a.type.lanes for a in args)
        operands = [self._splat(a, lanes, i) for a, i in zip(args, entry.args)]
        return scalar.elementwise(b, op, operands, dtype)

    def _read(self, entry: Entry, dtype: str, b: Block, level: int) -> Value:
        """What lies at an address, or the address itself as a number."""
        assert entry.address is not None
        offset, lanes = self._address(entry.address, level)
        if entry.kind == "load":
            mask = self.mask if lanes > 1 else None
            return b.load(self.read_buffers[id(entry.node)], offset, lanes, mask)
        if lanes > 1 and offset.type.lanes == 1:  # unit stride
            offset = b.let("add", b.splat(offset, lanes), b.let("iota", type=Ty(INDEX, lanes)))
        return b.cast(offset, dtype)

    def _inside(self, entry: Entry, raw: Value, b: Block) -> Value:
        """An index counted from the start; a fault where it is outside of its axis."""
        assert entry.bound is not None and isinstance(entry.bound.node.op, Indexed)
        mask = self.mask if raw.type.lanes > 1 else None
        from_end, size = entry.bound.node.op.from_end, self.dims(entry.steps[0])
        if self.nest.trusted:
            return indirect.inside(b, raw, size, from_end, mask, None)
        known = next((i for i, b in enumerate(self.bounds) if b is entry.bound), len(self.bounds))
        if known == len(self.bounds):
            self.bounds.append(entry.bound)
        fault = sum(r.check for r in self.nest.roots) + known
        return indirect.inside(b, raw, size, from_end, mask, fault)

    def _indirect(
        self,
        address: Strided,
        indices: Sequence[Value],
        steps: Sequence[SizeLike],
        level: int | None = None,
    ) -> tuple[Value, int]:
        """`_address` moved by indices times their steps."""
        offset, lanes = self._address(address, level)
        b = self.blocks[len(self.open_axes) if level is None else level]
        return indirect.moved(b, offset, lanes, indices, [self.dims(s) for s in steps])

    def _splat(self, x: Value, lanes: int, i: int) -> Value:
        """A uniform operand as a vector, made once at the level where the operand lives."""
        if x.type.lanes == lanes or isinstance(x, Const):
            return self.blocks[-1].splat(x, lanes)
        level = self._level(self.bits[i])
        key = ("splat", i, lanes)
        if key not in self.scopes[level]:
            self.scopes[level][key] = self.blocks[level].splat(x, lanes)
        return self.scopes[level][key]

    def _address(self, address: Strided, level: int | None = None) -> tuple[Value, int]:
        """Element offset at the open loops up to `level`, and the lanes it covers.

        A vector offset if not contiguous.
        """
        level = len(self.open_axes) if level is None else level
        strides = self.space.strides(address)
        offset: Value = self.dims(address.offset)
        lanes = 1
        step: SizeLike = 0
        for depth in range(level):
            axis = self.open_axes[depth]
            if axis is None or strides[axis] == 0:
                continue
            offset = self._advance(offset, axis, strides, address, depth)
            if axis == self.space.vector and self.lanes > 1:
                lanes, step = self.lanes, strides[axis]
        if lanes == 1 or step == 1:
            return offset, lanes
        b = self.blocks[level]
        steps = b.let("mul", b.let("iota", type=Ty(INDEX, lanes)), b.splat(self.dims(step), lanes))
        return b.let("add", b.splat(offset, lanes), steps), lanes

    def _advance(
        self, offset: Value, axis: int, strides: tuple[SizeLike, ...], address: Strided, depth: int
    ) -> Value:
        prefix = tuple(s for a, s in enumerate(strides) if a in self.open_axes[: depth + 1])
        key = ("offset", axis, address.offset, prefix)
        scope = self.scopes[depth + 1]
        if key not in scope:
            b = self.blocks[depth + 1]
            stride = strides[axis]
            term = (
                self.index[axis]
                if stride == 1
                else b.let("mul", self.index[axis], self.dims(stride))
            )
            zero = isinstance(offset, Const) and offset.value == 0
            scope[key] = term if zero else b.let("add", offset, term)
        return scope[key]


def _data(entries: Sequence[Entry], wanted: Sequence[int]) -> set[int]:
    """The entries that are computed with, those for places alone left out."""
    seen: set[int] = set()
    stack = list(wanted)
    while stack:
        i = stack.pop()
        if i not in seen:
            seen.add(i)
            stack.extend(entries[i].args if entries[i].kind != "gather" else ())
    return seen


def _lane_bytes(entries: Sequence[Entry], used: set[int]) -> int:
    """Bytes of a lane: those of the dtype in which most of what is used is computed.

    A little work in a wider dtype takes several registers for each value. Counters and what is the
    same for every lane do not matter.
    """
    work: dict[int, int] = {}
    same: list[bool] = []
    for i, e in enumerate(entries):
        strides = () if e.address is None else e.address.strides
        still = not any(s != 0 for s in strides) and all(same[a] for a in e.args)
        same.append(e.kind in ("const", "size") or (still and (e.kind == "load" or bool(e.args))))
        # what is reduced is counted where it is read
        if i in used and not same[-1] and e.kind not in ("iota", "reduction"):
            operands = [entries[a] for a in e.args if e.kind != "gather" and not same[a]]
            nodes = [e.node, *(x.node for x in operands if x.kind != "iota")]
            dtypes = [node.array_type.dtype for node in nodes]
            width = max(4 if d in scalar.HALF else d.bytes for d in dtypes)
            work[width] = work.get(width, 0) + (weight(e.node) if e.kind == "elementwise" else 1)
    total = sum(work.values())
    for width in sorted(work):
        if sum(cost for wide, cost in work.items() if wide > width) * FEW <= total:
            return width
    return max((entries[i].node.array_type.dtype.bytes for i in used), default=1)


def _memory_bytes(e: Entry) -> int:
    """What one element of a value fills in memory."""
    return 8 if e.kind in ("const", "size") else e.node.array_type.dtype.bytes
