"""Every elementwise op, swept from the registry.

The native formula (`lower`) is run by a strict NumPy builder and compared with the op's meaning
(`evaluate`); first and second derivatives are compared with finite differences.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph.variable  # noqa: F401  (installs the operators)
from symgraph.dtypes import DType, bool_, floats
from symgraph.evaluate import evaluate
from symgraph.expr import Expr, toposort
from symgraph.leaves import array, constant
from symgraph.ops import elementwise as ew
from symgraph.ops.define import REGISTRY, Elementwise
from symgraph.ops.define import call as call_op
from tests.conformance.scalar_oracle import run_lower

NATIVE = {str(d) for d in floats if d.bits > 16}
FLOATS = [0.0, 1, 0.5, 1.5, 2.5, 3, 3.7, 0.25, 0.75, 0.99, 1e-3, 7, 10, 88, 100, 126, 149, 1e10]
FLOATS += [1e-30, 1e30, 1e-40, 5e-324, 3.4e38, 1.7e308, np.inf, np.nan]
INTEGERS = [*range(-10, 11), 13, 31, 32, 33, 63, 64, 65, 100, 1000, 2**20, 2**21 + 1, 2**40 + 3]

# Formulas that lose more than a few units where the function cancels: error relative to this
# size instead.
CANCELS = {"logaddexp2": 1.0, "gelu": 1e-6, "ndtr": 1e-6, "silu": 1e-6, "gelu_tanh": 1e-4}


def samples(d: DType, rng: np.random.Generator) -> np.ndarray:
    """All values of the 8-bit dtypes, else the edges and some ordinary numbers."""
    if d is bool_:
        return np.array([False, True])
    if d.is_float:
        ordinary = rng.normal(size=15) * 3
        with np.errstate(over="ignore"):
            return np.array([*FLOATS, *[-x for x in FLOATS], *ordinary], d.np)
    info = np.iinfo(d.np)
    if d.bits == 8:
        return np.arange(info.min, info.max + 1).astype(d.np)
    edges = [info.min, info.min + 1, info.max, info.max - 1, info.max // 2]
    fitting = [v for v in {*INTEGERS, *edges} if info.min <= v <= info.max]
    return np.concatenate([np.array(fitting, d.np), rng.integers(info.min, info.max, 15, d.np)])


def native_dtypes(op: Elementwise) -> list[DType]:
    chosen = op.spec.accepts if op.spec.promote else {bool_}
    return sorted(d for d in chosen if d.kind in "biu" or d in NATIVE)


def operands(op: Elementwise, d: DType, rng: np.random.Generator) -> list[np.ndarray]:
    """Every combination of samples, one array for each operand."""
    columns = [samples(op.spec.fixed.get(i, d), rng) for i in range(op.spec.arity)]
    if len(columns) > 2:
        most = 40 if len(columns) == 3 else 6
        columns = [c[:: max(1, len(c) // most)][-most:] for c in columns]
    rows = list(itertools.product(*columns))
    return [np.array([row[i] for row in rows], c.dtype) for i, c in enumerate(columns)]


NATIVE_CASES = [
    pytest.param(op, d, id=f"{name}-{d}")
    for name, op in sorted(REGISTRY.items())
    if op.spec.lower is not None
    for d in native_dtypes(op)
]


@pytest.mark.parametrize(("op", "d"), NATIVE_CASES)
def test_native_formula_equals_meaning(op: Elementwise, d: DType) -> None:
    args = operands(op, d, np.random.default_rng(0))
    got, builder = run_lower(op, *args)
    want = op.evaluate(*args)
    assert got.dtype == want.dtype
    if want.dtype.kind != "f" or not builder.called:  # nothing is approximated: the same bits
        assert got.tobytes() == want.tobytes() or _same_but_nan_bits(got, want)
        return
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(want), CANCELS.get(op.name, 0.0))
        error = np.abs(got - want) / np.maximum(size, np.finfo(want.dtype).tiny)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    wrong = ~(same | (error <= 8 * np.finfo(want.dtype).eps))
    shown = [(*[a[i] for a in args], got[i], want[i]) for i in np.flatnonzero(wrong)[:5]]
    assert not wrong.any(), shown


def _same_but_nan_bits(got: np.ndarray, want: np.ndarray) -> bool:
    nan = np.isnan(want)
    same = (
        (got == want) & (np.signbit(got) == np.signbit(want))
        if got.dtype.kind == "f"
        else got == want
    )
    return bool((same | (nan & np.isnan(got))).all())


HALF_CASES = [
    pytest.param(op, d, id=f"{name}-{d}")
    for name, op in REGISTRY.items()
    for d in floats
    if d.bits == 16 and d in op.spec.accepts
]


@pytest.mark.parametrize(("op", "d"), HALF_CASES)
def test_half_precision_is_rounded_once(op: Elementwise, d: DType) -> None:
    """float16 and bfloat16 are computed in float32 or better and rounded once."""
    rng = np.random.default_rng(1)
    kinds = [op.spec.fixed.get(i, d) for i in range(op.spec.arity)]
    args = [rng.uniform(*op.spec.domain, size=50).astype(k.np) for k in kinds]
    wide = [a.astype(np.float32) if a.dtype == d.np else a for a in args]
    got, want = op.evaluate(*args), op.evaluate(*wide)
    if op.spec.result_dtype(d) is not d:
        assert got.dtype == want.dtype and (got == want).all()
        return
    assert got.dtype == d.np
    rounded = want.astype(d.np).astype(np.float64)
    unit = np.abs(rounded) * 2.0 ** (-10 if str(d) == "float16" else -7)
    assert (
        np.abs(got.astype(np.float64) - rounded) <= unit
    ).all()  # one unit: ties between float32s


@given(st.data())
def test_integer_power_is_modular(data: st.DataObject) -> None:
    bits = data.draw(st.sampled_from([8, 16, 32, 64]))
    signed = data.draw(st.booleans())
    d = f"{'' if signed else 'u'}int{bits}"
    info = np.iinfo(d)
    base = data.draw(
        st.one_of(st.integers(-20, 20), st.integers(info.min, info.max)).filter(
            lambda v: info.min <= v <= info.max
        )
    )
    exponent = data.draw(st.one_of(st.integers(0, 80), st.integers(0, info.max)))
    value = pow(base, exponent, 2**bits)
    want = value - 2**bits if signed and value >= 2 ** (bits - 1) else value
    op = REGISTRY["pow"]
    args = [np.array([base], d), np.array([exponent], d)]
    assert int(op.evaluate(*args)[0]) == want
    assert int(run_lower(op, *args)[0][0]) == want


@pytest.mark.parametrize(("d", "smallest"), [("float32", -149), ("float64", -1074)])
def test_ldexp_rounds_once(d: str, smallest: int) -> None:
    """Fractions close to ties, scaled to just about the smallest number, show a second rounding."""
    rng = np.random.default_rng(5)
    n = np.repeat(np.arange(2 * smallest, -2 * smallest, dtype=np.int32), 40)
    fraction = rng.choice([1, 1.25, 1.5], n.size) + np.finfo(d).eps * rng.integers(-1, 2, n.size)
    with np.errstate(all="ignore"):
        x = np.ldexp(fraction.astype(d), smallest - n + rng.integers(-3, 4, n.size))
    op = REGISTRY["ldexp"]
    np.testing.assert_array_equal(run_lower(op, x, n)[0], op.evaluate(x, n))


# ------------------------------------------------------------------------------------ derivatives


def reverse(outputs: Expr, cotangent: Expr, wrt: list[Expr]) -> list[Expr]:
    """Reverse mode for operands of one shape, by the ops' own vjp (not symgraph.grad)."""
    received = {id(outputs): cotangent}
    for node in reversed(toposort([outputs])):
        dy = received.get(id(node))
        if dy is None or not node.inputs:
            continue
        for x, dx in zip(node.inputs, node.op.vjp(node.inputs, node, dy)):
            if dx is not None and x.dtype.is_inexact:
                received[id(x)] = received[id(x)] + dx if id(x) in received else dx
    return [received.get(id(x), constant(np.zeros(()))) for x in wrt]


def points(op: Elementwise, rng: np.random.Generator, count: int = 24) -> list[np.ndarray]:
    """Random arguments in the domain, away from kinks and, where asked, from each other."""
    low, high = op.spec.domain
    drawn = [rng.uniform(low, high, size=8 * count) for _ in range(op.spec.arity)]
    good = np.ones(8 * count, bool)
    for kink in op.spec.kinks:
        good &= np.all([np.abs(x - kink) > 0.1 for x in drawn], axis=0)
    if op.spec.apart:
        good &= np.abs(drawn[0] - drawn[1]) > 0.1
    for whole in (op.spec.name in ("mod", "fmod") and [drawn[0] / drawn[1]]) or []:
        good &= np.abs(whole - np.rint(whole)) > 0.05
    chosen = [x[good][:count] for x in drawn]
    return [
        np.abs(np.rint(x)).astype(d.np) if (d := op.spec.fixed.get(i)) else x
        for i, x in enumerate(chosen)
    ]


def difference(f: object, values: list[np.ndarray], which: int, step: complex) -> np.ndarray:
    """df/dx_which * step / |step|: central differences with one Richardson step."""

    def central(h: complex) -> np.ndarray:
        ends = []
        for sign in (1, -1):
            moved = list(values)
            moved[which] = values[which] + sign * h
            ends.append(np.asarray(f(moved)))  # type: ignore[operator]
        return (ends[0] - ends[1]) / (2 * abs(h))

    return (4 * central(step / 2) - central(step)) / 3


DIFFERENTIABLE = [
    pytest.param(op, id=name)
    for name, op in sorted(REGISTRY.items())
    if op.spec.vjp is not None and any(d.is_float for d in op.spec.accepts)
]


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_derivatives_of_floats(op: Elementwise) -> None:
    """First and second derivatives by reverse mode equal differences of what they derive."""
    rng = np.random.default_rng(2)
    values = points(op, rng)
    inputs = [array(f"x{i}", v.shape, v.dtype) for i, v in enumerate(values)]
    moving = [i for i, x in enumerate(inputs) if x.dtype.is_float]
    out = call_op(op, inputs)
    if out.dtype.kind == "c":
        out = ew.real(out) + ew.imag(out) * 0.7
    first = reverse(out, constant(np.ones(values[0].shape)), [inputs[i] for i in moving])
    _compare_with_differences(out, first, inputs, values, moving)
    for slope in first:
        if slope.op.name != "constant":
            second = reverse(slope, constant(np.ones(values[0].shape)), [inputs[i] for i in moving])
            _compare_with_differences(slope, second, inputs, values, moving)


def _compare_with_differences(
    y: Expr, slopes: list[Expr], inputs: list[Expr], values: list[np.ndarray], moving: list[int]
) -> None:
    for i, slope in zip(moving, slopes):
        want = difference(lambda vs: evaluate(y, dict(zip(inputs, vs))), values, i, 2e-3)
        got = np.broadcast_to(evaluate(slope, dict(zip(inputs, values))), want.shape)
        scale = np.maximum(np.abs(want), 1.0)
        assert (np.abs(got - want) / scale).max() < 2e-7, (y, i)


COMPLEX = [
    pytest.param(op, id=name)
    for name, op in sorted(REGISTRY.items())
    if op.spec.vjp is not None and any(d.kind == "c" for d in op.spec.accepts)
]


@pytest.mark.parametrize("op", COMPLEX)
def test_derivatives_of_complexes(op: Elementwise) -> None:
    """Cotangent c of z stands for Re(c dz): c = dF/dx - i dF/dy of the real F = Re(w y)."""
    rng = np.random.default_rng(3)
    shape = (12,)
    values = [
        rng.uniform(0.3, 0.9, shape) + 1j * rng.uniform(-0.9, 0.9, shape)
        for _ in range(op.spec.arity)
    ]
    values = [v.real > 0.5 if i in op.spec.fixed else v for i, v in enumerate(values)]
    inputs = [array(f"z{i}", v.shape, v.dtype) for i, v in enumerate(values)]
    moving = [i for i, z in enumerate(inputs) if z.dtype.kind == "c"]
    out = call_op(op, inputs)
    weights = rng.normal(size=shape) + (1j * rng.normal(size=shape) if out.dtype.kind == "c" else 0)
    slopes = reverse(out, constant(weights), [inputs[i] for i in moving])
    for i, slope in zip(moving, slopes):

        def real_part(vs: list[np.ndarray]) -> np.ndarray:
            return (weights * evaluate(out, dict(zip(inputs, vs)))).real

        want = difference(real_part, values, i, 1e-3) - 1j * difference(real_part, values, i, 1e-3j)
        got = evaluate(slope, dict(zip(inputs, values)))
        assert got.dtype == np.complex128
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("op", REGISTRY.values(), ids=list(REGISTRY))
def test_entry_is_complete(op: Elementwise) -> None:
    spec = op.spec
    assert spec.doc and spec.doc.strip()
    assert spec.domain[0] < spec.domain[1]
    assert (spec.lower is None) == (spec.host is not None)
    assert {*spec.promote, *spec.fixed} == set(range(spec.arity))
