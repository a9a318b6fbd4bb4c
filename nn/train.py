"""The training loop: epochs of shuffled minibatches, validation, early stop, checkpoints."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from symgraph.errors import ArgumentError, GraphError
from symgraph.expr import Expr, user_site
from symgraph.leaves import Shared

from ..backends.function import function
from . import checkpoint
from .data import minibatches, row_count
from .history import History, Stop
from .progress import Progress
from .updates import Pairs


class Trainer:
    """Compiles a training step and a measurement, and runs them over data.

        trainer = Trainer([x, t], cost, Adam(1e-3).minimize(cost, model.parameters()),
                          metrics={"accuracy": accuracy(model(x, deterministic=True), t)})
        history = trainer.fit((X, T), epochs=20, validation=(X_test, T_test))

    inputs: of one minibatch, rows along axis 0. cost: a scalar, the mean over these rows. updates:
    pairs (shared, new value). metrics: {name: scalar}, each a mean over rows too.
    seed: of the shuffle. options: of `function`, such as mode= and optimize=.

    step: the compiled function of one minibatch: one call computes cost, gradients and new values.
    """

    def __init__(
        self,
        inputs: Sequence[Expr],
        cost: Expr,
        updates: Pairs,
        metrics: Mapping[str, Expr] | None = None,
        *,
        seed: int = 0,
        **options: Any,
    ):
        for name, value in {"cost": cost, **(metrics or {})}.items():
            if value.ndim:
                raise GraphError(
                    f"Trainer: {name} must be a scalar, got {value.type}",
                    site=user_site(),
                    hint="take its mean()",
                )
        self.seed = seed
        self.step = function(inputs, cost, updates=updates, name="train_step", **options)
        self.measure = (
            function(inputs, dict(metrics), name="measure", on_unused_input="ignore", **options)
            if metrics
            else None
        )
        self.epoch = 0  # epochs made so far
        self.seconds = 0.0  # spent in them
        self.history = History()

    def fit(
        self,
        data: Sequence[np.ndarray],
        *,
        epochs: int,
        batch: int = 64,
        validation: Sequence[np.ndarray] | None = None,
        stop: Stop | None = None,
        save_to: str | os.PathLike[str] | None = None,
        progress: bool = True,
        each: Callable[[History], None] | None = None,
    ) -> History:
        """Train until `epochs` have been made in all (those of a loaded checkpoint count).

        data, validation: one array for each input. Each epoch adds a row to the history: "cost",
        the mean over the epoch's minibatches, and "val_" + name for each metric on the validation
        data. stop: ends training when it says so of the history. save_to: a checkpoint is written
        there after each epoch. progress: False shows no progress bar. each: is called after each
        epoch, to print its row for instance.
        """
        rows = row_count(data)
        if not rows:
            raise ArgumentError("fit: there are no rows to train on")
        if validation is not None and self.measure is None:
            raise ArgumentError("fit: validation needs metrics", hint="Trainer(..., metrics={...})")
        steps = -(-rows // batch) * max(0, epochs - self.epoch)
        with Progress(steps, wanted=progress) as bar:
            while self.epoch < epochs and not (stop and self.history.rows and stop(self.history)):
                began = time.perf_counter()
                cost = self._epoch(data, batch, bar, f"epoch {self.epoch + 1}/{epochs}")
                measured = self.evaluate(validation) if validation is not None else {}
                self.seconds += time.perf_counter() - began
                self.epoch += 1
                self.history.rows.append(
                    {"cost": cost, **{f"val_{k}": v for k, v in measured.items()}}
                )
                if save_to is not None:
                    self.save(save_to)
                if each is not None:
                    bar.clear()
                    each(self.history)
        return self.history

    def _epoch(self, data: Sequence[np.ndarray], batch: int, bar: Progress, label: str) -> float:
        """One pass over the data; the mean cost."""
        total, rows = 0.0, 0
        for arrays in minibatches(data, batch, seed=self.seed, epoch=self.epoch):
            cost, count = float(self.step(*arrays)), len(arrays[0])
            total, rows = total + cost * count, rows + count
            if bar.enabled:
                bar.advance(f"{label}  cost {total / rows:.4g}")
        return total / rows

    def evaluate(self, data: Sequence[np.ndarray], batch: int = 1024) -> dict[str, float]:
        """The metrics on data, `batch` rows at a time."""
        if self.measure is None:
            raise ArgumentError(
                "evaluate: there are no metrics", hint="Trainer(..., metrics={...})"
            )
        rows = row_count(data)
        if not rows:
            raise ArgumentError("evaluate: there are no rows")
        totals: dict[str, float] = {}
        for arrays in minibatches(data, batch):
            share = len(arrays[0]) / rows
            for name, value in self.measure(*arrays).items():
                totals[name] = totals.get(name, 0.0) + float(value) * share
        return totals

    def variables(self) -> dict[str, Shared]:
        """Everything that a checkpoint keeps, by name.

        Parameters, state of the update rule, states of random streams.
        """
        return checkpoint.unique_names(self.step.shared)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint (.npz or .safetensors), atomically."""
        progressed = checkpoint.Progressed(self.epoch, self.seed, self.history)
        checkpoint.save(path, self.variables(), progressed)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint: what follows is bit for bit what would have followed."""
        self.epoch, self.seed, self.history = checkpoint.load(path, self.variables())
