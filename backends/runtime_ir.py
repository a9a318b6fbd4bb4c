"""The native half of the runtime, one LLVM module of several parts, and what all of them need.

It is compiled once (and cached on disk); every function's entry imports it by name. All addresses
of Python functions and objects are imported symbols, so that the object does not depend on the
process. A part is text with $-names, which `runtime_text` replaces; what it declares is imported,
what it defines and does not call internal is exported.
"""

from __future__ import annotations

import time

from . import callbacks_ir, cells_ir, numbers_ir, pool_ir, recycling_ir
from .blocks import ARENA_HEADER, ARENAS, CELL, FIELDS, POLL_BUDGET, STATE
from .layout_check import Layout


def runtime_text(triple: str, arch: str, layout: Layout) -> str:
    """The module for a machine and the layout of Python's and NumPy's objects."""
    parts = [_COMMON, cells_ir.CELLS, callbacks_ir.CALLBACKS, numbers_ir.numbers_text()]
    parts.append(recycling_ir.recycling_text())
    if pool_ir.has_pool(triple, arch):
        parts.append(pool_ir.pool_text(arch))
    names = _names(layout)
    text = "\n".join(_once(parts))
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(f"${name}", str(names[name]))
    return f'target triple = "{triple}"\n{text}\n'


def _names(layout: Layout) -> dict[str, int]:
    """What the $-names stand for."""
    tables = {"C": CELL, "S": STATE, "X": FIELDS, "A": layout._asdict()}
    names = {f"{letter}_{k}": v for letter, table in tables.items() for k, v in table.items()}
    names |= pool_ir.names() | recycling_ir.names()
    return names | {
        "ARENAS": ARENAS,
        "HEADER": ARENA_HEADER,
        "ROUND": ARENA_HEADER + 63,
        "BUDGET": POLL_BUDGET,
        "CLOCK": getattr(time, "CLOCK_MONOTONIC", 0),
    }


def _once(parts: list[str]) -> list[str]:
    """The lines of all parts; what several declare is declared once."""
    lines = "\n".join(parts).split("\n")
    declared = dict.fromkeys(line for line in lines if line.startswith("declare "))
    return [*(line for line in lines if not line.startswith("declare ")), *declared]


_COMMON = """
; A word that one thread at a time has: 1 while it is taken. Nobody waits here.
define internal i1 @symgraph.take_word(ptr %word) nounwind {
  %pair = cmpxchg ptr %word, i32 0, i32 1 acquire monotonic
  %ok = extractvalue { i32, i1 } %pair, 1
  ret i1 %ok
}
define internal void @symgraph.leave_word(ptr %word) nounwind {
  store atomic i32 0, ptr %word release, align 4
  ret void
}
; An arena of at least %bytes: an idle one of this function, or a new one, or null.
define ptr @symgraph.arena_take(ptr %state, i64 %bytes) nounwind {
entry:
  %slots = getelementptr i8, ptr %state, i64 $S_arenas
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %more = icmp slt i64 %i, $ARENAS
  br i1 %more, label %one, label %new
one:
  %slot = getelementptr ptr, ptr %slots, i64 %i
  %p = atomicrmw xchg ptr %slot, ptr null acquire
  %none = icmp eq ptr %p, null
  br i1 %none, label %next, label %found
found:
  %cp = getelementptr i8, ptr %p, i64 -56
  %capacity = load i64, ptr %cp
  %fits = icmp sge i64 %capacity, %bytes
  br i1 %fits, label %give, label %small
small:
  %rp = getelementptr i8, ptr %p, i64 -64
  %raw = load ptr, ptr %rp
  call void @PyMem_RawFree(ptr %raw)
  br label %next
next:
  %i1 = add i64 %i, 1
  br label %loop
give:
  ret ptr %p
new:
  %total = add i64 %bytes, 128
  %block = call ptr @PyMem_RawMalloc(i64 %total)
  %failed = icmp eq ptr %block, null
  br i1 %failed, label %no, label %yes
no:
  ret ptr null
yes:
  %address = ptrtoint ptr %block to i64
  %up = add i64 %address, $ROUND
  %aligned = and i64 %up, -64
  %distance = sub i64 %aligned, %address
  %q = getelementptr i8, ptr %block, i64 %distance
  %qr = getelementptr i8, ptr %q, i64 -64
  store ptr %block, ptr %qr
  %qc = getelementptr i8, ptr %q, i64 -56
  store i64 %bytes, ptr %qc
  ret ptr %q
}
define void @symgraph.arena_give(ptr %state, ptr %p) nounwind {
entry:
  %slots = getelementptr i8, ptr %state, i64 $S_arenas
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %more = icmp slt i64 %i, $ARENAS
  br i1 %more, label %one, label %full
one:
  %slot = getelementptr ptr, ptr %slots, i64 %i
  %pair = cmpxchg ptr %slot, ptr null, ptr %p release monotonic
  %ok = extractvalue { ptr, i1 } %pair, 1
  br i1 %ok, label %done, label %next
next:
  %i1 = add i64 %i, 1
  br label %loop
full:
  %rp = getelementptr i8, ptr %p, i64 -64
  %raw = load ptr, ptr %rp
  call void @PyMem_RawFree(ptr %raw)
  br label %done
done:
  ret void
}
; Give up the references in an array of object pointers; null ones are passed over.
define void @symgraph.drop(ptr %objects, i64 %n) nounwind {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %one, label %done
one:
  %at = getelementptr ptr, ptr %objects, i64 %i
  %o = load ptr, ptr %at
  %none = icmp eq ptr %o, null
  br i1 %none, label %next, label %release
release:
  call void @Py_DecRef(ptr %o)
  br label %next
next:
  %i1 = add i64 %i, 1
  br label %loop
done:
  ret void
}
define i64 @symgraph.clock() nounwind {
  %time = alloca { i64, i64 }
  %r = call i32 @clock_gettime(i32 $CLOCK, ptr %time)
  %s = load i64, ptr %time
  %np = getelementptr i8, ptr %time, i64 8
  %n = load i64, ptr %np
  %sn = mul i64 %s, 1000000000
  %t = add i64 %sn, %n
  ret i64 %t
}
declare void @PyMem_RawFree(ptr)
declare ptr @PyMem_RawMalloc(i64)
declare void @Py_DecRef(ptr)
declare i32 @clock_gettime(i32, ptr)
"""
