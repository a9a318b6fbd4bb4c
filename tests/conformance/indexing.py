"""The part of the language's table that reads and writes at integer arrays.

Labels are below 5, so the axes that they index have that size.
"""

from __future__ import annotations

import symgraph as sg

from .rows import rows

INDEXING = (
    rows(
        "exact",
        "every",
        {
            "take": (lambda x, t: sg.take(x, t, 0), "5m #n"),
            "take columns": (lambda x, t: sg.take(x, t - 5, 1), "n5 #km"),
            "take of all": (lambda x, t: sg.take(x, t), "45 #nk"),
            "take by wrapping": (lambda x, t: sg.take(x, t * 7 - 9, 0, mode="wrap"), "5m #n"),
            "take by clipping": (lambda x, t: sg.take(x, t * 3 - 4, 0, mode="clip"), "5m #n"),
            "embedding": (lambda x, t: sg.embedding(x, t), "5m #nk"),
            "take_along_axis": (lambda x, t: sg.take_along_axis(x, t, 1), "n5 #nk"),
            "take_along_axis rows": (lambda x, t: sg.take_along_axis(x, t, 0), "5m #km"),
            "array first": (lambda x, t: x[t], "5m #n"),
            "array of views": (lambda x, t: sg.transpose(x)[::-1][t], "m5 #n"),
            "two arrays": (lambda x, t, u: x[t, u], "55m #n #n"),
            "two arrays apart": (lambda x, t, u: x[u, :, t], "5m5 #n #kn"),
            "array apart from a number": (lambda x, t: x[0, :, t], "5m5 #n"),
            "array beside a number": (lambda x, t: x[:, -1, t], "n45 #k"),
            "array with the rest": (lambda x, t: x[::-1, None, t, ...], "n5m #k"),
            "array after dots": (lambda x, t: x[..., t, None], "n5 #k"),
            "arrays around dots": (lambda x, t: x[:, t, ..., t], "n55 #k"),
            "computed scalar": (lambda x, t: x[sg.max(t)], "5m #3"),
            "set_subtensor": (lambda x, y: sg.set_subtensor(x[1:, ::-2], y), "nm ."),
            "set_subtensor at an array": (lambda x, t, y: sg.set_subtensor(x[t], y), "5m #n nm"),
            "set columns": (lambda x, t, y: x.at[1:, t].set(y), "45m #k m"),
            "set apart": (lambda x, t, u, y: x.at[u, :, t].set(y), "5m5 #n #kn knm"),
        },
    )
    + rows(
        "exact",
        "numeric",
        {
            "inc_subtensor": (lambda x, y: sg.inc_subtensor(x[1:, ::2], y), "nm ."),
            "inc_subtensor at an array": (lambda x, t, y: sg.inc_subtensor(x[t], y), "5m #n nm"),
            "inc of all": (lambda x, y: x.at[...].add(y), "nm m"),
            "scatter_add": (lambda x, t, y: sg.scatter_add(x, t, y, 0), "5m #km km"),
            "scatter_add columns": (lambda x, t, y: sg.scatter_add(x, t, y), "n5 #nk nk"),
            "segment_sum": (lambda x, t: sg.segment_sum(x, t, 5), "nm #n"),
            "segment_sum of a vector": (lambda x, t: sg.segment_sum(x, t, 7), "n #n"),
            "bincount with weights": (lambda x, t: sg.bincount(t, x, length=6), "nm #nm"),
        },
    )
    + rows(
        "exact",
        "ordered",
        {
            "larger at an array": (lambda x, t, y: x.at[t].max(y), "5m #n nm"),
            "smaller in a slice": (lambda x, y: x.at[::2].min(y), "nm m"),
        },
    )
    + rows(
        "exact",
        "ordered",
        {
            "segment_max": (lambda x, t: sg.segment_max(x, t, 5), "nm #n"),
            "segment_min": (lambda x, t: sg.segment_min(x, t, 6), "nm #n"),
        },
        smooth=False,  # infinite where a segment is empty
    )
    + rows("exact", "none", {"bincount": (lambda t: sg.bincount(t, length=5), "#nm")})
    + rows(
        "sum",
        "float",
        {"segment_mean": (lambda x, t: sg.segment_mean(x, sg.cast(t, "int32"), 5), "nm #n", "n")},
    )
)
