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
    value: Any,
    type: Array,
    what: str,
    *,
    allow_downcast: bool | None = None,
    copy: bool = False,
    option: str | None = None,
) -> np.ndarray:
    """`value` as a C-contiguous, aligned, native array of the declared dtype, rank and fixed sizes.

    option: how the user may ask for downcasts, for the hint.
    Raises: ArgumentError naming `what`, what was expected and what came.
    """
    array = _convert(value, type, what, allow_downcast, option)
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


def is_masked(value: Any) -> bool:
    """Whether elements of an array are marked as missing: their numbers mean nothing."""
    mask = getattr(value, "mask", None) if isinstance(value, np.ndarray) else None
    return mask is not None and bool(np.any(mask))


def _convert(
    value: Any, type: Array, what: str, allow_downcast: bool | None, option: str | None
) -> np.ndarray:
    if isinstance(value, (bool, int, float, complex)) and not isinstance(value, np.generic):
        return _from_number(value, type.dtype, what, allow_downcast)
    if isinstance(value, (list, tuple)):
        return _from_list(value, type, what, allow_downcast)
    array = _as_array(value, type, what)
    if is_masked(value):
        raise ArgumentError(
            f"{what}: the array has masked elements", hint="give them a value: x.filled(...)"
        )
    return _cast(array, type, what, allow_downcast is True, option)


def _as_array(value: Any, type: Array, what: str) -> np.ndarray:
    """An array, a NumPy scalar or what exports its memory, without a copy."""
    try:
        if isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "__array_interface__"):
            return np.asarray(value)
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
    except (TypeError, ValueError, BufferError, RuntimeError) as error:
        raise ArgumentError(f"{what}: {kind_of(value)} gives no array: {error}") from None
    raise ArgumentError(
        f"{what}: expected an array of {type}, got {kind_of(value)}",
        hint="pass a NumPy array, a list or a number",
    )


def _cast(
    array: np.ndarray, type: Array, what: str, downcast: bool, option: str | None
) -> np.ndarray:
    want = type.dtype
    if array.dtype == want.np:
        return array
    have = _dtype(array.dtype, type, what)
    if promote(have, want) is want or (downcast and _same_kind(have, want)):
        with np.errstate(all="ignore"):
            return array.astype(want.np)
    instead = f"it as .astype({str(want)!r})" if have.kind != "c" else "its .real part"
    more = f", or {option}" if option and not downcast and _same_kind(have, want) else ""
    raise ArgumentError(
        f"{what}: {have} does not go into {want} without loss", hint=f"pass {instead}{more}"
    )


def _same_kind(have: DType, want: DType) -> bool:
    rank = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
    return rank[have.kind] <= rank[want.kind]


def _from_number(value: Any, want: DType, what: str, allow_downcast: bool | None) -> np.ndarray:
    have = scalar_dtype(value)
    if KINDS.index(have.kind) > KINDS.index("i" if want.kind == "u" else want.kind):
        raise ArgumentError(
            f"{what}: expected {want}, got the Python {type(value).__name__} {brief(value)}"
        )
    try:
        with np.errstate(all="ignore"):
            array = np.array(value, want.np)
    except OverflowError:
        raise ArgumentError(f"{what}: {brief(value)} does not fit {want}") from None
    if allow_downcast is False and have.kind == "f" and float(array) != value:
        raise ArgumentError(f"{what}: {want} cannot hold {value!r} exactly")
    return array


def _from_list(value: Any, type: Array, what: str, allow_downcast: bool | None) -> np.ndarray:
    want = type.dtype
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ArgumentError(f"{what}: {no_array(value, error)}") from None
    if array.dtype.kind == "O" and all(isinstance(x, int) for x in array.flat):
        raise ArgumentError(f"{what}: {want} cannot hold all values of the list")
    have = _dtype(array.dtype, type, what) if array.size else want
    if not _same_kind(have, want):
        raise ArgumentError(
            f"{what}: expected {want}, got a list of {have}",
            hint=f"pass np.array(..., {str(want)!r})",
        )
    with np.errstate(all="ignore"):
        result = array.astype(want.np)
        exact = have.is_inexact or np.array_equal(result.astype(array.dtype), array)
    if not exact and allow_downcast is not True:
        raise ArgumentError(f"{what}: {want} cannot hold all values of the list")
    return result


def _dtype(found: np.dtype, type: Array, what: str) -> DType:
    try:
        return dtype(found)
    except DTypeError:
        raise ArgumentError(f"{what}: expected {type}, got elements of dtype {found}") from None


def kind_of(value: Any) -> str:
    """What a value that is no array is called in a message."""
    return "None" if value is None else f"an object of type {type(value).__name__}"


def brief(value: Any) -> str:
    """A value's text in a message, cut where it is long."""
    if isinstance(value, int) and not -(10**40) < value < 10**40:
        return "an integer of more than 40 digits"
    text = repr(value)
    return text if len(text) <= 60 else text[:56] + " ..."


def no_array(value: Any, error: Exception) -> str:
    """Why NumPy makes no array of a value."""
    if "inhomogeneous" in str(error):
        return f"{brief(value)} is not rectangular"
    return f"{brief(value)} gives no array: {getattr(error, 'message', error)}"
