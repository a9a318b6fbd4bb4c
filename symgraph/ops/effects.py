"""Ops whose running can be noticed, assertions and printing: identities on their first input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import dims
from ..arraytype import Array
from ..dtypes import bool_
from ..errors import AssertionFault, DTypeError, GraphError, ShapeError, did_you_mean
from ..expr import Expr, apply, user_site
from ..leaves import lift
from ..op import Op
from .define import cast


class Assert(Op):
    """x, if every element of the condition is true; else AssertionFault(message)."""

    name = "assert"
    message: str

    def infer(self, x: Array, condition: Array) -> Array:
        if condition.dtype is not bool_:
            raise DTypeError(f"assert_: expected a bool condition, got {condition}")
        return x

    def evaluate(self, x: np.ndarray, condition: np.ndarray) -> np.ndarray:
        if not condition.all():
            raise AssertionFault(self.message)
        return x

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr | None]:
        return [cotangent, None]


class PrintValue(Op):
    """x, after writing `message` and the value (or named attributes of it) to standard output."""

    name = "print"
    effect = True
    message: str
    attributes: tuple[str, ...]

    def infer(self, x: Array) -> Array:
        return x

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        values = [
            str(x) if a == "__str__" else f"{a} = {_attribute(x, a)}" for a in self.attributes
        ]
        sys.stdout.write(" ".join([*([self.message] if self.message else []), *values]) + "\n")
        return x

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr]:
        return [cotangent]


def _attribute(x: np.ndarray, name: str) -> Any:
    value = getattr(x, name)
    return value() if callable(value) else value


def assert_(x: Any, condition: Any, message: str = "assertion failed") -> Expr:
    """x, if the condition (any shape, true where not 0) holds everywhere when the function runs.

    It is checked only if its result is used.   Raises, when run: AssertionFault with the message
    and this line.
    """
    node, test = lift(x), lift(condition)
    if not isinstance(message, str):
        raise DTypeError(
            f"assert_: expected a string as message, got {message!r}", site=user_site()
        )
    return apply(Assert(message), node, cast(test, bool_))


def Print(message: Any = "", attrs: Sequence[str] = ("__str__",)) -> Any:
    """Print a value when the function runs; the result must be used for it to happen.

    Print(x) or Print(x, "message") gives x; as in Theano, Print("message", attrs=("shape",
    "mean"))(x) does too.
    attrs: "__str__" or attributes and methods of the NumPy array. The gradient passes through.
    """
    if isinstance(message, str):
        return _printer(message, tuple(attrs))
    if isinstance(attrs, str):
        return _printer(attrs, ("__str__",))(message)
    return _printer("", tuple(attrs))(message)


def _printer(message: str, attributes: tuple[str, ...]) -> Callable[[Any], Expr]:
    for a in attributes:
        if a != "__str__" and not hasattr(np.ndarray, a):
            raise GraphError(
                f"Print: an array has no attribute {a!r}",
                site=user_site(),
                hint=did_you_mean(a, (n for n in dir(np.ndarray) if not n.startswith("_"))),
            )
    return lambda x: apply(PrintValue(message, attributes), lift(x))


def specify_shape(x: Any, shape: Sequence[Any]) -> Expr:
    """x, known to have this shape (None: unknown); wrong sizes are refused, now or when called."""
    from ..leaves import as_dim
    from .movement import BroadcastTo

    node = lift(x)
    have = node.array_type.shape
    given = shape if isinstance(shape, (tuple, list)) else (shape,)
    if len(given) != len(have):
        raise ShapeError(
            f"specify_shape: expected {len(have)} sizes, got {len(given)}", site=user_site()
        )
    sizes = tuple(h if s is None else as_dim(s, "specify_shape") for s, h in zip(given, have))
    for axis, (h, s) in enumerate(zip(have, sizes)):
        if dims.known_equal(h, s) is False:
            raise ShapeError(
                f"specify_shape: axis {axis} has size {h}, not {s}",
                site=user_site(),
                operands=[node],
            )
    return node if sizes == have else apply(BroadcastTo(sizes), node)  # guards each axis


__all__ = ["Assert", "Print", "PrintValue", "assert_", "specify_shape"]
