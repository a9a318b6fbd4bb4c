"""One native function from a Program, free of Python: the sizes, then the steps in order.

    i32 NAME.sizes(ptr context, ptr atoms, ptr table)             atoms: i64 values of the named
    sizes i32 NAME.run(ptr context, ptr bases, ptr table, ptr arena)    bases: one pointer for each
    slot outside the arena

Both return 0, or 1 + the index of a fault in `Driver.faults`, or INTERRUPTED. `bases` holds inputs,
shared variables, constants, outputs and updates, in that order. A long list of steps is cut into
several functions and modules, so that no module takes LLVM long and a signal is answered between
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from symgraph.dims import SizeLike, product
from symgraph.dtypes import dtype
from symgraph.errors import IndexFault, InternalError, ShapeError, SizeError

from .blocks import FIELDS
from .irtext import BYTES, Text
from .loops import INTERRUPTED
from .polling import TURN, emit_poll, poll_points
from .program import (
    Branch,
    Copy,
    FaultSpec,
    Host,
    Launch,
    Program,
    Ref,
    Repeat,
    Slot,
    Step,
    verbatim,
)
from .regions import WORD, Region, emit_alone, emit_region, task_function
from .sizes import SizeTable, emit_sizes
from .targets import Target

CHUNK_STEPS = 200  # steps in one LLVM function


class Driver(NamedTuple):
    """The emitted driver: LLVM module texts, and what a caller must know to use them.

    table: entries of the size table; faults: what each returned code means; hosts: the Host steps
    by number;
    launches: the Launch steps by number (for profiles).
    """

    name: str
    modules: tuple[str, ...]
    sizes: SizeTable
    faults: tuple[FaultSpec, ...]
    hosts: tuple[Host, ...]
    launches: tuple[Launch, ...]


def bases(program: Program) -> dict[str, int]:
    """Position of the first pointer of each kind in `bases`, and their number under "count"."""
    counts = {
        "input": len(program.inputs),
        "shared": len(program.shared),
        "constant": len(program.constants),
        "output": len(program.outputs),
        "update": sum(s.kind == "update" for s in program.slots),
    }
    first, total = {}, 0
    for kind, n in counts.items():
        first[kind] = total
        total += n
    return first | {"count": total}


def base_of(program: Program, slot: Slot, first: dict[str, int] | None = None) -> int:
    """Position of a slot's pointer in `bases`."""
    return (first or bases(program))[slot.kind] + slot.position


def fault_table(program: Program) -> tuple[FaultSpec, ...]:
    """Meaning of code 1 + i: the kernels' faults, then the guards, then unusable sizes."""
    guards = [
        FaultSpec(
            IndexFault if g.of_index else ShapeError,
            verbatim(f"{g.what}: expected {g.left} {g.relation} {g.right}, got ") + "{0} and {1}",
            node,
        )
        for g, node in program.guards
    ]
    sizes = FaultSpec(SizeError, "a size is negative or too large", None)
    return (*program.faults, *guards, sizes)


def walk(steps: Sequence[Step]) -> Iterator[Step]:
    """Every step, those inside Repeat and Branch too, in order."""
    stack = list(reversed(steps))
    while stack:
        step = stack.pop()
        yield step
        if isinstance(step, Repeat):
            stack.extend(reversed(step.body))
        elif isinstance(step, Branch):
            stack.extend(reversed((*step.then, *step.orelse)))


def emit_driver(
    program: Program,
    target: Target,
    name: str,
    symbols: Mapping[int, str] | None = None,
    profile: bool = False,
    threads: bool = False,
) -> Driver:
    """The driver of a program as LLVM text.

    symbols: the name under which a kernel was compiled, by the id of the Kernel (its own name
    unless given). With `profile` every launch is timed; with `threads` those that may be cut run on
    the pool, which only 64-bit targets have.

    Raises: InternalError if a step needs a size that nothing binds.
    """
    atoms = tuple(dict.fromkeys(b.atom for b in program.binds))
    table = SizeTable(atoms)
    collect_sizes(program, table, threads)
    builder = _Builder(program, target, table, symbols or {}, profile, threads, name)
    faults = fault_table(program)
    first_guard = 1 + len(program.faults)
    guards = [(g, first_guard + i) for i, (g, _) in enumerate(program.guards)]
    text = emit_sizes(name, table, guards, total_work(program), len(faults), target.pointer_bits)
    head = _function(f"{name}.sizes", "ptr %context, ptr %atoms, ptr %table", text)
    modules = builder.modules(name, head, text.declarations)
    return Driver(name, modules, table, faults, tuple(builder.hosts), tuple(builder.launches))


def collect_sizes(program: Program, table: SizeTable, threads: bool = False) -> None:
    """Give every size that the program needs an entry in the table."""
    for slot in program.slots:
        if slot.kind == "unused":
            continue
        for size in slot.type.shape:
            table.add(size, shape=slot.kind in ("output", "update", "temp"))
        table.add(product(slot.type.shape) * slot.type.dtype.bytes)
        table.add(slot.offset)
    table.add(program.arena)
    for step in walk(program.steps):
        for size in _sizes_of(step):
            table.add(size)
        if isinstance(step, Launch) and step.split is not None:
            table.add(step.split.extent)
            if threads:
                table.add(step.work)
                table.add(step.split.grain)
                for move in step.split.slice.moves if step.split.slice is not None else ():
                    table.add(move)


def _sizes_of(step: Step) -> Iterator[SizeLike]:
    if isinstance(step, Launch):
        yield from step.dims
        refs: Sequence[Ref] = step.args
    elif isinstance(step, Repeat):
        yield step.times
        yield turn_work(step)
        refs = ()
    elif isinstance(step, Branch):
        refs = (step.predicate,)
    elif isinstance(step, Copy):
        yield step.elements * dtype(step.dtype).bytes
        refs = (step.target, step.source)
    else:
        refs = (*step.args, *step.results)
    for ref in refs:
        for at in ref.chain():
            yield at.offset
            yield from at.strides


def total_work(program: Program) -> SizeLike:
    """Element-operations of one call; of a Branch the longer arm."""
    return _work(program.steps)


def _work(steps: Sequence[Step]) -> SizeLike:
    total: SizeLike = 0
    for step in steps:
        if isinstance(step, Launch):
            total = total + step.work
        elif isinstance(step, Copy):
            total = total + step.elements
        elif isinstance(step, Repeat):
            total = total + step.times * _work(step.body)
        elif isinstance(step, Branch):
            total = total + _work(step.then) + _work(step.orelse)
    return total


def turn_work(step: Repeat) -> SizeLike:
    """Element-operations of one turn."""
    return _work(step.body) + TURN


def _function(name: str, parameters: str, text: Text) -> str:
    return (
        f"define i32 @{name}({parameters}) nounwind {{\nentry:\n"
        + "\n".join([*text.slots, *text.lines])
        + "\n}\n"
    )


class _Builder:
    """Emits the steps of one program, chunk by chunk."""

    def __init__(
        self,
        program: Program,
        target: Target,
        table: SizeTable,
        symbols: Mapping[int, str],
        profile: bool,
        threads: bool,
        name: str,
    ):
        self.program, self.table, self.profile = program, table, profile
        self.symbols, self.threads, self.name = symbols, threads, name
        self.header = f'target triple = "{target.triple}"'
        self.index = f"i{target.pointer_bits}"
        self.first = bases(program)
        self.hosts: list[Host] = []
        self.launches: list[Launch] = []
        self.points = poll_points(program)

    def modules(self, name: str, head: str, declarations: dict[str, str]) -> tuple[str, ...]:
        """Module texts: the first holds NAME.sizes and NAME.run, the others the further chunks."""
        steps = self.program.steps
        chunks = [steps[i : i + CHUNK_STEPS] for i in range(0, len(steps), CHUNK_STEPS)] or [()]
        parts = [_Part(self, chunk) for chunk in chunks]
        parameters = "ptr %context, ptr %bases, ptr %table, ptr %arena"
        if len(parts) == 1:
            text = parts[0].text
            body = parts[0].tasks + _function(f"{name}.run", parameters, text)
            return (self._module(head, body, declarations | text.declarations),)
        names = [f"{name}.part{i}" for i in range(len(parts))]
        run = _Sequence(names).text
        main = self._module(
            head, _function(f"{name}.run", parameters, run), declarations | run.declarations
        )
        rest = [
            self._module(
                "",
                part.tasks + _function(part_name, parameters, part.text),
                part.text.declarations,
            )
            for part_name, part in zip(names, parts)
        ]
        return (main, *rest)

    def _module(self, head: str, body: str, declarations: dict[str, str]) -> str:
        return "\n".join([self.header, head, body, *declarations.values(), ""])


class _Sequence:
    """Calls the chunks one after the other."""

    def __init__(self, names: Sequence[str]):
        self.text = text = Text()
        arguments = [("ptr", f"%{p}") for p in ("context", "bases", "table", "arena")]
        for name in names:
            code = text.call("i32", name, *arguments)
            leave, go_on = text.label("leave"), text.label("go")
            text.fork(text.value(f"icmp eq i32 {code}, 0"), go_on, leave)
            text.start(leave)
            text.do(f"ret i32 {code}")
            text.start(go_on)
        text.do("ret i32 0")


class _Part:
    """One function of the driver: a run of steps."""

    def __init__(self, builder: _Builder, steps: Sequence[Step]):
        self.builder, self.program = builder, builder.program
        self.index, self.table = builder.index, builder.table
        self.text = Text()
        self._heads: dict[tuple[str, int], str] = {}  # loaded once, in the entry block
        self._exits: dict[int, str] = {}  # code -> block that returns it
        self._failed: list[str] = []  # blocks that choose an exit
        self._iterations: list[
            tuple[str, str]
        ] = []  # of the enclosing Repeats: (iteration, is it the first run?)
        self.tasks = ""  # functions for the threads of regions
        self._frame, self._words = self.text.reserve(), 0  # the arguments of a region, on the stack
        self.steps(steps)
        if self._words:
            size = WORD * self._words
            self.text.slots.append(f"  {self._frame} = alloca i8, i32 {size}, align {WORD}")
        self.text.do("ret i32 0")
        self.text.lines += self._failed
        for code, label in self._exits.items():
            self.text.start(label)
            self.text.do(f"ret i32 {code}")

    def steps(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if id(step) in self.builder.points:
                emit_poll(self.text, str(self.builder.points[id(step)]), self._exit(INTERRUPTED))
            _EMIT[type(step)](self, step)  # type: ignore[operator]

    # --- sizes and addresses ---

    def _head(self, array: str, type: str, position: int) -> str:
        """An element of `bases` or `table`, loaded in the entry block."""
        name = self._heads.get((array, position))
        if name is None:
            name = self._heads[array, position] = self.text.reserve()
            self.text.slots += [
                f"  {name}a = getelementptr {type}, ptr %{array}, i32 {position}",
                f"  {name} = load {type}, ptr {name}a",
            ]
        return name

    def size(self, size: SizeLike) -> str:
        """The operand that holds a size."""
        if isinstance(size, int):
            return str(size)
        return self._head("table", self.index, self.table[size])

    def address(self, ref: Ref) -> str:
        """The address a Ref stands for, in the current iteration."""
        slot = self.program.slots[ref.slot]
        if slot.kind == "temp":
            start = self._moved("%arena", "i8", slot.offset)
        else:
            start = self._head("bases", "ptr", base_of(self.program, slot, self.builder.first))
        element = f"[{slot.type.dtype.bytes} x i8]"
        at = self._moved(start, element, ref.offset)
        for stride, (iteration, _) in zip(ref.strides, self._iterations):
            if stride != 0:
                distance = self.text.value(f"mul {self.index} {iteration}, {self.size(stride)}")
                at = self.text.value(f"getelementptr {element}, ptr {at}, {self.index} {distance}")
        if ref.first is None:
            return at
        if len(self._iterations) <= ref.level:
            raise InternalError("an address has a first value but does not lie in its Repeat")
        initial = self.address(ref.first)
        is_first = self._iterations[ref.level][1]
        return self.text.value(f"select i1 {is_first}, ptr {initial}, ptr {at}")

    def _moved(self, start: str, element: str, offset: SizeLike) -> str:
        if isinstance(offset, int) and offset == 0:
            return start
        return self.text.value(
            f"getelementptr {element}, ptr {start}, {self.index} {self.size(offset)}"
        )

    # --- steps ---

    def launch(self, step: Launch) -> None:
        number = len(self.builder.launches)
        self.builder.launches.append(step)
        kernel = step.kernel
        dims = len(step.dims) + (2 if step.split is not None and step.split.slice is None else 0)
        if len(step.args) != len(kernel.buffers) or dims != len(kernel.dims):
            raise InternalError(f"launch of {kernel.name}: arguments do not match its parameters")
        arguments = [("ptr", "%context")]
        arguments += [("ptr", self.address(ref)) for ref in step.args]
        arguments += [(self.index, self.size(size)) for size in step.dims]
        began = self._clock() if self.builder.profile else ""
        symbol = self.builder.symbols.get(id(kernel), kernel.name)
        code = self._call(step, symbol, arguments, number)
        if began:
            self._count(number, began)
        self._check(code, [1 + fault for fault in step.faults])

    def _call(
        self, step: Launch, symbol: str, arguments: list[tuple[str, str]], number: int
    ) -> str:
        """Call a kernel, on several threads if it may be cut; the code."""
        split, text = step.split, self.text
        if split is None:
            return text.call("i32", symbol, *arguments)
        region = Region(symbol, tuple(arguments), split, self.size(split.extent))
        if not self.builder.threads:
            return emit_alone(text, region, self.index)
        moves = split.slice.moves if split.slice is not None else ()
        sizes = [buffer.dtype for buffer in step.kernel.buffers]
        region = region._replace(
            grain=self.size(split.grain),
            work=self.size(step.work),
            moves=tuple((self.size(m), BYTES[d]) for m, d in zip(moves, sizes)),
        )
        name = f"{self.builder.name}.task{number}"
        task = task_function(name, region)
        self.tasks += "\n".join([*task.lines, ""])
        text.declarations |= task.declarations
        self._words = max(self._words, len(region.words))
        return emit_region(text, region, name, self._frame)

    def _check(self, code: str, returned: Sequence[int]) -> None:
        """Leave if a callee returned non-zero: its code 1 + i is our code returned[i]."""
        text = self.text
        go_on, failed = text.label("go"), text.label("failed")
        text.fork(text.value(f"icmp eq i32 {code}, 0"), go_on, failed)
        cases = " ".join(f"i32 {1 + i}, label %{self._exit(c)}" for i, c in enumerate(returned))
        choose = f"switch i32 {code}, label %{self._exit(INTERRUPTED)} [{cases}]"
        self._failed += [f"{failed}:", f"  {choose}"]
        text.start(go_on)

    def _exit(self, code: int) -> str:
        if code not in self._exits:
            self._exits[code] = self.text.label("exit")
        return self._exits[code]

    def repeat(self, step: Repeat) -> None:
        """Counted loop, tested before the first run."""
        text, index = self.text, self.index
        count = self.size(step.times)
        before, body, after = text.block, text.label("repeat"), text.label("done")
        text.fork(text.value(f"icmp sgt {index} {count}, 0"), body, after)
        text.start(body)
        run = text.reserve()
        line = len(text.lines)
        text.lines.append("")
        iteration = run
        if step.reverse:
            last = text.value(f"sub {index} {count}, 1")
            iteration = text.value(f"sub {index} {last}, {run}")
        self._iterations.append((iteration, text.value(f"icmp eq {index} {run}, 0")))
        self._poll_turn(step)
        self.steps(step.body)
        self._iterations.pop()
        again = text.value(f"add {index} {run}, 1")
        text.lines[line] = f"  {run} = phi {index} [ 0, %{before} ], [ {again}, %{text.block} ]"
        text.fork(text.value(f"icmp slt {index} {again}, {count}"), body, after)
        text.start(after)

    def _poll_turn(self, step: Repeat) -> None:
        cost = self.size(turn_work(step))
        if self.index != "i64" and cost.startswith("%"):
            cost = self.text.value(f"zext {self.index} {cost} to i64")
        emit_poll(self.text, cost, self._exit(INTERRUPTED))

    def branch(self, step: Branch) -> None:
        text = self.text
        byte = text.value(f"load i8, ptr {self.address(step.predicate)}")
        then, orelse, after = text.label("then"), text.label("else"), text.label("meet")
        text.fork(text.value(f"icmp ne i8 {byte}, 0"), then, orelse)
        for label, steps in ((then, step.then), (orelse, step.orelse)):
            text.start(label)
            self.steps(steps)
            text.jump(after)
        text.start(after)

    def copy(self, step: Copy) -> None:
        nbytes = self.size(step.elements * dtype(step.dtype).bytes)
        target, source = self.address(step.target), self.address(step.source)
        self.text.call("ptr", "memmove", ("ptr", target), ("ptr", source), (self.index, nbytes))

    def host(self, step: Host) -> None:
        """Store the addresses in an array and ask the context's host function."""
        number = len(self.builder.hosts)
        self.builder.hosts.append(step)
        text = self.text
        refs = (*step.args, *step.results)
        array = text.slot("ptr", max(1, len(refs)), 8)
        for i, ref in enumerate(refs):
            at = text.value(f"getelementptr ptr, ptr {array}, i32 {i}")
            text.do(f"store ptr {self.address(ref)}, ptr {at}")
        field = text.value(f"getelementptr i8, ptr %context, i32 {FIELDS['host']}")
        function = text.value(f"load ptr, ptr {field}")
        code = text.value(f"call i32 {function}(ptr %context, i32 {number}, ptr {array})")
        self._check(code, ())

    # --- profile ---

    def _clock(self) -> str:
        """Nanoseconds of the monotonic clock."""
        return self.text.call("i64", "symgraph.clock")

    def _count(self, number: int, began: str) -> None:
        """Add the time since `began`, and one call, to the launch's row."""
        text = self.text
        spent = text.value(f"sub i64 {self._clock()}, {began}")
        field = text.value(f"getelementptr i8, ptr %context, i32 {FIELDS['profile']}")
        rows = text.value(f"load ptr, ptr {field}")
        row = text.value(f"getelementptr i8, ptr {rows}, i32 {16 * number}")
        text.do(f"atomicrmw add ptr {row}, i64 {spent} monotonic, align 8")
        calls = text.value(f"getelementptr i8, ptr {row}, i32 8")
        text.do(f"atomicrmw add ptr {calls}, i64 1 monotonic, align 8")


_EMIT = {
    Launch: _Part.launch,
    Repeat: _Part.repeat,
    Branch: _Part.branch,
    Copy: _Part.copy,
    Host: _Part.host,
}
