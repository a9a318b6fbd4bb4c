"""The threads of the native pool: how one works, waits and sleeps, and how they are made.

A part of pool_ir.py's text, which has the words that they share with who asks them to work.
"""

WORKERS = """
; A worker's life. Numbers beyond the threads asked for take no part.
define internal ptr @pool.worker(ptr %argument) nounwind {
entry:
  %context = alloca [$P_context x i8], align 16
  call void @llvm.memset.p0.i64(ptr %context, i8 0, i64 $P_context, i1 false)
  store i64 $BUDGET, ptr %context
  %poll = getelementptr i8, ptr %context, i64 $X_poll
  store ptr @pool.asked, ptr %poll
  %number = ptrtoint ptr %argument to i64
  br label %region
region:
  %seen = load atomic i32, ptr @pool.epoch seq_cst, align 64
  %threads = load atomic i32, ptr @pool.threads monotonic, align 64
  %wide = sext i32 %threads to i64
  %wanted = icmp slt i64 %number, %wide
  br i1 %wanted, label %work, label %sleep
work:
  %r = call i32 @pool.work(ptr %context, i64 %number)
  br label %spin
spin:
  %k = phi i64 [ 0, %work ], [ %k1, %again ]
  %now = load atomic i32, ptr @pool.epoch acquire, align 64
  %new = icmp ne i32 %now, %seen
  br i1 %new, label %region, label %again
again:
  $PAUSE
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, $P_spin
  br i1 %more, label %spin, label %sleep
sleep:
  %s = atomicrmw add ptr @pool.sleepers, i32 1 seq_cst
  %f = call i64 (i64, ...) @syscall(i64 $FUTEX, ptr @pool.epoch, i64 $WAIT, i32 %seen, ptr null)
  %a = atomicrmw sub ptr @pool.sleepers, i32 1 seq_cst
  br label %region
}
; Start workers until there are so many, their signals blocked. What cannot be had is given up.
define internal void @pool.grow(i32 %wanted) nounwind {
entry:
  %thread = alloca i64
  %old = alloca [128 x i8], align 8
  %all = alloca [128 x i8], align 8
  call void @llvm.memset.p0.i64(ptr %all, i8 -1, i64 128, i1 false)
  %m0 = call i32 @pthread_sigmask(i32 2, ptr %all, ptr %old)
  %have = load i32, ptr @pool.workers
  br label %loop
loop:
  %n = phi i32 [ %have, %entry ], [ %n1, %made ]
  %more = icmp slt i32 %n, %wanted
  br i1 %more, label %make, label %finish
make:
  %n1 = add i32 %n, 1
  %number = zext i32 %n1 to i64
  %argument = inttoptr i64 %number to ptr
  %code = call i32 @pthread_create(ptr %thread, ptr null, ptr @pool.worker, ptr %argument)
  %failed = icmp ne i32 %code, 0
  br i1 %failed, label %give_up, label %made
made:
  %id = load i64, ptr %thread
  %d = call i32 @pthread_detach(i64 %id)
  store i32 %n1, ptr @pool.workers
  br label %loop
give_up:
  store atomic i32 %n1, ptr @pool.threads monotonic, align 64
  br label %finish
finish:
  %m1 = call i32 @pthread_sigmask(i32 2, ptr %old, ptr null)
  ret void
}
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i64 @syscall(i64, ...)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
"""
