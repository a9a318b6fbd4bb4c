"""The CPython entry of a function, generated for its signature: check, bind, allocate, run, return.

    ptr NAME.entry(ptr self, ptr args, i64 nargsf, ptr kwnames)      a vectorcall

The fast way is for positional arguments as entry_arguments.py wants them. What is not goes,
untouched, to `self._slow(*args, **kwargs)` in Python, which converts and calls again or raises; a
shared variable that another thread holds leads to `self._contended`. Everything the entry knows of
one Function lies in its state block, so that copies with other shared variables run the same code.
"""

from __future__ import annotations

from symgraph.arraytype import Array
from symgraph.dims import product

from . import recycling_ir
from .blocks import CELL, CONTEXT_BYTES, FIELDS, GIL_WORK, NO_MEMORY, POLL_BUDGET, STATE
from .driver import Driver, base_of, bases, total_work
from .entry_arguments import Arguments, descr_symbol
from .entry_words import LIKELY, WEIGHTS
from .layout_check import Layout
from .native_type import STATE as STATE_FIELD
from .program import Program
from .sizes import WORK
from .targets import Target

STACK_ARENA = 4096  # bytes: smaller arenas live on the C stack
RESULTS = ("single", "list", "tuple", "dict")


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


class _Entry(Arguments):
    def __init__(
        self,
        program: Program,
        driver: Driver,
        target: Target,
        layout: Layout,
        result: str,
        profile: bool,
    ):
        super().__init__(program, driver, layout)
        self.result, self.profile = result, profile
        self.heap: str | None = None  # the arena, if it came from the heap
        self.header = f'target triple = "{target.triple}"'
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
        if self.needs_table:
            self._sizes()
        self._compare_later()
        self._overlap()
        self._allocate()
        self._addresses()
        self._run()
        self._finish()
        text.lines += self.rare
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

    def _lock(self) -> None:
        code = self.text.call("i32", "symgraph.lock", ("ptr", self.state))
        self._need(self.text.value(f"icmp ne i32 {code}, 0"), "contended")
        self.leave = "slow_locked"
        cells = self._load("ptr", self.state, STATE["cells"])
        self.cells = [self._load("ptr", cells, 8 * i) for i in range(len(self.program.shared))]

    # --- buffers ---

    def _allocate(self) -> None:
        """New arrays for the outputs and for variables whose shape may change."""
        for u in self.program.updates:
            if u.mode == "swap":
                spare = self._load("ptr", self.cells[u.shared], CELL["spare_data"])
                self._need(self.text.value(f"icmp ne ptr {spare}, null"))
        for i in range(not self.boxed, len(self.made)):  # what comes after one that fails
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
        for i in range(len(self.arguments)):
            self._base(first["input"] + i, self._data(i))
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
        if self.driver.hosts:
            self.objects.add("symgraph.host")
            self._store("ptr", "%self", self.context, FIELDS["self"])
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
        with self._aside(failed):
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
        if isinstance(self.work, int):
            self._save_thread()
            return
        long, go_on = text.label("release"), text.label("go")
        work = self._load("i64", self.table, 8 * WORK)
        text.fork(text.value(f"icmp sge i64 {work}, {GIL_WORK}"), long, go_on)
        with self._aside(long):
            self._save_thread()
            text.jump(go_on)
        text.start(go_on)

    def _save_thread(self) -> None:
        self._store("i64", str(POLL_BUDGET), self.context, FIELDS["budget"])
        self._store("ptr", "@symgraph.poll", self.context, FIELDS["poll"])
        thread = self.text.call("ptr", "PyEval_SaveThread")
        self._store("ptr", thread, self.context, FIELDS["thread"])

    def _retake_gil(self) -> None:
        if not self.releases:
            return
        text = self.text
        thread = self._load("ptr", self.context, FIELDS["thread"])
        retake, go_on = text.label("retake"), text.label("go")
        text.fork(text.value(f"icmp eq ptr {thread}, null"), go_on, retake)
        with self._aside(retake):
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
        text.start(done)
        self._update()
        text.do(f"ret ptr {self._result()}")
        with self._aside(stopped):
            self._abandon()
            text.fork(text.value(f"icmp slt i32 {self.code}, 0"), raised, fault)
            text.start(raised)
            text.do("ret ptr null")
            text.start(fault)
            text.do(f"ret ptr {self._raise(self.code)}")
            text.start("failed")
            self._abandon()
            text.do("ret ptr null")

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
