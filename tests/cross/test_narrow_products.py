"""Products of narrow operands on other machines: linked, run, and exactly the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends import jit, targets
from symgraph.backends.aot import Ahead, aot_modules, compile_ahead
from symgraph.backends.build import make_plan
from symgraph.backends.options import Options
from symgraph.backends.request import make_request
from symgraph.backends.stages import Stages

from . import machine

pytestmark = pytest.mark.emulator

PAIRS = [("uint8", "int8"), ("int8", "int8"), ("int8", "uint8"), ("uint8", "uint8")]
INSTRUCTIONS = {  # of bytes, or of what they are widened to; none: widening multiply-adds
    "x86-64-v2": ("pmaddwd",),
    "x86-64-v3": ("vpmaddwd",),
    "x86-64-v4": ("vpmaddwd",),
    "cortex-a76": ("sdot", "udot"),
    "neoverse-v1": ("sdot", "udot", "usdot"),
}


def some(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """All values, the extremes often."""
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return np.where(rng.random(shape) < 0.3, rng.choice([info.min, info.max], shape), x).astype(
        dtype
    )


def program() -> tuple[list[sg.Expr], list[sg.Expr], list[np.ndarray]]:
    """Every pair of signs, sizes with rests, a constant, a convolution, a requantization."""
    rng = np.random.default_rng(3)
    inputs, outputs, arrays = [], [], []
    for i, (left, right) in enumerate(PAIRS):
        a, b = some(rng, left, (9, 35)), some(rng, right, (35, 21))
        x, y = sg.array(f"a{i}", a.shape, left), sg.array(f"b{i}", b.shape, right)
        inputs += [x, y]
        arrays += [a, b]
        outputs += [sg.matmul(x, y, dtype="int32"), sg.matmul(x, sg.constant(b), dtype="int32")]
        outputs.append(sg.matmul(x, y.T[:, :35].T, dtype="int32"))
    image = some(rng, "uint8", (1, 6, 6, 5))
    kernel = sg.constant(some(rng, "int8", (3, 3, 5, 9)))
    x = sg.array("image", image.shape, "uint8")
    sums = sg.conv2d(x, kernel, padding=1, layout="NHWC", dtype="int32")
    scale = sg.constant(2.0 ** rng.integers(-12, -6, 9).astype("f4"))
    outputs += [sums, sg.clip(sg.round(sums * scale + 0.5), 0, 255).astype("uint8")]
    outputs.append(sg.clip(sg.round(sums * scale), -128, 127).astype("int8"))
    return [*inputs, x], outputs, [*arrays, image]


def compiled(target: str) -> tuple[Ahead, list[np.ndarray], list[np.ndarray]]:
    inputs, outputs, arrays = program()
    return (
        compile_ahead(inputs, outputs, target),
        arrays,
        sg.evaluate(outputs, dict(zip(inputs, arrays))),
    )


@pytest.mark.parametrize("name", [*machine.MACHINES, *machine.DOT_MACHINES])
def test_narrow_products(name: str, tmp_path: Path) -> None:
    machine.require(name, "link", "run")
    ahead, arrays, wanted = compiled(name)
    assert set(ahead.manifest["needs"]) <= {"memcpy", "memmove", "memset"}
    code, got = machine.run(ahead, arrays, [], tmp_path)
    assert code == 0 and len(got) == len(wanted)
    for data, want in zip(got, wanted):
        assert np.array_equal(np.frombuffer(data, want.dtype).reshape(want.shape), want)


@pytest.mark.parametrize("name", [*machine.MACHINES, *machine.DOT_MACHINES])
def test_instructions(name: str, tmp_path: Path) -> None:
    """The target's instructions are in the code; GNU's assembler refuses any that it lacks."""
    machine.require(name, "assemble")
    inputs, outputs, _ = program()
    where, stages = targets.target(name), Stages("dots", ())
    planned = make_plan(make_request(inputs, outputs), Options(), where, stages).program
    whole = ""
    for text in aot_modules(planned, where, "model", stages).values():
        assembly = jit.compile_assembly(text, where)
        machine.assemble(name, assembly, tmp_path)
        whole += assembly
    for word in INSTRUCTIONS.get(name, ()):
        assert word in whole
