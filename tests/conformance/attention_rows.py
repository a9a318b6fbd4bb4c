"""More lines of the table of the language: attention."""

from __future__ import annotations

from typing import Any

import symgraph as sg

from .rows import rows


def _size(eps: float, q: Any, k: Any, v: Any, *mask: Any) -> sg.Expr:
    """The weighted magnitudes of v, and how far the roundings of scores move the weights."""
    scores = sg.abs(q) @ sg.abs(k).mT
    return (1 + sg.max(scores, -1, keepdims=True)) * sg.max(sg.abs(v), -2, keepdims=True)


ATTENTION = rows(
    "conditioned",
    "float",
    {
        "attention": (lambda q, k, v: sg.attention(q, k, v), "nk mk m3", "km"),
        "attention causal": (lambda q, k, v: sg.attention(q, k, v, causal=True), "nk mk m3", "km"),
        "attention masked": (lambda q, k, v, b: sg.attention(q, k, v, b), "nk mk m3 ?nm", "km"),
        "attention in heads": (
            lambda q, k, v: sg.attention(q, k, v, causal=True, scale=0.5),
            "22nk 21mk 21m3",
            "km",
        ),
    },
    least={"n": 1, "m": 1, "k": 1},
    sized=_size,
)
