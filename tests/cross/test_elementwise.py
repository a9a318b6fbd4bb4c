"""Every elementwise op, compiled for another machine and run there, against its meaning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.aot import compile_ahead
from symgraph.dtypes import DType, bool_
from symgraph.ops.define import Elementwise, call
from tests.conformance.test_elementwise_native import CASES, agree
from tests.conformance.test_elementwise_reference import operands

from . import machine

TOGETHER: dict[tuple[DType, ...], list[Elementwise]] = {}  # one function for all of a signature
for _case in CASES:
    TOGETHER.setdefault(_case.values[0], []).extend(_case.values[1])


@pytest.mark.slow
@pytest.mark.emulator
@pytest.mark.parametrize("target", ["cortex-a72", "cortex-a7"])
@pytest.mark.parametrize("dtypes", TOGETHER, ids="-".join)
def test_compiled_equals_meaning(dtypes: tuple[DType, ...], target: str, tmp_path: Path) -> None:
    where, ops = machine.require(target, "link", "run"), TOGETHER[dtypes]
    d = next((d for i, d in enumerate(dtypes) if i not in ops[0].spec.fixed), bool_)
    values = operands(ops[0], d, np.random.default_rng(0))
    values = machine.flushed([np.ascontiguousarray(v) for v in values], where)
    inputs = [sg.array(f"x{i}", ("n",), d) for i, d in enumerate(dtypes)]
    ahead = compile_ahead(inputs, [call(op, inputs) for op in ops], where)
    code, results = machine.run(ahead, values, [len(values[0])], tmp_path)
    assert code == 0
    for op, data in zip(ops, results, strict=True):
        want = op.evaluate(*values)
        got = np.frombuffer(data, want.dtype)
        wrong = ~agree(op, *machine.flushed([got, want], where))
        shown = [(*[v[i] for v in values], got[i], want[i]) for i in np.flatnonzero(wrong)[:5]]
        assert not wrong.any(), (op.name, shown)
