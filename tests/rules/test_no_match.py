"""What looks like an identity and is none: these expressions must come through unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import symgraph as sg
from symgraph.expr import Expr
from symgraph.ops.movement import Slice
from symgraph.optim.pipeline import optimize

KEPT: dict[str, Callable[[Any, Any], Expr]] = {
    "x - x is NaN for NaN and infinity": lambda x, y: x - x,
    "x / x is NaN for 0": lambda x, y: x / x,
    "x * 0 is NaN for infinity, -0 for negatives": lambda x, y: x * 0,
    "0 / x is NaN for 0": lambda x, y: 0 / x,
    "(x + y) - y forgets what overflowed": lambda x, y: (x + y) - y,
    "log(exp(x)) is infinite for large x": lambda x, y: sg.log(sg.exp(x)),
    "exp(log(x)) is NaN below 0": lambda x, y: sg.exp(sg.log(x)),
    "expm1(log1p(x)) is NaN below -1": lambda x, y: sg.expm1(sg.log1p(x)),
    "log1p(expm1(x)) is infinite for large x": lambda x, y: sg.log1p(sg.expm1(x)),
    "square(sqrt(x)) is NaN below 0": lambda x, y: sg.square(sg.sqrt(x)),
    "x**0.5 of -inf is inf": lambda x, y: x**0.5,
    "log(x**3) of a negative number is NaN": lambda x, y: sg.log(x ** sg.constant(3.5)),
    "tanh(atanh(x)) is NaN outside": lambda x, y: sg.tanh(sg.atanh(x)),
    "x * log(x) is NaN at 0": lambda x, y: x * sg.log(x),
    "exp(x) * exp(y) overflows by parts": lambda x, y: sg.exp(x) * sg.exp(y),
    "log(x) + log(y) of two negatives is NaN": lambda x, y: sg.log(x) + sg.log(y),
    "sqrt(x) * sqrt(y) of two negatives is NaN": lambda x, y: sg.sqrt(x) * sg.sqrt(y),
    "x == x is false for NaN": lambda x, y: sg.eq(x, x),
    "x <= x is false for NaN": lambda x, y: x <= x,
    "not (x < y) is true for NaN": lambda x, y: sg.logical_not(x < y),
    "where(x > 0, x, 0) of NaN is 0, relu's is NaN": lambda x, y: sg.where(x > 0, x, 0),
    "where(x > 0, x, -x) of 0 is -0": lambda x, y: sg.where(x > 0, x, -x),
    "where(x < y, x, y) of NaN is y": lambda x, y: sg.where(x < y, x, y),
    "x * where(c, y, 0) is NaN for infinity": lambda x, y: x * sg.where(y > 0, y, 0),
    "maximum(x, y) at a tie of zeros": lambda x, y: sg.maximum(sg.maximum(x, y), y),
    "maximum(x, NaN) is NaN": lambda x, y: sg.fmax(x, y),
    "x * c + y * c: x + y may overflow": lambda x, y: x * 0.3 + y * 0.3,
    "x * 1e30 * 1e-30 overflows by parts": lambda x, y: x * 1e30 * 1e-30,
    "(x + 1e38) - 1e38 overflows by parts": lambda x, y: (x + 1e38) - 1e38,
    "x / 0.3 overflows elsewhere": lambda x, y: x / 0.3,
    "x * y / y is NaN for 0": lambda x, y: x * y / y,
    "x + x": lambda x, y: x + x,
    "x // 1 is floor, of -0 too": lambda x, y: x // 1,
    "x % 1": lambda x, y: x % 1,
    "sign(x) * abs(x) is NaN for infinity": lambda x, y: sg.sign(x) * sg.abs(x),
    "softmax(x - y), y not the maximum": lambda x, y: sg.softmax(x - sg.sum(y, -1, keepdims=True)),
    "exp(x) / sum(exp(y))": lambda x, y: sg.exp(x) / sg.sum(sg.exp(y), -1, keepdims=True),
    "exp(x) / sum over all axes": lambda x, y: sg.exp(x) / sg.sum(sg.exp(x)),
    "log(sum(exp(x))) of an axis that may be empty": lambda x, y: sg.log(sg.sum(sg.exp(x), 0)),
    "prod(prod(x)) of floats": lambda x, y: sg.prod(sg.prod(x, 0), 0),
    "max of a sum": lambda x, y: sg.max(sg.sum(x, 0), 0),
    "sum of the sums along a softmax": lambda x, y: sg.sum(sg.sum(sg.log_softmax(x) * y, -1)),
    "cast to int and back": lambda x, y: sg.cast(sg.cast(x, "int32"), "float32"),
    "cast to a shorter float and back": lambda x, y: sg.cast(sg.cast(x, "float16"), "float32"),
    "a slice that straddles two parts": lambda x, y: sg.concatenate([x, y], 1)[:, 3:5],
}

INTEGERS: dict[str, Callable[[Any, Any], Expr]] = {
    "i // i is 0 for 0": lambda i, j: i // i,
    "abs of the smallest integer": lambda i, j: sg.abs(i),
    "(i // j) * j": lambda i, j: (i // j) * j,
    "i * 2 // 2 wraps": lambda i, j: (i * 3) // 3,
    "i % -4": lambda i, j: i % -4,
    "i // 6": lambda i, j: i // 6,
    "i < i + 1 wraps": lambda i, j: i < i + 1,
    "(i << 3) >> 3": lambda i, j: (i << 3) >> 3,
    "int16 through float32 to int8 saturates": lambda i, j: sg.cast(
        sg.cast(sg.cast(i, "int16"), "float32"), "int8"
    ),
    "int64 through float32": lambda i, j: sg.cast(sg.cast(i, "float32"), "int64"),
}  # fmt: skip


@pytest.mark.parametrize("what", KEPT)
def test_floats_come_through(what: str) -> None:
    x, y = sg.array("x", ("n", 4), "float32"), sg.array("y", ("n", 4), "float32")
    node = KEPT[what](x, y)
    (new,), journal = optimize([node])
    assert new is node, str(journal)


@pytest.mark.parametrize("what", INTEGERS)
def test_integers_come_through(what: str) -> None:
    i, j = sg.array("i", (3,), "int64"), sg.array("j", (3,), "int64")
    node = INTEGERS[what](i, j)
    (new,), journal = optimize([node])
    assert new is node, str(journal)


def test_complex_numbers_are_left_alone() -> None:
    z = sg.array("z", (3,), "complex64")
    for node in (z * 1, z + 0, sg.log(1 + z), z**2, sg.exp(z) - 1):
        assert optimize([node])[0][0] is node


def test_random_draws_and_prints_are_never_computed_ahead() -> None:
    from symgraph.ops.effects import Print

    node = Print(sg.constant(2.0), "two") * 3
    (new,), _ = optimize([node])
    assert any(x.op.name == "print" for x in sg.expr.toposort([new]))


def test_a_slice_out_of_a_concatenation_of_unknown_sizes_stays() -> None:
    x, y = sg.array("x", ("n", 2)), sg.array("y", ("m", 2))
    node = sg.expr.apply(Slice((1, 0), (2, 2), (1, 1)), sg.concatenate([x, y], 0))
    assert optimize([node])[0][0] is node
