"""Minibatches, shuffles, the two sets of digits, and the IDX reader."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph as sg
from symgraph import nn
from symgraph.nn.data import epoch_order, read_idx


@given(st.integers(0, 200), st.integers(1, 70), st.integers(0, 2**64 - 1), st.integers(0, 9))
def test_every_row_once_with_its_label(rows: int, size: int, seed: int, epoch: int) -> None:
    x, t = np.arange(2 * rows).reshape(rows, 2), np.arange(rows)
    for shuffle in (None, seed):
        batches = list(nn.minibatches((x, t), size, seed=shuffle, epoch=epoch))
        assert [len(b) for _, b in batches] == [
            min(size, rows - start) for start in range(0, rows, size)
        ]
        seen = [int(label) for _, labels in batches for label in labels]
        assert sorted(seen) == list(range(rows)) and (shuffle is not None or seen == sorted(seen))
        for part, labels in batches:
            assert np.array_equal(part[:, 0], 2 * labels)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first = epoch_order(1000, 3, 5)
    assert np.array_equal(first, epoch_order(1000, 3, 5))
    for seed, epoch in ((4, 5), (3, 6)):
        assert not np.array_equal(first, epoch_order(1000, seed, epoch))
    assert epoch_order(8, 0, 0).tolist() == [3, 5, 4, 2, 6, 7, 1, 0]  # the same on every machine


def test_orders_are_evenly_distributed() -> None:
    counts = np.zeros((5, 5))
    for epoch in range(2000):
        counts[np.arange(5), epoch_order(5, 1, epoch)] += 1
    assert np.abs(counts / 2000 - 0.2).max() < 5 * np.sqrt(0.16 / 2000)


def test_wrong_sizes_and_seeds_are_refused() -> None:
    with pytest.raises(sg.ArgumentError, match="expected a size of 1 or more, got 0"):
        list(nn.minibatches((np.ones(3),), 0))
    with pytest.raises(sg.ArgumentError, match=r"equally many rows, got \(3,\), \(4,\)"):
        list(nn.minibatches((np.ones(3), np.ones(4)), 2))
    with pytest.raises(sg.ArgumentError, match="equally many rows, got no array"):
        list(nn.minibatches((), 2))
    with pytest.raises(sg.ArgumentError, match=r"expected a seed from 0 to 2\*\*64 - 1, got -1"):
        epoch_order(3, -1, 0)


def test_digits_are_split_once_and_for_all() -> None:
    pytest.importorskip("sklearn")
    data = nn.digits()
    (x, t), (test_x, test_t) = data.train, data.test
    assert x.shape == (1198, 64) and test_x.shape == (599, 64) and data.shape == (8, 8)
    assert x.dtype == np.float32 and t.dtype == np.int64
    assert x.min() == 0 and x.max() == 1 and set(t) == set(test_t) == set(range(10))
    assert len({row.tobytes() for row in np.concatenate([x, test_x])}) == 1797
    assert np.array_equal(nn.digits().test[1], test_t)


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "\.\[demo\]"'):
        nn.digits()


def test_mnist(data_dir: Path) -> None:
    data = nn.mnist(data_dir / "mnist")
    assert data.train[0].shape == (60000, 784) and data.test[0].shape == (10000, 784)
    assert data.train[1][:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert data.test[0].dtype == np.float32 and data.test[0].max() == 1


def test_mnist_says_what_it_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYMGRAPH_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="name one with SYMGRAPH_DATA"):
        nn.mnist()
    monkeypatch.setenv("SYMGRAPH_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="holds neither train-images-idx3-ubyte.gz nor"):
        nn.mnist()


@pytest.mark.parametrize("name", ["a-idx3-ubyte", "a-idx3-ubyte.gz"])
def test_idx(tmp_path: Path, name: str) -> None:
    path, array = tmp_path / name, np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    content = struct.pack(">HBB3I", 0, 8, 3, 2, 3, 4) + array.tobytes()
    pack = gzip.compress if name.endswith("gz") else bytes
    path.write_bytes(pack(content))
    assert np.array_equal(read_idx(path), array)
    for damaged in (b"", content[:7], content[:-1], b"\1" + content[1:]):
        path.write_bytes(pack(damaged))
        with pytest.raises(sg.ArgumentError, match="idx3-ubyte"):
            read_idx(path)
    path.write_bytes(b"neither")
    with pytest.raises(sg.ArgumentError):
        read_idx(path)
