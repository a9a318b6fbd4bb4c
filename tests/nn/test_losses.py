"""Losses against NumPy, their reductions and weights, their gradients, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph import nn
from tests.strategies import values

X = values((6, 5), "float64", 0)
T = values((6, 5), "float64", 1)
LABELS = np.array([0, 4, 2, 2, 1, 3])
CHANCES = np.abs(T) / np.abs(T).sum(1, keepdims=True)
SIGNS = np.where(T > 0, 1.0, -1.0)
WEIGHTS = np.array([0.5, 0.0, 2.0, 1.0, 3.0, 1.5])


def log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def smoothed(labels: np.ndarray, part: float) -> np.ndarray:
    return (1 - part) * np.eye(5)[labels] + part / 5


def crammer_singer(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    rows = []
    for scores, label in zip(x, labels):
        rows.append(max(0.0, 1 + np.delete(scores, label).max() - scores[label]))
    return np.array(rows)


def huber(x: np.ndarray, t: np.ndarray, delta: float) -> np.ndarray:
    e = np.abs(x - t)
    return np.where(e <= delta, e * e / 2, delta * (e - delta / 2))


#: name -> (our loss, targets, NumPy's values before the reduction)
CASES: dict[str, tuple[Callable[..., sg.Expr], np.ndarray, np.ndarray]] = {
    "labels": (nn.cross_entropy, LABELS, -log_softmax(X)[range(6), LABELS]),
    "probabilities": (nn.cross_entropy, CHANCES, -(CHANCES * log_softmax(X)).sum(1)),
    "smoothed": (
        lambda x, t, **k: nn.cross_entropy(x, t, smoothing=0.3, **k),
        LABELS,
        -(smoothed(LABELS, 0.3) * log_softmax(X)).sum(1),
    ),
    "binary": (
        nn.binary_cross_entropy,
        (T > 0).astype(np.float64),
        np.where(T > 0, np.log1p(np.exp(-X)), np.log1p(np.exp(X))),
    ),
    "binary, bool": (
        nn.binary_cross_entropy,
        T > 0,
        np.where(T > 0, np.log1p(np.exp(-X)), np.log1p(np.exp(X))),
    ),
    "mse": (nn.mse, T, (X - T) ** 2),
    "mae": (nn.mae, T, np.abs(X - T)),
    "huber": (lambda x, t, **k: nn.huber(x, t, delta=1.5, **k), T, huber(X, T, 1.5)),
    "hinge": (nn.hinge, SIGNS, np.maximum(0, 1 - SIGNS * X)),
    "multiclass hinge": (nn.multiclass_hinge, LABELS, crammer_singer(X, LABELS)),
}


def inputs(targets: np.ndarray) -> tuple[sg.Expr, sg.Expr]:
    rest = targets.shape[1:]
    return sg.array("x", ("n", 5), "float64"), sg.array("t", ("n", *rest), targets.dtype)


@pytest.mark.parametrize("mode", ["reference", "native"])
@pytest.mark.parametrize("name", CASES)
def test_losses_and_reductions(name: str, mode: str) -> None:
    loss, targets, wanted = CASES[name]
    x, t = inputs(targets)
    weights = WEIGHTS if wanted.ndim == 1 else np.abs(T)
    w = sg.constant(weights)
    found = sg.function(
        [x, t],
        [
            loss(x, t),
            loss(x, t, reduction="sum"),
            loss(x, t, reduction="none"),
            loss(x, t, weights=w),
            loss(x, t, weights=w, reduction="sum"),
        ],
        mode=mode,
    )(X, targets)
    expected: list[Any] = [
        wanted.mean(),
        wanted.sum(),
        wanted,
        np.average(wanted, weights=weights),
        (wanted * weights).sum(),
    ]
    for got, want in zip(found, expected):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", CASES)
def test_gradients_by_finite_differences(name: str) -> None:
    loss, targets, _ = CASES[name]
    sg.verify_grad(lambda x: loss(x, sg.constant(targets)), [X])


def test_finite_for_huge_logits() -> None:
    x, t = inputs(LABELS)
    cost = nn.cross_entropy(x, t, reduction="none")
    huge = np.where(np.arange(5) == LABELS[:, None], 1e300, -1e300)
    value, slope = sg.function([x, t], [cost, sg.grad(cost.sum(), x)])(huge, LABELS)
    assert not value.any() and not slope.any()
    wrong = sg.function([x, t], cost)(-huge, LABELS)
    assert (wrong == 2e300).all()


@pytest.mark.parametrize("mode", ["reference", "native"])
@pytest.mark.parametrize("label", [-1, 5])
@pytest.mark.parametrize("loss", [nn.cross_entropy, nn.multiclass_hinge])
def test_label_out_of_range_is_refused(loss: Any, label: int, mode: str) -> None:
    x, t = inputs(LABELS)
    f = sg.function([x, t], loss(x, t), mode=mode)
    with pytest.raises(sg.AssertionFault, match=r"a label is outside \[0, 5\)"):
        f(X, np.where(np.arange(6) == 3, label, LABELS))


def test_narrow_labels_of_many_classes() -> None:
    x, t = sg.array("x", ("n", 300), "float64"), sg.array("t", ("n",), "uint8")
    cost = sg.function([x, t], nn.cross_entropy(x, t))(np.zeros((2, 300)), np.uint8([255, 0]))
    assert cost == pytest.approx(np.log(300), rel=1e-12)


def test_penalties() -> None:
    a, b = sg.shared(X), sg.shared(T)
    l1, l2 = sg.function([], [nn.l1([a, b]), nn.l2([a, b])])()
    assert l1 == pytest.approx(np.abs(X).sum() + np.abs(T).sum(), rel=1e-12)
    assert l2 == pytest.approx(((X**2).sum() + (T**2).sum()) / 2, rel=1e-12)
    assert sg.evaluate(nn.l2([])) == 0


def test_targets_are_not_broadcast() -> None:
    column, flat = sg.array("x", (6, 1)), sg.array("t", (6,))
    for loss in (nn.mse, nn.mae, nn.huber, nn.hinge, nn.binary_cross_entropy):
        for t in (flat, sg.array("t", (6, 2))):
            with pytest.raises(
                sg.ShapeError, match="expected two arrays of one shape, got float32"
            ):
                loss(column, t)
    with pytest.raises(sg.ShapeError, match="mse: weights: expected two arrays of one shape"):
        nn.mse(column, column, weights=flat)


def test_wrong_options_are_refused() -> None:
    x = sg.matrix("x")
    with pytest.raises(
        sg.GraphError, match="mse: reduction='max': expected one of mean, sum, none"
    ):
        nn.mse(x, x, reduction="max")
    with pytest.raises(sg.GraphError, match="expected 0 <= smoothing <= 1, got 1.5"):
        nn.cross_entropy(x, sg.lvector("t"), smoothing=1.5)
    with pytest.raises(sg.DTypeError, match="mse: expected float predictions, got int64"):
        nn.mse(sg.lvector("t"), sg.lvector("t"))
    with pytest.raises(sg.ShapeError, match="expected integer labels of rank 1"):
        nn.cross_entropy(x, sg.lmatrix("t"))
