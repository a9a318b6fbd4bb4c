"""Every op of the language, compiled, against its meaning: dtypes x sizes x layouts x values.

Elementwise ops come from their registry, the rest from the table in `language`. Many ops are
compiled as one function. In the short run sizes, layouts and values take turns; in the deep one all
are combined.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

import symgraph as sg
from benchmarks.exact_special import SPECIAL
from symgraph.arraytype import Array
from symgraph.dtypes import DType, bool_
from symgraph.expr import toposort
from symgraph.ops.define import REGISTRY, Elementwise, call

from .arrays import MODES
from .language import FAMILIES, uncovered
from .rows import DTYPES, Row
from .sweeping import Call, Operand, Output, check, every, rotating
from .tolerances import HOST, KINDS, of_elementwise

TOGETHER = 10  # ops in one compiled function
SIZES: list[Mapping[str, int]] = [
    {"n": 13, "m": 7},
    {"n": 0, "m": 3},
    {"n": 1, "m": 1},
    {"n": 5, "m": 1},
    {"n": 3, "m": 0},
    {"n": 1, "m": 33},
    {"n": 97, "m": 31},
    {"n": 257, "m": 67},
    {"n": 16, "m": 64},
]
LARGE: Mapping[str, int] = {"n": 331, "m": 401}
SIZES_OF_3: list[Mapping[str, int]] = [
    {"n": 13, "m": 7, "k": 5},
    {"n": 1, "m": 1, "k": 1},
    {"n": 0, "m": 3, "k": 2},
    {"n": 4, "m": 0, "k": 3},
    {"n": 3, "m": 5, "k": 0},
    {"n": 31, "m": 67, "k": 17},
    {"n": 64, "m": 16, "k": 33},
    {"n": 5, "m": 1031, "k": 3},
    {"n": 1013, "m": 3, "k": 6},
]
LARGE_OF_3: list[Mapping[str, int]] = [
    {"n": 97, "m": 131, "k": 57},
    {"n": 3, "m": 40961, "k": 2},
    {"n": 40961, "m": 3, "k": 4},
]


# ---------------------------------------------------------------------------------- elementwise ops


def batches() -> Iterator[tuple[tuple[DType, ...], list[Elementwise]]]:
    """Ops that take operands of the same dtypes, a few at a time; complex and host calls apart."""
    found: dict[tuple[tuple[DType, ...], bool], list[Elementwise]] = {}
    for op in REGISTRY.values():
        for d in sorted(op.spec.accepts if op.spec.promote else {bool_}):
            dtypes = tuple(op.spec.fixed.get(i, d) for i in range(op.spec.arity))
            found.setdefault((dtypes, is_host(op, d)), []).append(op)
    for (dtypes, _), ops in sorted(found.items()):
        for start in range(0, len(ops), TOGETHER):
            yield dtypes, ops[start : start + TOGETHER]


def is_host(op: Elementwise, d: DType) -> bool:
    """Whether the op may run in Python for operands of dtype d."""
    return op.name in HOST or d.kind == "c" or op.name == "complex"


BATCHES = [
    pytest.param(dtypes, ops, id=f"{'-'.join(dtypes)}-{ops[0].name}") for dtypes, ops in batches()
]


def views(i: int, arrays: Sequence[sg.Expr]) -> dict[str, sg.Expr]:
    """Operand i seen through movement ops, which compiled code turns into index arithmetic."""
    x, y, row, column = arrays
    return {
        "plain": x,
        "transposed": sg.transpose(y),
        "reversed": x[::-1, ::-1] if i % 2 == 0 else x[:, ::-1],
        "row": row if i else sg.broadcast_to(row, x.shape),
        "column": x if i else sg.broadcast_to(sg.expand_dims(column, 1), x.shape),
        "strided": x[1::2, ::3],
    }


VIEWS = ("plain", "transposed", "reversed", "row", "column", "strided")


def elementwise_operands(dtypes: Sequence[DType]) -> list[Operand]:
    shapes = {"x": "nm", "y": "mn", "row": "m", "column": "n"}
    return [Operand(f"{k}{i}", s, d) for i, d in enumerate(dtypes) for k, s in shapes.items()]


def sweep_elementwise(
    dtypes: Sequence[DType], ops: Sequence[Elementwise], chosen: Sequence[str], calls: list[Call]
) -> None:
    """Each op through the chosen views: all if there are many, in turn if it is one each."""
    host = any(is_host(op, d) for op in ops for d in dtypes)

    def build(*inputs: sg.Expr) -> list[Output]:
        seen = [views(i, inputs[4 * i : 4 * i + 4]) for i in range(len(dtypes))]
        outputs = []
        for k, op in enumerate(ops):
            for view in chosen or [VIEWS[(k + len(op.name) + len(dtypes[-1])) % len(VIEWS)]]:
                value = call(op, [s[view] for s in seen])
                bound = KINDS["complex"] if dtypes[-1].kind == "c" else of_elementwise(op.name)
                exact = op.name if dtypes[-1] == "float64" and op.name in SPECIAL else ""
                outputs.append(Output(f"{op.name}({view})", value, bound, exact=exact))
        return outputs

    allow = "allow" if host else "forbid"
    check(elementwise_operands(dtypes), build, calls, host_calls=allow)


@pytest.mark.parametrize(("dtypes", "ops"), BATCHES)
def test_elementwise(dtypes: tuple[DType, ...], ops: list[Elementwise]) -> None:
    sweep_elementwise(dtypes, ops, [], rotating(SIZES))


@pytest.mark.parametrize(("dtypes", "ops"), BATCHES)
def test_elementwise_of_rank_0(dtypes: tuple[DType, ...], ops: list[Elementwise]) -> None:
    operands = [Operand(f"x{i}", "", d) for i, d in enumerate(dtypes)]
    host = any(is_host(op, d) for op in ops for d in dtypes)

    def build(*inputs: sg.Expr) -> list[Output]:
        bounds = [
            KINDS["complex"] if dtypes[-1].kind == "c" else of_elementwise(o.name) for o in ops
        ]
        return [Output(op.name, call(op, inputs), b) for op, b in zip(ops, bounds)]

    calls = [Call({}, mode, "C") for mode in MODES * 8]
    check(operands, build, calls, host_calls="allow" if host else "forbid")


@pytest.mark.deep
@pytest.mark.parametrize(("dtypes", "ops"), BATCHES)
def test_elementwise_deep(dtypes: tuple[DType, ...], ops: list[Elementwise]) -> None:
    for view in VIEWS:
        sweep_elementwise(dtypes, ops, [view], [*every(SIZES), *rotating([LARGE])])


# ------------------------------------------------------------------------------ the rest of the ops


def language_batches() -> Iterator[tuple[str, DType, list[Row]]]:
    """Rows of one family that take the same values and sizes, for each dtype, a few at a time."""
    for family, rows in FAMILIES.items():
        alike: dict[Any, list[Row]] = {}
        for row in rows:
            for d in DTYPES[row.dtypes]:
                alike.setdefault((d, row.modes(d), tuple(row.least.items()), row.host), []).append(
                    row
                )
        for (d, *_), together in alike.items():
            for start in range(0, len(together), TOGETHER):
                yield family, d, together[start : start + TOGETHER]


LANGUAGE = [
    pytest.param(d, rows, id=f"{family}-{d}-{rows[0].name}")
    for family, d, rows in language_batches()
]


def test_every_public_function_is_in_the_table() -> None:
    assert uncovered() == []


def fitting(rows: Sequence[Row], sizes: Sequence[Mapping[str, int]]) -> list[Mapping[str, int]]:
    """The sizes that the rows can take."""
    least = rows[0].least
    return [s for s in sizes if all(s[k] >= v for k, v in least.items())]


def sweep_rows(
    d: DType, rows: Sequence[Row], calls: Sequence[Call], static: Mapping[str, int] | None = None
) -> None:
    operands = [row.operands(d, f"x{k}_") for k, row in enumerate(rows)]

    def build(*inputs: sg.Expr) -> list[Output]:
        left = iter(inputs)
        given = [[next(left) for _ in group] for group in operands]
        return [o for row, xs in zip(rows, given) for o in row.outputs(d, xs)]

    allow = "allow" if d.kind == "c" or rows[0].host else "forbid"
    together = [o for group in operands for o in group]
    check(together, build, calls, static=static, host_calls=allow)


@pytest.mark.parametrize(("d", "rows"), LANGUAGE)
def test_language(d: DType, rows: list[Row]) -> None:
    sweep_rows(d, rows, rotating(fitting(rows, SIZES_OF_3), rows[0].modes(d)))


@pytest.mark.deep
@pytest.mark.parametrize(("d", "rows"), LANGUAGE)
def test_language_deep(d: DType, rows: list[Row]) -> None:
    modes = rows[0].modes(d)
    sweep_rows(d, rows, [*every(fitting(rows, SIZES_OF_3), modes)])
    by_rows: dict[tuple[int, ...], list[Mapping[str, int]]] = {}
    for sizes in LARGE_OF_3:
        small = tuple(k for k, row in enumerate(rows) if most_elements(row, d, sizes) <= MOST)
        by_rows.setdefault(small, []).append(sizes)
    for small, together in by_rows.items():
        sweep_rows(d, [rows[k] for k in small], rotating(together, modes))


MOST = 1 << 24  # elements of an array: the outer product of two large sizes would fill the memory


def most_elements(row: Row, d: DType, sizes: Mapping[str, int]) -> int:
    """Of any array on the way to a row's results."""
    inputs = [o.symbol(sizes) for o in row.operands(d)]
    shapes = [
        x.array_type.shape
        for x in toposort(o.value for o in row.outputs(d, inputs))
        if isinstance(x.type, Array)
    ]
    return max(math.prod(s for s in shape if isinstance(s, int)) for shape in shapes)


def test_large_sizes_are_for_nearly_every_row() -> None:
    rows = [(row, DTYPES[row.dtypes][0]) for family in FAMILIES.values() for row in family]
    large = [row for row, d in rows if all(most_elements(row, d, s) <= MOST for s in LARGE_OF_3)]
    assert len(large) >= 0.8 * len(rows)


@pytest.mark.deep
@pytest.mark.parametrize("sizes", SIZES_OF_3, ids=str)
@pytest.mark.parametrize(("d", "rows"), LANGUAGE)
def test_language_of_known_sizes(d: DType, rows: list[Row], sizes: Mapping[str, int]) -> None:
    if fitting(rows, [sizes]):
        sweep_rows(d, rows, [*every([sizes], rows[0].modes(d))], static=sizes)
