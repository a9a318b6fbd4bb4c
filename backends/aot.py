"""Ahead of time: a planned program as object files for any target, with a C interface.

    int32_t NAME(const void *const *inputs, void *const *outputs, const int64_t *sizes, void
    *workspace); size_t  NAME_workspace_bytes(const int64_t *sizes);

inputs, outputs: C-order arrays, in the function's order. sizes: the named sizes, in the order that
the header lists.
workspace: that many bytes, any alignment; may be null if it is 0. Returns 0, or a fault's number as
listed in the header. Values of shared variables are taken as they are now; a function that updates
them cannot be compiled ahead of time yet.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from symgraph.dims import SizeLike
from symgraph.errors import TargetError
from symgraph.leaves import Shared

from .build import emit_kernels
from .driver import CONTEXT_BYTES, FIELDS, Driver, bases, emit_driver
from .irtext import Text
from .jit import compile_object
from .program import Program
from .stages import Stages
from .targets import Target

_FAR = (1 << 63) - 1
_ALIGN = 64


def aot_objects(program: Program, target: Target, name: str) -> dict[str, bytes]:
    """Object files by file name. Symbols other than the two of the interface are hidden.

    Raises: TargetError for host calls, updates, or a name that C does not allow.
    """
    return {
        file: compile_object(text, target)
        for file, text in aot_modules(program, target, name).items()
    }


def aot_modules(program: Program, target: Target, name: str) -> dict[str, str]:
    """The LLVM modules behind the object files."""
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise TargetError(f"{name!r} is not a name in C")
    if program.updates:
        labels = ", ".join(program.shared[u.shared].label for u in program.updates)
        raise TargetError(
            f"{name}: updates of shared variables cannot be compiled ahead of time: {labels}"
        )
    kernels, symbols = emit_kernels(program, target, Stages(name, ()))
    driver = emit_driver(program, target, name, symbols)
    if driver.hosts:
        ops = ", ".join(h.node.op.name for h in driver.hosts)
        raise TargetError(f"{name}: no native form for {ops}: {driver.hosts[0].reason}")
    modules = {
        f"{name}_kernel{i}.o": _hidden(text, "linkonce_odr hidden")
        for i, text in enumerate(kernels)
    }
    for i, text in enumerate(driver.modules):
        modules[f"{name}_driver{i}.o"] = _hidden(text, "hidden")
    modules[f"{name}.o"] = _Interface(program, driver, target, name).module()
    return modules


def _hidden(text: str, linkage: str) -> str:
    """The module with its functions invisible outside the program they are linked into."""
    return re.sub(r"^define (?!internal)", f"define {linkage} ", text, flags=re.M)


class _Interface:
    """The two exported functions, and the constants."""

    def __init__(self, program: Program, driver: Driver, target: Target, name: str):
        self.program, self.driver, self.target, self.name = program, driver, target, name
        self.index = f"i{target.pointer_bits}"

    def module(self) -> str:
        constants = [w.get_value() for w in self._shared()] + list(self.program.constants)
        names = [f"@{self.name}.constant{i}" for i in range(len(constants))]
        data = [_data(n, array) for n, array in zip(names, constants)]
        call, workspace = self._call(names), self._workspace()
        declared = call.declarations | workspace.declarations
        parameters = "ptr %inputs, ptr %outputs, ptr %sizes, ptr %workspace"
        functions = [
            _definition("i32", self.name, parameters, call),
            _definition(self.index, f"{self.name}_workspace_bytes", "ptr %sizes", workspace),
        ]
        return "\n".join(
            [f'target triple = "{self.target.triple}"', *data, *functions, *declared.values(), ""]
        )

    def _shared(self) -> list[Shared]:
        return [w for w in self.program.shared if isinstance(w, Shared)]

    def _fill(self, text: Text) -> tuple[str, str, str]:
        """Context and size table on the stack; the code of NAME.sizes."""
        context = text.slot("i8", CONTEXT_BYTES, 16)
        table = text.slot(self.index, len(self.driver.sizes), 8)
        text.do(f"store i64 {_FAR}, ptr {context}")
        for field in ("poll", "host"):
            at = text.value(f"getelementptr i8, ptr {context}, i32 {FIELDS[field]}")
            text.do(f"store ptr null, ptr {at}")
        arguments = [("ptr", context), ("ptr", "%sizes"), ("ptr", table)]
        return context, table, text.call("i32", f"{self.name}.sizes", *arguments)

    def _call(self, constants: Sequence[str]) -> Text:
        text, program, first = Text(), self.program, bases(self.program)
        context, table, code = self._fill(text)
        run, leave = text.label("run"), text.label("leave")
        text.fork(text.value(f"icmp eq i32 {code}, 0"), run, leave)
        text.start(leave)
        text.do(f"ret i32 {code}")
        text.start(run)
        array = text.slot("ptr", max(1, first["count"]), 8)
        for i in range(len(program.inputs)):
            self._store(text, array, first["input"] + i, self._element(text, "%inputs", i))
        for i, name in enumerate(constants):
            self._store(text, array, first["shared"] + i, name)
        for i, slot in enumerate(program.output_slots):
            self._store(
                text,
                array,
                first["output"] + program.slots[slot].index,
                self._element(text, "%outputs", i),
            )
        arena = self._aligned(text) if program.arena != 0 else "null"
        arguments = [("ptr", p) for p in (context, array, table, arena)]
        text.do(f"ret i32 {text.call('i32', f'{self.name}.run', *arguments)}")
        return text

    def _element(self, text: Text, array: str, position: int) -> str:
        return text.value(
            f"load ptr, ptr {text.value(f'getelementptr ptr, ptr {array}, i32 {position}')}"
        )

    def _store(self, text: Text, array: str, position: int, value: str) -> None:
        at = text.value(f"getelementptr ptr, ptr {array}, i32 {position}")
        text.do(f"store ptr {value}, ptr {at}")

    def _aligned(self, text: Text) -> str:
        """The first byte of the workspace that temporaries may start at."""
        address = text.value(f"ptrtoint ptr %workspace to {self.index}")
        up = text.value(f"add {self.index} {address}, {_ALIGN - 1}")
        return text.value(
            f"inttoptr {self.index} {text.value(f'and {self.index} {up}, {-_ALIGN}')} to ptr"
        )

    def _workspace(self) -> Text:
        text, arena = Text(), self.program.arena
        if isinstance(arena, int):
            text.do(f"ret {self.index} {arena + _ALIGN if arena else 0}")
            return text
        _, table, code = self._fill(text)
        nbytes = text.value(f"load {self.index}, ptr {self._entry(text, table, arena)}")
        padded = text.value(f"add {self.index} {nbytes}, {_ALIGN}")
        good = text.value(f"icmp eq i32 {code}, 0")
        space = text.value(f"select i1 {good}, {self.index} {padded}, {self.index} -1")
        text.do(f"ret {self.index} {space}")
        return text

    def _entry(self, text: Text, table: str, size: SizeLike) -> str:
        assert not isinstance(size, int)
        return text.value(f"getelementptr {self.index}, ptr {table}, i32 {self.driver.sizes[size]}")


def _definition(result: str, name: str, parameters: str, text: Text) -> str:
    body = "\n".join([*text.slots, *text.lines])
    return f"define {result} @{name}({parameters}) nounwind {{\nentry:\n{body}\n}}\n"


def _data(name: str, array: np.ndarray) -> str:
    """An array as a constant of the module."""
    content = "".join(f"\\{b:02X}" for b in array.tobytes())
    return f'{name} = private constant [{array.nbytes} x i8] c"{content}", align {_ALIGN}'


def aot_header(program: Program, name: str) -> str:
    """The C header of the interface: what each argument is, and what the returned numbers mean."""
    from .driver import fault_table

    atoms = list(dict.fromkeys(b.atom for b in program.binds))
    lines = [f"{x.label}: {x.array_type}" for x in program.inputs]
    inputs = "".join(f"\n *   inputs[{i}]   {line}" for i, line in enumerate(lines))
    outputs = "".join(f"\n *   outputs[{i}]  {t}" for i, t in enumerate(program.outputs))
    sizes = "".join(f"\n *   sizes[{i}]    {a}" for i, a in enumerate(atoms))
    faults = "".join(
        f"\n *   {i + 1}  {f.exception.__name__}: {_comment(f.message)}"
        for i, f in enumerate(fault_table(program))
    )
    guard = f"SYMGRAPH_{name.upper()}_H"
    return f"""#ifndef {guard}
#define {guard}
/* Arrays are C-order; bool is one byte, 0 or 1.{_comment(inputs + outputs + sizes)}
 * Returns 0, or{faults}
 */
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {{
#endif
int32_t {name}(const void *const *inputs, void *const *outputs, const int64_t *sizes,
{" " * len(name)}        void *workspace);
size_t {name}_workspace_bytes(const int64_t *sizes);
#ifdef __cplusplus
}}
#endif
#endif
"""


def _comment(text: str) -> str:
    return text.replace("*/", "* /")
