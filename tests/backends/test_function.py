"""function(): what may be asked for, how results come back, and every complaint in full."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends import cache, jit
from symgraph.backends.function import In, Out

LINE = re.compile(r"^  \S*test_function\.py:\d+.*$", re.M)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def message(error: pytest.ExceptionInfo[Exception]) -> str:
    """The text of an error without the lines that quote this file."""
    return "\n".join(line for line in str(error.value).split("\n") if not LINE.match(line))


# --- results ---


@pytest.mark.parametrize("how", ["single", "list", "tuple", "dict"])
def test_outputs_come_back_in_the_form_they_were_given(how: str) -> None:
    x = sg.vector("x")
    asked = {
        "single": x + 1,
        "list": [x + 1, x * 2],
        "tuple": (x + 1, x * 2),
        "dict": {"a": x + 1, 3: x * 2},
    }[how]
    got = sg.function([x], asked)(f32(1, 2))
    if how == "single":
        assert got.tolist() == [2, 3]
    elif how == "dict":
        assert {k: v.tolist() for k, v in got.items()} == {"a": [2, 3], 3: [2, 4]}
    else:
        assert type(got).__name__ == how and [v.tolist() for v in got] == [[2, 3], [2, 4]]


def test_no_outputs_give_an_empty_list() -> None:
    w = sg.shared(f32(1), "w")
    f = sg.function([], None, updates={w: w + 1})
    assert f() == [] and sg.function([], [], updates={w: w + 1})() == []
    assert w.get_value().tolist() == [3]


def test_zero_dimensional_results_are_arrays() -> None:
    x = sg.vector("x")
    got = sg.function([x], [x.sum(), sg.constant(2.0)])(f32(1, 2))
    assert [type(v) for v in got] == [np.ndarray, np.ndarray] and [v.shape for v in got] == [(), ()]


def test_outputs_are_fresh_arrays() -> None:
    x, w, c = sg.vector("x"), sg.shared(f32(1, 2), "w"), sg.constant(f32(3, 4))
    y = x + 1
    f = sg.function([x], [x, w, c, y, y, Out(y, borrow=True)])
    given = f32(5, 6)
    first, second = f(given), f(given)
    everything = [given, w.get_value(borrow=True), *first, *second]
    for i, a in enumerate(everything):
        assert all(not np.shares_memory(a, b) for b in everything[:i])
    for out in first:
        out += 100
    assert [v.tolist() for v in f(given)] == [v.tolist() for v in second]


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 0), (2, 3, 5), (1, 1, 1)])
@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "bfloat16", "int8", "uint64", "bool"]
)
def test_a_copy_of_any_type(shape: tuple[int, ...], dtype: str) -> None:
    x = sg.array("x", [None] * len(shape), dtype)
    value = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(x.dtype.np)
    got = sg.function([x], x)(value)
    assert got.dtype == value.dtype and got.shape == shape and got.tobytes() == value.tobytes()


# --- arguments ---


def test_arguments_by_position_name_and_default() -> None:
    x, y = sg.scalar("x"), sg.scalar("y")
    f = sg.function(
        [x, In(y, value=10.0), In(sg.scalar("z"), name="k", value=1)],
        x + y,
        on_unused_input="ignore",
    )
    assert (
        float(f(1)) == 11
        and float(f(1, 2)) == 3
        and float(f(y=5, x=2)) == 7
        and float(f(1, k=3)) == 11
    )


def test_a_default_is_what_it_was_when_the_function_was_made() -> None:
    x = sg.vector("x")
    array, items = np.ones(3, np.float32), [1, 1]
    f, g = sg.function([In(x, value=array)], x * 2), sg.function([In(x, value=items)], x * 2)
    array[0], items[0] = 5, 5
    assert f().tolist() == [2, 2, 2] and g().tolist() == [2, 2]
    assert f.copy(name="again")().tolist() == [2, 2, 2]


def test_a_long_default_is_not_spelled_out() -> None:
    w = sg.matrix("w")
    f = sg.function([In(w, value=np.zeros((9, 9), np.float32))], w)
    with pytest.raises(sg.ArgumentError) as error:
        f(1, 2)
    assert str(error.value) == "function(w=...): expected at most 1 argument, got 2"


@pytest.mark.parametrize(
    "value",
    [
        [1.5, 2.5, 3.5],
        (1, 2, 3),
        np.arange(3),
        np.arange(3, dtype=np.int8),
        np.arange(6, dtype=np.float32)[::2],
        np.arange(6, dtype=np.float32)[::-2],
        np.arange(3, dtype=">f4"),
        np.frombuffer(b"\0" + np.arange(3, dtype=np.float32).tobytes(), np.uint8)[1:].view(
            np.float32
        ),
        np.arange(3, dtype=np.float32).view(np.recarray),
        np.ma.masked_array(np.arange(3, dtype=np.float32)),
    ],
    ids=[
        "list",
        "tuple",
        "int64",
        "int8",
        "strided",
        "reversed",
        "big-endian",
        "unaligned",
        "subclass",
        "masked",
    ],
)
def test_what_is_not_exact_is_converted(value: object) -> None:
    x = sg.vector("x")
    f = sg.function([x], x * 2)
    got = f(value)
    assert type(got) is np.ndarray and got.dtype == np.float32
    assert got.tolist() == (np.asarray(value) * 2).tolist()
    assert f.profile().copies == 1


def test_read_only_and_overlapping_arguments() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    base = np.arange(8, dtype=np.float32)
    base.flags.writeable = False
    got = sg.function([x, y], x + 2 * y)(base[:5], base[3:])
    assert got.tolist() == (base[:5] + 2 * base[3:]).tolist()


CALLS = {
    "missing": (
        lambda f: f(),
        "function(x, y=1.0): missing 1 of 2 arguments: x",
    ),
    "too many": (
        lambda f: f(1, 2, 3),
        "function(x, y=1.0): expected at most 2 arguments, got 3",
    ),
    "unknown": (
        lambda f: f(1, z=2),
        "function(x, y=1.0): no argument is called 'z'\n  hint: its arguments: x, y",
    ),
    "twice": (
        lambda f: f(1, x=2),
        "function(x, y=1.0): argument 'x' is given twice",
    ),
    "rank": (
        lambda f: f(f32(1, 2)),
        "x: expected rank 0 (float32[]), got rank 1 (shape (2,))",
    ),
    "float64": (
        lambda f: f(np.zeros(())),
        "x: float64 does not go into float32 without loss\n"
        "  hint: pass it as .astype('float32'), or compile with allow_input_downcast=True",
    ),
    "None": (
        lambda f: f(None),
        "x: expected an array of float32[], got None\n"
        "  hint: pass a NumPy array, a list or a number",
    ),
    "object": (
        lambda f: f("1"),
        "x: expected an array of float32[], got an object of type str\n"
        "  hint: pass a NumPy array, a list or a number",
    ),
    "complex": (
        lambda f: f(1j),
        "x: expected float32, got the Python complex 1j",
    ),
}


@pytest.mark.parametrize("case", CALLS)
@pytest.mark.parametrize("mode", ["native", "reference"])
def test_wrong_arguments(case: str, mode: str) -> None:
    x, y = sg.scalar("x"), sg.scalar("y")
    f = sg.function([x, In(y, value=1.0)], x + y, mode=mode)
    call, text = CALLS[case]
    with pytest.raises(sg.ArgumentError) as error:
        call(f)
    assert message(error) == text


def test_casting_follows_the_options() -> None:
    x = sg.vector("x")
    wide = np.array([0.1, 0.2])
    assert (
        sg.function([x], x, allow_input_downcast=True)(wide).tolist()
        == wide.astype(np.float32).tolist()
    )
    f = sg.function([In(x, allow_downcast=True)], x)
    assert f(wide).dtype == np.float32
    s = sg.scalar("s")
    assert float(sg.function([s], s)(0.1)) == np.float32(0.1)
    with pytest.raises(sg.ArgumentError) as error:
        sg.function([s], s, allow_input_downcast=False)(0.1)
    assert message(error) == "s: float32 cannot hold 0.1 exactly"


def test_strict_arguments_are_not_converted() -> None:
    x = sg.vector("x")
    f = sg.function([In(x, strict=True)], x)
    assert f(f32(1)).tolist() == [1]
    with pytest.raises(sg.ArgumentError) as error:
        f([1.0])
    assert message(error) == (
        "x: strict: expected a C-contiguous array of float32[x.shape[0]], "
        "got an object of type list"
    )


# --- sizes ---


def test_equal_names_are_equal_sizes() -> None:
    x, y = sg.array("x", ("n", 2)), sg.array("y", ("n",))
    f = sg.function([x, y], x.sum(axis=1) + y)
    assert f(np.ones((3, 2), np.float32), f32(1, 2, 3)).tolist() == [3, 4, 5]
    with pytest.raises(sg.ShapeError) as error:
        f(np.ones((3, 2), np.float32), f32(1, 2))
    assert message(error) == "size n is 3 on axis 0 of x, but 2 on axis 0 of y"


def test_a_static_size_that_differs() -> None:
    x = sg.array("x", ("n", 2))
    with pytest.raises(sg.ArgumentError) as error:
        sg.function([x], x)(np.ones((3, 4), np.float32))
    assert message(error) == "x: expected float32[n, 2], got size 4 on axis 1 (shape (3, 4))"


@pytest.mark.parametrize("mode", ["native", "reference"])
def test_a_guard_that_does_not_hold(mode: str) -> None:
    x, y = sg.array("x", ("n",)), sg.array("y", ("m",))
    f = sg.function([x, y], x + y, mode=mode)
    assert f(f32(1), f32(2)).tolist() == [3]
    with pytest.raises(sg.ShapeError) as error:
        f(f32(1, 2), f32(1, 2, 3))
    n, m = "2 (axis 0 of x)", "3 (axis 0 of y)"
    assert message(error) in (
        f"add: axis 0: expected n == m, got {n} and {m}",
        f"add: axis 0: expected m == n, got {m} and {n}",
    )


def test_compound_sizes() -> None:
    x = sg.array("x", ("n",))
    y = sg.array("y", (x.shape[0] * 2 + 1,))
    f = sg.function([x, y], [x.sum(), y.sum()])
    assert [float(v) for v in f(f32(1, 1), np.ones(5, np.float32))] == [2, 5]
    with pytest.raises(sg.ShapeError) as error:
        f(f32(1, 1), np.ones(4, np.float32))
    assert message(error) == "axis 0 of y: expected 2*n + 1 = 5, got 4"


@pytest.mark.parametrize("first", ["x", "y"])
def test_a_size_that_is_a_quotient_of_another(first: str) -> None:
    x = sg.array("x", ("n",))
    y, z = sg.array("y", (x.shape[0] // 2,)), sg.array("z", ("m",))
    inputs = [x, y, z] if first == "x" else [z, y, x]
    turn = 1 if first == "x" else -1

    def called(n: int, half: int, m: int) -> tuple[int, ...]:
        sizes = [n, half, m][::turn]
        return f(*(np.ones(size, np.float32) for size in sizes))[0].shape

    for _ in range(2):  # compiled, and from the cache
        f = sg.function(inputs, [y + z, x.sum()])
        assert called(9, 4, 4) == (4,) and called(1, 0, 0) == (0,)
        for half, m in ((3, 3), (5, 5), (5, 4)):
            with pytest.raises(sg.ShapeError) as error:
                called(9, half, m)
            assert message(error) == f"axis 0 of y: expected n//2 = 4, got {half}"
        with pytest.raises(sg.ShapeError, match="add: axis 0"):
            called(9, 4, 5)


def test_a_quotient_does_not_give_its_size_a_value() -> None:
    x = sg.array("x", ("n",))
    y = sg.array("y", (x.shape[0] // 2,))
    with pytest.raises(sg.MissingInputError) as error:
        sg.function([y], y * 2)
    assert error.value.message == "no input gives the size n a value: axis 0 of y is n//2"


def test_an_integer_input_gives_a_size() -> None:
    n = sg.scalar("n", dtype="int32")
    f = sg.function([n], sg.zeros((n, 2)) + 1)
    assert f(3).shape == (3, 2) and f(np.int32(0)).shape == (0, 2)
    with pytest.raises(sg.ShapeError) as error:
        f(-1)
    assert (
        message(error) == "broadcast_to: size of axis 0: expected 0 <= n, got -1 (the value of n)"
    )


@pytest.mark.parametrize("n", [2**31 - 1, 2**62, 2**63 - 1])
def test_sizes_that_overflow_are_refused(n: int) -> None:
    size = sg.scalar("n", dtype="int64")
    f = sg.function([size], sg.zeros((size, size, size)) + 1)
    with pytest.raises((sg.SizeError, MemoryError)):
        f(n)
    assert f(2).shape == (2, 2, 2)


def test_a_shape_is_enough_of_an_input() -> None:
    x = sg.array("x", ("n", 3))
    assert int(sg.function([x], x.shape[0])(np.zeros((5, 3), np.float32))) == 5


# --- copies, texts ---


def test_copies_with_other_variables() -> None:
    x, w, v = sg.vector("x"), sg.shared(f32(1, 2), "w"), sg.shared(f32(10, 20), "v")
    f = sg.function([x], x + w, updates={w: w + x}, name="f")
    g = f.copy(swap={w: v}, name="g")
    assert g(f32(1, 1)).tolist() == [11, 21] and v.get_value().tolist() == [11, 21]
    assert w.get_value().tolist() == [1, 2] and g.name == "g" and g.shared == (v,)
    h = f.copy(delete_updates=True)
    assert h(f32(1, 1)).tolist() == [2, 3] and w.get_value().tolist() == [1, 2]
    assert f.copy()(f32(1, 1)).tolist() == [2, 3] and w.get_value().tolist() == [2, 3]
    with pytest.raises(sg.GraphError) as error:
        f.copy(swap={v: w})
    assert message(error).startswith("copy: swap: v is not a shared variable of the function")
    with pytest.raises(sg.GraphError) as error:
        f.copy(swap={w: sg.shared(1.0, "s")})
    assert message(error).startswith("copy: swap: s does not fit in the place of w")


def test_explain_and_source() -> None:
    x = sg.vector("x")
    f = sg.function([x], sg.exp(x) + 1, name="f", optimize="none")
    text = f.explain()
    assert (
        text.startswith("f(x)\n")
        and "kernels: 1 launches" in text
        and "exp" in text
        and "arena: 0 bytes" in text
    )
    assert "exp" in f.source("graph") and "output0" in f.source("plan")
    assert (
        "for " in f.source("loops")
        and "define i32 @" in f.source("llvm")
        and "ret" in f.source("asm")
    )
    with pytest.raises(sg.GraphError):
        f.source("c")


def test_shown_stages(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("SYMGRAPH_DUMP", str(tmp_path))
    x = sg.vector("x")
    sg.function([x], sg.exp(x) + 1, name="f", show="graph,times")
    shown = capfd.readouterr().err
    assert shown.startswith("--- f: graph\n") and "total" in shown
    names = sorted(p.name for p in tmp_path.iterdir())  # type: ignore[attr-defined]
    assert names == [
        f"f-{i:02}-{s}.txt"
        for i, s in enumerate("graph rewrites plan loops llvm asm times".split(), 1)
    ]


def test_a_warm_start_gives_the_same_function() -> None:
    def build() -> object:
        x, w = sg.array("x", ("n", 3)), sg.shared(np.ones((3, 2), np.float32), "w")
        c = sg.constant(np.arange(200, dtype=np.float32).reshape(2, 100))
        return sg.function([x], {"y": sg.tanh(x @ w) @ c, "n": x.shape[0]}, updates={w: w * 0.5})

    first, second = build(), build()
    value = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    for _ in range(3):
        a, b = first(value), second(value)  # type: ignore[operator]
        assert a["y"].tobytes() == b["y"].tobytes() and int(a["n"]) == int(b["n"]) == 5
    for f in (first, second):
        with pytest.raises(sg.ArgumentError):
            f(np.ones((5, 4), np.float32))  # type: ignore[operator]
    times = [f.explain().partition("times:")[2] for f in (first, second)]  # type: ignore[attr-defined]
    assert "compile" in times[0] and "compile" not in times[1]


def test_explain_times_each_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMGRAPH_CACHE", "0")
    cache.clear()
    x = sg.matrix("x")
    text = sg.function([x], [sg.exp(x) + 2.5, x.T * 2.5], cache=False).explain()
    total, below = re.search(r"compile +([\d.]+) ms((?:\n {12}.*)*)", text).groups()  # type: ignore[union-attr]
    parts = {name: float(t) for t, name in re.findall(r"([\d.]+) ms  (\S+)", below)}
    assert len([name for name in parts if name.startswith(("map_", "transpose_"))]) == 2
    assert {"f.run", "f.entry"} <= set(parts)
    assert sum(parts.values()) == pytest.approx(float(total), abs=0.1)


def test_functions_share_the_objects_of_equal_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel is compiled once in a process, whatever the function it is part of."""
    monkeypatch.setenv("SYMGRAPH_CACHE", "0")
    cache.clear()
    compiled: list[str] = []
    compile_object = jit.compile_object

    def spy(text: str, *args: Any) -> bytes:
        compiled.extend(re.findall(r"^define i32 @(map_\w+)\(", text, re.M))
        return compile_object(text, *args)

    monkeypatch.setattr(jit, "compile_object", spy)
    x, y, z = sg.matrix("x"), sg.matrix("y"), sg.matrix("z")
    alone = sg.function([x], sg.exp(x) * 1.75)
    (shared,) = compiled
    both = sg.function([y, z], {"a": sg.exp(y) * 1.75, "b": sg.tanh(z) - 1.75}, name="other")
    assert len(compiled) == 2 and compiled.count(shared) == 1
    a = np.ones((3, 4), "float32")
    assert np.array_equal(both(a, a)["a"], alone(a))


def test_warnings_do_not_come_from_compiling() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = sg.vector("x")
        sg.function([x], sg.log(x))(f32(-1, 0))
