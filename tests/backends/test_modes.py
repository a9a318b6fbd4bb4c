"""The modes reference, check_nan and debug."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends import modes


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize("mode", ["reference", "debug", "check_nan"])
def test_modes_agree_with_native(mode: str) -> None:
    results = []
    for m in ("native", mode):
        x, w = sg.array("x", ("n", 3)), sg.shared(np.ones((3, 2), np.float32), "w")
        y = sg.softmax(sg.tanh(x @ w) * [1, 2], axis=1)
        loss = -sg.log(y[:, 0]).mean()
        f = sg.function(
            [x], {"loss": loss, "y": y}, updates={w: w - 0.1 * sg.grad(loss, w)}, mode=m
        )
        value = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
        results.append([v for _ in range(3) for v in (*f(value).values(), w.get_value())])
    assert all(np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(*results))


def test_reference_outputs_are_fresh() -> None:
    x, w = sg.vector("x"), sg.shared(f32(1), "w")
    f = sg.function([x], [x, w, x.T, w], mode="reference")
    given = f32(2)
    got = f(given)
    assert not any(
        np.shares_memory(a, b)
        for i, a in enumerate(got)
        for b in [given, w.get_value(borrow=True), *got[:i]]
    )


def test_check_nan_names_the_first_expression() -> None:
    x = sg.array("x", ("n",))
    bad = sg.log(x)
    f = sg.function([x], (bad + 1).sum() * 0, mode="check_nan")
    assert float(f(f32(1, 2))) == 0
    with pytest.raises(sg.NonFiniteError) as error:
        f(f32(1, 0, -1))
    assert str(error.value).startswith("log: -inf at [1]; 2 of 3 elements are not finite\n")
    assert "test_modes.py" in str(error.value)
    with pytest.raises(sg.NonFiniteError, match="^x: nan at "):
        f(f32(1, np.nan))


def test_debug_names_the_rule_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    x = sg.array("x", ("n",))
    f = sg.function([x], sg.log(1 + sg.exp(x)) * 1, mode="debug")
    f(f32(1, 2))
    real, firings = modes.optimize, list(f._planned.journal)
    assert len(firings) >= 2

    def wrong(roots: Any, level: Any, exclude: Any, limit: int) -> Any:
        outputs, journal = real(roots, level, exclude, limit=limit)
        return ([y + 1 for y in outputs] if limit >= 2 else outputs), journal

    monkeypatch.setattr(modes, "optimize", wrong)
    f._planned = f._planned._replace(outputs=tuple(y + 1 for y in f._planned.outputs))
    with pytest.raises(sg.VerifyError) as error:
        f(f32(1, 2))
    text = str(error.value)
    assert text.startswith(f"function(x): rule {firings[1].rule!r} ({firings[1].family}) changed ")
    assert f"hint: leave it out with exclude=[{firings[1].rule!r}]" in text


def test_debug_blames_nobody_for_a_pole_that_rounding_decides() -> None:
    """The sum is 0 but for rounding: its reciprocal is infinite or not by the order of terms."""
    x = sg.array("x", (3, 5), "float64")
    zero = sg.sum(sg.concatenate([x, -x], 0))
    f = sg.function([x], sg.reciprocal(zero), mode="debug")
    for seed in range(40):
        f(np.random.default_rng(seed).normal(size=(3, 5)))


def test_debug_finds_wrong_machine_code() -> None:
    w, x = sg.shared(f32(1), "w"), sg.vector("x")
    f = sg.function([x], x * 2, updates={w: w + 1}, mode="debug")
    f(f32(1, 2))
    real = f._native

    class Wrong:
        def __call__(self, *args: Any) -> Any:
            (out,) = real(*args)
            out[1] += 1
            return [out]

    f._native = Wrong()
    with pytest.raises(sg.VerifyError) as error:
        f(f32(1, 2))
    assert str(error.value).startswith(
        "function(x): machine code changed output 0 at [1]: expected 4.0, got 5.0\n"
    )
    assert w.get_value().tolist() == [2]  # as after the good call


def test_debug_finds_an_argument_that_was_written() -> None:
    x = sg.vector("x")
    f = sg.function([x], x * 2, mode="debug")

    def wrong(a: np.ndarray) -> Any:
        out = a * 2
        a += 1
        return [out]

    f._native = wrong
    with pytest.raises(sg.VerifyError, match="the call changed its argument x"):
        f(f32(1, 2))


@pytest.mark.parametrize(
    ("expected", "got", "where"),
    [
        (f32(1, 2), f32(1, 2), None),
        (f32(1, 2), f32(1, 2.00001), None),
        (f32(1, 2), f32(1, 2.1), (1,)),
        (f32(np.nan, np.inf), f32(np.nan, np.inf), None),
        (f32(np.nan, 1), f32(1, 1), (0,)),
        (f32(1, 1), f32(np.nan, 1), (0,)),
        (f32(np.inf), f32(-np.inf), (0,)),
        (f32(1), f32(np.inf), (0,)),
        (np.array([1, 2]), np.array([1, 3]), (1,)),
        (np.array([True]), np.array([False]), (0,)),
        (f32(1), f32(1, 2), ()),
        (f32(), f32(), None),
        (np.array(1 + 2j), np.array(1 + 2.1j), ()),
    ],
)
def test_differences(expected: np.ndarray, got: np.ndarray, where: Any) -> None:
    found = modes.difference("output 0", expected, got, lambda: np.zeros(expected.shape))
    assert (found is None) if where is None else (found is not None and found.at == where)


def test_ill_conditioned_results_are_given_room() -> None:
    x = sg.vector("x")
    f = sg.function([x], [sg.sin(x * 1e5), sg.floor(x * 1e7) % 2], mode="debug")
    f(np.random.default_rng(0).uniform(0, 1, 100).astype(np.float32))
