"""Products of narrow operands as compiled, on every instruction set of this machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.backends import targets
from symgraph.dtypes import dtype as as_dtype
from symgraph.leaves import Constant

MASKS = [
    m
    for m in ("", "x86-64-v4", "x86-64-v3", "x86-64-v2", "x86-64")
    if not m or targets.detect().covers(targets.target(m))
]
BYTES = ("int8", "uint8")
SHORT = (*BYTES, "int16", "uint16")
SIZES = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 33, 65])


def some(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    extreme = rng.choice([info.min, info.max], shape)
    return np.where(rng.random(shape) < 0.3, extreme, x).astype(dtype)


def operand(name: str, value: np.ndarray, kind: str) -> sg.Expr:
    """An input of known sizes, one of symbolic sizes, or a constant, which is packed ahead."""
    if kind == "constant":
        return sg.constant(value)
    return sg.array(name, value.shape if kind == "known" else (None,) * value.ndim, value.dtype)


def compare(inputs: list[sg.Expr], result: sg.Expr, arrays: list[np.ndarray]) -> None:
    given_ = {x: a for x, a in zip(inputs, arrays, strict=True) if not isinstance(x.op, Constant)}
    call = sg.function(list(given_), result)
    assert np.array_equal(call(*given_.values()), sg.evaluate(result, given_))


PROPERTY = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
KINDS = st.sampled_from(["known", "symbolic", "constant"])


@pytest.fixture(params=MASKS)
def mask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SYMGRAPH_CPU", request.param)
    return request.param


@PROPERTY
@given(
    st.sampled_from(SHORT),
    st.sampled_from(SHORT),
    st.tuples(SIZES, SIZES, SIZES),
    st.tuples(KINDS, KINDS),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_matmul(mask: str, left, right, sizes, kinds, turn_a, turn_b, seed) -> None:
    (m, k, n), rng = sizes, np.random.default_rng(seed)
    a = some(rng, left, (k, m) if turn_a else (m, k))
    b = some(rng, right, (n, k) if turn_b else (k, n))
    x, y = operand("x", a, kinds[0]), operand("y", b, kinds[1])
    product = sg.matmul(x.T if turn_a else x, y.T if turn_b else y, dtype="int32")
    compare([x, y], product, [a, b])


@PROPERTY
@given(
    st.sampled_from(BYTES),
    st.sampled_from(BYTES),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 20)),
    st.sampled_from([(1, 1), (1, 3), (3, 3), (2, 5)]),
    st.tuples(st.integers(1, 2), st.integers(0, 2), st.integers(1, 2)),
    KINDS,
    st.integers(0, 99),
)
def test_conv2d(mask: str, left, right, sizes, window, geometry, kind, seed) -> None:
    (side, channels, outputs), (stride, padding, groups) = sizes, geometry
    rng = np.random.default_rng(seed)
    image = (2, side + window[0], side + window[1], channels * groups)
    a, b = some(rng, left, image), some(rng, right, (*window, channels, outputs * groups))
    x, w = operand("x", a, "known"), operand("w", b, "known" if kind == "symbolic" else kind)
    options = {"layout": "NHWC", "groups": groups, "dtype": "int32"}
    compare([x, w], sg.conv2d(x, w, stride, padding, **options), [a, b])


@PROPERTY
@given(
    st.sampled_from(BYTES),
    st.sampled_from(BYTES),
    st.tuples(SIZES, SIZES, SIZES),
    KINDS,
    st.integers(0, 99),
)
def test_requantization(mask: str, dtype, out, sizes, kind, seed) -> None:
    """Scale by column, bias, round to nearest even, clamp: in registers, the same bits."""
    (m, k, n), rng = sizes, np.random.default_rng(seed)
    a, b = some(rng, dtype, (m, k)), some(rng, "int8", (k, n))
    x, y = operand("x", a, "known"), operand("y", b, "known" if kind == "symbolic" else kind)
    scale = sg.constant((2.0 ** rng.integers(-16, -6, n)).astype("f4"))  # ties are common
    bias = sg.constant((rng.integers(-9, 9, n) / 2).astype("f4"))
    info = np.iinfo(out)
    real = sg.matmul(x, y, dtype="int32") * scale + bias
    compare([x, y], sg.clip(sg.round(real), info.min, info.max).astype(out), [a, b])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["known", "symbolic", "constant"])
def test_halves_into_float32(mask: str, dtype: str, kind: str) -> None:
    rng = np.random.default_rng(1)
    for m, k, n in ((1, 7, 5), (9, 1, 17), (40, 333, 65), (3, 0, 2)):
        a, b = (rng.standard_normal(s).astype(as_dtype(dtype).np) for s in ((m, k), (k, n)))
        x, y = operand("x", a, "known"), operand("y", b, kind)
        arrays = {x: a, y: b} if kind != "constant" else {x: a}
        product = sg.matmul(x, y, dtype="float32")
        got = sg.function(list(arrays), product)(*arrays.values())
        wide = [v.astype(np.float64) for v in (a, b)]
        bound = (k + 2) * 2.0**-23 * (abs(wide[0]) @ abs(wide[1]))
        assert got.dtype == np.float32 and (abs(got - wide[0] @ wide[1]) <= bound).all()


def test_gradient_of_bfloat16(mask: str) -> None:
    rng = np.random.default_rng(2)
    x, y = sg.array("x", (9, 33), "bfloat16"), sg.array("y", (33, 20), "bfloat16")
    arrays = {v: rng.integers(-4, 5, v.array_type.shape).astype(v.dtype.np) for v in (x, y)}
    loss = sg.sum(sg.matmul(x, y, dtype="float32"))  # of small integers: every sum is exact
    slopes = sg.grad(loss, [x, y])
    got = sg.function([x, y], slopes)(*arrays.values())
    for ours, want in zip(got, sg.evaluate(slopes, arrays)):
        assert np.array_equal(ours, want)


def test_kernel_of_the_instruction_is_used() -> None:
    """What the other tests compare is the product by words, with its epilogue in the kernel."""
    host = targets.host()
    if not {"avx512vnni", "avx512vl"} <= host.features:
        pytest.skip("this machine multiplies no words of bytes of 512 bits")
    x, w = sg.array("x", (1, 8, 8, 16), "uint8"), sg.constant(np.ones((3, 3, 16, 32), "i1"))
    acc = sg.conv2d(x, w, padding=1, layout="NHWC", dtype="int32")
    f = sg.function([x], sg.clip(sg.round(acc * 0.5), 0, 255).astype("uint8"))
    assert "vpdpbusd" in f.source("asm")
    kernels = [line for line in f.source("plan").splitlines() if "(" in line and " at " not in line]
    assert [k.partition("(")[0].partition("_")[0] for k in kernels][-1] == "convolve"
    x, y = sg.array("x", (9, 64), "bfloat16"), sg.array("y", (64, 40), "bfloat16")
    product = sg.function([x, y], sg.matmul(x, y, dtype="float32"))
    assert ("vdpbf16ps" in product.source("asm")) == ("avx512bf16" in host.features)
