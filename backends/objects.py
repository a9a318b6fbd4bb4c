"""LLVM text to object bytes through the disk cache: one object for each kernel, driver or entry."""

from __future__ import annotations

from . import cache, jit
from .targets import Target

GLUE_LINES = 300  # a longer driver is compiled quickly even if it has loops: what they call is long


def compiled(text: str, target: Target, level: int = jit.OPTIMIZATION) -> bytes:
    """Object code of a module; taken from the cache if it was compiled before, by any process."""
    key = object_key(text, target, level)
    found = cache.get(key)
    if found is None or not jit.is_for(found, target):
        found = jit.compile_object(text, target, level)
        cache.put(key, found)
    return found


def glue_level(text: str, loops: bool) -> int:
    """How much LLVM does for a driver or an entry; loops: whether parts of it run more than once.

    What runs once is a few nanoseconds slower without optimization, and compiled in a third of the
    time; every function has an entry and a driver of its own.
    """
    return jit.OPTIMIZATION if loops and text.count("\n") < GLUE_LINES else jit.QUICK


def object_key(text: str, target: Target, level: int = jit.OPTIMIZATION) -> str:
    """The cache key of a module's object: everything that decides its bytes."""
    return cache.key("object", text, target.key, jit.llvm_version(), str(level))
