"""Arrays of every layout, aliasing each other or shared variables: right results, inputs untouched.

Each program runs on inputs in every layout; the results must be those of the same values in fresh
contiguous arrays, and not one byte of what was given may change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph as sg
from symgraph.backends.function import In


def unaligned(a: np.ndarray) -> np.ndarray:
    raw = np.empty(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def read_only(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": np.copy,
    "Fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
    "offset": lambda a: np.concatenate([a, a])[len(a) :],
    "unaligned": unaligned,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "read-only": read_only,
    "read-only and reversed": lambda a: read_only(a[::-1])[::-1],
    "a subclass": lambda a: a.view(np.recarray),
    "a memory map": lambda a: np.frombuffer(bytearray(a.tobytes()), a.dtype).reshape(a.shape),
    "read-only bytes": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}
DTYPES = ["float32", "float64", "float16", "int8", "int64", "uint16", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["native", "reference"])
def test_every_layout_gives_the_same(dtype: str, mode: str) -> None:
    x, y = sg.matrix("x", dtype), sg.array("y", (None, None), dtype)
    f = sg.function([x, y], [sg.where(x > y, x, y), x.T, x[::-1, 1:].sum(axis=0)], mode=mode)
    rng = np.random.default_rng(3)
    a, b = (rng.integers(0, 100, (4, 6)).astype(dtype) for _ in range(2))
    want = [v.tobytes() for v in f(a, b)]
    for name, layout in LAYOUTS.items():
        for other, second in (("contiguous", np.copy), (name, layout)):
            left, right = layout(a), second(b)
            before = left.tobytes(), right.tobytes()
            got = f(left, right)
            assert [v.tobytes() for v in got] == want, (name, other)
            assert (left.tobytes(), right.tobytes()) == before, (name, other)
            assert all(type(v) is np.ndarray and v.flags.writeable for v in got)


def test_masked_elements_are_refused() -> None:
    x = sg.vector("x")
    f = sg.function([x], x * 2)
    whole = np.ma.masked_array(np.ones(3, np.float32))
    holes = np.ma.masked_array(np.ones(3, np.float32), [False, True, False])
    assert f(whole).tolist() == [2, 2, 2] and type(f(whole)) is np.ndarray
    with pytest.raises(sg.ArgumentError) as error:
        f(holes)
    assert str(error.value) == (
        "x: the array has masked elements\n  hint: give them a value: x.filled(...)"
    )
    for make in (sg.constant, sg.shared):
        with pytest.raises(sg.DTypeError, match="^the array has masked elements"):
            make(holes)


class Exports:
    """An object that shares its memory by a protocol of arrays."""

    def __init__(self, **protocol: Any):
        vars(self).update(protocol)


def test_objects_that_export_memory() -> None:
    x = sg.vector("x")
    f = sg.function([x], x + 1)
    a = np.arange(3, dtype=np.float32)
    assert f(Exports(__array_interface__=a.__array_interface__)).tolist() == [1, 2, 3]
    with pytest.raises(sg.ArgumentError, match="^x: an object of type Exports gives no array: "):
        f(Exports(__array_interface__={"shape": (-1,), "typestr": "<f4", "version": 3}))
    with pytest.raises(sg.ArgumentError, match="^x: an object of type Exports gives no array: "):
        f(Exports(__dlpack__=None))


# --- overlapping and aliasing ---


@given(st.integers(0, 12), st.integers(0, 12), st.sampled_from([1, -1, 2]), st.sampled_from([1, 3]))
def test_overlapping_inputs(i: int, j: int, step: int, other: int) -> None:
    x, y = sg.array("x", (4,)), sg.array("y", (4,))
    f = sg.function([x, y], [x + 2 * y, (x * y).sum()])
    base = np.arange(40, dtype=np.float32)
    a = base[i : i + 4 * abs(step)][:: step if step > 0 else -1][:4]
    b = base[j : j + 4 * other : other]
    before = base.copy()
    got, total = f(a, b)
    assert got.tolist() == (before[i:][: 4 * abs(step)][::step][:4] + 2 * b.copy()).tolist()
    assert float(total) == float((a * b).sum()) and np.array_equal(base, before)


UPDATES: dict[str, Callable[[Any, Any], Any]] = {
    "in place": lambda w, x: w + x,
    "reversed": lambda w, x: w[::-1] + x,
    "product": lambda w, x: sg.outer(w, x).sum(axis=0),
    "running sum": lambda w, x: sg.cumsum(w) - x,
    "of the input alone": lambda w, x: x[::-1] * 2,
}


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("given_as", ["borrowed", "view", "reversed view", "mutable"])
def test_inputs_that_are_a_shared_variables_memory(update: str, given_as: str) -> None:
    size = 50
    start = np.linspace(1, 2, size).astype(np.float32)
    w, v = sg.shared(start, "w"), sg.shared(start * 3, "v")
    x = sg.array("x", (size,))
    argument = In(x, mutable=True, borrow=True) if given_as == "mutable" else x
    f = sg.function([argument], [w * 2, x + v], updates={w: UPDATES[update](w, x), v: v + w})
    for _ in range(3):
        old_w, old_v = w.get_value(), v.get_value()
        alias = w.get_value(borrow=True)
        value = {"view": alias[:], "reversed view": alias[::-1]}.get(given_as, alias)
        seen = value.copy()
        doubled, moved = f(value)
        want = sg.evaluate(UPDATES[update](w, x), {w: old_w, x: seen})
        np.testing.assert_allclose(w.get_value(), want, rtol=1e-5)
        assert np.array_equal(v.get_value(), old_v + old_w)
        assert np.array_equal(doubled, old_w * 2) and np.array_equal(moved, seen + old_v)


def test_one_array_for_two_variables_and_an_input() -> None:
    a = np.ones(100, np.float32)
    w, v = sg.shared(a, "w", borrow=True), sg.shared(a, "v", borrow=True)
    x = sg.array("x", (100,))
    f = sg.function([x], x + w + v, updates={w: w + 1, v: v * 10})
    assert f(a).tolist() == [3] * 100
    assert w.get_value().tolist() == [2] * 100 and v.get_value().tolist() == [10] * 100
    assert f(a).tolist() == [13] * 100


def test_results_are_nobody_elses() -> None:
    x = sg.array("x", (3,))
    w = sg.shared(np.ones(3, np.float32), "w")
    f = sg.function([x], [x, w, x.reshape(3, 1), x + 0, sg.constant([1.0, 2.0])], updates={w: x})
    given_ = np.arange(3, dtype=np.float32)
    results = [*f(given_), *f(given_)]
    for r in results:
        r += 100
    assert given_.tolist() == [0, 1, 2] and w.get_value().tolist() == [0, 1, 2]
    assert f(given_)[4].tolist() == [1, 2]


def test_booleans_whose_bytes_are_not_0_or_1() -> None:
    x, y = sg.array("x", (5,), "bool"), sg.vector("y")
    outputs = [
        ~x,
        x ^ True,
        x.sum(),
        sg.where(x, y, -y),
        x.astype("int8"),
        x.all(),
        x != x[::-1],
        x.astype("float32") @ y,
    ]
    f = sg.function([x, y], outputs)
    odd = np.array([0, 1, 2, 255, 3], np.uint8).view(np.bool_)
    even = np.array([False, True, True, True, True])
    values = np.arange(5, dtype=np.float32)
    for a, b in zip(f(odd, values), f(even, values)):
        assert a.tobytes() == b.tobytes()
