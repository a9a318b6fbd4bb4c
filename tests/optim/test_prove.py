"""The proof catches wrong rules: each of these is plausible and false."""

from __future__ import annotations

from typing import Any

import pytest

import symgraph as sg
from symgraph.ops.movement import Transpose, transpose_by
from symgraph.ops.reduce import Reduce
from symgraph.optim.pattern import const, operator, wild
from symgraph.optim.prove import prove
from symgraph.optim.rule import Rule, rule
from symgraph.optim.words import (
    abs,
    exp,
    le,
    log,
    log1p,
    logical_not,
    lt,
    maximum,
    mul,
    relu,
    sigmoid,
    sin,
    sqrt,
    square,
    tanh,
    where,
)

x, y = wild("x y")
f = wild("f", "f")
i, j = wild("i j", "iu")
c = const("c")
outer, inner = operator("outer inner", Transpose)
total = operator("total", Reduce)

WRONG: list[tuple[Rule, str]] = [
    (rule(x - x, 0), "bits differ"),
    (rule(x * 0, 0), "bits differ"),
    (rule(x / x, 1), "bits differ"),
    (rule(f + 0.0, f), "bits differ"),
    (rule(-(f - y), y - f), "bits differ"),
    (rule((f + y) - y, f, grade="rounds"), "NaN or infinity|off by"),
    (rule(log(exp(f)), f, grade="rounds"), "NaN or infinity"),
    (rule(exp(log(f)), f, grade="stabler"), "less accurate"),
    (rule(square(sqrt(f)), f, grade="rounds"), "NaN or infinity"),
    (rule(sqrt(square(f)), f, grade="stabler"), "less accurate"),
    (rule(log1p(f), log(f + 1), grade="stabler"), "less accurate"),
    (rule(sin(f) * 2, sin(f) * 2.001, grade="rounds"), "off by"),
    (rule(tanh(f), f - f * f * f / 3, grade="rounds"), "NaN or infinity|off by"),
    (rule(logical_not(lt(x, y)), le(y, x)), "bits differ"),
    (rule(where(x > 0, x, 0), relu(x)), "bits differ"),
    (rule(maximum(x, y), maximum(y, x)), "bits differ"),
    (rule(-i // j, -(i // j)), "bits differ"),
    (rule(abs(i * j), abs(i) * abs(j)), "bits differ|cost"),
    (rule((i * 3) // 3, i), "bits differ"),
    (rule(x * 3, x + x + x), "cost|bits differ"),
    (rule(square(f), f * f + 0 * f), "cost|bits differ"),
    (rule(lt(x, f), x - f), "bool.* became float"),
    (rule(mul(x, c), lambda x: x, when=lambda c: False, name="never"), "instances matched"),
    (rule(outer(inner(x)),
          lambda x, outer, inner: transpose_by(x, [outer.axes[a] for a in inner.axes]),
          name="wrong way round"), "became"),
    (rule(total(-f), lambda f, total: -sg.expr.apply(total, f),
          when=lambda total: total.kind == "max", name="max(-x) -> -max(x)"), "bits differ"),
    (rule(1 - sigmoid(f), sigmoid(f), grade="stabler"), "less accurate"),
]  # fmt: skip


@pytest.mark.parametrize("wrong, complaint", WRONG, ids=[r.name for r, _ in WRONG])
def test_a_wrong_rule_is_refused(wrong: Rule, complaint: str) -> None:
    with pytest.raises(sg.VerifyError, match=complaint):
        prove(wrong, 60)


def test_the_complaint_shows_rule_values_and_both_sides() -> None:
    with pytest.raises(sg.VerifyError) as caught:
        prove(rule(f * 0, 0), 40)
    text = str(caught.value)
    assert "'f * 0 -> 0'" in text and "before:" in text and "after:" in text and "f: float" in text


def test_a_right_rule_is_proved_on_as_many_instances_as_asked() -> None:
    assert prove(rule(x * 1, x), 30).instances == 30


def test_the_same_seed_draws_the_same_instances() -> None:
    def complaint() -> Any:
        with pytest.raises(sg.VerifyError) as caught:
            prove(rule(x - x, 0), 40, seed=3)
        return str(caught.value)

    assert complaint() == complaint()


def test_a_grade_must_be_known_and_a_function_named() -> None:
    with pytest.raises(ValueError, match="grade 'fast'"):
        rule(x * 1, x, grade="fast")
    with pytest.raises(TypeError, match="needs a name"):
        rule(x * 1, lambda x: x)
    with pytest.raises(TypeError, match="must be an op"):
        rule(x, x)
