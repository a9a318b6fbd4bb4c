"""Make a Program of an expression graph: fuse it, lower each unit, give every stored value a place, order the steps.

`plan` is the only entry. A `_Body` plans one straight-line graph (the function's, or a region's inside a loop or a
branch); the `_Planner` holds what they share: slots, constants, faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from symgraph.arraytype import Array
from symgraph.dims import Atom, Dim, Guard, SizeLike, ValueOf, atoms, known_equal, product
from symgraph.errors import AssertionFault, HostCallError, InternalError, MissingInputError
from symgraph.expr import Expr, apply, rebuild, toposort
from symgraph.leaves import Constant, Input, Param, Shared, constant
from symgraph.ops.branch import Cond
from symgraph.ops.contract import MatMul
from symgraph.ops.define import Elementwise
from symgraph.ops.effects import Assert
from symgraph.ops.loop import Scan
from symgraph.ops.movement import BroadcastTo, Concatenate, Place
from symgraph.ops.reduce import ArgReduce, Cumulative, Reduce
from symgraph.ops.tuple import Get

from . import memory, program
from .affine import Axis, Map, Strided, identity, project, resolve, row_strides, strided, unit
from .contraction import ContractionSpec, build_contraction, workspace_elements
from .fusion import Group, Opaque, Partition, host_reason, is_leaf, operand_base, partition
from .lower.nest import Built, Nest, Root, build
from .lower.special import SPECIAL
from .program import Bind, Branch, Copy, FaultSpec, Host, Launch, Program, Ref, Repeat, Slot, Step, Update
from .targets import Target

NATIVE = (Reduce, ArgReduce, Cumulative, MatMul, Scan, Cond, Concatenate, Place, Get, Assert, *SPECIAL)
ALIGN = 64  # bytes; where temporaries start


def plan(
    inputs: Sequence[Expr],
    outputs: Sequence[Expr],
    updates: Sequence[tuple[Shared, Expr]] = (),
    *,
    target: Target,
    guards: Sequence[tuple[Guard, Expr]] = (),
    host_calls: str = "allow",
) -> Program:
    """The Program that computes `outputs` and the new values of shared variables.

    guards: size relations to check at each call. host_calls="forbid" refuses ops without a native form.
    Raises: HostCallError, naming every such op and its line; MissingInputError for inputs that are not listed.
    """
    return _Planner(inputs, target).run(outputs, updates, guards, host_calls)


def expand(results: Sequence[Expr]) -> list[Expr]:
    """The graph in ops that have kernels: everything else is replaced by its own expansion, to the end."""
    done: dict[int, Expr] = {}
    keep: list[Expr] = []  # the ids in `done` stay valid while their nodes live
    stack = list(results)
    while stack:
        node = stack[-1]
        if id(node) in done:
            stack.pop()
            continue
        missing = [x for x in node.inputs if id(x) not in done]
        if missing:
            stack.extend(missing)
            continue
        rebuilt = rebuild(node, [done[id(x)] for x in node.inputs])
        if _has_kernel(rebuilt):
            stack.pop()
            done[id(node)] = rebuilt
            keep.append(node)
        else:
            smaller = rebuilt.op.expand(*rebuilt.inputs)
            keep.append(smaller)
            if id(smaller) in done:
                stack.pop()
                done[id(node)] = done[id(smaller)]
                keep.append(node)
            else:
                stack.append(smaller)
    return [done[id(r)] for r in results]


def _has_kernel(node: Expr) -> bool:
    op = node.op
    if isinstance(op, Elementwise):
        return op.spec.expand is None
    return op.expand is None or isinstance(op, NATIVE)


class _Planner:
    """What all bodies of one program share."""

    def __init__(self, inputs: Sequence[Expr], target: Target):
        self.target = target
        self.inputs = tuple(inputs)
        self.shared: list[Shared] = []
        self.slots: list[Slot] = []
        self.constants: list[Any] = []
        self.faults: list[FaultSpec] = []
        self.groups: list[program.Group] = []
        self.leaves: dict[int, Ref] = {}
        self.kept_alive: list[Expr] = []
        for i, x in enumerate(self.inputs):
            self.leaves[id(x)] = self.slot("input", i, x.array_type)

    def slot(self, kind: str, index: int, type: Array) -> Ref:
        self.slots.append(Slot(kind, index, type))
        return Ref(len(self.slots) - 1)

    def temp(self, type: Array) -> Ref:
        return self.slot("temp", 0, type)

    def leaf(self, node: Expr) -> Ref:
        """Where a leaf lies: inputs are there, shared variables and constants get a slot at first use."""
        if id(node) not in self.leaves:
            self.kept_alive.append(node)
            if isinstance(node, Shared):
                self.leaves[id(node)] = self.slot("shared", len(self.shared), node.array_type)
                self.shared.append(node)
            elif isinstance(node.op, Constant):
                self.leaves[id(node)] = self.slot("constant", len(self.constants), node.array_type)
                self.constants.append(node.op.value)
            elif isinstance(node.op, Input):
                raise MissingInputError(f"no value for input {node.label}", site=node.site)
            else:
                raise InternalError(f"{node.op.name} is read outside of its region")
        return self.leaves[id(node)]

    def fault(self, spec: FaultSpec) -> int:
        self.faults.append(spec)
        return len(self.faults) - 1

    def run(
        self,
        outputs: Sequence[Expr],
        updates: Sequence[tuple[Shared, Expr]],
        guards: Sequence[tuple[Guard, Expr]],
        host_calls: str,
    ) -> Program:
        results = expand([*outputs, *(e for _, e in updates)])
        if host_calls == "forbid":
            refuse_host_calls(results)
        for s, _ in updates:
            self.leaf(s)
        targets = [self.slot("output", i, x.array_type) for i, x in enumerate(outputs)]
        moved, places = self._update_places(updates)
        body = _Body(self, {}, 0)
        steps = body.run(results, targets + places, last=results[len(outputs) :])
        steps, placed, modes = self._settle_updates(steps, updates, moved, places)
        slots, arena = memory.assign(steps, placed, ALIGN)
        return Program(
            self.inputs,
            tuple(self.shared),
            tuple(self.constants),
            tuple(x.array_type for x in outputs),
            tuple(t.slot for t in targets),
            tuple(modes),
            self._binds(steps, slots, guards),
            tuple(guards),
            slots,
            steps,
            tuple(self.faults),
            tuple(self.groups),
            arena,
        )

    # ---------------------------------------------------------------------------------- updates

    def _update_places(self, updates: Sequence[tuple[Shared, Expr]]) -> tuple[list[bool], list[Ref]]:
        """A slot beside each updated variable; and whether its shape may change."""
        places = [self.slot("update", i, e.array_type) for i, (_, e) in enumerate(updates)]
        return [known_equal(s.array_type.size, e.array_type.size) is not True for s, e in updates], places

    def _settle_updates(
        self, steps: tuple[Step, ...], updates: Sequence[tuple[Shared, Expr]], moved: list[bool], places: list[Ref]
    ) -> tuple[tuple[Step, ...], list[Slot], list[Update]]:
        """Write in place what may be: the step that makes the value is among the last, cannot fail, and reads the old
        value only at the element it writes."""
        modes: list[Update] = []
        rename: dict[int, int] = {}
        for (s, _), changes, place in zip(updates, moved, places):
            own = self.leaf(s).slot
            index = self.slots[own].index
            if not changes and memory.may_write_in_place(steps, place.slot, own, {p.slot for p in places}):
                rename[place.slot] = own
                modes.append(Update(index, "inplace", own))
            else:
                modes.append(Update(index, "rebind" if changes else "swap", place.slot))
        steps = memory.rename_slots(steps, rename)
        dense = {p.slot: i for i, p in enumerate(p for p in places if p.slot not in rename)}
        slots = [s._replace(index=dense[i]) if i in dense else s for i, s in enumerate(self.slots)]
        slots = [s._replace(kind="unused") if i in rename else s for i, s in enumerate(slots)]
        return steps, slots, modes

    # ---------------------------------------------------------------------------------- named sizes

    def _binds(self, steps: Sequence[Step], slots: Sequence[Slot], guards: Sequence[tuple[Guard, Expr]]) -> tuple[Bind, ...]:
        known: dict[Atom, Bind] = {}
        for kind, nodes in (("input", self.inputs), ("shared", self.shared)):
            for i, x in enumerate(nodes):
                for axis, size in enumerate(x.array_type.shape):
                    atom = single_atom(size)
                    if atom is not None:
                        known.setdefault(atom, Bind(atom, kind, i, axis))
                if kind == "input" and isinstance(x.op, Input) and x.array_type.shape == () and x.array_type.dtype.is_integer:
                    known[ValueOf(x.label, x.op.uid)] = Bind(ValueOf(x.label, x.op.uid), kind, i, None)
        needed: set[Atom] = set()
        for size in [*memory.sizes_in(steps, slots), *(s for g, _ in guards for s in (g.left, g.right))]:
            needed |= atoms(size)
        for s in slots:
            needed |= {a for size in s.type.shape for a in atoms(size)} if s.kind != "unused" else set()
        missing = sorted(str(a) for a in needed if a not in known)
        if missing:
            raise MissingInputError(f"no input gives the size {', '.join(missing)} a value", hint="list the input that has it")
        return tuple(b for a, b in known.items() if a in needed or b.axis is not None)


def single_atom(size: SizeLike) -> Atom | None:
    """The atom a size consists of, if it is just that."""
    if isinstance(size, Dim) and len(size.terms) == 1 and size.terms[0][1] == 1 and len(size.terms[0][0]) == 1:
        return size.terms[0][0][0]
    return None


def refuse_host_calls(results: Sequence[Expr]) -> None:
    """Raise HostCallError for the ops of a graph (regions included) that would run in Python."""
    found: list[Expr] = []
    stack = [list(results)]
    while stack:
        for node in toposort(stack.pop()):
            if host_reason(node):
                found.append(node)
            stack.extend(list(r.results) for r in regions(node))
    if found:
        names = ", ".join(sorted({f"{n.op.name} ({host_reason(n)})" for n in found}))
        raise HostCallError(f"host calls are forbidden, but these have no native form: {names}", site=found[0].site)


def regions(node: Expr) -> list[Any]:
    """The regions an op holds."""
    op = node.op
    return [op.region] if isinstance(op, Scan) else [op.then, op.orelse] if isinstance(op, Cond) else []


class _Body:
    """Plans one straight-line graph. `env` places the leaves that only this body knows (a region's parameters).

    depth: how many Repeats enclose its steps.
    """

    def __init__(self, planner: _Planner, env: dict[int, Ref], depth: int):
        self.p = planner
        self.env = env
        self.depth = depth
        self.place: dict[int, Ref] = {}
        self.steps: list[Step] = []
        self.part = Partition((), frozenset())

    def run(self, results: Sequence[Expr], targets: Sequence[Ref], last: Iterable[Expr] = ()) -> tuple[Step, ...]:
        """Steps after which result i (already expanded) lies at target i."""
        self.part = partition(results, last)
        self.gets = self._gets(results)
        final = {id(x) for x in last}
        for r, t in zip(results, targets):
            if not is_leaf(r):
                self.place.setdefault(id(r), t)
        for unit in self.part.units:
            if isinstance(unit, Group):
                self._group(unit, all(id(r) in final for r in unit.roots))
            else:
                self._opaque(unit)
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
        return self.where(operand_base_whole(x, self.stored))

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

    def nest(self, nest: Nest, homes: Sequence[Expr], node: Expr, faults: tuple[int, ...] = ()) -> Built:
        """Build a nest and launch it; `homes` are the nodes whose places its roots write to."""
        built = build(nest, self.p.target)
        args = [self.where(n) for n in built.reads] + [self.home(n) for n in homes]
        self.steps.append(Launch(built.kernel, tuple(args), built.dims, built.work, node, faults))
        return built

    def write(self, value: Expr, target: Strided, home: Expr, **options: Any) -> None:
        """A nest over value's shape that writes it to `target` inside home's place."""
        shape = value.array_type.shape
        inside = set() if self.stored(value) else {id(value)}
        root = Root(value, identity(len(shape)), target)
        nest = Nest(shape, (), (), (root,), lambda n: self.stored(n) and id(n) not in inside)
        self.nest(nest._replace(**options), [home], home)

    # ---------------------------------------------------------------------------------- opaque nodes

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
            self.steps.append(Launch(special.kernel, tuple(args), special.dims, special.work, node))
        else:
            raise InternalError(f"{node.op.name} has neither a kernel nor an expansion", site=node.site)

    def _host(self, node: Expr) -> None:
        args = tuple(self.whole(x) for x in node.inputs)
        types = tuple(x.array_type for x in node.inputs)
        self.steps.append(Host(node, args, types, (self.home(node),), (node.array_type,), host_reason(node)))
        self.p.groups.append(program.Group(f"host call {node.op.name}", (node,), host_reason(node)))

    def _concatenate(self, node: Expr) -> None:
        op = node.op
        assert isinstance(op, Concatenate)
        strides = row_strides(node.array_type.shape)
        start: SizeLike = 0
        for x in node.inputs:
            self.write(x, Strided(start * strides[op.axis], strides), node, name="concatenate")
            start = start + x.array_type.shape[op.axis]

    def _place(self, node: Expr) -> None:
        op = node.op
        assert isinstance(op, Place)
        fill = apply(BroadcastTo(op.shape), constant(op.fill, node.array_type.dtype))
        strides = row_strides(op.shape)
        self.write(fill, Strided(0, strides), node, name="fill")
        offset: SizeLike = 0
        for start, stride in zip(op.starts, strides):
            offset = offset + start * stride
        steps = tuple(k * s for k, s in zip(op.steps, strides))
        self.write(node.inputs[0], Strided(offset, steps), node, name="place")

    def _cumulative(self, node: Expr) -> None:
        op = node.op
        assert isinstance(op, Cumulative)
        strides = row_strides(node.array_type.shape)
        self.write(node.inputs[0], Strided(0, strides), node, reduced=(op.axis,), cumulative=op.kind, name="cumulative")

    def _assert(self, node: Expr) -> None:
        op = node.op
        assert isinstance(op, Assert)
        x, condition = node.inputs
        fault = self.p.fault(FaultSpec(AssertionFault, op.message, node))
        shape = condition.array_type.shape
        root = Root(condition, identity(len(shape)), Strided(0, row_strides(shape)), check=True)
        self.nest(Nest(shape, (), (), (root,), self.stored, name="check"), [], node, (fault,))
        self.copy(self.home(node), self.whole(x), x.array_type)

    # ---------------------------------------------------------------------------------- products

    def _matmul(self, node: Expr) -> None:
        rank = node.ndim
        views = [resolve(x, identity(rank), self.stored) for x in node.inputs]
        a, b = (strided(v, rank) for v in views)
        shape = node.array_type.shape
        k = node.inputs[0].array_type.shape[-1]
        c = Strided(0, row_strides(shape))
        outer, inner = _batches(shape[:-2], [a, b, c])
        m, n = shape[-2:]
        spec = ContractionSpec(
            str(node.array_type.dtype),
            None,
            _unit_axis({"k": a.strides[-1], "m": a.strides[-2]}, {"k": k, "m": m}, "k"),
            _unit_axis({"n": b.strides[-1], "k": b.strides[-2]}, {"n": n, "k": k}, "n"),
            *(s if isinstance(s, int) else None for s in (m, n, k)),
        )
        kernel = build_contraction(spec, self.p.target)
        args = [self._advance(self.where(v.base), s, outer) for v, s in zip(views, (a, b))] + [self._advance(self.home(node), c, outer)]
        if workspace_elements(spec, self.p.target):
            args.append(self.p.temp(Array(_dtype(spec.accumulate), (workspace_elements(spec, self.p.target),))))
        batch = product(shape[j] for j in inner)
        last = inner[-1] if inner else None
        a_batch, b_batch, c_batch = (s.strides[last] if last is not None else 0 for s in (a, b, c))
        sizes = (batch, m, n, k, a_batch, a.strides[-2], a.strides[-1], b_batch, b.strides[-2], b.strides[-1], c_batch, c.strides[-2])
        work = product(shape) * k
        step: Step = Launch(kernel, tuple(args), sizes, work, node)
        for axis in reversed(outer):
            step = Repeat(shape[axis], (step,), False, node)
        self.steps.append(step)
        self.p.groups.append(program.Group(kernel.name, (node,), "a product has a kernel of its own"))

    def _advance(self, ref: Ref, address: Strided, outer: Sequence[int]) -> Ref:
        """`ref` moved to where a strided view starts, stepping along the outer batch axes."""
        strides = (*ref.strides, *[0] * (self.depth - len(ref.strides)), *(address.strides[j] for j in outer))
        return Ref(ref.slot, ref.offset + address.offset, strides if outer or ref.strides else (), ref.first)

    # ---------------------------------------------------------------------------------- control flow

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
        self.steps.append(Repeat(op.n_steps, self._region(op.region, env, targets, after), op.reverse, node))

    def _row(self, ref: Ref, stacked: Array, shift: int, first: Ref | None = None) -> Ref:
        """Row number (iteration + shift) of a stacked array, as seen inside the new loop."""
        row = product(stacked.shape[1:])
        strides = (*ref.strides, *[0] * (self.depth - len(ref.strides)), row)
        return Ref(ref.slot, ref.offset + shift * row, strides, first)

    def _state(self, op: Scan, wanted: dict[int, Expr], i: int, init: Ref, type: Array) -> tuple[Ref, Ref, Ref | None]:
        """Where a step reads state i, where it writes the new one, and what to copy it to after the step.

        A stacked state is read from the row the step before wrote (the initial value at first); a state that is only
        carried, or whose final value is wanted, has one buffer that each step reads and that takes over the new value.
        """
        stacked, final = wanted.get(i), wanted.get(op.states + op.outputs + i)
        if stacked is not None and final is None:
            home = self.home(stacked)
            back = self._row(home, stacked.array_type, 1 if op.reverse else -1, init)
            return back, self._row(home, stacked.array_type, 0), None
        carry = self.home(final) if final is not None else self.p.temp(type)
        self.copy(carry, init, type)
        target = self._row(self.home(stacked), stacked.array_type, 0) if stacked is not None else self.p.temp(type)
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
        """The steps of a region whose parameters lie at `env`; results without a target are not computed."""
        wanted = [(r, t) for r, t in zip(region.results, targets) if t is not None]
        results = expand([r for r, _ in wanted])
        params = {id(x): env[x.op.index] for x in toposort(results) if isinstance(x.op, Param)}  # type: ignore[attr-defined]
        self.p.kept_alive += results
        body = _Body(self.p, params, self.depth + nested)
        steps = body.run(results, [t for _, t in wanted])
        return steps + tuple(Copy(to, source, type.size, str(type.dtype)) for to, source, type in after)


HANDLERS: dict[type, Callable[[_Body, Expr], None]] = {
    Concatenate: _Body._concatenate,
    Place: _Body._place,
    Cumulative: _Body._cumulative,
    Assert: _Body._assert,
    MatMul: _Body._matmul,
    Scan: _Body._scan,
    Cond: _Body._cond,
}
SPECIAL_OPS = tuple(SPECIAL)


def operand_base_whole(x: Expr, stored: Callable[[Expr], bool]) -> Expr:
    """The node whose memory holds x's elements in C order."""
    from symgraph.ops.movement import Reshape

    while isinstance(x.op, Reshape) and not stored(x):
        x = x.inputs[0]
    return x


def _root(node: Expr, group: Group) -> Root:
    """How a member is stored: over the whole space, or over the kept axes (with or without 1s for the reduced ones)."""
    rank = len(group.space)
    shape = node.array_type.shape
    strides = row_strides(shape)
    if shape == group.space and not isinstance(node.op, (Reduce, ArgReduce)):
        return Root(node, identity(rank), Strided(0, strides))
    kept = tuple(a for a in range(rank) if a not in group.reduced)
    if len(shape) == rank:
        map: Map = tuple(Axis(0, unit(rank, a) if a in kept else (0,) * rank) for a in range(rank))
        return Root(node, map, Strided(0, tuple(strides[a] if a in kept else 0 for a in range(rank))), inner=False)
    at = dict(zip(kept, strides))
    return Root(node, project(rank, kept), Strided(0, tuple(at.get(a, 0) for a in range(rank))), inner=False)


def _batches(batch: Sequence[SizeLike], addresses: Sequence[Strided]) -> tuple[list[int], list[int]]:
    """Batch axes that need a loop around the kernel, and the trailing ones that merge into its own batch loop."""
    inner: list[int] = []
    for axis in reversed(range(len(batch))):
        if inner and not all(known_equal(s.strides[axis], s.strides[inner[0]] * batch[inner[0]]) is True for s in addresses):
            break
        inner.insert(0, axis)
    return list(range(len(batch) - len(inner))), inner


def _unit_axis(strides: dict[str, SizeLike], sizes: dict[str, SizeLike], preferred: str) -> str | None:
    """The axis of an operand along which elements are neighbours; of several, one longer than 1."""
    unit = [axis for axis in (preferred, *strides) if strides[axis] == 1]
    return next((axis for axis in unit if sizes[axis] != 1), unit[0] if unit else None)


def _dtype(name: str) -> Any:
    from symgraph.dtypes import dtype

    return dtype(name)
