"""Elementwise work before its result is put in place: joins and fills write each element once.

Part of the last pass: other rules know formulas by what they take, and must see them whole.
"""

from __future__ import annotations

from symgraph.evaluate import compute
from symgraph.expr import Expr, apply
from symgraph.leaves import Constant, constant
from symgraph.ops.define import Cast, Elementwise
from symgraph.ops.movement import Concatenate, Place

from ..pattern import operator
from ..rule import Match, Rules, rule

any_op = operator("op", Elementwise, Cast)


def work_before_join(node: Expr, match: Match) -> Expr | None:
    """op(concatenate(x, y), 2) -> concatenate(op(x, 2), op(y, 2))"""
    at = _only_array(node, Concatenate)
    if at is None or match.users(node.inputs[at]) > 1:
        return None
    joined = node.inputs[at]
    return apply(joined.op, *[_with_operand(node, at, part) for part in joined.inputs])


def work_before_place(node: Expr, match: Match) -> Expr | None:
    """op(place(x, fill), 2) -> place(op(x, 2), op(fill, 2))"""
    at = _only_array(node, Place)
    if at is None or match.users(node.inputs[at]) > 1:
        return None
    if not all(isinstance(x.op, Constant) for i, x in enumerate(node.inputs) if i != at):
        return None
    placed = node.inputs[at]
    place = placed.op
    assert isinstance(place, Place)
    fill = _with_operand(node, at, constant(place.fill, placed.dtype))
    value = compute(fill, [x.op.value for x in fill.inputs], {})  # type: ignore[attr-defined]
    moved = Place(place.starts, place.steps, place.shape, value.item())
    return apply(moved, _with_operand(node, at, placed.inputs[0]))


def _only_array(node: Expr, kind: type) -> int | None:
    """The number of the operand of this kind, if all others are of one element."""
    found = [i for i, x in enumerate(node.inputs) if any(s != 1 for s in x.array_type.shape)]
    if len(found) != 1 or not isinstance(node.inputs[found[0]].op, kind):
        return None
    return found[0] if node.inputs[found[0]].ndim == node.ndim else None


def _with_operand(node: Expr, at: int, x: Expr) -> Expr:
    return apply(node.op, *node.inputs[:at], x, *node.inputs[at + 1 :])


rules = Rules(
    "placement",
    "specialize",
    rule(any_op.over(Concatenate), work_before_join, name="op(concatenate(x, y))"),
    rule(any_op.over(Place), work_before_place, name="op(place(x))"),
)
