"""Instructions that only some targets have, declared once: what each means, how targets say it.

The meaning is code in loop IR that every target has. It is what the interpreter runs, what tests
compare the hardware with, and what `legalize` puts where a target lacks the instruction.
"""

from __future__ import annotations

from ..targets import Target
from . import arm, portable, x86
from .instruction import Form, Instruction

__all__ = ["INSTRUCTIONS", "Form", "Instruction", "form"]

INSTRUCTIONS: dict[str, Instruction] = {i.name: i for i in portable.INSTRUCTIONS}
_FORMS = {"x86-64": x86.FORMS, "aarch64": arm.FORMS}


def form(name: str, lanes: int, target: Target) -> Form | None:
    """How the target says an instruction with this many lanes of sums; None: it does not."""
    forms = _FORMS.get(target.arch, {}).get(name, ())
    return next((f for f in forms if f.lanes == lanes and f.is_on(target)), None)
