"""Shared variables in native code: the locks of their cells, and how they get their new values.

A part of the runtime's module. state.py says what a cell is and who waits for its lock.
"""

CELLS = """
; A cell's lock: 0 free, n > 0 readers, -owner while a writer has it.
define i32 @symgraph.try_exclusive(ptr %cell, i64 %owner) nounwind {
  %mine = sub i64 0, %owner
  %pair = cmpxchg ptr %cell, i64 0, i64 %mine acquire monotonic
  %ok = extractvalue { i64, i1 } %pair, 1
  %r = zext i1 %ok to i32
  ret i32 %r
}
; Give a lock back: the word says how it was taken. (It is 0 where a fork has freed it.)
define void @symgraph.release(ptr %cell) nounwind {
entry:
  %word = load atomic i64, ptr %cell monotonic, align 8
  %writer = icmp sle i64 %word, 0
  br i1 %writer, label %exclusive, label %shared
exclusive:
  store atomic i64 0, ptr %cell release, align 8
  ret void
shared:
  %old = atomicrmw sub ptr %cell, i64 1 release
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
  call void @symgraph.release_first(ptr %table, i64 %i)
  ret i32 0
}
define internal void @symgraph.release_first(ptr %table, i64 %n) nounwind {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %one ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %one, label %done
one:
  %row = getelementptr { ptr, i64 }, ptr %table, i64 %i
  %cell = load ptr, ptr %row
  call void @symgraph.release(ptr %cell)
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
  call void @symgraph.release_first(ptr %table, i64 %n)
  ret void
}

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
; A new array, whose reference is ours, becomes the value; a spare buffer of another shape goes.
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
  %length = shl i64 %nd, 3
  %order = call i32 @memcmp(ptr %to, ptr %from, i64 %length)
  %alike = icmp eq i32 %order, 0
  br i1 %alike, label %done, label %reshaped
reshaped:
  %moved = call ptr @memmove(ptr %to, ptr %from, i64 %length)
  %bp = getelementptr i8, ptr %cell, i64 $C_spare
  %spare = load ptr, ptr %bp
  %none = icmp eq ptr %spare, null
  br i1 %none, label %done, label %drop
drop:
  %sp = getelementptr i8, ptr %cell, i64 $C_spare_data
  store ptr null, ptr %sp
  store ptr null, ptr %bp
  call void @Py_DecRef(ptr %spare)
  br label %done
done:
  call void @Py_DecRef(ptr %old)
  ret void
}
declare i64 @PyThread_get_thread_ident()
declare void @Py_DecRef(ptr)
declare i32 @memcmp(ptr, ptr, i64)
declare ptr @memmove(ptr, ptr, i64)
"""
