"""Every vjp, compiled, against finite differences of the function: first and second derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.dtypes import float64
from symgraph.ops.define import REGISTRY, Elementwise, call

from .language import FAMILIES
from .rows import DTYPES, Row
from .sweeping import Operand
from .test_elementwise_reference import points

TOGETHER = 8
SIZES = {"n": 4, "m": 3, "k": 2}
Fun = Callable[..., Sequence[sg.Expr]]

make = partial(sg.function, host_calls="allow", on_unused_input="ignore")


def differentiable() -> list[Elementwise]:
    """Elementwise ops with derivatives by a float64 operand."""
    return [
        op
        for op in REGISTRY.values()
        if op.spec.vjp is not None and float64 in op.spec.accepts and op.spec.promote
    ]


def groups(items: Sequence[Any]) -> Iterator[Any]:
    """A few at a time, named by the first."""
    for start in range(0, len(items), TOGETHER):
        some = items[start : start + TOGETHER]
        name = some[0].name if isinstance(some[0], (Row, Elementwise)) else str(start)
        yield pytest.param(some, id=name)


def smooth_rows() -> list[Row]:
    """Rows of the table with derivatives in float64."""
    return [
        row
        for family in FAMILIES.values()
        for row in family
        if row.smooth and float64 in DTYPES[row.dtypes] and any(map(is_smooth, results(row)))
    ]


def results(row: Row) -> list[sg.Expr]:
    """The row's results for float64 operands of small sizes."""
    return [o.value for o in row.outputs(float64, [o.symbol(SIZES) for o in row.operands(float64)])]


def is_smooth(y: sg.Expr) -> bool:
    """Whether it can have a cotangent."""
    return bool(y.dtype.is_float)


def elementwise_program(ops: Sequence[Elementwise]) -> tuple[Fun, list[np.ndarray]]:
    """The ops side by side, each on points of its own."""
    rng = np.random.default_rng(5)
    values = [points(op, rng, 6) for op in ops]

    def fun(*inputs: sg.Expr) -> list[sg.Expr]:
        left = iter(inputs)
        found = [call(op, [next(left) for _ in v]) for op, v in zip(ops, values)]
        return [sg.real(y) + 0.7 * sg.imag(y) if y.dtype.kind == "c" else y for y in found]

    return fun, [v for group in values for v in group]


def rows_program(rows: Sequence[Row]) -> tuple[Fun, list[np.ndarray]]:
    """The rows side by side, each on operands of its own."""
    rng = np.random.default_rng(6)
    operands: list[list[Operand]] = [row.operands(float64) for row in rows]

    def fun(*inputs: sg.Expr) -> list[sg.Expr]:
        left = iter(inputs)
        given = [[next(left) for _ in group] for group in operands]
        found = [o.value for row, xs in zip(rows, given) for o in row.outputs(float64, xs)]
        return [y for y in found if is_smooth(y)]

    together = [o for group in operands for o in group]
    return fun, [o.value(SIZES, "ordinary", rng) for o in together]


def slopes(fun: Fun) -> Fun:
    """The gradient of a weighted sum of fun's results, as a function."""

    def first(*inputs: sg.Expr) -> list[sg.Expr]:
        total: Any = 0.0
        for k, y in enumerate(fun(*inputs)):
            weights = np.cos(1.0 + k + 1.7 * np.arange(y.array_type.size)).reshape(
                y.array_type.shape
            )
            total = total + (y * sg.constant(weights)).sum()
        wrt = [x for x in inputs if x.dtype.is_float]
        return sg.grad(total, wrt, disconnected_inputs="zero")

    return first


ELEMENTWISE = list(groups(differentiable()))
ROWS = list(groups(smooth_rows()))


@pytest.mark.parametrize("ops", ELEMENTWISE)
def test_elementwise(ops: list[Elementwise]) -> None:
    fun, values = elementwise_program(ops)
    sg.verify_grad(fun, values, tests=1, make=make)


@pytest.mark.parametrize("ops", ELEMENTWISE)
def test_elementwise_twice(ops: list[Elementwise]) -> None:
    fun, values = elementwise_program(ops)
    sg.verify_grad(slopes(fun), values, tests=1, make=make)


@pytest.mark.parametrize("rows", ROWS)
def test_language(rows: list[Row]) -> None:
    fun, values = rows_program(rows)
    sg.verify_grad(fun, values, tests=1, make=make)


@pytest.mark.parametrize("rows", ROWS)
def test_language_twice(rows: list[Row]) -> None:
    fun, values = rows_program(rows)
    sg.verify_grad(slopes(fun), values, tests=1, make=make)
