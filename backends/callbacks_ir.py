"""From native code into Python: polls for signals, host steps, the slow way, faults.

A part of the runtime's module. While Python code runs, the call that it runs for is in a list:
`symgraph.depth` counts those of a thread.
"""

CALLBACKS = """
@symgraph.poll_object = external global i8
@symgraph.name_host = external global i8
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
"""
