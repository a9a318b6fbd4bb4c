"""A rule: an equation between expressions over pattern variables, its grade and its condition.

    rule(x * 1, x)
    rule(log(1 + exp(x)), softplus(x), grade="stabler")
    rule(x / c, lambda x, c: x * (1 / c), when=power_of_two)
    rule(outer(inner(x)), lambda x, outer, inner: ..., name="transpose(transpose(x))")

The right side is a template over the same variables, or a function of them by name which returns
an expression, or None to decline. `when` is a function of variables by name. Beside the variables
both may ask for `node` (the matched root) and `match` (the Match).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from symgraph.expr import Expr
from symgraph.leaves import constant

from .cost import Cost
from .pattern import Const, Node, Operator, Pattern, Wild, build, text

GRADES = ("exact", "stabler", "rounds")


class Rule:
    """One equation. Hashable by identity; `name` is the equation's text unless given."""

    __slots__ = (
        "lhs",
        "rhs",
        "grade",
        "when",
        "_name",
        "line",
        "family",
        "topic",
        "matchers",
        "_takes",
        "_asks",
    )

    def __init__(
        self,
        lhs: Node,
        rhs: Any,
        grade: str,
        when: Callable[..., bool] | None,
        name: str | None,
        line: int,
    ):
        self.lhs = lhs
        self.rhs = rhs
        self.grade = grade
        self.when = when
        self._name = name
        self.line = line
        self.family = self.topic = ""
        self.matchers: list[Any] | None = None  # compiled left sides, once they are needed
        self._takes = _parameters(rhs) if not isinstance(rhs, Pattern) and callable(rhs) else None
        self._asks = _parameters(when) if when is not None else ()

    @property
    def name(self) -> str:
        if self._name is None:
            right = text(self.rhs) if isinstance(self.rhs, Pattern) else str(self.rhs)
            self._name = f"{text(self.lhs)} -> {right}"
        return self._name

    @property
    def place(self) -> str:
        """`optim/rules/algebra.py:31`"""
        return f"optim/rules/{self.topic}.py:{self.line}"

    def __repr__(self) -> str:
        return f"<rule {self.name}>"

    def allowed(self, match: Match) -> bool:
        """Whether the condition holds."""
        return self.when is None or bool(self.when(*map(match.get, self._asks)))

    def right_side(self, match: Match) -> Expr | None:
        """The right side for a match, before its shape is fitted."""
        if self._takes is not None:
            result = self.rhs(*map(match.get, self._takes))
        elif isinstance(self.rhs, Pattern):
            result = build(self.rhs, match.found)
        else:
            result = self.rhs
        if result is None or isinstance(result, Expr):
            return result
        return constant(result, match.node.dtype)


def _parameters(function: Any) -> tuple[str, ...]:
    code = function.__code__
    return code.co_varnames[: code.co_argcount]


def rule(
    lhs: Any,
    rhs: Any,
    *,
    grade: str = "exact",
    when: Callable[..., bool] | None = None,
    name: str | None = None,
) -> Rule:
    """An equation lhs -> rhs.

    grade: what it promises of floats: "exact" (bitwise), "stabler" (error never larger), "rounds"
    (rounding may differ). when: a condition on the variables.   name: needed if rhs is a
    function.
    """
    if grade not in GRADES:
        raise ValueError(f"rule {name or lhs}: grade {grade!r}: one of {', '.join(GRADES)}")
    if not isinstance(lhs, Node):
        raise TypeError(f"rule {name or lhs}: the left side must be an op")
    if name is None and callable(rhs) and not isinstance(rhs, Pattern):
        raise TypeError(f"rule {lhs}: a right side that is a function needs a name")
    return Rule(lhs, rhs, grade, when, name, sys._getframe(1).f_lineno)


class Rules:
    """The rules of one topic, in order: the first that fires wins. Topics form families."""

    def __init__(self, topic: str, family: str, *rules: Rule):
        self.topic = topic
        self.family = family
        self.rules = rules
        for r in rules:
            r.topic, r.family = topic, family

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)


class Context(NamedTuple):
    """What a match may know of the whole graph."""

    users: Mapping[int, int]  # by id, of the graph as the pass found it
    cost: Cost


class Match:
    """A rule's left side found at a node: `found` binds variables to expressions and ops."""

    __slots__ = ("rule", "pattern", "node", "found", "context", "saw_sharing", "_result")

    def __init__(
        self, rule: Rule, pattern: Pattern, node: Expr, found: dict[str, Any], context: Context
    ):
        self.rule = rule
        self.pattern = pattern  # the left side with operands in the order that matched
        self.node = node
        self.found = found
        self.context = context
        self.saw_sharing = False  # whether the rule was told of a node with several users
        self._result: Any = self

    @property
    def cost(self) -> Cost:
        return self.context.cost

    def get(self, name: str) -> Any:
        """A variable's value, or `node`, or `match`."""
        if name == "node":
            return self.node
        return self if name == "match" else self.found[name]

    def result(self) -> Expr | None:
        """The right side, made once."""
        if self._result is self:
            self._result = self.rule.right_side(self)
        return self._result

    def users(self, x: Expr) -> int:
        """How many nodes and outputs use x; 1 if a rule has just made it."""
        count = self.context.users.get(id(x), 1)
        self.saw_sharing |= count > 1
        return count

    def inner(self) -> list[Expr]:
        """The matched nodes below the root, each once."""
        seen: dict[int, Expr] = {}
        stack: list[tuple[Pattern, Expr]] = [(self.pattern, self.node)]
        while stack:
            pattern, x = stack.pop()
            if isinstance(pattern, Node):
                seen[id(x)] = x
                stack.extend(zip(pattern.args, x.inputs))
        del seen[id(self.node)]
        return list(seen.values())

    def made(self, result: Expr) -> list[Expr]:
        """The nodes of the right side that are neither bound nor in the graph already."""
        known = {id(x) for x in self.found.values()}
        new: dict[int, Expr] = {}
        stack = [result]
        while stack:
            x = stack.pop()
            if not (id(x) in known or id(x) in new or id(x) in self.context.users):
                new[id(x)] = x
                stack.extend(x.inputs)
        return list(new.values())


def variables(pattern: Node) -> Sequence[Wild | Const | Operator]:
    """The variables of a left side, each once, in order."""
    found: dict[str, Wild | Const | Operator] = {}
    stack: list[Any] = [pattern]
    while stack:
        p = stack.pop()
        if isinstance(p, Node):
            if isinstance(p.head, Operator):
                found.setdefault(p.head.name, p.head)
            stack.extend(reversed(p.args))
        elif isinstance(p, (Wild, Const)):
            found.setdefault(p.name, p)
    return list(found.values())
