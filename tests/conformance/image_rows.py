"""More lines of the table of the language: convolutions, pooling, resizing."""

from __future__ import annotations

import symgraph as sg

from .rows import rows

FITS = {"n": 1, "m": 3, "k": 2}

CONVOLUTIONS = rows(
    "contraction",
    "real",
    {
        "conv1d": (lambda x, w: sg.conv1d(x, w), "nkm 3k2", "2k"),
        "conv1d dilated": (lambda x, w: sg.conv1d(x, w, 2, 2, 2), "nkm 3k2", "2k"),
        "conv2d": (lambda x, w: sg.conv2d(x, w), "2kmn 3k21", "2k"),
        "conv2d strided": (lambda x, w: sg.conv2d(x, w, (2, 3), "same"), "n2mk 3222", "222"),
        "conv2d channels last": (
            lambda x, w: sg.conv2d(x, w, padding=[(1, 0), (0, 2)], layout="NHWC"),
            "nmk2 2323",
            "232",
        ),
        "conv2d in groups": (lambda x, w: sg.conv2d(x, w, groups=2, padding=1), "n4mk 6222", "222"),
        "conv2d depthwise": (lambda x, w: sg.conv2d(x, w, groups=3, padding=1), "n3mk 3122", "22"),
        "conv3d": (lambda x, w: sg.conv3d(x, w, padding="full"), "22mk1 22212", "222"),
        "conv_transpose1d": (lambda x, w: sg.conv_transpose1d(x, w, 2, 1), "nkm k23", "3k"),
        "conv_transpose2d": (
            lambda x, w: sg.conv_transpose2d(x, w, 2, output_padding=(0, 1)),
            "n2mk 2322",
            "222",
        ),
        "conv_transpose3d": (lambda x, w: sg.conv_transpose3d(x, w), "12mk2 22121", "222"),
    },
    least=FITS,
)

POOLING = rows(
    "exact",
    "ordered",
    {
        "max_pool": (lambda x: sg.max_pool(x, 2), "n2mk"),
        "max_pool overlapping": (lambda x: sg.max_pool(x, 3, 2, 1), "n2mk"),
        "max_pool of channels last": (
            lambda x: sg.max_pool(x, (2, 1), (1, 2), "same", layout="NHWC"),
            "nmk2",
        ),
        "max_pool rounded up": (lambda x: sg.max_pool(x, 2, 2, 0, 1, True), "nkm"),
        "global_max_pool": (lambda x: sg.global_max_pool(x), "n2mk"),
        "adaptive_max_pool": (lambda x: sg.adaptive_max_pool(x, 3), "nk7"),
    },
    least=FITS,
) + rows(
    "conditioned",
    "float",
    {
        "avg_pool": (lambda x: sg.avg_pool(x, 2), "n2mk", "4"),
        "avg_pool overlapping": (
            lambda x: sg.avg_pool(x, 3, 2, 1, count_include_pad=False),
            "n2mk",
            "9",
        ),
        "avg_pool rounded up": (lambda x: sg.avg_pool(x, 2, 2, 1, True), "nkm", "2"),
        "global_avg_pool": (lambda x: sg.global_avg_pool(x, True), "n2mk", "mk"),
        "adaptive_avg_pool": (lambda x: sg.adaptive_avg_pool(x, 3), "nk7", "3"),
    },
    least=FITS,
)

RESIZING = rows(
    "exact",
    "every",
    {
        "resize": (lambda x: sg.resize(x, (2 * x.shape[2], 5)), "n2mk"),
        "resize down": (lambda x: sg.resize(x, 2), "nkm"),
    },
    least=FITS,
) + rows(
    "conditioned",
    "float",
    {
        "resize linear": (lambda x: sg.resize(x, (5, 3), "linear"), "n2mk", "4"),
        "resize aligned": (lambda x: sg.resize(x, (2, 7), "linear", True), "n2mk", "4"),
    },
    least=FITS,
)
