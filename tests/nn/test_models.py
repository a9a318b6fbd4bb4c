"""Whole networks: published numbers of parameters and multiplications, and what they compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph import nn
from symgraph.expr import toposort
from symgraph.ops.contract import MatMul
from symgraph.ops.convolve import Convolve
from symgraph.optim.cost import GENERIC

#: the model, its image, its parameters, its multiplications (of products and convolutions)
PUBLISHED: dict[str, tuple[Any, tuple[int, ...], int, float]] = {
    "LeNet-5, 28 x 28": (nn.lenet5, (1, 28, 28), 61_706, 416_520),
    "VGG-16": (nn.vgg16, (3, 224, 224), 138_357_544, 15.47e9),
    "ResNet-18": (nn.resnet18, (3, 224, 224), 11_689_512, 1.81e9),
    "ResNet-34": (nn.resnet34, (3, 224, 224), 21_797_672, 3.66e9),
    "ResNet-50": (nn.resnet50, (3, 224, 224), 25_557_032, 4.09e9),
    "MobileNet-V2": (nn.mobilenet_v2, (3, 224, 224), 3_504_872, 0.301e9),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(name: str) -> None:
    make, image, parameters, multiplications = PUBLISHED[name]
    model = make(rng=0, weight=nn.init.zeros, dtype="float16")
    assert sum(w.get_value(borrow=True).size for w in model.parameters()) == parameters
    y = model(sg.array("x", (1, *image), "float16"), deterministic=True)
    assert y.array_type.shape == (1, 10 if "LeNet" in name else 1000)
    found = sum(GENERIC.weight(n) for n in toposort([y]) if isinstance(n.op, (MatMul, Convolve)))
    assert found == pytest.approx(multiplications, rel=0.003 if multiplications > 1e6 else 0)


SMALL: dict[str, tuple[Any, tuple[int, ...], dict[str, Any]]] = {
    "lenet5": (nn.lenet5, (1, 28, 28), {}),
    "resnet18": (nn.resnet18, (3, 33, 32), {"classes": 7}),
    "mobilenet_v2": (nn.mobilenet_v2, (3, 32, 32), {"classes": 7, "dropout": 0.0}),
}


@pytest.mark.parametrize("name", SMALL)
def test_inference_is_what_the_graph_means(name: str) -> None:
    make, image, options = SMALL[name]
    model = make(rng=0, **options)
    x = sg.array("x", ("n", *image))
    y = model(x, deterministic=True)
    value = np.random.default_rng(0).normal(size=(2, *image)).astype("float32")
    got = sg.function([x], y, host_calls="forbid")(value)
    want = sg.evaluate(y, {x: value})
    np.testing.assert_allclose(got, want, atol=2e-5 * np.abs(want).max())


def test_lenet_learns_a_batch_by_heart() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(16, 1, 28, 28)).astype("float32"), rng.integers(0, 10, 16)
    model = nn.lenet5(rng=0)
    x, t = sg.array("x", (16, 1, 28, 28)), sg.array("t", (16,), "int64")
    cost = nn.cross_entropy(model(x), t)
    step = sg.function([x, t], cost, updates=nn.Adam(1e-3).minimize(cost, model.parameters()))
    costs = [float(step(images, labels)) for _ in range(60)]
    assert costs[-1] < 0.05 < 1.5 < costs[0]


def test_constants_are_the_weights_of_now() -> None:
    model = nn.resnet18(rng=0)
    x = sg.array("x", (1, 3, 32, 32))
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    scores = model(x, deterministic=True)
    live, fixed = sg.function([x], scores), sg.function([x], scores, givens=model.constants())
    before = live(image)
    assert np.allclose(fixed(image), before, rtol=1e-4, atol=1e-4 * abs(before).max())
    assert fixed.shared == () and len(live.shared) == len(model.variables())
    for w in model.parameters():
        w.set_value(w.get_value() * 0)
    assert not live(image).any() and np.array_equal(fixed(image), fixed(image))
    assert np.allclose(fixed(image), before, rtol=1e-4, atol=1e-4 * abs(before).max())
