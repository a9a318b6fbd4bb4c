"""Choices: the op `Cond`, which runs one of two regions, and the functions cond and ifelse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from .. import relations
from ..arraytype import Array, Tuple
from ..dims import Atom, SizeLike
from ..dtypes import bool_, weak
from ..errors import DTypeError, GraphError, InternalError, ShapeError
from ..expr import Expr, apply, toposort, user_site
from ..grad import backpropagate, zeros_like_type
from ..leaves import lift
from ..op import Op
from ..region import Region, close_at, current_draws, evaluate_region, is_free, placeholder
from .define import _is_weak as is_number
from .define import cast
from .tuple import parts


class Cond(Op):
    """The results of region `then` if the predicate is true, else of `orelse`; only that one runs.

    Inputs: the predicate (bool, 0-d), then the captures, which are the parameters of both regions.
    A tuple always.
    """

    name = "cond"
    then: Region
    orelse: Region
    sizes: ClassVar[Mapping[Atom, Any]] = {}  # values of outer sizes; with_sizes sets them

    def infer(self, predicate: Array, *types: Any) -> Tuple:
        if predicate != Array(bool_, ()):
            raise ShapeError(f"cond: expected a bool scalar as predicate, got {predicate}")
        yes = self.then.result_types(types, "cond")
        no = self.orelse.result_types(types, "cond")
        if len(yes) != len(no):
            raise InternalError(f"cond: arms give {len(yes)} and {len(no)} results")
        return Tuple(tuple(_join(i, a, b) for i, (a, b) in enumerate(zip(yes, no))))

    def with_sizes(self, values: Mapping[Atom, Any]) -> Cond:
        bound = type(self)(self.then, self.orelse)
        object.__setattr__(bound, "sizes", values)
        return bound

    def evaluate(self, predicate: np.ndarray, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        region = self.then if predicate else self.orelse
        return tuple(evaluate_region(region, arrays, self.sizes))

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Any) -> list[Expr | None]:
        return self.vjp_partial(inputs, output, cotangent, [x.dtype.is_inexact for x in inputs])

    def vjp_partial(
        self, inputs: Sequence[Expr], output: Expr, cotangent: Any, wanted: Sequence[bool]
    ) -> list[Expr | None]:
        """Cotangents of the wanted captures: a Cond of the arms' derivatives."""
        targets = [i for i, want in enumerate(wanted[1:]) if want]
        given = [g for g in cotangent if g is not None]
        arms = [
            self._arm(region, targets, cotangent, inputs[1:]) for region in (self.then, self.orelse)
        ]
        found = dict(zip(targets, parts(apply(Cond(*arms), inputs[0], *inputs[1:], *given))))
        return [None, *(found.get(i) for i in range(len(inputs) - 1))]

    def _arm(
        self, region: Region, targets: Sequence[int], cotangent: Any, captures: Sequence[Expr]
    ) -> Region:
        """One arm's derivative: (captures, cotangents of its results) -> cotangents of targets."""
        cs = [placeholder(x.array_type) for x in captures]
        gs = [None if g is None else placeholder(g.array_type) for g in cotangent]
        seeds = [(y, g) for y, g in zip(region.inline(cs), gs) if g is not None]
        flows = backpropagate(seeds, [cs[i] for i in targets])
        results = [
            zeros_like_type(cs[i].array_type) if f.cotangent is None else f.cotangent
            for i, f in zip(targets, flows)
        ]
        return close_at([*cs, *(g for g in gs if g is not None)], results, [])[0]


def _join(i: int, a: Array, b: Array) -> Array:
    """The type of result i that both arms have."""
    if a.dtype is not b.dtype or len(a.shape) != len(b.shape):
        raise (DTypeError if a.dtype is not b.dtype else ShapeError)(
            f"cond: result {i} is {a} in one arm and {b} in the other"
        )
    return Array(
        a.dtype,
        tuple(_join_size(i, axis, m, n) for axis, (m, n) in enumerate(zip(a.shape, b.shape))),
    )


def _join_size(i: int, axis: int, m: SizeLike, n: SizeLike) -> SizeLike:
    relations.require_equal(m, n, f"cond: axis {axis} of result {i}")
    return n if isinstance(n, int) else m


# ------------------------------------------------------------------------------------- building


def cond(predicate: Any, then: Any, orelse: Any, *operands: Any) -> Any:
    """`then` if the predicate is true, else `orelse`; only the chosen one is computed.

    predicate: a bool (or number, true if not 0) of rank 0. then, orelse: expressions, lists or
    tuples of them, or functions of `operands` that return such. Both must have the same dtypes and
    shapes; Python numbers adapt. What both arms (or the predicate) need is computed before the
    choice; what one arm alone needs, only if it is chosen.

    Returns as `then` is: one expression, a list or a tuple.
    """
    inputs = [lift(x) for x in operands]
    params = [placeholder(x.array_type, x.name) for x in inputs]
    arms = [
        arm(*params) if callable(arm) and not isinstance(arm, Expr) else arm
        for arm in (then, orelse)
    ]
    yes, no = _unify(*map(_as_list, arms))
    test = _predicate(predicate)
    captures = _shared_work(params, yes, no, test)
    regions = [close_at(params, results, captures)[0] for results in (yes, no)]
    results = parts(apply(Cond(*regions), test, *inputs, *captures))
    form = arms[0]
    return type(form)(results) if type(form) in (list, tuple) else results[0]


def ifelse(condition: Any, then_branch: Any, else_branch: Any, name: str | None = None) -> Any:
    """Theano's name for cond."""
    results = cond(condition, then_branch, else_branch)
    if name is not None:
        for node in _as_list(results):
            node.name = node.name or name
    return results


def _as_list(xs: Any) -> list[Any]:
    return list(xs) if isinstance(xs, (list, tuple)) else [xs]


def _predicate(value: Any) -> Expr:
    test = lift(value)
    if test.ndim:
        raise ShapeError(
            f"cond: expected a scalar predicate, got {test.type}",
            site=user_site(),
            operands=[test],
            hint="where(c, a, b) chooses element by element; c.all() or c.any() make a scalar",
        )
    return cast(test, bool_)


def _unify(yes: list[Any], no: list[Any]) -> tuple[list[Expr], list[Expr]]:
    """Both arms' results as expressions of equal dtypes."""
    if len(yes) != len(no):
        raise GraphError(
            f"cond: one arm gives {len(yes)} results, the other {len(no)}", site=user_site()
        )
    pairs = [_unify_one(a, b) for a, b in zip(yes, no)]
    for i, (a, b) in enumerate(pairs):
        if a.dtype is not b.dtype:
            raise DTypeError(
                f"cond: result {i} is {a.type} in one arm and {b.type} in the other",
                site=user_site(),
                operands=[a, b],
                hint="cast one of them: .astype(...)",
            )
    return [a for a, _ in pairs], [b for _, b in pairs]


def _unify_one(a: Any, b: Any) -> tuple[Expr, Expr]:
    if is_number(a) and not is_number(b):
        b = lift(b)
        return lift(a, weak(a, b.dtype)), b
    a = lift(a)
    return a, lift(b, weak(b, a.dtype) if is_number(b) else None)


def _shared_work(
    params: Sequence[Expr], yes: Sequence[Expr], no: Sequence[Expr], test: Expr
) -> list[Expr]:
    """The largest expressions that both arms or the predicate need, and inputs one arm needs."""
    orders = [toposort(results, blockers=params) for results in (yes, no)]
    sets = [set(map(id, order)) for order in orders]
    outside = (sets[0] & sets[1]) | set(map(id, toposort([test])))
    depends, closed = set(map(id, params)), set()
    for node in [x for order in orders for x in order]:
        if id(node) not in depends and any(id(x) in depends for x in node.inputs):
            depends.add(id(node))
        elif (
            id(node) not in depends
            and not is_free(node)
            and all(id(x) in closed for x in node.inputs)
        ):
            closed.add(id(node))
    outside |= set(map(id, current_draws()))  # a draw inside a step belongs to the step
    frontier = outside | {id(x) for order in orders for x in order if is_free(x)}
    frontier -= depends | closed
    stops = [x for order in orders for x in order if id(x) in frontier]
    reached = [x for results in (yes, no) for x in toposort(results, blockers=[*params, *stops])]
    return list({id(x): x for x in reached if id(x) in frontier}.values())


__all__ = ["Cond", "cond", "ifelse"]
