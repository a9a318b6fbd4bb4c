"""Derivatives of elementwise functions at edges: kinks, ties, poles, infinities, dead branches."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import symgraph as sg
from symgraph.evaluate import evaluate
from symgraph.expr import Expr
from symgraph.grad import grad
from symgraph.leaves import array
from symgraph.ops import elementwise as ew
from symgraph.ops.define import REGISTRY, cast

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("f", "point", "want"),
    [
        (ew.abs, [0.0], [0]),
        (ew.abs, [NAN], [NAN]),
        (ew.relu, [0.0], [0]),
        (lambda x: ew.relu(x, 0.1), [0.0], [0.1]),
        (ew.relu6, [6.0], [1]),
        (ew.elu, [1e3], [1]),
        (ew.elu, [0.0], [1]),
        (ew.celu, [1e3], [1]),
        (ew.selu, [-1e3], [0]),
        (ew.sqrt, [0.0], [INF]),
        (ew.cbrt, [0.0], [INF]),
        (ew.log, [0.0], [INF]),
        (ew.maximum, [1.0, 1.0], [1, 0]),
        (ew.minimum, [1.0, 1.0], [1, 0]),
        (ew.fmax, [1.0, NAN], [1, 0]),
        (ew.fmin, [NAN, 1.0], [0, 1]),
        (lambda x: ew.clip(x, -1, 1), [1.0], [1]),
        (lambda x: ew.clip(x, -1, 1), [-1.0], [1]),
        (lambda x: ew.clip(x, -1, 1), [1.5], [0]),
        (ew.pow, [0.0, 2.0], [0, 0]),
        (ew.pow, [0.0, 0.0], [0, 0]),
        (ew.pow, [0.0, 1.0], [1, 0]),
        (ew.pow, [INF, 0.0], [0, INF]),
        (ew.pow, [-2.0, 3.0], [12, NAN]),
        (lambda x: x**2, [-3.0], [-6]),
        (lambda x: x**1, [0.0], [1]),
        (lambda x: x**0, [0.0], [0]),
        (lambda x: x**3, [0.0], [0]),
        (lambda x: x**-1, [2.0], [-0.25]),
        (lambda x: 2.0**x, [0.0], [math.log(2)]),
        (ew.hypot, [0.0, 0.0], [0, 0]),
        (ew.hypot, [3e200, 4e200], [0.6, 0.8]),
        (ew.atan2, [0.0, 0.0], [0, 0]),
        (ew.atan2, [3e-200, 4e-200], [0.16e200, -0.12e200]),
        (ew.xlogy, [0.0, 0.0], [-INF, 0]),
        (ew.xlogy, [0.0, 2.0], [math.log(2), 0]),
        (ew.sinc, [0.0], [0]),
        (ew.softplus, [1e4], [1]),
        (ew.softplus, [-1e4], [0]),
        (ew.sigmoid, [1e4], [0]),
        (ew.logaddexp, [INF, INF], [0.5, 0.5]),
        (ew.logaddexp, [-INF, 0.0], [0, 1]),
        (ew.copysign, [2.0, -1.0], [-1, 0]),
        (lambda x: ew.where(ew.gt(x, 0), x, -x), [-3.0], [-1]),
        (lambda x: ew.where(ew.gt(x, 0), ew.log(x), 0), [-3.0], [0]),
        (ew.floor, [1.5], [0]),
        (ew.sign, [1.5], [0]),
        (lambda x: ew.ldexp(x, 3), [1.5], [8]),
        (lambda x: ew.heaviside(x, x), [0.0], [1]),
    ],
)
def test_derivative_at_edges(f: Callable[..., Expr], point: list[float], want: list[float]) -> None:
    inputs = [array(f"x{i}", (), "float64") for i in range(len(point))]
    slopes = grad(f(*inputs), inputs, disconnected_inputs="zero")
    got = evaluate(slopes, dict(zip(inputs, map(np.float64, point))))
    np.testing.assert_allclose(got, want, rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize(
    ("f", "point", "want"),
    [
        (ew.sinc, 0.0, -(math.pi**2) / 3),
        (ew.sinc, 1e-8, -(math.pi**2) / 3),
        (ew.softplus, 0.0, 0.25),
        (lambda x: ew.pow(x, 2), 0.0, 2.0),
        (lambda x: ew.logaddexp(x, 0.0), 0.0, 0.25),
        (lambda x: ew.hypot(x, 1.0), 0.0, 1.0),
        (lambda x: ew.xlogy(x, 3.0 + x), 0.0, 2 / 3),
        (ew.gelu, 0.0, math.sqrt(2 / math.pi)),
        (ew.silu, 0.0, 0.5),
        (ew.tanh, 30.0, 0.0),
    ],
)
def test_second_derivative_at_edges(f: Callable[..., Expr], point: float, want: float) -> None:
    x = array("x", (), "float64")
    second = grad(grad(f(x), x), x)
    np.testing.assert_allclose(
        evaluate(second, {x: np.float64(point)}), want, rtol=1e-13, atol=1e-15
    )


def test_mixed_second_derivative_of_powers_and_products_with_logs() -> None:
    """Guards touch the singular points alone: the mixed derivatives beside them are right."""
    x, p = array("x", (), "float64"), array("p", (), "float64")
    at = {x: np.float64(2.0), p: np.float64(0.0)}
    assert evaluate(grad(grad(x**p, x), p), at) == pytest.approx(0.5)
    assert evaluate(grad(grad(ew.xlogy(p, x), x), p), at) == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (0,)])
def test_a_shared_exponent_of_one_half_is_a_power_not_a_root(
    dtype: str, shape: tuple[int, ...]
) -> None:
    x = sg.array("x", shape, dtype)
    for value, root in [(-INF, INF), (-0.0, 0.0), (4.0, 2.0), (-1.0, NAN)]:
        for run in (
            lambda v: (x**0.5).eval({x: v}),
            sg.function([x], x**0.5),
            lambda v: sg.function([], sg.constant(v) ** 0.5)(),
        ):
            got = np.asarray(run(np.full(shape, value).astype(x.dtype.np)), np.float64)
            assert np.array_equal(got, np.full(shape, root), equal_nan=True)
            assert not np.signbit(got[got == 0]).any()


@pytest.mark.parametrize("name", ["where", "maximum", "mul", "true_div", "pow", "hypot"])
def test_gradients_of_half_precision_keep_their_dtype(name: str) -> None:
    inputs = [array(f"x{i}", (), "float16") for i in range(REGISTRY[name].spec.arity)]
    for slope in grad(getattr(ew, name)(*inputs), inputs[-2:]):
        assert slope.dtype == "float16"


def test_cotangent_of_a_cast_to_complex_is_its_real_part() -> None:
    x = array("x", (), "float64")
    y = ew.real(cast(x, "complex128") * (2 + 3j))
    assert evaluate(grad(y, x), {x: np.float64(1.0)}) == 2.0
