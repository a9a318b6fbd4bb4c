"""Every elementwise op compiled, against its meaning, over dtypes and special values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

import symgraph as sg
from symgraph.dtypes import DType, bool_
from symgraph.dtypes import dtype as as_dtype
from symgraph.ops.define import REGISTRY, Elementwise, call
from tests.conformance.test_elementwise_reference import CANCELS, operands

TOGETHER = 12  # ops in one compiled function: they share inputs, so fusion is exercised too
CANCELLING = CANCELS | {"logaddexp": 1.0}
#: units in the last place: of float32 computations beyond what vmath promises for one function
ULPS = 10
#: exponentials of what has an error of a unit: as many units as the logarithm of the result
EXPONENTIAL = frozenset({"inv_boxcox", "inv_boxcox1p"})


def signature(op: Elementwise, d: DType) -> tuple[DType, ...]:
    return tuple(op.spec.fixed.get(i, d) for i in range(op.spec.arity))


def batches() -> Iterator[tuple[tuple[DType, ...], list[Elementwise]]]:
    """Native ops that take operands of the same dtypes, a few at a time."""
    found: dict[tuple[DType, ...], list[Elementwise]] = {}
    for op in REGISTRY.values():
        if op.spec.lower is not None:
            accepted = op.spec.accepts if op.spec.promote else {bool_}
            for d in sorted(d for d in accepted if d.kind != "c"):
                found.setdefault(signature(op, d), []).append(op)
    for dtypes, ops in sorted(found.items()):
        for start in range(0, len(ops), TOGETHER):
            yield dtypes, ops[start : start + TOGETHER]


CASES = [
    pytest.param(dtypes, ops, id=f"{'-'.join(dtypes)}-{ops[0].name}") for dtypes, ops in batches()
]


@pytest.mark.parametrize(("dtypes", "ops"), CASES)
def test_compiled_equals_meaning(dtypes: tuple[DType, ...], ops: list[Elementwise]) -> None:
    d = next((d for i, d in enumerate(dtypes) if i not in ops[0].spec.fixed), bool_)
    values = operands(ops[0], d, np.random.default_rng(0))
    inputs = [sg.array(f"x{i}", ("n",), d) for i, d in enumerate(dtypes)]
    results = sg.function(inputs, [call(op, inputs) for op in ops])(*values)
    for op, got in zip(ops, results, strict=True):
        want = op.evaluate(*values)
        assert got.dtype == want.dtype
        wrong = ~agree(op, got, want)
        shown = [(*[v[i] for v in values], got[i], want[i]) for i in np.flatnonzero(wrong)[:5]]
        assert not wrong.any(), (op.name, shown)


def agree(op: Elementwise, got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Equal, both NaN, or within a few units (of the size the formula cancels from)."""
    d = as_dtype(want.dtype)
    if not d.is_float:
        return got == want
    fine, rough = got.astype(np.float64), want.astype(np.float64)
    digits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}[d]
    smallest = {"float16": -14, "float64": -1022}.get(d, -126)
    units = ULPS if d.bits > 16 else 1
    with np.errstate(all="ignore"):
        if op.name in EXPONENTIAL:
            units = units * (1 + np.nan_to_num(np.abs(np.log(np.abs(rough))), posinf=0.0))
        size = np.maximum(np.abs(rough), max(CANCELLING.get(op.name, 0.0), 2.0**smallest))
        close = np.abs(fine - rough) <= units * 2.0 ** (1 - digits) * size
    return (fine == rough) | (np.isnan(fine) & np.isnan(rough)) | close


def test_every_native_op_is_compiled() -> None:
    assert set(itertools.chain(*(ops for _, ops in batches()))) == {
        op for op in REGISTRY.values() if op.spec.lower is not None
    }
