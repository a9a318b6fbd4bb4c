"""What objects are made of: the right machine, float ABI and instructions, no libraries."""

from __future__ import annotations

import ctypes
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import symgraph as sg
from benchmarks import portability
from benchmarks.portability import PROGRAMS, section_bytes
from symgraph.backends import jit, targets
from symgraph.backends.aot import LIBRARY, Ahead, aot_modules, compile_ahead, needed
from symgraph.backends.build import make_plan
from symgraph.backends.objectfile import MACHINES as ELF
from symgraph.backends.objectfile import machine as elf_machine
from symgraph.backends.options import Options
from symgraph.backends.request import make_request
from symgraph.backends.stages import Stages

from . import machine


def compiled(name: str, target: str) -> Ahead:
    return compile_ahead(*PROGRAMS[name].graph(), target)


def test_a_library_function_in_the_code_is_an_error() -> None:
    """Every compilation checks what its objects call; an exp that libm would compute is found."""
    text = """
    declare double @exp(double)
    declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
    define void @f(ptr %x, ptr %y) {
      %a = load double, ptr %x
      %b = call double @exp(double %a)
      store double %b, ptr %y
      call void @llvm.memcpy.p0.p0.i64(ptr %x, ptr %y, i64 4096, i1 false)
      ret void
    }"""
    data = jit.compile_object(text, targets.target("cortex-a72"))
    assert needed({"f.o": data}) == {"exp", "memcpy"} and "exp" not in LIBRARY


@pytest.mark.emulator
@pytest.mark.parametrize("target", machine.MACHINES)
@pytest.mark.parametrize("name", ["chain", "matmul", "half", "double", "integers", "randomness"])
def test_the_cpu_has_every_instruction(name: str, target: str, tmp_path: Path) -> None:
    """GNU's assembler, told which CPU it is, accepts LLVM's assembly."""
    machine.require(target, "assemble")
    where, stages = targets.target(target), Stages(name, ())
    request = make_request(*PROGRAMS[name].graph())
    program = make_plan(request, Options(), where, stages).program
    for text in aot_modules(program, where, "model", stages).values():
        done = subprocess.run(
            [*machine.MACHINES[target].assemble.split(), "-o", str(tmp_path / "out.o"), "-"],
            input=jit.compile_assembly(text, where),
            text=True,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr[:2000]


def test_the_assembler_refuses_what_a_cpu_lacks(tmp_path: Path) -> None:
    """The check above can fail: AVX code is no code for x86-64-v2, nor sdot for cortex-a72."""
    machine.require("x86-64-v2", "assemble")
    machine.require("cortex-a72", "assemble")
    for target, line in (
        ("x86-64-v2", "vaddps %ymm0, %ymm1, %ymm2"),
        ("x86-64-v3", "vaddps %zmm0, %zmm1, %zmm2"),
        ("cortex-a72", "sdot v0.4s, v1.16b, v2.16b"),
    ):
        command = [*machine.MACHINES[target].assemble.split(), "-o", str(tmp_path / "out.o"), "-"]
        done = subprocess.run(command, input=line + "\n", text=True, capture_output=True)
        assert done.returncode != 0, target


@pytest.mark.parametrize("target", machine.MACHINES)
def test_objects_are_for_the_machine_and_show_three_functions(target: str, tmp_path: Path) -> None:
    where = machine.require(target, "readelf")
    ahead = compiled("mlp", target)
    paths = [tmp_path / name for name in ahead.objects]
    for path, data in zip(paths, ahead.objects.values()):
        assert elf_machine(data) == ELF[where.arch]
        path.write_bytes(data)
    shown = readelf(target, "-sW", *paths)
    seen = {line.split()[-1] for line in shown.splitlines() if " GLOBAL DEFAULT " in line}
    defined = seen - LIBRARY - {s for s in seen if s.startswith("model.")}
    assert defined == {"model", "model_workspace_bytes", "model_output_bytes"}
    hidden = [s for line in shown.splitlines() if " GLOBAL HIDDEN " in line for s in line.split()]
    assert any(s.startswith("model.matmul") for s in hidden) and "model.run" in hidden


def test_armv7_objects_pass_floats_in_registers(tmp_path: Path) -> None:
    machine.require("cortex-a7", "readelf")
    for name, data in compiled("softmax", "cortex-a7").objects.items():
        (tmp_path / name).write_bytes(data)
        attributes = readelf("cortex-a7", "-A", tmp_path / name)
        assert "Tag_ABI_VFP_args: VFP registers" in attributes
        assert "Tag_CPU_arch: v7" in attributes and "Tag_FP_arch: VFPv4" in attributes
        assert "Tag_Advanced_SIMD_arch: NEONv1 with Fused-MAC" in attributes


@pytest.mark.emulator
@pytest.mark.parametrize("target", machine.MACHINES)
def test_objects_make_a_shared_library_without_libc(target: str, tmp_path: Path) -> None:
    """No relocation in the code, no symbol left open, no stack that may be executed."""
    where = machine.require(target, "link", "readelf")
    library, *_ = compiled("mlp", target).write(tmp_path)
    command = [machine.MACHINES[target].link, "-shared", "-nostdlib", "-Wl,-z,text,-z,defs"]
    command += ["-Wl,--whole-archive", "-Wl,--fatal-warnings", str(library), "-o", "model.so"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    shown = readelf(target, "-lW", tmp_path / "model.so")
    stack = next(line for line in shown.splitlines() if "GNU_STACK" in line)
    assert "RWE" not in stack
    if targets.detect().covers(where):
        function = ctypes.CDLL(str(tmp_path / "model.so"))["model_output_bytes"]
        function.restype = ctypes.c_size_t
        assert function((ctypes.c_int64 * 1)(5), 0) == 5 * 10 * 4


def readelf(target: str, *arguments: object) -> str:
    command = [machine.MACHINES[target].readelf, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_equal_programs_give_equal_libraries() -> None:
    first, second = compiled("recurrence", "cortex-a7"), compiled("recurrence", "cortex-a7")
    assert first.library == second.library and first.header == second.header


def test_the_table_of_sizes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(portability, "PROGRAMS", {"chain": PROGRAMS["chain"]})
    file = tmp_path / "sizes.json"
    monkeypatch.setattr("sys.argv", ["portability", "--targets=cortex-a7", f"--json={file}"])
    portability.main()
    figures = json.loads(file.read_text())["rows"]["chain"]["cortex-a7"]
    assert str(figures["code"]) in capsys.readouterr().out and figures["code"] < figures["file"]


def test_section_sizes_are_those_of_the_program() -> None:
    x = sg.array("x", (4,))
    table = np.arange(1000, dtype=np.float32)
    ahead = compile_ahead([x], x.sum() + sg.constant(table), "cortex-a7")
    code, data = map(sum, zip(*map(section_bytes, ahead.objects.values())))
    assert 100 < code < 4000 and table.nbytes <= data < table.nbytes + 2000
