"""What is known of a node's value: scalar constants seen through movement, their numbers, signs."""

from __future__ import annotations

import math
from typing import Any

from symgraph.expr import Expr, apply
from symgraph.leaves import INTERN_LIMIT, Constant
from symgraph.ops.define import Cast
from symgraph.ops.movement import BroadcastTo, Reshape, Transpose

_SEEN_THROUGH = (BroadcastTo, Reshape, Transpose, Cast)


def scalar_constant(x: Expr) -> Expr | None:
    """The 0-d constant that every element of x is; None if there is no such constant."""
    casts = []
    while isinstance(x.op, _SEEN_THROUGH):
        if type(x.op) is Cast:
            casts.append(x.op)
        x = x.inputs[0]
    if type(x.op) is not Constant:
        return None
    value = x.op.value
    if not 0 < value.size <= INTERN_LIMIT:
        return None
    first = value.reshape(-1)[:1]
    if value.size > 1 and value.tobytes() != first.tobytes() * value.size:
        return None
    d = x.op.type.dtype
    result = first.reshape(())
    for cast in reversed(casts):
        result, d = cast.evaluate(result), cast.dtype
    return x if x.op.value.ndim == 0 and not casts else apply(Constant(result, d), site=x.site)


def number(x: Expr) -> Any:
    """The Python number a scalar constant is."""
    assert isinstance(x.op, Constant)
    return x.op.value.item()


#: elementwise functions whose results are >= +0, or NaN (floats only)
_NEVER_NEGATIVE = frozenset("abs square exp exp2 sigmoid softplus cosh hypot erfc ndtr".split())
_KEEPS_SIGN = frozenset("add mul true_div maximum minimum".split())


def nonnegative(x: Expr, depth: int = 4) -> bool:
    """Whether the float expression x is certainly >= +0 or NaN: never negative, never -0."""
    if x.dtype.kind != "f":
        return False
    known = scalar_constant(x)
    if known is not None:  # NaN's sign is nobody's
        return math.copysign(1.0, number(known)) > 0
    if x.op.name in _NEVER_NEGATIVE:
        return True
    if depth and (
        x.op.name in _KEEPS_SIGN or isinstance(x.op, _SEEN_THROUGH) or x.op.name == "sqrt"
    ):
        return all(nonnegative(y, depth - 1) for y in x.inputs)
    return False
