"""Operands of bytes as int16 where a target multiplies those several at a time, but not bytes.

Their products and sums are the same numbers, so this is exact: x86-64 has pmaddwd from its first
day, and takes bytes only in certain pairs of signs, or not at all.
"""

from __future__ import annotations

from symgraph.dtypes import int16, int32
from symgraph.expr import Expr, apply
from symgraph.ops.contract import MatMul
from symgraph.ops.convolve import Convolve
from symgraph.ops.define import cast

from .targets import Target
from .words import words

FITS = frozenset(("int8", "uint8", "int16"))  # in int16


def widened(node: Expr, target: Target) -> Expr:
    """A product of bytes as one of int16, where that has an instruction and bytes have none.

    Vectors are left alone: they wait for memory, and that would be more of it.
    """
    op = node.op
    if not isinstance(op, (MatMul, Convolve)) or op.dtype is not int32:
        return node
    a, b = node.inputs
    pair = (str(a.dtype), str(b.dtype))
    if pair == ("int16", "int16") or not FITS.issuperset(pair) or _is_vector(node):
        return node
    if words(*pair, "int32", target) or not words("int16", "int16", "int32", target):
        return node
    return apply(op, cast(a, int16), cast(b, int16))


def _is_vector(node: Expr) -> bool:
    """One row or one column."""
    return isinstance(node.op, MatMul) and 1 in node.array_type.shape[-2:]
