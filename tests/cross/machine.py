"""Other machines: their linkers, assemblers and emulators, and running compiled programs there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from symgraph.backends import targets
from symgraph.backends.aot import Ahead
from symgraph.backends.targets import Target

MAIN = Path(__file__).with_name("main.c")
_V2 = "as --64 -march=generic64+cx16+sse4.2+popcnt"
_V3 = _V2 + "+avx2+bmi+bmi2+f16c+fma+lzcnt+movbe+xsave"


class Machine(NamedTuple):
    """A machine by its target. `run` starts a program; it is empty where this machine will do.

    assemble: an assembler that refuses instructions the CPU does not have (for cortex-a7 the
    assembly itself says which CPU it is for).
    """

    link: str
    run: str
    assemble: str
    readelf: str


MACHINES = {
    "x86-64-v2": Machine("gcc", "", _V2, "readelf"),
    "x86-64-v3": Machine("gcc", "", _V3, "readelf"),
    "x86-64-v4": Machine(
        "gcc", "", _V3 + "+avx512f+avx512bw+avx512cd+avx512dq+avx512vl", "readelf"
    ),
    "cortex-a72": Machine(
        "aarch64-linux-gnu-gcc",
        "qemu-aarch64 -cpu cortex-a72",
        "aarch64-linux-gnu-as -mcpu=cortex-a72",
        "aarch64-linux-gnu-readelf",
    ),
    "cortex-a7": Machine(
        "arm-linux-gnueabihf-gcc",
        "qemu-arm -cpu cortex-a7",
        "arm-linux-gnueabihf-as",
        "arm-linux-gnueabihf-readelf",
    ),
}

#: those that are there for instructions the others lack: dot products of bytes
DOT_MACHINES = {
    "cortex-a76": MACHINES["cortex-a72"]._replace(
        run="qemu-aarch64 -cpu cortex-a76", assemble="aarch64-linux-gnu-as -mcpu=cortex-a76"
    ),
    "neoverse-v1": MACHINES["cortex-a72"]._replace(
        run="qemu-aarch64 -cpu max", assemble="aarch64-linux-gnu-as -mcpu=neoverse-v1"
    ),
}
_EVERY = MACHINES | DOT_MACHINES


def require(name: str, *tools: str) -> Target:
    """The target, or a skipped test if one of its tools is missing ("link", "run", ...)."""
    machine, target = _EVERY[name], targets.target(name)
    commands = [getattr(machine, tool).split() for tool in tools]
    missing = sorted({c[0] for c in commands if c and shutil.which(c[0]) is None})
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")
    if "run" in tools and not machine.run and not targets.detect().covers(target):
        pytest.skip(f"this machine cannot run code for {name}")
    return target


def flushed(arrays: Sequence[np.ndarray], target: Target) -> list[np.ndarray]:
    """The arrays without the subnormals that the target's float32 vectors take for zero."""
    if not target.flushes_subnormals:
        return list(arrays)
    with np.errstate(invalid="ignore"):  # NaN is not below anything
        return [
            np.where(abs(a) < a.dtype.type(2.0**-126), a.dtype.type(0), a)
            if a.dtype.name in ("float32", "bfloat16")
            else a
            for a in arrays
        ]


def run(
    ahead: Ahead, arrays: Sequence[np.ndarray], sizes: Sequence[int], folder: Path
) -> tuple[int, list[bytes]]:
    """Link `ahead`, which is called "model", with main.c; run it: the code, and the outputs."""
    machine = _EVERY[ahead.target.name]
    ahead.write(folder)
    command = [machine.link, "-static", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    command += [f"-I{folder}", str(MAIN), "libmodel.a", "-o", "main"]
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    outputs = len(ahead.manifest["outputs"])
    head = np.array([len(arrays), outputs, len(sizes), *sizes], np.int64).tobytes()
    given = [np.int64(a.nbytes).tobytes() + a.tobytes() for a in arrays]
    done = subprocess.run(
        [*machine.run.split(), "./main"],
        cwd=folder,
        input=b"".join([head, *given]),
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    return _parsed(done.stdout)


def assemble(name: str, text: str, folder: Path) -> None:
    """Assert that GNU's assembler, told which CPU it is, accepts the assembly."""
    done = subprocess.run(
        [*_EVERY[name].assemble.split(), "-o", str(folder / "out.o"), "-"],
        input=text,
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[:2000]


def _parsed(told: bytes) -> tuple[int, list[bytes]]:
    code, at, outputs = int.from_bytes(told[:8], "little", signed=True), 8, []
    while at < len(told):
        size = int.from_bytes(told[at : at + 8], "little")
        outputs.append(told[at + 8 : at + 8 + size])
        at += 8 + size
    return code, outputs
