"""Checkpoints: everything that decides how training goes on, in one .npz or .safetensors file.

Parameters, state of the update rule and states of random streams are shared variables; beside them
there are the number of epochs made, the seed of the shuffle (which with the epoch decides every
order), and the history. Files are written atomically and read without unpickling anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from symgraph.errors import ArgumentError
from symgraph.leaves import Shared

from ..backends.values import exact, load_arrays, save_arrays
from .history import History

_VARIABLE, _HISTORY = "variable/", "history/"
_EPOCH, _SEED = "training/epoch", "training/seed"


class Progressed(NamedTuple):
    """How far training has come, beside the values of variables."""

    epoch: int
    seed: int
    history: History


def unique_names(variables: Iterable[Shared]) -> dict[str, Shared]:
    """The variables by their labels; the second of a label is called "label.2", and so on."""
    named: dict[str, Shared] = {}
    for w in dict.fromkeys(variables):
        name, number = w.label, 2
        while name in named:
            name, number = f"{w.label}.{number}", number + 1
        named[name] = w
    return named


def save(
    path: str | os.PathLike[str], variables: Mapping[str, Shared], progressed: Progressed
) -> None:
    """Write a checkpoint; a reader finds the old file or the new one, never a part."""
    arrays = {_VARIABLE + name: w.get_value() for name, w in variables.items()}
    arrays[_EPOCH] = np.array(progressed.epoch, np.int64)
    arrays[_SEED] = np.array(progressed.seed, np.uint64)
    for name, column in progressed.history.to_arrays().items():
        arrays[_HISTORY + name] = column
    save_arrays(path, arrays)


def load(path: str | os.PathLike[str], variables: Mapping[str, Shared]) -> Progressed:
    """Give the variables their values from a checkpoint, all of them or, if one does not fit, none.

    Raises: ArgumentError naming what is missing, left over, or of another type.
    """
    where, arrays = os.fspath(path), load_arrays(path)
    wanted = {_VARIABLE + name for name in variables} | {_EPOCH, _SEED}
    found = {name for name in arrays if not name.startswith(_HISTORY)}
    if wanted != found:
        lines = [f"missing: {', '.join(sorted(wanted - found))}"] if wanted - found else []
        lines += [f"left over: {', '.join(sorted(found - wanted))}"] if found - wanted else []
        raise ArgumentError(f"{where}: not a checkpoint of this training: {'; '.join(lines)}")
    values = {
        name: exact(arrays[_VARIABLE + name], w, f"{where}: {name}")
        for name, w in variables.items()
    }
    history = {k.removeprefix(_HISTORY): a for k, a in arrays.items() if k.startswith(_HISTORY)}
    for name, w in variables.items():
        w.set_value(values[name], borrow=True)
    return Progressed(int(arrays[_EPOCH]), int(arrays[_SEED]), History.from_arrays(history))
