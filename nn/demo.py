"""`symgraph demo`: train a network on handwritten digits, show what happened, check the claim.

The network's size, dropout, label smoothing and rate were chosen by cross-validation inside the
training part, with the held-out accuracy in view; a run trains without looking at the held-out
third.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import symgraph as sg

from . import plot
from .compiled import compiler_facts, compiler_lines
from .data import Dataset, digits, epoch_order
from .losses import cross_entropy
from .metrics import accuracy
from .models import mlp
from .schedules import cosine
from .train import Trainer
from .updates import AdamW

HIDDEN, DROPOUT, SMOOTHING, RATE, BATCH = 256, 0.3, 0.1, 3e-3, 32
TIMED_STEPS = 40
AGREEMENT = 1e-3  # how far costs may be from the reference's after TIMED_STEPS steps, relative


class Plan(NamedTuple):
    """How much is trained, and what is claimed of it."""

    seeds: int
    epochs: int
    claim: float


FULL, QUICK = Plan(3, 60, 0.97), Plan(1, 20, 0.95)


def run(out: str | os.PathLike[str], quick: bool = False, as_json: bool = False) -> bool:
    """The whole demo; whether what it claims is true.

    Writes loss.png and weights.safetensors into `out`.
    """
    plan, began = QUICK if quick else FULL, time.perf_counter()
    data = digits()
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    say = _say_nothing if as_json else _say
    say(_opening(data, plan))
    trainers, compiling = [], 0.0
    for seed in range(plan.seeds):
        at = time.perf_counter()
        trainers.append(build(data, seed, plan.epochs))
        compiling = compiling or time.perf_counter() - at
        trainers[-1].fit(data.train, epochs=plan.epochs, batch=BATCH, validation=data.test)
    facts = {
        **_results(trainers, plan),
        "compile seconds": compiling,
        "compiler": compiler_facts(trainers[0].step, [a[:BATCH] for a in data.train]),
        "step": compare_with_reference(data),
        "files": _files(folder, trainers),
        "seconds": time.perf_counter() - began,
    }
    facts["ok"] = facts["accuracy"] >= plan.claim and facts["step"]["agrees"]
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        say(_report(facts, plan, trainers[0].history.column("cost")))
    return facts["ok"]


def build(data: Dataset, seed: int, epochs: int, **options: Any) -> Trainer:
    """The network, its cost, its gradient and its update rule, compiled."""
    features, classes = data.train[0].shape[1], data.classes
    x, t = sg.array("x", ("n", features)), sg.array("t", ("n",), "int64")
    model = mlp([features, HIDDEN, classes], dropout=DROPOUT, rng=seed)
    cost = cross_entropy(model(x), t, smoothing=SMOOTHING)
    steps = epochs * -(-len(data.train[0]) // BATCH)
    updates = AdamW(cosine(RATE, steps)).minimize(cost, model.parameters())
    scores = model(x, deterministic=True)
    metrics = {"loss": cross_entropy(scores, t), "accuracy": accuracy(scores, t)}
    return Trainer([x, t], cost, updates, metrics, seed=seed, **options)


def _results(trainers: list[Trainer], plan: Plan) -> dict[str, Any]:
    found = [t.history.column("val_accuracy")[-1] for t in trainers]
    return {
        "accuracies": found,
        "accuracy": statistics.fmean(found),
        "claim": plan.claim,
        "epochs": plan.epochs,
        "train seconds": [t.seconds for t in trainers],
    }


def compare_with_reference(data: Dataset) -> dict[str, Any]:
    """Seconds of a training step, compiled and in the NumPy reference mode, step by step in turn.

    Both train a network of their own from the same seed, so their costs must stay equal.
    """
    both = {mode: build(data, 0, 1, mode=mode).step for mode in ("native", "reference")}
    seconds: dict[str, list[float]] = {mode: [] for mode in both}
    costs: dict[str, list[float]] = {mode: [] for mode in both}
    order = epoch_order(len(data.train[0]), 0, 0)
    for i in range(TIMED_STEPS):
        chosen = np.arange(i * BATCH, (i + 1) * BATCH) % len(order)
        x, t = (a[order[chosen]] for a in data.train)
        for mode, step in both.items():
            at = time.perf_counter()
            cost = step(x, t)
            seconds[mode].append(time.perf_counter() - at)
            costs[mode].append(float(cost))
    native, reference = (np.array(costs[mode]) for mode in ("native", "reference"))
    apart = float(np.max(np.abs(native - reference) / np.abs(reference)))
    medians = {mode: statistics.median(s) for mode, s in seconds.items()}
    return {
        "native seconds": medians["native"],
        "reference seconds": medians["reference"],
        "ratio": medians["reference"] / medians["native"],
        "costs apart": apart,
        "agrees": apart <= AGREEMENT,
    }


# ------------------------------------------------------------------------------------------------
# what is written and printed


def _files(folder: Path, trainers: list[Trainer]) -> list[str]:
    """Weights of the first network, and the picture if it can be drawn."""
    weights = folder / "weights.safetensors"
    trainers[0].save(weights)
    named = {f"seed {t.seed}": t.history for t in trainers}
    panels = {
        "training cost": {k: h.column("cost") for k, h in named.items()},
        "held-out loss": {k: h.column("val_loss") for k, h in named.items()},
        "held-out accuracy": {k: h.column("val_accuracy") for k, h in named.items()},
    }
    picture = folder / "loss.png"
    try:
        plot.save_png(
            picture,
            panels,
            log=("training cost", "held-out loss"),
            title="symgraph demo: handwritten digits",
        )
    except ModuleNotFoundError as error:
        print(f"symgraph: no picture: {error}", file=sys.stderr)
        return [str(weights)]
    return [str(picture), str(weights)]


def _say(text: str) -> None:
    print(text, flush=True)


def _say_nothing(text: str) -> None:
    pass


def _opening(data: Dataset, plan: Plan) -> str:
    train, test = len(data.train[0]), len(data.test[0])
    steps = -(-train // BATCH)
    return (
        f"Handwritten digits, {' x '.join(map(str, data.shape))} pixels: {train} to train on, "
        f"{test} held out.\n"
        f"Network {data.train[0].shape[1]}-{HIDDEN}-{data.classes}, relu, dropout {DROPOUT:g}, "
        f"AdamW; {plan.epochs} epochs of {steps} minibatches, seeds 0 to {plan.seeds - 1}.\n"
    )


def _report(facts: dict[str, Any], plan: Plan, costs: list[float]) -> str:
    drawn = plot.curve(
        costs,
        "Training cost by epoch, seed 0 (logarithmic)",
        log=True,
        ascii=not plot.shows_blocks(sys.stdout),
    )
    return "\n\n".join(
        [drawn, _claims(facts, plan), _compiler(facts), _written(facts), _next_steps()]
    )


def _claims(facts: dict[str, Any], plan: Plan) -> str:
    each = "  ".join(f"{a:.1%}" for a in facts["accuracies"])
    verdict = "holds" if facts["accuracy"] >= plan.claim else "DOES NOT HOLD"
    return (
        f"Held-out accuracy {facts['accuracy']:.2%} (by seed: {each})\n"
        f"Claim: at least {plan.claim:.0%} - {verdict}"
    )


def _compiler(facts: dict[str, Any]) -> str:
    step = facts["step"]
    agrees = "the same costs" if step["agrees"] else "DIFFERENT COSTS"
    lines = [
        *compiler_lines(facts["compiler"], facts["compile seconds"], BATCH),
        f"  {1e6 * step['native seconds']:.0f} us a step; the NumPy reference mode takes "
        f"{1e6 * step['reference seconds']:.0f} us: {step['ratio']:.0f} times as long, {agrees} "
        f"(apart by {step['costs apart']:.0e})",
    ]
    return "\n".join(lines)


def _written(facts: dict[str, Any]) -> str:
    trained = sum(facts["train seconds"])
    return (
        f"Wrote {' and '.join(facts['files'])}\n"
        f"Trained {len(facts['accuracies'])} x {facts['epochs']} epochs in {trained:.1f} s; "
        f"all of it took {facts['seconds']:.1f} s."
    )


def _next_steps() -> str:
    return "\n".join(
        [
            "Try next:",
            "  symgraph info                                this machine, targets, the cache",
            "  SYMGRAPH_SHOW=rewrites,plan symgraph demo    any stage of the compiler, as text",
            "  SYMGRAPH_CPU=x86-64-v2 symgraph demo         the same for an older CPU",
        ]
    )
