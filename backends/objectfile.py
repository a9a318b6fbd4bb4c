"""Reads what an ELF object is made for and which symbols it defines and wants; nothing else of it.

LLVM's linker reports a missing symbol to the terminal and crashes on an object of another kind, so
both are found here.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

MACHINES = {"x86-64": 62, "aarch64": 183, "armv7": 40}  # e_machine by Target.arch
_SYMTAB, _UNDEFINED, _LOCAL = 2, 0, 0


class Symbols(NamedTuple):
    """Names that other objects can use, and names that other objects must give."""

    defined: frozenset[str]
    undefined: frozenset[str]


def is_elf(data: bytes) -> bool:
    """Whether the bytes begin as an ELF object does."""
    return data[:4] == b"\x7fELF" and len(data) >= 64


def machine(data: bytes) -> int:
    """The machine an ELF object is for, as a number in MACHINES."""
    return struct.unpack_from("<H", data, 18)[0]


def symbols(data: bytes) -> Symbols:
    """The global symbols of a little-endian ELF object, 32 or 64 bits.

    Source: System V ABI, chapter 4 (Elf32_Shdr, Elf64_Shdr, Elf32_Sym, Elf64_Sym).
    """
    wide = data[4] == 2
    (table,) = struct.unpack_from("<Q" if wide else "<I", data, 0x28 if wide else 0x20)
    size, count = struct.unpack_from("<HH", data, 0x3A if wide else 0x2E)
    sections = [_section(data, table + i * size, wide) for i in range(count)]
    defined: set[str] = set()
    undefined: set[str] = set()
    for kind, start, length, link in sections:
        if kind != _SYMTAB:
            continue
        strings = sections[link][1]
        step = 24 if wide else 16
        for at in range(start + step, start + length, step):
            name, info, section = _symbol(data, at, wide)
            if info >> 4 != _LOCAL:
                text = data[strings + name : data.index(b"\0", strings + name)].decode()
                (undefined if section == _UNDEFINED else defined).add(text)
    return Symbols(frozenset(defined), frozenset(undefined))


def _section(data: bytes, at: int, wide: bool) -> tuple[int, int, int, int]:
    """Type, file offset, size and link of a section."""
    layout = "<IIQQQQI" if wide else "<IIIIIII"
    _, kind, _, _, start, length, link = struct.unpack_from(layout, data, at)
    return kind, start, length, link


def _symbol(data: bytes, at: int, wide: bool) -> tuple[int, int, int]:
    """Name offset, info byte and section index of a symbol."""
    if wide:
        return struct.unpack_from("<IBxH", data, at)
    name, info, section = struct.unpack_from("<I8xBxH", data, at)
    return name, info, section
