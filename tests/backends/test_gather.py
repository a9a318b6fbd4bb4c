"""Native gathers and scatters against NumPy: widths, layouts, order, fusion and faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings

import symgraph as sg
from symgraph.backends import plan as planning
from symgraph.backends.program import Launch
from symgraph.backends.simulate import simulate
from symgraph.backends.targets import host, target
from symgraph.errors import IndexFault
from symgraph.expr import Expr
from tests.strategies import assert_close, seeds, values
from tests.symgraph.test_gather import arrays_of, keys, with_arrays

DTYPES = ["bool", "int8", "uint16", "float16", "bfloat16", "float32", "float64"]
WIDTHS = [0, 1, 2, 3, 8, 16, 17, 33, 64, 130]


def native(inputs: Sequence[Expr], outputs: Sequence[Expr]) -> sg.Function:
    return sg.function(inputs, list(outputs), host_calls="forbid", on_unused_input="ignore")


def compare(inputs: Sequence[Expr], outputs: Sequence[Expr], *arrays: np.ndarray) -> None:
    """Compiled code gives bit for bit what NumPy does."""
    got = native(inputs, outputs)(*arrays)
    for have, want in zip(got, sg.evaluate(list(outputs), dict(zip(inputs, arrays)))):
        assert have.shape == want.shape
        assert_close(have, want)


def kernels(inputs: Sequence[Expr], outputs: Sequence[Expr]) -> list[str]:
    """The names of the kernels that a program launches."""
    program = planning.plan(inputs, outputs, target=host(), host_calls="forbid")
    return [s.kernel.name for s in program.steps if isinstance(s, Launch)]


def rows_and_back(
    width: int | None, dtype: str, ids: str = "int32"
) -> tuple[list[Expr], list[Expr]]:
    """Gathers and scatters of rows and of elements, over a table of some width."""
    table = sg.array("table", ("n", width), dtype)
    i, y = sg.array("i", (None,), ids), sg.array("y", (None, width), dtype)
    outputs = [table[i], sg.take(table.T, i, 1), table.at[i].set(y), table.at[i].max(y)]
    if dtype != "bool":
        outputs += [table.at[i].add(y), sg.segment_sum(y, i, 7)]
    return [table, i, y], outputs


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_every_width(dtype: str) -> None:
    inputs, outputs = rows_and_back(None, dtype)
    f = native(inputs, outputs)
    for width in WIDTHS:
        for n in (0, 1, 5, 64):
            arrays = [
                values((7, width), dtype, width, special=True),
                np.random.default_rng(n).integers(0, 7, n).astype(np.int32),
                values((n, width), dtype, n, special=True),
            ]
            for have, want in zip(f(*arrays), sg.evaluate(outputs, dict(zip(inputs, arrays)))):
                assert_close(have, want)


@pytest.mark.parametrize("width", [1, 3, 16, 33])
def test_rows_of_known_width(width: int) -> None:
    inputs, outputs = rows_and_back(width, "float32", "int64")
    arrays = [
        values((7, width), "float32", 0),
        np.random.default_rng(1).integers(0, 7, 19),
        values((19, width), "float32", 2),
    ]
    compare(inputs, outputs, *arrays)


@settings(max_examples=30)
@given(keys(), seeds)
def test_random_keys(case: tuple, seed: int) -> None:
    shape, key = case
    x = sg.array("x", (None,) * len(shape), "float32")
    v = values(shape, "float32", seed)
    given_arrays = arrays_of(key)
    indices = [sg.array(f"i{k}", a.shape, a.dtype) for k, a in enumerate(given_arrays)]
    y = x[with_arrays(key, indices)]
    slope = sg.grad((y * y).sum(), x)
    wanted = np.asarray(v[key])
    part = sg.array("part", wanted.shape, "float32")
    own = x.at[with_arrays(key, indices)]
    outputs = [y, slope, own.set(part), own.add(part), own.min(part)]
    compare([x, *indices, part], outputs, v, *given_arrays, values(wanted.shape, "float32", 1))


@pytest.mark.parametrize("cpu", ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4", "cortex-a7"])
def test_loops_for_every_machine(cpu: str) -> None:
    inputs, outputs = rows_and_back(5, "float32")
    x, i, _ = inputs
    outputs = [*outputs, x[:, i % 5], x[i, i % 5], sg.grad((x[i] ** 2).sum(), x)]
    program = planning.plan(inputs, outputs, target=target(cpu), host_calls="forbid")
    arrays = [
        values((7, 5), "float32", 0),
        np.array([3, 0, 6, 3, 3, 2, 1, 0, 5], np.int32),
        values((9, 5), "float32", 1),
    ]
    got, _ = simulate(program, arrays, [])
    for have, want in zip(got, sg.evaluate(outputs, dict(zip(inputs, arrays)))):
        assert_close(have, want, 1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int32"])
def test_values_for_one_place_are_added_in_order(dtype: str) -> None:
    x, i = sg.array("x", (None,), dtype), sg.array("i", (None,), "int64")
    ids = np.random.default_rng(0).integers(0, 3, 1000)
    v = values((1000,), dtype, 1)
    compare([x, i], [sg.segment_sum(x, i, 3), sg.segment_max(x, i, 3)], v, ids)


def test_layouts_of_the_table() -> None:
    x, i = sg.array("x", ("n", "m"), "float32"), sg.array("i", (None,), "int32")
    outputs = [x[::-1][i], x.T[i], x[:, ::2][i], x[1:, 1:].T[::-1][i], sg.exp(x)[i], x[i][:, ::-1]]
    v, ids = values((6, 9), "float32", 0), np.array([0, -1, 2, 1], np.int32)
    got = native([x, i], outputs)(np.asfortranarray(v), ids)
    for have, want in zip(got, sg.evaluate(outputs, {x: v, i: ids})):
        assert_close(have, want, 1e-6)


def test_large_tables_poll_and_agree() -> None:
    x, i = sg.array("x", ("n", "m")), sg.array("i", (None,), "int32")
    v = values((300, 500), "float32", 0)
    ids = np.random.default_rng(2).integers(-300, 300, 70_000).astype(np.int32)
    outputs = [x[:, 3][i], x.at[i].add(sg.ones((1,), "float32")), sg.bincount(abs(i), length=301)]
    compare([x, i], outputs, v, ids)
    compare([x, i], [x[i[:700]]], v, ids)


# --- fusion ---


def test_what_follows_a_gather_joins_it() -> None:
    x, i = sg.array("x", ("n", 64)), sg.array("i", ("k",), "int32")
    assert kernels([x, i], [sg.exp(x[i]) * 2]) == ["map"]
    assert kernels([x, i], [x[i].sum(axis=0)]) == ["reduce"]
    assert kernels([x, i], [sg.softmax(x[i], axis=1)]) == ["reduce"]
    assert kernels([x, i], [x[i % 3, i % 7] + 1]) == ["map"]
    assert kernels([x, i], [sg.exp(x)[i]]) == ["map", "map"]  # the table once, not row by row


def test_lanes_are_as_wide_as_what_is_gathered() -> None:
    x, i = sg.array("x", ("n", 640), "float64"), sg.array("i", (9,), "int8")
    lanes = max(2, host().vector_bytes // 8)
    for y in (x[i], x[sg.argmax(i)]):  # an index for each row, one for all of them
        assert f"float64x{lanes} = " in sg.function([x, i], y).source("loops")
        assert f"float64x{2 * lanes} = " not in sg.function([x, i], y).source("loops")


def test_a_gradient_fills_and_adds() -> None:
    x, i, y = sg.array("x", ("n", 64)), sg.array("i", ("k",), "int32"), sg.array("y", ("k", 64))
    slope = sg.grad((sg.tanh(x[i]) * y).sum(), x)
    assert kernels([x, i, y], [slope]) == ["map", "scatter"]


def test_rows_of_large_tables_are_asked_for_before_their_turn() -> None:
    i = sg.array("i", ("k",), "int32")
    for shape, some in (((50_000, 64), True), (("n", "m"), True), ((100, 64), False)):
        x = sg.array("x", shape)
        for y in (x[i] + 1, x.at[i].add(1.0)):
            assert ("prefetch" in sg.function([x, i], y).source("loops")) == some
    x = sg.array("x", ("n",))
    assert "prefetch" not in sg.function([x, i], x[i]).source("loops")  # lanes, not rows


# --- faults ---


@pytest.mark.parametrize("wrong, place", [(5, 0), (-6, 18), (2**31 - 1, 7), (-(2**31), 3)])
def test_the_first_wrong_index_is_named(wrong: int, place: int) -> None:
    x, i = sg.array("x", ("n", 33)), sg.array("i", (None,), "int32")
    ids = np.zeros(19, np.int32)
    ids[place] = ids[place + (place == 0) :][-1] = wrong
    v = np.ones((5, 33), np.float32)
    text = f"index {wrong} is out of range for axis 0 with size 5"
    for build in (
        lambda: x[i],
        lambda: x[:, 0][i],
        lambda: x.at[i].add(1.0),
        lambda: x[i].sum(),
        lambda: x[i, i],
    ):
        with pytest.raises(IndexFault, match=text):
            native([x, i], [build()])(v, ids)


def test_nothing_is_read_behind_the_indices() -> None:
    x, i = sg.array("x", (3,)), sg.array("i", ("n",), "int32")
    f = native([x, i], [x[i], x.at[i].add(1.0)])
    memory = np.full(64, 77, np.int32)
    for n in range(20):
        memory[:n] = 2
        got = f(np.arange(3, dtype=np.float32), memory[:n])
        assert got[0].tolist() == [2.0] * n and got[1].tolist() == [0.0, 1.0, 2.0 + n]
        memory[:] = 77


def test_gather_from_nothing() -> None:
    x, i = sg.array("x", ("n", 3)), sg.array("i", (None,), "int32")
    f = native([x, i], [x[i]])
    empty = np.zeros((0, 3), np.float32)
    assert f(empty, np.zeros(0, np.int32))[0].shape == (0, 3)
    with pytest.raises(IndexFault, match="index 0 is out of range for axis 0 with size 0"):
        f(empty, np.zeros(1, np.int32))


def test_a_fault_leaves_shared_variables_alone() -> None:
    w, i = sg.shared(np.zeros((4, 3), np.float32), "w"), sg.array("i", (None,), "int32")
    f = sg.function([i], [], updates={w: sg.inc_subtensor(w[i], 1.0)}, host_calls="forbid")
    f(np.array([1, 1], np.int32))
    with pytest.raises(IndexFault):
        f(np.array([0, 4], np.int32))
    assert w.get_value().tolist() == [[0] * 3, [2] * 3, [0] * 3, [0] * 3]


def test_debug_mode_compares_every_stage() -> None:
    inputs, outputs = rows_and_back(5, "float32")
    f = sg.function(inputs, outputs, mode="debug")
    ids = np.array([3, 0, 6, -1], np.int32)[:3]
    f(values((7, 5), "float32", 0), ids, values((3, 5), "float32", 1))


def test_inside_loops_and_branches() -> None:
    x, i = sg.array("x", ("n", 3), "float64"), sg.array("i", ("k", 2), "int32")
    walk, _ = sg.scan(
        lambda row, h: sg.tanh(h + x[row].sum(axis=0)), [i], [sg.zeros((3,), "float64")]
    )
    picked = sg.cond(x.sum() > 0, lambda v: v[i[0]], lambda v: v[i[1]], x)
    outputs = [walk, sg.grad(walk.sum(), x), picked]
    v, ids = values((5, 3), "float64", 0), np.array([[0, 4], [2, 2], [-1, 1]], np.int32)
    got = native([x, i], outputs)(v, ids)
    for have, want in zip(got, sg.evaluate(outputs, {x: v, i: ids})):
        assert_close(have, want, 1e-12)


# --- updates in place ---


def stepped(
    inputs: Sequence[Expr],
    build: Callable[[sg.Shared, sg.Shared], dict[sg.Shared, Expr]],
    *arrays: np.ndarray,
) -> sg.Function:
    """A function with the updates; two calls leave what the reference computes."""
    functions = []
    for mode in ("native", "reference", "debug"):
        w = sg.shared(values((6, 5), "float32", 0), "w")
        b = sg.shared(values((4,), "float32", 1), "b")
        f = sg.function(inputs, w.sum(), updates=build(w, b), mode=mode, on_unused_input="ignore")
        got = [f(*arrays) for _ in range(2)]
        functions.append((f, got, w.get_value(), b.get_value()))
    for _, got, w_now, b_now in functions[1:]:
        assert_close(np.array(functions[0][1]), np.array(got), 1e-6)
        assert_close(functions[0][2], w_now, 1e-6)
        assert_close(functions[0][3], b_now, 1e-6)
    return functions[0][0]


IDS = np.array([1, -1, 1, 0], np.int32)
STEP = values((4, 5), "float32", 2)


@pytest.mark.parametrize(
    "in_place, build",
    [
        (1, lambda i, y, w, b: {w: sg.inc_subtensor(w[i], -0.1 * y)}),
        (1, lambda i, y, w, b: {w: w.at[i % 6].set(y)}),
        (1, lambda i, y, w, b: {w: sg.set_subtensor(w[1:5], y)}),
        (2, lambda i, y, w, b: {w: w.at[i].add(y), b: b.at[i].add(y[:, 0])}),
        (2, lambda i, y, w, b: {w: w.at[i].add(y), b: b * 2}),
        (0, lambda i, y, w, b: {w: w.at[i].set(w[i + 1] + y)}),  # reads what it changes
        (1, lambda i, y, w, b: {w: w.at[i].add(y) * 2}),  # in a place of its own, then back
        (1, lambda i, y, w, b: {w: w.at[i].add(y), b: b + w[0, :4]}),  # b first
    ],
)
def test_parts_of_shared_variables_change_in_place(
    in_place: int, build: Callable[..., dict[sg.Shared, Expr]]
) -> None:
    i, y = sg.array("i", (4,), "int32"), sg.array("y", (4, 5))
    f = stepped([i, y], lambda w, b: build(i, y, w, b), IDS, STEP)
    assert f.source("plan").count("inplace") >= in_place, f.source("plan")
    if not in_place:
        assert "update w: swap" in f.source("plan")


def test_a_wrong_index_stops_all_updates() -> None:
    i, j = sg.array("i", (None,), "int32"), sg.array("j", (None,), "int32")
    w, b = sg.shared(np.zeros((4, 3), np.float32), "w"), sg.shared(np.zeros(2, np.float32), "b")
    f = sg.function([i, j], [], updates={w: w.at[i].add(1.0), b: b.at[j].add(1.0)})
    assert f.source("plan").count("inplace") == 2
    for ids, text in (([0, 4], "4 .* size 4"), ([0, 3], "3 .* size 2"), ([-3, 0], "-3 .* size 2")):
        with pytest.raises(IndexFault, match=text):
            f(np.array(ids, np.int32), np.array(ids, np.int32))
    assert not w.get_value().any() and not b.get_value().any()
