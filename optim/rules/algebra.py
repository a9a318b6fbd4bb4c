"""Algebra that holds bit for bit: identities, signs, logic, choices, casts."""

from __future__ import annotations

from ..pattern import const, wild
from ..rule import Rules, rule

x, y, z = wild("x y z")
i, j = wild("i j", "iu")
c, d = const("c d")

rules = Rules(
    "algebra",
    "canonicalize",
    rule(x * 1, x),
    rule(x / 1, x),
    rule(x + -0.0, x),
    rule(i + 0, i),
    rule(x - 0, x),
    rule(-(-x), x),
    rule(x + -y, x - y),
    rule(x - -y, x + y),
)
