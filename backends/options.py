"""The choices that change a function's code."""

from __future__ import annotations

from typing import NamedTuple


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
