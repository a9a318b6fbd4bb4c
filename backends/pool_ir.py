"""The native thread pool: a part of the runtime's module that runs ranges of a kernel on threads.

    i32 symgraph.parallel(ptr context, ptr task, ptr frame, i64 extent, i64 grain, i64 work,
                          i64 scratch)

runs `i32 task(ptr context, ptr frame, i64 begin, i64 end, ptr scratch)` over [0, extent), in ranges
that begin at multiples of `grain`, and returns the code of the lowest range that failed, its
payloads in `context`. Each worker has `scratch` bytes of its own; the caller gets null.

One 64-bit ticket, epoch << 32 | tasks left, is what threads claim tasks by; the epoch makes a stale
compare-exchange fail. The caller works too and waits for claimed tasks only, never for idle
workers: on an overloaded machine a region degrades to serial. One region runs at a time; whoever
finds the pool taken (another Python thread) runs its own region serially. Workers spin, then sleep
on the epoch's futex; they block all signals, and poll only whether the region was interrupted. A
child of fork has no workers: `symgraph.pool_reset` forgets them; they are made again when needed.
"""

from __future__ import annotations

from .blocks import CONTEXT_BYTES
from .workers_ir import WORKERS

FUTEX = {"x86-64": 202, "aarch64": 98}  # Linux's number of the system call
PRIVATE = 128  # the flag of a futex that one process has
PAUSE = {  # the instruction of a spinning thread
    "x86-64": "call void @llvm.x86.sse2.pause()",
    "aarch64": "call void @llvm.aarch64.hint(i32 1)",
}
_PAUSE_DECLARED = {
    "x86-64": "declare void @llvm.x86.sse2.pause()",
    "aarch64": "declare void @llvm.aarch64.hint(i32)",
}
LEAST_WORK = 1_500_000  # element-operations from which threads pay: 20 to 50 us
TASK_WORK = 250_000  # about the least of one task
PER_THREAD = 4  # tasks for each thread: who is held up leaves the rest to others
SPIN = 20_000  # pauses of an idle worker before it sleeps: some 0.3 ms


def has_pool(triple: str, arch: str) -> bool:
    """Whether there is a pool on such a machine; elsewhere regions run serially."""
    return "linux" in triple and arch in FUTEX


def pool_text(arch: str) -> str:
    """The definitions, with $-names that the runtime's module replaces."""
    text = _STATE + _TASKS + WORKERS + _REGION + _CONTROL + _DECLARATIONS + _PAUSE_DECLARED[arch]
    words = {"PAUSE": PAUSE[arch], "FUTEX": FUTEX[arch], "WAIT": 0 | PRIVATE, "WAKE": 1 | PRIVATE}
    for word, meaning in words.items():
        text = text.replace(f"${word}", str(meaning))
    return text + "\n"


def names() -> dict[str, int]:
    """What the $-names of the text stand for."""
    return {
        "P_least": LEAST_WORK,
        "P_task": TASK_WORK,
        "P_per_thread": PER_THREAD,
        "P_spin": SPIN,
        "P_context": CONTEXT_BYTES,
    }


_STATE = """
; What threads write often has a cache line to itself.
@pool.ticket = internal global i64 0, align 64
@pool.epoch = internal global i32 0, align 64
@pool.done = internal global i32 0, align 64
@pool.sleepers = internal global i32 0, align 64
@pool.busy = internal global i32 0, align 64
; The region: written while nobody has a ticket for it.
@pool.task = internal global ptr null, align 64
@pool.frame = internal global ptr null
@pool.extent = internal global i64 0
@pool.length = internal global i64 0
@pool.tasks = internal global i64 0
@pool.owner = internal global i64 0
@pool.scratch = internal global i64 0
@pool.interrupted = internal global i32 0
; The lowest task that failed, and how.
@pool.fault_lock = internal global i32 0
@pool.fault = internal global i64 -1
@pool.code = internal global i32 0
@pool.payload = internal global [2 x i64] zeroinitializer
; Settings, and the threads there are.
@pool.threads = internal global i32 1, align 64
@pool.least = internal global i64 $P_least
@pool.workers = internal global i32 0
@pool.generation = internal global i32 0
; The memory that workers compute in, kept for the next region.
@pool.block = internal global ptr null
@pool.capacity = internal global i64 0
"""

_TASKS = """
; Claim and run tasks until none is left; 1 if one was interrupted. %me: 0 is the caller.
define internal i32 @pool.work(ptr %context, i64 %me) nounwind {
entry:
  br label %look
look:
  %was = phi i32 [ 0, %entry ], [ %was, %claim ], [ %now, %count ]
  %ticket = load atomic i64, ptr @pool.ticket acquire, align 64
  %left = and i64 %ticket, 4294967295
  %none = icmp eq i64 %left, 0
  br i1 %none, label %over, label %claim
claim:
  %less = sub i64 %ticket, 1
  %pair = cmpxchg ptr @pool.ticket, i64 %ticket, i64 %less acq_rel monotonic
  %ok = extractvalue { i64, i1 } %pair, 1
  br i1 %ok, label %mine, label %look
mine:
  %tasks = load i64, ptr @pool.tasks
  %number = sub i64 %tasks, %left
  %stop = load atomic i32, ptr @pool.interrupted monotonic, align 4
  %stopped = icmp ne i32 %stop, 0
  %lowest = load atomic i64, ptr @pool.fault monotonic, align 8
  %late = icmp ugt i64 %number, %lowest
  %skip = or i1 %stopped, %late
  br i1 %skip, label %count, label %run
run:
  %task = load ptr, ptr @pool.task
  %frame = load ptr, ptr @pool.frame
  %extent = load i64, ptr @pool.extent
  %length = load i64, ptr @pool.length
  %begin = mul i64 %number, %length
  %full = add i64 %begin, %length
  %end = call i64 @llvm.smin.i64(i64 %full, i64 %extent)
  %own = call ptr @pool.scratch_of(i64 %me)
  %code = call i32 %task(ptr %context, ptr %frame, i64 %begin, i64 %end, ptr %own)
  %good = icmp eq i32 %code, 0
  br i1 %good, label %count, label %bad
bad:
  %refused = icmp slt i32 %code, 0
  br i1 %refused, label %interrupted, label %failed
interrupted:
  store atomic i32 1, ptr @pool.interrupted monotonic, align 4
  br label %count
failed:
  call void @pool.fail(ptr %context, i64 %number, i32 %code)
  br label %count
count:
  %now = phi i32 [ %was, %mine ], [ %was, %run ], [ 1, %interrupted ], [ %was, %failed ]
  %d = atomicrmw add ptr @pool.done, i32 1 acq_rel
  br label %look
over:
  ret i32 %was
}
define internal ptr @pool.scratch_of(i64 %me) nounwind {
  %bytes = load i64, ptr @pool.scratch
  %block = load ptr, ptr @pool.block
  %before = sub i64 %me, 1
  %distance = mul i64 %before, %bytes
  %own = getelementptr i8, ptr %block, i64 %distance
  %caller = icmp eq i64 %me, 0
  %none = icmp eq i64 %bytes, 0
  %nothing = or i1 %caller, %none
  %r = select i1 %nothing, ptr null, ptr %own
  ret ptr %r
}
; Remember a fault, unless a lower task has failed.
define internal void @pool.fail(ptr %context, i64 %number, i32 %code) nounwind {
entry:
  br label %lock
lock:
  %ok = call i1 @symgraph.take_word(ptr @pool.fault_lock)
  br i1 %ok, label %compare, label %wait
wait:
  $PAUSE
  br label %lock
compare:
  %lowest = load atomic i64, ptr @pool.fault monotonic, align 8
  %lower = icmp ult i64 %number, %lowest
  br i1 %lower, label %write, label %unlock
write:
  store atomic i64 %number, ptr @pool.fault monotonic, align 8
  store i32 %code, ptr @pool.code
  %payload = getelementptr i8, ptr %context, i64 $X_payload0
  %kept = call ptr @memmove(ptr @pool.payload, ptr %payload, i64 16)
  br label %unlock
unlock:
  call void @symgraph.leave_word(ptr @pool.fault_lock)
  ret void
}
; The poll function of workers: renews the budget, and tells whether the caller was interrupted.
define internal i32 @pool.asked(ptr %context) nounwind {
  store i64 $BUDGET, ptr %context
  %stop = load atomic i32, ptr @pool.interrupted monotonic, align 4
  ret i32 %stop
}
"""

_REGION = """
define i32 @symgraph.parallel(ptr %context, ptr %task, ptr %frame, i64 %extent, i64 %grain,
    i64 %work, i64 %scratch) nounwind {
entry:
  %least = load atomic i64, ptr @pool.least monotonic, align 8
  %threads = load atomic i32, ptr @pool.threads monotonic, align 64
  %enough = icmp sge i64 %work, %least
  %several = icmp sgt i32 %threads, 1
  %divisible = icmp sgt i64 %extent, %grain
  %both = and i1 %enough, %several
  %all = and i1 %both, %divisible
  br i1 %all, label %try, label %serial
serial:
  %alone = call i32 %task(ptr %context, ptr %frame, i64 0, i64 %extent, ptr null)
  ret i32 %alone
try:
  %free = call i1 @symgraph.take_word(ptr @pool.busy)
  br i1 %free, label %mine, label %serial
mine:
  %helpers = sub i32 %threads, 1
  %workers = load i32, ptr @pool.workers
  %short = icmp slt i32 %workers, %helpers
  br i1 %short, label %grow, label %cut
grow:
  call void @pool.grow(i32 %helpers)
  br label %cut
no_memory:
  call void @symgraph.leave_word(ptr @pool.busy)
  br label %serial
cut:
  %wide = zext i32 %threads to i64
  %got = call i1 @pool.reserve(i64 %wide, i64 %scratch)
  br i1 %got, label %begin, label %no_memory
begin:
  %most = mul i64 %wide, $P_per_thread
  %worth = udiv i64 %work, $P_task
  %some = call i64 @llvm.smax.i64(i64 %worth, i64 %wide)
  %few = call i64 @llvm.smin.i64(i64 %some, i64 %most)
  %long = udiv i64 %work, $BUDGET
  %polite = call i64 @llvm.smax.i64(i64 %few, i64 %long)
  %bounded = call i64 @llvm.smin.i64(i64 %polite, i64 1048576)
  %length = call i64 @pool.length_of(i64 %extent, i64 %bounded, i64 %grain)
  %up = add i64 %extent, %length
  %up1 = sub i64 %up, 1
  %tasks = udiv i64 %up1, %length
  store ptr %task, ptr @pool.task
  store ptr %frame, ptr @pool.frame
  store i64 %extent, ptr @pool.extent
  store i64 %length, ptr @pool.length
  store i64 %tasks, ptr @pool.tasks
  %me = call i64 @PyThread_get_thread_ident()
  store i64 %me, ptr @pool.owner
  store atomic i32 0, ptr @pool.interrupted monotonic, align 4
  store atomic i64 -1, ptr @pool.fault monotonic, align 8
  %generation = load i32, ptr @pool.generation
  call void @pool.publish(i64 %tasks)
  %refused = call i32 @pool.work(ptr %context, i64 0)
  %code = call i32 @pool.wait(ptr %context, i64 %tasks, i32 %refused, i32 %generation)
  ret i32 %code
}
; Memory for the workers of a region; false if it cannot be had.
define internal i1 @pool.reserve(i64 %threads, i64 %bytes) nounwind {
entry:
  %up = add i64 %bytes, 63
  %each = and i64 %up, -64
  %need = mul i64 %each, %threads
  %capacity = load i64, ptr @pool.capacity
  %fits = icmp ule i64 %need, %capacity
  br i1 %fits, label %yes, label %get
get:
  %old = load ptr, ptr @pool.block
  call void @free(ptr %old)
  store ptr null, ptr @pool.block
  store i64 0, ptr @pool.capacity
  %code = call i32 @posix_memalign(ptr @pool.block, i64 64, i64 %need)
  %bad = icmp ne i32 %code, 0
  br i1 %bad, label %no, label %new
no:
  store ptr null, ptr @pool.block
  ret i1 false
new:
  store i64 %need, ptr @pool.capacity
  br label %yes
yes:
  store i64 %each, ptr @pool.scratch
  ret i1 true
}
; The length of ranges: the grain's multiple, and long ranges whole cache lines of any element.
define internal i64 @pool.length_of(i64 %extent, i64 %tasks, i64 %grain) nounwind {
  %up = add i64 %extent, %tasks
  %up1 = sub i64 %up, 1
  %even = udiv i64 %up1, %tasks
  %fine = udiv i64 64, %grain
  %times = call i64 @llvm.smax.i64(i64 %fine, i64 1)
  %coarse = mul i64 %grain, %times
  %islong = icmp sge i64 %even, 1024
  %unit = select i1 %islong, i64 %coarse, i64 %grain
  %pad = add i64 %even, %unit
  %pad1 = sub i64 %pad, 1
  %units = udiv i64 %pad1, %unit
  %length = mul i64 %units, %unit
  ret i64 %length
}
; Hand out the tickets of a new epoch and wake who sleeps.
define internal void @pool.publish(i64 %tasks) nounwind {
entry:
  store atomic i32 0, ptr @pool.done monotonic, align 64
  %epoch = load atomic i32, ptr @pool.epoch monotonic, align 64
  %wide = zext i32 %epoch to i64
  %high = shl i64 %wide, 32
  %ticket = or i64 %high, %tasks
  store atomic i64 %ticket, ptr @pool.ticket release, align 64
  %e = atomicrmw add ptr @pool.epoch, i32 1 seq_cst
  %sleepers = load atomic i32, ptr @pool.sleepers seq_cst, align 64
  %some = icmp sgt i32 %sleepers, 0
  br i1 %some, label %wake, label %awake
wake:
  %f = call i64 (i64, ...) @syscall(i64 $FUTEX, ptr @pool.epoch, i64 $WAKE, i32 2147483647)
  br label %awake
awake:
  ret void
}
; Wait until all claimed tasks are done, asking for signals now and then; then what became of it.
define internal i32 @pool.wait(ptr %context, i64 %tasks, i32 %refused, i32 %mine) nounwind {
entry:
  %count = trunc i64 %tasks to i32
  %pp = getelementptr i8, ptr %context, i64 $X_poll
  %poll = load ptr, ptr %pp
  %deaf = icmp eq ptr %poll, null
  br label %look
look:
  %k = phi i64 [ 0, %entry ], [ %k1, %rest ]
  %stop = phi i32 [ %refused, %entry ], [ %stop1, %rest ]
  %generation = load i32, ptr @pool.generation
  %forked = icmp ne i32 %generation, %mine
  br i1 %forked, label %lost, label %compare
compare:
  %done = load atomic i32, ptr @pool.done acquire, align 64
  %all = icmp eq i32 %done, %count
  br i1 %all, label %over, label %idle
idle:
  $PAUSE
  %k1 = add i64 %k, 1
  %low = and i64 %k1, 2047
  %turn = icmp eq i64 %low, 0
  br i1 %turn, label %yield, label %rest
yield:
  %y = call i32 @sched_yield()
  %asked = icmp ne i32 %stop, 0
  %silent = or i1 %deaf, %asked
  %low2 = and i64 %k1, 2097151
  %early = icmp ne i64 %low2, 0
  %no = or i1 %silent, %early
  br i1 %no, label %rest, label %ask
ask:
  %answer = call i32 %poll(ptr %context)
  %bad = icmp ne i32 %answer, 0
  br i1 %bad, label %stop_all, label %rest
stop_all:
  store atomic i32 1, ptr @pool.interrupted monotonic, align 4
  br label %rest
rest:
  %stop1 = phi i32 [ %stop, %idle ], [ %stop, %yield ], [ %stop, %ask ], [ 1, %stop_all ]
  br label %look
lost:
  ret i32 -1
over:
  %halted = icmp ne i32 %stop, 0
  %fault = load atomic i64, ptr @pool.fault monotonic, align 8
  %well = icmp eq i64 %fault, -1
  br i1 %well, label %release, label %tell
tell:
  %payload = getelementptr i8, ptr %context, i64 $X_payload0
  %told = call ptr @memmove(ptr %payload, ptr @pool.payload, i64 16)
  %c = load i32, ptr @pool.code
  br label %release
release:
  %code = phi i32 [ 0, %over ], [ %c, %tell ]
  %result = select i1 %halted, i32 -1, i32 %code
  call void @symgraph.leave_word(ptr @pool.busy)
  ret i32 %result
}
"""

_CONTROL = """
; How many threads run a region, the caller among them.
define void @symgraph.pool_threads(i32 %n) nounwind {
  store atomic i32 %n, ptr @pool.threads monotonic, align 64
  ret void
}
; The least work for which a region is cut.
define void @symgraph.pool_least(i64 %work) nounwind {
  store atomic i64 %work, ptr @pool.least monotonic, align 8
  ret void
}
; In a child of fork: no workers, no region; 1 if this very thread was running one.
define i32 @symgraph.pool_reset() nounwind {
  %busy = load i32, ptr @pool.busy
  %owner = load i64, ptr @pool.owner
  %me = call i64 @PyThread_get_thread_ident()
  %same = icmp eq i64 %owner, %me
  %was = icmp ne i32 %busy, 0
  %lost = and i1 %same, %was
  store i64 0, ptr @pool.ticket
  store i32 0, ptr @pool.done
  store i32 0, ptr @pool.sleepers
  store i32 0, ptr @pool.workers
  store i32 0, ptr @pool.fault_lock
  store i32 0, ptr @pool.busy
  %g = load i32, ptr @pool.generation
  %g1 = add i32 %g, 1
  store i32 %g1, ptr @pool.generation
  %r = zext i1 %lost to i32
  ret i32 %r
}
"""

_DECLARATIONS = """
declare ptr @memmove(ptr, ptr, i64)
declare i64 @PyThread_get_thread_ident()
declare void @free(ptr)
declare i32 @posix_memalign(ptr, i64, i64)
declare i32 @sched_yield()
declare i64 @syscall(i64, ...)
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
"""
