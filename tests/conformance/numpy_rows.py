"""More lines of the table of the language: reductions without NaN, grids, cuts, products."""

from __future__ import annotations

import symgraph as sg

from .rows import rows

SOME = {"n": 1, "m": 1, "k": 1}

NAN_REDUCTIONS = [
    *rows(
        "sum",
        "numeric",
        {
            "nansum": (lambda x: sg.nansum(x, 1), "nm", "m"),
            "nansum of all": (lambda x: sg.nansum(x, keepdims=True), "nm", "nm"),
        },
    ),
    *rows("sum", "float", {"trapezoid": (lambda x: sg.trapezoid(x, dx=0.5), "nm", "m")}),
    *rows("product", "numeric", {"nanprod": (lambda x: sg.nanprod(x, 0), "nm", "n")}),
    *rows(
        "exact",
        "ordered",
        {
            "nanmax": (lambda x: sg.nanmax(x, 1), "nm"),
            "nanmax of all": (lambda x: sg.nanmax(x, keepdims=True), "nm"),
            "nanmin": (lambda x: sg.nanmin(x, 0), "nm"),
            "nanargmax": (lambda x: sg.nanargmax(x, 1), "nm"),
            "nanargmin": (lambda x: sg.nanargmin(x), "nm"),
        },
        least=SOME,
    ),
    *rows(
        "normalization",
        "float",
        {
            "nanstd": (lambda x: sg.nanstd(x), "nm", "nm"),
            "trapezoid over places": (lambda y, x: sg.trapezoid(y, x, axis=0), "nm n", "n"),
        },
        least=SOME,
    ),
    *rows(
        "conditioned",
        "float",
        {
            "nanmean": (lambda x: sg.nanmean(x, 1), "nm", "m"),
            "average": (lambda x, w: sg.average(x, 1, w), "nm %m", "m"),
            "average of all": (lambda x, w: sg.average(x, weights=w), "nm %nm", "nm"),
        },
        least=SOME,
    ),
    *rows(
        "conditioned",
        "float",
        {"nanvar": (lambda x: sg.nanvar(x, 0, keepdims=True), "nm", "n")},
        least=SOME,
        sized=lambda unit, x: (
            sg.nanvar(x, 0, keepdims=True) + 16 * unit * sg.nansum(x * x, 0, keepdims=True)
        ),
    ),
    *rows(
        "running sum",
        "numeric",
        {
            "cumulative_sum": (lambda x: sg.cumulative_sum(x, 1, include_initial=True), "nm", "m"),
            "cumulative_sum of a vector": (lambda x: sg.cumulative_sum(x), "n", "n"),
        },
    ),
    *rows(
        "product",
        "numeric",
        {
            "cumulative_prod": (
                lambda x: sg.cumulative_prod(x, 0, include_initial=True),
                "nm",
                "n",
            ),
        },
    ),
]

CUTS = rows(
    "exact",
    "every",
    {
        "dstack": (lambda x, y: sg.dstack([x, y]), "nm nm"),
        "dstack of vectors": (lambda x, y: sg.dstack([x, y]), "n n"),
        "column_stack": (lambda x, y: sg.column_stack([x, y]), "n nm"),
        "hsplit": (lambda x: sg.hsplit(x, 3), "n6"),
        "vsplit": (lambda x: sg.vsplit(x, [2, 3]), "5m"),
        "dsplit": (lambda x: sg.dsplit(x, 2), "nm4"),
        "unstack": (lambda x: sg.unstack(x, 1), "n3"),
        "atleast_3d": (lambda x: sg.atleast_3d(x), "n"),
        "atleast_3d of a matrix": (lambda x: sg.atleast_3d(x), "nm"),
        "rot90": (lambda x: sg.rot90(x), "nm"),
        "rot90 twice": (lambda x: sg.rot90(x, 2, (1, 2)), "nmk"),
        "rot90 back": (lambda x: sg.rot90(x, -1), "nm"),
        "diagflat": (lambda x: sg.diagflat(x, 1), "n2"),
        "empty": (lambda x: sg.empty((2, x.shape[0]), x.dtype), "nm"),
        "empty_like": (lambda x: sg.empty_like(x), "nm"),
        "meshgrid": (lambda x, y: sg.meshgrid(x, y), "n m"),
        "meshgrid ij": (lambda x, y: sg.meshgrid(x, y, x, indexing="ij"), "n m"),
        "meshgrid sparse": (lambda x, y: sg.meshgrid(x, y, sparse=True), "n m"),
        "select": (lambda a, b, x, y: sg.select([a, b], [x, y]), "?nm ?m nm m"),
        "size": (lambda x: sg.reshape(x, (sg.size(x),)), "nm"),
        "ndim": (lambda x: sg.expand_dims(x, sg.ndim(x)), "nm"),
        "broadcast_shapes": (
            lambda x, y: sg.broadcast_to(x, sg.broadcast_shapes(x.shape, y.shape)),
            "m nm",
        ),
        "isreal": (lambda x: sg.isreal(x), "nm"),
        "iscomplex": (lambda x: sg.iscomplex(x), "nm"),
        "iscomplexobj": (lambda x: sg.full(x.shape, sg.iscomplexobj(x)), "nm"),
        "isrealobj": (lambda x: sg.full(x.shape, sg.isrealobj(x)), "nm"),
        "array_equal": (lambda x, y: sg.array_equal(x, y), "nm nm"),
        "array_equal of itself": (lambda x: sg.array_equal(x, x[:, :], equal_nan=True), "nm"),
        "array_equal of sizes": (lambda x, y: sg.array_equal(x, y), "n1 nm"),
    },
) + rows(
    "exact",
    "numeric",
    {
        "positive": (lambda x: sg.positive(x), "nm"),
        "indices": (lambda x: sg.indices(x.shape, "int32"), "nm"),
        "indices sparse": (lambda x: sg.indices(x.shape, sparse=True), "nm"),
    },
)

VECTORS = rows(
    "contraction",
    "numeric",
    {
        "vecdot": (lambda a, b: sg.vecdot(a, b), "nk k", "k"),
        "vecdot along rows": (lambda a, b: sg.vecdot(a, b, axis=0), "km km", "k"),
        "matvec": (lambda a, b: sg.matvec(a, b), "3nk k", "k"),
        "matvec batch": (lambda a, b: sg.matvec(a, b), "nk 3k", "k"),
        "vecmat": (lambda a, b: sg.vecmat(a, b), "3k km", "k"),
    },
) + rows(
    "normalization",
    "numeric",
    {
        "cross": (lambda a, b: sg.cross(a, b), "n3 n3"),
        "cross of axis 0": (lambda a, b: sg.cross(a, b, axis=0), "3n 3n"),
    },
)

VALUES = rows(
    "composite",
    "float",
    {
        "allclose": (lambda x, y: sg.allclose(x, y), "nm m"),
        "logspace": (lambda x: sg.logspace(-1.0, 2.0, 17, dtype=x.dtype), "nm"),
        "geomspace": (lambda x: sg.geomspace(-3.0, -1000.0, 9, dtype=x.dtype), "nm"),
        "frexp": (lambda x: sg.frexp(x), "nm"),
        "modf": (lambda x: sg.modf(x), "nm"),
        "float_power": (lambda x, y: sg.float_power(x, y), "%nm m"),
    },
    smooth=False,
) + rows(
    "product",
    "real",
    {
        "vander": (lambda x: sg.vander(x, 5), "n"),
        "vander up": (lambda x: sg.vander(x, 3, True), "n"),
    },
)

GAMMA_PRODUCTS = rows(
    "composite",
    "float",
    {
        "rgamma": (lambda x: sg.rgamma(x), "nm"),
        "beta": (lambda x, y: sg.beta(x, y), "%nm %m"),
        "binom": (lambda x, y: sg.binom(x + 1, y), "%nm %m"),
    },
    host=True,
)
