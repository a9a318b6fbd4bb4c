"""Every exception symgraph raises: one class per cause, and how a message shows the user's line.

A message has the shape
    matmul(x, W): inner sizes differ: expected 784 (axis 1 of x), got 700 (axis 0 of W)
      train.py:21   h = x @ W
      hint: ...
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from .sites import Site, show_site


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
        """The same error with the user's line and the operands filled in where unknown."""
        self.site = self.site or site
        self.operands = self.operands or tuple(operands)
        return self

    def __str__(self) -> str:
        lines = [self.message]
        if self.site:
            lines.append("  " + show_site(self.site))
        lines += [f"  {text}" for text in dict.fromkeys(map(describe, self.operands))]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> Any:
        """Errors travel between processes; the operands as text."""
        shown = tuple(map(describe, self.operands))
        return _again, (type(self), self.message, self.site, self.hint, shown)


def _again(kind: type, message: str, site: Site | None, hint: str | None, operands: Any) -> Any:
    return kind(message, site=site, hint=hint, operands=operands)


class ShapeError(SymgraphError, ValueError):
    """Sizes do not fit.   x: [3], y: [4]; x + y      mend: make the sizes equal, or 1."""


class DTypeError(SymgraphError, TypeError):
    """A dtype is not accepted.   sg.sin(z) on bool      mend: z.astype("float32")."""


class AxisError(SymgraphError, IndexError):
    """An axis or a constant index is out of range.   x.sum(axis=2) of a matrix   mend: axis=1."""


class GraphError(SymgraphError, ValueError):
    """An expression is used where it cannot be.

    Unknown inputs, cycles in givens, a bool() of a symbolic value.
    """


class MissingInputError(GraphError):
    """An output needs an input that was not given.   sg.function([x], x + y)   mend: list y too."""


class UnusedInputError(GraphError):
    """An input is not used.   sg.function([x, y], x)   mend: drop y (or see on_unused_input=)."""


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
    """A bug of symgraph: an invariant of a stage does not hold.

    Please report it with the program that shows it.
    """


def describe(x: Any) -> str:
    """`x: float32[n, 784]  train.py:12` for an expression; text as it is."""
    if isinstance(x, str):
        return x
    site = getattr(x, "site", None)
    where = f"  {os.path.basename(site[0])}:{site[1]}" if site else ""
    return f"{getattr(x, 'label', x)}: {getattr(x, 'type', type(x).__name__)}{where}"


def did_you_mean(name: object, known: Iterable[str], listed: Iterable[str] | None = None) -> str:
    """A hint for a name that is not among `known`: the nearest ones, or all of them (`listed`)."""
    import difflib  # here: only for a message

    names = list(known)
    close = difflib.get_close_matches(str(name), names, 3, 0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    names = names if listed is None else list(listed)
    return "known: " + ", ".join(names[:40]) + (" ..." if len(names) > 40 else "")
