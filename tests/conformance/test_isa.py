"""The core of the sweep on narrower machines: the same programs with the host's features masked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from symgraph.backends.targets import host
from symgraph.errors import TargetError

ROOT = Path(__file__).parent.parent.parent
MASKS = ("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4")
#: tests of the sweep that use every kind of kernel, in the dtypes whose code differs by machine
CORE = (
    "test_elementwise[float32-exp]",
    "test_elementwise[float32-tan]",
    "test_elementwise[float32-float32-add]",
    "test_elementwise[float64-tan]",
    "test_elementwise[bfloat16-tan]",
    "test_elementwise[float32-i1e]",
    "test_elementwise[float64-i1e]",
    "test_elementwise[float64-float64-kl_div]",
    "test_elementwise[float16-float16-add]",
    "test_elementwise[int8-int8-right_shift]",
    "test_elementwise[int64-int64-fmod]",
    "test_elementwise[uint32-uint32-fmod]",
    "test_elementwise[bool-float32-float32-where]",
    "test_language[reductions-float32-",
    "test_language[reductions-int8-",
    "test_language[movement-float32-",
    "test_language[movement-bool-",
    "test_language[indexing-float32-",
    "test_language[indexing-uint8-",
    "test_language[contractions-float32-matmul]",
    "test_language[contractions-float64-matmul]",
    "test_language[contractions-int16-matmul]",
    "test_language[networks-float32-",
    "test_language[random-float32-",
    "test_language[control-float32-",
)


def core_tests() -> list[str]:
    """Node ids of the core, by prefix; each prefix finds some."""
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/conformance/test_sweep.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    chosen = [line for line in listed if line.partition("::")[2].startswith(CORE)]
    missing = [c for c in CORE if not any(line.partition("::")[2].startswith(c) for line in chosen)]
    assert not missing, missing
    return chosen


@pytest.fixture(scope="module")
def core() -> list[str]:
    return core_tests()


def run_sweep(mask: str, threads: int, tests: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests of the sweep in a process of their own, for a masked host and some threads."""
    monkeypatch.setenv("SYMGRAPH_CPU", mask)
    monkeypatch.setenv("SYMGRAPH_THREADS", str(threads))
    try:
        host()
    except TargetError as error:
        pytest.skip(str(error))
    options = ["-q", "--tb=short", "-p", "no:cacheprovider", "-m", "not deep"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-4000:]


@pytest.mark.slow
@pytest.mark.parametrize("mask", MASKS)
def test_core_sweep(mask: str, core: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run_sweep(mask, 1, core, monkeypatch)


@pytest.mark.deep
@pytest.mark.parametrize("threads", (1, 2, 4))
@pytest.mark.parametrize("mask", MASKS)
def test_whole_sweep(mask: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run_sweep(mask, threads, ["tests/conformance/test_sweep.py"], monkeypatch)
