"""Specialization: cheaper ops for special operands, once nothing needs to recognize the general ones any more."""

from __future__ import annotations

from ..pattern import wild
from ..rule import Rules, rule
from ..words import square

x = wild("x")

rules = Rules("specialize", "specialize", rule(x**2, square(x), grade="stabler"))
