"""The convolution primitive: one trilinear form of image, kernel and result, and its derivatives.

    T(x, w, y) = sum over n, p, k, c, o of
                 x[n, p*stride + k*dilation - low, c] w[k, c, o] y[n, p, o]

p and k are points of 1 to 3 spatial axes; x outside of its range counts as 0. The layout is
channels-last: x [n, *image, c], w [*window, c / groups, o], y [n, *positions, o]; the groups cut c
and o into equal runs, and only channels of one group meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arraytype import Array
from ..dims import SizeLike, floordiv
from ..dtypes import DType, reals
from ..errors import DTypeError, ShapeError
from ..expr import Expr, apply
from ..op import Op
from ..relations import require_equal
from .convolve_taps import expanded
from .define import cast
from .movement import show
from .product_dtypes import summed_in
from .windows import ConvForm, array_overlap, array_views, padded_array

#: by role: the two operands it takes, in order; it gives the third
OPERANDS = {"output": ("x", "w"), "input": ("w", "y"), "kernel": ("x", "y")}
GIVES = {"output": "y", "input": "x", "kernel": "w"}


class Convolve(Op):
    """The derivative of the form with respect to one of its three arrays, a map of the two others.

    role "output": (x, w) -> y, the convolution (no kernel is flipped: cross-correlation);
    "input": (w, y) -> x, its input gradient, the transposed convolution; "kernel": (x, y) -> w.
    Each is linear in both operands, so every derivative is the same form in another role.
    Real dtypes but bool; halves are summed in float32, integers wrap. Elements outside of x and
    positions outside of y are zeros that take part as numbers do: 0 * inf is NaN.
    dtype: of the sums, for operands that are narrower; see product_dtypes.
    """

    name = "convolve"
    optional = ("dtype",)
    form: ConvForm
    role: str
    dtype: DType | None

    def infer(self, *types: Array) -> Array:
        self._check_form()
        a, b = types
        result = summed_in("convolve", a.dtype, b.dtype, self.dtype)
        if result not in reals:
            raise DTypeError(f"convolve: dtype {result} is not accepted, only reals")
        form = self.form
        known = dict(zip(OPERANDS[self.role], types))
        for name, type in known.items():
            _check_sizes(name, type, form)
        batch = next(known[k].shape[0] for k in ("x", "y") if k in known)
        if self.role == "output":
            channels = known["w"].shape[-2] * form.groups
            require_equal(known["x"].shape[-1], channels, "convolve: channels of x")
            return Array(result, (batch, *form.positions, known["w"].shape[-1]))
        if self.role == "input":
            require_equal(known["y"].shape[-1], known["w"].shape[-1], "convolve: channels of y")
            channels = known["w"].shape[-2] * form.groups
            return Array(result, (batch, *form.image, channels))
        require_equal(known["x"].shape[0], known["y"].shape[0], "convolve: batch")
        channels = floordiv(known["x"].shape[-1], form.groups)
        return Array(result, (*form.window, channels, known["y"].shape[-1]))

    def _check_form(self) -> None:
        form = self.form
        if self.role not in OPERANDS:
            raise ShapeError(f"convolve: expected a role of {list(OPERANDS)}, got {self.role!r}")
        if not 1 <= form.rank <= 3 or any(
            len(part) != form.rank for part in (*form[:4], *form[5:])
        ):
            raise ShapeError(f"convolve: expected entries for 1 to 3 spatial axes, got {form}")
        if form.groups < 1:
            raise ShapeError(f"convolve: expected at least one group, got {form.groups}")
        form.windows.require("convolve", (0, *form.image, 0))

    def evaluate(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        dtype = a.dtype if self.dtype is None else self.dtype.np
        a, b = a.astype(dtype, copy=False), b.astype(dtype, copy=False)
        if dtype.itemsize == 2 and dtype.kind not in "iu":
            a, b = a.astype(np.float32), b.astype(np.float32)
        with np.errstate(all="ignore"):
            return _EVALUATE[self.role](self.form, a, b).astype(dtype)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr | None]:
        if not cotangent.dtype.is_inexact:
            return [None, None]
        wide = [cast(x, cotangent.dtype) for x in inputs]
        arrays = dict(zip(OPERANDS[self.role], wide)) | {GIVES[self.role]: cotangent}
        found = (self._partial(wanted, arrays) for wanted in OPERANDS[self.role])
        return [cast(dx, x.dtype) for dx, x in zip(found, inputs)]

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
        return expanded(self, a, b)


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
    for tap, view in array_views(form.windows, padded_array(form.windows, x, 0)):
        product = np.matmul(_grouped(form.groups, view), _grouped(form.groups, w[tap]))
        result += _joined(product, result.shape)
    return result


def _input(form: Any, w: np.ndarray, y: np.ndarray) -> np.ndarray:
    windows, y = _all_positions(form, y)
    channels = w.shape[-2] * form.groups
    padded = np.zeros((len(y), *windows.padded, channels), y.dtype)
    rows = _grouped(form.groups, y)
    for tap, view in array_views(windows, padded):
        product = np.matmul(rows, _grouped(form.groups, w[tap]).swapaxes(1, 2))
        view += _joined(product, view.shape)
    result = np.zeros((len(y), *form.image, channels), y.dtype)
    inside, kept = array_overlap(windows, y.ndim)
    result[kept] = padded[inside]
    return result


def _all_positions(form: Any, y: np.ndarray) -> tuple[Any, np.ndarray]:
    """Windows at every position that meets the image, and y with zeros at those it lacks."""
    low, high, around = [], [], []
    fields = zip(form.image, form.positions, form.low, form.reach, form.strides)
    for size, positions, before, reach, stride in fields:
        first = min(0, (before - reach + stride) // stride)
        last = max(positions, (size - 1 + before) // stride + 1)
        around.append((-first, last - positions))
        low.append(before - first * stride)
        high.append((last - first - 1) * stride + reach - size - low[-1])
    windows = form.windows._replace(low=tuple(low), high=tuple(high))
    return windows, np.pad(y, ((0, 0), *around, (0, 0)))


def _kernel(form: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    channels = x.shape[-1] // form.groups
    result = np.empty((*form.window, channels, y.shape[-1]), x.dtype)
    columns = _grouped(form.groups, y)
    for tap, view in array_views(form.windows, padded_array(form.windows, x, 0)):
        product = np.matmul(_grouped(form.groups, view).swapaxes(1, 2), columns)
        result[tap] = _joined(product, result[tap].shape)
    return result


_EVALUATE = {"output": _output, "input": _input, "kernel": _kernel}

__all__ = ["GIVES", "OPERANDS", "ConvForm", "Convolve"]
