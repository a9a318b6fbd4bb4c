"""The same pipeline for every machine: programs are linked with a C driver, run, and compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import symgraph as sg
from benchmarks.portability import PROGRAMS
from symgraph.backends.aot import Ahead, compile_ahead
from tests.strategies import assert_close

from . import machine

SIZES = {"n": 37, "m": 19}
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-42, -1e-39, 6e4]

pytestmark = pytest.mark.emulator


def values(x: sg.Expr, rng: np.random.Generator, special: bool) -> np.ndarray:
    """Values for an input; with `special`, some that are not ordinary numbers."""
    shape = tuple(s if isinstance(s, int) else SIZES[str(s)] for s in x.array_type.shape)
    dtype = x.array_type.dtype
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.is_integer:
        return rng.integers(
            0 if "u" in str(dtype) or x.name == "labels" else -99, 10, shape
        ).astype(dtype.np)
    found = np.asarray(rng.standard_normal(shape))
    if special:
        found = np.where(rng.random(shape) < 0.2, rng.choice(SPECIAL, shape), found)
    with np.errstate(over="ignore"):
        return found.astype(dtype.np)


def sizes_of(ahead: Ahead, arrays: list[np.ndarray]) -> list[int]:
    """The values of the named sizes, in the order of the C function's."""
    return [
        SIZES[s["name"]] if s["value_of_input"] is None else int(arrays[s["value_of_input"]])
        for s in ahead.manifest["sizes"]
    ]


def compare(
    inputs: list[sg.Expr],
    outputs: list[sg.Expr],
    arrays: list[np.ndarray],
    ahead: Ahead,
    tolerance: float,
    folder: Path,
) -> None:
    """Run a compiled program and assert that it computes what the reference does."""
    arrays = machine.flushed(arrays, ahead.target)
    assert set(ahead.manifest["needs"]) <= {"memcpy", "memmove", "memset"}
    code, got = machine.run(ahead, arrays, sizes_of(ahead, arrays), folder)
    assert code == 0
    with np.errstate(all="ignore"):
        wanted = sg.evaluate(outputs, dict(zip(inputs, arrays)))
    assert len(got) == len(wanted)
    for data, want in zip(got, wanted):
        want = np.asarray(want)
        value = np.frombuffer(data, want.dtype).reshape(want.shape)
        assert_close(*machine.flushed([value, want], ahead.target), tolerance)


@pytest.mark.parametrize("target", machine.MACHINES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str, target: str, tmp_path: Path) -> None:
    machine.require(target, "link", "run")
    program, rng = PROGRAMS[name], np.random.default_rng(7)
    inputs, outputs = program.graph()
    ahead = compile_ahead(inputs, outputs, target)
    arrays = [values(x, rng, special=name in ("chain", "movement")) for x in inputs]
    compare(inputs, outputs, arrays, ahead, program.tolerance, tmp_path)
