"""The multi-head attention layer against NumPy, and its gradients."""

from __future__ import annotations

import numpy as np
import pytest

import symgraph as sg
from symgraph import nn
from symgraph.verify import verify_grad

RNG = np.random.default_rng(0)


def dense(layer: nn.Dense, x: np.ndarray) -> np.ndarray:
    bias = 0 if layer.bias is None else layer.bias.get_value()
    return x @ layer.weight.get_value() + bias


def by_numpy(layer: nn.MultiHeadAttention, x, context, mask=None) -> np.ndarray:
    """Head by head."""
    q, k, v = dense(layer.query, x), dense(layer.key, context), dense(layer.value, context)
    width, each = x.shape[-1] // layer.heads, layer.heads // layer.groups
    found = []
    for head in range(layer.heads):
        mine = slice(head * width, (head + 1) * width)
        group = slice(head // each * width, (head // each + 1) * width)
        scores = q[..., mine] @ k[..., group].swapaxes(-1, -2) / np.sqrt(width)
        if layer.causal:
            scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
        if mask is not None:
            scores = np.where(mask, scores, -np.inf)
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        found.append(powers / powers.sum(-1, keepdims=True) @ v[..., group])
    return dense(layer.output, np.concatenate(found, -1))


@pytest.mark.parametrize("groups", [None, 2, 1])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lead", [(), (3,)])
def test_values(groups, causal: bool, lead: tuple[int, ...]) -> None:
    layer = nn.MultiHeadAttention(12, 4, groups, causal, rng=1, dtype="float64")
    x = RNG.standard_normal((*lead, 7, 12))
    mask = RNG.random((*lead, 7, 7)) < 0.6
    mask[..., 0] = True
    node = sg.array("x", (*("b" for _ in lead), "n", 12), "float64")
    f = sg.function([node], [layer(node), layer(node, mask=sg.constant(mask))])
    np.testing.assert_allclose(f(x)[0], by_numpy(layer, x, x), atol=1e-12)
    np.testing.assert_allclose(f(x)[1], by_numpy(layer, x, x, mask), atol=1e-12)


def test_context_of_other_length_and_features() -> None:
    layer = nn.MultiHeadAttention(8, 2, rng=0, context_features=5, bias=None, dtype="float64")
    x, context = RNG.standard_normal((2, 4, 8)), RNG.standard_normal((2, 9, 5))
    y = sg.function([], layer(sg.constant(x), context=sg.constant(context)))()
    np.testing.assert_allclose(y, by_numpy(layer, x, context), atol=1e-12)
    assert len(layer.parameters()) == 4


@pytest.mark.parametrize("groups", [None, 1])
def test_gradients(groups) -> None:
    layer = nn.MultiHeadAttention(6, 2, groups, True, rng=2, dtype="float64")
    verify_grad(lambda x: layer(x), [RNG.standard_normal((2, 5, 6))])
    x = sg.constant(RNG.standard_normal((2, 5, 6)))
    cost = (layer(x) ** 2).sum()
    f = sg.function([], [cost, *sg.grad(cost, layer.parameters())])
    slopes = f()[1:]
    for w, slope in zip(layer.parameters(), slopes):
        before, step = w.get_value().copy(), 1e-6
        direction = RNG.standard_normal(before.shape)
        ends = []
        for sign in (1, -1):
            w.set_value(before + sign * step * direction)
            ends.append(f()[0])
        w.set_value(before)
        slope_there = (ends[0] - ends[1]) / (2 * step)
        assert abs(slope_there - (slope * direction).sum()) <= 1e-6 * (1 + abs(slope_there))


def test_prints_what_it_is() -> None:
    assert repr(nn.MultiHeadAttention(8, 4, 2, True, rng=0)) == (
        "MultiHeadAttention(8, 4 heads, 2 groups, causal)"
    )


@pytest.mark.parametrize("sizes", [(7, 2, None), (8, 4, 3), (8, 0, None)])
def test_heads_have_to_fit(sizes) -> None:
    with pytest.raises(sg.ArgumentError, match="do not divide") as caught:
        nn.MultiHeadAttention(*sizes, rng=0)
    assert "test_attention_layer.py" in str(caught.value)
