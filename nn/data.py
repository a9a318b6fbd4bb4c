"""Data: arrays by the minibatch in a seeded order, and two sets of handwritten digits."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from symgraph.errors import ArgumentError
from symgraph.ops.random import pair, random_words

Arrays = tuple[np.ndarray, ...]
_SHUFFLE_STREAM = 0


class Dataset(NamedTuple):
    """Training and test rows: (inputs float32[n, features], labels int64[n]) each.

    shape: of one input before it was flattened.
    """

    name: str
    train: Arrays
    test: Arrays
    classes: int
    shape: tuple[int, ...]


def row_count(arrays: Sequence[np.ndarray]) -> int:
    """How many rows the arrays have, all the same.  Raises ArgumentError."""
    shapes = [np.shape(a) for a in arrays]
    if not shapes or any(not s or s[0] != shapes[0][0] for s in shapes):
        shown = ", ".join(map(str, shapes)) or "no array"
        raise ArgumentError(f"data: expected arrays with equally many rows, got {shown}")
    return shapes[0][0]


def epoch_order(rows: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the rows in an epoch: a permutation that seed and epoch decide, int64[rows].

    It is computed from the Philox numbers of the state (seed, epoch) alone, so nothing has to be
    kept to shuffle the next epoch as before, on any machine.
    """
    if not (0 <= seed < 2**64 and epoch >= 0):
        raise ArgumentError(f"shuffle: expected a seed from 0 to 2**64 - 1, got {seed}")
    state = np.array([seed, epoch], np.uint64)
    return np.argsort(pair(random_words(state, _SHUFFLE_STREAM, 2 * rows)), kind="stable")


def minibatches(
    arrays: Sequence[np.ndarray], size: int, *, seed: int | None = None, epoch: int = 0
) -> Iterator[Arrays]:
    """All rows once, `size` at a time, the last time what is left.

    seed: shuffles them, differently in each epoch; None takes them in order, without copying.
    """
    arrays = [np.asarray(a) for a in arrays]
    rows = row_count(arrays)
    if size < 1:
        raise ArgumentError(f"minibatches: expected a size of 1 or more, got {size}")
    if seed is None:
        for start in range(0, rows, size):
            yield tuple(a[start : start + size] for a in arrays)
        return
    order = epoch_order(rows, seed, epoch)
    for start in range(0, rows, size):
        chosen = order[start : start + size]
        yield tuple(a.take(chosen, axis=0) for a in arrays)


def digits() -> Dataset:
    """scikit-learn's 1797 digits of 8 x 8 pixels from 0 to 1; a fixed third of them is for testing.

    Raises: ModuleNotFoundError that names what to install.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'the digits come with scikit-learn ({error}): pip install ".[demo]"', name=error.name
        ) from None
    pixels, labels = load_digits(return_X_y=True)
    x, t = (pixels / 16).astype(np.float32), labels.astype(np.int64)
    order = epoch_order(len(x), 0, 0)
    test, train = order[: len(x) // 3], order[len(x) // 3 :]
    return Dataset("digits", (x[train], t[train]), (x[test], t[test]), 10, (8, 8))


def mnist(folder: str | os.PathLike[str] | None = None) -> Dataset:
    """MNIST: 60,000 + 10,000 digits of 28 x 28 pixels from 0 to 1.

    folder: holds the four IDX files, gzipped or not; by default $SYMGRAPH_DATA/mnist.
    Raises: FileNotFoundError, ArgumentError for a damaged file.
    Source: LeCun, Cortes, Burges, the MNIST database.
    """
    if folder is None:
        root = os.environ.get("SYMGRAPH_DATA")
        if not root:
            raise FileNotFoundError("mnist: give a folder, or name one with SYMGRAPH_DATA")
        folder = Path(root) / "mnist"
    parts = []
    for part in ("train", "t10k"):
        images = read_idx(_find(Path(folder), f"{part}-images-idx3-ubyte"))
        labels = read_idx(_find(Path(folder), f"{part}-labels-idx1-ubyte"))
        x = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
        parts.append((x, labels.astype(np.int64)))
    return Dataset("mnist", parts[0], parts[1], 10, (28, 28))


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise FileNotFoundError(f"mnist: {folder} holds neither {name}.gz nor {name}")


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """An array of bytes in the IDX format, gzipped if the name ends in .gz.

    Two zero bytes, 8 (unsigned bytes), the rank; the sizes as big-endian 32-bit numbers; the data.
    """
    opened = gzip.open if os.fspath(path).endswith(".gz") else open
    try:
        with opened(path, "rb") as file:
            content = file.read()
        zero, kind, rank = struct.unpack(">HBB", content[:4])
        sizes = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
        if zero or kind != 8:
            raise ValueError("not an IDX file of bytes")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(sizes)
    except (ValueError, struct.error, EOFError, gzip.BadGzipFile) as error:
        raise ArgumentError(f"{os.fspath(path)}: {error}") from None
