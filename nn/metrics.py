"""Metrics: how good predictions are, as expressions; each a mean over rows unless it says else."""

from __future__ import annotations

from typing import Any

import symgraph as sg
from symgraph.errors import ShapeError
from symgraph.expr import Expr, user_site
from symgraph.leaves import size_value


def accuracy(scores: Any, labels: Any) -> Expr:
    """Part of the rows whose largest score is at the label.

    scores: [..., k].   labels: integers [...], or probabilities [..., k].
    """
    x, t = sg.as_tensor(scores), sg.as_tensor(labels)
    t = t if t.dtype.is_integer else sg.argmax(t, axis=-1)
    _require_labels("accuracy", x, t)
    return sg.mean(sg.argmax(x, axis=-1) == t.astype("int64"))


def error_rate(scores: Any, labels: Any) -> Expr:
    """1 - accuracy."""
    return 1 - accuracy(scores, labels)


def top_k_accuracy(scores: Any, labels: Any, k: int = 5) -> Expr:
    """Part of the rows where fewer than k scores are above the label's.

    scores: [..., classes].   labels: integers [...].
    """
    x, t = sg.as_tensor(scores), sg.as_tensor(labels)
    _require_labels("top_k_accuracy", x, t)
    hits = sg.one_hot(t, size_value(x.array_type.shape[-1]), "bool")
    own = sg.max(sg.where(hits, x, -float("inf")), axis=-1, keepdims=True)
    above = sg.sum(x > own, axis=-1)
    return sg.mean((above < k) & sg.any(hits, axis=-1))


def binary_accuracy(logits: Any, targets: Any) -> Expr:
    """Part of the elements where the logit's sign tells the target, a bool or 0 and 1."""
    x, t = sg.as_tensor(logits), sg.as_tensor(targets)
    if x.ndim != t.ndim:
        raise ShapeError(
            f"binary_accuracy: expected targets of rank {x.ndim}, got {t.type}",
            site=user_site(),
            operands=(x, t),
        )
    return sg.mean((x > 0) == (t > 0.5 if t.dtype.is_inexact else t > 0))


def confusion(scores: Any, labels: Any) -> Expr:
    """int64 counts [k, k]: rows by label, columns by largest score.   Counts add up over batches.

    scores: [n, k].   labels: integers [n].
    """
    x, t = sg.as_tensor(scores), sg.as_tensor(labels)
    _require_labels("confusion", x, t)
    classes = size_value(x.array_type.shape[-1])
    return sg.confusion_matrix(t, sg.argmax(x, axis=-1), classes)


def precision(counts: Any) -> Expr:
    """For each class the part of its predictions that are right, 0 without predictions.

    counts: confusion counts [k, k] -> [k].
    """
    c = sg.as_tensor(counts)
    return _ratio(sg.diagonal(c), sg.sum(c, axis=0))


def recall(counts: Any) -> Expr:
    """For each class the part of its members that are found, 0 without members.

    counts: confusion counts [k, k] -> [k].
    """
    c = sg.as_tensor(counts)
    return _ratio(sg.diagonal(c), sg.sum(c, axis=1))


def f1(counts: Any) -> Expr:
    """For each class the harmonic mean of precision and recall, 0 without either.

    counts: confusion counts [k, k] -> [k].
    """
    c = sg.as_tensor(counts)
    return _ratio(2 * sg.diagonal(c), sg.sum(c, axis=0) + sg.sum(c, axis=1))


def _ratio(part: Expr, whole: Expr) -> Expr:
    return sg.where(whole > 0, part / sg.maximum(whole, 1), 0.0)


def _require_labels(what: str, scores: Expr, labels: Expr) -> None:
    if not labels.dtype.is_integer or labels.ndim != scores.ndim - 1:
        raise ShapeError(
            f"{what}: expected integer labels of rank {scores.ndim - 1}, got {labels.type}",
            site=user_site(),
            operands=(scores, labels),
        )
