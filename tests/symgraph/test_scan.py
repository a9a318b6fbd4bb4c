"""scan, map, reduce, foldl and foldr, as in Theano: argument order, taps, updates, results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from symgraph.errors import GraphError, IndexFault, ShapeError
from symgraph.evaluate import evaluate
from symgraph.expr import Expr
from symgraph.leaves import array, constant, scalar, shared
from symgraph.ops.scan import foldl, foldr, map, reduce, scan, until


def f64(name: str, *shape: Any) -> Expr:
    return array(name, shape, "float64")


def test_scan_of_powers_as_in_theanos_tutorial() -> None:
    a, k = f64("a", 3), scalar("k", dtype="int32")
    result, updates = scan(
        lambda prior, a: prior * a,
        outputs_info=constant(np.ones(3)),
        non_sequences=a,
        n_steps=k,
    )
    assert updates == {}
    value = np.array([1.0, 2.0, 3.0])
    got = evaluate(result, {a: value, k: np.array(4, np.int32)})
    np.testing.assert_array_equal(got, [value, value**2, value**3, value**4])


def test_scan_argument_order_and_result_forms() -> None:
    x, y = f64("x", 5), f64("y", 4)
    seen: list[int] = []

    def step(*args: Expr) -> list[Expr]:
        seen.append(len(args))
        a, b, h, w = args
        return [a + b, h + a * w]

    (sums, states), _ = scan(
        step, [x, y], [None, constant(0.0, "float64")], [constant(2.0, "float64")]
    )
    assert seen == [4]
    values = {x: np.arange(5.0), y: np.arange(4.0)}
    got = evaluate([sums, states], values)
    np.testing.assert_array_equal(got[0], 2 * np.arange(4.0))  # the shortest length counts
    np.testing.assert_array_equal(got[1], 2 * np.cumsum(np.arange(4.0)))
    single, _ = scan(lambda a: a * 2.0, x)
    assert isinstance(single, Expr)
    listed, _ = scan(lambda a: a * 2.0, x, return_list=True)
    assert isinstance(listed, list)


def test_scan_n_steps_cuts_and_is_checked() -> None:
    x = f64("x", 5)
    out, _ = scan(lambda a: a * 2.0, x, n_steps=2)
    assert out.array_type.shape == (2,)
    with pytest.raises(ShapeError, match=r"7 steps, but sequence 0 \(x\) has 5"):
        scan(lambda a: a * 2.0, x, n_steps=7)
    v = f64("v", "n")
    out, _ = scan(lambda a: a * 2.0, v, n_steps=3)
    np.testing.assert_array_equal(evaluate(out, {v: np.arange(5.0)}), [0, 2, 4])
    with pytest.raises(IndexFault, match="slice of axis 0: there is no element 2, the last is 1"):
        evaluate(out, {v: np.arange(2.0)})


def test_scan_go_backwards_gives_outputs_in_order_of_execution() -> None:
    x = f64("x", 3)
    out, _ = scan(lambda a, s: s * 10 + a, x, 0.0, go_backwards=True)
    np.testing.assert_array_equal(evaluate(out, {x: np.array([1.0, 2, 3])}), [3, 32, 321])


def test_scan_taps() -> None:
    x = f64("x", 5)
    out, _ = scan(
        lambda past, now, ahead: past + 10 * now + 100 * ahead, dict(input=x, taps=[-1, 0, 1])
    )
    np.testing.assert_array_equal(
        evaluate(out, {x: np.arange(5.0)}), [0 + 10 + 200, 1 + 20 + 300, 2 + 30 + 400]
    )
    first = constant(np.array([0.0, 1.0]))
    fib, _ = scan(lambda a, b: a + b, outputs_info=dict(initial=first, taps=[-2, -1]), n_steps=8)
    np.testing.assert_array_equal(evaluate(fib), [1, 2, 3, 5, 8, 13, 21, 34])
    with pytest.raises(ShapeError, match="need 3 past values"):
        scan(lambda a: a, outputs_info=dict(initial=first, taps=[-3]), n_steps=2)
    with pytest.raises(GraphError, match="must be negative"):
        scan(lambda a: a, outputs_info=dict(initial=first, taps=[0, 1]), n_steps=2)
    with pytest.raises(GraphError, match="expected a dict with 'initial'"):
        scan(lambda a: a, outputs_info=dict(start=first, taps=[-1]), n_steps=2)


def test_scan_taps_backwards() -> None:
    x = f64("x", 4)
    out, _ = scan(lambda a, b: a + 10 * b, dict(input=x, taps=[-1, 0]), go_backwards=True)
    # as in Theano: the sequence is reversed, and the tap -1 is the element before in time
    assert evaluate(out, {x: np.arange(4.0)}).shape == (3,)


def test_scan_updates_of_shared_variables() -> None:
    counter = shared(np.int64(0), "counter")
    x = f64("x", 3)

    def step(a: Expr) -> tuple[Expr, dict[Any, Any]]:
        return a * counter, {counter: counter + 2}

    out, updates = scan(step, x)
    got = evaluate([out, updates[counter]], {x: np.ones(3)})
    np.testing.assert_array_equal(got[0], [0, 2, 4])
    assert got[1] == 6
    nothing, updates = scan(lambda: {counter: counter + 1}, n_steps=5)
    assert nothing is None and evaluate(updates[counter]) == 5
    _, updates = scan(lambda: [(counter, counter + 1)], n_steps=4)
    assert evaluate(updates[counter]) == 4


def test_scan_until_is_refused() -> None:
    with pytest.raises(GraphError, match="until"):
        scan(lambda h: (h * 2.0, until(h > 5.0)), outputs_info=constant(1.0), n_steps=5)


def test_map_reduce_folds() -> None:
    x = f64("x", 4)
    value = {x: np.array([1.0, 2, 3, 4])}
    assert evaluate(map(lambda a: a * a, x)[0], value).tolist() == [1, 4, 9, 16]
    assert evaluate(reduce(lambda a, s: s + a, x, 0.0)[0], value) == 10
    assert evaluate(foldl(lambda a, s: s * 10 + a, x, 0.0)[0], value) == 1234
    assert evaluate(foldr(lambda a, s: s * 10 + a, x, 0.0)[0], value) == 4321
    both, _ = reduce(lambda a, s, p: [s + a, p * a], x, [0.0, 1.0])
    assert evaluate(both, value) == [10, 24]
