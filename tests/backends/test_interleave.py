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
from symgraph.backends.lower import streaming
from symgraph.backends.plan import plan
from symgraph.backends.program import Launch
from symgraph.backends.targets import target
from symgraph.backends.verify_loops import verify
from symgraph.dims import evaluate_dim, single_atom

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


@pytest.mark.parametrize("large", [False, True])
@given(data=st.data())
def test_any_join(large: bool, data: st.DataObject) -> None:
    """Parts of any widths, along any axis, static or symbolic, with work of their own.

    large: the caches hold so little that rows are written past them.
    """
    with pytest.MonkeyPatch.context() as patch:
        if large:
            patch.setattr(streaming, "limit", lambda target, bytes: 10)
        any_join(data)


def any_join(data: st.DataObject) -> None:
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


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "bool"])
def test_rows_past_the_caches(dtype: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the result begins; no load or store outside of what there is."""
    monkeypatch.setattr(streaming, "limit", lambda target, bytes: 10)
    inputs = [sg.array(f"x{i}", ("n", f"w{i}"), dtype) for i in range(3)]
    work = sg.logical_not if dtype == "bool" else sg.abs
    (launch,) = launches(inputs, sg.concatenate([work(x) for x in inputs], axis=1), name)
    masked = target(name).masked_memory(inputs[0].array_type.dtype.bytes)
    assert ("stream=True" in str(launch.kernel)) is masked
    kernel = legalize(launch.kernel, target(name))
    verify(kernel)
    rng = np.random.default_rng(0)
    for widths in ((64, 64, 64), (65, 100, 70), (81, 64, 127), (70, 3, 90), (0, 64, 1)):
        arrays = [(9 * rng.standard_normal((5, w))).astype(dtype) for w in widths]
        expected = (~np.hstack(arrays)) if dtype == "bool" else np.abs(np.hstack(arrays))
        row = sum(widths)
        for shift in (0, 1, 13):
            memory = np.ones(64 + shift + 5 * row + 64, dtype)
            out = memory[64 + shift :]
            offsets = [0, widths[0], widths[0] + widths[1]]
            given = [*(a.reshape(-1) for a in arrays), *(out[o : 5 * row] for o in offsets)]
            sizes = {
                single_atom(d): k
                for x, w in zip(inputs, widths)
                for d, k in zip(x.array_type.shape, (5, w))
            }
            dims = [evaluate_dim(d, sizes) for d in launch.dims]
            assert interpret(kernel, given, [*dims, *((0, 5) if launch.split else ())]) == 0
            np.testing.assert_array_equal(out[: 5 * row].reshape(5, row), expected)
            assert (memory[: 64 + shift] == 1).all() and (out[5 * row :] == 1).all()


def test_what_is_not_written_past_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "limit", lambda target, bytes: 10_000)
    for shape, work, name, expected in (
        ((200, 50), sg.relu, "x86-64-v4", True),
        ((200, 50), sg.relu, "x86-64", False),  # no masks
        ((200, 50), sg.relu, "cortex-a72", False),
        ((10, 50), sg.relu, "x86-64-v4", False),  # small
        ((2000, 15), sg.relu, "x86-64-v4", False),  # narrow
        ((200, 50), lambda x: sg.tanh(x) * sg.erf(x), "x86-64-v4", False),  # work
        ((200, 50), lambda x: x[:, ::-1], "x86-64-v4", True),
    ):
        inputs = [sg.array(f"x{i}", shape) for i in range(2)]
        (launch,) = launches(inputs, sg.concatenate([work(x) for x in inputs], axis=1), name)
        assert ("stream=True" in str(launch.kernel)) is expected


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
