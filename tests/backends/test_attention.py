"""Kernels of attention and of its gradient: shapes, strides, masks, targets, threads, polls."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.backends import jit, targets
from symgraph.backends.attention_gradient import gradient_kernel, gradient_workspace
from symgraph.backends.attention_kernel import (
    AttentionSpec,
    attention_kernel,
    workspace_elements,
)
from symgraph.backends.emit import emit
from symgraph.backends.interpret import Context, interpret
from symgraph.backends.legalize import legalize
from symgraph.backends.loops import INTERRUPTED
from symgraph.backends.plan import plan
from symgraph.backends.program import Launch, Program
from symgraph.backends.simulate import simulate
from symgraph.backends.verify_loops import verify
from symgraph.ops.attention import Attention, AttentionGradient
from symgraph.optim.pipeline import optimize
from tests.backends.loop_cases import native

GUARD = 64  # elements around results that must stay as they are
X86 = ("host", "x86-64-v3", "x86-64-v2", "x86-64")
OTHERS = ("cortex-a72", "cortex-a9", "x86-64-v2", "x86-64-v4")
EPS = {"float32": 2.0**-23, "float64": 2.0**-52}


def runs(name: str) -> bool:
    return targets.detect().covers(targets.target(name))


def kernel_of(spec: AttentionSpec, name: str, gradient: bool):
    target = targets.target(name)
    kernel = (gradient_kernel if gradient else attention_kernel)(spec, target)
    verify(kernel)
    return legalize(kernel, target), target


@functools.cache
def compiled(spec: AttentionSpec, name: str, gradient: bool):
    kernel, target = kernel_of(spec, name, gradient)
    library = jit.load([jit.compile_object(emit(kernel, target), target)], [kernel.name])
    call = native(library.address(kernel.name), kernel, target)
    call.library = library
    return call


@functools.cache
def interpreted(spec: AttentionSpec, name: str, gradient: bool):
    """By the interpreter, which checks every address: for any target."""
    kernel, _ = kernel_of(spec, name, gradient)
    return lambda arrays, dims, context=None: interpret(kernel, arrays, dims, context)


def laid_out(x: np.ndarray, unit: str | None) -> tuple[np.ndarray, list[int]]:
    """[item, row, column] with that axis contiguous: flat memory with gaps, and strides."""
    if unit == "n":
        memory, strides = laid_out(x.swapaxes(1, 2), "k")
        return memory, [strides[0], strides[2], strides[1]]
    gap = 2 if unit is None else 1
    wide = np.full((x.shape[0], x.shape[1] + 1, gap * x.shape[2] + 3), 1).astype(x.dtype)
    wide[:, : x.shape[1], : gap * x.shape[2] : gap] = x
    item, row, column = (s // x.itemsize for s in wide.strides)
    return wide.reshape(-1), [item, row, gap * column]


class Guarded:
    """An array without gaps that is written, between elements that must not be."""

    def __init__(self, shape: tuple[int, ...], dtype: str):
        self.shape, self.size = shape, int(np.prod(shape))
        self.memory = np.full(self.size + 2 * GUARD, 77, dtype)

    @property
    def inside(self) -> np.ndarray:
        return self.memory[GUARD : GUARD + self.size]

    def result(self) -> np.ndarray:
        around = np.concatenate([self.memory[:GUARD], self.memory[GUARD + self.size :]])
        assert (around == 77).all(), "written outside"
        return self.inside.reshape(self.shape)


def forward(call, spec, name, arrays, context=None):
    q, k, v, *_ = arrays
    (batch, n, d), (m, e) = q.shape, v.shape[1:]
    memory, strides = zip(*[laid_out(x, u) for x, u in zip(arrays, spec.units)])
    results = [Guarded((batch, n, e), spec.dtype)]
    results += [Guarded((batch, n), spec.dtype)] if spec.total else []
    space = workspace_elements(spec, targets.target(name), d, e)
    space = np.full(space, np.nan, spec.dtype)
    dims = [batch, n, m, d, e, *np.concatenate(strides).tolist(), n * e, e, 0]
    assert call([*memory, *(r.inside for r in results), space], dims, context) == 0
    return [r.result() for r in results]


def backward(call, spec, name, arrays, total, delta):
    q, k, v, *_ = arrays
    (batch, n, d), (m, e) = q.shape, v.shape[1:]
    memory, strides = zip(*[laid_out(x, u) for x, u in zip(arrays, spec.units)])
    results = [Guarded(x.shape, spec.dtype) for x in (q, k, v)]
    space = gradient_workspace(spec, targets.target(name), m, d, e)
    space = np.full(space, np.nan, spec.dtype)
    dims = [batch, n, m, d, e, *np.concatenate(strides).tolist()]
    given = [*memory, total.reshape(-1), delta.reshape(-1)]
    assert call([*given, *(r.inside for r in results), space], dims) == 0
    return [r.result() for r in results]


def check(got: np.ndarray, want: np.ndarray, eps: float, terms: int) -> None:
    """Against float64, to the error of sums of `terms` terms of about the largest result."""
    assert np.array_equal(np.isnan(got), np.isnan(want))
    assert np.array_equal(np.isinf(got), np.isinf(want))
    fine = np.isfinite(want)
    bound = 8 * (terms + 8) * eps * (1 + np.abs(want[fine]).max(initial=0))
    assert (np.abs(got[fine] - want[fine]) <= bound).all()


SIZES = st.sampled_from([0, 1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 65, 80, 97])
UNITS = st.sampled_from(["k", "n", None])


@st.composite
def cases(draw, sizes=SIZES, dtypes=("float32", "float64")):
    batch, n, m, d, e = (draw(st.sampled_from([0, 1, 2, 3])), *(draw(sizes) for _ in range(4)))
    mask = draw(st.sampled_from(["", "bool", "float"]))
    dtype = draw(st.sampled_from(dtypes))
    units = tuple(draw(UNITS) for _ in range(4 if mask else 3))
    spec = AttentionSpec(
        dtype,
        draw(st.booleans()),
        draw(st.sampled_from([0.25, -0.5, 1.0])),
        units,
        dtype if mask == "float" else mask,
        strict=draw(st.booleans()),
        total=draw(st.booleans()),
        n=n if draw(st.booleans()) else None,
    )
    by_key = bool(mask) and draw(st.booleans())
    return spec._replace(by_key=by_key), (batch, n, m, d, e), draw(st.integers(0, 2**31))


def operands(spec: AttentionSpec, sizes, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    batch, n, m, d, e = sizes
    shapes = (batch, n, d), (batch, m, d), (batch, m, e)
    arrays = [rng.standard_normal(s).astype(spec.dtype) for s in shapes]
    if spec.mask:
        rows = 1 if spec.by_key else n
        mask = rng.standard_normal((batch, rows, m))
        mask = np.where(rng.random(mask.shape) < 0.2, -np.inf, mask)
        mask[:, rows // 2 :: 7] = -np.inf  # some queries see nothing
        mask = mask > -0.5 if spec.mask == "bool" else mask.astype(spec.dtype)
        arrays.append(np.broadcast_to(mask, (batch, n, m)))
    return arrays


def wide(arrays) -> list[np.ndarray]:
    return [x if x.dtype == bool else x.astype(np.float64) for x in arrays]


def test_both(make, name: str, case) -> None:
    spec, sizes, seed = case
    arrays = operands(spec, sizes, seed)
    fields, eps = (spec.causal, spec.scale, spec.strict), EPS[spec.dtype]
    want = Attention(*fields).evaluate(*wide(arrays))
    got = forward(make(spec, name, False), spec, name, arrays)
    for a, b in zip(got, want):
        check(a, b, eps, max(sizes[2:]))
    if spec.strict and spec.causal:
        return  # whether keys that are behind a query become NaN with it is not specified
    slope = np.random.default_rng(seed + 1).standard_normal(want[0].shape).astype(spec.dtype)
    total, delta = want[1].astype(spec.dtype), (slope * want[0]).sum(-1).astype(spec.dtype)
    spec = spec._replace(units=(*spec.units, "k"), total=False)
    given = [*wide(arrays), total.astype(float), delta.astype(float), slope.astype(float)]
    want = AttentionGradient(*fields).evaluate(*given)
    got = backward(make(spec, name, True), spec, name, [*arrays, slope], total, delta)
    for a, b in zip(got, want):
        check(a, b, eps, max(sizes[1:]))


test_both.__test__ = False


@settings(max_examples=40, deadline=None, derandomize=True)
@given(case=cases(), name=st.sampled_from([n for n in X86 if runs(n)]))
def test_kernels(case, name) -> None:
    test_both(compiled, name, case)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    case=cases(st.sampled_from([0, 1, 2, 3, 5, 9])),
    name=st.sampled_from(OTHERS),
)
def test_other_targets_by_interpreter(case, name) -> None:
    test_both(interpreted, name, case)


LARGE = [(1, 130, 600, 64, 64), (2, 300, 259, 80, 33), (1, 3, 1000, 1, 128), (1, 600, 40, 128, 1)]


@pytest.mark.parametrize("sizes", LARGE)
@pytest.mark.parametrize("causal", [False, True])
def test_several_blocks(sizes, causal: bool) -> None:
    spec = AttentionSpec("float32", causal, sizes[3] ** -0.5, ("k", "k", "k"), total=True)
    test_both(compiled, "host", (spec, sizes, 5))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_non_finite_numbers(where: str, value: float) -> None:
    spec = AttentionSpec("float32", False, 0.5, ("k", "k", "k"), total=True)
    arrays = operands(spec, (2, 20, 300, 8, 5), 3)
    arrays["qkv".index(where)][0, 7, 2] = value
    with np.errstate(all="ignore"):
        want = Attention(False, 0.5, False).evaluate(*arrays)
    got = forward(compiled(spec, "host", False), spec, "host", arrays)
    for a, b in zip(got, want):
        assert np.array_equal(np.isnan(a), np.isnan(b))
        assert np.array_equal(np.isinf(a), np.isinf(b))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strict", [False, True])
def test_overflowing_sums_of_powers(strict: bool) -> None:
    """Scores as large as floats: only differences count."""
    spec = AttentionSpec("float32", False, 1.0, ("k", "k", "k"), total=True, strict=strict)
    q, k, v = operands(spec, (1, 40, 500, 4, 3), 1)
    k = np.round(k) * 64
    want = Attention(False, 1.0, strict).evaluate(q.astype("f8"), k.astype("f8"), v.astype("f8"))
    got = forward(compiled(spec, "host", False), spec, "host", [q, k, v])
    np.testing.assert_allclose(got[0], want[0], atol=2e-4)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-5)


@pytest.mark.parametrize("gradient", [False, True])
def test_polls_and_stops(gradient: bool) -> None:
    spec = AttentionSpec("float32", False, 1.0, ("k",) * (4 if gradient else 3))
    kernel, target = kernel_of(spec, "x86-64-v4", gradient)
    n, d = 5, 2
    flat, row = np.zeros(n * d, "f4"), np.zeros(n, "f4")
    dims = [1, n, n, d, d, *([n * d, d, 1] * len(spec.units))]
    if gradient:
        space = gradient_workspace(spec, target, n, d, d)
        arrays = [flat, flat, flat, flat, row, row, *(flat.copy() for _ in range(3))]
    else:
        space = workspace_elements(spec, target, d, d)
        arrays, dims = [flat, flat, flat, flat.copy()], [*dims, n * d, d, 0]
    asked: list[int] = []
    context = Context(poll=lambda: bool(asked.append(1)), budget=0)
    assert interpret(kernel, [*arrays, np.zeros(space, "f4")], dims, context) == INTERRUPTED
    assert asked == [1]


# --------------------------------------------------------------------------------- whole functions


def function_of(shapes, dtype="float32", mask=None, **options):
    """A compiled function (q, k, v, slope) -> o and gradients, and what it computes."""
    xs = [sg.array(name, s, dtype) for name, s in zip("qkv", shapes)]
    y = sg.attention(*xs, mask, **options)
    slope = sg.array("slope", y.array_type.shape, dtype)
    outputs = [y, *sg.grad((y * slope).sum(), xs)]
    return sg.function([*xs, slope], outputs), [*xs, slope], outputs


def random(shapes, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s).astype(dtype) for s in shapes]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_symbolic_sizes(dtype: str) -> None:
    shapes = ("b", "n", "d"), ("b", "m", "d"), ("b", "m", "e")
    f, inputs, outputs = function_of(shapes, dtype, causal=True)
    for b, n, m, d, e in [(2, 9, 5, 4, 3), (1, 70, 40, 64, 65), (3, 1, 1, 1, 1), (2, 0, 3, 4, 2)]:
        arrays = random(((b, n, d), (b, m, d), (b, m, e), (b, n, e)), dtype)
        for got, want in zip(f(*arrays), sg.evaluate(outputs, dict(zip(inputs, arrays)))):
            np.testing.assert_allclose(got, want, atol=300 * EPS[dtype], rtol=300 * EPS[dtype])


def test_heads_behind_rows_and_groups_are_read_where_they_lie() -> None:
    b, n, heads, groups, width = 2, 20, 6, 2, 8
    q, k = sg.array("q", (b, n, heads, width)), sg.array("k", (b, n, groups, width))
    turned = sg.transpose(q, (0, 2, 1, 3)).reshape((b, groups, heads // groups, n, width))
    keys = sg.transpose(k, (0, 2, 1, 3)).reshape((b, groups, 1, n, width))
    y = sg.attention(turned, keys, keys, causal=True)
    f = sg.function([q, k], y)
    arrays = random(((b, n, heads, width), (b, n, groups, width)))
    np.testing.assert_allclose(f(*arrays), sg.evaluate(y, dict(zip((q, k), arrays))), atol=1e-6)
    assert kernels([q, k], [y]) == ["attention_float32"]


def planned(inputs, outputs) -> Program:
    """The program of optimized outputs."""
    return plan(inputs, optimize(outputs)[0], target=targets.host(), host_calls="forbid")


def kernels(inputs, outputs) -> list[str]:
    """Names of the kernels, without what follows the dtype."""
    names = [g.kernel for g in planned(inputs, outputs).groups]
    return ["_".join(n.split("_")[:2]) if n.startswith("attention") else n for n in names]


def test_no_buffer_of_queries_by_keys() -> None:
    n = 4096
    _, inputs, outputs = function_of([(n, 8)] * 3)
    assert planned(inputs, outputs).arena < n * n


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    before = sg.get_threads()
    shapes = [(6, 200, 32)] * 3
    single = [(700, 32)] * 3
    found = []
    try:
        for count in (1, 2, 4):
            sg.set_threads(count)
            f, _, _ = function_of(shapes, causal=True)
            functions = [f, function_of(single)[0], function_of(single, causal=True)[0]]
            given = [random([*s, s[0]]) for s in (shapes, single, single)]
            found.append([x for f, args in zip(functions, given) for x in f(*args)])
    finally:
        sg.set_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("lead", [(), (3,)])
@pytest.mark.parametrize("causal", [False, True])
def test_ranges_in_any_order_make_the_whole(lead: tuple[int, ...], causal: bool) -> None:
    """One item is cut by queries, several are cut by items."""
    n = 66 if not lead else 40
    xs = [sg.array(name, (*lead, n, 8)) for name in "qkv"]
    y = sg.attention(*xs, sg.constant(np.tri(n, k=40, dtype=bool)), causal)
    program = plan(xs, [y], target=targets.host(), host_calls="forbid")
    (cut,) = (s.split for s in program.steps if isinstance(s, Launch))
    assert cut is not None and cut.extent == (3 if lead else n)
    arrays = random([(*lead, n, 8)] * 3)
    (got,), _ = simulate(program, arrays, [])
    np.testing.assert_allclose(got, sg.evaluate(y, dict(zip(xs, arrays))), atol=1e-6)


@pytest.mark.parametrize("what", ["plain", "scale", "mask", "where"])
def test_attention_by_hand_is_recognized(what: str) -> None:
    q, k, v = (sg.array(x, (2, 3, 20, 8)) for x in "qkv")
    mask = np.random.default_rng(0).random((20, 20)) < 0.7
    scores = q @ k.mT
    scores = scores if what == "plain" else scores / 8**0.5
    if what == "mask":
        scores = scores + sg.constant(np.where(mask, 0, -1e9).astype("f4"))
    if what == "where":
        scores = sg.where(mask, scores, -np.inf)
    y = sg.softmax(scores) @ v
    assert kernels([q, k, v], [y]) == ["attention_float32"]
    arrays = random([(2, 3, 20, 8)] * 3)
    want = sg.evaluate(y, dict(zip((q, k, v), arrays)))
    np.testing.assert_allclose(sg.function([q, k, v], y)(*arrays), want, atol=1e-5)


def test_weights_that_somebody_reads_stay() -> None:
    q, k, v = (sg.array(x, (20, 8)) for x in "qkv")
    weights = sg.softmax(q @ k.mT)
    names = kernels([q, k, v], [weights @ v, weights.max()])
    assert not any(name.startswith("attention") for name in names)


def test_a_row_without_keys_stays_nan_where_softmax_says_so() -> None:
    q, k, v = (sg.array(x, (4, 3)) for x in "qkv")
    mask = np.array([[True] * 4, [False] * 4, [True] * 4, [False] * 4])
    y = sg.softmax(sg.where(mask, q @ k.mT, -np.inf)) @ v
    assert kernels([q, k, v], [y]) == ["attention_float32"]
    got = sg.function([q, k, v], y)(*random([(4, 3)] * 3))
    assert np.isnan(got[1::2]).all() and np.isfinite(got[::2]).all()
