"""What is done with a product's values before they are stored: the chain of ops that reads them.

`tails` finds units that are the only reader of a product: a group of elementwise ops (bias, scale,
activation, residual, casts) or the block that a Place puts inside of its zeros. `Epilogue` is the
code of such a chain, for values that a product's kernel holds in registers.

A product's element is found by (item of the batch, row, column); an operand of the chain is read
with one stride along each of them, or the chain does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from symgraph.dims import SizeLike, known_equal, product
from symgraph.expr import Expr, toposort
from symgraph.leaves import Constant, DimValue
from symgraph.ops.contract import MatMul
from symgraph.ops.convolve import Convolve
from symgraph.ops.define import Cast, Elementwise
from symgraph.ops.movement import Place
from symgraph.ops.reduce import ArgReduce, Reduce
from symgraph.ops.winograd import Winograd

from .affine import Strided, identity, row_strides
from .classify import host_reason
from .loops import INDEX, Block, Buffer, Const, Ty, Value
from .lower import scalar
from .lower.request import Dims
from .lower.trace import Entry, Tracer
from .macrokernel import Position, times
from .units import Group, Opaque, Unit

CONVOLUTIONS = (Convolve, Winograd)
PRODUCTS = (MatMul, *CONVOLUTIONS)
KINDS = frozenset(("load", "const", "size", "cast", "elementwise"))  # entries an epilogue may have

# ------------------------------------------------------------------------------ who reads a product


class Tail(NamedTuple):
    """A unit that takes a product's values from registers."""

    product: Expr
    unit: Unit

    @property
    def roots(self) -> tuple[Expr, ...]:
        """The values that are stored, all of one shape."""
        return self.unit.roots if isinstance(self.unit, Group) else self.unit.node.inputs


def is_product(unit: Unit) -> bool:
    """A matrix product or a convolution with a kernel."""
    return (
        isinstance(unit, Opaque)
        and isinstance(unit.node.op, PRODUCTS)
        and not host_reason(unit.node)
    )


class Tails(NamedTuple):
    """units: all units, in order; by_unit: tails by the id of their unit; apart: why a product, by
    its id, has none."""

    units: list[Unit]
    by_unit: dict[int, Tail]
    apart: dict[int, str]


def tails(units: Sequence[Unit], results: Sequence[Expr], last: Iterable[Expr]) -> Tails:
    """The units that may take a product's values, one product each.

    What is computed for `last` alone stays apart: a product may be interrupted, and then an update
    could not be written in place.
    """
    found = Tails(list(units), {}, {})
    products = [unit for unit in units if is_product(unit)]
    if not products:
        return found
    readers = _Readers(units, results)
    final = {id(x) for x in last}
    for unit in products:
        assert isinstance(unit, Opaque)
        reader, reason = readers.only(unit.node)
        if isinstance(reader, Group) and reader.reduced:
            reader = _divide(found.units, readers, reader, unit.node)
            reason = "" if reader is not None else "its reader reduces"
        if reader is not None:
            reason = _refusal(unit.node, reader, final)
        if reader is None or reason or id(reader) in found.by_unit:
            found.apart[id(unit.node)] = reason or "its reader takes another product's values"
        else:
            found.by_unit[id(reader)] = Tail(unit.node, reader)
    return found


def _divide(units: list[Unit], readers: _Readers, group: Group, node: Expr) -> Group | None:
    """Cut a group that reduces in two, in its place among the units: first what can be a tail.

    That is worth it, and possible, if the rest reads stored values of the first part alone.
    """
    if not any(unit is group for unit in units):
        return None  # another product has cut it already
    front: set[int] = set()
    for m in group.members:
        whole = m.array_type.shape == group.space and not _reduces(m)
        reads = readers.owned(m.inputs) if whole else ()
        if whole and all(id(x) in front or readers.owner[id(x)] is not group for x in reads):
            front.add(id(m))
    roots = tuple(r for r in group.roots if id(r) in front)
    rest = tuple(m for m in group.members if id(m) not in front)
    stored = {id(r) for r in roots}
    for x in readers.owned([x for m in rest for x in m.inputs]):
        if x is node or (id(x) in front and id(x) not in stored):
            return None
    if not roots or not rest:
        return None
    first = tuple(m for m in group.members if id(m) in front)
    head = Group(group.space, (), first, roots, "what follows reduces")
    tail = group._replace(members=rest, roots=tuple(r for r in group.roots if id(r) not in front))
    place = next(i for i, unit in enumerate(units) if unit is group)
    units[place : place + 1] = [head, tail]
    return head


def _reduces(node: Expr) -> bool:
    return isinstance(node.op, (Reduce, ArgReduce))


def _refusal(node: Expr, reader: Unit, final: set[int]) -> str:
    """Why a product's only reader does not take its values; "" if it may."""
    if isinstance(reader, Opaque):
        op = reader.node.op
        if not isinstance(op, Place) or not isinstance(node.op, CONVOLUTIONS):
            return f"{op.name} reads whole arrays"
        return "" if all(step == 1 for step in op.steps) else "its reader scatters it"
    if all(id(root) in final for root in reader.roots):
        return "its reader is an update, which may not be interrupted"
    return ""


class _Readers:
    """Who reads a node's value, through movement and what readers compute themselves."""

    def __init__(self, units: Sequence[Unit], results: Sequence[Expr]):
        self.results = {id(x) for x in results}
        self.owner: dict[int, Unit] = {}
        for unit in units:
            for node in unit.members if isinstance(unit, Group) else (unit.node,):
                self.owner[id(node)] = unit
        self.users: dict[int, list[Expr]] = {}
        for node in toposort(results):
            for x in node.inputs:
                self.users.setdefault(id(x), []).append(node)

    def only(self, node: Expr) -> tuple[Unit | None, str]:
        """The one unit that reads a node, or why there is none."""
        found: dict[int, Unit] = {}
        stack, seen = [node], {id(node)}
        while stack:
            at = stack.pop()
            if id(at) in self.results:
                return None, "it is a result"
            for user in self.users.get(id(at), ()):
                unit = self.owner.get(id(user))
                if unit is not None:
                    found[id(unit)] = unit
                elif id(user) not in seen:
                    seen.add(id(user))
                    stack.append(user)
        if len(found) != 1:
            return None, "several kernels read it"
        return next(iter(found.values())), ""

    def owned(self, nodes: Iterable[Expr]) -> list[Expr]:
        """The nodes of units that these read or are, through what belongs to no unit."""
        found, stack, seen = [], list(nodes), set()
        while stack:
            at = stack.pop()
            if id(at) in self.owner:
                found.append(at)
            elif id(at) not in seen:
                seen.add(id(at))
                stack.extend(at.inputs)
        return found


# ------------------------------------------------------------------------------ the code of a chain


class Frame(NamedTuple):
    """Where a product's elements lie in the C-order array of its values.

    rows, columns: the sizes of the array as a matrix of matrices, item by item, unless the items
    lie beside each other in a row (groups of a convolution). item: columns to the next one.
    """

    rows: SizeLike
    columns: SizeLike
    item: SizeLike | None = None


class Unfit(Exception):
    """Why a chain cannot be an epilogue."""


class Steps(NamedTuple):
    """Elements from one item, row, column to the next."""

    item: SizeLike
    row: SizeLike
    column: SizeLike


class _Read(NamedTuple):
    buffer: Buffer
    offset: SizeLike
    steps: Steps


class Epilogue:
    """The chain of a tail as code.

    reads: the nodes its buffers hold, in order; then come the roots but the first. moves: how far
    each of these buffers moves from item to item, row to row, column to column.
    """

    def __init__(self, tail: Tail, frame: Frame, stored: Callable[[Expr], bool]):
        self.product, self.roots = tail.product, tail.roots
        self.space = tail.roots[0].array_type.shape
        self.frame = frame
        inside = {id(m) for m in tail.unit.members} if isinstance(tail.unit, Group) else set()
        rank = len(self.space)
        tracer = Tracer(rank, lambda n: stored(n) and id(n) not in inside)
        self.wanted = [tracer.want(root, identity(rank)) for root in tail.roots]
        self.entries = tracer.entries
        self.dims = Dims()
        self.reads: list[Expr] = []
        self.loads: dict[int, _Read] = {}
        for i, entry in enumerate(self.entries):
            self._admit(i, entry)
        own = Steps(*self._steps(row_strides(self.space)))
        self.writes = [
            _Read(Buffer(f"y{k}", str(root.array_type.dtype), "w"), 0, own)
            for k, root in enumerate(tail.roots[1:], 1)
        ]
        self.moves = [read.steps for read in (*self.loads.values(), *self.writes)]

    @property
    def buffers(self) -> list[Buffer]:
        """The kernel's buffers behind those of the product."""
        return [read.buffer for read in (*self.loads.values(), *self.writes)]

    def _admit(self, i: int, entry: Entry) -> None:
        """Take an entry in.  Raises: Unfit."""
        if entry.kind not in KINDS:
            raise Unfit(f"{entry.node.op.name} is read by index")
        if entry.kind != "load":
            return
        address = entry.address
        assert address is not None
        if entry.node is self.product:
            if address != Strided(0, row_strides(self.space)):
                raise Unfit("it is read at another index")
            return
        steps = Steps(*self._steps(address.strides))
        dtype = str(entry.node.array_type.dtype)
        self.loads[i] = _Read(Buffer(f"x{len(self.reads)}", dtype), address.offset, steps)
        self.reads.append(entry.node)

    def _steps(self, strides: Sequence[SizeLike]) -> tuple[SizeLike, SizeLike, SizeLike]:
        """Strides over the space as those from item to item, row to row, column to column."""
        rest = list(zip(self.space, strides))
        column = _run(rest, self.frame.columns)
        row = _run(rest, self.frame.rows)
        if self.frame.item is not None:
            return column * self.frame.item, row, column
        return _run(rest, product(s for s, _ in rest)), row, column

    def __call__(self, b: Block, sums: Value, at: Position) -> Value:
        """The value for C; further roots are stored."""
        values: list[Value] = []
        for i, entry in enumerate(self.entries):
            values.append(self._value(b, i, entry, values, sums, at))
        results = [scalar.align(b, values[i], sums.type.lanes) for i in self.wanted]
        for read, value in zip(self.writes, results[1:]):
            b.store(read.buffer, self._address(b, read, at), value, at.mask)
        return results[0]

    def _value(
        self, b: Block, i: int, entry: Entry, values: list[Value], sums: Value, at: Position
    ) -> Value:
        node, op, dtype = entry.node, entry.node.op, str(entry.node.array_type.dtype)
        if node is self.product:
            return b.cast(sums, dtype)
        if entry.kind == "const":
            assert isinstance(op, Constant)
            value = op.value.reshape(())
            return Const(float(value) if dtype == "bfloat16" else value.item(), Ty(dtype))
        if entry.kind == "size":
            assert isinstance(op, DimValue)
            return b.cast(self.dims(op.dim), "int64")
        if entry.kind == "load":
            return self._load(b, self.loads[i], sums.type.lanes, at)
        args = [values[a] for a in entry.args]
        if isinstance(op, Cast):
            return scalar.cast(b, op, args[0])
        assert isinstance(op, Elementwise)
        lanes = max(a.type.lanes for a in args)
        return scalar.elementwise(b, op, [scalar.align(b, a, lanes) for a in args], dtype)

    def _load(self, b: Block, read: _Read, lanes: int, at: Position) -> Value:
        where, step = self._address(b, read, at), read.steps.column
        if lanes == 1 or step == 0:
            return b.load(read.buffer, where)
        if step != 1:
            across = b.let("iota", type=Ty(INDEX, lanes))
            by = b.splat(self.dims(step), lanes)
            where = b.let("add", b.splat(where, lanes), b.let("mul", across, by))
        return b.load(read.buffer, where, lanes, at.mask)

    def _address(self, b: Block, read: _Read, at: Position) -> Value:
        total = self.dims(read.offset)
        for index, step in zip((at.batch, at.row, at.column), read.steps):
            by = times(b, index, self.dims(step))
            zero = b.index(0)
            total = by if total == zero else total if by == zero else b.let("add", total, by)
        return total


def _run(rest: list[tuple[SizeLike, SizeLike]], size: SizeLike) -> SizeLike:
    """Take the last axes that make up `size`, as one: its stride.  Raises: Unfit."""
    have: SizeLike = 1
    stride: SizeLike | None = None
    while known_equal(have, size) is not True:
        if not rest:
            raise Unfit("its reader sees it in another shape")
        length, step = rest.pop()
        if length != 1:
            if stride is None:
                stride = step
            elif known_equal(step, stride * have) is not True:
                raise Unfit("an operand does not follow its rows")
            have = have * length
    return 0 if stride is None else stride
