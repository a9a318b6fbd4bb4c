"""Random expressions behind convolutions, in the user's order of axes, for the rules of layout."""

from __future__ import annotations

from typing import Any

import numpy as np

import symgraph as sg
from symgraph.expr import Expr, apply
from symgraph.leaves import array
from symgraph.ops.convolve import ConvForm, Convolve
from symgraph.ops.define import cast
from symgraph.ops.movement import Concatenate, Place, Transpose
from symgraph.ops.pooling import ArgmaxPool, MaxPool, Pick, SumPool, Unpick, Unsum
from symgraph.ops.windows import Windows
from symgraph.optim.samples import draw_dtype

Random = np.random.Generator
FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)  # of the axes of what is ordered the other way


def convolved(rng: Random, name: str = "x", dtype: Any = None) -> Expr:
    """A channels-last convolution of 3 channels, [2, 5, 4, 3]."""
    d = draw_dtype(rng, "f") if dtype is None else dtype
    form = ConvForm((1, 1), (1, 0), (1, 0), (1, 1), 1, (5, 4), (3, 1))
    x, w = array(name, (2, 5, 4, 2), d), array(f"w_{name}", (3, 1, 2, 3), d)
    y = apply(Convolve(form, "output"), x, w)
    return sg.relu(y) if rng.random() < 0.5 else y


def first(rng: Random, name: str = "x", dtype: Any = None) -> Expr:
    """A convolution with its channels first, [2, 3, 5, 4]."""
    return apply(Transpose(FIRST), convolved(rng, name, dtype))


def free(rng: Random, d: Any) -> Expr:
    """What has the same elements in either order."""
    shapes: list[Any] = [(3, 1, 1), (1, 3, 1, 1), (), (2, 1, 1, 1), (1, 1), (2, 3, 1, 1)]
    return array("b", shapes[rng.integers(len(shapes))], d)


def work(rng: Random) -> Expr:
    x = first(rng)
    table = np.arange(60).reshape(3, 5, 4) % 7
    others = [
        lambda: free(rng, x.dtype),
        lambda: first(rng, "y", x.dtype),
        lambda: sg.constant(table, x.dtype),
    ]
    op = [sg.add, sg.maximum, sg.mul, sg.lt][rng.integers(4)]
    other = others[rng.integers(3)]()
    return op(x, other) if rng.random() < 0.5 else op(other, x)


def work_between(rng: Random) -> Expr:
    x = first(rng)
    y = array("y", [(2, 3, 5, 4), (5, 4), (2, 3, 1, 4)][rng.integers(3)], x.dtype)
    return apply(Transpose(LAST), sg.where(x > 0, y, 0) if rng.random() < 0.5 else x * y)


def casts(rng: Random) -> Expr:
    return cast(first(rng, dtype=sg.dtypes.float32), draw_dtype(rng, "iuf"))


def pools(rng: Random) -> Expr:
    windows = Windows((2, 3), (2, 1), (0, 1), (1, 0), (1, 2), (5, 4), (2, 2))
    x = first(rng)
    small = windows.shaped(x.array_type.shape, windows.positions)
    index = apply(ArgmaxPool(windows._replace(axes=(1, 2))), x.inputs[0])
    made = [
        lambda: apply(MaxPool(windows), x),
        lambda: apply(ArgmaxPool(windows), x),
        lambda: apply(SumPool(windows), x),
        lambda: apply(Pick(windows), array("i", small, "int32"), x),
        lambda: apply(Unpick(windows), apply(Transpose(FIRST), index), array("y", small, x.dtype)),
        lambda: apply(Unsum(windows._replace(image=(10, 5))), x),  # of 5 by 4 positions
    ]
    return made[rng.integers(len(made))]()


def joins(rng: Random) -> Expr:
    x = first(rng)
    return apply(Concatenate(int(rng.integers(4))), x, first(rng, "y", x.dtype))


def places(rng: Random) -> Expr:
    return apply(Place((0, 1, 0, 4), (1, 1, 2, -1), (2, 5, 9, 6), 0), first(rng))


LAYOUT = {
    "op(transpose(x)) -> transpose(op(x))": work,
    "transpose(op(transpose(x), y)) -> op(x, transpose(y))": work_between,
    "cast(transpose(x))": casts,
    "pool(transpose(x)) -> transpose(pool(x))": pools,
    "concatenate(transpose(x), transpose(y))": joins,
    "place(transpose(x)) -> transpose(place(x))": places,
}
