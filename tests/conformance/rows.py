"""A line of the table of the language: what to build of which operands, for which dtypes.

Shapes are strings of letters (named sizes, symbolic or known) and digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import symgraph as sg
from symgraph.dtypes import (
    DType,
    bool_,
    complexes,
    every,
    floats,
    int8,
    int16,
    int32,
    int64,
    numeric,
    reals,
    uint8,
    uint16,
)

from .arrays import FloatFacts
from .sweeping import Operand, Output
from .tolerances import KINDS

DTYPES: dict[str, tuple[DType, ...]] = {
    "every": every,
    "numeric": numeric,
    "ordered": (bool_, *reals),
    "real": reals,
    "float": floats,
    "inexact": (*floats, *complexes),
    "bool": (bool_,),
    "short": (int8, int16, uint8, uint16),
    "none": (int64,),
}
MODES_OF = {"exact": ("ordinary", "special", "extreme"), "product": ("ordinary", "special")}


class Row(NamedTuple):
    """One line of the table.

    shapes: one per operand, "." is rank 0; a leading "#" or "?" marks an operand of int32 labels
    below CLASSES, or of bools, whatever the dtype under test, "%" one of probabilities.
    summed: letters of the sizes that one result element sums over. smooth: its derivatives are
    checked. least: smallest sizes it takes. sized: what the bound is relative to, of the dtype's
    unit and the operands in float64; by default the formula of the operands' magnitudes.
    """

    name: str
    build: Callable[..., Any]
    shapes: tuple[str, ...]
    dtypes: str = "every"
    kind: str = "exact"
    summed: str = ""
    smooth: bool = True
    least: Mapping[str, int] = {}
    host: bool = False
    sized: Callable[..., Any] | None = None

    def operands(self, d: DType, prefix: str = "x") -> list[Operand]:
        """Its operands for a dtype."""
        return [self._operand(f"{prefix}{i}", s, d) for i, s in enumerate(self.shapes)]

    def _operand(self, name: str, shape: str, d: DType) -> Operand:
        axes = shape.strip("#?%.")
        if shape.startswith("#"):
            return Operand(name, axes, int32, _labels)
        if shape.startswith("%"):
            return Operand(name, axes, d, _probabilities)
        return Operand(name, axes, bool_ if shape.startswith("?") else d)

    def outputs(self, d: DType, inputs: Sequence[sg.Expr]) -> list[Output]:
        """Its results, with what bounds them."""
        results = as_list(self.build(*inputs))
        bound = KINDS[self.kind]
        if d.kind == "c" and bound.size in ("each", "largest", "factors"):
            bound = KINDS["complex"]
        sizes: Sequence[Any] = [None] * len(results)
        if self.sized is not None:
            sizes = as_list(self.sized(FloatFacts(d).eps, *[in_float64(x) for x in inputs]))
        elif bound.size in SIZE_OF_OPERAND:
            sizes = as_list(self.build(*[SIZE_OF_OPERAND[bound.size](x) for x in inputs]))
        names = [
            self.name if len(results) == 1 else f"{self.name}.{k}" for k in range(len(results))
        ]
        return [Output(n, r, bound, s, self.terms) for n, r, s in zip(names, results, sizes)]

    def terms(self, sizes: Mapping[str, int]) -> int:
        """How many terms one element sums."""
        return int(np.prod([int(s) if s.isdigit() else sizes[s] for s in self.summed], dtype=int))

    def modes(self, d: DType) -> tuple[str, ...]:
        """Which values it is judged with."""
        if d.kind == "c" and self.kind != "exact":
            return ("ordinary",)
        return MODES_OF.get(self.kind, ("ordinary", "special"))


CLASSES = 5


def _labels(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, CLASSES, shape)


def _probabilities(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.02, 0.98, shape)


def as_list(value: Any) -> list[sg.Expr]:
    """Results as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def magnitude(x: sg.Expr) -> sg.Expr:
    """|x| in float64, from which a formula's sizes are computed (labels and bools stay)."""
    if x.dtype is bool_ or x.dtype is int32 and x.array_type.ndim == 0:
        return x
    return sg.abs(in_float64(x))


def in_float64(x: sg.Expr) -> sg.Expr:
    """x in the widest dtype."""
    return sg.cast(x, "complex128" if x.dtype.kind == "c" else "float64")


def excursion(x: sg.Expr) -> sg.Expr:
    """How far a factor may lead away from 1, either way."""
    size = magnitude(x)
    return sg.where(size > 0, sg.maximum(size, 1 / size), 1.0)


#: by a bound's size: of which sizes of the operands the formula gives it
SIZE_OF_OPERAND = {"terms": magnitude, "factors": excursion}


def rows(kind: str, dtypes: str, table: Mapping[str, tuple[Any, ...]], **options: Any) -> list[Row]:
    """Rows of one kind: {name: (build, shapes separated by blanks, summed)}."""
    made = []
    for name, (build, shapes, *summed) in table.items():
        made.append(Row(name, build, tuple(shapes.split()), dtypes, kind, *summed, **options))
    return made
