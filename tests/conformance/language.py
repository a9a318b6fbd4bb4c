"""The language beyond elementwise ops, as a table: reductions, movement, products, networks,
creation, random draws and control flow.

"float" rows run for all float dtypes, "real" ones for integers too, "ordered" ones also for bool;
derivatives of rows marked `smooth` are compared with finite differences.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import symgraph as sg
from symgraph.expr import apply
from symgraph.ops.define import REGISTRY
from symgraph.ops.movement import Place

from . import attention_rows, image_rows, indexing, numpy_rows, product_rows
from .rows import Row, rows

SOME = {"n": 1, "m": 1, "k": 1}


def _layer_norm_size(unit: float, x: sg.Expr, gain: sg.Expr, bias: sg.Expr) -> sg.Expr:
    """What its rounding errors are relative to: near equal elements lose digits to their mean."""
    offsets = sg.abs(x) + sg.mean(sg.abs(x), 1, keepdims=True)
    return offsets * sg.abs(gain) / sg.sqrt(sg.var(x, 1, keepdims=True) + 1e-5) + sg.abs(bias)


REDUCTIONS = [
    *rows(
        "sum",
        "numeric",
        {
            "sum": (lambda x: sg.sum(x), "nm", "nm"),
            "sum rows": (lambda x: sg.sum(x, 0), "nm", "n"),
            "sum columns": (lambda x: sg.sum(x, 1, keepdims=True), "nm", "m"),
            "sum of a vector": (lambda x: sg.sum(x), "n", "n"),
            "sum outer axes": (lambda x: sg.sum(x, (0, 2)), "nkm", "nm"),
            "sum middle axis": (lambda x: sg.sum(x, 1), "nkm", "k"),
            "sum of transposed": (lambda x: sg.sum(sg.transpose(x), 0), "nm", "m"),
            "sum of reversed": (lambda x: sg.sum(x[::-1, ::2], 1), "nm", "m"),
            "sum of nothing": (lambda x: sg.sum(x, ()), "nm", ""),
            "sum of a product": (lambda x, y: sg.sum(x * y, 1), "nm nm", "m"),
            "sum of broadcast": (lambda x, y: sg.sum(sg.expand_dims(x, 1) * y, 0), "n nm", "n"),
            "trace": (lambda x: sg.trace(x), "nm", "n"),
            "sum_to": (lambda x: sg.sum_to(x, (1, x.array_type.shape[1])), "nm", "n"),
        },
    ),
    *rows(
        "sum",
        "float",
        {
            "mean": (lambda x: sg.mean(x), "nm", "nm"),
            "mean columns": (lambda x: sg.mean(x, -1, keepdims=True), "nm", "m"),
        },
    ),
    *rows(
        "running sum",
        "numeric",
        {
            "cumsum rows": (lambda x: sg.cumsum(x, 0), "nm", "n"),
            "cumsum columns": (lambda x: sg.cumsum(x, 1), "nm", "m"),
            "cumsum": (lambda x: sg.cumsum(x), "nm", "nm"),
            "cumsum of reversed": (lambda x: sg.cumsum(x[:, ::-1], 1), "nm", "m"),
        },
    ),
    *rows(
        "product",
        "numeric",
        {
            "prod": (lambda x: sg.prod(x, 1), "nm", "m"),
            "prod rows": (lambda x: sg.prod(x, 0), "nm", "n"),
            "cumprod": (lambda x: sg.cumprod(x, 1), "nm", "m"),
        },
    ),
    *rows(
        "exact",
        "ordered",
        {
            "max": (lambda x: sg.max(x), "nm"),
            "max rows": (lambda x: sg.max(x, 0), "nm"),
            "min columns": (lambda x: sg.min(x, 1, keepdims=True), "nm"),
            "min of a vector": (lambda x: sg.min(x), "n"),
            "max outer axes": (lambda x: sg.max(x, (0, 2)), "nkm"),
            "argmax": (lambda x: sg.argmax(x), "nm"),
            "argmax rows": (lambda x: sg.argmax(x, 0), "nm"),
            "argmin columns": (lambda x: sg.argmin(x, 1), "nm"),
            "argmin of transposed": (lambda x: sg.argmin(sg.transpose(x), 1), "nm"),
            "argmax of a vector": (lambda x: sg.argmax(x), "n"),
            "max_and_argmax": (lambda x: sg.max_and_argmax(x, 1), "nm"),
        },
        least=SOME,
    ),
    *rows("exact", "real", {"ptp": (lambda x: sg.ptp(x, 0), "nm")}, least=SOME),
    *rows(
        "exact",
        "every",
        {
            "any": (lambda x: sg.any(x, 1), "nm"),
            "all": (lambda x: sg.all(x, 0), "nm"),
            "all of it": (lambda x: sg.all(x), "nm"),
            "count_nonzero": (lambda x: sg.count_nonzero(x, 1), "nm"),
        },
    ),
    *rows(
        "normalization",
        "float",
        {
            "var": (lambda x: sg.var(x, 1), "nm", "m"),
            "std": (lambda x: sg.std(x), "nm", "nm"),
            "norm": (lambda x: sg.norm(x, axis=1), "nm", "m"),
            "norm 1": (lambda x: sg.norm(x, 1, axis=0), "nm", "n"),
            "logsumexp": (lambda x: sg.logsumexp(x, 1), "nm", "m"),
            "logsumexp of all": (lambda x: sg.logsumexp(x), "nm", "nm"),
        },
        least=SOME,
    ),
]

MOVEMENT = (
    rows(
        "exact",
        "every",
        {
            "transpose": (lambda x: sg.transpose(x), "nm"),
            "transpose of 3": (lambda x: sg.transpose(x, (2, 0, 1)), "nkm"),
            "swapaxes": (lambda x: sg.swapaxes(x, 0, 1), "nkm"),
            "moveaxis": (lambda x: sg.moveaxis(x, 0, -1), "nkm"),
            "dimshuffle": (lambda x: sg.dimshuffle(x, 1, "x", 0), "nm"),
            "ravel": (lambda x: sg.ravel(x), "nm"),
            "ravel of transposed": (lambda x: sg.ravel(sg.transpose(x)), "nm"),
            "reshape": (lambda x: sg.reshape(x, (x.shape[1], x.shape[0])), "nm"),
            "flatten": (lambda x: sg.flatten(x, 2), "nkm"),
            "expand_dims": (lambda x: sg.expand_dims(x, (0, 2)), "nm"),
            "squeeze": (lambda x: sg.squeeze(x, 1), "n1m"),
            "broadcast_to": (lambda x: sg.broadcast_to(x, (3, *x.shape)), "nm"),
            "broadcast an axis": (lambda x: sg.broadcast_to(x, (x.shape[0], 4)), "n1"),
            "copy": (lambda x: x, "nm"),
            "flip": (lambda x: sg.flip(x), "nm"),
            "fliplr": (lambda x: sg.fliplr(x), "nm"),
            "slice": (lambda x: x[1:, :-1], "nm"),
            "slice with steps": (lambda x: x[::2, 1::3], "nm"),
            "slice backwards": (lambda x: x[::-2, ::-1], "nm"),
            "slice of slice": (lambda x: x[::-1][1:, ::2], "nm"),
            "newaxis": (lambda x: x[:, None, ...], "nm"),
            "roll": (lambda x: sg.roll(x, 3, 1), "nm"),
            "roll of all": (lambda x: sg.roll(x, -2), "nm"),
            "repeat": (lambda x: sg.repeat(x, 3, 1), "nm"),
            "tile": (lambda x: sg.tile(x, (2, 3)), "nm"),
            "concatenate": (lambda x, y: sg.concatenate([x, y, x], 0), "nm km"),
            "concatenate columns": (lambda x, y: sg.concatenate([x, y], 1), "nm nk"),
            "concatenate of views": (lambda x: sg.concatenate([x[::-1], sg.flip(x, 1)], 1), "nm"),
            "stack": (lambda x, y: sg.stack([x, y], 1), "nm nm"),
            "vstack": (lambda x, y: sg.vstack([x, y]), "m m"),
            "hstack": (lambda x, y: sg.hstack([x, y]), "nm nk"),
            "split": (lambda x: sg.split(x, [1, 3], 1), "n6"),
            "array_split": (lambda x: sg.array_split(x, 4, 0), "7m"),
            "pad": (lambda x: sg.pad(x, [(1, 2), (0, 3)]), "nm"),
            "tril": (lambda x: sg.tril(x, 1), "nm"),
            "triu": (lambda x: sg.triu(x, -1), "nm"),
            "diagonal": (lambda x: sg.diagonal(x), "nm"),
            "diag": (lambda x: sg.diag(x), "n"),
            "matrix_transpose": (lambda x: sg.matrix_transpose(x), "2nm"),
            "mT": (lambda x: sg.mT(x), "2nm"),
            "flipud": (lambda x: sg.flipud(x), "nm"),
            "atleast_1d": (lambda x: sg.atleast_1d(x), "."),
            "atleast_2d": (lambda x: sg.atleast_2d(x), "n"),
            "shape_padleft": (lambda x: sg.shape_padleft(x, 2), "nm"),
            "shape_padright": (lambda x: sg.shape_padright(x), "nm"),
            "broadcast_arrays": (lambda x, y: sg.broadcast_arrays(x, y), "nm m"),
            "join": (lambda x, y: sg.join(1, x, y), "nm nk"),
            "stacklists": (lambda x, y: sg.stacklists([[x, y], [y, x]]), "n n"),
            "addbroadcast": (lambda x: sg.addbroadcast(x, 1), "n1"),
            "unbroadcast": (lambda x: sg.unbroadcast(x, 1), "n1"),
            "patternbroadcast": (lambda x: sg.patternbroadcast(x, (False, True)), "n1"),
            "specify_shape": (lambda x: sg.specify_shape(x, (None, 4)), "n4"),
            "assert_": (lambda x: sg.assert_(x, x.shape[0] >= 0), "nm"),
            "second": (lambda x, y: sg.second(x, y), "nm nm"),
            "alloc": (lambda x: sg.alloc(x, 3, 5), "."),
            "where": (lambda c, x, y: sg.where(c, x, y), "?nm nm m"),
            "place": (lambda x: apply(Place((1, 4), (2, -1), (9, 5), 0), x), "45"),
        },
    )
    + rows(
        "exact",
        "every",
        {
            "first row": (lambda x: x[0], "nm"),
            "last element": (lambda x: x[-1, -1], "nm"),
            "pad by edges": (lambda x: sg.pad(x, 2, mode="edge"), "nm"),
        },
        least=SOME,
    )
    + rows(
        "exact",
        "every",
        {
            "pad by reflection": (lambda x: sg.pad(x, 2, mode="reflect"), "nm"),
            "pad by wrapping": (lambda x: sg.pad(x, ((1, 2), (2, 0)), mode="wrap"), "nm"),
        },
        least={"n": 3, "m": 3},
    )
    + rows(
        "exact",
        "numeric",
        {
            "diff": (lambda x: sg.diff(x), "nm"),
        },
    )
    + rows("exact", "real", {"clip": (lambda x: sg.clip(x, 1, 3), "nm")})
)

CONTRACTIONS = rows(
    "contraction",
    "numeric",
    {
        "matmul": (lambda a, b: a @ b, "nk km", "k"),
        "matmul transposed left": (lambda a, b: sg.transpose(a) @ b, "kn km", "k"),
        "matmul transposed right": (lambda a, b: a @ sg.transpose(b), "nk mk", "k"),
        "matmul of both transposed": (lambda a, b: sg.transpose(a) @ sg.transpose(b), "kn mk", "k"),
        "matmul of views": (lambda a, b: a[::-1, ::-1] @ b[::-1, ::2], "nk km", "k"),
        "matrix @ vector": (lambda a, b: a @ b, "nk k", "k"),
        "vector @ matrix": (lambda a, b: a @ b, "k km", "k"),
        "vector @ vector": (lambda a, b: a @ b, "k k", "k"),
        "transposed @ vector": (lambda a, b: sg.transpose(a) @ b, "kn k", "k"),
        "batched matmul": (lambda a, b: a @ b, "3nk 3km", "k"),
        "broadcast batch": (lambda a, b: a @ b, "3nk km", "k"),
        "dot": (lambda a, b: sg.dot(a, b), "nk km", "k"),
        "dot of rank 3": (lambda a, b: sg.dot(a, b), "2nk km", "k"),
        "tensordot": (lambda a, b: sg.tensordot(a, b, ((1, 2), (0, 1))), "nk4 k4m", "k4"),
        "outer": (lambda a, b: sg.outer(a, b), "n m"),
        "inner": (lambda a, b: sg.inner(a, b), "nk mk", "k"),
        "vdot": (lambda a, b: sg.vdot(a, b), "nk nk", "nk"),
        "batched_dot": (lambda a, b: sg.batched_dot(a, b), "3nk 3km", "k"),
        "batched_tensordot": (lambda a, b: sg.batched_tensordot(a, b, 1), "3nk 3km", "k"),
        "kron": (lambda a, b: sg.kron(a, b), "nm 23"),
        "einsum of 2": (lambda a, b: sg.einsum("ik,jk->ji", a, b), "nk mk", "k"),
        "einsum batch": (lambda a, b: sg.einsum("bik,kb->ib", a, b), "3nk k3", "k"),
        "einsum sum": (lambda a: sg.einsum("ij->j", a), "nm", "n"),
        "einsum trace": (lambda a: sg.einsum("ii->i", a), "nn"),
        "einsum elementwise": (lambda a, b: sg.einsum("ij,ij->ij", a, b), "nm nm"),
        "product plus vector": (lambda a, b, c: a @ b + c, "nk km m", "k"),
    },
) + rows(
    "contraction",
    "float",
    {
        "einsum of 3": (lambda a, b, c: sg.einsum("ij,jk,k->i", a, b, c), "nk km m", "km"),
        "relu of a layer": (lambda a, b, c: sg.relu(a @ b + c), "nk km m", "k"),
    },
)

NETWORKS = (
    rows(
        "normalization",
        "float",
        {
            "softmax": (lambda x: sg.softmax(x), "nm", "m"),
            "softmax rows": (lambda x: sg.softmax(x, 0), "nm", "n"),
            "softmax of rank 3": (lambda x: sg.softmax(x, 1), "nkm", "k"),
            "log_softmax": (lambda x: sg.log_softmax(x), "nm", "m"),
        },
        least=SOME,
    )
    + rows(
        "conditioned",
        "float",
        {"layer_norm": (lambda x, g, b: sg.layer_norm(x, gain=g, bias=b), "nm m m", "m")},
        least=SOME,
        sized=_layer_norm_size,
    )
    + rows(
        "composite",
        "float",
        {
            "relu6": (lambda x: sg.relu6(x), "nm"),
            "elu": (lambda x: sg.elu(x), "nm"),
            "selu": (lambda x: sg.selu(x), "nm"),
            "celu": (lambda x: sg.celu(x), "nm"),
            "mish": (lambda x: sg.mish(x), "nm"),
            "hard_sigmoid": (lambda x: sg.hard_sigmoid(x), "nm"),
            "hard_silu": (lambda x: sg.hard_silu(x), "nm"),
            "hard_tanh": (lambda x: sg.hard_tanh(x), "nm"),
            "softsign": (lambda x: sg.softsign(x), "nm"),
            "leaky_relu": (lambda x: sg.leaky_relu(x, 0.1), "nm"),
            "lerp": (lambda x, y: sg.lerp(x, y, 0.25), "nm m"),
            "isclose": (lambda x, y: sg.isclose(x, y), "nm nm"),
            "nan_to_num": (lambda x: sg.nan_to_num(x), "nm"),
            "round": (lambda x: sg.round(x), "nm"),
            "divmod": (lambda x, y: sg.divmod(x, y), "nm m"),
            "isposinf": (lambda x: sg.isposinf(x), "nm"),
            "isneginf": (lambda x: sg.isneginf(x), "nm"),
            "grad_clip": (lambda x: sg.grad_clip(x, -1.0, 1.0), "nm"),
            "grad_scale": (lambda x: sg.grad_scale(x, 3.0), "nm"),
            "stop_gradient": (lambda x: sg.stop_gradient(x), "nm"),
            "consider_constant": (lambda x: sg.consider_constant(x), "nm"),
            "disconnected_grad": (lambda x: sg.disconnected_grad(x), "nm"),
            "zero_grad": (lambda x: sg.zero_grad(x), "nm"),
            "surrogate_gradient": (lambda x: sg.surrogate_gradient(sg.round(x), x), "nm"),
        },
        smooth=False,
    )
    + rows(
        "loss",
        "float",
        {
            "one_hot": (lambda x, t: x * sg.one_hot(t, 5), "n5 #n"),
            "softmax_cross_entropy": (lambda x, t: sg.softmax_cross_entropy(x, t), "n5 #n", "5"),
            "categorical_crossentropy": (
                lambda x, t: sg.categorical_crossentropy(x, t),
                "%n5 #n",
                "5",
            ),
            "cross-entropy of rows": (
                lambda x, t: sg.softmax_cross_entropy(x, t),
                "nm %nm",
                "m",
            ),
            "binary_crossentropy": (
                lambda x, t: sg.binary_crossentropy(x, t),
                "%nm %nm",
            ),
            "sigmoid_binary_crossentropy": (
                lambda x, t: sg.sigmoid_binary_crossentropy(x, t),
                "nm %nm",
            ),
        },
        least=SOME,
    )
    + rows(
        "exact", "none", {"confusion_matrix": (lambda x, y: sg.confusion_matrix(x, y, 5), "#n #n")}
    )
)

CREATION = (
    rows(
        "exact",
        "every",
        {
            "zeros": (lambda x: sg.zeros((x.shape[1], 3), x.dtype), "nm"),
            "ones_like": (lambda x: sg.ones_like(x), "nm"),
            "full": (lambda x: sg.full((3, x.shape[0]), 1, x.dtype), "nm"),
            "ones": (lambda x: sg.ones((2, x.shape[0]), x.dtype), "nm"),
            "full_like": (lambda x: sg.full_like(x, 1), "nm"),
            "identity": (lambda x: sg.identity(x.shape[0], x.dtype), "nm"),
            "identity_like": (lambda x: sg.identity_like(x), "nm"),
            "eye": (lambda x: sg.eye(x.shape[0], x.shape[1], 1, dtype=x.dtype), "nm"),
            "tri": (lambda x: sg.tri(x.shape[0], x.shape[1], -1, dtype=x.dtype), "nm"),
        },
    )
    + rows(
        "exact",
        "real",
        {
            "iota": (lambda x: sg.iota(x.shape[0], x.dtype), "nm"),
            "arange": (lambda x: sg.arange(2, 100, 7, dtype=x.dtype), "nm"),
            "sizes": (lambda x: sg.cast(x.shape[0] * x.shape[1], x.dtype), "nm"),
        },
    )
    + rows(
        "composite",
        "float",
        {"linspace": (lambda x: sg.linspace(-1.0, 2.0, 17, dtype=x.dtype), "nm")},
        smooth=False,
    )
)

HOST = rows("composite", "float", {"betaln": (lambda x, y: sg.betaln(x, y), "%nm %m")}, host=True)


def random_rows() -> list[Row]:
    """Draws of one stream each, so that they do not depend on one another."""

    def of(draw: Callable[[sg.RandomStream, tuple[Any, ...]], sg.Expr]) -> Callable[..., Any]:
        return lambda x: draw(sg.RandomStream(seed=17), x.shape)

    exact = {
        "uint32 bits": (of(lambda s, shape: s.bits(shape)), "nm"),
        "uint64 bits": (of(lambda s, shape: s.bits(shape, "uint64")), "nm"),
        "integers": (of(lambda s, shape: s.integers(-5, 100, shape)), "nm"),
        "permutation": (of(lambda s, shape: s.permutation(shape[0])), "nm"),
        "bernoulli": (of(lambda s, shape: s.bernoulli(shape, 0.3)), "nm"),
        "categorical": (of(lambda s, shape: s.categorical([0.2, 0.5, 0.3], shape)), "nm"),
    }
    draws = {
        name: (lambda x, f=f: f(sg.RandomStream(seed=17), x.shape, x.dtype), "nm")
        for name, f in {
            "uniform": lambda s, shape, d: s.uniform(shape, dtype=d),
            "normal": lambda s, shape, d: s.normal(shape, dtype=d),
        }.items()
    }
    shaped = {
        name: (lambda x, f=f: f(sg.RandomStream(seed=17), x.shape, x.dtype), "nm")
        for name, f in {
            "exponential": lambda s, shape, d: s.exponential(shape, dtype=d),
            "gumbel": lambda s, shape, d: s.gumbel(shape, dtype=d),
            "normal with mean": lambda s, shape, d: s.normal(shape, 3.0, 2.0, dtype=d),
        }.items()
    }
    return [
        *rows("exact", "none", exact, smooth=False),
        *rows("uniform", "float", draws, smooth=False),
        *rows("distribution", "float", shaped, smooth=False),
    ]


RANDOM = random_rows()


def _running_total(x: sg.Expr) -> sg.Expr:
    results, _ = sg.scan(lambda row, total: total + row, [x], [sg.zeros_like(x[0])])
    return results


def _horner(x: sg.Expr) -> sg.Expr:
    start = sg.zeros_like(x[0])
    return sg.foldl(lambda row, total: total * 0.5 + row, x, start)[0]


CONTROL = rows(
    "running sum",
    "numeric",
    {
        "scan": (_running_total, "nm", "n"),
        "map": (lambda x: sg.map(lambda row: row * 3, x)[0], "nm"),
        "map of sums": (lambda x: sg.map(lambda row: sg.sum(row), x)[0], "nm", "m"),
        "cond": (lambda c, x: sg.cond(c, lambda y: y + y, lambda y: y * 3, x), "? nm"),
        "loop": (lambda x: sg.loop(lambda s, row: (s + row, s), x[0], xs=x), "nm", "n"),
        "foldr": (lambda x: sg.foldr(lambda row, s: s + row, x, sg.zeros_like(x[0]))[0], "nm", "n"),
        "reduce": (
            lambda x: sg.reduce(lambda row, s: s + row, x, sg.zeros_like(x[0]))[0],
            "nm",
            "n",
        ),
        "ifelse": (lambda c, x, y: sg.ifelse(c, x, y), "? nm nm"),
    },
    least=SOME,
) + rows(
    "contraction",
    "float",
    {
        "foldl": (_horner, "nm", "n"),
        "scan of products": (
            lambda x, w: sg.scan(
                lambda row, h, w: sg.sum(w * h) * 0.125 + row, [x], [sg.zeros_like(x[0])], [w]
            )[0],
            "5m m",
            "m5",
        ),
    },
    least=SOME,
)

FAMILIES: dict[str, list[Row]] = {
    "indexing": indexing.INDEXING,
    "reductions": REDUCTIONS,
    "movement": MOVEMENT,
    "contractions": CONTRACTIONS,
    "networks": NETWORKS,
    "creation": CREATION,
    "random": RANDOM,
    "control": CONTROL,
    "host": HOST + numpy_rows.GAMMA_PRODUCTS,
    "without NaN": numpy_rows.NAN_REDUCTIONS,
    "cuts": numpy_rows.CUTS,
    "vectors": numpy_rows.VECTORS,
    "values": numpy_rows.VALUES,
    "convolutions": image_rows.CONVOLUTIONS,
    "narrow products": product_rows.NARROW,
    "pooling": image_rows.POOLING,
    "resizing": image_rows.RESIZING,
    "attention": attention_rows.ATTENTION,
}

#: public functions that no row has to call: they make leaves, transform graphs, or name a part
OUTSIDE = frozenset(
    """evaluate function compile_ahead target verify_grad debugprint from_sympy Print
    grad Lop Rop jacobian hessian hvp dim shape promote default_float set_default_float
    get_threads set_threads save load
    array constant shared as_tensor as_tensor_variable matmul""".split()
)


def uncovered() -> list[str]:
    """Public functions that neither the registry of elementwise ops nor a row covers."""
    modules = (indexing, numpy_rows, image_rows, attention_rows)
    files = (__file__, *(str(m.__file__) for m in modules))
    trees = [ast.parse(Path(file).read_text()) for file in files]
    named = [n.attr for t in trees for n in ast.walk(t) if isinstance(n, ast.Attribute)]
    known = {id(getattr(sg, n)) for n in (*named, *REGISTRY, *OUTSIDE) if hasattr(sg, n)}
    public = {n: getattr(sg, n) for n in sg.__all__ if not LEAF_MAKER.fullmatch(n)}
    made = {n: f for n, f in public.items() if callable(f) and not isinstance(f, type)}
    return sorted(n for n, f in made.items() if id(f) not in known)


#: fmatrix, tensor3, iscalars, ... and kin
LEAF_MAKER = re.compile(r"[bwilufdcz]?(scalar|vector|matrix|matrice|row|col|tensor\d)s?")
