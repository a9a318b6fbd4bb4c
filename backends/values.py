"""Saving and loading the values of shared variables: NumPy's .npz and the safetensors format.

Nothing is ever unpickled.

A file is a mapping of names to arrays. `load` checks every name, dtype and shape before it changes
the first variable.

safetensors: 8 bytes little-endian length of a JSON header {name: {"dtype", "shape", "data_offsets":
[begin, end]}}, then the data, C-order, little-endian. Source: the format's specification,
github.com/huggingface/safetensors.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from symgraph.checks import as_argument, brief
from symgraph.dtypes import DType, dtype
from symgraph.errors import ArgumentError, GraphError
from symgraph.expr import Expr
from symgraph.leaves import Shared

HEADER_LIMIT = 100_000_000  # bytes, as the format's own reader has it
_TAGS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
_TAG_OF = {name: tag for tag, name in _TAGS.items()}

Variables = Mapping[str, Shared] | Iterable[Shared]


def save(
    path: str | os.PathLike[str], variables: Variables, metadata: Mapping[str, str] | None = None
) -> None:
    """Write the values of variables to `path` (.safetensors or .npz), atomically.

    variables: shared variables with distinct names, or {name: variable}. metadata: strings
    (safetensors only).
    """
    arrays = {name: w.get_value() for name, w in _named(variables).items()}
    save_arrays(path, arrays, metadata)


def load(path: str | os.PathLike[str], variables: Variables, strict: bool = True) -> list[str]:
    """Give variables the values of a file; the names in the file that no variable took.

    Raises: ArgumentError naming what does not fit (a name that is missing, a dtype, a shape),
    before anything is set; with strict also for names in the file that are not asked for.
    """
    named, arrays = _named(variables), load_arrays(path)
    missing = sorted(set(named) - set(arrays))
    if missing:
        raise ArgumentError(
            f"{os.fspath(path)}: no value for {', '.join(missing)}",
            hint=f"it has: {', '.join(sorted(arrays))}",
        )
    extra = sorted(set(arrays) - set(named))
    if strict and extra:
        raise ArgumentError(
            f"{os.fspath(path)}: values that nothing takes: {', '.join(extra)}",
            hint="strict=False passes over them",
        )
    checked = {
        name: exact(arrays[name], w, f"{os.fspath(path)}: {name}") for name, w in named.items()
    }
    for name, w in named.items():
        w.set_value(checked[name], borrow=True)
    return extra


def save_arrays(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named arrays to `path`, atomically."""
    kind = _kind(path)
    if kind == ".npz" and metadata:
        raise GraphError(
            f"save({os.fspath(path)!r}): .npz has no place for metadata; use .safetensors"
        )
    folder = os.path.dirname(os.fspath(path)) or "."
    # with the permissions of any new file, which those of `tempfile` lack
    temporary = os.path.join(folder, f".{secrets.token_hex(8)}{kind}")
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "no such folder", folder)
    try:
        with open(temporary, "xb") as file:
            if kind == ".npz":
                _write_npz(file, arrays)
            else:
                _write_safetensors(file, arrays, metadata or {})
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def load_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Named arrays of a file.  Raises ArgumentError for one that is damaged."""
    read = _read_npz if _kind(path) == ".npz" else _read_safetensors
    with open(path, "rb") as file:
        return read(file, os.fspath(path))


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of a safetensors file."""
    with open(path, "rb") as file:
        return _header(file, os.fspath(path))[0].get("__metadata__", {})


def _kind(path: str | os.PathLike[str]) -> str:
    kind = os.path.splitext(os.fspath(path))[1]
    if kind not in (".npz", ".safetensors"):
        raise GraphError(f"{os.fspath(path)!r}: expected a name that ends in .npz or .safetensors")
    return kind


def _named(variables: Variables) -> dict[str, Shared]:
    if isinstance(variables, Mapping):
        for name, w in variables.items():
            if not isinstance(name, str):
                raise ArgumentError(f"save/load: expected names of variables, got {brief(name)}")
            _require_shared(w)
        return dict(variables)
    if isinstance(variables, (str, bytes, Expr)) or not isinstance(variables, Iterable):
        raise _unfit(variables)
    found: dict[str, Shared] = {}
    for w in variables:
        _require_shared(w)
        if not w.name:
            raise GraphError(
                "save/load: a shared variable has no name",
                hint="give it one, or pass {name: variable}",
                operands=[w],
            )
        if w.name in found:
            raise GraphError(
                f"save/load: two shared variables are called {w.name!r}",
                hint="pass {name: variable}",
            )
        found[w.name] = w
    return found


def _require_shared(w: Any) -> None:
    if not isinstance(w, Shared):
        raise _unfit(w)


def _unfit(value: Any) -> ArgumentError:
    return ArgumentError(
        f"save/load: expected shared variables, got {brief(value)}",
        hint="pass a list of them, or {name: variable}",
    )


def exact(array: np.ndarray, w: Shared, what: str) -> np.ndarray:
    """The array, if dtype and shape are the variable's: a file is not converted silently."""
    want = w.array_type
    if dtype(array.dtype) is not want.dtype:
        raise ArgumentError(f"{what}: expected {want}, got {dtype(array.dtype)}{list(array.shape)}")
    return as_argument(array, want, what)


# --- npz ---


def _write_npz(file: Any, arrays: Mapping[str, np.ndarray]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as box:
        for name, array in arrays.items():
            with box.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, _storable(array), allow_pickle=False)


def _storable(array: np.ndarray) -> np.ndarray:
    """bfloat16, which the format does not know, as a structured dtype with its name."""
    if array.dtype.kind == "V" and array.dtype == dtype("bfloat16").np:
        return array.view(np.uint16).view([("bfloat16", "<u2")])
    return array


def _read_npz(file: Any, path: str) -> dict[str, np.ndarray]:
    found = {}
    try:
        with zipfile.ZipFile(file) as box:
            for name in box.namelist():
                with box.open(name) as entry:
                    array = np.lib.format.read_array(entry, allow_pickle=False)
                found[name.removesuffix(".npy")] = _restored(array)
    except (
        ValueError,
        KeyError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        MemoryError,  # of a header that promises more than there is
        RuntimeError,  # an encrypted or unknown kind of member
        OSError,  # a member that is said to begin before the file does
    ) as error:
        raise ArgumentError(f"{path}: not a readable .npz file: {error}") from None
    return found


def _restored(array: np.ndarray) -> np.ndarray:
    if array.dtype.names == ("bfloat16",):
        return array.view(np.uint16).view(dtype("bfloat16").np)
    return array


# --- safetensors ---


def _write_safetensors(
    file: Any, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position, parts = 0, []
    # widest elements first, so that every array is aligned in the file
    if "__metadata__" in arrays:
        raise GraphError(
            "save: safetensors keeps the name __metadata__ for itself",
            hint="give the variable another name, or use .npz",
        )
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        data = _little_endian(array)
        header[name] = {
            "dtype": _tag(name, array),
            "shape": list(array.shape),
            "data_offsets": [position, position + data.nbytes],
        }
        position += data.nbytes
        parts.append(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for data in parts:
        file.write(data.reshape(-1).view(np.uint8).data)


def _tag(name: str, array: np.ndarray) -> str:
    tag = _TAG_OF.get(dtype(array.dtype))
    if tag is None:
        raise GraphError(f"save: {name}: safetensors has no {array.dtype}; use .npz")
    return tag


def _little_endian(array: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(array)
    return array if sys.byteorder == "little" else array.byteswap()


def _header(file: Any, path: str) -> tuple[dict[str, Any], int]:
    """The header and the number of data bytes behind it."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
    if not 2 <= length <= min(HEADER_LIMIT, size - 8):
        raise ArgumentError(f"{path}: not a safetensors file")
    try:
        header = json.loads(file.read(length).decode(), object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"{path}: damaged safetensors header: {error}") from None
    if not isinstance(header, dict):
        raise ArgumentError(f"{path}: damaged safetensors header: expected an object")
    return header, size - 8 - length


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _read_safetensors(file: Any, path: str) -> dict[str, np.ndarray]:
    header, size = _header(file, path)
    data = file.read()
    header.pop("__metadata__", None)
    entries = sorted(
        (_entry(path, name, e, size) for name, e in header.items()), key=lambda e: e[3:]
    )
    position = 0
    for name, _, _, begin, end in entries:
        if begin != position:
            raise ArgumentError(f"{path}: {name}: data does not follow the array before it")
        position = end
    if position != size:
        raise ArgumentError(f"{path}: {size - position} bytes of data belong to no array")
    return {name: _array(data[begin:end], d, shape) for name, d, shape, begin, end in entries}


def _entry(
    path: str, name: str, entry: Any, size: int
) -> tuple[str, DType, tuple[int, ...], int, int]:
    """One array's name, dtype, shape and place, checked."""
    try:
        d = dtype(_TAGS[entry["dtype"]])
        shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise ArgumentError(f"{path}: {name}: damaged or unknown entry {entry!r}") from None
    if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
        raise ArgumentError(f"{path}: {name}: sizes and places must be natural numbers")
    count = 1
    for n in shape:
        count *= n
    if end > size:
        raise ArgumentError(f"{path}: {name}: its data ends at byte {end}, the file's at {size}")
    if end - begin != count * d.bytes:
        raise ArgumentError(f"{path}: {name}: {end - begin} bytes for {d}{list(shape)}")
    return name, d, shape, begin, end


def _array(data: bytes, d: DType, shape: tuple[int, ...]) -> np.ndarray:
    array = np.frombuffer(data, d.np)
    if sys.byteorder == "big":
        array = array.byteswap()
    return array.reshape(shape).copy()
