"""Programs of every kind and the LLVM text they become; the sources; programs run on their own."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import symgraph as sg
from symgraph.backends import build, targets
from symgraph.backends.driver import emit_driver
from symgraph.backends.entry import emit_entry
from symgraph.backends.layout_check import layout
from symgraph.backends.options import Options
from symgraph.backends.request import make_request
from symgraph.backends.stages import Stages
from symgraph.ops.define import REGISTRY, call

ROOT = Path(sg.__file__).parent.parent
KINDS = ("float32", "float64", "int64", "int8", "uint16", "float16", "bfloat16", "bool")


def elementwise() -> Iterable[tuple[list[Any], Any]]:
    """Every elementwise op with a native form, each in one dtype; together in all of them."""
    for number, (_, op) in enumerate(sorted(REGISTRY.items())):
        spec = op.spec
        have = [d for d in KINDS if d in spec.accepts]
        if spec.host or not have:
            continue
        d = have[number % len(have)]
        inputs = [sg.array("x", ("n",), spec.fixed.get(i, d)) for i in range(spec.arity)]
        yield inputs, call(op, inputs)


def structured() -> Iterable[tuple[list[Any], Any]]:
    """Reductions, products, loops, choices, movement."""
    m, q = sg.array("m", ("n", 40)), sg.array("q", ("n", 40), "int8")
    i = sg.scalar("i", "int64")
    start = sg.zeros((40,))
    yield [m], sg.softmax(m)
    yield [m], m @ m.T
    yield [q], q @ q.T
    yield [m], sg.cumsum(m, axis=0)
    yield [m], m.argmax(axis=1)
    yield [q], q.astype("float16").sum(axis=0)
    yield [m], sg.scan(lambda row, s: sg.tanh(s + row), m, start)[0]
    yield [m], sg.cond(m.sum() > 0, m, -m)
    yield [m, i], sg.concatenate([m[:i], sg.flip(m, 1), m.T.reshape(-1, 40)])
    yield [m], sg.assert_(m, m > 0, "positive").prod(axis=1)
    yield [m], sg.grad(sg.attention(m, m, m, causal=True).sum(), m)
    yield [m], sg.grad(sg.log_softmax(m)[:, 0].sum(), m)


def groups(size: int = 12) -> list[tuple[list[Any], list[Any]]]:
    """The programs by the dozen, each as (inputs, outputs) of one function."""
    found = [*elementwise(), *structured()]
    parts = [found[i : i + size] for i in range(0, len(found), size)]
    return [
        (list({id(x): x for a, _ in part for x in a}.values()), [e for _, e in part])
        for part in parts
    ]


def texts(inputs: Sequence[Any], outputs: Any, updates: Any = None) -> list[str]:
    """The LLVM modules of a function for this machine: kernels, driver, entry; not compiled."""
    target, stages = targets.host(), Stages("f")
    request = make_request(list(inputs), outputs, updates)
    program = build.make_plan(request, Options(), target, stages).program
    kernels, symbols = build.emit_kernels(program, target, stages)
    driver = emit_driver(program, target, "f", symbols)
    at = layout()
    entry = [] if at is None else [emit_entry(program, driver, target, at, request.result)]
    return [*kernels, *driver.modules, *entry]


@functools.cache
def corpus() -> tuple[str, ...]:
    """The modules of all programs."""
    return tuple(text for inputs, outputs in groups() for text in texts(inputs, outputs))


def blocks(text: str) -> list[list[list[str]]]:
    """The instructions of each block of each function of a module."""
    functions = re.findall(r"^define [^\n]*\{\n(.*?)^\}", text, re.M | re.S)
    return [
        [part.split("\n") for part in re.split(r"^[\w.$]+:.*\n", body, flags=re.M)]
        for body in functions
    ]


def never_emitted(pattern: str) -> None:
    """No module of the corpus has text of this kind."""
    assert len(corpus()) > 50
    found = [line for text in corpus() for line in text.split("\n") if re.search(pattern, line)]
    assert not found, found[:3]


def sources() -> dict[str, str]:
    """Every source file of the package."""
    folders = ("symgraph", "optim", "backends", "nn")
    files = [p for folder in folders for p in (ROOT / folder).glob("**/*.py")]
    return {str(p.relative_to(ROOT)): p.read_text() for p in files}


def run(code: str, *arguments: str) -> str:
    """What a Python program of its own process prints; it must end well."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr[-2000:])
    return done.stdout.strip()
