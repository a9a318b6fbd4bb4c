"""The symbols of an ELF object, read by hand: enough to ask what it wants from others."""

from __future__ import annotations

import struct


def undefined_symbols(data: bytes) -> set[str]:
    """Names that an ELF object (32 or 64 bits, little endian) uses and does not define."""
    assert data[:4] == b"\x7fELF"
    wide = data[4] == 2
    offset = struct.unpack_from("<Q", data, 0x28)[0] if wide else struct.unpack_from("<I", data, 0x20)[0]
    size, count = struct.unpack_from("<HH", data, 0x3A if wide else 0x2E)
    sections = [_section(data, offset + i * size, wide) for i in range(count)]
    names: set[str] = set()
    for kind, start, length, link in sections:
        if kind != 2:  # SHT_SYMTAB
            continue
        strings = sections[link][1]
        step = 24 if wide else 16
        for at in range(start + step, start + length, step):
            name, section = _symbol(data, at, wide)
            if section == 0:
                names.add(data[strings + name : data.index(b"\0", strings + name)].decode())
    return names


def _section(data: bytes, at: int, wide: bool) -> tuple[int, int, int, int]:
    if wide:
        _, kind, _, _, start, length, link = struct.unpack_from("<IIQQQQI", data, at)
    else:
        _, kind, _, _, start, length, link = struct.unpack_from("<IIIIIII", data, at)
    return kind, start, length, link


def _symbol(data: bytes, at: int, wide: bool) -> tuple[int, int]:
    name = struct.unpack_from("<I", data, at)[0]
    return name, struct.unpack_from("<H", data, at + (6 if wide else 14))[0]
