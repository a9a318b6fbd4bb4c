"""Programs that once gave wrong numbers or failed, each the smallest that random search found."""

from __future__ import annotations

import numpy as np
import pytest

import symgraph as sg

# --- shared variables ---


def test_an_update_that_keeps_the_elements_but_not_the_shape() -> None:
    w = sg.shared(np.arange(6, dtype="float32").reshape(2, 3), "w", shape=("rows", "columns"))
    f = sg.function([], w.sum(axis=0), updates={w: w.T + 1})
    assert f().shape == (3,) and w.get_value().shape == (3, 2)
    assert w.get_value().tolist() == [[1, 4], [2, 5], [3, 6]]
    assert f().shape == (2,) and w.get_value().shape == (2, 3)


# --- loops ---


def _agree(inputs: list[sg.Expr], outputs: list[sg.Expr], arrays: list[np.ndarray]) -> None:
    expected = sg.evaluate(outputs, dict(zip(inputs, arrays)))
    for got, want in zip(sg.function(inputs, outputs)(*arrays), expected):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


INNER = {
    "initial state": lambda row, h: sg.scan(
        lambda a, g: g * a + row, sequences=row, outputs_info=h
    )[0][-1],
    "sequence": lambda row, h: (
        sg.scan(lambda a, g: g * 0.5 + a, sequences=h, outputs_info=sg.zeros(()))[0] + row
    ),
    "capture": lambda row, h: sg.scan(lambda a: a + h, sequences=row)[0].sum(0),
    "capture in an arm": lambda row, h: sg.cond(
        row.sum() > 0,
        lambda: h * 2 + row,
        lambda: sg.scan(lambda a, g: g + a, sequences=row, outputs_info=h)[0].sum(0),
    ),
    "two loops in": lambda row, h: sg.scan(
        lambda a: sg.scan(lambda b, g: g + a * b, sequences=h, outputs_info=a)[0], sequences=row
    )[0].sum(0),
    "batched product": lambda row, h: (h.reshape((3, 1, 1, 1)) @ row.reshape((1, 3, 1, 1))).reshape(
        (9,)
    )[:3],
}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("use", INNER)
def test_an_inner_loop_reads_the_state_of_the_loop_around_it(use: str, backwards: bool) -> None:
    x = sg.array("x", ("n", 3))
    h, _ = sg.scan(INNER[use], x, sg.ones((3,)), go_backwards=backwards)
    array = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    _agree([x], [h], [array])
    _agree([x], [h[-1]], [array])
    _agree([x], [sg.grad((h * h).sum(), x)], [array])


def test_a_second_derivative_of_a_loop_with_two_taps() -> None:
    x = sg.array("x", ("n", 3))
    initial = {"initial": sg.stack([x[0] * 0, x[0]]), "taps": [-2, -1]}
    y, _ = sg.scan(lambda row, a, b: a * 0.5 + b + row, x, initial)
    first = sg.grad((y**3).sum(), x)
    array = np.random.default_rng(0).normal(size=(3, 3)).astype("float32")
    _agree([x], [y, first, sg.grad(first.sum(), x)], [array])


def test_a_value_that_a_step_stacks_and_a_placement_fills_with() -> None:
    """The zeros around a placed slice are not read from the output that happens to equal them."""
    x = sg.array("x", ("n", 2))

    def step(row: sg.Expr) -> list[sg.Expr]:
        return [sg.pad(row, ((1, 1),)), sg.zeros((4,)) + 0 * row.sum(), sg.zeros((4,))]

    padded, _, zeros = sg.scan(step, x)[0]
    _agree([x], [padded, zeros], [np.ones((3, 2), "float32")])


def test_a_steps_variable_that_escapes_is_refused() -> None:
    x, kept = sg.array("x", ("n", 3)), []
    y, _ = sg.scan(lambda row: (kept.append(row), row * 2)[1], x)
    with pytest.raises(sg.GraphError, match="used outside of the step function"):
        sg.function([x], y + kept[0])
