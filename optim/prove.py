"""A rule is an equation, so it tests itself: both sides on random dtypes, shapes and values.

exact     every element has the same bits (any NaN is equal to any NaN)
rounds    elements differ by a bounded number of roundings of the largest terms that were added;
          NaN and infinities are the same; the sign of a zero may differ
stabler   the error against high precision is not larger, beyond ULPS; a NaN or an infinity may
          only become the number that is true, and only where no input is NaN. Where whole rows
          take part (softmax, sums) errors are measured against the largest element, and a result
          that holds a NaN made of NaN or infinities may hold others
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from symgraph.arraytype import Array
from symgraph.errors import ShapeError, VerifyError
from symgraph.evaluate import check_guards, evaluate
from symgraph.expr import Expr, toposort
from symgraph.ops.define import Elementwise
from symgraph.ops.nnet import AlongAxis
from symgraph.ops.reduce import Reduce

from .cost import GENERIC, elements
from .journal import Journal
from .match import Index
from .precise import evaluate_precisely
from .rewrite import Rewriter
from .rule import Rule
from .samples import NUMBERS, Instance, Random, concrete, instance, with_values

ULPS = 4.0  # what the elementary functions of the reference may be off by themselves
ROUNDINGS = 24.0  # for each node of both sides, in rules that may round differently
COST_SLACK = 2.0  # a stabler function may cost a little more than the one it replaces
LIMIT = 1e4  # stands for infinity where a limit is asked for
_ADDITIVE = frozenset("add sub sum cumsum matmul softmax attention erfc".split())
Examples = Callable[[Random], "Expr | None"]


class Proof(NamedTuple):
    """How many instances matched and held."""

    rule: Rule
    instances: int


def prove(rule: Rule, count: int = 25, seed: int = 0, examples: Examples | None = None) -> Proof:
    """Check a rule on `count` random instances.

    examples: makes expressions that match, for rules whose left side does not say what its
    operands are.
    Raises: VerifyError at the first instance that fails, or if too few instances match.
    """
    rng = np.random.default_rng(seed)
    index = Index([rule])
    matched = 0
    for _ in range(count * 40):
        drawn = _draw(rule, rng, examples)
        if drawn is None or not _runs(drawn):
            continue
        new = Rewriter(index, Journal(), strict=True).once(drawn.node)
        if new is not None:
            check(rule, drawn, new)
            matched += 1
            if matched == count:
                return Proof(rule, matched)
    if matched < min(count, 5):
        raise VerifyError(
            f"rule {rule.name!r} ({rule.place}): only {matched} of {count * 40} instances matched"
        )
    return Proof(rule, matched)


def _draw(rule: Rule, rng: Random, examples: Examples | None) -> Instance | None:
    if examples is None:
        return instance(rule, rng)
    node = examples(rng)
    return None if node is None else with_values(node, rng)


def _runs(drawn: Instance) -> bool:
    """Whether the instance's sizes fit each other."""
    try:
        check_guards([drawn.node], NUMBERS)
    except ShapeError:
        return False
    return True


def check(rule: Rule, drawn: Instance, new: Expr) -> None:
    """Both sides of one instance against each other.   Raises: VerifyError with what differs."""
    node, values = drawn
    if new.type != node.type:
        raise _failure(rule, drawn, new, f"{node.type} became {new.type}")
    before, after = (_parts(evaluate(x, values, sizes=NUMBERS)) for x in (node, new))
    for a, b in zip(before, after, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise _failure(rule, drawn, new, f"{a.dtype}{a.shape} became {b.dtype}{b.shape}")
        is_float = isinstance(node.type, Array) and node.dtype.is_float
        _JUDGES[rule.grade if is_float else "exact"](rule, drawn, new, a, b)
    old_cost, new_cost = total_cost(node), total_cost(new)
    slack = COST_SLACK if rule.grade == "stabler" else 1.0
    moved = isinstance(node.type, Array) and not isinstance(node.op, Elementwise)
    rest = 2.0 * elements(node) if moved else 0.0  # copies of small results
    if new_cost > old_cost * slack + rest:
        raise _failure(rule, drawn, new, f"cost {old_cost} became {new_cost}")


def _parts(value: Any) -> tuple[np.ndarray, ...]:
    return value if isinstance(value, tuple) else (value,)


def total_cost(output: Expr) -> float:
    """The generic cost of everything an expression computes."""
    return sum(map(GENERIC.weight, toposort([output])))


# ------------------------------------------------------------------------------------------ judges


def _exact(rule: Rule, drawn: Instance, new: Expr, before: np.ndarray, after: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        same = (before == after) | ((before != before) & (after != after))
        if before.dtype.kind == "f" or before.dtype.name == "bfloat16":
            same &= (np.signbit(before) == np.signbit(after)) | (before != before)
    _require(same, "the bits differ", rule, drawn, new, before, after)


def _rounds(rule: Rule, drawn: Instance, new: Expr, before: np.ndarray, after: np.ndarray) -> None:
    a, b = before.astype(np.float64), after.astype(np.float64)
    eps, tiny, largest = _limits(before.dtype)
    edge = 0.999 * largest
    with np.errstate(all="ignore"):
        odd = ~np.isfinite(a) | ~np.isfinite(b)
        alike = (
            (a == b)
            | (np.isnan(a) & np.isnan(b))
            | ((np.abs(a) > edge) & (np.abs(b) > edge) & (a * b > 0))
        )
        _require(alike | ~odd, "NaN or infinity differ", rule, drawn, new, before, after)
        bound = ROUNDINGS * eps * _scale(drawn, new, a.shape) + 8 * tiny
        _require(
            odd | (np.abs(a - b) <= bound),
            f"off by more than {bound.max()}",
            rule,
            drawn,
            new,
            before,
            after,
        )


def _scale(drawn: Instance, new: Expr, shape: tuple[int, ...]) -> np.ndarray:
    """How large the terms are that are added on the way, for each element if possible."""
    scale = np.zeros(shape)

    def see(node: Expr, value: Any) -> None:
        for x in node.inputs if node.op.name in _ADDITIVE else ():
            _widen(scale, seen[id(x)])
        seen[id(node)] = value
        if node is drawn.node or node is new:
            _widen(scale, value)

    for side in (drawn.node, new):
        seen: dict[int, Any] = {}
        evaluate(side, drawn.values, sizes=NUMBERS, observe=lambda node, value: see(node, value))
    return scale


def _widen(scale: np.ndarray, value: Any) -> None:
    size = np.nan_to_num(np.abs(np.asarray(value, np.float64)), nan=0.0, posinf=0.0)
    try:
        np.maximum(scale, size, out=scale)
    except ValueError:
        np.maximum(scale, size.sum(), out=scale)


def _stabler(rule: Rule, drawn: Instance, new: Expr, before: np.ndarray, after: np.ndarray) -> None:
    a, b = before.astype(np.float64), after.astype(np.float64)
    given = [v for v in drawn.values.values() if v.dtype.kind not in "biu"]
    poisoned = _anywhere([np.isnan(v) for v in given], a.shape)
    open_ended = _anywhere([np.isinf(v) for v in given], a.shape)
    truth = _truth(drawn.node, drawn.values)
    if open_ended.any():  # infinity stands for its limit where the left side has no value
        limits = _truth(drawn.node, {x: _with_limits(v) for x, v in drawn.values.items()})
        truth = np.where(open_ended & ~poisoned & np.isnan(a), limits, truth)
    # the left side may cancel beyond any precision: log(1 - sigmoid(1e9))
    beyond = _is_infinite(truth) & ~open_ended
    if beyond.any():
        truth = np.where(beyond, _truth(new, drawn.values), truth)
    rows = any(isinstance(x.op, (Reduce, AlongAxis)) for x in toposort([drawn.node]))
    floor = float(np.nan_to_num(np.abs(a), posinf=0.0).max(initial=0.0)) if rows else 0.0
    fine = np.ones(a.shape, bool)
    spoiled = rows and np.isnan(a).any() and (poisoned.any() or open_ended.any())
    for at in np.ndindex((0,) if spoiled else a.shape):
        x, y = float(a[at]), float(b[at])
        fine[at] = _not_worse(x, y, truth[at], before.dtype, bool(poisoned[at]), floor)
    _require(fine, "less accurate", rule, drawn, new, before, after)


def _anywhere(masks: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Where some mask holds: element by element if it broadcasts, else everywhere or nowhere."""
    result = np.zeros(shape, bool)
    for mask in masks:
        try:
            result |= np.broadcast_to(mask, shape)
        except ValueError:
            result |= mask.any()
    return result


def _truth(node: Expr, values: dict[Expr, np.ndarray]) -> np.ndarray:
    return evaluate_precisely(*concrete(node, values))


def _with_limits(x: np.ndarray) -> np.ndarray:
    """Infinities replaced by large numbers."""
    return np.clip(x, -LIMIT, LIMIT) if x.dtype.kind not in "biu" else x


def _is_infinite(x: np.ndarray) -> np.ndarray:
    import mpmath

    return np.asarray(np.frompyfunc(lambda v: bool(mpmath.isinf(v)), 1, 1)(x), bool)


def _not_worse(
    a: float, b: float, truth: Any, dtype: np.dtype, poisoned: bool, floor: float
) -> bool:
    """Whether b is no worse than a, `truth` being what both should be."""
    import mpmath

    same = a == b or bool(np.isnan(a) and np.isnan(b))
    if poisoned:
        return same or bool(np.isfinite(a) and np.isfinite(b))
    if mpmath.isnan(truth):
        return same
    if mpmath.isinf(truth):
        return same or bool(np.isnan(a) and b == float(truth))
    return _error(b, truth, dtype, floor) <= _error(a, truth, dtype, floor) + ULPS


def _error(value: float, truth: Any, dtype: np.dtype, floor: float) -> float:
    """Distance in units in the last place, those of `floor` at least."""
    import mpmath

    eps, tiny, largest = _limits(dtype)
    if np.isnan(value):
        return np.inf
    if abs(truth) > largest:
        return 0.0 if abs(value) >= 0.999 * largest and (value > 0) == (truth > 0) else np.inf
    if np.isinf(value):
        return 0.0 if abs(truth) >= 0.999 * largest and (value > 0) == (truth > 0) else np.inf
    unit = max(float(abs(truth)) * eps, floor * eps, tiny)
    return float(abs(mpmath.mpf(value) - truth) / unit)


_JUDGES: dict[str, Callable[..., None]] = {"exact": _exact, "rounds": _rounds, "stabler": _stabler}


def _limits(dtype: np.dtype) -> tuple[float, float, float]:
    """Rounding unit, smallest number, largest number."""
    if dtype.name == "bfloat16":
        return 2.0**-7, 2.0**-133, 3.3895313892515355e38
    info = np.finfo(dtype)
    return float(info.eps), float(info.smallest_subnormal), float(info.max)


def _require(
    holds: np.ndarray,
    what: str,
    rule: Rule,
    drawn: Instance,
    new: Expr,
    before: np.ndarray,
    after: np.ndarray,
) -> None:
    if not np.all(holds):
        at = tuple(np.argwhere(~np.asarray(holds))[0])
        raise _failure(
            rule,
            drawn,
            new,
            f"{what}: at {tuple(map(int, at))} {before[at]!r} became {after[at]!r}",
        )


def _failure(rule: Rule, drawn: Instance, new: Expr, what: str) -> VerifyError:
    given = "\n".join(f"    {x.label}: {x.type} = {v!r}" for x, v in drawn.values.items())
    return VerifyError(
        f"rule {rule.name!r} ({rule.place}): {what}\n"
        f"  before:\n{drawn.node}\n  after:\n{new}\n  values:\n{given}"
    )


__all__ = ["Proof", "check", "prove", "total_cost"]
