"""Programs that once gave wrong numbers or failed: each the smallest form of what random search found."""

from __future__ import annotations

import numpy as np

import symgraph as sg


# --- shared variables ---


def test_an_update_that_keeps_the_elements_but_not_the_shape() -> None:
    w = sg.shared(np.arange(6, dtype="float32").reshape(2, 3), "w", shape=("rows", "columns"))
    f = sg.function([], w.sum(axis=0), updates={w: w.T + 1})
    assert f().shape == (3,) and w.get_value().shape == (3, 2)
    assert w.get_value().tolist() == [[1, 4], [2, 5], [3, 6]]
    assert f().shape == (2,) and w.get_value().shape == (2, 3)
