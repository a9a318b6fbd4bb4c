"""What every layer is: parameters as attributes, a graph when called, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from symgraph.expr import Expr
from symgraph.leaves import Shared, constant
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
        """What gradients change: the shared variables of float dtype, each once.

        Without the statistics that a layer keeps itself (`statistics`).
        """
        kept = {id(w) for layer in _layers(self) for w, _ in layer.moves()}
        return [w for w in self.variables().values() if w.dtype.is_inexact and id(w) not in kept]

    def updates(self) -> list[tuple[Shared, Expr]]:
        """How the last call to train moves statistics, here and in inner layers.

        Pairs for a function: sg.function([x, t], cost, updates=[*model.updates(),
        *rule.minimize(cost, model.parameters())]).
        """
        pairs = [pair for layer in _layers(self) for pair in layer.moves()]
        return [(w, new) for w, new in pairs if new is not None]

    def moves(self) -> list[tuple[Shared, Expr | None]]:
        """This layer's own statistics, which no gradient changes, and their new values.

        None until there was a call to train.
        """
        return []

    def variables(self) -> dict[str, Shared]:
        """Every shared variable by its path of attributes ("0.weight"), random states included."""
        found: dict[str, Shared] = {}
        seen: set[int] = set()
        for path, w in _walk(self, ""):
            if id(w) not in seen:
                seen.add(id(w))
                found[path] = w
        return found

    def constants(self) -> dict[Shared, Expr]:
        """The values of now as constants: what a function of a finished network is given.

        sg.function([x], model(x, deterministic=True), givens=model.constants()): weights are laid
        out for their kernels once and for all, and normalizations become part of them.
        """
        return {w: constant(w.get_value()) for w in self.variables().values()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()})"

    def describe(self) -> str:
        """What stands between the brackets when a layer is printed."""
        return ""


def _layers(value: Any, seen: set[int] | None = None) -> Iterator[Layer]:
    """A layer and all that lie in its attributes and lists, each once."""
    seen = set() if seen is None else seen
    if isinstance(value, Layer):
        if id(value) in seen:
            return
        seen.add(id(value))
        yield value
    for part in vars(value).values() if isinstance(value, Layer) else value:
        if isinstance(part, (Layer, list, tuple)):
            yield from _layers(part, seen)


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
