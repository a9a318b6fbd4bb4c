"""Calls through ctypes, for a Python with an unknown object layout: no generated entry."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph import dims
from symgraph.errors import SizeError

from . import recycling, runtime
from .blocks import CONTEXT_BYTES, FIELDS, POLL_BUDGET
from .calls import Core, Function, NativeFunction
from .loops import INTERRUPTED

_SIZES = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_RUN = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)
_POLL = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)
_HOST = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p)


def native(core: Core, *rest: Any) -> Function:
    """The Function for loaded code: through its entry, or through ctypes if it has none."""
    if core.code.entry is None:
        return CtypesFunction(core, *rest)
    return NativeFunction(core, *rest)


class CtypesFunction(Function):
    """A function that is called through the driver's C interface."""

    def __init__(self, core: Core, *rest: Any):
        super().__init__(*rest)
        self.core: Core = core

    def __call__(self, *args: Any, **named: Any) -> Any:
        values = self.signature.arrange(args, named)
        arrays = self.signature.convert(values)
        core = self.core
        core.copies += sum(a is not v for a, v in zip(arrays, values))
        with contextlib.ExitStack() as locks:
            for cell, _ in core.state.locked:
                locks.enter_context(cell)
            return self._result(_Call(core, core.prepare(arrays)).run())

    def _result(self, outputs: list[np.ndarray]) -> Any:
        kind = self.request.result
        if kind == "single":
            return outputs[0]
        return (
            dict(zip(self.request.keys, outputs))
            if kind == "dict"
            else {"list": list, "tuple": tuple}[kind](outputs)
        )


class _Call:
    """One call: its arrays, its context, and what went wrong inside it."""

    def __init__(self, core: Core, arrays: Sequence[np.ndarray]):
        self.core, self.arrays = core, arrays
        contract = core.contract
        self.env = contract.sizes(arrays, core.current())
        contract.check(self.env)
        order = dict.fromkeys(b.atom for b in contract.binds)
        self.atoms = (ctypes.c_int64 * max(1, len(order)))(*(self.env[a] for a in order))
        self.table = (ctypes.c_ssize_t * core.code.frame.table)()
        self.context = ctypes.create_string_buffer(CONTEXT_BYTES)
        self.error: BaseException | None = None

    def run(self) -> list[np.ndarray]:
        """The outputs; shared variables are updated."""
        core, frame = self.core, self.core.code.frame
        outputs = [self._empty(t) for t in frame.output_types]
        updates = {
            i: self._target(shared, mode, t) for shared, mode, i, t in frame.updates if i >= 0
        }
        if _SIZES(core.code.sizes)(self.context, self.atoms, self.table):
            raise SizeError("a size is too large")
        by_slot = [outputs[frame.outputs.index(i)] for i in range(len(outputs))]
        buffers = [
            *self.arrays,
            *core.current(),
            *core.code.constants,
            *by_slot,
            *(updates[i] for i in sorted(updates)),
        ]
        bases = (ctypes.c_void_p * max(1, len(buffers)))(*(b.ctypes.data for b in buffers))
        arena = np.empty(dims.evaluate_dim(core.contract.arena, self.env) + 64, np.uint8)
        callbacks = self._callbacks()
        code = _RUN(core.code.run)(
            self.context, bases, self.table, -(-arena.ctypes.data // 64) * 64
        )
        del callbacks
        self._raise(code)
        for shared, mode, i, _ in frame.updates:
            if mode == "swap":
                runtime.call("swap", None, ctypes.c_void_p)(core.cells[shared].address)
            elif mode == "rebind":
                core.cells[shared].replace(updates[i])
        core.state.count()
        return outputs

    def _empty(self, type: Any) -> np.ndarray:
        runtime.library()  # which recycles
        return recycling.empty([dims.evaluate_dim(s, self.env) for s in type.shape], type.dtype.np)

    def _target(self, shared: int, mode: str, type: Any) -> np.ndarray:
        spare = self.core.cells[shared].spare() if mode == "swap" else None
        return self._empty(type) if spare is None else spare

    def _field(self, name: str) -> Any:
        return ctypes.c_void_p.from_address(ctypes.addressof(self.context) + FIELDS[name])

    def _callbacks(self) -> list[Any]:
        """Fill the context; the returned objects must live during the call."""
        kept = [_POLL(self._poll), _HOST(self._host)]
        ctypes.c_int64.from_buffer(self.context).value = POLL_BUDGET
        for name, function in zip(("poll", "host"), kept):
            self._field(name).value = ctypes.cast(function, ctypes.c_void_p).value
        self._field("atoms").value = ctypes.addressof(self.atoms)
        self._field("profile").value = ctypes.addressof(self.core.state.profile)
        return kept

    def _poll(self, context: int) -> int:
        try:
            runtime.poll()
        except BaseException as error:
            self.error = error
            return 1
        ctypes.c_int64.from_address(context).value = POLL_BUDGET
        return 0

    def _host(self, context: int, number: int, addresses: int) -> int:
        try:
            self.core.host(number, addresses, ctypes.addressof(self.atoms))
        except BaseException as error:
            self.error = error
            return INTERRUPTED
        return 0

    def _raise(self, code: int) -> None:
        if self.error is not None:
            raise self.error
        if code > 0:
            payload = [
                ctypes.c_int64.from_address(ctypes.addressof(self.context) + FIELDS[f]).value
                for f in ("payload0", "payload1")
            ]
            raise self.core.contract.error(code, payload)
