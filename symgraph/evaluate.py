"""The NumPy oracle: evaluate an expression graph node by node with each op's own meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from . import guards
from .arraytype import Array, Tuple
from .checks import as_argument, brief
from .dims import Atom
from .errors import GraphError, MissingInputError, SymgraphError
from .expr import Expr, graph_guards, toposort
from .leaves import Input, Shared
from .sites import user_site

Observer = Callable[[Expr, Any], None]


def evaluate(
    outputs: Expr | Sequence[Expr],
    values: Mapping[Expr, Any] | None = None,
    *,
    observe: Observer | None = None,
    sizes: Mapping[Atom, Any] | None = None,
) -> Any:
    """The value(s) of one expression or a list of them.

    values: arrays for the inputs (any node may be given; shared variables default to their current
    value). sizes: values of named sizes that no input shows. observe(node, value) sees every node
    as it is computed. Values that nobody needs any more are dropped on the way.
    """
    single = isinstance(outputs, Expr)
    wanted = [outputs] if isinstance(outputs, Expr) else _expressions(outputs)
    if not isinstance(values, (Mapping, type(None))):
        raise GraphError(
            f"evaluate: expected {{input: value}}, got {brief(values)}", site=user_site()
        )
    given = {x: _as_array(v, x) for x, v in (values or {}).items()}
    order = toposort(wanted, blockers=given)
    for node in order:
        if isinstance(node, Shared) and node not in given:
            given[node] = node.get_value(borrow=True)
    env = bind_sizes(given, sizes)
    check_guards(wanted, env, list(given))
    results = _run(order, wanted, given, env, observe)
    return results[0] if single else results


def _expressions(outputs: Any) -> list[Expr]:
    if isinstance(outputs, (list, tuple)) and all(isinstance(x, Expr) for x in outputs):
        return list(outputs)
    raise GraphError(
        f"evaluate: expected an expression or a list of them, got {brief(outputs)}",
        site=user_site(),
    )


def _as_array(value: Any, node: Expr) -> Any:
    """A given value; numbers and lists are converted as a function converts its arguments."""
    if isinstance(value, (np.ndarray, np.generic)) or not isinstance(node.type, Array):
        return value
    return as_argument(value, node.type, node.label)


def _run(
    order: list[Expr],
    wanted: list[Expr],
    given: dict[Expr, Any],
    env: dict[Atom, Any],
    observe: Observer | None,
) -> list[Any]:
    uses: dict[int, int] = {}
    for node in order:
        for x in node.inputs:
            uses[id(x)] = uses.get(id(x), 0) + 1
    for node in wanted:
        uses[id(node)] = uses.get(id(node), 0) + 1
    done: dict[int, Any] = {}
    for node in order:
        value = done[id(node)] = (
            given[node] if node in given else compute(node, [done[id(x)] for x in node.inputs], env)
        )
        if observe is not None:
            observe(node, value)
        for x in node.inputs:
            uses[id(x)] -= 1
            if not uses[id(x)]:
                del done[id(x)]
    return [done[id(node)] for node in wanted]


def compute(node: Expr, arrays: Sequence[Any], env: Mapping[Atom, Any]) -> Any:
    """One node's value from its inputs' values, in the inferred dtype and rank.

    Sizes in the op become numbers.
    """
    if isinstance(node.op, Input):
        raise MissingInputError(f"no value for input {node.label}", site=node.site)
    try:
        result = node.op.with_sizes(env).evaluate(*arrays)
    except SymgraphError as error:
        raise error.at(node.site) from None
    if isinstance(node.type, Tuple):
        return tuple(_as(r, t) for r, t in zip(result, node.type.items, strict=True))
    return _as(result, node.type)


def _as(value: Any, type: Array) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype == type.dtype.np:
        return array
    with np.errstate(all="ignore"):
        return array.astype(type.dtype.np)


def bind_sizes(
    values: Mapping[Expr, Any], sizes: Mapping[Atom, Any] | None = None
) -> dict[Atom, Any]:
    """The named sizes that the inputs' shapes, and integer scalar inputs' values, determine."""
    return guards.bind(list(values), list(values.values()), sizes)


def check_guards(
    outputs: Sequence[Expr], env: Mapping[Atom, Any], given: Sequence[Expr] = ()
) -> None:
    """Raise ShapeError for the first undecided size relation that does not hold."""
    for guard, node in graph_guards(outputs):
        guards.check(guard, env, given, node.site)
