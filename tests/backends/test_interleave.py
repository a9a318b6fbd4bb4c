"""Joins: parts that lie beside each other in the rows of the result are written row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph as sg
from symgraph.backends import cache
from symgraph.backends.interpret import interpret
from symgraph.backends.legalize import legalize
from symgraph.backends.plan import plan
from symgraph.backends.program import Launch
from symgraph.backends.targets import target
from symgraph.backends.verify_loops import verify

WORK = {
    "copy": lambda x: x,
    "relu": sg.relu,
    "scaled": lambda x: x * 2,
    "reversed": lambda x: x[..., ::-1],
    "long": lambda x: sg.tanh(x) * sg.sigmoid(x) + x,
}


def launches(inputs: list[Any], result: Any, name: str = "host") -> list[Launch]:
    steps = plan(inputs, [result], target=target(name)).steps
    assert all(isinstance(s, Launch) for s in steps)
    return list(steps)  # type: ignore[arg-type]


@given(st.data())
def test_any_join(data: st.DataObject) -> None:
    """Parts of any widths, along any axis, static or symbolic, with work of their own."""
    rank = data.draw(st.integers(1, 3))
    axis = data.draw(st.integers(0, rank - 1))
    widths = data.draw(st.lists(st.sampled_from([0, 1, 2, 5, 16, 17, 40]), min_size=1, max_size=10))
    rest = [data.draw(st.sampled_from([0, 1, 3, 16])) for _ in range(rank)]
    dtype = data.draw(st.sampled_from(["float32", "float64", "int8", "bool"]))
    symbolic = data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 100)))
    shapes = [tuple(w if a == axis else r for a, r in enumerate(rest)) for w in widths]
    named = [
        tuple(f"w{i}" if a == axis else f"r{a}" for a in range(rank)) for i in range(len(widths))
    ]
    inputs = [
        sg.array(f"x{i}", n if symbolic else s, dtype)
        for i, (n, s) in enumerate(zip(named, shapes))
    ]
    works = ["copy", "reversed"] if dtype in ("int8", "bool") else list(WORK)
    parts = [WORK[data.draw(st.sampled_from(works))](x) for x in inputs]
    result = sg.concatenate(parts, axis)
    arrays = [(3 * rng.standard_normal(s)).astype(dtype) for s in shapes]
    got = sg.function(inputs, result)(*arrays)
    expected = sg.evaluate(result, dict(zip(inputs, arrays)))
    assert got.dtype == expected.dtype and got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["x86-64", "x86-64-v3", "cortex-a9"])
def test_one_pass_by_interpreter(name: str) -> None:
    """Rows of three parts in one kernel, also in the ranges that threads would run."""
    shapes = [(70, 12), (70, 20), (70, 9)]
    inputs = [sg.array(f"x{i}", s) for i, s in enumerate(shapes)]
    result = sg.concatenate([sg.relu(x) for x in inputs], axis=1)
    (launch,) = launches(inputs, result, name)
    kernel = legalize(launch.kernel, target(name))
    verify(kernel)
    arrays = [np.random.default_rng(0).standard_normal(s).astype("float32") for s in shapes]
    out = np.full(70 * 41, np.nan, "float32")
    offsets = [ref.offset for ref in launch.args[3:]]
    assert offsets == [0, 12, 32]
    given = [*(a.reshape(-1).copy() for a in arrays), *(out[o:] for o in offsets)]
    ranges = [()] if launch.split is None else [(0, 40), (40, 70)]
    for part in ranges:
        assert interpret(kernel, given, [*launch.dims, *part]) == 0
    assert np.array_equal(out.reshape(70, 41), np.maximum(np.concatenate(arrays, 1), 0))


def test_what_is_not_interleaved() -> None:
    """Parts one below the other, rows that are long, and parts that are many."""
    for shape, axis, count in (((8, 64), 0, 3), ((8, 1 << 14), 1, 2), ((8, 16), 1, 12)):
        inputs = [sg.array(f"x{i}", shape) for i in range(count)]
        assert len(launches(inputs, sg.concatenate(inputs, axis))) == count


def test_parts_that_are_alike_have_one_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMGRAPH_CACHE", "0")
    cache.clear()
    inputs = [sg.array(f"x{i}", ("n", "m")) for i in range(20)]
    f = sg.function(inputs, sg.concatenate(inputs, 1) * 3.5)
    kernels = [line for line in f.explain().splitlines() if " concatenate_" in line]
    assert len(kernels) == 1
    arrays = [np.full((5, 7), i, "float32") for i in range(20)]
    assert np.array_equal(f(*arrays), np.concatenate(arrays, 1) * np.float32(3.5))
