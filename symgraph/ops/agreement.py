"""Questions about whole arrays: are they real, equal, close."""

from __future__ import annotations

from typing import Any

from .. import dims
from ..dtypes import bool_
from ..expr import Expr
from ..leaves import as_flag, constant, lift, size_value
from .creation import full
from .elementwise import eq, imag, isclose, isnan, logical_and, logical_or, neq
from .reduce import all


def isreal(x: Any) -> Expr:
    """Whether each element has no imaginary part -> bool."""
    node = lift(x)
    if node.dtype.kind != "c":
        return full(node.array_type.shape, True, bool_)
    return eq(imag(node), 0)


def iscomplex(x: Any) -> Expr:
    """Whether each element has an imaginary part that is not 0 -> bool."""
    node = lift(x)
    if node.dtype.kind != "c":
        return full(node.array_type.shape, False, bool_)
    return neq(imag(node), 0)


def iscomplexobj(x: Any) -> bool:
    """Whether the dtype is complex."""
    return lift(x).dtype.kind == "c"


def isrealobj(x: Any) -> bool:
    """Whether the dtype is not complex."""
    return not iscomplexobj(x)


def array_equal(a: Any, b: Any, equal_nan: bool = False) -> Expr:
    """Whether shapes and all elements are equal -> 0-d bool.

    Symbolic sizes with different names must be equal: a guard checks.
    """
    x, y = lift(a), lift(b)
    pairs = list(zip(x.array_type.shape, y.array_type.shape))
    if x.ndim != y.ndim or any_known_apart(pairs):
        return constant(False)
    same = eq(x, y)
    if as_flag(equal_nan, "array_equal: equal_nan") and x.dtype.is_inexact and y.dtype.is_inexact:
        same = logical_or(same, logical_and(isnan(x), isnan(y)))
    result = all(same)
    for s, t in pairs:
        if 1 in (s, t) and s is not t:  # would broadcast
            result = logical_and(result, eq(size_value(s), size_value(t)))
    return result


def any_known_apart(pairs: list[tuple[Any, Any]]) -> bool:
    """Whether some pair of sizes is known to differ."""
    return any(dims.known_equal(s, t) is False for s, t in pairs)


def allclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Expr:
    """Whether isclose holds everywhere, operands broadcast -> 0-d bool."""
    return all(isclose(a, b, rtol, atol, equal_nan))


__all__ = ["isreal", "iscomplex", "iscomplexobj", "isrealobj", "array_equal", "allclose"]
