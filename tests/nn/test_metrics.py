"""Metrics against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph import nn
from symgraph.nn import metrics

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(200, 6)).astype(np.float32)
LABELS = np.where(RNG.random(200) < 0.6, SCORES.argmax(1), RNG.integers(0, 6, 200))


def measured(metric: Any, *arrays: np.ndarray, **options: Any) -> np.ndarray:
    """A metric's value, the same in reference and native mode."""
    inputs = [sg.array(f"x{i}", (None,) * a.ndim, a.dtype) for i, a in enumerate(arrays)]
    expr = metric(*inputs, **options)
    slow, fast = (sg.function(inputs, expr, mode=m)(*arrays) for m in ("reference", "native"))
    np.testing.assert_allclose(fast, slow, rtol=1e-6)
    return fast


def test_accuracy_of_labels_and_probabilities() -> None:
    wanted = (SCORES.argmax(1) == LABELS).mean()
    assert measured(nn.accuracy, SCORES, LABELS) == pytest.approx(wanted)
    assert measured(nn.accuracy, SCORES, LABELS.astype(np.uint8)) == pytest.approx(wanted)
    one_hot = np.eye(6, dtype=np.float32)[LABELS]
    assert measured(nn.accuracy, SCORES, one_hot) == pytest.approx(wanted)
    assert measured(nn.error_rate, SCORES, LABELS) == pytest.approx(1 - wanted)


@pytest.mark.parametrize("k", [1, 2, 5, 6])
def test_top_k(k: int) -> None:
    best = np.argsort(-SCORES, axis=1)[:, :k]
    wanted = (best == LABELS[:, None]).any(1).mean()
    assert measured(nn.top_k_accuracy, SCORES, LABELS, k=k) == pytest.approx(wanted)


def test_label_outside_the_classes_is_never_right() -> None:
    assert measured(nn.top_k_accuracy, SCORES, np.full(200, 6), k=6) == 0
    assert measured(nn.accuracy, SCORES, np.full(200, -1)) == 0


def test_binary_accuracy() -> None:
    logits, targets = SCORES[:, 0], SCORES[:, 1] > 0
    wanted = ((logits > 0) == targets).mean()
    for t in (targets, targets.astype(np.int64), targets.astype(np.float32)):
        assert measured(nn.binary_accuracy, logits, t) == pytest.approx(wanted)


def test_confusion_and_what_is_made_of_it() -> None:
    counts = measured(nn.confusion, SCORES, LABELS)
    wanted = np.zeros((6, 6), np.int64)
    np.add.at(wanted, (LABELS, SCORES.argmax(1)), 1)
    assert counts.dtype == np.int64 and np.array_equal(counts, wanted)
    precision = np.diag(wanted) / wanted.sum(0)
    recall = np.diag(wanted) / wanted.sum(1)
    np.testing.assert_allclose(measured(nn.precision, counts), precision, rtol=1e-6)
    np.testing.assert_allclose(measured(nn.recall, counts), recall, rtol=1e-6)
    f1 = 2 * precision * recall / (precision + recall)
    np.testing.assert_allclose(measured(nn.f1, counts), f1, rtol=1e-6)


def test_ratios_without_members_are_zero() -> None:
    counts = np.array([[3, 0], [0, 0]])
    for metric in (nn.precision, nn.recall, nn.f1):
        assert measured(metric, counts).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("metric", [nn.accuracy, nn.top_k_accuracy, nn.confusion])
def test_labels_of_the_wrong_rank(metric: Any) -> None:
    with pytest.raises(
        sg.ShapeError, match=f"{metric.__name__}: expected integer labels of rank 1"
    ):
        metric(sg.matrix("x"), sg.lmatrix("t"))
    with pytest.raises(sg.ShapeError, match="binary_accuracy: expected targets of rank 2"):
        metrics.binary_accuracy(sg.matrix("x"), sg.vector("t"))
