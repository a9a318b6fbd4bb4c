"""From a request to native code, stage by stage: rewrite, plan, legalize, emit, compile, link.

`build` is the whole compiler from top to bottom. Each kernel is a module of its own, looked up in
the disk cache by its text; between them signals are answered.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from symgraph.dims import SizeLike, product
from symgraph.expr import Expr, graph_guards
from symgraph.relations import Guard

from ..optim.pipeline import optimize
from . import emit as emitter
from . import targets
from .code import Code, LaunchInfo, frame_of, link
from .driver import Driver, emit_driver, walk
from .entry import emit_entry
from .jit import OPTIMIZATION, compile_assembly
from .layout_check import layout
from .legalize import legalize
from .loops import Kernel
from .module_symbols import undefined
from .objects import compiled, glue_level, object_key
from .options import Options
from .plan import plan
from .pool_ir import has_pool
from .program import Launch, Program, Repeat
from .program_text import program_text
from .request import Request
from .signature import contract_of
from .stages import Stages
from .targets import Target

DRIVER = (
    "f"  # prefix of the driver's and the entry's symbols; every library has a name space of its own
)


class Planned(NamedTuple):
    """The stages before machine code."""

    outputs: tuple[Expr, ...]  # rewritten: outputs, then new values
    journal: Any
    program: Program


class Built(NamedTuple):
    """Code, and what the disk cache keeps to link it again."""

    code: Code
    planned: Planned
    objects: tuple[str, ...]  # cache keys
    imports: tuple[str, ...]


def make_plan(
    request: Request,
    options: Options,
    target: Target,
    stages: Stages,
) -> Planned:
    """Rewrite and plan a request.  Raises HostCallError for host calls that are forbidden."""
    from symgraph.show import listing

    stages.text("graph", lambda: listing(request.roots))
    with stages.timed("rewrite"):
        rewritten, journal = optimize(
            list(request.roots), options.optimize, exclude=options.exclude
        )
    stages.text("rewrites", lambda: f"{journal}\n\n{listing(rewritten)}")
    with stages.timed("plan"):
        split = len(request.outputs)
        program = plan(
            request.inputs,
            rewritten[:split],
            [(w, value) for (w, _), value in zip(request.updates, rewritten[split:])],
            target=target,
            guards=all_guards(request),
            host_calls=options.host_calls,
            precision=options.precision,
        )
    stages.text("plan", lambda: program_text(program))
    return Planned(tuple(rewritten), journal, program)


def all_guards(request: Request) -> list[tuple[Guard, Expr]]:
    """The undecided size relations of the graph as written, and those of updates and givens."""
    return [*graph_guards(request.roots), *request.guards]


def build(request: Request, options: Options, stages: Stages) -> Built:
    """Compile a request for this machine and load it."""
    target = targets.host()
    planned = make_plan(request, options, target, stages)
    program = planned.program
    contract_of(program, ()).check_fixed()
    texts, symbols = emit_kernels(program, target, stages)
    with stages.timed("emit"):
        threads = has_pool(target.triple, target.arch)
        driver = emit_driver(program, target, DRIVER, symbols, options.profile, threads)
        glue, at = list(driver.modules), layout()
        if at is not None:
            glue.append(emit_entry(program, driver, target, at, request.result, options.profile))
    loops = any(isinstance(step, Repeat) for step in walk(program.steps))
    modules = [(text, OPTIMIZATION) for text in texts]
    modules += [(text, glue_level(text, loops)) for text in glue]
    stages.text("llvm", lambda: "\n".join(text for text, _ in modules))
    objects = []
    for text, level in modules:
        with stages.timed("compile", module_name(text)):
            objects.append(compiled(text, target, level))
    stages.text("asm", lambda: assembly([text for text, _ in modules], target))
    with stages.timed("link"):
        imports = sorted(undefined(glue) - set(symbols.values()))
        library = link(objects, DRIVER, imports, at is not None)
    keys = tuple(object_key(text, target, level) for text, level in modules)
    code = make_code(library, program, driver, at is not None)
    return Built(code, planned, keys, tuple(imports))


def emit_kernels(
    program: Program, target: Target, stages: Stages, prefix: str = ""
) -> tuple[list[str], dict[int, str]]:
    """LLVM texts of the distinct kernels, and the symbol of each kernel by its id.

    A symbol begins with `prefix` and ends in a digest of the kernel's text: equal kernels are one
    symbol, and one object in the cache.
    """
    texts: dict[str, str] = {}
    symbols: dict[int, str] = {}
    shown: list[str] = []
    known: dict[str, str] = {}  # symbol of a kernel by its loops: equal ones are lowered once
    for kernel in kernels_of(program):
        loops = kernel_text(kernel)
        shown.append(loops)
        if loops not in known:
            with stages.timed("legalize"):
                legal = legalize(kernel, target)
            with stages.timed("emit"):
                symbol, text = named_text(legal, target, prefix)
            texts[symbol] = text
            known[loops] = symbol
        symbols[id(kernel)] = known[loops]
    stages.text("loops", lambda: "\n\n".join(shown))
    return list(texts.values()), symbols


def named_text(kernel: Kernel, target: Target, prefix: str = "") -> tuple[str, str]:
    """The symbol and the LLVM text of a legal kernel."""
    text = emitter.emit(kernel, target)
    symbol = f"{prefix}{kernel.name}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return symbol, re.sub(rf"@{re.escape(kernel.name)}(?=[(.])", f"@{symbol}", text)


def module_name(text: str) -> str:
    """The last function that a module defines."""
    return re.findall(r"^define [^@]*@([\w.$]+)\(", text, re.M)[-1]


def kernels_of(program: Program) -> list[Kernel]:
    """The kernels of a program, each object once, in order of first use."""
    found = {id(s.kernel): s.kernel for s in walk(program.steps) if isinstance(s, Launch)}
    return list(found.values())


def kernel_text(kernel: Kernel) -> str:
    """The readable form of a kernel."""
    from .loops_text import to_text

    return to_text(kernel)


def assembly(texts: Sequence[str], target: Target) -> str:
    """Assembly of the modules, to be read."""
    return "\n".join(compile_assembly(text, target) for text in texts)


def make_code(library: Any, program: Program, driver: Driver, with_entry: bool) -> Code:
    """The code of a loaded program."""
    written = {u.shared for u in program.updates if u.mode != "keep"}
    return Code(
        library,
        library.address(f"{DRIVER}.entry") if with_entry else None,
        library.address(f"{DRIVER}.sizes"),
        library.address(f"{DRIVER}.run"),
        contract_of(program, driver.faults),
        frame_of(program, len(driver.sizes)),
        tuple(i in written for i in range(len(program.shared))),
        tuple(u.shared for u in program.updates if u.mode == "swap"),
        tuple(program.constants),
        driver.hosts,
        tuple(launch_info(program, launch) for launch in driver.launches),
    )


def launch_info(program: Program, launch: Launch) -> LaunchInfo:
    """What a profile says of a launch."""
    moved: SizeLike = 0
    for slot in {ref.slot for ref in launch.args}:
        type = program.slots[slot].type
        moved = moved + product(type.shape) * type.dtype.bytes
    return LaunchInfo(launch.kernel.name, launch.node.label, launch.node.site, launch.work, moved)
