"""What a loop nest is asked to compute, and what lowering gives back."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from symgraph.dims import Shape, SizeLike
from symgraph.expr import Expr

from ..affine import Map, Strided
from ..loops import INDEX, Const, Kernel, Ty, Value, Var
from ..split import Split

SMALL = 129  # extents, strides and offsets below it are constants of the code


class Root(NamedTuple):
    """A value to store: `node` read at `map` goes to `target`, both over the space.

    inner: it lives on the whole space, not on the kept axes.
    """

    node: Expr
    map: Map
    target: Strided
    inner: bool = True
    check: bool = False  # do not store: fault 0 if the (bool) value is false anywhere
    combine: str = "set"  # or "add", "max", "min": with what lies at the target
    scatter: Expr | None = None  # the node whose indices say where along the indexed axes
    bounds: bool = False  # do not store: check the indices of `scatter`, no more

    @property
    def stores(self) -> bool:
        """Whether it has a place of its own."""
        return not (self.check or self.bounds)


class Nest(NamedTuple):
    """What to lower. reductions: in graph order, all over the axes `reduced` of `space`.

    stored(node): the node is read from memory; every other node reached is computed here.
    """

    space: Shape
    reduced: tuple[int, ...]
    reductions: tuple[Expr, ...]
    roots: tuple[Root, ...]
    stored: Callable[[Expr], bool]
    pollable: bool = True
    name: str = "map"
    cumulative: str = (
        ""  # "sum" or "prod": the one root is a running fold over the one reduced axis
    )
    ordered: tuple[int, ...] = ()  # kept axes to go through one by one
    trusted: bool = False  # every index is known to be inside


class Bound(NamedTuple):
    """An index that has to be inside of an axis: number `number` of a Gather or Scatter node."""

    node: Expr
    number: int


class Built(NamedTuple):
    """kernel buffers: `reads` in order, then one for each root; kernel dims: `dims` in order.

    bounds: what the kernel's last faults mean; their payloads are the index and the size.
    With a split that merges, buffers for partial results follow, `split.parts` elements each, and
    the range is the last two dims; otherwise the kernel has no range yet.
    """

    kernel: Kernel
    reads: tuple[Expr, ...]
    dims: tuple[SizeLike, ...]
    work: SizeLike
    bounds: tuple[Bound, ...] = ()
    split: Split | None = None


class Dims:
    """Sizes as loop-IR values: small numbers are literals, the rest are kernel arguments.

    A loop gains nothing from a large constant, and nests over arrays of many sizes have one code.
    """

    def __init__(self) -> None:
        self.sizes: list[SizeLike] = []
        self.vars: list[Var] = []
        self._known: dict[SizeLike, Var] = {}

    def __call__(self, size: SizeLike) -> Value:
        if isinstance(size, int) and -SMALL < size < SMALL:
            return Const(size, Ty(INDEX))
        if size not in self._known:
            var = self._known[size] = Var(f"n{len(self.vars)}", Ty(INDEX))
            self.sizes.append(size)
            self.vars.append(var)
        return self._known[size]
