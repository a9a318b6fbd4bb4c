"""Convolutions with a window of 3 x 3 by Winograd's minimal filtering: less products, more error.

    y = A^T ((G w G^T) * (B^T x B)) A        on each tile of m x m results, of (m + 2)^2 elements

The matrices come from m + 1 points and infinity (Toom and Cook): 0 and pairs of opposite ones, so
that rows come in pairs whose sums have the same parts. Elements of A and B are exact in float32.
Of the points tried for m = 4, multiples of 3/4 have the least bound: 205, where the usual ones, 0,
1, -1, 2, -2, have 860.

Error: |y - exact| <= A (C + R) u sum over c of (max |x[., c]| of the tile) (sum of |w[., c, o]|)
with the amplification A = 16 for m = 2 and 205 for m = 4, R = ROUNDINGS and u = 2**-24, as long as
nothing over- or underflows. An infinity or a NaN may make NaN of its whole tile.

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016; Barabasz et al.,
Error Analysis and Improving the Accuracy of Winograd Convolution, 2020.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np

from ..arraytype import Array
from ..dims import Shape, SizeLike, ceildiv
from ..errors import ShapeError
from ..expr import Expr, apply
from ..leaves import Constant, constant
from ..op import Op
from ..relations import require_equal
from .contract import MatMul
from .convolve import Convolve
from .movement import reshape_to
from .windows import padded

Matrix = tuple[tuple[Fraction, ...], ...]

TAPS = 3
ROUNDINGS = 32  # in a row, on the way of an element through the transforms, sums over c apart
UNIT = 2.0**-24  # the most that one rounding of a float32 changes, relatively
#: by tile: the points, but for infinity
POINTS = {
    2: (Fraction(0), Fraction(1), Fraction(-1)),
    4: (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2)),
}


class Matrices(NamedTuple):
    """A^T [m, m + 2], B^T [m + 2, m + 2] and G [m + 2, 3], exactly."""

    result: Matrix
    image: Matrix
    kernel: Matrix


@cache
def matrices(tile: int) -> Matrices:
    """The transforms for tiles of `tile` results along an axis."""
    points = POINTS[tile]
    others = [[q for q in points if q != p] for p in points]
    result = [(*(p**i for p in points), Fraction(1 if i == tile - 1 else 0)) for i in range(tile)]
    image = [(*_polynomial(roots), Fraction(0)) for roots in others]
    kernel = []
    for p, roots in zip(points, others):
        scale = Fraction(1)
        for q in roots:
            scale *= p - q
        kernel.append(tuple(p**a / scale for a in range(TAPS)))
    last = tuple(Fraction(1 if a == TAPS - 1 else 0) for a in range(TAPS))
    return Matrices(tuple(result), (*image, _polynomial(points)), (*kernel, last))


def _polynomial(roots: tuple[Fraction, ...] | list[Fraction]) -> tuple[Fraction, ...]:
    """Coefficients of the product of (x - root), lowest first."""
    found = [Fraction(1)]
    for root in roots:
        found = [a - root * b for a, b in zip([Fraction(0), *found], [*found, Fraction(0)])]
    return tuple(found)


@cache
def amplification(tile: int) -> Fraction:
    """How much of |x| and |w| may pass through an element before it cancels."""
    result, image, kernel = matrices(tile)
    sums = [sum(map(abs, row)) for row in image]
    along = max(
        sum(abs(row[k]) * sums[k] * abs(kernel[k][a]) for k in range(tile + 2))
        for row in result
        for a in range(TAPS)
    )
    return Fraction(along) ** 2


def error_factor(tile: int, channels: int) -> float:
    """What the sum over c of (max |x| of a tile) (sum of |w|) is multiplied by in the bound."""
    return float(amplification(tile)) * (channels + ROUNDINGS) * UNIT


def as_arrays(tile: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrices in float64."""
    result, image, kernel = (np.array(m, dtype=float) for m in matrices(tile))
    return result, image, kernel


class Winograd(Op):
    """A convolution of stride 1 of an image with zeros around it, and a transformed kernel.

    (x [n, ty*tile + 2, tx*tile + 2, c], u [(tile + 2)**2, c, o]) -> y [n, *positions, o]
    """

    name = "winograd"
    vjp = None  # what is differentiated is the convolution, before it becomes this
    tile: int
    positions: Shape

    def infer(self, x: Array, u: Array) -> Array:
        if self.tile not in POINTS:
            raise ShapeError(f"winograd: expected a tile of {list(POINTS)}, got {self.tile}")
        for axis, size in enumerate(covered(self.tile, self.positions), 1):
            require_equal(x.shape[axis], size, f"winograd: axis {axis} of x")
        require_equal(u.shape[0], (self.tile + 2) ** 2, "winograd: matrices of u")
        require_equal(u.shape[1], x.shape[-1], "winograd: channels")
        return Array(x.dtype, (x.shape[0], *self.positions, u.shape[-1]))

    def evaluate(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        side = self.tile + 2
        result, image, _ = (m.astype(x.dtype) for m in as_arrays(self.tile))
        patches = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))
        patches = patches[:, :: self.tile, :: self.tile]
        with np.errstate(all="ignore"):
            v = np.einsum("ai,bj,nyxcij->abnyxc", image, image, patches)
            p = np.einsum("abnyxc,abco->abnyxo", v, u.reshape(side, side, *u.shape[1:]))
            y = np.einsum("ia,jb,abnyxo->nyixjo", result, result, p)
        n, rows, _, columns, _, o = y.shape
        whole = y.reshape(n, rows * self.tile, columns * self.tile, o)
        high, wide = self.positions
        return np.ascontiguousarray(whole[:, :high, :wide])


def covered(tile: int, positions: Shape) -> tuple[SizeLike, ...]:
    """The sizes of the image that whole tiles read."""
    return tuple(ceildiv(p, tile) * tile + TAPS - 1 for p in positions)


def tiled(node: Expr, tile: int) -> Expr:
    """A convolution 3 x 3 of stride 1 and one group, computed in tiles.

    Rewrite: convolve(x, w) --> winograd(padded x, transformed w)
    """
    op = node.op
    assert isinstance(op, Convolve)
    x, w = node.inputs
    form = op.form
    more = [a - b for a, b in zip(covered(tile, form.positions), form.padded)]
    if all(isinstance(n, int) for n in more):
        high = tuple(a + b for a, b in zip(form.high, more))
        image = padded(form.windows._replace(high=high), x)  # type: ignore[arg-type]
    else:
        image = _with_zeros(padded(form.windows, x), covered(tile, form.positions))
    return apply(Winograd(tile, form.positions), image, transformed(w, tile))


def _with_zeros(x: Expr, sizes: tuple[SizeLike, ...]) -> Expr:
    """x with zeros behind its spatial axes, whose sizes are not known."""
    from .movement import Place

    batch, *_, channels = x.array_type.shape
    target = (batch, *sizes, channels)
    return apply(Place((0,) * x.ndim, (1,) * x.ndim, target, 0.0), x)


def transformed(w: Expr, tile: int) -> Expr:
    """G w G^T for each pair of channels.   w [3, 3, c, o] -> [(tile + 2)**2, c, o]

    A constant is transformed in float64, and rounded once.
    """
    _, _, kernel = as_arrays(tile)
    both = np.kron(kernel, kernel)
    *_, c, o = w.array_type.shape
    if isinstance(w.op, Constant):
        flat = w.op.value.reshape(TAPS**2, -1).astype(np.float64)
        value = (both @ flat).astype(w.op.value.dtype)
        return constant(value.reshape(len(both), *w.op.value.shape[2:]))
    rows = reshape_to(w, (TAPS**2, c * o))
    product = apply(MatMul(), constant(both.astype(np.float32)), rows)
    return reshape_to(product, (len(both), c, o))
