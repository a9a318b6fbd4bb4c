"""Basic indexing against NumPy: known sizes, symbolic sizes, symbolic bounds, and its errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph as sg
from symgraph.errors import AxisError, DTypeError, GraphError, IndexFault, ShapeError
from symgraph.expr import graph_guards
from tests.strategies import check, check_gradient, seeds, values

BOUNDS = st.one_of(st.none(), st.integers(-8, 8))
STEPS = st.sampled_from([None, 1, 2, 3, -1, -2, -3])
SLICES = st.builds(slice, BOUNDS, BOUNDS, STEPS)


@st.composite
def keys(draw):
    """A shape and a basic index into it."""
    shape = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    used = draw(st.integers(0, len(shape)))
    key = []
    for n in shape[:used]:
        position = st.integers(-n, n - 1) if n else SLICES
        key.append(draw(st.one_of(SLICES, position)))
    for _ in range(draw(st.integers(0, 2))):
        key.insert(draw(st.integers(0, len(key))), None)
    if draw(st.booleans()):
        place = draw(st.integers(0, len(key)))
        after = sum(k is not None for k in key[place:])
        tail = shape[len(shape) - after :] if after else []
        whole = all(isinstance(k, slice) or k is None for k in key[place:])
        if whole or tail == shape[used - after : used]:
            key.insert(place, Ellipsis)
    return tuple(shape), tuple(key)


@given(keys(), seeds)
def test_basic_indexing(case, seed):
    shape, key = case
    x = values(shape, "int32", seed)
    check(lambda v: v[key], lambda v: v[key], x)


@given(st.integers(0, 7), BOUNDS, BOUNDS, STEPS)
def test_bounds_given_at_run_time(n, start, stop, step):
    x = values((n,), "int32", 0)
    a, b = sg.scalar("a", "int64"), sg.scalar("b", "int64")
    v = sg.array("v", ("n",), "int32")
    bounds = [None if s is None else i for s, i in ((start, a), (stop, b))]
    given = {v: x} | {i: s for s, i in ((start, a), (stop, b)) if s is not None}
    got = sg.evaluate(v[bounds[0] : bounds[1] : step], given)
    np.testing.assert_array_equal(got, x[start:stop:step])


@given(st.integers(1, 6), st.integers(-8, 8))
def test_integer_given_at_run_time(n, index):
    x = values((n, 2), "int32", 0)
    v, i = sg.array("v", ("n", 2), "int32"), sg.scalar("i", "int32")
    if -n <= index < n:
        np.testing.assert_array_equal(v[i].eval({v: x, i: index}), x[index])
        np.testing.assert_array_equal(v[i + 0, -1].eval({v: x, i: index}), x[index, -1])
    else:
        with pytest.raises(IndexFault, match="index of axis 0: there is no element"):
            v[i].eval({v: x, i: index})


def test_minibatch():
    x = np.arange(20.0, dtype="float32").reshape(10, 2)
    data, i = sg.shared(x), sg.scalar("i", "int64")
    batch = data[i * 4 : (i + 1) * 4]
    for k in range(4):
        np.testing.assert_array_equal(batch.eval({i: k}), x[k * 4 : (k + 1) * 4])


def test_sizes_stay_readable():
    x = sg.array("x", ("n", "m"))
    n = x.shape[0]
    sizes = {
        "float32[max(0, n - 1), m]": x[1:],
        "float32[max(0, n - 2), m]": x[1:-1],
        "float32[min(3, n), m]": x[-3:],
        "float32[n, m]": x[::-1],
        "float32[3, m]": x[n - 3 :],
        "float32[n - 2, m]": x[: n - 2],
        "float32[m]": x[0],
    }
    for text, y in sizes.items():
        assert str(y.type) == text
    assert x[1:].type == x[:-1].type == x[: n - 1].type
    windows = sum(x[i : n - 4 + i] for i in range(4))
    assert str(windows.type) == "float32[n - 4, m]"
    assert [g.what for g, _ in graph_guards([windows])] == ["slice of axis 0: size", "add: axis 0"]
    value = values((6, 2), "float32", 0)
    expected = sum(value[i : 2 + i] for i in range(4))
    np.testing.assert_allclose(windows.eval({x: value}), expected, rtol=1e-6)
    with pytest.raises(ShapeError, match="slice of axis 0: size: expected 0 <= n - 4, got -1"):
        windows.eval({x: value[:3]})


def test_whole_slices_are_free():
    x = sg.array("x", ("n", 3))
    assert x[:] is x and x[...] is x and x[:, :] is x and x[0:] is x and x[:, -3:] is x
    assert x[None].op.name == "reshape"


def test_gradients():
    x = values((5, 4), "float64", 0)
    for key in [(2,), (slice(1, None, 2), -1), (slice(None, None, -2),), (..., None, slice(0, 2))]:
        check_gradient(lambda v, k=key: v[k] ** 2, x)


def test_guard_of_a_constant_index():
    x = sg.array("x", ("n",))
    assert x[2].eval({x: [1.0, 2.0, 3.0]}) == 3
    with pytest.raises(IndexFault, match="index of axis 0: there is no element 2, the last is 1"):
        x[2].eval({x: [1.0, 2.0]})
    with pytest.raises(IndexFault, match="index of axis 0: there is no element -1"):
        x[-3].eval({x: [1.0, 2.0]})


def test_errors():
    x = sg.array("x", (2, 3))
    with pytest.raises(AxisError, match="index 2 is out of range for axis 0 of x with size 2"):
        x[2]
    with pytest.raises(AxisError, match="index -4 is out of range for axis 1 of x with size 3"):
        x[:, -4]
    with pytest.raises(AxisError, match="3 indices for rank 2"):
        x[0, 0, 0]
    with pytest.raises(AxisError, match="only one"):
        x[..., ...]
    with pytest.raises(AxisError, match="cannot be 0"):
        x[::0]
    for mask in (True, np.array([True, False]), x > 0):
        with pytest.raises(GraphError, match="boolean masks are not supported: the size"):
            x[mask]
    with pytest.raises(DTypeError, match="expected integers, slices"):
        x["a"]
    with pytest.raises(DTypeError, match="expected an integer, got 1.5"):
        x[1.5:]
    with pytest.raises(GraphError, match="computed from data"):
        x[sg.argmax(x) :]
    with pytest.raises(GraphError, match="the step must be a number"):
        x[:: sg.scalar("s", "int64")]


@pytest.mark.parametrize("size", [5, None])
@pytest.mark.parametrize("huge", [2**62 - 1, 2**62, 2**63, 2**70])
def test_numbers_beyond_every_size_in_slices(size: int | None, huge: int) -> None:
    x, value = sg.array("x", (size,)), np.arange(5, dtype=np.float32)
    for key in (
        slice(None, huge),
        slice(huge, None),
        slice(-huge, None),
        slice(None, -huge),
        slice(huge, None, -1),
        slice(None, -huge, -2),
        slice(None, None, huge),
        slice(None, None, -huge),
    ):
        assert np.array_equal(sg.function([x], x[key])(value), value[key]), key
