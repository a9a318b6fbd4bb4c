"""Theano's face of loops: scan, map, reduce, foldl, foldr over `loop.build`.

The step function is called with one slice of each sequence (for each of its taps, in the given
order), the previous values of the outputs that recur (for each of their taps), then the
non_sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..dims import SizeLike
from ..errors import GraphError, ShapeError
from ..expr import Expr, apply, user_site
from ..leaves import Shared, lift
from .define import _is_weak as is_number
from .loop import NO_TRUNCATION, build, common_length, require_step
from .movement import Concatenate, flip_axes, reshape_to, slice_axis

Updates = dict[Shared, Expr]


class until:
    """What ends a loop early in Theano, returned by the step; not supported here."""

    def __init__(self, condition: Any):
        raise GraphError(
            "scan: until(...) is not supported: the loop must know its number of steps beforehand",
            site=user_site(),
            hint="give n_steps, and keep the state once done: where(done, old, new)",
        )


def scan(
    fn: Callable[..., Any],
    sequences: Any = None,
    outputs_info: Any = None,
    non_sequences: Any = None,
    n_steps: Any = None,
    truncate_gradient: int = -1,
    go_backwards: bool = False,
    name: str | None = None,
    strict: bool = False,
    return_list: bool = False,
) -> tuple[Any, Updates]:
    """Apply fn step by step: (outputs, updates).

    sequences: arrays gone over by their leading axis; dict(input=x, taps=[-1, 0]) gives fn several
    slices. The shortest known length counts; symbolic lengths must be equal.
    outputs_info: for each output None (it does not recur), its initial value, or dict(initial=x,
    taps=[-2, -1]) with x's leading axis holding the past values. A Python number takes the type of
    the step's result.
    non_sequences: passed to every step; anything else the step uses is captured (`strict` only
    documents that it does not).
    n_steps: an int, a size or an integer scalar. truncate_gradient: gradients go through the last k
    steps (-1: all).
    go_backwards: sequences are read from their end; outputs are in the order of execution.

    fn returns outputs (one or a list), or {shared: new value}, or both as a pair. Outputs come
    stacked, without the initial value: one bare, several as a list. `updates` holds the last values
    of shared variables; pass it to function().
    """
    what = f"scan {name}" if name else "scan"
    require_step(what, fn)
    slices = [x for s in _as_list(sequences) for x in _sequence(what, s).slices()]
    if go_backwards:
        slices = [flip_axes(x, (0,)) for x in slices]
    slices, n = common_length(what, slices, n_steps)
    entries = None if outputs_info is None else [_output(what, o) for o in _as_list(outputs_info)]
    recurring = [(i, o) for i, o in enumerate(entries or ()) if o is not None]
    plain = {i for i, o in recurring if o.is_plain}  # outputs that are states, stacked as such
    others = [lift(x) for x in _as_list(non_sequences)]
    form: list[Any] = []

    def step(xs: list[Expr], states: list[Expr]) -> tuple[list[Any], list[Any], Updates]:
        past = [v for (_, o), state in zip(recurring, states) for v in o.values(state)]
        outputs, updates, bare = _parse(what, fn(*xs, *past, *others))
        if entries is not None and len(outputs) != len(entries):
            raise GraphError(
                f"{what}: the step gave {len(outputs)} outputs, outputs_info has {len(entries)}",
                site=user_site(),
            )
        form[:] = [len(outputs), bare]
        new = [o.shifted(state, outputs[i]) for (i, o), state in zip(recurring, states)]
        return new, [y for i, y in enumerate(outputs) if i not in plain], updates

    truncate = NO_TRUNCATION if truncate_gradient < 0 else truncate_gradient
    built = build(what, step, slices, [o.initial for _, o in recurring], n, truncate=truncate)
    states = {i: y for (i, _), y in zip(recurring, built.stacked)}
    outputs = iter(built.outputs)
    found = [states[i] if i in plain else next(outputs) for i in range(form[0])]
    return _in_form(found, form[1] and not return_list), built.updates


def _in_form(found: list[Expr], bare: bool) -> Any:
    """Theano's forms of results: None for none, one bare, several as a list."""
    return (found[0] if bare else found) if found else None


def map(
    fn: Callable[..., Any],
    sequences: Any,
    non_sequences: Any = None,
    truncate_gradient: int = -1,
    go_backwards: bool = False,
    name: str | None = None,
) -> tuple[Any, Updates]:
    """fn applied to each element of the sequences: (outputs, updates)."""
    return scan(fn, sequences, None, non_sequences, None, truncate_gradient, go_backwards, name)


def reduce(
    fn: Callable[..., Any],
    sequences: Any,
    outputs_info: Any,
    non_sequences: Any = None,
    go_backwards: bool = False,
    name: str | None = None,
) -> tuple[Any, Updates]:
    """The last outputs of a scan in which every output recurs: (outputs, updates)."""
    what = f"reduce {name}" if name else "reduce"
    require_step(what, fn)
    arrays = [lift(s) for s in _as_list(sequences)]
    arrays = [flip_axes(x, (0,)) for x in arrays] if go_backwards else arrays
    arrays, n = common_length(what, arrays, None)
    initials = [x if is_number(x) else lift(x) for x in _as_list(outputs_info)]
    others = [lift(x) for x in _as_list(non_sequences)]
    bare = [True]

    def step(xs: list[Expr], states: list[Expr]) -> tuple[list[Any], list[Any], Updates]:
        outputs, updates, bare[0] = _parse(what, fn(*xs, *states, *others))
        return outputs, [], updates

    built = build(what, step, arrays, initials, n)
    return (built.final[0] if bare[0] else built.final), built.updates


def foldl(
    fn: Callable[..., Any],
    sequences: Any,
    outputs_info: Any,
    non_sequences: Any = None,
    name: str | None = None,
) -> tuple[Any, Updates]:
    """reduce from the first element to the last."""
    return reduce(fn, sequences, outputs_info, non_sequences, False, name)


def foldr(
    fn: Callable[..., Any],
    sequences: Any,
    outputs_info: Any,
    non_sequences: Any = None,
    name: str | None = None,
) -> tuple[Any, Updates]:
    """reduce from the last element to the first."""
    return reduce(fn, sequences, outputs_info, non_sequences, True, name)


# ------------------------------------------------------------------------------------ arguments


class _Taps(NamedTuple):
    """A sequence and the offsets at which a step sees it."""

    node: Expr
    taps: tuple[int, ...]

    def slices(self) -> list[Expr]:
        """One sequence per tap, all of the length that keeps every tap in range."""
        low, high = min(self.taps), max(self.taps)
        if low == high == 0:
            return [self.node]
        low, high = min(low, 0), max(high, 0)
        length = self.node.array_type.shape[0] - (high - low)
        return [slice_axis(self.node, 0, k - low, length) for k in self.taps]


class _Recurrence(NamedTuple):
    """An output that recurs: its state, a window of `depth` past values if one is not enough."""

    initial: Any
    taps: tuple[int, ...]
    depth: int

    @property
    def is_plain(self) -> bool:
        return self.depth == 0

    def values(self, state: Expr) -> list[Expr]:
        """What the step sees of the past."""
        if self.is_plain:
            return [state]
        rows = [slice_axis(state, 0, self.depth + k, 1) for k in self.taps]
        return [reshape_to(r, r.array_type.shape[1:]) for r in rows]

    def shifted(self, state: Expr, output: Any) -> Any:
        """The state after a step."""
        if self.is_plain:
            return output
        new = lift(output, state.dtype)
        row = reshape_to(new, (1, *new.array_type.shape))
        return apply(Concatenate(0), slice_axis(state, 0, 1, self.depth - 1), row)


def _sequence(what: str, s: Any) -> _Taps:
    if not isinstance(s, Mapping):
        return _Taps(lift(s), (0,))
    _check_keys(what, s, {"input", "taps"}, "input")
    return _Taps(lift(s["input"]), _tap_list(what, s.get("taps", 0)))


def _output(what: str, o: Any) -> _Recurrence | None:
    if o is None:
        return None
    if not isinstance(o, Mapping):
        return _Recurrence(o if is_number(o) else lift(o), (-1,), 0)
    if o.get("initial") is None and o.get("taps") is None:
        return None
    _check_keys(what, o, {"initial", "taps"}, "initial")
    taps = _tap_list(what, o.get("taps", -1))
    initial = o["initial"]
    if taps == (-1,):
        return _Recurrence(initial if is_number(initial) else lift(initial), taps, 0)
    if max(taps) >= 0:
        raise GraphError(
            f"{what}: taps of an output must be negative, got {list(taps)}", site=user_site()
        )
    window, depth = lift(initial), -min(taps)
    length: SizeLike = window.array_type.shape[0] if window.ndim else 0
    if length != depth:
        raise ShapeError(
            f"{what}: taps {list(taps)} need {depth} past values, initial is {window.type}",
            site=user_site(),
            operands=[window],
            hint=f"its leading axis must have size {depth}",
        )
    return _Recurrence(window, taps, depth)


def _check_keys(what: str, given: Mapping[str, Any], known: set[str], needed: str) -> None:
    if needed not in given or not known.issuperset(given):
        raise GraphError(
            f"{what}: expected a dict with {needed!r} and maybe 'taps', got keys {sorted(given)}",
            site=user_site(),
        )


def _tap_list(what: str, taps: Any) -> tuple[int, ...]:
    listed = tuple(taps) if isinstance(taps, (list, tuple)) else (taps,)
    if not listed or not all(isinstance(k, (int, np.integer)) for k in listed):
        raise GraphError(f"{what}: taps must be integers, got {taps!r}", site=user_site())
    return tuple(int(k) for k in listed)


def _parse(what: str, returned: Any) -> tuple[list[Any], Updates, bool]:
    """What a step returned, as (outputs, updates, whether one bare output)."""
    outputs, updates = returned, None
    if _is_updates(returned):
        outputs, updates = [], returned
    elif isinstance(returned, tuple) and len(returned) == 2 and _is_updates(returned[1]):
        outputs, updates = returned
    elif isinstance(returned, tuple) and len(returned) == 2 and _is_updates(returned[0]):
        updates, outputs = returned
    pairs = dict(updates or {})
    for s in pairs:
        if not isinstance(s, Shared):
            raise GraphError(
                f"{what}: updates must be of shared variables, got {s!r}", site=user_site()
            )
    listed = _as_list(outputs)
    return listed, pairs, len(listed) == 1


def _is_updates(x: Any) -> bool:
    """{shared: value}, or a list of (shared, value) pairs."""
    if isinstance(x, Mapping):
        return True
    return (
        isinstance(x, list)
        and bool(x)
        and all(isinstance(p, tuple) and len(p) == 2 and isinstance(p[0], Shared) for p in x)
    )


def _as_list(xs: Any) -> list[Any]:
    if xs is None:
        return []
    return list(xs) if isinstance(xs, (list, tuple)) else [xs]


__all__ = ["foldl", "foldr", "map", "reduce", "scan", "until"]
