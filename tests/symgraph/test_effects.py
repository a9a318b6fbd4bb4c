"""Assertions and printing: they happen when run, keep the value, and let gradients pass."""

from __future__ import annotations

import numpy as np
import pytest

from symgraph.errors import AssertionFault, DTypeError, GraphError, ShapeError
from symgraph.evaluate import evaluate
from symgraph.grad import grad
from symgraph.leaves import array
from symgraph.ops import elementwise as ew
from symgraph.ops.effects import Print, assert_, specify_shape
from symgraph.ops.loop import loop

VALUE = np.array([1.0, 2.0, 3.0])


def test_assert_checks_every_element_and_names_the_line() -> None:
    x = array("x", ("n",), "float64")
    y = ew.log(assert_(x, x > 0, "x must be positive"))
    np.testing.assert_array_equal(evaluate(y, {x: VALUE}), np.log(VALUE))
    assert evaluate(y, {x: np.zeros(0)}).shape == (0,)
    with pytest.raises(AssertionFault) as error:
        evaluate(y, {x: np.array([1.0, -1.0])})
    assert error.value.message == "x must be positive"
    assert error.value.site is not None and error.value.site[0] == __file__
    with pytest.raises(AssertionFault):
        evaluate(y, {x: np.array([1.0, np.nan])})


def test_assert_takes_numbers_as_truth_and_passes_gradients() -> None:
    x = array("x", (3,), "float64")
    y = assert_(x, x.sum(), "sum is zero") ** 2
    np.testing.assert_array_equal(evaluate(grad(y.sum(), x), {x: VALUE}), 2 * VALUE)
    with pytest.raises(DTypeError, match="expected a string"):
        assert_(x, x > 0, 3)  # type: ignore[arg-type]


def test_print_writes_once_per_run(capsys: pytest.CaptureFixture[str]) -> None:
    x = array("x", (3,), "float64")
    y = Print(x * 2.0, "doubled")
    z = Print("stats", attrs=("shape", "mean"))(x)
    assert capsys.readouterr().out == ""
    got = evaluate((y + y).sum() + z.sum(), {x: VALUE})
    assert got == 30.0
    out = capsys.readouterr().out.splitlines()
    assert sorted(out) == ["doubled [2. 4. 6.]", "stats shape = (3,) mean = 2.0"]
    evaluate(Print(x), {x: VALUE})
    assert capsys.readouterr().out == "[1. 2. 3.]\n"
    np.testing.assert_array_equal(evaluate(grad((y**2).sum(), x), {x: VALUE}), 8 * VALUE)
    with pytest.raises(GraphError, match="no attribute 'colour'"):
        Print("m", attrs=("colour",))


def test_print_inside_a_loop_runs_at_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    x, w = array("x", (3,), "float64"), array("w", (), "float64")
    total, _ = loop(lambda s, r: (s + r * Print(w, "w"), None), 0.0, x)
    assert evaluate(total, {x: VALUE, w: np.array(2.0)}) == 12.0
    assert capsys.readouterr().out == "w 2.0\n" * 3


def test_specify_shape() -> None:
    x = array("x", ("n", "m"), "float64")
    y = specify_shape(x, (None, 3))
    assert y.array_type.shape == (x.array_type.shape[0], 3)
    assert evaluate(y, {x: np.ones((2, 3))}).shape == (2, 3)
    with pytest.raises(ShapeError):
        evaluate(y, {x: np.ones((3, 2))})
    with pytest.raises(ShapeError, match="axis 1 has size 3, not 4"):
        specify_shape(y, (None, 4))
    with pytest.raises(ShapeError, match="expected 2 sizes"):
        specify_shape(y, (3,))
