"""Losses: what predictions cost against their targets, as expressions.

Beside predictions and targets each takes
    reduction   "mean" (the default), "sum", or "none": one number for each row or element
    weights     how much each of these numbers counts, an expression or array of their shape; the
                mean is then the weighted one
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import symgraph as sg
from symgraph import dims
from symgraph.errors import DTypeError, GraphError, ShapeError
from symgraph.expr import Expr, user_site
from symgraph.leaves import size_value

REDUCTIONS = ("mean", "sum", "none")


def cross_entropy(
    logits: Any,
    labels: Any,
    *,
    smoothing: float = 0.0,
    reduction: str = "mean",
    weights: Any = None,
) -> Expr:
    """-log softmax(logits) at each row's label; finite for any finite logits.

    logits: float[..., k].   labels: integers [...], or probabilities [..., k]. smoothing: this part
    of each label is spread evenly over the classes.
    Raises, when run: AssertionFault for an integer label outside [0, k).
    Source: Szegedy et al. 2016, section 7, for smoothing.
    """
    x, t = sg.as_tensor(logits), sg.as_tensor(labels)
    if t.dtype.is_integer:
        t = _checked_labels("cross_entropy", x, t)
    elif t.ndim == x.ndim:
        _require_same("cross_entropy", x, t)
    cost = sg.softmax_cross_entropy(x, t)
    if smoothing:
        if not 0 <= smoothing <= 1:
            raise GraphError(
                f"cross_entropy: expected 0 <= smoothing <= 1, got {smoothing}", site=user_site()
            )
        even = -sg.mean(sg.log_softmax(x), axis=-1)
        cost = (1 - smoothing) * cost + smoothing * even
    return _reduced("cross_entropy", cost, reduction, weights)


def binary_cross_entropy(
    logits: Any, targets: Any, *, reduction: str = "mean", weights: Any = None
) -> Expr:
    """-(t log p + (1 - t) log(1 - p)) with p = sigmoid(logit), of each element, without overflow.

    targets: like logits, from 0 to 1 (bool or integers too).
    """
    x, t = _pair("binary_cross_entropy", logits, targets)
    cost = sg.sigmoid_binary_crossentropy(x, t)
    return _reduced("binary_cross_entropy", cost, reduction, weights)


def mse(predictions: Any, targets: Any, *, reduction: str = "mean", weights: Any = None) -> Expr:
    """Squared error of each element."""
    x, t = _pair("mse", predictions, targets)
    return _reduced("mse", sg.square(x - t), reduction, weights)


def mae(predictions: Any, targets: Any, *, reduction: str = "mean", weights: Any = None) -> Expr:
    """Absolute error of each element."""
    x, t = _pair("mae", predictions, targets)
    return _reduced("mae", sg.abs(x - t), reduction, weights)


def huber(
    predictions: Any,
    targets: Any,
    *,
    delta: float = 1.0,
    reduction: str = "mean",
    weights: Any = None,
) -> Expr:
    """e^2 / 2 where the error e is at most delta in magnitude, delta * (|e| - delta / 2) beyond.

    Source: Huber 1964.
    """
    x, t = _pair("huber", predictions, targets)
    error = sg.abs(x - t)
    near: Expr = sg.minimum(error, delta)
    return _reduced("huber", near * (error - 0.5 * near), reduction, weights)


def hinge(scores: Any, targets: Any, *, reduction: str = "mean", weights: Any = None) -> Expr:
    """max(0, 1 - target * score) of each element; targets are -1 and 1."""
    x, t = _pair("hinge", scores, targets)
    return _reduced("hinge", sg.relu(1 - t * x), reduction, weights)


def multiclass_hinge(
    scores: Any, labels: Any, *, reduction: str = "mean", weights: Any = None
) -> Expr:
    """max(0, 1 + the best wrong score - the right one) of each row.

    scores: float[..., k].   labels: integers [...].   Source: Crammer and Singer 2001.
    """
    x = sg.as_tensor(scores)
    t = _checked_labels("multiclass_hinge", x, sg.as_tensor(labels))
    hits = sg.one_hot(t, size_value(x.array_type.shape[-1]), x.dtype)
    right = sg.sum(hits * x, axis=-1)
    rivals = sg.where(hits > 0, right[..., None] - 1, x)
    cost = 1 + sg.max(rivals, axis=-1) - right
    return _reduced("multiclass_hinge", cost, reduction, weights)


def l1(parameters: Sequence[Expr]) -> Expr:
    """Sum of magnitudes: a penalty that drives weights to zero."""
    return _added([sg.sum(sg.abs(w)) for w in parameters])


def l2(parameters: Sequence[Expr]) -> Expr:
    """Half the sum of squares: a penalty whose gradient is the weights themselves."""
    return _added([0.5 * sg.sum(sg.square(w)) for w in parameters])


def _added(terms: Sequence[Expr]) -> Expr:
    if not terms:
        return sg.constant(0.0)
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _reduced(what: str, values: Expr, reduction: str, weights: Any) -> Expr:
    if reduction not in REDUCTIONS:
        raise GraphError(
            f"{what}: reduction={reduction!r}: expected one of {', '.join(REDUCTIONS)}",
            site=user_site(),
        )
    if weights is None:
        plain = {"mean": sg.mean, "sum": sg.sum, "none": lambda x: x}
        return plain[reduction](values)
    w = sg.as_tensor(weights).astype(values.dtype)
    _require_same(f"{what}: weights", values, w)
    weighted = values * w
    if reduction == "mean":
        return sg.sum(weighted) / sg.sum(w)
    return sg.sum(weighted) if reduction == "sum" else weighted


def _pair(what: str, predictions: Any, targets: Any) -> tuple[Expr, Expr]:
    """Both with one shape and the predictions' dtype; a target is never broadcast."""
    x, t = sg.as_tensor(predictions), sg.as_tensor(targets)
    if not x.dtype.is_float:
        raise DTypeError(f"{what}: expected float predictions, got {x.type}", site=user_site())
    _require_same(what, x, t)
    return x, t if t.dtype.is_inexact else t.astype(x.dtype)


def _require_same(what: str, x: Expr, t: Expr) -> None:
    have, want = t.array_type.shape, x.array_type.shape
    same = len(have) == len(want)
    if not same or any(dims.known_equal(a, b) is False for a, b in zip(have, want)):
        raise ShapeError(
            f"{what}: expected two arrays of one shape, got {x.type} and {t.type}",
            site=user_site(),
            operands=(x, t),
        )


def _checked_labels(what: str, scores: Expr, labels: Expr) -> Expr:
    """The labels, whose range is checked when the function runs."""
    if not labels.dtype.is_integer or labels.ndim != scores.ndim - 1:
        raise ShapeError(
            f"{what}: expected integer labels of rank {scores.ndim - 1}, got {labels.type}",
            site=user_site(),
            operands=(scores, labels),
        )
    classes = scores.array_type.shape[-1]
    wide = labels.astype("int64")
    inside = (wide >= 0) & (wide < size_value(classes))
    return sg.assert_(wide, inside, f"{what}: a label is outside [0, {classes})")
