"""Chains of ops that take a product's values from registers: the same bits as two kernels give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.backends.plan import plan
from symgraph.backends.program import Launch, Program
from symgraph.backends.simulate import simulate
from symgraph.backends.targets import target
from symgraph.backends.verify_loops import verify

from ..conformance.test_random_programs import same
from .test_threads import eager, for_each_count

TARGETS = [target(name) for name in ("x86-64-v4", "x86-64-v2", "cortex-a72", "cortex-a9")]

Op = Callable[[sg.Expr, sg.Expr, sg.Expr], sg.Expr]
#: what a chain is made of: of its value, a vector along the last axis, an array of its shape
LINKS: dict[str, Op] = {
    "bias": lambda x, v, r: x + v,
    "scale": lambda x, v, r: x * v,
    "residual": lambda x, v, r: x + r,
    "gate": lambda x, v, r: sg.where(r > 0, x, 0 * x),
    "clip": lambda x, v, r: sg.clip(x, -1, 2),
    "square": lambda x, v, r: x * x,
    "number": lambda x, v, r: 3 - x,
    "corner": lambda x, v, r: x + v[0],
    "from the end": lambda x, v, r: x + v[::-1],
}
FLOAT_LINKS: dict[str, Op] = {
    "tanh": lambda x, v, r: sg.tanh(x),
    "gelu": lambda x, v, r: sg.gelu(x),
    "sigmoid": lambda x, v, r: sg.sigmoid(x) * v,
}


def matmul(dtype: str) -> tuple[list[sg.Expr], sg.Expr]:
    a, b = sg.array("a", (9, 13), dtype), sg.array("b", (13, 37), dtype)
    return [a, b], a @ b


def batched(dtype: str) -> tuple[list[sg.Expr], sg.Expr]:
    a, b = sg.array("a", ("n", 5, 6), dtype), sg.array("b", ("n", 6, 18), dtype)
    return [a, b], a @ b


def rows(dtype: str) -> tuple[list[sg.Expr], sg.Expr]:
    a, b = sg.array("a", ("n", 4, 6), dtype), sg.array("b", (6, 18), dtype)
    return [a, b], a @ b


def vector(dtype: str) -> tuple[list[sg.Expr], sg.Expr]:
    a, b = sg.array("a", (1, 700), dtype), sg.array("b", (700, 70), dtype)
    return [a, b], a @ b


def column(dtype: str) -> tuple[list[sg.Expr], sg.Expr]:
    a, b = sg.array("a", (40, 90), dtype), sg.array("b", (40, 1), dtype)
    return [a, b], a.T @ b


def convolution(dtype: str) -> tuple[list[sg.Expr], sg.Expr]:
    x, w = sg.array("x", ("n", 6, 5, 3), dtype), sg.array("w", (3, 2, 3, 20), dtype)
    return [x, w], sg.conv2d(x, w, layout="NHWC", padding=((1, 0), (0, 1)), stride=(1, 2))


def grouped(dtype: str) -> tuple[list[sg.Expr], sg.Expr]:
    x, w = sg.array("x", (2, 7, 6), dtype), sg.array("w", (3, 2, 12), dtype)
    return [x, w], sg.conv1d(x, w, layout="NWC", groups=3, dilation=2)


def depthwise(dtype: str) -> tuple[list[sg.Expr], sg.Expr]:
    x, w = sg.array("x", ("n", 6, 5, 21), dtype), sg.array("w", (3, 2, 1, 21), dtype)
    return [x, w], sg.conv2d(x, w, layout="NHWC", padding=1, stride=(1, 2), groups=21)


CONVOLUTIONS = {f.__name__: f for f in (convolution, grouped, depthwise)}
PRODUCTS = {f.__name__: f for f in (matmul, batched, rows, vector, column)} | CONVOLUTIONS


def compiled(inputs: Sequence[sg.Expr], outputs: Any) -> Any:
    return sg.function(inputs, outputs, on_unused_input="ignore")


def values(inputs: Sequence[sg.Expr], seed: int = 0) -> list[np.ndarray]:
    """Small whole numbers and halves, and some that are not finite."""
    random = np.random.default_rng(seed)
    arrays = []
    for x in inputs:
        shape = tuple(s if isinstance(s, int) else 3 for s in x.array_type.shape)
        drawn = random.integers(-6, 7, shape) / (1 if x.dtype.is_integer else 8)
        if not x.dtype.is_integer and drawn.size > 4:
            drawn.reshape(-1)[random.integers(0, drawn.size, 2)] = [np.inf, np.nan]
        arrays.append(np.asarray(drawn).astype(str(x.dtype)))
    return arrays


def chained(product: str, dtype: str, links: Sequence[str]) -> tuple[Any, ...]:
    """A product, its chain, and the chain on an input in its stead."""
    inputs, made = PRODUCTS[product](dtype)
    shape = made.array_type.shape
    v, r = sg.array("v", (shape[-1],), dtype), sg.array("r", shape, dtype)
    p = sg.array("p", shape, dtype)
    table = LINKS | FLOAT_LINKS
    fused, apart = made, p
    for link in links:
        fused, apart = table[link](fused, v, r), table[link](apart, v, r)
    return inputs, made, [v, r], fused, p, apart


def fused_groups(f: Any, op: str) -> list[str]:
    lines = [line for line in f.explain().splitlines() if "ends:" in line and f"({op}" in line]
    return [line for line in lines if " 1 nodes" not in line]


@given(
    product=st.sampled_from(sorted(PRODUCTS)),
    dtype=st.sampled_from(["float32", "float64", "float16", "int32", "int8"]),
    data=st.data(),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_chains_give_the_same_bits(product: str, dtype: str, data: Any) -> None:
    table = LINKS if dtype.startswith("int") else LINKS | FLOAT_LINKS
    links = data.draw(st.lists(st.sampled_from(sorted(table)), min_size=1, max_size=4))
    inputs, made, more, fused, p, apart = chained(product, dtype, links)
    given_values = values([*inputs, *more])
    f = compiled([*inputs, *more], fused)
    assert fused_groups(f, "convolve" if product in CONVOLUTIONS else "matmul"), links
    before = compiled(inputs, made)(*given_values[:2])
    after = compiled([p, *more], apart)(before, *given_values[2:])
    assert same([f(*given_values)], [after])


@pytest.mark.parametrize("product", sorted(PRODUCTS))
@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: t.name)
def test_every_target_by_the_interpreter(product: str, machine: Any) -> None:
    inputs, _, more, fused, _, _ = chained(product, "float32", ["bias", "gate", "residual"])
    given_values = values([*inputs, *more], 3)
    program = plan([*inputs, *more], [fused, fused > 0], target=machine)
    assert not any(step.kernel.name in ("map", "reduce") for step in launches(program))
    for step in launches(program):
        verify(step.kernel)
    got, _ = simulate(program, given_values, [])
    want = sg.evaluate(fused, dict(zip([*inputs, *more], given_values)))
    np.testing.assert_allclose(got[0], want, rtol=1e-4, atol=1e-4)
    assert np.array_equal(got[1], got[0] > 0)


def launches(program: Program) -> list[Launch]:
    return [step for step in program.steps if isinstance(step, Launch)]


@pytest.mark.parametrize("product", ["matmul", "rows", "vector", *CONVOLUTIONS])
def test_any_number_of_threads(product: str) -> None:
    inputs, _, more, fused, _, _ = chained(product, "float32", ["bias", "tanh", "residual"])
    with eager():
        f = compiled([*inputs, *more], [fused, fused * 2])
        for_each_count(f, values([*inputs, *more], 1))


def padded_chain() -> tuple[list[sg.Expr], sg.Expr]:
    x = sg.array("x", (2, 9, 8, 3))
    w, v = sg.array("w", (3, 3, 3, 20)), sg.array("v", (3, 3, 20, 5))
    hidden = sg.relu(sg.conv2d(x, w, layout="NHWC", padding=1) + 0.5)
    return [x, w, v], sg.conv2d(hidden, v, layout="NHWC", padding=(1, 2))


def test_what_the_next_convolution_pads_is_written_into_its_border() -> None:
    inputs, result = padded_chain()
    f = sg.function(inputs, result)
    assert "stored inside of a border" in f.explain()
    arrays = values(inputs)
    arrays = [np.nan_to_num(a, posinf=1.0) for a in arrays]
    want = sg.evaluate(result, dict(zip(inputs, arrays)))
    np.testing.assert_allclose(f(*arrays), want, rtol=1e-4, atol=1e-4)


def test_gradients_of_activations_end_backward_products() -> None:
    x, w, v = sg.array("x", (8, 5)), sg.array("w", (5, 9)), sg.array("v", (9, 4))
    b = sg.array("b", (9,))
    loss = ((sg.relu(x @ w + b) @ v) ** 2).sum()
    f = sg.function([x, w, v, b], sg.grad(loss, [w, v, b]))
    assert "what follows reduces" in f.explain()
    arrays = [np.nan_to_num(a, posinf=1.0) for a in values([x, w, v, b])]
    for got, want in zip(f(*arrays), sg.grad(loss, [w, v, b])):
        expected = sg.evaluate(want, dict(zip([x, w, v, b], arrays)))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


REASONS = [
    (lambda p, v, r: [p, p + v], "it is a result"),
    (lambda p, v, r: [p.sum(axis=0)], "its reader reduces"),
    (lambda p, v, r: [p[::-1] + r], "it is read at another index"),
    (lambda p, v, r: [p + r, (p * 2).sum()], "several kernels read it"),
    (lambda p, v, r: [p * r.sum(axis=1, keepdims=True)[::-1] + sg.arange(37)], "is read by index"),
    (lambda p, v, r: [p.reshape((3, 3, 37)) * r[:3].reshape((1, 3, 37))], "follow its rows"),
]


@pytest.mark.parametrize("chain, reason", REASONS)
def test_why_a_chain_stays_apart(chain: Any, reason: str) -> None:
    inputs, made, (v, r), *_ = chained("matmul", "float32", [])
    outputs = chain(made, v, r)
    f = compiled([*inputs, v, r], outputs)
    assert reason in f.explain()
    arrays = [np.nan_to_num(a, posinf=1.0) for a in values([*inputs, v, r])]
    for got, want in zip(f(*arrays), outputs):
        expected = sg.evaluate(want, dict(zip([*inputs, v, r], arrays)))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
