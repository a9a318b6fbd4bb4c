"""Taking one output of an op that has several: the op `Get` and the function `parts`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..arraytype import Array, Tuple
from ..errors import InternalError
from ..expr import Expr, apply
from ..op import Op


class Get(Op):
    """Output number `index` of a tuple-typed expression."""

    name = "get"
    index: int

    def infer(self, type: Any) -> Array:
        if not isinstance(type, Tuple) or not 0 <= self.index < len(type.items):
            raise InternalError(f"get: no output {self.index} in {type}")
        return type.items[self.index]

    def evaluate(self, values: Any) -> Any:
        return values[self.index]

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> Sequence[Any]:
        slots: list[Expr | None] = [None] * len(inputs[0].type.items)  # type: ignore[union-attr]
        slots[self.index] = cotangent
        return [tuple(slots)]


def parts(node: Expr) -> tuple[Expr, ...]:
    """The outputs of a tuple-typed expression, in order."""
    if not isinstance(node.type, Tuple):
        raise InternalError(f"{node.op.name} has one output")
    return tuple(apply(Get(i), node) for i in range(len(node.type.items)))


__all__ = ["Get", "parts"]
