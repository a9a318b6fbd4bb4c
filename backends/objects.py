"""LLVM text to object bytes through the disk cache: one object for each kernel, driver or entry."""

from __future__ import annotations

from . import cache, jit
from .targets import Target


def compiled(text: str, target: Target) -> bytes:
    """Object code of a module; taken from the cache if it was compiled before, by any process."""
    key = object_key(text, target)
    found = cache.get(key)
    if found is None:
        found = jit.compile_object(text, target)
        cache.put(key, found)
    return found


def object_key(text: str, target: Target) -> str:
    """The cache key of a module's object: everything that decides its bytes."""
    return cache.key("object", text, target.key, jit.llvm_version())
