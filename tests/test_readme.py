"""README.md keeps its word: every python listing runs, and prints what the page says it prints.

A ```text block after a ```python block, with only prose that ends in "prints:" (or nothing) between
them, is that listing's output. Numbers that the machine decides are written `...` on the page.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import NamedTuple

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#{1,6} +(.+)$", re.MULTILINE)


class Listing(NamedTuple):
    line: int
    code: str
    output: str | None


def is_output(between: str) -> bool:
    """Whether the text block that follows `between` shows the listing's output."""
    return not between.strip() or between.rstrip().endswith("prints:")


def listings(text: str) -> dict[str, list[Listing]]:
    """The python listings of a page by section, in order, each with the output shown for it."""
    found: dict[str, list[Listing]] = {}
    blocks = list(BLOCK.finditer(text))
    fenced = [(b.start(), b.end()) for b in blocks]
    headings = [h for h in HEADING.finditer(text) if not any(a <= h.start() < b for a, b in fenced)]
    for i, block in enumerate(blocks):
        if block[1] != "python":
            continue
        title = next((h[1] for h in reversed(headings) if h.start() < block.start()), "")
        follower = blocks[i + 1] if i + 1 < len(blocks) else None
        shown = None
        if follower is not None and follower[1] == "text":
            if is_output(text[block.end() : follower.start()]):
                shown = follower[2]
        line = text.count("\n", 0, block.start()) + 1
        found.setdefault(title, []).append(Listing(line, block[2], shown))
    return found


def matches(shown: str, printed: str) -> bool:
    """Equal up to trailing blanks, where `...` on the page stands for anything on one line."""
    want = [line.rstrip() for line in shown.strip().splitlines()]
    got = [line.rstrip() for line in printed.strip().splitlines()]
    return len(want) == len(got) and all(
        re.fullmatch(".*?".join(map(re.escape, line.split("..."))), real)
        for line, real in zip(want, got)
    )


SECTIONS = listings(README.read_text(encoding="utf-8")) if README.exists() else {}


@pytest.mark.skipif(not SECTIONS, reason="README.md shows no python listing")
@pytest.mark.parametrize("title", SECTIONS)
def test_listings_of_the_section_run(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    for listing in SECTIONS[title]:
        printed = io.StringIO()
        code = compile("\n" * listing.line + listing.code, str(README), "exec")
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        if listing.output is not None:
            assert matches(listing.output, printed.getvalue()), (
                f"README.md:{listing.line} prints\n{printed.getvalue()}\nnot\n{listing.output}"
            )


def test_reader_finds_listings_and_their_output() -> None:
    page = (
        "# A\n```python\n# not a heading\nprint(1)\n```\n```text\n1\n```\n"
        "## B\n```python\nx = 2\n```\nIt prints:\n\n```text\nt=... ms\n```\n"
        "```python\nx\n```\nElsewhere:\n```text\nno output\n```\n"
    )
    found = listings(page)
    assert list(found) == ["A", "B"]
    assert [entry.output for entry in found["A"]] == ["1\n"]
    assert [entry.output for entry in found["B"]] == ["t=... ms\n", None]
    assert found["A"][0].line == 2
    assert matches("t=... ms\n", "t=3.5 ms  \n") and not matches("t=... ms", "u=3.5 ms")
    assert matches("a+b", "a+b") and not matches("1\n2", "1")
