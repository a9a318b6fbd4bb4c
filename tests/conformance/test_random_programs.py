"""Random programs of up to 50 ops: the same results in every mode and at every level of rewriting.

Modes native, reference and debug, with sizes known and not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings

import symgraph as sg
from symgraph.evaluate import evaluate

from ..programs import Case, cases, compare

OPS = 50
#: graphs in the short run; the deep profile sets its own number
SHORT = 40


def compiled(case: Case, **options: str) -> Sequence[np.ndarray]:
    """The program's results in a mode or at a level."""
    function = sg.function(
        case.inputs, list(case.outputs), on_unused_input="ignore", host_calls="forbid", **options
    )
    return function(*case.arrays)


def profile(count: int) -> settings:
    """`count` examples in the short run, the profile's own number in the deep one."""
    return (
        settings()
        if settings.get_current_profile_name() == "deep"
        else settings(max_examples=count)
    )


def same(got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> bool:
    """The same bits (but for those of a NaN)."""
    pairs = list(zip(got, want, strict=True))
    return all(
        g.dtype == w.dtype
        and g.shape == w.shape
        and np.array_equal(g, w, equal_nan=g.dtype.kind == "f")
        for g, w in pairs
    )


@given(cases(OPS))
@profile(SHORT)
def test_native_equals_reference_without_rewrites(case: Case) -> None:
    compare(case, compiled(case, optimize="none"))


@given(cases(OPS))
@profile(SHORT)
def test_native_equals_reference_after_safe_rewrites(case: Case) -> None:
    compare(case, compiled(case, optimize="safe"))


@given(cases(OPS, rounding=True))
@profile(SHORT)
def test_native_equals_reference_after_all_rewrites(case: Case) -> None:
    compare(case, compiled(case, optimize="full"))


@given(cases(OPS, rounding=True))
@profile(SHORT // 2)
def test_modes_agree(case: Case) -> None:
    """Debug mode compares every stage itself; reference mode is evaluate."""
    want = [
        np.asarray(v) for v in evaluate(list(case.outputs), dict(zip(case.inputs, case.arrays)))
    ]
    assert same(compiled(case, mode="reference"), want)
    compare(case, compiled(case, mode="debug"))
