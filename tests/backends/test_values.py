"""Saving and loading: both formats, every dtype, hostile files, atomicity."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph as sg
from symgraph import dtypes
from symgraph.backends import values

KINDS = [".npz", ".safetensors"]


def model() -> list[sg.Shared]:
    random = np.random.default_rng(0)
    return [
        sg.shared(random.standard_normal((3, 4)).astype(np.float32), "layer/w"),
        sg.shared(np.array(7), "step"),
        sg.shared(np.zeros((0, 2)), "file"),
        sg.shared(np.array([True, False]), "größe"),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_values_come_back(kind: str, tmp_path: Path) -> None:
    path, saved = tmp_path / f"m{kind}", model()
    sg.save(path, saved)
    fresh = model()
    for w in fresh:
        w.set_value(np.zeros_like(w.get_value()))
    assert sg.load(path, fresh) == []
    for a, b in zip(saved, fresh):
        assert (
            a.get_value().tobytes() == b.get_value().tobytes()
            and a.get_value().shape == b.get_value().shape
        )
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [d for d in dtypes.every if d.kind != "c"])
def test_every_dtype(kind: str, dtype: dtypes.DType, tmp_path: Path) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype.np)
    values.save_arrays(tmp_path / f"m{kind}", {"a": array, "b": array[0, 0], "c": array.T})
    got = values.load_arrays(tmp_path / f"m{kind}")
    assert got["a"].dtype == array.dtype and got["a"].tobytes() == array.tobytes()
    assert got["b"].shape == () and np.array_equal(got["c"], array.T)


def test_the_format_is_the_common_one(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    arrays = {w.name: w.get_value() for w in model()}
    values.save_arrays(tmp_path / "ours.safetensors", arrays, {"by": "symgraph"})
    theirs = library.load_file(tmp_path / "ours.safetensors")
    library.save_file(arrays, tmp_path / "theirs.safetensors")
    ours = values.load_arrays(tmp_path / "theirs.safetensors")
    for name, a in arrays.items():
        assert theirs[name].tobytes() == ours[name].tobytes() == a.tobytes()
    assert values.read_metadata(tmp_path / "ours.safetensors") == {"by": "symgraph"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_changes_nothing(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"m{kind}"
    values.save_arrays(path, {"a": np.ones(2, np.float32), "b": np.ones(2)})
    a, b, c = (sg.shared(np.zeros(2, np.float32), n) for n in "abc")
    cases: list[tuple[Any, str]] = [
        ([a, c], "no value for c\n  hint: it has: a, b"),
        ([a], "values that nothing takes: b\n  hint: strict=False passes over them"),
        ([a, b], "b: expected float32[2], got float64[2]"),
        (
            {"a": sg.shared(np.zeros(3, np.float32)), "b": sg.shared(np.zeros(2))},
            "a: expected float32[3], got size 2 on axis 0 (shape (2,))",
        ),
    ]
    for variables, text in cases:
        with pytest.raises(sg.ArgumentError) as error:
            values.load(path, variables)
        assert str(error.value) == f"{path}: {text}"
        assert a.get_value().tolist() == [0, 0]
    assert values.load(path, [a], strict=False) == ["b"] and a.get_value().tolist() == [1, 1]


def test_names_must_be_distinct() -> None:
    w = sg.shared(1.0)
    with pytest.raises(sg.GraphError, match="has no name"):
        sg.save("m.npz", [w])
    with pytest.raises(sg.GraphError, match="two shared variables are called 'w'"):
        values.save("m.npz", [sg.shared(1.0, "w"), sg.shared(2.0, "w")])
    with pytest.raises(sg.GraphError, match=r"ends in .npz or .safetensors"):
        values.save("m.pkl", {"w": w})


class Bomb:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("a file was unpickled",))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", a=np.array([Bomb()], dtype=object))
    (tmp_path / "n.npz").write_bytes(pickle.dumps(Bomb()))
    np.save(tmp_path / "o.npy", np.ones(2))
    (tmp_path / "o.npy").rename(tmp_path / "o.npz")
    for name in ("m.npz", "n.npz", "o.npz"):
        with pytest.raises(sg.ArgumentError, match="not a readable .npz file"):
            values.load_arrays(tmp_path / name)


def header(entries: Any, data: bytes = b"") -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HOSTILE = {
    "empty": b"",
    "short": b"\x01\0\0",
    "huge header": struct.pack("<Q", 2**63) + b"{}",
    "header beyond the file": struct.pack("<Q", 100) + b"{}",
    "no JSON": header(b"{{{{"),
    "no UTF-8": header(b'{"\xff": 1}'),
    "a list": header([1, 2]),
    "deep": header(b"[" * 100_000),
    "no entry": header({"a": 1}),
    "unknown dtype": header({"a": ENTRY | {"dtype": "F99"}}, bytes(8)),
    "dtype a list": header({"a": ENTRY | {"dtype": []}}, bytes(8)),
    "negative": header({"a": ENTRY | {"shape": [-2]}}, bytes(8)),
    "a float size": header({"a": ENTRY | {"shape": [2.0]}}, bytes(8)),
    "a true size": header({"a": ENTRY | {"shape": [True, 2]}}, bytes(8)),
    "overflow": header({"a": ENTRY | {"shape": [2**40, 2**40]}}, bytes(8)),
    "outside": header({"a": ENTRY}, bytes(4)),
    "backwards": header({"a": ENTRY | {"data_offsets": [8, 0]}}, bytes(8)),
    "overlapping": header({"a": ENTRY, "b": ENTRY}, bytes(8)),
    "a hole": header({"a": ENTRY | {"data_offsets": [4, 12]}}, bytes(12)),
    "data left": header({"a": ENTRY}, bytes(12)),
    "twins": header(b'{"a": 1, "a": 2}'),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(HOSTILE[case])
    with pytest.raises(sg.ArgumentError):
        values.load_arrays(path)


@given(st.sampled_from(KINDS), st.binary(max_size=40), st.integers(0, 800))
def test_mutated_files_load_or_are_refused(kind: str, noise: bytes, at: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"m{kind}"
        values.save_arrays(path, {"a": np.arange(4, dtype=np.int16), "b": np.ones((2, 2))})
        data = bytearray(path.read_bytes())
        data[at : at + len(noise)] = noise
        path.write_bytes(data)
        try:
            values.load_arrays(path)
        except sg.ArgumentError:
            pass


def test_every_byte_of_a_directory_may_be_wrong(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    values.save_arrays(path, {"a": np.arange(3, dtype=np.int8)})
    data = path.read_bytes()
    for at in range(data.index(b"PK\x01\x02"), len(data)):
        for wrong in (0x00, 0x7F, 0xFF):
            path.write_bytes(data[:at] + bytes([wrong]) + data[at + 1 :])
            try:
                values.load_arrays(path)
            except sg.ArgumentError as error:
                assert "not a readable .npz file" in str(error)
    with pytest.raises(FileNotFoundError):
        values.load_arrays(tmp_path / "none.npz")


def test_a_name_that_the_format_keeps_for_itself(tmp_path: Path) -> None:
    array = {"__metadata__": np.ones(2)}
    with pytest.raises(sg.GraphError, match="safetensors keeps the name __metadata__ for itself"):
        values.save_arrays(tmp_path / "m.safetensors", array)
    assert not list(tmp_path.iterdir())
    values.save_arrays(tmp_path / "m.npz", array)
    assert values.load_arrays(tmp_path / "m.npz")["__metadata__"].tolist() == [1, 1]


def test_the_folder_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        values.save_arrays(tmp_path / "none" / "m.npz", {"a": np.ones(2)})
    assert error.value.filename == str(tmp_path / "none")


def test_a_saved_file_can_be_read_by_whom_other_files_can(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"")
    values.save_arrays(tmp_path / "m.npz", {"a": np.ones(2)})
    assert (tmp_path / "m.npz").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_failing_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    values.save_arrays(path, {"a": np.ones(2)})
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(values.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        values.save_arrays(path, {"a": np.zeros(5)})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
