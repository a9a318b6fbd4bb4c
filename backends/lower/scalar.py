"""The ScalarBuilder for an op's `lower`: its words in the loop IR, for any number of lanes."""

from __future__ import annotations

from typing import Any

from symgraph.ops.define import Cast, Elementwise

from ..loops import Block, Const, Ty, Value

HALF = ("float16", "bfloat16")


class Scalars:
    """symgraph.op.ScalarBuilder over a loop-IR block; operands of one call have equal lanes."""

    def __init__(self, block: Block):
        self.block = block

    def const(self, value: Any, like: Value) -> Value:
        return Const(value, like.type)

    def dtype(self, x: Value) -> str:
        return x.type.dtype

    def cast(self, x: Value, dtype: str) -> Value:
        return self.block.cast(x, str(dtype))

    def bitcast(self, x: Value, dtype: str) -> Value:
        return self.block.let("bitcast", x, type=Ty(str(dtype), x.type.lanes))

    def select(self, condition: Value, x: Value, y: Value) -> Value:
        return self.block.let("select", condition, x, y)

    def call(self, function: str, *args: Value) -> Value:
        return self.block.let("call", *args, type=args[0].type, attr=function)

    def op(self, name: str, *args: Value) -> Value:
        return self.block.let(name, *args)


def elementwise(block: Block, op: Elementwise, args: list[Value], dtype: str) -> Value:
    """One elementwise op on values of equal lanes.

    Half floats are computed in float32 and rounded once.
    """
    wide = [block.cast(a, "float32") if a.type.dtype in HALF else a for a in args]
    result = op.spec.lower(Scalars(block), *wide)
    return block.cast(result, dtype)


def cast(block: Block, op: Cast, x: Value) -> Value:
    """Conversion with the language's rules (saturating, NaN to 0, != 0 for bool)."""
    return block.cast(x, str(op.dtype))


def align(block: Block, x: Value, lanes: int) -> Value:
    """x with `lanes` lanes: a uniform value is splatted."""
    return x if x.type.lanes == lanes else block.splat(x, lanes)
