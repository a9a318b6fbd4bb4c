"""Stability: the same function, never less accurate, and finite where the true value is."""

from __future__ import annotations

from ..pattern import wild
from ..rule import Rules, rule
from ..words import exp, expm1, log, log1p, log_sigmoid, sigmoid, softplus

x, y, z = wild("x y z")

rules = Rules(
    "stability",
    "stabilize",
    rule(log(1 + x), log1p(x), grade="stabler"),
    rule(exp(x) - 1, expm1(x), grade="stabler"),
    rule(log1p(exp(x)), softplus(x), grade="stabler"),
    rule(log(sigmoid(x)), log_sigmoid(x), grade="stabler"),
    rule(log_sigmoid(-x), -softplus(x)),
)
