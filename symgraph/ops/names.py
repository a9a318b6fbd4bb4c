"""Second names of structural functions, NumPy's and Theano's, and a few one-line relatives."""

from __future__ import annotations

from typing import Any

from ..dtypes import every
from ..errors import AxisError, ShapeError
from ..expr import Expr, user_site
from ..leaves import integer, lift, normalize_axis, size_value
from . import define, reduce
from .creation import eye, full
from .define import promote_operands
from .elementwise import where
from .joining import concatenate, hstack, stack, vstack
from .movement import broadcast_by
from .nnet import categorical_crossentropy, log_softmax, one_hot
from .reduce import kept_shape
from .shaping import axes_of, expand_dims, mT, shape_padleft, sizes, transpose

# NumPy and the array API
amax, amin = reduce.max, reduce.min
concat, permute_dims, matrix_transpose = concatenate, transpose, mT

# Theano
horizontal_stack, vertical_stack, row_stack = hstack, vstack, vstack
shape_padaxis = expand_dims
as_tensor_variable = as_tensor = lift
logsoftmax, to_one_hot = log_softmax, one_hot
crossentropy_categorical_1hot = categorical_crossentropy


def join(axis: int, *arrays: Any) -> Expr:
    """concatenate with the axis first."""
    return concatenate(list(arrays), axis)


def stacklists(arrays: Any) -> Expr:
    """Nested lists of expressions stacked along new leading axes, one for each level."""
    if isinstance(arrays, (list, tuple)):
        return stack([stacklists(a) for a in arrays])
    return lift(arrays)


def max_and_argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> tuple[Expr, Expr]:
    """The largest elements and where they first are."""
    return reduce.max(x, axis, keepdims), reduce.argmax(x, axis, keepdims)


def fill(x: Any, value: Any) -> Expr:
    """value broadcast to the shape of x."""
    return full(lift(x).array_type.shape, value)


second = fill


def identity_like(x: Any) -> Expr:
    """Ones on the diagonal, zeros elsewhere, with the shape and dtype of a matrix."""
    node = lift(x)
    if node.ndim != 2:
        raise AxisError(
            f"identity_like: expected rank 2, got {node.ndim}", site=user_site(), operands=(node,)
        )
    rows, columns = node.array_type.shape
    return eye(rows, columns, dtype=node.dtype)


def addbroadcast(x: Any, *axes: int) -> Expr:
    """x with axes that broadcast: their size is 1, which a guard checks where it is symbolic."""
    node = lift(x)
    ones = axes_of(axes, node.ndim, "addbroadcast")
    return broadcast_by(node, kept_shape(node.array_type.shape, ones))


def unbroadcast(x: Any, *axes: int) -> Expr:
    """x itself: a size of 1 broadcasts whenever it is known."""
    return lift(x)


def patternbroadcast(x: Any, pattern: Any) -> Expr:
    """addbroadcast of the axes for which the pattern is true."""
    return addbroadcast(x, *[axis for axis, one in enumerate(pattern) if one])


def shape(x: Any) -> tuple[Any, ...]:
    """Sizes: ints, or int64 0-d expressions for symbolic ones."""
    return lift(x).shape


def ndim(x: Any) -> int:
    """The number of axes."""
    return lift(x).ndim


def size(x: Any, axis: int | None = None) -> Any:
    """The number of elements, or the size of an axis; an int64 0-d expression if symbolic."""
    node = lift(x)
    if axis is None:
        return _size(node.array_type.size)
    return node.shape[normalize_axis(axis, node.ndim, "size")]


def _size(s: Any) -> Any:
    return s if isinstance(s, int) else size_value(s)


def broadcast_shapes(*shapes: Any) -> tuple[Any, ...]:
    """The shape that arrays of these shapes broadcast to; sizes as shape gives them."""
    given = [sizes(s, "broadcast_shapes") for s in shapes]
    try:
        return tuple(map(_size, define.broadcast_shapes("broadcast_shapes", *given)))
    except ShapeError as error:
        raise error.at(user_site()) from None


def select(conditions: Any, choices: Any, default: Any = 0) -> Expr:
    """Each element from the choice whose condition is the first that is true, else the default."""
    if len(conditions) != len(choices) or not len(conditions):
        raise ShapeError(
            f"select: {len(conditions)} conditions and {len(choices)} choices do not pair",
            site=user_site(),
        )
    *values, result = promote_operands("select", [*choices, default], frozenset(every))
    for condition, value in zip(reversed(conditions), reversed(values)):
        result = where(condition, value, result)
    return result


def diff(x: Any, n: int = 1, axis: int = -1) -> Expr:
    """Differences of neighbours along an axis, n times; bool by xor."""
    node = lift(x)
    count = integer(n)
    if count is None or count < 0:
        raise ShapeError(f"diff: expected n >= 0, got {n!r}", site=user_site(), operands=(node,))
    before = (slice(None),) * normalize_axis(axis, node.ndim, "diff")
    for _ in range(count):
        after, first = node[(*before, slice(1, None))], node[(*before, slice(None, -1))]
        node = after ^ first if node.dtype.kind == "b" else after - first
    return node


def kron(a: Any, b: Any) -> Expr:
    """Kronecker product: blocks of b, each times an element of a."""
    x, y = promote_operands("kron", [a, b], frozenset(every))
    rank = max(x.ndim, y.ndim)
    x, y = shape_padleft(x, rank - x.ndim), shape_padleft(y, rank - y.ndim)
    pairs = list(zip(x.array_type.shape, y.array_type.shape))
    left = x.reshape([s for m, _ in pairs for s in (m, 1)])
    right = y.reshape([s for _, n in pairs for s in (1, n)])
    return (left * right).reshape([m * n for m, n in pairs])


__all__ = [
    "amax",
    "amin",
    "concat",
    "permute_dims",
    "matrix_transpose",
    "horizontal_stack",
    "vertical_stack",
    "as_tensor_variable",
    "as_tensor",
    "logsoftmax",
    "to_one_hot",
    "crossentropy_categorical_1hot",
    "join",
    "stacklists",
    "max_and_argmax",
    "fill",
    "second",
    "identity_like",
    "addbroadcast",
    "unbroadcast",
    "patternbroadcast",
    "shape_padaxis",
    "shape",
    "diff",
    "kron",
    "row_stack",
    "ndim",
    "size",
    "broadcast_shapes",
    "select",
]
