"""Loops and branches from outside: their bodies rewritten in place, what nobody uses cut away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from symgraph.expr import Expr, apply, rebuild, substitute, toposort
from symgraph.leaves import Constant, Param
from symgraph.op import Op
from symgraph.ops.branch import Cond
from symgraph.ops.loop import Scan
from symgraph.ops.tuple import Get
from symgraph.region import Region

Rewrite = Callable[[Sequence[Expr]], list[Expr]]


class Inside:
    """Rewrites the regions of ops, each once; `rewrite` meets nested ones first."""

    def __init__(self, rewrite: Rewrite):
        self.rewrite = rewrite
        self._done: dict[Region, Region] = {}

    def __call__(self, op: Op) -> Op:
        """The op with rewritten regions; the op itself if nothing changed."""
        if not isinstance(op, (Scan, Cond)):
            return op
        values = [self._region(v) if isinstance(v, Region) else v for v in op._values]
        return op if all(a is b for a, b in zip(values, op._values)) else type(op)(*values)

    def _region(self, region: Region) -> Region:
        if region not in self._done:
            results = self.rewrite(region.results)
            same = all(a is b for a, b in zip(results, region.results))
            new = region if same else Region(region.params, results)
            self._done[region] = self._done[new] = new
        return self._done[region]


def slim(outputs: Sequence[Expr]) -> list[Expr]:
    """The outputs, their loops and branches without unused results, states and operands."""
    order = toposort(outputs)
    used: dict[int, set[int]] = {}
    for node in order:
        if isinstance(node.op, Get):
            used.setdefault(id(node.inputs[0]), set()).add(node.op.index)
    done: dict[int, Expr] = {}
    slimmed: dict[int, dict[int, Expr]] = {}
    for node in order:
        inputs = [done[id(x)] for x in node.inputs]
        if isinstance(node.op, Get) and id(node.inputs[0]) in slimmed:
            done[id(node)] = slimmed[id(node.inputs[0])][node.op.index]
            continue
        new = rebuild(node, inputs)
        new.name = new.name or node.name
        done[id(node)] = new
        if isinstance(node.op, (Scan, Cond)):
            slimmed[id(node)] = _slim(new, sorted(used.get(id(node), ())))
    return [done[id(x)] for x in outputs]


def _slim(node: Expr, used: list[int]) -> dict[int, Expr]:
    """Each used output of a loop or branch, by its number, from a smaller op if there is one."""
    shrink = _slim_scan if isinstance(node.op, Scan) else _slim_cond
    small, places = shrink(node, used)
    small.name = small.name or node.name
    return {i: apply(Get(places[i]), small, site=node.site) for i in used}


def _slim_cond(node: Expr, used: list[int]) -> tuple[Expr, dict[int, int]]:
    op: Any = node.op
    arms = [[region.results[i] for i in used] for region in (op.then, op.orelse)]
    predicate, *captures = node.inputs
    kept, arms = _operands(captures, arms, range(len(captures)), range(0))
    params = [captures[i].array_type for i in kept]
    if len(kept) == len(captures) and len(used) == len(op.then.results):
        return node, {i: i for i in used}
    new = Cond(*(Region(params, results) for results in arms))
    return apply(new, predicate, *(captures[i] for i in kept), site=node.site), {
        i: at for at, i in enumerate(used)
    }


def _slim_scan(node: Expr, used: list[int]) -> tuple[Expr, dict[int, int]]:
    op: Any = node.op
    states, outputs = _alive(op, used)
    results = [op.region.results[i] for i in (*states, *(op.states + j for j in outputs))]
    places = {i: i for i in used}
    inputs = list(node.inputs)
    fixed = [op.sequences + s for s in states]
    captures = range(op.sequences + op.states, len(inputs))
    kept, (results,) = _operands(inputs, [results], captures, range(op.sequences), fixed)
    if len(kept) == len(inputs) and len(outputs) == op.outputs:
        return node, places
    region = Region([op.region.params[i] for i in kept], results)
    sequences = sum(i < op.sequences for i in kept)
    new = Scan(region, op.n_steps, sequences, len(states), len(outputs), op.reverse, op.truncate)
    small = apply(new, *(inputs[i] for i in kept), site=node.site)
    k, o = len(states), len(outputs)
    numbers = [
        *states,
        *(op.states + j for j in outputs),
        *(op.states + op.outputs + s for s in states),
    ]
    assert len(numbers) == 2 * k + o
    return small, {i: at for at, i in enumerate(numbers)}


def _alive(op: Scan, used: Iterable[int]) -> tuple[list[int], list[int]]:
    """The states and the outputs of a loop that a used output depends on."""
    k, o = op.states, op.outputs
    outputs = sorted(i - k for i in used if k <= i < k + o)
    states = {i if i < k else i - k - o for i in used if i < k or i >= k + o}
    while True:
        roots = [op.region.results[i] for i in (*states, *(k + j for j in outputs))]
        needed = {i - op.sequences for i in _params(roots)}
        more = {s for s in needed if 0 <= s < k} - states
        if not more:
            return sorted(states), outputs
        states |= more


def _params(results: Iterable[Expr]) -> set[int]:
    return {x.op.index for x in toposort(results) if isinstance(x.op, Param)}


def _operands(
    inputs: Sequence[Expr],
    bodies: list[list[Expr]],
    captures: Iterable[int],
    sequences: Iterable[int],
    states: Sequence[int] = (),
) -> tuple[list[int], list[list[Expr]]]:
    """Which operands stay, and the bodies over their new numbers.

    States that are given stay; a sequence or capture stays if a body uses it, once if it comes
    twice; a small constant that is captured moves into the bodies.
    """
    needed = set().union(*map(_params, bodies))
    first: dict[tuple[bool, int], int] = {}
    stands_for: dict[int, int] = {s: s for s in states}
    inlined: dict[int, Expr] = {}
    for is_capture, group in ((False, sequences), (True, captures)):
        for i in group:
            if i in needed:
                if is_capture and _is_scalar(inputs[i].op):
                    inlined[i] = inputs[i]
                else:
                    stands_for[i] = first.setdefault((is_capture, id(inputs[i])), i)
    kept = sorted(set(stands_for.values()))
    number = {i: at for at, i in enumerate(kept)}
    return kept, [_renumbered(body, stands_for, number, inlined) for body in bodies]


def _is_scalar(op: Op) -> bool:
    return isinstance(op, Constant) and op.value.size == 1


def _renumbered(
    body: list[Expr], stands_for: dict[int, int], number: dict[int, int], inlined: dict[int, Expr]
) -> list[Expr]:
    params = [x for x in toposort(body) if isinstance(x.op, Param)]
    pairs = []
    for x in params:
        i = x.op.index  # type: ignore[attr-defined]
        new = inlined[i] if i in inlined else apply(Param(x.array_type, number[stands_for[i]]))
        pairs.append((x, new))
    return substitute(body, pairs)
