"""The training loop, its history, early stop, and checkpoints that resume bit for bit."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph import nn
from symgraph.nn import checkpoint

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(3, 8)).astype(np.float32) * 2
T = RNG.integers(0, 3, 101)
X = (CENTRES[T] + RNG.normal(size=(101, 8))).astype(np.float32)
TRAIN, TEST = (X[:71], T[:71]), (X[71:], T[71:])


def trainer(rule: Any = None, seed: int = 0, dropout: float = 0.3, **options: Any) -> nn.Trainer:
    """A small network with everything that has a state: dropout, moments, a schedule."""
    x, t = sg.array("x", ("n", 8)), sg.array("t", ("n",), "int64")
    model = nn.mlp([8, 12, 3], dropout=dropout, rng=seed)
    cost = nn.cross_entropy(model(x), t)
    scores = model(x, deterministic=True)
    rule = rule or nn.AdamW(nn.schedules.cosine(0.02, 40))
    metrics = {"loss": nn.cross_entropy(scores, t), "accuracy": nn.accuracy(scores, t)}
    updates = rule.minimize(cost, model.parameters())
    return nn.Trainer([x, t], cost, updates, metrics, seed=seed, **options)


def test_training_learns_and_keeps_a_history() -> None:
    made = trainer()
    history = made.fit(TRAIN, epochs=20, batch=16, validation=TEST)
    assert made.history is history and len(history) == made.epoch == 20
    assert history.names == ["cost", "val_loss", "val_accuracy"]
    assert history.column("val_accuracy")[-1] > 0.9
    assert history.column("cost")[-1] < history.column("cost")[0] / 2
    assert str(history).splitlines()[0].split() == ["epoch", *history.names]


def test_a_step_is_one_native_call() -> None:
    made = trainer()
    made.fit(TRAIN, epochs=3, batch=16)
    profile = made.step.profile()
    assert profile.calls == 3 * 5 and profile.copies == 0
    assert not made.step.core.code.hosts


def test_native_and_reference_take_the_same_road() -> None:
    histories = [
        trainer(mode=mode).fit(TRAIN, epochs=3, batch=16, validation=TEST).rows
        for mode in ("native", "reference")
    ]
    for native, reference in zip(*histories):
        assert native == pytest.approx(reference, rel=1e-4)


def test_mean_over_epoch_and_over_chunks() -> None:
    made = trainer(nn.SGD(0.0), dropout=0.0)
    made.fit(TRAIN, epochs=1, batch=16)
    whole = made.evaluate(TRAIN)
    assert made.history.rows[0]["cost"] == pytest.approx(whole["loss"], rel=1e-5)
    chunks = made.evaluate(TRAIN, batch=7)
    assert chunks == pytest.approx(whole, rel=1e-5)
    scores = made.measure(*TRAIN)
    assert whole["accuracy"] == pytest.approx(float(scores["accuracy"]))


def test_fit_counts_all_epochs() -> None:
    made = trainer()
    made.fit(TRAIN, epochs=2)
    made.fit(TRAIN, epochs=3)
    made.fit(TRAIN, epochs=3)
    assert made.epoch == len(made.history) == 3


def test_what_does_not_fit_is_refused() -> None:
    x = sg.matrix("x")
    with pytest.raises(sg.GraphError, match="Trainer: cost must be a scalar, got float32"):
        nn.Trainer([x], x, [])
    with pytest.raises(sg.GraphError, match="Trainer: rows must be a scalar"):
        nn.Trainer([x], x.mean(), [], {"rows": x.mean(1)})
    bare = nn.Trainer([x], x.mean(), [])
    data = (np.ones((4, 2), np.float32),)
    with pytest.raises(sg.ArgumentError, match="fit: validation needs metrics"):
        bare.fit(data, epochs=1, validation=data)
    with pytest.raises(sg.ArgumentError, match="evaluate: there are no metrics"):
        bare.evaluate(data)
    with pytest.raises(sg.ArgumentError, match="fit: there are no rows to train on"):
        bare.fit((np.ones((0, 2), np.float32),), epochs=1)
    with pytest.raises(sg.ArgumentError, match="evaluate: there are no rows"):
        trainer().evaluate((X[:0], T[:0]))
    with pytest.raises(sg.ArgumentError, match=r"equally many rows, got \(71, 8\), \(70,\)"):
        trainer().fit((TRAIN[0], TRAIN[1][1:]), epochs=1)


# --- early stop


def history_of(*numbers: float) -> nn.History:
    return nn.History([{"loss": n} for n in numbers])


@pytest.mark.parametrize(
    ("numbers", "stops"),
    [
        ((3, 2, 1), False),
        ((1, 2), False),
        ((1, 2, 3), True),
        ((1, 2, 0.5, 0.7), False),
        ((1, 1, 1), True),
        ((math.nan, math.nan, math.nan), True),
        ((2, math.nan, 1), False),
    ],
)
def test_early_stop(numbers: tuple[float, ...], stops: bool) -> None:
    assert nn.early_stop("loss", 2)(history_of(*numbers)) is stops
    flipped = history_of(*(-n for n in numbers))
    assert nn.early_stop("loss", 2, lower=False)(flipped) is stops


def test_early_stop_ends_training_and_holds_after_it() -> None:
    made = trainer(nn.SGD(0.0), dropout=0.0)
    stop = nn.early_stop("val_loss", 3)
    for _ in range(2):
        made.fit(TRAIN, epochs=50, validation=TEST, stop=stop)
        assert made.epoch == 4
    with pytest.raises(sg.GraphError, match="history: no column 'lost'"):
        made.fit(TRAIN, epochs=50, stop=nn.early_stop("lost", 1))


def test_history_goes_through_arrays() -> None:
    history = nn.History([{"cost": 1.0}, {"cost": 0.5, "val": 2.0}])
    again = nn.History.from_arrays(history.to_arrays())
    assert again.rows == history.rows
    assert math.isnan(again.column("val")[0]) and again.column("cost") == [1.0, 0.5]
    assert len(nn.History.from_arrays({})) == 0


# --- checkpoints


@pytest.mark.parametrize("kind", [".npz", ".safetensors"])
@pytest.mark.parametrize("mode", ["native", "reference"])
def test_resume_is_bit_exact(tmp_path: Path, kind: str, mode: str) -> None:
    straight, halfway, late = (tmp_path / f"{n}{kind}" for n in ("straight", "halfway", "late"))
    first = trainer(mode=mode)
    first.fit(TRAIN, epochs=4, batch=16, validation=TEST)
    first.save(straight)
    second = trainer(mode=mode)
    second.fit(TRAIN, epochs=2, batch=16, validation=TEST, save_to=halfway)
    third = trainer(seed=9, mode=mode)  # other parameters, other masks, another shuffle
    third.load(halfway)
    third.fit(TRAIN, epochs=4, batch=16, validation=TEST)
    third.save(late)
    assert third.history.rows == first.history.rows
    for name, w in first.variables().items():
        assert w.get_value().tobytes() == third.variables()[name].get_value().tobytes(), name
    assert straight.read_bytes() == late.read_bytes() != halfway.read_bytes()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("rule", [nn.SGD, nn.Momentum, nn.Nesterov, nn.RMSProp, nn.Adagrad])
def test_every_rule_resumes(tmp_path: Path, rule: Any) -> None:
    path = tmp_path / "c.npz"
    straight, resumed = trainer(rule(0.01)), trainer(rule(0.01), seed=3)
    straight.fit(TRAIN, epochs=1, save_to=path)
    straight.fit(TRAIN, epochs=2)
    resumed.load(path)
    resumed.fit(TRAIN, epochs=2)
    for name, w in straight.variables().items():
        assert w.get_value().tobytes() == resumed.variables()[name].get_value().tobytes(), name


def test_variables_have_distinct_names() -> None:
    names = list(trainer().variables())
    assert names[:4] == ["step", "hidden1.weight.mean", "hidden1.weight.square", "hidden1.weight"]
    assert "random_state" in names and len(names) == len(set(names)) == 14
    twins = [sg.shared(0.0, "w"), sg.shared(1.0, "w"), sg.shared(2.0, "w")]
    assert list(checkpoint.unique_names([*twins, twins[0]])) == ["w", "w.2", "w.3"]


def test_checkpoint_of_another_network_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    trainer(nn.SGD(0.1)).save(path)
    other = trainer(nn.Momentum(0.1))
    before = {name: w.get_value() for name, w in other.variables().items()}
    with pytest.raises(sg.ArgumentError) as caught:
        other.load(path)
    assert "not a checkpoint of this training: missing: variable/hidden1.bias.velocity" in str(
        caught.value
    )
    x, t = sg.array("x", ("n", 8)), sg.array("t", ("n",), "int64")
    wide = nn.mlp([8, 13, 3], dropout=0.3, rng=0)
    cost = nn.cross_entropy(wide(x), t)
    grown = nn.Trainer([x, t], cost, nn.SGD(0.1).minimize(cost, wide.parameters()))
    with pytest.raises(sg.ArgumentError, match="hidden1.weight: expected float32"):
        grown.load(path)
    for name, w in other.variables().items():
        assert np.array_equal(w.get_value(), before[name])


@pytest.mark.parametrize("kind", [".npz", ".safetensors"])
def test_damaged_checkpoint_is_refused(tmp_path: Path, kind: str) -> None:
    path, made = tmp_path / f"c{kind}", trainer()
    made.save(path)
    content = path.read_bytes()
    for damaged in (b"", content[:100], content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(sg.ArgumentError):
            made.load(path)
    with pytest.raises(FileNotFoundError):
        made.load(tmp_path / f"none{kind}")
    with pytest.raises(sg.GraphError, match=r"ends in \.npz or \.safetensors"):
        made.save(tmp_path / "c.pickle")


def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, made = tmp_path / "c.npz", trainer()
    made.save(path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    made.fit(TRAIN, epochs=1)
    with pytest.raises(OSError, match="no space"):
        made.save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
