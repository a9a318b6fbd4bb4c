"""Watching a compilation: which stages are shown or dumped, and how long each took.

SYMGRAPH_SHOW=graph,rewrites,plan,loops,llvm,asm,times    print these stages to standard error
SYMGRAPH_DUMP=folder                                      write each stage to a numbered file there
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from symgraph.errors import GraphError
from symgraph.sites import user_site

PARTS = 8  # of a stage that are listed
STAGES = ("graph", "rewrites", "plan", "loops", "llvm", "asm", "times")


class Stages:
    """The stages of one compilation.

    `times` maps what was done to seconds of CPU time, `parts` the same for the parts of a stage.
    """

    def __init__(self, label: str, show: str | Iterable[str] | None = None):
        self.label = label
        self.times: dict[str, float] = {}
        self.parts: dict[str, dict[str, float]] = {}
        self._shown = wanted(show)
        self._folder = os.environ.get("SYMGRAPH_DUMP") or None
        self._number = 0

    def needs(self, stage: str) -> bool:
        """Whether somebody wants to see a stage; its text may be expensive."""
        return stage in self._shown or self._folder is not None

    @property
    def shows_code(self) -> bool:
        """Whether somebody wants to see more than the times: then the stages must run."""
        return any(self.needs(stage) for stage in STAGES if stage != "times")

    def text(self, stage: str, make: Callable[[], str]) -> None:
        """Show or dump a stage, if somebody wants to see it."""
        if not self.needs(stage):
            return
        content = make()
        if stage in self._shown:
            sys.stderr.write(f"--- {self.label}: {stage}\n{content.rstrip()}\n")
        if self._folder is not None:
            self._number += 1
            self._dump(self._folder, stage, content)

    def _dump(self, folder: str, stage: str, content: str) -> None:
        path = os.path.join(folder, f"{_file_name(self.label)}-{self._number:02}-{stage}.txt")
        try:
            os.makedirs(folder, exist_ok=True)
            with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(content)
        except OSError as error:
            raise GraphError(
                f"SYMGRAPH_DUMP={folder}: {error.strerror}",
                site=user_site(),
                hint="name a folder that can be written, or unset it",
            ) from None

    @contextmanager
    def timed(self, what: str, part: str = "") -> Iterator[None]:
        """Add the CPU time of a block to `times`, and to a part of that stage."""
        began = time.thread_time()
        try:
            yield
        finally:
            spent = time.thread_time() - began
            self.times[what] = self.times.get(what, 0.0) + spent
            if part:
                parts = self.parts.setdefault(what, {})
                parts[part] = parts.get(part, 0.0) + spent

    def finish(self) -> None:
        """Show the times."""
        self.text("times", self.times_text)

    def times_text(self) -> str:
        """One line for each thing done, in milliseconds, and for the parts that took longest."""
        lines = []
        for what, t in self.times.items():
            lines.append(f"{what:<12}{1e3 * t:9.2f} ms")
            parts = self.parts.get(what, {})
            longest = sorted(parts, key=lambda part: -parts[part])[:PARTS]
            lines += [f"{'':<12}{1e3 * parts[part]:9.2f} ms  {part}" for part in longest]
        return "\n".join([*lines, f"{'total':<12}{1e3 * sum(self.times.values()):9.2f} ms"])


def wanted(show: str | Iterable[str] | None) -> frozenset[str]:
    """The stages that SYMGRAPH_SHOW and `show` name.  Raises GraphError for unknown ones."""
    given = show.split(",") if isinstance(show, str) else list(show or ())
    named = [*os.environ.get("SYMGRAPH_SHOW", "").split(","), *given]
    found = frozenset(n.strip() for n in named if n.strip())
    unknown = sorted(found - set(STAGES))
    if unknown:
        raise GraphError(
            f"show: no stage is called {', '.join(unknown)}",
            site=user_site(),
            hint="stages: " + ", ".join(STAGES),
        )
    return found


def _file_name(label: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in label)[:60] or "function"
