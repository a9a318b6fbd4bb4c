"""Which symbols the text of an LLVM module offers, and which it needs from outside."""

from __future__ import annotations

import re
from collections.abc import Iterable

_DECLARED = re.compile(r"^declare [^@]*@([\w.$]+)\(|^@([\w.$]+) = external", re.M)
_DEFINED = re.compile(r"^define (internal )?[^@]*@([\w.$]+)\(", re.M)


def undefined(texts: Iterable[str]) -> set[str]:
    """What modules together need from outside: declared, nowhere defined, no intrinsics."""
    declared: set[str] = set()
    defined: set[str] = set()
    for text in texts:
        declared |= {a or b for a, b in _DECLARED.findall(text)}
        defined |= {name for _, name in _DEFINED.findall(text)}
    return {name for name in declared - defined if not name.startswith("llvm.")}


def exported(text: str) -> list[str]:
    """The functions of a module that others may call, in its order."""
    return [name for internal, name in _DEFINED.findall(text) if not internal]
