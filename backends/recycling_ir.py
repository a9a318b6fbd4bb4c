"""Recycled memory for large arrays: a part of the runtime's module, a NumPy data-memory handler.

    ptr symgraph.new_large(ptr type, ptr descr, i32 nd, ptr dims, ptr strides, ptr data, i32 flags,
                           ptr base)

is PyArray_NewFromDescr over blocks of our own. NumPy calls the handler when the array takes,
resizes or frees its memory, so the array owns its data as any other does: OWNDATA holds, `resize`
and `sys.getsizeof` work, tracemalloc counts it, views keep it alive through the usual `base`. A
block comes back when NumPy frees the array, in native code: no Python object stands for it that a
cycle could resurrect, or that would need a finalizer while the interpreter ends. (An ndarray over
an object that returns the block when it dies has none of this, and costs a Python call for each.)
A handler that the user has set stays in force.

A block is a mapping: a page whose first word is the capacity, then the data. The last `SLOTS` freed
ones are kept, oldest first, `limit` bytes in all; the smallest that fits and wastes at most a
quarter is taken. Where another thread is inside, or was when the process forked, whoever comes maps
and unmaps instead: nobody waits.
"""

from __future__ import annotations

import mmap
import sys

LEAST = 1 << 20  # bytes of an array from which its memory is recycled
SLOTS = 8  # blocks kept at most
HUGE = 1 << 22  # bytes of a block from which huge pages are asked for, as NumPy does


def available() -> bool:
    """Whether this system maps memory as the text below does."""
    return hasattr(mmap, "MAP_ANONYMOUS") and sys.maxsize > 2**32


def recycling_text() -> str:
    """The definitions, with $-names that the runtime's module replaces; empty where unavailable."""
    if not available():
        return ""
    return _STATE + _BLOCKS + _KEPT + _HANDLER + _ARRAYS + _DECLARATIONS + _advice()


def _advice() -> str:
    """Ask for huge pages, where there are any: fewer faults, fewer misses of the TLB."""
    call = "%r = call i32 @madvise(ptr %block, i64 %bytes, i32 $R_advice)"
    known = hasattr(mmap, "MADV_HUGEPAGE")
    return f"""{"declare i32 @madvise(ptr, i64, i32)" if known else ""}
define internal void @symgraph.block_advise(ptr %block, i64 %bytes) nounwind {{
  {call if known else ""}
  ret void
}}
"""


def names() -> dict[str, int]:
    """What the $-names of the text stand for."""
    if not available():
        return {}
    return {
        "R_page": mmap.PAGESIZE,
        "R_round": mmap.PAGESIZE - 1,
        "R_most": sys.maxsize - 2 * mmap.PAGESIZE,
        "R_access": mmap.PROT_READ | mmap.PROT_WRITE,
        "R_flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
        "R_advice": getattr(mmap, "MADV_HUGEPAGE", 0),
        "R_huge": HUGE,
        "R_least": LEAST,
        "R_slots": SLOTS,
    }


_STATE = """
@symgraph.kept = internal global [$R_slots x { ptr, i64 }] zeroinitializer
@symgraph.kept_count = internal global i64 0
@symgraph.kept_bytes = internal global i64 0
@symgraph.kept_limit = internal global i64 0
@symgraph.kept_lock = internal global i32 0
@symgraph.handler_capsule = internal global ptr null
@symgraph.handler_default = internal global ptr null
"""

_BLOCKS = """
; A new block of zeros, or null.
define internal ptr @symgraph.block_map(i64 %bytes) nounwind {
entry:
  %possible = icmp ule i64 %bytes, $R_most
  br i1 %possible, label %try, label %no
try:
  %up = add i64 %bytes, $R_round
  %capacity = and i64 %up, -$R_page
  %total = add i64 %capacity, $R_page
  %block = call ptr @mmap(ptr null, i64 %total, i32 $R_access, i32 $R_flags, i32 -1, i64 0)
  %address = ptrtoint ptr %block to i64
  %failed = icmp eq i64 %address, -1
  br i1 %failed, label %no, label %yes
yes:
  %large = icmp uge i64 %total, $R_huge
  br i1 %large, label %advise, label %done
advise:
  call void @symgraph.block_advise(ptr %block, i64 %total)
  br label %done
done:
  store i64 %capacity, ptr %block
  %data = getelementptr i8, ptr %block, i64 $R_page
  ret ptr %data
no:
  ret ptr null
}
define internal i64 @symgraph.block_capacity(ptr %data) nounwind {
  %block = getelementptr i8, ptr %data, i64 -$R_page
  %capacity = load i64, ptr %block
  ret i64 %capacity
}
define internal void @symgraph.block_unmap(ptr %data) nounwind {
  %block = getelementptr i8, ptr %data, i64 -$R_page
  %capacity = load i64, ptr %block
  %total = add i64 %capacity, $R_page
  %r = call i32 @munmap(ptr %block, i64 %total)
  ret void
}
"""

_KEPT = """
; Take block %i out of those that are kept. The lock is held, here and in kept_drop.
define internal ptr @symgraph.kept_remove(i64 %i) nounwind {
  %row = getelementptr [$R_slots x { ptr, i64 }], ptr @symgraph.kept, i64 0, i64 %i
  %data = load ptr, ptr %row
  %cp = getelementptr i8, ptr %row, i64 8
  %capacity = load i64, ptr %cp
  %count = load i64, ptr @symgraph.kept_count
  %fewer = sub i64 %count, 1
  %younger = sub i64 %fewer, %i
  %length = shl i64 %younger, 4
  %next = getelementptr i8, ptr %row, i64 16
  %moved = call ptr @memmove(ptr %row, ptr %next, i64 %length)
  store i64 %fewer, ptr @symgraph.kept_count
  %bytes = load i64, ptr @symgraph.kept_bytes
  %less = sub i64 %bytes, %capacity
  store i64 %less, ptr @symgraph.kept_bytes
  ret ptr %data
}
; Unmap the oldest until one of %bytes more may be kept, %limit bytes in all.
define internal void @symgraph.kept_drop(i64 %bytes, i64 %limit) nounwind {
entry:
  br label %loop
loop:
  %count = load i64, ptr @symgraph.kept_count
  %none = icmp eq i64 %count, 0
  br i1 %none, label %done, label %look
look:
  %kept = load i64, ptr @symgraph.kept_bytes
  %total = add i64 %kept, %bytes
  %over = icmp ugt i64 %total, %limit
  %full = icmp uge i64 %count, $R_slots
  %drop = or i1 %over, %full
  br i1 %drop, label %oldest, label %done
oldest:
  %data = call ptr @symgraph.kept_remove(i64 0)
  call void @symgraph.block_unmap(ptr %data)
  br label %loop
done:
  ret void
}
; The smallest kept block that holds %bytes and wastes at most a quarter of them, or null.
define internal ptr @symgraph.kept_take(i64 %bytes) nounwind {
entry:
  %in = call i1 @symgraph.take_word(ptr @symgraph.kept_lock)
  br i1 %in, label %search, label %no
search:
  %count = load i64, ptr @symgraph.kept_count
  %quarter = lshr i64 %bytes, 2
  %most = add i64 %bytes, %quarter
  br label %loop
loop:
  %i = phi i64 [ 0, %search ], [ %i1, %one ]
  %best = phi i64 [ -1, %search ], [ %best1, %one ]
  %size = phi i64 [ -1, %search ], [ %size1, %one ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %one, label %end
one:
  %cp = getelementptr [$R_slots x { ptr, i64 }], ptr @symgraph.kept, i64 0, i64 %i, i32 1
  %capacity = load i64, ptr %cp
  %holds = icmp uge i64 %capacity, %bytes
  %tight = icmp ule i64 %capacity, %most
  %smaller = icmp ult i64 %capacity, %size
  %fits = and i1 %holds, %tight
  %better = and i1 %fits, %smaller
  %best1 = select i1 %better, i64 %i, i64 %best
  %size1 = select i1 %better, i64 %capacity, i64 %size
  %i1 = add i64 %i, 1
  br label %loop
end:
  %none = icmp slt i64 %best, 0
  br i1 %none, label %leave, label %found
found:
  %data = call ptr @symgraph.kept_remove(i64 %best)
  br label %leave
leave:
  %result = phi ptr [ null, %end ], [ %data, %found ]
  call void @symgraph.leave_word(ptr @symgraph.kept_lock)
  ret ptr %result
no:
  ret ptr null
}
; Keep a block that nobody uses, or unmap it.
define internal void @symgraph.kept_give(ptr %data) nounwind {
entry:
  %capacity = call i64 @symgraph.block_capacity(ptr %data)
  %limit = load i64, ptr @symgraph.kept_limit
  %small = icmp ult i64 %capacity, $R_least
  %large = icmp ugt i64 %capacity, %limit
  %never = or i1 %small, %large
  br i1 %never, label %unmap, label %try
try:
  %in = call i1 @symgraph.take_word(ptr @symgraph.kept_lock)
  br i1 %in, label %keep, label %unmap
keep:
  call void @symgraph.kept_drop(i64 %capacity, i64 %limit)
  %count = load i64, ptr @symgraph.kept_count
  %row = getelementptr [$R_slots x { ptr, i64 }], ptr @symgraph.kept, i64 0, i64 %count
  store ptr %data, ptr %row
  %cp = getelementptr i8, ptr %row, i64 8
  store i64 %capacity, ptr %cp
  %more = add i64 %count, 1
  store i64 %more, ptr @symgraph.kept_count
  %bytes = load i64, ptr @symgraph.kept_bytes
  %total = add i64 %bytes, %capacity
  store i64 %total, ptr @symgraph.kept_bytes
  call void @symgraph.leave_word(ptr @symgraph.kept_lock)
  ret void
unmap:
  call void @symgraph.block_unmap(ptr %data)
  ret void
}
; Bytes that are kept.
define i64 @symgraph.recycling_kept() nounwind {
  %bytes = load i64, ptr @symgraph.kept_bytes
  ret i64 %bytes
}
; Keep at most %bytes from the next free on; the limit before.
define i64 @symgraph.recycling_limit(i64 %bytes) nounwind {
  %before = load i64, ptr @symgraph.kept_limit
  store i64 %bytes, ptr @symgraph.kept_limit
  ret i64 %before
}
; Unmap what is kept; how many bytes that was.
define i64 @symgraph.recycling_release() nounwind {
entry:
  %in = call i1 @symgraph.take_word(ptr @symgraph.kept_lock)
  br i1 %in, label %drop, label %no
drop:
  %bytes = load i64, ptr @symgraph.kept_bytes
  call void @symgraph.kept_drop(i64 0, i64 0)
  call void @symgraph.leave_word(ptr @symgraph.kept_lock)
  ret i64 %bytes
no:
  ret i64 0
}
"""

_HANDLER = """
; struct PyDataMem_Handler, version 1: name, version, context, malloc, calloc, realloc, free
@symgraph.handler = internal constant { [9 x i8], [118 x i8], i8, ptr, ptr, ptr, ptr, ptr } {
  [9 x i8] c"symgraph\\00", [118 x i8] zeroinitializer, i8 1, ptr null,
  ptr @symgraph.handler_malloc, ptr @symgraph.handler_calloc,
  ptr @symgraph.handler_realloc, ptr @symgraph.handler_free }
@symgraph.handler_kind = internal constant [12 x i8] c"mem_handler\\00"
define internal ptr @symgraph.handler_malloc(ptr %context, i64 %bytes) nounwind {
entry:
  %old = call ptr @symgraph.kept_take(i64 %bytes)
  %none = icmp eq ptr %old, null
  br i1 %none, label %map, label %done
map:
  %new = call ptr @symgraph.block_map(i64 %bytes)
  %failed = icmp eq ptr %new, null
  br i1 %failed, label %again, label %done
again:
  %released = call i64 @symgraph.recycling_release()
  %last = call ptr @symgraph.block_map(i64 %bytes)
  br label %done
done:
  %data = phi ptr [ %old, %entry ], [ %new, %map ], [ %last, %again ]
  ret ptr %data
}
define internal ptr @symgraph.handler_calloc(ptr %context, i64 %n, i64 %size) nounwind {
entry:
  %pair = call { i64, i1 } @llvm.umul.with.overflow.i64(i64 %n, i64 %size)
  %over = extractvalue { i64, i1 } %pair, 1
  br i1 %over, label %no, label %map
map:
  %bytes = extractvalue { i64, i1 } %pair, 0
  %data = call ptr @symgraph.block_map(i64 %bytes)
  ret ptr %data
no:
  ret ptr null
}
; A block stays where it is unless it is too small or more than half of it would lie idle.
define internal ptr @symgraph.handler_realloc(ptr %context, ptr %data, i64 %bytes) nounwind {
entry:
  %none = icmp eq ptr %data, null
  br i1 %none, label %fresh, label %look
fresh:
  %first = call ptr @symgraph.handler_malloc(ptr %context, i64 %bytes)
  ret ptr %first
look:
  %capacity = call i64 @symgraph.block_capacity(ptr %data)
  %half = lshr i64 %capacity, 1
  %holds = icmp uge i64 %capacity, %bytes
  %tight = icmp ule i64 %half, %bytes
  %stay = and i1 %holds, %tight
  br i1 %stay, label %same, label %move
same:
  ret ptr %data
move:
  %new = call ptr @symgraph.handler_malloc(ptr %context, i64 %bytes)
  %failed = icmp eq ptr %new, null
  br i1 %failed, label %no, label %copy
copy:
  %length = select i1 %holds, i64 %bytes, i64 %capacity
  %moved = call ptr @memmove(ptr %new, ptr %data, i64 %length)
  call void @symgraph.kept_give(ptr %data)
  ret ptr %new
no:
  ret ptr null
}
define internal void @symgraph.handler_free(ptr %context, ptr %data, i64 %bytes) nounwind {
entry:
  %none = icmp eq ptr %data, null
  br i1 %none, label %done, label %give
give:
  call void @symgraph.kept_give(ptr %data)
  br label %done
done:
  ret void
}
; Once a process: keep at most %limit bytes. A reference to the capsule of the handler, which lives
; for ever; null with an exception. %default is NumPy's own handler.
define ptr @symgraph.recycling_start(i64 %limit, ptr %default) nounwind {
  store i64 %limit, ptr @symgraph.kept_limit
  store ptr %default, ptr @symgraph.handler_default
  %capsule = call ptr @PyCapsule_New(ptr @symgraph.handler, ptr @symgraph.handler_kind, ptr null)
  store ptr %capsule, ptr @symgraph.handler_capsule
  call void @Py_IncRef(ptr %capsule)
  ret ptr %capsule
}
"""

_ARRAYS = """
define ptr @symgraph.new_large(ptr %type, ptr %descr, i32 %nd, ptr %dims, ptr %strides, ptr %data,
    i32 %flags, ptr %base) nounwind {
entry:
  %error = alloca [3 x ptr]
  %now = call ptr @PyDataMem_GetHandler()
  %none = icmp eq ptr %now, null
  br i1 %none, label %failed, label %look
failed:
  call void @Py_DecRef(ptr %descr)
  ret ptr null
look:
  call void @Py_DecRef(ptr %now)
  %default = load ptr, ptr @symgraph.handler_default
  %ours = icmp eq ptr %now, %default
  br i1 %ours, label %set, label %users
users:
  %plain = call ptr @PyArray_NewFromDescr(ptr %type, ptr %descr, i32 %nd, ptr %dims, ptr %strides,
    ptr %data, i32 %flags, ptr %base)
  ret ptr %plain
set:
  %capsule = load ptr, ptr @symgraph.handler_capsule
  %before = call ptr @PyDataMem_SetHandler(ptr %capsule)
  %unset = icmp eq ptr %before, null
  br i1 %unset, label %failed, label %make
make:
  %array = call ptr @PyArray_NewFromDescr(ptr %type, ptr %descr, i32 %nd, ptr %dims, ptr %strides,
    ptr %data, i32 %flags, ptr %base)
  %raised = icmp eq ptr %array, null
  br i1 %raised, label %put_by, label %restore
put_by:
  %e1 = getelementptr ptr, ptr %error, i64 1
  %e2 = getelementptr ptr, ptr %error, i64 2
  call void @PyErr_Fetch(ptr %error, ptr %e1, ptr %e2)
  %other = call ptr @PyDataMem_SetHandler(ptr %before)
  call void @Py_DecRef(ptr %before)
  %v0 = load ptr, ptr %error
  %v1 = load ptr, ptr %e1
  %v2 = load ptr, ptr %e2
  call void @PyErr_Restore(ptr %v0, ptr %v1, ptr %v2)
  %lost = icmp eq ptr %other, null
  br i1 %lost, label %null, label %unref
unref:
  call void @Py_DecRef(ptr %other)
  br label %null
null:
  ret ptr null
restore:
  %after = call ptr @PyDataMem_SetHandler(ptr %before)
  call void @Py_DecRef(ptr %before)
  %stuck = icmp eq ptr %after, null
  br i1 %stuck, label %undo, label %done
undo:
  call void @Py_DecRef(ptr %array)
  ret ptr null
done:
  call void @Py_DecRef(ptr %after)
  ret ptr %array
}
"""

_DECLARATIONS = """
declare ptr @PyArray_NewFromDescr(ptr, ptr, i32, ptr, ptr, ptr, i32, ptr)
declare ptr @PyCapsule_New(ptr, ptr, ptr)
declare ptr @PyDataMem_GetHandler()
declare ptr @PyDataMem_SetHandler(ptr)
declare void @Py_DecRef(ptr)
declare void @Py_IncRef(ptr)
declare ptr @memmove(ptr, ptr, i64)
declare void @PyErr_Fetch(ptr, ptr, ptr)
declare void @PyErr_Restore(ptr, ptr, ptr)
declare { i64, i1 } @llvm.umul.with.overflow.i64(i64, i64)
declare ptr @mmap(ptr, i64, i32, i32, i32, i64)
declare i32 @munmap(ptr, i64)
"""
