"""What function() may be asked for: givens, updates, unused inputs; every refusal in full."""

from __future__ import annotations

import re

import numpy as np
import pytest

import symgraph as sg

LINE = re.compile(r"^  \S*test_request\.py:\d+.*\n?", re.M)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_givens_replace_at_once() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    f = sg.function([y], x * 2, givens={x: y + 1})
    assert f(f32(1, 2)).tolist() == [4, 6]
    data, i = (
        sg.shared(np.arange(12, dtype=np.float32).reshape(6, 2), "data"),
        sg.scalar("i", dtype="int64"),
    )
    m = sg.matrix("m")
    batch = sg.function([i], m.sum(axis=1), givens=[(m, data[i * 2 : i * 2 + 2])])
    assert batch(1).tolist() == [9, 13]


def test_givens_change_sizes_that_only_the_replaced_input_showed() -> None:
    x = sg.array("x", ("n",))
    y = sg.array("y", (4,))
    f = sg.function([y], x / x.shape[0] + sg.arange(x.shape[0]), givens={x: y})
    assert f(f32(4, 8, 12, 16)).tolist() == [1, 3, 5, 7]


WRONG = {
    "twice": (
        lambda x, y, w: sg.function([x, x], x),
        sg.GraphError,
        "function: input x is listed twice (positions 0 and 1)",
    ),
    "shared": (
        lambda x, y, w: sg.function([w], w),
        sg.GraphError,
        "function: w is a shared variable, not an input\n"
        "  hint: give it another value with givens={w: x}",
    ),
    "no expression": (
        lambda x, y, w: sg.function([1], x),
        sg.GraphError,
        "function: input 0 is not an expression but 1",
    ),
    "not a list": (
        lambda x, y, w: sg.function({"x": x}, x),
        sg.GraphError,
        "function: inputs must be a list, got dict",
    ),
    "missing": (
        lambda x, y, w: sg.function([], x + y),
        sg.MissingInputError,
        "function: 2 inputs of the graph are not given:\n"
        "  x: float32[n]  test_request.py:LINE\n"
        "  y: float32[n]  test_request.py:LINE",
    ),
    "unused": (
        lambda x, y, w: sg.function([x, y], x),
        sg.UnusedInputError,
        "function: 1 input is not used by the outputs or updates:\n"
        "  y: float32[n]  test_request.py:LINE\n"
        '  hint: drop it, or on_unused_input="ignore"',
    ),
    "update of an input": (
        lambda x, y, w: sg.function([x], x, updates={x: x}),
        sg.GraphError,
        "function: updates: x is not a shared variable",
    ),
    "updated twice": (
        lambda x, y, w: sg.function([x], x, updates=[(w, w + 1), (w, w + 2)]),
        sg.GraphError,
        "function: w is updated twice\n  w: float32[2]  test_request.py:LINE",
    ),
    "update dtype": (
        lambda x, y, w: sg.function([], w, updates={w: sg.cast(w, "float64")}),
        sg.DTypeError,
        "function: update of w: expected float32[2], got float64[2]\n"
        "  w: float32[2]  test_request.py:LINE\n"
        '  cast: float64[2]  test_request.py:LINE\n  hint: write new.astype("float32")',
    ),
    "update rank": (
        lambda x, y, w: sg.function([], w, updates={w: w.sum()}),
        sg.ShapeError,
        "function: update of w: expected rank 1 (float32[2]), got rank 0 (float32[])\n"
        "  w: float32[2]  test_request.py:LINE\n  sum: float32[]  test_request.py:LINE",
    ),
    "update size": (
        lambda x, y, w: sg.function([], w, updates={w: sg.constant(f32(1, 2, 3))}),
        sg.ShapeError,
        "update of w: axis 0: expected size 2, got 3\n  constant: float32[3]  test_request.py:LINE",
    ),
    "givens depend": (
        lambda x, y, w: sg.function([x], x, givens={x: y, y: x}),
        sg.GraphError,
        "function: givens: the replacement of x depends on y, which is replaced too\n"
        "  hint: all givens are put in at once: put one into the other first",
    ),
    "givens dtype": (
        lambda x, y, w: sg.function([x], x, givens={y: sg.cast(x, "float64")}),
        sg.DTypeError,
        "function: givens: replacement of y: expected float32[n], got float64[n]\n"
        "  y: float32[n]  test_request.py:LINE\n"
        '  cast: float64[n]  test_request.py:LINE\n  hint: write new.astype("float32")',
    ),
    "mode": (
        lambda x, y, w: sg.function([x], x, mode="fast"),
        sg.GraphError,
        "function: mode='fast': expected one of native, reference, debug, check_nan",
    ),
    "stage": (
        lambda x, y, w: sg.function([x], x, show="grapf"),
        sg.GraphError,
        "show: no stage is called grapf\n"
        "  hint: stages: graph, rewrites, plan, loops, llvm, asm, times",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_requests(case: str) -> None:
    x, y = sg.array("x", ("n",)), sg.array("y", ("n",))
    w = sg.shared(f32(1, 2), "w")
    build, kind, text = WRONG[case]
    with pytest.raises(kind) as error:
        build(x, y, w)
    shown = LINE.sub("", str(error.value)).rstrip("\n")  # without the lines that quote this file
    assert re.sub(r"\.py:\d+", ".py:LINE", shown) == text


def test_unused_inputs_may_be_ignored_or_warned_about() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    f = sg.function([x, y], x, on_unused_input="ignore")
    assert f(f32(1), f32(1, 2)).tolist() == [1]
    with pytest.warns(UserWarning, match="1 input is not used"):
        sg.function([x, y], x, on_unused_input="warn")


def test_a_computed_expression_may_be_an_input() -> None:
    x = sg.vector("x")
    h = sg.exp(x)
    f = sg.function([h], h * 2 + 1)
    assert f(f32(1, 2)).tolist() == [3, 5]
