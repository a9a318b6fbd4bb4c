"""Writes static libraries: object files and the index of their symbols as one `ar` archive."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from .objectfile import symbols

_MAGIC = b"!<arch>\n"
_INDEX, _NAMES = "/", "//"  # members with these names hold the symbol index and the file names


def archive(objects: Mapping[str, bytes]) -> bytes:
    """A static library of ELF objects, by file name. The same objects give the same bytes.

    Source: the System V / GNU variant of ar (ar(5)): an index that linkers search, then a table of
    the file names, then the members, each at an even offset; no times, owners or modes.
    """
    names, name_at = b"", {}
    for name in objects:
        name_at[name] = len(names)
        names += name.encode() + b"/\n"
    defined = [(s, name) for name, data in objects.items() for s in sorted(symbols(data).defined)]
    strings = b"".join(symbol.encode() + b"\0" for symbol, _ in defined)
    at = len(_MAGIC) + len(_member(_INDEX, bytes(4 + 4 * len(defined)) + strings))
    at += len(_member(_NAMES, names))
    members, offsets = [], {}
    for name, data in objects.items():
        members.append(_member(f"/{name_at[name]}", data))
        offsets[name] = at
        at += len(members[-1])
    positions = struct.pack(
        f">{1 + len(defined)}I", len(defined), *(offsets[n] for _, n in defined)
    )
    head = [_MAGIC, _member(_INDEX, positions + strings), _member(_NAMES, names)]
    return b"".join([*head, *members])


def _member(name: str, data: bytes) -> bytes:
    """A member with its header of 60 bytes, filled up to an even size."""
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(data):<10}`\n"
    return header.encode() + data + b"\n" * (len(data) % 2)
