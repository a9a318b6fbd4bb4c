"""Wrong programs and wrong calls give exactly the documented error; nothing crashes or lies."""

from __future__ import annotations

import pytest

from . import programs

CASES = [case for theme in programs.themes() for case in programs.cases(theme)]


@pytest.mark.parametrize(
    "case, mode",
    [
        pytest.param(case, mode, id=f"{case.theme}: {case.title} ({mode})")
        for case in CASES
        for mode in case.modes
    ],
)
def test_outcome(case: programs.Case, mode: str) -> None:
    assert programs.outcome(case.program, mode) == case.outcome


def test_titles_are_distinct() -> None:
    titles = [(case.theme, case.title) for case in CASES]
    assert len(titles) == len(set(titles))


def test_no_message_is_ours_alone() -> None:
    """No case ends in what would be a bug of ours, or in a bare Python error without a reason."""
    last = [case.outcome for case in CASES]
    assert not [text for text in last if "InternalError" in text or "please report" in text]
