"""The native half of the runtime, one LLVM module: locks, arenas, polls, host calls, delegation.

It is compiled once (and cached on disk); every function's entry imports it by name. All addresses
of Python functions and objects are imported symbols, so that the object does not depend on the
process.
"""

from __future__ import annotations

import time

from . import pool_ir, recycling_ir
from .blocks import ARENA_HEADER, ARENAS, CELL, FIELDS, POLL_BUDGET, STATE

# Python functions and objects the module needs; runtime.py gives their addresses.
FUNCTIONS = (
    "PyErr_NoMemory",
    "PyEval_RestoreThread",
    "PyEval_SaveThread",
    "PyLong_FromLongLong",
    "PyLong_FromVoidPtr",
    "PyMem_RawFree",
    "PyMem_RawMalloc",
    "PyObject_CallMethod",
    "PyObject_CallNoArgs",
    "PyObject_VectorcallMethod",
    "PyThread_get_thread_ident",
    "PyTuple_Size",
    "Py_DecRef",
)
OBJECTS = ("symgraph.poll_object", "symgraph.name_host")
EXPORTS = tuple(
    "symgraph." + name
    for name in "lock unlock try_exclusive try_shared release_exclusive release_shared swap rebind "
    "arena_take arena_give poll host delegate fault drop clock depth".split()
)


def runtime_text(triple: str, arch: str, array_data: int, array_dims: int, array_nd: int) -> str:
    """The module; array_*: byte offsets in an ndarray object."""
    names = {f"C_{k}": v for k, v in CELL.items()} | {f"S_{k}": v for k, v in STATE.items()}
    names |= {f"X_{k}": v for k, v in FIELDS.items()}
    names |= pool_ir.names() | recycling_ir.names()
    names |= {
        "ARENAS": ARENAS,
        "HEADER": ARENA_HEADER,
        "ROUND": ARENA_HEADER + 63,
        "BUDGET": POLL_BUDGET,
        "A_data": array_data,
        "A_dims": array_dims,
        "A_nd": array_nd,
        "CLOCK": getattr(time, "CLOCK_MONOTONIC", 0),
    }
    text = _LOCKS + _UPDATES + _ARENA + _CALLBACKS + _DECLARATIONS + recycling_ir.recycling_text()
    if pool_ir.has_pool(triple, arch):
        text += pool_ir.pool_text(arch)
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(f"${name}", str(names[name]))
    objects = "".join(f"@{name} = external global i8\n" for name in OBJECTS)
    return f'target triple = "{triple}"\n{objects}{text}'


_LOCKS = """
; A cell's lock: 0 free, n > 0 readers, -owner while a writer has it.
define i32 @symgraph.try_exclusive(ptr %cell, i64 %owner) nounwind {
  %mine = sub i64 0, %owner
  %pair = cmpxchg ptr %cell, i64 0, i64 %mine acquire monotonic
  %ok = extractvalue { i64, i1 } %pair, 1
  %r = zext i1 %ok to i32
  ret i32 %r
}
define void @symgraph.release_exclusive(ptr %cell) nounwind {
  store atomic i64 0, ptr %cell release, align 8
  ret void
}
; A polite reader stands back while a writer waits, so that it is not starved.
define i32 @symgraph.try_shared(ptr %cell, i32 %polite) nounwind {
entry:
  %p = icmp ne i32 %polite, 0
  %wp = getelementptr i8, ptr %cell, i64 $C_waiting
  %waiting = load atomic i64, ptr %wp monotonic, align 8
  %some = icmp ne i64 %waiting, 0
  %queue = and i1 %some, %p
  br i1 %queue, label %no, label %look
look:
  %n = load atomic i64, ptr %cell monotonic, align 8
  %writer = icmp slt i64 %n, 0
  br i1 %writer, label %no, label %try
try:
  %more = add i64 %n, 1
  %pair = cmpxchg ptr %cell, i64 %n, i64 %more acquire monotonic
  %ok = extractvalue { i64, i1 } %pair, 1
  br i1 %ok, label %yes, label %look
yes:
  ret i32 1
no:
  ret i32 0
}
define void @symgraph.release_shared(ptr %cell) nounwind {
  %old = atomicrmw sub ptr %cell, i64 1 release
  ret void
}
; Lock the cells of a state block, all or none. The table has { cell, mode } for each.
define i32 @symgraph.lock(ptr %state) nounwind {
entry:
  %np = getelementptr i8, ptr %state, i64 $S_locks
  %n = load i64, ptr %np
  %tp = getelementptr i8, ptr %state, i64 $S_lock_table
  %table = load ptr, ptr %tp
  %owner = call i64 @PyThread_get_thread_ident()
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %got ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %one, label %all
one:
  %row = getelementptr { ptr, i64 }, ptr %table, i64 %i
  %cell = load ptr, ptr %row
  %wp = getelementptr i8, ptr %row, i64 8
  %write = load i64, ptr %wp
  %w = icmp eq i64 %write, 1
  br i1 %w, label %exclusive, label %shared
exclusive:
  %e = call i32 @symgraph.try_exclusive(ptr %cell, i64 %owner)
  br label %tried
shared:
  %firm = icmp eq i64 %write, 2
  %polite = select i1 %firm, i32 0, i32 1
  %s = call i32 @symgraph.try_shared(ptr %cell, i32 %polite)
  br label %tried
tried:
  %r = phi i32 [ %e, %exclusive ], [ %s, %shared ]
  %ok = icmp ne i32 %r, 0
  br i1 %ok, label %got, label %undo
got:
  %i1 = add i64 %i, 1
  br label %loop
all:
  ret i32 1
undo:
  call void @symgraph.release(ptr %table, i64 %i)
  ret i32 0
}
define internal void @symgraph.release(ptr %table, i64 %n) nounwind {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %one, label %done
one:
  %row = getelementptr { ptr, i64 }, ptr %table, i64 %i
  %cell = load ptr, ptr %row
  %wp = getelementptr i8, ptr %row, i64 8
  %write = load i64, ptr %wp
  %w = icmp eq i64 %write, 1
  br i1 %w, label %exclusive, label %shared
exclusive:
  call void @symgraph.release_exclusive(ptr %cell)
  br label %next
shared:
  call void @symgraph.release_shared(ptr %cell)
  br label %next
next:
  %i1 = add i64 %i, 1
  br label %loop
done:
  ret void
}
define void @symgraph.unlock(ptr %state) nounwind {
  %np = getelementptr i8, ptr %state, i64 $S_locks
  %n = load i64, ptr %np
  %tp = getelementptr i8, ptr %state, i64 $S_lock_table
  %table = load ptr, ptr %tp
  call void @symgraph.release(ptr %table, i64 %n)
  ret void
}
"""

_UPDATES = """
; The spare buffer, just written, becomes the value; the old value becomes the spare.
define void @symgraph.swap(ptr %cell) nounwind {
  %dp = getelementptr i8, ptr %cell, i64 $C_data
  %sp = getelementptr i8, ptr %cell, i64 $C_spare_data
  %ap = getelementptr i8, ptr %cell, i64 $C_array
  %bp = getelementptr i8, ptr %cell, i64 $C_spare
  %d = load ptr, ptr %dp
  %s = load ptr, ptr %sp
  %a = load ptr, ptr %ap
  %b = load ptr, ptr %bp
  store ptr %s, ptr %dp
  store ptr %d, ptr %sp
  store ptr %b, ptr %ap
  store ptr %a, ptr %bp
  ret void
}
; A new array, whose reference is ours, becomes the value.
define void @symgraph.rebind(ptr %cell, ptr %array) nounwind {
entry:
  %ap = getelementptr i8, ptr %cell, i64 $C_array
  %old = load ptr, ptr %ap
  %adp = getelementptr i8, ptr %array, i64 $A_data
  %data = load ptr, ptr %adp
  %dp = getelementptr i8, ptr %cell, i64 $C_data
  store ptr %array, ptr %ap
  store ptr %data, ptr %dp
  %ndp = getelementptr i8, ptr %array, i64 $A_nd
  %nd32 = load i32, ptr %ndp
  %nd = sext i32 %nd32 to i64
  %fromp = getelementptr i8, ptr %array, i64 $A_dims
  %from = load ptr, ptr %fromp
  %to = getelementptr i8, ptr %cell, i64 $C_dims
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %one ]
  %more = icmp slt i64 %i, %nd
  br i1 %more, label %one, label %done
one:
  %f = getelementptr i64, ptr %from, i64 %i
  %v = load i64, ptr %f
  %t = getelementptr i64, ptr %to, i64 %i
  store i64 %v, ptr %t
  %i1 = add i64 %i, 1
  br label %loop
done:
  call void @Py_DecRef(ptr %old)
  ret void
}
"""

_ARENA = """
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
"""

_CALLBACKS = """
; Calls that wait while Python code they called runs; the GIL guards the list.
@symgraph.waiting = internal global ptr null
; How many calls of a thread wait.
define i64 @symgraph.depth(i64 %thread) nounwind {
entry:
  %head = load ptr, ptr @symgraph.waiting
  br label %loop
loop:
  %at = phi ptr [ %head, %entry ], [ %after, %one ]
  %n = phi i64 [ 0, %entry ], [ %n1, %one ]
  %end = icmp eq ptr %at, null
  br i1 %end, label %done, label %one
one:
  %owner = getelementptr i8, ptr %at, i64 $X_owner
  %o = load i64, ptr %owner
  %mine = icmp eq i64 %o, %thread
  %count = zext i1 %mine to i64
  %n1 = add i64 %n, %count
  %next = getelementptr i8, ptr %at, i64 $X_next
  %after = load ptr, ptr %next
  br label %loop
done:
  ret i64 %n
}
; Around Python code: the GIL if the call gave it away, and a place in the list.
define internal void @symgraph.hold(ptr %context) nounwind {
entry:
  %field = getelementptr i8, ptr %context, i64 $X_thread
  %thread = load ptr, ptr %field
  %held = icmp eq ptr %thread, null
  br i1 %held, label %done, label %take
take:
  call void @PyEval_RestoreThread(ptr %thread)
  br label %done
done:
  %next = getelementptr i8, ptr %context, i64 $X_next
  %head = load ptr, ptr @symgraph.waiting
  store ptr %head, ptr %next
  %owner = getelementptr i8, ptr %context, i64 $X_owner
  %me = call i64 @PyThread_get_thread_ident()
  store i64 %me, ptr %owner
  store ptr %context, ptr @symgraph.waiting
  ret void
}
define internal void @symgraph.unhold(ptr %context) nounwind {
entry:
  br label %loop
loop:
  %link = phi ptr [ @symgraph.waiting, %entry ], [ %further, %other ]
  %at = load ptr, ptr %link
  %further = getelementptr i8, ptr %at, i64 $X_next
  %mine = icmp eq ptr %at, %context
  br i1 %mine, label %found, label %other
other:
  br label %loop
found:
  %after = load ptr, ptr %further
  store ptr %after, ptr %link
  %field = getelementptr i8, ptr %context, i64 $X_thread
  %thread = load ptr, ptr %field
  %held = icmp eq ptr %thread, null
  br i1 %held, label %done, label %leave
leave:
  %again = call ptr @PyEval_SaveThread()
  store ptr %again, ptr %field
  br label %done
done:
  ret void
}
; Called by kernels about every 20 ms: signal handlers run here; 1 if one raised.
define i32 @symgraph.poll(ptr %context) nounwind {
entry:
  call void @symgraph.hold(ptr %context)
  %r = call ptr @PyObject_CallNoArgs(ptr @symgraph.poll_object)
  %failed = icmp eq ptr %r, null
  br i1 %failed, label %stop, label %go
go:
  call void @Py_DecRef(ptr %r)
  store i64 $BUDGET, ptr %context
  br label %stop
stop:
  %code = zext i1 %failed to i32
  call void @symgraph.unhold(ptr %context)
  ret i32 %code
}
; Host step %number: self._host(number, addresses, atoms); -1 if it raised.
define i32 @symgraph.host(ptr %context, i32 %number, ptr %addresses) nounwind {
entry:
  %row = alloca [4 x ptr]
  call void @symgraph.hold(ptr %context)
  %sp = getelementptr i8, ptr %context, i64 $X_self
  %self = load ptr, ptr %sp
  %ap = getelementptr i8, ptr %context, i64 $X_atoms
  %atoms = load ptr, ptr %ap
  %wide = sext i32 %number to i64
  %a = call ptr @PyLong_FromLongLong(i64 %wide)
  %b = call ptr @PyLong_FromVoidPtr(ptr %addresses)
  %c = call ptr @PyLong_FromVoidPtr(ptr %atoms)
  store ptr %self, ptr %row
  %r1 = getelementptr ptr, ptr %row, i64 1
  store ptr %a, ptr %r1
  %r2 = getelementptr ptr, ptr %row, i64 2
  store ptr %b, ptr %r2
  %r3 = getelementptr ptr, ptr %row, i64 3
  store ptr %c, ptr %r3
  %r = call ptr @PyObject_VectorcallMethod(ptr @symgraph.name_host, ptr %row, i64 4, ptr null)
  call void @Py_DecRef(ptr %a)
  call void @Py_DecRef(ptr %b)
  call void @Py_DecRef(ptr %c)
  %failed = icmp eq ptr %r, null
  br i1 %failed, label %stop, label %go
go:
  call void @Py_DecRef(ptr %r)
  br label %stop
stop:
  %code = sext i1 %failed to i32
  call void @symgraph.unhold(ptr %context)
  ret i32 %code
}
; self.<name>(*args, **kwargs), from the arguments of a vectorcall.
define ptr @symgraph.delegate(ptr %name, ptr %self, ptr %args, i64 %nargsf, ptr %kwnames) nounwind {
entry:
  %nargs = and i64 %nargsf, 9223372036854775807
  %plain = icmp eq ptr %kwnames, null
  br i1 %plain, label %join, label %named
named:
  %k = call i64 @PyTuple_Size(ptr %kwnames)
  br label %join
join:
  %nk = phi i64 [ 0, %entry ], [ %k, %named ]
  %n = add i64 %nargs, %nk
  %n1 = add i64 %n, 1
  %size = shl i64 %n1, 3
  %row = call ptr @PyMem_RawMalloc(i64 %size)
  %none = icmp eq ptr %row, null
  br i1 %none, label %no_memory, label %go
no_memory:
  %e = call ptr @PyErr_NoMemory()
  ret ptr null
go:
  store ptr %self, ptr %row
  %rest = getelementptr ptr, ptr %row, i64 1
  %bytes = shl i64 %n, 3
  %moved = call ptr @memmove(ptr %rest, ptr %args, i64 %bytes)
  %positional = add i64 %nargs, 1
  %r = call ptr @PyObject_VectorcallMethod(ptr %name, ptr %row, i64 %positional, ptr %kwnames)
  call void @PyMem_RawFree(ptr %row)
  ret ptr %r
}
; self._fault(code, payload0, payload1), which raises.
define ptr @symgraph.fault(ptr %self, i32 %code, ptr %context) nounwind {
entry:
  %p0 = getelementptr i8, ptr %context, i64 $X_payload0
  %v0 = load i64, ptr %p0
  %p1 = getelementptr i8, ptr %context, i64 $X_payload1
  %v1 = load i64, ptr %p1
  %r = call ptr (ptr, ptr, ptr, ...) @PyObject_CallMethod(ptr %self, ptr @symgraph.fault_name,
    ptr @symgraph.fault_format, i32 %code, i64 %v0, i64 %v1)
  ret ptr %r
}
@symgraph.fault_name = private constant [7 x i8] c"_fault\\00"
@symgraph.fault_format = private constant [4 x i8] c"iLL\\00"
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
"""

_DECLARATIONS = """
declare ptr @PyErr_NoMemory()
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare ptr @PyLong_FromLongLong(i64)
declare ptr @PyLong_FromVoidPtr(ptr)
declare void @PyMem_RawFree(ptr)
declare ptr @PyMem_RawMalloc(i64)
declare ptr @PyObject_CallMethod(ptr, ptr, ptr, ...)
declare ptr @PyObject_CallNoArgs(ptr)
declare ptr @PyObject_VectorcallMethod(ptr, ptr, i64, ptr)
declare i64 @PyThread_get_thread_ident()
declare i64 @PyTuple_Size(ptr)
declare void @Py_DecRef(ptr)
declare ptr @memmove(ptr, ptr, i64)
declare i32 @clock_gettime(i32, ptr)
"""
