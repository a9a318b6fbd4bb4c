"""Movement: what only rearranges is composed, dropped or done on less."""

from __future__ import annotations

from symgraph.ops.movement import BroadcastTo, Reshape, Transpose, broadcast_by, reshape_to, transpose_by

from ..pattern import operator, wild
from ..rule import Rules, rule

x = wild("x", "biufc")
outer_t, inner_t = operator("outer inner", Transpose)
outer_r, inner_r = operator("outer inner", Reshape)
outer_b, inner_b = operator("outer inner", BroadcastTo)

rules = Rules(
    "movement",
    "canonicalize",
    rule(
        outer_t(inner_t(x)),
        lambda x, outer, inner: transpose_by(x, [inner.axes[a] for a in outer.axes]),
        name="transpose(transpose(x))",
    ),
    rule(outer_r(inner_r(x)), lambda x, outer: reshape_to(x, outer.shape), name="reshape(reshape(x))"),
    rule(outer_b(inner_b(x)), lambda x, outer: broadcast_by(x, outer.shape), name="broadcast_to(broadcast_to(x))"),
)
