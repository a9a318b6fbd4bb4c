"""A value that is also stored inside of zeros lies there alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import symgraph as sg
from symgraph import nn
from symgraph.backends import targets
from symgraph.backends.expand import expand
from symgraph.backends.inside import read_inside
from symgraph.expr import toposort
from symgraph.ops.movement import Place, Slice

X = np.random.default_rng(0).standard_normal((2, 6, 5, 3)).astype(np.float32)


def padded(x: sg.Expr, width: int = 1) -> sg.Expr:
    return sg.pad(x, [(0, 0), (width, width), (width, width), (0, 0)])


CASES: dict[str, Callable[[sg.Expr], list[sg.Expr]]] = {
    "a reader beside": lambda x: [padded(sg.exp(x)).sum(1), (sg.exp(x) * 2).sum(2)],
    "a reader before": lambda x: [(sg.exp(x) * 2).sum(2), padded(sg.exp(x)).sum(1)],
    "a reader of both": lambda x: [
        padded(sg.exp(x))[:, 1:-1, 1:-1] * sg.exp(x) + sg.exp(x)[:, ::-1]
    ],
    "two places": lambda x: [padded(sg.exp(x)), padded(sg.exp(x), 2), sg.exp(x).sum(0)],
    "a result": lambda x: [sg.exp(x), padded(sg.exp(x))],
    "an input": lambda x: [x * 2, padded(x)],
    "places of places": lambda x: [padded(padded(sg.exp(x))), sg.exp(x).max(3), padded(sg.exp(x))],
    "itself": lambda x: [padded(sg.exp(x)) * padded(sg.exp(x)), sg.exp(x).T],
    "steps": lambda x: [sg.grad((sg.exp(x)[:, ::2] ** 2).sum(), x), sg.exp(x) - 1],
    "convolutions": lambda x: [
        sg.grad(
            sg.relu(
                sg.conv2d(sg.relu(x * 3), sg.ones((3, 3, 3, 4)), padding=1, layout="NHWC")
            ).sum(),
            x,
        )
    ],
}


@pytest.mark.parametrize("shape", [X.shape, ("n", "h", "w", 3)])
@pytest.mark.parametrize("case", CASES)
def test_values(case: str, shape: tuple[int | str, ...]) -> None:
    x = sg.array("x", shape)
    results = CASES[case](x)
    for value in (X, X[:, :2, :1], X[:0]):
        if shape == X.shape and value is not X:
            continue
        got, want = (sg.function([x], results, mode=m)(value) for m in ("native", "reference"))
        for a, b in zip(got, want):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


def test_other_readers_take_a_slice() -> None:
    x = sg.array("x", X.shape)
    y = sg.exp(x)
    first, second = read_inside(expand([(y * 2).sum(0), padded(y).sum(0)], targets.host()))
    nodes = toposort([first, second])
    places = [n for n in nodes if isinstance(n.op, Place)]
    slices = [n for n in nodes if isinstance(n.op, Slice)]
    assert len(places) == len(slices) == 1 and slices[0].inputs[0] is places[0]
    (made,) = (n for n in nodes if n.op.name == "exp")
    assert [n.op.name for n in nodes if any(i is made for i in n.inputs)] == ["place"]


def test_what_nobody_else_reads_stays() -> None:
    x = sg.array("x", X.shape)
    results = expand([padded(sg.exp(x)).sum(0), sg.sin(x)], targets.host())
    assert all(a is b for a, b in zip(read_inside(results), results))


def test_a_training_step_copies_no_image() -> None:
    """Each activation is written into the zeros around it by the kernel that makes it."""
    x, t = sg.array("x", (4, 3, 12, 12)), sg.array("t", (4,), "int64")
    model = nn.Sequential(
        nn.ConvNorm2d(3, 16, 3, rng=0), nn.ConvNorm2d(16, 16, 3, rng=1), nn.GlobalPool(),
        nn.Dense(16, 5, rng=2),
    )  # fmt: skip
    cost = nn.cross_entropy(model(x), t)
    updates = nn.SGD(0.1).minimize(cost, model.parameters())
    step = sg.function([x, t], cost, updates=updates)
    made = [i for i in step.core.code.launches if i.kernel.startswith(("place", "map"))]
    copies = [i for i in made if i.kernel.startswith("place") and i.work == 4 * 12 * 12 * 16]
    assert not copies, copies
