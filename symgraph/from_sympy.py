"""SymPy expressions as symgraph expressions: `from_sympy(expr, {symbol: Expr})`.

Each SymPy node is planned: which smaller SymPy nodes it needs, and how their expressions are
combined. Plans look at SymPy's structure where that saves accuracy: log(1 + u), exp(u) - 1, 1 -
erf(u), 1 - cos(u) are not computed by subtraction, quotients are divisions, square roots are square
roots.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .dtypes import DType, complex64, complex128, float64, promote, to_inexact
from .errors import GraphError, MissingInputError
from .expr import Expr, user_site
from .leaves import constant, lift
from .ops import elementwise as ew
from .ops.define import cast

Plan = tuple[
    Sequence[Any], Callable[..., Expr]
]  # SymPy nodes needed, and what to make of their expressions


def from_sympy(expr: Any, symbols: Mapping[Any, Any]) -> Expr:
    """The expression for a SymPy expression, elementwise over the given arrays.

    symbols: {SymPy symbol (or its name, or any subexpression): Expr, array or number}. All are cast
    to their common float dtype, which is the result's (float64 if there are none); numbers in the
    expression take it too, correctly rounded. Functions keep SymPy's meaning on the real line;
    where SymPy's value is not real the result is NaN, unless the arrays are complex.

    Raises: MissingInputError for a symbol without a value, GraphError for what has no counterpart.
    """
    import sympy

    root = sympy.sympify(expr)
    values = {_key(k, root): lift(v) for k, v in symbols.items()}
    dtype = to_inexact(promote(*[v.dtype for v in values.values()])) if values else float64
    converter = _Converter(sympy, {k: cast(v, dtype) for k, v in values.items()}, dtype)
    return converter.convert(root)


def _key(k: Any, root: Any) -> Any:
    """The symbol of a name, whatever SymPy assumes of it."""
    if not isinstance(k, str):
        return k
    return next((s for s in sorted(root.free_symbols, key=str) if s.name == k), k)


class _Converter:
    """One conversion: the given leaves, the dtype of numbers, and what has been converted."""

    def __init__(self, sympy: Any, given: Mapping[Any, Expr], dtype: DType):
        self.sympy = sympy
        self.given = given
        self.dtype = dtype
        self.done: dict[Any, Expr] = {}

    def convert(self, root: Any) -> Expr:
        waiting: list[tuple[Any, Plan | None]] = [(root, None)]
        while waiting:
            node, plan = waiting.pop()
            if node in self.done:
                continue
            if plan is None:
                plan = self.plan(node)
                waiting.append((node, plan))
                waiting += [(x, None) for x in plan[0] if x not in self.done]
            else:
                self.done[node] = plan[1](*[self.done[x] for x in plan[0]])
        return self.done[root]

    def plan(self, node: Any) -> Plan:
        """How to make this node."""
        s = self.sympy
        if node in self.given:
            return (), lambda: self.given[node]
        if node.is_Symbol:
            known = ", ".join(sorted(map(str, self.given))) or "none"
            raise MissingInputError(
                f"from_sympy: no value for {node} (given: {known})", site=user_site()
            )
        if node in (s.true, s.false):
            return (), lambda: constant(bool(node))
        if (
            isinstance(node, s.Expr)
            and not node.free_symbols
            and not node.atoms(s.core.function.AppliedUndef)
        ):
            return (), lambda: self.number(node)
        name = node.func.__name__
        special = _SPECIAL.get(name)
        if special is not None:
            return special(s, node)
        direct = _DIRECT.get(name)
        if direct is not None:
            return node.args, direct
        raise GraphError(
            f"from_sympy: {name} has no counterpart",
            site=user_site(),
            hint=".doit() or .rewrite(...) it first"
            if name in ("Derivative", "Integral", "Sum", "Product", "Limit")
            else None,
        )

    def number(self, node: Any) -> Expr:
        """A number, computed exactly or with 30 digits and rounded once."""
        s = self.sympy
        if node is s.zoo:
            raise GraphError("from_sympy: complex infinity has no counterpart", site=user_site())
        value = node if node.is_Rational else node.evalf(30)
        if value.is_extended_real is False or value.has(s.I):
            wide = {"float64": complex128, "complex128": complex128}.get(str(self.dtype), complex64)
            return constant(complex(value), wide)
        try:
            return constant(float(value), self.dtype)
        except OverflowError:
            return constant(math.copysign(math.inf, 1 if value > 0 else -1), self.dtype)


def _pairwise(combine: Callable[[Expr, Expr], Expr], terms: Sequence[Expr]) -> Expr:
    """Terms combined in a balanced tree."""
    level = list(terms)
    while len(level) > 1:
        pairs = [combine(a, b) for a, b in zip(level[::2], level[1::2])]
        level = pairs + level[2 * len(pairs) :]
    return level[0]


# ---------------------------------------------------------------------------- sums and products


def _add(s: Any, node: Any) -> Plan:
    close_to_cancel = _add_without_cancellation(s, node)
    if close_to_cancel is not None:
        return close_to_cancel
    positive = [t for t in node.args if not t.as_coeff_Mul()[0].is_negative]
    negative = [-t for t in node.args if t.as_coeff_Mul()[0].is_negative]

    def combine(*terms: Expr) -> Expr:
        plus, minus = terms[: len(positive)], terms[len(positive) :]
        total = _pairwise(ew.add, plus) if plus else None
        if not minus:
            return total  # type: ignore[return-value]
        rest = _pairwise(ew.add, minus)
        return ew.neg(rest) if total is None else ew.sub(total, rest)

    return (*positive, *negative), combine


#: (1 - f(u)) without subtraction, by the name of f
_ONE_MINUS: dict[str, Callable[[Expr], Expr]] = {
    "exp": lambda u: ew.neg(ew.expm1(u)),
    "erf": ew.erfc,
    "erfc": ew.erf,
    "cos": lambda u: ew.mul(2.0, ew.square(ew.sin(ew.mul(u, 0.5)))),
    "cosh": lambda u: ew.mul(-2.0, ew.square(ew.sinh(ew.mul(u, 0.5)))),
}


def _add_without_cancellation(s: Any, node: Any) -> Plan | None:
    """1 - f(u) or f(u) - 1 (with further terms), where the difference has a name."""
    one = next((t for t in node.args if t in (s.S.One, s.S.NegativeOne)), None)
    if one is None:
        return None
    for term in node.args:
        other = term * -one
        name = other.func.__name__
        if name in _ONE_MINUS and len(other.args) == 1 and other.free_symbols:
            rest = s.Add(*[t for t in node.args if t is not one and t is not term])
            difference = _ONE_MINUS[name]

            def combine(u: Expr, *others: Expr, f: Any = difference, sign: Any = one) -> Expr:
                value = f(u) if sign is s.S.One else ew.neg(f(u))
                return ew.add(value, others[0]) if others else value

            return ((other.args[0], rest) if rest != 0 else (other.args[0],)), combine
    return None


def _mul(s: Any, node: Any) -> Plan:
    coefficient, product = node.as_coeff_Mul()
    factors = product.args if product.is_Mul else (product,)
    above = [f for f in factors if not _is_reciprocal(f)]
    below = [1 / f for f in factors if _is_reciprocal(f)]
    sign = -1 if coefficient.is_negative else 1
    size = abs(coefficient)
    if size.is_Rational and not size.is_Integer and size.p == 1:
        below.append(s.Integer(size.q))
    elif size != 1:
        above.insert(0, size)
    count = len(above)

    def combine(*parts: Expr) -> Expr:
        top = _pairwise(ew.mul, parts[:count]) if count else None
        bottom = _pairwise(ew.mul, parts[count:]) if below else None
        if bottom is not None:
            top = ew.reciprocal(bottom) if top is None else ew.true_div(top, bottom)
        return ew.neg(top) if sign < 0 else top  # type: ignore[return-value]

    return (*above, *below), combine


def _is_reciprocal(f: Any) -> bool:
    return f.is_Pow and f.exp.is_Rational and f.exp.is_negative


def _pow(s: Any, node: Any) -> Plan:
    base, exponent = node.args
    if base is s.E:
        return (exponent,), ew.exp
    if exponent.is_Rational and exponent.is_negative:
        return (s.Pow(base, -exponent),), ew.reciprocal
    if exponent.is_Rational:
        known = _POWERS.get((exponent.p, exponent.q))
        if known is not None and (exponent.q != 3 or base.is_nonnegative):
            return (base,), known
    if base == 2:
        return (exponent,), ew.exp2
    return (base, exponent), ew.pow


#: x**(p/q) in operations that round less than pow
_POWERS: dict[tuple[int, int], Callable[[Expr], Expr]] = {
    (2, 1): ew.square,
    (3, 1): lambda x: ew.mul(ew.square(x), x),
    (4, 1): lambda x: ew.square(ew.square(x)),
    (1, 2): ew.sqrt,
    (3, 2): lambda x: ew.mul(x, ew.sqrt(x)),
    (1, 3): ew.cbrt,
    (1, 4): lambda x: ew.sqrt(ew.sqrt(x)),
}


def _log(s: Any, node: Any) -> Plan:
    (x,) = node.args
    if x.is_Add and s.S.One in x.args:
        return (x - 1,), ew.log1p
    return (x,), ew.log


# ------------------------------------------------------------------------------------ functions


def _piecewise(s: Any, node: Any) -> Plan:
    values = [value for value, _ in node.args]
    conditions = [condition for _, condition in node.args]

    def combine(*parts: Expr) -> Expr:
        values, tests = parts[: len(parts) // 2], parts[len(parts) // 2 :]
        result = constant(math.nan, values[0].dtype)
        for value, test in zip(reversed(values), reversed(tests)):
            result = ew.where(test, value, result)
        return result

    return (*values, *conditions), combine


def _heaviside(s: Any, node: Any) -> Plan:
    return (node.args[0], node.args[1] if len(node.args) > 1 else s.S.Half), ew.heaviside


def _loggamma(s: Any, node: Any) -> Plan:
    (x,) = node.args
    if x.is_nonnegative:
        return (x,), ew.lgamma
    return (x,), lambda x: ew.where(ew.lt(x, 0.0), constant(math.nan, x.dtype), ew.lgamma(x))


def _polygamma(s: Any, node: Any) -> Plan:
    order, x = node.args
    if order == 0:
        return (x,), ew.digamma
    if not order.is_Integer:
        raise GraphError(
            f"from_sympy: polygamma of order {order} has no counterpart", site=user_site()
        )
    return (x,), lambda x: ew.polygamma(int(order), x)


def _of_reciprocal(f: Callable[[Expr], Expr]) -> Callable[[Expr], Expr]:
    return lambda x: f(ew.reciprocal(x))


def _reciprocal_of(f: Callable[[Expr], Expr]) -> Callable[[Expr], Expr]:
    return lambda x: ew.reciprocal(f(x))


def _fold(f: Callable[[Expr, Expr], Expr]) -> Callable[..., Expr]:
    return lambda *xs: functools.reduce(f, xs)


def _beta(x: Expr, y: Expr) -> Expr:
    return ew.true_div(ew.mul(ew.gamma(x), ew.gamma(y)), ew.gamma(ew.add(x, y)))


def _sinc(x: Expr) -> Expr:
    """SymPy's sinc is sin(x) / x."""
    return ew.sinc(ew.true_div(x, math.pi))


_SPECIAL: dict[str, Callable[[Any, Any], Plan]] = {
    "Add": _add,
    "Mul": _mul,
    "Pow": _pow,
    "log": _log,
    "Piecewise": _piecewise,
    "Heaviside": _heaviside,
    "loggamma": _loggamma,
    "polygamma": _polygamma,
}

_DIRECT: dict[str, Callable[..., Expr]] = {
    "exp": ew.exp,
    "sin": ew.sin,
    "cos": ew.cos,
    "tan": ew.tan,
    "cot": lambda x: ew.true_div(ew.cos(x), ew.sin(x)),
    "sec": _reciprocal_of(ew.cos),
    "csc": _reciprocal_of(ew.sin),
    "asin": ew.asin,
    "acos": ew.acos,
    "atan": ew.atan,
    "acot": _of_reciprocal(ew.atan),
    "asec": _of_reciprocal(ew.acos),
    "acsc": _of_reciprocal(ew.asin),
    "atan2": ew.atan2,
    "sinh": ew.sinh,
    "cosh": ew.cosh,
    "tanh": ew.tanh,
    "coth": _reciprocal_of(ew.tanh),
    "sech": _reciprocal_of(ew.cosh),
    "csch": _reciprocal_of(ew.sinh),
    "asinh": ew.asinh,
    "acosh": ew.acosh,
    "atanh": ew.atanh,
    "acoth": _of_reciprocal(ew.atanh),
    "asech": _of_reciprocal(ew.acosh),
    "acsch": _of_reciprocal(ew.asinh),
    "sinc": _sinc,
    "erf": ew.erf,
    "erfc": ew.erfc,
    "erfinv": ew.erfinv,
    "gamma": ew.gamma,
    "digamma": ew.digamma,
    "factorial": lambda x: ew.gamma(ew.add(x, 1.0)),
    "beta": _beta,
    "Abs": ew.abs,
    "sign": ew.sign,
    "floor": ew.floor,
    "ceiling": ew.ceil,
    "frac": lambda x: ew.sub(x, ew.floor(x)),
    "Min": _fold(ew.minimum),
    "Max": _fold(ew.maximum),
    "Mod": ew.mod,
    "re": ew.real,
    "im": ew.imag,
    "conjugate": ew.conj,
    "arg": ew.angle,
    "StrictLessThan": ew.lt,
    "LessThan": ew.le,
    "StrictGreaterThan": ew.gt,
    "GreaterThan": ew.ge,
    "Equality": ew.eq,
    "Unequality": ew.neq,
    "And": _fold(ew.logical_and),
    "Or": _fold(ew.logical_or),
    "Not": ew.logical_not,
    "ITE": ew.where,
}

__all__ = ["from_sympy"]
