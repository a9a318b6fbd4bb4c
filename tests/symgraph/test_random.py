"""Random draws: known answers, places of words, distributions, states, draws in loops."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from symgraph.errors import DTypeError, ShapeError
from symgraph.evaluate import evaluate
from symgraph.expr import Expr, toposort
from symgraph.grad import grad
from symgraph.leaves import array, constant
from symgraph.ops.branch import cond
from symgraph.ops.loop import loop
from symgraph.ops.normal import PPND7, PPND16, NumpyBuilder, normal_quantile
from symgraph.ops.random import RandomBits, RandomStream, multiply_high
from symgraph.ops.scan import scan
from symgraph.philox import philox4x32

MASK = 0xFFFFFFFF


def block(key: int, counter: tuple[int, int, int, int]) -> list[int]:
    """One Philox4x32-10 block in Python's integers, from the paper."""
    k0, k1 = key & MASK, key >> 32
    c0, c1, c2, c3 = counter
    for _ in range(10):
        first, second = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (
            (second >> 32) ^ c1 ^ k0,
            second & MASK,
            (first >> 32) ^ c3 ^ k1,
            first & MASK,
        )
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [c0, c1, c2, c3]


KNOWN = [
    ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((MASK, MASK), (MASK,) * 4, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0xA4093822, 0x299F31D0),
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize("key, counter, want", KNOWN)
def test_known_answers_of_random123(
    key: tuple[int, int], counter: tuple[int, int, int, int], want: tuple[int, ...]
) -> None:
    assert tuple(block(key[0] | key[1] << 32, counter)) == want
    got = philox4x32(*(np.array([x], np.uint32) for x in (*key, *counter)))
    assert tuple(int(w[0]) for w in got) == want


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(0, MASK), st.integers(0, 23))
def test_bits_are_words_in_order(seed: int, call: int, stream: int, count: int) -> None:
    state = constant(np.array([seed, call], np.uint64))
    words = [w for b in range(-(-2 * count // 4)) for w in block(seed, (b, 0, call & MASK, stream))]
    single = evaluate(
        RandomBits((count,), stream, 1).evaluate(evaluate(state)) * constant(1, "uint32")
    )
    assert single.tolist() == words[:count]
    double = RandomBits((count,), stream, 2).evaluate(evaluate(state))
    assert double.tolist() == [words[2 * i] | words[2 * i + 1] << 32 for i in range(count)]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_multiply_high(a: int, b: int) -> None:
    x, y = np.array([a], np.uint64), np.array([b], np.uint64)
    assert int(multiply_high(x, y)[0]) == a * b >> 64
    assert int(evaluate(multiply_high(constant(x), constant(y)))[0]) == a * b >> 64


# --- streams and states ---


def test_the_same_draw_is_one_sample_and_draws_differ() -> None:
    r = RandomStream(3)
    u, v = r.uniform((4,)), r.uniform((4,))
    got = evaluate([u + u - 2 * u, u, v])
    assert not got[0].any()
    assert (got[1] != got[2]).all()


def test_equal_seeds_give_equal_numbers_and_seed_restarts() -> None:
    a, b, c = (RandomStream(s) for s in (7, 7, 8))
    x, y, z = (evaluate(r.normal((5,))) for r in (a, b, c))
    np.testing.assert_array_equal(x, y)
    assert (x != z).all()
    u = a.uniform((5,))
    first = evaluate(u)
    a.seed(9)
    assert (evaluate(u) != first).all()
    a.seed(7)
    np.testing.assert_array_equal(evaluate(u), first)


def test_a_call_advances_the_counter_only() -> None:
    r = RandomStream(2**64 - 1)
    (state, update), *rest = r.updates()
    assert not rest and state is r.state and state.default_update is update
    assert evaluate(update).tolist() == [2**64 - 1, 1]
    u = r.uniform((3,))
    first = evaluate(u)
    second = evaluate(u, {r.state: evaluate(update)})
    assert (first != second).all()


def test_seed_errors_and_entropy() -> None:
    for bad in (-1, 2**64, 1.5, True, "x"):
        with pytest.raises(DTypeError, match="expected a seed"):
            RandomStream(bad)  # type: ignore[arg-type]
    assert (RandomStream().state.get_value() != RandomStream().state.get_value()).any()


# --- distributions ---

N = 20_000


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_uniform_is_exact_and_below_one(dtype: str) -> None:
    r = RandomStream(1)
    u = r.uniform((N,), dtype=dtype)
    assert u.dtype == dtype
    got = evaluate(u).astype(np.float64)
    assert got.min() >= 0 and got.max() < 1
    assert stats.kstest(got, "uniform").pvalue > 1e-4 or dtype in ("float16", "bfloat16")
    assert abs(got.mean() - 0.5) < 0.01
    between = evaluate(r.uniform((N,), -2.0, 3.0, dtype=dtype)).astype(np.float64)
    assert between.min() >= -2 and between.max() <= 3 and abs(between.mean() - 0.5) < 0.05


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_normal(dtype: str) -> None:
    r = RandomStream(5)
    z = r.normal((N,), dtype=dtype)
    assert z.dtype == dtype
    got = evaluate(z).astype(np.float64)
    assert np.isfinite(got).all()
    assert abs(got.mean()) < 0.03 and abs(got.std() - 1) < 0.02
    if dtype in ("float32", "float64"):
        assert stats.kstest(got, "norm").pvalue > 1e-3
    moved = evaluate(r.normal((N,), 3.0, 0.5, dtype=dtype)).astype(np.float64)
    assert abs(moved.mean() - 3) < 0.05 and abs(moved.std() - 0.5) < 0.02


def test_normal_quantile_is_accurate_to_its_tails() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**64, 4000, dtype=np.uint64)
    bits >>= rng.integers(0, 64, 4000).astype(np.uint64)
    bits = np.concatenate([bits, np.array([0, 1, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)])
    for method, word in ((PPND16, bits), (PPND7, (bits >> np.uint64(32)).astype(np.uint32))):
        z = normal_quantile(NumpyBuilder(), word, method)
        assert z.dtype == method.dtype
        half = 2 ** (method.bits - 1)
        tail = (np.array([int(w) % half for w in word], np.float64) + 0.5) * 2.0**-method.bits
        want = np.where(word >= half, 1, -1) * special.ndtri(tail)
        step = np.finfo(method.dtype).eps
        assert np.max(np.abs(z - want) / np.maximum(np.abs(want), 1)) < 12 * step
    assert float(mpmath.ncdf(-9.15)) < 2.0**-64  # what the last word stands for


def test_normal_is_odd_in_the_top_bit() -> None:
    words = np.arange(1, 1000, dtype=np.uint32) * np.uint32(2147483)
    flipped = words ^ np.uint32(1 << 31)
    z = normal_quantile(NumpyBuilder(), words, PPND7)
    np.testing.assert_array_equal(z, -normal_quantile(NumpyBuilder(), flipped, PPND7))


def test_words_are_random() -> None:
    """Bits, bytes and neighbours of a fixed seed: equally likely and independent."""
    words = evaluate(RandomStream(17).bits((1 << 18,)))
    ones = [int((words >> np.uint32(k) & np.uint32(1)).sum()) for k in range(32)]
    assert max(abs(c - words.size / 2) for c in ones) < 4.5 * np.sqrt(words.size) / 2
    counts = np.bincount(words.view(np.uint8), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-3
    pairs = words[0::2] >> np.uint32(28) << np.uint32(4) | words[1::2] >> np.uint32(28)
    assert stats.chisquare(np.bincount(pairs, minlength=256)).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_draws_have_the_moments_and_no_serial_correlation(kind: str) -> None:
    x = evaluate(getattr(RandomStream(19), kind)((1 << 17,), dtype="float32")).astype(np.float64)
    if kind == "uniform":
        x = (x - 0.5) * np.sqrt(12)
    moments = {"uniform": (0, 1, 0, 9 / 5), "normal": (0, 1, 0, 3)}[kind]
    spread = {"uniform": (1, 0.9, 2, 3), "normal": (1, 1.5, 4, 10)}[kind]  # deviations, rounded up
    for power, (want, deviation) in enumerate(zip(moments, spread), 1):
        assert abs((x**power).mean() - want) < 4 * deviation / np.sqrt(x.size)
    for lag in (1, 2, 3, 4, 5, 8, 16, 32, 64, 1024):
        assert abs((x[lag:] * x[:-lag]).mean()) < 4 / np.sqrt(x.size)
    sign = x > 0
    runs = 1 + np.count_nonzero(sign[1:] != sign[:-1])
    assert abs(runs - x.size / 2) < 4 * np.sqrt(x.size) / 2


def test_other_continuous_distributions() -> None:
    r = RandomStream(11)
    e, g = evaluate([r.exponential((N,), 2.0, "float64"), r.gumbel((N,), 1.0, 0.5, "float64")])
    assert stats.kstest(e, "expon", (0, 2)).pvalue > 1e-3
    assert stats.kstest(g, "gumbel_r", (1, 0.5)).pvalue > 1e-3


def test_discrete_distributions() -> None:
    r = RandomStream(13)
    p = array("p", (3,), "float64")
    bern, bino, ints, cat = evaluate(
        [
            r.bernoulli((N, 3), p),
            r.binomial((N,), 5, 0.2),
            r.integers(-3, 4, (N,)),
            r.categorical(p, (N,)),
        ],
        {p: np.array([0.1, 0.5, 0.4])},
    )
    assert bern.dtype == bool
    np.testing.assert_allclose(bern.mean(axis=0), [0.1, 0.5, 0.4], atol=0.02)
    assert bino.min() >= 0 and bino.max() <= 5 and abs(bino.mean() - 1) < 0.03
    counts = np.bincount(ints + 3, minlength=7)
    assert len(counts) == 7 and stats.chisquare(counts).pvalue > 1e-4
    np.testing.assert_allclose(np.bincount(cat, minlength=3) / N, [0.1, 0.5, 0.4], atol=0.02)
    never = evaluate(r.categorical(constant(np.array([0.0, 1.0, 0.0])), (1000,)))
    assert (never == 1).all()
    with pytest.raises(ShapeError, match="empty"):
        r.integers(3, 3, (2,))
    with pytest.raises(DTypeError, match="integer bounds"):
        r.integers(0.5, 3, (2,))


@given(st.integers(-(2**62), 2**62), st.integers(1, 2**62))
def test_integers_stay_in_wide_ranges(low: int, span: int) -> None:
    got = evaluate(RandomStream(1).integers(low, low + span, (50,)))
    assert got.min() >= low and got.max() < low + span


def test_permutation_is_one_and_every_order_is_equally_likely() -> None:
    r = RandomStream(17)
    for n in (0, 1, 2, 50):
        assert sorted(evaluate(r.permutation(n)).tolist()) == list(range(n))
    index = array("i", (6000,), "int64")
    _, many = loop(lambda c, i: (c, r.permutation(3) + 0 * i), 0, index)
    rows = evaluate(many, {index: np.zeros(6000, np.int64)})
    counts = np.unique(rows @ [100, 10, 1], return_counts=True)[1]
    assert len(counts) == 6 and stats.chisquare(counts).pvalue > 1e-4


def test_shapes_and_parameters() -> None:
    r = RandomStream(0)
    x = array("x", ("n", 3), "float64")
    u = r.uniform(x.shape)
    assert u.array_type.shape == x.array_type.shape
    assert evaluate(u, {x: np.zeros((4, 3))}).shape == (4, 3)
    assert r.normal(mean=x).type == x.type
    assert evaluate(r.normal((0,))).shape == (0,)
    assert evaluate(r.uniform()).shape == ()
    with pytest.raises(ShapeError, match="do not broadcast"):
        r.normal((2,), mean=np.zeros((3, 2)))
    with pytest.raises(DTypeError, match="expected a float dtype"):
        r.uniform((2,), dtype="int32")


def test_gradient_goes_to_the_parameters() -> None:
    r = RandomStream(1)
    mean, std = array("m", (), "float64"), array("s", (), "float64")
    z = r.normal((5,), mean, std)
    values = {mean: np.array(2.0), std: np.array(3.0)}
    gm, gs, sample = evaluate([*grad(z.sum(), [mean, std]), z], values)
    assert gm == 5
    assert np.isclose(gs, ((sample - 2) / 3).sum())


# --- draws inside loops ---


def draws(*outputs: Expr) -> list[Expr]:
    return [x for x in toposort(outputs) if isinstance(x.op, RandomBits)]


def test_each_step_of_a_loop_draws_anew() -> None:
    r = RandomStream(23)
    x = array("x", (4,), "float64")
    value = {x: np.zeros(4)}
    out, updates = scan(lambda a: a + r.uniform((2,), dtype="float64"), x)
    assert updates == {}
    got = evaluate(out, value)
    assert len(np.unique(got)) == 8
    assert [d.array_type.shape for d in draws(out)] == [(4, 2)]
    outside = r.uniform((2,), dtype="float64")
    same, _ = scan(lambda a: a + outside, x)
    assert len(np.unique(evaluate(same, value))) == 2


def test_draws_in_nested_loops_and_arms() -> None:
    r = RandomStream(29)
    x = array("x", (3,), "float64")
    value = {x: np.ones(3)}
    nested, _ = scan(lambda a: scan(lambda b: b * r.uniform((), dtype="float64"), x)[0] + a, x)
    assert len(np.unique(evaluate(nested, value))) == 9
    arms, _ = scan(lambda a: cond(a > 0, lambda: r.uniform((), dtype="float64"), lambda: a), x)
    assert len(np.unique(evaluate(arms, value))) == 3


def test_the_gradient_of_a_loop_sees_the_same_draws() -> None:
    r = RandomStream(31)
    x, w = array("x", (6,), "float64"), array("w", (), "float64")
    final, _ = loop(lambda h, a: (h * w + a * r.normal((), dtype="float64"), None), 0.0, x)
    values = {x: np.ones(6), w: np.array(0.9)}
    g = evaluate(grad(final, w), values)
    eps = 1e-6
    up, down = (evaluate(final, {**values, w: np.array(0.9 + d)}) for d in (eps, -eps))
    assert np.isclose(g, (up - down) / (2 * eps))
