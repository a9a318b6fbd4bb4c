"""Patterns: untyped trees built with the language's own operators and functions.

    x, y = wild("x y")                    any real expression
    i, j = wild("i j", kinds="iu")        integers only
    c = const("c")                        a scalar constant, also seen through broadcast and reshape
    outer = operator("outer", Transpose)  any op of some classes, or elementwise ops by name

`x * 1`, `log(sigmoid(x))` (functions from `words`), `outer(inner(x))` are patterns. The same
trees are templates for right-hand sides: `build` makes expressions of them with the public
constructors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from symgraph.expr import Expr, apply
from symgraph.op import Op
from symgraph.ops.define import REGISTRY, Elementwise, call

REAL = "biuf"
COMMUTATIVE = frozenset(
    "add mul maximum minimum fmax fmin eq neq logical_and logical_or logical_xor "
    "bitwise_and bitwise_or bitwise_xor logaddexp logaddexp2 hypot".split()
)
Key: TypeAlias = "str | type"  # an elementwise op's name, or any other op's class


class Pattern:
    """A tree over pattern variables. Operators make larger ones."""

    __slots__ = ()

    def __add__(self, other: Any) -> Pattern:
        return Node("add", (self, other))

    def __radd__(self, other: Any) -> Pattern:
        return Node("add", (other, self))

    def __sub__(self, other: Any) -> Pattern:
        return Node("sub", (self, other))

    def __rsub__(self, other: Any) -> Pattern:
        return Node("sub", (other, self))

    def __mul__(self, other: Any) -> Pattern:
        return Node("mul", (self, other))

    def __rmul__(self, other: Any) -> Pattern:
        return Node("mul", (other, self))

    def __truediv__(self, other: Any) -> Pattern:
        return Node("true_div", (self, other))

    def __rtruediv__(self, other: Any) -> Pattern:
        return Node("true_div", (other, self))

    def __floordiv__(self, other: Any) -> Pattern:
        return Node("floor_divide", (self, other))

    def __mod__(self, other: Any) -> Pattern:
        return Node("mod", (self, other))

    def __pow__(self, other: Any) -> Pattern:
        return Node("pow", (self, other))

    def __rpow__(self, other: Any) -> Pattern:
        return Node("pow", (other, self))

    def __and__(self, other: Any) -> Pattern:
        return Node("bitwise_and", (self, other))

    def __or__(self, other: Any) -> Pattern:
        return Node("bitwise_or", (self, other))

    def __xor__(self, other: Any) -> Pattern:
        return Node("bitwise_xor", (self, other))

    def __lshift__(self, other: Any) -> Pattern:
        return Node("left_shift", (self, other))

    def __rshift__(self, other: Any) -> Pattern:
        return Node("right_shift", (self, other))

    def __neg__(self) -> Pattern:
        return Node("neg", (self,))

    def __invert__(self) -> Pattern:
        return Node("invert", (self,))

    def __lt__(self, other: Any) -> Pattern:
        return Node("lt", (self, other))

    def __le__(self, other: Any) -> Pattern:
        return Node("le", (self, other))

    def __gt__(self, other: Any) -> Pattern:
        return Node("gt", (self, other))

    def __ge__(self, other: Any) -> Pattern:
        return Node("ge", (self, other))

    def __repr__(self) -> str:
        return text(self)


class Wild(Pattern):
    """Any expression whose dtype is of one of `kinds`; the same variable twice is the same node."""

    __slots__ = ("name", "kinds")

    def __init__(self, name: str, kinds: str):
        self.name = name
        self.kinds = kinds


class Const(Pattern):
    """A constant with one value everywhere, bound to a 0-d constant."""

    __slots__ = ("name", "kinds")

    def __init__(self, name: str, kinds: str):
        self.name = name
        self.kinds = kinds


class Number(Pattern):
    """A constant of this very value, the sign of zero included."""

    __slots__ = ("value",)

    def __init__(self, value: bool | int | float):
        self.value = value


class Node(Pattern):
    """An op applied to patterns; `head` is an elementwise op's name or an Operator.

    needs: without args, a key that the op of one operand at least must have.
    """

    __slots__ = ("head", "args", "needs")

    def __init__(self, head: str | Operator, args: tuple[Any, ...], needs: Key | None = None):
        self.head = head
        self.needs = needs
        self.args: tuple[Pattern, ...] = tuple(
            a if isinstance(a, Pattern) else Number(a) for a in args
        )


class Operator:
    """Any op of some classes or elementwise names, bound by name; call it to make a pattern.

    Called without operands it matches whatever the operands are.
    """

    __slots__ = ("name", "keys")

    def __init__(self, name: str, keys: tuple[Key, ...]):
        self.name = name
        self.keys = keys

    def __call__(self, *args: Any) -> Node:
        return Node(self, args)

    def over(self, key: Key) -> Node:
        """The op on any operands, one of which at least is an op of this key."""
        return Node(self, (), key)


def wild(names: str, kinds: str = REAL) -> Any:
    """Variables for expressions of the dtype kinds (letters of dtypes.KINDS); one or a list."""
    return _each(names, lambda name: Wild(name, kinds))


def const(names: str, kinds: str = REAL) -> Any:
    """Variables for scalar constants."""
    return _each(names, lambda name: Const(name, kinds))


def operator(names: str, *keys: Key) -> Any:
    """Variables for ops of the given classes, or elementwise ops of the given names."""
    return _each(names, lambda name: Operator(name, keys))


def _each(names: str, make: Callable[[str], Any]) -> Any:
    made = [make(name) for name in names.split()]
    return made[0] if len(made) == 1 else made


def variants(pattern: Pattern) -> list[Pattern]:
    """The pattern with the operands of its commutative ops in every order, each once."""
    if not isinstance(pattern, Node):
        return [pattern]
    choices: list[tuple[Pattern, ...]] = [()]
    for arg in pattern.args:
        choices = [(*chosen, v) for chosen in choices for v in variants(arg)]
    if pattern.head in COMMUTATIVE and not _interchangeable(*pattern.args):
        choices += [(b, a) for a, b in choices]
    found = {text(n): n for n in (Node(pattern.head, args, pattern.needs) for args in choices)}
    return list(found.values())


def _interchangeable(a: Pattern, b: Pattern) -> bool:
    return isinstance(a, Wild) and a is b


def nodes(pattern: Pattern) -> Iterator[Pattern]:
    """Every part of the pattern, the whole first."""
    yield pattern
    if isinstance(pattern, Node):
        for arg in pattern.args:
            yield from nodes(arg)


def build(template: Pattern, found: Mapping[str, Any]) -> Any:
    """The expression a template stands for; a number by itself stays a Python number."""
    if isinstance(template, (Wild, Const)):
        return found[template.name]
    if isinstance(template, Number):
        return template.value
    assert isinstance(template, Node)
    args = [build(arg, found) for arg in template.args]
    if isinstance(template.head, str):
        return call(REGISTRY[template.head], args)
    return apply(found[template.head.name], *args)


# -------------------------------------------------------------------------------------------- words


def word(name: str) -> Callable[..., Any]:
    """The elementwise function of this name, for patterns and for expressions."""
    op = REGISTRY[name]

    def function(*args: Any) -> Any:
        if any(isinstance(a, Pattern) for a in args):
            return Node(name, args)
        return call(op, args)

    function.__name__ = name
    return function


# --------------------------------------------------------------------------------------------- text

_INFIX = {
    name: (sign, level)
    for level, signs in {
        0: "lt < le <= gt > ge >= eq == neq !=",
        1: "bitwise_or |",
        2: "bitwise_xor ^",
        3: "bitwise_and &",
        4: "left_shift << right_shift >>",
        5: "add + sub -",
        6: "mul * true_div / floor_divide // mod %",
        8: "pow **",
    }.items()
    for name, sign in zip(signs.split()[::2], signs.split()[1::2])
}
_PREFIX = {"neg": "-", "invert": "~"}


def text(pattern: Pattern, above: int = -1) -> str:
    """The pattern as it is written."""
    if isinstance(pattern, (Wild, Const)):
        return pattern.name
    if isinstance(pattern, Number):
        return repr(pattern.value) if above < 6 or pattern.value >= 0 else f"({pattern.value!r})"
    assert isinstance(pattern, Node)
    head = pattern.head if isinstance(pattern.head, str) else pattern.head.name
    if head in _INFIX and len(pattern.args) == 2:
        sign, level = _INFIX[head]
        left, right = (text(a, level + side) for side, a in enumerate(pattern.args))
        whole = f"{left} {sign} {right}"
        return f"({whole})" if level < above else whole
    if head in _PREFIX:
        whole = _PREFIX[head] + text(pattern.args[0], 7)
        return f"({whole})" if above > 6 else whole
    return f"{head}({', '.join(map(text, pattern.args))})"


def key_of(op: Op) -> Key:
    """What rules are indexed by: the name of an elementwise op, the class of any other."""
    return op.name if type(op) is Elementwise else type(op)


__all__ = [
    "Const",
    "Expr",
    "Node",
    "Number",
    "Operator",
    "Pattern",
    "Wild",
    "build",
    "const",
    "operator",
    "wild",
]
