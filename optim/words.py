"""Every elementwise function under its own name, for patterns and for expressions alike.

from ..words import log, sigmoid
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from symgraph.ops.define import REGISTRY

from .pattern import word

globals().update({name: word(name) for name in REGISTRY})

if TYPE_CHECKING:  # the same names, whose operands may be anything
    from symgraph.ops.elementwise import *  # noqa: F403
