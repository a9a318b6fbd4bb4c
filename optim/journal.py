"""What the rewriter did: one entry for each rule that fired, in order, with the user's line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from symgraph.arraytype import Type
from symgraph.op import Op
from symgraph.sites import Site, show_site


class Firing(NamedTuple):
    """One rule at one node. before, after: the ops at the root; type: what both are."""

    rule: str
    family: str
    before: Op
    after: Op
    type: Type
    site: Site | None

    def __str__(self) -> str:
        where = f"   {show_site(self.site)}" if self.site else ""
        return f"[{self.family}] {self.rule}: {self.before} -> {self.after}: {self.type}{where}"


class Journal:
    """Firings in order; equal inputs and options give equal journals.

    limit: how many firings are applied (None: all), so that a wrong one is found by halving.
    """

    def __init__(self, limit: int | None = None):
        self.limit = limit
        self.firings: list[Firing] = []
        self.exhausted = False  # the bound on firings was met: the graph is right but not finished

    @property
    def open(self) -> bool:
        """Whether another rule may fire."""
        return self.limit is None or len(self.firings) < self.limit

    def add(self, firing: Firing) -> None:
        self.firings.append(firing)

    def counts(self) -> dict[str, int]:
        """How often each rule fired, most often first."""
        return dict(Counter(f.rule for f in self.firings).most_common())

    def __len__(self) -> int:
        return len(self.firings)

    def __iter__(self) -> Iterator[Firing]:
        return iter(self.firings)

    def __str__(self) -> str:
        """A line for each rule and user's line: family, rule, count, place."""
        groups: dict[tuple[str, str, Site | None], int] = {}
        for f in self.firings:
            key = (f.family, f.rule, f.site)
            groups[key] = groups.get(key, 0) + 1
        lines = [
            f"{n:5} x  {family:12} {rule}" + (f"   {show_site(site)}" if site else "")
            for (family, rule, site), n in groups.items()
        ]
        if self.exhausted:
            lines.append("stopped: too many firings")
        return "\n".join(lines) if lines else "no rewrites"
