"""The loop space of a kernel: which axes merge, which one becomes vector lanes, how many lanes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

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
) -> Space:
    """Merge what is contiguous in every access, order kept before reduced, choose the vector axis.

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
    vector = _vector_axis(space, reads, writes) if lanes > 1 else None
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


def _vector_axis(space: Space, reads: Sequence[Strided], writes: Sequence[Strided]) -> int | None:
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
        score = 0.0
        for access, weight in [(a, 1.0) for a in reads] + [(a, 2.0) for a in writes]:
            stride = access.strides[space.source[axis]]
            score += weight * (1.0 if stride == 1 else 0.0 if stride == 0 else -1.0)
        if isinstance(size, int) and size < 4 and len(space.sizes) > 1:
            score -= 2.0  # mostly masked lanes
        if best_score is None or score >= best_score:
            best, best_score = axis, score
    return best


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
