"""Loops and choices: values against Python, gradients against differences, regions, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symgraph.derivatives import Rop, hessian, jacobian
from symgraph.errors import DTypeError, GraphError, ShapeError
from symgraph.evaluate import evaluate
from symgraph.expr import Expr, substitute, toposort
from symgraph.grad import grad
from symgraph.leaves import array, constant, scalar
from symgraph.ops import elementwise as ew
from symgraph.ops.branch import Cond, cond, ifelse
from symgraph.ops.loop import Scan, loop
from symgraph.ops.scan import scan
from symgraph.ops.shaping import broadcast_to
from symgraph.region import trace
from symgraph.verify import verify_grad


def f64(name: str, *shape: Any) -> Expr:
    return array(name, shape, "float64")


def scans(*outputs: Expr) -> list[Expr]:
    return [x for x in toposort(outputs) if isinstance(x.op, Scan)]


# --- regions ---


def test_equal_bodies_are_equal_regions() -> None:
    w = f64("w", 3)
    a, captured_a = trace(lambda x: [ew.sin(x) * w], [w.array_type])
    b, captured_b = trace(lambda y: [ew.sin(y) * w], [w.array_type])
    assert a == b and hash(a) == hash(b)
    assert captured_a == captured_b and captured_a[0] is w
    x, xs = f64("x", 3), f64("xs", "n", 3)
    first, _ = loop(lambda c, r: (c * r, None), x, xs)
    second, _ = loop(lambda c, r: (c * r, None), x, xs)
    assert first is second


def test_invariants_are_captured_whole_and_constants_stay_inside() -> None:
    w, x = f64("w", 3), f64("x", 3)
    region, captured = trace(lambda h: [h + ew.exp(w * 2.0) + x + 1.0], [w.array_type])
    assert [c.op.name for c in captured] == ["exp", "input"]
    assert len(region.params) == 3


def test_a_broadcast_is_captured_unbroadcast() -> None:
    w = f64("w")
    region, captured = trace(
        lambda h: [h + broadcast_to(w.reshape((1,)), (1000,))], [f64("h", 1000).array_type]
    )
    assert [c.array_type.shape for c in captured] == [(1,)]


def test_a_step_variable_cannot_be_a_size() -> None:
    xs = array("xs", ("n",), "int64")
    with pytest.raises(GraphError, match="computed from data"):
        scan(lambda i: broadcast_to(1.0, (i,)), sequences=xs)


# --- loop: values ---


@given(
    st.integers(0, 5),
    st.booleans(),
    st.booleans(),
)
def test_loop_is_the_python_loop(n: int, reverse: bool, symbolic: bool) -> None:
    xs, w = f64("xs", "n" if symbolic else n, 2), f64("w", 2)
    h0 = f64("h0", 2)

    def step(h: Expr, x: Expr) -> tuple[Expr, tuple[Expr, Expr]]:
        new = ew.tanh(h * w + x)
        return new, (new, h * x)

    final, (states, products) = loop(step, h0, xs, reverse=reverse)
    rng = np.random.default_rng(n)
    values = {xs: rng.normal(size=(n, 2)), w: rng.normal(size=2), h0: rng.normal(size=2)}
    got = evaluate([final, states, products], values)
    h = values[h0]
    want_states, want_products = np.zeros((n, 2)), np.zeros((n, 2))
    for i in reversed(range(n)) if reverse else range(n):
        want_products[i] = h * values[xs][i]
        h = np.tanh(h * values[w] + values[xs][i])
        want_states[i] = h
    for a, b in zip(got, [h, want_states, want_products]):
        np.testing.assert_allclose(a, b, rtol=1e-14)


def test_loop_with_a_length_and_no_sequences() -> None:
    x = f64("x")
    final, none = loop(lambda h: (h * 2.0, None), x, length=10)
    assert none is None
    assert evaluate(final, {x: np.array(1.0)}) == 1024.0
    n = scalar("n", dtype="int64")
    final, ys = loop(lambda h: (h * 2.0, h), x, length=n)
    got = evaluate([final, ys], {x: np.array(1.0), n: np.array(4)})
    assert got[0] == 16.0
    np.testing.assert_array_equal(got[1], [1, 2, 4, 8])


def test_loop_carries_a_tuple_of_any_dtypes() -> None:
    xs = f64("xs", 4)
    (count, total), _ = loop(lambda c, x: ((c[0] + 1, c[1] + x), None), (0, 0.0), xs)
    assert (count.dtype, total.dtype) == ("int64", "float64")
    got = evaluate([count, total], {xs: np.arange(4.0)})
    assert got == [4, 6.0]


def test_python_numbers_take_the_type_of_the_step() -> None:
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        xs = array("xs", (4, 3), dtype)
        total, _ = loop(lambda s, x: (s + x, None), 0.0, xs)
        assert total.type == array("t", (3,), dtype).type
        total, _ = loop(lambda s, x: (s + x, None), 0, xs)
        assert total.dtype == dtype


def test_state_type_errors_name_everything() -> None:
    xs, h = array("xs", (4, 3), "float64"), array("h", (3,), "float32")
    with pytest.raises(DTypeError) as error:
        loop(lambda s, x: (s + x, None), h, xs)
    assert error.value.message == (
        "loop: state 0 (h) starts as float32[3], but the step returns float64[3]"
    )
    assert "astype('float64')" in str(error.value)
    small = array("small", (1,), "float64")
    with pytest.raises(ShapeError) as shape_error:
        loop(lambda s, x: (s + x, None), small, xs)
    assert shape_error.value.message == (
        "loop: state 0 (small) starts as float64[1], but the step returns float64[3]"
    )
    with pytest.raises(GraphError, match=r"must return \(new carry, y\)"):
        loop(lambda s, x: s, small, xs)
    with pytest.raises(GraphError, match="expected sequences or a number of steps"):
        loop(lambda s: (s, None), small)
    with pytest.raises(GraphError, match="returned 2 states for 1"):
        loop(lambda s, x: ((s, s), None), small, xs)


def test_symbolic_lengths_must_be_equal_when_called() -> None:
    a, b = f64("a", "n"), f64("b", "m")
    _, ys = loop(lambda c, x: (c, x[0] * x[1]), 0.0, (a, b))
    np.testing.assert_array_equal(evaluate(ys, {a: np.ones(3), b: np.ones(3)}), np.ones(3))
    with pytest.raises(ShapeError, match="length of sequence 1"):
        evaluate(ys, {a: np.ones(3), b: np.ones(4)})


def test_sizes_inside_a_step_are_guarded() -> None:
    a, b = f64("a", "n", "k"), f64("b", "m")
    _, ys = loop(lambda c, x: (c, (x * b).sum()), 0.0, a)
    assert evaluate(ys, {a: np.ones((3, 2)), b: np.ones(2)}).tolist() == [2.0] * 3
    with pytest.raises(ShapeError):
        evaluate(ys, {a: np.ones((3, 2)), b: np.ones(4)})


def test_more_static_operands_make_more_static_results() -> None:
    xs = f64("xs", "n", "k")
    final, ys = loop(lambda h, x: (h + x, h * x), f64("h0", "k"), xs)
    static = f64("static", 4, 2)
    h0 = next(x for x in toposort([final]) if x.name == "h0")
    start = f64("start", 2)
    new_final, new_ys = substitute([final, ys], [(xs, static), (h0, start)])
    assert new_final.array_type.shape == (2,)
    values = {static: np.ones((4, 2)), start: np.zeros(2)}
    got = evaluate([new_final, new_ys], values)
    assert got[0].tolist() == [4.0, 4.0] and got[1].shape == (4, 2)


# --- gradients of loops ---


def recurrent(reverse: bool = False) -> Any:
    def fun(xs: Expr, h0: Expr, w: Expr, u: Expr) -> list[Expr]:
        def step(h: Expr, x: Expr) -> tuple[Expr, Expr]:
            new = ew.tanh(ew.sin(h) * w + x * u)
            return new, new * x + h

        final, ys = loop(step, h0, xs, reverse=reverse)
        return [final, ys]

    return fun


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("n", [0, 1, 4])
def test_gradient_of_a_loop(n: int, reverse: bool) -> None:
    rng = np.random.default_rng(n)
    points = [rng.normal(size=s) for s in ((n, 2), (2,), (2,), (2,))]
    verify_grad(recurrent(reverse), points)


@pytest.mark.parametrize("reverse", [False, True])
def test_second_and_third_derivatives_of_a_loop(reverse: bool) -> None:
    rng = np.random.default_rng(3)
    points = [rng.normal(size=s) for s in ((3, 2), (2,), (2,), (2,))]

    def first(*xs: Expr) -> list[Expr]:
        final, ys = recurrent(reverse)(*xs)
        return grad((final * final).sum() + ys.sum(), list(xs))

    verify_grad(first, points, tests=1)

    def second(*xs: Expr) -> list[Expr]:
        return grad(sum(((g * g).sum() for g in first(*xs)), constant(0.0, "float64")), list(xs))

    verify_grad(second, points, tests=1, rel_tol=1e-5)


def test_gradient_with_symbolic_length_and_integer_captures() -> None:
    xs, h0, k = f64("xs", "n", 2), f64("h0", 2), array("k", (2,), "int32")
    (h, count), ys = loop(
        lambda c, x: ((ew.tanh(c[0] * x * k), c[1] + 1), c[0] + c[1]), (h0, 0), xs
    )
    cost = h.sum() + ys.sum() + count * 2.0
    gx, gh = grad(cost, [xs, h0])
    assert (gx.type, gh.type) == (xs.type, h0.type)
    rng = np.random.default_rng(0)
    values = {xs: rng.normal(size=(4, 2)), h0: rng.normal(size=2), k: np.array([1, 2], np.int32)}
    got = evaluate([gx, gh], values)
    eps = 1e-6
    for x, g in ((xs, got[0]), (h0, got[1])):
        for index in np.ndindex(values[x].shape):
            up, down = values[x].copy(), values[x].copy()
            up[index] += eps
            down[index] -= eps
            slope = (evaluate(cost, {**values, x: up}) - evaluate(cost, {**values, x: down})) / (
                2 * eps
            )
            assert abs(slope - g[index]) < 1e-6


def test_only_wanted_sums_are_carried_backward() -> None:
    xs, w = f64("xs", 4, 2), f64("w", 2)
    final, _ = loop(lambda h, x: (ew.tanh(h * w + x), None), 0.0, xs)
    backward = [s for s in scans(grad(final.sum(), xs)) if s.op.reverse]  # type: ignore[attr-defined]
    assert [(s.op.states, s.op.outputs) for s in backward] == [(1, 1)]  # type: ignore[attr-defined]
    backward = [s for s in scans(grad(final.sum(), w)) if s.op.reverse]  # type: ignore[attr-defined]
    assert [(s.op.states, s.op.outputs) for s in backward] == [(2, 0)]  # type: ignore[attr-defined]


def test_a_capture_used_twice_and_as_a_sequence() -> None:
    verify_grad(
        lambda x: loop(lambda h, r: (h + r * x[0] * x.sum(), r * h), 1.0, x)[0],
        [np.array([0.3, -1.2, 2.0])],
    )


def test_truncated_gradient_flows_through_the_last_steps() -> None:
    x = f64("x", 4)
    out, _ = scan(lambda a, h: h * 2.0 + a * a, x, constant(0.0, "float64"), truncate_gradient=2)
    full, _ = scan(lambda a, h: h * 2.0 + a * a, x, constant(0.0, "float64"))
    value = np.array([1.0, 2.0, 4.0, 3.0])
    np.testing.assert_array_equal(evaluate(grad(full[-1], x), {x: value}), 2 * value * [8, 4, 2, 1])
    np.testing.assert_array_equal(evaluate(grad(out[-1], x), {x: value}), 2 * value * [0, 0, 2, 1])
    h0, v = f64("h0"), f64("v", "n")
    out, _ = scan(lambda a, h: h * 2.0 + a, v, h0, truncate_gradient=2)
    for n, want in ((1, 2.0), (2, 4.0), (3, 0.0)):
        assert evaluate(grad(out[-1], h0), {v: np.ones(n), h0: np.array(1.0)}) == want


def test_forward_mode_jacobian_and_hessian_through_a_loop() -> None:
    xs, w = f64("xs", 3, 2), f64("w", 2)
    final, ys = loop(lambda h, x: (ew.tanh(h * w + x), h * x), 1.0, xs)
    rng = np.random.default_rng(5)
    values = {xs: rng.normal(size=(3, 2)), w: rng.normal(size=2)}
    full = evaluate(jacobian(final, w), values)
    v = rng.normal(size=2)
    np.testing.assert_allclose(evaluate(Rop(final, w, v), values), full @ v, rtol=1e-12)
    tangent = evaluate(Rop(ys, xs, np.ones((3, 2))), values)
    dense = evaluate(jacobian(ys, xs), values)
    np.testing.assert_allclose(tangent, dense.sum(axis=(2, 3)), rtol=1e-12, atol=1e-15)
    h = evaluate(hessian(final.sum(), w), values)
    np.testing.assert_allclose(h, h.T, rtol=1e-12)


def test_nested_loops() -> None:
    def fun(m: Expr, w: Expr) -> Expr:
        def row(c: Expr, r: Expr) -> tuple[Expr, None]:
            inner, _ = loop(lambda s, e: (ew.sin(s * w + e * c), None), c, r)
            return inner, None

        return loop(row, constant(0.5, "float64"), m)[0]

    rng = np.random.default_rng(7)
    m, w = rng.normal(size=(3, 4)), np.array(0.7)
    verify_grad(fun, [m, w])
    mi, wi = f64("m", "a", "b"), f64("w")
    c = 0.5
    for r in m:
        s = c
        for e in r:
            s = np.sin(s * w + e * c)
        c = s
    assert np.isclose(evaluate(fun(mi, wi), {mi: m, wi: w}), c)


# --- cond ---


def test_cond_computes_the_chosen_arm_only() -> None:
    p, x = scalar("p", dtype="bool"), f64("x", 3)
    ran: list[str] = []
    y = cond(p, lambda: ew.log(x), lambda: ew.sin(x) * 2.0)
    value = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(evaluate(y, {p: np.array(True), x: value}), np.log(value))
    np.testing.assert_allclose(evaluate(y, {p: np.array(False), x: value}), np.sin(value) * 2)
    node = next(n for n in toposort([y]) if isinstance(n.op, Cond))
    evaluate(y, {p: np.array(True), x: value}, observe=lambda n, _: ran.append(n.op.name))
    assert "log" not in ran and "sin" not in ran  # neither is outside of the arms
    assert [i.op.name for i in node.inputs] == ["input", "input"]


def test_cond_shares_what_both_arms_need() -> None:
    p, x = scalar("p", dtype="bool"), f64("x", 3)
    h = ew.exp(x)
    y = cond(p, h * 2.0, h + 1.0)
    node = next(n for n in toposort([y]) if isinstance(n.op, Cond))
    assert [i.op.name for i in node.inputs] == ["input", "exp"]


def test_cond_forms_and_numbers() -> None:
    p, x = scalar("p", dtype="int32"), f64("x")
    a, b = cond(p, lambda t: (t, 1.0), lambda t: (0.0, t * 2.0), x)
    got = evaluate([a, b], {p: np.array(0, np.int32), x: np.array(3.0)})
    assert got == [0.0, 6.0]
    assert isinstance(cond(p, [x, x], [x, x]), list)
    named = ifelse(p > 0, x, x * 2.0, name="chosen")
    assert named.name == "chosen"


def test_cond_errors() -> None:
    p, x = scalar("p", dtype="bool"), f64("x", 3)
    with pytest.raises(DTypeError, match="float64.3. in one arm and float32.3. in the other"):
        cond(p, x, x.astype("float32"))
    with pytest.raises(ShapeError, match="expected a scalar predicate"):
        cond(x > 0, x, x)
    with pytest.raises(ShapeError, match="sizes differ"):
        cond(p, x, constant(np.ones(4)))
    with pytest.raises(GraphError, match="gives 1 results, the other 2"):
        cond(p, x, (x, x))


@pytest.mark.parametrize("chosen", [True, False])
def test_gradients_of_cond(chosen: bool) -> None:
    def fun(x: Expr, w: Expr) -> Expr:
        return cond(constant(chosen), lambda: ew.sin(x) * w, lambda: x * x)

    points = [np.array([0.3, -1.2]), np.array([0.5, 2.0])]
    verify_grad(fun, points)
    verify_grad(lambda x, w: grad(fun(x, w).sum() ** 2, [x, w]), points)


def test_cond_inside_a_loop() -> None:
    def fun(xs: Expr, w: Expr) -> Expr:
        def step(h: Expr, x: Expr) -> tuple[Expr, Expr]:
            new = cond(h > 0.5, lambda: ew.sin(h * w) + x, lambda: h + x * w)
            return new, new

        return loop(step, 0.0, xs)[1]

    verify_grad(fun, [np.array([0.3, 0.9, -0.4, 0.2]), np.array(1.7)])


def test_a_loop_inside_cond() -> None:
    def fun(xs: Expr) -> Expr:
        return cond(
            xs.sum() > 0, lambda: loop(lambda h, x: (h * x + 1, None), 1.0, xs)[0], lambda: xs.sum()
        )

    verify_grad(fun, [np.array([0.3, 0.9, 0.4])])
    verify_grad(fun, [np.array([0.3, -0.9, -0.4])])
