"""A function's side towards its caller: arguments, their conversion, and every complaint.

The generated entry takes the fast way by itself; all of this runs only when it declined.
`Contract.check` then finds the reason, as exact integers, and raises it in the user's words; what
it finds nothing wrong with is called again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from symgraph import dims, guards
from symgraph.arraytype import Array
from symgraph.checks import as_argument, kind_of
from symgraph.dims import MAX_SIZE, Atom, SizeLike
from symgraph.errors import ArgumentError, ShapeError, SizeError
from symgraph.expr import Expr
from symgraph.leaves import Shared
from symgraph.relations import Guard
from symgraph.sites import Site, user_site

from .blocks import NO_MEMORY
from .program import Bind, FaultSpec, Program
from .request import In

DOWNCAST = "compile with allow_input_downcast=True"
MAX_RANK = 64  # of NumPy's arrays
LARGE = 2**31  # products of two smaller numbers stay within 64 bits


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
        for i, a in enumerate(arguments):
            if a.value is not None:  # refused now, not at the first call
                self._convert(i, a.value, f"the default of {self.names[i]}")
        self.takes_numbers = not any(a.strict for a in arguments) and False not in self._downcast
        self._ambiguous = {n for n in self.names if self.names.count(n) > 1}

    def __str__(self) -> str:
        parts = [
            n if a.value is None else f"{n}={_shown(a.value)}"
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

    def _convert(self, i: int, value: Any, what: str | None = None) -> np.ndarray:
        type, what = self.inputs[i].array_type, what or self.names[i]
        exact = is_exact(value, type)
        if exact and all(d == n or not isinstance(d, int) for d, n in zip(type.shape, value.shape)):
            return value
        if self._arguments[i].strict and not exact:
            have = (
                f"{value.dtype}{list(value.shape)}"
                if isinstance(value, np.ndarray)
                else kind_of(value)
            )
            raise ArgumentError(
                f"{what}: strict: expected a C-contiguous array of {type}, got {have}"
            )
        found = as_argument(value, type, what, allow_downcast=self._downcast[i], option=DOWNCAST)
        return found if found.dtype is type.dtype.np else found.view(type.dtype.np)


def _shown(value: Any) -> str:
    """A default in a line of text."""
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else "..."


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
        return guards.bind((*self.inputs, *self.shared), (*arrays, *state))

    def check(self, sizes: Mapping[Atom, int]) -> None:
        """ShapeError or IndexFault for a guard that fails, SizeError for a size out of range."""
        for guard, site in self.guards:
            guards.check(guard, sizes, (*self.inputs, *self.shared), site)
        for type in self.types:
            _check_size(type, sizes)
        _check_bytes("the temporaries", dims.evaluate_dim(self.arena, sizes))

    def check_fixed(self, limit: int = MAX_SIZE) -> None:
        """SizeError or ShapeError for what no call could give or allocate (`limit` bytes)."""
        for type in (*(x.array_type for x in self.inputs), *self.types):
            if type.ndim > MAX_RANK:
                what = f"an array of type {type} has {type.ndim} axes"
                raise ShapeError(f"{what}: at most {MAX_RANK} are possible", site=user_site())
            if type.is_static:
                _check_size(type, {}, limit)
        if isinstance(self.arena, int):
            _check_bytes("the temporaries", self.arena, limit)

    def refusal(self, sizes: Mapping[Atom, int]) -> SizeError | None:
        """Why native code declined sizes that are right in themselves.

        On the way to what follows from them, 64 bits do not suffice.
        """
        large = [f"{a} = {n}" for a, n in sizes.items() if abs(n) >= LARGE]
        if not large:
            return None
        return SizeError(
            f"{' and '.join(large)}: too large to compute sizes with in 64 bits", site=user_site()
        )

    def error(self, code: int, payload: Sequence[int]) -> Exception:
        """The exception for a code that native code returned."""
        if code == NO_MEMORY:
            what = f"there is no memory for {payload[0]} bytes of temporaries"
            return SizeError(what, site=user_site())
        fault = self.faults[code - 1]
        return fault.exception(fault.message.format(*payload), site=fault.site)


def _check_size(type: Array, sizes: Mapping[Atom, int], limit: int = MAX_SIZE) -> None:
    count = 1
    for size in type.shape:
        n = dims.evaluate_dim(size, sizes)
        if n < 0:
            what = f"an array of type {type} would have the negative size {size} = {n}"
            raise SizeError(what, site=user_site())
        count *= n
    _check_bytes(f"an array of type {type}", count * type.dtype.bytes, limit)


def _check_bytes(what: str, count: int, limit: int = MAX_SIZE) -> None:
    if count >= limit:
        raise SizeError(
            f"{what} would take {count} bytes: more than memory can hold", site=user_site()
        )


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
