"""Philox in the loop IR: known answers, and the words of symgraph.philox on every target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from symgraph.backends import jit, targets
from symgraph.backends.emit import emit_module
from symgraph.backends.interpret import interpret
from symgraph.backends.legalize import legalize
from symgraph.backends.loops import INDEX, Block, Buffer, Kernel, Ty, Var
from symgraph.backends.vmath.philox import philox4x32
from symgraph.philox import philox4x32 as reference
from tests.backends import emulator
from tests.backends.loop_kernels import compiled

ONES = 0xFFFFFFFF
# (key, counter, words): the known answers that Random123 publishes for philox4x32-10.
KNOWN = [
    ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES), (ONES,) * 4, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0xA4093822, 0x299F31D0),
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def kernel(lanes: int) -> Kernel:
    """Four words out of two of key and four of counter, over n blocks."""
    names = "k0 k1 c0 c1 c2 c3".split()
    inputs = [Buffer(name, "uint32") for name in names]
    outputs = [Buffer(f"w{i}", "uint32", "w") for i in range(4)]
    b, n = Block(), Var("n", Ty(INDEX))
    with b.loop(0, n, lanes) as body:
        words = philox4x32(body, *(body.load(x, body.var, lanes) for x in inputs))
        for out, word in zip(outputs, words):
            body.store(out, body.var, word)
    return Kernel(f"philox{lanes}", (*inputs, *outputs), (n,), tuple(b.stmts))


def arrays(count: int) -> list[np.ndarray]:
    """Known and random keys and counters, and room for the words."""
    known = [np.array([*key, *counter], np.uint32) for key, counter, _ in KNOWN]
    random = np.random.default_rng(0).integers(0, 1 << 32, (count - len(KNOWN), 6), dtype=np.uint32)
    inputs = np.concatenate([np.stack(known), random]).T
    return [*(np.ascontiguousarray(x) for x in inputs), *np.zeros((4, count), np.uint32)]


def check(given: list[np.ndarray]) -> None:
    for got, want in zip(given[6:], reference(*given[:6])):
        np.testing.assert_array_equal(got, want)
    for i, (_, _, words) in enumerate(KNOWN):
        assert tuple(int(w[i]) for w in given[6:]) == words


@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_words_are_the_reference_s(lanes: int) -> None:
    given = arrays(64)
    assert compiled(legalize(kernel(lanes), targets.host()))(given, [64]) == 0
    check(given)


def test_interpreted() -> None:
    given = arrays(16)
    assert interpret(kernel(8), given, [16]) == 0
    check(given)


@pytest.mark.emulator
@pytest.mark.parametrize("name", ["cortex-a53", "cortex-a7"])
def test_under_the_emulator(name: str, tmp_path: Path) -> None:
    target = targets.target(name)
    emulator.require(target)
    given = arrays(32)
    legal = legalize(kernel(4), target)
    obj = jit.compile_object(emit_module([legal], target), target)
    assert emulator.run(obj, [(legal, given, [32])], target, tmp_path) == [0]
    check(given)
