"""When a contraction takes k by words, and how many steps those are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from symgraph.dims import SizeLike, ceildiv, product

from .targets import Target
from .words import Words, words

if TYPE_CHECKING:
    from .contraction import ContractionSpec

WORD_LANES = 4  # of the narrowest vector that every target with words has instructions for
FEW_WORD_ROWS = 3  # rows up to which packing words costs more than it gives


@lru_cache(maxsize=1024)
def words_of(spec: ContractionSpec, target: Target) -> Words | None:
    """The words that k goes by: where A's rows are contiguous along it, and B's panels pay."""
    few = spec.m is not None and spec.m <= FEW_WORD_ROWS
    if spec.a_unit != "k" or few or spec.n == 1:
        return None
    return words(*spec.dtypes, spec.accumulate, target)


def is_whole(spec: ContractionSpec, taken: Words) -> bool:
    """Whether words of several steps are known to make up the innermost axis of k."""
    size = spec.k if spec.shape.steps == 1 and spec.innermost is None else spec.innermost
    return size is not None and size % taken.group == 0


def steps_of(spec: ContractionSpec, target: Target) -> int | None:
    """Steps of k where that is known, or as many as there may be."""
    taken = words_of(spec, target)
    if spec.k is None or taken is None or not spec.shape.is_plain:
        return spec.k
    return -(-spec.k // taken.group)


def packed_group(spec: ContractionSpec, target: Target) -> int:
    """Steps of k in an element of a packed B, which has then the size of a sum."""
    taken = words_of(spec, target)
    return 1 if taken is None else taken.group


def packed_steps(spec: ContractionSpec, target: Target, at: Mapping[str, SizeLike]) -> SizeLike:
    """Elements in a column of a packed B."""
    group, last = packed_group(spec, target), spec.shape.steps - 1
    if not last:
        return ceildiv(at["K"], group)
    return product(at[f"k{j}"] for j in range(last)) * ceildiv(at[f"k{last}"], group)
