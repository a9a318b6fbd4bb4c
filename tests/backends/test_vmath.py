"""Elementary functions: error bounds, special values, no library calls, targets, tables."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks import vmath_ulp
from benchmarks.vmath_errors import (
    Compiled,
    compare,
    edges,
    every_half,
    exhaustive,
    graph_function,
    judged,
    kernel_of,
    sampled,
    samples,
)
from benchmarks.vmath_reference import JUDGED, exact_values, judged_values
from symgraph.backends import jit, targets, vmath
from symgraph.backends.emit import emit_module
from symgraph.backends.legalize import legalize
from symgraph.backends.objectfile import symbols
from tests.backends import emulator
from tests.backends.test_random_words import draw

NAMES = sorted(name for name, known in vmath.FUNCTIONS.items() if known.ulp)
FLOATS = ("float32", "float64")
HOST, NO_FMA = "host", "x86-64-v2"
TARGETS = [HOST] if targets.detect().is_x86 is False else [HOST, NO_FMA]
INF, NAN = np.inf, np.nan
ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def compiled(name: str, dtype: str, target: str = HOST, lanes: int | None = None) -> Compiled:
    return Compiled(name, dtype, targets.target(target), lanes)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NAMES)
def test_error_is_within_its_bound(name: str, dtype: str, target: str) -> None:
    known, function = vmath.FUNCTIONS[name], compiled(name, dtype, target)
    worst = sampled(name, dtype, function, 4000)
    if dtype == "float32" and known.arity == 1:
        worst |= exhaustive(name, function, step=30011)
    bound = known.ulp[dtype][not targets.target(target).has_fma]
    assert worst.wrong == 0, worst.wrong_at
    assert worst.ulp <= bound, worst.at


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_the_worst_places_found_are_within_the_bounds(dtype: str, target: str) -> None:
    for key, record in vmath_ulp.known().items():
        cpu, measured, name = key.split()
        if measured != dtype or not record["at"]:
            continue
        at = tuple(np.array([float.fromhex(x)], dtype) for x in record["at"])
        judged = dtype == "float64" and name in JUDGED
        exact = judged_values(name, at) if judged else exact_values(name, at)
        worst = compare(name, compiled(name, dtype, target)(*at), exact, at)
        bound = vmath.FUNCTIONS[name].ulp[dtype][not targets.target(target).has_fma]
        assert worst.wrong == 0 and worst.ulp <= bound, (key, worst)
        if (cpu, target) == ("host", HOST) and targets.detect().has("avx512f"):
            assert worst.ulp == pytest.approx(record["ulp"], abs=1e-3), key


def test_what_was_measured_keeps_the_bounds_and_is_the_table() -> None:
    records = vmath_ulp.known()
    assert {k.split()[2] for k in records} == set(NAMES)
    for key, record in records.items():
        cpu, dtype, name = key.split()
        assert not vmath_ulp.broken(name, dtype, cpu, record), (key, record)
    page = vmath_ulp.TABLE.read_text()
    assert page.partition("Host:")[0] == vmath_ulp.table(records).partition("Host:")[0]


def test_halves_are_correctly_rounded() -> None:
    for dtype in ("float16", "bfloat16"):
        for name in ("exp", "gelu", "tanh", "atan2"):
            worst = every_half(name, dtype, graph_function(name, dtype))
            assert worst.wrong == 0 and worst.ulp <= vmath_ulp.ROUNDED, (name, dtype, worst)


@pytest.mark.deep
@pytest.mark.parametrize("name", [n for n in NAMES if vmath.FUNCTIONS[n].arity == 1])
def test_every_float32(name: str) -> None:
    worst = exhaustive(name, compiled(name, "float32"))
    assert worst.wrong == 0 and worst.ulp <= vmath.FUNCTIONS[name].ulp["float32"].fused, worst


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NAMES)
def test_a_lane_does_not_feel_its_neighbours(name: str, dtype: str) -> None:
    """Scalars and vectors agree bit for bit, also where only some lanes take a branch."""
    rng = np.random.default_rng(1)
    pool = np.concatenate([edges(dtype), rng.uniform(-9, 9, 60).astype(dtype)])
    arity = vmath.FUNCTIONS[name].arity
    inputs = [rng.choice(pool, 512) for _ in range(arity)]
    vector, scalar = (compiled(name, dtype, HOST, lanes)(*inputs) for lanes in (None, 1))
    same = (vector == scalar) & (np.signbit(vector) == np.signbit(scalar))
    assert (same | (np.isnan(vector) & np.isnan(scalar))).all()


def check_exact(name: str, dtype: str, cases: list[tuple]) -> None:
    *inputs, want = (np.array(column, dtype) for column in zip(*cases))
    for target in TARGETS:
        got = compiled(name, dtype, target)(*inputs)
        same = (got == want) & (np.signbit(got) == np.signbit(want))
        same |= np.isnan(got) & np.isnan(want)
        assert same.all(), [(c, g) for c, g, s in zip(cases, got, same) if not s]


# C99 F.9.4.4, and the rows of NumPy's documentation.
POW = [
    (0.0, -3.0, INF),
    (-0.0, -3.0, -INF),
    (-0.0, -2.0, INF),
    (0.0, -INF, INF),
    (-0.0, -0.5, INF),
    (-0.0, 3.0, -0.0),
    (-0.0, 2.0, 0.0),
    (-0.0, 0.5, 0.0),
    (-1.0, INF, 1.0),
    (-1.0, -INF, 1.0),
    (1.0, NAN, 1.0),
    (1.0, INF, 1.0),
    (NAN, 0.0, 1.0),
    (NAN, -0.0, 1.0),
    (INF, 0.0, 1.0),
    (NAN, 1.0, NAN),
    (2.0, NAN, NAN),
    (-8.0, 1 / 3, NAN),
    (-2.0, 3.0, -8.0),
    (-2.0, -2.0, 0.25),
    (-2.0, -3.0, -0.125),
    (0.5, INF, 0.0),
    (0.5, -INF, INF),
    (-0.5, -INF, INF),
    (2.0, INF, INF),
    (-2.0, -INF, 0.0),
    (-INF, -3.0, -0.0),
    (-INF, -2.0, 0.0),
    (-INF, 3.0, -INF),
    (-INF, 2.0, INF),
    (-INF, 0.5, INF),
    (-INF, -0.5, 0.0),
    (INF, -1.0, 0.0),
    (INF, 1.0, INF),
    (3.0, 4.0, 81.0),
    (-1.0, 2.0**24 - 1, -1.0),
    (-1.0, 2.0**24, 1.0),
    (-1.0, -(2.0**24 - 1), -1.0),
]


@pytest.mark.parametrize("dtype", FLOATS)
def test_pow_special_cases(dtype: str) -> None:
    check_exact("pow", dtype, POW)
    whole = 2.0 ** np.finfo(dtype).nmant
    check_exact("pow", dtype, [(-1.0, whole + 1, -1.0), (-1.0, 2 * whole - 1, -1.0)])
    check_exact("pow", dtype, [(-1.0, 2 * whole, 1.0), (-1.0, 2 * whole + 2, 1.0)])


@pytest.mark.parametrize("dtype", FLOATS)
def test_exact_results(dtype: str) -> None:
    info = np.finfo(dtype)
    low, high = int(np.log2(info.smallest_subnormal)), info.maxexp
    powers = [(float(k), 2.0**k) for k in range(low, high)]
    check_exact("exp2", dtype, powers)
    check_exact("log2", dtype, [(y, x) for x, y in powers])
    check_exact("cbrt", dtype, [(float(k) ** 3, float(k)) for k in range(-200, 201)])
    tens = range(1, 10 if dtype == "float32" else 22)
    check_exact("log10", dtype, [(10.0**k, float(k)) for k in tens])
    check_exact("hypot", dtype, [(3e30, 4e30, 5e30 if dtype == "float64" else np.float32(5e30))])
    check_exact("hypot", dtype, [(INF, NAN, INF), (NAN, -INF, INF), (NAN, 1.0, NAN)])
    check_exact("rsqrt", dtype, [(4.0, 0.5), (0.0, INF), (-0.0, -INF), (INF, 0.0), (-1.0, NAN)])
    check_exact("logaddexp", dtype, [(-INF, -INF, -INF), (INF, INF, INF), (INF, -INF, INF)])
    check_exact("exp10", dtype, [(float(k), 10.0**k) for k in tens])
    check_exact("exprel", dtype, [(-INF, 0.0), (INF, INF), (0.0, 1.0), (-0.0, 1.0)])
    check_exact("erfcx", dtype, [(-INF, INF), (INF, 0.0), (0.0, 1.0), (-1e30, INF)])
    check_exact("log_ndtr", dtype, [(-INF, -INF), (INF, -0.0), (NAN, NAN)])
    check_exact("ndtri", dtype, [(0.0, -INF), (1.0, INF), (0.5, 0.0), (-0.1, NAN), (1.1, NAN)])
    check_exact("i0", dtype, [(0.0, 1.0), (INF, INF), (-INF, INF), (NAN, NAN)])
    check_exact("i1", dtype, [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF)])
    check_exact("i0e", dtype, [(0.0, 1.0), (INF, 0.0), (-INF, 0.0)])
    check_exact("i1e", dtype, [(0.0, 0.0), (-0.0, -0.0), (INF, 0.0), (-INF, -0.0)])
    check_exact("atan2", dtype, [(0.0, 1.0, 0.0), (-0.0, 1.0, -0.0), (0.0, INF, 0.0)])


@pytest.mark.parametrize("dtype", FLOATS)
@given(st.data())
def test_fmod_is_exact(dtype: str, data: st.DataObject) -> None:
    floats = st.floats(width=32 if dtype == "float32" else 64)
    pairs = data.draw(st.lists(st.tuples(floats, floats), min_size=1, max_size=40))
    x, y = (np.array(column, dtype) for column in zip(*pairs))
    with np.errstate(all="ignore"):
        want = np.fmod(x, y)
    check_exact("fmod", dtype, list(zip(x, y, want)))


@given(st.lists(st.floats(1e3, np.finfo("d").max), min_size=1, max_size=8))
@example([6381956970095103.0 * 2.0**797])  # the float64 nearest to a multiple of pi/2
@example([2.0**1023])
def test_circular_functions_of_large_arguments(values: list[float]) -> None:
    import mpmath

    with mpmath.workprec(1300):
        for name in ("sin", "cos", "tan"):
            want = np.array([float(getattr(mpmath, name)(mpmath.mpf(v))) for v in values])
            got = compiled(name, "float64")(np.array(values))
            assert (abs(got - want) <= 2 * np.spacing(abs(want))).all()


OTHERS = ["x86-64-v3", "x86-64-v4", "cortex-a72", "cortex-a76", "armv7"]


def compile_everything(name: str, lanes: int) -> frozenset[str]:
    """Compile every function and draw for a target; the symbols the object asks for."""
    target = targets.target(name)
    kernels = [legalize(kernel_of(f, d, lanes), target) for f in NAMES for d in FLOATS]
    kernels += [legalize(draw(words, lanes), target) for words in (1, 2)]
    return symbols(jit.compile_object(emit_module(kernels, target), target)).undefined


@pytest.mark.parametrize(
    "name, lanes",
    [("x86-64", 4), ("cortex-a53", 4), ("cortex-a7", 1), ("cortex-a9", 4)]
    + [pytest.param(name, n, marks=pytest.mark.slow) for name in OTHERS for n in (1, 4, 16)],
)
def test_no_library_is_needed(name: str, lanes: int) -> None:
    """In a process of its own: LLVM aborts where it cannot select an instruction."""
    code = (
        "from tests.backends.test_vmath import compile_everything\n"
        f"print(sorted(compile_everything({name!r}, {lanes})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=280, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[]"


@pytest.mark.emulator
@pytest.mark.parametrize("name", ["cortex-a53", "cortex-a7", "cortex-a9"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_bounds_hold_under_the_emulator(name: str, dtype: str, tmp_path: Path) -> None:
    target = targets.target(name)
    emulator.require(target)
    kernels = [legalize(kernel_of(f, dtype, 4), target) for f in NAMES]
    obj = jit.compile_object(emit_module(kernels, target), target)
    inputs = {f: samples(f, dtype, 30) for f in NAMES}
    arrays = [_padded(inputs[f], 4) for f in NAMES]
    calls = [(k, a, [a[-1].size]) for k, a in zip(kernels, arrays)]
    assert set(emulator.run(obj, calls, target, tmp_path)) == {0}
    for f, (*_, out) in zip(NAMES, arrays):
        given, want = inputs[f], exact_values(f, inputs[f])
        got = out[: want.size]
        if target.flushes_subnormals and dtype == "float32":
            normal = np.all([(abs(a) >= 2.0**-100) | (a == 0) for a in (*given, want)], axis=0)
            given, got, want = tuple(a[normal] for a in given), got[normal], want[normal]
        if dtype == "float64" and f in JUDGED:
            want = judged(f, got, want, given)
        worst = compare(f, got, want, given)
        assert worst.wrong == 0 and worst.ulp <= vmath.FUNCTIONS[f].ulp[dtype].split, (f, worst)


def _padded(inputs: tuple[np.ndarray, ...], lanes: int) -> list[np.ndarray]:
    """The inputs and an output, their size a multiple of the lanes."""
    size = -(-inputs[0].size // lanes) * lanes
    return [*(np.resize(a, size) for a in inputs), np.zeros(size, inputs[0].dtype)]


@pytest.mark.parametrize("name", ["tables", "quotient_tables", "bessel_tables"])
def test_tables_are_what_fit_writes(name: str) -> None:
    pytest.importorskip("mpmath")
    script = Path(vmath.__file__).resolve().with_name("fit.py")
    command = [sys.executable, script, name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == script.with_name(f"{name}.py").read_text(), done.stderr[-2000:]


def test_unknown_functions_are_refused() -> None:
    from symgraph.backends.loops import Block, Ty, Var

    with pytest.raises(KeyError):
        vmath.expand(Block(), "gamma", Var("x", Ty("float32")))
