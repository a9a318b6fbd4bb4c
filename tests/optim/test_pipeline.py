"""Optimized programs: the same types and values, finished after one run, and in linear time."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings

import symgraph as sg
from symgraph.evaluate import bind_sizes, evaluate
from symgraph.expr import toposort
from symgraph.optim.pipeline import LEVELS, all_rules, optimize

from ..programs import Case, cases, compare

INEXACT = [r.name for r in all_rules() if r.grade != "exact"]


def check(case: Case, level: str) -> None:
    better, journal = optimize(case.outputs, level)
    assert not journal.exhausted
    for old, new in zip(case.outputs, better):
        assert old.type == new.type
    given = dict(zip(case.inputs, case.arrays))
    compare(case, evaluate(better, given, sizes=bind_sizes(given)))


@given(cases(25, rounding=True))
@settings(max_examples=60)
def test_full_keeps_types_and_values(case: Case) -> None:
    check(case, "full")


@given(cases(25, rounding=True))
@settings(max_examples=30)
def test_safe_keeps_types_and_values(case: Case) -> None:
    check(case, "safe")


@given(cases(25))
@settings(max_examples=60)
def test_exact_rules_change_no_bit(case: Case) -> None:
    better, _ = optimize(case.outputs, exclude=INEXACT)
    given = dict(zip(case.inputs, case.arrays))
    sizes = bind_sizes(given)
    for old, new in zip(
        evaluate(case.outputs, given, sizes=sizes), evaluate(better, given, sizes=sizes)
    ):
        assert old.dtype == new.dtype
        same = (
            (old == new) & (np.signbit(old) == np.signbit(new))
            if old.dtype.kind == "f"
            else old == new
        )
        assert np.all(same | ((old != old) & (new != new))), (old, new)


@given(cases(25))
@settings(max_examples=60)
def test_a_second_run_changes_nothing(case: Case) -> None:
    once, _ = optimize(case.outputs)
    twice, journal = optimize(once)
    assert len(journal) == 0, str(journal)
    assert all(a is b for a, b in zip(once, twice))


@given(cases(12))
@settings(max_examples=30)
def test_equal_programs_give_equal_journals(case: Case) -> None:
    first, second = (optimize(case.outputs) for _ in range(2))
    assert str(first[1]) == str(second[1])
    assert all(a is b for a, b in zip(first[0], second[0]))


def test_none_changes_nothing() -> None:
    x = sg.array("x", (3,))
    y = x * 1
    outputs, journal = optimize([y], "none")
    assert outputs[0] is y and len(journal) == 0 and "none" in LEVELS


def test_unknown_names_are_refused() -> None:
    x = sg.array("x", (3,))
    with pytest.raises(sg.GraphError, match="expected one of none, safe, full"):
        optimize([x], "fast")
    with pytest.raises(
        sg.GraphError, match=r"no rule or family is called 'stabilise'(.|\n)*stabilize"
    ):
        optimize([x], exclude=["stabilise"])


@pytest.mark.parametrize("name", ["stabilize", "stability", "log(1 + x) -> log1p(x)"])
def test_a_rule_a_topic_and_a_family_can_be_excluded(name: str) -> None:
    x = sg.array("x", (3,))
    y = sg.log(1 + x)
    assert optimize([y])[0][0] is sg.log1p(x)
    assert optimize([y], exclude=name)[0][0] is y


def test_limit_stops_after_so_many_firings() -> None:
    x = sg.array("x", (3,))
    y = sg.exp(sg.negative(-x)) * 1 + sg.log(1 + sg.exp(x))
    full = optimize([y])[1]
    for limit in range(len(full) + 1):
        outputs, journal = optimize([y], limit=limit)
        assert [str(f) for f in journal] == [str(f) for f in full][:limit]
        assert outputs[0].type == y.type


def test_new_nodes_carry_the_line_of_what_they_replace() -> None:
    x = sg.array("x", (3,))
    y = sg.log(1 + sg.exp(x))  # this line
    (new,), journal = optimize([y])
    assert new.op.name == "softplus" and new.site == y.site
    assert journal.firings[0].site == y.site and "test_pipeline.py" in str(journal)


def test_names_of_rebuilt_nodes_are_kept() -> None:
    x = sg.array("x", (3,))
    y = sg.tanh(x * 1)
    y.name = "state"
    assert optimize([y])[0][0].name == "state"


def test_every_rule_has_a_name_of_its_own() -> None:
    names = [r.name for r in all_rules()]
    assert len(names) == len(set(names)) > 200


def chain(n: int) -> sg.Expr:
    y = sg.array("x", (4,))
    for i in range(n):
        y = sg.tanh(y) if i % 7 else sg.negative(-(y * 1 + float(i % 5)))
    return y


def time_of(n: int) -> float:
    y = chain(n)
    start = time.process_time()
    (new,), _ = optimize([y])
    taken = time.process_time() - start
    assert len(toposort([new])) < n * 1.5
    return taken


@pytest.mark.slow
@pytest.mark.alone
def test_time_is_linear_and_chains_may_be_long() -> None:
    time_of(1000)  # compiles the rules
    small = min(time_of(10_000) for _ in range(2))
    large = time_of(50_000)
    assert large < 5 * small * 2.0, (small, large)


def test_wide_sharing_does_not_explode() -> None:
    x = sg.array("x", (4,))
    for _ in range(200):
        x = x * 1 + sg.tanh(x)
    (new,), _ = optimize([x])
    assert len(toposort([new])) <= 402


def test_symbolic_sizes_survive() -> None:
    x = sg.array("x", ("n", 3))
    y = (sg.transpose(sg.transpose(x)) + sg.zeros_like(x)).sum(axis=0) / x.shape[0]
    (new,), _ = optimize([y])
    assert new.type == y.type
    value = np.arange(6, dtype="float32").reshape(2, 3)
    assert np.allclose(evaluate(new, {x: value}), value.mean(0))
