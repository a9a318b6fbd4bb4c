"""einsum: a formula of labels, said in diagonals, sums and one batched matmul for each pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import dims
from ..dims import SizeLike, product
from ..dtypes import DType
from ..errors import AxisError, GraphError, ShapeError
from ..expr import Expr, user_site
from .contract import multiply_matrices, operands_in
from .creation import diagonal
from .define import cast
from .movement import broadcast_by, reshape_to, transpose_by

_NOMINAL = 64  # the size a symbolic one is taken to have when the order of products is chosen
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Term(NamedTuple):
    """An operand and the label of each of its axes."""

    value: Expr
    labels: tuple[str, ...]

    def size(self, label: str) -> SizeLike:
        return self.value.array_type.shape[self.labels.index(label)]


def einsum(subscripts: str, *values: Any, dtype: Any = None) -> Expr:
    """Sum of products over labelled axes, as NumPy's einsum.

    subscripts: "ij,jk->ik", "...ij,jk", "ii->i", "i,j". Without "->" the
    result has the labels that occur once, in alphabetical order. Sizes of one label are equal or 1.
    dtype: what the operands are multiplied and summed as, as matmul's.
    Raises: GraphError for a formula that cannot be read, ShapeError where sizes of a label differ.
    """
    if not isinstance(subscripts, str):
        raise GraphError(
            f"einsum: expected a formula first, got {subscripts!r}",
            site=user_site(),
            hint='write it as in einsum("ij,jk->ik", x, y)',
        )
    nodes, wanted = operands_in("einsum", values, dtype)
    labels, result = _parse(subscripts, [x.ndim for x in nodes])
    sizes = _label_sizes(nodes, labels)
    terms = [_distinct(Term(x, own), sizes) for x, own in zip(nodes, labels)]
    for pair in _order(terms, result, sizes):
        chosen = [terms[i] for i in pair]
        terms = [t for i, t in enumerate(terms) if i not in pair]
        kept = set(result).union(*[t.labels for t in terms])
        chosen = [_sum_unused(t, kept, chosen, wanted) for t in chosen]
        two = len(chosen) == 2
        terms.append(_multiply(chosen[0], chosen[1], kept, wanted) if two else chosen[0])
    (last,) = terms
    last = _sum_unused(last, set(result), [last], wanted)
    return _arrange(_wide(last, wanted), result, sizes)


# -------------------------------------------------------------------------------------- the formula


def _parse(subscripts: str, ranks: Sequence[int]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Labels of each operand and of the result.

    Axes of an ellipsis are labelled "...0" for the last, and so on.
    """
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(ranks):
        raise GraphError(
            f"einsum({subscripts!r}): {len(parts)} terms for {len(ranks)} operands",
            site=user_site(),
        )
    labels = [_labels(p, n, subscripts) for p, n in zip(parts, ranks)]
    dots = sorted({a for own in labels for a in own if len(a) > 1}, key=lambda a: -int(a[3:]))
    if arrow:
        result = _labels(right, None, subscripts, dots)
    else:
        flat = [a for own in labels for a in own if len(a) == 1]
        result = (*dots, *sorted(a for a in set(flat) if flat.count(a) == 1))
    missing = [a for a in result if not any(a in own for own in labels)]
    lost = [a for a in dots if a not in result]
    if missing or lost or len(set(result)) != len(result):
        fault = (
            f"{missing[0]!r} is no label of an operand"
            if missing
            else "a label comes twice in the result"
        )
        fault = "the result lacks the '...' of the operands" if lost else fault
        raise GraphError(f"einsum({subscripts!r}): {fault}", site=user_site())
    return labels, tuple(result)


def _labels(part: str, rank: int | None, formula: str, dots: Sequence[str] = ()) -> tuple[str, ...]:
    before, ellipsis, after = part.partition("...")
    if not all(c in _LETTERS for c in before + after):
        raise GraphError(
            f"einsum({formula!r}): {part!r} is not letters and '...'", site=user_site()
        )
    if rank is None:
        return (*before, *(dots if ellipsis else ()), *after)
    free = rank - len(before + after)
    if free < 0 or (free and not ellipsis):
        raise ShapeError(
            f"einsum({formula!r}): {part!r} does not fit an operand of rank {rank}",
            site=user_site(),
        )
    return (*before, *(f"...{i}" for i in reversed(range(free))), *after)


def _label_sizes(nodes: Sequence[Expr], labels: Sequence[tuple[str, ...]]) -> dict[str, SizeLike]:
    """The size of each label: that of an operand where it is not 1, a number if one has it."""
    sizes: dict[str, SizeLike] = {}
    for x, own in zip(nodes, labels):
        for label, size in zip(own, x.array_type.shape):
            known = sizes.get(label, 1)
            if known != 1 and size != 1 and dims.known_equal(known, size) is False:
                raise ShapeError(
                    f"einsum: label {label!r} has sizes {known} and {size}",
                    site=user_site(),
                    operands=nodes,
                )
            if known == 1 or (isinstance(size, int) and size != 1):
                sizes[label] = size
    return sizes


# -------------------------------------------------------------------------------------- one operand


def _distinct(term: Term, sizes: dict[str, SizeLike]) -> Term:
    """Repeated labels become a diagonal, axes of size 1 under a larger label go away."""
    value, labels = term
    small = [a for a, n in enumerate(value.array_type.shape) if n == 1 and sizes[labels[a]] != 1]
    if small:
        value, labels = (
            value.squeeze(small),
            tuple(x for a, x in enumerate(labels) if a not in small),
        )
    while len(set(labels)) < len(labels):
        twice = next(x for x in labels if labels.count(x) > 1)
        first = labels.index(twice)
        second = labels.index(twice, first + 1)
        value = diagonal(value, 0, first, second)
        labels = (*(x for a, x in enumerate(labels) if a not in (first, second)), twice)
    return Term(value, labels)


def _wide(term: Term, dtype: DType | None) -> Term:
    """The term in the dtype that the user asked for, if any."""
    return term if dtype is None else Term(cast(term.value, dtype), term.labels)


def _sum_unused(term: Term, kept: set[str], together: Sequence[Term], dtype: DType | None) -> Term:
    """Labels that neither the rest nor the partner has are summed at once."""
    others = {x for t in together if t is not term for x in t.labels}
    axes = [a for a, x in enumerate(term.labels) if x not in kept and x not in others]
    if not axes:
        return term
    term = _wide(term, dtype)
    summed = (
        term.value.any(axes)
        if term.value.dtype.kind == "b"
        else term.value.sum(axes, term.value.dtype)
    )
    return Term(summed, tuple(x for a, x in enumerate(term.labels) if a not in axes))


def _arrange(term: Term, result: Sequence[str], sizes: dict[str, SizeLike]) -> Expr:
    """The axes in the result's order; labels that only had size 1 are there by now."""
    value = transpose_by(term.value, [term.labels.index(x) for x in result])
    return broadcast_by(value, tuple(sizes[x] for x in result))


# ------------------------------------------------------------------------------------- two operands


def _multiply(x: Term, y: Term, kept: set[str], dtype: DType | None) -> Term:
    """Labels of both that are kept are batches, those that are not are contracted.

    The rest are rows and columns.
    """
    both = [a for a in x.labels if a in y.labels]
    batch, inner = [a for a in both if a in kept], [a for a in both if a not in kept]
    rows = [a for a in x.labels if a not in both]
    columns = [a for a in y.labels if a not in both]
    labels = (*batch, *rows, *columns)
    if not inner:
        x, y = _wide(x, dtype), _wide(y, dtype)
        left = _grouped(x, (batch, rows, [None] * len(columns)))
        return Term(left * _grouped(y, (batch, [None] * len(rows), columns)), labels)
    left, right = _matrix(x, batch, rows, inner), _matrix(y, batch, inner, columns)
    sizes = [x.size(a) for a in (*batch, *rows)] + [y.size(a) for a in columns]
    return Term(reshape_to(multiply_matrices(left, right, dtype), tuple(sizes)), labels)


def _grouped(term: Term, groups: Sequence[Sequence[str | None]]) -> Expr:
    """Axes in the order of the groups, with size 1 where a group has no label."""
    order = [a for group in groups for a in group]
    value = transpose_by(term.value, [term.labels.index(a) for a in order if a is not None])
    return reshape_to(value, tuple(1 if a is None else term.size(a) for a in order))


def _matrix(term: Term, batch: Sequence[str], rows: Sequence[str], columns: Sequence[str]) -> Expr:
    """[batch..., product of rows, product of columns]"""
    value = transpose_by(term.value, [term.labels.index(a) for a in (*batch, *rows, *columns)])
    outer: list[SizeLike] = [term.size(a) for a in batch]
    sides = [product(term.size(a) for a in group) for group in (rows, columns)]
    return reshape_to(value, (*outer, *sides))


def _order(
    terms: Sequence[Term], result: Sequence[str], sizes: dict[str, SizeLike]
) -> list[tuple[int, ...]]:
    """Which operands to multiply next, until one is left.

    The product goes to the end of the list.
    """
    if len(terms) < 3:
        return [tuple(range(len(terms)))]
    names = {label: letter for label, letter in zip(sizes, _LETTERS)}
    if len(names) < len(sizes):
        raise AxisError(f"einsum: more than {len(_LETTERS)} labels", site=user_site())
    formula = ",".join("".join(names[x] for x in t.labels) for t in terms)
    number = {x: n if isinstance(n, int) else _NOMINAL for x, n in sizes.items()}
    shadows = [np.broadcast_to(np.float32(0), [number[x] for x in t.labels]) for t in terms]
    path, _ = np.einsum_path(
        f"{formula}->{''.join(names[x] for x in result)}", *shadows, optimize="greedy"
    )
    return _in_pairs([tuple(step) for step in path[1:]], len(terms))


def _in_pairs(path: Sequence[tuple[int, ...]], count: int) -> list[tuple[int, ...]]:
    """A path in steps of two operands; the product of a step is last in the next."""
    pairs: list[tuple[int, ...]] = []
    for step in path:
        waiting = list(step)
        while len(waiting) > 2:
            i, j = waiting[0], waiting[1]
            pairs.append((i, j))
            count -= 1
            moved = [k - (k > i) - (k > j) for k in waiting[2:]]
            waiting = [*moved, count - 1]
        pairs.append(tuple(waiting))
        count -= len(waiting) - 1
    return pairs


__all__ = [
    "einsum",
]
