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
from symgraph.ops.winograd import tiled

from . import convolution, winograd
from .classify import host_reason
from .lower.special import SPECIAL
from .targets import Target
from .widening import widened

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


def expand(results: Sequence[Expr], target: Target, fast: Target | None = None) -> list[Expr]:
    """The graph in ops that have kernels on a target: what has none gives way to its expansion.

    fast: the machine for which convolutions may be computed with a larger error where that pays.
    """
    done: dict[int, Expr] = {}
    instead: dict[int, Expr] = {}
    keep: list[Expr] = []  # the ids in both stay valid while their nodes live
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
        rebuilt = widened(rebuilt, target)
        if _has_kernel(rebuilt, fast):
            stack.pop()
            done[id(node)] = rebuilt
            keep.append(node)
        else:
            if id(node) not in instead:  # large constants are new ones each time
                with at_site(rebuilt.site):
                    instead[id(node)] = _smaller(rebuilt, fast)
                keep += [node, instead[id(node)]]
            smaller = instead[id(node)]
            if id(smaller) in done:
                stack.pop()
                done[id(node)] = done[id(smaller)]
            else:
                stack.append(smaller)
    return [done[id(r)] for r in results]


def _smaller(node: Expr, fast: Target | None) -> Expr:
    """A node without a kernel in other ops."""
    if not isinstance(node.op, Convolve):
        return node.op.expand(*node.inputs)
    tile = winograd.chosen_tile(node, fast)
    return convolution.smaller(node) if tile is None else tiled(node, tile)


def _has_kernel(node: Expr, fast: Target | None) -> bool:
    op = node.op
    if isinstance(op, Convolve):
        return convolution.has_kernel(node) and winograd.chosen_tile(node, fast) is None
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
