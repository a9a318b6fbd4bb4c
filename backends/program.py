"""What a planned function is: slots, steps and a signature, as plain data.

The plan (backends.plan) makes a Program from an expression graph; memory places its temporaries;
the driver turns it into one native function; the reference runner interprets it. Sizes are ints or
Dims everywhere.

    Program
      inputs, shared, outputs, updates     the signature: what comes in, what is kept, what goes out
      binds, guards                        how each named size gets its value, and what must hold
      slots                                every buffer: input, shared, constant, output, temporary
                                           (with arena offset)
      steps                                Launch | Repeat | Branch | Copy | Host, in order
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from symgraph.arraytype import Array
from symgraph.dims import Atom, SizeLike
from symgraph.expr import Expr
from symgraph.relations import Guard

from .loops import Kernel
from .split import Split


class Slot(NamedTuple):
    """A buffer, C-contiguous. kind: "input", "shared", "constant", "output", "update", "temp".

    position: among its kind (inputs, shared, constants, outputs, updates; 0 for temps).
    A "temp" has its byte `offset` in the arena once memory has placed it (64-byte aligned).
    """

    kind: str
    position: int
    type: Array
    offset: SizeLike = 0


class Ref(NamedTuple):
    """An address: element `offset` in slot number `slot`, and a stride for each enclosing Repeat.

    Each Repeat (outermost first) adds its iteration number times `strides[i]` elements. With
    `first` set, the first iteration of Repeat number `level` uses `first` instead (the initial
    value of a scan's state).
    """

    slot: int
    offset: SizeLike = 0
    strides: tuple[SizeLike, ...] = ()
    first: Ref | None = None
    level: int = 0

    def moved(self, offset: SizeLike, depth: int = 0, strides: tuple[SizeLike, ...] = ()) -> Ref:
        """`offset` elements further, and seen inside Repeats number `depth` on.

        Each of these moves it by its stride; what stands for it at first moves alike.
        """
        still = (0,) * (depth - len(self.strides)) if strides else ()
        return self._replace(
            offset=self.offset + offset,
            strides=(*self.strides, *still, *strides),
            first=self.first and self.first.moved(offset, depth, strides),
        )

    def chain(self) -> Iterator[Ref]:
        """This address, what stands for it at first, what stands for that, and so on."""
        ref: Ref | None = self
        while ref is not None:
            yield ref
            ref = ref.first


class Launch(NamedTuple):
    """Call a kernel.

    args: one Ref per kernel buffer; dims: one size per kernel dim; work: element-operations, for
    deciding about the GIL and threads; node: the expression it computes last (for messages and
    profiles); faults: for each fault of the kernel its index in Program.faults; split: how it may
    be cut (None: it may not), its range being two more dims of the kernel.
    """

    kernel: Kernel
    args: tuple[Ref, ...]
    dims: tuple[SizeLike, ...]
    work: SizeLike
    node: Expr
    faults: tuple[int, ...] = ()
    split: Split | None = None


class Repeat(NamedTuple):
    """Run `body` several times.

    With `reverse` the iteration numbers in Refs run from times-1 down to 0 (`first` is then used by
    iteration times-1).
    """

    times: SizeLike
    body: tuple[Step, ...]
    reverse: bool
    node: Expr


class Branch(NamedTuple):
    """Run `then` if the bool at `predicate` is true, else `orelse`."""

    predicate: Ref
    then: tuple[Step, ...]
    orelse: tuple[Step, ...]
    node: Expr


class Copy(NamedTuple):
    """Copy `elements` of `dtype`; the ranges do not overlap (or are identical)."""

    target: Ref
    source: Ref
    elements: SizeLike
    dtype: str


class Host(NamedTuple):
    """Call `node.op.evaluate` in Python on arrays at `args` (`arg_types`), results to `results`.

    reason: why there is no native form; the entry retakes the GIL for it. Not possible ahead of
    time.
    """

    node: Expr
    args: tuple[Ref, ...]
    arg_types: tuple[Array, ...]
    results: tuple[Ref, ...]
    result_types: tuple[Array, ...]
    reason: str


Step = Launch | Repeat | Branch | Copy | Host


class Bind(NamedTuple):
    """A named size takes its value from axis `axis` of the input or shared variable at `position`.

    axis None: from its value.
    """

    atom: Atom
    kind: str  # "input" or "shared"
    position: int
    axis: int | None


class FaultSpec(NamedTuple):
    """What a kernel's fault means: the exception class, its message ({0}, {1} are the payloads)."""

    exception: type
    message: str
    node: Expr | None


def verbatim(text: str) -> str:
    """Text as a FaultSpec's message that shows no payload."""
    return text.replace("{", "{{").replace("}", "}}")


class Update(NamedTuple):
    """New value of shared variable number `shared`.

    "inplace": a step already wrote into the shared variable's own buffer; "swap": a step wrote into
    its second buffer, slot (kind "update"), and the pointers are exchanged after the last step;
    "keep": value unchanged; "rebind": the shape may change: slot (kind "update") is a fresh array
    that becomes the value.
    """

    shared: int
    mode: str
    slot: int


class Group(NamedTuple):
    """For explain(): the nodes a kernel computes and why the group ended there."""

    kernel: str
    nodes: tuple[Expr, ...]
    reason: str


class Program(NamedTuple):
    inputs: tuple[Expr, ...]
    shared: tuple[Expr, ...]
    constants: tuple[Any, ...]  # C-contiguous read-only numpy arrays
    outputs: tuple[Array, ...]
    output_slots: tuple[int, ...]
    updates: tuple[Update, ...]
    binds: tuple[Bind, ...]
    guards: tuple[tuple[Guard, Expr], ...]
    slots: tuple[Slot, ...]
    steps: tuple[Step, ...]
    faults: tuple[FaultSpec, ...]
    groups: tuple[Group, ...]
    arena: SizeLike = 0  # bytes of all temporaries together
