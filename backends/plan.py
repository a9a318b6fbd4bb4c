"""Make a Program of an expression graph: fuse, lower each unit, place every value, order the steps.

`plan` is the only entry. A `Body` (backends.body) plans one straight-line graph, the function's or
a region's inside a loop or a branch; the `Planner` holds what they share: slots, constants, faults.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symgraph.arraytype import Array
from symgraph.dims import Atom, Fn, ValueOf, atoms, known_equal, single_atom
from symgraph.errors import InternalError, MissingInputError
from symgraph.expr import Expr
from symgraph.leaves import Constant, Input, Shared
from symgraph.relations import Guard

from . import memory, program
from .body import Body
from .expand import expand, refuse_host_calls
from .inside import read_inside
from .program import Bind, FaultSpec, Program, Ref, Slot, Step, Update
from .targets import Target
from .unify import unify

ALIGN = 64  # bytes; where temporaries start


def plan(
    inputs: Sequence[Expr],
    outputs: Sequence[Expr],
    updates: Sequence[tuple[Shared, Expr]] = (),
    *,
    target: Target,
    guards: Sequence[tuple[Guard, Expr]] = (),
    host_calls: str = "allow",
    precision: str = "exact",
) -> Program:
    """The Program that computes `outputs` and the new values of shared variables.

    guards: size relations to check at each call. host_calls="forbid" refuses ops without a native
    form. precision="fast": convolutions may have a larger error where that makes them quicker.

    Raises: HostCallError, naming every such op and its line; MissingInputError for inputs that are
    not listed.
    """
    return Planner(inputs, target, precision).run(outputs, updates, guards, host_calls)


class Planner:
    """What all bodies of one program share."""

    def __init__(self, inputs: Sequence[Expr], target: Target, precision: str = "exact"):
        self.target = target
        self.fast = target if precision == "fast" else None
        self.inputs = tuple(inputs)
        self.shared: list[Shared] = []
        self.slots: list[Slot] = []
        self.constants: list[Any] = []
        self.faults: list[FaultSpec] = []
        self.groups: list[program.Group] = []
        self.leaves: dict[int, Ref] = {}
        self.packed: dict[tuple[Any, ...], Ref] = {}  # constants in panels
        self.kept_alive: list[Expr] = []
        for i, x in enumerate(self.inputs):
            self.leaves[id(x)] = self.slot("input", i, x.array_type)

    def slot(self, kind: str, index: int, type: Array) -> Ref:
        self.slots.append(Slot(kind, index, type))
        return Ref(len(self.slots) - 1)

    def temp(self, type: Array) -> Ref:
        return self.slot("temp", 0, type)

    def leaf(self, node: Expr) -> Ref:
        """Where a leaf lies: inputs are there, others get a slot at first use."""
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
        results, stand_ins = unify([*outputs, *(e for _, e in updates)], [g for g, _ in guards])
        results = read_inside(expand(results, self.target, self.fast))
        for stand_in, leaf in stand_ins.items():
            self.leaves[id(stand_in)] = self.leaf(leaf)
            self.kept_alive.append(stand_in)
        if host_calls == "forbid":
            refuse_host_calls(results)
        for s, _ in updates:
            self.leaf(s)
        targets = [self.slot("output", i, x.array_type) for i, x in enumerate(outputs)]
        moved, places = self._update_places(updates)
        body = Body(self, {}, 0)
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

    def _update_places(
        self, updates: Sequence[tuple[Shared, Expr]]
    ) -> tuple[list[bool], list[Ref]]:
        """A slot beside each updated variable; and whether its shape may change."""
        places = [self.slot("update", i, e.array_type) for i, (_, e) in enumerate(updates)]
        moved = [
            not all(
                known_equal(old, new) is True
                for old, new in zip(s.array_type.shape, e.array_type.shape)
            )
            for s, e in updates
        ]
        return moved, places

    def _settle_updates(
        self,
        steps: tuple[Step, ...],
        updates: Sequence[tuple[Shared, Expr]],
        moved: list[bool],
        places: list[Ref],
    ) -> tuple[tuple[Step, ...], list[Slot], list[Update]]:
        """Write in place what may be.

        The step that makes the value is among the last, cannot fail, and reads the old value only
        at the element it writes.
        """
        modes: list[Update] = []
        rename: dict[int, int] = {}
        steps, changed = self._drop_copies(steps, updates, moved, places)
        for (s, _), changes, place in zip(updates, moved, places):
            own = self.leaf(s).slot
            index = self.slots[own].position
            if place.slot in changed or (
                not changes
                and memory.may_write_in_place(steps, place.slot, own, {p.slot for p in places})
            ):
                rename[place.slot] = own
                modes.append(Update(index, "inplace", own))
            else:
                modes.append(Update(index, "rebind" if changes else "swap", place.slot))
        steps = memory.rename_slots(steps, rename)
        dense = {p.slot: i for i, p in enumerate(p for p in places if p.slot not in rename)}
        slots = [
            s._replace(position=dense[i]) if i in dense else s for i, s in enumerate(self.slots)
        ]
        slots = [s._replace(kind="unused") if i in rename else s for i, s in enumerate(slots)]
        return steps, slots, modes

    def _drop_copies(
        self,
        steps: tuple[Step, ...],
        updates: Sequence[tuple[Shared, Expr]],
        moved: list[bool],
        places: list[Ref],
    ) -> tuple[tuple[Step, ...], set[int]]:
        """The steps without copies of variables that some elements are changed of in place.

        And the slots of those updates.
        """
        changed: set[int] = set()
        for (s, _), changes, place in zip(updates, moved, places):
            if not changes:
                copy = memory.changes_in_place(steps, place.slot, self.leaf(s).slot)
                if copy is not None:
                    steps = (*steps[:copy], *steps[copy + 1 :])
                    changed.add(place.slot)
        return steps, changed

    # ---------------------------------------------------------------------------------- named sizes

    def _binds(
        self, steps: Sequence[Step], slots: Sequence[Slot], guards: Sequence[tuple[Guard, Expr]]
    ) -> tuple[Bind, ...]:
        known: dict[Atom, Bind] = {}
        for kind, nodes in (("input", self.inputs), ("shared", self.shared)):
            for i, x in enumerate(nodes):
                for axis, size in enumerate(x.array_type.shape):
                    atom = single_atom(size)
                    if atom is not None and not isinstance(atom, Fn):  # n//2 follows from n
                        known.setdefault(atom, Bind(atom, kind, i, axis))
                if (
                    kind == "input"
                    and isinstance(x.op, Input)
                    and x.array_type.shape == ()
                    and x.array_type.dtype.is_integer
                ):
                    known[ValueOf(x.label, x.op.uid)] = Bind(
                        ValueOf(x.label, x.op.uid), kind, i, None
                    )
        needed: set[Atom] = set()
        for size in [
            *memory.sizes_in(steps, slots),
            *(s for g, _ in guards for s in (g.left, g.right)),
        ]:
            needed |= atoms(size)
        for s in slots:
            needed |= (
                {a for size in s.type.shape for a in atoms(size)} if s.kind != "unused" else set()
            )
        missing = sorted((a for a in needed if a not in known), key=str)
        if missing:
            raise self._without_value(missing)
        return tuple(b for a, b in known.items() if a in needed or b.axis is not None)

    def _without_value(self, missing: Sequence[Atom]) -> MissingInputError:
        """Sizes that nothing shows; an input that only has something made of one is named."""
        told = f"no input gives the size {', '.join(map(str, missing))} a value"
        for x in self.inputs:
            for axis, size in enumerate(x.array_type.shape):
                if atoms(size) & set(missing):
                    told += f": axis {axis} of {x.label} is {size}"
                    return MissingInputError(
                        told, site=x.site, hint="list an input that has the size itself"
                    )
        return MissingInputError(told, hint="list the input that has it")
