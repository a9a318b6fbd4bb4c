"""Finding rules: left sides compiled to steps, indexed by the root's op and its operands' ops.

Commutativity is spent beforehand: a rule has one matcher for each order of the operands of its commutative ops, and a
matcher never backtracks. Which matchers can fit is decided once for each combination of a root's op with its
operands' ops and then remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from symgraph.arraytype import Array
from symgraph.expr import Expr
from symgraph.op import Op
from symgraph.ops.define import Elementwise

from .constants import number
from .pattern import Const, Key, Node, Number, Operator, Pattern, Wild, key_of, variants
from .rule import Rule

ConstantOf = Callable[[Expr], "Expr | None"]
_OP, _WILD, _CONST, _NUMBER = range(4)


class Matcher:
    """One order of a rule's left side."""

    __slots__ = ("rule", "pattern", "root", "heads", "steps")

    def __init__(self, rule: Rule, pattern: Node):
        self.rule = rule
        self.pattern = pattern
        self.root = _keys(pattern)
        self.heads = [_keys(a) if isinstance(a, Node) else type(a) for a in pattern.args]
        self.steps = _compile(pattern)

    def match(self, node: Expr, constant_of: ConstantOf) -> dict[str, Any] | None:
        """What the variables are if the node matches; None otherwise."""
        registers = [node]
        found: dict[str, Any] = {}
        for code, register, a, b in self.steps:
            x = registers[register]
            if code == _OP:
                if not _fits(x.op, a):
                    return None
                if b is not None:
                    found[b] = x.op
                registers.extend(x.inputs)
            elif code == _WILD:
                if type(x.type) is not Array or x.type.dtype.kind not in b:
                    return None
                if found.setdefault(a, x) is not x:
                    return None
            else:
                value = constant_of(x)
                if value is None:
                    return None
                if code == _CONST:
                    if value.dtype.kind not in b or found.setdefault(a, value) is not value:
                        return None
                elif not same_number(value, a):
                    return None
        return found


def _fits(op: Op, keys: frozenset[Key]) -> bool:
    return not keys.isdisjoint(_names(key_of(op)))


def _names(key: Key) -> tuple[Key, ...]:
    """The keys under which rules may ask for an op of this key."""
    return (key, Elementwise, Op) if isinstance(key, str) else (key, Op)


def same_number(x: Expr, value: bool | int | float) -> bool:
    """Whether a scalar constant is this number; +0 and -0 differ."""
    mine = number(x)
    if isinstance(mine, complex) or mine != value:
        return False
    return mine != 0 or x.dtype.kind != "f" or str(float(mine)) == str(float(value))


def _keys(pattern: Node) -> frozenset[Key]:
    return frozenset(pattern.head.keys if isinstance(pattern.head, Operator) else (pattern.head,))


def _compile(pattern: Node) -> list[tuple[int, int, Any, Any]]:
    """Steps over registers, ops before leaves; register 0 is the root, an op's step appends its operands."""
    ops: list[tuple[int, int, Any, Any]] = []
    leaves: list[tuple[int, int, Any, Any]] = []
    queue: list[tuple[Pattern, int]] = [(pattern, 0)]
    free = 1
    for p, register in queue:  # grows while it is read: breadth first
        if isinstance(p, Node):
            name = p.head.name if isinstance(p.head, Operator) else None
            ops.append((_OP, register, _keys(p), name))
            queue.extend((a, free + i) for i, a in enumerate(p.args))
            free += len(p.args)
        elif isinstance(p, Wild):
            leaves.append((_WILD, register, p.name, p.kinds))
        elif isinstance(p, Const):
            leaves.append((_CONST, register, p.name, p.kinds))
        elif isinstance(p, Number):
            leaves.append((_NUMBER, register, p.value, None))
    return ops + leaves


def matchers(rule: Rule) -> list[Matcher]:
    """One matcher for each order of operands, made when the rule's root is first seen."""
    if rule.matchers is None:
        rule.matchers = [Matcher(rule, p) for p in variants(rule.lhs) if isinstance(p, Node)]
    return rule.matchers


class Index:
    """Matchers of a set of rules; `candidates` of a node come in the rules' order."""

    def __init__(self, rules: Iterable[Rule]):
        self.rules = list(rules)
        self._by_root: dict[Key, list[tuple[int, Rule]]] = {}
        self._remembered: dict[Any, list[Matcher]] = {}
        for order, rule in enumerate(self.rules):
            for key in _keys(rule.lhs):
                self._by_root.setdefault(key, []).append((order, rule))

    def candidates(self, signature: tuple[Any, ...]) -> list[Matcher]:
        """The matchers whose root and operands fit a signature: (root's key, (operand's key, is constant), ...)."""
        found = self._remembered.get(signature)
        if found is None:
            found = self._remembered[signature] = self._select(signature)
        return found

    def _select(self, signature: tuple[Any, ...]) -> list[Matcher]:
        root, *operands = signature
        rooted = [entry for name in _names(root) for entry in self._by_root.get(name, ())]
        rooted.sort(key=lambda entry: entry[0])
        return [m for _, rule in rooted for m in matchers(rule) if _may_match(m, operands)]


def _may_match(matcher: Matcher, operands: list[tuple[Key, bool]]) -> bool:
    if not matcher.heads:
        needs = matcher.pattern.needs
        return needs is None or any(
            _head_fits(frozenset([needs]), *operand) for operand in operands
        )
    if len(matcher.heads) != len(operands):
        return False
    return all(_head_fits(head, *operand) for head, operand in zip(matcher.heads, operands))


def _head_fits(head: Any, key: Key, is_constant: bool) -> bool:
    if head is Wild:
        return True
    if head is Const or head is Number:
        return is_constant
    return not head.isdisjoint(_names(key))
