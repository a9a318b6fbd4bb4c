"""Every rule proves itself on random instances; nothing here names a rule."""

from __future__ import annotations

import zlib

import pytest

from symgraph.optim.pipeline import all_rules
from symgraph.optim.prove import prove
from symgraph.optim.rule import Rule

from .examples import EXAMPLES

RULES = list(all_rules())


@pytest.mark.parametrize("rule", RULES, ids=[r.name for r in RULES])
def test_both_sides_agree(rule: Rule) -> None:
    prove(rule, 12, seed=zlib.crc32(rule.name.encode()), examples=EXAMPLES.get(rule.name))


@pytest.mark.deep
@pytest.mark.parametrize("rule", RULES, ids=[r.name for r in RULES])
def test_both_sides_agree_often(rule: Rule) -> None:
    for seed in range(10):
        prove(rule, 60, seed, EXAMPLES.get(rule.name))


def test_every_example_belongs_to_a_rule() -> None:
    assert EXAMPLES.keys() <= {r.name for r in RULES}
