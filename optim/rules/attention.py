"""Attention written by hand becomes the op that stores no scores.

softmax(q @ k^T * scale + mask) @ v, with or without scale and mask, where nothing else reads the
scores or the weights: their gradient does, so that this is for inference.
"""

from __future__ import annotations

from symgraph.dtypes import bool_, float32, float64
from symgraph.expr import Expr, apply
from symgraph.ops.attention import Attention
from symgraph.ops.contract import MatMul, swapped
from symgraph.ops.movement import broadcast_by
from symgraph.ops.nnet import Softmax
from symgraph.ops.tuple import parts

from ..constants import number
from ..match import find
from ..pattern import const, operator, wild
from ..rule import Match, Rules, rule
from ..words import where

x, q, y, v = wild("x q y v", "f")
mask = wild("mask", "f")
seen = wild("seen", "b")
c = const("c")
outer, inner = operator("outer inner", MatMul)
soft = operator("soft", Softmax)

#: scores before the mask, and whether the scale divides
SCORES = [(inner(q, y) * c, False), (inner(q, y) / c, True), (inner(q, y), False)]
FORMS = [
    (form, divides)
    for s, divides in SCORES
    for form in (s, s + mask, where(seen, s, float("-inf")))
]


def attention_of(x: Expr, v: Expr, soft: Softmax, match: Match) -> Expr | None:
    """softmax(x) @ v for scores x -> attention"""
    if soft.axis != x.ndim - 1 or x.dtype not in (float32, float64):
        return None
    found, divides = next(
        ((f, divides) for form, divides in FORMS if (f := find(form, x)) is not None), ({}, False)
    )
    if not found or (divides and number(found["c"]) == 0):
        return None
    shape = x.array_type.shape
    products = apply(found["inner"], found["q"], found["y"])
    if products.array_type.shape != shape or not _read_once(match, x, products):
        return None
    masks = [found[name] for name in ("mask", "seen") if name in found]
    if any(m.dtype not in (bool_, x.dtype) for m in masks):
        return None
    given = [found["q"], swapped(found["y"]), v, *(broadcast_by(m, shape) for m in masks)]
    return parts(apply(Attention(False, _scale(found.get("c"), divides), True), *given))[0]


def _scale(c: Expr | None, divides: bool) -> float:
    factor = 1.0 if c is None else float(number(c))
    return 1 / factor if divides else factor


def _read_once(match: Match, x: Expr, products: Expr) -> bool:
    """Whether everything from the scores to the weights has one reader."""
    between, node = [match.node.inputs[0], x], x
    while node is not products:
        node = next(z for z in node.inputs if z is products or _reads(z, products))
        between.append(node)
    return all(match.users(z) <= 1 for z in between)


def _reads(z: Expr, products: Expr) -> bool:
    return any(w is products for w in z.inputs)


rules = Rules(
    "attention",
    "specialize",
    rule(
        outer(soft(x), v),
        attention_of,
        name="softmax(q @ k * scale + mask) @ v -> attention",
        grade="rounds",
    ),
)
