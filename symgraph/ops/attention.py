"""Scaled dot-product attention: softmax(q @ k^T * scale + mask) @ v without the matrix between.

    score[i, j]  = scale * (q[i] . k[j]) (+ mask[i, j]),    -inf where i does not see j
    total[i]     = log(sum over j of exp(score[i, j]))
    o[i]         = sum over j of exp(score[i, j] - total[i]) * v[j]

A query that sees no key (all are masked, or there is none) gives zeros, and its gradients are 0: a
padded row of a batch does not make the rest NaN. Its total is -inf. With `strict` it gives NaN if
there are keys, as the softmax of such a row does. What a query does not see has weight 0; whether
0 times a number that is not finite takes part is not specified there.

Source: Milakov and Gimelshein 2018 (softmax in one pass), Rabe and Staats 2021 (attention without
the matrix), Dao et al. 2022 (in blocks, with the gradient from the totals).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arraytype import Array, Tuple
from ..dims import Shape, SizeLike, known_equal
from ..dtypes import bool_, float32, float64, floats, int64
from ..errors import DTypeError, ShapeError
from ..expr import Expr, apply, user_site
from ..grad import backpropagate
from ..leaves import as_flag, lift, size_value
from ..op import Op
from ..relations import require_equal
from .contract import MatMul, swapped
from .define import broadcast_shapes, cast, promote_operands
from .elementwise import eq, exp, gt, sqrt, where
from .movement import Iota, broadcast_by, reshape_to, show
from .reduce import sum
from .tuple import parts

MINUS_INFINITY = float("-inf")


class Attention(Op):
    """(q [..., n, d], k [..., m, d], v [..., m, e], mask?) -> (o [..., n, e], total [..., n]).

    All of one dtype, float32 or float64, and with the same leading sizes; mask [..., n, m] is bool
    (False: not seen) or of that dtype (added). causal: query i sees keys 0 to i.
    """

    name = "attention"
    causal: bool
    scale: float
    strict: bool

    def infer(self, q: Array, k: Array, v: Array, mask: Array | None = None) -> Tuple:
        lead, n, _, e = _require_fit(self.name, q, k, v, mask)
        return Tuple((Array(q.dtype, (*lead, n, e)), Array(q.dtype, (*lead, n))))

    def evaluate(self, q: Any, k: Any, v: Any, mask: Any = None) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):
            scores = _array_scores(self, q, k, mask)
            top = scores.max(-1, initial=-np.inf, keepdims=True)
            shift = np.where(top == -np.inf, 0, top)
            powers = np.exp((scores - shift).astype(np.float64))
            total = powers.sum(-1, keepdims=True)
            weights = powers / (total if self.strict else np.where(total == 0, 1, total))
            result = np.matmul(weights.astype(q.dtype), v)
            return result, (np.log(total) + shift)[..., 0].astype(q.dtype)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Any) -> Sequence[Any]:
        return self.vjp_partial(inputs, output, cotangent, [x.dtype.is_inexact for x in inputs])

    def vjp_partial(
        self, inputs: Sequence[Expr], output: Expr, cotangent: Any, wanted: Sequence[bool]
    ) -> Sequence[Any]:
        """The slope of a score is weight * (slope of the weight - delta)."""
        o, total = parts(output)
        slope, of_total = cotangent
        if slope is None:
            slope = o * 0
        delta = sum(slope * o, -1)
        if of_total is not None:
            delta = delta - of_total
        given = (*inputs, total, delta, slope)
        found: list[Any] = list(parts(apply(AttentionGradient(*self._values), *given)))
        if len(inputs) > 3:
            of_mask = wanted[3] and inputs[3].dtype.is_inexact
            found.append(_slopes(self, *given)[1] if of_mask else None)
        return found

    def jvp(self, inputs: Sequence[Expr], output: Expr, tangents: Sequence[Any]) -> Any:
        q, k, v, *mask = inputs
        of_q, of_k, of_v, *of_mask = tangents
        weights = _weights(self, q, k, mask, parts(output)[1])
        products = [] if of_q is None else [_times(of_q, swapped(k)) * self.scale]
        products += [] if of_k is None else [_times(q, swapped(of_k)) * self.scale]
        products += [x for x in of_mask if x is not None]
        found = [] if of_v is None else [_times(weights, of_v)]
        if not products:
            return (found[0], None) if found else None
        moved = weights * functools.reduce(operator.add, products)
        of_total = sum(moved, -1)
        found.append(_times(moved - weights * _column(of_total), v))
        return functools.reduce(operator.add, found), of_total


class AttentionGradient(Op):
    """(q, k, v, mask?, total, delta, slope) -> (slopes of q, k and v).

    total [..., n]: the second result of Attention; slope: that of its first; delta: the sums over e
    of slope * o, less the slope of total. The weights are computed once more from the totals.
    """

    name = "attention_gradient"
    causal: bool
    scale: float
    strict: bool

    def infer(self, q: Array, k: Array, v: Array, *more: Array) -> Tuple:
        *mask, total, delta, slope = more
        lead, n, _, e = _require_fit(self.name, q, k, v, *mask)
        for type, shape in ((total, (n,)), (delta, (n,)), (slope, (n, e))):
            if type.dtype is not q.dtype or type.ndim != len(lead) + len(shape):
                raise ShapeError(f"{self.name}: expected {show((*lead, *shape))}, got {type}")
            for have, want in zip(type.shape, (*lead, *shape)):
                require_equal(want, have, self.name)
        return Tuple((q, k, v))

    def evaluate(self, q: Any, k: Any, v: Any, *more: Any) -> tuple[np.ndarray, ...]:
        *mask, total, delta, slope = more
        with np.errstate(all="ignore"):
            scores = _array_scores(self, q, k, *mask)
            shift = total if self.strict else np.where(total == -np.inf, 0, total)
            weights = np.exp((scores - shift[..., None]).astype(np.float64)).astype(q.dtype)
            pulled = np.matmul(slope, v.swapaxes(-1, -2))
            slopes = weights * (pulled - delta[..., None]) * q.dtype.type(self.scale)
            return (
                np.matmul(slopes, k),
                np.matmul(slopes.swapaxes(-1, -2), q),
                np.matmul(weights.swapaxes(-1, -2), slope),
            )

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Any) -> Sequence[Any]:
        q, k = inputs[:2]
        weights, slopes = _slopes(self, *inputs)
        made = (
            _times(slopes, k) * self.scale,
            _times(swapped(slopes), q) * self.scale,
            _times(swapped(weights), inputs[-1]),
        )
        seeds = [(x, c) for x, c in zip(made, cotangent) if c is not None]
        wrt = [x for x in inputs if x.dtype.is_inexact]
        flows = iter(backpropagate(seeds, wrt, blockers=inputs))
        return [next(flows).cotangent if x.dtype.is_inexact else None for x in inputs]


def _require_fit(
    what: str, q: Array, k: Array, v: Array, mask: Array | None = None
) -> tuple[Shape, SizeLike, SizeLike, SizeLike]:
    """The leading sizes, n, m and e; or an error."""
    if q.dtype not in (float32, float64) or not q.dtype is k.dtype is v.dtype:
        raise DTypeError(
            f"{what}: expected float32 or float64 throughout, got {q.dtype}, {k.dtype}, {v.dtype}"
        )
    if mask is not None and mask.dtype is not bool_ and mask.dtype is not q.dtype:
        raise DTypeError(f"{what}: expected a mask of bool or {q.dtype}, got {mask.dtype}")
    types = [q, k, v, *([] if mask is None else [mask])]
    if q.ndim < 2 or any(t.ndim != q.ndim for t in types):
        shapes = ", ".join(show(t.shape) for t in types)
        raise ShapeError(f"{what}: expected equal ranks >= 2, got {shapes}")
    for type in types[1:]:
        for axis, (s, t) in enumerate(zip(q.shape[:-2], type.shape[:-2])):
            require_equal(s, t, f"{what}: leading axis {axis}")
    (*lead, n, d), (m, e) = q.shape, v.shape[-2:]
    require_equal(d, k.shape[-1], f"{what}: features of q and k")
    require_equal(k.shape[-2], m, f"{what}: rows of k and v")
    if mask is not None:
        require_equal(n, mask.shape[-2], f"{what}: rows of q and mask")
        require_equal(m, mask.shape[-1], f"{what}: rows of k and columns of mask")
    return tuple(lead), n, m, e


def _array_scores(op: Any, q: np.ndarray, k: np.ndarray, mask: Any = None) -> np.ndarray:
    scores = np.matmul(q, k.swapaxes(-1, -2)) * q.dtype.type(op.scale)
    if mask is not None and mask.dtype != np.bool_:
        scores = scores + mask
    elif mask is not None:
        scores = np.where(mask, scores, q.dtype.type(-np.inf))
    if op.causal:
        scores = np.where(np.tri(*scores.shape[-2:]) > 0, scores, q.dtype.type(-np.inf))
    return scores


# --------------------------------------------------------------------------- the same in primitives


def _times(a: Expr, b: Expr) -> Expr:
    return apply(MatMul(), a, b)


def _scores(op: Any, q: Expr, k: Expr, mask: Expr | None = None) -> Expr:
    scores = _times(q, swapped(k)) * op.scale
    if mask is not None:
        seen = mask.dtype is bool_
        scores = where(mask, scores, MINUS_INFINITY) if seen else scores + mask
    if op.causal:
        n, m = scores.array_type.shape[-2:]
        before = reshape_to(apply(Iota(n, int64)), (n, 1))
        later = gt(apply(Iota(m, int64)), before)
        scores = where(later, MINUS_INFINITY, scores)
    return scores


def _weights(op: Any, q: Expr, k: Expr, mask: Sequence[Expr], total: Expr) -> Expr:
    shift = total if op.strict else where(eq(total, MINUS_INFINITY), 0, total)
    return exp(_scores(op, q, k, *mask) - _column(shift))


def _slopes(op: Any, q: Expr, k: Expr, v: Expr, *more: Expr) -> tuple[Expr, Expr]:
    """The weights, and the slopes of the scores."""
    *mask, total, delta, slope = more
    weights = _weights(op, q, k, mask, total)
    return weights, weights * (_times(slope, swapped(v)) - _column(delta))


def _column(x: Expr) -> Expr:
    return reshape_to(x, (*x.array_type.shape, 1))


# ---------------------------------------------------------------------------------------- functions


def attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    causal: bool = False,
    scale: Any = None,
) -> Expr:
    """softmax(q @ k^T * scale + mask) @ v; no array of n x m elements is made.

    q: float[..., n, d], k: [..., m, d], v: [..., m, e] -> [..., n, e]. Leading axes (batch, heads)
    broadcast; so queries in groups share keys: q [b, heads, group, n, d], k [b, heads, 1, m, d].
    mask: [..., n, m], broadcast: bool (True: the query sees the key) or numbers that are added to
    the scores. causal: query i sees keys 0 to i, as PyTorch's is_causal. scale: a number or a
    scalar expression, 1 / sqrt(d) if not given.
    A query that sees no key gives zeros. 16-bit floats are computed in float32.
    Raises: ShapeError if sizes do not fit; DTypeError for a mask of integers.
    """
    given = promote_operands("attention", [q, k, v], frozenset(floats))
    dtype = given[0].dtype
    for node, name in zip(given, "qkv"):
        if node.ndim < 2:
            raise ShapeError(
                f"attention: expected {name} of rank >= 2, got {node.type}",
                site=user_site(),
                operands=(node,),
            )
    x, y, z = (cast(node, float32) if dtype.bits == 16 else node for node in given)
    _require_same("attention(q, k): features differ: q has {}, k has {}", (x, -1), (y, -1))
    _require_same("attention: k has {} rows, v has {}", (y, -2), (z, -2))
    x, factor = _scaled(x, scale)
    masks = [] if mask is None else [_mask(mask, x, y)]
    op = Attention(as_flag(causal, "attention: causal"), factor, False)
    return cast(parts(apply(op, *_broadcast([x, y, z, *masks])))[0], dtype)


def _require_same(message: str, *sizes: tuple[Expr, int]) -> None:
    """Two sizes (of an operand along an axis) agree, or an error in the user's words."""
    found = [x.array_type.shape[axis] for x, axis in sizes]
    if known_equal(*found) is False:
        raise ShapeError(
            message.format(*found), site=user_site(), operands=tuple(x for x, _ in sizes)
        )


def _scaled(q: Expr, scale: Any) -> tuple[Expr, float]:
    """A scale that is a number stays apart; another goes into q."""
    if scale is None:
        d = q.array_type.shape[-1]
        if isinstance(d, int):
            return q, max(d, 1) ** -0.5
        scale = 1 / sqrt(cast(lift(size_value(d)), q.dtype))
    if isinstance(scale, (bool, int, float)):
        return q, float(scale)
    factor = lift(scale)
    if factor.ndim:
        raise ShapeError(
            f"attention: expected a scalar scale, got {factor.type}",
            site=user_site(),
            operands=(factor,),
        )
    return q * cast(factor, q.dtype), 1.0


def _mask(mask: Any, q: Expr, k: Expr) -> Expr:
    node = lift(mask)
    if node.dtype is not bool_ and not node.dtype.is_float:
        raise DTypeError(
            f"attention: dtype {node.dtype} of mask is not accepted",
            site=user_site(),
            operands=(node,),
            hint="bool says which keys are seen; floats are added to the scores",
        )
    node = node if node.dtype is bool_ else cast(node, q.dtype)
    shape = node.array_type.shape
    shape = (1,) * (2 - len(shape)) + shape
    sizes = (q.array_type.shape[-2], k.array_type.shape[-2])
    pairs = zip(shape[-2:], sizes)
    if any(have != 1 and known_equal(have, want) is False for have, want in pairs):
        raise ShapeError(
            f"attention: mask: expected {show(sizes)}, got {show(shape)}",
            site=user_site(),
            operands=(node, q, k),
        )
    return broadcast_by(reshape_to(node, shape), (*shape[:-2], *sizes))


def _broadcast(given: list[Expr]) -> list[Expr]:
    """All with the same leading sizes."""
    try:
        lead = broadcast_shapes("attention", *[x.array_type.shape[:-2] for x in given])
    except ShapeError as error:
        raise error.at(user_site(), given) from None
    return [broadcast_by(x, (*lead, *x.array_type.shape[-2:])) for x in given]


__all__ = ["attention"]
