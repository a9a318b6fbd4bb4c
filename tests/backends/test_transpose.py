"""Maps that read along one axis and write along another: tiles, edges, fused work, layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph as sg
from symgraph.backends.interpret import interpret
from symgraph.backends.legalize import legalize
from symgraph.backends.lower import streaming
from symgraph.backends.plan import plan
from symgraph.backends.program import Launch
from symgraph.backends.targets import target
from symgraph.backends.verify_loops import verify
from symgraph.dims import Dim, evaluate_dim, single_atom
from symgraph.expr import Expr

TARGETS = ("x86-64", "x86-64-v3", "x86-64-v4", "cortex-a72", "cortex-a9")
DTYPES = ("bool", "uint8", "int16", "float16", "bfloat16", "float32", "int64", "float64")
#: around the sides of tiles, and the size of a block
SIZES = (0, 1, 2, 7, 8, 9, 15, 16, 17, 33, 257)


def values(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (100 * rng.standard_normal(shape)).astype(sg.dtypes.dtype(dtype).np)


def sizes_of(arrays: list[np.ndarray], inputs: list[Expr]) -> dict[Any, int]:
    return {
        single_atom(size): actual
        for e, a in zip(inputs, arrays)
        for size, actual in zip(e.array_type.shape, a.shape)
        if isinstance(size, Dim)
    }


def interpreted(inputs: list[Expr], result: Expr, arrays: list[np.ndarray], name: str) -> Any:
    """The one kernel of the program for a target, by the interpreter; it checks every address."""
    machine = target(name)
    program = plan(inputs, [result], target=machine)
    (launch,) = program.steps
    assert isinstance(launch, Launch)
    kernel = legalize(launch.kernel, machine)
    verify(kernel)
    sizes = sizes_of(arrays, inputs)
    shape = tuple(evaluate_dim(s, sizes) for s in result.array_type.shape)
    out = np.zeros(int(np.prod(shape)), result.array_type.dtype.np)
    slots = [program.slots[ref.slot] for ref in launch.args]
    given = [out if s.kind == "output" else arrays[s.position].reshape(-1).copy() for s in slots]
    dims = [evaluate_dim(d, sizes) for d in launch.dims]
    for part in parts(launch, sizes):
        assert interpret(kernel, given, [*dims, *part]) == 0
    return out.reshape(shape)


def parts(launch: Launch, sizes: dict[Any, int]) -> list[tuple[int, ...]]:
    """The ranges that threads would run, one after the other."""
    if launch.split is None:
        return [()]
    extent = evaluate_dim(launch.split.extent, sizes)
    grain = evaluate_dim(launch.split.grain, sizes)
    return [(start, min(start + grain, extent)) for start in range(0, extent, grain)]


def tiles(inputs: list[Expr], result: Expr, name: str = "host") -> bool:
    """Whether the program turns tiles."""
    program = plan(inputs, [result], target=target(name))
    text = [str(s.kernel.body) for s in program.steps if isinstance(s, Launch)]
    return any("ziplo" in t for t in text)


def same(got: Any, expected: Any) -> None:
    assert got.dtype == expected.dtype and got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_edge(dtype: str) -> None:
    x = sg.array("x", ("n", "m"), dtype)
    f = sg.function([x], x.T)
    assert tiles([x], x.T)
    for n in SIZES:
        for m in (1, 8, 21, 300):
            a = values((n, m), dtype, n)
            same(f(a), a.T)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_other_targets_by_interpreter(dtype: str, name: str) -> None:
    x = sg.array("x", ("n", "m"), dtype)
    for n, m in ((17, 19), (16, 32), (1, 40), (5, 3), (261, 9), (9, 261)):
        a = values((n, m), dtype)
        same(interpreted([x], x.T, [a], name), a.T)


#: the fused programs: what is straight, turned, broadcast, counted, sliced; cheap and long
FUSED: dict[str, Callable[..., Any]] = {
    "straight and turned": lambda x, y, v: x.T * 2 + y,
    "most is turned": lambda x, y, v: (x.T + (x * x).T) + sg.exp(x).T,
    "turned twice and back": lambda x, y, v: sg.tanh(x.T).T + x,
    "long": lambda x, y, v: sg.tanh(x.T * 0.01) * sg.sigmoid(y) + sg.exp(-y * y),
    "broadcast": lambda x, y, v: x.T * v - v + y.sum(),
    "column": lambda x, y, v: x.T + y[:, :1],
    "counted": lambda x, y, v: x.T + sg.arange(x.shape[0]).astype("float32") + sg.ones_like(y),
    "reversed": lambda x, y, v: x.T[::-1] - y[:, ::-1],
    "condition": lambda x, y, v: sg.where(x.T > y, x.T, -y),
    "joined and filled": lambda x, y, v: sg.concatenate([sg.pad(x.T, 1), sg.pad(y, 1)], axis=0) * 2,
    "cast": lambda x, y, v: (x.T.astype("int32") + y.astype("int8")).astype("float64"),
}


@pytest.mark.parametrize("size", [(8, 8), (13, 29), (40, 24), (3, 70)])
@pytest.mark.parametrize("name", FUSED)
def test_fused(name: str, size: tuple[int, int]) -> None:
    n, m = size
    k = max(n, m)
    x, y, v = sg.array("x", (n, m)), sg.array("y", (m, n)), sg.array("v", (k,))
    result = FUSED[name](x, y, v[:n])
    used = [x, y, v]
    f = sg.function(used, result, on_unused_input="ignore")
    arrays = [values(e.array_type.shape, "float32", i) / 50 for i, e in enumerate(used)]
    expected = sg.evaluate(result, dict(zip(used, arrays)))
    np.testing.assert_allclose(f(*arrays), expected, rtol=2e-6, atol=1e-6)


def test_a_result_is_turned_where_that_is_less() -> None:
    a, b, c = (sg.array(name, ("n", "m")) for name in "abc")
    result = a.T + b.T + c.T
    program = plan([a, b, c], [result], target=target("x86-64-v3"))
    (launch,) = program.steps
    assert str(launch.kernel.body).count("ziplo") == 12  # one square of 8 lines, not three
    for n, m in ((8, 8), (31, 50)):
        arrays = [values((n, m), "float32", i) for i in range(3)]
        f = sg.function([a, b, c], result)
        same(f(*arrays), sum(arrays[1:], arrays[0]).T)
        same(interpreted([a, b, c], result, arrays, "x86-64-v4"), f(*arrays))
        same(interpreted([a, b, c], result, arrays, "x86-64"), f(*arrays))


@given(st.data())
def test_any_permutation_of_axes(data: st.DataObject) -> None:
    """Ranks up to 4, static and symbolic sizes, with a cheap and a long formula."""
    rank = data.draw(st.integers(2, 4))
    shape = tuple(data.draw(st.sampled_from([1, 2, 3, 8, 9, 17])) for _ in range(rank))
    axes = data.draw(st.permutations(range(rank)))
    dtype = data.draw(st.sampled_from(DTYPES))
    names = "ijkl"[:rank]
    symbolic = data.draw(st.booleans())
    x = sg.array("x", tuple(names) if symbolic else shape, dtype)
    moved = sg.transpose(x, tuple(axes))
    result = data.draw(st.sampled_from([moved, moved + moved, sg.maximum(moved, x.min())]))
    a = values(shape, dtype)
    same(sg.function([x], result)(a), sg.evaluate(result, {x: a}))


def test_layouts_of_the_argument() -> None:
    x = sg.matrix("x")
    f = sg.function([x], x.T * 2)
    a = values((60, 40), "float32")
    for view in (a, np.asfortranarray(a), a[::-1], a[:, ::-1], a[::2, 3::2], a.T, a[:1], a[:, :1]):
        same(f(view), view.T * np.float32(2))


def test_an_update_that_reads_itself_turned() -> None:
    w = sg.shared(values((24, 24), "float32"))
    before = w.get_value()
    f = sg.function([], updates={w: w + w.T})
    f()
    same(w.get_value(), before + before.T)
    f()
    same(w.get_value(), 2 * (before + before.T))


@pytest.mark.parametrize("size", [8, 21, 64])
def test_an_update_in_place_of_what_is_read_straight(size: int) -> None:
    w, x = sg.shared(values((size, size), "float32")), sg.matrix("x")
    before, a = w.get_value(), values((size, size), "float32", 1)
    f = sg.function([x], updates={w: w + x.T})
    f(a)
    same(w.get_value(), before + a.T)


LIMIT = 1000  # elements above which a nest outgrows the caches, in the tests of streaming


@pytest.fixture
def small_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "limit", lambda target, bytes: LIMIT)


def streams(inputs: list[Expr], result: Expr, name: str) -> int:
    (launch,) = plan(inputs, [result], target=target(name)).steps
    assert isinstance(launch, Launch)
    return str(launch.kernel.body).count("stream=True")


@pytest.mark.parametrize("dtype", ["float32", "int32", "float64", "int64"])
def test_large_results_go_past_the_caches(small_caches: None, dtype: str) -> None:
    """Wherever the argument begins, and whether or not rows of the result lie aligned."""
    x = sg.array("x", ("n", "m"), dtype)
    assert streams([x], x.T, "x86-64-v4") == 64 // x.array_type.dtype.bytes
    f = sg.function([x], x.T)
    for n, m in ((64, 48), (48, 64), (256, 40), (512, 17), (33, 64), (64, 33), (16, 300), (8, 8)):
        for start in (0, 1, 7, 15):
            memory = values((start + n * m,), dtype, n)
            a = memory[start:].reshape(n, m)
            same(f(a), a.T)
            same(interpreted([x], x.T, [a], "x86-64-v4"), a.T)


@pytest.mark.parametrize("name", ["x86-64", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_results_by_way_of_the_stack(small_caches: None, dtype: str, name: str) -> None:
    """What is turned in less than a line of cache; native where this is such a machine."""
    x = sg.array("x", ("n", "m"), dtype)
    assert streams([x], x.T, name)
    f = sg.function([x], x.T)
    for n, m in ((64, 48), (320, 64), (256, 17), (273, 70), (17, 300), (8, 200)):
        for start in (0, 3):
            a = values((start + n * m,), dtype, n)[start:].reshape(n, m)
            same(f(a), a.T)
            same(interpreted([x], x.T, [a], name), a.T)


@pytest.mark.parametrize("axes", [(0, 2, 1), (1, 0, 2), (0, 3, 1, 2), (2, 1, 0)])
def test_large_results_of_more_axes(small_caches: None, axes: tuple[int, ...]) -> None:
    x = sg.array("x", tuple("ijkl"[: len(axes)]))
    f = sg.function([x], sg.transpose(x, axes))
    for sizes in ((3, 32, 16, 32), (2, 17, 16, 48), (16, 16, 16, 16), (5, 1, 33, 64)):
        a = values(sizes[: len(axes)], "float32")
        same(f(a), np.transpose(a, axes))


def test_what_is_known_never_to_be_aligned_does_not_stream(small_caches: None) -> None:
    for shape, count in (((64, 48), 16), ((65, 64), 0), ((16, 16), 0)):
        x = sg.array("x", shape)
        assert streams([x], x.T, "x86-64-v4") == count
    x = sg.array("x", ("n", "m"))
    assert not streams([x], x.T, "cortex-a72")
    assert streams([x], x.T, "x86-64-v3") == 1  # rows that are put together on the stack
    assert not streams([x], sg.tanh(x.T) * sg.exp(x.T), "x86-64-v4")


def test_squares_that_overlap_never_write_over_what_they_read() -> None:
    """Each element of an update is computed once from the old one, wherever the argument begins."""
    w, x = sg.shared(values((40, 21), "float32")), sg.matrix("x")
    f = sg.function([x], updates={w: w + x.T})
    for start in range(16):
        before = w.get_value()
        a = values((start + 21 * 40,), "float32", start)[start:].reshape(21, 40)
        f(a)
        same(w.get_value(), before + a.T)


def test_special_values_pass_unchanged() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    x = sg.array("x", ("n", "m"), "float16")
    got = sg.function([x], x.T)(bits)
    assert np.array_equal(got.view(np.uint16), bits.T.view(np.uint16))


@pytest.mark.parametrize("size", [(1, 9), (3, 1000), (1000, 3)])
def test_slivers_are_no_tiles(size: tuple[int, int]) -> None:
    x = sg.array("x", size)
    assert not tiles([x], x.T, "x86-64")
