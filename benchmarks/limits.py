"""The machine's own limits, measured: multiply-add peaks and memory bandwidth of each cache level.

The kernels are LLVM text of their own, compiled without any optimization pass, so that they measure
the machine and not the compiler under test. `python -m benchmarks.limits` prints the table.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np

#: seconds one timed call takes about, and how many calls the best is taken of
CALL_SECONDS = 2e-3
CALLS = {True: 8, False: 25}
DEFAULT_CACHES = {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}


class Width(NamedTuple):
    """One way to use the vector unit: a name, bytes of a vector, and how many accumulators fit."""

    name: str
    bytes: int
    accumulators: int


class Kernel(NamedTuple):
    """A compiled kernel `void f(i64 times, i64 bytes, ptr a, ptr b, ptr c)`."""

    run: Callable[..., None]
    keep: Any  # the JIT's resource: the code lives as long as this does


def host_widths(features: dict[str, bool]) -> list[Width]:
    """The vector widths of this CPU, widest first."""
    table = [
        Width("avx512", 64, 24) if features.get("avx512f") else None,
        Width("avx2", 32, 12) if features.get("avx2") and features.get("fma") else None,
        Width("vector128", 16, 12),
    ]
    return [width for width in table if width is not None]


# --- kernels ---

_LOOP = """
define void @{name}(i64 %times, i64 %bytes, ptr %a, ptr %b, ptr %c) {{
entry:
{prologue}
  br label %outer
outer:
  %t = phi i64 [ 0, %entry ], [ %t1, %outer.end ]
{outer_phis}
  br label %inner
inner:
  %i = phi i64 [ 0, %outer ], [ %i1, %inner ]
{inner_phis}
{body}
  %i1 = add i64 %i, {step}
  %more = icmp ult i64 %i1, %bytes
  br i1 %more, label %inner, label %outer.end
outer.end:
  %t1 = add i64 %t, 1
  %again = icmp ult i64 %t1, %times
  br i1 %again, label %outer, label %exit
exit:
{epilogue}
  ret void
}}
"""


def accumulator_loop(
    name: str, vector: str, count: int, step: int, body: list[str], prologue: str = ""
) -> str:
    """Text of a doubly nested loop that carries `count` vectors, from and to %c.

    `body` gives for each accumulator k the lines that compute %n{k} from %v{k}.
    """
    size = f"getelementptr {vector}, ptr %c, i64"
    numbers = range(count)
    return _LOOP.format(
        name=name,
        step=step,
        prologue=prologue
        + "\n".join(
            f"  %pc{k} = {size} {k}\n  %v0.{k} = load {vector}, ptr %pc{k}, align 64"
            for k in numbers
        ),
        outer_phis="\n".join(
            f"  %o{k} = phi {vector} [ %v0.{k}, %entry ], [ %n{k}, %outer.end ]" for k in numbers
        ),
        inner_phis="\n".join(
            f"  %v{k} = phi {vector} [ %o{k}, %outer ], [ %n{k}, %inner ]" for k in numbers
        ),
        body="\n".join(body),
        epilogue="\n".join(f"  store {vector} %n{k}, ptr %pc{k}, align 64" for k in numbers),
    )


def fma_text(name: str, element: str, width: Width, fused: bool) -> str:
    """Every accumulator becomes acc * x + y, over and over; nothing touches memory."""
    lanes = width.bytes // (4 if element == "float" else 8)
    vector = f"<{lanes} x {element}>"
    intrinsic = f"@llvm.fma.v{lanes}f{32 if element == 'float' else 64}"
    if fused:
        line = f"  %n{{k}} = call {vector} {intrinsic}({vector} %v{{k}}, {vector} %x, {vector} %y)"
        declaration = f"declare {vector} {intrinsic}({vector}, {vector}, {vector})\n"
    else:
        line = f"  %m{{k}} = fmul {vector} %v{{k}}, %x\n  %n{{k}} = fadd {vector} %m{{k}}, %y"
        declaration = ""
    body = [line.format(k=k) for k in range(width.accumulators)]
    loads = f"  %x = load {vector}, ptr %a, align 64\n  %y = load {vector}, ptr %b, align 64\n"
    return declaration + accumulator_loop(name, vector, width.accumulators, 1, body, loads)


class Dot(NamedTuple):
    """A dot instruction: what it needs, its width, its intrinsic, LLVM types of sums and operands.

    products: in one of its lanes.
    """

    feature: str
    bytes: int
    intrinsic: str
    sums: str
    operands: str
    products: int

    def text(self, name: str) -> str:
        """Every accumulator becomes acc + x . y, over and over; nothing touches memory."""
        lanes, count = self.bytes // 4, 24 if self.bytes == 64 else 12
        total, operand = f"<{lanes} x {self.sums}>", f"<{self.operands}>"
        body = [
            f"  %n{k} = call {total} @{self.intrinsic}({total} %v{k}, {operand} %x, {operand} %y)"
            for k in range(count)
        ]
        loads = "".join(
            f"  %{x} = load {operand}, ptr %{p}, align 64\n" for x, p in (("x", "a"), ("y", "b"))
        )
        declaration = f"declare {total} @{self.intrinsic}({total}, {operand}, {operand})\n"
        return declaration + accumulator_loop(name, total, count, 1, body, loads)

    @property
    def operations(self) -> float:
        """Multiplications and additions of one step of the loop."""
        return 2.0 * (self.bytes // 4) * self.products * (24 if self.bytes == 64 else 12)


_VNNI, _BF16 = "llvm.x86.avx512.vpdpbusd", "llvm.x86.avx512bf16.dpbf16ps"
#: by name of the limit, the widest first; where none is there, the multiply-add peak stands for it
DOTS = {
    "dot_int8": (
        Dot("avx512vnni", 64, f"{_VNNI}.512", "i32", "16 x i32", 4),
        Dot("avxvnni", 32, f"{_VNNI}.256", "i32", "8 x i32", 4),
        Dot("dotprod", 16, "llvm.aarch64.neon.sdot.v4i32.v16i8", "i32", "16 x i8", 4),
    ),
    "dot_bf16": (Dot("avx512bf16", 64, f"{_BF16}.512", "float", "32 x bfloat", 2),),
}


def read_text(name: str, width: Width, unroll: int = 8) -> str:
    """Reads %bytes from %a; `or` is the cheapest use of a loaded vector."""
    vector = f"<{width.bytes // 8} x i64>"
    body = []
    for k in range(unroll):
        body.append(f"  %j{k} = add i64 %i, {k * width.bytes}")
        body.append(f"  %p{k} = getelementptr i8, ptr %a, i64 %j{k}")
        body.append(f"  %l{k} = load {vector}, ptr %p{k}, align {width.bytes}")
        body.append(f"  %n{k} = or {vector} %v{k}, %l{k}")
    return accumulator_loop(name, vector, unroll, unroll * width.bytes, body)


def triad_text(name: str, width: Width, unroll: int = 4) -> str:
    """a = b + 3 c over arrays of %bytes each."""
    vector = f"<{width.bytes // 4} x float>"
    three = ", ".join(["float 3.0"] * (width.bytes // 4))
    body = []
    for k in range(unroll):
        body.append(f"  %j{k} = add i64 %i, {k * width.bytes}")
        for array in "abc":
            body.append(f"  %p{array}{k} = getelementptr i8, ptr %{array}, i64 %j{k}")
        body.append(f"  %b{k} = load {vector}, ptr %pb{k}, align {width.bytes}")
        body.append(f"  %c{k} = load {vector}, ptr %pc{k}, align {width.bytes}")
        body.append(f"  %m{k} = fmul {vector} %c{k}, <{three}>")
        body.append(f"  %s{k} = fadd {vector} %b{k}, %m{k}")
        body.append(f"  store {vector} %s{k}, ptr %pa{k}, align {width.bytes}")
    return accumulator_loop(name, vector, 0, unroll * width.bytes, body)


class Compiler:
    """LLVM text to a callable on this host."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()
        self.features: dict[str, bool] = dict(llvm.get_host_cpu_features())
        flags = llvm.get_host_cpu_features().flatten()
        target = llvm.Target.from_triple(llvm.get_process_triple())
        self._machine = target.create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=f"{flags},-prefer-256-bit", opt=3, reloc="pic"
        )
        self._jit = llvm.create_lljit_compiler(self._machine)
        self._count = itertools.count()

    def __call__(self, name: str, text: str) -> Kernel:
        module = llvm.parse_assembly(text)
        module.verify()
        object_code = self._machine.emit_object(module)
        library = llvm.JITLibraryBuilder().add_object_img(object_code).export_symbol(name)
        linked = library.link(self._jit, f"limit{next(self._count)}")
        prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 2, *[ctypes.c_void_p] * 3)
        return Kernel(prototype(linked[name]), linked)


# --- measuring ---


def buffer(size: int) -> np.ndarray:
    """`size` bytes of ones (as float32), aligned to a page."""
    raw = np.empty(size + 4096, np.uint8)
    start = -raw.ctypes.data % 4096
    view = raw[start : start + size]
    view.view(np.float32)[:] = 1.0
    return view


def best_rate(
    kernel: Kernel, size: int, work: float, arrays: int, threads: int, calls: int
) -> float:
    """Units of work a second: the best of some calls, each about CALL_SECONDS long.

    `work` is what one pass over `size` bytes does. One thread is timed by its CPU clock, more by
    the wall from a common start.
    """
    pools = [[buffer(max(size, 4096)) for _ in range(arrays)] for _ in range(threads)]
    addresses = [[p[min(k, arrays - 1)].ctypes.data for k in range(3)] for p in pools]
    calls *= 1 if threads == 1 else 4  # the wall clock sees the neighbours, the CPU clock does not
    times = 1
    while _seconds(kernel, times, size, addresses[:1]) < CALL_SECONDS:
        times *= 2
    best = min(_seconds(kernel, times, size, addresses) for _ in range(calls))
    return threads * work * times / best


def _seconds(kernel: Kernel, times: int, size: int, addresses: list[list[int]]) -> float:
    if len(addresses) == 1:
        start = time.thread_time()
        kernel.run(times, size, *addresses[0])
        return time.thread_time() - start
    barrier = threading.Barrier(len(addresses) + 1)

    def work(mine: list[int]) -> None:
        barrier.wait()
        kernel.run(times, size, *mine)
        barrier.wait()

    workers = [threading.Thread(target=work, args=(mine,)) for mine in addresses]
    for worker in workers:
        worker.start()
    barrier.wait()
    start = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - start
    for worker in workers:
        worker.join()
    return seconds


def cache_sizes() -> dict[str, int]:
    """Bytes of the data caches that CPU 0 sees, by level."""
    sizes = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if (index / "type").read_text().strip() == "Instruction":
            continue
        size = (index / "size").read_text().strip()
        unit = {"K": 1 << 10, "M": 1 << 20}
        sizes["L" + (index / "level").read_text().strip()] = int(size[:-1]) * unit[size[-1]]
    return sizes or DEFAULT_CACHES


def footprints(caches: dict[str, int], threads: int) -> dict[str, int]:
    """Bytes each thread touches so that they stay in each level: half of what is its own."""
    levels = sorted(caches)
    found = {level: caches[level] // 2 for level in levels[:-1]}
    found[levels[-1]] = caches[levels[-1]] // (3 * threads)
    found["DRAM"] = max(4 * caches[levels[-1]], 64 << 20) // threads
    return {level: size // 12288 * 12288 for level, size in found.items()}


def measure(threads: int = 1, quick: bool = False) -> dict[str, float]:
    """Name of each limit -> units a second: operations for `fma_*` and `dot_*`, else bytes.

    `fma_f32` and `fma_f64` are the best over the widths; the widths follow one by one.
    """
    compiled = Compiler()
    calls = CALLS[quick]
    found: dict[str, float] = {}
    widths = host_widths(compiled.features)
    fused = widths[0].name != "vector128" or "aarch64" in llvm.get_process_triple()
    passes = 1024  # the inner loop counts "bytes" one by one here
    for element, short in (("float", "f32"), ("double", "f64")):
        for width in widths[:2]:
            name = f"fma_{short}_{width.name}"
            kernel = compiled(name, fma_text(name, element, width, fused))
            lanes = width.bytes // (4 if short == "f32" else 8)
            flops = 2.0 * lanes * width.accumulators * passes
            found[name] = best_rate(kernel, passes, flops, 3, threads, calls)
        found[f"fma_{short}"] = max(
            rate for name, rate in found.items() if name.startswith(f"fma_{short}_")
        )
    for name, dots in DOTS.items():
        dot = next((d for d in dots if compiled.features.get(d.feature)), None)
        found[name] = found["fma_f32"]
        if dot is not None:
            work = dot.operations * passes
            found[name] = best_rate(compiled(name, dot.text(name)), passes, work, 3, threads, calls)
    read = compiled("read", read_text("read", widths[0]))
    triad = compiled("triad", triad_text("triad", widths[0]))
    for level, size in footprints(cache_sizes(), threads).items():
        found[f"read_{level}"] = best_rate(read, size, size, 2, threads, calls)
        third = size // 3
        found[f"triad_{level}"] = best_rate(triad, third, 3.0 * third, 3, threads, calls)
    return found


def table(limits: dict[str, float]) -> str:
    """The limits as text, in billions a second."""
    unit = {"fma": "GFLOP/s", "dot": "GOP/s", "read": "GB/s", "triad": "GB/s"}
    rows = ((name, rate / 1e9, unit[name.split("_")[0]]) for name, rate in limits.items())
    return "\n".join(f"  {name:<18}{rate:>9.1f} {unit}" for name, rate, unit in rows)


if __name__ == "__main__":
    print(table(measure(threads=int(sys.argv[1]) if len(sys.argv) > 1 else 1)))
