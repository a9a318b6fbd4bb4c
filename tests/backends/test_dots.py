"""Products of narrow operands by words of several steps: instructions, rests, layouts, targets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symgraph.backends import targets
from symgraph.backends.contraction import ContractionSpec, build_contraction
from symgraph.backends.legalize import legalize
from symgraph.backends.loops_text import to_text
from symgraph.backends.words import words
from tests.backends.test_contraction import compiled, interpreted, product

INTEGERS = (
    ("uint8", "int8", "int32"),
    ("int8", "int8", "int32"),
    ("int8", "uint8", "int32"),
    ("uint8", "uint8", "uint32"),
    ("uint8", "uint8", "int32"),
    ("int8", "int8", "int8"),
    ("int16", "int16", "int32"),
    ("int16", "int16", "int16"),
    ("uint16", "int8", "int32"),
)
X86 = [
    n
    for n in ("host", "x86-64-v4", "x86-64-v3", "x86-64")
    if targets.detect().covers(targets.target(n))
]
OTHERS = (
    "alderlake",
    "alderlake,+avxvnniint8",
    "cortex-a76",
    "neoverse-v1",
    "cortex-a53",
    "cortex-a7",
)
SIZES = st.sampled_from([0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 48, 64, 65, 97])


def integers(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """All values, the extremes often: what saturates does so here."""
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return np.where(rng.random(shape) < 0.3, rng.choice([info.min, info.max], shape), x).astype(
        dtype
    )


def check(call, spec: ContractionSpec, name: str, sizes, seed: int, c_gap: int = 0) -> None:
    batch, m, k, n = sizes
    rng, (left, right) = np.random.default_rng(seed), spec.dtypes
    a, b = integers(rng, left, (batch, m, k)), integers(rng, right, (batch, k, n))
    got = product(call, spec, name, a, b, c_gap=c_gap)
    assert np.array_equal(got, np.matmul(a.astype("i8"), b.astype("i8")).astype(spec.out))


@st.composite
def cases(draw, sizes=SIZES):
    batch, m, k, n = draw(st.sampled_from([1, 1, 2])), *(draw(sizes) for _ in range(3))
    a, b, out = draw(st.sampled_from(INTEGERS))
    known = [draw(st.booleans()) for _ in range(3)]
    spec = ContractionSpec(
        a,
        out,
        draw(st.sampled_from(["k", "k", "k", "m", None])),
        draw(st.sampled_from(["n", "k", None])),
        b_dtype=b,
        **{x: size for x, size, is_known in zip("mnk", (m, n, k), known) if is_known},
    )
    return spec, (batch, m, k, n), draw(st.integers(0, 2**31)), draw(st.sampled_from([0, 5]))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(case=cases(), name=st.sampled_from(X86))
def test_product(case, name: str) -> None:
    spec, sizes, seed, c_gap = case
    check(compiled(spec, name), spec, name, sizes, seed, c_gap)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=cases(st.sampled_from([0, 1, 2, 3, 4, 5, 6, 9, 13, 17])), name=st.sampled_from(OTHERS))
def test_other_targets_by_interpreter(case, name: str) -> None:
    """The interpreter checks every address: words at the end of a row stay inside of it."""
    spec, sizes, seed, c_gap = case
    check(interpreted(spec, name), spec, name, sizes, seed, c_gap)


# Across the limits of blocks of rows (2400) and of k (1024 words), and one panel's width.
@pytest.mark.parametrize("sizes", [(1, 2430, 70, 65), (1, 9, 8300, 97), (1, 30, 4097, 50)])
@pytest.mark.parametrize("b_unit", ["n", "k"])
@pytest.mark.parametrize("dtypes", [("uint8", "int8"), ("int8", "int8"), ("int16", "int16")])
@pytest.mark.parametrize("known", ["", "mnk"])
def test_block_limits(sizes, b_unit: str, dtypes: tuple[str, str], known: str) -> None:
    facts = {x: size for x, size in zip("mkn", sizes[1:]) if x in known}
    spec = ContractionSpec(dtypes[0], "int32", b_unit=b_unit, b_dtype=dtypes[1], **facts)
    check(compiled(spec, "host"), spec, "host", sizes, 5)


@pytest.mark.parametrize(
    ("name", "a", "b", "instruction", "flips"),
    [
        ("znver4", "uint8", "int8", "dot_u8s8", False),
        ("znver4", "int8", "int8", "dot_u8s8", True),
        ("znver4", "int16", "int16", "dot_s16s16", False),
        ("znver4", "bfloat16", "bfloat16", "dot_bf16bf16", False),
        ("alderlake", "int8", "int8", "dot_u8s8", True),
        ("alderlake,+avxvnniint8", "int8", "int8", "dot_s8s8", False),
        ("alderlake,+avxvnniint8", "uint8", "uint8", "dot_u8u8", False),
        ("x86-64", "int16", "int16", "dot_s16s16", False),
        ("cortex-a76", "int8", "int8", "dot_s8s8", False),
        ("cortex-a76", "uint8", "int8", "dot_s8s8", True),
        ("cortex-a76", "int8", "uint8", "dot_u8u8", True),
        ("neoverse-v1", "uint8", "int8", "dot_u8s8", False),
        ("neoverse-v1", "int8", "uint8", "dot_s8u8", False),
    ],
)
def test_choice(name: str, a: str, b: str, instruction: str, flips: bool) -> None:
    taken = words(a, b, "int32", targets.target(name))
    assert taken is not None and (taken.instruction.name, taken.flips) == (instruction, flips)
    spec = ContractionSpec(a, b_dtype=b, out="float32" if a == "bfloat16" else "int32")
    kernel = legalize(build_contraction(spec, targets.target(name)), targets.target(name))
    assert f"dot[{instruction}]" in to_text(kernel)


@pytest.mark.parametrize("name", ["x86-64-v4", "cortex-a53", "cortex-a7"])
def test_no_words(name: str) -> None:
    assert words("uint8", "int8", "int32", targets.target(name)) is None


BF16 = ContractionSpec("bfloat16", "float32")


@pytest.mark.parametrize("sizes", [(1, 40, 33, 70), (2, 5, 1, 9), (1, 9, 4097, 17), (1, 3, 0, 4)])
@pytest.mark.parametrize("b_unit", ["n", "k"])
@pytest.mark.parametrize("name", X86)
def test_bfloat16(sizes, b_unit: str, name: str) -> None:
    """Products are exact in float32, sums as of float32; where an instruction takes subnormals for
    zeros, each product may lose its factors' 2**-126 times the other, and each sum 2**-126."""
    import ml_dtypes

    batch, m, k, n = sizes
    rng = np.random.default_rng(8)
    a, b = (
        (rng.standard_normal(s) * 2.0 ** rng.integers(-128, 1, s)).astype(ml_dtypes.bfloat16)
        for s in ((batch, m, k), (batch, k, n))
    )
    spec = BF16._replace(b_unit=b_unit)
    got = product(compiled(spec, name), spec, name, a, b)
    x, y = a.astype(np.float64), b.astype(np.float64)
    bound = (k + 2) * 2.0**-23 * (abs(x) @ abs(y))
    lost = (abs(x).sum(2)[:, :, None] + abs(y).sum(1)[:, None, :] + 2 * k) * 2.0**-126
    assert (abs(got - x @ y) <= bound + lost).all()


def test_bfloat16_specials() -> None:
    import ml_dtypes

    a = np.ones((1, 8, 6), ml_dtypes.bfloat16)
    b = np.ones((1, 6, 40), ml_dtypes.bfloat16)
    a[0, 0, 3], a[0, 1, 2], a[0, 2, 5], a[0, 3, 0] = np.nan, np.inf, -np.inf, 0.0
    b[0, 0, 7] = np.inf
    got = product(compiled(BF16, "host"), BF16, "host", a, b)
    with np.errstate(invalid="ignore"):
        want = a.astype("f4") @ b.astype("f4")
    assert np.array_equal(got, want, equal_nan=True)
