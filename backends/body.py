"""Plans one straight-line graph: units in order, each lowered to steps, each value at its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from symgraph.arraytype import Array
from symgraph.dims import SizeLike, product
from symgraph.dtypes import dtype
from symgraph.errors import AssertionFault, IndexFault, InternalError
from symgraph.expr import Expr, apply, toposort
from symgraph.leaves import Param, Shared, constant
from symgraph.ops.branch import Cond
from symgraph.ops.effects import Assert
from symgraph.ops.gather import Indexed, Scatter, out_of_range
from symgraph.ops.loop import Scan
from symgraph.ops.movement import BroadcastTo, Concatenate, Place
from symgraph.ops.reduce import ArgReduce, Cumulative, Reduce
from symgraph.ops.subtensor import Overwrite
from symgraph.ops.tuple import Get

from . import attention, products, program
from .affine import Axis, Map, Strided, identity, project, row_strides, unit
from .border import border, dims, edges, elements
from .classify import host_reason, is_leaf, whole_base
from .epilogue import Tails, is_product, tails
from .expand import expand
from .fusion import partition
from .loops import Kernel
from .lower import transpose
from .lower.indirect import scattered_address
from .lower.interleave import interleaved
from .lower.nest import Built, build
from .lower.request import Bound, Nest, Root
from .lower.special import SPECIAL
from .program import Branch, Copy, FaultSpec, Host, Launch, Ref, Repeat, Step, verbatim
from .split import Split, may_pay, ranged
from .units import Group, Opaque, Partition, Unit

if TYPE_CHECKING:
    from .plan import Planner


class Body:
    """Plans one straight-line graph.

    `env` places the leaves that only this body knows (a region's parameters).

    depth: how many Repeats enclose its steps.
    """

    def __init__(self, planner: Planner, env: dict[int, Ref], depth: int):
        self.p = planner
        self.env = env
        self.depth = depth
        self.place: dict[int, Ref] = {}
        self.steps: list[Step] = []
        self.part = Partition((), frozenset())
        self.final: set[int] = set()
        self.checked = 0  # steps at the start that check what is given

    def run(
        self, results: Sequence[Expr], targets: Sequence[Ref], last: Iterable[Expr] = ()
    ) -> tuple[Step, ...]:
        """Steps after which result i (already expanded) lies at target i."""
        self.part = partition(results, last)
        self.gets = self._gets(results)
        final = self.final = {id(x) for x in last}
        for r, t in zip(results, targets):
            if not is_leaf(r):
                self.place.setdefault(id(r), t)
        found = tails(self.part.units, results, last)
        for part in found.units:
            self._unit(part, found, final)
        for r, t in zip(results, targets):
            if self.where(r) != t:
                self.copy(t, self.where(r), r.array_type)
        return tuple(self.steps)

    def _gets(self, results: Sequence[Expr]) -> dict[int, dict[int, Expr]]:
        found: dict[int, dict[int, Expr]] = {}
        for node in toposort(results):
            if isinstance(node.op, Get):
                found.setdefault(id(node.inputs[0]), {})[node.op.index] = node
        return found

    # ---------------------------------------------------------------------------------- places

    def where(self, node: Expr) -> Ref:
        """Where a stored value or a leaf lies."""
        if id(node) in self.place:
            return self.place[id(node)]
        if isinstance(node.op, Param):
            return self.env[id(node)]
        return self.p.leaf(node)

    def whole(self, x: Expr) -> Ref:
        """Where the C-order elements of an operand lie (a reshape does not move them)."""
        return self.where(whole_base(x, self.stored))

    def home(self, node: Expr) -> Ref:
        """The place a node's value is to be written to."""
        if id(node) not in self.place:
            self.place[id(node)] = self.p.temp(node.array_type)
        return self.place[id(node)]

    def stored(self, node: Expr) -> bool:
        return is_leaf(node) or id(node) in self.part.stored

    def copy(self, target: Ref, source: Ref, type: Array) -> None:
        self.steps.append(Copy(target, source, type.size, str(type.dtype)))

    # ---------------------------------------------------------------------------------- groups

    def _unit(self, unit: Unit, found: Tails, final: set[int]) -> None:
        """Lower one unit; a product whose values another unit takes waits for that one."""
        tail = found.by_unit.get(id(unit))
        reason = ""
        if tail is not None:
            reason = products.finished(self, tail)
            if not reason:
                return
            products.alone(self, tail.product, reason)
        if is_product(unit):
            assert isinstance(unit, Opaque)
            if id(unit.node) in found.apart:
                products.alone(self, unit.node, found.apart[id(unit.node)])
        elif isinstance(unit, Group):
            self._group(unit, all(id(r) in final for r in unit.roots))
        else:
            self._opaque(unit)

    def _group(self, group: Group, final: bool) -> None:
        inside = {id(m) for m in group.members}
        roots = tuple(_root(m, group) for m in group.roots)
        reductions = tuple(m for m in group.members if isinstance(m.op, (Reduce, ArgReduce)))
        nest = Nest(
            group.space,
            group.reduced,
            reductions,
            roots,
            lambda n: self.stored(n) and id(n) not in inside,
            pollable=not final,
            name="reduce" if reductions else "map",
        )
        built = self.nest(nest, group.roots, group.roots[-1])
        self.p.groups.append(program.Group(built.kernel.name, group.members, group.reason))

    def nest(
        self, nest: Nest, homes: Sequence[Expr], node: Expr, faults: tuple[int, ...] = ()
    ) -> Built:
        """Build a nest and launch it; `homes` are the nodes whose places its roots write to."""
        built = self.built(nest)
        self.run_nest(built, [self.home(n) for n in homes], node, faults)
        return built

    def built(self, nest: Nest) -> Built:
        """The kernel of a nest: in tiles if that is better."""
        return transpose.build(nest, self.p.target) or build(nest, self.p.target)

    def run_nest(
        self, built: Built, homes: Sequence[Ref], node: Expr, faults: tuple[int, ...] = ()
    ) -> None:
        """Launch a nest that writes to `homes`."""
        args = [*map(self.where, built.reads), *homes]
        faults = (*faults, *map(self._index_fault, built.bounds))
        if built.split is None:
            self.launch(built.kernel, args, built.dims, built.work, node, faults)
            return
        for buffer in built.kernel.buffers[len(args) :]:
            args.append(self.p.temp(Array(dtype(buffer.dtype), (built.split.parts,))))
        self.steps.append(
            Launch(built.kernel, tuple(args), built.dims, built.work, node, faults, built.split)
        )

    def launch(
        self,
        kernel: Kernel,
        args: Sequence[Ref],
        dims: tuple[SizeLike, ...],
        work: SizeLike,
        node: Expr,
        faults: tuple[int, ...] = (),
    ) -> None:
        """Call a kernel, in ranges if its loops allow it and there may be work for threads."""
        parts = ranged(kernel) if may_pay(work) else None
        if parts is None:
            self.steps.append(Launch(kernel, tuple(args), dims, work, node, faults))
            return
        extent: SizeLike
        if isinstance(parts.extent, int):
            extent = parts.extent
        else:
            extent = dims[kernel.dims.index(parts.extent)]
        split = Split(extent, parts.grain)
        self.steps.append(Launch(parts.kernel, tuple(args), dims, work, node, faults, split))

    def _index_fault(self, bound: Bound) -> int:
        """The fault of an index outside of its axis; its payloads are the index and the size."""
        op = bound.node.op
        assert isinstance(op, Indexed)
        message = out_of_range("{0}", op.axes[bound.number], "{1}")
        return self.p.fault(FaultSpec(IndexFault, message, bound.node))

    def write(
        self,
        value: Expr,
        target: Strided,
        home: Expr,
        combine: str = "set",
        scatter: Expr | None = None,
        **options: Any,
    ) -> None:
        """Write a value to `target` inside home's place."""
        nest = self._writing(value, target, combine, scatter)
        self.nest(nest._replace(**options), [home], home)

    def _writing(
        self, value: Expr, target: Strided, combine: str = "set", scatter: Expr | None = None
    ) -> Nest:
        """A nest over value's shape that writes it to `target`."""
        shape = value.array_type.shape
        inside = set() if self.stored(value) else {id(value)}
        root = Root(value, identity(len(shape)), target, combine=combine, scatter=scatter)
        return Nest(shape, (), (), (root,), lambda n: self.stored(n) and id(n) not in inside)

    # --------------------------------------------------------------------------------- opaque nodes

    def _opaque(self, unit: Opaque) -> None:
        node = unit.node
        if isinstance(node.op, Get):
            return
        if host_reason(node):
            self._host(node)
            return
        handler = HANDLERS.get(type(node.op))
        if handler is not None:
            handler(self, node)
        elif isinstance(node.op, SPECIAL_OPS):
            special = SPECIAL[type(node.op)](node, self.p.target)
            args = [self.whole(x) for x in node.inputs] + [self.home(node)]
            self.launch(special.kernel, args, special.dims, special.work, node)
        else:
            raise InternalError(
                f"{node.op.name} has neither a kernel nor an expansion", site=node.site
            )

    def _host(self, node: Expr) -> None:
        args = tuple(self.whole(x) for x in node.inputs)
        types = tuple(x.array_type for x in node.inputs)
        self.steps.append(
            Host(node, args, types, (self.home(node),), (node.array_type,), host_reason(node))
        )
        self.p.groups.append(program.Group(f"host call {node.op.name}", (node,), host_reason(node)))

    def _concatenate(self, node: Expr) -> None:
        op = node.op
        assert isinstance(op, Concatenate)
        strides = row_strides(node.array_type.shape)
        parts: list[Built] = []
        homes: list[Ref] = []
        start: SizeLike = 0
        for x in node.inputs:
            nest = self._writing(x, Strided(0, strides))
            parts.append(self.built(nest._replace(name="concatenate")))
            homes.append(self.home(node).moved(start * strides[op.axis]))
            start = start + x.array_type.shape[op.axis]
        widths = [product(x.array_type.shape[op.axis :]) for x in node.inputs]
        together = interleaved(parts, widths, self.p.target) if op.axis else None
        if together is not None:
            self.run_nest(together, homes, node)
            return
        for built, home in zip(parts, homes):
            self.run_nest(built, [home], node)

    def _place(self, node: Expr) -> None:
        op = node.op
        assert isinstance(op, Place)
        strides = row_strides(op.shape)
        if all(step == 1 for step in op.steps):
            self.fill_around(node)
        else:
            fill = apply(BroadcastTo(op.shape), constant(op.fill, node.array_type.dtype))
            # computed here even where the graph stores an equal node, which may come later
            self.write(fill, Strided(0, strides), node, name="fill", stored=is_leaf)
        offset: SizeLike = 0
        for start, stride in zip(op.starts, strides):
            offset = offset + start * stride
        steps = tuple(k * s for k, s in zip(op.steps, strides))
        self.write(node.inputs[0], Strided(offset, steps), node, name="place")

    def fill_around(self, node: Expr) -> None:
        """Fill what a Place leaves of its array around one block."""
        op = node.op
        assert isinstance(op, Place)
        around = edges(op.shape, op.starts, node.inputs[0].array_type.shape)
        if around:
            kernel = border(node.array_type.dtype, op.fill, around, self.p.target)
            self.launch(kernel, [self.home(node)], dims(around), elements(around), node)

    def _overwrite(self, node: Expr) -> None:
        op = node.op
        assert isinstance(op, Overwrite)
        x, y = node.inputs
        strides = row_strides(node.array_type.shape)
        self._start_from(node, x)
        offset: SizeLike = 0
        for start, stride in zip(op.starts, strides):
            offset = offset + start * stride
        target = Strided(offset, tuple(k * s for k, s in zip(op.steps, strides)))
        self.write(y, target, node, combine=op.kind, name="overwrite")

    def _scatter(self, node: Expr) -> None:
        op = node.op
        assert isinstance(op, Scatter)
        x, y, *_ = node.inputs
        target, ordered = scattered_address(node)
        checked = self._updates(node, x)
        if checked:
            self._check_indices(node)
        self._start_from(node, x)
        self.write(
            y,
            target,
            node,
            combine=op.kind,
            scatter=node,
            ordered=ordered,
            trusted=checked,
            pollable=not checked,
            name="scatter",
        )

    def _updates(self, node: Expr, x: Expr) -> bool:
        """Whether a node is the new value of the shared variable whose elements it changes.

        Then nothing may stop it half-way: its elements may be those of the variable itself.
        """
        return self.depth == 0 and isinstance(x, Shared) and id(node) in self.final

    def _start_from(self, node: Expr, x: Expr) -> None:
        """The elements of x at node's place, where some of them will change."""
        if self._updates(node, x):
            self.copy(self.home(node), self.where(x), x.array_type)
        else:
            self.write(x, Strided(0, row_strides(x.array_type.shape)), node)

    def _check_indices(self, node: Expr) -> None:
        """Check the indices of a scatter beforehand; before all else, if they are given."""
        shape = node.inputs[-1].array_type.shape
        map = identity(len(shape))
        root = Root(node.inputs[-1], map, Strided(0, (0,) * len(shape)), scatter=node, bounds=True)
        built = self.nest(Nest(shape, (), (), (root,), self.stored, name="check"), [], node)
        if all(is_leaf(n) for n in built.reads):
            self.steps.insert(self.checked, self.steps.pop())
            self.checked += 1

    def _cumulative(self, node: Expr) -> None:
        op = node.op
        assert isinstance(op, Cumulative)
        strides = row_strides(node.array_type.shape)
        self.write(
            node.inputs[0],
            Strided(0, strides),
            node,
            reduced=(op.axis,),
            cumulative=op.kind,
            name="cumulative",
        )

    def _assert(self, node: Expr) -> None:
        op = node.op
        assert isinstance(op, Assert)
        x, condition = node.inputs
        fault = self.p.fault(FaultSpec(AssertionFault, verbatim(op.message), node))
        shape = condition.array_type.shape
        root = Root(condition, identity(len(shape)), Strided(0, row_strides(shape)), check=True)
        self.nest(Nest(shape, (), (), (root,), self.stored, name="check"), [], node, (fault,))
        self.copy(self.home(node), self.whole(x), x.array_type)

    # --------------------------------------------------------------------------------- control flow

    def _scan(self, node: Expr) -> None:
        op = node.op
        assert isinstance(op, Scan)
        wanted = self.gets.get(id(node), {})
        sequences, initials, captures = op.split([self.whole(x) for x in node.inputs])
        types = [x.array_type for x in node.inputs]
        env: list[Ref] = [self._row(ref, t, 0) for ref, t in zip(sequences, types)]
        targets: list[Ref | None] = []
        after: list[tuple[Ref, Ref, Array]] = []
        for i, (init, t) in enumerate(zip(initials, types[op.sequences :])):
            state, target, carry = self._state(op, wanted, i, init, t)
            env.append(state)
            targets.append(target)
            if carry is not None:
                after.append((carry, target, t))
        for i in range(op.outputs):
            out = wanted.get(op.states + i)
            targets.append(None if out is None else self._row(self.home(out), out.array_type, 0))
        env += captures
        self.steps.append(
            Repeat(op.n_steps, self._region(op.region, env, targets, after), op.reverse, node)
        )

    def _row(self, ref: Ref, stacked: Array, shift: int) -> Ref:
        """Row number (iteration + shift) of a stacked array, as seen inside the new loop."""
        row = product(stacked.shape[1:])
        return ref.moved(shift * row, self.depth, (row,))

    def _state(
        self, op: Scan, wanted: dict[int, Expr], i: int, init: Ref, type: Array
    ) -> tuple[Ref, Ref, Ref | None]:
        """Where a step reads state i, where it writes it, and what to copy it to after the step.

        A stacked state is read from the row the step before wrote (the initial value at first); a
        state that is only carried, or whose final value is wanted, has one buffer that each step
        reads and that takes over the new value.
        """
        stacked, final = wanted.get(i), wanted.get(op.states + op.outputs + i)
        if stacked is not None and final is None:
            home = self.home(stacked)
            back = self._row(home, stacked.array_type, 1 if op.reverse else -1)
            back = back._replace(first=init, level=self.depth)
            return back, self._row(home, stacked.array_type, 0), None
        carry = self.home(final) if final is not None else self.p.temp(type)
        self.copy(carry, init, type)
        target = (
            self._row(self.home(stacked), stacked.array_type, 0)
            if stacked is not None
            else self.p.temp(type)
        )
        return carry, target, carry

    def _cond(self, node: Expr) -> None:
        op = node.op
        assert isinstance(op, Cond)
        wanted = self.gets.get(id(node), {})
        predicate, *env = [self.whole(x) for x in node.inputs]
        homes = [self.home(wanted[i]) if i in wanted else None for i in range(len(op.then.results))]
        arms = [self._region(r, env, homes, (), nested=0) for r in (op.then, op.orelse)]
        self.steps.append(Branch(predicate, arms[0], arms[1], node))

    def _region(
        self,
        region: Any,
        env: Sequence[Ref],
        targets: Sequence[Ref | None],
        after: Sequence[tuple[Ref, Ref, Array]],
        nested: int = 1,
    ) -> tuple[Step, ...]:
        """The steps of a region whose parameters lie at `env`.

        Results without a target are not computed.
        """
        wanted = [(r, t) for r, t in zip(region.results, targets) if t is not None]
        results = expand([r for r, _ in wanted], self.p.target, self.p.fast)
        params = {id(x): env[x.op.index] for x in toposort(results) if isinstance(x.op, Param)}
        self.p.kept_alive += results
        body = Body(self.p, params, self.depth + nested)
        steps = body.run(results, [t for _, t in wanted])
        return steps + tuple(
            Copy(to, source, type.size, str(type.dtype)) for to, source, type in after
        )


HANDLERS: dict[type, Callable[[Body, Expr], None]] = {
    Concatenate: Body._concatenate,
    Place: Body._place,
    Overwrite: Body._overwrite,
    Scatter: Body._scatter,
    Cumulative: Body._cumulative,
    Assert: Body._assert,
    Scan: Body._scan,
    Cond: Body._cond,
    **attention.HANDLERS,
}
SPECIAL_OPS = tuple(SPECIAL)


def _root(node: Expr, group: Group) -> Root:
    """How a member is stored: over the whole space, or over the kept axes.

    The kept axes come with or without 1s for the reduced ones.
    """
    rank = len(group.space)
    shape = node.array_type.shape
    strides = row_strides(shape)
    if shape == group.space and not isinstance(node.op, (Reduce, ArgReduce)):
        return Root(node, identity(rank), Strided(0, strides))
    kept = tuple(a for a in range(rank) if a not in group.reduced)
    if len(shape) == rank:
        map: Map = tuple(Axis(0, unit(rank, a) if a in kept else (0,) * rank) for a in range(rank))
        return Root(
            node,
            map,
            Strided(0, tuple(strides[a] if a in kept else 0 for a in range(rank))),
            inner=False,
        )
    at = dict(zip(kept, strides))
    return Root(
        node, project(rank, kept), Strided(0, tuple(at.get(a, 0) for a in range(rank))), inner=False
    )
