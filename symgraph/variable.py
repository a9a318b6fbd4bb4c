"""What users do with an expression: operators, attributes and methods, put on Expr here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from . import show
from .checks import as_argument
from .dims import Dim
from .errors import AxisError, GraphError
from .evaluate import evaluate
from .expr import Expr, toposort, user_site
from .leaves import Shared, size_value
from .ops import contract, creation, elementwise, joining, names, reduce, shaping, statistics, take
from .ops.define import cast
from .ops.indexing import getitem
from .ops.subtensor import At

_LIFTABLE = (Expr, Dim, bool, int, float, complex, np.ndarray, np.generic, list, tuple)


def _binary(function: Callable[[Any, Any], Any], reflected: bool = False) -> Callable[..., Any]:
    def operator(self: Expr, other: Any) -> Any:
        if not isinstance(other, _LIFTABLE):
            return NotImplemented
        return function(other, self) if reflected else function(self, other)

    return operator


def _getter(function: Callable[[Expr], Any]) -> property:
    return property(function, doc=function.__doc__)


# ---------------------------------------------------------------------------------------- operators

_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": elementwise.add,
    "sub": elementwise.sub,
    "mul": elementwise.mul,
    "truediv": elementwise.true_div,
    "floordiv": elementwise.floor_divide,
    "mod": elementwise.mod,
    "divmod": elementwise.divmod,
    "pow": elementwise.pow,
    "matmul": contract.matmul,
    "and": elementwise.bitwise_and,
    "or": elementwise.bitwise_or,
    "xor": elementwise.bitwise_xor,
    "lshift": elementwise.left_shift,
    "rshift": elementwise.right_shift,
}
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "eq": elementwise.eq,
    "ne": elementwise.neq,
    "lt": elementwise.lt,
    "le": elementwise.le,
    "gt": elementwise.gt,
    "ge": elementwise.ge,
}
_UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": elementwise.neg,
    "pos": lambda x: x,
    "abs": elementwise.abs,
    "invert": elementwise.invert,
    "floor": elementwise.floor,
    "ceil": elementwise.ceil,
    "trunc": elementwise.trunc,
    "round": elementwise.round,
}


def _operators() -> dict[str, Any]:
    """The special methods. `==` and `!=` are elementwise; the hash stays that of the object."""
    found: dict[str, Any] = {f"__{name}__": fn for name, fn in _UNARY.items()}
    for name, function in (_BINARY | _COMPARE).items():
        found[f"__{name}__"] = _binary(function)
    for name, function in _BINARY.items():
        found[f"__r{name}__"] = _binary(function, reflected=True)
    return found


def _setitem(self: Expr, key: Any, value: Any) -> None:
    raise GraphError(
        f"{self.label}[...] = value: expressions are immutable",
        site=user_site(),
        hint="build the new array: x.at[key].set(value), where(mask, value, x), concatenate or pad",
    )


def _iterate(self: Expr) -> Iterator[Expr]:
    """The parts along axis 0, whose size must be known."""
    if not self.ndim:
        raise AxisError(f"{self.label} is 0-d: it cannot be iterated", site=user_site())
    size = self.array_type.shape[0]
    if isinstance(size, Dim):
        raise GraphError(
            f"{self.label} cannot be iterated: the size {size} of axis 0 is symbolic",
            site=user_site(),
            hint="use scan, or declare the input with an integer there",
        )
    return (getitem(self, i) for i in range(size))


def _contains(self: Expr, value: Any) -> bool:
    raise GraphError(
        f"`in {self.label}` is not known until the function is called",
        site=user_site(),
        hint="use any(x == value); for lists of expressions, any(e is x for e in list)",
    )


# --------------------------------------------------------------------------------------- attributes


def _shape(self: Expr) -> tuple[Any, ...]:
    """Sizes: ints, or int64 0-d expressions for symbolic ones."""
    return tuple(size_value(s) for s in self.array_type.shape)


def _size(self: Expr) -> Any:
    """Number of elements: an int, or an int64 0-d expression."""
    return size_value(self.array_type.size)


def _transposed(self: Expr) -> Expr:
    """Axes reversed."""
    return shaping.transpose(self)


_ATTRIBUTES: dict[str, Callable[[Expr], Any]] = {
    "shape": _shape,
    "size": _size,
    "T": _transposed,
    "mT": shaping.mT,
    "real": elementwise.real,
    "imag": elementwise.imag,
    "at": At,
    "broadcastable": lambda x: tuple(s == 1 for s in x.array_type.shape),
}


# ------------------------------------------------------------------------------------------ methods


def _spread(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method whose one sequence may also be given as separate arguments: x.reshape(2, 3)."""

    def method(self: Expr, *entries: Any, **named: Any) -> Any:
        one = len(entries) == 1 and (entries[0] is None or isinstance(entries[0], (tuple, list)))
        return function(self, *([entries[0]] if one else [entries] if entries else []), **named)

    method.__name__, method.__doc__ = function.__name__, function.__doc__
    return method


def evaluate_now(self: Expr, values: Mapping[Expr, Any] | None = None) -> np.ndarray:
    """The value for given inputs, computed by the reference in NumPy.

    Random streams advance as in a function.
    values: {input: value}, checked as a function's arguments are.   Raises: MissingInputError,
    ArgumentError.
    """
    given = {x: as_argument(v, x.array_type, x.label) for x, v in (values or {}).items()}
    changing = [
        x
        for x in toposort([self], blockers=given)
        if isinstance(x, Shared) and x.default_update is not None and x not in given
    ]
    updates = [x.default_update for x in changing if x.default_update is not None]
    result, *new = evaluate([self, *updates], given)
    for variable, value in zip(changing, new):
        variable.set_value(value)
    return result


def _item(self: Expr) -> Expr:
    """The only element, as a 0-d expression."""
    return shaping.reshape(self, ())


_METHODS: dict[str, Callable[..., Any]] = {
    "sum": reduce.sum,
    "prod": reduce.prod,
    "max": reduce.max,
    "min": reduce.min,
    "any": reduce.any,
    "all": reduce.all,
    "argmax": reduce.argmax,
    "argmin": reduce.argmin,
    "cumsum": reduce.cumsum,
    "cumprod": reduce.cumprod,
    "mean": statistics.mean,
    "var": statistics.var,
    "std": statistics.std,
    "ptp": statistics.ptp,
    "norm": statistics.norm,
    "reshape": _spread(shaping.reshape),
    "transpose": _spread(shaping.transpose),
    "flatten": shaping.flatten,
    "ravel": shaping.ravel,
    "swapaxes": shaping.swapaxes,
    "squeeze": shaping.squeeze,
    "dimshuffle": shaping.dimshuffle,
    "repeat": joining.repeat,
    "take": take.take,
    "diagonal": creation.diagonal,
    "trace": creation.trace,
    "fill": names.fill,
    "dot": contract.dot,
    "astype": cast,
    "cast": cast,
    "clip": elementwise.clip,
    "round": elementwise.round,
    "conj": elementwise.conj,
    "conjugate": elementwise.conj,
    "item": _item,
    "copy": lambda x: x,
    "eval": evaluate_now,
    "draw": show.draw,
}


def install() -> None:
    """Put operators, attributes and methods on Expr. Called once, when the language is loaded."""
    table: dict[str, Any] = _operators()
    table |= {name: _getter(function) for name, function in _ATTRIBUTES.items()}
    table |= _METHODS
    table |= {
        "__getitem__": getitem,
        "__setitem__": _setitem,
        "__iter__": _iterate,
        "__contains__": _contains,
        "__str__": show.listing,
        "__repr__": show.summary,
    }
    for name, value in table.items():
        setattr(Expr, name, value)


install()
