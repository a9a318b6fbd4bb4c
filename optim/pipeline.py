"""The passes of each level, top to bottom: read this first.

none    nothing
safe    rules that are exact, or at least as accurate
full    also rules that may change rounding (the default)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from symgraph.errors import GraphError, did_you_mean
from symgraph.expr import Expr, toposort, user_site

from . import folding
from .cost import GENERIC, Cost
from .journal import Journal
from .match import Index
from .rewrite import Rewriter
from .rule import Rule, Rules
from .rules import (
    algebra,
    attention,
    layout,
    logic,
    movement,
    one_hot,
    placement,
    reduction,
    specialize,
    stability,
)

LEVELS = {"none": (), "safe": ("exact", "stabler"), "full": ("exact", "stabler", "rounds")}
SIMPLIFY: tuple[Rules, ...] = (
    folding.rules, algebra.rules, logic.rules, movement.rules, layout.rules, reduction.rules,
    stability.rules,
)  # fmt: skip
PASSES: dict[str, tuple[Rules, ...]] = {
    "simplify": SIMPLIFY,  # to the form in which the stability rules see their patterns
    "specialize": (
        *SIMPLIFY,
        specialize.rules,
        one_hot.rules,
        attention.rules,
        placement.rules,
    ),  # to what runs fast; its results are finished for `simplify` too
}
CONTROL = frozenset({"scan", "cond", "assert"})
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

    level: "none", "safe" or "full". exclude: rules, topics or families by name. cost: the
    target's. limit: how many firings to apply (bisection).   Raises: GraphError for an unknown
    level or name.
    """
    if level not in LEVELS:
        raise GraphError(f"optimize: level {level!r}: expected one of {', '.join(LEVELS)}")
    left_out = checked_names(exclude)
    journal = Journal(limit)
    results = list(outputs)
    if level == "none":
        return results, journal
    control = has_control(results)
    for name in PASSES:
        results = _run(results, _index(name, level, left_out, control), journal, cost, control)
    return results, journal


def has_control(outputs: Sequence[Expr]) -> bool:
    """Whether there are loops, branches or assertions; their rules are loaded only then."""
    return any(node.op.name in CONTROL for node in toposort(outputs))


def _run(
    outputs: list[Expr], index: Index, journal: Journal, cost: Cost, control: bool
) -> list[Expr]:
    """One pass, again while sharing that held a rule back may have dissolved."""
    for _ in range(MAX_ROUNDS):
        before = len(journal)
        outputs, shared = _once(outputs, index, journal, cost, control)
        if len(journal) == before or not shared:
            break
    return outputs


def _once(
    outputs: list[Expr], index: Index, journal: Journal, cost: Cost, control: bool
) -> tuple[list[Expr], bool]:
    """The outputs rewritten, and whether a rule declined because of other users."""
    if not control:
        rewriter = Rewriter(index, journal, cost)
        return rewriter.run(outputs), rewriter.shared
    from .regions import Inside, slim

    shared: list[bool] = []

    def rewrite(results: Sequence[Expr]) -> list[Expr]:
        rewriter = Rewriter(index, journal, cost, inside)
        new = slim(rewriter.run(slim(results)))
        shared.append(rewriter.shared)
        return new

    inside = Inside(rewrite)
    return rewrite(outputs), any(shared)


def all_rules() -> Iterator[Rule]:
    """Every rule, in the order in which they are tried."""
    for topic in _topics("specialize", True):
        yield from topic


def _topics(name: str, control: bool) -> tuple[Rules, ...]:
    if not control:
        return PASSES[name]
    from .rules import control as flow

    return (*PASSES[name], flow.rules)


@lru_cache(maxsize=64)
def _index(name: str, level: str, left_out: frozenset[str], control: bool) -> Index:
    grades = LEVELS[level]
    return Index(
        r
        for topic in _topics(name, control)
        for r in topic
        if r.grade in grades and not left_out & {r.topic, r.family, r.name}
    )


def checked_names(exclude: Iterable[str]) -> frozenset[str]:
    """Names of rules, topics and families.  Raises: GraphError for an unknown one."""
    names = frozenset([exclude] if isinstance(exclude, str) else exclude)
    if names:
        known = {n for r in all_rules() for n in (r.name, r.topic, r.family)}
        for name in sorted(names - known):
            raise GraphError(
                f"exclude: no rule or family is called {name!r}",
                site=user_site(),
                hint=did_you_mean(name, sorted(known), sorted({r.family for r in all_rules()})),
            )
    return names
