"""Pooling against windows cut out one by one: values, gradients, padding, ceil mode, bins."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.errors import ArgumentError, DTypeError, ShapeError
from tests.strategies import seeds

LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}


@st.composite
def cases(draw, max_rank=3):
    """An image of small integers (ties are frequent), window, stride, padding, dilation."""
    rank = draw(st.integers(1, max_rank))

    def entries(low, high):
        return [draw(st.integers(low, high)) for _ in range(rank)]

    window, stride = entries(1, 4), entries(1, 4)
    padding = [draw(st.integers(0, k // 2)) for k in window]
    image = [draw(st.integers(max(1, k - 2 * p), 8)) for k, p in zip(window, padding)]
    rng = np.random.default_rng(draw(seeds))
    x = rng.integers(-3, 4, (draw(st.integers(1, 2)), 2, *image)).astype(float)
    return x, window, stride, padding


def count(size, window, stride, padding, ceil_mode):
    """How many positions there are: as PyTorch documents it."""
    rest = size + 2 * padding - window
    n = (-(-rest // stride) if ceil_mode else rest // stride) + 1
    return n - 1 if ceil_mode and (n - 1) * stride >= size + padding else n


def cut_out(x, window, stride, padding, ceil_mode):
    """For each position: its place, the slices of x under it, how much of the padded image."""
    sizes = x.shape[2:]
    counts = [count(*a, ceil_mode) for a in zip(sizes, window, stride, padding)]
    for p in product(*map(range, counts)):
        starts = [i * s - a for i, s, a in zip(p, stride, padding)]
        stops = [min(i + k, n + a) for i, k, n, a in zip(starts, window, sizes, padding)]
        inside = tuple(slice(max(i, 0), min(j, n)) for i, j, n in zip(starts, stops, sizes))
        yield counts, p, inside, np.prod([j - i for i, j in zip(starts, stops)])


def max_by_cutting(x, y_bar, *geometry):
    """Maxima and the gradient of sum(y * y_bar): all of it to the first largest."""
    found, slope = None, np.zeros_like(x)
    for counts, p, inside, _ in cut_out(x, *geometry):
        found = np.zeros((*x.shape[:2], *counts)) if found is None else found
        for n, c in np.ndindex(*x.shape[:2]):
            part = x[(n, c, *inside)]
            found[(n, c, *p)] = part.max()
            first = np.unravel_index(part.argmax(), part.shape)
            slope[(n, c, *inside)][first] += y_bar(p)
    return found, slope


def mean_by_cutting(x, y_bar, included, *geometry):
    found, slope = None, np.zeros_like(x)
    for counts, p, inside, whole in cut_out(x, *geometry):
        found = np.zeros((*x.shape[:2], *counts)) if found is None else found
        part = x[(slice(None), slice(None), *inside)]
        number = whole if included else part[0, 0].size
        found[(slice(None), slice(None), *p)] = part.sum(tuple(range(2, x.ndim))) / number
        slope[(slice(None), slice(None), *inside)] += y_bar(p) / number
    return found, slope


def weight(p):
    """The cotangent of a position."""
    return 1.0 + np.dot(p, [3.0, 5.0, 7.0][: len(p)])


def weighted(y):
    """sum(y * cotangent), of any sizes."""
    weights = sg.constant(1.0, "float64")
    for axis in range(2, y.ndim):
        places = sg.arange(y.shape[axis], dtype="float64") * [3.0, 5.0, 7.0][axis - 2]
        shape = [-1 if a == axis else 1 for a in range(2, y.ndim)]
        weights = weights + sg.reshape(places, shape)
    return (y * weights).sum()


def results(x, pool, compiled=False, symbolic=False):
    node = sg.array("x", (None,) * x.ndim if symbolic else x.shape, x.dtype)
    y = pool(node)
    wanted = [y, sg.grad(weighted(y), node)]
    if compiled:
        return sg.function([node], wanted, host_calls="forbid")(x)
    return sg.evaluate(wanted, {node: x})


def agree(got, want):
    for a, b in zip(got, want):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@given(cases(), st.booleans(), st.booleans())
def test_max(case, ceil_mode, symbolic):
    x, window, stride, padding = case
    got = results(
        x, lambda n: sg.max_pool(n, window, stride, padding, 1, ceil_mode), symbolic=symbolic
    )
    agree(got, max_by_cutting(x, weight, window, stride, padding, ceil_mode))


@given(cases(), st.booleans(), st.booleans(), st.booleans())
def test_mean(case, ceil_mode, included, symbolic):
    x, window, stride, padding = case
    got = results(
        x,
        lambda n: sg.avg_pool(n, window, stride, padding, ceil_mode, included),
        symbolic=symbolic,
    )
    agree(got, mean_by_cutting(x, weight, included, window, stride, padding, ceil_mode))


@pytest.mark.parametrize("symbolic", [False, True], ids=["known", "symbolic"])
@settings(max_examples=6)
@given(cases(2), st.booleans())
def test_native(symbolic, case, ceil_mode):
    x, window, stride, padding = case
    for pool in (sg.max_pool, sg.avg_pool):

        def build(n, pool=pool):
            return pool(n, window, stride, padding, ceil_mode=ceil_mode)

        agree(results(x, build, True, symbolic), results(x, build))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("pool", [sg.max_pool, sg.avg_pool])
def test_channels_last(rank, pool):
    x = np.random.default_rng(rank).normal(size=(2, 3, *[7] * rank))
    first = sg.evaluate(pool(x, 3, 2, 1))
    last = sg.evaluate(pool(np.moveaxis(x, 1, -1), 3, 2, 1, layout=LAST[rank]))
    np.testing.assert_array_equal(np.moveaxis(last, -1, 1), first)


@given(cases(), st.integers(1, 3))
def test_dilated_max_meets_every_other_element(case, dilation):
    x, window, stride, _ = case
    reach = [dilation * (k - 1) + 1 for k in window]
    if any(r > n for r, n in zip(reach, x.shape[2:])):
        return
    got = sg.evaluate(sg.max_pool(x, window, stride, dilation=dilation))
    views = np.lib.stride_tricks.sliding_window_view(x, reach, tuple(range(2, x.ndim)))
    rank = x.ndim - 2
    steps = (..., *[slice(None, None, s) for s in stride], *[slice(None)] * rank)
    views = views[steps][(..., *[slice(None, None, dilation)] * rank)]
    np.testing.assert_array_equal(got, views.max(tuple(range(-rank, 0))))


@pytest.mark.parametrize("dtype", ["int8", "uint16", "bool", "float16", "bfloat16", "int64"])
def test_max_of_dtypes(dtype):
    x = np.random.default_rng(0).integers(-9, 9, (1, 2, 6, 7))
    node = sg.cast(sg.constant(x), dtype)
    y = sg.max_pool(node, 3, 2, 1)
    (got, first) = sg.function([], [y, sg.max_pool(node, 2)])()
    assert y.dtype == dtype
    np.testing.assert_array_equal(got, sg.evaluate(y))
    np.testing.assert_array_equal(first, sg.evaluate(sg.max_pool(node, 2)))


def test_nan_wins_and_takes_the_gradient():
    x = np.array([[[1.0, np.nan, 3.0, 2.0, -np.inf, -np.inf]]])
    y, slope = results(x, lambda n: sg.max_pool(n, 2), compiled=True)
    np.testing.assert_array_equal(y, [[[np.nan, 3.0, -np.inf]]])
    np.testing.assert_array_equal(slope, [[[0.0, 1.0, 4.0, 0.0, 7.0, 0.0]]])


def test_means_of_integers_and_halves():
    x = np.arange(8, dtype="int32").reshape(1, 1, 8)
    assert sg.avg_pool(x, 2).dtype == "float32"
    half = np.full((1, 1, 1000), 60000, "float16")
    got = sg.evaluate(sg.avg_pool(half, 1000))
    assert got.dtype == "float16" and got.item() == 60000  # the sum would overflow


@settings(max_examples=8)
@given(cases(2))
def test_derivatives_of_the_second_order(case):
    x, window, stride, padding = case
    x = x + np.linspace(0, 0.5, x.size).reshape(x.shape)  # no ties: those are kinks

    def slopes(n):
        y = sg.max_pool(n, window, stride, padding) + sg.avg_pool(n, window, stride, padding)
        return sg.grad((y**3).sum(), n)

    sg.verify_grad(slopes, [x], tests=1)
    node, moved = sg.constant(x), sg.constant(np.cos(x))
    for pool in (sg.max_pool, sg.avg_pool):
        y = pool(node, window, stride, padding)
        forward = (sg.Rop(y, node, moved) * sg.sin(y)).sum()
        backward = (sg.Lop(y, node, sg.sin(y)) * moved).sum()
        np.testing.assert_allclose(*sg.evaluate([forward, backward]), rtol=1e-11, atol=1e-11)


def test_global():
    x = np.random.default_rng(1).normal(size=(2, 3, 5, 7))
    np.testing.assert_array_equal(sg.evaluate(sg.global_max_pool(x)), x.max((2, 3)))
    np.testing.assert_allclose(sg.evaluate(sg.global_avg_pool(x)), x.mean((2, 3)), rtol=1e-14)
    last = sg.global_avg_pool(x, keepdims=True, layout="NHWC")
    np.testing.assert_allclose(sg.evaluate(last), x.mean((1, 2), keepdims=True), rtol=1e-14)


@given(cases(), st.lists(st.integers(1, 5), min_size=3, max_size=3))
def test_bins(case, sizes):
    x = case[0]
    sizes = sizes[: x.ndim - 2]
    bins = [
        [(i * n // k, -(-(i + 1) * n // k)) for i in range(k)] for n, k in zip(x.shape[2:], sizes)
    ]
    largest, means = (np.zeros((*x.shape[:2], *sizes)) for _ in range(2))
    slope = np.zeros_like(x)
    for p in np.ndindex(*sizes):
        inside = tuple(slice(*b[i]) for b, i in zip(bins, p))
        for n, c in np.ndindex(*x.shape[:2]):
            part = x[(n, c, *inside)]
            largest[(n, c, *p)], means[(n, c, *p)] = part.max(), part.mean()
            first = np.unravel_index(part.argmax(), part.shape)
            slope[(n, c, *inside)][first] += weight(p)
    agree(results(x, lambda n: sg.adaptive_max_pool(n, sizes)), (largest, slope))
    np.testing.assert_allclose(
        sg.evaluate(sg.adaptive_avg_pool(x, sizes)), means, rtol=1e-12, atol=1e-12
    )


REFUSED = {
    "the window spans 9": (ShapeError, lambda x: sg.max_pool(x, 9)),
    "is not below the window": (ShapeError, lambda x: sg.avg_pool(x, 2, padding=2)),
    "window: expected at least 1": (ShapeError, lambda x: sg.max_pool(x, 0)),
    "2 of them": (ShapeError, lambda x: sg.max_pool(x, (2, 2, 2))),
    "rank 3 to 5": (ShapeError, lambda x: sg.max_pool(x[0, 0], 2)),
    "layout 'NDHWC'": (ArgumentError, lambda x: sg.max_pool(x, 2, layout="NDHWC")),
    "complex64 is not accepted": (DTypeError, lambda x: sg.avg_pool(x.astype("complex64"), 2)),
    "expected a known size": (
        ShapeError,
        lambda x: sg.adaptive_avg_pool(sg.array("y", (1, 1, None)), 2),
    ),
}


@pytest.mark.parametrize("text", REFUSED)
def test_refusals(text):
    kind, build = REFUSED[text]
    with pytest.raises(kind) as caught:
        build(sg.array("x", ("n", 3, 8, 8)))
    assert text in str(caught.value) and "test_pool.py" in str(caught.value)
