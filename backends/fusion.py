"""Cut the graph into kernels: which nodes share one loop nest, why each group ends where it does.

A group computes over one space (a shape) and may reduce it over one set of axes. Its members are
inner (they live on the whole space) or outer (they live on the kept axes: the reductions and what
follows them). A member reads another member only at its own index; every other computed value it
reads comes from memory. Movement, counters and cheap scalars belong to no group: whoever reads them
computes them at the index it needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from symgraph.arraytype import Array
from symgraph.dims import Shape
from symgraph.expr import Expr
from symgraph.ops.reduce import ArgReduce

from .affine import View, is_identity
from .classify import is_leaf, operand_base
from .reads import Reads
from .units import Group, Opaque, Partition, Unit, schedule
from .weights import weight

LIMIT = 300  # weight of one group


class _Growing:
    """A group while it grows.

    bit: its own, 0 until it is a group of its own. ancestors: bits of the groups and opaque nodes
    that must run before it.
    """

    __slots__ = ("bit", "space", "reduced", "members", "weight", "ancestors", "reason")

    space: Shape
    reduced: tuple[int, ...]

    def __init__(self, space: Shape, reduced: tuple[int, ...]):
        self.bit = 0
        self.space = space
        self.reduced = reduced
        self.members: list[Expr] = []
        self.weight = 0
        self.ancestors = 0
        self.reason = ""

    def refuse(self, reason: str) -> None:
        """Keep the first reason why a reader did not join."""
        self.reason = self.reason or reason

    @property
    def kept(self) -> tuple[int, ...]:
        return tuple(a for a in range(len(self.space)) if a not in self.reduced)

    @property
    def outer_shapes(self) -> tuple[Shape, Shape]:
        """The shapes of outer members: the kept axes alone, and with the reduced axes as 1."""
        return tuple(self.space[a] for a in self.kept), tuple(
            1 if a in self.reduced else s for a, s in enumerate(self.space)
        )


def partition(results: Sequence[Expr], last: Iterable[Expr] = ()) -> Partition:
    """Group the graph of `results`.

    Units that only serve `last` (results as well) are ordered after all others.
    """
    return _Partitioner(results, last).run()


class _Partitioner:
    def __init__(self, results: Sequence[Expr], last: Iterable[Expr]):
        self.results = [r for r in results if not is_leaf(r)]
        self.last = {id(x) for x in last}
        self.reading = Reads(self.results)
        self.nodes, self.kinds = self.reading.nodes, self.reading.kinds
        self.group_of: dict[int, _Growing] = {}
        self.groups: dict[int, _Growing] = {}  # by bit
        self.before: dict[int, int] = {}  # what a stored node's producer needs, itself included
        self.bits = 0
        self.needed = 0  # bits that occur among somebody's ancestors
        self.reads: dict[int, list[View]] = {}
        self.last_reader: dict[tuple[int, Shape], Expr] = {}
        self.placing: Expr

    def run(self) -> Partition:
        for node in self.nodes:
            k = self.kinds[id(node)]
            if k in ("opaque", "pull"):
                self._place_opaque(node)
            elif id(node) in self.reading.inline or k == "leaf":
                continue
            elif k in ("compute", "reduce") or id(node) in self.reading.forced:
                self._place(node)
        groups = list(self.groups.values())
        roots = self._roots()
        self._absorb(groups, roots)
        return self._order([g for g in groups if g.members], roots)

    # -------------------------------------------------------------- placing nodes

    def _place_opaque(self, node: Expr) -> None:
        needs = 0
        operands = self.reading.views(node) if self.kinds[id(node)] == "pull" else []
        if self.kinds[id(node)] == "opaque":
            bases = [
                operand_base(node, x, self.reading.is_stored) if isinstance(x.type, Array) else x
                for x in node.inputs
            ]
        else:
            bases = [v.base for v in operands]
            self.reads[id(node)] = operands
        for base in bases:
            needs |= self._needs(base)
        self.before[id(node)] = needs | self._new_bit()
        self.needed |= self.before[id(node)]

    def _needs(self, base: Expr) -> int:
        group = self.group_of.get(id(base))
        return group.ancestors | group.bit if group is not None else self.before.get(id(base), 0)

    def _place(self, node: Expr) -> None:
        self.placing = node
        views = self.reads[id(node)] = self.reading.views(node)
        reducing = self.kinds[id(node)] == "reduce"
        space = node.inputs[0].array_type.shape if reducing else node.array_type.shape
        axes = _axes(node) if reducing else ()
        home = _Growing(space, axes)
        for candidate in self._candidates(views):
            home = self._try_join(home, candidate, node, views) or home
        for candidate in self._siblings(views, space, home):
            home = self._try_join(home, candidate, node, views) or home
        if not home.bit:
            home.bit = self._new_bit()
            self.groups[home.bit] = home
        home.members.append(node)
        home.weight += weight(node)
        self.group_of[id(node)] = home
        for view in views:
            if self.group_of.get(id(view.base)) is not home:
                self._depend(home, self._needs(view.base))

    def _new_bit(self) -> int:
        self.bits += 1
        return 1 << self.bits

    def _candidates(self, views: list[View]) -> list[_Growing]:
        found: dict[int, _Growing] = {}
        for view in views:
            group = self.group_of.get(id(view.base))
            if group is not None:
                found[group.bit] = group
        return sorted(found.values(), key=lambda g: -g.bit)

    def _siblings(self, views: list[View], space: Shape, home: _Growing) -> list[_Growing]:
        """Groups that already read the same array from memory at the same index of the same space.

        The array is an input, or a member of a group that the reader could not join.
        """
        found: list[_Growing] = []
        for view in views:
            if self.group_of.get(id(view.base)) is home or not is_identity(view, space):
                continue
            key = (id(view.base), space)
            group = self.group_of.get(id(self.last_reader.get(key)))
            if group is None or group.weight + weight(self.placing) > LIMIT:
                self.last_reader[key] = self.placing  # who comes next meets a group with room
            elif group not in found:
                found.append(group)
        return found

    def _try_join(
        self, home: _Growing, group: _Growing, node: Expr, views: list[View]
    ) -> _Growing | None:
        """Merge `home` (which will hold node) with a group that node reads.

        None, with the reason kept, where that is wrong.
        """
        if home is group or self.groups.get(group.bit) is not group:  # merged already
            return home
        merged = _common(home, group)
        if merged is None:
            group.refuse("its reader has another space")
            return None
        space, reduced = merged
        external = 0
        for view in views:
            owner = self.group_of.get(id(view.base))
            if owner is not group and owner is not home:
                external |= self._needs(view.base)
            elif not self._at_own_index(view, node, space, reduced):
                group.refuse("it is read at another index")
                return None
        if home.weight + group.weight + weight(node) > LIMIT:
            group.refuse("it is full")
            return None
        if (external | home.ancestors) & group.bit or (external | group.ancestors) & home.bit:
            group.refuse("its reader also needs what another kernel makes of it")
            return None
        return self._merge(home, group, space, reduced)

    def _at_own_index(self, view: View, node: Expr, space: Shape, reduced: tuple[int, ...]) -> bool:
        """Whether a member is read at the index at which it is computed."""
        if view.is_flat:
            return False
        reader = (
            node.inputs[0].array_type.shape
            if self.kinds[id(node)] == "reduce"
            else node.array_type.shape
        )
        reader_axes, base_axes = (
            _axes_in(reader, space, reduced),
            _axes_in(view.shape, space, reduced),
        )
        base_inner = view.shape == space and self.kinds[id(view.base)] != "reduce"
        if reader_axes is None or base_axes is None or (base_inner and reader != space):
            return False
        for size, place, axis in zip(view.shape, base_axes, view.map):
            moving = {
                reader_axes[j]: c for j, c in enumerate(axis.coefs) if c != 0 and reader[j] != 1
            }
            if axis.offset != 0 or moving != ({} if size == 1 else {place: 1}):
                return False
        return True

    def _merge(
        self, home: _Growing, group: _Growing, space: Shape, reduced: tuple[int, ...]
    ) -> _Growing:
        """One group of two; `home` lives on if it has members already."""
        old, new = (group, home) if home.members else (home, group)
        new.space, new.reduced = space, reduced
        for node in old.members:
            self.group_of[id(node)] = new
        new.members += old.members
        new.weight += old.weight
        new.reason = new.reason or old.reason
        if old.members:
            del self.groups[old.bit]
            self._depend(new, old.ancestors)
            self._rename(old.bit, new)
        return new

    def _rename(self, bit: int, new: _Growing) -> None:
        """Who needed the group of `bit` needs `new`."""
        if not self.needed & bit:
            return
        self.needed |= new.bit
        for other in self.groups.values():
            if other.ancestors & bit:
                other.ancestors |= new.bit | new.ancestors
        for key, needs in self.before.items():
            if needs & bit:
                self.before[key] = needs | new.bit | new.ancestors

    def _depend(self, group: _Growing, needs: int) -> None:
        """`group` needs these; so does everyone who needs it."""
        if group.ancestors | needs == group.ancestors:
            return
        group.ancestors |= needs
        self.needed |= needs
        if not self.needed & group.bit:
            return
        for other in self.groups.values():
            if other.ancestors & group.bit:
                other.ancestors |= needs
        for key, value in self.before.items():
            if value & group.bit:
                self.before[key] = value | needs

    # -------------------------------------------------------------- roots and order

    def _roots(self) -> set[int]:
        """Members that are stored: results, forced ones, and those that another unit reads."""
        roots = set(self.reading.forced)
        for node in self.nodes:
            reader = self.group_of.get(id(node))
            for view in self.reads.get(id(node), ()):
                owner = self.group_of.get(id(view.base))
                if owner is not None and owner is not reader:
                    roots.add(id(view.base))
        return roots

    def _absorb(self, groups: list[_Growing], roots: set[int]) -> None:
        """A small group is computed by its reader where that repeats nothing.

        It has one root that is read once, through movement that reads no element twice.
        """
        readers: dict[int, list[tuple[Expr, View]]] = {}
        for node in self.nodes:
            for view in self.reads.get(id(node), ()):
                readers.setdefault(id(view.base), []).append((node, view))
        for group in groups:
            mine = [m for m in group.members if id(m) in roots]
            if group.reduced or len(mine) != 1 or id(mine[0]) in self.reading.forced:
                continue
            users = readers.get(id(mine[0]), [])
            outside = [(n, v) for n, v in users if self.group_of.get(id(n)) is not group]
            if len(outside) != 1 or not _injective(outside[0][1]):
                continue
            reader = self.group_of.get(id(outside[0][0]))
            if reader is not None:
                if reader.weight + group.weight > LIMIT or reader.reduced:
                    continue
                reader.weight += group.weight
                reader.ancestors |= group.ancestors
            roots.discard(id(mine[0]))
            for m in group.members:
                self.group_of.pop(id(m), None)
                self.reading.inline.add(id(m))
            group.members = []

    def _order(self, groups: list[_Growing], roots: set[int]) -> Partition:
        position = {id(n): i for i, n in enumerate(self.nodes)}
        stored = {id(n) for n in self.nodes if id(n) in self.reading.stored} | {
            id(m) for g in groups for m in g.members if id(m) in roots
        }
        units: list[Unit] = []
        keys: list[tuple[bool, int]] = []
        owner: dict[int, int] = {}
        for g in groups:
            g.members.sort(key=lambda n: position[id(n)])
            mine = tuple(m for m in g.members if id(m) in roots)
            for m in g.members:
                owner[id(m)] = len(units)
            late = all(id(m) in self.last for m in mine)
            keys.append((late, position[id(g.members[-1])]))
            units.append(
                Group(
                    g.space,
                    g.reduced,
                    tuple(g.members),
                    mine,
                    g.reason or "its readers are outside",
                )
            )
        for n in self.nodes:
            if self.kinds[id(n)] in ("opaque", "pull"):
                owner[id(n)] = len(units)
                keys.append((id(n) in self.last, position[id(n)]))
                units.append(Opaque(n))
        return Partition(tuple(units[i] for i in schedule(units, keys, owner)), frozenset(stored))


def _common(home: _Growing, group: _Growing) -> tuple[Shape, tuple[int, ...]] | None:
    """The space and reduced axes of two groups together, if they can share one nest."""
    if home.space == group.space:
        if not home.reduced or not group.reduced or home.reduced == group.reduced:
            return home.space, home.reduced or group.reduced
        return None
    if group.reduced and not home.reduced and home.space in group.outer_shapes:
        return group.space, group.reduced
    if home.reduced and not group.reduced and group.space in home.outer_shapes:
        return home.space, home.reduced
    return None


def _axes_in(shape: Shape, space: Shape, reduced: tuple[int, ...]) -> tuple[int, ...] | None:
    """Which axis of the space each axis of a member's shape is; None if it is no member's."""
    if len(shape) == len(space):
        return tuple(range(len(space)))
    kept = tuple(a for a in range(len(space)) if a not in reduced)
    return kept if len(shape) == len(kept) else None


def _axes(node: Expr) -> tuple[int, ...]:
    return (node.op.axis,) if isinstance(node.op, ArgReduce) else node.op.axes  # type: ignore[attr-defined]


def _injective(view: View) -> bool:
    """Every element of the base is read at most once.

    Each loop axis that matters moves along its own source axis.
    """
    used = [any(c != 0 for c in column) for column in zip(*(axis.coefs for axis in view.map))]
    return not view.is_flat and all(used)
