"""Convolutions through the public door, against scipy.signal and the definition of padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import convolve, correlate

import symgraph as sg
from symgraph.errors import ArgumentError, DTypeError, ShapeError
from tests.strategies import seeds

CONV = {1: sg.conv1d, 2: sg.conv2d, 3: sg.conv3d}
TRANSPOSED = {1: sg.conv_transpose1d, 2: sg.conv_transpose2d, 3: sg.conv_transpose3d}
LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}
small = st.integers(1, 3)


@st.composite
def cases(draw):
    """x [n, c, *image] and w [o, c, *window]."""
    rank = draw(small)
    window = [draw(small) for _ in range(rank)]
    image = [draw(st.integers(k, 6)) for k in window]
    rng = np.random.default_rng(draw(seeds))
    n, c, o = draw(small), draw(small), draw(small)
    return rank, rng.normal(size=(n, c, *image)), rng.normal(size=(o, c, *window))


def by_scipy(x, w, mode):
    """Sums over channels of two-array correlations."""
    rows = [[sum(correlate(a, b, mode, "direct") for a, b in zip(i, k)) for k in w] for i in x]
    return np.array(rows)


def same(got, want):
    """Equal but for the order of sums."""
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def last(x):
    return np.moveaxis(x, 1, -1)


@given(cases(), st.sampled_from(["valid", "same", "full"]))
def test_modes_of_scipy(case, mode):
    rank, x, w = case
    if mode == "same":  # SciPy centres even windows the other way round
        w = w[(slice(None), slice(None), *[slice(0, k - 1 + k % 2) for k in w.shape[2:]])]
    got = sg.evaluate(CONV[rank](x, w, padding=mode))
    same(got, by_scipy(x, w, mode))


@given(cases(), st.lists(small, min_size=3, max_size=3), st.lists(small, min_size=3, max_size=3))
def test_strides_and_dilations(case, strides, dilations):
    """Every stride-th of the positions of the window with holes in it."""
    rank, x, w = case
    strides, dilations = strides[:rank], dilations[:rank]
    holes = np.zeros((*w.shape[:2], *[d * (k - 1) + 1 for d, k in zip(dilations, w.shape[2:])]))
    holes[(slice(None), slice(None), *[slice(None, None, d) for d in dilations])] = w
    got = sg.evaluate(CONV[rank](x, w, strides, "full", dilations))
    every = (slice(None), slice(None), *[slice(None, None, s) for s in strides])
    same(got, by_scipy(x, holes, "full")[every])


@given(cases(), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=3, max_size=3))
def test_padding_is_zeros_around(case, pairs):
    rank, x, w = case
    pairs = pairs[:rank]
    wide = np.pad(x, [(0, 0), (0, 0), *pairs])
    got = sg.evaluate(CONV[rank](x, w, padding=pairs))
    same(got, sg.evaluate(CONV[rank](wide, w)))
    if len({p for pair in pairs for p in pair}) == 1:
        same(got, sg.evaluate(CONV[rank](x, w, padding=pairs[0][0])))
    if all(a == b for a, b in pairs):
        per_axis = [a for a, _ in pairs]
        same(got, sg.evaluate(CONV[rank](x, w, padding=per_axis)))


@given(cases(), small, st.booleans())
def test_same_keeps_a_position_for_each_stride(case, stride, symbolic):
    rank, x, w = case
    node = sg.array("x", (None,) * x.ndim if symbolic else x.shape, "float64")
    got = sg.evaluate(CONV[rank](node, w, stride, "same"), {node: x})
    assert got.shape[2:] == tuple(-(-n // stride) for n in x.shape[2:])
    total = [
        max(0, (-(-n // stride) - 1) * stride + k - n) for n, k in zip(x.shape[2:], w.shape[2:])
    ]
    pairs = [(t // 2, t - t // 2) for t in total]
    same(got, sg.evaluate(CONV[rank](x, w, stride, pairs)))


@given(cases(), small)
def test_groups_are_convolutions_side_by_side(case, groups):
    rank, x, w = case
    many_x, many_w = np.concatenate([x] * groups, 1), np.concatenate([w] * groups, 0)
    many_x = many_x * np.arange(1, many_x.shape[1] + 1).reshape(1, -1, *[1] * rank)
    got = sg.evaluate(CONV[rank](many_x, many_w, groups=groups))
    parts = [
        sg.evaluate(CONV[rank](a, b))
        for a, b in zip(np.split(many_x, groups, 1), np.split(many_w, groups, 0))
    ]
    same(got, np.concatenate(parts, 1))


@given(cases(), small, st.sampled_from(["valid", "same", 1]))
def test_channels_last_is_the_same(case, stride, padding):
    rank, x, w = case
    first = sg.evaluate(CONV[rank](x, w, stride, padding))
    turned = np.moveaxis(w, (0, 1), (-1, -2))
    got = sg.evaluate(CONV[rank](last(x), turned, stride, padding, layout=LAST[rank]))
    same(got, last(first))
    up = sg.evaluate(TRANSPOSED[rank](first, w, stride))
    got = sg.evaluate(TRANSPOSED[rank](last(first), turned, stride, layout=LAST[rank]))
    same(got, last(up))


@pytest.mark.parametrize("layout", ["first", "last"])
@given(cases())
def test_kernels_have_an_order_of_their_own(layout, case):
    rank, x, w = case
    spatial = "DHW"[-rank:]
    named = {"layout": LAST[rank] if layout == "last" else f"NC{spatial}"}
    image = last(x) if layout == "last" else x
    turned = np.moveaxis(w, (0, 1), (-1, -2))
    forms = [CONV[rank](image, w, kernel=f"OI{spatial}", **named)]
    forms.append(CONV[rank](image, turned, kernel=f"{spatial}IO", **named))
    same(*sg.evaluate(forms))
    y = sg.evaluate(forms[0])
    ups = [TRANSPOSED[rank](y, w, kernel=f"IO{spatial}", **named)]
    ups.append(TRANSPOSED[rank](y, turned, kernel=f"{spatial}OI", **named))
    same(*sg.evaluate(ups))
    assert ups[0].array_type.shape == image.shape


@given(cases(), small, small, st.integers(0, 1), st.integers(0, 2))
def test_transposed_is_the_gradient(case, stride, dilation, cut, extra):
    """Of sum(y * conv(x, w)) by x, at the sizes that output_padding says."""
    rank, y, w = case
    w = w[: y.shape[1]] if len(w) >= y.shape[1] else np.resize(w, (y.shape[1], *w.shape[1:]))
    extra = min(extra, stride - 1)
    whole = [(n - 1) * stride + dilation * (k - 1) + 1 for n, k in zip(y.shape[2:], w.shape[2:])]
    cut = min(cut, (min(whole) - 1) // 2)
    result = TRANSPOSED[rank](y, w, stride, cut, extra, dilation)
    sizes = result.array_type.shape
    x = sg.array("x", sizes, "float64")
    forward = CONV[rank](x, w, stride, cut, dilation)
    assert forward.array_type.shape == y.shape
    gradient = sg.grad((forward * y).sum(), x)
    same(sg.evaluate(result), sg.evaluate(gradient, {x: np.zeros(sizes)}))


@given(cases())
def test_transposed_of_stride_1_is_scipys_full_convolution(case):
    rank, x, w = case
    kernel = np.moveaxis(w, 1, 0)[: x.shape[1]]  # [in, out, *window]
    rows = [
        [sum(convolve(a, k[o], "full", "direct") for a, k in zip(i, kernel)) for o in range(len(w))]
        for i in x
    ]
    got = sg.evaluate(TRANSPOSED[rank](x, kernel))
    np.testing.assert_allclose(got, np.array(rows))


@given(cases(), small)
def test_transposed_same_enlarges_by_the_stride(case, stride):
    rank, x, w = case
    kernel = np.moveaxis(w, 1, 0)[: x.shape[1]]
    got = TRANSPOSED[rank](x, kernel, stride, "same")
    assert got.array_type.shape[2:] == tuple(stride * n for n in x.shape[2:])
    node = sg.array("x", (None,) * x.ndim, "float64")
    free = sg.evaluate(TRANSPOSED[rank](node, kernel, stride, "same"), {node: x})
    same(sg.evaluate(got), free)


def test_symbolic_types():
    x, w = sg.array("x", ("n", 3, "h", "w")), sg.array("w", (8, 3, 3, 3))
    types = {
        str(sg.conv2d(x, w).type): "float32[n, 8, h - 2, w - 2]",
        str(sg.conv2d(x, w, padding="same").type): "float32[n, 8, h, w]",
        str(sg.conv2d(x, w, 2, 1).type): "float32[n, 8, (h - 1)//2 + 1, (w - 1)//2 + 1]",
        str(sg.conv2d(x, w, 2, "same").type): "float32[n, 8, (h + 1)//2, (w + 1)//2]",
        str(sg.conv_transpose2d(x, w[:3], 2, "same").type): "float32[n, 3, 2*h, 2*w]",
        str(sg.conv_transpose2d(x, w[:3], 2, 1, 1).type): "float32[n, 3, 2*h, 2*w]",
    }
    assert all(got == want for got, want in types.items()), types


def test_promotion():
    x, w = sg.array("x", (1, 2, 5), "int16"), np.ones((1, 2, 3), "int8")
    assert sg.conv1d(x, w).dtype == "int16"
    assert sg.conv1d(x, w.astype("float32")).dtype == "float32"
    assert sg.conv1d(x, w.astype("float64")).dtype == "float64"


def test_a_call_whose_image_is_too_small():
    x = sg.array("x", (None, 1, None))
    f = sg.function([x], sg.conv1d(x, np.ones((1, 1, 3), "float32")))
    assert f(np.ones((2, 1, 3), "float32")).shape == (2, 1, 1)
    with pytest.raises(ShapeError, match="window on the padded image, axis 0: expected 3 <="):
        f(np.ones((2, 1, 2), "float32"))


REFUSED = {
    "channels differ": (ShapeError, lambda x, w: sg.conv2d(x, w[:, :2])),
    "2 groups": (ShapeError, lambda x, w: sg.conv2d(x, w, groups=2)),
    "groups do not divide 8": (ShapeError, lambda x, w: sg.conv2d(x, w[:, :1], groups=3)),
    "w of rank 4": (ShapeError, lambda x, w: sg.conv2d(x, w[0])),
    "x of rank 3": (ShapeError, lambda x, w: sg.conv1d(x, w)),
    "padding 'big'": (ArgumentError, lambda x, w: sg.conv2d(x, w, padding="big")),
    "at least 0": (ShapeError, lambda x, w: sg.conv2d(x, w, padding=-1)),
    "2 ints or pairs": (ShapeError, lambda x, w: sg.conv2d(x, w, padding=(1, 2, 3))),
    "(before, after)": (ShapeError, lambda x, w: sg.conv2d(x, w, padding=[(1, 2, 3), 1])),
    "stride: expected at least 1": (ShapeError, lambda x, w: sg.conv2d(x, w, stride=0)),
    "2 of them": (ShapeError, lambda x, w: sg.conv2d(x, w, dilation=(1, 1, 1))),
    "an integer": (DTypeError, lambda x, w: sg.conv2d(x, w, stride=1.5)),
    "layout 'NWC'": (ArgumentError, lambda x, w: sg.conv2d(x, w, layout="NWC")),
    "kernel 'IOHW'": (ArgumentError, lambda x, w: sg.conv2d(x, w, kernel="IOHW")),
    "the window spans 9": (ShapeError, lambda x, w: sg.conv2d(x, w, dilation=4)),
    "dtype complex64": (DTypeError, lambda x, w: sg.conv2d(x.astype("complex64"), w)),
    "dtype bool": (DTypeError, lambda x, w: sg.conv2d(x.astype("bool"), w.astype("bool"))),
    "not below the stride": (
        ShapeError,
        lambda x, w: sg.conv_transpose2d(x, w[:3], output_padding=1),
    ),
    "cuts off more": (ShapeError, lambda x, w: sg.conv_transpose2d(x[:, :, :1], w[:3], padding=2)),
}


@pytest.mark.parametrize("text", REFUSED)
def test_refusals(text):
    kind, build = REFUSED[text]
    x, w = sg.array("x", ("n", 3, 8, 8)), sg.array("w", (8, 3, 3, 3))
    with pytest.raises(kind) as caught:
        build(x, w)
    assert text in str(caught.value)
    assert "test_conv.py" in str(caught.value)  # the user's line
