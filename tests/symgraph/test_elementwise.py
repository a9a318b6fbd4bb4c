"""Elementwise functions as users see them: values, dtypes, shapes, errors, names."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import symgraph.variable  # noqa: F401  (installs the operators)
from symgraph import dtypes
from symgraph.errors import ArgumentError, DTypeError, ShapeError
from symgraph.evaluate import evaluate
from symgraph.expr import Expr
from symgraph.leaves import array, constant
from symgraph.ops import elementwise as ew
from symgraph.ops.define import REGISTRY, cast

INF, NAN = math.inf, math.nan
OPS = {n: op for n, op in REGISTRY.items() if op.spec.module.startswith(ew.__name__)}

# ------------------------------------------------------------------------------------ values

SAME_NAME = """add square reciprocal floor_divide fmod maximum minimum fmax fmin copysign nextafter
ldexp signbit heaviside isnan isinf isfinite logical_and logical_or logical_xor logical_not
bitwise_and bitwise_or bitwise_xor invert left_shift right_shift bitwise_count floor ceil trunc sign
where sqrt real imag fabs gcd lcm spacing""".split()
NUMPY_NAME = {
    "sub": "subtract",
    "mul": "multiply",
    "true_div": "true_divide",
    "neg": "negative",
    "mod": "remainder",
    "eq": "equal",
    "neq": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "abs": "absolute",
    "conj": "conjugate",
    "rint": "round",
} | {name: name for name in SAME_NAME}
APPROXIMATE = {
    "pow": np.power,
    "angle": np.angle,
    "sinc": np.sinc,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "sigmoid": scipy.special.expit,
    "log_sigmoid": scipy.special.log_expit,
    "softplus": lambda x: np.logaddexp(0, x),
    "lgamma": scipy.special.gammaln,
    "digamma": scipy.special.psi,
    "silu": lambda x: x * scipy.special.expit(x),
    "gelu": lambda x: 0.5 * x * (1 + scipy.special.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.where(x > 0, x, 0),
    "rsqrt": lambda x: x**-0.5,
    "complex": lambda re, im: re + 1j * im,
    "kl_div": lambda x, y: x * np.log(x.astype(np.longdouble) / y) - x + y,  # SciPy's cancels
}
APPROXIMATE |= {
    name: getattr(np, name)
    for name in """exp exp2 expm1 log log2 log10 log1p logaddexp logaddexp2 cbrt hypot sin cos tan
    sinh cosh tanh deg2rad rad2deg""".split()
}
APPROXIMATE |= {
    name: getattr(scipy.special, name)
    for name in """xlogy xlog1py logit erf erfc ndtr erfinv gamma polygamma gammasgn exp10 exprel
    cosm1 powm1 entr rel_entr huber pseudo_huber boxcox boxcox1p inv_boxcox inv_boxcox1p
    erfcx log_ndtr ndtri i0 i0e i1 i1e""".split()
}


def test_every_op_has_a_reference() -> None:
    assert set(NUMPY_NAME) | set(APPROXIMATE) == set(OPS)
    assert not set(NUMPY_NAME) & set(APPROXIMATE)


def operand(d: Any, rng: np.random.Generator, size: int = 40) -> np.ndarray:
    if d.kind == "b":
        return rng.integers(0, 2, size).astype(bool)
    if d.is_integer:
        return rng.integers(0 if d.kind == "u" else -9, 10, size).astype(d.np)
    x = rng.normal(size=size) * 3
    x[:8] = [0.0, -0.0, 1.0, -1.0, NAN, INF, -INF, 2.5]
    if d.kind == "c":
        return evaluate(ew.complex(rng.permutation(x), rng.permutation(x))).astype(d.np)
    return rng.permutation(x).astype(d.np)


EXACT_CASES = [
    pytest.param(name, d, id=f"{name}-{d}")
    for name, op in OPS.items()
    if name in NUMPY_NAME
    for d in (sorted(op.spec.accepts) if op.spec.promote else [dtypes.float32])
    if str(d) != "bfloat16" and (name, d) != ("rint", "bool")  # NumPy has none; makes it float16
]


@pytest.mark.parametrize(("name", "d"), EXACT_CASES)
def test_values_and_dtypes_are_numpys(name: str, d: dtypes.DType) -> None:
    op, rng = OPS[name], np.random.default_rng(0)
    kinds = [op.spec.fixed.get(i, d) for i in range(op.spec.arity)]
    values = [operand(k, rng) for k in kinds]
    inputs = [array(f"x{i}", v.shape, v.dtype) for i, v in enumerate(values)]
    out = getattr(ew, name)(*inputs)
    with np.errstate(all="ignore"):
        want = getattr(np, NUMPY_NAME[name])(*values)
    got = evaluate(out, dict(zip(inputs, values)))
    assert got.dtype == want.dtype == out.dtype.np
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", APPROXIMATE)
@pytest.mark.parametrize("d", ["float32", "float64"])
def test_approximate_functions_are_accurate(name: str, d: str) -> None:
    """float64 within a few units; float32 is the float64 value rounded."""
    op, rng = OPS[name], np.random.default_rng(1)
    values = [
        rng.uniform(*op.spec.domain, 200).astype(op.spec.fixed.get(i, d))
        for i in range(op.spec.arity)
    ]
    wide = [v.astype(np.float64) if v.dtype == np.float32 else v for v in values]
    got = evaluate(getattr(ew, name)(*[constant(v) for v in values]))
    want = APPROXIMATE[name](*wide)
    tolerance = 2e-13 if d == "float64" else 2e-7
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * 1e-3)


@pytest.mark.parametrize(
    ("f", "x", "want"),
    [
        (
            ew.sigmoid,
            [-1e4, -100.0, 0.0, 40.0, 1e4],
            [0, math.exp(-100), 0.5, 1 / (1 + math.exp(-40)), 1],
        ),
        (ew.softplus, [-800.0, -100.0, 800.0, INF, -INF], [0, math.exp(-100), 800, INF, 0]),
        (ew.log_sigmoid, [-800.0, 100.0, INF, -INF], [-800, -math.exp(-100), 0, -INF]),
        (ew.logit, [0.0, 1.0, 0.5, 2.0], [-INF, INF, 0, NAN]),
        (ew.logit, [0.5 + 2**-40], [2**-38]),
        (ew.sign, [NAN, -0.0, INF, -3.0], [NAN, 0, 1, -1]),
        (ew.rint, [0.5, 1.5, 2.5, -0.5, -1.5], [0, 2, 2, -0.0, -2]),
        (ew.sinc, [0.0, 1.0, 2.0, 100.0, 0.5], [1, 0, 0, 0, 2 / math.pi]),
        (ew.rsqrt, [0.0, INF, 4.0, -1.0], [INF, 0, 0.5, NAN]),
        (ew.relu, [NAN, -INF, INF, -0.0], [NAN, 0, INF, 0]),
        (ew.elu, [1e3, -1e3, NAN, INF, -INF], [1e3, -1, NAN, INF, -1]),
        (ew.gelu, [-40.0, 40.0, 0.0], [-0.0, 40, 0]),
        (lambda x: ew.xlogy(x, 0.0), [0.0, 1.0], [0, -INF]),
        (lambda x: ew.mod(x, INF), [1.0, -1.0], [1, INF]),
        (lambda x: ew.ldexp(x, 2**40), [1.0, 0.0, -1.0], [INF, 0, -INF]),
        (lambda x: ew.logaddexp(x, x), [INF, -INF], [INF, -INF]),
    ],
)
def test_special_values(f: Callable[..., Expr], x: list[float], want: list[float]) -> None:
    np.testing.assert_allclose(evaluate(f(constant(x, "float64"))), want, rtol=1e-14)


@pytest.mark.parametrize("source", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("target", dtypes.integers)
def test_floats_saturate_when_cast_to_integers(source: str, target: dtypes.DType) -> None:
    info = np.iinfo(target.np)
    edges = [
        float(info.min),
        float(info.max),
        info.max / 2,
        -1.0,
        0.75,
        -0.75,
        200.5,
        1e30,
        NAN,
        INF,
    ]
    with np.errstate(over="ignore"):
        x = np.array([*edges, -1e30, -INF], dtypes.dtype(source).np)
        around = np.nextafter(x.astype(np.float64), INF).astype(x.dtype)
    x = np.concatenate([x, around, -around])
    node = array("x", x.shape, source)
    got = evaluate(cast(node, target), {node: x})
    inside = [2.0**70 * np.sign(v) if math.isinf(v) else v for v in x.astype(float).tolist()]
    want = [0 if math.isnan(v) else max(info.min, min(info.max, int(v))) for v in inside]
    assert got.dtype == target.np and got.tolist() == want


@pytest.mark.parametrize("d", ["int8", "int16", "int32", "int64"])
def test_integers_wrap_and_never_trap(d: str) -> None:
    low, high = int(np.iinfo(d).min), int(np.iinfo(d).max)
    x, y = constant([low, low, 7, -7, high], d), constant([-1, 0, 0, 2, 1], d)
    assert evaluate(x // y).tolist() == [low, 0, 0, -4, high]
    assert evaluate(x % y).tolist() == [0, 0, 0, 1, 0]
    assert evaluate(ew.fmod(x, y)).tolist() == [0, 0, 0, -1, 0]
    assert evaluate(x + y).tolist()[4] == low
    assert evaluate(-x).tolist()[0] == low == evaluate(ew.abs(x)).tolist()[0]
    base, power = constant([2, 1, -1, -1, 0, 3], d), constant([-1, -5, -5, -4, -1, 3], d)
    assert evaluate(base**power).tolist() == [0, 1, -1, 1, 0, 27]
    bits = np.iinfo(d).bits
    count = constant([bits, bits - 1, -1, 0, 1], d)
    assert evaluate(constant([-1, -1, -1, 5, 5], d) >> count).tolist() == [-1, -1, -1, 5, 2]
    assert evaluate(constant([1, 1, 1, 5, 5], d) << count).tolist() == [0, low, 0, 5, 10]


# ------------------------------------------------------------------------------------ shapes

SHAPED = [op for op in OPS.values() if op.spec.arity >= 2 and op.name != "polygamma"]


@given(st.data())
def test_broadcasting_is_numpys(data: st.DataObject) -> None:
    op = data.draw(st.sampled_from(SHAPED))
    shapes = data.draw(
        hnp.mutually_broadcastable_shapes(
            num_shapes=op.spec.arity, max_dims=4, max_side=3, min_side=0
        )
    )
    wanted = "float32" if dtypes.float32 in op.spec.accepts else "int32"
    inputs = [
        array(f"x{i}", s, op.spec.fixed.get(i, wanted)) for i, s in enumerate(shapes.input_shapes)
    ]
    out = getattr(ew, op.name)(*inputs)
    assert out.array_type.shape == shapes.result_shape
    values = {x: np.ones(x.array_type.shape, x.dtype.np) for x in inputs}
    assert evaluate(out, values).shape == shapes.result_shape


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (2, 3)])
def test_every_op_on_every_shape(shape: tuple[int, ...]) -> None:
    for op in OPS.values():
        d = next((d for d in (dtypes.float32, dtypes.int32) if d in op.spec.accepts), dtypes.bool_)
        inputs = [array(f"x{i}", shape, op.spec.fixed.get(i, d)) for i in range(op.spec.arity)]
        result = evaluate(
            getattr(ew, op.name)(*inputs), {x: np.ones(shape, x.dtype.np) for x in inputs}
        )
        assert result.shape == shape, op.name


@pytest.mark.parametrize("name", ["exp", "sub", "mod", "maximum", "sinc", "pow", "where"])
def test_layout_of_operands_does_not_matter(name: str) -> None:
    rng = np.random.default_rng(4)
    arity = OPS[name].spec.arity
    plain = [rng.normal(size=(6, 5)).astype(np.float32) for _ in range(arity)]
    odd = [np.asfortranarray(plain[0])[::-1, ::-1][::-1, ::-1], *plain[1:]]
    inputs = [array(f"x{i}", (None, 5)) for i in range(arity)]
    out = getattr(ew, name)(*inputs)
    first, second = (evaluate(out, dict(zip(inputs, v))) for v in (plain, odd))
    np.testing.assert_array_equal(first, second)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match="add: shapes do not broadcast: axis 1 has sizes 3 and 4"):
        ew.add(array("x", (2, 3)), array("y", (4,)))
    x, y = array("x", ("n",)), array("y", ("m",))
    z = x + y
    assert evaluate(z, {x: np.ones(3, "f"), y: np.ones(3, "f")}).shape == (3,)
    with pytest.raises(ShapeError):
        evaluate(z, {x: np.ones(3, "f"), y: np.ones(1, "f")})


# ------------------------------------------------------------------------------------ composites


def both(f: Callable[..., Expr], *values: Any) -> np.ndarray:
    return evaluate(f(*[constant(v) for v in values]))


def test_isclose_is_numpys() -> None:
    special = np.array([0.0, 1.0, 1.0 + 1e-6, 1.1, 1e-9, INF, -INF, NAN, 1e300])
    x, y = (m.ravel() for m in np.meshgrid(special, special))
    for equal_nan in (False, True):
        got = both(lambda a, b: ew.isclose(a, b, equal_nan=equal_nan), x, y)  # noqa: B023
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(got, np.isclose(x, y, equal_nan=equal_nan))
    small = np.array([3, 250], np.uint8)
    np.testing.assert_array_equal(
        both(lambda a, b: ew.isclose(a, b, atol=2.0), small, small[::-1]), [False, False]
    )


def test_nan_to_num_is_numpys() -> None:
    for d in ("float16", "float32", "float64"):
        x = np.array([NAN, INF, -INF, 1.5], d)
        np.testing.assert_array_equal(both(ew.nan_to_num, x), np.nan_to_num(x))
    assert both(lambda v: ew.nan_to_num(v, 7.0, 8.0, 9.0), np.array([NAN, INF, -INF])).tolist() == [
        7,
        8,
        9,
    ]
    assert both(ew.nan_to_num, np.array([1, 2])).tolist() == [1, 2]


@given(st.integers(-3, 3), st.floats(-1e4, 1e4))
def test_round_is_numpys(decimals: int, value: float) -> None:
    got = both(lambda v: ew.round(v, decimals), np.array([value]))
    np.testing.assert_array_equal(got, np.round(np.array([value]), decimals))


def test_round_of_integers() -> None:
    x = np.array([15, 25, -15, 7], np.int32)
    assert both(ew.round, x).tolist() == x.tolist()
    assert both(lambda v: ew.round(v, -1), x).tolist() == np.round(x, -1).tolist()
    with pytest.raises(DTypeError, match="round"):
        ew.round(constant(np.array(1j)))


def test_clip_takes_either_side() -> None:
    x = np.array([-2.0, 0.5, 2.0, NAN])
    np.testing.assert_array_equal(both(lambda v: ew.clip(v, -1, 1), x), np.clip(x, -1, 1))
    np.testing.assert_array_equal(both(lambda v: ew.clip(v, None, 1), x), np.clip(x, None, 1))
    np.testing.assert_array_equal(both(lambda v: ew.clip(v, -1), x), np.clip(x, -1, None))
    assert ew.clip(array("x", (2,), "int8"), -1, 5).dtype == "int8"


def test_lerp_is_exact_at_both_ends() -> None:
    a, b = np.array([0.1, 1e10, -3.0]), np.array([0.7, -1.0, 1e-5])
    np.testing.assert_array_equal(both(lambda x, y: ew.lerp(x, y, 0.0), a, b), a)
    np.testing.assert_array_equal(both(lambda x, y: ew.lerp(x, y, 1.0), a, b), b)
    np.testing.assert_allclose(both(lambda x, y: ew.lerp(x, y, 0.25), a, b), 0.75 * a + 0.25 * b)


X = np.linspace(-4, 7, 23)


@pytest.mark.parametrize(
    ("f", "want"),
    [
        (lambda x: ew.relu(x, 0.2), np.where(X > 0, X, 0.2 * X)),
        (ew.leaky_relu, np.where(X > 0, X, 0.01 * X)),
        (ew.relu6, np.clip(X, 0, 6)),
        (lambda x: ew.elu(x, 0.5), np.where(X > 0, X, 0.5 * np.expm1(X))),
        (lambda x: ew.celu(x, 2.0), np.where(X > 0, X, 2 * np.expm1(X / 2))),
        (ew.selu, 1.0507009873554805 * np.where(X > 0, X, 1.6732632423543772 * np.expm1(X))),
        (ew.mish, X * np.tanh(np.log1p(np.exp(X)))),
        (ew.softsign, X / (1 + np.abs(X))),
        (ew.hard_sigmoid, np.clip(0.2 * X + 0.5, 0, 1)),
        (ew.hard_tanh, np.clip(X, -1, 1)),
        (ew.hard_silu, X * np.clip(X / 6 + 0.5, 0, 1)),
        (lambda x: ew.gelu(x, "tanh"), APPROXIMATE["gelu_tanh"](X)),
        (lambda x: ew.betaln(x + 5, 2.0), scipy.special.betaln(X + 5, 2.0)),
        (lambda x: ew.divmod(x, 3)[0], np.floor_divide(X, 3)),
        (lambda x: ew.divmod(x, 3)[1], np.remainder(X, 3)),
        (lambda x: ew.isposinf(x / 0.0), X > 0),
        (lambda x: ew.isneginf(x / 0.0), X < 0),
    ],
)
def test_composites(f: Callable[..., Expr], want: np.ndarray) -> None:
    np.testing.assert_allclose(both(f, X), want, rtol=1e-13, atol=1e-14)


def test_gelu_refuses_an_unknown_form() -> None:
    with pytest.raises(ValueError, match="approximate"):
        ew.gelu(constant(X), "fast")


def test_parts_of_complex_numbers() -> None:
    z = np.array([3 + 4j, -1j, 0, -2])
    for f, g in (
        (ew.real, np.real),
        (ew.imag, np.imag),
        (ew.conj, np.conj),
        (ew.abs, np.abs),
        (ew.angle, np.angle),
    ):
        np.testing.assert_array_equal(both(f, z), g(z))
    np.testing.assert_array_equal(both(ew.complex, z.real, z.imag), z)


# ---------------------------------------------------------------- names and errors


def test_public_names() -> None:
    """Every op is reachable by its name; every name is a function with words of explanation."""
    assert len(set(ew.__all__)) == len(ew.__all__)
    assert set(OPS) <= set(ew.__all__)
    for name in ew.__all__:
        assert callable(getattr(ew, name)) and getattr(ew, name).__doc__, name


def test_second_names() -> None:
    assert ew.multiply is ew.mul and ew.switch is ew.where and ew.arctan2 is ew.atan2
    assert ew.psi is ew.digamma and ew.inv is ew.reciprocal and ew.popcount is ew.bitwise_count


def test_wrong_number_of_operands() -> None:
    with pytest.raises(ArgumentError, match=r"hypot\(x, y\) takes 2 operands, got 1"):
        ew.hypot(1.0)


def test_equal_expressions_are_one_object() -> None:
    x = array("x", (3,))
    assert ew.exp(x) * 2 is ew.exp(x) * 2
    assert repr(ew.exp(x).op) == "exp"
