"""Dtypes and promotion: names as strings with facts attached, NumPy 2's rules, float32 kept.

Promotion: within a kind as NumPy 2; an integer with a float takes the float's dtype; Python scalars
are weak (they take the array's dtype unless their kind is higher); the default float is float32 and
is one explicit setting.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import DTypeError
from .sites import user_site

KINDS = "biufc"  # bool, int, unsigned, float, complex


class DType(str):
    """A dtype: a string ("float32") that also knows its kind, its size and its NumPy twin.

    kind: one of "biufc".
    """

    kind: str
    bits: int
    _np: np.dtype | None
    __slots__ = ("kind", "bits", "_np")

    def __new__(cls, name: str, kind: str, bits: int) -> DType:
        self = super().__new__(cls, name)
        self.kind, self.bits, self._np = kind, bits, None
        return self

    @property
    def np(self) -> np.dtype:
        """The NumPy dtype (bfloat16 loads ml_dtypes)."""
        if self._np is None:
            if self == "bfloat16":
                import ml_dtypes

                self._np = np.dtype(ml_dtypes.bfloat16)
            else:
                self._np = np.dtype(str(self))
        return self._np

    @property
    def bytes(self) -> int:
        return max(self.bits // 8, 1)

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_integer(self) -> bool:
        return self.kind in "iu"

    @property
    def is_signed(self) -> bool:
        return self.kind == "i"

    @property
    def is_inexact(self) -> bool:
        return self.kind in "fc"

    def __reduce__(self) -> Any:
        return (dtype, (str(self),))


bool_ = DType("bool", "b", 1)
int8, int16, int32, int64 = (DType(f"int{n}", "i", n) for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (DType(f"uint{n}", "u", n) for n in (8, 16, 32, 64))
float16, float32, float64 = (DType(f"float{n}", "f", n) for n in (16, 32, 64))
bfloat16 = DType("bfloat16", "f", 16)
complex64, complex128 = (DType(f"complex{n}", "c", n) for n in (64, 128))

signed = (int8, int16, int32, int64)
unsigned = (uint8, uint16, uint32, uint64)
integers = signed + unsigned
floats = (float16, bfloat16, float32, float64)
complexes = (complex64, complex128)
inexact = floats + complexes
reals = integers + floats
numeric = integers + floats + complexes
every = (bool_, *numeric)

_BY_NAME: dict[str, DType] = {str(d): d for d in every} | {
    "bool_": bool_,
    "float": float64,
    "int": int64,
    "complex": complex128,
}
_PYTHON = {bool: bool_, int: int64, float: float64, complex: complex128}

_default_float = float32


def default_float() -> DType:
    """The dtype of floats whose dtype nothing else decides (float32 unless set)."""
    return _default_float


def set_default_float(name: Any) -> None:
    """Set the default float: "float16", "bfloat16", "float32" or "float64".

    It is read when an expression is built.
    """
    global _default_float
    d = dtype(name)
    if not d.is_float:
        raise DTypeError(f"set_default_float({name!r}): expected a float dtype", site=user_site())
    _default_float = d


def dtype(name: Any) -> DType:
    """The DType of a name, a NumPy dtype, a Python type, or "default" for the default float.

    Raises: DTypeError for anything else (object, string, datetime, long double, big-endian is read
    as native).
    """
    if type(name) is DType:
        return name
    if isinstance(name, str):
        if name in ("default", "floatX"):
            return _default_float
        found = _BY_NAME.get(name)
        if found is not None:
            return found
    if isinstance(name, type) and name in _PYTHON:
        return _PYTHON[name]
    try:
        found = None if name is None else _BY_NAME.get(np.dtype(name).name)
    except (TypeError, ValueError):
        found = None
    if found is None:
        shown = str(name) if isinstance(name, np.dtype) else getattr(name, "__name__", repr(name))
        raise DTypeError(
            f"dtype {shown} is not supported",
            site=user_site(),
            hint="one of " + ", ".join(every),
        )
    return found


_SIGNED = {d.bits: d for d in signed}
_UNSIGNED = {d.bits: d for d in unsigned}
_COMPLEX = {32: complex64, 64: complex128, 16: complex64}


def promote(*dtypes: Any) -> DType:
    """The common dtype of strong operands, one or more; order does not matter."""
    if not dtypes:
        raise DTypeError("promote: expected at least one dtype", site=user_site())
    result = dtype(dtypes[0])
    for d in dtypes[1:]:
        result = _promote(result, dtype(d))
    return result


def _promote(a: DType, b: DType) -> DType:
    if a is b:
        return a
    if KINDS.index(a.kind) > KINDS.index(b.kind):
        a, b = b, a
    if a.kind == "b":
        return b
    if a.kind == b.kind:
        if a.bits == b.bits:  # float16 with bfloat16: neither holds the other
            return float32
        return a if a.bits > b.bits else b
    if a.kind in "iu":
        if b.kind == "u":
            if a.bits > b.bits:
                return a
            return _SIGNED[b.bits * 2] if b.bits < 64 else float64  # NumPy's rule
        return b
    return complex128 if a.bits == 64 or b.bits == 128 else complex64


def weak(value: Any, others: DType) -> DType:
    """The dtype of a Python scalar beside an array: the array's own unless its kind is higher."""
    alone = scalar_dtype(value)
    theirs = KINDS.index("i" if others.kind == "u" else others.kind)
    if KINDS.index(alone.kind) <= theirs:
        return others
    return _COMPLEX[others.bits] if alone.kind == "c" and others.is_float else alone


def scalar_dtype(value: Any) -> DType:
    """The dtype of a Python scalar that stands alone: bool, int64, the default float, complex."""
    if isinstance(value, bool):
        return bool_
    if isinstance(value, int):
        return int64
    if isinstance(value, float):
        return _default_float
    return complex64 if _default_float.bits <= 32 else complex128


def to_inexact(d: DType) -> DType:
    """The dtype in which a float-only function of `d` is computed.

    Floats and complexes keep theirs, the rest take the default float.
    """
    return d if d.is_inexact else _default_float
