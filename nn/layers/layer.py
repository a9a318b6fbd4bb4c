"""What every layer is: parameters as attributes, a graph when called, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from symgraph.expr import Expr
from symgraph.leaves import Shared
from symgraph.ops.random import RandomStream


class Layer:
    """Base of layers: `__init__` makes shared variables and inner layers, a call builds a graph.

    Whatever is an attribute (or in a list or tuple that is one) is found by `variables`. A call
    takes `deterministic`: False builds the graph to train, True the one to use; there is no mode
    that is switched.
    """

    def __call__(self, x: Expr, deterministic: bool = False) -> Expr:
        raise NotImplementedError(f"{type(self).__name__} lacks __call__(x, deterministic)")

    def parameters(self) -> list[Shared]:
        """What training changes: the shared variables of float dtype, each once."""
        return [w for w in self.variables().values() if w.dtype.is_inexact]

    def variables(self) -> dict[str, Shared]:
        """Every shared variable by its path of attributes ("0.weight"), random states included."""
        found: dict[str, Shared] = {}
        seen: set[int] = set()
        for path, w in _walk(self, ""):
            if id(w) not in seen:
                seen.add(id(w))
                found[path] = w
        return found

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()})"

    def describe(self) -> str:
        """What stands between the brackets when a layer is printed."""
        return ""


def _walk(value: Any, path: str) -> Iterator[tuple[str, Shared]]:
    """The shared variables of a layer, a list or a stream, with their paths."""
    if isinstance(value, Shared):
        yield path, value
    elif isinstance(value, RandomStream):
        yield path, value.state
    elif isinstance(value, (Layer, list, tuple)):
        parts = vars(value).items() if isinstance(value, Layer) else enumerate(value)
        for key, part in parts:
            yield from _walk(part, f"{path}.{key}" if path else str(key))
