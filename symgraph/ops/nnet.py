"""Softmax and its relatives and the losses that are said with them, stable for large arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arraytype import Array
from ..dims import SizeLike
from ..dtypes import default_float, floats, int64
from ..errors import DTypeError, ShapeError
from ..expr import Expr, apply, user_site
from ..leaves import as_dim, lift, normalize_axis
from ..op import Op
from .define import cast, promote_operands
from .elementwise import eq, exp, isinf, log, softplus, sqrt, where, xlog1py, xlogy
from .movement import Iota, reshape_to
from .reduce import max, normalize_axes, require_axis, require_kind, require_some, sum
from .statistics import mean


class AlongAxis(Op, abstract=True):
    """A function of whole slices along an axis; type and shape stay.

    Reference arithmetic is in float64, rounded once at the end.
    """

    axis: int

    def infer(self, x: Array) -> Array:
        require_kind(self.name, x, "f")
        require_axis(self.name, self.axis, x.ndim)
        require_some(self.name, self.axis, x.shape[self.axis])
        return x


class Softmax(AlongAxis):
    """exp(x) / sum(exp(x)) along an axis, computed from x - max(x)."""

    name = "softmax"

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            wide = x.astype(np.float64)
            powers = np.exp(wide - wide.max(self.axis, keepdims=True))
            return (powers / powers.sum(self.axis, keepdims=True)).astype(x.dtype)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr]:
        weighted = cotangent * output
        return [weighted - output * sum(weighted, self.axis, keepdims=True)]

    def expand(self, x: Expr) -> Expr:
        powers = exp(x - max(x, self.axis, keepdims=True))
        # a division for each slice, not for each element: the sum is at least 1
        return powers * (1 / sum(powers, self.axis, keepdims=True))


class LogSoftmax(AlongAxis):
    """log(softmax(x)) along an axis, without the exponential's overflow or the logarithm of 0."""

    name = "log_softmax"

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            wide = x.astype(np.float64)
            offsets = wide - wide.max(self.axis, keepdims=True)
            return (offsets - np.log(np.exp(offsets).sum(self.axis, keepdims=True))).astype(x.dtype)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr]:
        return [cotangent - exp(output) * sum(cotangent, self.axis, keepdims=True)]

    def expand(self, x: Expr) -> Expr:
        offsets = x - max(x, self.axis, keepdims=True)
        return offsets - log(sum(exp(offsets), self.axis, keepdims=True))


class LogSumExp(Op):
    """log(sum(exp(x))) over axes (sorted), which stay with size 1.

    Infinite where the largest element is.
    """

    name = "logsumexp"
    axes: tuple[int, ...]

    def infer(self, x: Array) -> Array:
        require_kind(self.name, x, "f")
        for axis in self.axes:
            require_axis(self.name, axis, x.ndim)
            require_some(self.name, axis, x.shape[axis])
        return Array(x.dtype, tuple(1 if a in self.axes else s for a, s in enumerate(x.shape)))

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            wide = x.astype(np.float64)
            top = wide.max(self.axes, keepdims=True)
            shift = np.where(np.isinf(top), 0, top)
            total = np.exp(wide - shift).sum(self.axes, keepdims=True)
            return (np.log(total) + shift).astype(x.dtype)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr]:
        return [cotangent * exp(inputs[0] - where(isinf(output), 0, output))]

    def expand(self, x: Expr) -> Expr:
        top = max(x, self.axes, keepdims=True)
        shift = where(isinf(top), 0, top)
        return log(sum(exp(x - shift), self.axes, keepdims=True)) + shift


# ---------------------------------------------------------------------------------------- functions


def _floating(x: Any) -> Expr:
    node = lift(x)
    return node if node.dtype.is_inexact else cast(node, default_float())


def softmax(x: Any, axis: int = -1) -> Expr:
    """exp(x) / sum(exp(x)) along an axis.   x: float[...] -> same shape."""
    node = _floating(x)
    return apply(Softmax(normalize_axis(axis, node.ndim, "softmax")), node)


def log_softmax(x: Any, axis: int = -1) -> Expr:
    """log(softmax(x)) along an axis.   x: float[...] -> same shape."""
    node = _floating(x)
    return apply(LogSoftmax(normalize_axis(axis, node.ndim, "log_softmax")), node)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:
    """log(sum(exp(x))) over axes (all if None), without overflow."""
    node = _floating(x)
    axes = normalize_axes(axis, node.ndim, "logsumexp")
    kept = apply(LogSumExp(axes), node)
    shape = node.array_type.shape
    return (
        kept
        if keepdims
        else reshape_to(kept, tuple(s for a, s in enumerate(shape) if a not in axes))
    )


def one_hot(labels: Any, depth: Any, dtype: Any = None) -> Expr:
    """1 at each label's place in a new last axis, 0 elsewhere.

    A label outside [0, depth) gives zeros.
    labels: integers [...] -> [..., depth]; dtype: default float unless given.
    """
    node = lift(labels)
    size = as_dim(depth, "one_hot: depth")
    return cast(_hits("one_hot", node, size), default_float() if dtype is None else dtype)


def _hits(what: str, labels: Expr, depth: SizeLike) -> Expr:
    if not labels.dtype.is_integer:
        raise DTypeError(
            f"{what}: labels must be integers, got {labels.dtype}",
            site=user_site(),
            operands=(labels,),
        )
    places = reshape_to(cast(labels, int64), (*labels.array_type.shape, 1))
    return eq(places, apply(Iota(depth, int64)))


def _require_labels(what: str, scores: Expr, labels: Expr) -> None:
    expected = scores.ndim - 1 if labels.dtype.is_integer else scores.ndim
    if not scores.ndim or labels.ndim not in (expected, scores.ndim):
        raise ShapeError(
            f"{what}: expected labels of rank {scores.ndim - 1} (integers) or "
            f"{scores.ndim} (probabilities), got {labels.type}",
            site=user_site(),
            operands=(scores, labels),
        )


def categorical_crossentropy(probabilities: Any, labels: Any) -> Expr:
    """-log of the probability of each row's label; one number per row, no mean.

    probabilities: float[..., k].   labels: integers [...] or probabilities [..., k].
    """
    p, t = _floating(probabilities), lift(labels)
    _require_labels("categorical_crossentropy", p, t)
    if t.ndim == p.ndim:
        return -sum(xlogy(t, p), -1)
    hits = _hits("categorical_crossentropy", t, p.array_type.shape[-1])
    return -log(sum(where(hits, p, 0), -1))


def softmax_cross_entropy(logits: Any, labels: Any) -> Expr:
    """categorical_crossentropy of softmax(logits), from log_softmax: finite for any finite logits.

    logits: float[..., k].   labels: integers [...] or probabilities [..., k] -> [...].
    """
    x, t = _floating(logits), lift(labels)
    _require_labels("softmax_cross_entropy", x, t)
    scores = log_softmax(x)
    if t.ndim == x.ndim:
        return -sum(t * scores, -1)
    return -sum(where(_hits("softmax_cross_entropy", t, x.array_type.shape[-1]), scores, 0), -1)


def _pair(what: str, x: Any, t: Any) -> list[Expr]:
    """Prediction and target in one float dtype."""
    prediction, target = _floating(x), lift(t)
    target = cast(target, prediction.dtype) if not target.dtype.is_inexact else target
    return promote_operands(what, [prediction, target], frozenset(floats))


def binary_crossentropy(probability: Any, target: Any) -> Expr:
    """-(t log p + (1 - t) log(1 - p)) of each element; 0 where p is exactly t."""
    p, t = _pair("binary_crossentropy", probability, target)
    return -(xlogy(t, p) + xlog1py(1 - t, -p))


def sigmoid_binary_crossentropy(logits: Any, target: Any) -> Expr:
    """binary_crossentropy of sigmoid(logits), without overflow or cancellation."""
    x, t = _pair("sigmoid_binary_crossentropy", logits, target)
    return t * softplus(-x) + (1 - t) * softplus(x)


def layer_norm(
    x: Any, gain: Any = None, bias: Any = None, axis: Any = -1, epsilon: float = 1e-5
) -> Expr:
    """(x - mean) / sqrt(variance + epsilon) over axes, times gain plus bias if given.

    Source: Ba, Kiros, Hinton, "Layer Normalization", 2016.
    """
    node = _floating(x)
    centred = node - mean(node, axis, keepdims=True)
    result = centred / sqrt(mean(centred * centred, axis, keepdims=True) + epsilon)
    result = result if gain is None else result * gain
    return result if bias is None else result + bias


def confusion_matrix(actual: Any, predicted: Any, classes: Any) -> Expr:
    """int64 counts [classes, classes]: rows by actual label, columns by predicted.

    actual, predicted: integers [n].
    """
    size = as_dim(classes, "confusion_matrix: classes")
    rows, columns = (
        cast(_hits("confusion_matrix", lift(x), size), int64) for x in (actual, predicted)
    )
    return rows.T @ columns


__all__ = [
    "softmax",
    "log_softmax",
    "logsumexp",
    "one_hot",
    "categorical_crossentropy",
    "softmax_cross_entropy",
    "binary_crossentropy",
    "sigmoid_binary_crossentropy",
    "layer_norm",
    "confusion_matrix",
]
