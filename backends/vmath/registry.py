"""What a vector function tells of itself, and the table of them by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .number import Num


class Bound(NamedTuple):
    """Largest error in units in the last place, with a fused multiply-add and without."""

    fused: float
    split: float


class MathFunction(NamedTuple):
    """One elementary function: number of arguments, formula over numbers, error bound by dtype.

    Those of integers are exact and have no bounds.
    """

    name: str
    arity: int
    build: Callable[..., Num]
    ulp: dict[str, Bound]


FUNCTIONS: dict[str, MathFunction] = {}


def function(
    name: str, float32: tuple[float, float], float64: tuple[float, float], arity: int = 1
) -> Callable[[Callable[..., Num]], Callable[..., Num]]:
    """Enter a formula into FUNCTIONS; bounds in ulp are (with FMA, without)."""

    def enter(build: Callable[..., Num]) -> Callable[..., Num]:
        ulp = {"float32": Bound(*float32), "float64": Bound(*float64)}
        FUNCTIONS[name] = MathFunction(name, arity, build, ulp)
        return build

    return enter


def integer_function(name: str, arity: int) -> Callable[[Callable[..., Num]], Callable[..., Num]]:
    """Enter a formula over unsigned integers into FUNCTIONS."""

    def enter(build: Callable[..., Num]) -> Callable[..., Num]:
        FUNCTIONS[name] = MathFunction(name, arity, build, {})
        return build

    return enter
