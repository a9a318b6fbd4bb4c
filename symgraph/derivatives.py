"""Derivatives beyond one gradient: forward mode, Jacobians, Hessians and products with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .arraytype import Tuple
from .dims import product
from .dtypes import int64
from .errors import DisconnectedInputError, GraphError
from .expr import Expr, apply, at_site, substitute, toposort, user_site
from .grad import (
    Wrt,
    backpropagate,
    cotangent_for,
    grad,
    like,
    targets_of,
    zeros_like_type,
)
from .leaves import lift
from .ops.define import cast
from .ops.elementwise import eq
from .ops.loop import build
from .ops.movement import Iota, reshape_to
from .region import placeholder

Tangent = Any  # an Expr or None (zero); for a tuple-typed node a tuple of them


def Rop(f: Wrt, wrt: Wrt, eval_points: Any, disconnected_outputs: str = "raise") -> Any:
    """Jacobian times vector: how f changes when wrt moves along eval_points; like `f`.

    eval_points: arrays like wrt (one or as many). disconnected_outputs: "raise", "zero" or "none"
    for an f that does not depend on wrt. Uses an op's jvp where it has one, else the derivative of
    its vjp, which is linear in its cotangent.
    """
    outputs = targets_of("Rop", f)
    targets = targets_of("Rop", wrt)
    points = list(eval_points) if isinstance(eval_points, (list, tuple)) else [eval_points]
    if len(points) != len(targets):
        raise GraphError(
            f"Rop: expected {len(targets)} eval_points, got {len(points)}", site=user_site()
        )
    tangents: dict[int, Tangent] = {
        id(x): cotangent_for(x, v, "Rop") for x, v in zip(targets, points)
    }
    for node in toposort(outputs, blockers=targets):
        if id(node) not in tangents and any(tangents.get(id(x)) is not None for x in node.inputs):
            with at_site(node.site):
                tangents[id(node)] = _push(node, [tangents.get(id(x)) for x in node.inputs])
    return like(f, [_output(y, tangents.get(id(y)), disconnected_outputs) for y in outputs])


def _output(y: Expr, tangent: Tangent, policy: str) -> Expr | None:
    if tangent is not None:
        return tangent
    if policy not in ("raise", "zero", "none"):
        raise GraphError(
            f"Rop: disconnected_outputs={policy!r}: expected raise, zero or none", site=user_site()
        )
    if policy == "raise":
        raise DisconnectedInputError(
            f"Rop: {y.label} does not depend on wrt",
            site=user_site(),
            operands=[y],
            hint='disconnected_outputs="zero" gives zeros',
        )
    return zeros_like_type(y.array_type) if policy == "zero" else None


def _push(node: Expr, tangents: Sequence[Tangent]) -> Tangent:
    """The tangent of a node from those of its inputs (None: zero)."""
    if node.op.jvp is not None:
        return node.op.jvp(node.inputs, node, tangents)
    if node.op.vjp is None:
        return None
    if node.op.name == "get":
        return tangents[0][node.op.index]  # type: ignore[attr-defined]
    types = node.type.items if isinstance(node.type, Tuple) else (node.type,)
    dummies = [placeholder(t) if t.dtype.is_inexact else None for t in types]
    found = _push_by_vjp(node, tangents, dummies)
    return tuple(found) if isinstance(node.type, Tuple) else found[0]


def _push_by_vjp(
    node: Expr, tangents: Sequence[Tangent], dummies: Sequence[Expr | None]
) -> list[Tangent]:
    """d/du <vjp(u), tangents>: vjp is linear in u, so its derivative is the forward map."""
    moving = [x for x, t in zip(node.inputs, tangents) if t is not None]
    cotangent = tuple(dummies) if isinstance(node.type, Tuple) else dummies[0]
    pulled = backpropagate([(node, cotangent)], moving, blockers=list(node.inputs))
    seeds = [
        (p.cotangent, t)
        for p, t in zip(pulled, (t for t in tangents if t is not None))
        if p.cotangent is not None
    ]
    wanted = [u for u in dummies if u is not None]
    flows = backpropagate(seeds, wanted, blockers=[*node.inputs, node])
    zeros = [(u, zeros_like_type(u.array_type)) for u in wanted]
    cut = [f.cotangent for f in flows if f.cotangent is not None]
    results = iter(substitute_above(cut, zeros, [*node.inputs, node, *(t for _, t in seeds)]))
    per_dummy = {
        id(u): None if f.cotangent is None else next(results) for u, f in zip(wanted, flows)
    }
    return [None if u is None else per_dummy[id(u)] for u in dummies]


def substitute_above(
    outputs: Sequence[Expr], replace: Sequence[tuple[Expr, Expr]], floor: Sequence[Expr]
) -> list[Expr]:
    """The outputs with nodes replaced, without walking below the `floor` nodes."""
    return substitute(outputs, [*((x, x) for x in floor), *replace])


# ------------------------------------------------------------------------------- whole matrices


def jacobian(
    f: Any, wrt: Wrt, *, consider_constant: Sequence[Expr] = (), disconnected_inputs: str = "raise"
) -> Any:
    """All derivatives of f with respect to wrt: shape f.shape + wrt.shape each, like `wrt`.

    f: an expression of any rank (sizes may be symbolic). The rows are computed by a loop over the
    elements of f; what they share is computed once.
    """
    y = lift(f)
    targets = targets_of("jacobian", wrt)
    type = y.array_type

    def row(cotangent: Expr) -> list[Expr | None]:
        return grad(
            y,
            targets,
            cotangent=cotangent,
            consider_constant=consider_constant,
            disconnected_inputs=disconnected_inputs,
        )

    if not type.shape:
        return like(wrt, row(lift(1.0, type.dtype)))
    size = product(type.shape)
    elements = apply(Iota(size, int64))
    present: list[int] = []

    def step(slices: list[Expr], _: list[Expr]) -> tuple[list[Any], list[Any], dict[Any, Any]]:
        hot = cast(eq(elements, slices[0]), type.dtype)
        rows = row(reshape_to(hot, type.shape))
        present[:] = [i for i, r in enumerate(rows) if r is not None]
        return [], [r for r in rows if r is not None], {}

    built = build("jacobian", step, [elements], [], size)
    found: list[Expr | None] = [None] * len(targets)
    for i, rows in zip(present, built.outputs):
        found[i] = reshape_to(rows, (*type.shape, *rows.array_type.shape[1:]))
    return like(wrt, found)


def hessian(
    cost: Any,
    wrt: Wrt,
    *,
    consider_constant: Sequence[Expr] = (),
    disconnected_inputs: str = "raise",
) -> Any:
    """Second derivatives of a scalar cost: shape wrt.shape + wrt.shape each, like `wrt`.

    Of several wrt these are the blocks of the diagonal.
    """
    targets = targets_of("hessian", wrt)
    options: dict[str, Any] = {
        "consider_constant": consider_constant,
        "disconnected_inputs": disconnected_inputs,
    }
    first = grad(cost, targets, **options)
    second = {
        **options,
        "disconnected_inputs": "zero" if disconnected_inputs == "raise" else disconnected_inputs,
    }
    return like(
        wrt, [None if g is None else jacobian(g, x, **second) for g, x in zip(first, targets)]
    )


def hvp(cost: Any, wrt: Wrt, vectors: Any) -> Any:
    """Hessian of a scalar cost times vectors (arrays like wrt), without the Hessian: like `wrt`."""
    targets = targets_of("hvp", wrt)
    points = list(vectors) if isinstance(vectors, (list, tuple)) else [vectors]
    if len(points) != len(targets):
        raise GraphError(
            f"hvp: expected {len(targets)} vectors, got {len(points)}", site=user_site()
        )
    first = grad(cost, targets)
    seeds = [(g, cotangent_for(x, v, "hvp")) for g, x, v in zip(first, targets, points)]
    flows = backpropagate(seeds, targets)
    zeros = [
        zeros_like_type(x.array_type) if f.cotangent is None else f.cotangent
        for x, f in zip(targets, flows)
    ]
    return like(wrt, zeros)


__all__ = ["Rop", "hessian", "hvp", "jacobian"]
