"""Arguments as the generated entry sees them: what each must be, and the sizes it binds.

An argument is an exact ndarray of the declared dtype, rank and sizes, C-contiguous and aligned; for
a single element it may be a Python or NumPy number too, see numbers_ir.py. Whatever is not leaves
the fast way before anything is locked or allocated.
"""

from __future__ import annotations

from typing import NamedTuple

from symgraph.arraytype import Array
from symgraph.dims import Atom, SizeLike, product

from . import numbers_ir
from .blocks import CELL
from .driver import Driver
from .entry_words import Words
from .layout_check import ALIGNED_C, Layout
from .program import Program


class Overlap(NamedTuple):
    """An input whose memory must not meet a shared variable's while that is written."""

    input: int
    shared: int


def descr_symbol(dtype: str) -> str:
    """The symbol under which the entry imports NumPy's descriptor of a dtype."""
    return f"descr.{dtype}"


def overlaps(program: Program) -> list[Overlap]:
    """Pairs that the entry compares: array inputs with shared variables that are written."""
    written = [u.shared for u in program.updates if u.mode in ("inplace", "swap")]
    return [
        Overlap(i, s) for i, x in enumerate(program.inputs) if x.array_type.shape for s in written
    ]


class Arguments(Words):
    """The part of an entry that checks arguments and binds sizes."""

    context: str  # the context of the call
    cells: list[str]  # of the shared variables, once they are locked

    def __init__(self, program: Program, driver: Driver, layout: Layout):
        super().__init__()
        self.program, self.driver, self.layout = program, driver, layout
        self.objects: set[str] = {"PyArray_Type", "symgraph.name_slow"}
        self.state = ""  # of the Function, once it is loaded
        self.arguments: list[str] = []
        self.places: dict[int, str] = {}  # where the value of a single number lies
        self.atoms: dict[Atom, str] = {}  # bound so far
        self.first_sight = {(b.kind, b.position, b.axis): b.atom for b in program.binds}
        self.later: list[
            tuple[str, SizeLike]
        ] = []  # actual sizes to be compared once the table is filled
        self.atom_array = self.text.slot("i64", max(1, len(driver.sizes.atoms)), 8)
        self.table = self.text.slot("i64", len(driver.sizes), 8)

    def _arguments(self) -> None:
        """Count, no keywords, and each what is declared."""
        text, n = self.text, len(self.program.inputs)
        self._need(self._same("i64", text.value("shl i64 %nargsf, 1"), str(2 * n)))  # but its flag
        self._need(self._same("ptr", "%kwnames", "null"))
        self.arguments = [self._load("ptr", "%args", 8 * i) for i in range(n)]
        for i, (x, argument) in enumerate(zip(self.program.inputs, self.arguments)):
            type = x.array_type
            is_array = self._same(
                "ptr", self._load("ptr", argument, self.layout.type), "@PyArray_Type"
            )
            if type.shape or not numbers_ir.takes_numbers(type.dtype):
                self._need(is_array)
                self._is_exact(type, argument)
            else:
                self.places[i] = self._number(type, argument, is_array)

    def _is_exact(self, type: Array, argument: str) -> None:
        """An array of the right dtype, rank and flags."""
        descr = descr_symbol(type.dtype)
        self.objects.add(descr)
        load, need, same = self._load, self._need, self._same
        need(same("ptr", load("ptr", argument, self.layout.descr), f"@{descr}"))
        need(same("i32", load("i32", argument, self.layout.nd), str(type.ndim)))
        flags = self.text.value(f"and i32 {load('i32', argument, self.layout.flags)}, {ALIGNED_C}")
        need(same("i32", flags, str(ALIGNED_C)))

    def _number(self, type: Array, argument: str, is_array: str) -> str:
        """The address of a single element: in an array, in a NumPy number, or in a slot here."""
        text, scalar = self.text, f"scalar.{type.dtype}"
        self.objects.add(scalar)
        array, number, meet = text.label("array"), text.label("number"), text.label("meet")
        text.fork(is_array, array, number)
        text.start(array)
        self._is_exact(type, argument)
        inside, array = self._load("ptr", argument, self.layout.data), text.block
        text.jump(meet)
        with self._aside(number):
            slot = text.slot("i64", 1, 8)
            found = text.call(
                "ptr",
                "symgraph.number",
                ("ptr", self.state),
                ("ptr", argument),
                ("ptr", f"@{scalar}"),
                ("i32", str(numbers_ir.code(type.dtype))),
                ("ptr", slot),
            )
            self._need(text.value(f"icmp ne ptr {found}, null"))
            number = text.block
            text.jump(meet)
        text.start(meet)
        return text.value(f"phi ptr [ {inside}, %{array} ], [ {found}, %{number} ]")

    def _data(self, input: int) -> str:
        """The address of an argument's first element."""
        found = self.places.get(input)
        return found or self._load("ptr", self.arguments[input], self.layout.data)

    def _bind(self) -> None:
        """Sizes from the shapes: bound at first sight, compared at the next."""
        for i, (x, argument) in enumerate(zip(self.program.inputs, self.arguments)):
            type = x.array_type
            if type.shape:
                self._axes("input", i, type, self._load("ptr", argument, self.layout.dims), 0)
            elif ("input", i, None) in self.first_sight:
                self._bind_value(i, type)
        for i, x in enumerate(self.program.shared):
            if not x.array_type.is_static:
                self._axes("shared", i, x.array_type, self.cells[i], CELL["dims"])

    def _axes(self, kind: str, index: int, type: Array, dims: str, byte: int) -> None:
        for axis, declared in enumerate(type.shape):
            size = self._load("i64", dims, byte + 8 * axis)
            atom = self.first_sight.get((kind, index, axis))
            if isinstance(declared, int):
                self._need(self._same("i64", size, str(declared)))
            elif atom is None:
                self.later.append((size, declared))
            elif atom in self.atoms:
                self._need(self._same("i64", size, self.atoms[atom]))
            else:
                self._set_atom(atom, size)

    def _bind_value(self, index: int, type: Array) -> None:
        """A size that is the value of an integer input."""
        text, bits = self.text, type.dtype.bits
        raw = text.value(f"load i{bits}, ptr {self._data(index)}")
        if bits < 64:
            raw = text.value(f"{'sext' if type.dtype.is_signed else 'zext'} i{bits} {raw} to i64")
        elif not type.dtype.is_signed:
            self._need(text.value(f"icmp sge i64 {raw}, 0"))
        self._set_atom(self.first_sight["input", index, None], raw)

    def _set_atom(self, atom: Atom, value: str) -> None:
        self.atoms[atom] = value
        self._store("i64", value, self.atom_array, 8 * self.driver.sizes.atoms.index(atom))

    def _sizes(self) -> None:
        """Fill the table; a size or a guard that is not as it must be leads to the slow way."""
        arguments = [("ptr", p) for p in (self.context, self.atom_array, self.table)]
        code = self.text.call("i32", f"{self.driver.name}.sizes", *arguments)
        self._need(self._same("i32", code, "0"))

    def _size(self, size: SizeLike) -> str:
        if isinstance(size, int):
            return str(size)
        return self._load("i64", self.table, 8 * self.driver.sizes[size])

    def _compare_later(self) -> None:
        for actual, declared in self.later:
            self._need(self._same("i64", actual, self._size(declared)))

    def _overlap(self) -> None:
        """An input that shares memory with a variable's buffers is copied, on the slow way."""
        for i, s in overlaps(self.program):
            x, w = self.program.inputs[i].array_type, self.program.shared[s].array_type
            data = self._data(i)
            end = self._end(data, x)
            for field in ("data", "spare_data"):
                buffer = self._load("ptr", self.cells[s], CELL[field])
                below = self.text.value(f"icmp ule ptr {end}, {buffer}")
                above = self.text.value(f"icmp ule ptr {self._end(buffer, w)}, {data}")
                self._need(self.text.value(f"or i1 {below}, {above}"))

    def _end(self, data: str, type: Array) -> str:
        nbytes = self._size(product(type.shape) * type.dtype.bytes)
        return self.text.value(f"getelementptr i8, ptr {data}, i64 {nbytes}")
