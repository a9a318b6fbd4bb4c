"""Rows of a learned table."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from symgraph.expr import Expr
from symgraph.ops.take import embedding

from ..init import Initializer, generator, normal, parameter
from .layer import Layer

STANDARD = partial(normal, std=1.0)


class Embedding(Layer):
    """The row of each id.   x: integers [...] below `rows` -> [..., features].

    weight: initializer, number or array.   Raises, when run: IndexFault for an id of no row.
    """

    def __init__(
        self,
        rows: int,
        features: int,
        *,
        rng: int | np.random.Generator,
        weight: Initializer | Any = STANDARD,
        name: str = "embedding",
        dtype: Any = None,
    ):
        self.weight = parameter(weight, (rows, features), generator(rng), f"{name}.weight", dtype)

    def __call__(self, x: Expr, deterministic: bool = False) -> Expr:
        return embedding(self.weight, x)

    def describe(self) -> str:
        return " x ".join(map(str, self.weight.array_type.shape))
