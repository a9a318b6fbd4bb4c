"""What a user calls: `Function` and its native form; everything around the generated code.

A NativeFunction's call goes straight to the generated entry. It comes back to Python only through
the methods
    _slow        arguments that must be converted, or refused
    _contended   a shared variable is locked by another call
    _host        an op without a native form
    _fault       native code found something wrong
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from symgraph.dims import evaluate_dim
from symgraph.errors import GraphError, InternalError
from symgraph.evaluate import compute
from symgraph.expr import Expr
from symgraph.leaves import Shared
from symgraph.sites import user_site

from . import recycling, runtime
from .code import Code
from .native_type import Native, attach, direct
from .request import Request
from .signature import Contract, Signature
from .state import BUSY, Cell, State, cell_of, retry

DECLINED = object()  # what the entry returns to `_Again` for arguments it does not take
ATTEMPTS = 4  # a shared variable's shape can change between our check and the entry's


class Function:
    """A compiled function: call it with one value for each input, by position or name.

    request: what it computes; name: what it is called in messages. `describe` gives what explain()
    and source() show.
    """

    mode = "native"
    core: Any = None  # the Core of functions with native code

    def __init__(
        self,
        request: Request,
        signature: Signature,
        describe: Callable[[Function, str], str],
        remake: Callable[..., Function],
    ):
        self.request = request
        self.signature = signature
        self._describe = describe
        self._remake = remake

    @property
    def name(self) -> str:
        return self.signature.label

    @property
    def shared(self) -> tuple[Shared, ...]:
        """The shared variables it uses, updated ones first."""
        return self.request.shared

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self.name}: a compiled function cannot be pickled; save the values of its shared "
            "variables, and build it again"
        )

    def __repr__(self) -> str:
        return f"<symgraph function {self.signature}, {self.mode}>"

    if TYPE_CHECKING:  # each kind of function has its own

        def __call__(self, *args: Any, **named: Any) -> Any: ...

    def explain(self) -> str:
        """What the compiler did: rules fired, kernels and why each ended, host calls, times."""
        return self._describe(self, "explain")

    def source(self, stage: str = "llvm") -> str:
        """The program after a stage: "graph", "rewrites", "plan", "loops", "llvm" or "asm"."""
        return self._describe(self, stage)

    def profile(self) -> Any:
        """Time, calls and traffic so far; see profile.Profile."""
        from .profile import Profile

        return Profile(self)

    def free(self) -> int:
        """Give memory that is kept for next calls back to the system; the number of bytes.

        That is this function's temporaries, and idle blocks of large results of any function.
        """
        return 0

    def copy(
        self,
        swap: Mapping[Shared, Shared] | None = None,
        *,
        name: str | None = None,
        delete_updates: bool = False,
    ) -> Function:
        """The same function, with some shared variables replaced by others of the same type.

        delete_updates: the copy computes the outputs and leaves the variables alone.   Raises:
        GraphError.
        """
        return self._remake(self, dict(swap or {}), name, delete_updates)


class Core:
    """What a native function and its inner twin share: contract, cells, host steps."""

    def __init__(self, code: Code, variables: Sequence[Shared], keys: Sequence[Any]):
        self.code = code
        self.variables = tuple(variables)  # in the order of the code
        self.contract: Contract = code.contract._replace(shared=self.variables)
        self.cells: list[Cell] = [cell_of(w) for w in variables]
        self.state = State(self.cells, code.writes, code.constants, keys, len(code.launches))
        self.copies = 0  # arguments that had to be converted

    def current(self) -> list[np.ndarray]:
        """The shared variables' arrays."""
        return [cell.current() for cell in self.cells]

    def prepare(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Spare buffers are there; an argument that lies in a variable's buffers is copied."""
        for i in self.code.swaps:
            with self.cells[i] as cell:
                cell.ensure_spare()
        written = [c for c, w in zip(self.cells, self.code.writes) if w]
        buffers = [b for c in written for b in (c.current(), c.spare()) if b is not None]
        return [a.copy() if any(np.may_share_memory(a, b) for b in buffers) else a for a in arrays]

    def host(self, number: int, addresses: int, atoms: int) -> None:
        """Run host step `number` on the arrays at `addresses`."""
        runtime.entered()
        step = self.code.hosts[number]
        order = dict.fromkeys(b.atom for b in self.contract.binds)
        env = dict(zip(order, (ctypes.c_int64 * len(order)).from_address(atoms))) if order else {}
        types = (*step.arg_types, *step.result_types)
        pointers = (ctypes.c_void_p * max(1, len(types))).from_address(addresses)
        arrays = [
            _view(at or 0, [evaluate_dim(s, env) for s in t.shape], t.dtype.np)
            for at, t in zip(pointers, types)
        ]
        given, results = arrays[: len(step.args)], arrays[len(step.args) :]
        for a in given:
            a.flags.writeable = False
        value = compute(step.node, given, env)
        for target, v in zip(results, value if isinstance(value, tuple) else (value,)):
            np.copyto(target, v)


def _view(address: int, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """An array over memory that somebody else owns."""
    count = int(np.prod(shape, dtype=np.int64))
    if not count:
        return np.empty(shape, dtype)
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return np.ndarray(tuple(shape), dtype, memory)  # type: ignore[arg-type]


class _Callbacks:
    """The methods that native code calls by name on the object it runs for."""

    core: Any

    def _host(self, number: int, addresses: int, atoms: int) -> None:
        self.core.host(number, addresses, atoms)

    def _fault(self, code: int, first: int, second: int) -> None:
        raise self.core.contract.error(code, (first, second))


@direct
class _Again(Native, _Callbacks):
    """Calls the same entry for a slow path; what the entry declines comes back as a mark."""

    def __init__(self, core: Core):
        self.core = core
        attach(self, core.code.entry or 0, core.state.address)

    def _slow(self, *args: Any, **named: Any) -> Any:
        return DECLINED

    def _contended(self, *args: Any, **named: Any) -> Any:
        return BUSY


@direct
class NativeFunction(Native, Function, _Callbacks):
    """A function whose calls go to its generated entry."""

    def __init__(self, core: Core, request: Request, signature: Signature, *rest: Any):
        Function.__init__(self, request, signature, *rest)
        self.core = core
        self._again = _Again(core)
        core.state.take_numbers(signature.takes_numbers)
        attach(self, core.code.entry or 0, core.state.address)

    def _slow(self, *args: Any, **named: Any) -> Any:
        """Convert and call again; look for a reason only where that is declined too."""
        values = self.signature.arrange(args, named)
        arrays = self.signature.convert(values)
        core = self.core
        core.copies += sum(a is not v for a, v in zip(arrays, values))
        result = self._attempt(arrays)
        if result is not DECLINED:
            return result
        for _ in range(ATTEMPTS):
            arrays = core.prepare(arrays)
            sizes = core.contract.sizes(arrays, core.current())
            core.contract.check(sizes)
            result = self._attempt(arrays)
            if result is not DECLINED:
                return result
        raise core.contract.refusal(sizes) or InternalError(
            f"{self.signature}: the generated entry refuses arguments that look right"
        )

    def _contended(self, *args: Any, **named: Any) -> Any:
        """Wait for the shared variables."""
        result = self._attempt(args)
        return self._slow(*args) if result is DECLINED else result

    def _attempt(self, arrays: Sequence[Any]) -> Any:
        return retry(lambda: self._again(*arrays), self.core.state.locked, self.name)

    def free(self) -> int:
        return self.core.state.free() + recycling.release()


def swapped(shared: Iterable[Shared], swap: Mapping[Shared, Shared]) -> list[Shared]:
    """The variables with some replaced.  Raises GraphError for what is unused or does not fit."""
    known = list(shared)
    for old, new in swap.items():
        if not isinstance(new, Shared) or not isinstance(old, Expr):
            raise GraphError(
                f"copy: swap: expected shared variables, got {old!r}: {new!r}", site=user_site()
            )
        if all(old is not w for w in known):
            raise GraphError(
                f"copy: swap: {old.label} is not a shared variable of the function",
                site=user_site(),
                operands=known,
            )
        if not _same_type(old, new):
            raise GraphError(
                f"copy: swap: {new.label} does not fit in the place of {old.label}",
                site=user_site(),
                operands=[old, new],
            )
    return [swap.get(w, w) for w in known]


def _same_type(old: Shared, new: Shared) -> bool:
    a, b = old.array_type, new.array_type
    return (
        a.dtype is b.dtype
        and a.ndim == b.ndim
        and all(x == y or not isinstance(x, int) for x, y in zip(a.shape, b.shape))
    )
