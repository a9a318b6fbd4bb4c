"""SymPy expressions compiled: values against mpmath's 40 digits, gradients against SymPy's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import sympy as sp

import symgraph as sg
from tests.symgraph.test_from_sympy import INPUTS, POINTS, SMOOTH, STEPS, parse, reference

TOGETHER = 10
RELATIVE = 1e-13
#: allowed beyond that: so many times what one rounding of every argument changes
SWAY = 4.0


def chunks() -> Iterator[list[str]]:
    for start in range(0, len(SMOOTH), TOGETHER):
        yield SMOOTH[start : start + TOGETHER]


def compiled(outputs: list[sg.Expr]) -> list[np.ndarray]:
    """Results on all points, in one native function."""
    inputs = list(INPUTS.values())
    return sg.function(inputs, outputs, on_unused_input="ignore")(*POINTS.values())


def assert_close(text: str, got: np.ndarray, expr: sp.Expr) -> None:
    """Within 1e-13 and the conditioning."""
    if not expr.free_symbols:
        want, sway = np.full(got.shape, float(expr)), np.zeros(got.shape)
    else:
        want, sway = reference(expr)
    excess = np.abs(got - want) - SWAY * sway
    assert (excess <= RELATIVE * np.abs(want)).all(), (text, float(np.max(excess)))


@pytest.mark.parametrize("texts", list(chunks()), ids=lambda texts: texts[0])
def test_values(texts: list[str]) -> None:
    expressions = [parse(text) for text in texts]
    results = compiled([sg.from_sympy(e, INPUTS) for e in expressions])
    for text, expr, got in zip(texts, expressions, results, strict=True):
        if isinstance(expr, sp.logic.boolalg.Boolean):
            want = sp.lambdify(list(POINTS), expr)
            assert got.tolist() == [bool(want(*at)) for at in zip(*POINTS.values())]
        else:
            assert got.dtype == np.float64
            assert_close(text, got, expr)


@pytest.mark.parametrize("texts", list(chunks()), ids=lambda texts: texts[0])
def test_gradients(texts: list[str]) -> None:
    smooth = {text: parse(text) for text in texts if text not in STEPS}
    wanted: list[tuple[str, sp.Expr]] = []
    slopes: list[sg.Expr] = []
    for text, expr in smooth.items():
        if isinstance(expr, sp.logic.boolalg.Boolean):
            continue
        total = sg.from_sympy(expr, INPUTS).sum()
        for s in sorted(expr.free_symbols, key=str):
            slope = sp.diff(expr, s).replace(sp.DiracDelta, lambda *_: sp.S.Zero)
            wanted.append((f"d/d{s} {text}", slope))
            slopes.append(sg.grad(total, INPUTS[s], disconnected_inputs="zero"))
    for (text, slope), got in zip(wanted, compiled(slopes), strict=True):
        assert_close(text, got, slope)
