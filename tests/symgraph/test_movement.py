"""The movement primitives and the functions of shape, order, joining, padding and creation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph as sg
from symgraph.expr import apply, graph_guards
from symgraph.ops.movement import BroadcastTo, Concatenate, Iota, Place, Reshape, Slice, Transpose
from symgraph.ops.shaping import sum_to
from tests.strategies import EVERY, check, check_gradient, seeds, shapes, values

dtypes = st.sampled_from(EVERY)


@st.composite
def permutations(draw, max_dims=4):
    shape = draw(shapes(max_dims=max_dims))
    return shape, tuple(draw(st.permutations(range(len(shape)))))


# --- primitives ---


@given(permutations(), dtypes, seeds)
def test_transpose(case, dtype, seed):
    shape, axes = case
    x = values(shape, dtype, seed, special=True)
    check(lambda v: apply(Transpose(axes), v), lambda v: v.transpose(axes), x)
    check(lambda v: sg.transpose(v), lambda v: v.T, x)


@st.composite
def broadcasts(draw):
    target = draw(shapes(max_dims=4))
    shape = draw(st.tuples(*[st.sampled_from([1, s]) for s in target]))
    return shape[draw(st.integers(0, len(target))) :], target


@given(broadcasts(), dtypes, seeds)
def test_broadcast_to(case, dtype, seed):
    shape, target = case
    x = values(shape, dtype, seed)
    check(
        lambda v: apply(BroadcastTo(target), v),
        lambda v: np.broadcast_to(v, target),
        x,
        symbolic=False,
    )


@given(broadcasts(), seeds)
def test_sum_to_is_the_adjoint_of_broadcast(case, seed):
    shape, target = case
    x, y = values(shape, "float64", seed), values(target, "float64", seed + 1)
    a, b = sg.array("a", shape, "float64"), sg.array("b", target, "float64")
    left = (sg.broadcast_to(a, target) * b).sum()
    right = (a * sum_to(b, shape)).sum()
    got = sg.evaluate([left, right], {a: x, b: y})
    np.testing.assert_allclose(got[0], got[1], rtol=1e-12, atol=1e-12)


@st.composite
def cuts(draw, steps=(1, 1, 2, 3, -1, -2)):
    """A shape and in-range starts, sizes, steps."""
    shape = draw(shapes())
    starts, sizes, strides = [], [], []
    for n in shape:
        step = draw(st.sampled_from(steps))
        size = draw(st.integers(0, math.ceil(n / abs(step))))
        reach = (size - 1) * abs(step) if size else 0
        low = draw(st.integers(0, max(n - 1 - reach, 0)))
        starts.append(low if step > 0 else low + reach)
        sizes.append(size)
        strides.append(step)
    return shape, tuple(starts), tuple(sizes), tuple(strides)


@given(cuts(), dtypes, seeds)
def test_slice_and_place_are_inverse(case, dtype, seed):
    shape, starts, sizes, steps = case
    x = values(shape, dtype, seed)
    index = tuple(
        np.array([a + i * s for i in range(n)], int) for a, n, s in zip(starts, sizes, steps)
    )
    cut = x[np.ix_(*index)] if shape else x
    check(lambda v: apply(Slice(starts, sizes, steps), v), lambda v: cut, x, symbolic=False)

    fill = {"b": True, "c": 2 - 1j}.get(x.dtype.kind, 3)

    def placed(v):
        result = np.full(shape, fill, x.dtype)
        if shape:
            result[np.ix_(*index)] = v
            return result
        return v

    check(lambda v: apply(Place(starts, steps, shape, fill), v), placed, cut, symbolic=False)


@given(cuts(), seeds)
def test_slice_and_place_gradients(case, seed):
    shape, starts, sizes, steps = case
    x = values(shape, "float64", seed)
    sg.verify_grad(lambda v: apply(Slice(starts, sizes, steps), v), [x], tests=1)
    y = values(sizes, "float64", seed)
    sg.verify_grad(lambda v: apply(Place(starts, steps, shape, 7.0), v), [y], tests=1)


def test_place_tells_its_fills_apart():
    x = sg.vector("x")
    zero, negative = (apply(Place((0,), (1,), (9,), f), x) for f in (0.0, -0.0))
    assert zero is not negative
    assert np.signbit(negative.eval({x: np.zeros(3, "f")})[5])
    assert zero is apply(Place((0,), (1,), (9,), 0.0), x)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), shapes(min_dims=1), st.data(), seeds)
def test_concatenate(sizes, shape, data, seed):
    axis = data.draw(st.integers(0, len(shape) - 1))
    dtype = data.draw(dtypes)
    parts = [values((*shape[:axis], n, *shape[axis + 1 :]), dtype, seed + n) for n in sizes]
    check(lambda *xs: apply(Concatenate(axis), *xs), lambda *xs: np.concatenate(xs, axis), *parts)


@pytest.mark.parametrize("dtype", EVERY[1:])
def test_iota(dtype):
    for n in (0, 1, 7, 200):
        got = sg.evaluate(apply(Iota(n, sg.dtypes.dtype(dtype))))
        np.testing.assert_array_equal(got, np.arange(n).astype(got.dtype))
        assert got.dtype.name == dtype


def test_iota_of_an_input_value():
    n = sg.scalar("n", "int64")
    assert sg.arange(n).eval({n: 4}).tolist() == [0, 1, 2, 3]
    with pytest.raises(sg.ShapeError, match="arange: size: expected 0 <= n, got -2"):
        sg.arange(n + 0).ravel()
        sg.iota(n).eval({n: -2})


def test_gradients_of_movement():
    x, y = values((2, 3), "float64", 0), values((2, 2), "float64", 1)
    check_gradient(lambda v: sg.reshape(v, (3, 2)) * 2, x)
    check_gradient(lambda v: sg.transpose(v) ** 2, x)
    check_gradient(lambda a, b: sg.concatenate([a, b], 1) ** 2, x, y)
    check_gradient(lambda v: sg.broadcast_to(sg.expand_dims(v, 0), (4, *v.shape)) ** 2, x)


def test_errors_of_primitives():
    x = sg.array("x", (2, 3))
    with pytest.raises(sg.ShapeError, match=r"reshape: \[2, 3\] has 6 elements, \[4\] has 4"):
        apply(Reshape((4,)), x)
    with pytest.raises(sg.ShapeError, match="expected 1 or 4 on axis 1 of x, got 3"):
        apply(BroadcastTo((2, 4)), x)
    with pytest.raises(sg.AxisError, match="no permutation"):
        apply(Transpose((0, 0)), x)
    with pytest.raises(sg.ShapeError, match="slice of axis 1"):
        apply(Slice((0, 1), (2, 3), (1, 1)), x)
    with pytest.raises(sg.ShapeError, match="slice of axis 0"):
        apply(Slice((0, 0), (2, 3), (-1, 1)), x)
    with pytest.raises(sg.ShapeError, match="non-zero"):
        apply(Slice((0, 0), (2, 3), (0, 1)), x)
    with pytest.raises(sg.ShapeError, match="place of axis 0"):
        apply(Place((2, 0), (1, 1), (3, 3), 0.0), x)
    with pytest.raises(sg.ShapeError, match="concatenate: axis 1: sizes differ: 3 and 4"):
        apply(Concatenate(0), x, sg.array("y", (2, 4)))
    with pytest.raises(sg.ShapeError, match="ranks differ"):
        apply(Concatenate(0), x, sg.vector())
    with pytest.raises(sg.DTypeError, match="dtypes differ"):
        apply(Concatenate(0), x, sg.matrix("y", "int8"))


# --- shape ---


def test_reshape_infers_one_size():
    x = np.arange(24)
    for shape in [(2, -1), (-1,), (2, 3, 4), (4, -1, 2), 24, -1]:
        check(lambda v, s=shape: v.reshape(s), lambda v, s=shape: v.reshape(s), x, symbolic=False)
    check(lambda v: v.reshape((2, -1)), lambda v: v.reshape(2, -1), x)
    check(lambda v: v.reshape(2, -1), lambda v: v.reshape(2, -1), x)


def test_reshape_to_symbolic_sizes():
    x = sg.array("x", ("n", "m", 3))
    y = x.reshape((x.shape[0] * x.shape[1], 3))
    assert str(y.type) == "float32[m*n, 3]"
    assert y.reshape(x.shape).type == x.type
    assert str(x.reshape((-1, 3)).type) == "float32[m*n, 3]"
    assert str(x.flatten().type) == "float32[3*m*n]"
    assert str(x.reshape((x.shape[1], -1)).type) == "float32[m, 3*n]"
    assert graph_guards([y.reshape(x.shape)]) == []


def test_reshape_guards_what_it_cannot_decide():
    x = sg.array("x", ("n",))
    y = x.reshape((-1, 4))
    assert y.eval({x: np.zeros(8, "f")}).shape == (2, 4)
    with pytest.raises(sg.ShapeError, match="reshape of .* number of elements"):
        y.eval({x: np.zeros(9, "f")})


def test_reshape_errors():
    x = sg.array("x", (2, 3))
    with pytest.raises(sg.ShapeError, match="6 elements, which 4 does not divide"):
        x.reshape(4, -1)
    with pytest.raises(sg.ShapeError, match="only one size can be -1"):
        x.reshape(-1, -1)
    with pytest.raises(sg.ShapeError, match="negative"):
        x.reshape(-2, -3)
    with pytest.raises(sg.ShapeError, match="ndim=2 but 1"):
        sg.reshape(x, (6,), ndim=2)
    with pytest.raises(sg.GraphError, match="computed from data"):
        x.reshape((sg.vector("v").sum().astype("int64"), 2))


@given(permutations(), st.data(), seeds)
def test_axis_functions(case, data, seed):
    shape, axes = case
    x = values(shape, "int16", seed)
    n = len(shape)
    if n:
        i, j = data.draw(st.tuples(*[st.integers(-n, n - 1)] * 2))
        check(lambda v: sg.swapaxes(v, i, j), lambda v: np.swapaxes(v, i, j), x)
        check(lambda v: sg.moveaxis(v, i, j), lambda v: np.moveaxis(v, i, j), x)
        check(lambda v: sg.flip(v, i), lambda v: np.flip(v, i), x)
        new = (i % n, n + 1)
        check(lambda v: sg.expand_dims(v, new), lambda v: np.expand_dims(v, new), x)
    check(lambda v: sg.moveaxis(v, axes, range(n)), lambda v: np.moveaxis(v, axes, range(n)), x)
    check(lambda v: sg.flip(v), np.flip, x)
    check(lambda v: sg.squeeze(v), np.squeeze, x, symbolic=False)
    check(lambda v: sg.atleast_1d(v), np.atleast_1d, x)
    check(lambda v: sg.atleast_2d(v), np.atleast_2d, x)
    check(lambda v: sg.ravel(v), np.ravel, x)


def test_dimshuffle():
    x = values((2, 1, 3), "float32", 0)
    check(lambda v: v.dimshuffle(2, "x", 0), lambda v: v[:, 0].T[:, None], x)
    check(lambda v: v.dimshuffle([0, 2]), lambda v: v[:, 0], x)
    y = sg.array("y", (None, 3))
    with pytest.raises(sg.ShapeError, match="broadcast_to: axis 0 of x"):
        y.dimshuffle(1).eval({y: np.zeros((2, 3), "f")})
    with pytest.raises(sg.ShapeError, match="squeeze: axis 1 has size 3, not 1"):
        y.dimshuffle(0)
    with pytest.raises(sg.AxisError, match="names an axis twice"):
        y.dimshuffle(0, 0)


def test_squeeze_of_a_symbolic_axis_is_guarded():
    x = sg.array("x", (None, 3))
    assert sg.squeeze(x, 0).eval({x: np.ones((1, 3), "f")}).shape == (3,)
    with pytest.raises(sg.ShapeError):
        sg.squeeze(x, 0).eval({x: np.ones((0, 3), "f")})


def test_broadcast_arrays():
    a, b = values((3, 1), "int8", 0), values((4,), "float32", 1)
    check(sg.broadcast_arrays, np.broadcast_arrays, a, b, symbolic=False)
    with pytest.raises(sg.ShapeError, match="do not broadcast: axis 0 has sizes 3 and 4"):
        sg.broadcast_arrays(sg.array("a", (3,)), sg.array("b", (4,)))


# --- joining ---


@given(shapes(min_dims=1, max_dims=3), st.data(), seeds)
def test_joining(shape, data, seed):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    a, b = values(shape, "int32", seed), values(shape, "float32", seed + 1)
    # integer with float keeps the float's dtype, so compare on the promoted operands
    lift = lambda f: lambda u, v: f([u.astype(np.float32), v])  # noqa: E731
    both = lambda f, *p: lambda u, v: f([u, v], *p)  # noqa: E731
    check(both(sg.concatenate, axis), lift(lambda p: np.concatenate(p, axis)), a, b)
    check(both(sg.concatenate, None), lift(lambda p: np.concatenate(p, None)), a, b)
    check(both(sg.stack, axis), lift(lambda p: np.stack(p, axis)), a, b)
    check(both(sg.hstack), lift(np.hstack), a, b)
    check(both(sg.vstack), lift(np.vstack), a, b)


def test_join_names():
    a, b = values((2, 3), "float32", 0), values((2, 3), "float32", 1)
    check(lambda u, v: sg.join(1, u, v), lambda u, v: np.concatenate([u, v], 1), a, b)
    nested = lambda u, v: sg.stacklists([[u, v], [v, u]])  # noqa: E731
    check(nested, lambda u, v: np.array([[u, v], [v, u]]), a, b)


@given(st.integers(0, 12), st.integers(1, 5), seeds)
def test_split(n, count, seed):
    x = values((2, n), "float32", seed)
    check(
        lambda v: sg.array_split(v, count, 1),
        lambda v: np.array_split(v, count, 1),
        x,
        symbolic=False,
    )
    ends = sorted({1, count, n // 2})
    check(lambda v: sg.split(v, ends, 1), lambda v: np.split(v, ends, 1), x)
    if n % count == 0:
        check(lambda v: sg.split(v, count, 1), lambda v: np.split(v, count, 1), x)
    else:
        with pytest.raises(sg.ShapeError, match="are not equal"):
            sg.split(sg.array("x", (2, n)), count, 1)


@given(shapes(max_dims=3), st.lists(st.integers(0, 3), min_size=0, max_size=4), seeds)
def test_tile(shape, reps, seed):
    x = values(shape, "int8", seed)
    check(lambda v: sg.tile(v, tuple(reps)), lambda v: np.tile(v, tuple(reps)), x)


@given(shapes(min_dims=1), st.integers(0, 3), st.data(), seeds)
def test_repeat(shape, count, data, seed):
    axis = data.draw(st.one_of(st.none(), st.integers(-len(shape), len(shape) - 1)))
    x = values(shape, "int8", seed)
    check(lambda v: sg.repeat(v, count, axis), lambda v: np.repeat(v, count, axis), x)


@given(shapes(min_dims=1), st.integers(-12, 12), st.data(), seeds)
def test_roll(shape, shift, data, seed):
    axis = data.draw(st.one_of(st.none(), st.integers(-len(shape), len(shape) - 1)))
    x = values(shape, "int8", seed)
    check(lambda v: sg.roll(v, shift, axis), lambda v: np.roll(v, shift, axis), x)


def test_roll_several_axes():
    x = values((3, 4), "int8", 0)
    check(lambda v: sg.roll(v, (1, -2), (0, 1)), lambda v: np.roll(v, (1, -2), (0, 1)), x)


# --- padding ---

PADS = st.integers(0, 9)


@given(shapes(min_dims=1, max_dims=2), st.data(), seeds)
def test_pad_constant(shape, data, seed):
    pairs = data.draw(st.tuples(*[st.tuples(PADS, PADS)] * len(shape)))
    fill = data.draw(st.sampled_from([0, 5, ((1, 2),), 3]))
    x = values(shape, "float32", seed)
    arguments = {"mode": "constant", "constant_values": fill}
    check(lambda v: sg.pad(v, pairs, **arguments), lambda v: np.pad(v, pairs, **arguments), x)


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric", "wrap"])
@given(shapes(min_dims=1, max_dims=2, min_side=1), st.data(), seeds)
def test_pad_extended(mode, shape, data, seed):
    pairs = data.draw(st.tuples(*[st.tuples(PADS, PADS)] * len(shape)))
    x = values(shape, "float32", seed)
    check(lambda v: sg.pad(v, pairs, mode), lambda v: np.pad(v, pairs, mode), x, symbolic=False)
    narrow = [tuple(min(w, n - 1) for w in pair) for pair, n in zip(pairs, shape)]
    if all(n > 1 for n in shape):
        check(lambda v: sg.pad(v, narrow, mode), lambda v: np.pad(v, narrow, mode), x)


def test_pad_arguments():
    x = values((2, 3), "int8", 0)
    for width in [1, (1, 2), ((1, 2),), ((1, 2), (0, 3)), np.array([[1, 0], [0, 1]])]:
        check(lambda v, w=width: sg.pad(v, w), lambda v, w=width: np.pad(v, w), x)
    node = sg.array("x", (2, 3), "int8")
    with pytest.raises(sg.DTypeError, match="fill value 1000 does not fit int8"):
        sg.pad(node, 1, constant_values=1000)
    with pytest.raises(sg.GraphError, match="expected constant, edge"):
        sg.pad(node, 1, "maximum")
    with pytest.raises(sg.ShapeError, match="negative"):
        sg.pad(node, -1)
    with pytest.raises(sg.ShapeError, match="does not fit rank 2"):
        sg.pad(node, ((1, 1),) * 3)
    n = sg.scalar("n", "int64")
    assert sg.pad(node, ((0, n), (0, 0))).eval({node: x, n: 2}).shape == (4, 3)


# --- creation ---


def test_filled():
    for shape in [(), 3, (2, 0), (2, 3)]:
        assert sg.zeros(shape).eval().dtype == np.float32
        np.testing.assert_array_equal(sg.zeros(shape, "int8").eval(), np.zeros(shape, "int8"))
        np.testing.assert_array_equal(sg.ones(shape).eval(), np.ones(shape, "float32"))
        np.testing.assert_array_equal(sg.full(shape, 7).eval(), np.full(shape, 7))
    x = sg.array("x", ("n", 2), "float16")
    assert sg.zeros_like(x).type == x.type
    assert sg.ones_like(x, "int8").eval({x: np.zeros((3, 2), "float16")}).tolist() == [[1, 1]] * 3
    y = sg.zeros((x.shape[0] + 1, 4))
    assert str(y.type) == "float32[n + 1, 4]"
    assert sg.alloc(np.float32(2), 2, 3).eval().tolist() == [[2.0] * 3] * 2
    with pytest.raises(sg.ShapeError, match="negative"):
        sg.zeros((2, -1))


@given(st.integers(-6, 6), st.integers(-6, 6), st.sampled_from([1, 2, 3, -1, -2]))
def test_arange_of_integers(start, stop, step):
    got = sg.arange(start, stop, step).eval()
    np.testing.assert_array_equal(got, np.arange(start, stop, step))
    a, b = sg.scalar("a", "int64"), sg.scalar("b", "int64")
    got = sg.arange(a, b, step).eval({a: start, b: stop})
    np.testing.assert_array_equal(got, np.arange(start, stop, step))


def test_arange_of_floats_and_linspace():
    np.testing.assert_allclose(sg.arange(0.0, 1.0, 0.1).eval(), np.arange(0, 1, 0.1), rtol=1e-6)
    assert sg.arange(3.0).eval().dtype == np.float32
    assert sg.arange(3).eval().dtype == np.int64
    for n in (0, 1, 2, 7):
        for endpoint in (True, False):
            got = sg.linspace(-1, 3, n, endpoint, "float64").eval()
            np.testing.assert_allclose(got, np.linspace(-1, 3, n, endpoint), atol=1e-15)
    a = sg.scalar("a")
    np.testing.assert_allclose(sg.linspace(0, a * 2, 3).eval({a: 4}), [0, 4, 8])


@given(st.integers(0, 5), st.integers(0, 5), st.integers(-6, 6), seeds)
def test_diagonals_and_triangles(n, m, k, seed):
    np.testing.assert_array_equal(sg.eye(n, m, k).eval(), np.eye(n, m, k, dtype="f"))
    np.testing.assert_array_equal(sg.tri(n, m, k).eval(), np.tri(n, m, k, dtype="f"))
    matrix, vector = values((n, m), "float32", seed), values((n,), "float32", seed)
    check(lambda v: sg.tril(v, k), lambda v: np.tril(v, k), matrix)
    check(lambda v: sg.triu(v, k), lambda v: np.triu(v, k), matrix)
    check(lambda v: sg.diag(v, k), lambda v: np.diag(v, k), vector)
    if n and m:
        check(lambda v: sg.diag(v, k), lambda v: np.diag(v, k), matrix)
        check(lambda v: sg.trace(v, k), lambda v: np.trace(v, k), matrix, tolerance=1e-6)
    cube = values((n, 2, m), "float32", seed)
    check(lambda v: sg.diagonal(v, k, 2, 0), lambda v: np.diagonal(v, k, 2, 0), cube)


def test_gradients_of_shaping():
    x = values((3, 3), "float64", 0)
    check_gradient(lambda v: sg.diagonal(v, 1) ** 2, x)
    check_gradient(lambda v: sg.diag(v[0], -1) ** 2, x)
    check_gradient(lambda v: sg.tril(v) ** 2, x)
    check_gradient(lambda v: sg.roll(v, 2, 1) ** 2, x)
    check_gradient(lambda v: sg.tile(v, (2, 1)) ** 2, x)
    check_gradient(lambda v: sg.repeat(v, 2, 0) ** 2, x)
    for mode in ("constant", "edge", "reflect", "symmetric", "wrap"):
        check_gradient(lambda v, m=mode: sg.pad(v, 2, m) ** 2, x)
    check_gradient(lambda v: sg.split(v, 3, 1)[1] ** 2, x)
    check_gradient(lambda v: sg.flip(v) ** 2, x)


def test_broadcast_marks():
    x = sg.array("x", ("n", 3))
    row = sg.addbroadcast(x, 0)
    assert row.array_type.shape[0] == 1 and row.broadcastable == (True, False)
    assert sg.patternbroadcast(x, (True, False)) is row and sg.unbroadcast(x, 0) is x
    assert (row + np.zeros((4, 3), "f")).eval({x: np.ones((1, 3), "f")}).shape == (4, 3)
    with pytest.raises(sg.ShapeError, match="broadcast_to: axis 0 of x: expected n == 1, got 2"):
        row.eval({x: np.ones((2, 3), "f")})
    same = sg.identity_like(x).eval({x: np.ones((2, 3), "f")})
    assert same.tolist() == [[1, 0, 0], [0, 1, 0]]


@given(shapes(min_dims=1, min_side=1), st.data(), seeds)
def test_diff_and_kron(shape, data, seed):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = values(shape, "int32", seed)
    check(lambda v: sg.diff(v, 1, axis), lambda v: np.diff(v, 1, axis), x)
    y = values(shape[::-1], "int32", seed + 1)
    check(sg.kron, np.kron, x, y, symbolic=False)
