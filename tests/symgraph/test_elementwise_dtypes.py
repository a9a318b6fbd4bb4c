"""Dtypes of elementwise results: promotion, refusals, weak Python numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph.variable  # noqa: F401  (installs the operators)
from symgraph import dtypes
from symgraph.errors import DTypeError
from symgraph.evaluate import evaluate
from symgraph.leaves import array, constant
from symgraph.ops import elementwise as ew


@pytest.mark.parametrize(
    ("name", "operands", "result"),
    [
        ("add", ["bool", "bool"], "bool"),
        ("add", ["int8", "uint8"], "int16"),
        ("add", ["uint64", "int64"], "float64"),
        ("add", ["int64", "float32"], "float32"),
        ("add", ["int64", "float16"], "float16"),
        ("add", ["float16", "bfloat16"], "float32"),
        ("add", ["float64", "complex64"], "complex128"),
        ("sub", ["bool", "int8"], "int8"),
        ("true_div", ["int32", "int32"], "float32"),
        ("true_div", ["bool", "float64"], "float64"),
        ("floor_divide", ["bool", "bool"], "int8"),
        ("pow", ["bool", "bool"], "int8"),
        ("pow", ["int32", "float32"], "float32"),
        ("square", ["bool"], "int8"),
        ("left_shift", ["bool", "uint8"], "uint8"),
        ("sqrt", ["int64"], "float32"),
        ("exp", ["bool"], "float32"),
        ("exp", ["bfloat16"], "bfloat16"),
        ("floor", ["int8"], "int8"),
        ("floor", ["bool"], "bool"),
        ("abs", ["complex64"], "float32"),
        ("abs", ["complex128"], "float64"),
        ("abs", ["uint8"], "uint8"),
        ("real", ["int8"], "int8"),
        ("imag", ["complex64"], "float32"),
        ("angle", ["int64"], "float32"),
        ("complex", ["float16", "float16"], "complex64"),
        ("complex", ["float32", "float64"], "complex128"),
        ("complex", ["int8", "int8"], "complex64"),
        ("eq", ["complex64", "int8"], "bool"),
        ("logical_and", ["float32", "complex64"], "bool"),
        ("where", ["float64", "int8", "float16"], "float16"),
        ("where", ["bool", "bool", "bool"], "bool"),
        ("ldexp", ["float32", "int64"], "float32"),
        ("bitwise_count", ["int64"], "uint8"),
        ("polygamma", ["int64", "int32"], "float32"),
    ],
)
def test_result_dtype(name: str, operands: list[str], result: str) -> None:
    inputs = [array(f"x{i}", (2,), d) for i, d in enumerate(operands)]
    out = getattr(ew, name)(*inputs)
    assert out.dtype == result
    values = {x: np.ones(2, x.dtype.np) for x in inputs}
    assert evaluate(out, values).dtype == out.dtype.np


@pytest.mark.parametrize(
    ("name", "operands"),
    [
        ("sub", ["bool", "bool"]),
        ("neg", ["bool"]),
        ("sign", ["bool"]),
        ("maximum", ["complex64", "float32"]),
        ("lt", ["complex64", "complex64"]),
        ("floor", ["complex64"]),
        ("erf", ["complex128"]),
        ("bitwise_and", ["float32", "int8"]),
        ("invert", ["float64"]),
        ("ldexp", ["float32", "float32"]),
        ("mod", ["complex64", "complex64"]),
        ("nextafter", ["float16", "float16"]),
    ],
)
def test_refused_dtypes(name: str, operands: list[str]) -> None:
    with pytest.raises(DTypeError, match=name):
        getattr(ew, name)(*[array(f"x{i}", (2,), d) for i, d in enumerate(operands)])


def test_refusal_tells_what_to_do() -> None:
    m = array("m", (2,), "bool")
    with pytest.raises(DTypeError) as caught:
        _ = -m
    lines = str(caught.value).splitlines()
    assert lines[0] == "neg: dtype bool is not accepted"
    assert "test_elementwise_dtypes.py" in lines[1] and lines[1].endswith("_ = -m")
    assert lines[-1] == "  hint: use ~x, or cast to a number first"


def test_default_float_decides_what_integers_become() -> None:
    n = array("n", (2,), "int64")
    try:
        dtypes.set_default_float("float64")
        assert ew.sqrt(n).dtype == ew.true_div(n, n).dtype == (n * 0.5).dtype == "float64"
    finally:
        dtypes.set_default_float("float32")
    assert ew.sqrt(n).dtype == (n / 2).dtype == (n * 0.5).dtype == "float32"


def test_python_numbers_are_weak() -> None:
    u, h = array("u", (2,), "uint8"), array("h", (2,), "float16")
    assert (u + 3).dtype == "uint8" and (u * 0.5).dtype == "float32"
    assert (h * 2.0).dtype == (2 + h).dtype == "float16"
    assert (h + 1j).dtype == "complex64"
    assert (h + np.float64(1)).dtype == "float64"
    with pytest.raises(DTypeError, match="300 does not fit uint8"):
        u + 300


@given(st.sampled_from(dtypes.integers), st.integers(-(2**40), 2**40))
def test_integers_compare_with_any_number(d: dtypes.DType, value: int) -> None:
    """A Python integer beyond the dtype is compared as the number it is."""
    if d.bits == 64 and d.kind == "u" and value < 0:
        return
    info = np.iinfo(d.np)
    edges = [int(info.min), 0, 1, int(info.max)]
    x = constant(np.array(edges, d.np))
    for f, compare in ((ew.lt, int.__lt__), (ew.eq, int.__eq__), (ew.ge, int.__ge__)):
        assert evaluate(f(x, value)).tolist() == [compare(e, value) for e in edges]
