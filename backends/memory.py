"""Where temporaries live in the arena: slots coloured by lifetime; and what steps read and write.

Two temporaries share memory only if their lifetimes do not meet and one provably fits into the
other's place. What a loop's body touches lives as long as the whole loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from symgraph.dims import SizeLike, ceildiv, known_le

from .loops import Const, For, If, Load, Poll, Store, While
from .program import Branch, Copy, Host, Launch, Ref, Repeat, Slot, Step


def refs(step: Step) -> Iterator[tuple[Ref, bool]]:
    """Every address a step uses, with whether it writes there; nested steps included."""
    stack: list[Step] = [step]
    while stack:
        s = stack.pop()
        if isinstance(s, Launch):
            yield from ((r, b.access != "r") for r, b in zip(s.args, s.kernel.buffers))
        elif isinstance(s, Copy):
            yield s.source, False
            yield s.target, True
        elif isinstance(s, Host):
            yield from ((r, False) for r in s.args)
            yield from ((r, True) for r in s.results)
        elif isinstance(s, Branch):
            yield s.predicate, False
            stack.extend((*s.then, *s.orelse))
        else:
            stack.extend(s.body)


def slots_of(step: Step) -> Iterator[tuple[int, bool]]:
    """Every slot a step uses, with whether it writes there."""
    for ref, writes in refs(step):
        yield ref.slot, writes
        for initial in ref.chain():
            if initial is not ref:
                yield initial.slot, False


def sizes_in(steps: Sequence[Step], slots: Sequence[Slot]) -> Iterator[SizeLike]:
    """Every size the driver has to compute."""
    stack = list(steps)
    while stack:
        s = stack.pop()
        if isinstance(s, Launch):
            yield from s.dims
            yield s.work
        elif isinstance(s, Copy):
            yield s.elements
        elif isinstance(s, Repeat):
            yield s.times
            stack.extend(s.body)
        elif isinstance(s, Branch):
            stack.extend((*s.then, *s.orelse))
    for at in (at for step in steps for ref, _ in refs(step) for at in ref.chain()):
        yield at.offset
        yield from at.strides
    yield from (slot.offset for slot in slots if slot.kind == "temp")


def assign(
    steps: tuple[Step, ...], slots: Sequence[Slot], align: int
) -> tuple[tuple[Slot, ...], SizeLike]:
    """Slots with arena offsets for the temporaries, and the arena's bytes."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for i, step in enumerate(steps):
        for slot, _ in slots_of(step):
            first.setdefault(slot, i)
            last[slot] = i
    ending: dict[int, list[int]] = {}
    starting: dict[int, list[int]] = {}
    for slot, i in first.items():
        if slots[slot].kind == "temp":
            starting.setdefault(i, []).append(slot)
            ending.setdefault(last[slot], []).append(slot)
    result = list(slots)
    places = _Places(align)
    taken: dict[int, tuple[SizeLike, SizeLike]] = {}
    for i, step in enumerate(steps):
        heirs = inherited(step, slots, starting.get(i, ()), ending.get(i, ()))
        for slot in starting.get(i, ()):
            heir = heirs.get(slot)
            taken[slot] = (
                taken.pop(heir)
                if heir is not None
                else places.take(slots[slot].type.size * slots[slot].type.dtype.bytes)
            )
            result[slot] = slots[slot]._replace(offset=taken[slot][0])
        for slot in ending.get(i, ()):
            if slot in taken:
                places.give_back(taken.pop(slot))
    return tuple(result), places.total


def inherited(
    step: Step, slots: Sequence[Slot], starting: Sequence[int], ending: Sequence[int]
) -> dict[int, int]:
    """Which temporary that a kernel makes may take the very place of one that dies there.

    The kernel reads each element of the old one only just before it writes the same element of the
    new one.
    """
    heirs: dict[int, int] = {}
    if not isinstance(step, Launch):
        return heirs
    made = {r.slot for r, b in zip(step.args, step.kernel.buffers) if b.access == "w"}
    for new in starting:
        for old in ending:
            a, b = slots[new].type, slots[old].type
            fits = a.size == b.size and a.dtype.bytes == b.dtype.bytes
            if (
                new in made
                and old not in made
                and old not in heirs.values()
                and fits
                and same_index(step, new, old)
            ):
                heirs[new] = old
                break
    return heirs


class _Places:
    """Free places by exact size first, then by provable fit."""

    LOOK = 64  # places of another size that are tried; keeps a long program linear

    def __init__(self, align: int):
        self.align = align
        self.total: SizeLike = 0
        self.free: dict[SizeLike, list[SizeLike]] = {}

    def take(self, bytes: SizeLike) -> tuple[SizeLike, SizeLike]:
        if self.free.get(bytes):
            return self.free[bytes].pop(), bytes
        fitting = [
            s for s in list(self.free)[: self.LOOK] if self.free[s] and known_le(bytes, s) is True
        ]
        if fitting:
            best = min((s for s in fitting if isinstance(s, int)), default=fitting[0])
            return self.free[best].pop(), best
        offset = self.total
        self.total = self.total + ceildiv(bytes, self.align) * self.align
        return offset, bytes

    def give_back(self, place: tuple[SizeLike, SizeLike]) -> None:
        self.free.setdefault(place[1], []).append(place[0])


# --------------------------------------------------------------------------------- updates in place


def may_write_in_place(steps: Sequence[Step], update: int, own: int, updates: set[int]) -> bool:
    """Whether the value in slot `update` may be written over the variable's slot `own` right away.

    The one step that writes it is a loop nest that reads the variable, if at all, at the element it
    writes; nothing reads the variable later, nothing else reads the update, and no later step can
    fail or be interrupted.
    """
    writers = [i for i, s in enumerate(steps) if (update, True) in set(slots_of(s))]
    if len(writers) != 1:
        return False
    at = writers[0]
    step = steps[at]
    if not isinstance(step, Launch) or step.faults or not same_index(step, update, own):
        return False
    for i, s in enumerate(steps):
        if i != at and (update, False) in set(slots_of(s)):
            return False
        if i > at and any(slot == own for slot, _ in slots_of(s)):
            return False
        if i >= at and not _cannot_stop(s):
            return False
    return True


def changes_in_place(steps: Sequence[Step], update: int, own: int) -> int | None:
    """The step that copies a variable for a scatter into the copy, if the copy is not needed.

    The slots are as above. The scatter does not read the variable, nothing reads it later, nothing
    else reads the update, and from the scatter on no step can fail or be interrupted.
    """
    touching = [(i, s) for i, s in enumerate(steps) if update in {slot for slot, _ in slots_of(s)}]
    if len(touching) != 2:
        return None
    (first, copy), (at, change) = touching
    if not (isinstance(copy, Copy) and copy.source.slot == own and copy.target.slot == update):
        return None
    if not isinstance(change, Launch) or change.kernel.name not in CHANGES:
        return None
    if any(slot == own for s in steps[at:] for slot, _ in slots_of(s)):
        return None
    return first if all(map(_cannot_stop, steps[at:])) else None


def _cannot_stop(step: Step) -> bool:
    if isinstance(step, Copy):
        return True
    return (
        isinstance(step, Launch)
        and not step.faults
        and step.kernel.name in (*NESTS, *TILES, *CHANGES)
        and not has_poll(step)
    )


NESTS = ("map", "reduce", "fill")
TILES = ("transpose",)  # they may write an element twice, so never over what they read
CHANGES = ("scatter", "overwrite")  # they write some elements and leave the rest


def has_poll(step: Launch) -> bool:
    """Whether the kernel asks for signals anywhere."""
    stack = list(step.kernel.body)
    while stack:
        s = stack.pop()
        if isinstance(s, Poll):
            return True
        if isinstance(s, (For, While)):
            stack.extend(s.body)
        elif isinstance(s, If):
            stack.extend((*s.body, *s.orelse))
    return False


def same_index(step: Launch, update: int, own: int) -> bool:
    """The loop nest reads slot `own` only with the very offsets it writes slot `update` with."""
    if step.kernel.name not in NESTS:
        return False
    readers = [b for r, b in zip(step.args, step.kernel.buffers) if r.slot == own]
    writers = [b for r, b in zip(step.args, step.kernel.buffers) if r.slot == update]
    if not readers:
        return True
    return len(writers) == 1 and all(aligned_accesses(step, b, writers[0]) for b in readers)


def aligned_accesses(step: Launch, read: object, write: object) -> bool:
    """Every store to `write` uses an offset from which `read` was loaded before in the same block.

    No other load of `read` exists, and what is written is not read again: a kernel
    that keeps values there from one pass to the next writes elements before their last reading.
    """
    stack = [list(step.kernel.body)]
    while stack:
        block = stack.pop()
        loaded: set[object] = set()
        stored: set[object] = set()
        for s in block:
            if isinstance(s, Load) and s.buffer is read:
                if stored:
                    return False
                loaded.add(_same(s.offset))
            elif isinstance(s, Load) and s.buffer is write:
                return False
            elif isinstance(s, Store) and s.buffer is write:
                stored.add(_same(s.offset))
            elif isinstance(s, (For, While)):
                stack.append(list(s.body))
            elif isinstance(s, If):
                stack += [list(s.body), list(s.orelse)]
        if loaded != stored and (loaded or stored):
            return False
    return True


def _same(offset: object) -> object:
    """A key under which equal offsets fall together."""
    return ("literal", offset.value) if isinstance(offset, Const) else id(offset)


def rename_slots(steps: Sequence[Step], rename: Mapping[int, int]) -> tuple[Step, ...]:
    """The steps with top-level kernels writing to other slots."""
    if not rename:
        return tuple(steps)
    return tuple(
        s._replace(args=tuple(r._replace(slot=rename.get(r.slot, r.slot)) for r in s.args))
        if isinstance(s, Launch)
        else s
        for s in steps
    )
