"""What the compiler made of a training step, as facts and as text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.dims import evaluate_dim
from symgraph.expr import toposort

from ..backends.function import Function
from ..optim.pipeline import optimize


def compiler_facts(function: Function, arrays: Sequence[np.ndarray]) -> dict[str, Any]:
    """Rules that fired, kernels and bytes of a compiled function, for arguments like `arrays`."""
    core = function.core
    sizes = core.contract.sizes(arrays, core.current())
    launches = core.code.launches
    _, journal = optimize(list(function.request.roots), "full")
    updates = [mode for _, mode, _, _ in core.code.frame.updates]
    return {
        "nodes": len(toposort(function.request.roots)),
        "rules": journal.counts(),
        "kernels": len(launches),
        "host calls": len(core.code.hosts),
        "operations": sum(evaluate_dim(i.work, sizes) for i in launches),
        "bytes moved": sum(evaluate_dim(i.bytes, sizes) for i in launches),
        "arena bytes": evaluate_dim(core.contract.arena, sizes),
        "state bytes": sum(w.get_value(borrow=True).nbytes for w in function.shared),
        "updates": len(updates),
        "updates in place": updates.count("inplace"),
    }


def compiler_lines(made: dict[str, Any], compiling: float, batch: int) -> list[str]:
    """The facts in words; `compiling`: seconds it took."""
    return [
        "What the compiler made of the training step (forward, gradient, update):",
        f"  one native function of {made['kernels']} kernels from {made['nodes']} graph nodes, "
        f"{made['host calls']} calls back into Python",
        f"  built and compiled in {compiling:.2f} s, with the function that measures accuracy",
        *_fired(made["rules"]),
        f"  a minibatch of {batch}: {made['operations'] / 1e6:.2f} M operations, "
        f"{made['bytes moved'] / 1e6:.2f} MB read and written, "
        f"{made['arena bytes'] / 1e3:.0f} kB of temporaries",
        f"  {made['state bytes'] / 1e3:.0f} kB of parameters and state; "
        f"{made['updates in place']} of {made['updates']} updated in place",
    ]


def _fired(counts: dict[str, int]) -> list[str]:
    """The rules with their counts, wrapped between rules."""
    unbroken = (
        (f"{rule} ({n})" if n > 1 else rule).replace(" ", "\xa0") for rule, n in counts.items()
    )
    text = "rules that fired: " + (", ".join(unbroken) or "none")
    lines = textwrap.wrap(
        text, 98, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
    )
    return [line.replace("\xa0", " ") for line in lines]
