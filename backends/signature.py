"""A function's side towards its caller: arguments, their conversion, and every complaint.

The generated entry takes the fast way by itself; all of this runs only when it declined.
`Contract.check` then finds the reason, as exact integers, and raises it in the user's words; what
it finds nothing wrong with is called again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from symgraph import dims
from symgraph.arraytype import Array
from symgraph.checks import as_argument
from symgraph.dims import MAX_SIZE, Atom, Dim, Guard, SizeLike
from symgraph.errors import ArgumentError, ShapeError, Site, SizeError
from symgraph.expr import Expr
from symgraph.leaves import Shared

from .program import Bind, FaultSpec, Program
from .request import In, plain_atom


class Signature:
    """Names, defaults and casting rules of the arguments."""

    def __init__(
        self,
        label: str,
        arguments: Sequence[In],
        inputs: Sequence[Expr],
        allow_downcast: bool | None,
    ):
        self.label = label
        self.inputs = tuple(inputs)
        self._arguments = tuple(arguments)
        self._allow_downcast = allow_downcast
        self._downcast = [
            a.allow_downcast if a.allow_downcast is not None else allow_downcast for a in arguments
        ]
        self.names = [a.name or f"argument {i}" for i, a in enumerate(arguments)]
        self._position = {a.name: i for i, a in enumerate(arguments) if a.name}
        self._ambiguous = {n for n in self.names if self.names.count(n) > 1}

    def __str__(self) -> str:
        parts = [
            n if a.value is None else f"{n}={a.value!r}"
            for n, a in zip(self.names, self._arguments)
        ]
        return f"{self.label}({', '.join(parts)})"

    def renamed(self, label: str | None) -> Signature:
        """The same arguments under another name."""
        return Signature(label or self.label, self._arguments, self.inputs, self._allow_downcast)

    def arrange(self, args: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        """The values in order of the arguments, defaults filled in.  Raises ArgumentError."""
        n = len(self._arguments)
        if len(args) > n:
            raise ArgumentError(f"{self}: expected {_at_most(n)}, got {len(args)}")
        missing = object()
        values = [*args, *[missing] * (n - len(args))]
        for name, value in named.items():
            if name not in self._position:
                known = ", ".join(self._position) or "none has a name"
                raise ArgumentError(
                    f"{self}: no argument is called {name!r}", hint=f"its arguments: {known}"
                )
            if name in self._ambiguous:
                twins = f"{self.names.count(name)} arguments are called {name!r}"
                raise ArgumentError(f"{self}: {twins}: give them by position")
            if values[self._position[name]] is not missing:
                raise ArgumentError(f"{self}: argument {name!r} is given twice")
            values[self._position[name]] = value
        for i, a in enumerate(self._arguments):
            if values[i] is missing and a.value is not None:
                values[i] = a.value
        absent = [name for name, value in zip(self.names, values) if value is missing]
        if absent:
            raise ArgumentError(
                f"{self}: missing {len(absent)} of {n} arguments: {', '.join(absent)}"
            )
        return values

    def convert(self, values: Sequence[Any]) -> list[np.ndarray]:
        """Each value as an array the entry accepts.  Raises ArgumentError, naming the argument."""
        return [self._convert(i, value) for i, value in enumerate(values)]

    def _convert(self, i: int, value: Any) -> np.ndarray:
        type = self.inputs[i].array_type
        if self._arguments[i].strict and not is_exact(value, type):
            have = (
                f"{value.dtype}{list(value.shape)}"
                if isinstance(value, np.ndarray)
                else f"a {_kind(value)}"
            )
            raise ArgumentError(
                f"{self.names[i]}: strict: expected a C-contiguous array of {type}, got {have}"
            )
        found = as_argument(value, type, self.names[i], allow_downcast=self._downcast[i])
        return found if found.dtype is type.dtype.np else found.view(type.dtype.np)


def is_exact(value: Any, type: Array) -> bool:
    """Whether the entry takes a value as it is."""
    return (
        value.__class__ is np.ndarray
        and value.dtype is type.dtype.np
        and value.ndim == len(type.shape)
        and value.flags.c_contiguous
        and value.flags.aligned
    )


def _at_most(n: int) -> str:
    return "no arguments" if not n else f"at most {n} argument{'s' if n > 1 else ''}"


def _kind(value: Any) -> str:
    return f"Python {type(value).__name__}"


class Fault(NamedTuple):
    """What a returned code means; {0} and {1} in the message are the payloads."""

    exception: type
    message: str
    site: Site | None


class Contract(NamedTuple):
    """What must hold between the sizes at a call, and what the native code's faults mean."""

    inputs: tuple[Expr, ...]
    shared: tuple[Shared, ...]
    binds: tuple[Bind, ...]
    guards: tuple[tuple[Guard, Site | None], ...]
    types: tuple[Array, ...]  # of everything that is allocated
    arena: SizeLike
    faults: tuple[Fault, ...]

    def sizes(self, arrays: Sequence[np.ndarray], state: Sequence[np.ndarray]) -> dict[Atom, int]:
        """The named sizes, from the arrays' shapes and the values of integer inputs.

        Raises: ShapeError naming both places if one size has two values.
        """
        found: dict[Atom, int] = {}
        place: dict[Atom, str] = {}
        for bind in self.binds:
            array = arrays[bind.index] if bind.kind == "input" else state[bind.index]
            if bind.atom not in found:
                found[bind.atom] = int(array) if bind.axis is None else array.shape[bind.axis]
                place[bind.atom] = self._place(bind.kind, bind.index, bind.axis)
        for kind, nodes, values in (("input", self.inputs, arrays), ("shared", self.shared, state)):
            for index, (node, array) in enumerate(zip(nodes, values)):
                self._compare(node, array, found, place, kind, index)
        return found

    def _compare(
        self,
        node: Expr,
        array: np.ndarray,
        found: dict[Atom, int],
        place: dict[Atom, str],
        kind: str,
        index: int,
    ) -> None:
        for axis, (declared, size) in enumerate(zip(node.array_type.shape, array.shape)):
            expected = dims.substitute(declared, found)
            if expected == size:
                continue
            here = self._place(kind, index, axis)
            atom = plain_atom(declared)
            if atom is not None:
                there = f"{expected} on {place[atom]}"
                raise ShapeError(
                    f"size {declared} is {there}, but {size} on {here}", site=node.site
                )
            raise ShapeError(
                f"{here}: expected {declared} = {expected}, got {size}", site=node.site
            )

    def _place(self, kind: str, index: int, axis: int | None) -> str:
        node = (self.inputs if kind == "input" else self.shared)[index]
        return f"axis {axis} of {node.label}" if axis is not None else f"the value of {node.label}"

    def check(self, sizes: Mapping[Atom, int]) -> None:
        """ShapeError for a guard that fails or a negative size, SizeError for one too large."""
        for guard, site in self.guards:
            left, right = (dims.evaluate_dim(s, sizes) for s in (guard.left, guard.right))
            if left != right if guard.relation == "==" else left > right:
                expected = f"{guard.left} {guard.relation} {guard.right}"
                got = f"{left}{self._shown_by(guard.left)} and {right}{self._shown_by(guard.right)}"
                raise ShapeError(f"{guard.what}: expected {expected}, got {got}", site=site)
        for type in self.types:
            count = 1
            for size in type.shape:
                n = dims.evaluate_dim(size, sizes)
                if n < 0:
                    raise ShapeError(
                        f"a result of type {type} would have the negative size {size} = {n}"
                    )
                count *= n
            if count * type.dtype.bytes >= MAX_SIZE:
                what = f"a result of type {type} would have {count} elements"
                raise SizeError(f"{what}: more than memory can hold")
        if dims.evaluate_dim(self.arena, sizes) >= MAX_SIZE:
            raise SizeError(
                f"the temporaries would take {self.arena} bytes: more than memory can hold"
            )

    def _shown_by(self, size: SizeLike) -> str:
        """Where a size comes from, if one input shows just that."""
        bind = next((b for b in self.binds if Dim((((b.atom,), 1),)) == size), None)
        return f" ({self._place(bind.kind, bind.index, bind.axis)})" if bind is not None else ""

    def error(self, code: int, payload: Sequence[int]) -> Exception:
        """The exception for a code that native code returned."""
        fault = self.faults[code - 1]
        return fault.exception(fault.message.format(*payload), site=fault.site)


def contract_of(program: Program, faults: Sequence[FaultSpec]) -> Contract:
    """The contract of a planned program."""
    return Contract(
        program.inputs,
        tuple(w for w in program.shared if isinstance(w, Shared)),
        program.binds,
        tuple((g, node.site) for g, node in program.guards),
        tuple(
            dict.fromkeys(s.type for s in program.slots if s.kind in ("output", "update", "temp"))
        ),
        program.arena,
        tuple(
            Fault(f.exception, f.message, f.node.site if f.node is not None else None)
            for f in faults
        ),
    )
