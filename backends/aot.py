"""Ahead of time: expressions as a static library for any target, with a C header.

    int32_t NAME(const void *const *inputs, void *const *outputs,
                 const int64_t *sizes, void *workspace);
    size_t  NAME_workspace_bytes(const int64_t *sizes);
    size_t  NAME_output_bytes(const int64_t *sizes, int32_t output);

`sizes` holds the named sizes in the order that the header lists; everything wider than an int
passes by pointer, because 32-bit ABIs disagree about the rest. A code is returned, 0 or the number
of a fault in the header's table. The code keeps no state, so any number of threads may run it, and
it calls nothing but memcpy, memmove and memset.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from symgraph.arraytype import Array
from symgraph.dims import MAX_SIZE, Dim, SizeLike, ValueOf, product
from symgraph.errors import GraphError, HostCallError, InternalError, TargetError
from symgraph.expr import toposort
from symgraph.leaves import Shared, constant
from symgraph.sites import user_site

from . import targets
from .archive import archive
from .blocks import CONTEXT_BYTES, FIELDS
from .build import assembly, emit_kernels, make_plan
from .driver import Driver, bases, emit_driver, fault_table
from .irtext import Text
from .jit import compile_object
from .objectfile import symbols
from .options import Options, require
from .program import Bind, Program
from .request import In, Request, make_request
from .signature import contract_of
from .stages import Stages
from .targets import Target

LIBRARY = frozenset(["memcpy", "memmove", "memset"])  # what every C library, or the user, provides
KEYWORDS = frozenset(  # of C and C++: the header is for both
    """alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl
    const constexpr continue default delete do double else enum explicit export extern false float
    for friend goto if inline int long main mutable namespace new noexcept not not_eq nullptr
    operator or or_eq private protected public register restrict return short signed sizeof static
    struct switch template this throw true try typedef typeid typename typeof union unsigned using
    virtual void volatile while xor xor_eq""".split()
)
_FAR = (1 << 63) - 1
_ALIGN = 64


class Ahead(NamedTuple):
    """What ahead-of-time compilation gives.

    objects: object files by name; header: the text of the C header; manifest: the same facts as
    plain data (name, target, inputs, outputs, sizes, needs, faults).
    """

    name: str
    target: Target
    objects: dict[str, bytes]
    header: str
    manifest: dict[str, Any]

    @property
    def library(self) -> bytes:
        """The object files as one static library."""
        return archive(self.objects)

    def write(self, folder: str | Path) -> list[Path]:
        """Write libNAME.a, NAME.h and NAME.json into a folder, which is made; give their paths.

        Use: gcc app.c libNAME.a
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / n for n in (f"lib{self.name}.a", f"{self.name}.h", f"{self.name}.json")]
        paths[0].write_bytes(self.library)
        paths[1].write_text(self.header, encoding="utf-8")
        paths[2].write_text(json.dumps(self.manifest, indent=1) + "\n", encoding="utf-8")
        return paths


def compile_ahead(
    inputs: Any,
    outputs: Any,
    target: str | Target = "host",
    name: str = "model",
    *,
    givens: Any = None,
    no_default_updates: Any = False,
    optimize: str = "full",
    exclude: Iterable[str] = (),
    on_unused_input: str = "raise",
    show: Any = None,
    precision: str = "exact",
) -> Ahead:
    """Compile expressions to object files that a C program calls.

    inputs, outputs, givens, no_default_updates, optimize, exclude, on_unused_input, show,
    precision: as for `function`. Arguments of the C function are in their order; a dict of outputs
    in the dict's.
    target: a name as for `targets.target` ("cortex-a72", "x86-64-v3,+avx512f"). name: of the C
    function. Shared variables become constants with the value they have now; what is to be changed
    (a training step's weights, a random stream's state) is listed among the inputs, through
    `givens`, and its new value among the outputs.

    Raises: HostCallError, by name, for ops without a native form; TargetError for an unknown
    target, for updates, or for a name that C does not allow; else what `function` raises.
    Example:
        >>> import symgraph as sg
        >>> x = sg.array("x", ("n", 4))
        >>> sorted(compile_ahead([x], sg.softmax(x), "cortex-a72", "softmax").manifest["needs"])
        []
    """
    require("compile_ahead", optimize=optimize, precision=precision)
    machine = target if isinstance(target, Target) else targets.target(target)
    request = make_request(inputs, outputs, None, givens, no_default_updates, on_unused_input)
    _refuse_updates(name, [w.label for w, _ in request.updates])
    _refuse_defaults(request.arguments)
    labels = request.keys or [x.name for x in request.outputs]
    request = _fixed(request)
    excluded = tuple([exclude] if isinstance(exclude, str) else exclude)
    options = Options(optimize, excluded, "forbid", precision=precision)
    stages = Stages(name, show)
    program = make_plan(request, options, machine, stages).program
    contract_of(program, ()).check_fixed(min(MAX_SIZE, 2 ** (machine.pointer_bits - 1)))
    with stages.timed("compile"):
        objects = aot_objects(program, machine, name, stages)
    stages.finish()
    manifest = aot_manifest(program, machine, name, needed(objects), labels)
    return Ahead(name, machine, objects, aot_header(manifest), manifest)


def _refuse_updates(name: str, labels: Sequence[str]) -> None:
    if labels:
        raise TargetError(
            f"{name}: updates of shared variables cannot be compiled ahead of time: "
            + ", ".join(labels),
            hint="list the variable's value among the inputs (givens={variable: input}, "
            "no_default_updates=True) and its new value among the outputs",
        )


def _refuse_defaults(arguments: Sequence[In]) -> None:
    given = [a.name or "an input" for a in arguments if a.value is not None]
    if given:
        raise GraphError(
            f"compile_ahead: a C function has no default values: {', '.join(given)}",
            site=user_site(),
        )


def _fixed(request: Request) -> Request:
    """The request with every shared variable replaced by its value."""
    variables = [x for x in toposort(request.roots) if isinstance(x, Shared)]
    if not variables:
        return request
    values = {w: constant(w.get_value(), w.array_type.dtype) for w in variables}
    fixed = make_request(
        list(request.inputs),
        list(request.outputs),
        None,
        values,
        no_default_updates=True,
        on_unused_input="ignore",
    )
    return fixed._replace(guards=(*request.guards, *fixed.guards))


def aot_objects(
    program: Program, target: Target, name: str, stages: Stages | None = None
) -> dict[str, bytes]:
    """Object files by file name. Symbols other than those of the interface are hidden.

    Raises: HostCallError; TargetError for updates, or a name that C does not allow.
    """
    stages = stages or Stages(name, ())
    modules = aot_modules(program, target, name, stages)
    objects = {file: compile_object(text, target) for file, text in modules.items()}
    stages.text("asm", lambda: assembly(list(modules.values()), target))
    foreign = needed(objects) - LIBRARY
    if foreign:
        raise InternalError(f"{name}: generated code calls {', '.join(sorted(foreign))}")
    return objects


def needed(objects: Mapping[str, bytes]) -> frozenset[str]:
    """The symbols that objects take from elsewhere."""
    found = [symbols(data) for data in objects.values()]
    return frozenset().union(*(s.undefined for s in found)).difference(*(s.defined for s in found))


def aot_modules(program: Program, target: Target, name: str, stages: Stages) -> dict[str, str]:
    """The LLVM modules behind the object files."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z_0-9]*", name) or name in KEYWORDS:
        raise TargetError(f"compile_ahead: {name!r} is not a name in C", site=user_site())
    _refuse_updates(name, [program.shared[u.shared].label for u in program.updates])
    # kernels carry the name: code for several CPUs may be linked into one program and must not mix
    kernels, symbol_of = emit_kernels(program, target, stages, f"{name}.")
    driver = emit_driver(program, target, name, symbol_of)
    if driver.hosts:
        ops = ", ".join(dict.fromkeys(h.node.op.name for h in driver.hosts))
        first = driver.hosts[0]
        raise HostCallError(
            f"{name}: no native form for {ops}: {first.reason}", site=first.node.site
        )
    modules = {f"{name}_kernel{i}.o": _hidden(text) for i, text in enumerate(kernels)}
    modules |= {f"{name}_driver{i}.o": _hidden(text) for i, text in enumerate(driver.modules)}
    modules[f"{name}.o"] = _Interface(program, driver, target, name).module()
    stages.text("llvm", lambda: "\n".join(modules.values()))
    return modules


def _hidden(text: str) -> str:
    """The module with its functions invisible outside the program they are linked into."""
    return re.sub(r"^define (?!internal)", "define hidden ", text, flags=re.M)


# --- the interface's code ---


class _Interface:
    """The exported functions, and the constants."""

    def __init__(self, program: Program, driver: Driver, target: Target, name: str):
        self.program, self.driver, self.target, self.name = program, driver, target, name
        self.index = f"i{target.pointer_bits}"

    def module(self) -> str:
        constants = [w.get_value() for w in self._shared()] + list(self.program.constants)
        names = [f"@{self.name}.constant{i}" for i in range(len(constants))]
        data = [_data(n, array) for n, array in zip(names, constants)]
        call, workspace, output = self._call(names), self._workspace(), self._output()
        parameters = "ptr %inputs, ptr %outputs, ptr %sizes, ptr %workspace"
        functions = [
            _definition("i32", self.name, parameters, call),
            _definition(self.index, f"{self.name}_workspace_bytes", "ptr %sizes", workspace),
            _definition(self.index, f"{self.name}_output_bytes", "ptr %sizes, i32 %output", output),
        ]
        declared = call.declarations | workspace.declarations | output.declarations
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
        self._compare_values(text)
        context, table, code = self._fill(text)
        self._leave_if(text, text.value(f"icmp ne i32 {code}, 0"), code)
        array = text.slot("ptr", max(1, first["count"]), 8)
        for i in range(len(program.inputs)):
            self._store(text, array, first["input"] + i, self._element(text, "%inputs", i))
        for i, name in enumerate(constants):
            self._store(text, array, first["shared"] + i, name)
        for i, slot in enumerate(program.output_slots):
            position = first["output"] + program.slots[slot].position
            self._store(text, array, position, self._element(text, "%outputs", i))
        arena = self._aligned(text) if program.arena != 0 else "null"
        arguments = [("ptr", p) for p in (context, array, table, arena)]
        text.do(f"ret i32 {text.call('i32', f'{self.name}.run', *arguments)}")
        return text

    def _compare_values(self, text: Text) -> None:
        """A size that is an input's value must be that value: the workspace was sized by it."""
        code = str(len(self.driver.faults) + 1)
        for position, bind in _values(self.program):
            dtype = self.program.inputs[bind.position].array_type.dtype
            at = self._element(text, "%inputs", bind.position)
            value = text.value(f"load i{dtype.bits}, ptr {at}")
            if dtype.bits < 64:
                extend = "zext" if dtype.kind == "u" else "sext"
                value = text.value(f"{extend} i{dtype.bits} {value} to i64")
            given = text.value(f"getelementptr i64, ptr %sizes, i32 {position}")
            given = text.value(f"load i64, ptr {given}")
            self._leave_if(text, text.value(f"icmp ne i64 {value}, {given}"), code)

    def _leave_if(self, text: Text, bad: str, code: str) -> None:
        leave, go_on = text.label("leave"), text.label("go")
        text.fork(bad, leave, go_on)
        text.start(leave)
        text.do(f"ret i32 {code}")
        text.start(go_on)

    def _element(self, text: Text, array: str, position: int) -> str:
        at = text.value(f"getelementptr ptr, ptr {array}, i32 {position}")
        return text.value(f"load ptr, ptr {at}")

    def _store(self, text: Text, array: str, position: int, value: str) -> None:
        at = text.value(f"getelementptr ptr, ptr {array}, i32 {position}")
        text.do(f"store ptr {value}, ptr {at}")

    def _aligned(self, text: Text) -> str:
        """The first byte of the workspace that temporaries may start at."""
        address = text.value(f"ptrtoint ptr %workspace to {self.index}")
        up = text.value(f"add {self.index} {address}, {_ALIGN - 1}")
        down = text.value(f"and {self.index} {up}, {-_ALIGN}")
        return text.value(f"inttoptr {self.index} {down} to ptr")

    def _workspace(self) -> Text:
        text, arena = Text(), self.program.arena
        if isinstance(arena, int):
            text.do(f"ret {self.index} {arena + _ALIGN if arena else 0}")
            return text
        _, table, code = self._fill(text)
        padded = text.value(f"add {self.index} {self._size(text, table, arena)}, {_ALIGN}")
        good = text.value(f"icmp eq i32 {code}, 0")
        self._return_if(text, good, padded)
        return text

    def _output(self) -> Text:
        """The size of output number %output, or -1: one entry of a table on the stack."""
        text, types = Text(), self.program.outputs
        _, table, code = self._fill(text)
        array = text.slot(self.index, max(1, len(types)), 8)
        for i, type in enumerate(types):
            at = text.value(f"getelementptr {self.index}, ptr {array}, i32 {i}")
            text.do(f"store {self.index} {self._size(text, table, _bytes(type))}, ptr {at}")
        known = text.value(f"icmp ult i32 %output, {len(types)}")
        good = text.value(f"and i1 {known}, {text.value(f'icmp eq i32 {code}, 0')}")
        which = text.value(f"select i1 {known}, i32 %output, i32 0")
        at = text.value(f"getelementptr {self.index}, ptr {array}, i32 {which}")
        self._return_if(text, good, text.value(f"load {self.index}, ptr {at}"))
        return text

    def _return_if(self, text: Text, good: str, value: str) -> None:
        result = text.value(f"select i1 {good}, {self.index} {value}, {self.index} -1")
        text.do(f"ret {self.index} {result}")

    def _size(self, text: Text, table: str, size: SizeLike) -> str:
        """The operand that holds a size."""
        if not isinstance(size, Dim):
            return str(size)
        at = text.value(f"getelementptr {self.index}, ptr {table}, i32 {self.driver.sizes[size]}")
        return text.value(f"load {self.index}, ptr {at}")


def _definition(result: str, name: str, parameters: str, text: Text) -> str:
    body = "\n".join([*text.slots, *text.lines])
    return f"define {result} @{name}({parameters}) nounwind {{\nentry:\n{body}\n}}\n"


def _data(name: str, array: np.ndarray) -> str:
    """An array as a constant of the module."""
    content = "\\" + array.tobytes().hex("\\") if array.nbytes else ""
    return f'{name} = private constant [{array.nbytes} x i8] c"{content}", align {_ALIGN}'


def _bytes(type: Array) -> SizeLike:
    return product(type.shape) * type.dtype.bytes


def _sizes(program: Program) -> list[Bind]:
    """The named sizes that the caller passes, in order."""
    return list({b.atom: b for b in reversed(program.binds)}.values())[::-1]


def _values(program: Program) -> list[tuple[int, Bind]]:
    """Those of the sizes, with their position, that are the value of an input."""
    found = enumerate(_sizes(program))
    return [(i, b) for i, b in found if isinstance(b.atom, ValueOf) and b.kind == "input"]


# --- what the caller must know ---


def aot_manifest(
    program: Program,
    target: Target,
    name: str,
    needs: Iterable[str] = (),
    labels: Sequence[Any] | None = None,
) -> dict[str, Any]:
    """The interface as plain data, as it is written to NAME.json. labels: names of the outputs."""
    faults = [
        f"{f.exception.__name__}: {f.message.format('{0}', '{1}')}" for f in fault_table(program)
    ]
    values = {i: b.position for i, b in _values(program)}
    if values:
        faults.append("SizeError: a size is not the value of the input that it stands for")
    return {
        "name": name,
        "target": {
            "name": target.name,
            "triple": target.triple,
            "cpu": target.cpu,
            "flushes_subnormals": target.flushes_subnormals,
        },
        "inputs": [_described(x.array_type, x.name) for x in program.inputs],
        "outputs": [
            _described(type, None if label is None else str(label))
            for type, label in zip(program.outputs, labels or [None] * len(program.outputs))
        ],
        "sizes": [
            {"name": str(b.atom), "value_of_input": values.get(i)}
            for i, b in enumerate(_sizes(program))
        ],
        "needs": sorted(needs),
        "faults": faults,
    }


def _described(type: Array, name: str | None) -> dict[str, Any]:
    shape = [n if isinstance(n, int) else str(n) for n in type.shape]
    return {"name": name, "dtype": str(type.dtype), "shape": shape}


def aot_header(manifest: Mapping[str, Any]) -> str:
    """The C header of a manifest: what each argument is, and what the returned numbers mean."""
    name, target = manifest["name"], manifest["target"]
    arrays = [
        f"{kind}[{i}]  {x['dtype']}[{', '.join(map(str, x['shape']))}]  {x['name'] or ''}"
        for kind in ("inputs", "outputs")
        for i, x in enumerate(manifest[kind])
    ]
    sizes = [
        f"sizes[{i}]  {s['name']}"
        + (
            f", the value of inputs[{s['value_of_input']}]"
            if s["value_of_input"] is not None
            else ""
        )
        for i, s in enumerate(manifest["sizes"])
    ]
    faults = [f"{1 + i}  {text}" for i, text in enumerate(manifest["faults"])]
    return _HEADER.format(
        name=name,
        indent=" " * len(name),
        guard=f"SYMGRAPH_{name.upper()}_H",
        machine=f"{target['name']} ({target['triple']})",
        needs=", ".join(manifest["needs"]) or "no other function",
        subnormals=_FLUSHES if target["flushes_subnormals"] else "",
        arguments=_lines([*arrays, *(sizes or ["sizes: none, may be null"])]),
        faults=_lines(["0  all is well", *faults]),
    )


def _lines(lines: Iterable[str]) -> str:
    """Lines of a comment."""
    text = "\n".join(line.rstrip() for line in lines)
    return text.replace("*/", "* /").replace("/*", "/ *").replace("\n", "\n *   ")


_FLUSHES = " Subnormal\n * float32 numbers may be taken for zero."
_HEADER = """\
/* {name}, compiled by symgraph for {machine}. It calls {needs}.
 *
 *   {arguments}
 *
 * Arrays are in C order and aligned as their elements are; bool is one byte, 0 or 1; float16 and
 * bfloat16 are their 16 bits. Outputs overlap neither each other nor inputs nor the workspace. No
 * state is kept: any number of threads may call, each with a workspace of its own.{subnormals}
 */
#ifndef {guard}
#define {guard}
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {{
#endif

/* Compute the outputs. workspace: {name}_workspace_bytes(sizes) bytes, aligned in any way; may be
 * null if that is 0. Returns
 *   {faults}
 * and if it is not 0, the outputs hold nothing of meaning. */
int32_t {name}(const void *const *inputs, void *const *outputs,
        {indent}const int64_t *sizes, void *workspace);

/* Bytes of the workspace, or (size_t)-1 if the sizes cannot be. */
size_t {name}_workspace_bytes(const int64_t *sizes);

/* Bytes of outputs[output], or (size_t)-1 if the sizes, or the number, cannot be. */
size_t {name}_output_bytes(const int64_t *sizes, int32_t output);

#ifdef __cplusplus
}}
#endif
#endif
"""
