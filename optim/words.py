"""Every elementwise function under its own name, for patterns and for expressions alike.

from ..words import log, sigmoid
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from symgraph.ops.define import REGISTRY

from .pattern import word

globals().update({name: word(name) for name in REGISTRY})

if TYPE_CHECKING:

    def __getattr__(name: str) -> Callable[..., Any]: ...
