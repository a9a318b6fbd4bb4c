"""Run a Program in Python: sizes as numbers, slots as NumPy arrays, kernels by the interpreter.

This is the oracle of everything behind the plan. It has no entry point, no shared state and no
guards: those are the runtime's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from symgraph.dims import Atom, evaluate_dim
from symgraph.evaluate import compute

from .interpret import interpret
from .program import Branch, Copy, Host, Launch, Program, Ref, Repeat, Step
from .split import Split

RANGES = 3  # that a launch is cut into, if its grain allows


class Fault(Exception):
    """A kernel stopped: `args[0]` is the index into program.faults."""


def simulate(
    program: Program,
    inputs: Sequence[np.ndarray],
    shared: Sequence[np.ndarray],
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Outputs and the shared variables' new values (those without an update as they were).

    inputs and shared are C-contiguous arrays of the declared dtypes and are not written.

    Raises: Fault.
    """
    return _Simulation(program, inputs, shared).results()


class _Simulation:
    def __init__(
        self,
        program: Program,
        inputs: Sequence[np.ndarray],
        shared: Sequence[np.ndarray],
    ):
        self.program = program
        self.env: dict[Atom, Any] = {}
        for b in program.binds:
            array = (inputs if b.kind == "input" else shared)[b.position]
            self.env[b.atom] = int(array) if b.axis is None else array.shape[b.axis]
        self.shared = [s.copy() for s in shared]
        given: Mapping[str, Sequence[np.ndarray]] = {
            "input": inputs,
            "shared": self.shared,
            "constant": program.constants,
        }
        self.flat = [
            np.ravel(np.ascontiguousarray(given[s.kind][s.position]))
            if s.kind in given
            else np.zeros(
                evaluate_dim(s.type.size, self.env) if s.kind != "unused" else 0, s.type.dtype.np
            )
            for s in program.slots
        ]

    def results(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        self.steps(self.program.steps, ())
        for u in self.program.updates:
            if u.mode != "keep":
                self.shared[u.shared] = self.array(u.slot)
        return [self.array(i) for i in self.program.output_slots], self.shared

    def array(self, slot: int) -> np.ndarray:
        shape = self.program.slots[slot].type.shape
        return self.flat[slot].reshape([evaluate_dim(s, self.env) for s in shape]).copy()

    def size(self, x: Any) -> int:
        return evaluate_dim(x, self.env)

    def place(self, ref: Ref, iterations: tuple[int, ...]) -> tuple[np.ndarray, int]:
        """The flat array a reference points into, and at which element."""
        if ref.first is not None and iterations[ref.level] == self.first_iteration[ref.level]:
            return self.place(ref.first, iterations)
        moved = sum(self.size(s) * i for s, i in zip(ref.strides, iterations))
        return self.flat[ref.slot], self.size(ref.offset) + moved

    def at(self, ref: Ref, iterations: tuple[int, ...]) -> np.ndarray:
        """The elements from a reference on."""
        array, offset = self.place(ref, iterations)
        return array[offset:]

    first_iteration: tuple[int, ...] = ()

    def steps(self, steps: Sequence[Step], iterations: tuple[int, ...]) -> None:
        for step in steps:
            if isinstance(step, Launch):
                places = [self.place(r, iterations) for r in step.args]
                arrays, origins = [a for a, _ in places], [o for _, o in places]
                for part in self.ranges(step.split):
                    dims, at = self.part(step, part, origins)
                    code = interpret(step.kernel, arrays, dims, origins=at)
                    if code:
                        raise Fault(step.faults[code - 1])
            elif isinstance(step, Copy):
                n = self.size(step.elements)
                self.at(step.target, iterations)[:n] = self.at(step.source, iterations)[:n]
            elif isinstance(step, Branch):
                self.steps(
                    step.then if self.at(step.predicate, iterations)[0] else step.orelse, iterations
                )
            elif isinstance(step, Host):
                self.host(step, iterations)
            else:
                self.repeat(step, iterations)

    def ranges(self, split: Split | None) -> list[tuple[int, ...]]:
        """The ranges that a launch is run in, the last ones first: their order must not matter."""
        if split is None:
            return [()]
        extent = self.size(split.extent)
        grain = self.size(split.grain)
        length = max(1, -(-extent // (RANGES * grain))) * grain
        parts = [(i, min(i + length, extent)) for i in range(0, extent, length)]
        if split.slice is not None and len(parts) > 1 and extent - parts[-1][0] == 1:
            parts[-1] = (extent - 2, extent)  # a unit alone takes the one before along
        return [*reversed(parts), *([(extent, extent + 1)] if split.merges else [])]

    def part(
        self, step: Launch, part: tuple[int, ...], origins: list[int]
    ) -> tuple[list[int], list[int]]:
        """Dims and origins for a range."""
        dims = [self.size(d) for d in step.dims]
        cut = step.split.slice if step.split is not None else None
        if cut is None:
            return [*dims, *part], origins
        begin, end = part
        dims[cut.size] = end - begin
        if cut.before >= 0:
            dims[cut.before] = begin
        return dims, [o + begin * self.size(m) for o, m in zip(origins, cut.moves)]

    def repeat(self, step: Repeat, iterations: tuple[int, ...]) -> None:
        n = self.size(step.times)
        before = self.first_iteration
        self.first_iteration = (*before, n - 1 if step.reverse else 0)
        for i in reversed(range(n)) if step.reverse else range(n):
            self.steps(step.body, (*iterations, i))
        self.first_iteration = before

    def host(self, step: Host, iterations: tuple[int, ...]) -> None:
        arrays = [
            self.at(r, iterations)[: self.size(t.size)].reshape([self.size(s) for s in t.shape])
            for r, t in zip(step.args, step.arg_types)
        ]
        value = compute(step.node, arrays, self.env)
        values = value if isinstance(value, tuple) else (value,)
        for ref, v in zip(step.results, values):
            self.at(ref, iterations)[: v.size] = v.ravel()
