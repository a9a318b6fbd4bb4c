"""Resizing against exact fractions: nearest and linear, their gradients, symbolic sizes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.errors import ArgumentError, DTypeError, ShapeError
from tests.strategies import seeds


@st.composite
def cases(draw):
    """An image, and sizes for it."""
    rank = draw(st.integers(1, 3))
    image = [draw(st.integers(1, 6)) for _ in range(rank)]
    sizes = [draw(st.integers(1, 9)) for _ in range(rank)]
    rng = np.random.default_rng(draw(seeds))
    return rng.normal(size=(2, 2, *image)), sizes


def matrix(old, new, mode, aligned):
    """What each new element takes of each old one."""
    taken = np.zeros((new, old))
    for i in range(new):
        if mode == "nearest":
            taken[i, i * old // new] = 1
            continue
        place = Fraction(2 * i + 1, 2) * Fraction(old, new) - Fraction(1, 2)
        if aligned:
            place = Fraction(i * (old - 1), max(new - 1, 1))
        place = max(place, Fraction(0))
        left = int(place)
        taken[i, left] += 1 - float(place - left)
        taken[i, min(left + 1, old - 1)] += float(place - left)
    return taken


def by_matrices(x, sizes, mode, aligned, back=None):
    """Each axis by its matrix; with `back` that cotangent through the transposed ones."""
    for axis, (old, new) in enumerate(zip(x.shape[2:], sizes), 2):
        m = matrix(old, new, mode, aligned)
        if back is None:
            x = np.moveaxis(np.tensordot(m, x, (1, axis)), 0, axis)
        else:
            back = np.moveaxis(np.tensordot(m.T, back, (1, axis)), 0, axis)
    return x if back is None else back


MODES = [("nearest", False), ("linear", False), ("linear", True)]


def results(x, sizes, mode, aligned, symbolic, compiled):
    node = sg.array("x", (None,) * x.ndim if symbolic else x.shape, x.dtype)
    weights = np.random.default_rng(3).normal(size=(*x.shape[:2], *sizes))
    dy = sg.array("dy", (None,) * x.ndim if symbolic else weights.shape, x.dtype)
    y = sg.resize(node, dy.shape[2:], mode, aligned)
    wanted = [y, sg.grad((y * dy).sum(), node)]
    if compiled:
        return weights, sg.function([node, dy], wanted, host_calls="forbid")(x, weights)
    return weights, sg.evaluate(wanted, {node: x, dy: weights})


@pytest.mark.parametrize(("mode", "aligned"), MODES)
@given(cases(), st.booleans())
def test_meaning(mode, aligned, case, symbolic):
    x, sizes = case
    weights, (got, slope) = results(x, sizes, mode, aligned, symbolic, False)
    np.testing.assert_allclose(got, by_matrices(x, sizes, mode, aligned), rtol=1e-12, atol=1e-12)
    want = by_matrices(x, sizes, mode, aligned, weights)
    np.testing.assert_allclose(slope, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("mode", "aligned"), MODES)
@settings(max_examples=4)
@given(cases(), st.booleans())
def test_native(mode, aligned, case, symbolic):
    x, sizes = case
    _, want = results(x, sizes, mode, aligned, symbolic, False)
    _, got = results(x, sizes, mode, aligned, symbolic, True)
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_sizes_of_an_expression_and_layouts():
    x = sg.array("x", ("n", 3, "h", "w"))
    assert str(sg.resize(x, (2 * x.shape[2], 2 * x.shape[3])).type) == "float32[n, 3, 2*h, 2*w]"
    value = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    for mode in ("nearest", "linear"):
        first = sg.evaluate(sg.resize(value, (7, 3), mode))
        last = sg.evaluate(sg.resize(np.moveaxis(value, 1, -1), (7, 3), mode, layout="NHWC"))
        np.testing.assert_array_equal(np.moveaxis(last, -1, 1), first)


def test_dtypes():
    x = np.arange(6, dtype="uint8").reshape(1, 1, 6)
    assert sg.resize(x, 4).dtype == "uint8"
    assert sg.resize(x, 4, "linear").dtype == "float32"
    assert sg.resize(x.astype("float16"), 4, "linear").dtype == "float16"
    z = x + 1j * x
    np.testing.assert_array_equal(sg.evaluate(sg.resize(z, 3)), z[:, :, ::2])


REFUSED = {
    "mode 'cubic'": (ArgumentError, lambda x: sg.resize(x, 4, "cubic")),
    'needs mode="linear"': (ArgumentError, lambda x: sg.resize(x, 4, align_corners=True)),
    "2 of them, got 3": (ShapeError, lambda x: sg.resize(x, (4, 4, 4))),
    "an empty image": (ShapeError, lambda x: sg.resize(x, 0)),
    "rank 3 to 5": (ShapeError, lambda x: sg.resize(x[0, 0], 4)),
    "the real and the imaginary part": (
        DTypeError,
        lambda x: sg.resize(x.astype("complex64"), 4, "linear"),
    ),
}


@pytest.mark.parametrize("text", REFUSED)
def test_refusals(text):
    kind, build = REFUSED[text]
    with pytest.raises(kind) as caught:
        build(sg.array("x", ("n", 3, 8, 8)))
    assert text in str(caught.value) and "test_resize.py" in str(caught.value)
