"""The convolution primitive: one trilinear form of image, kernel and result, and its derivatives.

    T(x, w, y) = sum over n, p, k, c, o of
                 x[n, p*stride + k*dilation - low, c] w[k, c, o] y[n, p, o]

p and k are points of 1 to 3 spatial axes; x outside of its range counts as 0. The layout is
channels-last: x [n, *image, c], w [*window, c / groups, o], y [n, *positions, o]; the groups cut c
and o into equal runs, and only channels of one group meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product as points
from typing import Any, NamedTuple

import numpy as np

from ..arraytype import Array
from ..dims import Shape, SizeLike, floordiv
from ..dtypes import reals
from ..errors import DTypeError, ShapeError
from ..expr import Expr, apply
from ..op import Op
from ..relations import require_equal, require_le
from .convolve_taps import expanded
from .movement import show

#: by role: the two operands it takes, in order; it gives the third
OPERANDS = {"output": ("x", "w"), "input": ("w", "y"), "kernel": ("x", "y")}
GIVES = {"output": "y", "input": "x", "kernel": "w"}


class ConvForm(NamedTuple):
    """The geometry of a convolution: one entry per spatial axis, but for the groups.

    low, high: how many zeros stand before and after the image (negative: so much is cut off).
    image, window: the spatial sizes of x and w, which may be symbolic.
    """

    strides: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int
    image: Shape
    window: Shape

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.strides)

    @property
    def reach(self) -> Shape:
        """How many places of the image a dilated window spans, per axis."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilations, self.window))

    @property
    def padded(self) -> Shape:
        """The sizes of the image with its zeros."""
        return tuple(s + a + b for s, a, b in zip(self.image, self.low, self.high))

    @property
    def positions(self) -> Shape:
        """How often the window fits: the spatial sizes of y."""
        places = zip(self.padded, self.reach, self.strides)
        return tuple(floordiv(size - reach, stride) + 1 for size, reach, stride in places)


class Convolve(Op):
    """The derivative of the form with respect to one of its three arrays, a map of the two others.

    role "output": (x, w) -> y, the convolution (no kernel is flipped: cross-correlation);
    "input": (w, y) -> x, its input gradient, the transposed convolution; "kernel": (x, y) -> w.
    Each is linear in both operands, so every derivative is the same form in another role.
    Real dtypes but bool; halves are summed in float32, integers wrap. Zeros around the image take
    part in role "output" as numbers do (0 * inf is NaN), in the others they need not.
    """

    name = "convolve"
    form: ConvForm
    role: str

    def infer(self, *types: Array) -> Array:
        self._check_form()
        a, b = types
        if a.dtype is not b.dtype:
            raise DTypeError(f"convolve: dtypes differ: {a.dtype} and {b.dtype}")
        if a.dtype not in reals:
            raise DTypeError(f"convolve: dtype {a.dtype} is not accepted, only reals")
        form = self.form
        known = dict(zip(OPERANDS[self.role], types))
        for name, type in known.items():
            _check_sizes(name, type, form)
        batch = next(known[k].shape[0] for k in ("x", "y") if k in known)
        if self.role == "output":
            channels = known["w"].shape[-2] * form.groups
            require_equal(known["x"].shape[-1], channels, "convolve: channels of x")
            return Array(a.dtype, (batch, *form.positions, known["w"].shape[-1]))
        if self.role == "input":
            require_equal(known["y"].shape[-1], known["w"].shape[-1], "convolve: channels of y")
            channels = known["w"].shape[-2] * form.groups
            return Array(a.dtype, (batch, *form.image, channels))
        require_equal(known["x"].shape[0], known["y"].shape[0], "convolve: batch")
        channels = floordiv(known["x"].shape[-1], form.groups)
        return Array(a.dtype, (*form.window, channels, known["y"].shape[-1]))

    def _check_form(self) -> None:
        form = self.form
        if self.role not in OPERANDS:
            raise ShapeError(f"convolve: expected a role of {list(OPERANDS)}, got {self.role!r}")
        if not 1 <= form.rank <= 3 or any(
            len(part) != form.rank for part in (*form[:4], *form[5:])
        ):
            raise ShapeError(f"convolve: expected entries for 1 to 3 spatial axes, got {form}")
        if any(n < 1 for n in (*form.strides, *form.dilations, form.groups)):
            raise ShapeError(f"convolve: strides, dilations and groups start at 1, got {form}")
        for axis, (reach, size) in enumerate(zip(form.reach, form.padded)):
            require_le(1, form.window[axis], f"convolve: window of axis {axis}")
            require_le(reach, size, f"convolve: window on the padded image, axis {axis}")

    def evaluate(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        dtype = a.dtype
        if dtype.itemsize == 2 and dtype.kind not in "iu":
            a, b = a.astype(np.float32), b.astype(np.float32)
        with np.errstate(all="ignore"):
            return _EVALUATE[self.role](self.form, a, b).astype(dtype)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr | None]:
        if not cotangent.dtype.is_inexact:
            return [None, None]
        arrays = dict(zip(OPERANDS[self.role], inputs)) | {GIVES[self.role]: cotangent}
        return [self._partial(wanted, arrays) for wanted in OPERANDS[self.role]]

    def _partial(self, wanted: str, arrays: dict[str, Expr]) -> Expr:
        """The form's derivative with respect to one array, at the others."""
        role = next(r for r, given in GIVES.items() if given == wanted)
        return apply(Convolve(self.form, role), *[arrays[k] for k in OPERANDS[role]])

    def jvp(
        self, inputs: Sequence[Expr], output: Expr, tangents: Sequence[Expr | None]
    ) -> Expr | None:
        a, b = inputs
        parts = [apply(self, da, b) for da in tangents[:1] if da is not None]
        parts += [apply(self, a, db) for db in tangents[1:] if db is not None]
        return parts[0] + parts[1] if len(parts) == 2 else parts[0] if parts else None

    def expand(self, a: Expr, b: Expr) -> Expr:
        return expanded(self.form, self.role, a, b)


def _check_sizes(name: str, type: Array, form: ConvForm) -> None:
    """Rank, spatial sizes and groups of one operand."""
    if type.ndim != form.rank + 2:
        raise ShapeError(
            f"convolve: expected rank {form.rank + 2} of {name}, got {show(type.shape)}"
        )
    spatial = type.shape[:-2] if name == "w" else type.shape[1:-1]
    wanted = {"x": form.image, "w": form.window, "y": form.positions}[name]
    for axis, (size, expected) in enumerate(zip(spatial, wanted)):
        require_equal(expected, size, f"convolve: spatial axis {axis} of {name}")
    require_multiple(type.shape[-1], form.groups, f"convolve: channels of {name} in groups")


def require_multiple(size: SizeLike, groups: int, what: str) -> None:
    """The size is a multiple of the number of groups, or an error or a guard says so."""
    require_equal(size, floordiv(size, groups) * groups, what)


# --------------------------------------------------------------------------------- meaning in NumPy
# (the sizes of a form are numbers by then)


def _taps(form: Any, image: np.ndarray) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Each point of the window with the view of the padded image that it meets."""
    for tap in points(*map(range, form.window)):
        places = zip(tap, form.dilations, form.positions, form.strides)
        cut = tuple(slice(k * d, k * d + (p - 1) * s + 1, s) for k, d, p, s in places)
        yield tap, image[(slice(None), *cut)]


def _overlap(form: Any) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where the image lies in itself with its zeros, and what of it lies there."""
    inside, kept = [], []
    for size, low, whole in zip(form.image, form.low, form.padded):
        start, stop = max(low, 0), min(low + size, whole)
        stop = max(start, stop)
        inside.append(slice(start, stop))
        kept.append(slice(start - low, stop - low))
    return (slice(None), *inside), (slice(None), *kept)


def _padded(form: Any, x: np.ndarray) -> np.ndarray:
    result = np.zeros((len(x), *form.padded, x.shape[-1]), x.dtype)
    inside, kept = _overlap(form)
    result[inside] = x[kept]
    return result


def _grouped(groups: int, a: np.ndarray) -> np.ndarray:
    """[..., c] as [groups, rows, c / groups]."""
    rows = a.reshape(int(np.prod(a.shape[:-1])), groups, a.shape[-1] // groups)
    return rows.transpose(1, 0, 2)


def _joined(a: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """[groups, rows, c / groups] as [..., c]: undoes _grouped."""
    return a.transpose(1, 0, 2).reshape(shape)


def _output(form: Any, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    shape = (len(x), *form.positions, w.shape[-1])
    result = np.zeros(shape, x.dtype)
    for tap, view in _taps(form, _padded(form, x)):
        product = np.matmul(_grouped(form.groups, view), _grouped(form.groups, w[tap]))
        result += _joined(product, result.shape)
    return result


def _input(form: Any, w: np.ndarray, y: np.ndarray) -> np.ndarray:
    channels = w.shape[-2] * form.groups
    padded = np.zeros((len(y), *form.padded, channels), y.dtype)
    rows = _grouped(form.groups, y)
    for tap, view in _taps(form, padded):
        product = np.matmul(rows, _grouped(form.groups, w[tap]).swapaxes(1, 2))
        view += _joined(product, view.shape)
    result = np.zeros((len(y), *form.image, channels), y.dtype)
    inside, kept = _overlap(form)
    result[kept] = padded[inside]
    return result


def _kernel(form: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    channels = x.shape[-1] // form.groups
    result = np.empty((*form.window, channels, y.shape[-1]), x.dtype)
    columns = _grouped(form.groups, y)
    for tap, view in _taps(form, _padded(form, x)):
        product = np.matmul(_grouped(form.groups, view).swapaxes(1, 2), columns)
        result[tap] = _joined(product, result[tap].shape)
    return result


_EVALUATE = {"output": _output, "input": _input, "kernel": _kernel}
