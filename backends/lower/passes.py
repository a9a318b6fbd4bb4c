"""Which values a pass over the reduced axes keeps in memory for the passes after it.

A nest goes over its reduced axes once for each phase of reductions and once more for the roots that
live there. A value that several passes need is cheap to compute again or to read again from cache;
an expensive one (an exponential) is stored by the first pass and read by the others: in the output
row that is written last anyway, else in a scratch row if the reduced axes are short enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from symgraph.dims import SizeLike, product

from ..affine import Strided
from ..irtext import BYTES
from ..loops import Buffer
from ..weights import CALL, weight
from .request import Nest
from .space import Space
from .trace import Entry

SCRATCH_BYTES = 16 * 1024  # one scratch row: half of a small first-level cache
SCRATCH_ROWS = 2


class Held(NamedTuple):
    """A value that pass `made` stores at `address` and that later passes read there.

    scratch: elements of the stack array that has to be declared for it, 0 in an output.
    """

    made: int
    buffer: Buffer
    address: Strided
    scratch: int


class Keeper:
    """Finds, pass by pass, what is held and where. `moving(i)`: entry i varies in a pass."""

    def __init__(
        self,
        nest: Nest,
        space: Space,
        entries: Sequence[Entry],
        moving: Callable[[int], bool],
        outputs: Sequence[Buffer],
    ):
        self.nest, self.space, self.entries, self.moving = nest, space, entries, moving
        self.free = [
            (buffer, root.target)
            for buffer, root in zip(outputs, nest.roots)
            if root.inner and not root.check and self._covers(root.target)
        ]
        self.rows = SCRATCH_ROWS
        self.made: dict[int, int] = {}
        self.held: dict[int, Held] = {}
        self.cost = self._costs()

    def run(self, passes: Sequence[Sequence[int]]) -> dict[int, Held]:
        """What is held, given the entries that each pass wants."""
        for number, wanted in enumerate(passes):
            stack, seen = list(wanted), set(wanted)
            while stack:
                i = stack.pop()
                if not self.moving(i) or self._is_held(i, number):
                    continue
                self.made.setdefault(i, number)
                fresh = [a for a in self.entries[i].args if a not in seen]
                seen.update(fresh)
                stack.extend(fresh)
        return self.held

    def _is_held(self, i: int, number: int) -> bool:
        """Whether this pass reads entry i from where an earlier one stored it."""
        made = self.made.get(i, number)
        if made == number:
            return False
        if i not in self.held and self.cost[i] >= CALL:
            place = self._place(str(self.entries[i].node.array_type.dtype), made)
            if place is not None:
                self.held[i] = place
        return i in self.held

    def _costs(self) -> list[int]:
        """About what computing each entry again costs, what is outside the passes apart."""
        costs: list[int] = []
        for i, e in enumerate(self.entries):
            own = weight(e.node) if e.kind == "elementwise" else 1
            costs.append(min(own + sum(costs[a] for a in e.args), 1 << 20) if self.moving(i) else 0)
        return costs

    def _place(self, dtype: str, made: int) -> Held | None:
        for k, (buffer, target) in enumerate(self.free):
            if buffer.dtype == dtype:
                del self.free[k]
                return Held(made, buffer, target, 0)
        return self._scratch(dtype, made)

    def _scratch(self, dtype: str, made: int) -> Held | None:
        """A row over the reduced axes, the innermost one contiguous."""
        space = self.space
        axes = [a for a, r in enumerate(space.reduced) if r]
        size = product(space.sizes[a] for a in axes)
        limit = SCRATCH_BYTES // BYTES[dtype]
        kept_lanes = space.vector is not None and not space.reduced[space.vector]
        if kept_lanes or not self.rows or not isinstance(size, int) or size > limit:
            return None
        self.rows -= 1
        strides: list[SizeLike] = [0] * len(self.nest.space)
        for n, a in enumerate(axes):
            strides[space.source[a]] = product(space.sizes[b] for b in axes[n + 1 :])
        buffer = Buffer(f"row{self.rows}", dtype, "rw")
        return Held(made, buffer, Strided(0, tuple(strides)), size)

    def _covers(self, target: Strided) -> bool:
        """Every point of the space has an element of its own, neighbours along the lanes."""
        strides = self.space.strides(target)
        if any(s == 0 for s in strides):
            return False
        return self.space.vector is None or strides[self.space.vector] == 1
