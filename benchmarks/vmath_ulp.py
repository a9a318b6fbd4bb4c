"""Errors of the elementary functions: all 2**32 float32 inputs, stratified samples of float64.

    python -m benchmarks.vmath_ulp                    all functions, a minute or two each
    python -m benchmarks.vmath_ulp exp tanh --step 97 --target x86-64-v2
    python -m benchmarks.vmath_ulp --dtype float64

Prints one line for each function: largest error in ulp and where, the bound that vmath states,
wrong special values, nanoseconds per element in cache. Ends with status 1 if a bound is broken.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.exact_special import SPECIAL as SPECIAL_FUNCTIONS
from benchmarks.exact_special import special
from symgraph.backends import emit, jit, targets, vmath
from symgraph.backends.legalize import legalize
from symgraph.backends.loops import Block, Buffer, Kernel, Ty, Var

CHUNK = 1 << 16
SLOW = frozenset(SPECIAL_FUNCTIONS)  # mpmath's take their time
LONG = np.longdouble  # 64 significant bits on x86: references good to 2**-11 ulp of float64


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
    """A function of vmath compiled for this machine, called on arrays."""

    def __init__(self, name: str, dtype: str, target: targets.Target, lanes: int | None = None):
        self.dtype = np.dtype(dtype)
        self.lanes = lanes or target.lanes(self.dtype.itemsize)
        kernel = legalize(kernel_of(name, dtype, self.lanes), target)
        self._library = jit.load(
            [jit.compile_object(emit.emit(kernel, target), target)], [kernel.name]
        )
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


def _sigmoid(x: Any) -> Any:
    e = np.exp(-abs(x))
    return np.where(x < 0, e, np.ones_like(e)) / (1 + e)


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))


def _exprel(x: Any) -> Any:
    quotient = np.expm1(x) / np.where(x == 0, 1, x)
    return np.where(x == 0, 1, np.where(x == np.inf, x, quotient))


def _gelu(x: Any) -> Any:
    return x * (REFERENCE["erfc"](x * -np.sqrt(x.dtype.type(0.5))) / 2)


# Name -> the same function in the arithmetic of its arguments.
REFERENCE: dict[str, Callable[..., Any]] = {
    **{n: getattr(np, n) for n in "exp exp2 expm1 log log2 log10 log1p".split()},
    **{n: getattr(np, n) for n in "sin cos tan sinh cosh tanh cbrt hypot logaddexp fmod".split()},
    **{"a" + n: getattr(np, "arc" + n) for n in "sin cos tan sinh cosh tanh tan2".split()},
    "pow": np.power,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "log_sigmoid": lambda x: -_softplus(-x),
    "gelu": _gelu,
    "exprel": _exprel,
    **{name: special(name) for name in SPECIAL_FUNCTIONS},
}


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
    """Error of `got` against wider values; next to overflow, infinite or the largest will do."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        error = np.abs(got - exact) / spacing(name, rounded, inputs)
        integer = np.dtype(f"i{got.dtype.itemsize}")
        differ = (got.view(integer) ^ rounded.view(integer)) < 0
        rest = np.flatnonzero(~(error < 1e6) | differ)  # NaN, infinities, zeros of either sign
    wrong = rest[_is_wrong(got[rest], rounded[rest], exact[rest])]
    error[~np.isfinite(error)] = 0
    worst = int(np.argmax(error))
    return Worst(
        float(error[worst]),
        tuple(float(x[worst]) for x in inputs),
        wrong.size,
        tuple(float(x[wrong[0]]) for x in inputs) if wrong.size else (),
    )


def spacing(name: str, rounded: np.ndarray, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
    """One unit in the last place of each value, from its exponent bits."""
    if name == "logaddexp":  # cancels near zero: its bound is in units of the larger argument
        finite = [np.where(np.isfinite(x), np.abs(x), 0) for x in inputs]
        rounded = np.fmax(np.abs(rounded), np.maximum(*finite))
    info = np.finfo(rounded.dtype)
    unsigned = np.dtype(f"u{rounded.dtype.itemsize}")
    exponent = rounded.view(unsigned) & np.array(np.inf, rounded.dtype).view(unsigned)
    unit = np.maximum(exponent.view(rounded.dtype), info.tiny) * info.eps
    if name == "gelu":  # steep in its tail: its bound is in units that grow with x*x there
        unit = unit * np.maximum(1, np.square(np.clip(inputs[0], -40, 0)))
    return unit


def _is_wrong(got: np.ndarray, rounded: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Where a special value or a sign is not what it should be."""
    with np.errstate(all="ignore"):
        info = np.finfo(got.dtype)
        both_finite = np.isfinite(rounded) & np.isfinite(got)
        size, edge = np.abs(exact), exact.dtype.type(info.max)
        relative = exact.dtype.type(2) * info.eps
        near_overflow = (size * (1 + relative) >= edge) & (size <= edge * (1 + relative))
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        sign_matters = (got != 0) | (rounded == 0)  # a tiny number may round to either zero
        sign = (np.signbit(got) != np.signbit(rounded)) & sign_matters
        return np.where(both_finite, sign, ~same & ~near_overflow)


def exhaustive(name: str, function: Callable[..., np.ndarray], step: int = 1) -> Worst:
    """Every step-th bit pattern of float32 against the float64 function."""
    worst = NOTHING
    for start in range(0, 1 << 32, CHUNK * step):
        patterns = np.arange(start, min(start + CHUNK * step, 1 << 32), step, dtype=np.uint64)
        x = patterns.astype(np.uint32).view(np.float32)
        with np.errstate(all="ignore"):
            exact = REFERENCE[name](x.astype(np.float64))
        worst |= compare(name, function(x), exact, (x,))
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
    """Stratified arguments; two take shuffled pairs of them, and all pairs of edges."""
    x = strata(dtype, count, seed)
    if vmath.FUNCTIONS[name].arity == 1:
        return (x,)
    y = np.random.default_rng(seed).permutation(strata(dtype, count, seed + 1))
    pairs = np.meshgrid(edges(dtype), edges(dtype))
    return tuple(np.concatenate([a, b.ravel()]) for a, b in zip((x, y), pairs))


def exact_values(name: str, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
    """The function in the next wider arithmetic."""
    wide: Any = np.float64 if inputs[0].dtype == np.float32 else LONG
    with np.errstate(all="ignore"):
        if name == "fmod":  # exact as it is
            return np.fmod(*inputs).astype(wide)
        return REFERENCE[name](*(a.astype(wide) for a in inputs))


def sampled(name: str, dtype: str, function: Callable[..., np.ndarray], count: int) -> Worst:
    """The worst of stratified samples."""
    inputs = samples(name, dtype, count)
    return compare(name, function(*inputs), exact_values(name, inputs), inputs)


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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="functions; all if none is named")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--step", type=int, default=1, help="take every step-th float32")
    parser.add_argument("--count", type=int, default=20000, help="samples in each stratum")
    parser.add_argument("--target", default="host")
    options = parser.parse_args(arguments)
    target = targets.target(options.target)
    broken = 0
    print(f"{'function':12} {'ulp':>7} {'bound':>6} {'wrong':>6} {'ns':>7}  at")
    for name in options.names or sorted(n for n, known in vmath.FUNCTIONS.items() if known.ulp):
        known = vmath.FUNCTIONS[name]
        function = Compiled(name, options.dtype, target)
        if options.dtype == "float32" and known.arity == 1:
            worst = exhaustive(name, function, options.step)
        else:
            count = min(options.count, 2000) if name in SLOW else options.count
            worst = sampled(name, options.dtype, function, count)
        bound = known.ulp[options.dtype][not target.has_fma]
        broken += worst.ulp > bound or worst.wrong > 0
        print(
            f"{name:12} {worst.ulp:7.3f} {bound:6.2f} {worst.wrong:6d} "
            f"{nanoseconds(function):7.3f}  {worst.at} {worst.wrong_at or ''}",
            flush=True,
        )
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
