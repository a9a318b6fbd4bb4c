"""Loaded native code with all that a call of it needs, compiled now or taken from the cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from symgraph.arraytype import Array

from . import jit, runtime
from .program import Host, Program
from .signature import Contract


class LaunchInfo(NamedTuple):
    """What a profile says of one launch: kernel, what it computes, how much work that is."""

    kernel: str
    what: str
    site: Any
    work: Any  # SizeLike: element-operations
    bytes: Any  # SizeLike: read and written


class Frame(NamedTuple):
    """What the driver's `bases` and `table` hold beside inputs, shared variables and constants.

    outputs: for each its position among the output slots; updates: (shared variable, mode, position
    among the update slots or -1, type); table: number of entries.
    """

    outputs: tuple[int, ...]
    output_types: tuple[Array, ...]
    updates: tuple[tuple[int, str, int, Array], ...]
    table: int


class Code(NamedTuple):
    """One function's native code, shared by all its copies.

    entry: address of the CPython entry, or None where the object layout is unknown; sizes, run:
    addresses of the driver.
    writes: for each shared variable whether a call writes it; swaps: those that need a spare
    buffer. hosts: the host steps by number. library keeps the code alive.
    """

    library: Any
    entry: int | None
    sizes: int
    run: int
    contract: Contract
    frame: Frame
    writes: tuple[bool, ...]
    swaps: tuple[int, ...]
    constants: tuple[np.ndarray, ...]
    hosts: tuple[Host, ...]
    launches: tuple[LaunchInfo, ...]


def frame_of(program: Program, table: int) -> Frame:
    """The frame of a planned program."""
    slots = program.slots
    return Frame(
        tuple(slots[s].position for s in program.output_slots),
        tuple(program.outputs),
        tuple(
            (
                u.shared,
                u.mode,
                slots[u.slot].position if slots[u.slot].kind == "update" else -1,
                slots[u.slot].type,
            )
            for u in program.updates
        ),
        table,
    )


def link(
    objects: Sequence[bytes], name: str, imports: Iterable[str], with_entry: bool
) -> jit.Library:
    """The loaded library of one function."""
    exports = [f"{name}.sizes", f"{name}.run", *([f"{name}.entry"] if with_entry else [])]
    return jit.load(objects, exports, {symbol: runtime.address(symbol) for symbol in imports})
