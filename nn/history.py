"""What training has measured, a row for each epoch, and when that says to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from symgraph.errors import GraphError


class History:
    """A table of numbers: `rows` has one {column: number} for each epoch."""

    def __init__(self, rows: list[dict[str, float]] | None = None):
        self.rows: list[dict[str, float]] = rows or []

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> list[str]:
        """The columns, in the order they came."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def column(self, name: str) -> list[float]:
        """A column's numbers, NaN where an epoch has none.  Raises GraphError for no such."""
        if name not in self.names:
            known = ", ".join(self.names) or "none yet"
            raise GraphError(f"history: no column {name!r}", hint=f"columns: {known}")
        return [row.get(name, math.nan) for row in self.rows]

    def header(self) -> str:
        """The line above the rows."""
        return "epoch  " + "  ".join(name.rjust(10) for name in self.names)

    def line(self, i: int) -> str:
        """Row i, as it is printed."""
        cells = (
            f"{self.rows[i].get(name, math.nan):.5g}".rjust(max(10, len(name)))
            for name in self.names
        )
        return f"{i + 1:5}  " + "  ".join(cells)

    def __str__(self) -> str:
        return "\n".join([self.header(), *map(self.line, range(len(self.rows)))])

    __repr__ = __str__

    def to_arrays(self) -> dict[str, np.ndarray]:
        """float64[epochs] for each column."""
        return {name: np.array(self.column(name), np.float64) for name in self.names}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> History:
        """The table that `to_arrays` gave."""
        rows: list[dict[str, float]] = []
        for name, column in arrays.items():
            rows += [{} for _ in range(len(column) - len(rows))]
            for row, number in zip(rows, column.tolist()):
                if not math.isnan(number):
                    row[name] = number
        return cls(rows)


Stop = Callable[[History], bool]


def early_stop(column: str, patience: int, *, lower: bool = True) -> Stop:
    """Stop when a column has had no better number for `patience` epochs.

    lower: whether a smaller number is better. It looks at nothing but the history, so training that
    is resumed stops where it would have.
    """

    def stop(history: History) -> bool:
        numbers = history.column(column)
        keyed = [(n if lower else -n) if not math.isnan(n) else math.inf for n in numbers]
        best = keyed.index(min(keyed))
        return len(keyed) - 1 - best >= patience

    return stop
