"""Winograd's minimal filtering: exact identities, transforms, errors."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ShapeError
from symgraph.expr import apply
from symgraph.ops.winograd import (
    POINTS,
    Winograd,
    amplification,
    as_arrays,
    matrices,
    transformed,
)


@pytest.mark.parametrize("tile", sorted(POINTS))
def test_matrices_filter_exactly(tile: int) -> None:
    """sum over k of A[i, k] G[k, a] B[k, j] is 1 where j = i + a, and 0 elsewhere."""
    result, image, kernel = matrices(tile)
    side = range(tile + 2)
    for i in range(tile):
        for a in range(3):
            for j in side:
                total = sum(result[i][k] * kernel[k][a] * image[k][j] for k in side)
                assert total == (1 if j == i + a else 0)


@pytest.mark.parametrize("tile", sorted(POINTS))
def test_matrices_of_images_and_results_are_exact_floats(tile: int) -> None:
    for matrix in matrices(tile)[:2]:
        for row in matrix:
            assert all(Fraction(float(np.float32(float(x)))) == x for x in row)


def test_amplification() -> None:
    assert amplification(2) == 16
    assert 204 < amplification(4) < 205


@pytest.mark.parametrize("tile", sorted(POINTS))
def test_transformed_kernels(tile: int) -> None:
    w = np.random.default_rng(0).standard_normal((3, 3, 5, 7)).astype("f4")
    _, _, kernel = as_arrays(tile)
    want = np.einsum("ia,jb,abco->ijco", kernel, kernel, w.astype("f8")).reshape(-1, 5, 7)
    x = sg.array("w", w.shape)
    once = sg.evaluate(transformed(sg.constant(w), tile))
    assert np.array_equal(once, want.astype("f4"))
    got = sg.evaluate(transformed(x, tile), {x: w})
    assert np.abs(got - want).max() <= 1e-6 * np.abs(w).max()


def test_shapes_that_do_not_fit() -> None:
    x, u = sg.array("x", (1, 10, 10, 3)), sg.array("u", (36, 3, 5))
    assert apply(Winograd(4, (8, 6)), sg.array("x", (1, 10, 10, 3)), u).array_type.shape[1:] == (
        *(8, 6),
        5,
    )
    with pytest.raises(ShapeError, match="winograd: axis 1 of x"):
        apply(Winograd(4, (9, 8)), x, u)
    with pytest.raises(ShapeError, match="matrices of u"):
        apply(Winograd(2, (8, 8)), x, u)
    with pytest.raises(ShapeError, match=r"expected a tile of \[2, 4\], got 3"):
        apply(Winograd(3, (8, 8)), x, u)
