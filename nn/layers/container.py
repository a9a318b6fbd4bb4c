"""Layers made of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from symgraph.errors import GraphError
from symgraph.expr import Expr, user_site

from .layer import Layer


class Sequential(Layer):
    """One layer after the other. Functions such as sg.relu may stand among them."""

    def __init__(self, *layers: Layer | Callable[[Expr], Expr]):
        for i, layer in enumerate(layers):
            if not callable(layer):
                raise GraphError(
                    f"Sequential: part {i} is neither a layer nor a function: {layer!r}",
                    site=user_site(),
                )
        self.layers = list(layers)

    def __call__(self, x: Expr, deterministic: bool = False) -> Expr:
        for layer in self.layers:
            x = layer(x, deterministic) if isinstance(layer, Layer) else layer(x)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer | Callable[[Expr], Expr]]:
        return iter(self.layers)

    def __getitem__(self, index: int) -> Layer | Callable[[Expr], Expr]:
        return self.layers[index]

    def describe(self) -> str:
        names = (
            repr(x) if isinstance(x, Layer) else getattr(x, "__name__", repr(x))
            for x in self.layers
        )
        return ", ".join(names)
