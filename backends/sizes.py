"""The symbolic sizes of a program, each computed once at a call, and the code that does it.

Every distinct polynomial that a step, a shape or the arena needs has one entry. All arithmetic is
checked: a product that leaves the index type, a negative shape entry or a division by zero stops
the call before anything is allocated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from symgraph.dims import Atom, Dim, Fn, SizeLike, atoms
from symgraph.errors import InternalError
from symgraph.relations import Guard

from .irtext import Text

WORK = 0  # entry 0 of every table: the element-operations of the call, saturated


class SizeTable:
    """Which size lies where. Integers need no entry; entry 0 is the work of the whole call."""

    def __init__(self, known: Sequence[Atom]):
        self.atoms = tuple(known)
        self.entries: dict[Dim, int] = {}
        self.shapes: set[Dim] = set()  # those that must not be negative
        self._known = set(known)

    def __len__(self) -> int:
        return 1 + len(self.entries)

    def add(self, size: SizeLike, shape: bool = False) -> None:
        """Give `size` an entry if it is symbolic; with `shape` it must turn out >= 0."""
        if not isinstance(size, Dim):
            return
        unknown = atoms(size) - self._known
        if unknown:
            names = ", ".join(sorted(map(str, unknown)))
            raise InternalError(f"size {size}: nothing gives {names} a value")
        self.entries.setdefault(size, len(self.entries) + 1)
        if shape:
            self.shapes.add(size)

    def __getitem__(self, size: Dim) -> int:
        return self.entries[size]


def emit_sizes(
    name: str,
    table: SizeTable,
    guards: Iterable[tuple[Guard, int]],
    work: SizeLike,
    size_code: int,
    bits: int,
) -> Text:
    """The body of `i32 @NAME(ptr context, ptr atoms, ptr table)`: fill the table, then check.

    atoms: i64 values in the table's order. Returns 0, `size_code` for a size that is negative or
    too large, or the code that comes with the guard that does not hold, its two sides as payloads
    in the context.
    """
    text = Text()
    index = f"i{bits}"
    checked = _Checked(text, table.atoms, bits)
    values = {size: checked.size(size) for size in table.entries}
    sides = [(checked.size(g.left), checked.size(g.right), g.relation, code) for g, code in guards]
    for size in table.shapes:
        checked.suspect(text.value(f"icmp slt {index} {values[size]}, 0"))
    for size, entry in table.entries.items():
        text.do(f"store {index} {values[size]}, ptr {_entry(text, entry, bits)}")
    text.do(f"store {index} {checked.saturated(work)}, ptr %table")
    exits: list[str] = []  # behind the way that calls take
    _leave_if(text, exits, checked.bad, [f"ret i32 {size_code}"])
    for left, right, relation, code in sides:
        broken = text.value(f"icmp {_BROKEN[relation]} {index} {left}, {right}")
        _leave_if(
            text,
            exits,
            broken,
            [*_payload(text, left, 16, bits), *_payload(text, right, 24, bits), f"ret i32 {code}"],
        )
    text.do("ret i32 0")
    text.lines += exits
    return text


_BROKEN = {"==": "ne", "<=": "sgt"}


def _entry(text: Text, entry: int, bits: int) -> str:
    return text.value(f"getelementptr i{bits}, ptr %table, i32 {entry}")


def _leave_if(text: Text, exits: list[str], bad: str, lines: list[str]) -> None:
    if bad == "false":
        return
    leave, go_on = text.label("leave"), text.label("go")
    text.fork(bad, leave, go_on)
    exits += [f"{leave}:", *(f"  {line}" for line in lines)]
    text.start(go_on)


def _payload(text: Text, value: str, byte: int, bits: int) -> list[str]:
    """Lines that store an index as an i64 payload."""
    n = text.reserve()
    lines = [f"{n}p = getelementptr i8, ptr %context, i32 {byte}"]
    if bits < 64:
        lines.append(f"{n} = sext i{bits} {value} to i64")
        value = n
    return [*lines, f"store i64 {value}, ptr {n}p"]


class _Checked:
    """Sizes as straight-line index arithmetic, each distinct size, product and function once.

    Whatever goes wrong on the way is collected in `bad`.
    """

    def __init__(self, text: Text, known: Sequence[Atom], bits: int):
        self.text = text
        self.bits, self.type, self.bad = bits, f"i{bits}", "false"
        self._position = {atom: i for i, atom in enumerate(known)}
        self._done: dict[Any, str] = {}

    def saturated(self, size: SizeLike) -> str:
        """The operand that holds `size`, or the largest index if that overflows on the way."""
        before, self.bad = self.bad, "false"
        shared, self._done = self._done, dict(self._done)  # what overflows here stays here
        value, t = self.size(size), self.type
        if self.bad != "false":
            most = 2 ** (self.bits - 1) - 1
            value = self.text.value(f"select i1 {self.bad}, {t} {most}, {t} {value}")
        self.bad, self._done = before, shared
        return value

    def size(self, size: SizeLike) -> str:
        """The operand that holds `size`."""
        if not isinstance(size, Dim):
            return self.literal(size)
        found = self._done.get(size)
        if found is None:
            found = self._done[size] = self._sum(size)
        return found

    def _sum(self, size: Dim) -> str:
        total = None
        for monomial, k in size.terms:
            term = self._product(monomial) if monomial else self.literal(1)
            if k != 1:
                term = (
                    self.literal(k) if not monomial else self.combine("mul", term, self.literal(k))
                )
            total = term if total is None else self.combine("add", total, term)
        assert total is not None
        return total

    def _product(self, monomial: tuple[Atom, ...]) -> str:
        found = self._done.get(monomial)
        if found is None:
            found = self._atom(monomial[-1])
            if len(monomial) > 1:
                found = self.combine("mul", self._product(monomial[:-1]), found)
            self._done[monomial] = found
        return found

    def _atom(self, atom: Atom) -> str:
        found = self._done.get(atom)
        if found is None:
            if isinstance(atom, Fn):
                found = self.function(atom.fn, *map(self.size, atom.args))
            else:
                found = self.leaf(atom)
            self._done[atom] = found
        return found

    def suspect(self, flag: str) -> None:
        self.bad = flag if self.bad == "false" else self.text.value(f"or i1 {self.bad}, {flag}")

    def literal(self, value: int) -> str:
        if not -(2 ** (self.bits - 1)) <= value < 2 ** (self.bits - 1):
            self.bad = "true"  # a constant size that this target cannot address
            return "0"
        return str(value)

    def combine(self, op: str, a: str, b: str) -> str:
        t = self.type
        pair = self.text.call(f"{{ {t}, i1 }}", f"llvm.s{op}.with.overflow.{t}", (t, a), (t, b))
        self.suspect(self.text.value(f"extractvalue {{ {t}, i1 }} {pair}, 1"))
        return self.text.value(f"extractvalue {{ {t}, i1 }} {pair}, 0")

    def function(self, fn: str, a: str, b: str) -> str:
        if fn in ("max", "min"):
            return self.text.call(
                self.type, f"llvm.s{fn}.{self.type}", (self.type, a), (self.type, b)
            )
        if fn != "floordiv":
            raise InternalError(f"size function {fn} has no code")
        return self._floordiv(a, b)

    def _floordiv(self, a: str, b: str) -> str:
        """Floor division; a divisor below 1 is bad (sizes divide only by what is positive)."""
        value, t = self.text.value, self.type
        wrong = value(f"icmp slt {t} {b}, 1")
        self.suspect(wrong)
        b = value(f"select i1 {wrong}, {t} 1, {t} {b}")
        quotient, rest = value(f"sdiv {t} {a}, {b}"), value(f"srem {t} {a}, {b}")
        below = value(f"icmp slt {t} {rest}, 0")
        return value(f"add {t} {quotient}, {value(f'sext i1 {below} to {t}')}")

    def leaf(self, atom: Atom) -> str:
        value = self.text.value
        address = value(f"getelementptr i64, ptr %atoms, i32 {self._position[atom]}")
        wide = value(f"load i64, ptr {address}")
        if self.bits == 64:
            return wide
        narrow = value(f"trunc i64 {wide} to {self.type}")
        self.suspect(value(f"icmp ne i64 {wide}, {value(f'sext {self.type} {narrow} to i64')}"))
        return narrow
