"""What a function's calls cost so far: counts, and time for each kernel compiled to tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from symgraph.dims import Atom, Dim, atoms, evaluate_dim
from symgraph.sites import show_site

from . import runtime


class Row(NamedTuple):
    """One launch: seconds and calls in total; work and bytes of one call, if known."""

    kernel: str
    what: str
    site: Any
    calls: int
    seconds: float
    work: int | None
    bytes: int | None

    @property
    def gigabytes_per_second(self) -> float | None:
        """Traffic over time, as far as every buffer is read or written once."""
        return (
            None
            if self.bytes is None or not self.seconds
            else 1e-9 * self.bytes * self.calls / self.seconds
        )


class Profile:
    """A snapshot of what a compiled function has done.

    calls: native calls; copies: arguments that had to be converted; host_entries: how often native
    code of this process entered Python (host calls and polls); rows: one for each launch, where
    profile=True was given.
    """

    def __init__(self, function: Any, sizes: Mapping[Atom, int] | None = None):
        core = function.core
        self.name = function.name
        self.calls = core.state.calls if core is not None else 0
        self.copies = core.copies if core is not None else 0
        self.host_entries = runtime.host_entries
        self.rows = _rows(core, sizes or {}) if core is not None else []

    @property
    def seconds(self) -> float:
        """Time in kernels."""
        return sum(row.seconds for row in self.rows)

    def __str__(self) -> str:
        head = f"{self.name}: {self.calls} calls, {self.copies} arguments converted"
        if not any(row.calls for row in self.rows):
            return head + ("" if self.rows else "; compile with profile=True for times")
        total = self.seconds or 1.0
        lines = [f"{'share':>6} {'total ms':>9} {'calls':>7}  kernel"]
        for row in sorted(self.rows, key=lambda r: -r.seconds):
            where = f"   {show_site(row.site)}" if row.site else ""
            numbers = f"{row.seconds / total:6.1%} {1e3 * row.seconds:9.3f} {row.calls:7}"
            lines.append(f"{numbers}  {row.kernel} {row.what}{where}")
        return "\n".join([head, *lines])

    __repr__ = __str__


def _rows(core: Any, sizes: Mapping[Atom, int]) -> list[Row]:
    counted = core.state.profile
    return [
        Row(
            i.kernel,
            i.what,
            i.site,
            counted[2 * n + 1],
            1e-9 * counted[2 * n],
            _known(i.work, sizes),
            _known(i.bytes, sizes),
        )
        for n, i in enumerate(core.code.launches)
    ]


def _known(size: Any, sizes: Mapping[Atom, int]) -> int | None:
    if isinstance(size, Dim) and not atoms(size) <= set(sizes):
        return None
    return evaluate_dim(size, sizes)
