"""Down to the ops that have kernels: everything else is replaced by its own expansion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symgraph.errors import HostCallError
from symgraph.expr import Expr, at_site, rebuild, toposort
from symgraph.ops.branch import Cond
from symgraph.ops.contract import MatMul
from symgraph.ops.convolve import Convolve
from symgraph.ops.define import Elementwise
from symgraph.ops.effects import Assert
from symgraph.ops.gather import Gather, Scatter
from symgraph.ops.loop import Scan
from symgraph.ops.movement import Concatenate, Place
from symgraph.ops.reduce import ArgReduce, Cumulative, Reduce
from symgraph.ops.subtensor import Overwrite
from symgraph.ops.tuple import Get

from . import convolution
from .classify import host_reason
from .lower.special import SPECIAL

NATIVE = (
    Reduce,
    ArgReduce,
    Cumulative,
    MatMul,
    Scan,
    Cond,
    Concatenate,
    Place,
    Gather,
    Scatter,
    Overwrite,
    Get,
    Assert,
    *SPECIAL,
)


def expand(results: Sequence[Expr]) -> list[Expr]:
    """The graph in ops that have kernels: everything else gives way to its own expansion."""
    done: dict[int, Expr] = {}
    keep: list[Expr] = []  # the ids in `done` stay valid while their nodes live
    stack = list(results)
    while stack:
        node = stack[-1]
        if id(node) in done:
            stack.pop()
            continue
        missing = [x for x in node.inputs if id(x) not in done]
        if missing:
            stack.extend(missing)
            continue
        rebuilt = rebuild(node, [done[id(x)] for x in node.inputs])
        if _has_kernel(rebuilt):
            stack.pop()
            done[id(node)] = rebuilt
            keep.append(node)
        else:
            with at_site(rebuilt.site):
                smaller = _smaller(rebuilt)
            keep.append(smaller)
            if id(smaller) in done:
                stack.pop()
                done[id(node)] = done[id(smaller)]
                keep.append(node)
            else:
                stack.append(smaller)
    return [done[id(r)] for r in results]


def _smaller(node: Expr) -> Expr:
    """A node without a kernel in other ops."""
    return (
        convolution.smaller(node) if isinstance(node.op, Convolve) else node.op.expand(*node.inputs)
    )


def _has_kernel(node: Expr) -> bool:
    op = node.op
    if isinstance(op, Convolve):
        return convolution.has_kernel(node)
    if isinstance(op, Elementwise):
        return op.spec.expand is None
    return op.expand is None or isinstance(op, NATIVE)


def refuse_host_calls(results: Sequence[Expr]) -> None:
    """Raise HostCallError for the ops of a graph (regions included) that would run in Python."""
    found: list[Expr] = []
    stack = [list(results)]
    while stack:
        for node in toposort(stack.pop()):
            if host_reason(node):
                found.append(node)
            stack.extend(list(r.results) for r in regions(node))
    if found:
        names = ", ".join(sorted({f"{n.op.name} ({host_reason(n)})" for n in found}))
        raise HostCallError(
            f"host calls are forbidden, but these have no native form: {names}",
            site=found[0].site,
            hint='function(..., host_calls="allow") computes them in Python',
        )


def regions(node: Expr) -> list[Any]:
    """The regions an op holds."""
    op = node.op
    return (
        [op.region]
        if isinstance(op, Scan)
        else [op.then, op.orelse]
        if isinstance(op, Cond)
        else []
    )
