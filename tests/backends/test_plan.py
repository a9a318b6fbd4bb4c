"""Plan, lowering and loop IR, run by the interpreter, agree with NumPy on random programs."""

from __future__ import annotations

from hypothesis import given, settings

import symgraph as sg
from symgraph.backends.plan import plan
from symgraph.backends.program import Launch, Repeat
from symgraph.backends.simulate import simulate
from symgraph.backends.targets import target
from symgraph.backends.verify_loops import verify

from ..programs import Case, cases, compare

TARGETS = [target("x86-64-v4"), target("x86-64-v3"), target("x86-64"), target("cortex-a72")]


def run(case: Case, machine) -> None:
    program = plan(case.inputs, case.outputs, target=machine)
    steps = list(program.steps)
    for step in steps:
        if isinstance(step, Launch):
            verify(step.kernel)
        elif isinstance(step, Repeat):
            steps.extend(step.body)
    got, _ = simulate(program, case.arrays, [])
    compare(case, got)


@given(cases(20))
@settings(max_examples=60)
def test_random_programs_agree_with_numpy(case: Case) -> None:
    run(case, TARGETS[0])


@given(cases(12))
@settings(max_examples=30)
def test_random_programs_agree_on_other_targets(case: Case) -> None:
    for machine in TARGETS[1:]:
        run(case, machine)


def launches(outputs: list[sg.Expr], x: sg.Expr) -> int:
    return len(list(plan([x], outputs, target=TARGETS[0]).steps))


def test_readers_of_what_a_full_kernel_made_share_kernels() -> None:
    x = sg.vector("x")
    y = sg.exp(x)
    many = [y * float(i) + sg.sqrt(y + float(i)) for i in range(300)]
    assert launches(many, x) <= 8  # about 1200 operations, at most 300 a kernel


def test_readers_of_an_input_fill_one_kernel_after_the_other() -> None:
    x = sg.vector("x")
    many = [sg.sqrt(x + float(i)) for i in range(1000)]
    assert launches(many, x) <= 16
