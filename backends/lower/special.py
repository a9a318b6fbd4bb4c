"""Kernels that are no plain nest, by op: what `SPECIAL` maps to takes a node and a target and gives a `Special`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from symgraph.dims import SizeLike
from symgraph.expr import Expr

from ..loops import Kernel
from ..targets import Target


class Special(NamedTuple):
    """kernel buffers: the node's operands (whole arrays), then its result."""

    kernel: Kernel
    dims: tuple[SizeLike, ...]
    work: SizeLike


SPECIAL: dict[type, Callable[[Expr, Target], Special]] = {}
