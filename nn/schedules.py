"""Schedules: learning rates as expressions of the number of steps made so far.

A schedule is any function of the step (a float64 scalar expression, 0 at the first update) that
gives the rate; every update rule takes one as its `rate`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import symgraph as sg
from symgraph.errors import GraphError
from symgraph.expr import Expr, user_site

Schedule = Callable[[Expr], Any]


def constant(rate: float) -> Schedule:
    """The same rate for ever."""
    return lambda step: sg.constant(rate, step.dtype)


def step_decay(rate: float, every: int, factor: float = 0.1) -> Schedule:
    """rate * factor^k after k times `every` steps."""
    _require_steps("step_decay", every)
    return lambda step: rate * factor ** sg.floor(step / every)


def exponential(rate: float, steps: int, factor: float = 0.1) -> Schedule:
    """rate * factor^(step / steps): smooth, `factor` times smaller every `steps` steps."""
    _require_steps("exponential", steps)
    return lambda step: rate * factor ** (step / steps)


def cosine(rate: float, steps: int, floor: float = 0.0) -> Schedule:
    """From rate down to floor along half a cosine in `steps` steps; then floor.

    Source: Loshchilov and Hutter 2017, SGDR, equation 5, without restarts.
    """
    _require_steps("cosine", steps)

    def at(step: Expr) -> Expr:
        turned: Expr = sg.cos(math.pi * sg.minimum(step / steps, 1))
        return floor + (rate - floor) * 0.5 * (1 + turned)

    return at


def warmup(schedule: Schedule | float, steps: int) -> Schedule:
    """A schedule (or a rate) that is reached in `steps` equal steps up from 0 and then begins.

    Source: Goyal et al. 2017, section 2.2.
    """
    _require_steps("warmup", steps)
    after = schedule if callable(schedule) else constant(schedule)

    def at(step: Expr) -> Expr:
        risen = sg.minimum((step + 1) / steps, 1)
        return risen * after(sg.maximum(step - steps, 0))

    return at


def _require_steps(what: str, steps: int) -> None:
    if not steps > 0:
        raise GraphError(f"{what}: expected more than 0 steps, got {steps}", site=user_site())
