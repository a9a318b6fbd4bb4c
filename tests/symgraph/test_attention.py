"""attention: its meaning, masks, empty rows, scales, dtypes and derivatives of both modes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.verify import verify_grad

SIZES = st.integers(1, 6)


def by_numpy(q, k, v, mask=None, causal=False, scale=None) -> np.ndarray:
    """Softmax of the whole matrix; queries that see nothing give 0."""
    scores = q @ k.swapaxes(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
    powers = np.exp(scores - np.maximum(scores.max(-1, keepdims=True), -1e300))
    return powers @ v / np.maximum(powers.sum(-1, keepdims=True), 1e-300)


def mask_of(kind: str, shape, rng: np.random.Generator):
    if kind == "none":
        return None
    return rng.random(shape) < 0.6 if kind == "bool" else rng.standard_normal(shape)


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    n, m, d, e, b, h = (draw(SIZES) for _ in range(6))
    leads = [draw(st.sampled_from([(), (h,), (1,), (b, h), (b, 1), (1, h)])) for _ in range(4)]
    shapes = (n, d), (m, d), (m, e)
    q, k, v = (rng.standard_normal((*lead, *s)) for lead, s in zip(leads, shapes))
    short = draw(st.sampled_from([(n, m), (1, m), (n, 1)]))
    mask = mask_of(draw(st.sampled_from(["none", "bool", "float"])), (*leads[3], *short), rng)
    return q, k, v, mask, draw(st.booleans()), draw(st.sampled_from([None, 0.3, -2.0]))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases())
def test_values(case) -> None:
    got = sg.evaluate(sg.attention(*case))
    want = by_numpy(*case)
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_allclose(got, want, atol=1e-12)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(cases())
def test_derivatives(case) -> None:
    q, k, v, mask, causal, scale = case
    masks = [mask] if mask is not None and mask.dtype != bool else []
    given = [q, k, v, *masks]

    def build(*xs):
        return sg.attention(*xs[:3], xs[3] if masks else mask, causal, scale)

    verify_grad(build, given)


@pytest.mark.parametrize("kind", ["none", "bool", "float"])
@pytest.mark.parametrize("causal", [False, True])
def test_second_derivatives_and_forward_mode(kind: str, causal: bool) -> None:
    rng = np.random.default_rng(0)
    given = [rng.standard_normal(s) for s in ((2, 4, 3), (2, 5, 3), (2, 5, 2))]
    mask = mask_of(kind, (4, 5), rng)
    if kind == "bool":
        mask[2] = False
    given += [mask] if kind == "float" else []

    def build(*xs):
        return sg.attention(*xs[:3], xs[3] if kind == "float" else mask, causal)

    def slopes(*xs):
        return sum((g * g).sum() for g in sg.grad((build(*xs) ** 2).sum(), list(xs)))

    verify_grad(slopes, given)
    xs, ways = [sg.constant(x) for x in given], [rng.standard_normal(x.shape) for x in given]
    pushed = sg.evaluate(sg.Rop(build(*xs), xs, [sg.constant(w) for w in ways]))
    ends = [build(*(x + s * 1e-6 * w for x, w in zip(given, ways))) for s in (1, -1)]
    first, last = map(sg.evaluate, ends)
    np.testing.assert_allclose(pushed, (first - last) / 2e-6, atol=1e-7)


def test_a_query_that_sees_nothing_gives_zeros_and_no_slopes() -> None:
    q, k, v = (sg.constant(np.random.default_rng(i).standard_normal((3, 4))) for i in range(3))
    mask = np.array([[True] * 3, [False] * 3, [True, False, True]])
    y = sg.attention(q, k, v, mask)
    of_q, of_k, of_v = map(sg.evaluate, sg.grad(y.sum(), [q, k, v]))
    assert (sg.evaluate(y)[1] == 0).all() and (of_q[1] == 0).all()
    assert all(np.isfinite(x).all() for x in (of_q, of_k, of_v))
    minus = np.where(mask, 0.0, -np.inf)
    np.testing.assert_array_equal(sg.evaluate(sg.attention(q, k, v, minus)), sg.evaluate(y))


def test_no_keys_give_zeros() -> None:
    q, k, v = np.ones((2, 3)), np.ones((0, 3)), np.ones((0, 4))
    np.testing.assert_array_equal(sg.evaluate(sg.attention(q, k, v)), np.zeros((2, 4)))


def test_scale_may_be_an_expression() -> None:
    q = np.random.default_rng(0).standard_normal((4, 3))
    s = sg.constant(0.7)
    y = sg.attention(q, q, q, scale=s)
    np.testing.assert_allclose(sg.evaluate(y), by_numpy(q, q, q, scale=0.7), atol=1e-14)
    verify_grad(lambda t: sg.attention(q, q, q, scale=t), [np.array(0.7)])


def test_features_of_unknown_number_are_scaled_alike() -> None:
    x = sg.array("x", ("n", "d"), "float64")
    q = np.random.default_rng(0).standard_normal((4, 5))
    np.testing.assert_allclose(
        sg.evaluate(sg.attention(x, x, x), {x: q}), by_numpy(q, q, q), atol=1e-14
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_computed_in_float32(dtype: str) -> None:
    q = sg.cast(sg.constant(np.random.default_rng(0).standard_normal((6, 5))), dtype)
    y = sg.attention(q, q, q, causal=True)
    assert y.dtype == dtype
    wide = sg.cast(q, "float32")
    want = sg.cast(sg.attention(wide, wide, wide, causal=True), dtype)
    assert np.array_equal(sg.evaluate(y), sg.evaluate(want))


def test_integers_become_floats() -> None:
    i = np.random.default_rng(0).integers(-2, 3, (3, 4))
    y = sg.attention(i, i, i)
    assert y.dtype == "float32"
    np.testing.assert_allclose(sg.evaluate(y), by_numpy(i, i, i), rtol=1e-6, atol=1e-6)


def test_complex_numbers_are_refused() -> None:
    z = sg.array("z", (3, 4), "complex64")
    with pytest.raises(sg.DTypeError, match="attention") as caught:
        sg.attention(z, z, z)
    assert "test_attention.py" in str(caught.value)
