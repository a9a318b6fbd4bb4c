"""`Native`: the base type of compiled functions, called by vectorcall without a Python frame.

An instance begins with two words that only native code reads: the address of its entry and the
address of its state block. Its type is made with PyType_FromSpec, the documented way to a
`__vectorcalloffset__`.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from .layout_check import HEADER, python_symbol

ENTRY, STATE = HEADER, HEADER + 8  # byte offsets in an instance
_HAVE_VECTORCALL, _BASETYPE = 1 << 11, 1 << 10
_TP_CALL, _TP_DOC, _TP_MEMBERS = 50, 56, 72  # slot numbers of typeslots.h, part of the stable ABI
_PYSSIZET, _READONLY = 19, 1
_TP_FLAGS = HEADER + 8 + 18 * 8  # offset of tp_flags in a type object


class _Member(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("offset", ctypes.c_ssize_t),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


class _Slot(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_int), ("function", ctypes.c_void_p)]


class _Spec(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("basicsize", ctypes.c_int),
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(_Slot)),
    ]


def _make() -> tuple[type, Any]:
    """The type, and the C structures it refers to."""
    offset = _Member(b"__vectorcalloffset__", _PYSSIZET, ENTRY, _READONLY, None)
    members = (_Member * 2)(offset, _Member())
    doc = ctypes.c_char_p(b"A callable whose calls go straight to generated code.")
    slots = (_Slot * 4)(
        _Slot(_TP_CALL, python_symbol("PyVectorcall_Call")),
        _Slot(_TP_DOC, ctypes.cast(doc, ctypes.c_void_p)),
        _Slot(_TP_MEMBERS, ctypes.cast(members, ctypes.c_void_p)),
        _Slot(0, None),
    )
    spec = _Spec(
        b"symgraph.backends.native_type.Native", HEADER + 16, 0, _BASETYPE | _HAVE_VECTORCALL, slots
    )
    prototype = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.POINTER(_Spec))
    make = prototype(python_symbol("PyType_FromSpec"))
    return make(ctypes.byref(spec)), (spec, slots, members, doc)


Native, _kept = _make()


def direct(cls: type) -> type:
    """Let calls of `cls`'s instances go straight to their entry (a class decorator).

    Before Python 3.12 a class written in Python does not inherit the flag that says so; calls work
    without it, through a tuple of arguments.
    """
    flags = ctypes.c_ulong.from_address(id(cls) + _TP_FLAGS)
    if sys.version_info < (3, 12) and flags.value == cls.__flags__:
        flags.value |= _HAVE_VECTORCALL
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(cls))
    return cls


def attach(instance: Any, entry: int, state: int) -> None:
    """Give an instance its entry and its state block; both must outlive it."""
    ctypes.c_void_p.from_address(id(instance) + STATE).value = state
    ctypes.c_void_p.from_address(id(instance) + ENTRY).value = entry
