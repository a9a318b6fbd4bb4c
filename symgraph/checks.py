"""Does a value fit a declared type: the casting rules of arguments and of shared variables' values.

The rules are Theano's, said once:
    an array, NumPy scalar   its dtype must promote to the declared one without change (int32 into
                             float64, float32 into float64); float64 into float32 only with
                             allow_downcast=True
    a Python number          goes into any dtype of its kind or above if it fits (a float into
                             float32 rounds, as NumPy does)
    a list                   is checked by value: every element must be stored exactly, or be a
                             Python float
    allow_downcast           True: any cast of the same kind or wider; False: Python floats are
                             checked like arrays; None: as above
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arraytype import Array
from .dtypes import KINDS, DType, dtype, promote, scalar_dtype
from .errors import ArgumentError, DTypeError


def as_argument(
    value: Any, type: Array, what: str, *, allow_downcast: bool | None = None, copy: bool = False
) -> np.ndarray:
    """`value` as a C-contiguous, aligned, native array of the declared dtype, rank and fixed sizes.

    Raises: ArgumentError naming `what`, what was expected and what came.
    """
    array = _convert(value, type, what, allow_downcast)
    if array.ndim != len(type.shape):
        raise ArgumentError(
            f"{what}: expected rank {len(type.shape)} ({type}), "
            f"got rank {array.ndim} (shape {array.shape})"
        )
    for axis, (declared, size) in enumerate(zip(type.shape, array.shape)):
        if isinstance(declared, int) and declared != size:
            raise ArgumentError(
                f"{what}: expected {type}, got size {size} on axis {axis} (shape {array.shape})"
            )
    array = np.require(array, type.dtype.np, ["C", "A"])
    return (
        array.copy()
        if copy and (array is value or np.may_share_memory(array, np.asarray(value)))
        else array
    )


def _convert(value: Any, type: Array, what: str, allow_downcast: bool | None) -> np.ndarray:
    want = type.dtype
    if (
        isinstance(value, (np.ndarray, np.generic))
        or hasattr(value, "__array_interface__")
        or hasattr(value, "__dlpack__")
    ):
        array = (
            np.asarray(value)
            if not hasattr(value, "__dlpack__") or isinstance(value, np.ndarray)
            else np.from_dlpack(value)
        )
        return _cast(array, want, what, allow_downcast is True)
    if isinstance(value, (bool, int, float, complex)):
        return _from_number(value, want, what, allow_downcast)
    if isinstance(value, (list, tuple)):
        return _from_list(value, want, what, allow_downcast)
    raise ArgumentError(
        f"{what}: expected an array of {type}, got {_kind(value)}",
        hint="pass a NumPy array, a list or a number",
    )


def _cast(array: np.ndarray, want: DType, what: str, downcast: bool) -> np.ndarray:
    if array.dtype == want.np:
        return array
    have = _dtype(array, what)
    if promote(have, want) is want or (downcast and _same_kind(have, want)):
        with np.errstate(all="ignore"):
            return array.astype(want.np)
    raise ArgumentError(
        f"{what}: {have} does not go into {want} without loss",
        hint=f"pass an array of {want}, or allow_downcast=True"
        if _same_kind(have, want)
        else f"convert it: x.astype({str(want)!r})",
    )


def _same_kind(have: DType, want: DType) -> bool:
    rank = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
    return rank[have.kind] <= rank[want.kind]


def _from_number(value: Any, want: DType, what: str, allow_downcast: bool | None) -> np.ndarray:
    have = scalar_dtype(value)
    if KINDS.index(have.kind) > KINDS.index("i" if want.kind == "u" else want.kind):
        raise ArgumentError(f"{what}: a Python {type(value).__name__} does not go into {want}")
    if allow_downcast is False and have.kind == "f" and float(want.np.type(value)) != value:
        raise ArgumentError(f"{what}: {want} cannot hold {value!r} exactly")
    if want.is_integer and not np.iinfo(want.np).min <= value <= np.iinfo(want.np).max:
        raise ArgumentError(f"{what}: {value} does not fit {want}")
    with np.errstate(all="ignore"):
        return np.array(value, want.np)


def _from_list(value: Any, want: DType, what: str, allow_downcast: bool | None) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ArgumentError(f"{what}: the list is not rectangular: {error}") from None
    have = _dtype(array, what) if array.size else want
    if not _same_kind(have, want):
        raise ArgumentError(f"{what}: a list of {have} does not go into {want}")
    with np.errstate(all="ignore"):
        result = array.astype(want.np)
    exact = want.is_float or np.array_equal(result, array)
    if not exact and allow_downcast is not True:
        raise ArgumentError(f"{what}: {want} cannot hold all values of the list")
    return result


def _dtype(array: np.ndarray, what: str) -> DType:
    try:
        return dtype(array.dtype)
    except DTypeError:
        raise ArgumentError(f"{what}: dtype {array.dtype} is not supported") from None


def _kind(value: Any) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"
