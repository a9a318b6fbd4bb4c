"""What a border's kernel writes: everything around the block, nothing of it, on every target."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from symgraph.backends import jit, targets
from symgraph.backends.border import border, dims, edges, elements
from symgraph.backends.emit import emit
from symgraph.backends.interpret import interpret, numpy_dtype
from symgraph.backends.legalize import legalize
from symgraph.backends.verify_loops import verify
from symgraph.dtypes import dtype as language_dtype
from tests.backends.loop_cases import EVERY, native
from tests.backends.test_contraction import X86, runs


@st.composite
def blocks(draw: Any) -> tuple[list[int], list[int], list[int]]:
    """An array's shape, and where a block lies in it."""
    axes = draw(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=5))
    free = [draw(st.booleans()) for _ in axes]
    low = [0 if f else a for f, (a, _, _) in zip(free, axes)]
    high = [0 if f else c for f, (_, _, c) in zip(free, axes)]
    inside = [b * draw(st.sampled_from([1, 1, 3])) for _, b, _ in axes]
    return [sum(t) for t in zip(low, inside, high)], low, inside


def filled(case: Any, dtype: str, name: str, run: Any) -> None:
    shape, low, inside = case
    target, around = targets.target(name), edges(tuple(shape), low, tuple(inside))
    out = np.full(shape, 77).astype(numpy_dtype(dtype))
    want = np.full(shape, 1).astype(out.dtype)
    want[tuple(slice(a, a + n) for a, n in zip(low, inside))] = out.dtype.type(77)
    if not around:
        assert (out == want).all()
        return
    kernel = border(language_dtype(dtype), 1, around, target)
    verify(kernel)
    assert run(legalize(kernel, target), target)([out.reshape(-1)], list(dims(around))) == 0
    assert (out == want).all()
    assert elements(around) >= (want == want.dtype.type(1)).sum() or dtype == "bool"


@given(blocks(), st.sampled_from(EVERY), st.sampled_from(["x86-64-v4", "x86-64", "cortex-a9"]))
@settings(max_examples=120, deadline=None, derandomize=True)
def test_by_the_interpreter(case: Any, dtype: str, name: str) -> None:
    filled(case, dtype, name, lambda kernel, target: lambda *args: interpret(kernel, *args))


@given(blocks(), st.sampled_from(EVERY), st.sampled_from([n for n in X86 if runs(n)]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_native(case: Any, dtype: str, name: str) -> None:
    def run(kernel: Any, target: Any) -> Any:
        library = jit.load([jit.compile_object(emit(kernel, target), target)], [kernel.name])
        call = native(library.address(kernel.name), kernel, target)
        call.library = library
        return call

    filled(case, dtype, name, run)
