"""The CPython entry of a function, generated for its signature: check, bind, allocate, run, return.

    ptr NAME.entry(ptr self, ptr args, i64 nargsf, ptr kwnames)      a vectorcall

The fast way is for positional arguments that are exact ndarrays: the declared dtype, rank and
sizes, C-contiguous and aligned. Whatever is not goes, untouched, to `self._slow(*args, **kwargs)`
in Python, which converts and calls again or raises; a shared variable that another thread holds
leads to `self._contended`. Everything the entry knows of one Function lies in its state block, so
that copies with other shared variables run the same code.
"""

from __future__ import annotations

from typing import NamedTuple

from symgraph.arraytype import Array
from symgraph.dims import Atom, SizeLike, product

from . import recycling_ir
from .blocks import CELL, CONTEXT_BYTES, FIELDS, GIL_WORK, NO_MEMORY, POLL_BUDGET, STATE
from .driver import Driver, base_of, bases, total_work
from .entry_words import LIKELY, WEIGHTS, Words
from .layout_check import ALIGNED_C, Layout
from .native_type import STATE as STATE_FIELD
from .program import Program
from .sizes import WORK
from .targets import Target

STACK_ARENA = 4096  # bytes: smaller arenas live on the C stack
RESULTS = ("single", "list", "tuple", "dict")


class Overlap(NamedTuple):
    """An input whose memory must not meet a shared variable's while that is written."""

    input: int
    shared: int


def emit_entry(
    program: Program,
    driver: Driver,
    target: Target,
    layout: Layout,
    result: str,
    profile: bool = False,
) -> str:
    """The module of the entry. result: how outputs are handed back, one of RESULTS."""
    return _Entry(program, driver, target, layout, result, profile).module()


def descr_symbol(dtype: str) -> str:
    """The symbol under which the entry imports NumPy's descriptor of a dtype."""
    return f"descr.{dtype}"


def overlaps(program: Program) -> list[Overlap]:
    """Pairs that the entry compares: array inputs with shared variables that are written."""
    written = [u.shared for u in program.updates if u.mode in ("inplace", "swap")]
    return [
        Overlap(i, s) for i, x in enumerate(program.inputs) if x.array_type.shape for s in written
    ]


class _Entry(Words):
    def __init__(
        self,
        program: Program,
        driver: Driver,
        target: Target,
        layout: Layout,
        result: str,
        profile: bool,
    ):
        self.program, self.driver, self.layout, self.result = program, driver, layout, result
        self.profile = profile
        self.heap: str | None = None  # the arena, if it came from the heap
        self.header = f'target triple = "{target.triple}"'
        super().__init__()
        self.atoms: dict[Atom, str] = {}  # bound so far
        self.first_sight = {(b.kind, b.position, b.axis): b.atom for b in program.binds}
        self.later: list[
            tuple[str, SizeLike]
        ] = []  # actual sizes to be compared once the table is filled
        self.objects: set[str] = {"PyArray_Type", "symgraph.name_slow"}
        self.made: list[Array] = [
            *program.outputs,
            *(program.slots[u.slot].type for u in program.updates if u.mode == "rebind"),
        ]
        types = (*program.outputs, *(program.slots[u.slot].type for u in program.updates))
        symbolic = any(not t.is_static for t in types)
        self.work = total_work(program)
        symbolic = symbolic or not isinstance(self.work, int)
        self.needs_table = bool(len(driver.sizes) > 1 or program.guards or symbolic)
        self.boxed = result != "single"  # the container comes last in `made`

    # --- the whole ---

    def module(self) -> str:
        text, program = self.text, self.program
        self._frame()
        self._arguments()
        if program.shared:
            self._lock()
        self._bind()
        self._sizes()
        self._compare_later()
        self._overlap()
        self._allocate()
        self._addresses()
        self._run()
        self._finish()
        self._exits()
        parameters = "ptr %self, ptr %args, i64 %nargsf, ptr %kwnames"
        body = "\n".join([*text.slots, *text.lines])
        entry = (
            f"define ptr @{self.driver.name}.entry({parameters}) nounwind {{\nentry:\n{body}\n}}\n"
        )
        objects = [f"@{name} = external global i8" for name in sorted(self.objects)]
        return "\n".join([self.header, *objects, entry, *text.declarations.values(), WEIGHTS, ""])

    def _frame(self) -> None:
        slot = self.text.slot
        self.context = slot("i8", CONTEXT_BYTES, 16)
        self.atom_array = slot("i64", max(1, len(self.driver.sizes.atoms)), 8)
        self.table = slot("i64", len(self.driver.sizes), 8)
        self.bases = slot("ptr", max(1, bases(self.program)["count"]), 8)
        self.made_array = slot("ptr", len(self.made) + 1, 8)
        self.state = self._load("ptr", "%self", STATE_FIELD)

    def _exits(self) -> None:
        text = self.text
        if self.program.shared:
            text.start("slow_locked")
            text.call("void", "symgraph.unlock", ("ptr", self.state))
            text.jump("slow")
            text.start("contended")
            self._delegate("contended")
        text.start("slow")
        self._delegate("slow")

    def _delegate(self, method: str) -> None:
        name = f"symgraph.name_{method}"
        self.objects.add(name)
        arguments = [
            ("ptr", f"@{name}"),
            ("ptr", "%self"),
            ("ptr", "%args"),
            ("i64", "%nargsf"),
            ("ptr", "%kwnames"),
        ]
        self.text.do(f"ret ptr {self.text.call('ptr', 'symgraph.delegate', *arguments)}")

    # --- checks ---

    def _arguments(self) -> None:
        """Count, no keywords, and each an exact ndarray of the right dtype, rank and flags."""
        text, n = self.text, len(self.program.inputs)
        nargs = text.value("and i64 %nargsf, 9223372036854775807")
        self._all([self._same("i64", nargs, str(n)), self._same("ptr", "%kwnames", "null")])
        self.arguments = [self._load("ptr", "%args", 8 * i) for i in range(n)]
        for x, argument in zip(self.program.inputs, self.arguments):
            type = x.array_type
            self._need(
                self._same("ptr", self._load("ptr", argument, self.layout.type), "@PyArray_Type")
            )
            descr = descr_symbol(type.dtype)
            self.objects.add(descr)
            flags = text.value(
                f"and i32 {self._load('i32', argument, self.layout.flags)}, {ALIGNED_C}"
            )
            self._all(
                [
                    self._same("ptr", self._load("ptr", argument, self.layout.descr), f"@{descr}"),
                    self._same("i32", self._load("i32", argument, self.layout.nd), str(type.ndim)),
                    self._same("i32", flags, str(ALIGNED_C)),
                ]
            )

    def _lock(self) -> None:
        code = self.text.call("i32", "symgraph.lock", ("ptr", self.state))
        self._need(self.text.value(f"icmp ne i32 {code}, 0"), "contended")
        self.leave = "slow_locked"
        cells = self._load("ptr", self.state, STATE["cells"])
        self.cells = [self._load("ptr", cells, 8 * i) for i in range(len(self.program.shared))]

    def _bind(self) -> None:
        """Sizes from the shapes: bound at first sight, compared at the next."""
        for i, (x, argument) in enumerate(zip(self.program.inputs, self.arguments)):
            type = x.array_type
            if type.shape:
                self._axes("input", i, type, self._load("ptr", argument, self.layout.dims), 0)
            elif ("input", i, None) in self.first_sight:
                self._bind_value(i, type, argument)
        for i, x in enumerate(self.program.shared):
            if not x.array_type.is_static:
                self._axes("shared", i, x.array_type, self.cells[i], CELL["dims"])

    def _axes(self, kind: str, index: int, type: Array, dims: str, byte: int) -> None:
        good = []
        for axis, declared in enumerate(type.shape):
            size = self._load("i64", dims, byte + 8 * axis)
            atom = self.first_sight.get((kind, index, axis))
            if isinstance(declared, int):
                good.append(self._same("i64", size, str(declared)))
            elif atom is None:
                self.later.append((size, declared))
            elif atom in self.atoms:
                good.append(self._same("i64", size, self.atoms[atom]))
            else:
                self._set_atom(atom, size)
        self._all(good)

    def _bind_value(self, index: int, type: Array, argument: str) -> None:
        """A size that is the value of an integer input."""
        text, bits = self.text, type.dtype.bits
        raw = text.value(f"load i{bits}, ptr {self._load('ptr', argument, self.layout.data)}")
        if bits < 64:
            raw = text.value(f"{'sext' if type.dtype.is_signed else 'zext'} i{bits} {raw} to i64")
        elif not type.dtype.is_signed:
            self._need(text.value(f"icmp sge i64 {raw}, 0"))
        self._set_atom(self.first_sight["input", index, None], raw)

    def _set_atom(self, atom: Atom, value: str) -> None:
        self.atoms[atom] = value
        self._store("i64", value, self.atom_array, 8 * self.driver.sizes.atoms.index(atom))

    def _sizes(self) -> None:
        if not self.needs_table:
            return
        arguments = [("ptr", p) for p in (self.context, self.atom_array, self.table)]
        code = self.text.call("i32", f"{self.driver.name}.sizes", *arguments)
        self._need(self._same("i32", code, "0"))

    def _size(self, size: SizeLike) -> str:
        if isinstance(size, int):
            return str(size)
        return self._load("i64", self.table, 8 * self.driver.sizes[size])

    def _compare_later(self) -> None:
        self._all(
            [self._same("i64", actual, self._size(declared)) for actual, declared in self.later]
        )

    def _overlap(self) -> None:
        """An input that shares memory with a variable's buffers is copied, on the slow way."""
        for i, s in overlaps(self.program):
            x, w = self.program.inputs[i].array_type, self.program.shared[s].array_type
            data = self._load("ptr", self.arguments[i], self.layout.data)
            end = self._end(data, x)
            for field in ("data", "spare_data"):
                buffer = self._load("ptr", self.cells[s], CELL[field])
                below = self.text.value(f"icmp ule ptr {end}, {buffer}")
                above = self.text.value(f"icmp ule ptr {self._end(buffer, w)}, {data}")
                self._need(self.text.value(f"or i1 {below}, {above}"))

    def _end(self, data: str, type: Array) -> str:
        nbytes = self._size(product(type.shape) * type.dtype.bytes)
        return self.text.value(f"getelementptr i8, ptr {data}, i64 {nbytes}")

    # --- buffers ---

    def _allocate(self) -> None:
        """New arrays for the outputs and for variables whose shape may change."""
        for u in self.program.updates:
            if u.mode == "swap":
                spare = self._load("ptr", self.cells[u.shared], CELL["spare_data"])
                self._need(self.text.value(f"icmp ne ptr {spare}, null"))
        for i in range(len(self.made) + 1):
            self._store("ptr", "null", self.made_array, 8 * i)
        self.leave = "failed"
        if self.boxed:
            self._new_box()
        self.new = [self._new_array(i, type) for i, type in enumerate(self.made)]

    def _new_box(self) -> None:
        """The container that the outputs go into."""
        size = () if self.result == "dict" else (("i64", str(len(self.program.outputs))),)
        box = self.text.call("ptr", f"Py{self.result.title()}_New", *size)
        self._store("ptr", box, self.made_array, 8 * len(self.made))
        self._need(self.text.value(f"icmp ne ptr {box}, null"))

    def _new_array(self, position: int, type: Array) -> str:
        text, descr = self.text, f"@{descr_symbol(type.dtype)}"
        self.objects.add(descr[1:])
        dims = text.slot("i64", max(1, type.ndim), 8)
        sizes = [self._size(size) for size in type.shape]
        for axis, size in enumerate(sizes):
            self._store("i64", size, dims, 8 * axis)
        new = self._constructor(sizes, type)
        text.call("void", "Py_IncRef", ("ptr", descr))
        arguments = f"ptr @PyArray_Type, ptr {descr}, i32 {type.ndim}, ptr {dims}"
        array = text.value(f"call ptr {new}({arguments}, ptr null, ptr null, i32 0, ptr null)")
        self._store("ptr", array, self.made_array, 8 * position)
        self._need(text.value(f"icmp ne ptr {array}, null"))
        return self._load("ptr", array, self.layout.data)

    def _constructor(self, sizes: list[str], type: Array) -> str:
        """PyArray_NewFromDescr, or its like where memory is recycled, by the size at the call."""
        text, nbytes = self.text, product(type.shape) * type.dtype.bytes
        plain = self._declared("PyArray_NewFromDescr")
        if not recycling_ir.available() or isinstance(nbytes, int) and nbytes < recycling_ir.LEAST:
            return plain
        large = self._declared("symgraph.new_large")
        if isinstance(nbytes, int):
            return large
        total = str(type.dtype.bytes)
        for size in sizes:
            total = text.value(f"mul i64 {total}, {size}")
        flag = text.value(f"icmp uge i64 {total}, {recycling_ir.LEAST}")
        return text.value(f"select i1 {flag}, ptr {large}, ptr {plain}")

    def _declared(self, name: str) -> str:
        """A function with the signature of PyArray_NewFromDescr."""
        parameters = "ptr, ptr, i32, ptr, ptr, ptr, i32, ptr"
        self.text.declarations[name] = f"declare ptr @{name}({parameters})"
        return f"@{name}"

    def _addresses(self) -> None:
        """Fill `bases`."""
        program, first = self.program, bases(self.program)
        for i, argument in enumerate(self.arguments):
            self._base(first["input"] + i, self._load("ptr", argument, self.layout.data))
        for i in range(len(program.shared)):
            self._base(first["shared"] + i, self._load("ptr", self.cells[i], CELL["data"]))
        if program.constants:
            constants = self._load("ptr", self.state, STATE["constants"])
            for i in range(len(program.constants)):
                self._base(first["constant"] + i, self._load("ptr", constants, 8 * i))
        for slot, data in zip(program.output_slots, self.new):
            self._base(base_of(program, program.slots[slot], first), data)
        fresh = iter(self.new[len(program.outputs) :])
        for u in program.updates:
            if u.mode in ("swap", "rebind"):
                data = (
                    next(fresh)
                    if u.mode == "rebind"
                    else self._load("ptr", self.cells[u.shared], CELL["spare_data"])
                )
                self._base(base_of(program, program.slots[u.slot], first), data)

    def _base(self, position: int, data: str) -> None:
        self._store("ptr", data, self.bases, 8 * position)

    # --- the call ---

    def _run(self) -> None:
        self._fill_context()
        arena = self._arena()
        self._release_gil()
        arguments = [("ptr", p) for p in (self.context, self.bases, self.table, arena)]
        self.code = self.text.call("i32", f"{self.driver.name}.run", *arguments)
        self._retake_gil()
        if arena != "null":
            self._give_back(arena)

    def _fill_context(self) -> None:
        self._store("i64", str((1 << 63) - 1), self.context, FIELDS["budget"])
        for field in ("poll", "thread"):
            self._store("ptr", "null", self.context, FIELDS[field])
        self._store("ptr", "%self", self.context, FIELDS["self"])
        self._store("ptr", self.state, self.context, FIELDS["state"])
        if self.driver.hosts:
            self.objects.add("symgraph.host")
            self._store("ptr", "@symgraph.host", self.context, FIELDS["host"])
            self._store("ptr", self.atom_array, self.context, FIELDS["atoms"])
        if self.profile:
            self._store(
                "ptr",
                self._load("ptr", self.state, STATE["profile"]),
                self.context,
                FIELDS["profile"],
            )
        calls = self._load("i64", self.state, STATE["calls"])
        self._store("i64", self.text.value(f"add i64 {calls}, 1"), self.state, STATE["calls"])

    def _arena(self) -> str:
        """The arena: none, on the stack if it is small, else one of the function's own."""
        text, need = self.text, self.program.arena
        if isinstance(need, int) and need == 0:
            return "null"
        if isinstance(need, int) and need <= STACK_ARENA:
            return text.slot("i8", need, 64)
        nbytes = self._size(need)
        taken = text.call("ptr", "symgraph.arena_take", ("ptr", self.state), ("i64", nbytes))
        self.heap = taken
        go_on, failed = text.label("go"), text.label("no_memory")
        text.fork(text.value(f"icmp ne ptr {taken}, null"), go_on, failed, LIKELY)
        text.start(failed)
        self._abandon()
        self._store("i64", nbytes, self.context, FIELDS["payload0"])
        text.do(f"ret ptr {self._raise(str(NO_MEMORY))}")
        text.start(go_on)
        return taken

    def _give_back(self, arena: str) -> None:
        if self.heap is not None:
            self.text.call("void", "symgraph.arena_give", ("ptr", self.state), ("ptr", arena))

    def _release_gil(self) -> None:
        """Let other Python threads run during long work; only then are signals polled."""
        text = self.text
        self.releases = not (isinstance(self.work, int) and self.work < GIL_WORK)
        if not self.releases:
            return
        self.objects.add("symgraph.poll")
        go_on = text.label("go")
        if not isinstance(self.work, int):
            release = text.label("release")
            text.fork(
                text.value(f"icmp sge i64 {self._load('i64', self.table, 8 * WORK)}, {GIL_WORK}"),
                release,
                go_on,
            )
            text.start(release)
        self._store("i64", str(POLL_BUDGET), self.context, FIELDS["budget"])
        self._store("ptr", "@symgraph.poll", self.context, FIELDS["poll"])
        self._store("ptr", text.call("ptr", "PyEval_SaveThread"), self.context, FIELDS["thread"])
        text.jump(go_on)
        text.start(go_on)

    def _retake_gil(self) -> None:
        if not self.releases:
            return
        text = self.text
        thread = self._load("ptr", self.context, FIELDS["thread"])
        retake, go_on = text.label("retake"), text.label("go")
        text.fork(text.value(f"icmp eq ptr {thread}, null"), go_on, retake)
        text.start(retake)
        text.call("void", "PyEval_RestoreThread", ("ptr", thread))
        text.jump(go_on)
        text.start(go_on)

    def _abandon(self) -> None:
        """Unlock and drop what was allocated."""
        if self.program.shared:
            self.text.call("void", "symgraph.unlock", ("ptr", self.state))
        count = ("i64", str(len(self.made) + self.boxed))
        self.text.call("void", "symgraph.drop", ("ptr", self.made_array), count)

    def _raise(self, code: str) -> str:
        """Raise what a code means; null."""
        arguments = [("ptr", "%self"), ("i32", code), ("ptr", self.context)]
        return self.text.call("ptr", "symgraph.fault", *arguments)

    # --- the end ---

    def _finish(self) -> None:
        text = self.text
        done, stopped, raised, fault = "done", "stopped", "raised", "fault"
        text.fork(self._same("i32", self.code, "0"), done, stopped, LIKELY)
        text.start(stopped)
        self._abandon()
        text.fork(text.value(f"icmp slt i32 {self.code}, 0"), raised, fault)
        text.start(raised)
        text.do("ret ptr null")
        text.start(fault)
        text.do(f"ret ptr {self._raise(self.code)}")
        text.start("failed")
        self._abandon()
        text.do("ret ptr null")
        text.start(done)
        self._update()
        text.do(f"ret ptr {self._result()}")

    def _update(self) -> None:
        fresh = len(self.program.outputs)
        for u in self.program.updates:
            if u.mode == "swap":
                self.text.call("void", "symgraph.swap", ("ptr", self.cells[u.shared]))
            elif u.mode == "rebind":
                array = self._load("ptr", self.made_array, 8 * fresh)
                self.text.call(
                    "void", "symgraph.rebind", ("ptr", self.cells[u.shared]), ("ptr", array)
                )
                fresh += 1
        if self.program.shared:
            self.text.call("void", "symgraph.unlock", ("ptr", self.state))

    def _result(self) -> str:
        """The outputs as the user asked for them; references move into the container."""
        text = self.text
        arrays = [
            self._load("ptr", self.made_array, 8 * i) for i in range(len(self.program.outputs))
        ]
        if self.result == "single":
            return arrays[0]
        box = self._load("ptr", self.made_array, 8 * len(self.made))
        keys = self._load("ptr", self.state, STATE["keys"]) if self.result == "dict" else ""
        for i, array in enumerate(arrays):
            if self.result == "dict":
                text.call(
                    "i32",
                    "PyDict_SetItem",
                    ("ptr", box),
                    ("ptr", self._load("ptr", keys, 8 * i)),
                    ("ptr", array),
                )
                text.call("void", "Py_DecRef", ("ptr", array))
            else:
                text.call(
                    "i32",
                    f"Py{self.result.title()}_SetItem",
                    ("ptr", box),
                    ("i64", str(i)),
                    ("ptr", array),
                )
        return box
