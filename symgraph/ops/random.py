"""Random numbers: counter-based draws that depend on seed, stream, call and index alone.

A draw's numbers are the words of Philox blocks:
    key      the low and high halves of state[0], the seed
    counter  (block number low, block number high, low half of state[1] = the call, the draw's
    stream number)
The four words of block b are words 4b .. 4b + 3 of the draw. An element of `RandomBits` takes
`words` of them in C order (two make a uint64, the low half first). Every distribution is made of
bits by elementwise expressions, so random words are all a backend needs, and every target and
`evaluate` give the same bits; a loop nest makes them in registers, where it reads them.
"""

from __future__ import annotations

import itertools
import math
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arraytype import Array
from ..dims import Shape, SizeLike, product
from ..dtypes import (
    DType,
    bfloat16,
    bool_,
    default_float,
    float16,
    float32,
    float64,
    int64,
    uint32,
    uint64,
)
from ..dtypes import dtype as as_dtype
from ..errors import DTypeError, GraphError, InternalError, ShapeError
from ..expr import Expr, apply, user_site
from ..leaves import Shared, constant, lift, shared
from ..op import Op
from ..philox import philox4x32
from ..region import note_draw
from . import elementwise as ew
from .define import Formula, broadcast_shapes, cast, elementwise
from .movement import Iota, broadcast_by, reshape_to
from .normal import normal_from_bits
from .reduce import cumsum
from .shaping import sizes as as_sizes

BLOCK = 4  # words of 32 bits


class Draw(Op, abstract=True):
    """A draw from a state (uint64[2]: seed, call)."""

    vjp = None

    def check(self, state: Array) -> None:
        if state != Array(uint64, (2,)):
            raise InternalError(f"{self.name}: expected a state of uint64[2], got {state}")


class RandomBits(Draw):
    """Uniform random integers of `words` * 32 bits: uint32 for one word, uint64 for two."""

    name = "random_bits"
    shape: Any
    stream: int
    words: int

    def infer(self, state: Array) -> Array:
        self.check(state)
        return Array(uint32 if self.words == 1 else uint64, self.shape)

    def evaluate(self, state: np.ndarray) -> np.ndarray:
        count = int(product(self.shape))
        words = random_words(state, self.stream, count * self.words)
        return (words if self.words == 1 else pair(words)).reshape(self.shape)

    def expand(self, state: Expr) -> Expr:
        """One word for each place, from its number: loop nests make it where it is read."""
        numbers = reshape_to(apply(Iota(product(self.shape), uint64)), self.shape)
        key, call = state[0], state[1]
        if self.words == 2:
            return random_word64(key, call, constant(self.stream, uint64), numbers)
        halves = [cast(x, uint32) for x in (key, ew.right_shift(key, 32), call)]
        return random_word32(*halves, constant(self.stream, uint32), numbers)

    def batched(self, n: SizeLike) -> RandomBits:
        """The draw that n steps of a loop make."""
        return RandomBits((n, *self.shape), self.stream, self.words)


@elementwise("random_word32", accepts=(uint32,), fixed={4: uint64})
class random_word32(Formula):
    """Word number `index` of a draw: the seed's halves, the call, the stream."""

    vjp = None

    def evaluate(key0, key1, call, stream, index):
        words = _block(key0, key1, call, stream, index >> np.uint64(2))
        return np.choose((index & np.uint64(3)).astype(np.intp), words)

    def lower(b, key0, key1, call, stream, index):
        low, high = b.cast(index, "uint32"), b.op("shr", index, b.const(32, index))
        return b.call("random32", key0, key1, call, stream, low, b.cast(high, "uint32"))


@elementwise("random_word64", accepts=(uint64,))
class random_word64(Formula):
    """Words 2 * index (low half) and 2 * index + 1 of a draw."""

    vjp = None

    def evaluate(key, call, stream, index):
        key0, key1, *rest = (x.astype(np.uint32) for x in (key, key >> _HALF, call, stream))
        w0, w1, w2, w3 = _block(key0, key1, rest[0], rest[1], index >> np.uint64(1))
        odd = (index & np.uint64(1)).astype(bool)
        low, high = (np.where(odd, x, y).astype(np.uint64) for x, y in ((w2, w0), (w3, w1)))
        return low | (high << _HALF)

    def lower(b, key, call, stream, index):
        return b.call("random64", key, call, stream, index)


def _block(key0: Any, key1: Any, call: Any, stream: Any, block: Any) -> tuple[np.ndarray, ...]:
    """The four words of each block of a draw."""
    low, high = block.astype(np.uint32), (block >> _HALF).astype(np.uint32)
    return philox4x32(key0, key1, low, high, call, stream)


class Permutation(Draw):
    """0 .. size - 1 shuffled (Fisher and Yates), int64, once for each element of `batch`.

    Shuffle number b goes down from i = size - 1 to 1 and exchanges places i and j, j being the high
    half of the product of (i + 1) with the 64-bit number b * size + i of the draw.
    """

    name = "permutation"
    size: Any
    stream: int
    batch: Any

    def infer(self, state: Array) -> Array:
        self.check(state)
        return Array(int64, (*self.batch, self.size))

    def evaluate(self, state: np.ndarray) -> np.ndarray:
        shuffles = int(product(self.batch))
        words = random_words(state, self.stream, 2 * shuffles * self.size)
        numbers = pair(words).reshape(shuffles, self.size)
        partners = multiply_high(numbers, np.arange(1, self.size + 1, dtype=np.uint64))
        rows = [shuffled(row.tolist()) for row in partners]
        return np.array(rows, np.int64).reshape(*self.batch, self.size)

    def batched(self, n: SizeLike) -> Permutation:
        """The draw that n steps of a loop make."""
        return Permutation(self.size, self.stream, (n, *self.batch))


def random_words(state: np.ndarray, stream: int, count: int) -> np.ndarray:
    """The first `count` words of a draw, uint32."""
    blocks = np.arange(-(-count // BLOCK), dtype=np.uint64)
    key, call = int(state[0]), int(state[1])
    low, high = (blocks & _LOW).astype(np.uint32), (blocks >> _HALF).astype(np.uint32)
    fixed = [np.uint32(x & 0xFFFFFFFF) for x in (key, key >> 32, call, stream)]
    words = philox4x32(fixed[0], fixed[1], low, high, fixed[2], fixed[3])
    return np.stack([np.broadcast_to(w, blocks.shape) for w in words], axis=-1).reshape(-1)[:count]


_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def pair(words: np.ndarray) -> np.ndarray:
    """Words two by two as uint64, the low half first."""
    low, high = words[0::2].astype(np.uint64), words[1::2].astype(np.uint64)
    return low | (high << _HALF)


def multiply_high(a: Any, b: Any) -> Any:
    """The high 64 bits of a product of uint64: 0 .. b - 1 from random a. Arrays or expressions."""
    a_low, a_high, b_low, b_high = a & _LOW, a >> _HALF, b & _LOW, b >> _HALF
    first = a_high * b_low + ((a_low * b_low) >> _HALF)
    second = a_low * b_high + (first & _LOW)
    return a_high * b_high + (first >> _HALF) + (second >> _HALF)


def shuffled(partners: Sequence[int]) -> list[int]:
    """0 .. n - 1 after exchanging i with partners[i], from the last i to the second."""
    order = list(range(len(partners)))
    for i in range(len(partners) - 1, 0, -1):
        j = partners[i]
        order[i], order[j] = order[j], order[i]
    return order


# -------------------------------------------------------------------------------------- streams

#: how many random bits make a number in [0, 1) that the dtype holds exactly
_PRECISION: dict[DType, int] = {float16: 11, bfloat16: 8, float32: 24, float64: 53}


class RandomStream:
    """A source of random expressions, each with a stream of its own.

    Every call to a method makes a new draw; using its result twice uses the same numbers. Each call
    of a compiled function draws anew (the state is a shared variable that the function updates).
    Equal seeds give equal numbers, on every machine. Inside a loop each step has its own numbers.

    Shapes: an int or a tuple of sizes; by default that of the parameters. Parameters may be
    expressions.
    dtype: the default float, unless given.

    Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
    """

    def __init__(self, seed: int | None = None):
        """seed: 0 to 2**64 - 1; None takes one from the operating system."""
        self.state = shared(self._start(seed), "random_state")
        self.state.default_update = self.state + constant(np.array([0, 1], np.uint64))
        self._streams = itertools.count()

    def seed(self, seed: int | None = None) -> None:
        """Start again with another seed; the expressions made so far draw from it."""
        self.state.set_value(self._start(seed))

    def updates(self) -> list[tuple[Shared, Expr]]:
        """The update that functions apply by default."""
        assert self.state.default_update is not None
        return [(self.state, self.state.default_update)]

    @staticmethod
    def _start(seed: int | None) -> np.ndarray:
        key = secrets.randbits(64) if seed is None else seed
        if isinstance(key, bool) or not hasattr(key, "__index__") or not 0 <= int(key) < 2**64:
            raise DTypeError(
                f"RandomStream: expected a seed from 0 to 2**64 - 1, got {seed!r}", site=user_site()
            )
        return np.array([int(key), 0], np.uint64)

    # --- bits

    def bits(self, shape: Any = (), dtype: Any = "uint32") -> Expr:
        """Random uint32 or uint64, every value equally likely."""
        d = as_dtype(dtype)
        if d not in (uint32, uint64):
            raise DTypeError(f"bits: expected uint32 or uint64, got {d}", site=user_site())
        return self._bits(as_sizes(shape, "bits"), 1 if d is uint32 else 2)

    def _bits(self, shape: Shape, words: int) -> Expr:
        return self._draw(RandomBits(shape, next(self._streams), words))

    def _draw(self, op: Draw) -> Expr:
        node = apply(op, self.state)
        note_draw(node)
        return node

    # --- floats

    def uniform(
        self, shape: Any = None, low: Any = 0.0, high: Any = 1.0, dtype: Any = None
    ) -> Expr:
        """Numbers in [low, high); low + (high - low) * u may round to high, as in NumPy."""
        d = self._float(dtype, low, high)
        size = _shape("uniform", shape, low, high)
        u = self._unit(size, d)
        if _is(low, 0) and _is(high, 1):
            return u
        start = cast(lift(low, d), d)
        return start + (cast(lift(high, d), d) - start) * u

    def _unit(self, shape: Shape, d: DType) -> Expr:
        """Multiples of 2**-p in [0, 1), p the precision of d: exact in every step."""
        p = _PRECISION[d]
        words = 2 if p > 32 else 1
        wide = d if p >= 24 else float32
        kept = ew.right_shift(self._bits(shape, words), 32 * words - p)
        return cast(cast(kept, wide) * 2.0**-p, d)

    def normal(self, shape: Any = None, mean: Any = 0.0, std: Any = 1.0, dtype: Any = None) -> Expr:
        """Normally distributed numbers."""
        d = self._float(dtype, mean, std)
        size = _shape("normal", shape, mean, std)
        _require("normal", "std", std, 0)
        z = normal_from_bits(self._bits(size, 2 if d is float64 else 1), d)
        if not _is(std, 1):
            z = z * cast(lift(std, d), d)
        return z if _is(mean, 0) else z + cast(lift(mean, d), d)

    def exponential(self, shape: Any = None, scale: Any = 1.0, dtype: Any = None) -> Expr:
        """Exponentially distributed numbers of mean `scale`."""
        d = self._float(dtype, scale)
        u = self._unit(_shape("exponential", shape, scale), d)
        _require("exponential", "scale", scale, 0)
        return ew.neg(ew.log1p(ew.neg(u))) * cast(lift(scale, d), d)

    def gumbel(
        self, shape: Any = None, loc: Any = 0.0, scale: Any = 1.0, dtype: Any = None
    ) -> Expr:
        """Gumbel distributed numbers: the largest of many."""
        d = self._float(dtype, loc, scale)
        e = self.exponential(_shape("gumbel", shape, loc, scale), dtype=d)
        _require("gumbel", "scale", scale, 0)
        floor = constant(
            2.0 ** -_PRECISION[d], d
        )  # an exponential draw may be 0, whose log is not finite
        return cast(lift(loc, d), d) - cast(lift(scale, d), d) * ew.log(ew.maximum(e, floor))

    def _float(self, dtype: Any, *parameters: Any) -> DType:
        """The dtype of the result: as asked, else that of a float parameter, else the default."""
        if dtype is not None:
            d = as_dtype(dtype)
        else:
            d = next(
                (x.dtype for x in parameters if isinstance(x, Expr) and x.dtype.is_float),
                default_float(),
            )
        if d not in _PRECISION:
            raise DTypeError(f"random: expected a float dtype, got {d}", site=user_site())
        return d

    # --- discrete

    def bernoulli(self, shape: Any = None, p: Any = 0.5, dtype: Any = bool_) -> Expr:
        """True (or 1) with probability p, resolved to 2**-24 (2**-53 for a float64 expression)."""
        wide = isinstance(p, Expr) and p.dtype is float64
        d = float64 if wide else float32
        u = self._unit(_shape("bernoulli", shape, p), d)
        _require("bernoulli", "p", p, 0, 1)
        return cast(ew.lt(u, cast(lift(p, d), d)), dtype)

    def binomial(self, shape: Any = None, n: int = 1, p: Any = 0.5, dtype: Any = int64) -> Expr:
        """How many of n (a Python int) independent draws succeed with probability p."""
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
            raise DTypeError(f"binomial: n must be an int >= 0, got {n!r}", site=user_site())
        size = _shape("binomial", shape, p)
        _require("binomial", "p", p, 0, 1)
        chance = lift(p)
        rows = self.bernoulli((int(n), *size), broadcast_by(chance, size) if chance.ndim else p)
        return cast(cast(rows, int64).sum(axis=0), dtype)

    def integers(self, low: Any, high: Any = None, shape: Any = None, dtype: Any = int64) -> Expr:
        """Integers in [low, high), or [0, low) if high is not given.

        Each is the high half of a random 64-bit number times (high - low): the probabilities differ
        by at most 2**-64 from each other. An empty range gives low.
        """
        start, stop = (0, low) if high is None else (low, high)
        if not isinstance(start, Expr) and not isinstance(stop, Expr):
            if np.any(np.asarray(start) >= np.asarray(stop)):
                raise ShapeError(
                    f"integers: the range [{start}, {stop}) is empty", site=user_site()
                )
            for end in (start, np.asarray(stop) - 1):
                constant(end, dtype)  # raises for one that does not fit
        bottom, top = (_whole("integers", x) for x in (start, stop))
        size = _shape("integers", shape, bottom, top)
        span = cast(top - bottom, uint64)
        offset = multiply_high(self._bits(size, 2), span)
        return cast(bottom + cast(offset, int64), dtype)

    def categorical(self, p: Any, shape: Any = (), dtype: Any = int64) -> Expr:
        """Indices drawn with the probabilities along the last axis of p; shape + p.shape[:-1].

        p: floats, non-negative; they are taken relative to their sum.
        """
        weights = lift(p)
        if not weights.ndim or not weights.dtype.is_float:
            raise ShapeError(
                f"categorical: expected floats of rank 1 or more, got {weights.type}",
                site=user_site(),
            )
        sums = cumsum(weights, axis=-1)
        size = (*as_sizes(shape, "categorical"), *weights.array_type.shape[:-1])
        u = self._unit(size, weights.dtype)[..., None]
        below = ew.ge(u * sums[..., -1:], sums)
        return cast(cast(below[..., :-1], int64).sum(axis=-1), dtype)

    def permutation(self, n: Any) -> Expr:
        """0 .. n - 1 in random order, int64[n]; every order equally likely. n: an int or a size."""
        (size,) = as_sizes((n,), "permutation")
        return self._draw(Permutation(size, next(self._streams), ()))


def _whole(what: str, x: Any) -> Expr:
    node = lift(x)
    if not node.dtype.is_integer:
        raise DTypeError(f"{what}: expected integer bounds, got {node.type}", site=user_site())
    return cast(node, int64)


def _require(what: str, name: str, x: Any, low: float, high: float = math.inf) -> None:
    """Raise where a parameter that is known now is outside [low, high], or NaN."""
    if isinstance(x, Expr) or np.all((low <= np.asarray(x)) & (np.asarray(x) <= high)):
        return
    wanted = f"{name} >= {low}" if high == math.inf else f"{low} <= {name} <= {high}"
    raise GraphError(f"{what}: expected {wanted}, got {x}", site=user_site())


def _is(x: Any, value: float) -> bool:
    return isinstance(x, (int, float)) and x == value


def _shape(what: str, shape: Any, *parameters: Any) -> Shape:
    """The result's shape: the parameters', or the given one, to which they must broadcast."""
    natural = broadcast_shapes(what, *[lift(p).array_type.shape for p in parameters])
    if shape is None:
        return natural
    wanted = as_sizes(shape, what)
    if broadcast_shapes(what, wanted, natural) != wanted:
        raise ShapeError(
            f"{what}: parameters of shape {natural} do not broadcast to {wanted}", site=user_site()
        )
    return wanted


__all__ = ["Permutation", "RandomBits", "RandomStream"]
