"""About how many loop-IR operations one element of a node costs (fusion adds them up)."""

from __future__ import annotations

from functools import cache
from typing import Any

from symgraph.expr import Expr
from symgraph.ops.define import Elementwise
from symgraph.ops.reduce import ArgReduce, Reduce

CALL = 20  # an elementary function or a division
HALF_COST = 12  # conversions around each op on 16-bit floats


class _Counter:
    """A ScalarBuilder that only counts; scalars are dtype names."""

    def __init__(self) -> None:
        self.total = 0

    def const(self, value: Any, like: str) -> str:
        return like

    def dtype(self, x: str) -> str:
        return x

    def cast(self, x: str, dtype: str) -> str:
        self.total += 1
        return str(dtype)

    bitcast = cast

    def select(self, c: str, x: str, y: str) -> str:
        self.total += 1
        return x

    def call(self, function: str, *args: str) -> str:
        self.total += CALL
        return args[0]

    def op(self, name: str, *args: str) -> str:
        self.total += CALL if name in ("rem", "div") else 1
        return "bool" if name in ("eq", "ne", "lt", "le", "gt", "ge") else args[0]


@cache
def _op_weight(op: Elementwise, dtypes: tuple[str, ...]) -> int:
    counter = _Counter()
    op.spec.lower(counter, *("float32" if d in ("float16", "bfloat16") else d for d in dtypes))
    half = any(d in ("float16", "bfloat16") for d in dtypes)
    return counter.total + (HALF_COST * (len(dtypes) + 1) if half else 0)


def weight(node: Expr) -> int:
    """About how many loop-IR operations one element costs."""
    if isinstance(node.op, Elementwise):
        return max(1, _op_weight(node.op, tuple(str(x.array_type.dtype) for x in node.inputs)))
    return 2 if isinstance(node.op, (Reduce, ArgReduce)) else 1
