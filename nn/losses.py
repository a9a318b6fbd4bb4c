"""Losses: what a model's predictions cost against their targets, as expressions.

Each takes predictions, targets, and
    reduction   "mean" (the default), "sum", or "none": one number for each row or element
    weights     how much each of these numbers counts, an expression or array that broadcasts to
                them; the mean is then the weighted one
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symgraph.errors import GraphError, ShapeError
from symgraph.expr import Expr, user_site
from symgraph.leaves import Shared, lift
from symgraph.ops import nnet
from symgraph.ops.define import cast
from symgraph.ops.elementwise import abs, maximum, minimum, where
from symgraph.ops.reduce import mean_of_nothing_placeholder  # noqa
