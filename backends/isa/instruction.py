"""What a declaration of an instruction says, and what a target says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..loops import Block, Value
from ..targets import Target


class Instruction(NamedTuple):
    """total[i] + the sum over j < group of x[i * group + j] * y[i * group + j].

    total, x, y: dtypes. meaning: the same in loop IR, from (block, total, x, y); it says what is
    rounded, and when.
    """

    name: str
    total: str
    x: str
    y: str
    group: int
    meaning: Callable[[Block, Value, Value, Value], Value]


class Form(NamedTuple):
    """The instruction for `lanes` sums, as LLVM's intrinsic of (total, x, y).

    needs: sets of features, any of which will do. operand: LLVM's type of x and of y, where it is
    not that of the loop IR. swapped: y comes before x. product: the intrinsic is of
    (x, y), and its result is still to be added.
    """

    lanes: int
    intrinsic: str
    needs: tuple[frozenset[str], ...]
    operand: str = ""
    swapped: bool = False
    product: bool = False

    def is_on(self, target: Target) -> bool:
        """Whether the target has it."""
        return any(features <= target.features for features in self.needs)


def any_of(*sets: str) -> tuple[frozenset[str], ...]:
    """Sets of features, each written as a line."""
    return tuple(frozenset(s.split()) for s in sets)
