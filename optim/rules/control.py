"""Control flow: choices that are made already, loops of no or one step, assertions that hold.

Loaded only for graphs that have any of these ops. Bodies of loops and branches are rewritten by
`regions`.
"""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.expr import Expr, apply
from symgraph.leaves import constant
from symgraph.ops.branch import Cond
from symgraph.ops.effects import Assert
from symgraph.ops.loop import Scan
from symgraph.ops.movement import broadcast_by, reshape_to, slice_axis
from symgraph.ops.tuple import Get
from symgraph.region import Region

from ..constants import number, scalar_constant
from ..pattern import operator, wild
from ..rule import Rules, rule

x = wild("x", "biufc")
get = operator("get", Get)
choice = operator("choice", Cond)
loop = operator("loop", Scan)
check = operator("check", Assert)


def inlined(region: Region, arguments: Sequence[Expr]) -> list[Expr] | None:
    """The region's results for these arguments; None if its sizes have other names than theirs."""
    if region.bind([x.array_type.shape for x in arguments]):
        return None
    return region.inline(arguments)


def decided(node: Expr, get: Get, choice: Cond) -> Expr | None:
    """A choice whose predicate is constant, or whose arms give the same -> that arm's result."""
    predicate, *captures = node.inputs[0].inputs
    known = scalar_constant(predicate)
    same = choice.then.results[get.index] is choice.orelse.results[get.index]
    if known is None and not same:
        return None
    region = choice.then if known is None or number(known) else choice.orelse
    results = inlined(region, captures)
    return None if results is None else results[get.index]


def turned(node: Expr, choice: Cond) -> Expr | None:
    """cond(not p, a, b) -> cond(p, b, a)"""
    predicate, *captures = node.inputs
    if predicate.op.name != "logical_not":
        return None
    return apply(Cond(choice.orelse, choice.then), predicate.inputs[0], *captures)


def no_steps(node: Expr, get: Get, loop: Scan) -> Expr | None:
    """A loop of no steps: the initial states, and nothing stacked."""
    if loop.n_steps != 0:
        return None
    _, states, _ = loop.split(node.inputs[0].inputs)
    final = get.index - loop.states - loop.outputs
    return (
        states[final]
        if final >= 0
        else broadcast_by(constant(0, node.dtype), node.array_type.shape)
    )


def one_step(node: Expr, get: Get, loop: Scan) -> Expr | None:
    """A loop of one step: the step itself."""
    if loop.n_steps != 1:
        return None
    sequences, states, captures = loop.split(node.inputs[0].inputs)
    slices = [_first(x) for x in sequences]
    results = inlined(loop.region, [*slices, *states, *captures])
    if results is None:
        return None
    stacked = loop.states + loop.outputs
    if get.index >= stacked:
        return results[get.index - stacked]
    return reshape_to(results[get.index], (1, *results[get.index].array_type.shape))


def _first(x: Expr) -> Expr:
    shape = x.array_type.shape
    return reshape_to(slice_axis(x, 0, 0, 1), shape[1:])


rules = Rules(
    "control",
    "control",
    rule(get(choice()), decided, name="cond(constant, a, b) -> a or b"),
    rule(choice(), turned, name="cond(not p, a, b) -> cond(p, b, a)"),
    rule(get(loop()), no_steps, name="scan of 0 steps"),
    rule(get(loop()), one_step, name="scan of 1 step"),
    rule(check(x, True), x, name="assert(x, True) -> x"),
)
