"""The multi-head attention layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from symgraph.dims import SizeLike
from symgraph.errors import ArgumentError, ShapeError
from symgraph.expr import Expr
from symgraph.leaves import lift
from symgraph.ops.attention import attention
from symgraph.ops.movement import reshape_to, transpose_by
from symgraph.sites import user_site

from ..init import Initializer, generator, glorot_uniform
from .dense import Dense
from .layer import Layer


class MultiHeadAttention(Layer):
    """Heads of attention side by side, each over features of its own, and a mix of what they give.

    x: [..., n, features] -> the same. context: [..., m, `context_features`], what is attended to
    (x itself if not given). groups: heads of keys and values, of which `heads` is a multiple: each
    serves several heads of queries. causal: position i attends to 0 to i. mask: [..., n, m], the
    same for all heads, see `attention`.
    Source: Vaswani et al. 2017; grouped queries: Ainslie et al. 2023.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        groups: int | None = None,
        causal: bool = False,
        *,
        rng: int | np.random.Generator,
        context_features: int | None = None,
        weight: Initializer | Any = glorot_uniform,
        bias: Initializer | Any = 0.0,
        name: str = "attention",
        dtype: Any = None,
    ):
        groups = heads if groups is None else groups
        if heads < 1 or features % heads:
            raise ArgumentError(
                f"MultiHeadAttention: {features} features do not divide into {heads} heads",
                site=user_site(),
            )
        if groups < 1 or heads % groups:
            raise ArgumentError(
                f"MultiHeadAttention: {heads} heads do not divide into {groups} groups",
                site=user_site(),
            )
        rng = generator(rng)
        self.heads, self.groups, self.causal = heads, groups, causal
        width = features // heads * groups
        given = features if context_features is None else context_features
        self.query, self.key, self.value, self.output = (
            Dense(a, b, rng=rng, weight=weight, bias=bias, name=f"{name}.{part}", dtype=dtype)
            for part, a, b in (
                ("query", features, features),
                ("key", given, width),
                ("value", given, width),
                ("output", features, features),
            )
        )

    def __call__(
        self,
        x: Expr,
        deterministic: bool = False,
        *,
        context: Expr | None = None,
        mask: Any = None,
    ) -> Expr:
        if x.ndim < 2:
            raise ShapeError(
                f"MultiHeadAttention: expected x of rank >= 2, got {x.type}",
                site=user_site(),
                operands=(x,),
            )
        source = x if context is None else context
        q = self._split(self.query(x), self.heads)
        k, v = (self._split(part(source), self.groups) for part in (self.key, self.value))
        if mask is not None:
            mask = _inserted(lift(mask))
        if self.groups != self.heads:  # [..., groups, queries of a group, n, width]
            q, k, v = self._grouped(q), self._grouped(k), self._grouped(v)
            mask = None if mask is None else _inserted(mask)
        found = attention(q, k, v, mask, self.causal)
        *lead, n, width = self._sizes(q)
        together = reshape_to(found, (*lead, self.heads, n, width))
        return self.output(reshape_to(_exchanged(together), (*lead, n, self.heads * width)))

    def _sizes(self, q: Expr) -> tuple[SizeLike, ...]:
        """The leading sizes of the input, its n, and the features of a head."""
        shape = q.array_type.shape
        return (*shape[: -3 if self.groups == self.heads else -4], *shape[-2:])

    def _grouped(self, x: Expr) -> Expr:
        """[..., heads, n, width] as [..., groups, heads of a group, n, width]."""
        *lead, heads, n, width = x.array_type.shape
        assert isinstance(heads, int)
        return reshape_to(x, (*lead, self.groups, heads // self.groups, n, width))

    def _split(self, x: Expr, heads: int) -> Expr:
        """[..., n, features] as [..., heads, n, features / heads]."""
        *lead, n, features = x.array_type.shape
        return _exchanged(reshape_to(x, (*lead, n, heads, features // heads)))

    def describe(self) -> str:
        size = self.query.weight.array_type.shape[0]
        groups = f", {self.groups} groups" if self.groups != self.heads else ""
        return f"{size}, {self.heads} heads{groups}" + (", causal" if self.causal else "")


def _inserted(mask: Expr) -> Expr:
    """A mask with an axis of size 1 before its last two, if it has more than these."""
    shape = mask.array_type.shape
    return reshape_to(mask, (*shape[:-2], 1, *shape[-2:])) if mask.ndim > 2 else mask


def _exchanged(x: Expr) -> Expr:
    """x with its third and second last axes exchanged."""
    n = x.ndim
    return transpose_by(x, (*range(n - 3), n - 2, n - 3, n - 1))
