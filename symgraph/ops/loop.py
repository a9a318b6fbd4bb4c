"""Loops: the op `Scan`, its derivative (a scan the other way), and `loop`, which builds one.

Scan inputs     sequences (leading axis n_steps), initial states, captures
region          parameters: one slice of each sequence, the states, the captures; results: the new
states, the outputs Scan outputs    the states stacked [n_steps, ...], the outputs stacked [n_steps,
...], the final states
                (the initial ones if n_steps is 0); whoever runs it keeps only what is used

With `reverse` steps go from index n_steps - 1 to 0; slices are read and results written at the
step's own index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .. import dims, relations
from ..arraytype import Array, Tuple
from ..dims import Atom, SizeLike, dim_min, evaluate_dim
from ..dtypes import DType, promote, scalar_dtype, weak
from ..errors import DTypeError, GraphError, InternalError, ShapeError, SymgraphError
from ..expr import Expr, apply, substitute, toposort, user_site
from ..grad import backpropagate, zeros_like_type
from ..leaves import DimValue, Shared, as_dim, lift
from ..op import Op
from ..region import (
    Region,
    Runner,
    check_same,
    close,
    note_draw,
    placeholder,
    recording_draws,
)
from .define import _is_weak as is_number
from .define import cast
from .elementwise import where
from .movement import Concatenate, broadcast_by, place_axis, reshape_to, slice_axis
from .tuple import parts

NO_TRUNCATION = 0


class Scan(Op):
    """A loop over the leading axis of sequences that carries states; see the module's text.

    sequences, states, outputs: how many of each. truncate: gradients go through the last `truncate`
    steps only; 0 through all.
    """

    name = "scan"
    region: Region
    n_steps: Any
    sequences: int
    states: int
    outputs: int
    reverse: bool
    truncate: int
    sizes: ClassVar[Mapping[Atom, Any]] = {}  # values of outer sizes; with_sizes sets them

    def infer(self, *types: Any) -> Tuple:
        if len(types) != len(self.region.params) or len(types) < self.sequences + self.states:
            raise InternalError(f"scan: {len(types)} operands for {self.region}")
        for i, t in enumerate(types[: self.sequences]):
            if not t.ndim:
                raise ShapeError(f"scan: sequence {i} has no axis to go over")
            relations.require_equal(t.shape[0], self.n_steps, f"scan: length of sequence {i}")
        relations.require_le(0, self.n_steps, "scan: number of steps")
        inner = self._inner(types)
        results = self.region.result_types(inner, "scan")
        states = inner[self.sequences : self.sequences + self.states]
        for i, (state, new) in enumerate(zip(states, results)):
            check_same(state, new, {}, f"scan: new value of state {i}")
        stacked = [
            Array(t.dtype, (self.n_steps, *t.shape)) for t in [*states, *results[self.states :]]
        ]
        return Tuple((*stacked, *states))

    def _inner(self, types: Sequence[Array]) -> list[Array]:
        """Types of the region's arguments."""
        slices = [Array(t.dtype, t.shape[1:]) for t in types[: self.sequences]]
        return [*slices, *types[self.sequences :]]

    def with_sizes(self, values: Mapping[Atom, Any]) -> Scan:
        steps = dims.substitute(self.n_steps, values)
        bound = type(self)(self.region, steps, *self._values[2:])
        object.__setattr__(bound, "sizes", values)
        return bound

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        n = int(arrays[0].shape[0]) if self.sequences else evaluate_dim(self.n_steps, self.sizes)
        if n < 0:
            raise ShapeError(f"scan: number of steps is {n}")
        shapes = [a.shape for a in arrays]
        shapes[: self.sequences] = [s[1:] for s in shapes[: self.sequences]]
        runner = Runner(self.region, shapes, self.sizes)
        stacked = [self._room(n, r, runner.sizes) for r in self.region.results]
        sequences = arrays[: self.sequences]
        states = list(arrays[self.sequences : self.sequences + self.states])
        captures = arrays[self.sequences + self.states :]
        for i in reversed(range(n)) if self.reverse else range(n):
            results = runner([*(s[i, ...] for s in sequences), *states, *captures])
            states = results[: self.states]
            for target, value in zip(stacked, results):
                target[i] = value
        return (*stacked, *states)

    def _room(self, n: int, result: Expr, sizes: Mapping[Atom, Any]) -> np.ndarray:
        """An array for n values of a result of the region."""
        shape = [evaluate_dim(s, sizes) for s in result.array_type.shape]
        return np.empty((n, *shape), result.dtype.np)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Any) -> list[Expr | None]:
        return self.vjp_partial(inputs, output, cotangent, [x.dtype.is_inexact for x in inputs])

    def vjp_partial(
        self, inputs: Sequence[Expr], output: Expr, cotangent: Any, wanted: Sequence[bool]
    ) -> list[Expr | None]:
        """Cotangents of the wanted inputs: a scan the other way that runs each step again."""
        return _Backward(self, inputs, output, cotangent, wanted).cotangents()

    def split(self, operands: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Something per operand, as (per sequence, per state, per capture)."""
        s, k = self.sequences, self.sequences + self.states
        return list(operands[:s]), list(operands[s:k]), list(operands[k:])

    def split_outputs(self, outputs: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Something per output, as (per stacked state, per stacked output, per final state)."""
        k, o = self.states, self.states + self.outputs
        return list(outputs[:k]), list(outputs[k:o]), list(outputs[o:])


# ----------------------------------------------------------------------------------- derivative


class _Backward:
    """The derivative of a Scan: a step takes cotangents of one step's results to its arguments'.

    Its states are the cotangents of the states and the sums for the captures; its sequences are
    those of the forward scan, the states before each step, and the cotangents of what the forward
    scan stacked.
    """

    def __init__(
        self, op: Scan, inputs: Sequence[Expr], output: Expr, cotangent: Any, wanted: Sequence[bool]
    ):
        self.op = op
        self.sequences, self.initials, self.captures = op.split(inputs)
        self.stacked = op.split_outputs(parts(output))[0]
        self.from_states, self.from_outputs, self.from_final = op.split_outputs(cotangent)
        self.want_sequence, self.want_initial, self.want_capture = op.split(wanted)
        self.flowing = [k for k, x in enumerate(self.initials) if x.dtype.is_inexact]
        n = op.n_steps
        self.steps = dim_min(n, op.truncate) if op.truncate else n
        self.start: SizeLike = 0 if op.reverse else n - self.steps

    def cotangents(self) -> list[Expr | None]:
        node, sums, slices = self._scan()
        _, outputs, final = node.op.split_outputs(parts(node))  # type: ignore[attr-defined]
        per_state = dict(zip(self.flowing, final))
        per_capture = dict(zip(sums, final[len(self.flowing) :]))
        per_sequence = {
            i: place_axis(x, 0, self.start, self.op.n_steps) for i, x in zip(slices, outputs)
        }
        return [
            *(per_sequence.get(i) for i in range(len(self.sequences))),
            *(
                self._cut(per_state[k]) if want else None
                for k, want in enumerate(self.want_initial)
            ),
            *(per_capture.get(i) for i in range(len(self.captures))),
        ]

    def _cut(self, x: Expr) -> Expr:
        """The initial states' cotangent: zero if truncation stops before the first step."""
        n, kept = self.op.n_steps, self.steps
        if dims.known_equal(n, kept) is True:
            return x
        if dims.known_equal(n, kept) is False:
            return zeros_like_type(x.array_type)
        return where(apply(DimValue(n)) <= self.op.truncate, x, zeros_like_type(x.array_type))

    def _scan(self) -> tuple[Expr, list[int], list[int]]:
        """The backward scan, the captures it sums for, the sequences it has cotangents of."""
        op = self.op
        slices = [i for i, want in enumerate(self.want_sequence) if want]
        sums = [i for i, want in enumerate(self.want_capture) if want]
        given = [*self.from_states, *self.from_outputs]
        xs, ps, cs = op.split([placeholder(t) for t in op.region.params])
        results = op.region.inline([*xs, *ps, *cs])
        gs = [None if g is None else placeholder(_slice_type(g)) for g in given]
        hs = [placeholder(self.initials[k].array_type) for k in self.flowing]
        totals = [placeholder(self.captures[i].array_type) for i in sums]
        seeds: list[tuple[Expr, Any]] = [(results[k], h) for k, h in zip(self.flowing, hs)]
        seeds += [(y, g) for y, g in zip(results, gs) if g is not None]
        targets = [*(ps[k] for k in self.flowing), *(cs[i] for i in sums), *(xs[i] for i in slices)]
        found = [
            zeros_like_type(x.array_type) if flow.cotangent is None else flow.cotangent
            for x, flow in zip(targets, backpropagate(seeds, targets))
        ]
        new_sums = [t + c for t, c in zip(totals, found[len(hs) :])]
        found[len(hs) : len(hs) + len(sums)] = new_sums
        params = [*xs, *ps, *(g for g in gs if g is not None), *hs, *totals]
        region, captures = close(params, substitute(found, list(zip(cs, self.captures))))
        previous = [self._previous(x, s) for x, s in zip(self.initials, self.stacked)]
        sequences = [*self.sequences, *previous, *(g for g in given if g is not None)]
        first = [self._first(k) for k in self.flowing]
        zeros = [zeros_like_type(t.array_type) for t in totals]
        states = [*first, *zeros]
        backward = Scan(
            region,
            self.steps,
            len(sequences),
            len(states),
            len(slices),
            not op.reverse,
            NO_TRUNCATION,
        )
        cut = [slice_axis(s, 0, self.start, self.steps) for s in sequences]
        return apply(backward, *cut, *states, *captures), sums, slices

    def _first(self, k: int) -> Expr:
        g = self.from_final[k]
        return zeros_like_type(self.initials[k].array_type) if g is None else g

    def _previous(self, initial: Expr, stacked: Expr) -> Expr:
        """The state before each step, stacked."""
        row = reshape_to(initial, (1, *initial.array_type.shape))
        joined = [stacked, row] if self.op.reverse else [row, stacked]
        start = 1 if self.op.reverse else 0
        return slice_axis(apply(Concatenate(0), *joined), 0, start, self.op.n_steps)


def _slice_type(x: Expr) -> Array:
    return Array(x.dtype, x.array_type.shape[1:])


# ------------------------------------------------------------------------------------- building

Step = Callable[[list[Expr], list[Expr]], tuple[Sequence[Any], Sequence[Any], Mapping[Shared, Any]]]


class Built(NamedTuple):
    """What a scan gives: all values of states and outputs, last values of states and shareds."""

    stacked: list[Expr]
    outputs: list[Expr]
    final: list[Expr]
    updates: dict[Shared, Expr]


class _Traced(NamedTuple):
    params: list[Expr]
    results: list[Expr]
    draws: list[Expr]
    updates: list[Shared]


def require_step(what: str, step: Any) -> None:
    """A step is a function.  Raises: GraphError."""
    if not callable(step) or isinstance(step, Expr):
        raise GraphError(f"{what}: the step must be a function, got {step!r}", site=user_site())


def build(
    what: str,
    step: Step,
    sequences: Sequence[Expr],
    initials: Sequence[Any],
    n_steps: SizeLike,
    *,
    reverse: bool = False,
    truncate: int = NO_TRUNCATION,
) -> Built:
    """Trace `step` and make the scan.

    step(slices, states) -> (new states, outputs, {shared: new value}). initials: expressions, or
    Python numbers, which take the dtype and shape of the step's result. Random draws made inside
    the step become sequences, so that each step has its own numbers; shared variables that the step
    updates become states.
    """
    sequences = list(sequences)
    start, traced = _trace(what, step, sequences, list(initials))
    sequences += [_all_draws(d, n_steps) for d in traced.draws]
    states = [*start, *traced.updates]
    region, captures = close(traced.params, traced.results)
    outputs = len(traced.results) - len(states)
    op = Scan(region, n_steps, len(sequences), len(states), outputs, reverse, truncate)
    stacked, outs, final = op.split_outputs(parts(apply(op, *sequences, *states, *captures)))
    k = len(start)
    return Built(stacked[:k], outs, final[:k], dict(zip(traced.updates, final[k:])))


def _all_draws(draw: Expr, n_steps: SizeLike) -> Expr:
    """What a random draw gives in all steps; itself a draw of the step outside, if there is one."""
    node = apply(draw.op.batched(n_steps), *draw.inputs, site=draw.site)  # type: ignore[attr-defined]
    note_draw(node)
    return node


def _trace(
    what: str, step: Step, sequences: list[Expr], initials: list[Any]
) -> tuple[list[Expr], _Traced]:
    """Run the step until weak initial values (Python numbers) have the type it returns."""
    weak_ones = [k for k, x in enumerate(initials) if not isinstance(x, Expr)]
    states = [x if isinstance(x, Expr) else _guess(x, sequences) for x in initials]
    for _ in range(5):
        traced, new = _trace_once(step, sequences, states)
        if len(new) != len(states):
            raise GraphError(
                f"{what}: the step returned {len(new)} states for {len(states)} initial values",
                site=user_site(),
            )
        changed = [k for k in weak_ones if new[k].type != states[k].type]
        if not changed:
            break
        for k in changed:
            t = new[k].array_type
            states[k] = broadcast_by(lift(initials[k], weak(initials[k], t.dtype)), t.shape)
    for k, (state, result) in enumerate(zip(states, new)):
        _check_state(what, k, state, result)
    return states, traced


def _guess(value: Any, sequences: Sequence[Expr]) -> Expr:
    """A Python number as a first state: in the dtype of the sequences of its kind, if any."""
    own = scalar_dtype(value)
    beside = [x.dtype for x in sequences if _rank(x.dtype) == _rank(own)]
    return lift(value, promote(*beside) if beside else own)


def _rank(d: DType) -> int:
    return "bifc".index("i" if d.kind == "u" else d.kind)


def _trace_once(
    step: Step, sequences: Sequence[Expr], states: Sequence[Expr]
) -> tuple[_Traced, list[Expr]]:
    xs = [placeholder(_slice_type(x), x.name) for x in sequences]
    hs = [placeholder(x.array_type, x.name) for x in states]
    with recording_draws() as draws:
        new, outs, updates = step(xs, hs)
    new = [lift(v, h.dtype) for v, h in zip(new, hs)] + [lift(v) for v in new[len(hs) :]]
    changed = list(updates)
    hidden = [placeholder(s.array_type, s.name) for s in changed]
    values = [cast(lift(updates[s], s.dtype), s.dtype) for s in changed]
    results = [*new, *values, *(lift(v) for v in outs)]
    present = set(map(id, toposort(results)))
    used = list({id(d): d for d in draws if id(d) in present}.values())
    drawn = [placeholder(d.array_type) for d in used]
    results = substitute(results, [*zip(used, drawn), *zip(changed, hidden)])
    return _Traced([*xs, *drawn, *hs, *hidden], results, used, changed), new


def _check_state(what: str, k: int, state: Expr, new: Expr) -> None:
    """The error everybody needs: a state starts as one type and comes back as another."""
    have, got = state.array_type, new.array_type
    label = f"state {k}" + (f" ({state.name})" if state.name else "")
    fact = f"{what}: {label} starts as {have}, but the step returns {got}"
    if have.dtype is not got.dtype:
        raise DTypeError(
            fact,
            site=user_site(),
            operands=[state, new],
            hint=f"cast the initial value, .astype({str(got.dtype)!r}), "
            f"or the step's result, .astype({str(have.dtype)!r})",
        )
    try:
        check_same(have, got, {}, what)
    except SymgraphError:
        raise ShapeError(
            fact,
            site=user_site(),
            operands=[state, new],
            hint=f"start from an array of shape {got.shape}: broadcast_to(initial, shape)",
        ) from None


def loop(
    step: Callable[..., Any],
    init: Any,
    xs: Any = None,
    length: Any = None,
    *,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Carry a value through steps: (final carry, ys stacked).

    step(carry, x) -> (new carry, y), or step(carry) when there are no xs; y may be None. carry, x
    and y are single expressions or tuples of them; Python numbers in `init` take the type of the
    step's result. xs: arrays with a common leading axis, the steps. length: the number of steps (an
    int, a size or an integer scalar) when there are no xs.
    reverse: from the last x to the first; ys stay in the order of xs.

    Example: running sums of the rows of x
        total, sums = loop(lambda s, row: (s + row, s + row), 0.0, x)
    """
    require_step("loop", step)
    sequences, rebuild_x = _flatten(() if xs is None else xs)
    initials, rebuild_carry = _flatten(init)
    arrays = [lift(x) for x in sequences]
    arrays, n = common_length("loop", arrays, length)
    y_form: list[Callable[[list[Expr]], Any]] = []

    def one(
        slices: list[Expr], states: list[Expr]
    ) -> tuple[list[Any], list[Any], dict[Shared, Any]]:
        returned = (
            step(rebuild_carry(states), rebuild_x(slices))
            if arrays
            else step(rebuild_carry(states))
        )
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise GraphError(
                "loop: the step must return (new carry, y); y may be None", site=user_site()
            )
        ys, form = _flatten(() if returned[1] is None else returned[1])
        y_form[:] = [form if returned[1] is not None else lambda _: None]
        return _flatten(returned[0])[0], ys, {}

    start = [x if is_number(x) else lift(x) for x in initials]
    built = build("loop", one, arrays, start, n, reverse=reverse)
    return rebuild_carry(built.final), y_form[0](built.outputs)


def _flatten(value: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """A single value or a flat tuple or list as a list, and how to get the form back."""
    if isinstance(value, (tuple, list)):
        return list(value), tuple
    return [value], lambda items: items[0]


def common_length(what: str, sequences: list[Expr], length: Any) -> tuple[list[Expr], SizeLike]:
    """The sequences cut to one length, and it.

    Known lengths that differ: the shortest (as in Theano). Symbolic ones must be equal when the
    function is called. A given length cuts the sequences.
    """
    for i, x in enumerate(sequences):
        if not x.ndim:
            raise ShapeError(
                f"{what}: sequence {i} ({x.label}) has no axis to go over",
                site=user_site(),
                operands=[x],
            )
    lengths = [x.array_type.shape[0] for x in sequences]
    if length is not None:
        n: SizeLike = as_dim(length, f"{what}: number of steps")
    elif lengths:
        known = [s for s in lengths if isinstance(s, int)]
        n = min(known) if known else lengths[0]
    else:
        raise GraphError(f"{what}: expected sequences or a number of steps", site=user_site())
    return [_cut(what, i, x, n, length is not None) for i, x in enumerate(sequences)], n


def _cut(what: str, i: int, x: Expr, n: SizeLike, explicit: bool) -> Expr:
    size = x.array_type.shape[0]
    if dims.known_equal(size, n) is True or not (explicit or isinstance(size, int)):
        return x
    if dims.known_le(n, size) is False:
        raise ShapeError(
            f"{what}: {n} steps, but sequence {i} ({x.label}) has {size}",
            site=user_site(),
            operands=[x],
        )
    return slice_axis(x, 0, 0, n)


__all__ = ["Built", "Scan", "build", "common_length", "loop", "require_step"]
