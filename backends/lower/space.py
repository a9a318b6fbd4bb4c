"""The loop space of a kernel: which axes merge, which one becomes vector lanes, how many lanes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from symgraph.dims import Shape, SizeLike, known_equal, known_le

from ..affine import Strided


class Space(NamedTuple):
    """Loop axes after merging, outermost first, kept axes before reduced ones.

    sizes: extent of each loop axis; source: the original axis whose stride each loop axis steps by
    (its innermost); reduced: which loop axes are reduced; vector: the loop axis that becomes lanes
    (None: scalar code); lanes; ordered: it is gone through one by one.
    """

    sizes: tuple[SizeLike, ...]
    source: tuple[int, ...]
    reduced: tuple[bool, ...]
    vector: int | None
    lanes: int
    ordered: tuple[bool, ...]

    def strides(self, address: Strided) -> tuple[SizeLike, ...]:
        """The element strides of an address along the loop axes."""
        return tuple(address.strides[axis] for axis in self.source)


def make_space(
    shape: Shape,
    reduced: Iterable[int],
    reads: Sequence[Strided],
    writes: Sequence[Strided],
    lanes: int,
    ordered: Iterable[int] = (),
    spaced: int = 1,
) -> Space:
    """Merge what is contiguous in every access, order kept before reduced, choose the vector axis.

    spaced: the largest step between lanes at which reads are nearly as good as contiguous ones;
    ordered: axes that have to be gone through one by one, so they never become lanes.
    """
    over = frozenset(reduced)
    runs = [
        run
        for kind in (False, True)
        for run in _merge(
            shape, [a for a in range(len(shape)) if (a in over) is kind], [*reads, *writes]
        )
    ]
    sizes: list[SizeLike] = []
    source: list[int] = []
    for run in runs:
        size: SizeLike = 1
        for axis in run:
            size = size * shape[axis]
        sizes.append(size)
        source.append(run[-1])
    flags = [run[-1] in over for run in runs]
    serial = frozenset(ordered)
    in_order = [any(axis in serial for axis in run) for run in runs]
    space = Space(tuple(sizes), tuple(source), tuple(flags), None, 1, tuple(in_order))
    vector = _vector_axis(space, reads, writes, lanes, spaced) if lanes > 1 else None
    return _order(space, vector, lanes)


def _merge(shape: Shape, axes: list[int], accesses: Sequence[Strided]) -> list[list[int]]:
    """Runs of neighbouring axes that every access steps through as one; axes of size 1 vanish."""
    runs: list[list[int]] = []
    for axis in axes:
        if shape[axis] == 1:
            continue
        if runs and all(_contiguous(a, runs[-1][-1], axis, shape) for a in accesses):
            runs[-1].append(axis)
        else:
            runs.append([axis])
    return runs


def _contiguous(access: Strided, outer: int, inner: int, shape: Shape) -> bool:
    return known_equal(access.strides[outer], access.strides[inner] * shape[inner]) is True


def _vector_axis(
    space: Space, reads: Sequence[Strided], writes: Sequence[Strided], lanes: int, spaced: int
) -> int | None:
    """The axis along which most accesses are contiguous; the last one where several are equal.

    Accesses of every element decide; those of what is kept of a reduction are few beside them.
    """
    reduced = [space.source[a] for a, r in enumerate(space.reduced) if r]
    every = [a for a in (*reads, *writes) if any(a.strides[axis] != 0 for axis in reduced)]
    if every:
        reads, writes = [a for a in reads if a in every], [a for a in writes if a in every]
    best, best_score = None, None
    for axis, size in enumerate(space.sizes):
        if size == 1 or space.ordered[axis]:
            continue
        full = not (isinstance(size, int) and size < lanes)
        near = spaced if full and not space.reduced[axis] else 1
        score = sum(_ease(a.strides[space.source[axis]], near) for a in reads)
        score += 2 * sum(_ease(a.strides[space.source[axis]], 1) for a in writes)
        if isinstance(size, int) and len(space.sizes) > 1 and _is_short(space, axis, lanes, spaced):
            score -= 2.0
        if best_score is None or score >= best_score:
            best, best_score = axis, score
    return best


def _is_short(space: Space, axis: int, lanes: int, spaced: int) -> bool:
    """Whether an axis of known size rather leaves the lanes to another one.

    Most of them would be masked. What is reduced has to be merged across them. What is kept of
    a reduction costs one operation for each row; if rows are in lanes, it is about two (a load
    and a shuffle) for each column, and so for each of as many passes.
    """
    size: Any = space.sizes[axis]
    if space.reduced[axis]:
        return bool(size < max(4, spaced))
    return bool(2 * size * size < lanes if any(space.reduced) else size < 4)


def _ease(stride: SizeLike, near: int) -> float:
    """How good a vector of elements is to access that lie so far apart."""
    if isinstance(stride, int) and 1 < abs(stride) <= near:
        return 0.5
    return 1.0 if stride == 1 else 0.0 if stride == 0 else -1.0


def _order(space: Space, vector: int | None, lanes: int) -> Space:
    """Kept axes, then reduced ones; the vector axis last among its kind."""
    order = sorted(range(len(space.sizes)), key=lambda a: (space.reduced[a], a == vector, a))
    if vector is None or _tiny(space.sizes[vector]):
        vector, lanes = None, 1
    elif isinstance(space.sizes[vector], int):
        while lanes > 2 and known_le(space.sizes[vector], lanes // 2):
            lanes //= 2
    return Space(
        tuple(space.sizes[a] for a in order),
        tuple(space.source[a] for a in order),
        tuple(space.reduced[a] for a in order),
        None if vector is None else order.index(vector),
        lanes,
        tuple(space.ordered[a] for a in order),
    )


def _tiny(size: SizeLike) -> bool:
    return isinstance(size, int) and size <= 1
