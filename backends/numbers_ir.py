"""A number where an argument with one element is declared: a part of the runtime's module.

    ptr symgraph.number(ptr state, ptr object, ptr scalar, i32 code, ptr slot)

is the address of the value of `object`, or null, with no exception set, if Python's rules must be
asked. A NumPy number of exactly the declared type, `scalar`, lies in the object itself; a Python
float or int is stored in `slot` if it goes into the dtype of that code as checks.py says it does:
a float into floats, rounded, an int into floats or where it fits.
"""

from __future__ import annotations

from collections.abc import Iterable

OBJECTS = {"PyFloat_Type": float, "PyLong_Type": int}
FLOATS = {"float32": "float", "float64": "double"}
INTEGERS = {f"{sign}int{bits}": bits for sign in ("", "u") for bits in (8, 16, 32, 64)}
_CODES = {name: i for i, name in enumerate((*FLOATS, *INTEGERS))}


def takes_numbers(dtype: str) -> bool:
    """Whether NumPy's numbers of a dtype are laid out as the text below expects."""
    return dtype != "bfloat16"  # a type of another package's


def code(dtype: str) -> int:
    """What `symgraph.number` calls a dtype; -1 for those that no Python number is stored as."""
    return _CODES.get(dtype, -1)


def numbers_text() -> str:
    """The definitions, with $-names that the runtime's module replaces."""
    floats = "".join(_as_float(name, type) for name, type in FLOATS.items())
    integers = "".join(_as_integer(name, bits) for name, bits in INTEGERS.items())
    return f"""
@PyFloat_Type = external global i8
@PyLong_Type = external global i8
define ptr @symgraph.number(ptr %state, ptr %object, ptr %scalar, i32 %code, ptr %slot) nounwind {{
entry:
  %over = alloca i32
  %ruled = getelementptr i8, ptr %state, i64 $S_numbers
  %numbers = load i64, ptr %ruled
  %asked = icmp eq i64 %numbers, 0
  br i1 %asked, label %no, label %look
look:
  %tp = getelementptr i8, ptr %object, i64 $A_type
  %type = load ptr, ptr %tp
  %same = icmp eq ptr %type, %scalar
  br i1 %same, label %inside, label %python
inside:
  %value = getelementptr i8, ptr %object, i64 $A_value
  ret ptr %value
python:
  %isfloat = icmp eq ptr %type, @PyFloat_Type
  br i1 %isfloat, label %float, label %other
float:
  %d = call double @PyFloat_AsDouble(ptr %object)
  br label %real
other:
  %isint = icmp eq ptr %type, @PyLong_Type
  br i1 %isint, label %int, label %no
int:
  %n = call i64 @PyLong_AsLongLongAndOverflow(ptr %object, ptr %over)
  %o = load i32, ptr %over
  %fits = icmp eq i32 %o, 0
  br i1 %fits, label %whole, label %no
whole:
  switch i32 %code, label %no [ {_cases(FLOATS, "widen")} {_cases(INTEGERS)} ]
widen:
  %w = sitofp i64 %n to double
  br label %real
real:
  %r = phi double [ %d, %float ], [ %w, %widen ]
  switch i32 %code, label %no [ {_cases(FLOATS)} ]
{floats}{integers}stored:
  ret ptr %slot
no:
  ret ptr null
}}
declare double @PyFloat_AsDouble(ptr)
declare i64 @PyLong_AsLongLongAndOverflow(ptr, ptr)
"""


def _cases(names: Iterable[str], label: str = "") -> str:
    return " ".join(f"i32 {code(name)}, label %{label or 'as_' + name}" for name in names)


def _as_float(name: str, type: str) -> str:
    value = "%r" if type == "double" else f"%{name}"
    narrow = "" if type == "double" else f"  {value} = fptrunc double %r to {type}\n"
    return f"as_{name}:\n{narrow}  store {type} {value}, ptr %slot\n  br label %stored\n"


def _as_integer(name: str, bits: int) -> str:
    """Stored if the value comes back; of 64 bits without sign, if it is not negative."""
    if bits == 64:
        value, test = "%n", f"icmp sge i64 %n, {0 if name == 'uint64' else -(2**63)}"
    else:
        value = f"%{name}"
        test = f"icmp eq i64 {value}.back, %n"
    extend = "zext" if name.startswith("u") else "sext"
    narrow = f"""  {value} = trunc i64 %n to i{bits}
  {value}.back = {extend} i{bits} {value} to i64
"""
    return f"""as_{name}:
{narrow if bits < 64 else ""}  %{name}.fits = {test}
  br i1 %{name}.fits, label %put_{name}, label %no
put_{name}:
  store i{bits} {value}, ptr %slot
  br label %stored
"""
