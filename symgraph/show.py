"""How an expression prints: a listing in order of computation; and its drawing in the DOT language.

x: float32[n, 784]
W: float32[784, 10]
a: float32[n, 10] = matmul(x, W)
b: float32[n, 10] = tanh(a)
"""

from __future__ import annotations

import itertools
import os
import string
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from .expr import Expr, toposort
from .leaves import Constant, DimValue
from .sites import Site

MAX_LINES = 500
INLINE_LIMIT = 4  # elements; larger constants get a line of their own


def listing(outputs: Expr | Sequence[Expr], *, sites: bool = False, limit: int = MAX_LINES) -> str:
    """One line for each node: name, type, op, operands.

    Numbers and sizes stand where they are used.
    sites: add the user's lines.   limit: how many lines; earlier ones are left out and counted.
    """
    roots = [outputs] if isinstance(outputs, Expr) else list(outputs)
    order = toposort(roots)
    names = node_names(order)
    wanted = set(map(id, roots))
    shown = [x for x in order if id(x) in names or id(x) in wanted]
    lines = [_line(x, names, sites) for x in shown[-limit:]]
    hidden = len(shown) - len(lines)
    head = [f"... {hidden:,} more above"] if hidden else []
    return "\n".join(head + lines)


def summary(x: Expr) -> str:
    """`<tanh: float32[n, 10]>`"""
    return f"<{x.label}: {x.type}>"


def node_names(order: Sequence[Expr]) -> dict[int, str]:
    """A name for each node that gets a line: the user's, made unique, or a letter."""
    taken: set[str] = {x.name for x in order if x.name}
    given: set[str] = set()
    letters = (name for name in _letters() if name not in taken)
    names: dict[int, str] = {}
    for x in order:
        if _inline(x) is None:
            name = x.name or next(letters)
            count = itertools.count(2)
            while name in given:
                name = f"{x.name}_{next(count)}"
            given.add(name)
            names[id(x)] = name
    return names


def _letters() -> Iterator[str]:
    for length in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_lowercase, repeat=length))


def _inline(x: Expr) -> str | None:
    """How a node is written inside its users, if it has no line of its own."""
    if isinstance(x.op, DimValue):
        return str(x.op.dim)
    if isinstance(x.op, Constant) and x.op.value.size <= INLINE_LIMIT and not x.name:
        return repr(x.op)
    return None


def _reference(x: Expr, names: dict[int, str]) -> str:
    return names[id(x)] if id(x) in names else str(_inline(x))


def _line(x: Expr, names: dict[int, str], sites: bool) -> str:
    where = f"   # {_place(x.site)}" if sites and x.site else ""
    name = names.get(id(x))
    if name is None:
        return f"{_inline(x)}: {x.type}{where}"
    if not x.inputs and isinstance(x.op, Constant):
        return f"{name}: {x.type} = {x.op!r}{where}"
    if not x.inputs and hasattr(x.op, "type"):  # an input, a shared variable, a region's parameter
        kind = "" if x.op.name == "input" else f" = {x.op.name}"
        return f"{name}: {x.type}{kind}{where}"
    operands = ", ".join(_reference(i, names) for i in x.inputs)
    return f"{name}: {x.type} = {x.op!r}({operands}){where}"


def _place(site: Site) -> str:
    return f"{os.path.basename(site[0])}:{site[1]}"


def draw(outputs: Expr | Sequence[Expr], path: str | os.PathLike[str] | None = None) -> str:
    """The graph in the DOT language; written to `path` if given.

    Edges point from operands to users.
    """
    roots = [outputs] if isinstance(outputs, Expr) else list(outputs)
    order = toposort(roots)
    number = {id(x): i for i, x in enumerate(order)}
    wanted = set(map(id, roots))
    lines = [
        "digraph symgraph {",
        '  node [fontname="monospace", shape=box, style=filled, fillcolor=white];',
    ]
    for x in order:
        text = _quoted(f"{x.name or repr(x.op)}\n{x.type}")
        color = "" if x.inputs else ", fillcolor=lightgray"
        border = ", penwidth=2" if id(x) in wanted else ""
        tip = f", tooltip={_quoted(_place(x.site))}" if x.site else ""
        lines.append(f"  n{number[id(x)]} [label={text}{color}{border}{tip}];")
        lines += [f"  n{number[id(i)]} -> n{number[id(x)]};" for i in x.inputs]
    text = "\n".join([*lines, "}"]) + "\n"
    if path is not None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    return text


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def debugprint(outputs: Expr | Sequence[Expr], *, sites: bool = False, file: Any = None) -> None:
    """Print the listing of all nodes."""
    print(listing(outputs, sites=sites, limit=sys.maxsize), file=file)
