"""Reverse-mode differentiation: cotangents flow from a cost back to what it depends on.

`backpropagate` is the engine: one walk over the topological order, linear in the graph, without
recursion. `grad`, `Lop` and everything in `derivatives` are thin layers over it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from . import dims
from .arraytype import Array, Tuple, Type
from .errors import DisconnectedInputError, DTypeError, GraphError, InternalError, ShapeError
from .expr import Expr, apply, at_site, toposort, user_site
from .leaves import constant, lift
from .ops.define import cast
from .ops.elementwise import real
from .ops.movement import BroadcastTo
from .ops.shaping import sum_to

Cotangent = Any  # an Expr, or for a tuple-typed node a tuple of Expr | None
Wrt = Any  # an Expr, or a list or tuple of them


class Flow(NamedTuple):
    """What reached one target: its cotangent, if any, and whether the outputs depend on it."""

    cotangent: Expr | None
    connected: bool


def backpropagate(
    seeds: Sequence[tuple[Expr, Cotangent]],
    wrt: Sequence[Expr],
    *,
    constant: Sequence[Expr] = (),
    known: Mapping[Expr, Expr] | None = None,
    blockers: Sequence[Expr] = (),
) -> list[Flow]:
    """Cotangents of the `wrt` nodes when each (node, cotangent) in `seeds` is given.

    constant: nodes that nothing flows to or through. known: nodes whose cotangent is this, whatever
    flows to them. blockers: nodes that are not entered (they may be targets).

    Beside vjp an op may give `vjp_partial(inputs, output, cotangent, wanted)`, to spare work for
    inputs that nobody asks for.
    """
    known = known or {}
    order = toposort([*(y for y, _ in seeds), *known], blockers=[*constant, *blockers])
    reached = _reached(order, wrt, set(map(id, constant)))
    pending: dict[int, list[Cotangent]] = {}
    for node, cotangent in seeds:
        pending.setdefault(id(node), []).append(cotangent)
    fixed = {id(node): cotangent for node, cotangent in known.items()}
    targets = set(map(id, wrt))
    found: dict[int, Cotangent] = {}
    closed = set(map(id, blockers))
    live = {*pending, *fixed}  # what the outputs depend on
    for node in reversed(order):
        received = pending.pop(id(node), [])
        if id(node) not in reached or id(node) not in live:
            continue
        if id(node) not in closed:
            live.update(map(id, node.inputs))
        if not (received or id(node) in fixed):
            continue
        with at_site(node.site):
            total = fixed.get(id(node))
            if total is None:
                total = _total(received)
            if id(node) in targets:
                found[id(node)] = total
            if node.inputs and id(node) not in closed:
                _send(node, total, reached, pending)
    return [Flow(found.get(id(x)), id(x) in reached and id(x) in live) for x in wrt]


def _reached(order: Sequence[Expr], wrt: Sequence[Expr], constant: set[int]) -> set[int]:
    """Nodes that depend on a target along a path that gradients may take."""
    targets = set(map(id, wrt)) - constant
    reached: set[int] = set()
    for node in order:
        if id(node) in targets or (
            id(node) not in constant
            and getattr(node.op, "connected", True)
            and any(id(x) in reached for x in node.inputs)
        ):
            reached.add(id(node))
    return reached


def _send(
    node: Expr, cotangent: Cotangent, reached: set[int], pending: dict[int, list[Cotangent]]
) -> None:
    """Ask the op for its inputs' cotangents and keep those that are wanted."""
    op = node.op
    wanted = tuple(id(x) in reached and _is_differentiable(x.type) for x in node.inputs)
    if op.vjp is None or not any(wanted):
        return
    partial = getattr(op, "vjp_partial", None)
    if partial is not None:
        cotangents = partial(node.inputs, node, cotangent, wanted)
    else:
        cotangents = op.vjp(node.inputs, node, cotangent)
    if len(cotangents) != len(node.inputs):
        raise InternalError(
            f"{op.name}: vjp gave {len(cotangents)} cotangents for {len(node.inputs)} inputs",
            site=node.site,
        )
    for x, want, c in zip(node.inputs, wanted, cotangents):
        if want and c is not None:
            pending.setdefault(id(x), []).append(_fit(c, x.type, node))


def _is_differentiable(type: Type) -> bool:
    if isinstance(type, Tuple):
        return any(t.dtype.is_inexact for t in type.items)
    return type.dtype.is_inexact


def _fit(cotangent: Cotangent, type: Type, node: Expr) -> Cotangent:
    """A cotangent with its input's shape and dtype: summed over broadcast axes, cast."""
    if isinstance(type, Tuple):
        return tuple(
            None if c is None or not t.dtype.is_inexact else _fit(c, t, node)
            for c, t in zip(cotangent, type.items)
        )
    have = cotangent.array_type
    if have == type:
        return cotangent
    if not have.dtype.is_inexact or not _sums_to(have.shape, type.shape):
        raise InternalError(
            f"{node.op.name}: vjp gave a cotangent of {have} for an input of {type}",
            site=node.site,
            operands=node.inputs,
        )
    if have.dtype.kind == "c" and type.dtype.kind == "f":
        cotangent = real(cotangent)
    return cast(sum_to(cotangent, type.shape), type.dtype)


def _sums_to(shape: dims.Shape, target: dims.Shape) -> bool:
    """Whether an array of `target` broadcasts to `shape`."""
    axes = zip(shape[len(shape) - len(target) :], target)
    return len(shape) >= len(target) and all(
        t == 1 or dims.known_equal(s, t) is not False for s, t in axes
    )


def _total(received: Sequence[Cotangent]) -> Cotangent:
    """The sum of cotangents, pairwise in the order they came."""
    terms = list(received)
    while len(terms) > 1:
        pairs = [_add(a, b) for a, b in zip(terms[::2], terms[1::2])]
        terms = pairs + terms[2 * len(pairs) :]
    return terms[0]


def _add(a: Cotangent, b: Cotangent) -> Cotangent:
    if isinstance(a, tuple):
        return tuple(y if x is None else x if y is None else x + y for x, y in zip(a, b))
    return a + b


def zeros_like_type(type: Array) -> Expr:
    """Zeros of a type."""
    zero = constant(0, type.dtype)
    return apply(BroadcastTo(type.shape), zero) if type.shape else zero


def ones_like_type(type: Array) -> Expr:
    """Ones of a type."""
    one = constant(1, type.dtype)
    return apply(BroadcastTo(type.shape), one) if type.shape else one


# ------------------------------------------------------------------------------ the user's door


def grad(
    cost: Any,
    wrt: Wrt,
    *,
    cotangent: Any = None,
    consider_constant: Sequence[Expr] = (),
    known_grads: Mapping[Expr, Any] | None = None,
    disconnected_inputs: str = "raise",
) -> Any:
    """The derivative of a scalar cost: like `wrt`, one Expr, a list or a tuple.

    cost: 0-d and float, unless `cotangent` (an array like cost) is given; the result is then the
    vector-Jacobian product. May be None if known_grads says where to start. wrt: any expressions of
    the graph, not only inputs.
    consider_constant: expressions that nothing flows to or through.
    known_grads: {expression: its gradient}; what the graph would send to it is ignored.
    disconnected_inputs: what to do when the cost does not depend on one of `wrt`: "raise", "zero"
    (also "ignore", and "warn" with a warning), "none".

    Raises: DisconnectedInputError, ShapeError (cost not a scalar), DTypeError (integer cost or
    wrt).
    """
    targets = targets_of("grad", wrt)
    known = {x: cotangent_for(x, g, "known_grads") for x, g in (known_grads or {}).items()}
    if cost is None:
        if not known:
            raise GraphError("grad: expected a cost or known_grads", site=user_site())
        seeds = []
    else:
        seeds = [_seed(lift(cost), cotangent)]
    flows = backpropagate(seeds, targets, constant=_as_list(consider_constant), known=known)
    return like(wrt, _settle("grad", targets, flows, disconnected_inputs))


def Lop(
    f: Wrt,
    wrt: Wrt,
    eval_points: Any,
    consider_constant: Sequence[Expr] = (),
    disconnected_inputs: str = "raise",
) -> Any:
    """Row vector times Jacobian: the derivative of sum(f * eval_points), like `wrt`.

    f: an expression or several; eval_points: arrays like f (one or as many).
    """
    outputs = targets_of("Lop", f)
    points = _as_list(eval_points)
    if len(outputs) != len(points):
        raise GraphError(
            f"Lop: expected {len(outputs)} eval_points, got {len(points)}", site=user_site()
        )
    seeds = [(y, cotangent_for(y, v, "Lop")) for y, v in zip(outputs, points)]
    targets = targets_of("Lop", wrt)
    flows = backpropagate(seeds, targets, constant=_as_list(consider_constant))
    return like(wrt, _settle("Lop", targets, flows, disconnected_inputs))


def _seed(cost: Expr, cotangent: Any) -> tuple[Expr, Expr]:
    type = cost.array_type
    if cotangent is not None:
        return cost, cotangent_for(cost, cotangent, "grad")
    if type.shape != ():
        raise ShapeError(
            f"grad: the cost must be a scalar, got {type}",
            site=user_site(),
            operands=[cost],
            hint="take its .mean() or .sum(), or give cotangent=",
        )
    if not type.dtype.is_float:
        raise DTypeError(
            f"grad: the cost must be a real float, got {type}",
            site=user_site(),
            operands=[cost],
            hint="abs(x)**2 or real(x) make a complex value real"
            if type.dtype.kind == "c"
            else f"{type.dtype} has no derivative; cast what it is made of, not the result",
        )
    return cost, constant(1, type.dtype)


_ARRAY_OF = {"Rop": "a tangent", "hvp": "a vector", "known_grads": "a gradient"}


def cotangent_for(x: Expr, value: Any, what: str) -> Expr:
    """A user's cotangent of x: an array like x."""
    type = x.array_type
    if not type.dtype.is_inexact:
        raise DTypeError(
            f"{what}: {x.label} is {type.dtype}: it has no cotangent", site=user_site()
        )
    node = lift(value, type.dtype)
    have = node.array_type
    if have.dtype.kind == "c" and type.dtype.kind == "f":
        raise DTypeError(f"{what}: a complex cotangent for {x.label}: {type}", site=user_site())
    node = cast(node, type.dtype)
    if not type.accepts(node.type):
        raise ShapeError(
            f"{what}: expected {_ARRAY_OF.get(what, 'a cotangent')} of {type} for {x.label}, "
            f"got {have}",
            site=user_site(),
            operands=[x],
        )
    return node


def _as_list(xs: Any) -> list[Any]:
    if xs is None:
        return []
    return list(xs) if isinstance(xs, (list, tuple)) else [xs]


def targets_of(what: str, wrt: Wrt) -> list[Expr]:
    if not isinstance(wrt, (Expr, list, tuple)):
        raise GraphError(
            f"{what}: expected an expression, or a list or tuple of them, got {wrt!r}",
            site=user_site(),
        )
    targets = _as_list(wrt)
    for x in targets:
        if not isinstance(x, Expr):
            raise GraphError(f"{what}: expected expressions, got {x!r}", site=user_site())
    return targets


def like(wrt: Wrt, found: list[Any]) -> Any:
    """Results in the form of `wrt`: one, a list or a tuple."""
    if isinstance(wrt, Expr):
        return found[0]
    return tuple(found) if isinstance(wrt, tuple) else found


_DISCONNECTED = {"raise": "raise", "zero": "zero", "ignore": "zero", "warn": "warn", "none": "none"}


def _settle(what: str, targets: list[Expr], flows: list[Flow], policy: str) -> list[Expr | None]:
    """Cotangents, with zeros, None or an error where nothing arrived."""
    action = _DISCONNECTED.get(policy)
    if action is None:
        raise GraphError(
            f"{what}: disconnected_inputs={policy!r}: expected one of {', '.join(_DISCONNECTED)}",
            site=user_site(),
        )
    return [_settle_one(what, x, flow, action) for x, flow in zip(targets, flows)]


def _settle_one(what: str, x: Expr, flow: Flow, action: str) -> Expr | None:
    if flow.cotangent is not None:
        return flow.cotangent
    type = x.array_type
    if not type.dtype.is_inexact:
        if action == "raise":
            raise DTypeError(
                f"{what}: {x.label} is {type.dtype}: no derivative with respect to integers",
                site=user_site(),
                operands=[x],
                hint="declare it as a float, or differentiate with respect to its astype(...)",
            )
        type = Array(lift(0.0).dtype, type.shape)
    elif flow.connected:  # through functions that are constant almost everywhere
        return zeros_like_type(type)
    if action == "raise":
        raise DisconnectedInputError(
            f"{what}: the cost does not depend on {x.label}",
            site=user_site(),
            operands=[x],
            hint='disconnected_inputs="zero" gives zeros, "none" gives None',
        )
    if action == "warn":
        import warnings

        warnings.warn(f"{what}: the cost does not depend on {x.label}", stacklevel=4)
    return None if action == "none" else zeros_like_type(type)
