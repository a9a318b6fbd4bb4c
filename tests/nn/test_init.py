"""Initial values: their statistics, their seeds, and what makes a parameter of them."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

import symgraph as sg
from symgraph.nn import init

SHAPE = (300, 200)  # fan in 300, fan out 200
#: initializer -> (standard deviation, largest magnitude or None)
EXPECTED = {
    "normal": (0.01, None),
    "uniform": (0.05 / math.sqrt(3), 0.05),
    "glorot_uniform": (math.sqrt(2 / 500), math.sqrt(6 / 500)),
    "glorot_normal": (math.sqrt(2 / 500), None),
    "he_uniform": (math.sqrt(2 / 300), math.sqrt(6 / 300)),
    "he_normal": (math.sqrt(2 / 300), None),
    "lecun_uniform": (math.sqrt(1 / 300), math.sqrt(3 / 300)),
    "lecun_normal": (math.sqrt(1 / 300), None),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_spread_and_centre(name: str) -> None:
    std, limit = EXPECTED[name]
    values = getattr(init, name)(SHAPE, init.generator(7))
    count = values.size
    assert values.shape == SHAPE
    assert abs(values.mean()) < 5 * std / math.sqrt(count)
    assert values.std() == pytest.approx(std, rel=5 / math.sqrt(count))
    if limit is None:
        assert (np.abs(values) > 2 * std).mean() == pytest.approx(0.0455, abs=0.005)
    else:
        assert np.abs(values).max() <= limit < 1.001 * np.abs(values).max()


def test_options_of_initializers() -> None:
    rng = init.generator(0)
    assert np.array_equal(init.constant((2, 3), rng, value=4), np.full((2, 3), 4.0))
    assert not init.zeros((4,), rng).any() and (init.ones((4,), rng) == 1).all()
    wide = init.normal((10000,), rng, mean=3, std=2)
    assert wide.mean() == pytest.approx(3, abs=0.1) and wide.std() == pytest.approx(2, rel=0.05)
    plain, doubled = (init.he_normal(SHAPE, init.generator(3), gain=g) for g in (1.0, 2.0))
    np.testing.assert_allclose(doubled, 2 * plain)


@pytest.mark.parametrize("shape", [(5, 5), (7, 4), (4, 7), (6, 2, 3)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape: tuple[int, ...]) -> None:
    q = init.orthogonal(shape, init.generator(1)).reshape(shape[0], -1)
    product = q.T @ q if q.shape[0] >= q.shape[1] else q @ q.T
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-12)


def test_orthogonal_is_uniform_over_signs() -> None:
    rng = init.generator(0)
    traces = [np.trace(init.orthogonal((3, 3), rng)) for _ in range(400)]
    assert abs(np.mean(traces)) < 5 / math.sqrt(400)  # a QR without the signs is biased


def test_fans() -> None:
    assert init.fans((3, 5)) == (3, 5)
    assert init.fans((8, 4, 3, 3)) == (36, 72)  # [outputs, inputs, height, width]
    with pytest.raises(sg.ShapeError, match=r"initializer: expected rank 2 or more, got shape \(3"):
        init.fans((3,))


def test_seed_fixes_the_values_and_a_generator_goes_on() -> None:
    first, again, other = (init.he_normal(SHAPE, init.generator(s)) for s in (5, 5, 6))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    rng = init.generator(5)
    assert np.array_equal(init.he_normal(SHAPE, rng), first)
    assert not np.array_equal(init.he_normal(SHAPE, init.generator(rng)), first)


@pytest.mark.parametrize("seed", [-1, 1.5, True, None, "0"])
def test_wrong_seed_is_refused(seed: object) -> None:
    with pytest.raises(sg.GraphError, match="expected a seed >= 0 or a numpy Generator"):
        init.generator(seed)  # type: ignore[arg-type]


def test_parameter_takes_a_function_a_number_or_an_array() -> None:
    made = init.parameter(partial(init.uniform, low=2, high=3), (4, 5), 0, "w")
    assert made.name == "w" and str(made.dtype) == "float32"
    assert 2 <= made.get_value().min() and made.get_value().max() <= 3
    assert np.array_equal(
        init.parameter(0.5, (3,), 0, "b").get_value(), np.full(3, np.float32(0.5))
    )
    values = np.arange(6.0).reshape(2, 3)
    taken = init.parameter(values, (2, 3), 0, "w", "float64")
    assert str(taken.dtype) == "float64" and np.array_equal(taken.get_value(), values)
    with pytest.raises(sg.ShapeError) as caught:
        init.parameter(values, (3, 2), 0, "dense.weight")
    assert caught.value.message == (
        "dense.weight: expected an initial value of shape (3, 2), got (2, 3)"
    )
