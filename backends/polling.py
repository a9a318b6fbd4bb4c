"""Where the driver asks for signals: in every turn of a loop, and between launches that never ask.

Kernels poll by themselves if they may take long. Loops of short kernels, and long rows of them,
add up to a user's time as well.
"""

from __future__ import annotations

from .emit import BUDGET, FAR, POLL
from .irtext import Text
from .memory import has_poll, slots_of
from .program import Launch, Program

TURN = 256  # what one turn of a loop costs beside its kernels, in element-operations
QUIET = 1 << 22  # element-operations of launches that do not poll, after which the driver does


def poll_points(program: Program) -> dict[int, int]:
    """The steps (by id) to poll before, and the work to charge there.

    None from the first step that updates a shared variable in place: nothing may stop the call
    between two updates.
    """
    own = {u.slot for u in program.updates if u.mode == "inplace"}
    points: dict[int, int] = {}
    work = 0
    for step in program.steps:
        if any(writes and slot in own for slot, writes in slots_of(step)):
            break
        if work >= QUIET:
            points[id(step)] = work
            work = 0
        if isinstance(step, Launch) and isinstance(step.work, int) and not has_poll(step):
            work += step.work
    return points


def emit_poll(text: Text, cost: str, leave: str) -> None:
    """Charge the budget (cost: i64); used up, ask the host, and go to `leave` if told to."""
    budget = text.value(f"load i64, ptr {_field(text, BUDGET)}, align 8")
    left = text.value(f"sub i64 {budget}, {cost}")
    text.do(f"store i64 {left}, ptr {_field(text, BUDGET)}, align 8")
    ask, call, nobody, go_on = (text.label(n) for n in ("ask", "call", "nobody", "go"))
    text.fork(text.value(f"icmp slt i64 {left}, 0"), ask, go_on)
    text.start(ask)
    host = text.value(f"load ptr, ptr {_field(text, POLL)}, align 8")
    text.fork(text.value(f"icmp eq ptr {host}, null"), nobody, call)
    text.start(nobody)
    text.do(f"store i64 {FAR}, ptr {_field(text, BUDGET)}, align 8")
    text.jump(go_on)
    text.start(call)
    answer = text.value(f"call i32 {host}(ptr %context)")
    text.fork(text.value(f"icmp eq i32 {answer}, 0"), go_on, leave)
    text.start(go_on)


def _field(text: Text, byte: int) -> str:
    return text.value(f"getelementptr i8, ptr %context, i32 {byte}") if byte else "%context"
