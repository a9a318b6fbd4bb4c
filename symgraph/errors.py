"""Every exception symgraph raises: one class per cause, and how a message shows the user's line.

A message has the shape
    matmul(x, W): inner sizes differ: expected 784 (axis 1 of x), got 700 (axis 0 of W)
      train.py:21   h = x @ W
      hint: ...
"""

from __future__ import annotations

import linecache
import os
from collections.abc import Iterable
from typing import Any

Site = tuple[str, int]  # file name, line number


class SymgraphError(Exception):
    """Base of all errors that symgraph raises on purpose.

    `site` is the user's line; `hint` says what to do. Both are shown by `str()`.
    """

    def __init__(
        self,
        message: str,
        *,
        site: Site | None = None,
        hint: str | None = None,
        operands: Iterable[Any] = (),
    ):
        super().__init__(message)
        self.message = message
        self.site = site
        self.hint = hint
        self.operands = tuple(operands)

    def at(self, site: Site | None, operands: Iterable[Any] = ()) -> SymgraphError:
        """The same error with the user's line and the operands filled in where they were unknown."""
        self.site = self.site or site
        self.operands = self.operands or tuple(operands)
        return self

    def __str__(self) -> str:
        lines = [self.message]
        if self.site:
            lines.append("  " + show_site(self.site))
        lines += [f"  {describe(x)}" for x in self.operands]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class ShapeError(SymgraphError, ValueError):
    """Sizes do not fit.   x: [3], y: [4]; x + y      mend: make the sizes equal, or 1."""


class DTypeError(SymgraphError, TypeError):
    """A dtype is not accepted.   sg.sin(z) on bool      mend: z.astype("float32")."""


class AxisError(SymgraphError, IndexError):
    """An axis or a constant index is out of range.   x.sum(axis=2) of a matrix      mend: axis in
    [-2, 1].
    """


class GraphError(SymgraphError, ValueError):
    """An expression is used where it cannot be: unknown inputs, cycles in givens, a bool() of a
    symbolic value.
    """


class MissingInputError(GraphError):
    """An output needs an input that was not given.   sg.function([x], x + y)      mend: list y too."""


class UnusedInputError(GraphError):
    """An input is not used.   sg.function([x, y], x)      mend: drop y, or
    on_unused_input="ignore".
    """


class DisconnectedInputError(GraphError):
    """grad() with respect to something the cost does not depend on; see disconnected_inputs=."""


class ArgumentError(SymgraphError, TypeError):
    """A compiled function was called with wrong arguments (count, name, dtype, rank, kind)."""


class HostCallError(SymgraphError):
    """An op has no native form and host calls are forbidden."""


class TargetError(SymgraphError, ValueError):
    """An unknown CPU, feature or triple, or something the target cannot do."""


class SizeError(SymgraphError, MemoryError):
    """A size is negative or its product overflows what memory can hold."""


class AssertionFault(SymgraphError, AssertionError):
    """An `assert_` in the graph did not hold."""


class IndexFault(SymgraphError, IndexError):
    """An index that data decided is out of range."""


class NonFiniteError(SymgraphError, FloatingPointError):
    """check_nan mode found a NaN or an infinity; names the first expression that made one."""


class VerifyError(SymgraphError, AssertionError):
    """A stage changed a dtype, a shape or a value (debug mode, verify_grad, rule tests)."""


class InternalError(SymgraphError, RuntimeError):
    """A bug of symgraph: an invariant of a stage does not hold. Please report it with the program
    that shows it.
    """


def show_site(site: Site) -> str:
    """`train.py:21   h = x @ W`: path relative to here where shorter, and the source line if it can
    be read.
    """
    path, line = site
    text = linecache.getline(path, line).strip()
    relative = os.path.relpath(path) if os.path.isabs(path) else path
    place = f"{relative if len(relative) < len(path) else path}:{line}"
    return f"{place}   {text}" if text else place


def describe(x: Any) -> str:
    """`x: float32[n, 784]  train.py:12` for an expression."""
    site = getattr(x, "site", None)
    where = f"  {os.path.basename(site[0])}:{site[1]}" if site else ""
    return f"{getattr(x, 'label', x)}: {getattr(x, 'type', type(x).__name__)}{where}"
