"""The readable form of a Program: its slots, and a line for each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .program import Branch, Copy, Host, Launch, Program, Ref, Repeat, Slot, Step


def program_text(program: Program) -> str:
    """Signature, slots, sizes, steps and updates, as text."""
    names = [_slot_name(i, s) for i, s in enumerate(program.slots)]
    lines = [
        f"{n}: {s.type}{_slot_note(program, s)}"
        for n, s in zip(names, program.slots)
        if s.kind != "unused"
    ]
    lines += [
        f"size {b.atom} = {_bound(program, b.kind, b.position, b.axis)}" for b in program.binds
    ]
    lines += [f"require {g.left} {g.relation} {g.right}   {g.what}" for g, _ in program.guards]
    lines += [f"arena: {program.arena} bytes", *_steps(program.steps, names, "")]
    lines += [
        f"update {program.shared[u.shared].label}: {u.mode} {names[u.slot]}"
        for u in program.updates
    ]
    return "\n".join(lines)


def _slot_name(number: int, slot: Slot) -> str:
    return f"{slot.kind}{slot.position}" if slot.kind != "temp" else f"t{number}"


def _slot_note(program: Program, slot: Slot) -> str:
    if slot.kind == "temp":
        return f" at {slot.offset}"
    if slot.kind in ("input", "shared"):
        variables = program.inputs if slot.kind == "input" else program.shared
        return f" = {variables[slot.position].label}"
    return ""


def _bound(program: Program, kind: str, index: int, axis: int | None) -> str:
    label = (program.inputs if kind == "input" else program.shared)[index].label
    return f"{label}.shape[{axis}]" if axis is not None else label


def _steps(steps: Sequence[Step], names: Sequence[str], indent: str) -> Iterator[str]:
    for step in steps:
        if isinstance(step, Launch):
            given = ", ".join([_ref(r, names) for r in step.args] + [str(d) for d in step.dims])
            note = f"{step.node.label}, work {step.work}"
            yield f"{indent}{step.kernel.name}({given})   {note}"
        elif isinstance(step, Copy):
            source = f"{step.elements} {step.dtype} at {_ref(step.source, names)}"
            yield f"{indent}{_ref(step.target, names)} = copy of {source}"
        elif isinstance(step, Host):
            given = ", ".join(_ref(r, names) for r in step.args)
            results = ", ".join(_ref(r, names) for r in step.results)
            yield f"{indent}{results} = host {step.node.label}({given})   {step.reason}"
        elif isinstance(step, Repeat):
            order = "downwards" if step.reverse else "upwards"
            yield f"{indent}repeat {step.times} times, {order}:"
            yield from _steps(step.body, names, indent + "  ")
        elif isinstance(step, Branch):
            yield f"{indent}if {_ref(step.predicate, names)}:"
            yield from _steps(step.then, names, indent + "  ")
            yield f"{indent}else:"
            yield from _steps(step.orelse, names, indent + "  ")


def _ref(ref: Ref, names: Sequence[str]) -> str:
    moves = [str(ref.offset)] if ref.offset != 0 else []
    moves += [f"i{depth}*({stride})" for depth, stride in enumerate(ref.strides) if stride != 0]
    text = names[ref.slot] + (f"[{' + '.join(moves)}]" if moves else "")
    if ref.first is None:
        return text
    return f"{text} (first {_ref(ref.first, names)} for i{ref.level})"
