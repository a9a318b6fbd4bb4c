"""Random words inside loop nests: the reference's, for any place, layout and number of lanes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.backends import targets
from symgraph.backends.interpret import interpret
from symgraph.backends.known import ZERO, Known
from symgraph.backends.legalize import legalize
from symgraph.backends.loops import INDEX, Block, Buffer, Const, If, Kernel, Let, Ty, Value, Var
from symgraph.ops.random import RandomBits, RandomStream, random_words
from tests.backends.loop_kernels import compiled

STATE = np.array([0x0123456789ABCDEF, 77], np.uint64)
STREAM = 5
TARGETS = ["host"] if not targets.detect().is_x86 else ["host", "x86-64-v3", "x86-64"]


def draw(words: int, lanes: int, stride: int = 1) -> Kernel:
    """y[i] = number first + stride * i of the draw of a state, i from 0 to n."""
    wide = f"uint{32 * words}"
    state, y = Buffer("state", "uint64"), Buffer("y", wide, "w")
    n, first = Var("n", Ty(INDEX)), Var("first", Ty(INDEX))
    b = Block()
    key, call = b.load(state, b.index(0)), b.load(state, b.index(1))
    high = b.let("shr", key, Const(32, key.type))
    fixed: list[Value] = [b.cast(x, wide) for x in (key, high, call)]
    if words == 2:
        fixed = [key, call]
    fixed = [*(b.splat(x, lanes) for x in fixed), Const(STREAM, Ty(wide, lanes))]
    with b.loop(0, n, lanes, "parallel") as body:
        counter = body.let("iota", type=Ty(INDEX, lanes))
        start = body.let("add", first, body.let("mul", body.var, body.index(stride)))
        steps = counter
        if stride != 1:
            steps = body.let("mul", counter, Const(stride, counter.type))
        place = body.cast(body.let("add", body.splat(start, lanes), steps), "uint64")
        index = [place]
        if words == 1:
            over = body.let("shr", place, Const(32, place.type))
            index = [body.cast(place, wide), body.cast(over, wide)]
        args = [*fixed, *index]
        word = body.let("call", *args, type=args[0].type, attr=f"random{32 * words}")
        body.store(y, body.var, word)
    return Kernel(f"draw{words}_{lanes}_{stride}", (state, y), (n, first), tuple(b.stmts))


def expected(words: int, places: np.ndarray) -> np.ndarray:
    drawn = random_words(STATE, STREAM, (int(places.max()) + 1) * words)
    return (drawn if words == 1 else drawn.view(np.uint64))[places]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("words", [1, 2])
def test_words_of_any_place(words: int, lanes: int, stride: int, target: str) -> None:
    """From every residue of a block; whole blocks and single words agree."""
    kernel = legalize(draw(words, lanes, stride), targets.target(target))
    call = compiled(kernel, targets.target(target))
    for first in (0, 1, 2, 3, 4, 1001):
        want = expected(words, first + stride * np.arange(64))
        for run in (call, lambda arrays, dims: interpret(kernel, arrays, dims)):
            y = np.zeros(64, want.dtype)
            assert run([STATE, y], [64, first]) == 0
            np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("words", [1, 2])
def test_places_beyond_32_bits(words: int) -> None:
    """Block numbers with a high half, both ways."""
    first = (1 << 34) + 2
    places = first + np.arange(16)
    kernel = legalize(draw(words, 8), targets.host())
    y = np.zeros(16, f"uint{32 * words}")
    assert compiled(kernel)([STATE, y], [16, first]) == 0
    op = sg.ops.random.random_word32.op if words == 1 else sg.ops.random.random_word64.op
    key, call, stream = (np.uint64(x) for x in (*STATE, STREAM))
    fixed = [key, call, stream]
    if words == 1:
        fixed = [np.uint32(x) for x in (key & 0xFFFFFFFF, key >> 32, call, stream)]
    np.testing.assert_array_equal(y, op.evaluate(*fixed, places.astype(np.uint64)))


CONSUMERS: dict[str, Any] = {
    "itself": lambda bits, x: bits,
    "rows": lambda bits, x: (bits >> 8).astype("float32") * 2.0**-24 + x[0],
    "columns": lambda bits, x: (
        (bits >> 8).astype("float32") * 2.0**-24 + x.max(axis=1, keepdims=True)
    ),
    "transposed": lambda bits, x: (bits >> 8).astype("float32").T * x.T,
    "reversed": lambda bits, x: bits[::-1, ::-1] ^ 1,
    "sliced": lambda bits, x: bits[:, 1:] + 1,
    "summed": lambda bits, x: (bits & 255).sum(axis=1),
    "twice": lambda bits, x: (bits & 7) + (bits.T >> 29).sum(),
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("dtype", ["uint32", "uint64"])
@pytest.mark.parametrize("consumer", CONSUMERS)
@settings(max_examples=6)
@given(rows=st.sampled_from([1, 2, 7, 16]), columns=st.sampled_from([1, 3, 16, 23, 64]))
def test_draws_fused_into_what_reads_them(
    consumer: str, dtype: str, known: bool, rows: int, columns: int
) -> None:
    x = sg.array("x", (rows, columns) if known else ("r", "c"), "float32")
    value = np.random.default_rng(0).normal(size=(rows, columns)).astype("float32")
    stream = RandomStream(3)
    result = CONSUMERS[consumer](stream.bits(x.shape, dtype), x)
    want = sg.evaluate(result, {x: value, stream.state: stream.state.get_value()})
    got = sg.function([x], result, on_unused_input="ignore")(value)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("size", [0, 1, 5, 16, 1000, 65537])
def test_draws_are_the_reference_s(kind: str, dtype: str, size: int) -> None:
    stream = RandomStream(11)
    result = getattr(stream, kind)((size,), dtype=dtype)
    want = sg.evaluate(result)
    np.testing.assert_array_equal(sg.function([], result)(), want)


def test_a_mask_has_no_array() -> None:
    """Dropout and its gradient: the words are made where the mask is used."""
    x = sg.matrix("x", dtype="float32")
    kept = RandomStream(1).bernoulli(x.shape, 0.75)
    f = sg.function([x], sg.where(kept, x / 0.75, 0.0))
    value = np.ones((1000, 1003), "float32")
    got = f(value)
    assert abs(float((got != 0).mean()) - 0.75) < 2e-3
    assert set(np.unique(got)) == {np.float32(0), np.float32(1) / np.float32(0.75)}
    assert "arena: 0 bytes" in f.explain()


# --- what is known of indices ---


def test_known_starts_and_multiples() -> None:
    known, b = Known(), Block()
    i, j, n = (Var(name, Ty(INDEX)) for name in "ijn")
    known.loop(i, b.index(0), b.index(16))
    known.loop(j, i, b.index(6))
    both = b.let("add", i, j)
    scaled = b.let("mul", n, b.index(12))
    masked = b.let("and", n, b.index(-8))
    start = b.splat(i, 8)
    steps = b.let("iota", type=Ty(INDEX, 8))
    place = b.let("add", start, steps)
    index = b.cast(place, "uint32")
    for stmt in b.stmts:
        assert isinstance(stmt, Let)
        known.note(stmt)
    numbers = [known.multiple(v) for v in (b.index(0), i, j, both, scaled, masked, n)]
    assert numbers == [ZERO, 16, 2, 2, 12, 8, 1]
    assert known.consecutive(index) is i and known.consecutive(start) is None
    assert known.consecutive(n) is None
    assert known.uniform(start) is i and known.uniform(index) is None
    assert known.uniform(Const(3, Ty("uint32", 4))) == Const(3, Ty("uint32"))


def test_an_aligned_loop_asks_nothing_at_run_time() -> None:
    def branches(kernel: Kernel) -> int:
        stack, count = list(kernel.body), 0
        while stack:
            stmt = stack.pop()
            count += isinstance(stmt, If)
            stack.extend(getattr(stmt, "body", ()))
        return count

    aligned = draw(1, 16)
    text = legalize(aligned, targets.host())
    assert branches(text) == 1  # `first` may be anything
    n, first = aligned.dims
    body = tuple(_replaced(s, first) for s in aligned.body)
    assert branches(legalize(aligned._replace(dims=(n,), body=body), targets.host())) == 0


def _replaced(stmt: Any, first: Var) -> Any:
    """The statement with the constant 8 for `first`."""
    if hasattr(stmt, "body"):
        return stmt._replace(body=tuple(_replaced(s, first) for s in stmt.body))
    if isinstance(stmt, Let):
        eight = Const(8, Ty(INDEX))
        return stmt._replace(args=tuple(eight if a is first else a for a in stmt.args))
    return stmt


def test_random_bits_expand_to_their_words() -> None:
    op = RandomBits((6,), STREAM, 1)
    state = sg.leaves.constant(STATE)
    np.testing.assert_array_equal(sg.evaluate(op.expand(state)), random_words(STATE, STREAM, 6))
