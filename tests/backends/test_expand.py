"""What gives way to smaller ops keeps the user's line."""

from __future__ import annotations

import symgraph as sg
from symgraph.backends.expand import expand
from symgraph.expr import toposort


def test_expansions_have_the_line_of_what_they_stand_for() -> None:
    x, w = sg.array("x", (1, 2, 8)), sg.array("w", (2, 1, 3))
    nodes = [sg.softmax(x), sg.conv1d(x, w, groups=2), sg.max_pool(x, 3, 1)]
    inside = {id(n) for n in toposort(nodes)}
    for node in nodes:
        (small,) = expand([node])
        made = [n for n in toposort([small]) if id(n) not in inside and n.inputs]
        assert made and {n.site for n in made} == {node.site}
