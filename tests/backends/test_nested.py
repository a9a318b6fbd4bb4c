"""Products whose rows and steps are nests of axes, in loop IR, against NumPy's plain product."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symgraph.backends import targets
from symgraph.backends.contraction import (
    ContractionSpec,
    lead_axes,
    packed_panel_columns,
    workspace_elements,
)
from symgraph.backends.interpret import interpret, numpy_dtype
from symgraph.backends.loops import INDEX, Block, Buffer, Const, Kernel, Ty, Var
from symgraph.backends.nested import MOST_AXES, Shape, fill
from symgraph.backends.prepacked import panels
from symgraph.backends.verify_loops import verify
from tests.backends.loop_cases import EVERY
from tests.backends.test_contraction import (
    A_UNITS,
    B_UNITS,
    EPS,
    GUARD,
    X86,
    check,
    compiled,
    interpreted,
    operands,
    runs,
)

AXES = st.lists(st.sampled_from([1, 2, 3, 4, 7]), min_size=1, max_size=MOST_AXES)
SMALL_AXES = st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=MOST_AXES)


def offsets(sizes: list[int], strides: list[int]) -> np.ndarray:
    """The sum of index times stride for every point, in row-major order."""
    total = np.zeros(1, np.int64)
    for size, stride in zip(sizes, strides):
        total = (total[:, None] + np.arange(size) * stride).reshape(-1)
    return total


class Case:
    """One product: its spec, and strides in elements."""

    def __init__(self, spec: ContractionSpec, rows: list[int], steps: list[int], n: int):
        self.spec, self.rows, self.steps, self.n = spec, rows, steps, n
        self.batch = 1
        self.a_rows = [0] * len(rows)
        self.a_steps = [0] * len(steps)
        self.b_steps = [0] * len(steps)
        self.c_rows = [0] * len(rows)
        self.b_col = 1
        self.moves = (0, 0, 0)

    def dims(self) -> list[int]:
        values = dict(zip(("a_batch", "b_batch", "c_batch"), self.moves))
        values |= {"batch": self.batch, "M": self.rows[0], "N": self.n}
        values |= {"K": int(np.prod(self.steps)), "a_row": self.a_rows[-1]}
        values |= {"a_col": self.a_steps[-1], "b_row": self.b_steps[-1], "b_col": self.b_col}
        values["c_row"] = self.c_rows[-1]
        for j, size in enumerate(self.rows):
            values |= {f"m{j}": size, f"a_m{j}": self.a_rows[j], f"c_m{j}": self.c_rows[j]}
        for j, size in enumerate(self.steps):
            values |= {f"k{j}": size, f"a_k{j}": self.a_steps[j], f"b_k{j}": self.b_steps[j]}
        return [values[name] for name in self.spec.shape.dims()]

    def run(self, call: Any, name: str, rng: np.random.Generator) -> None:
        """Compare with NumPy, and look for writes outside of C."""
        spec, columns = self.spec, np.arange(self.n) * self.b_col
        items = np.arange(self.batch)
        a_at = offsets(self.rows, self.a_rows)[:, None] + offsets(self.steps, self.a_steps)
        b_at = offsets(self.steps, self.b_steps)[:, None] + columns
        c_at = offsets(self.rows, self.c_rows)[:, None] + np.arange(self.n)
        a_at, b_at, c_at = (
            at + items[:, None, None] * move for at, move in zip((a_at, b_at, c_at), self.moves)
        )
        sizes = [int(at.max(initial=0)) + 1 for at in (a_at, b_at, c_at)]
        a, b = (x.reshape(-1) for x in operands(rng, spec.dtype, 1, 1, max(sizes), 1))
        a, b = a[: sizes[0]], b[: sizes[1]]
        out = numpy_dtype(spec.out or spec.dtype)
        memory = np.full(2 * GUARD + sizes[2], 77).astype(out)
        c = memory[GUARD : memory.size - GUARD]
        space = workspace_elements(spec, targets.target(name))
        spaces = [np.zeros(space, numpy_dtype(spec.accumulate))] if space else []
        assert call([a, b, c, *spaces], self.dims(), None) == 0
        check(c[c_at], a[a_at], b[b_at], spec.dtype)
        memory[GUARD + c_at] = np.asarray(77).astype(out)
        assert (memory == np.asarray(77).astype(out)).all(), "written outside C"


@st.composite
def cases(
    draw: Any, dtypes: Any = ("float32", "float64", "int16", "bfloat16"), axes: Any = AXES
) -> Case:
    rows, steps = draw(axes), draw(axes)
    n = draw(st.sampled_from([1, 2, 5, 16, 33, 64, 70]))
    empty = draw(st.sampled_from(["", "", "", "rows", "steps"]))
    if empty == "rows":
        rows[draw(st.integers(0, len(rows) - 1))] = 0
    if empty == "steps":
        steps[draw(st.integers(0, len(steps) - 1))] = 0
    scattered = len(rows) > 1 and draw(st.booleans())
    shape = Shape(len(rows), len(steps), draw(st.integers(0, len(steps) - 1)), scattered)
    sizes = {"m": int(np.prod(rows)), "n": n, "k": int(np.prod(steps))}
    known = {name: size for name, size in sizes.items() if draw(st.booleans())}
    dtype = draw(st.sampled_from(dtypes))
    a_unit, b_unit = draw(st.sampled_from(A_UNITS)), draw(st.sampled_from(B_UNITS))
    spec = ContractionSpec(dtype, None, a_unit, b_unit, **known, shape=shape)
    case = Case(spec, rows, steps, n)
    stride = st.integers(0, 40)
    case.a_rows = [draw(stride) for _ in rows]
    case.a_steps = [draw(stride) for _ in steps]
    case.b_steps = [draw(stride) for _ in steps]
    case.b_col = draw(st.integers(0, 5))
    if a_unit == "m":
        case.a_rows[-1] = 1
    elif a_unit == "k":
        case.a_steps[-1] = 1
    if b_unit == "n":
        case.b_col = 1
    elif b_unit == "k":
        case.b_steps[-1] = 1
    gap = draw(st.integers(0, 3))
    order = draw(st.permutations(range(len(rows)))) if scattered else reversed(range(len(rows)))
    stride_now = n + gap
    for axis in order:
        case.c_rows[axis] = stride_now
        stride_now *= max(1, rows[axis]) + (gap if scattered else 0)
    case.batch = draw(st.sampled_from([0, 1, 1, 2]))
    case.moves = (draw(stride), draw(stride), stride_now)
    return case


@settings(max_examples=150, deadline=None, derandomize=True)
@given(case=cases(), name=st.sampled_from([n for n in X86 if runs(n)]), seed=st.integers(0, 99))
def test_native(case: Case, name: str, seed: int) -> None:
    case.run(compiled(case.spec, name), name, np.random.default_rng(seed))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    case=cases(EVERY, SMALL_AXES),
    name=st.sampled_from(["cortex-a72", "cortex-a9", "x86-64-v2", "x86-64-v4"]),
    seed=st.integers(0, 99),
)
def test_interpreted(case: Case, name: str, seed: int) -> None:
    case.run(interpreted(case.spec, name), name, np.random.default_rng(seed))


def window(
    positions: tuple[int, ...], channels: int, taps: int, n: int, role: str, name: str
) -> Case:
    """A convolution of unit stride, as the planner puts it; the image in (h, w, c)."""
    high, wide = positions
    line = (wide + taps - 1) * channels
    image = ([line, channels], [high, wide])
    square = ([line, 1], [taps, taps * channels])
    spec = ContractionSpec("float32", a_unit="k" if role == "output" else "m", n=n)
    (a_rows, rows), (a_steps, steps) = (image, square) if role == "output" else (square, image)
    spec = spec._replace(m=int(np.prod(rows)), k=int(np.prod(steps)), shape=Shape(2, 2))
    lead = lead_axes(spec, targets.target(name), steps)
    case = Case(spec._replace(shape=Shape(2, 2, lead)), rows, steps, n)
    case.a_rows, case.a_steps = a_rows, a_steps
    case.b_steps = [steps[1] * n, n]
    case.c_rows = [rows[1] * n, n]
    return case


# Across the limits of blocks of rows (480, 1920) and of k (512, 768, 1536); with a foot, without.
WINDOWS = [
    ((7, 7), 300, 3, 200, "output"),
    ((7, 7), 520, 1, 64, "output"),
    ((31, 33), 6, 3, 40, "output"),
    ((14, 14), 90, 3, 300, "output"),
    ((40, 41), 5, 3, 33, "kernel"),
    ((5, 600), 70, 3, 130, "kernel"),
    ((3, 9), 700, 3, 17, "kernel"),
]


@pytest.mark.parametrize("case", WINDOWS, ids=str)
@pytest.mark.parametrize("name", [n for n in X86 if runs(n)])
def test_block_limits(case: Any, name: str) -> None:
    made = window(*case, name)
    rng = np.random.default_rng(3)
    a_at = offsets(made.rows, made.a_rows)[:, None] + offsets(made.steps, made.a_steps)
    k, m = int(np.prod(made.steps)), int(np.prod(made.rows))
    a, b = rng.standard_normal(a_at.max() + 1).astype("f4"), rng.standard_normal((k, made.n))
    b = b.astype("f4")
    c = np.full((m, made.n), 77, "f4")
    space = np.zeros(workspace_elements(made.spec, targets.target(name)), "f4")
    spaces = [space] if space.size else []
    call = compiled(made.spec, name)
    assert call([a, b.reshape(-1), c.reshape(-1), *spaces], made.dims(), None) == 0
    x, y = a[a_at].astype("f8"), b.astype("f8")
    assert (np.abs(c - x @ y) <= (k + 2) * EPS["float32"] * (np.abs(x) @ np.abs(y))).all()


@given(sizes=AXES, start=st.integers(0, 50), count=st.integers(0, 60), data=st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_row_tables(sizes: list[int], start: int, count: int, data: Any) -> None:
    rows = int(np.prod(sizes))
    first, stop = min(start, rows), min(start + count, rows)
    strides = [[data.draw(st.integers(-9, 90)) for _ in sizes] for _ in range(2)]
    tables = [Buffer(name, "int64", "w") for name in "ac"]
    begin, end = Var("begin", Ty(INDEX)), Var("end", Ty(INDEX))
    b = Block()
    known = [Const(size, Ty(INDEX)) for size in sizes[1:]]
    steps = [[Const(s, Ty(INDEX)) for s in line] for line in strides]
    fill(b, known, steps, tables, (begin, end))
    kernel = Kernel("rows", tuple(tables), (begin, end), tuple(b.stmts))
    verify(kernel)
    got = [np.full(rows + 1, -7) for _ in tables]
    assert interpret(kernel, got, [first, stop]) == 0
    for table, line in zip(got, strides):
        assert (table[: stop - first] == offsets(sizes, line)[first:stop]).all()
        assert (table[stop - first :] == -7).all()


@pytest.mark.parametrize("name", [n for n in X86 if runs(n)])
def test_panels_made_beforehand(name: str) -> None:
    """B in panels, packed as the planner does with a constant."""
    rng = np.random.default_rng(4)
    case = window((6, 7), 5, 3, 75, "output", name)
    case.b_steps = [3 * 5 * 80, 80]
    case.batch, case.moves = 2, (1, 7, 42 * 75)
    b = rng.standard_normal(case.moves[1] + 9 * 5 * 80).astype("f4")
    spec = case.spec._replace(packed_b=True)
    width = packed_panel_columns(spec, targets.target(name))
    sizes, strides = (2, *case.steps, case.n), (case.moves[1], *case.b_steps, 1)
    packed = panels(b, 0, sizes, strides, width)
    assert packed.shape == (2, -(-75 // width), 45, width)
    a_at = offsets(case.rows, case.a_rows)[:, None] + offsets(case.steps, case.a_steps)
    a, b_at = rng.standard_normal(a_at.max() + 2).astype("f4"), offsets([9 * 5], [80])[:, None]
    call, c = compiled(spec, name), np.zeros((2, 42, 75), "f4")
    case.spec, case.moves = spec, (1, packed[0].size, 42 * 75)
    space = np.zeros(workspace_elements(spec, targets.target(name)), "f4")
    spaces = [space] if space.size else []
    assert call([a, packed.reshape(-1), c.reshape(-1), *spaces], case.dims(), None) == 0
    items = np.arange(2)[:, None, None]
    check(c, a[a_at + items], b[b_at + np.arange(75) + 7 * items], "float32")
