"""Dropout: some activations are set to zero while training."""

from __future__ import annotations

from typing import Any

import numpy as np

from symgraph.errors import GraphError
from symgraph.expr import Expr, user_site
from symgraph.ops.elementwise import where
from symgraph.ops.random import RandomStream

from ..init import generator
from .layer import Layer


class Dropout(Layer):
    """Zero with probability p, else x / (1 - p); x itself if deterministic.   x: [...] -> [...].

    rng: a seed, a generator that gives one, or a RandomStream to draw from.
    Source: Srivastava et al. 2014, with the scaling moved to training.
    """

    def __init__(self, p: float = 0.5, *, rng: int | np.random.Generator | RandomStream):
        if not isinstance(p, (int, float)) or not 0 <= p < 1:
            raise GraphError(f"Dropout: expected 0 <= p < 1, got {p!r}", site=user_site())
        self.p = float(p)
        self.stream = rng if isinstance(rng, RandomStream) else RandomStream(_seed(rng))

    def __call__(self, x: Expr, deterministic: bool = False) -> Expr:
        if deterministic or not self.p:
            return x
        kept = self.stream.bernoulli(x.array_type.shape, 1 - self.p)
        return where(kept, x * (1 / (1 - self.p)), 0)

    def describe(self) -> str:
        return f"{self.p:g}"


def _seed(rng: Any) -> int:
    """A seed is taken as it is; a generator gives the next of its numbers."""
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(2**63))
    generator(rng)  # raises for what is no seed
    return int(rng)
