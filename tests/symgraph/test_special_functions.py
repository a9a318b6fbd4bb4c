"""Special functions against SciPy at ordinary and special values, and to more digits by mpmath."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

import symgraph as sg
from symgraph.ops.define import REGISTRY
from tests.conformance.scalar_oracle import run_lower

INF, NAN = np.inf, np.nan
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, INF, -INF, NAN]
ORDINARY = np.random.default_rng(0).normal(size=60) * 3
LINE = np.array([*SPECIAL, *ORDINARY, 40.0, -40.0, 1e-20, -1e-20, 700.0, -700.0])
PAIRS = [np.array(c) for c in zip(*itertools.product([*SPECIAL, *ORDINARY[:12], 1e-25], repeat=2))]

ONE = "entr exprel cosm1 exp10 log_ndtr erfcx ndtri i0 i0e i1 i1e gammasgn rgamma".split()
TWO = "rel_entr kl_div huber pseudo_huber boxcox boxcox1p inv_boxcox inv_boxcox1p powm1".split()
#: where SciPy's value is not the function's: it loses digits, or a limit
APART: dict[str, Callable[..., Any]] = {
    "cosm1": lambda x: np.abs(x) > 1.5,  # cos(x) - 1 near multiples of 2 pi
    "i0": np.isinf,
    "i1": np.isinf,
    "powm1": lambda x, p: np.isinf(p) | (np.isinf(x) & (x < 0)) | ((x == 0) & np.signbit(x)),
    "kl_div": lambda x, y: np.abs(x - y) < 0.1 * np.abs(x),
    "inv_boxcox": lambda y, lmbda: np.isinf(lmbda * y) & (y < 0),
    "inv_boxcox1p": lambda y, lmbda: np.isinf(lmbda * y) & (y < 0),
}


def value(x: Any) -> np.ndarray:
    return np.asarray(sg.evaluate(x))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ONE + TWO)
def test_as_scipy(name: str) -> None:
    args = [LINE] if name in ONE else PAIRS
    got, want = value(getattr(sg, name)(*args)), getattr(scipy.special, name)(*args)
    with np.errstate(all="ignore"):
        apart = APART.get(name, lambda *xs: np.zeros(xs[0].shape, bool))(*args)
        exponent = np.abs(np.log(np.abs(want))) if "boxcox" in name else 1.0
        close = np.abs(got - want) <= 4e-15 * (1 + exponent) * np.abs(want) + 1e-300
    wrong = ~(apart | close | (got == want) | (np.isnan(got) & np.isnan(want)))
    shown = [(*[a[i] for a in args], got[i], want[i]) for i in np.flatnonzero(wrong)[:6]]
    assert not wrong.any(), shown


BETA = np.array([0.1, 0.5, 1.0, 2.5, 7.0, 30.0, 99.0, 160.0])


def test_beta_of_any_size_keeps_its_digits() -> None:
    for a in (*BETA, 1e3, 1e6):
        for b in (*BETA, 333.25, 1e5):
            want = float(mpmath.beta(a, b))
            size = 1 + abs(float(np.log(want))) if want else 1
            assert abs(value(sg.beta(a, b).astype("float64")) - want) <= 1e-15 * size * 8 * want


def test_beta_of_negative_numbers() -> None:
    for a, b in [(-0.5, 0.25), (-3.3, 1.2), (-0.5, -0.75), (-2.5, 30.0)]:
        want = scipy.special.beta(a, b)
        got = value(sg.beta(np.float64(a), np.float64(b)))
        np.testing.assert_allclose(got, want, rtol=1e-13)


def test_binomials_are_whole() -> None:
    n, k = np.meshgrid(np.arange(0.0, 52), np.arange(-2.0, 54))
    got = value(sg.binom(n, k))
    want = [scipy.special.comb(int(a), int(b), exact=True) for a, b in zip(n.ravel(), k.ravel())]
    exact = np.array([float(w) for w in want])
    small = exact < 2.0**50
    np.testing.assert_array_equal(got.ravel()[small], exact[small])
    np.testing.assert_allclose(got.ravel(), exact, rtol=1e-14)


def test_binomials_of_fractions_and_large_numbers() -> None:
    cases = [(0.5, 2.0), (-0.5, 3.0), (4.2, 1.7), (1000.0, 3.0), (1000.0, 500.5), (1e6, 2.0)]
    for n, k in cases:
        want = float(mpmath.binomial(n, k))
        np.testing.assert_allclose(value(sg.binom(np.float64(n), np.float64(k))), want, rtol=1e-12)
    assert np.isnan(value(sg.binom(np.float64(-2.0), 1.0)))


def test_gradients_of_gamma_products_are_finite_in_all_forms() -> None:
    x = sg.array("x", (), "float64")
    for y in (sg.beta(x, 2.0), sg.beta(x, x), sg.rgamma(x), sg.binom(x, 3.0)):
        for at in (0.7, 12.5, 169.5, 300.25):
            slope = sg.evaluate(sg.grad(y, x), {x: np.float64(at)})
            step = 1e-6 * at
            ends = [sg.evaluate(y, {x: np.float64(at + s)}) for s in (step, -step)]
            want = (ends[0] - ends[1]) / (2 * step)
            assert np.isfinite(slope) and abs(slope - want) <= 1e-6 * max(abs(want), 1e-290)


# ------------------------------------------------------------------------------- where SciPy errs


@given(st.floats(0.5, 2.0), st.floats(-1e-3, 1e-3))
def test_divergence_of_neighbours_does_not_cancel(x: float, step: float) -> None:
    y = x * (1 + step)
    with mpmath.workdps(60):
        a, b = mpmath.mpf(x), mpmath.mpf(y)
        want = float(a * mpmath.log(a / b) - a + b)
    assert abs(value(sg.kl_div(np.float64(x), np.float64(y))) - want) <= 2e-15 * want


@given(st.floats(0.1, 1e3), st.floats(-300, 300).filter(lambda p: abs(p) > 1e-3))
def test_box_cox_keeps_its_digits(x: float, lmbda: float) -> None:
    with mpmath.workdps(60):
        wants = [(mpmath.mpf(a) ** lmbda - 1) / lmbda for a in (x, 1 + mpmath.mpf(x))]
    for name, want in zip(("boxcox", "boxcox1p"), wants):
        got = value(getattr(sg, name)(np.float64(x), np.float64(lmbda)))
        if abs(want) < 1e308:
            assert abs(got - float(want)) <= 2e-15 * abs(float(want))


@given(st.floats(-30, 30))
def test_powers_near_1(x: float) -> None:
    base, power = np.float64(1 + x * 1e-6), np.float64(x)
    with mpmath.workdps(60):
        want = float(mpmath.mpf(float(base)) ** float(power) - 1)
    assert abs(value(sg.powm1(base, power)) - want) <= 1e-15 * abs(want)
    np.testing.assert_allclose(value(sg.cosm1(power)), -2 * np.sin(power / 2) ** 2, rtol=1e-15)


def test_limits() -> None:
    assert value(sg.i0(-INF)) == INF and value(sg.i1(-INF)) == -INF
    assert value(sg.pseudo_huber(np.float64(1e200), 3.0)) == 4.5
    assert value(sg.pseudo_huber(np.float64(3.0), 1e300)) == 3e300
    assert value(sg.exprel(np.float64(712.0))) == pytest.approx(
        float(mpmath.expm1(712) / 712), rel=1e-13
    )


# ----------------------------------------------------------------------------------------- slopes


SLOPES: list[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = [
    ("exprel", sg.exprel, lambda x: mpmath.expm1(x) / x),
    ("erfcx", sg.erfcx, lambda x: mpmath.exp(x * x) * mpmath.erfc(x)),
    ("log_ndtr", sg.log_ndtr, lambda x: mpmath.log(mpmath.erfc(-x / mpmath.sqrt(2)) / 2)),
    ("i1e", sg.i1e, lambda x: mpmath.besseli(1, x) * mpmath.exp(-abs(x))),
]


@pytest.mark.parametrize(("build", "exact"), [s[1:] for s in SLOPES], ids=[s[0] for s in SLOPES])
def test_slopes_in_the_tails(build: Callable[[Any], Any], exact: Callable[[Any], Any]) -> None:
    x = sg.array("x", (), "float64")
    slope = sg.grad(build(x), x)
    for at in (1e-3, -1e-3, 0.4999, 0.5001, -3.0, 7.0, 11.9, 12.1, 25.0, -20.0):
        with mpmath.workdps(60):
            want = float(mpmath.diff(exact, mpmath.mpf(at)))
        got = float(sg.evaluate(slope, {x: np.float64(at)}))
        assert abs(got - want) <= 1e-13 * abs(want) or abs(got - want) <= 3e-16, at


def test_slopes_at_the_edges() -> None:
    def slope(build: Callable[[Any], Any], at: float) -> float:
        x = sg.array("x", (), "float64")
        return float(sg.evaluate(sg.grad(build(x), x), {x: np.float64(at)}))

    assert slope(sg.exprel, 0.0) == 0.5 and slope(sg.exprel, -INF) == 0
    assert slope(sg.i1, 0.0) == slope(sg.i1e, 0.0) == 0.5 and slope(sg.i0e, 0.0) == 0
    assert slope(sg.log_ndtr, 50.0) == 0 and slope(sg.log_ndtr, -1e6) == pytest.approx(1e6)
    assert slope(lambda x: sg.boxcox(2.0, x), 0.0) == pytest.approx(np.log(2.0) ** 2 / 2)
    assert slope(lambda x: sg.inv_boxcox(2.0, x), 0.0) == pytest.approx(-2 * np.exp(2.0))
    assert slope(lambda x: sg.boxcox(x, 2.0), 0.0) == 0
    assert slope(lambda x: sg.modf(x)[0], -2.0) == 1
    assert slope(lambda x: sg.frexp(x)[0], 24.0) == 2.0**-5


# ---------------------------------------------------------------------------------------- integers


@pytest.mark.parametrize("name", ["gcd", "lcm"])
@given(st.data())
def test_divisors(name: str, data: st.DataObject) -> None:
    bits = data.draw(st.sampled_from([8, 16, 32, 64]))
    d = np.dtype(f"{data.draw(st.sampled_from('iu'))}{bits // 8}")
    info = np.iinfo(d)
    numbers = st.integers(info.min, info.max) | st.sampled_from([info.min, info.max, 0, 1])
    pairs = data.draw(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=30))
    x, y = (np.array(c, d) for c in zip(*pairs))
    inputs = [sg.array("x", ("n",), str(d)), sg.array("y", ("n",), str(d))]
    want = getattr(np, name)(x, y)
    np.testing.assert_array_equal(run_lower(REGISTRY[name], x, y)[0], want)
    np.testing.assert_array_equal(
        sg.evaluate(getattr(sg, name)(*inputs), dict(zip(inputs, (x, y)))), want
    )


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "uint64", "int64"])
def test_compiled_divisors(dtype: str) -> None:
    """Neighbours of Fibonacci numbers and powers of two take the most turns."""
    info = np.iinfo(dtype)
    edges = [info.max, info.min, info.max - 1, 0, 1, info.max // 2 + 1]
    a, b = 1, 1
    while b <= info.max:
        edges.append(b)
        a, b = b, a + b
    x, y = (np.array(c, dtype) for c in zip(*itertools.product(edges, repeat=2)))
    inputs = [sg.array(n, ("n",), dtype) for n in "xy"]
    gcd, lcm = sg.function(inputs, [sg.gcd(*inputs), sg.lcm(*inputs)], host_calls="forbid")(x, y)
    np.testing.assert_array_equal(gcd, np.gcd(x, y))
    np.testing.assert_array_equal(lcm, np.lcm(x, y))
