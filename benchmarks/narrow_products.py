"""Rows of benchmarks.contractions with narrow operands: int8 and bfloat16, requantized layers.

Integers are compared exactly. A requantized layer is scale, bias, rounding and clamp of an int8
convolution, to uint8; peers may round a tie, or the bias, another way, so one step is allowed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.harness import Row, Work
from benchmarks.timing import Statement

Build = Callable[..., Statement]
SIDES = (64, 128, 256, 512, 1024, 2048)


def torch_of_one_pool() -> Any:
    """torch, with as many threads as the environment says."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.set_grad_enabled(False)
    return torch


# --------------------------------------------------------------------------------- matrix products


def integers(*dtypes: str) -> Callable[[int], Any]:
    """Makers of square operands that use the whole range of their dtypes."""

    def made(side: int) -> Any:
        return lambda random: tuple(
            random.integers(np.iinfo(d).min, np.iinfo(d).max, (side, side), d, endpoint=True)
            for d in dtypes
        )

    return made


def halves(side: int) -> Any:
    """A maker of bfloat16 operands."""
    import ml_dtypes

    return lambda random: tuple(
        random.standard_normal((side, side)).astype(ml_dtypes.bfloat16) for _ in range(2)
    )


def matmul_symgraph(dtype: str | None) -> Build:
    def build(a: np.ndarray, b: np.ndarray) -> Statement:
        import symgraph as sg

        x, y = sg.array("x", a.shape, a.dtype), sg.array("y", b.shape, b.dtype)
        return Statement("f(a, b)", f=sg.function([x, y], sg.matmul(x, y, dtype=dtype)), a=a, b=b)

    return build


def matmul_torch(a: np.ndarray, b: np.ndarray) -> Statement:
    """int8 into int32."""
    torch = torch_of_one_pool()
    return Statement("f(x, y)", f=torch._int_mm, x=torch.from_numpy(a), y=torch.from_numpy(b))


class _Widened(Statement):
    """Its result is shown as float32, which NumPy knows."""

    def value(self) -> Any:
        return super().value().float()


def halves_torch(a: np.ndarray, b: np.ndarray) -> Statement:
    torch = torch_of_one_pool()
    x, y = (torch.from_numpy(v.view(np.int16)).view(torch.bfloat16) for v in (a, b))
    return _Widened("f(x, y)", f=torch.matmul, x=x, y=y)


def matmul_jax(dtype: str | None) -> Build:
    def build(a: np.ndarray, b: np.ndarray) -> Statement:
        import jax

        f = jax.jit(lambda x, y: jax.numpy.matmul(x, y, preferred_element_type=dtype))
        x, y = jax.numpy.asarray(a), jax.numpy.asarray(b)
        return Statement("f(x, y).block_until_ready()", f=f, x=x, y=y)

    return build


def integer_row(side: int, dtypes: tuple[str, str]) -> Row:
    peers: dict[str, Build] = {"jax": matmul_jax("int32")}
    if dtypes == ("int8", "int8"):
        peers["torch"] = matmul_torch
    goal = {"ratio": 1.0} | ({"fraction": 0.9} if side >= 512 else {})
    return Row(
        f"{side} x {side} x {side} {' x '.join(dtypes)}",
        integers(*dtypes)(side),
        matmul_symgraph("int32"),
        peers if dtypes[0] == dtypes[1] else {},
        work=Work(2.0 * side**3, "dot_int8", 6.0 * side**2, "read_L2"),
        goal=goal if dtypes[0] == dtypes[1] else {k: v for k, v in goal.items() if k != "ratio"},
        quick=side in (64, 512),
    )


def halves_row(side: int) -> Row:
    """bfloat16 into bfloat16, as the peers have it."""
    return Row(
        f"{side} x {side} x {side} bfloat16",
        halves(side),
        matmul_symgraph(None),
        {"torch": halves_torch, "jax": matmul_jax(None)},
        tolerance=2.0**-7,
        work=Work(2.0 * side**3, "dot_bf16", 6.0 * side**2, "read_L2"),
        goal={"ratio": 1.0},
        quick=side == 512,
    )


# ------------------------------------------------------------------------------------ convolutions


def layer_inputs(layer: Any) -> Any:
    """A maker of image, kernel, scales and bias."""
    image = (1, layer.size, layer.size, layer.channels)
    kernel = (layer.window, layer.window, layer.channels, layer.outputs)

    def made(random: np.random.Generator) -> tuple[np.ndarray, ...]:
        x = random.integers(0, 255, image, "uint8", endpoint=True)
        w = random.integers(-128, 127, kernel, "int8", endpoint=True)
        spread = 1.5e4 * layer.steps**0.5  # of the sums
        scale = (random.uniform(20, 60, layer.outputs) / spread).astype("f4")
        return x, w, scale, random.uniform(60, 200, layer.outputs).astype("f4")

    return made


def layer_symgraph(layer: Any) -> Build:
    def build(x: np.ndarray, w: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> Statement:
        import symgraph as sg

        image, kernel = sg.array("x", x.shape, x.dtype), sg.constant(w)
        sums = sg.conv2d(image, kernel, padding=layer.padding, layout="NHWC", dtype="int32")
        real = sums * sg.constant(scale) + sg.constant(bias)
        f = sg.function([image], sg.clip(sg.round(real), 0, 255).astype("uint8"))
        return Statement("f(x)", f=f, x=x)

    return build


def layer_torch(layer: Any) -> Build:
    """torch's quantized convolution, channels-last, the kernel packed before."""

    def build(x: np.ndarray, w: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> Statement:
        torch = torch_of_one_pool()
        channels_first = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        image = torch._make_per_tensor_quantized_tensor(channels_first, 1.0, 0)
        image = image.contiguous(memory_format=torch.channels_last)
        kernel = torch._make_per_channel_quantized_tensor(
            torch.from_numpy(np.ascontiguousarray(w.transpose(3, 2, 0, 1))),
            torch.from_numpy(scale.astype(np.float64)),
            torch.zeros(len(scale), dtype=torch.int64),
            0,
        )
        ones, around = [1, 1], [layer.padding] * 2
        packed = torch.ops.quantized.conv2d_prepack(
            kernel, torch.from_numpy(bias), ones, around, ones, 1
        )
        code = "f(x, w, 1.0, 0).int_repr().permute(0, 2, 3, 1)"
        return Statement(code, f=torch.ops.quantized.conv2d, x=image, w=packed)

    return build


def layer_row(layer: Any) -> Row:
    return Row(
        f"{layer.name} int8 requantized",
        layer_inputs(layer),
        layer_symgraph(layer),
        {"torch": layer_torch(layer)},
        tolerance=1.01 / 255,
        work=Work(layer.operations(1), "dot_int8"),
        goal={"ratio": 1.0, "fraction": 0.93},
        quick=layer.size == 28,
        needs="conv2d",
    )


def rows(layers: Sequence[Any]) -> list[Row]:
    """layers: of benchmarks.contractions.Layer."""
    pairs = (("int8", "int8"), ("uint8", "int8"))
    products = [integer_row(side, pair) for side in SIDES for pair in pairs]
    return [*products, *map(halves_row, (256, 512, 1024)), *map(layer_row, layers)]
