"""What a function says of itself: explain() and source(), remade if it came from the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from symgraph.errors import GraphError
from symgraph.show import listing
from symgraph.sites import show_site, user_site

from ..optim.rules.layout import chosen
from . import winograd
from .calls import Function
from .options import Options
from .program import Host, Launch, Program
from .program_text import program_text
from .request import Request
from .stages import STAGES, Stages

MORE = 12  # nodes of a group that are named


def describer(
    request: Request, options: Options, planned: Any = None, stages: Stages | None = None
) -> Callable[[Function, str], str]:
    """The function behind explain() and source(); what is not at hand is planned again."""
    kept = {"planned": planned} if planned is not None else {}

    def describe(function: Function, what: str) -> str:
        if what not in ("explain", *STAGES[:-1]):
            raise GraphError(
                f"source: no stage is called {what!r}",
                site=user_site(),
                hint="stages: " + ", ".join(STAGES[:-1]),
            )
        if what == "graph":
            return listing(request.roots, sites=True)
        from . import targets
        from .build import make_plan

        if "planned" not in kept:
            kept["planned"] = make_plan(request, options, targets.host(), Stages(function.name, ()))
        if what == "explain":
            return _explain(function, kept["planned"], stages)
        return _source(kept["planned"], what)

    return describe


def _source(planned: Any, what: str) -> str:
    from . import targets
    from .build import DRIVER, assembly, emit_kernels, kernel_text, kernels_of
    from .driver import emit_driver

    if what == "rewrites":
        return f"{planned.journal}\n\n{listing(planned.outputs)}"
    if what == "plan":
        return program_text(planned.program)
    if what == "loops":
        return "\n\n".join(kernel_text(k) for k in kernels_of(planned.program))
    target = targets.host()
    texts, symbols = emit_kernels(planned.program, target, Stages("", ()))
    texts += emit_driver(planned.program, target, DRIVER, symbols).modules
    return "\n".join(texts) if what == "llvm" else assembly(texts, target)


def _explain(function: Function, planned: Any, stages: Stages | None) -> str:
    program = planned.program
    lines = [
        str(function.signature),
        f"rewrites: {planned.journal}",
        *chosen(planned.outputs),
        *winograd.explained(program.groups),
        *_kernels(program),
        *_hosts(program),
    ]
    lines += [
        f"arena: {program.arena} bytes",
        f"constants: {sum(c.nbytes for c in program.constants)} bytes",
    ]
    lines += [f"update of {program.shared[u.shared].label}: {u.mode}" for u in program.updates]
    if stages is not None:
        lines += ["times:", stages.times_text()]
    return "\n".join(lines)


def _kernels(program: Program) -> list[str]:
    from .driver import walk

    steps = list(walk(program.steps))
    launches = sum(isinstance(s, Launch) for s in steps)
    lines = [f"kernels: {launches} launches, {len(program.groups)} fused groups"]
    for group in program.groups:
        names = " ".join(x.label for x in group.nodes[:MORE]) + (
            " ..." if len(group.nodes) > MORE else ""
        )
        site = next((show_site(x.site) for x in reversed(group.nodes) if x.site), "")
        lines.append(
            f"  {group.kernel}: {len(group.nodes)} nodes ({names}); ends: {group.reason}   {site}"
        )
    return lines


def _hosts(program: Program) -> list[str]:
    from .driver import walk

    hosts = [s for s in walk(program.steps) if isinstance(s, Host)]
    return [
        f"host call: {s.node.op.name}: {s.reason}"
        + (f"   {show_site(s.node.site)}" if s.node.site else "")
        for s in hosts
    ]
