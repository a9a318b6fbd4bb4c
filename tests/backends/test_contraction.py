"""Matrix products in loop IR against NumPy: shapes, strides, dtypes, targets, epilogues."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symgraph.backends import jit, targets
from symgraph.backends.contraction import (
    ContractionSpec,
    Position,
    build_contraction,
    packed_panel_columns,
    workspace_elements,
)
from symgraph.backends.emit import emit
from symgraph.backends.interpret import Context, interpret, numpy_dtype
from symgraph.backends.legalize import legalize
from symgraph.backends.loops import INTERRUPTED, Block, Buffer, Const, Value
from symgraph.backends.verify_loops import verify
from tests.backends.loop_cases import EVERY, FLOATS, HALVES, INTEGERS, native

GUARD = 64  # elements around C that must stay as they are
A_UNITS, B_UNITS = ("k", "m", None), ("n", "k", None)
X86 = ("host", "x86-64-v3", "x86-64-v2")
EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


def runs(name: str) -> bool:
    return targets.detect().covers(targets.target(name))


@functools.cache
def compiled(spec: ContractionSpec, name: str, epilogue=None, extra: tuple[Buffer, ...] = ()):
    """(arrays, dims) -> status of the kernel, verified, compiled for a target and loaded."""
    target = targets.target(name)
    kernel = legalize(build_contraction(spec, target, epilogue, extra), target)
    verify(kernel)
    library = jit.load([jit.compile_object(emit(kernel, target), target)], [kernel.name])
    call = native(library.address(kernel.name), kernel, target)
    call.library = library
    return call


@functools.cache
def interpreted(spec: ContractionSpec, name: str, epilogue=None, extra: tuple[Buffer, ...] = ()):
    """The same by the interpreter, which checks every address: for any target."""
    kernel = build_contraction(spec, targets.target(name), epilogue, extra)
    verify(kernel)
    kernel = legalize(kernel, targets.target(name))
    return lambda arrays, dims, context=None: interpret(kernel, arrays, dims, context)


def stored(x: np.ndarray, unit: str | None, axes: str) -> tuple[np.ndarray, tuple[int, int, int]]:
    """[batch, row, column] laid out so that axis `unit` has stride 1: flat memory and strides."""
    rows_by_columns = unit == axes[1] or unit is None
    x = x if rows_by_columns else x.transpose(0, 2, 1)
    gap = 2 if unit is None else 1
    wide = np.zeros((x.shape[0], x.shape[1] + 1, gap * x.shape[2] + 3), x.dtype)
    wide[:, : x.shape[1], : gap * x.shape[2] : gap] = x
    batch, line, element = (s // x.itemsize for s in wide.strides)
    line, element = line, gap * element
    return wide.reshape(-1), (batch, line, element) if rows_by_columns else (batch, element, line)


def product(call, spec, name, a, b, extra=(), b_memory=None, c_gap=0, context=None) -> np.ndarray:
    """C by the kernel, with memory around it that is checked."""
    (batch, m, k), n = a.shape, b.shape[2]
    flat_a, a_strides = stored(a, spec.a_unit, "mk")
    flat_b, b_strides = b_memory or stored(b, spec.b_unit, "kn")
    out = numpy_dtype(spec.out or spec.dtype)
    row = n + c_gap
    flat_c = np.full(2 * GUARD + batch * (m + 1) * row, 77).astype(out)
    space = np.full(workspace_elements(spec, targets.target(name)), 3).astype(
        numpy_dtype(spec.accumulate)
    )
    spaces = [space] if space.size else []
    c = flat_c[GUARD : flat_c.size - GUARD]
    arrays = [flat_a, flat_b, c, *spaces, *extra]
    dims = [batch, m, n, k, *a_strides, *b_strides, (m + 1) * row, row]
    assert call(arrays, dims, context) == 0
    inside = c.reshape(batch, m + 1, row)[:, :m, :n].copy()
    c.reshape(batch, m + 1, row)[:, :m, :n] = np.asarray(77).astype(out)
    assert (flat_c == np.asarray(77).astype(out)).all(), "written outside C"
    return inside


def exact(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The product in float64, element by element, and the same of magnitudes, to measure errors."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        terms = x[:, :, :, None] * y[:, None, :, :]
        return terms.sum(2), np.abs(terms).sum(2)


def check(got: np.ndarray, a: np.ndarray, b: np.ndarray, dtype: str) -> None:
    if a.dtype.kind in "biu":
        assert np.array_equal(got, np.matmul(a, b))
        return
    want, size = exact(a, b)
    eps = EPS["float32" if dtype in HALVES else dtype]
    bound = 1.5 * (a.shape[2] + 2) * eps * size
    if dtype in HALVES:
        bound = bound + EPS[dtype] * np.abs(want) + 2.0**-24
    finite = np.isfinite(want)
    got = got.astype(np.float64)
    assert np.array_equal(np.where(finite, 0, got), np.where(finite, 0, want), equal_nan=True)
    assert (np.abs(got[finite] - want[finite]) <= bound[finite]).all()


def operands(rng: np.random.Generator, dtype: str, batch: int, m: int, k: int, n: int, wild=False):
    shapes = (batch, m, k), (batch, k, n)
    if dtype == "bool":
        return tuple(rng.random(s) < 0.3 for s in shapes)
    if dtype in INTEGERS:
        info = np.iinfo(dtype)
        return tuple(rng.integers(info.min, info.max, s, dtype, endpoint=True) for s in shapes)
    made = [rng.standard_normal(s) for s in shapes]
    for x in made:
        if wild and x.size:
            where = rng.integers(0, x.size, 2)
            x.reshape(-1)[where] = rng.choice([np.inf, -np.inf, np.nan, 0.0], 2)
    return tuple(x.astype(numpy_dtype(dtype)) for x in made)


SIZES = st.sampled_from([0, 1, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 48, 64, 65, 97])


@st.composite
def cases(draw, dtypes=EVERY, sizes=SIZES):
    batch, m, k, n = draw(st.sampled_from([0, 1, 1, 2, 3])), *(draw(sizes) for _ in range(3))
    known = [draw(st.booleans()) for _ in range(3)]
    spec = ContractionSpec(
        draw(st.sampled_from(dtypes)),
        a_unit=draw(st.sampled_from(A_UNITS)),
        b_unit=draw(st.sampled_from(B_UNITS)),
        **{name: size for name, size, is_known in zip("mnk", (m, n, k), known) if is_known},
    )
    return spec, (batch, m, k, n), draw(st.integers(0, 2**31)), draw(st.sampled_from([0, 5]))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(case=cases(), name=st.sampled_from([n for n in X86 if runs(n)]))
def test_product(case, name) -> None:
    spec, sizes, seed, c_gap = case
    a, b = operands(np.random.default_rng(seed), spec.dtype, *sizes, wild=True)
    got = product(compiled(spec, name), spec, name, a, b, c_gap=c_gap)
    check(got, a, b, spec.dtype)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    case=cases(("float32", "float64", "int16", "bool"), st.sampled_from([0, 1, 2, 3, 5, 6, 9, 13])),
    name=st.sampled_from(["cortex-a72", "cortex-a9", "x86-64-v2", "x86-64-v4"]),
)
def test_other_targets_by_interpreter(case, name) -> None:
    spec, sizes, seed, c_gap = case
    a, b = operands(np.random.default_rng(seed), spec.dtype, *sizes)
    got = product(interpreted(spec, name), spec, name, a, b, c_gap=c_gap)
    check(got, a, b, spec.dtype)


@pytest.mark.parametrize("dtype", EVERY)
@pytest.mark.parametrize("units", [("k", "n"), ("m", "n"), ("k", "k"), (None, None)])
def test_every_dtype(dtype: str, units: tuple[str | None, str | None]) -> None:
    spec = ContractionSpec(dtype, a_unit=units[0], b_unit=units[1])
    call, rng = compiled(spec, "host"), np.random.default_rng(1)
    for sizes in [(2, 13, 37, 70), (1, 1, 5, 130), (1, 40, 1, 9), (1, 3, 0, 4)]:
        a, b = operands(rng, dtype, *sizes)
        check(product(call, spec, "host", a, b), a, b, dtype)


# Across the limits of blocks of rows (480) and of k (1024), and pieces of a streamed row (4096).
LARGE = [
    (1, 970, 70, 65),
    (1, 9, 2100, 97),
    (1, 490, 1030, 50),
    (1, 1, 1025, 4200),
    (2, 1, 3000, 1),
]


@pytest.mark.parametrize("sizes", LARGE)
@pytest.mark.parametrize("units", [("k", "n"), ("m", "k"), ("k", "k"), ("m", "n")])
@pytest.mark.parametrize("known", ["", "m", "n", "mnk"])
def test_block_limits(sizes, units, known: str) -> None:
    batch, m, k, n = sizes
    facts = {name: size for name, size in zip("mnk", (m, n, k)) if name in known}
    spec = ContractionSpec("float32", a_unit=units[0], b_unit=units[1], **facts)
    a, b = operands(np.random.default_rng(2), "float32", *sizes)
    got = product(compiled(spec, "host"), spec, "host", a, b)
    want, size = np.matmul(a.astype(np.float64), b), np.matmul(np.abs(a), np.abs(b))
    assert (np.abs(got - want) <= (k + 2) * EPS["float32"] * size).all()


VECTORS = [
    (1, 1, 9, 9),
    (2, 1, 64, 130),
    (1, 7, 65, 1),
    (2, 130, 33, 1),
    (1, 1, 100, 1),
    (1, 0, 3, 1),
]


@pytest.mark.parametrize("sizes", VECTORS)
@pytest.mark.parametrize("a_unit", A_UNITS)
@pytest.mark.parametrize("b_unit", B_UNITS)
@pytest.mark.parametrize("dtype", ["float32", "int8", "bool"])
def test_one_row_or_column(sizes, a_unit, b_unit, dtype: str) -> None:
    batch, m, k, n = sizes
    spec = ContractionSpec(dtype, a_unit=a_unit, b_unit=b_unit, m=1 if m == 1 else None, n=n)
    a, b = operands(np.random.default_rng(3), dtype, *sizes)
    got = product(compiled(spec, "host"), spec, "host", a, b, c_gap=2)
    check(got, a, b, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_long_sums_are_blocked(dtype: str) -> None:
    """The stated bound: (depth + K / depth + 2) * eps, far below K * eps."""
    k = 100_000
    rng = np.random.default_rng(4)
    a, b = (rng.random(s).astype(dtype) for s in ((1, 3, k), (1, k, 17)))
    got = product(compiled(ContractionSpec(dtype), "host"), ContractionSpec(dtype), "host", a, b)
    want = np.matmul(a.astype(np.longdouble), b.astype(np.longdouble))
    blocks = -(-k // 1024)
    assert (np.abs(got - want) <= (k / blocks + blocks + 2) * EPS[dtype] * want).all()


def test_order_does_not_depend_on_place() -> None:
    rng = np.random.default_rng(5)
    row, column = rng.standard_normal(700), rng.standard_normal(700)
    for m, n in ((23, 133), (8, 64), (2, 3)):
        a = np.broadcast_to(row, (2, m, 700)).astype("f4")
        b = np.broadcast_to(column[:, None], (2, 700, n)).astype("f4")
        spec = ContractionSpec("float32")
        got = product(compiled(spec, "host"), spec, "host", a, b)
        assert (got == got[0, 0, 0]).all()


@pytest.mark.parametrize("name", [n for n in X86 if runs(n)])
@pytest.mark.parametrize("m", [1, 5, 40])
@pytest.mark.parametrize("facts", [{}, {"n": 75, "k": 33}, {"m": 1}])
def test_packed_b(name: str, m: int, facts: dict) -> None:
    n, k = 75, 33
    spec = ContractionSpec("float32", packed_b=True, **(facts if facts.get("m", m) == m else {}))
    a, b = operands(np.random.default_rng(6), "float32", 2, m, k, n)
    width = packed_panel_columns(spec, targets.target(name))
    assert width == packed_panel_columns(spec._replace(m=1), targets.target(name))
    panels = -(-n // width)
    padded = np.zeros((2, k, panels * width), b.dtype)
    padded[:, :, :n] = b
    memory = np.ascontiguousarray(padded.reshape(2, k, panels, width).transpose(0, 2, 1, 3))
    b_memory = memory.reshape(-1), (memory[0].size, 0, 0)
    got = product(compiled(spec, name), spec, name, a, b, b_memory=b_memory)
    check(got, a, b, "float32")


BIAS, RESIDUAL = Buffer("bias", "float32"), Buffer("residual", "float32")
ROWS, COLUMNS = 19, 70


def _residual(b: Block, at: Position) -> Value:
    """Where `at` is in a C-contiguous [batch, ROWS, COLUMNS]."""
    row = b.let("add", b.let("mul", at.batch, b.index(ROWS)), at.row)
    return b.let("add", b.let("mul", row, b.index(COLUMNS)), at.column)


def bias_relu(b: Block, sums: Value, at: Position) -> Value:
    x = b.let("add", sums, b.load(BIAS, at.column, sums.type.lanes, at.mask))
    return b.let("max", x, Const(0.0, x.type))


def long_epilogue(b: Block, sums: Value, at: Position) -> Value:
    x = bias_relu(b, sums, at)
    x = b.let("add", x, b.load(RESIDUAL, _residual(b, at), sums.type.lanes, at.mask))
    return b.let("mul", x, b.let("add", x, Const(1.0, x.type)))


@pytest.mark.parametrize("epilogue", [bias_relu, long_epilogue])
@pytest.mark.parametrize("out", ["float32", "float64", "float16"])
@pytest.mark.parametrize("units, n", [(("k", "n"), 70), (("k", "k"), 1), (("m", "k"), 1)])
@pytest.mark.parametrize("known", [False, True])
def test_epilogue(epilogue, out: str, units, n: int, known: bool) -> None:
    rng = np.random.default_rng(7)
    a, b = operands(rng, "float32", 2, ROWS, 1100, n)
    bias = rng.standard_normal(n).astype("f4")
    residual = rng.standard_normal((2, ROWS, COLUMNS)).astype("f4")
    facts = {"m": ROWS, "n": n, "k": 1100} if known else {"n": n}
    spec = ContractionSpec("float32", out, *units, **facts)
    call = compiled(spec, "host", epilogue, (BIAS, RESIDUAL))
    got = product(call, spec, "host", a, b, extra=(bias, residual.reshape(-1)))
    want = np.maximum(np.matmul(a.astype("f8"), b) + bias, 0)
    if epilogue is long_epilogue:
        want = want + residual[:, :, :n]
        want = want * (want + 1)
    scale = np.abs(want).max()
    assert np.abs(got - want).max() <= scale * (2e-3 if out == "float16" else 1e-5)


def test_polls_and_stops() -> None:
    spec = ContractionSpec("float32")
    call, asked = interpreted(spec, "x86-64-v4"), []
    a, b = operands(np.random.default_rng(8), "float32", 1, 3, 5, 7)
    arrays = [a.reshape(-1), b.reshape(-1), np.zeros(21, "f4")]
    arrays.append(np.zeros(workspace_elements(spec, targets.target("x86-64-v4")), "f4"))
    context = Context(poll=lambda: bool(asked.append(1)), budget=0)
    dims = [1, 3, 7, 5, 15, 5, 1, 35, 7, 1, 21, 7]
    assert call(arrays, dims, context) == INTERRUPTED
    assert asked == [1]


@pytest.mark.parametrize("name", targets.names())
def test_code_stays_small(name: str) -> None:
    """Cold compilation follows the length of the code: about 1000 lines, more without masks."""
    target = targets.target(name)
    for dtype in ("float32", "float64", "int8"):
        for b_unit in B_UNITS:
            kernel = build_contraction(ContractionSpec(dtype, b_unit=b_unit), target)
            verify(kernel)
            kernel = legalize(kernel, target)
            assert len(emit(kernel, target).splitlines()) < 1400
