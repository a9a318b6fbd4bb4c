"""Leaves of the graph: inputs, constants, shared variables, sizes, and lifted Python values."""

from __future__ import annotations

import operator
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from . import dims
from .arraytype import Array
from .checks import as_argument, brief, is_masked, kind_of, no_array
from .dims import Dim, SizeLike
from .dtypes import DType, default_float, dtype, int64, scalar_dtype
from .errors import ArgumentError, AxisError, DTypeError, GraphError, ShapeError
from .expr import Expr, apply, checked_name, user_site
from .op import Op

INTERN_LIMIT = 64  # elements; larger constants are private


class Leaf(Op, abstract=True):
    """An op without inputs whose type is a field."""

    type: Array

    def infer(self) -> Array:
        return self.type

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> tuple[()]:
        return ()


class Input(Leaf):
    """A value given at each call. `uid` makes every input unique; the name is a label."""

    name = "input"
    uid: int

    def evaluate(self) -> Any:
        raise GraphError("an input has no value of its own")


class Param(Leaf):
    """Parameter number `index` of a region (scan step, cond arm); only meaningful inside it."""

    name = "param"
    index: int

    def evaluate(self) -> Any:
        raise GraphError("a region's parameter has no value of its own")


class Constant(Leaf):
    """A fixed array. Small ones are equal by (type, bytes), large ones only to themselves."""

    name = "constant"
    key: Any
    value: Any

    def __init__(self, value: np.ndarray, d: DType):
        value = _frozen(value)
        type = Array(d, value.shape)
        key = value.tobytes() if value.size <= INTERN_LIMIT else dims.next_uid()
        object.__setattr__(self, "_values", (type, key))
        object.__setattr__(self, "_hash", hash((Constant, type, key)))
        for field, x in (("type", type), ("key", key), ("value", value)):
            object.__setattr__(self, field, x)

    def evaluate(self) -> np.ndarray:
        return self.value

    def with_sizes(self, values: Any) -> Constant:
        return self

    def __repr__(self) -> str:
        return np.array2string(self.value, threshold=6, separator=", ")


class DimValue(Op):
    """A size as an int64 scalar: what x.shape[i] is for a symbolic axis."""

    name = "dim"
    dim: Any

    def infer(self) -> Array:
        return Array(int64, ())

    def evaluate(self) -> np.ndarray:
        return np.array(self.dim, np.int64)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> tuple[()]:
        return ()


def _frozen(value: np.ndarray) -> np.ndarray:
    if value.flags.writeable or not value.flags.c_contiguous:
        value = value.copy(order="C")
        value.flags.writeable = False
    return value


# ------------------------------------------------------------------------------------------- shared


class Shared(Expr):
    """A variable whose value lives between calls and is shared by every function that uses it.

    get_value(borrow=False) copies unless borrow; set_value(v, borrow=False) checks dtype, rank and
    fixed sizes as a call checks its arguments. `default_update` is applied by every function that
    uses the variable and does not update it itself. `lock` is held while a function that updates it
    runs.
    """

    __slots__ = ("storage", "default_update", "lock", "uid", "runtime")

    def __init__(self, value: np.ndarray, type: Array, name: str | None):
        self.uid = dims.next_uid()
        super().__init__(SharedOp(type, self.uid), (), type, user_site(), name)
        self.storage = value
        self.default_update: Expr | None = None
        self.lock = threading.RLock()
        self.runtime: Any = None  # the backend's cell for this variable, if it made one

    def get_value(self, borrow: bool = False) -> np.ndarray:
        """The current value; with borrow the variable's own buffer, which calls may overwrite."""
        with self.lock:
            value = self.runtime.current() if self.runtime is not None else self.storage
            return value if borrow else value.copy()

    def set_value(self, value: Any, borrow: bool = False) -> None:
        """Replace the value.   Raises: what a function's argument check would."""
        array = as_argument(value, self.array_type, self.label, copy=not borrow)
        with self.lock:
            if self.runtime is not None:
                self.runtime.replace(array)
            self.storage = array


class SharedOp(Leaf):
    """The op of a Shared; `uid` makes it unique."""

    name = "shared"
    uid: int

    def evaluate(self) -> Any:
        raise GraphError("a shared variable's value is taken from the variable")


def shared(
    value: Any,
    name: str | None = None,
    *,
    borrow: bool = False,
    dtype: Any = None,
    shape: Sequence[Any] | None = None,
) -> Shared:
    """A shared variable.

    value: array or scalar (Python floats take the default float); copied unless borrow. shape:
    sizes fixed as those of the value unless given, e.g. ("n", 3) lets axis 0 change with set_value.
    """
    checked_name(name)
    array = _to_numpy(value, dtype)
    d = _dtype_of(array)
    array = np.array(array, order="C", copy=None if borrow else True)
    declared = _shape(shape, name or "shared") if shape is not None else array.shape
    if len(declared) != array.ndim or any(
        isinstance(s, int) and s != n for s, n in zip(declared, array.shape)
    ):
        raise ShapeError(
            f"shared({name or ''}): value of shape {array.shape} does not fit shape {shape}",
            site=user_site(),
        )
    return Shared(array, Array(d, tuple(declared)), name)


# ------------------------------------------------------------------------------------------- inputs


def array(name: str | None = None, shape: Sequence[Any] = (), dtype: Any = None) -> Expr:
    """An input.

    shape entries: int, a name (equal names are equal sizes), None (any size), a Dim or x.shape[i].
    dtype: default float unless given.
    """
    checked_name(name, "input name")
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    node = apply(Input(Array(_dtype(dtype), _shape(sizes, name or "input")), dims.next_uid()))
    node.name = name
    return node


def _of_rank(rank: int, what: str) -> Any:
    def constructor(
        name: str | None = None, dtype: Any = None, shape: Sequence[Any] | None = None
    ) -> Expr:
        given = shape if isinstance(shape, (tuple, list)) else (shape,)
        sizes = (None,) * rank if shape is None else tuple(given)
        if len(sizes) != rank:
            raise ShapeError(
                f"{what}({name!r}): expected {rank} sizes, got {len(sizes)}", site=user_site()
            )
        return array(name, sizes, dtype)

    constructor.__name__ = constructor.__qualname__ = what
    constructor.__doc__ = (
        f"An input of rank {rank}.\n\n"
        "Sizes are free unless `shape` names them; dtype: default float unless given."
    )
    return constructor


scalar = _of_rank(0, "scalar")
vector = _of_rank(1, "vector")
matrix = _of_rank(2, "matrix")
tensor3 = _of_rank(3, "tensor3")
tensor4 = _of_rank(4, "tensor4")


def row(name: str | None = None, dtype: Any = None) -> Expr:
    """An input of shape (1, n): its first axis broadcasts."""
    return array(name, (1, None), dtype)


def col(name: str | None = None, dtype: Any = None) -> Expr:
    """An input of shape (n, 1): its second axis broadcasts."""
    return array(name, (None, 1), dtype)


def _dtype(d: Any) -> DType:
    try:
        return default_float() if d is None else dtype(d)
    except DTypeError as error:
        raise error.at(user_site()) from None


def _shape(shape: Sequence[Any], name: str) -> tuple[SizeLike, ...]:
    return tuple(_size(s, f"{name}.shape[{axis}]") for axis, s in enumerate(shape))


def _size(s: Any, name: str) -> SizeLike:
    if s is None:
        return dims.fresh_dim(name)
    if isinstance(s, str):
        if not s.isidentifier():
            raise ShapeError(f"size name {s!r} is not an identifier", site=user_site())
        return dims.dim(s)
    return as_dim(s, name)


# -------------------------------------------------------------------------------------------- sizes


def as_dim(value: Any, what: str = "size") -> SizeLike:
    """A size from an int, a Dim, or an integer expression made of sizes and integer scalar inputs.

    Raises: ShapeError for negative numbers, DTypeError for anything that is no integer, GraphError
    for expressions that depend on computed data.
    """
    size = as_dim_any(value, what)
    if isinstance(size, int) and size < 0:
        raise ShapeError(f"{what}: a size cannot be negative, got {size}", site=user_site())
    if isinstance(size, int) and size >= dims.MAX_SIZE:
        raise dims.SizeError(f"{what}: {size} elements cannot be addressed", site=user_site())
    return size


def as_dim_any(value: Any, what: str = "index") -> SizeLike:
    """As as_dim, but the number may be negative (slice bounds)."""
    if isinstance(value, Dim):
        return value
    if isinstance(value, Expr):
        return _dim_of_expr(value, what)
    return as_integer(value, what)


def as_flag(value: Any, what: str) -> bool:
    """A yes or no.  Raises ArgumentError for what has no truth value of its own."""
    if isinstance(value, (bool, int, np.bool_)):
        return bool(value)
    raise ArgumentError(f"{what}: expected True or False, got {brief(value)}", site=user_site())


def as_integer(value: Any, what: str) -> int:
    """A whole number.  Raises: DTypeError for anything else, symbolic sizes too."""
    found = integer(value)
    if found is None:
        raise DTypeError(f"{what}: expected an integer, got {brief(value)}", site=user_site())
    return found


def integer(value: Any) -> int | None:
    """A Python or NumPy integer, or an array of one, as an int; None for anything else."""
    if isinstance(value, (bool, np.bool_, Expr)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


_ARITHMETIC = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floor_divide": dims.floordiv,
    "maximum": dims.dim_max,
    "minimum": dims.dim_min,
}


def _dim_of_expr(node: Expr, what: str) -> SizeLike:
    from .expr import toposort

    done: dict[int, SizeLike] = {}
    for x in toposort([node]):
        op = x.op
        if isinstance(op, DimValue):
            done[id(x)] = op.dim
        elif isinstance(op, Constant) and op.type.dtype.is_integer and op.value.ndim == 0:
            done[id(x)] = int(op.value)
        elif isinstance(op, Input) and op.type.shape == () and op.type.dtype.is_integer:
            done[id(x)] = dims.value_of(x.label, op.uid)
        elif (
            op.name == "cast"
            and x.array_type.dtype.is_integer
            and x.inputs[0].array_type.dtype.is_integer
        ):
            done[id(x)] = done[id(x.inputs[0])]
        elif op.name == "neg":
            done[id(x)] = 0 - done[id(x.inputs[0])]
        elif op.name in _ARITHMETIC and x.array_type.shape == () and x.array_type.dtype.is_integer:
            done[id(x)] = _ARITHMETIC[op.name](*[done[id(i)] for i in x.inputs])
        else:
            raise GraphError(
                f"{what}: a size may be made of sizes and integer scalar inputs, "
                f"but {node.label} is computed from data",
                site=user_site(),
                operands=[node],
            )
    return done[id(node)]


def size_value(size: SizeLike) -> Any:
    """A size as users see it in x.shape: an int, or an int64 scalar expression."""
    return apply(DimValue(size)) if isinstance(size, Dim) else size


# ---------------------------------------------------------------------------------------- constants


def constant(value: Any, dtype: Any = None, name: str | None = None) -> Expr:
    """A constant from an array, a nested list or a number.

    dtype: the array's own; Python floats take the default float, Python ints int64.
    """
    kind = type(value)
    if kind is int or (kind is float and value != 0):  # 0.0 and -0.0 are equal, but not the same
        op = _number(value, _dtype(dtype) if dtype is not None else scalar_dtype(value))
    else:
        array = _to_numpy(value, dtype)
        op = Constant(array, _dtype_of(array))
    node = apply(op)
    if name is not None:
        node.name = name
    return node


@lru_cache(maxsize=1024, typed=True)  # typed: 1 and 1.0 may not fit the same dtypes
def _number(value: float, d: DType) -> Constant:
    """The op of a number."""
    return Constant(_to_numpy(value, d), d)


def lift(value: Any, like: DType | None = None) -> Expr:
    """An Expr from an Expr, an array or a Python number; numbers take dtype `like` if given."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, Dim):
        return apply(DimValue(value))
    return constant(value, like if isinstance(value, (bool, int, float, complex)) else None)


def _to_numpy(value: Any, d: Any) -> np.ndarray:
    if isinstance(value, Expr):
        raise GraphError(f"expected a value, got the expression {value.label}", site=user_site())
    want = None if d is None else dtype(d)
    if (
        want is None
        and isinstance(value, (bool, int, float, complex))
        and not isinstance(value, np.generic)
    ):
        want = scalar_dtype(value)
    array = _numbers(value)
    if (
        want is None
        and not isinstance(value, (np.ndarray, np.generic))
        and array.dtype == np.float64
    ):
        want = default_float()
    if want is not None and array.dtype != want.np:
        _check_fits(array, want)
        with np.errstate(all="ignore"):
            array = array.astype(want.np)
    return array.astype(array.dtype.newbyteorder("=")) if not array.dtype.isnative else array


def _numbers(value: Any) -> np.ndarray:
    """An array of a value, which must be numbers, none of them missing."""
    try:
        array = np.asarray(value)
    except (OverflowError, TypeError, ValueError) as error:
        raise DTypeError(no_array(value, error), site=user_site()) from None
    integers = array.dtype.kind == "O" and all(isinstance(x, int) for x in array.flat)
    if array.dtype.kind in "OSU" and not integers:
        got = brief(value) if isinstance(value, (str, list, tuple, np.ndarray)) else kind_of(value)
        raise DTypeError(f"expected numbers, got {got}", site=user_site())
    if is_masked(value):
        raise DTypeError(
            "the array has masked elements",
            site=user_site(),
            hint="give them a value: x.filled(...)",
        )
    return array


def _check_fits(array: np.ndarray, want: DType) -> None:
    """Raise DTypeError where a cast would give another number altogether."""
    if array.dtype.kind == "c" and want.kind not in "bc" and np.any(array.imag):
        raise DTypeError(f"complex numbers do not fit {want}", site=user_site(), hint="use .real")
    if not want.is_integer or not array.size or array.dtype.kind not in "iufO":
        return
    info = np.iinfo(want.np)
    for end in (array.min(), array.max()):  # NaN is both
        value = end.item() if isinstance(end, np.generic) else end
        if not info.min <= value <= info.max:
            raise DTypeError(f"{brief(value)} does not fit {want}", site=user_site())


def _dtype_of(array: np.ndarray) -> DType:
    try:
        return dtype(array.dtype)
    except DTypeError as error:
        raise error.at(user_site()) from None


def normalize_axis(axis: Any, ndim: int, what: str) -> int:
    """axis in [0, ndim). Raises AxisError, naming the op."""
    index = integer(axis)
    if index is None:
        raise AxisError(f"{what}: axis must be an integer, got {brief(axis)}", site=user_site())
    if not -ndim <= index < ndim:
        raise AxisError(
            f"{what}: axis {index} is out of range for rank {ndim}",
            site=user_site(),
            hint=f"axes go from {-ndim} to {ndim - 1}" if ndim else "a 0-d array has no axis",
        )
    return index % ndim
