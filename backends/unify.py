"""Sizes that a guard makes equal become one: shapes that agree at run time agree in the plan.

The guards are checked before anything runs, so behind them `y.shape[0] == n` may be used: y is read
through a stand-in input of shape [n], and kernels over n and over y.shape[0] can fuse. A size that
must equal a number becomes the number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from symgraph.arraytype import Array
from symgraph.dims import Atom, Dim, Size, SizeLike, single_atom, substitute
from symgraph.errors import SymgraphError
from symgraph.expr import Expr, apply, toposort
from symgraph.leaves import Input, SharedOp
from symgraph.op import Op
from symgraph.relations import Guard


def unify(results: Sequence[Expr], guards: Iterable[Guard]) -> tuple[list[Expr], dict[Expr, Expr]]:
    """The graph in unified sizes, and which leaf each stand-in stands for."""
    sizes = equal_sizes(guards)
    if not sizes:
        return list(results), {}
    try:
        return _rebuild(results, sizes)
    except SymgraphError:  # the guards contradict each other: no call gets past them
        return list(results), {}


def equal_sizes(guards: Iterable[Guard]) -> dict[Atom, SizeLike]:
    """For each atom that a guard equates with another or a number: what to use in its place."""
    sizes: dict[Atom, SizeLike] = {}
    for guard in guards:
        if guard.relation != "==":
            continue
        left, right = substitute(guard.left, sizes), substitute(guard.right, sizes)
        if isinstance(left, int) or (isinstance(right, Dim) and _rank(left) < _rank(right)):
            left, right = right, left
        atom = single_atom(left)
        if atom is None or left == right or (isinstance(right, Dim) and single_atom(right) is None):
            continue
        sizes = {a: substitute(s, {atom: right}) for a, s in sizes.items()} | {atom: right}
    return sizes


def _rank(size: SizeLike) -> int:
    """Names that the user chose are kept before anonymous ones."""
    atom = single_atom(size)
    return 0 if isinstance(atom, Size) and not atom.uid else 1


def _rebuild(
    results: Sequence[Expr], sizes: Mapping[Atom, SizeLike]
) -> tuple[list[Expr], dict[Expr, Expr]]:
    done: dict[int, Expr] = {}
    stands_for: dict[Expr, Expr] = {}
    for node in toposort(results):
        op: Op = _renamed_op(node.op, sizes)
        if op is node.op and all(done[id(x)] is x for x in node.inputs):
            done[id(node)] = node
            continue
        done[id(node)] = apply(op, *[done[id(x)] for x in node.inputs], site=node.site)
        if isinstance(node.op, (Input, SharedOp)):
            stands_for[done[id(node)]] = node
    return [done[id(r)] for r in results], stands_for


def _renamed_op(op: Op, sizes: Mapping[Atom, SizeLike]) -> Op:
    values = tuple(_renamed(v, sizes) for v in op._values)
    return op if values == op._values else type(op)(*values)


def _renamed(value: Any, sizes: Mapping[Atom, SizeLike]) -> Any:
    if isinstance(value, Dim):
        return substitute(value, sizes)
    if isinstance(value, Array):
        return Array(value.dtype, tuple(substitute(s, sizes) for s in value.shape))
    if isinstance(value, tuple):
        parts = [_renamed(v, sizes) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value
