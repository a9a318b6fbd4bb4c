"""Finding rules: left sides compiled to steps, indexed by the root's op and its operands' ops.

Commutativity is spent beforehand: a rule has one matcher for each order of the operands of its
commutative ops, and a matcher never backtracks. Which matchers can fit is decided once for each
combination of a root's op with its operands' ops and then remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from symgraph.arraytype import Array
from symgraph.expr import Expr
from symgraph.op import Op
from symgraph.ops.define import Elementwise

from .constants import number, scalar_constant
from .pattern import Const, Key, Node, Number, Operator, Pattern, Wild, key_of, variants
from .rule import Rule

ConstantOf = Callable[[Expr], "Expr | None"]


class Matcher:
    """One order of a rule's left side."""

    __slots__ = ("pattern", "root", "heads", "ops", "leaves")

    def __init__(self, pattern: Node):
        self.pattern = pattern
        self.root = _keys(pattern)
        self.heads = [_keys(a) if isinstance(a, Node) else type(a) for a in pattern.args]
        self.ops, self.leaves = _compile(pattern)

    def match(self, node: Expr, constant_of: ConstantOf) -> dict[str, Any] | None:
        """What the variables are if the node matches; None otherwise."""
        registers = [node]
        found: dict[str, Any] = {}
        for register, keys, name, arity in self.ops:
            x = registers[register]
            if not _fits(x.op, keys):
                return None
            if name is not None:
                found[name] = x.op
            if arity:
                if len(x.inputs) != arity:
                    return None
                registers.extend(x.inputs)
        for register, leaf in self.leaves:
            if not _bind(leaf, registers[register], found, constant_of):
                return None
        return found


def _bind(leaf: Pattern, x: Expr, found: dict[str, Any], constant_of: ConstantOf) -> bool:
    """Whether a variable or number stands for this node; variables are put into `found`."""
    if isinstance(leaf, Wild):
        fits = type(x.type) is Array and x.type.dtype.kind in leaf.kinds
        return fits and found.setdefault(leaf.name, x) is x
    value = constant_of(x)
    if value is None:
        return False
    if isinstance(leaf, Const):
        return value.dtype.kind in leaf.kinds and found.setdefault(leaf.name, value) is value
    assert isinstance(leaf, Number)
    return same_number(value, leaf.value)


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


# register, what its op may be, the op's variable, how many operands (0: any, and none is looked at)
OpStep = tuple[int, frozenset[Key], "str | None", int]
LeafStep = tuple[int, Pattern]  # register, what it must be


def _compile(pattern: Node) -> tuple[list[OpStep], list[LeafStep]]:
    """Steps over registers, ops before leaves; the root is register 0, ops append operands."""
    ops: list[OpStep] = []
    leaves: list[LeafStep] = []
    queue: list[tuple[Pattern, int]] = [(pattern, 0)]
    free = 1
    for p, register in queue:  # grows while it is read: breadth first
        if isinstance(p, Node):
            name = p.head.name if isinstance(p.head, Operator) else None
            ops.append((register, _keys(p), name, len(p.args)))
            queue.extend((a, free + i) for i, a in enumerate(p.args))
            free += len(p.args)
        else:
            leaves.append((register, p))
    return ops, leaves


def matchers(rule: Rule) -> list[Matcher]:
    """One matcher for each order of operands, made when the rule's root is first seen."""
    if rule.matchers is None:
        rule.matchers = [Matcher(p) for p in variants(rule.lhs) if isinstance(p, Node)]
    return rule.matchers


def find(pattern: Node, node: Expr) -> dict[str, Any] | None:
    """What the variables of a pattern are at a node, its operands in any order; None if it differs.

    For rules that look further than their left side says.
    """
    for variant in variants(pattern):
        assert isinstance(variant, Node)
        found = Matcher(variant).match(node, scalar_constant)
        if found is not None:
            return found
    return None


class Index:
    """Matchers of a set of rules; `candidates` of a node come in the rules' order."""

    def __init__(self, rules: Iterable[Rule]):
        self.rules = list(rules)
        self._by_root: dict[Key, list[tuple[int, Rule]]] = {}
        self._remembered: dict[Any, list[tuple[Rule, Matcher]]] = {}
        for order, rule in enumerate(self.rules):
            for key in _keys(rule.lhs):
                self._by_root.setdefault(key, []).append((order, rule))

    def candidates(self, signature: tuple[Any, ...]) -> list[tuple[Rule, Matcher]]:
        """What fits a signature: (root's key, (operand's key, whether it is constant), ...)."""
        found = self._remembered.get(signature)
        if found is None:
            found = self._remembered[signature] = self._select(signature)
        return found

    def _select(self, signature: tuple[Any, ...]) -> list[tuple[Rule, Matcher]]:
        root, *operands = signature
        rooted = [entry for name in _names(root) for entry in self._by_root.get(name, ())]
        rooted.sort(key=lambda entry: entry[0])
        return [(r, m) for _, r in rooted for m in matchers(r) if _may_match(m, operands)]


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
