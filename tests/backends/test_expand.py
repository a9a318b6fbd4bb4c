"""What gives way to smaller ops keeps the user's line."""

from __future__ import annotations

import re

import symgraph as sg
from symgraph.backends.expand import expand
from symgraph.backends.targets import host
from symgraph.expr import toposort


def test_expansions_have_the_line_of_what_they_stand_for() -> None:
    x, w = sg.array("x", (1, 2, 8)), sg.array("w", (2, 1, 3))
    nodes = [sg.softmax(x), sg.conv1d(x, w, groups=2, padding=1), sg.max_pool(x, 3, 1)]
    inside = {id(n) for n in toposort(nodes)}
    for node in nodes:
        (small,) = expand([node], host())
        made = [n for n in toposort([small]) if id(n) not in inside and n.inputs]
        assert made and {n.site for n in made} == {node.site}


def groups_of(f: sg.Function) -> list[str]:
    """The kernels of a function that are loops of ours."""
    text = f.explain()
    names = r"map|reduce|depthwise\w*|\w*matmul\w*|convolve\w*"
    return re.findall(rf"^  ({names}): \d+ nodes", text, re.M)


def test_depthwise_has_a_kernel_of_its_own() -> None:
    """So has its image gradient; all taps of its kernel gradient are summed in one loop."""
    x, w = sg.array("x", (2, 9, 9, 8)), sg.array("w", (3, 3, 1, 8))
    y = sg.conv2d(x, w, padding=1, groups=8, layout="NHWC")
    assert groups_of(sg.function([x, w], y)) == ["depthwise_float32"]
    g = sg.array("g", y.array_type.shape)
    by_x, by_w = sg.grad((y * g).sum(), [x, w])
    assert groups_of(sg.function([w, g], by_x)).count("depthwise_float32") == 1
    assert groups_of(sg.function([x, g], by_w)).count("reduce") == 1
    strided = sg.conv2d(x, w, 2, 1, groups=8, layout="NHWC")
    g = sg.array("g", strided.array_type.shape)
    assert "matmul" not in " ".join(groups_of(sg.function([w, g], sg.grad((strided * g).sum(), x))))
