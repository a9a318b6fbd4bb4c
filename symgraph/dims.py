"""Sizes: integers or polynomials over named sizes, in a normal form.

The form decides most questions by comparison. A size is a Python `int` or a `Dim`. A Dim is a
polynomial with integer coefficients over atoms; an atom is a named size (`Size`), the value of an
integer input (`ValueOf`), or a function of sizes (`Fn`: floordiv, max, min) that the polynomial
form cannot express. Named sizes are >= 0; input values may have any sign. Equal polynomials are
equal sizes; what the form cannot decide is tried by cases and by samples, then left to SymPy
(`known_equal`, `known_le`), and what nobody can decide becomes a guard checked at call time.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from .errors import ShapeError, SizeError

MAX_SIZE = 2**62  # elements; products beyond cannot be addressed


class Size(NamedTuple):
    """A named size.

    `uid` is 0 for names the user chose (equal names are equal sizes), unique for anonymous ones.
    """

    name: str
    uid: int = 0

    def __str__(self) -> str:
        return self.name


class ValueOf(NamedTuple):
    """The run-time value of an integer scalar input; identity is `uid`."""

    name: str
    uid: int

    def __str__(self) -> str:
        return self.name


class Fn(NamedTuple):
    """floordiv, max or min of sizes."""

    fn: str
    args: tuple[SizeLike, ...]

    def __str__(self) -> str:
        if self.fn == "floordiv":
            return "//".join(_in_brackets(a) for a in self.args)
        return f"{self.fn}({', '.join(map(str, self.args))})"


Atom = Size | ValueOf | Fn
Monomial = tuple[Atom, ...]  # sorted, with repetition; () is the constant


class Dim:
    """A symbolic size: `terms` maps monomials to non-zero coefficients, in a fixed order."""

    __slots__ = ("terms", "_hash")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]):
        self.terms = terms
        self._hash = hash(terms)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Dim) and self._hash == other._hash and self.terms == other.terms
        )

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: SizeLike) -> SizeLike:
        return _sum((self, 1), (other, 1))

    __radd__ = __add__

    def __sub__(self, other: SizeLike) -> SizeLike:
        return _sum((self, 1), (other, -1))

    def __rsub__(self, other: SizeLike) -> SizeLike:
        return _sum((other, 1), (self, -1))

    def __neg__(self) -> SizeLike:
        return _sum((self, -1))

    def __mul__(self, other: SizeLike) -> SizeLike:
        result: dict[Monomial, int] = {}
        for (m, a), (n, b) in itertools.product(_terms(self), _terms(other)):
            key = tuple(sorted(m + n, key=_order)) if m and n else m or n
            result[key] = result.get(key, 0) + a * b
        return _normal(result)

    __rmul__ = __mul__

    def __floordiv__(self, other: SizeLike) -> SizeLike:
        return floordiv(self, other)

    def __rfloordiv__(self, other: SizeLike) -> SizeLike:
        return floordiv(other, self)

    def __mod__(self, other: SizeLike) -> SizeLike:
        return self - other * floordiv(self, other)

    def __bool__(self) -> bool:
        raise ShapeError(f"the size {self} is not known until the function is called")

    def __index__(self) -> int:
        raise ShapeError(
            f"the size {self} is symbolic: it has no value until the function is called",
            hint="declare the input with an integer there, or keep the size symbolic "
            "(x.shape[i] works in reshape, zeros, arange)",
        )

    def __str__(self) -> str:
        parts = []
        for monomial, k in self.terms:
            body = "*".join(map(str, monomial))
            if "//" in body and (len(monomial) > 1 or abs(k) != 1):
                body = "*".join(f"({a})" if "//" in str(a) else str(a) for a in monomial)
            text = str(abs(k)) if not body else body if abs(k) == 1 else f"{abs(k)}*{body}"
            parts.append((" - " if k < 0 else " + ") + text)
        text = "".join(parts)
        return text[3:] if text.startswith(" + ") else "-" + text[3:]

    def __repr__(self) -> str:
        return f"Dim({self})"


def _in_brackets(x: SizeLike) -> str:
    """A size as an operand of //."""
    return f"({x})" if isinstance(x, Dim) and (single_atom(x) is None or "//" in str(x)) else str(x)


SizeLike = int | Dim
Shape = tuple[SizeLike, ...]

_uid = itertools.count(1)


def next_uid() -> int:
    """A number nobody else has.

    Inputs and anonymous sizes draw from one counter, so that atoms never meet by chance.
    """
    return next(_uid)


def dim(name: str) -> Dim:
    """A named size: equal names are equal sizes."""
    return _atom(Size(name))


def fresh_dim(name: str) -> Dim:
    """An anonymous size that equals no other; `name` is for people."""
    return _atom(Size(name, next(_uid)))


def value_of(name: str, uid: int) -> Dim:
    """The size that an integer scalar input has as its value."""
    return _atom(ValueOf(name, uid))


def _atom(atom: Atom) -> Dim:
    return Dim((((atom,), 1),))


def _order(atom: Atom) -> str:
    return f"{type(atom).__name__}:{atom}:{atom.uid if not isinstance(atom, Fn) else ''}"


def _terms(x: SizeLike) -> Iterable[tuple[Monomial, int]]:
    return x.terms if isinstance(x, Dim) else (((), operator.index(x)),)


def _normal(terms: dict[Monomial, int]) -> SizeLike:
    kept = [(m, k) for m, k in terms.items() if k]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    kept.sort(key=lambda t: (-len(t[0]), [_order(a) for a in t[0]]))
    return Dim(tuple(kept))


def _sum(*parts: tuple[SizeLike, int]) -> SizeLike:
    result: dict[Monomial, int] = {}
    for x, sign in parts:
        for m, k in _terms(x):
            result[m] = result.get(m, 0) + sign * k
    return _normal(result)


def floordiv(a: SizeLike, b: SizeLike) -> SizeLike:
    """Floor of a / b; what divides exactly is taken out of the floor.

    b must not be 0 (checked at call time).
    """
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if b == 1:
        return a
    if isinstance(b, Dim) and len(b.terms) > 1:
        return 1 if a == b else _atom(Fn("floordiv", (a, b)))
    ((divisor, k),) = _terms(b)
    quotient: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for m, c in _terms(a):
        q = _without(m, divisor)
        if q is not None and c % k == 0:
            quotient[q] = quotient.get(q, 0) + c // k
        else:
            rest[m] = c
    remainder = _normal(rest)
    if remainder == 0 or (isinstance(b, int) and isinstance(remainder, int) and 0 <= remainder < b):
        return _normal(quotient)
    if not quotient:
        return _atom(Fn("floordiv", (a, b)))
    if isinstance(b, int) and isinstance(remainder, int):
        quotient[()] = quotient.get((), 0) + remainder // b
        return _normal(quotient)
    return _sum((_normal(quotient), 1), (_atom(Fn("floordiv", (remainder, b))), 1))


def _without(monomial: Monomial, divisor: Monomial) -> Monomial | None:
    left = list(monomial)
    for atom in divisor:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def ceildiv(a: SizeLike, b: SizeLike) -> SizeLike:
    """Ceiling of a / b."""
    return floordiv(a + b - 1, b)


def dim_max(a: SizeLike, b: SizeLike) -> SizeLike:
    """The larger size."""
    return _extreme("max", a, b)


def dim_min(a: SizeLike, b: SizeLike) -> SizeLike:
    """The smaller size."""
    return _extreme("min", a, b)


def _extreme(fn: str, a: SizeLike, b: SizeLike) -> SizeLike:
    below = known_le(a, b)
    if below is None and known_le(b, a):
        below = False
    if below is not None:
        return (b if below else a) if fn == "max" else (a if below else b)
    return _atom(Fn(fn, tuple(sorted((a, b), key=str))))


def product(sizes: Iterable[SizeLike]) -> SizeLike:
    """Product of sizes; 1 for none."""
    result: SizeLike = 1
    for s in sizes:
        result = result * s
    return result


def known_equal(a: SizeLike, b: SizeLike) -> bool | None:
    """True or False where it can be decided for every value of the named sizes, else None."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return _decide_equal(a, b)


@lru_cache(maxsize=4096)
def _decide_equal(a: SizeLike, b: SizeLike) -> bool | None:
    if a == b:
        return True
    difference = a - b
    if isinstance(difference, int):
        return False
    if _sign_bound(difference) not in (None, 0) or _sign_bound(-difference) not in (None, 0):
        return False
    return _prove("eq", difference) if _has_fn(difference) else None


def known_le(a: SizeLike, b: SizeLike) -> bool | None:
    """Whether a <= b for every value of the named sizes: True, False (a > b always), or None."""
    difference = b - a
    if isinstance(difference, int):
        return difference >= 0
    if _sign_bound(difference) is not None:
        return True
    bound = _sign_bound(-difference)
    if bound is not None and bound > 0:
        return False
    return _prove("le", difference) if _has_fn(difference) else None


def _sign_bound(d: SizeLike) -> int | None:
    """A lower bound >= 0 of d if all its coefficients and atoms are non-negative, else None."""
    terms = list(_terms(d))
    certain = all(k >= 0 and all(map(_nonnegative, m)) for m, k in terms)
    return dict(terms).get((), 0) if certain else None


@lru_cache(maxsize=4096)
def _nonnegative(atom: Atom) -> bool:
    if not isinstance(atom, Fn):
        return isinstance(atom, Size)
    some = any if atom.fn == "max" else all
    return some(known_le(0, a) is True for a in atom.args)


def _has_fn(d: SizeLike) -> bool:
    return any(isinstance(a, Fn) for m, _ in _terms(d) for a in m)


def _at_least_zero(d: SizeLike, depth: int = 8) -> bool:
    """Whether d >= 0 follows from taking each max, min and floordiv in it apart."""
    if _sign_bound(d) is not None:
        return True
    fn = next((a for m, _ in _terms(d) for a in m if isinstance(a, Fn)), None)
    if fn is None or not depth:
        return False
    factor: SizeLike = 0  # d = factor * fn + rest
    rest: SizeLike = 0
    for m, k in _terms(d):
        q = _without(m, (fn,))
        part = _normal({m if q is None else q: k})
        factor, rest = (factor, rest + part) if q is None else (factor + part, rest)
    rising = _sign_bound(factor) is not None
    if not rising and _sign_bound(-factor) is None:
        return False
    a, b = fn.args
    if fn.fn == "floordiv":
        edge = a - b + 1 if rising else a  # b * fn is at least, at most this
        if isinstance(b, int):
            return b > 0 and _at_least_zero(b * rest + factor * edge, depth - 1)
        times = floordiv(factor, b)
        exact = known_le(1, b) is True and times * b == factor
        return exact and _at_least_zero(rest + times * edge, depth - 1)
    some = any if (fn.fn == "max") == rising else all
    return some(_at_least_zero(rest + factor * x, depth - 1) for x in (a, b))


def _samples(d: Dim) -> Iterable[int]:
    """Values of d for a fixed spread of values of its atoms (each of which a call could bring)."""
    names = sorted(atoms(d), key=_order)
    edges = (0, 1, 2, 3, 40, 1000, 10**6, 10**9)
    for t in range(28):
        values: dict[Atom, SizeLike] = {}
        for j, atom in enumerate(names):
            scale = (1, 1, 1000, 10**6)[(t + j) % 4]
            v = edges[t] if t < len(edges) else (t * t * (j + 3) + 5 * j) % (7 + t) * scale
            values[atom] = v if isinstance(atom, Size) else v - 3
        try:
            yield evaluate_dim(d, values)
        except (ShapeError, SizeError):  # a divisor that is 0 there
            continue


@lru_cache(maxsize=4096)
def _prove(question: str, difference: Dim) -> bool | None:
    """Whether a difference is 0 ("eq") or >= 0 ("le"): True always, False never, None unknown."""
    if question == "le":
        if _at_least_zero(difference):
            return True
        if _at_least_zero(-difference - 1):
            return False
    elif _at_least_zero(difference) and _at_least_zero(-difference):
        return True
    first: bool | None = None
    for v in _samples(difference):
        verdict = v == 0 if question == "eq" else v >= 0
        if first is None:
            first = verdict
        elif verdict is not first:
            return None
    return _prove_by_sympy(question, difference)


def _prove_by_sympy(question: str, difference: Dim) -> bool | None:
    """The same, asked of SymPy; the only place that loads it."""
    import sympy

    symbols: dict[Atom, Any] = {}

    def convert(x: SizeLike) -> Any:
        total = sympy.Integer(0)
        for m, k in _terms(x):
            factor = sympy.Integer(k)
            for atom in m:
                factor *= convert_atom(atom)
            total += factor
        return total

    def convert_atom(atom: Atom) -> Any:
        if not isinstance(atom, Fn):
            sign = {"nonnegative": True} if isinstance(atom, Size) else {}
            return symbols.setdefault(atom, sympy.Symbol(f"s{len(symbols)}", integer=True, **sign))
        args = [convert(a) for a in atom.args]
        if atom.fn == "floordiv":
            return sympy.floor(args[0] / args[1])
        return (sympy.Max if atom.fn == "max" else sympy.Min)(*args)

    expression = sympy.simplify(convert(difference))
    if question == "eq":
        return True if expression == 0 else False if expression.is_zero is False else None
    return True if expression.is_nonnegative else False if expression.is_negative else None


def atoms(x: SizeLike) -> set[Atom]:
    """The named sizes and input values that x depends on."""
    found: set[Atom] = set()
    stack: list[SizeLike] = [x]
    while stack:
        for m, _ in _terms(stack.pop()):
            for atom in m:
                if isinstance(atom, Fn):
                    stack.extend(atom.args)
                else:
                    found.add(atom)
    return found


def single_atom(size: SizeLike) -> Atom | None:
    """The atom a size consists of, if it is just that."""
    if (
        isinstance(size, Dim)
        and len(size.terms) == 1
        and size.terms[0][1] == 1
        and len(size.terms[0][0]) == 1
    ):
        return size.terms[0][0][0]
    return None


def substitute(x: SizeLike, values: Mapping[Atom, SizeLike]) -> SizeLike:
    """x with atoms replaced by sizes (ints make a number)."""
    if isinstance(x, int):
        return x
    total: SizeLike = 0
    for m, k in x.terms:
        term: SizeLike = k
        for atom in m:
            term = term * _substitute_atom(atom, values)
        total = total + term
    return total


def _substitute_atom(atom: Atom, values: Mapping[Atom, SizeLike]) -> SizeLike:
    if not isinstance(atom, Fn):
        value = values.get(atom)
        return _atom(atom) if value is None else value
    a, b = (substitute(s, values) for s in atom.args)
    if atom.fn == "floordiv":
        if b == 0:
            raise ShapeError(f"size {atom}: division by zero")
        return floordiv(a, b)
    return _extreme(atom.fn, a, b)


def evaluate_dim(x: SizeLike, values: Mapping[Atom, SizeLike]) -> int:
    """The number x has when every atom has a value.

    Raises: ShapeError if one is unbound, SizeError on overflow.
    """
    result = substitute(x, values)
    if isinstance(result, Dim):
        missing = ", ".join(sorted(map(str, atoms(result))))
        raise ShapeError(f"size {x} is unknown: nothing gives {missing} a value")
    if abs(result) >= MAX_SIZE:
        raise SizeError(f"size {x} = {result}: more than memory can hold")
    return result
