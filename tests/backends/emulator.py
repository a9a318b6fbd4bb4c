"""Runs kernels of another machine: cross gcc links them with a C driver, qemu executes it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from symgraph.backends.loops import Kernel
from symgraph.backends.targets import Target

TOOLS = {
    "aarch64": ("aarch64-linux-gnu-gcc", "qemu-aarch64"),
    "armv7": ("arm-linux-gnueabihf-gcc", "qemu-arm"),
}


def require(target: Target) -> tuple[str, str]:
    """The linker and the emulator for a target; skips the test where one is missing."""
    tools = TOOLS[target.arch]
    missing = [t for t in tools if shutil.which(t) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")
    return tools


def run(
    obj: bytes,
    calls: Sequence[tuple[Kernel, list[np.ndarray], list[int]]],
    target: Target,
    folder: Path,
) -> list[int]:
    """Call kernels of an object in order; arrays are updated in place. Returns the statuses."""
    linker, emulator = require(target)
    (folder / "kernels.o").write_bytes(obj)
    (folder / "main.c").write_text(_driver(calls))
    command = [linker, "-static", "-O1", "-w", "main.c", "kernels.o", "-o", "main"]
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    given = b"".join(a.tobytes() for _, arrays, _ in calls for a in arrays)
    done = subprocess.run(
        [emulator, "./main"], cwd=folder, input=given, capture_output=True, check=True, timeout=120
    )
    at, statuses = 0, []
    for _, arrays, _ in calls:
        statuses.append(int.from_bytes(done.stdout[at : at + 4], "little", signed=True))
        at += 4
        for array in arrays:
            array[:] = np.frombuffer(done.stdout, array.dtype, array.size, at)
            at += array.nbytes
    return statuses


def _driver(calls: Sequence[tuple[Kernel, list[np.ndarray], list[int]]]) -> str:
    largest = max(a.nbytes for _, arrays, _ in calls for a in arrays) + 64
    count = max(len(arrays) for _, arrays, _ in calls)
    lines = [
        "#include <stdio.h>\n#include <stdint.h>",
        f"static char arrays[{count}][{largest}] __attribute__((aligned(64)));",
        "static int64_t context[4];",
        "int main(void) {",
        "  int32_t status;",
    ]
    for kernel, arrays, dims in calls:
        pointers = ", ".join(["context", *(f"arrays[{i}]" for i in range(len(arrays)))])
        numbers = "".join(f", (intptr_t){d}" for d in dims)
        parameters = ", ".join(["void *"] * (1 + len(arrays)) + ["intptr_t"] * len(dims))
        lines.append(f"  {{ int32_t {kernel.name}({parameters});")
        lines += [f"  fread(arrays[{i}], 1, {a.nbytes}, stdin);" for i, a in enumerate(arrays)]
        lines.append("  context[0] = INT64_MAX; context[1] = 0;")
        lines.append(f"  status = {kernel.name}({pointers}{numbers});")
        lines.append("  fwrite(&status, 1, 4, stdout);")
        lines += [f"  fwrite(arrays[{i}], 1, {a.nbytes}, stdout);" for i, a in enumerate(arrays)]
        lines.append("  }")
    return "\n".join([*lines, "  return 0;", "}", ""])
