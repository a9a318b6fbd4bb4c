"""Reverse mode, its options and errors; forward mode, Jacobians, Hessians; altered gradients."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symgraph.derivatives import Rop, hessian, hvp, jacobian
from symgraph.errors import DisconnectedInputError, DTypeError, GraphError, ShapeError, VerifyError
from symgraph.evaluate import evaluate
from symgraph.expr import Expr
from symgraph.grad import Lop, grad
from symgraph.leaves import array, constant, shared
from symgraph.ops import elementwise as ew
from symgraph.ops.gradient import (
    disconnected_grad,
    grad_clip,
    grad_scale,
    stop_gradient,
    surrogate_gradient,
)
from symgraph.verify import verify_grad

X3 = np.array([0.3, -1.2, 2.0])


def vector64(name: str = "x", size: int | str | None = 3) -> Expr:
    return array(name, (size,), "float64")


# --- the engine ---


def broadcastable(target: tuple[int, ...]) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes that broadcast to `target`: leading axes dropped, others made 1."""
    return st.tuples(
        st.integers(0, len(target)),
        st.lists(st.booleans(), min_size=len(target), max_size=len(target)),
    ).map(lambda c: tuple(1 if one else n for n, one in zip(target, c[1]))[c[0] :])


SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@given(st.data())
def test_gradient_is_summed_over_broadcast_axes(data: st.DataObject) -> None:
    target = data.draw(SHAPES)
    a, b = data.draw(broadcastable(target)), data.draw(broadcastable(target))
    x, y = array("x", a, "float64"), array("y", b, "float64")
    rng = np.random.default_rng(0)
    xv, yv = rng.normal(size=a), rng.normal(size=b)
    gx, gy = grad((x * y + ew.sin(x)).sum(), [x, y])
    assert (gx.type, gy.type) == (x.type, y.type)
    full = np.broadcast_shapes(a, b)
    want_x = unbroadcast(np.broadcast_to(yv, full) + np.cos(np.broadcast_to(xv, full)), a)
    want_y = unbroadcast(np.broadcast_to(xv, full), b)
    got_x, got_y = evaluate([gx, gy], {x: xv, y: yv})
    np.testing.assert_allclose(got_x, want_x, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(got_y, want_y, rtol=1e-13, atol=1e-13)


def unbroadcast(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    lead = value.ndim - len(shape)
    value = value.sum(axis=tuple(range(lead)))
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and value.shape[i] != 1)
    return value.sum(axis=axes, keepdims=True)


def test_chain_of_100_000_nodes_is_linear() -> None:
    x = array("x", (), "float64")
    y = x
    for _ in range(100_000):
        y = y * 1.00001
    start = time.perf_counter()
    g = grad(y, x)
    assert time.perf_counter() - start < 60
    assert np.isclose(evaluate(g, {x: np.array(2.0)}), 1.00001**100_000)


def test_shared_subexpressions_are_visited_once() -> None:
    x = array("x", (), "float64")
    y = x
    for _ in range(60):  # 2**60 paths
        y = y + y
    assert evaluate(grad(y, x), {x: np.array(1.0)}) == 2.0**60


def test_cotangents_of_many_users_add_up() -> None:
    x = array("x", (), "float64")
    cost = constant(0.0, "float64")
    for k in range(1000):
        cost = cost + x * float(k)
    assert evaluate(grad(cost, x), {x: np.array(0.0)}) == 999 * 500


def test_result_is_like_wrt() -> None:
    x, y = vector64("x"), vector64("y")
    cost = (x * y).sum()
    assert isinstance(grad(cost, x), Expr)
    assert isinstance(grad(cost, [x, y]), list)
    assert isinstance(grad(cost, (x, y)), tuple)
    with pytest.raises(GraphError, match="expected an expression, or a list or tuple"):
        grad(cost, {x, y})  # type: ignore[arg-type]
    with pytest.raises(GraphError, match="grad: expected expressions, got 'x'"):
        grad(cost, ["x"])  # type: ignore[list-item]


def test_wrt_intermediate_and_its_ancestor() -> None:
    x = vector64()
    h = ew.exp(x)
    gh, gx = grad((h * h).sum(), [h, x])
    got = evaluate([gh, gx], {x: X3})
    np.testing.assert_allclose(got[0], 2 * np.exp(X3))
    np.testing.assert_allclose(got[1], 2 * np.exp(2 * X3))


def test_wrt_the_cost_itself_and_shared_variables() -> None:
    w = shared(np.array([1.0, 2.0]), "w")
    cost = (w * w).sum()
    assert evaluate(grad(cost, cost)) == 1.0
    np.testing.assert_array_equal(evaluate(grad(cost, w)), [2.0, 4.0])


def test_dtypes_follow_the_inputs() -> None:
    x = array("x", (3,), "float32")
    y = array("y", (3,), "float64")
    gx, gy = grad((x * y).sum(), [x, y])
    assert (gx.dtype, gy.dtype) == ("float32", "float64")


def test_new_nodes_get_the_site_of_what_they_derive() -> None:
    x = array("x", (), "float64")
    y = ew.sin(x)
    g = grad(y * 3.0, x)
    assert any(node.op.name == "cos" and node.site == y.site for node in g.inputs)


def test_symbolic_sizes() -> None:
    x = vector64("x", "n")
    g = grad((x.mean() * x).sum(), x)
    assert g.type == x.type
    np.testing.assert_allclose(evaluate(g, {x: X3}), np.full(3, 2 * X3.mean()))


def test_integers_on_the_way_give_zeros() -> None:
    x = vector64()
    cost = (ew.floor(x) + x.astype("int32").astype("float64")).sum()
    np.testing.assert_array_equal(evaluate(grad(cost, x), {x: X3}), np.zeros(3))


def test_complex_gradient_is_that_of_finite_differences() -> None:
    z = np.array([1.0 + 2.0j, -0.5 + 0.3j])
    verify_grad(lambda z: ew.abs(ew.exp(z) * z) ** 2, [z])
    verify_grad(lambda z, x: z * x, [z, np.array([0.5, 2.0])])
    verify_grad(lambda x: ew.real(x.astype("complex128") * (1.0 + 2.0j)), [X3])


# --- options and errors ---


def test_cost_must_be_a_scalar_float() -> None:
    x = vector64()
    with pytest.raises(ShapeError) as error:
        grad(x * 2.0, x)
    assert error.value.message == "grad: the cost must be a scalar, got float64[3]"
    with pytest.raises(DTypeError, match="the cost must be a real float, got int64"):
        grad(constant(3), x)
    with pytest.raises(GraphError, match="expected a cost or known_grads"):
        grad(None, x)


def test_cotangent_makes_a_vector_jacobian_product() -> None:
    x = vector64()
    v = np.array([1.0, 0.0, -2.0])
    np.testing.assert_allclose(evaluate(grad(ew.sin(x), x, cotangent=v), {x: X3}), v * np.cos(X3))
    with pytest.raises(ShapeError, match=r"expected a cotangent of float64\[3\]"):
        grad(ew.sin(x), x, cotangent=np.ones(4))
    with pytest.raises(DTypeError, match="has no cotangent"):
        grad(x.astype("int32"), x, cotangent=np.ones(3))


def test_disconnected_inputs() -> None:
    x, y = vector64("x"), vector64("y")
    cost = x.sum()
    with pytest.raises(DisconnectedInputError, match="the cost does not depend on y"):
        grad(cost, y)
    assert grad(cost, [x, y], disconnected_inputs="none")[1] is None
    for policy in ("zero", "ignore"):
        zeros = grad(cost, y, disconnected_inputs=policy)
        np.testing.assert_array_equal(evaluate(zeros, {y: X3}), np.zeros(3))
    with pytest.warns(UserWarning, match="does not depend on y"):
        grad(cost, y, disconnected_inputs="warn")
    with pytest.raises(GraphError, match="expected one of raise, zero"):
        grad(cost, y, disconnected_inputs="maybe")


def test_integer_wrt_is_refused() -> None:
    i = array("i", (3,), "int64")
    cost = (i * 0.5).sum()
    with pytest.raises(DTypeError, match="no derivative with respect to integers"):
        grad(cost, i)
    assert grad(cost, i, disconnected_inputs="zero").dtype == "float32"
    assert grad(cost, i, disconnected_inputs="none") is None


def test_consider_constant_blocks_a_path() -> None:
    x = vector64()
    h = ew.exp(x)
    cost = (h * x).sum()
    np.testing.assert_allclose(evaluate(grad(cost, x, consider_constant=[h]), {x: X3}), np.exp(X3))
    with pytest.raises(DisconnectedInputError):
        grad(cost, h, consider_constant=[h])


def test_known_grads_replace_what_flows() -> None:
    x = vector64()
    h = ew.exp(x)
    cost = (h * h).sum()
    g = grad(cost, x, known_grads={h: np.ones(3)})
    np.testing.assert_allclose(evaluate(g, {x: X3}), np.exp(X3))
    g = grad(None, x, known_grads={h: np.ones(3)})
    np.testing.assert_allclose(evaluate(g, {x: X3}), np.exp(X3))
    g = grad(x.sum(), x, known_grads={h: np.ones(3)})  # both add
    np.testing.assert_allclose(evaluate(g, {x: X3}), np.exp(X3) + 1)


# --- gradients altered on the way ---


def test_stopped_gradients() -> None:
    x = vector64()
    cost = (stop_gradient(x) * x).sum()
    np.testing.assert_array_equal(evaluate(grad(cost, x), {x: X3}), X3)
    np.testing.assert_array_equal(evaluate(grad(stop_gradient(x).sum(), x), {x: X3}), np.zeros(3))
    with pytest.raises(DisconnectedInputError):
        grad(disconnected_grad(x).sum(), x)
    np.testing.assert_array_equal(evaluate(stop_gradient(x), {x: X3}), X3)


def test_scaled_clipped_and_surrogate_gradients() -> None:
    x = vector64()
    g = grad((grad_scale(x, -0.5) * 3.0).sum(), x)
    np.testing.assert_array_equal(evaluate(g, {x: X3}), np.full(3, -1.5))
    g = grad((grad_clip(x, -1.0, 1.0) ** 2).sum(), x)
    np.testing.assert_array_equal(evaluate(g, {x: X3}), np.clip(2 * X3, -1, 1))
    y = surrogate_gradient(ew.rint(x), x)
    np.testing.assert_array_equal(evaluate(y, {x: X3}), np.rint(X3))
    np.testing.assert_array_equal(evaluate(grad((y * y).sum(), x), {x: X3}), 2 * np.rint(X3))
    assert y.op.expand(*y.inputs) is y.inputs[0]
    with pytest.raises(DTypeError, match="expected a float"):
        grad_scale(array("i", (3,), "int32"), 2.0)


# --- forward mode and matrices ---


def test_lop_and_rop_are_transposes() -> None:
    x, y = vector64("x"), array("y", (2, 3), "float64")
    f = (ew.tanh(x * y).sum(axis=1), ew.exp(x) * y.sum())
    rng = np.random.default_rng(1)
    u = (rng.normal(size=2), rng.normal(size=3))
    v = [rng.normal(size=3), rng.normal(size=(2, 3))]
    values = {x: X3, y: rng.normal(size=(2, 3))}
    left = evaluate(Lop(f, [x, y], u), values)
    right = evaluate(list(Rop(f, [x, y], v)), values)
    assert np.isclose(
        sum((a * b).sum() for a, b in zip(left, v)), sum((a * b).sum() for a, b in zip(right, u))
    )


def test_rop_of_square_and_of_deep_chain() -> None:
    x, v = vector64("x"), vector64("v")
    np.testing.assert_allclose(evaluate(Rop(x**2, x, v), {x: X3, v: X3}), 2 * X3 * X3)
    y = x
    for _ in range(3000):
        y = ew.sin(y) + x
    start = time.perf_counter()
    Rop(y, x, v)
    assert time.perf_counter() - start < 20
    with pytest.raises(DisconnectedInputError):
        Rop(v, x, v)


@pytest.mark.parametrize("size", [3, "n", 0, 1])
def test_jacobian_and_hessian(size: int | str) -> None:
    x = vector64("x", size)
    value = X3 if isinstance(size, str) else X3[:size]
    n = len(value)
    f = ew.sin(x) * x.sum()
    want = np.diag(np.cos(value) * value.sum()) + np.sin(value)[:, None] * np.ones((n, n))
    np.testing.assert_allclose(evaluate(jacobian(f, x), {x: value}), want, atol=1e-15)
    cost = (x**3).sum() * x.sum()
    want = np.diag(6 * value * value.sum()) + 3 * (value**2)[:, None] + 3 * (value**2)[None, :]
    got = evaluate(hessian(cost, x), {x: value})
    np.testing.assert_allclose(got, want, atol=1e-13)
    vector = np.arange(n) + 1.0
    np.testing.assert_allclose(
        evaluate(hvp(cost, x, vector), {x: value}), want @ vector, atol=1e-12
    )


def test_jacobian_of_matrices_and_lists() -> None:
    w, x = array("w", (2, 3), "float64"), vector64()
    f = (w * x) ** 2
    jw, jx = jacobian(f, [w, x])
    assert jw.type.shape == (2, 3, 2, 3) and jx.type.shape == (2, 3, 3)
    rng = np.random.default_rng(2)
    wv = rng.normal(size=(2, 3))
    got = evaluate(jx, {w: wv, x: X3})
    want = np.zeros((2, 3, 3))
    for i in range(2):
        for k in range(3):
            want[i, k, k] = 2 * wv[i, k] ** 2 * X3[k]
    np.testing.assert_allclose(got, want)
    scalar = jacobian(f.sum(), x)
    assert scalar.type.shape == (3,)


def test_third_derivative() -> None:
    x = array("x", (), "float64")
    g = grad(grad(grad(ew.exp(x * 2.0), x), x), x)
    assert np.isclose(evaluate(g, {x: np.array(0.3)}), 8 * np.exp(0.6))


# --- verify_grad ---


def test_verify_grad_accepts_right_and_refuses_wrong() -> None:
    verify_grad(lambda x, y: [ew.sin(x) * y, x + y], [X3, X3 + 1])
    verify_grad(lambda x, i: x * i, [X3, np.arange(3)])
    with pytest.raises(VerifyError, match="finite differences give"):
        verify_grad(lambda x: stop_gradient(x) * x, [X3])
