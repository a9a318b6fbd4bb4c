"""The blocks of memory that native code and Python share: context, cell, state block."""

from __future__ import annotations

# The context of a call: kernels know the first four fields, the rest is the driver's and entry's.
FIELDS = {  # byte offsets in the context, after what kernels know of it
    "budget": 0,
    "poll": 8,
    "payload0": 16,
    "payload1": 24,
    "thread": 32,  # the Python thread state while the GIL is released, else null
    "host": 40,  # i32 (ptr context, i32 host step, ptr addresses)
    "self": 48,  # the Function that is running
    "atoms": 56,
    "profile": 64,  # for each launch two i64: nanoseconds, calls
    "next": 72,  # the next context in the list of calls that wait for Python code of ours
    "owner": 80,  # the thread of such a call
}
CONTEXT_BYTES = 96

# Byte offsets in the cell of a shared variable; see state.Cell.
CELL = {"lock": 0, "waiting": 8, "data": 16, "spare_data": 24, "array": 32, "spare": 40, "dims": 48}

# Byte offsets in a Function's state block; see state.State.
ARENAS = 8  # idle arenas a function keeps at most
STATE = {
    "calls": 0,
    "locks": 8,
    "lock_table": 16,
    "cells": 24,
    "constants": 32,
    "profile": 40,
    "keys": 48,
    "numbers": 56,  # whether Python numbers go in without Python's rules being asked
    "arenas": 64,
}
STATE_BYTES = STATE["arenas"] + 8 * ARENAS
ARENA_HEADER = 64  # before the first byte: the raw pointer, then the capacity

# How a row of the lock table is taken. A call that also writes must not stand back for a writer
# that waits: two such calls could wait for each other.
POLITE_READ, WRITE, FIRM_READ = 0, 1, 2

POLL_BUDGET = 1 << 24  # element-operations between two polls: about 20 ms
GIL_WORK = 200_000  # element-operations from which the GIL is released: about 20 us
NO_MEMORY = 2**31 - 1  # the entry's own fault: payload0 bytes of temporaries cannot be had
