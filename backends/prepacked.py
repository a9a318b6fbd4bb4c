"""Constants that a product reads as B, put into panels once, when the function is compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import as_strided

from symgraph.arraytype import Array
from symgraph.dims import SizeLike, product
from symgraph.dtypes import dtype
from symgraph.expr import Expr
from symgraph.leaves import Constant

from .contraction import ContractionSpec, packed_panel_columns, packs
from .program import Ref
from .word_steps import packed_group

if TYPE_CHECKING:
    from .body import Body


def prepacked(
    body: Body,
    spec: ContractionSpec,
    base: Expr,
    offset: SizeLike,
    dims: Mapping[str, SizeLike],
    always: bool = False,
) -> tuple[ContractionSpec, Ref, SizeLike] | None:
    """The product's spec, B and b_batch with B in panels; None if that is not possible or no use.

    base, offset: where B begins, in elements. always: also where B is as good in place.
    """
    op = base.op
    target = body.p.target
    if not isinstance(op, Constant) or 1 in (spec.m, spec.n):
        return None  # a single row or column has walks that read B as it lies
    if not (always or packs(spec, target)):
        return None
    sizes, strides = _axes(spec, dims)
    if not all(isinstance(n, int) for n in (offset, *sizes, *strides)) or 0 in sizes:
        return None
    spec = spec._replace(packed_b=True, b_unit="n")
    width, group = packed_panel_columns(spec, target), packed_group(spec, target)
    key = (id(base), offset, tuple(sizes), tuple(strides), width, group)
    if key not in body.p.packed:
        value = panels(op.value, offset, sizes, strides, width)  # type: ignore[arg-type]
        if group > 1:
            value = in_words(value, sizes[-2], group, spec.accumulate)  # type: ignore[arg-type]
        type = Array(dtype(value.dtype), value.shape)
        body.p.packed[key] = body.p.slot("constant", len(body.p.constants), type)
        body.p.constants.append(value)
        body.p.kept_alive.append(base)
    columns = -(-sizes[-1] // width) * width
    steps = product(sizes[1:-2]) * -(-sizes[-2] // group)
    return spec, body.p.packed[key], steps * columns


def _axes(
    spec: ContractionSpec, dims: Mapping[str, SizeLike]
) -> tuple[list[SizeLike], list[SizeLike]]:
    """Sizes and strides of B: items of the batch, the axes of k, columns."""
    last = spec.shape.steps - 1
    names = [f"k{j}" for j in range(last + 1)] if last else ["K"]
    moves = [f"b_k{j}" for j in range(last)]
    sizes = [dims[name] for name in ("batch", *names, "N")]
    return sizes, [dims[name] for name in ("b_batch", *moves, "b_row", "b_col")]


def panels(
    value: np.ndarray, offset: int, sizes: Sequence[int], strides: Sequence[int], width: int
) -> np.ndarray:
    """B in panels, as `packed_panel_columns` has it.  [items, panels, K, width]"""
    flat = value.reshape(-1)[offset:]
    whole = as_strided(flat, sizes, [s * value.itemsize for s in strides], writeable=False)
    items, columns = sizes[0], sizes[-1]
    matrices = whole.reshape(items, -1, columns)
    many = -(-columns // width)
    wide = np.zeros((items, matrices.shape[1], many * width), value.dtype)
    wide[:, :, :columns] = matrices
    split = wide.reshape(items, matrices.shape[1], many, width)
    return np.ascontiguousarray(split.transpose(0, 2, 1, 3))


def in_words(panels: np.ndarray, run: int, group: int, accumulate: str) -> np.ndarray:
    """Panels with `group` steps in a word, each run of k made up with zeros.

    [items, panels, K, width] -> [items, panels, words of K, width] of the size of sums
    """
    items, many, steps, width = panels.shape
    whole = -(-run // group) * group
    runs = np.zeros((items, many, steps // run, whole, width), panels.dtype)
    runs[:, :, :, :run] = panels.reshape(items, many, -1, run, width)
    words = runs.reshape(items, many, -1, group, width).swapaxes(-1, -2)
    return np.ascontiguousarray(words).view(accumulate).reshape(items, many, -1, width)
