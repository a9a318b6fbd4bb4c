"""SymPy expressions against mpmath at high precision, gradients against SymPy's derivatives."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import sympy as sp

from symgraph.errors import GraphError, MissingInputError
from symgraph.evaluate import evaluate
from symgraph.from_sympy import from_sympy
from symgraph.grad import grad
from symgraph.leaves import array

x, y, z = sp.symbols("x y z", real=True)
p = sp.Symbol("p", positive=True)

#: expressions of x (in -2..2), y (in 0.2..0.9), z (in 1.2..3), p (in 0.1..4)
SMOOTH = [
    "x + y", "x - y", "-x - y", "x*y*z", "x/y", "x/(y*z)", "3*x/7", "-x/3", "x/z**2",
    "1/(1 + x**2)", "x**2", "x**3", "x**4", "x**5", "x**-3", "x**17", "sqrt(p)", "1/sqrt(p)",
    "p**(3/S(2))", "p**(1/S(3))", "p**(1/S(4))", "p**(-2/S(3))", "p**(5/S(7))", "p**x", "2**x",
    "10**x", "p**pi", "pi*x", "E**x", "exp(x)", "exp(-x**2)", "exp(x) - 1", "1 - exp(x)",
    "exp(x*y) - 1 + z", "log(p)", "log(1 + p)", "log(1 - y)", "log(1 + x**2)",
    "log(1 + p/1000000)", "log(p, 2)", "log(p, 10)", "exp(-p)*sin(p)", "sin(x)", "cos(x)",
    "tan(y)", "cot(y)", "sec(y)", "csc(y)", "1 - cos(x)", "cosh(x) - 1", "asin(y)", "acos(y)",
    "atan(x)", "acot(y)", "asec(z)", "acsc(z)", "atan2(x, y)", "sinh(x)", "cosh(x)", "tanh(x)",
    "coth(y)", "sech(x)", "csch(y)", "asinh(x)", "acosh(z)", "atanh(y)", "acoth(z)", "asech(y)",
    "acsch(y)", "erf(x)", "erfc(x)", "1 - erf(z)", "erf(z) - 1", "erfinv(y)", "gamma(z)",
    "gamma(p)", "loggamma(p)", "loggamma(z + p)", "digamma(z)", "polygamma(1, z)",
    "polygamma(2, p)", "beta(y, z)", "factorial(z)", "Abs(x)", "sign(x)*x", "Min(x, y)",
    "Max(x, y, z)", "Piecewise((x**2, x < 0), (sin(x), True))",
    "Piecewise((1, x < -1), (x, x < 1), (z, True))", "Heaviside(x)*x", "sinc(x)",
    "x*sin(x)*exp(y)/sqrt(z)", "sqrt(x**2 + y**2 + z**2)", "(x + y)**3/(1 + z)",
    "sin(x)**2 + cos(x)**2", "exp(sin(x*y)) + log(z + cos(x))", "1/(1 + exp(-x))",
    "x*log(p) - p + log(2*pi*p)/2", "erf(x/sqrt(2))/2 + S(1)/2",
    "tanh(sqrt(2/pi)*(x + S(44715)/1000000*x**3))", "E*x + pi", "sqrt(2)*x + sqrt(3)",
    "Rational(1, 3)*x + Rational(2, 7)*y**2", "cos(1)*x", "floor(x) + x", "ceiling(x)*y",
    "frac(z)", "Mod(x, y)", "ITE(x < y, True, x > z)",
    "Piecewise((x, (x > 0) & (y > z)), (y, ~(x > 1) | Eq(x, y)), (z, True))",
]  # fmt: skip
STEPS = {"floor(x) + x", "ceiling(x)*y", "frac(z)", "Mod(x, y)", "ITE(x < y, True, x > z)"}
NAMES = {"x": x, "y": y, "z": z, "p": p}


def points() -> dict[sp.Symbol, np.ndarray]:
    rng = np.random.default_rng(11)
    return {
        x: rng.uniform(-2, 2, 40),
        y: rng.uniform(0.2, 0.9, 40),
        z: rng.uniform(1.2, 3, 40),
        p: np.concatenate([rng.uniform(0.1, 4, 20), 10 ** rng.uniform(-6, 1, 20)]),
    }


POINTS = points()
INPUTS = {s: array(str(s), (40,), "float64") for s in POINTS}
VALUES = {INPUTS[s]: v for s, v in POINTS.items()}


def parse(text: str) -> sp.Basic:
    return sp.sympify(text, locals=NAMES)


def reference(expr: sp.Expr) -> tuple[np.ndarray, np.ndarray]:
    """Values with 40 digits, rounded; and how far one rounding of each argument moves them."""
    symbols = sorted(expr.free_symbols, key=str)
    fn = sp.lambdify(symbols, expr, modules="mpmath")
    value, sway = np.zeros(40), np.zeros(40)
    with mpmath.workdps(40):
        for i in range(40):
            at = [mpmath.mpf(float(POINTS[s][i])) for s in symbols]
            exact = mpmath.mpf(fn(*at))
            value[i] = float(exact)
            for k in range(len(at)):
                moved = [v * (1 + mpmath.mpf(2) ** -52) if j == k else v for j, v in enumerate(at)]
                sway[i] += float(abs(mpmath.mpf(fn(*moved)) - exact))
    return value, sway


def assert_close(got: np.ndarray, expr: sp.Expr) -> None:
    want, sway = reference(expr)
    assert (np.abs(got - want) <= 1e-13 * np.abs(want) + 4 * sway).all(), np.max(np.abs(got - want))


def test_there_are_a_hundred() -> None:
    assert len(SMOOTH) >= 100


@pytest.mark.parametrize("text", SMOOTH)
def test_value_and_gradient(text: str) -> None:
    expr = parse(text)
    result = from_sympy(expr, INPUTS)
    if isinstance(expr, sp.logic.boolalg.Boolean):
        want = sp.lambdify([x, y, z], expr)
        got = evaluate(result, VALUES)
        assert got.tolist() == [bool(want(*a)) for a in zip(POINTS[x], POINTS[y], POINTS[z])]
        return
    assert result.dtype == "float64"
    assert_close(evaluate(result, VALUES), expr)
    if text in STEPS:
        return
    for s in expr.free_symbols:
        slope = sp.diff(expr, s)
        if slope.has(sp.DiracDelta):
            slope = slope.replace(sp.DiracDelta, lambda *_: sp.S.Zero)
        got = evaluate(grad(result.sum(), INPUTS[s], disconnected_inputs="zero"), VALUES)
        if not slope.free_symbols:
            np.testing.assert_allclose(got, float(slope), rtol=1e-13)
            continue
        want, sway = reference(slope)
        # a derivative is judged with the size of the terms it is made of
        scale = np.abs(want) + np.max(np.abs(want)) * 1e-3
        assert (np.abs(got - want) <= 1e-12 * scale + 64 * sway).all(), (
            s,
            np.max(np.abs(got - want)),
        )


def test_dtype_follows_the_arrays() -> None:
    a = array("a", (), "float32")
    assert from_sympy(sp.pi * x + 1, {x: a}).dtype == "float32"
    assert from_sympy(sp.pi, {}).dtype == "float64"
    assert float(evaluate(from_sympy(sp.pi * sp.E, {}))) == float((sp.pi * sp.E).evalf(30))
    assert from_sympy(x + 1, {"x": array("i", (), "int32")}).dtype == "float32"
    q = sp.Symbol("x")
    assert from_sympy(q + 1, {"x": a}).dtype == "float32"


def test_numbers() -> None:
    assert evaluate(from_sympy(sp.oo, {})) == np.inf
    assert np.isnan(evaluate(from_sympy(sp.nan, {})))
    assert evaluate(from_sympy(sp.Integer(10) ** 400, {})) == np.inf
    assert evaluate(from_sympy(sp.sqrt(2), {})) == np.sqrt(2.0)
    assert evaluate(from_sympy(1 + sp.I, {})) == 1 + 1j
    with pytest.raises(GraphError, match="complex infinity"):
        evaluate(from_sympy(sp.zoo, {}))


def test_outside_of_the_real_domain_is_nan() -> None:
    a = array("a", (2,), "float64")
    value = {a: np.array([-1.5, -8.0])}
    for e in (sp.sqrt(x), sp.log(x), x ** sp.Rational(1, 3), sp.asin(x), sp.loggamma(x)):
        assert np.isnan(evaluate(from_sympy(e, {x: a}), value)).all(), e


def test_any_subexpression_can_be_given() -> None:
    f = sp.Function("f")
    a = array("a", (), "float64")
    e = from_sympy(f(x) ** 2 + 1, {f(x): a})
    assert evaluate(e, {a: np.array(3.0)}) == 10.0


def test_deep_sums_and_shared_subexpressions() -> None:
    terms = sp.Add(*[sp.Symbol(f"t{i}") for i in range(500)])
    given = {sp.Symbol(f"t{i}"): array(f"t{i}", (), "float64") for i in range(500)}
    e = from_sympy(terms, given)
    assert evaluate(e, {v: np.array(1.0) for v in given.values()}) == 500.0
    s = from_sympy(sp.sin(x) * sp.exp(sp.sin(x)), INPUTS)
    sines = {id(n) for n in s.inputs for n in (n, *n.inputs) if n.op.name == "sin"}
    assert len(sines) == 1


def test_errors() -> None:
    with pytest.raises(MissingInputError, match=r"no value for y \(given: x\)"):
        from_sympy(x + y, {x: INPUTS[x]})
    with pytest.raises(GraphError, match="besselj has no counterpart"):
        from_sympy(sp.besselj(1, x), INPUTS)
    with pytest.raises(GraphError, match="Integral has no counterpart") as error:
        from_sympy(sp.Integral(sp.exp(x**2), x), INPUTS)
    assert "doit" in str(error.value)
