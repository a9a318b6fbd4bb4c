"""The passes of each level, top to bottom: read this first.

    none    nothing
    safe    rules that are exact, or at least as accurate
    full    also rules that may change rounding (the default)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from symgraph.errors import GraphError
from symgraph.expr import Expr

from . import folding
from .cost import GENERIC, Cost
from .journal import Journal
from .match import Index
from .rewrite import Rewriter
from .rule import Rule, Rules
from .rules import algebra, logic, movement, reduction, specialize, stability

LEVELS = {"none": (), "safe": ("exact", "stabler"), "full": ("exact", "stabler", "rounds")}
SIMPLIFY: tuple[Rules, ...] = (
    folding.rules, algebra.rules, logic.rules, movement.rules, reduction.rules, stability.rules,
)  # fmt: skip
PASSES: dict[str, tuple[Rules, ...]] = {
    "simplify": SIMPLIFY,  # to the form in which the stability rules see their patterns
    "specialize": (*SIMPLIFY, specialize.rules),  # to what runs fast; its results are finished for `simplify` too
}
MAX_ROUNDS = 4  # sharing may dissolve and let a rule fire that had declined


def optimize(
    outputs: Sequence[Expr],
    level: str = "full",
    exclude: Iterable[str] = (),
    *,
    cost: Cost = GENERIC,
    limit: int | None = None,
) -> tuple[list[Expr], Journal]:
    """Better expressions of the same types and values, and the journal of what was done.

    level: "none", "safe" or "full". exclude: rules, topics or families by name. cost: the target's. limit: how many
    firings to apply (bisection).   Raises: GraphError for an unknown level or name.
    """
    if level not in LEVELS:
        raise GraphError(f"optimize: level {level!r}: expected one of {', '.join(LEVELS)}")
    left_out = _checked(exclude)
    journal = Journal(limit)
    results = list(outputs)
    if level == "none":
        return results, journal
    for name in PASSES:
        results = _run(results, _index(name, level, left_out), journal, cost)
    return results, journal


def _run(outputs: list[Expr], index: Index, journal: Journal, cost: Cost) -> list[Expr]:
    for _ in range(MAX_ROUNDS):
        before = len(journal)
        rewriter = Rewriter(index, journal, cost)
        outputs = rewriter.run(outputs)
        if len(journal) == before or not rewriter.shared:
            break
    return outputs


def all_rules() -> Iterator[Rule]:
    """Every rule, in the order in which they are tried."""
    for topic in PASSES["specialize"]:
        yield from topic


@lru_cache(maxsize=64)
def _index(name: str, level: str, left_out: frozenset[str]) -> Index:
    grades = LEVELS[level]
    return Index(
        r
        for topic in PASSES[name]
        for r in topic
        if r.grade in grades and not left_out & {r.topic, r.family, r.name}
    )


def _checked(exclude: Iterable[str]) -> frozenset[str]:
    names = frozenset([exclude] if isinstance(exclude, str) else exclude)
    if names:
        known = {n for r in all_rules() for n in (r.name, r.topic, r.family)}
        for name in sorted(names - known):
            near = difflib.get_close_matches(name, known, 3)
            raise GraphError(f"exclude: no rule or family is called {name!r}", hint=", ".join(near) or None)
    return names
