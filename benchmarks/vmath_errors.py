"""Errors of compiled elementary functions: every float32 and half float, samples of float64."""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from ml_dtypes import finfo

import symgraph as sg
from benchmarks.vmath_reference import JUDGED, LONG, exact_values, judged_values
from symgraph.backends import emit, jit, targets, vmath
from symgraph.backends.legalize import legalize
from symgraph.backends.loops import Block, Buffer, Kernel, Ty, Var
from symgraph.dtypes import dtype as as_dtype
from symgraph.ops.define import REGISTRY
from symgraph.ops.define import call as call_op

CHUNK = 1 << 15  # arguments at a time: their wide copies stay in the second-level cache
STRATA = 8
CANDIDATES = 16  # of each chunk, for mpmath

Function = Callable[..., np.ndarray]


def kernel_of(name: str, dtype: str, lanes: int) -> Kernel:
    """y[i] = name(x[i], ...) over n elements, a multiple of `lanes`."""
    arity = vmath.FUNCTIONS[name].arity
    inputs = [Buffer(f"x{k}", dtype) for k in range(arity)]
    output = Buffer("y", dtype, "w")
    n = Var("n", Ty("index"))
    b = Block()
    with b.loop(0, n, lanes, kind="parallel") as body:
        args = [body.load(x, body.var, lanes) for x in inputs]
        body.store(output, body.var, body.let("call", *args, type=args[0].type, attr=name))
    return Kernel(f"{name}_{dtype}", (*inputs, output), (n,), tuple(b.stmts))


class Compiled:
    """The bare kernel of one function for any target this machine runs, called on arrays."""

    def __init__(self, name: str, dtype: str, target: targets.Target, lanes: int | None = None):
        self.dtype = np.dtype(dtype)
        self.lanes = lanes or target.lanes(self.dtype.itemsize)
        kernel = legalize(kernel_of(name, dtype, self.lanes), target)
        self.text = emit.emit(kernel, target)
        self._library = jit.load([jit.compile_object(self.text, target)], [kernel.name])
        self._address = self._library.address(kernel.name)
        self.pointers = len(kernel.buffers)
        signature = ctypes.CFUNCTYPE(
            ctypes.c_int32, *[ctypes.c_void_p] * (1 + self.pointers), ctypes.c_ssize_t
        )
        self._call = signature(self._address)
        self._context = (ctypes.c_int64 * 4)((1 << 63) - 1)

    def bound(self, out: np.ndarray, *inputs: np.ndarray) -> Callable[[], int]:
        """A call without arguments that fills `out`; sizes must be multiples of the lanes."""
        addresses = [a.ctypes.data for a in (*inputs, out)]
        return functools.partial(self._call, ctypes.addressof(self._context), *addresses, out.size)

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        size = -(-inputs[0].size // self.lanes) * self.lanes
        padded = [
            np.ascontiguousarray(np.resize(a.ravel().astype(self.dtype), size)) for a in inputs
        ]
        out = np.empty(size, self.dtype)
        self.bound(out, *padded)()
        return out[: inputs[0].size].reshape(inputs[0].shape)


def graph_function(name: str, dtype: str) -> Function:
    """The function as users have it: a graph of one operation, compiled for the host."""
    inputs = [sg.vector(f"x{k}", dtype=dtype) for k in range(vmath.FUNCTIONS[name].arity)]
    return sg.function(inputs, call_op(REGISTRY[name], inputs))


class Worst(NamedTuple):
    """Largest error in ulp and its inputs; number of wrong special values or signs, the first."""

    ulp: float
    at: tuple[float, ...]
    wrong: int
    wrong_at: tuple[float, ...]

    def __or__(self, other: Worst) -> Worst:
        big = self if self.ulp >= other.ulp else other
        bad = self if self.wrong else other
        return Worst(big.ulp, big.at, self.wrong + other.wrong, bad.wrong_at)


NOTHING = Worst(0.0, (), 0, ())


def compare(name: str, got: np.ndarray, exact: np.ndarray, inputs: tuple[np.ndarray, ...]) -> Worst:
    """Error of `got` against wider values; next to overflow, infinite or the largest will do.

    Where all bits agree with the rounded value, the error is at most half a unit (fmod's is none).
    """
    rounding = 0.0 if name == "fmod" else 0.5
    integer = np.dtype(f"i{got.dtype.itemsize}")
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        unlike = got.view(integer) != rounded.view(integer)
        differ = np.flatnonzero(unlike & ~((got != got) & (rounded != rounded)))  # NaN is NaN
        if not differ.size:
            return Worst(rounding, (), 0, ())
        got, rounded, exact = got[differ], rounded[differ], exact[differ]
        inputs = tuple(x[differ] for x in inputs)
        error = np.abs(got.astype(exact.dtype) - exact) / spacing(name, rounded, inputs)
        signs = (got.view(integer) ^ rounded.view(integer)) < 0
        rest = np.flatnonzero(~(error < 1e6) | signs)  # NaN, infinities, zeros of either sign
    wrong = rest[_is_wrong(got[rest], rounded[rest], exact[rest])]
    error[~np.isfinite(error)] = 0
    worst = int(np.argmax(error))
    large = bool(error[worst] > rounding)
    return Worst(
        float(error[worst]) if large else rounding,
        tuple(float(x[worst]) for x in inputs) if large else (),
        wrong.size,
        tuple(float(x[wrong[0]]) for x in inputs) if wrong.size else (),
    )


def spacing(name: str, rounded: np.ndarray, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
    """One unit in the last place of each value, from its exponent bits."""
    if name == "logaddexp":  # cancels near zero: its bound is in units of the larger argument
        finite = [np.where(np.isfinite(x), np.abs(x), 0) for x in inputs]
        rounded = np.fmax(np.abs(rounded), np.maximum(*finite))
    info = finfo(rounded.dtype)
    tiny, eps = float(info.tiny), float(info.eps)
    unsigned = np.dtype(f"u{rounded.dtype.itemsize}")
    exponent = rounded.view(unsigned) & np.array(np.inf, rounded.dtype).view(unsigned)
    size = exponent.view(rounded.dtype).astype(np.float64)
    unit = np.maximum(size, tiny) * eps
    if name == "gelu":  # its tail: see the formula
        unit = unit * np.maximum(1, np.square(np.clip(inputs[0], -40, 0)))
    return unit


def _is_wrong(got: np.ndarray, rounded: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Where a special value or a sign is not what it should be."""
    with np.errstate(all="ignore"):
        info = finfo(got.dtype)
        both_finite = np.isfinite(rounded) & np.isfinite(got)
        size, edge = np.abs(exact), exact.dtype.type(float(info.max))
        relative = exact.dtype.type(2) * float(info.eps)
        near_overflow = (size * (1 + relative) >= edge) & (size <= edge * (1 + relative))
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        sign_matters = (got != 0) | (rounded == 0)  # a tiny number may round to either zero
        sign = (np.signbit(got) != np.signbit(rounded)) & sign_matters
        return np.where(both_finite, sign, ~same & ~near_overflow)


def keep_memory() -> None:
    """Free one large array: from then on malloc keeps memory for smaller ones (glibc).

    Otherwise every temporary is new pages from the system, which costs more than the arithmetic.
    """
    np.empty(1 << 24, np.uint8)


def exhaustive(name: str, function: Function, step: int = 1) -> Worst:
    """Every step-th bit pattern of float32 against the float64 function."""
    worst = NOTHING
    keep_memory()
    count = CHUNK * (1 if step > 64 else 4)
    offsets = np.arange(0, count * step, step, dtype=np.uint32)
    for start in range(0, 1 << 32, count * step):
        x = (offsets[: -(-((1 << 32) - start) // step)] + np.uint32(start)).view(np.float32)
        worst |= compare(name, function(x), exact_values(name, (x,)), (x,))
    return worst


def every_half(name: str, dtype: str, function: Function) -> Worst:
    """All 2**16 values of float16 or bfloat16; two arguments take 16 shuffles of them as pairs."""
    x = np.arange(1 << 16, dtype=np.uint16).view(as_dtype(dtype).np)
    if vmath.FUNCTIONS[name].arity == 1:
        pairs: list[tuple[np.ndarray, ...]] = [(x,)]
    else:
        pairs = [(x, np.random.default_rng(k).permutation(x)) for k in range(16)]
    worst = NOTHING
    for inputs in pairs:
        exact = exact_values(name, tuple(a.astype(np.float32) for a in inputs))
        worst |= compare(name, function(*inputs), exact, inputs)
    return worst


SPECIAL = [0.0, 1.0, 0.5, 2.0, 3.0, 4.0, 0.3333, 1e-10, 1e10, 37.0, np.inf, np.nan]


def edges(dtype: str) -> np.ndarray:
    """Zeros, infinities, NaN, the ends of the format and of its integers, of both signs."""
    info = np.finfo(dtype)
    whole = 2.0**info.nmant
    ends = [
        info.max,
        info.tiny,
        info.smallest_subnormal,
        info.eps,
        whole + 1,
        2 * whole - 1,
        2 * whole,
    ]
    positive = np.array([*SPECIAL, *ends], dtype)
    return np.concatenate([positive, -positive])


def strata(dtype: str, count: int, seed: int) -> np.ndarray:
    """Inputs of every magnitude, near 0, 1 and multiples of pi/4, moderate ones, and edges."""
    rng = np.random.default_rng(seed)
    info = np.finfo(dtype)
    unsigned = np.dtype(f"u{np.dtype(dtype).itemsize}")
    bits = rng.integers(0, 1 << info.bits, count, dtype=np.uint64).astype(unsigned).view(dtype)
    sign = rng.choice([-1.0, 1.0], count)
    near = np.exp(rng.uniform(-0.7 * info.nmant, 0, count))
    turns = (
        rng.integers(-400, 400, count) * (np.pi / 4) * (1 + rng.integers(-3, 4, count) * info.eps)
    )
    widths = [2.0, 12.0, 110.0, 750.0]
    moderate = [rng.uniform(-w, w, count) for w in widths]
    parts = [bits, sign * near, 1 + sign * near, turns, *moderate, edges(dtype)]
    return np.concatenate([p.astype(dtype) for p in parts])


def samples(name: str, dtype: str, count: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """`count` arguments of each stratum; two take shuffled pairs of them, and pairs of edges."""
    x = strata(dtype, count, seed)
    if vmath.FUNCTIONS[name].arity == 1:
        return (x,)
    y = np.random.default_rng(seed).permutation(strata(dtype, count, seed + (1 << 32)))
    pairs = np.meshgrid(edges(dtype), edges(dtype))
    return tuple(np.concatenate([a, b.ravel()]) for a, b in zip((x, y), pairs))


def sampled(name: str, dtype: str, function: Function, count: int) -> Worst:
    """The worst of stratified samples, `count` in each stratum, some thousands at a time."""
    worst = NOTHING
    keep_memory()
    each = CHUNK // STRATA
    for seed in range(-(-count // each)):
        inputs = samples(name, dtype, min(each, count - seed * each), seed)
        got = function(*inputs)
        exact = exact_values(name, inputs)
        if dtype == "float64" and name in JUDGED:
            exact = judged(name, got, exact, inputs)
        worst |= compare(name, got, exact, inputs)
    return worst


def judged(
    name: str, got: np.ndarray, near: np.ndarray, inputs: tuple[np.ndarray, ...]
) -> np.ndarray:
    """What is furthest from SciPy by mpmath; everywhere else the value itself, if SciPy's is near.

    SciPy's own error is a few units, so whatever is wrong by more than the bound is among these.
    """
    with np.errstate(all="ignore"):
        error = np.abs(got - near) / spacing(name, near.astype(np.float64), inputs)
        close = error < 64  # units; SciPy's tails end too early, so that is asked of mpmath too
    far = np.flatnonzero(~close & np.isfinite(got) & np.isfinite(near))
    beyond = np.flatnonzero(np.isfinite(got) & ~np.isfinite(near))
    worst = np.argsort(np.where(close, error, -1))[-CANDIDATES:]
    asked = np.concatenate([worst[close[worst]], far[:CANDIDATES], beyond])
    exact = np.where(np.isfinite(near), got.astype(LONG), near)
    exact[asked] = judged_values(name, tuple(x[asked] for x in inputs))
    return exact


def nanoseconds(function: Compiled, seconds: float = 0.05) -> float:
    """CPU time for one element of 8192 moderate ones in cache: the best of many runs."""
    inputs = [
        np.random.default_rng(k).uniform(0.1, 4, 8192).astype(function.dtype)
        for k in range(function.pointers - 1)
    ]
    out = np.empty(8192, function.dtype)
    call = function.bound(out, *inputs)
    best, end = float("inf"), time.thread_time() + seconds
    while time.thread_time() < end:
        start = time.thread_time()
        for _ in range(16):
            call()
        best = min(best, time.thread_time() - start)
    return best / 16 / 8192 * 1e9
