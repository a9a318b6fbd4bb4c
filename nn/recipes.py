"""`symgraph train`: networks with the data and the schedule that train them, from the command line.

A recipe was chosen by the accuracy on rows of the training part that are held out of training; the
test rows are looked at once, when all is done.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import symgraph as sg
from symgraph.errors import ArgumentError

from . import plot
from .compiled import compiler_facts, compiler_lines
from .data import Arrays, Dataset, digits, epoch_order, mnist
from .history import History
from .layers import Layer
from .losses import cross_entropy
from .metrics import accuracy
from .models import lenet5
from .schedules import cosine, warmup
from .train import Trainer
from .updates import AdamW

HELD_OUT = 12  # one row of so many validates: 5,000 of MNIST's 60,000
CHECKPOINT, SETTINGS = "checkpoint.npz", "settings.json"


class Recipe(NamedTuple):
    """A network for images of one channel and 28 x 28 pixels, and how it is trained.

    make: (classes, seed) -> the network. rate: AdamW's, reached in the first tenth of the steps;
    then it falls along a cosine.
    plans: (epochs, minibatch) for each data set.
    """

    what: str
    make: Callable[[int, int], Layer]
    rate: float
    plans: dict[str, tuple[int, int]]


RECIPES = {
    "lenet": Recipe(
        "LeNet-5",
        lambda classes, seed: lenet5(classes, rng=seed),
        4e-3,
        {"mnist": (5, 128), "digits": (30, 32)},
    )
}


class Settings(NamedTuple):
    """What decides a training: with the same ones it goes bit for bit the same way."""

    model: str
    data: str
    epochs: int
    batch: int
    seed: int


def run(
    model: str,
    out: str | os.PathLike[str],
    *,
    epochs: int | None = None,
    batch: int | None = None,
    seed: int | None = None,
    resume: bool = False,
    as_json: bool = False,
) -> dict[str, Any]:
    """Train a recipe's network, printing as it goes; the facts.

    None takes the recipe's value. Writes into `out`: checkpoint.npz after each epoch,
    weights.safetensors and training.png at the end. resume: go on from the checkpoint there.
    """
    began, folder = time.perf_counter(), Path(out)
    say = _say_nothing if as_json else _say
    data = images()
    wanted = {"epochs": epochs, "batch": batch, "seed": seed}
    given = {name: value for name, value in wanted.items() if value is not None}
    settings = (
        _kept(folder, model, data.name, given) if resume else _chosen(model, data.name, given)
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS).write_text(json.dumps(settings._asdict(), indent=2) + "\n")
    train, held_out = split(data)
    at = time.perf_counter()
    network, trainer = build(settings, data.classes, len(train[0]))
    compiling = time.perf_counter() - at
    say(_opening(settings, network, len(train[0]), len(held_out[0])))
    if resume:
        trainer.load(folder / CHECKPOINT)
        say(str(trainer.history))
    trainer.fit(
        train,
        epochs=settings.epochs,
        batch=settings.batch,
        validation=held_out,
        save_to=folder / CHECKPOINT,
        progress=not as_json,
        each=None if as_json else _tell,
    )
    facts = {
        **settings._asdict(),
        "history": trainer.history.rows,
        "test": trainer.evaluate(data.test),
        "test rows": len(data.test[0]),
        "compile seconds": compiling,
        "compiler": compiler_facts(trainer.step, [a[: settings.batch] for a in train]),
        "files": _files(folder, network, trainer, settings),
        "train seconds": trainer.seconds,
        "seconds": time.perf_counter() - began,
    }
    _say(json.dumps(facts, indent=2) if as_json else _report(facts, trainer.history))
    return facts


def _chosen(model: str, data: str, given: dict[str, int]) -> Settings:
    epochs, batch = RECIPES[model].plans[data]
    return Settings(model, data, **{"epochs": epochs, "batch": batch, "seed": 0, **given})


def _kept(folder: Path, model: str, data: str, given: dict[str, int]) -> Settings:
    """The settings of the training that left its checkpoint in the folder.

    Raises: ArgumentError if there is none, or if other ones are asked for.
    """
    path = folder / SETTINGS
    if not (path.is_file() and (folder / CHECKPOINT).is_file()):
        raise ArgumentError(f"{folder}: there is no training to go on with", hint="drop --resume")
    try:
        kept = Settings(**json.loads(path.read_text()))
    except (ValueError, TypeError):
        raise ArgumentError(f"{path}: these are not the settings of a training") from None
    for name, value in {"model": model, "data": data, **given}.items():
        if (was := getattr(kept, name)) != value:
            raise ArgumentError(
                f"{path}: {name} was {was}, not {value}",
                hint="a training goes on as it began: drop the option, or begin anew elsewhere",
            )
    return kept


# ------------------------------------------------------------------------------------------------
# data, network


def images() -> Dataset:
    """MNIST where SYMGRAPH_DATA has it, else (with a message) the digits; images [n, 1, 28, 28]."""
    try:
        data = mnist()
        shaped = [(x.reshape(-1, 1, 28, 28), t) for x, t in (data.train, data.test)]
    except FileNotFoundError as error:
        print(f"symgraph: {error}; taking scikit-learn's digits instead", file=sys.stderr)
        data = digits()
        shaped = [(_enlarged(x.reshape(-1, 8, 8)), t) for x, t in (data.train, data.test)]
    return data._replace(train=shaped[0], test=shaped[1], shape=(1, 28, 28))


def _enlarged(x: np.ndarray) -> np.ndarray:
    """[n, 8, 8] -> [n, 1, 28, 28]: each pixel thrice, and a border of 2, about as MNIST's."""
    large = x.repeat(3, axis=1).repeat(3, axis=2)
    return np.pad(large, ((0, 0), (2, 2), (2, 2)))[:, None]


def split(data: Dataset) -> tuple[Arrays, Arrays]:
    """Rows to train on and rows that are held out, the same ones whatever the seed."""
    order = epoch_order(len(data.train[0]), 0, 0)
    held_out = len(order) // HELD_OUT
    parts = order[held_out:], order[:held_out]
    train, validation = (tuple(a[rows] for a in data.train) for rows in parts)
    return train, validation


def build(settings: Settings, classes: int, rows: int) -> tuple[Layer, Trainer]:
    """The network, and its training step and measurement, compiled."""
    recipe = RECIPES[settings.model]
    x, t = sg.array("x", ("n", 1, 28, 28)), sg.array("t", ("n",), "int64")
    network = recipe.make(classes, settings.seed)
    cost = cross_entropy(network(x), t)
    steps = settings.epochs * math.ceil(rows / settings.batch)
    rising = math.ceil(steps / 10)
    rate = warmup(cosine(recipe.rate, steps - rising), rising) if steps > rising else recipe.rate
    updates = AdamW(rate).minimize(cost, network.parameters())
    scores = network(x, deterministic=True)
    metrics = {"loss": cross_entropy(scores, t), "accuracy": accuracy(scores, t)}
    pairs = [*network.updates(), *updates]
    return network, Trainer([x, t], cost, pairs, metrics, seed=settings.seed)


# ------------------------------------------------------------------------------------------------
# what is written and printed


def _files(folder: Path, network: Layer, trainer: Trainer, settings: Settings) -> list[str]:
    """The weights, and the picture if it can be drawn."""
    weights, picture = folder / "weights.safetensors", folder / "training.png"
    sg.save(weights, network.variables())
    history = trainer.history
    panels = {
        "cost": {
            "training": history.column("cost"),
            "validation": history.column("val_loss"),
        },
        "accuracy": {"validation": history.column("val_accuracy")},
    }
    title = f"{RECIPES[settings.model].what} on {settings.data}, seed {settings.seed}"
    try:
        plot.save_png(picture, panels, log=("cost",), title=title)
    except ModuleNotFoundError as error:
        print(f"symgraph: no picture: {error}", file=sys.stderr)
        return [str(weights), str(folder / CHECKPOINT)]
    return [str(weights), str(picture), str(folder / CHECKPOINT)]


def _say(text: str) -> None:
    print(text, flush=True)


def _say_nothing(text: str) -> None:
    pass


def _tell(history: History) -> None:
    """The row of the epoch that has just ended, below the names of the columns."""
    last = len(history) - 1
    _say(history.line(last) if last else f"{history.header()}\n{history.line(last)}")


def _opening(s: Settings, network: Layer, train: int, held_out: int) -> str:
    count = sum(w.get_value(borrow=True).size for w in network.parameters())
    layers = [f"  {layer!r}" for layer in getattr(network, "layers", [network])]
    return "\n".join(
        [
            f"{RECIPES[s.model].what}, {count:,} parameters:",
            *layers,
            f"{s.data}: {train:,} images to train on, {held_out:,} that validate.",
            f"AdamW, {s.epochs} epochs in minibatches of {s.batch}, seed {s.seed}.\n",
        ]
    )


def _report(facts: dict[str, Any], history: History) -> str:
    drawn = plot.curve(
        history.column("cost"),
        "Training cost by epoch (logarithmic)",
        log=True,
        ascii=not plot.shows_blocks(sys.stdout),
    )
    test = facts["test"]
    result = (
        f"Test accuracy {test['accuracy']:.2%}, loss {test['loss']:.4f}, on "
        f"{facts['test rows']:,} images that nothing was chosen by."
    )
    compiler = compiler_lines(facts["compiler"], facts["compile seconds"], facts["batch"])
    folder = Path(facts["files"][0]).parent
    written = (
        f"Wrote {', '.join(Path(name).name for name in facts['files'])} into {folder}\n"
        f"Training took {facts['train seconds']:.1f} s, all of it {facts['seconds']:.1f} s."
    )
    return "\n" + "\n\n".join([drawn, result, "\n".join(compiler), written])
