"""The convolution primitive against its definition in loops: meaning, native form, derivatives."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.errors import DTypeError, ShapeError
from symgraph.expr import apply
from symgraph.ops.convolve import GIVES, OPERANDS, ConvForm, Convolve
from tests.strategies import seeds

ROLES = list(OPERANDS)


@st.composite
def forms(draw, max_rank=3, negative=True):
    """A geometry whose window fits, and (batch, channels per group in x, in y)."""
    rank = draw(st.integers(1, max_rank))

    def entries(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    window, dilations, image = entries(1, 3), entries(1, 3), entries(1, 6)
    low, high = entries(-2 if negative else 0, 3), entries(-2 if negative else 0, 3)
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    form = ConvForm(entries(1, 3), low, high, dilations, groups, image, window)
    lacking = [max(0, r - s) for r, s in zip(form.reach, form.padded)]
    form = form._replace(high=tuple(h + n for h, n in zip(high, lacking)))
    return form, draw(st.integers(0, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))


def operands(case, rng, dtype="float64"):
    """Arrays for x, w and y."""
    form, batch, inner, outer = case
    shapes = {
        "x": (batch, *form.image, inner * form.groups),
        "w": (*form.window, inner, outer * form.groups),
        "y": (batch, *form.positions, outer * form.groups),
    }
    return {k: (4 * rng.normal(size=s)).astype(dtype) for k, s in shapes.items()}


@np.errstate(all="ignore")
def by_loops(form, arrays):
    """All three derivatives of the form, term by term as its definition says."""
    x, w, y = (arrays[k] for k in "xwy")
    found = {k: np.zeros(v.shape, v.dtype) for k, v in arrays.items()}
    inner, outer = w.shape[-2], w.shape[-1] // form.groups
    for p, k in product(np.ndindex(*form.positions), np.ndindex(*form.window)):
        i = tuple(np.array(p) * form.strides + np.array(k) * form.dilations - form.low)
        if not all(0 <= a < s for a, s in zip(i, form.image)):
            continue
        for n, o, c in product(range(len(x)), range(w.shape[-1]), range(inner)):
            at_x, at_w, at_y = (n, *i, o // outer * inner + c), (*k, c, o), (n, *p, o)
            found["y"][at_y] += x[at_x] * w[at_w]
            found["x"][at_x] += w[at_w] * y[at_y]
            found["w"][at_w] += x[at_x] * y[at_y]
    return found


def built(form, role, arrays):
    """The op on inputs, and the inputs."""
    inputs = {k: sg.array(k, arrays[k].shape, arrays[k].dtype) for k in OPERANDS[role]}
    return apply(Convolve(form, role), *inputs.values()), inputs


@pytest.mark.parametrize("role", ROLES)
@given(forms(), seeds)
def test_meaning(role, case, seed):
    arrays = operands(case, np.random.default_rng(seed))
    result, inputs = built(case[0], role, arrays)
    got = sg.evaluate(result, {x: arrays[k] for k, x in inputs.items()})
    want = by_loops(case[0], arrays)[GIVES[role]]
    assert got.shape == want.shape == result.array_type.shape
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("role", ROLES)
@given(forms(2), seeds, st.sampled_from(["int8", "uint16", "int32", "uint64"]))
def test_integers_wrap(role, case, seed, dtype):
    rng = np.random.default_rng(seed)
    arrays = {k: rng.integers(0, 250, v.shape) for k, v in operands(case, rng).items()}
    arrays = {k: v.astype(dtype) for k, v in arrays.items()}
    result, inputs = built(case[0], role, arrays)
    got = sg.evaluate(result, {x: arrays[k] for k, x in inputs.items()})
    np.testing.assert_array_equal(got, by_loops(case[0], arrays)[GIVES[role]])


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_summed_in_float32(role, dtype):
    form = ConvForm((1,), (1,), (1,), (1,), 1, (64,), (3,))
    arrays = operands((form, 4, 16, 16), np.random.default_rng(0), "float32")
    halves = {k: sg.evaluate(sg.cast(sg.constant(v), dtype)) for k, v in arrays.items()}
    result, inputs = built(form, role, halves)
    got = sg.evaluate(result, {x: halves[k] for k, x in inputs.items()})
    wide = {k: v.astype("float64") for k, v in halves.items()}
    want = by_loops(form, wide)[GIVES[role]]
    unit = 2.0**-11 if dtype == "float16" else 2.0**-8
    assert got.dtype.name == dtype
    assert np.max(np.abs(got.astype("float64") - want)) <= unit * np.max(np.abs(want)) * 1.01


@pytest.mark.parametrize("symbolic", [False, True], ids=["known", "symbolic"])
@settings(max_examples=6)
@given(forms(2), seeds, st.booleans())
def test_native(symbolic, case, seed, special):
    """All roles in one function; what is infinite or NaN shows where the meaning says."""
    form = case[0]
    arrays = operands(case, np.random.default_rng(seed))
    if special:
        for value, array in zip((np.inf, np.nan, -np.inf), arrays.values()):
            array.flat[: min(array.size, 1)] = value
    rank = form.rank
    last = {k: v.shape[-1] for k, v in arrays.items()}
    free = {k: (None,) * (rank + 1) + (last[k],) for k in "xy"}
    shapes = {k: v.shape for k, v in arrays.items()} | (free if symbolic else {})
    inputs = {k: sg.array(k, s, "float64") for k, s in shapes.items()}
    form = form._replace(image=inputs["x"].array_type.shape[1:-1])
    results = [apply(Convolve(form, r), *[inputs[k] for k in OPERANDS[r]]) for r in ROLES]
    got = sg.function(list(inputs.values()), results, host_calls="forbid")(*arrays.values())
    want = sg.evaluate(results, {x: arrays[k] for k, x in inputs.items()})
    for a, b in zip(got, want):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("role", ROLES)
@settings(max_examples=8)
@given(forms(2), seeds)
def test_derivatives(role, case, seed):
    """Gradients, gradients of gradients, and forward mode of every role."""
    form, batch, *_ = case
    arrays = operands((form, max(batch, 1), *case[2:]), np.random.default_rng(seed))
    values = [arrays[k] for k in OPERANDS[role]]

    def fun(*inputs):
        return apply(Convolve(form, role), *inputs)

    def slopes(*inputs):
        return sg.grad((fun(*inputs) ** 2).sum(), list(inputs))

    sg.verify_grad(fun, values, tests=1)
    sg.verify_grad(slopes, values, tests=1)
    inputs = [sg.constant(v) for v in values]
    moved = [sg.constant(np.cos(v)) for v in values]
    forward = sg.evaluate(sg.Rop(fun(*inputs), inputs, moved))
    want = sg.evaluate(fun(moved[0], inputs[1]) + fun(inputs[0], moved[1]))
    np.testing.assert_allclose(forward, want, rtol=1e-12, atol=1e-11)


def refuse(kind, text, form, role, *shapes, dtype="float32"):
    types = [sg.array("a", s, dtype) for s in shapes]
    with pytest.raises(kind, match=text):
        apply(Convolve(form, role), *types)


def test_refusals():
    form = ConvForm((1,), (0,), (0,), (1,), 2, (5,), (3,))
    x, w, y = (2, 5, 4), (3, 2, 6), (2, 3, 6)
    assert apply(Convolve(form, "output"), sg.array("x", x), sg.array("w", w)).array_type.shape == y
    refuse(DTypeError, "only reals", form, "output", x, w, dtype="bool")
    refuse(DTypeError, "only reals", form, "output", x, w, dtype="complex64")
    refuse(ShapeError, "rank 3 of x", form, "output", x[:2], w)
    refuse(ShapeError, "channels of x", form, "output", (2, 5, 6), w)
    refuse(ShapeError, "in groups", form, "kernel", x, (2, 3, 5))
    refuse(ShapeError, "batch", form, "kernel", x, (3, 3, 6))
    refuse(ShapeError, "role", form, "outputs", x, w)
    refuse(ShapeError, "start at 1", form._replace(strides=(0,)), "output", x, w)
    refuse(ShapeError, "one group", form._replace(groups=0), "output", x, w)
    refuse(ShapeError, "window on the padded", form._replace(image=(2,)), "output", (2, 2, 4), w)
    refuse(ShapeError, "entries for 1 to 3", form._replace(low=(0, 0)), "output", x, w)
