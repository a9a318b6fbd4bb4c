"""Where CPython and NumPy keep what the generated entry reads, checked against live objects.

The generated entry reads an ndarray's fields and a type's flags at fixed offsets. They are the same
in every release so far, but no promise covers them: `layout()` compares each with what the public
interface says of probe objects. If one differs it is None and functions are called through ctypes
instead.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

HEADER = (
    object.__basicsize__
)  # bytes of ob_refcnt and ob_type (more in debug and free-threaded builds)
ALIGNED_C = 0x101  # NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED
_ARRAY_TYPE, _DEFAULT_HANDLER = 2, 306  # slots of NumPy's C-API table; those of functions:
NUMPY_FUNCTIONS = {
    "PyArray_NewFromDescr": 94,
    "PyDataMem_SetHandler": 304,
    "PyDataMem_GetHandler": 305,
}


class Layout(NamedTuple):
    """Byte offsets in an object."""

    type: int
    data: int
    nd: int
    dims: int
    descr: int
    flags: int
    value: int  # in NumPy's numbers

    @classmethod
    def expected(cls) -> Layout:
        """Where they are in every release so far."""
        h = HEADER
        return cls(h - 8, h, h + 8, h + 16, h + 40, h + 48, h)


@functools.cache
def layout() -> Layout | None:
    """The offsets, if every one of them is as expected in this process; else None."""
    with_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    if ctypes.sizeof(ctypes.c_void_p) != 8 or not with_gil:
        return None
    found = Layout.expected()
    array_type = _pointer(_numpy_api() + 8 * _ARRAY_TYPE)
    good = (
        array_type == id(np.ndarray)
        and all(_agrees(found, probe) for probe in _probes())
        and all(_lies_inside(found, number) for number in _numbers())
    )
    return found if good else None


def _probes() -> Iterable[np.ndarray]:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    odd = np.zeros(33, np.uint8)[1:].view(np.float64)
    yield from (base, base[:, ::2], base.T, np.array(1.5), np.zeros((0, 3), np.int8), odd)


def _agrees(found: Layout, probe: np.ndarray) -> bool:
    at = id(probe)
    dims = _pointer(at + found.dims)
    return (
        _pointer(at + found.type) == id(np.ndarray)
        and _pointer(at + found.data) == probe.ctypes.data
        and ctypes.c_int.from_address(at + found.nd).value == probe.ndim
        and all(
            ctypes.c_ssize_t.from_address(dims + 8 * i).value == n
            for i, n in enumerate(probe.shape)
        )
        and _pointer(at + found.descr) == id(probe.dtype)
        and ctypes.c_int.from_address(at + found.flags).value & ALIGNED_C
        == probe.flags.num & ALIGNED_C
    )


def _numbers() -> Iterable[np.generic]:
    for code in "?bBhHiIlLqQefdFD":
        yield np.ones(2, code)[0]
        yield np.zeros(2, code)[0]


def _lies_inside(found: Layout, number: np.generic) -> bool:
    return ctypes.string_at(id(number) + found.value, number.nbytes) == number.tobytes()


def _numpy_api() -> int:
    """Address of NumPy's C-API table."""
    from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

    prototype = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    get = prototype(python_symbol("PyCapsule_GetPointer"))
    return get(_multiarray_umath._ARRAY_API, None)


def numpy_symbol(name: str) -> int:
    """The address of a function of NumPy's C-API, one of NUMPY_FUNCTIONS."""
    return _pointer(_numpy_api() + 8 * NUMPY_FUNCTIONS[name])


def default_handler() -> int:
    """The address of the object that is NumPy's own way to memory for data."""
    return _pointer(_pointer(_numpy_api() + 8 * _DEFAULT_HANDLER))


def _pointer(address: int) -> int:
    return ctypes.c_void_p.from_address(address).value or 0


def python_symbol(name: str) -> int:
    """The address of a function that CPython exports."""
    return ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0
