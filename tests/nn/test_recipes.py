"""`symgraph train`: what it reaches, what it writes, and that it goes on where it was stopped."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from symgraph.nn import recipes
from symgraph.nn.cli import main
from symgraph.nn.train import Trainer

WEIGHTS, CHECKPOINT = "weights.safetensors", "checkpoint.npz"


@pytest.fixture()
def on_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.delenv("SYMGRAPH_DATA", raising=False)


def trained(out: Path, *more: str) -> int:
    return main(["train", "lenet", "--out", str(out), "--epochs", "3", *more])


@pytest.mark.usefixtures("on_digits")
def test_digits_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "made" / "here"
    assert trained(out) == 0
    said = capsys.readouterr()
    assert said.err.startswith("symgraph: mnist: ") and "digits instead" in said.err
    for words in ("61,706 parameters", "val_accuracy", "Test accuracy 9", "kernels", "rules that"):
        assert words in said.out
    assert max(map(len, said.out.splitlines())) <= 140  # a path may be long
    written = [CHECKPOINT, "settings.json", "training.png", WEIGHTS]
    assert sorted(p.name for p in out.iterdir()) == written


@pytest.mark.usefixtures("on_digits")
def test_digits_for_machines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert trained(tmp_path, "--json", "--seed", "3", "--batch", "16") == 0
    said = capsys.readouterr()
    facts = json.loads(said.out)
    assert facts["data"] == "digits" and facts["test"]["accuracy"] >= 0.93
    assert [len(row) for row in facts["history"]] == [3, 3, 3]
    assert (facts["seed"], facts["batch"], facts["test rows"]) == (3, 16, 599)
    assert facts["compiler"]["host calls"] == 0
    assert "no picture" in said.err and str(tmp_path / WEIGHTS) in facts["files"]


@pytest.mark.usefixtures("on_digits")
def test_it_goes_on_where_it_was_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert trained(whole, "--json") == 0
    expected = json.loads(capsys.readouterr().out)
    kept = Trainer.save

    def interrupted(self: Trainer, path: Any) -> None:
        kept(self, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "save", interrupted)
        assert trained(parts) == 130
    assert main(["train", "lenet", "--out", str(parts), "--resume", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.partition("\n\n")[2])
    assert found["history"] == expected["history"] and found["test"] == expected["test"]
    assert (parts / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    with np.load(parts / CHECKPOINT) as ours, np.load(whole / CHECKPOINT) as theirs:
        assert sorted(ours) == sorted(theirs)
        assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs)


@pytest.mark.usefixtures("on_digits")
def test_what_cannot_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained(tmp_path, "--resume") == 1
    assert "there is no training to go on with" in capsys.readouterr().err
    (tmp_path / CHECKPOINT).write_bytes(b"")
    settings = recipes.Settings("lenet", "digits", 3, 32, 0)
    (tmp_path / "settings.json").write_text(json.dumps(settings._asdict()))
    assert trained(tmp_path, "--resume", "--batch", "64") == 1
    assert "batch was 32, not 64" in capsys.readouterr().err
    assert trained(tmp_path, "--resume") == 1  # the checkpoint is damaged
    assert "Traceback" not in capsys.readouterr().err
    (tmp_path / "settings.json").write_text("[]")
    assert trained(tmp_path, "--resume") == 1
    assert "not the settings of a training" in capsys.readouterr().err


def test_the_rows_that_validate_are_no_rows_to_train_on() -> None:
    rows = np.arange(120)
    data = recipes.Dataset("rows", (rows, rows), (rows, rows), 10, ())
    train, held_out = recipes.split(data)
    assert len(held_out[0]) == 10
    assert np.array_equal(np.sort(np.concatenate([train[0], held_out[0]])), rows)


@pytest.mark.slow
def test_mnist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The recipe's own five epochs: half a minute of one core."""
    if not (Path(os.environ.get("SYMGRAPH_DATA", "")) / "mnist").is_dir():
        pytest.skip("SYMGRAPH_DATA names no folder with MNIST")
    assert main(["train", "lenet", "--out", str(tmp_path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["data"] == "mnist" and facts["epochs"] <= 5
    assert facts["test"]["accuracy"] >= 0.99
