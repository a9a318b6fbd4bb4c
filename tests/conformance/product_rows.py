"""More lines of the table of the language: products of narrow integers, summed in wider ones."""

from __future__ import annotations

import symgraph as sg

from .rows import rows


def _requantized(a: sg.Expr, b: sg.Expr, bias: sg.Expr) -> sg.Expr:
    """Scale, bias, round to nearest even, clamp."""
    real = sg.matmul(a, b, dtype="int32") * 0.0625 + bias
    return sg.clip(sg.round(real), -128, 127).astype("int8")


NARROW = rows(
    "exact",
    "short",
    {
        "matmul into int32": (lambda a, b: sg.matmul(a, b, dtype="int32"), "nk km", "k"),
        "matmul of bytes of two signs": (
            lambda a, b: sg.matmul(a.astype("uint8"), b.astype("int8"), dtype="int32"),
            "nk km",
            "k",
        ),
        "matmul of rows": (
            lambda a, b: sg.matmul(a, sg.transpose(b), dtype="int32"),
            "nk mk",
            "k",
        ),
        "dot into int64": (lambda a, b: sg.dot(a, b, dtype="int64"), "nk k", "k"),
        "tensordot into int32": (
            lambda a, b: sg.tensordot(a, b, ((1, 2), (0, 1)), dtype="int32"),
            "nk4 k4m",
            "k4",
        ),
        "einsum into int32": (
            lambda a, b: sg.einsum("bik,bkj->bij", a, b, dtype="int32"),
            "3nk 3km",
            "k",
        ),
        "requantized product": (_requantized, "nk km m", "k"),
    },
) + rows(
    "exact",
    "short",
    {
        "conv2d into int32": (
            lambda x, w: sg.conv2d(x, w, padding=1, layout="NHWC", dtype="int32"),
            "nmk3 3235",
            "333",
        ),
        "conv2d of bytes of two signs": (
            lambda x, w: sg.conv2d(x.astype("uint8"), w.astype("int8"), 2, 1, dtype="int32"),
            "n4mk 6432",
            "432",
        ),
        "depthwise conv2d of bytes of two signs": (
            lambda x, w: sg.conv2d(
                *(x.astype("uint8"), w.astype("int8")), groups=3, layout="NHWC", dtype="int32"
            ),
            "nmk3 2213",
            "22",
        ),
        "conv1d in groups into int32": (
            lambda x, w: sg.conv1d(x, w, groups=2, dtype="int32"),
            "n4m 223",
            "23",
        ),
    },
    least={"n": 1, "m": 3, "k": 2},
)
