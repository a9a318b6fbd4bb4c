"""The engine: every node of a graph is brought to a form in which no rule fires.

Nodes are visited operands first. A node whose operands are finished is rebuilt on them, then the
rules that fit it are tried in order; what a rule makes is finished in the same way, so that a
fixpoint is reached in one visit of each node. An explicit stack replaces recursion, finished
nodes are remembered by identity, and the number of firings is bounded: the time is linear in the
graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from symgraph.arraytype import Array
from symgraph.dims import known_equal
from symgraph.errors import DTypeError, ShapeError, VerifyError
from symgraph.expr import Expr, apply, at_site, toposort
from symgraph.leaves import Constant
from symgraph.op import Op
from symgraph.ops.define import Cast
from symgraph.ops.movement import BroadcastTo, Reshape

from .constants import scalar_constant
from .cost import GENERIC, Cost
from .journal import Firing, Journal
from .match import Index
from .pattern import key_of
from .rule import Context, Match, Rule

FIRINGS_PER_NODE = 30  # a bound that no terminating set of rules comes near
_CONSTANT_LIKE = (Constant, BroadcastTo, Reshape, Cast)
Inside = Callable[[Op], Op]


class Rewriter:
    """One pass of one set of rules over one graph.

    inside: rewrites the regions in an op (loops, branches). strict: a right side of another type
    is a VerifyError, not a reason to decline.
    """

    def __init__(
        self,
        index: Index,
        journal: Journal,
        cost: Cost = GENERIC,
        inside: Inside | None = None,
        strict: bool = False,
    ):
        self.strict = strict
        self.index = index
        self.journal = journal
        self.cost = cost
        self.inside = inside
        self.shared = (
            False  # whether a rule declined because of other users: another pass may find it free
        )
        self._left = 0
        self._done: dict[int, Expr] = {}
        self._pending: dict[int, Expr] = {}
        self._kept: list[Expr] = []  # ids stay valid
        self._constants: dict[int, Expr | None] = {}
        self._context = Context({}, cost)

    def run(self, outputs: Sequence[Expr]) -> list[Expr]:
        """The outputs in finished form."""
        users = count_users(outputs)
        self._context = Context(users, self.cost)
        self._left = FIRINGS_PER_NODE * len(users) + 100
        return [self._finish(x) for x in outputs]

    def once(self, node: Expr) -> Expr | None:
        """What the first rule that fires at this node makes of it, operands as they are."""
        self._context = Context(count_users([node]), self.cost)
        self._left = 1
        return self._fire(node)

    def _finish(self, output: Expr) -> Expr:
        done, pending = self._done, self._pending
        stack = [output]
        while stack:
            node = stack[-1]
            me = id(node)
            if me in done:
                stack.pop()
                continue
            target = pending.get(me)
            if target is not None:  # what it became is finished by now
                stack.pop()
                done[me] = done.get(id(target), target)
                continue
            waiting = [x for x in node.inputs if id(x) not in done and id(x) not in pending]
            if waiting:
                stack.extend(reversed(waiting))
                continue
            self._kept.append(node)
            new = self._step(node)
            if new is node:
                stack.pop()
                done[me] = node
            else:
                pending[me] = new
                stack.append(new)
        return done[id(output)]

    def _step(self, node: Expr) -> Expr:
        """The node on its finished operands, or what a rule makes of it; itself if finished."""
        inputs = [self._done.get(id(x), x) for x in node.inputs]
        op = self.inside(node.op) if self.inside is not None else node.op
        if op is not node.op or any(a is not b for a, b in zip(node.inputs, inputs)):
            new = apply(op, *inputs, site=node.site)
            new.name = new.name or node.name
            self._inherit(node, new)
            return new
        fired = self._fire(node) if node.inputs else None
        return node if fired is None else fired

    def _inherit(self, node: Expr, new: Expr) -> None:
        users = self._context.users
        users[id(new)] = max(users.get(id(new), 0), users.get(id(node), 1))  # type: ignore[index]
        self._kept.append(new)

    def _fire(self, node: Expr) -> Expr | None:
        if not self.journal.open:
            return None
        for rule, matcher in self.index.candidates(self._signature(node)):
            found = matcher.match(node, self.constant_of)
            if found is None:
                continue
            match = Match(rule, matcher.pattern, node, found, self._context)
            new = self._apply(match)
            if new is None:
                self.shared |= match.saw_sharing
            elif self._permitted():
                if id(new) not in self._context.users:
                    new.name = new.name or node.name
                self._inherit(node, new)
                self._record(rule, node, new)
                return new
        return None

    def _apply(self, match: Match) -> Expr | None:
        """What the rule makes of the node, of the node's type; None if it does not apply."""
        with at_site(match.node.site):
            try:
                if not match.rule.allowed(match):
                    return None
                result = match.result()
                new = None if result is None else fitted(result, match.node)
            except (DTypeError, ShapeError):  # the right side has no meaning for these types
                return None
        if self.strict and result is not None and new is None:
            raise VerifyError(
                f"rule {match.rule.name!r} ({match.rule.place}): "
                f"{match.node.type} became {result.type}"
            )
        in_progress = (
            new is None
            or new is match.node
            or id(new) in self._pending
            and id(new) not in self._done
        )
        return None if in_progress else new

    def _permitted(self) -> bool:
        self._left -= 1
        if self._left < 0:
            self.journal.exhausted = True
        return self._left >= 0

    def _record(self, rule: Rule, node: Expr, new: Expr) -> None:
        self.journal.add(Firing(rule.name, rule.family, node.op, new.op, node.type, node.site))

    def _signature(self, node: Expr) -> tuple[Any, ...]:
        return (
            key_of(node.op),
            *[
                (key_of(x.op), isinstance(x.op, _CONSTANT_LIKE) and self.constant_of(x) is not None)
                for x in node.inputs
            ],
        )

    def constant_of(self, x: Expr) -> Expr | None:
        """scalar_constant(x), remembered."""
        key = id(x)
        if key not in self._constants:
            self._constants[key] = scalar_constant(x)
            self._kept.append(x)
        return self._constants[key]


def fitted(new: Expr, node: Expr) -> Expr | None:
    """`new` broadcast to the shape of `node`; None if dtypes differ or it may not fit."""
    if new.type == node.type:
        return new
    if (
        not isinstance(new.type, Array)
        or not isinstance(node.type, Array)
        or new.dtype is not node.dtype
    ):
        return None
    have, want = new.type.shape, node.type.shape
    offset = len(want) - len(have)
    if offset < 0 or any(
        s != 1 and known_equal(s, t) is not True for s, t in zip(have, want[offset:])
    ):
        return None
    return apply(BroadcastTo(want), new)


def count_users(outputs: Sequence[Expr]) -> dict[int, int]:
    """How many operands and outputs each node is, by id."""
    users: dict[int, int] = {}
    for node in toposort(outputs):
        users.setdefault(id(node), 0)
        for x in node.inputs:
            users[id(x)] += 1
    for node in outputs:
        users[id(node)] += 1
    return users
