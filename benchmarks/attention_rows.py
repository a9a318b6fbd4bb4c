"""Rows of attention, forward and with gradients, against torch and jax; see contractions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import Row, Work
from benchmarks.timing import Statement
from benchmarks.torch_peer import torch_of_one_pool

Build = Callable[..., Statement]

HEADS, LENGTH, WIDTH = 8, 512, 64


def attention_inputs(many: int) -> Any:
    """A maker of q, k, v and the slope of the result, as many as asked for."""
    shape = (1, HEADS, LENGTH, WIDTH)
    return lambda random: tuple(random.standard_normal(shape).astype("f4") for _ in range(many))


def attention_symgraph(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Statement:
    import symgraph as sg

    given = [sg.array(name, x.shape) for name, x in zip("qkv", (q, k, v))]
    x, y, z = given
    f = sg.function(given, sg.attention(x, y, z, causal=True))
    return Statement("f(q, k, v)", f=f, q=q, k=k, v=v)


def attention_gradient_symgraph(*arrays: np.ndarray) -> Statement:
    """The result and three gradients, in one function."""
    import symgraph as sg

    given = [sg.array(name, x.shape) for name, x in zip("qkvy", arrays)]
    x, y, z, slope = given
    result = sg.attention(x, y, z, causal=True)
    f = sg.function(given, [result, *sg.grad((result * slope).sum(), [x, y, z])])
    return Statement("f(q, k, v, y)", f=f, **dict(zip("qkvy", arrays)))


def attention_torch(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Statement:
    torch = torch_of_one_pool()
    given = {name: torch.from_numpy(x) for name, x in zip("qkv", (q, k, v))}
    f = torch.nn.functional.scaled_dot_product_attention
    return Statement("f(q, k, v, is_causal=True)", f=f, **given)


def attention_gradient_torch(*arrays: np.ndarray) -> Statement:
    torch = torch_of_one_pool()
    *given, slope = (torch.from_numpy(x) for x in arrays)
    given = [x.requires_grad_() for x in given]

    def both() -> list[Any]:
        with torch.enable_grad():
            y = torch.nn.functional.scaled_dot_product_attention(*given, is_causal=True)
            return [y.detach(), *torch.autograd.grad(y, given, slope)]

    return Statement("f()", f=both)


def jax_attention(q: Any, k: Any, v: Any) -> Any:
    """jax has the heads behind the rows."""
    import jax

    turned = (x.swapaxes(1, 2) for x in (q, k, v))
    return jax.nn.dot_product_attention(*turned, is_causal=True).swapaxes(1, 2)


def attention_jax(*arrays: np.ndarray) -> Statement:
    import jax

    given = dict(zip("qkv", map(jax.numpy.asarray, arrays)))
    return Statement("f(q, k, v).block_until_ready()", f=jax.jit(jax_attention), **given)


def attention_gradient_jax(*arrays: np.ndarray) -> Statement:
    import jax

    def both(q: Any, k: Any, v: Any, y: Any) -> Any:
        result, pull = jax.vjp(jax_attention, q, k, v)
        return [result, *pull(y)]

    given = dict(zip("qkvy", map(jax.numpy.asarray, arrays)))
    return Statement("block(f(q, k, v, y))", f=jax.jit(both), block=jax.block_until_ready, **given)


def attention_rows() -> list[Row]:
    """Causal: only products of queries with keys they see are counted, as operations."""
    once = 2 * HEADS * (LENGTH * (LENGTH + 1) // 2) * WIDTH
    cases: list[tuple[str, int, Build, dict[str, Build], int, float]] = [
        ("", 3, attention_symgraph, {"torch": attention_torch, "jax": attention_jax}, 2, 1.2),
        (
            " with gradients",
            4,
            attention_gradient_symgraph,
            {"torch": attention_gradient_torch, "jax": attention_gradient_jax},
            7,
            1.1,
        ),
    ]
    return [
        Row(
            f"attention causal {HEADS} x {LENGTH} x {WIDTH}{what}",
            attention_inputs(many),
            ours,
            peers,
            tolerance=LENGTH * float(np.finfo(np.float32).eps),
            work=Work(products * once, "fma_f32"),
            goal={"ratio": goal},
            quick=not what,
            needs="attention",
        )
        for what, many, ours, peers, products, goal in cases
    ]
