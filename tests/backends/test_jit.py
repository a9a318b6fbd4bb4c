"""Compiling and loading: imports, unloading, threads, fork, refusal of what crashes LLVM."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading

import pytest

from symgraph.backends import jit, targets
from symgraph.errors import InternalError


def constant(value: int, name: str = "f") -> str:
    return f"define i32 @{name}() {{\n  ret i32 {value}\n}}\n"


def call(address: int) -> int:
    return ctypes.CFUNCTYPE(ctypes.c_int32)(address)()


def compiled(text: str) -> bytes:
    return jit.compile_object(text, targets.host())


def test_compile_load_call() -> None:
    library = jit.load([compiled(constant(42))], ["f"])
    assert call(library.address("f")) == 42
    with pytest.raises(KeyError):
        library.address("g")


def test_bytes_are_reproducible() -> None:
    assert compiled(constant(5)) == compiled(constant(5)) != compiled(constant(6))


def test_assembly() -> None:
    assert "ret" in jit.compile_assembly(constant(5), targets.host())


def test_same_names_in_many_libraries() -> None:
    libraries = [jit.load([compiled(constant(i))], ["f"]) for i in range(5)]
    assert [call(x.address("f")) for x in libraries] == list(range(5))


def test_objects_see_each_other_and_imports() -> None:
    host = ctypes.CFUNCTYPE(ctypes.c_int32)(lambda: 30)
    user = (
        "declare i32 @other()\ndeclare i32 @host()\n"
        "define i32 @f() {\n  %a = call i32 @other()\n  %b = call i32 @host()\n"
        "  %c = add i32 %a, %b\n  ret i32 %c\n}\n"
    )
    address = ctypes.cast(host, ctypes.c_void_p).value
    objects = [compiled(user), compiled(constant(4, "other"))]
    library = jit.load(objects, ["f"], {"host": address})
    assert call(library.address("f")) == 34


def test_missing_symbol() -> None:
    text = "declare i32 @nosuch()\ndefine i32 @f() {\n  %a = call i32 @nosuch()\n  ret i32 %a\n}\n"
    with pytest.raises(InternalError, match="load: nothing defines nosuch"):
        jit.load([compiled(text)], ["f"])
    with pytest.raises(InternalError, match="load: nothing defines absent"):
        jit.load([compiled(constant(1))], ["absent"])
    assert call(jit.load([compiled(constant(1))], ["f"]).address("f")) == 1


@pytest.mark.parametrize(
    "text, message",
    [
        ("define i32 @f( {", "expected type"),
        ("define i32 @f() {\n  %a = add i32 1, 2\n}", "expected instruction opcode"),
        (
            "define i32 @f(i1 %c) {\nentry:\n  br i1 %c, label %x, label %y\nx:\n  br label %z\n"
            "y:\n  br label %z\nz:\n  %p = phi i32 [1, %x]\n  ret i32 %p\n}",
            "PHINode should have one entry",
        ),
    ],
)
def test_invalid_modules_raise(text: str, message: str) -> None:
    """The last of these aborts the process if it is compiled without being verified."""
    with pytest.raises(InternalError, match=message):
        compiled(text)


def test_foreign_and_damaged_objects_are_refused() -> None:
    foreign = targets.target("cortex-a53" if targets.detect().arch != "aarch64" else "x86-64")
    with pytest.raises(InternalError, match="object for ELF machine"):
        jit.load([jit.compile_object(constant(1), foreign)], ["f"])
    for data in (b"", b"garbage" * 100, compiled(constant(1))[:20]):
        with pytest.raises(InternalError, match="not an object file"):
            jit.load([data], ["f"])


def test_memory_is_returned() -> None:
    """Loading and dropping a large library many times does not grow the process."""
    body = "".join(f"  %a{i} = load volatile i32, ptr %p\n" for i in range(3000))
    data = compiled(f"define i32 @f(ptr %p) {{\n{body}  ret i32 0\n}}\n")

    def resident() -> int:
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cycle(count: int) -> None:
        for _ in range(count):
            jit.load([data], ["f"])
        gc.collect()

    cycle(100)
    before = resident()
    cycle(300)
    assert resident() - before < 300 * len(data) / 2


def test_threads() -> None:
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for i in range(15):
                library = jit.load([compiled(constant(seed * 100 + i))], ["f"])
                assert call(library.address("f")) == seed * 100 + i
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_llvm_is_loaded_late_and_processes_end_cleanly() -> None:
    assert (
        run_python(
            "import sys\n"
            "from symgraph.backends import cache, emit, jit, targets\n"
            "targets.target('x86-64-v3'); print('llvmlite' in sys.modules)"
        )
        == "False"
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork() -> None:
    """A child runs the parent's code and compiles its own."""
    assert (
        run_python(
            "import ctypes, os\n"
            "from symgraph.backends import jit, targets\n"
            "text = 'define i32 @f() {\\n ret i32 %d\\n}\\n'\n"
            "make = lambda v: jit.load([jit.compile_object(text % v, targets.host())], ['f'])\n"
            "call = lambda lib: ctypes.CFUNCTYPE(ctypes.c_int32)(lib.address('f'))()\n"
            "old = make(3)\n"
            "pid = os.fork()\n"
            "if pid == 0: os._exit(0 if call(old) == 3 and call(make(4)) == 4 else 1)\n"
            "print(os.waitpid(pid, 0)[1], call(old))"
        )
        == "0 3"
    )
