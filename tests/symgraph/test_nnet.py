"""Softmax and its relatives and the losses: values, extremes, expansions, gradients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

import symgraph as sg
from symgraph.errors import AxisError, DTypeError, ShapeError
from tests.strategies import FLOATS, check, check_gradient, seeds, shapes, values

TOLERANCE = {"float16": 1e-3, "bfloat16": 1e-2, "float32": 2e-7, "float64": 1e-15}
PAIRS = [
    (sg.softmax, special.softmax),
    (sg.log_softmax, special.log_softmax),
    (sg.logsumexp, special.logsumexp),
]


def in_double(function):
    """The result of float64 arithmetic, rounded once."""
    return lambda x, *rest, **named: np.asarray(
        function(x.astype(np.float64), *rest, **named)
    ).astype(x.dtype)


@pytest.mark.parametrize("ours, scipys", PAIRS)
@given(shapes(min_dims=1, min_side=1), st.data(), st.sampled_from(FLOATS), seeds)
def test_against_scipy(ours, scipys, shape, data, dtype, seed):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = values(shape, dtype, seed) * np.asarray(10, dtype if dtype != "bfloat16" else "float32")
    x = x.astype(values((), dtype, 0).dtype)
    check(
        lambda v: ours(v, axis),
        in_double(lambda v: scipys(v, axis=axis)),
        x,
        tolerance=TOLERANCE[dtype],
    )


def test_logsumexp_over_axes():
    x = values((2, 3, 4), "float32", 0)
    for axis in (None, (0, 2), 1):
        for keep in (False, True):
            check(
                lambda v, a=axis, k=keep: sg.logsumexp(v, a, k),
                in_double(lambda v, a=axis, k=keep: special.logsumexp(v, a, keepdims=k)),
                x,
                tolerance=2e-7,
            )


ROWS = np.float32(
    [[1e4, 0, -1e4], [3e38, 3e38, -3e38], [-np.inf, 0, 1], [-np.inf, -np.inf, 2], [88, 89, 90]]
)


@pytest.mark.parametrize("ours, scipys", PAIRS)
def test_large_arguments(ours, scipys):
    check(
        lambda v: ours(v, -1),
        in_double(lambda v: scipys(v, axis=-1)),
        ROWS,
        tolerance=2e-7,
    )
    infinite = np.float32([[-np.inf, -np.inf], [np.inf, 0]])
    got = sg.logsumexp(infinite, -1).eval()
    assert got.tolist() == [-np.inf, np.inf]


@pytest.mark.parametrize("ours", [p[0] for p in PAIRS])
@given(shapes(min_dims=1, min_side=1), seeds)
def test_expansion(ours, shape, seed):
    x = sg.array("x", shape)
    y = ours(x, -1)
    node = y if y.op.expand else y.inputs[0]
    smaller = node.op.expand(*node.inputs)
    assert smaller.type == node.type
    value = values(shape, "float32", seed) * np.float32(5)
    got, want = sg.evaluate([smaller, node], {x: value})
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ours", [p[0] for p in PAIRS])
def test_gradients(ours):
    x = values((3, 4), "float64", 0)
    check_gradient(lambda v: ours(v, 1), x)
    check_gradient(lambda v: ours(v, 0), x)
    sg.verify_grad(lambda v: sg.grad((ours(v, 1) ** 2).sum(), v), [x])


def test_gradient_of_logsumexp_with_masked_entries():
    x = sg.array("x", (4,))
    slope = sg.grad(sg.logsumexp(x), x)
    got = slope.eval({x: np.float32([-np.inf, 0, 0, -np.inf])})
    np.testing.assert_allclose(got, [0, 0.5, 0.5, 0])


def test_one_hot():
    labels = sg.array("t", ("n",), "uint8")
    y = sg.one_hot(labels, 3)
    assert str(y.type) == "float32[n, 3]"
    assert y.eval({labels: np.uint8([2, 0, 7])}).tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert sg.one_hot(labels, 3, "int8").dtype == "int8"
    assert sg.one_hot([[0], [1]], 2, "bool").eval().tolist() == [[[True, False]], [[False, True]]]
    with pytest.raises(DTypeError, match="one_hot: labels must be integers, got float32"):
        sg.one_hot(sg.vector("x"), 3)


def softmax_rows(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return special.softmax(values(shape, "float64", seed), axis=-1)


@given(st.integers(1, 5), st.integers(1, 5), seeds)
def test_cross_entropies(n, k, seed):
    x, t = values((n, k), "float64", seed), softmax_rows(seed + 1, (n, k))
    labels = np.random.default_rng(seed).integers(0, k, n)
    p = special.softmax(x, axis=1)
    picked = lambda q, y: -np.log(q[np.arange(n), y])  # noqa: E731
    check(sg.categorical_crossentropy, picked, p, labels, tolerance=1e-14)
    soft = lambda q, y: -(y * np.log(q)).sum(1)  # noqa: E731
    check(sg.categorical_crossentropy, soft, p, t, tolerance=1e-14)
    check(sg.softmax_cross_entropy, lambda v, y: picked(p, y), x, labels, tolerance=1e-13)
    check(sg.softmax_cross_entropy, lambda v, y: soft(p, y), x, t, tolerance=1e-13)


def test_losses_of_one_dimension_and_many():
    labels = np.array([[0, 2], [1, 1]])
    x = values((2, 2, 3), "float64", 0)
    logs = special.log_softmax(x, axis=-1)
    expected = -np.take_along_axis(logs, labels[..., None], -1)[..., 0]
    check(sg.softmax_cross_entropy, lambda v, y: expected, x, labels, tolerance=1e-13)
    check(
        sg.softmax_cross_entropy,
        lambda v, y: expected[0, 0],
        x[0, 0],
        labels[0, 0],
        tolerance=1e-13,
    )


def test_softmax_cross_entropy_is_finite_and_its_gradient_bounded():
    x, t = sg.matrix("x"), sg.vector("t", "int64")
    loss = sg.softmax_cross_entropy(x, t).sum()
    got = sg.evaluate([loss, sg.grad(loss, x)], {x: np.float32([[1e4, -1e4]]), t: [1]})
    assert got[0] == 2e4
    assert got[1].tolist() == [[1, -1]]


def test_binary_crossentropies():
    x = np.linspace(-5, 5, 11)
    t = (np.arange(11) % 2).astype(float)
    p = special.expit(x)
    expected = -(t * np.log(p) + (1 - t) * np.log1p(-p))
    check(sg.binary_crossentropy, lambda *_: expected, p, t, tolerance=1e-14)
    check(sg.sigmoid_binary_crossentropy, lambda *_: expected, x, t, tolerance=1e-14)
    check(sg.sigmoid_binary_crossentropy, lambda *_: expected, x, t.astype("int8"), tolerance=1e-14)
    edges = sg.binary_crossentropy(np.float32([0, 1]), np.float32([0, 1])).eval()
    assert edges.tolist() == [0, 0]
    far = sg.sigmoid_binary_crossentropy(np.float32([-200, 200]), np.float32([1, 0])).eval()
    assert far.tolist() == [200, 200]


def test_gradients_of_losses():
    x, t = values((3, 4), "float64", 0), softmax_rows(1, (3, 4))
    labels = np.array([0, 3, 1])
    check_gradient(lambda v: sg.softmax_cross_entropy(v, labels), x, symbolic=False)
    check_gradient(sg.softmax_cross_entropy, x, t)
    check_gradient(lambda v: sg.categorical_crossentropy(v, labels), t, symbolic=False)
    check_gradient(lambda v: sg.binary_crossentropy(v, 0.3), t)
    check_gradient(lambda v: sg.sigmoid_binary_crossentropy(v, 0.3), x)
    check_gradient(lambda v: sg.layer_norm(v), x)


def test_layer_norm():
    x = values((3, 4), "float32", 0)
    gain, bias = values((4,), "float32", 1), values((4,), "float32", 2)

    def expected(v, g, b):
        v = v.astype(np.float64)
        spread = np.sqrt(v.var(1, keepdims=True) + 1e-5)
        return ((v - v.mean(1, keepdims=True)) / spread * g + b).astype(np.float32)

    check(sg.layer_norm, expected, x, gain, bias, tolerance=1e-6, symbolic=False)


def test_confusion_matrix():
    actual, predicted = np.array([0, 1, 2, 2, 2]), np.array([0, 2, 2, 2, 1])
    got = sg.confusion_matrix(actual, predicted, 3).eval()
    assert got.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 2]]


def test_errors():
    x = sg.matrix("x")
    with pytest.raises(AxisError, match="softmax: axis 2 is out of range for rank 2"):
        sg.softmax(x, 2)
    with pytest.raises(ShapeError, match="log_softmax: axis 1 is empty"):
        sg.log_softmax(sg.array("x", (2, 0)))
    with pytest.raises(ShapeError, match=r"expected labels of rank 1 \(integers\) or 2"):
        sg.softmax_cross_entropy(x, sg.scalar("t"))
    with pytest.raises(DTypeError, match="softmax: dtype complex64 is not accepted"):
        sg.softmax(sg.vector("z", "complex64"))
