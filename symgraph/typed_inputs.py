"""Theano's typed constructors (fmatrix, ivector, dtensor4) and the plural forms that make several.

Letters: b int8, w int16, i int32, l int64, u uint8, f float32, d float64, c complex64,
z complex128. Without a letter the dtype is the default float, or the one given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import leaves
from .errors import GraphError
from .expr import Expr, user_site

MANY = 10_000  # inputs made at once

LETTERS = {
    "b": "int8",
    "w": "int16",
    "i": "int32",
    "l": "int64",
    "u": "uint8",
    "f": "float32",
    "d": "float64",
    "c": "complex64",
    "z": "complex128",
}
SHAPES: dict[str, tuple[int | None, ...]] = {
    "scalar": (),
    "vector": (None,),
    "matrix": (None, None),
    "row": (1, None),
    "col": (None, 1),
    "tensor3": (None,) * 3,
    "tensor4": (None,) * 4,
    "tensor5": (None,) * 5,
    "tensor6": (None,) * 6,
    "tensor7": (None,) * 7,
}
PLURALS = {
    "scalars": "scalar",
    "vectors": "vector",
    "matrices": "matrix",
    "rows": "row",
    "cols": "col",
    "tensor3s": "tensor3",
    "tensor4s": "tensor4",
}


def _one(name: str, kind: str, letter: str) -> Callable[..., Expr]:
    fixed = LETTERS.get(letter)

    def constructor(name: str | None = None, dtype: Any = None) -> Expr:
        return leaves.array(name, SHAPES[kind], fixed or dtype)

    constructor.__name__ = constructor.__qualname__ = name
    constructor.__doc__ = (
        f"An input of shape {SHAPES[kind]}, {fixed or 'default float unless given'}."
    )
    return constructor


def _several(name: str, kind: str, letter: str) -> Callable[..., list[Expr]]:
    one = _one(name, kind, letter)

    def constructor(*names: Any, dtype: Any = None) -> list[Expr]:
        if len(names) == 1 and isinstance(names[0], int):
            if not 0 <= names[0] <= MANY:
                raise GraphError(
                    f"{name}: expected at most {MANY} inputs, got {names[0]}", site=user_site()
                )
            return [one(None, dtype) for _ in range(names[0])]
        words = names[0].split() if len(names) == 1 and isinstance(names[0], str) else names
        return [one(word, dtype) for word in words]

    constructor.__name__ = constructor.__qualname__ = name
    constructor.__doc__ = (
        f"Inputs of shape {SHAPES[kind]}, one per name ('x y') or a number of them."
    )
    return constructor


def _table() -> dict[str, Callable[..., Any]]:
    made: dict[str, Callable[..., Any]] = {}
    for letter in ("", *LETTERS):
        for kind in SHAPES:
            if letter or not hasattr(leaves, kind):
                made[letter + kind] = _one(letter + kind, kind, letter)
        for plural, kind in PLURALS.items():
            made[letter + plural] = _several(letter + plural, kind, letter)
    return made


TABLE = _table()


def __getattr__(name: str) -> Any:
    try:
        return TABLE[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
