"""Types of expressions: an array (dtype and shape), or a tuple of them (ops with many outputs)."""

from __future__ import annotations

from typing import Any, NamedTuple

from .dims import Dim, Shape, SizeLike, known_equal, product
from .dtypes import DType


class Array(NamedTuple):
    """dtype and shape; a shape entry is an int or a symbolic Dim. Prints as float32[n, 784]."""

    dtype: DType
    shape: Shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> SizeLike:
        """Number of elements."""
        return product(self.shape)

    @property
    def is_static(self) -> bool:
        return not any(isinstance(s, Dim) for s in self.shape)

    def accepts(self, other: Any) -> bool:
        """Whether a value of type `other` fits where this type is declared.

        It does if dtype and rank are the same and no size is provably different.
        """
        return (
            isinstance(other, Array)
            and self.dtype is other.dtype
            and len(self.shape) == len(other.shape)
            and all(known_equal(a, b) is not False for a, b in zip(self.shape, other.shape))
        )

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


class Tuple(NamedTuple):
    """The type of an op with several outputs; users see its parts through Get."""

    items: tuple[Array, ...]

    def __str__(self) -> str:
        return "(" + ", ".join(map(str, self.items)) + ")"


Type = Array | Tuple
