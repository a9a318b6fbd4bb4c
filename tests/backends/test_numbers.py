"""Numbers in place of arrays with one element: native code and Python's rules say the same."""

from __future__ import annotations

import functools
import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import symgraph as sg
from symgraph.arraytype import Array
from symgraph.backends import numbers_ir
from symgraph.checks import as_argument
from symgraph.dtypes import dtype
from symgraph.errors import ArgumentError, SymgraphError

DTYPES = (
    *numbers_ir.FLOATS,
    *numbers_ir.INTEGERS,
    *("bool", "float16", "bfloat16", "complex64", "complex128"),
)
EDGES = [
    s * 2**e + d
    for e in (7, 8, 15, 16, 24, 31, 32, 53, 63, 64)
    for s in (1, -1)
    for d in (-1, 0, 1)
]


@functools.cache
def identity(kind: str) -> Any:
    x = sg.array("x", (), kind)
    return sg.function([x], x)


def outcome(call: Any, *args: Any, **named: Any) -> Any:
    """The bytes of a result, or the exception's class."""
    try:
        return call(*args, **named).tobytes()
    except SymgraphError as error:
        return type(error)


def converted(f: Any, *args: Any) -> int:
    """How many arguments Python converted in one call."""
    before = f.profile().copies
    f(*args)
    return f.profile().copies - before


numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from(EDGES),
    st.floats(allow_nan=True),
    st.floats(width=32),
    st.booleans(),
    st.complex_numbers(),
)


@given(st.sampled_from(DTYPES), numbers)
@example("float32", 1e300)
@example("float32", math.nan)
@example("float32", -0.0)
@example("float32", 2**24 + 1)
@example("float64", 2**53 + 1)
@example("uint64", -1)
@example("int8", 128)
def test_python_numbers(kind: str, value: Any) -> None:
    want = outcome(as_argument, value, Array(dtype(kind), ()), "x")
    assert outcome(identity(kind), value) == want


@given(st.sampled_from(DTYPES), st.sampled_from(DTYPES), st.floats(-100, 100))
def test_numpy_numbers(kind: str, other: str, value: float) -> None:
    with np.errstate(all="ignore"):
        number = np.array(value).astype(dtype(other).np)[()]
    want = outcome(as_argument, number, Array(dtype(kind), ()), "x")
    assert outcome(identity(kind), number) == want


class Real(float):
    """A float that says something else when it is asked."""

    def __float__(self) -> float:
        return 7.0


class Whole(int):
    pass


@pytest.mark.parametrize(
    "value", [Real(2.5), Whole(3), True, np.float64(2.5), "2", None, [2.0], b"2"]
)
def test_what_is_no_plain_number_goes_by_pythons_rules(value: Any) -> None:
    for kind in ("float32", "float64", "int32"):
        want = outcome(as_argument, value, Array(dtype(kind), ()), "x")
        assert outcome(identity(kind), value) == want


def test_plain_numbers_need_no_python() -> None:
    for kind, values in {
        "float32": (0.1, 3, np.float32(0.1)),
        "float64": (0.1, -3, np.float64(0.1)),
        "int16": (-3, np.int16(7)),
        "uint64": (2**63 - 1, np.uint64(2**64 - 1)),
        "complex64": (np.complex64(1j),),
        "bool": (np.True_,),
        "float16": (np.float16(2),),
    }.items():
        for value in values:
            assert converted(identity(kind), value) == 0
    assert converted(identity("bool"), True) == converted(identity("float16"), 2.0) == 1


def test_rules_of_the_user_hold() -> None:
    x = sg.array("x", ())
    exact = sg.function([x], x, allow_input_downcast=False)
    assert exact(0.5) == 0.5
    with pytest.raises(ArgumentError, match="cannot hold 0.1 exactly"):
        exact(0.1)
    for value in (0.5, np.float32(0.5), 1):
        with pytest.raises(ArgumentError, match="strict"):
            sg.function([sg.In(x, strict=True)], x)(value)
    one = sg.function([sg.In(x, allow_downcast=False)], x)
    with pytest.raises(ArgumentError):
        one(0.1)
    assert one.copy()(0.25) == 0.25
    with pytest.raises(ArgumentError):
        one.copy(name="again")(0.1)
    loose = sg.function([x], x, allow_input_downcast=True)
    assert loose(0.1) == loose(np.float64(0.1)) == np.float32(0.1)


def test_a_size_can_be_a_number() -> None:
    n = sg.array("n", (), "int32")
    f = sg.function([n], sg.arange(n))
    assert converted(f, 5) == 0 and f(5).tolist() == f(np.int32(5)).tolist() == list(range(5))
    assert f(0).size == 0
    with pytest.raises(SymgraphError):
        f(2**31)


def test_beside_arrays_and_shared_variables() -> None:
    """A step of training: the rate is a number, and differs from call to call."""
    w = sg.shared(np.zeros(3, np.float32), "w")
    x, rate = sg.array("x", (3,)), sg.array("rate", ())
    step = sg.function([x, rate], sg.sum(w), updates={w: w + rate * x})
    ones, want = np.ones(3, np.float32), np.float32(0)
    for value in (0.5, 0.25, np.float32(2), 1, np.array(0.125, np.float32)):
        assert step(ones, value) == 3 * want
        want += np.float32(value)
    assert (w.get_value() == want).all()
    assert step.profile().copies == 1  # in the first call, which makes the spare buffer


def test_references_are_kept() -> None:
    value, number = 1234.5, np.float32(7)
    f = identity("float32")
    before = sys.getrefcount(value), sys.getrefcount(number)
    for _ in range(100):
        f(value), f(number)
        with pytest.raises(ArgumentError):
            f(1j)
    assert (sys.getrefcount(value), sys.getrefcount(number)) == before
