"""Expressions in high precision, for judging errors: each op's true function in mpmath."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from symgraph.dtypes import DType
from symgraph.expr import Expr, rebuild, toposort
from symgraph.ops.define import Cast, Elementwise
from symgraph.ops.movement import BroadcastTo, Place, Reshape, Slice, Transpose
from symgraph.ops.reduce import Reduce

BITS = 2200  # 1 - sigmoid(700) still keeps its digits


def evaluate_precisely(output: Expr, values: Mapping[Expr, np.ndarray]) -> np.ndarray:
    """The output's elements as mpmath numbers (an object array), computed with BITS bits.

    values: the inputs' arrays.   Raises: KeyError for an op that has no precise form.
    """
    import mpmath

    with mpmath.workprec(BITS):
        functions = _functions(mpmath)
        given = {id(x): _to_objects(mpmath, v) for x, v in values.items()}
        output = _expanded(output)
        for node in toposort([output]):
            if id(node) not in given:
                given[id(node)] = _one(mpmath, functions, node, [given[id(x)] for x in node.inputs])
        return given[id(output)]


def _expanded(output: Expr) -> Expr:
    """Composite ops said in smaller ones."""
    done: dict[int, Expr] = {}
    for node in toposort([output]):
        new = rebuild(node, [done[id(x)] for x in node.inputs])
        if new.op.expand is not None and not isinstance(new.op, Elementwise):
            new = _expanded(new.op.expand(*new.inputs))
        done[id(node)] = new
    return done[id(output)]


def _one(
    mpmath: Any, functions: Mapping[str, Callable[..., Any]], node: Expr, arrays: list[Any]
) -> np.ndarray:
    op = node.op
    if not node.inputs:
        return _to_objects(mpmath, op.evaluate())
    if isinstance(op, Elementwise):
        return np.asarray(np.frompyfunc(functions[op.name], len(arrays), 1)(*arrays), object)
    if isinstance(op, (Reshape, Transpose, BroadcastTo, Slice, Place)):
        return np.asarray(op.evaluate(*arrays), object)
    if isinstance(op, Reduce):
        reducer: dict[str, Callable[..., Any]] = {
            "sum": functions["add"],
            "prod": functions["mul"],
            "any": max,
            "max": functions["maximum"],
            "min": functions["minimum"],
        }
        return _reduced(reducer[op.kind], arrays[0], op.axes)
    if isinstance(op, Cast):
        return _to_objects(mpmath, op.evaluate(_to_array(arrays[0], node.inputs[0].dtype)))
    raise KeyError(op.name)


def _reduced(function: Callable[..., Any], x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    for axis in reversed(axes):
        x = np.asarray(np.frompyfunc(function, 2, 1).reduce(x, axis=axis), object)
    return x


def _to_objects(mpmath: Any, array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype == np.bool_:
        return array.astype(object)
    if array.dtype.kind in "iu":
        return np.asarray(np.frompyfunc(lambda v: mpmath.mpf(int(v)), 1, 1)(array), object)
    with np.errstate(all="ignore"):
        return np.asarray(np.frompyfunc(mpmath.mpf, 1, 1)(array.astype(np.float64)), object)


def _to_array(objects: Any, d: DType) -> np.ndarray:
    """The numbers in their own dtype, which holds them."""
    exact = np.frompyfunc(int, 1, 1)(objects) if d.is_integer else objects
    return np.asarray(exact).astype(d.np)


def _functions(mp: Any) -> dict[str, Callable[..., Any]]:
    """The true function of each elementwise op that rules speak of; NaN outside the real domain."""
    table = {name: _real(mp, f) for name, f in (_arithmetic(mp) | _transcendental(mp)).items()}
    table["where"] = lambda c, x, y: x if c else y
    table["eq"] = lambda x, y: x == y
    table["isinf"] = mp.isinf
    return table


def _real(mp: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function on real numbers: NaN for NaN, and where there is no real value."""

    def guarded(*args: Any) -> Any:
        if any(mp.isnan(a) for a in args):
            return mp.nan
        try:
            value = function(*args)
        except (ZeroDivisionError, ValueError, OverflowError):
            return mp.nan
        return mp.nan if isinstance(value, mp.mpc) else value

    return guarded


def _divide(mp: Any, x: Any, y: Any) -> Any:
    if y == 0:
        return mp.nan if x == 0 else mp.inf * mp.sign(x)
    return x / y


def _arithmetic(mp: Any) -> dict[str, Callable[..., Any]]:
    return {
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "mul": lambda x, y: x * y,
        "true_div": lambda x, y: _divide(mp, x, y),
        "neg": lambda x: -x,
        "abs": mp.fabs,
        "square": lambda x: x * x,
        "reciprocal": lambda x: _divide(mp, mp.mpf(1), x),
        "sqrt": mp.sqrt,
        "rsqrt": lambda x: _divide(mp, mp.mpf(1), mp.sqrt(x)),
        "pow": mp.power,
        "maximum": max,
        "minimum": min,
    }


def _transcendental(mp: Any) -> dict[str, Callable[..., Any]]:
    def log(x: Any) -> Any:
        return -mp.inf if x == 0 else mp.nan if x < 0 else mp.log(x)

    def exp(x: Any) -> Any:
        return mp.mpf(0) if x == -mp.inf else mp.exp(x)

    def exp2(x: Any) -> Any:
        return mp.mpf(2) ** x

    def sigmoid(x: Any) -> Any:
        return 1 / (1 + exp(-x))

    def softplus(x: Any) -> Any:
        return x if x == mp.inf else mp.log(1 + exp(x))

    def logaddexp(x: Any, y: Any) -> Any:
        return max(x, y) if mp.isinf(max(x, y)) else mp.log(exp(x) + exp(y))

    return {
        "exp": exp,
        "exp2": exp2,
        "expm1": lambda x: exp(x) - 1,
        "log": log,
        "log2": lambda x: log(x) / mp.log(2),
        "log1p": lambda x: log(1 + x),
        "sigmoid": sigmoid,
        "softplus": softplus,
        "log_sigmoid": lambda x: -softplus(-x),
        "silu": lambda x: x * sigmoid(x),
        "logaddexp": logaddexp,
        "xlogy": lambda x, y: x * log(y) if x else x,
        "xlog1py": lambda x, y: x * log(1 + y) if x else x,
        "logaddexp2": lambda x, y: log(exp2(x) + exp2(y)) / mp.log(2),
        **{name: getattr(mp, name) for name in "tanh sinh cosh sin cos erf erfc".split()},
    }
