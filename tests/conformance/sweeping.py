"""Many expressions compiled as one function and compared with their meaning.

The function is called over sizes, layouts and values.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

import symgraph as sg
from benchmarks.vmath_reference import judged_values
from symgraph.dtypes import DType
from symgraph.dtypes import dtype as as_dtype

from .arrays import LAYOUTS, MODES, FloatFacts, draw
from .tolerances import STEPS, Bound, allowed, disagreement


class Output(NamedTuple):
    """An expression to check.

    size: of its terms' magnitudes (float64), for bounds of kind "terms"; terms: how many terms one
    element sums, by the sizes of the call. exact: the function of the value's operands that mpmath
    computes where the reference may be the one that is wrong.
    """

    name: str
    value: sg.Expr
    bound: Bound
    size: sg.Expr | None = None
    terms: Callable[[Mapping[str, int]], int] = lambda sizes: 1
    exact: str = ""


class Operand(NamedTuple):
    """An input: shape as letters (named sizes) and digits, `draws` if its values are special."""

    name: str
    shape: str
    dtype: DType
    draws: Callable[[tuple[int, ...], np.random.Generator], np.ndarray] | None = None

    def symbol(self, sizes: Mapping[str, int] | None) -> sg.Expr:
        """The input; sizes: numbers for the letters, or None to keep them symbolic."""
        axes = [int(s) if s.isdigit() else (s if sizes is None else sizes[s]) for s in self.shape]
        return sg.array(self.name, tuple(axes), self.dtype)

    def value(self, sizes: Mapping[str, int], mode: str, rng: np.random.Generator) -> np.ndarray:
        shape = tuple(int(s) if s.isdigit() else sizes[s] for s in self.shape)
        if self.draws is not None:
            return np.asarray(self.draws(shape, rng)).astype(self.dtype.np)
        return draw(shape, self.dtype, mode, rng)


class Call(NamedTuple):
    """The circumstances of one call."""

    sizes: Mapping[str, int]
    mode: str
    layout: str

    def __str__(self) -> str:
        return f"{dict(self.sizes)}, {self.mode} values, {self.layout} layout"


def rotating(sizes: Sequence[Mapping[str, int]], modes: Sequence[str] = MODES) -> list[Call]:
    """Every size once, with all modes and layouts in turn."""
    turn = zip(sizes, itertools.cycle(modes), itertools.cycle(LAYOUTS))
    return [Call(*each) for each in turn]


def every(sizes: Sequence[Mapping[str, int]], modes: Sequence[str] = MODES) -> Iterator[Call]:
    """All sizes, modes and layouts with one another."""
    return itertools.starmap(Call, itertools.product(sizes, modes, LAYOUTS))


def check(
    operands: Sequence[Operand],
    build: Callable[..., Sequence[Output]],
    calls: Sequence[Call],
    *,
    static: Mapping[str, int] | None = None,
    host_calls: str = "forbid",
    optimize: str = "full",
    seed: int = 0,
) -> None:
    """Compile build(inputs) as one function and compare every call's results with `evaluate`.

    static: sizes to compile for (every call must have them); else they are symbolic.
    """
    inputs = [o.symbol(static) for o in operands]
    outputs = build(*inputs)
    function = sg.function(
        inputs,
        [o.value for o in outputs],
        host_calls=host_calls,
        optimize=optimize,
        on_unused_input="ignore",
    )
    failures: list[str] = []
    for number, call in enumerate(calls):
        rng = np.random.default_rng([seed, number])
        values = [LAYOUTS[call.layout](o.value(call.sizes, call.mode, rng)) for o in operands]
        given = dict(zip(inputs, values))
        wants = sg.evaluate(
            [o.value for o in outputs], given
        )  # before the call: it may draw numbers
        failures += _compare(outputs, function(*values), wants, given, call)
    assert not failures, "\n".join([f"{len(failures)} wrong results", *failures[:12]])


def _compare(
    outputs: Sequence[Output],
    results: Sequence[np.ndarray],
    wants: Sequence[np.ndarray],
    values: Mapping[sg.Expr, np.ndarray],
    call: Call,
) -> Iterator[str]:
    """What is wrong with the results of one call."""
    with np.errstate(all="ignore"):
        sized = [o.size for o in outputs if o.size is not None]
        sizes = iter(sg.evaluate(sized, values) if sized else [])
        swaying = any(o.bound.sway for o in outputs)
        beside = {x: steps_off(v) for x, v in values.items()} if swaying else values
        moved = sg.evaluate([o.value for o in outputs], beside) if swaying else wants
    for output, got, want, other in zip(outputs, results, wants, moved, strict=True):
        size = None if output.size is None else next(sizes)
        if problem := shape_problem(got, want):
            yield f"{output.name}: {problem} ({call})"
            continue
        if got.tobytes() == want.tobytes():
            continue
        tolerance = allowed(output.bound, want, size, output.terms(call.sizes), other)
        wrong = disagreement(got, want, tolerance)
        if wrong.any() and output.exact:
            wrong[wrong] = _judged(output, got[wrong], wrong, tolerance[wrong], values)
        yield from _differences(output.name, got, want, wrong, tolerance, call)


JUDGED = 500  # at most so many elements: mpmath takes a millisecond for each


def _judged(
    output: Output,
    got: np.ndarray,
    at: np.ndarray,
    tolerance: np.ndarray,
    values: Mapping[sg.Expr, np.ndarray],
) -> np.ndarray:
    """Which of the elements at `at` are wrong by mpmath; all if they are many or not finite."""
    operands = [np.asarray(v)[at] for v in sg.evaluate(list(output.value.inputs), values)]
    if got.size > JUDGED or not all(np.isfinite(x).all() for x in [got, *operands]):
        return np.ones(got.shape, bool)
    exact = judged_values(output.exact, tuple(operands))
    return np.asarray(abs(got - exact) > tolerance)


def shape_problem(got: np.ndarray, want: np.ndarray) -> str:
    """What differs before the values do."""
    if type(got) is np.ndarray and got.dtype == want.dtype and got.shape == want.shape:
        return ""
    return f"got {type(got).__name__} {got.dtype}{got.shape}, expected {want.dtype}{want.shape}"


def _differences(
    name: str,
    got: np.ndarray,
    want: np.ndarray,
    wrong: np.ndarray,
    tolerance: np.ndarray,
    call: Call,
) -> Iterator[str]:
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        off = f" +- {tolerance[at]:.3g}" if tolerance[at] else ""
        yield (
            f"{name}{list(at)}: got {got[at]!r}, expected {want[at]!r}{off}; "
            f"{int(wrong.sum())} of {wrong.size} wrong ({call})"
        )


def steps_off(x: np.ndarray) -> np.ndarray:
    """Floats moved by STEPS units in the last place, towards 0: nothing overflows there."""
    d = as_dtype(x.dtype)
    return np.asarray(x * (1 - STEPS * FloatFacts(d).eps)).astype(x.dtype) if d.is_float else x
