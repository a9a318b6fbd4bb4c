"""Convolutions compiled, in every role, against their meaning in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.backends.plan import plan
from symgraph.backends.program import Launch
from symgraph.backends.simulate import simulate
from symgraph.backends.targets import target
from symgraph.backends.verify_loops import verify
from symgraph.expr import apply
from symgraph.ops.convolve import OPERANDS, Convolve
from symgraph.ops.windows import ConvForm

from .test_threads import eager, for_each_count

TOLERANCE = {"float32": 2e-5, "float64": 1e-13, "float16": 4e-3}


class Geometry:
    """A form, and the shapes of its three arrays."""

    def __init__(self, form: ConvForm, batch: int, channels: int, outputs: int):
        self.form, groups = form, form.groups
        self.shapes = {
            "x": (batch, *form.image, channels * groups),
            "w": (*form.window, channels, outputs * groups),
            "y": (batch, *form.positions, outputs * groups),
        }


@st.composite
def geometries(draw: Any) -> Geometry:
    rank = draw(st.integers(1, 3))
    most = {1: 12, 2: 8, 3: 5}[rank]

    def per_axis(least: int, largest: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(least, largest)) for _ in range(rank))

    window, dilations = per_axis(1, 3), per_axis(1, 2)
    low, high = per_axis(-1, 2), per_axis(-1, 2)
    least = [1 + d * (k - 1) - a - b for d, k, a, b in zip(dilations, window, low, high)]
    image = tuple(max(1, n, s) for n, s in zip(least, per_axis(1, most)))
    low = tuple(max(a, 1 - s) for a, s in zip(low, image))
    high = tuple(max(b, 1 - s) for b, s in zip(high, image))
    form = ConvForm(
        per_axis(1, 3), low, high, dilations, draw(st.sampled_from([1, 1, 2, 3])), image, window
    )
    if draw(st.integers(0, 3)) == 0:  # each channel a group of its own
        return Geometry(
            form._replace(groups=draw(st.integers(2, 20))), draw(st.integers(0, 3)), 1, 1
        )
    return Geometry(form, *(draw(st.integers(least, 5)) for least in (0, 1, 1)))


def values(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.integers(-8, 9, shape) / (4 if dtype.startswith("float") else 1)).astype(dtype)


def close(got: np.ndarray, want: np.ndarray, dtype: str) -> None:
    assert got.shape == want.shape and got.dtype == want.dtype
    if dtype not in TOLERANCE:
        assert np.array_equal(got, want)
    elif want.size:
        wide = got.astype("f8"), want.astype("f8")
        scale = max(1e-30, np.abs(wide[1]).max())
        assert np.abs(wide[0] - wide[1]).max() <= TOLERANCE[dtype] * scale


@given(
    case=geometries(),
    role=st.sampled_from(sorted(OPERANDS)),
    dtype=st.sampled_from(["float32", "float64", "float16", "int32", "int8"]),
    symbolic=st.booleans(),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_role(case: Geometry, role: str, dtype: str, symbolic: bool) -> None:
    shapes = [case.shapes[name] for name in OPERANDS[role]]
    named = [
        ("n", *s[1:]) if symbolic and name != "w" else s for name, s in zip(OPERANDS[role], shapes)
    ]
    inputs = [sg.array(name, s, dtype) for name, s in zip(OPERANDS[role], named)]
    f = sg.function(inputs, apply(Convolve(case.form, role), *inputs))
    arrays = [values(s, dtype, i) for i, s in enumerate(shapes)]
    close(f(*arrays), Convolve(case.form, role).evaluate(*arrays), dtype)


@given(case=geometries(), role=st.sampled_from(sorted(OPERANDS)), data=st.data())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_every_role_on_other_targets(case: Geometry, role: str, data: Any) -> None:
    machine = target(data.draw(st.sampled_from(["x86-64", "x86-64-v3", "cortex-a72", "cortex-a9"])))
    shapes = [case.shapes[name] for name in OPERANDS[role]]
    inputs = [sg.array(name, s) for name, s in zip(OPERANDS[role], shapes)]
    program = plan(inputs, [apply(Convolve(case.form, role), *inputs)], target=machine)
    for step in program.steps:
        if isinstance(step, Launch):
            verify(step.kernel)
    arrays = [values(s, "float32", i) for i, s in enumerate(shapes)]
    got, _ = simulate(program, arrays, [])
    close(got[0], Convolve(case.form, role).evaluate(*arrays), "float32")


SIZES = [(1, 3, 3, 64, 33), (2, 9, 14, 5, 70), (3, 16, 7, 24, 17)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("stride", [1, 2])
def test_symbolic_images(sizes: tuple[int, ...], stride: int) -> None:
    """One function for every batch and image."""
    batch, height, width, channels, outputs = sizes
    x = sg.array("x", ("n", "h", "w", channels))
    w = sg.array("w", (3, 3, channels, outputs))
    y = sg.conv2d(x, w, layout="NHWC", padding=1, stride=stride)
    results = [y, *sg.grad((y * y).sum(), [x, w])]
    f = sg.function([x, w], results)
    for shape in ((batch, height, width), (1, width, height)):
        arrays = [values((*shape, channels), "float32", 1), values(w.shape, "float32", 2)]
        for got, want in zip(f(*arrays), results):
            close(got, sg.evaluate(want, dict(zip([x, w], arrays))), "float32")


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("outputs", [24, 600])
def test_any_number_of_threads(groups: int, outputs: int) -> None:
    x, w = sg.array("x", (2, 11, 9, 8)), sg.array("w", (3, 3, 8 // groups, outputs))
    y = sg.relu(sg.conv2d(x, w, layout="NHWC", padding=1, groups=groups) + 1)
    with eager():
        f = sg.function([x, w], [y, *sg.grad((y * y).sum(), [x, w])])
        arrays = [values(x.shape, "float32", 1), values(w.shape, "float32", 2)]
        for got, want in zip(for_each_count(f, arrays), [y]):
            close(got, sg.evaluate(want, dict(zip([x, w], arrays))), "float32")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "float16", "bfloat16"])
@pytest.mark.parametrize("groups", [1, 2])
def test_constant_kernels(dtype: str, groups: int) -> None:
    """They lie in panels: the original is no constant of the program any more."""
    kernel = values((3, 3, 200 // groups, 700), dtype if dtype != "bfloat16" else "float32", 2)
    x = sg.array("x", (1, 9, 8, 200), dtype)
    y = sg.conv2d(x, sg.constant(kernel).astype(dtype), layout="NHWC", padding=1, groups=groups)
    f = sg.function([x], y)
    image = values(x.shape, "float32", 1).astype(x.dtype.np)
    want = sg.evaluate(y, {x: image})
    if dtype == "bfloat16":
        got = f(image).astype("f4")
        assert np.abs(got - want.astype("f4")).max() <= 2.0**-7 * np.abs(want.astype("f4")).max()
    else:
        close(f(image), want, dtype)
    assert "_panels" in f.explain()


def test_constant_matrices() -> None:
    matrix = values((700, 900), "float32", 5)
    x = sg.array("x", (40, 700))
    f = sg.function([x], [x @ sg.constant(matrix), sg.relu(2 * x @ sg.constant(matrix))])
    assert "_panels" in f.explain()
    given_rows = values(x.shape, "float32", 6)
    for got, want in zip(
        f(given_rows), [given_rows @ matrix, np.maximum(2 * given_rows @ matrix, 0)]
    ):
        close(got, want, "float32")


def test_constant_vectors_lie_as_they_are() -> None:
    vector = values((900, 1), "float32", 5)
    x = sg.array("x", (40, 900))
    f = sg.function([x], x @ sg.constant(vector))
    assert "_panels" not in f.explain()
    given_rows = values(x.shape, "float32", 6)
    close(f(given_rows), given_rows @ vector, "float32")
