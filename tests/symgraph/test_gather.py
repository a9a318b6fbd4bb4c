"""Integer-array indexing against NumPy: x[key], take, scatters, segments; gradients; errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph as sg
from symgraph.errors import AxisError, DTypeError, GraphError, IndexFault, ShapeError
from symgraph.expr import toposort
from tests.strategies import INTEGERS, check, check_gradient, seeds, shapes, values

SLICES = st.builds(
    slice,
    st.one_of(st.none(), st.integers(-6, 6)),
    st.one_of(st.none(), st.integers(-6, 6)),
    st.sampled_from([None, 1, 2, -1, -2]),
)


@st.composite
def keys(draw, min_side=1):
    """A shape, and a key with at least one integer array, as (entries, arrays among them)."""
    shape = draw(st.lists(st.integers(min_side, 5), min_size=1, max_size=4))
    used = draw(st.integers(1, len(shape)))
    place = draw(st.integers(0, used))  # of the Ellipsis, if any
    dots = draw(st.booleans())
    axes = list(range(place)) + list(range(len(shape) - used + place, len(shape)))
    axes = axes if dots else list(range(used))
    common = draw(shapes(0, 2, 0, 3))
    key = []
    for axis in axes:
        n = shape[axis]
        kind = draw(st.sampled_from(["array", "array", "slice", "integer"])) if n else "slice"
        if kind == "slice":
            key.append(draw(SLICES))
        elif kind == "integer":
            key.append(draw(st.integers(-n, n - 1)))
        else:
            own = common[draw(st.integers(0, len(common))) :]
            own = [draw(st.sampled_from([s, 1])) if s != 1 else 1 for s in own]
            rng = np.random.default_rng(draw(seeds))
            dtype = draw(st.sampled_from(INTEGERS))
            low = 0 if dtype.startswith("u") else -n
            key.append(rng.integers(low, n, own).astype(dtype))
    if dots:
        key.insert(place, Ellipsis)
    for _ in range(draw(st.integers(0, 2))):
        key.insert(draw(st.integers(0, len(key))), None)
    return tuple(shape), tuple(key)


def with_arrays(key, arrays):
    """The key with its arrays of rank 1 and more replaced by others, in order."""
    left = iter(arrays)
    return tuple(next(left) if isinstance(k, np.ndarray) else k for k in key)


def arrays_of(key):
    return [k for k in key if isinstance(k, np.ndarray)]


@given(keys(), seeds)
def test_advanced_indexing(case, seed):
    shape, key = case
    x = values(shape, "int32", seed)
    check(
        lambda v, *i: v[with_arrays(key, i)],
        lambda v, *i: v[with_arrays(key, i)],
        x,
        *arrays_of(key),
        symbolic=False,
    )
    check(lambda v: v[key], lambda v: v[key], x)


@given(keys(), seeds, st.sampled_from(["set", "add", "max", "min"]))
def test_parts_are_written(case, seed, kind):
    shape, key = case
    x = values(shape, "int32", seed)
    y = values(np.shape(x[key]), "int32", seed + 1)
    ufunc = {"add": np.add, "max": np.maximum, "min": np.minimum}.get(kind)

    def numpys(v, w):
        result = v.copy()
        if ufunc is None:
            result[key] = w
        else:
            ufunc.at(result, key, w)
        return result

    check(lambda v, w: getattr(v.at[key], kind)(w), numpys, x, y)
    v = sg.constant(x)
    if v[key] is not v:
        if kind == "add":
            check(lambda v, w: sg.inc_subtensor(v[key], w), numpys, x, y)
        if kind == "set":
            check(lambda v, w: sg.set_subtensor(v[key], w), numpys, x, y)


@given(keys(), seeds)
def test_gradients_of_keys(case, seed):
    shape, key = case
    x = values(shape, "float64", seed)
    assert_linear(lambda v: v[key], x)


def assert_linear(fun, x):
    """The vjp is the transpose of the jvp, and the jvp is the function itself."""
    v, u = sg.array("v", x.shape, "float64"), values(x.shape, "float64", 7)
    y = fun(v)
    w = values(sg.evaluate(y, {v: x}).shape, "float64", 8)
    back = sg.evaluate(sg.Lop(y, v, w), {v: x})
    forth = sg.evaluate(sg.Rop(y, v, u), {v: x})
    np.testing.assert_array_equal(forth, sg.evaluate(y, {v: u}))
    np.testing.assert_allclose((back * u).sum(), (forth * w).sum(), rtol=1e-12, atol=1e-12)


@given(shapes(1, 3, 1), shapes(0, 2), seeds, st.data())
def test_take(shape, places, seed, data):
    x = values(shape, "float32", seed)
    axis = data.draw(st.sampled_from([None, *range(-len(shape), len(shape))]))
    mode = data.draw(st.sampled_from(["raise", "wrap", "clip"]))
    n = x.size if axis is None else shape[axis]
    reach = n if mode == "raise" else 3 * n
    index = np.random.default_rng(seed).integers(-reach, reach, places)
    check(
        lambda v, i: sg.take(v, i, axis, mode),
        lambda v, i: np.take(v, i, axis, mode=mode),
        x,
        index,
    )


@given(shapes(1, 3, 1), seeds, st.data())
def test_take_along_axis(shape, seed, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = values(shape, "float32", seed)
    places = list(shape)
    places[axis] = data.draw(st.integers(0, 4))
    index = np.random.default_rng(seed).integers(-shape[axis], shape[axis], places)
    check(
        lambda v, i: sg.take_along_axis(v, i, axis),
        lambda v, i: np.take_along_axis(v, i, axis),
        x,
        index,
    )
    y = values(places, "float32", seed + 1)

    def added(v, i, w):
        result = np.moveaxis(v.copy(), axis, -1)
        i, w = np.moveaxis(i, axis, -1), np.moveaxis(w, axis, -1)
        for place in np.ndindex(*i.shape):
            result[(*place[:-1], i[place])] += w[place]
        return np.moveaxis(result, -1, axis)

    check(lambda v, i, w: sg.scatter_add(v, i, w, axis), added, x, index, y)


@given(st.integers(0, 6), st.integers(1, 4), seeds, st.sampled_from(["float32", "int8"]))
def test_segments(n, count, seed, dtype):
    data = values((n, 3), dtype, seed)
    ids = np.random.default_rng(seed).integers(0, count, n)

    def total(v, i):
        result = np.zeros((count, 3), v.dtype)
        np.add.at(result, i, v)
        return result

    check(lambda v, i: sg.segment_sum(v, i, count), total, data, ids)
    check(lambda i: sg.bincount(i, length=count), lambda i: np.bincount(i, minlength=count), ids)
    for ours, numpys in ((sg.segment_max, np.max), (sg.segment_min, np.min)):
        got = sg.evaluate(ours(sg.constant(data), sg.constant(ids), count))
        for k in np.unique(ids):
            np.testing.assert_array_equal(got[k], numpys(data[ids == k], axis=0))


def test_empty_segments():
    ids = sg.constant(np.array([1, 1]))
    x = sg.constant(np.array([2.0, 5.0]))
    np.testing.assert_array_equal(sg.evaluate(sg.segment_max(x, ids, 3)), [-np.inf, 5, -np.inf])
    np.testing.assert_array_equal(sg.evaluate(sg.segment_min(x, ids, 3)), [np.inf, 2, np.inf])
    np.testing.assert_array_equal(sg.evaluate(sg.segment_mean(x, ids, 3)), [0, 3.5, 0])
    np.testing.assert_array_equal(sg.evaluate(sg.segment_max(x > 3, ids, 3)), [False, True, False])


def test_gradients():
    x, y = values((5, 4), "float64", 0), values((3, 4), "float64", 1)
    i = [0, -1, 0]
    check_gradient(lambda v: v[i] ** 2, x)
    check_gradient(lambda v: v[:, i] ** 2, x)
    check_gradient(lambda v: sg.take(v, [[7, -2]], 1, mode="wrap") ** 2, x)
    check_gradient(lambda v, w: v.at[i].set(w) ** 2, x, y)
    check_gradient(lambda v, w: v.at[i].add(w) ** 2, x, y)
    check_gradient(lambda v, w: v.at[i].max(w) ** 2, x, y)
    check_gradient(lambda v, w: sg.set_subtensor(v[::2, ::-1], w) ** 2, x, y)
    check_gradient(lambda v, w: sg.inc_subtensor(v[1:4], w) ** 2, x, y)
    ids = [0, 2, 2, 0, 1]
    for fun in (sg.segment_sum, sg.segment_max, sg.segment_min, sg.segment_mean):
        check_gradient(lambda v, f=fun: f(v, ids, 3) ** 2, x)


def test_ties_share_the_gradient():
    x, y = sg.array("x", (2,), "float64"), sg.array("y", (2,), "float64")
    cost = x.at[[0, 0]].max(y)[0]
    gx, gy = sg.grad(cost, [x, y])
    at = {x: np.array([3.0, 9.0]), y: np.array([3.0, 3.0])}
    np.testing.assert_allclose(sg.evaluate(gx, at), [1 / 3, 0])
    np.testing.assert_allclose(sg.evaluate(gy, at), [1 / 3, 1 / 3])


def test_gradient_of_an_embedding_adds_rows():
    table, ids = sg.array("table", ("n", 4)), sg.array("ids", (None,), "int32")
    slope = sg.grad(sg.embedding(table, ids).sum(), table)
    names = [node.op.name for node in toposort([slope])]
    assert "scatter" in names and "matmul" not in names and "eq" not in names


def test_the_last_value_for_a_place_gets_the_gradient():
    x, y = sg.array("x", (3,), "float64"), sg.array("y", (3,), "float64")
    slope = sg.grad(x.at[[1, 1, 0]].set(y).sum(), [x, y])
    got = sg.evaluate(slope, {x: np.zeros(3), y: np.ones(3)})
    np.testing.assert_array_equal(got[0], [0, 0, 1])
    np.testing.assert_array_equal(got[1], [0, 1, 1])


def test_what_was_indexed():
    x = sg.array("x", (4, 3))
    part = x[1:]
    assert sg.set_subtensor(part, 0.0).array_type.shape == (4, 3)
    assert sg.set_subtensor(part[0], 0.0).array_type.shape == (3, 3)
    part[...]  # is `part` again: from here on it is not known which array is meant
    with pytest.raises(GraphError, match="expected an indexed expression"):
        sg.set_subtensor(part, 0.0)
    assert x.at[...].set(1.0).array_type.shape == (4, 3)
    assert x.at[1:].get() is part


def test_indices_of_every_dtype():
    x = values((5,), "float32", 0)
    for dtype in INTEGERS:
        index = np.array([4, 0], dtype)
        check(lambda v, i: v[i], lambda v, i: v[i], x, index)
    huge = np.array([2**64 - 1], np.uint64)
    with pytest.raises(IndexFault, match="index 18446744073709551615 is out of range for axis 0"):
        check(lambda v, i: v[i], lambda v, i: v[:1], x, huge)


def test_faults():
    x, i = sg.array("x", ("n", 3)), sg.array("i", (None,), "int32")
    given_x = np.zeros((2, 3), np.float32)
    for build, index, text in [
        (lambda: x[i], 2, "index 2 is out of range for axis 0 with size 2"),
        (lambda: x[i], -3, "index -3 is out of range for axis 0 with size 2"),
        (lambda: x[:, i], 3, "index 3 is out of range for axis 1 with size 3"),
        (lambda: x.at[:, i].add(1.0), 5, "index 5 is out of range for axis 1 with size 3"),
        (lambda: sg.segment_sum(i, i, 4), -1, "index -1 is out of range for axis 0 with size 4"),
    ]:
        with pytest.raises(IndexFault, match=text):
            build().eval({x: given_x, i: np.array([0, index], np.int32)})


def test_errors():
    x, i = sg.array("x", (2, 3)), sg.array("i", (None,), "int32")
    with pytest.raises(AxisError, match="index 2 is out of range for axis 0 of x with size 2"):
        x[[0, 2]]
    with pytest.raises(AxisError, match="take: index -4 is out of range for axis 1 of x with size"):
        sg.take(x, [-4], 1)
    with pytest.raises(DTypeError, match="index: expected integers, got float32"):
        x[i.astype("float32")]
    with pytest.raises(DTypeError, match="take: expected integer indices, got bool"):
        sg.take(x, x > 0)
    with pytest.raises(ShapeError, match="index: shapes do not broadcast: axis 0 has sizes 2 and"):
        x[[0, 1], [0, 1, 2]]
    with pytest.raises(GraphError, match="take: mode='fill': expected one of raise, wrap, clip"):
        sg.take(x, i, mode="fill")
    with pytest.raises(ShapeError, match="y of shape .4. does not broadcast to .2, 3."):
        x.at[:].set([1.0, 2.0, 3.0, 4.0])
    with pytest.raises(DTypeError, match="values of float32 do not go into int32"):
        i.at[0].set(x[0, 0])
    with pytest.raises(DTypeError, match="bool values cannot be added"):
        (x > 0).at[0].add(True)
    with pytest.raises(ShapeError, match="indices of rank 1 for an array of rank 2"):
        sg.take_along_axis(x, i)
    with pytest.raises(DTypeError, match="segment_mean: expected floats, got int32"):
        sg.segment_mean(i, i, 3)
