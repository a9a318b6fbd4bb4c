"""What a node is to the backend: a leaf, movement, part of a loop nest, or a unit of its own."""

from __future__ import annotations

from collections.abc import Callable

from symgraph.arraytype import Array
from symgraph.expr import Expr
from symgraph.leaves import Constant, DimValue, Input, Param, SharedOp
from symgraph.ops.attention import Attention, AttentionGradient
from symgraph.ops.branch import Cond
from symgraph.ops.contract import MatMul
from symgraph.ops.convolve import Convolve
from symgraph.ops.define import Cast, Elementwise
from symgraph.ops.gather import Gather, Scatter
from symgraph.ops.loop import Scan
from symgraph.ops.movement import BroadcastTo, Concatenate, Iota, Place, Reshape, Slice, Transpose
from symgraph.ops.reduce import ArgReduce, Cumulative, Reduce
from symgraph.ops.subtensor import Overwrite
from symgraph.ops.tuple import Get

from .affine import View, identity, resolve, strided

Stored = Callable[[Expr], bool]
LEAVES = (Input, Param, SharedOp, Constant)
MOVES = (Reshape, Transpose, BroadcastTo, Slice)
CONTROL = (Scan, Cond, Get)
STRIDED = (MatMul, Convolve, Attention, AttentionGradient)  # opaque, and read strided views
# opaque, but their operands are read by a loop nest
PULLING = (Concatenate, Place, Overwrite, Scatter, Cumulative)


def kind(node: Expr) -> str:
    """leaf, free (no memory), move, compute, reduce, pull or opaque."""
    op = node.op
    if isinstance(op, LEAVES):
        return "leaf"
    if not isinstance(node.type, Array) or host_reason(node):
        return "opaque"
    if isinstance(op, (DimValue, Iota)):
        return "free"
    if isinstance(op, MOVES):
        return "move"
    if isinstance(op, (Elementwise, Cast, Gather)):
        return "compute"
    if isinstance(op, (Reduce, ArgReduce)):
        return "reduce"
    return "pull" if isinstance(op, PULLING) else "opaque"


def host_reason(node: Expr) -> str:
    """Why a node has no native form, "" if it has one.

    What loops and branches hold is asked itself.
    """
    op = node.op
    if isinstance(op, (*LEAVES, *CONTROL)):
        return ""
    types = [x.type for x in (node, *node.inputs) if isinstance(x.type, Array)]
    if any(t.dtype.kind == "c" for t in types):
        return "complex numbers are computed in Python"
    if isinstance(op, Elementwise):
        return op.spec.host or ""
    return "it has an effect outside of the program" if op.effect else ""


def is_leaf(node: Expr) -> bool:
    return isinstance(node.op, LEAVES)


def operand_base(node: Expr, x: Expr, stored: Stored) -> Expr:
    """The node whose memory an opaque node reads for operand x.

    A product takes any strided view, as attention does but for the statistics of its gradient, a
    convolution one whose last axis is contiguous; others take whole arrays.
    """
    if host_reason(node) or not isinstance(node.op, STRIDED):
        return whole_base(x, stored)
    if isinstance(node.op, AttentionGradient) and x.ndim < node.inputs[0].ndim:
        return whole_base(x, stored)
    view = resolve(x, identity(len(x.array_type.shape)), stored)
    if isinstance(node.op, Convolve) and strided(view, x.ndim).strides[-1] != 1:
        return whole_base(x, stored)
    return view.base


def whole_base(x: Expr, stored: Stored) -> Expr:
    """The node whose memory holds x's elements in C order: a reshape does not move them."""
    while isinstance(x.op, Reshape) and not stored(x) and x.array_type.dtype.kind != "c":
        x = x.inputs[0]
    return x


def resolve_inside(node: Expr, stored: Stored) -> View:
    """The view a stored movement node takes of what lies under it."""
    first = True

    def stop(n: Expr) -> bool:
        nonlocal first
        if first:
            first = False
            return False
        return stored(n)

    return resolve(node, identity(len(node.array_type.shape)), stop)
