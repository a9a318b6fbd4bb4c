"""The choices that change a function's code."""

from __future__ import annotations

from typing import NamedTuple

from symgraph.errors import GraphError
from symgraph.expr import user_site

CHOICES = {
    "mode": ("native", "reference", "debug", "check_nan"),
    "optimize": ("full", "safe", "none"),
    "host_calls": ("allow", "forbid"),
    "precision": ("exact", "fast"),
}


class Options(NamedTuple):
    """See `function.function`, which takes each of them."""

    optimize: str = "full"
    exclude: tuple[str, ...] = ()
    host_calls: str = "allow"
    profile: bool = False
    precision: str = "exact"

    @property
    def key(self) -> str:
        """All of them as one string, for cache keys."""
        return repr(tuple(self))


def require(caller: str, **chosen: str) -> None:
    """Each value is one of its choices.  Raises: GraphError."""
    for what, value in chosen.items():
        if value not in CHOICES[what]:
            raise GraphError(
                f"{caller}: {what}={value!r}: expected one of {', '.join(CHOICES[what])}",
                site=user_site(),
            )
