"""Regions: bodies of loops and branches, closed over parameters: equal bodies are equal values.

A region's results depend on nothing but its parameters (`leaves.Param`) and constants. While the
user's function runs the parameters are `Placeholder` leaves; `close` finds what else the results
need, makes it explicit as captures, and replaces both by numbered parameters.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import dims, relations
from .arraytype import Array
from .dims import Atom, Dim, SizeLike
from .errors import GraphError, ShapeError
from .evaluate import compute
from .expr import Expr, apply, graph_guards, substitute, toposort
from .leaves import Input, Leaf, Param, SharedOp

_uid = itertools.count(1)


class Placeholder(Leaf):
    """A region's parameter while its body is traced; unlike an input it never stands for a size."""

    name = "placeholder"
    uid: int

    def evaluate(self) -> Any:
        raise GraphError("a step's variable was used outside of the step function")


def placeholder(type: Array, name: str | None = None) -> Expr:
    """A fresh parameter for tracing."""
    node = apply(Placeholder(type, next(_uid)))
    node.name = name
    return node


class Region:
    """A function of arrays as a value: `params` are types, `results` expressions over Param leaves.

    Hashable and immutable; two regions are equal when their parameters' types are equal and their
    results identical.
    """

    __slots__ = ("params", "results", "_hash", "_guards")

    params: tuple[Array, ...]
    results: tuple[Expr, ...]

    def __init__(self, params: Sequence[Array], results: Sequence[Expr]):
        self.params = tuple(params)
        self.results = tuple(results)
        self._hash = hash((self.params, tuple(map(id, self.results))))
        self._guards: tuple[relations.Guard, ...] | None = None

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Region)
            and self._hash == other._hash
            and self.params == other.params
            and len(self.results) == len(other.results)
            and all(a is b for a, b in zip(self.results, other.results))
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        results = ", ".join(str(r.type) for r in self.results)
        return f"({', '.join(map(str, self.params))}) -> ({results})"

    def inline(self, arguments: Sequence[Expr]) -> list[Expr]:
        """The results with the parameters replaced by expressions."""
        pairs = [(x, arguments[i]) for i, x in self.param_nodes()]
        return substitute(self.results, pairs)

    def param_nodes(self) -> list[tuple[int, Expr]]:
        """The parameters that the results use, with their numbers."""
        return [(x.op.index, x) for x in toposort(self.results) if isinstance(x.op, Param)]

    def bind(self, shapes: Sequence[Sequence[SizeLike]]) -> dict[Atom, SizeLike]:
        """What the parameters' named sizes are when the arguments have these shapes."""
        found: dict[Atom, SizeLike] = {}
        for declared, actual in zip(self.params, shapes):
            for a, b in zip(declared.shape, actual):
                if isinstance(a, Dim) and a != b and _is_atom(a):
                    found[a.terms[0][0][0]] = b
        return found

    def result_types(self, arguments: Sequence[Array], what: str) -> list[Array]:
        """Types of the results for these arguments; undecided sizes become guards.

        Raises: ShapeError, DTypeError where an argument does not fit its parameter.
        """
        values = self.bind([t.shape for t in arguments])
        for position, (declared, actual) in enumerate(zip(self.params, arguments)):
            check_same(declared, actual, values, f"{what}: operand {position}")
        for guard in self.guards:
            left, right = (dims.substitute(s, values) for s in (guard.left, guard.right))
            if guard.relation == "==":
                relations.require_equal(left, right, guard.what)
            else:
                relations.require_le(left, right, guard.what, guard.of_index)
        return [substitute_type(r.array_type, values) for r in self.results]

    @property
    def guards(self) -> tuple[relations.Guard, ...]:
        """The size relations inside that construction could not decide."""
        if self._guards is None:
            self._guards = tuple(guard for guard, _ in graph_guards(self.results))
        return self._guards


def _is_atom(size: Dim) -> bool:
    (monomial, coefficient), *rest = size.terms
    return not rest and coefficient == 1 and len(monomial) == 1


def substitute_type(type: Array, values: Mapping[Atom, SizeLike]) -> Array:
    """The type with named sizes replaced."""
    return (
        type
        if type.is_static or not values
        else Array(type.dtype, tuple(dims.substitute(s, values) for s in type.shape))
    )


def check_same(declared: Array, actual: Array, values: Mapping[Atom, SizeLike], what: str) -> None:
    """Same dtype and rank, sizes equal (guards where undecided)."""
    if declared.dtype is not actual.dtype or len(declared.shape) != len(actual.shape):
        raise ShapeError(f"{what}: expected {declared}, got {actual}")
    for axis, (a, b) in enumerate(zip(declared.shape, actual.shape)):
        relations.require_equal(dims.substitute(a, values), b, f"{what}: axis {axis}")


# -------------------------------------------------------------------------------------- tracing


class _Tracing(threading.local):
    draws: list[list[Expr]] | None = None


_tracing = _Tracing()


@contextmanager
def recording_draws() -> Iterator[list[Expr]]:
    """Within this block random draws are recorded: a loop gives each step its own numbers."""
    before = _tracing.draws
    mine: list[Expr] = []
    _tracing.draws = [*(before or []), mine]
    try:
        yield mine
    finally:
        _tracing.draws = before


def note_draw(node: Expr) -> None:
    """Called for every random draw as it is made."""
    if _tracing.draws:
        _tracing.draws[-1].append(node)


def current_draws() -> Sequence[Expr]:
    """The draws recorded by the innermost step that is being traced."""
    return _tracing.draws[-1] if _tracing.draws else ()


def trace(fn: Callable[..., Sequence[Expr]], types: Sequence[Array]) -> tuple[Region, list[Expr]]:
    """The region of fn(*parameters) -> results, and what it captures (its further parameters)."""
    params = [placeholder(t) for t in types]
    return close(params, fn(*params))


def close(params: Sequence[Expr], results: Sequence[Expr]) -> tuple[Region, list[Expr]]:
    """A region of results over `params`; what does not depend on them is captured from outside.

    Captured are the largest such expressions, except that constants stay inside, and so does the
    broadcast of a captured value (it is index arithmetic inside, an array outside).
    """
    return close_at(params, results, invariants(params, results))


def close_at(
    params: Sequence[Expr], results: Sequence[Expr], captures: Sequence[Expr]
) -> tuple[Region, list[Expr]]:
    """A region of results over `params`, cut at the given captures."""
    nodes = [*params, *captures]
    pairs = [(x, apply(Param(x.array_type, i))) for i, x in enumerate(nodes)]
    return Region([x.array_type for x in nodes], substitute(results, pairs)), list(captures)


def invariants(params: Sequence[Expr], results: Sequence[Expr]) -> list[Expr]:
    """The largest expressions that need an input but no parameter, in order of use."""
    order = toposort(results, blockers=params)
    inside, closed = _classify(order, params)
    used = [x for node in order if id(node) in inside for x in node.inputs]
    found = [_unbroadcast(x, closed) for x in [*used, *results]]
    return list({id(x): x for x in found if id(x) not in inside and id(x) not in closed}.values())


def _classify(order: Sequence[Expr], params: Sequence[Expr]) -> tuple[set[int], set[int]]:
    """Nodes that must be in the region (users of parameters, effects); nodes made of constants."""
    inside, closed = set(map(id, params)), set()
    for node in order:
        if node.op.effect or any(id(x) in inside for x in node.inputs):
            inside.add(id(node))
        elif id(node) in inside or is_free(node):
            continue
        elif all(id(x) in closed for x in node.inputs):
            closed.add(id(node))
    return inside, closed


def _unbroadcast(node: Expr, closed: set[int]) -> Expr:
    while node.op.name == "broadcast_to" and id(node) not in closed:
        node = node.inputs[0]
    return node


def is_free(node: Expr) -> bool:
    """Whether a leaf stands for a value from outside."""
    return isinstance(node.op, (Input, Placeholder, Param, SharedOp))


# ----------------------------------------------------------------------------------- evaluation


def evaluate_region(
    region: Region, arrays: Sequence[np.ndarray], sizes: Mapping[Atom, Any]
) -> list[Any]:
    """The results for these arguments, whose shapes bind sizes; `sizes` binds the others."""
    return Runner(region, [a.shape for a in arrays], sizes)(arrays)


class Runner:
    """A region prepared for repeated evaluation in NumPy."""

    def __init__(
        self, region: Region, shapes: Sequence[tuple[int, ...]], sizes: Mapping[Atom, Any]
    ):
        self.sizes = {**sizes, **region.bind(shapes)}
        order = toposort(region.results)
        where = {id(x): i for i, x in enumerate(order)}
        self.steps = [(x, [where[id(i)] for i in x.inputs]) for x in order]
        self.results = [where[id(r)] for r in region.results]

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[Any]:
        done: list[Any] = []
        for node, sources in self.steps:
            if isinstance(node.op, Param):
                done.append(arrays[node.op.index])
            else:
                done.append(compute(node, [done[i] for i in sources], self.sizes))
        return [done[i] for i in self.results]
