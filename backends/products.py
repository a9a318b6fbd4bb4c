"""Lowers products: each in a kernel of its own, or with the chain of ops that takes its values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from symgraph.expr import Expr
from symgraph.ops.contract import MatMul
from symgraph.ops.convolve import Convolve
from symgraph.ops.winograd import Winograd

from . import convolution, product, winograd
from .epilogue import Tail, Unfit
from .product import Finish
from .program import Group as Fused
from .units import Group

if TYPE_CHECKING:
    from .body import Body

LAUNCH = {MatMul: product.launch, Convolve: convolution.launch, Winograd: winograd.launch}


def alone(body: Body, node: Expr, reason: str) -> None:
    """Add the launch of a product; reason: why nothing takes its values from registers."""
    kernel = LAUNCH[type(node.op)](body, node)
    body.p.groups.append(Fused(kernel, (node,), f"a product has a kernel of its own: {reason}"))


def finished(body: Body, tail: Tail) -> str:
    """Add the launch of a product with its tail; or why that cannot be, and nothing is added."""
    unit, node = tail.unit, tail.product
    target = unit.roots[0] if isinstance(unit, Group) else unit.node
    inside = {id(m) for m in unit.members} if isinstance(unit, Group) else set()
    finish = Finish(tail, body.home(target), lambda n: body.stored(n) and id(n) not in inside)
    try:
        kernel = LAUNCH[type(node.op)](body, node, finish)
    except Unfit as unfit:
        return str(unfit)
    if isinstance(unit, Group):
        body.p.groups.append(Fused(kernel, (node, *unit.members), unit.reason))
    else:
        body.fill_around(unit.node)
        reason = "it is stored inside of a border"
        body.p.groups.append(Fused(kernel, (node, *unit.node.inputs), reason))
    return ""
