"""The dtypes of products: which operands are multiplied as they are into a wider sum.

A product with a dtype means the product of its operands cast to it:

    matmul(a, b, dtype=d) = matmul(a.astype(d), b.astype(d))

Pairs in `NARROW` are never widened in memory: each product of theirs is exact in `d`, so backends
may take several at a time. Integers wrap in `d`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dtypes import (
    KINDS,
    DType,
    bfloat16,
    dtype,
    float16,
    float32,
    int8,
    int16,
    int32,
    uint8,
    uint16,
    uint32,
)
from ..errors import DTypeError
from ..expr import Expr, user_site
from ..leaves import lift
from .define import cast

_SHORT = (int8, int16, uint8, uint16)
#: dtype of the sums -> pairs of operands that may stay narrow
NARROW: dict[DType, frozenset[tuple[DType, DType]]] = {
    int32: frozenset((a, b) for a in _SHORT for b in _SHORT),
    uint32: frozenset((a, b) for a in (uint8, uint16) for b in (uint8, uint16)),
    float32: frozenset(((float16, float16), (bfloat16, bfloat16))),
}


def is_narrow(a: DType, b: DType, result: DType) -> bool:
    """Whether operands of these dtypes are multiplied as they are."""
    return (a, b) in NARROW.get(result, ())


def summed_in(what: str, a: DType, b: DType, result: DType | None) -> DType:
    """The dtype of a product's values; `result`: the one it was given, if any.

    Raises: DTypeError for a pair that has to be cast first.
    """
    if result is None:
        if a is not b:
            raise DTypeError(f"{what}: dtypes differ: {a} and {b}")
        return a
    if not is_narrow(a, b, result):
        raise DTypeError(f"{what}: {a} and {b} are not multiplied as they are into {result}")
    return result


def given_dtype(what: str, name: Any, operands: Sequence[Expr]) -> DType | None:
    """The dtype a user asks a product to be computed in.

    Raises: DTypeError where an operand would lose more than range or precision: a float as an
    integer, a complex number as a real one, a number as a bool.
    """
    if name is None:
        return None
    wanted = dtype(name)
    order = {kind: i for i, kind in enumerate(KINDS.replace("u", ""))}
    rank = {**order, "u": order["i"]}
    for x in operands:
        if rank[x.dtype.kind] > rank[wanted.kind]:
            raise DTypeError(
                f"{what}: {x.label} is {x.dtype}, which dtype={wanted} cannot hold",
                site=user_site(),
                operands=operands,
                hint=f'cast it first, as in x.astype("{wanted}")',
            )
    return wanted


def lifted(what: str, values: Sequence[Any], name: Any) -> tuple[list[Expr], DType]:
    """Operands as they are, and the dtype that their product is asked to be computed in."""
    nodes = [lift(v) for v in values]
    wanted = given_dtype(what, name, nodes)
    assert wanted is not None
    return nodes, wanted


def fitted(a: Expr, b: Expr, result: DType) -> tuple[Expr, Expr, DType | None]:
    """The operands of a product in `result`, and the dtype it has to be given."""
    if is_narrow(a.dtype, b.dtype, result):
        return a, b, result
    return cast(a, result), cast(b, result), None
