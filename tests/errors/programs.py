"""Reads, runs and renews the tables of wrong programs: one text file for each theme.

A table is a list of cases:
    === what the case is about
    the program, with `sg` and `np` at hand and `folder`, an empty folder of its own
    ---
    what it prints, then the error it ends with: class, message, the user's line, operands, hint

The text is compared whole. A program that compiles functions is run in mode "native" and again in
mode "reference", with the same outcome, unless its title ends in [native].

    python -m tests.errors.programs THEME ...      writes what happens now into the tables; read the
                                                   difference before you keep it
"""

from __future__ import annotations

import contextlib
import functools
import io
import linecache
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import symgraph as sg

HERE = Path(__file__).parent
FILE = "program.py"  # what the messages call the program's file


class Case(NamedTuple):
    """One program and its outcome."""

    theme: str
    title: str
    program: str
    outcome: str

    @property
    def modes(self) -> list[str]:
        """The modes in which it is run."""
        compiles = "function(" in self.program and "mode=" not in self.program
        return ["native", "reference"] if compiles and "[native]" not in self.title else ["native"]


def cases(theme: str) -> list[Case]:
    """The cases of a table."""
    blocks = re.split(r"^=== ", (HERE / f"{theme}.txt").read_text(), flags=re.M)[1:]
    found = []
    for block in blocks:
        title, _, rest = block.partition("\n")
        program, _, outcome = rest.partition("---\n")
        found.append(Case(theme, title, program, outcome.rstrip("\n")))
    return found


def themes() -> list[str]:
    """The names of the tables."""
    return sorted(path.stem for path in HERE.glob("*.txt"))


class _Door:
    """symgraph, with another default mode of `function`."""

    def __init__(self, mode: str):
        self._mode = mode

    def __getattr__(self, name: str) -> Any:
        return getattr(sg, name)

    @property
    def function(self) -> Any:
        return functools.partial(sg.function, mode=self._mode)  # no frame of ours in messages


def outcome(program: str, mode: str = "native") -> str:
    """What a program prints, and the error that ends it as a user sees it."""
    linecache.cache[FILE] = (len(program), None, program.splitlines(True), FILE)
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        scope = {"sg": _Door(mode), "np": np, "folder": folder}
        with contextlib.redirect_stdout(printed):
            try:
                exec(compile(program, FILE, "exec"), scope)
            except Exception as error:
                print(f"{type(error).__name__}: {error}")
        return printed.getvalue().replace(folder, "FOLDER").rstrip("\n")


def renew(theme: str) -> None:
    """Write what happens now into a table."""
    blocks = [
        f"=== {c.title}\n{c.program}---\n{outcome(c.program, c.modes[0])}\n" for c in cases(theme)
    ]
    head = (HERE / f"{theme}.txt").read_text().partition("=== ")[0]
    (HERE / f"{theme}.txt").write_text(head + "\n".join(blocks))


if __name__ == "__main__":
    for theme in sys.argv[1:] or themes():
        renew(theme)
