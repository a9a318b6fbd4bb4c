"""Coordinates: grids of several axes, geometric ranges, powers of a vector."""

from __future__ import annotations

from typing import Any

from ..dims import dim_max
from ..dtypes import default_float, float64, int64
from ..dtypes import dtype as as_dtype
from ..errors import GraphError, ShapeError
from ..expr import Expr, user_site
from ..leaves import as_dim, as_flag, lift, size_value
from .creation import iota, linspace
from .define import cast
from .elementwise import abs as absolute
from .elementwise import eq, log10, pow, sign, where
from .joining import stack
from .movement import broadcast_by, reshape_to
from .reduce import widened
from .shaping import sizes


def meshgrid(*arrays: Any, indexing: str = "xy", sparse: bool = False) -> list[Expr]:
    """Coordinates of a grid from vectors: one array for each, varying along its own axis.

    indexing: "xy" has the first two axes exchanged, "ij" has the order of the vectors.
    sparse: the other axes have size 1.
    """
    if indexing not in ("xy", "ij"):
        raise GraphError(
            f"meshgrid: indexing={indexing!r}: expected 'xy' or 'ij'", site=user_site()
        )
    nodes = [lift(a) for a in arrays]
    for node in nodes:
        if node.ndim > 1:
            raise ShapeError(
                f"meshgrid: expected vectors, got rank {node.ndim}",
                site=user_site(),
                operands=(node,),
            )
    places = list(range(len(nodes)))
    if indexing == "xy" and len(nodes) > 1:
        places[:2] = [1, 0]
    return _open_grid(nodes, places, sparse)


def _open_grid(vectors: list[Expr], places: list[int], sparse: bool) -> list[Expr]:
    """Vector i along axis places[i]."""
    full = [vectors[i].array_type.size for i in sorted(range(len(places)), key=places.__getitem__)]
    grids = []
    for node, place in zip(vectors, places):
        shape = tuple(s if axis == place else 1 for axis, s in enumerate(full))
        grids.append(reshape_to(node, shape))
    return grids if as_flag(sparse, "sparse") else [broadcast_by(g, tuple(full)) for g in grids]


def indices(dimensions: Any, dtype: Any = int64, sparse: bool = False) -> Any:
    """Indices of a grid: [k, *dimensions], where row i varies along axis i; a tuple if sparse."""
    counts = sizes(dimensions, "indices")
    vectors = [iota(s, dtype) for s in counts]
    grid = _open_grid(vectors, list(range(len(counts))), sparse)
    return tuple(grid) if sparse else stack(grid)


def logspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: Any = None,
) -> Expr:
    """base**start to base**stop in num steps of equal ratio; the exponents are as linspace's."""
    exponents = linspace(start, stop, num, endpoint, float64)
    powers = pow(cast(lift(base, float64), float64), exponents)
    return cast(powers, default_float() if dtype is None else dtype)


def geomspace(
    start: Any, stop: Any, num: Any = 50, endpoint: bool = True, dtype: Any = None
) -> Expr:
    """start to stop in num steps of equal ratio, with or without stop itself.

    start, stop: numbers or 0-d expressions of one sign, not 0.
    """
    for end in (start, stop):
        if isinstance(end, (int, float)) and end == 0:
            raise GraphError("geomspace: start and stop cannot be 0", site=user_site())
    first, last = (cast(lift(v, float64), float64) for v in (start, stop))
    exponents = linspace(log10(absolute(first)), log10(absolute(last)), num, endpoint, float64)
    values = where(eq(sign(first), sign(last)), sign(first), float("nan")) * pow(10.0, exponents)
    count = as_dim(num, "geomspace: num")
    index = iota(count)
    if as_flag(endpoint, "geomspace: endpoint"):
        values = where(eq(index, lift(size_value(dim_max(count - 1, 0)))), last, values)
    values = where(eq(index, 0), first, values)
    return cast(values, default_float() if dtype is None else as_dtype(dtype))


def vander(x: Any, N: Any = None, increasing: bool = False) -> Expr:  # noqa: N803
    """Powers of a vector as columns, N of them (its size if None), the highest first.

    bool and integers in 64 bits.
    """
    node = lift(x)
    if node.ndim != 1:
        raise ShapeError(
            f"vander: expected a vector, got rank {node.ndim}", site=user_site(), operands=(node,)
        )
    rows = node.array_type.shape[0]
    columns = rows if N is None else as_dim(N, "vander: N")
    base = cast(node, widened(node.dtype))
    powers = iota(columns)
    if not as_flag(increasing, "vander: increasing"):
        powers = powers[::-1]
    return pow(reshape_to(base, (rows, 1)), cast(powers, base.dtype))


__all__ = ["meshgrid", "indices", "logspace", "geomspace", "vander"]
