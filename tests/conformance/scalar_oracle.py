"""A ScalarBuilder over NumPy arrays: runs an op's `lower` strictly by the loop IR's own rules.

Whatever the loop IR forbids is an AssertionError here: mixed dtypes, arithmetic on bools, a zero
divisor, an overflowing quotient, a shift by the width, a literal that does not fit, an unknown
function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special

from symgraph.dtypes import dtype as as_dtype
from symgraph.ops.define import REGISTRY, saturating_cast
from symgraph.philox import philox4x32

FLOAT, SIGNED, UNSIGNED, BOOL = "f", "i", "u", "b"
INTEGER = SIGNED + UNSIGNED
NUMBER = FLOAT + INTEGER
DTYPES = frozenset("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64".split())


def _divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind == FLOAT:
        return np.divide(x, y)
    _check_divisor(x, y)
    quotient = np.floor_divide(x, y)
    return np.where((quotient * y != x) & ((x < 0) != (y < 0)), quotient + 1, quotient)


def _remainder(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind != FLOAT:
        _check_divisor(x, y)
    return np.fmod(x, y)


def _check_divisor(x: np.ndarray, y: np.ndarray) -> None:
    assert (y != 0).all(), "integer division by zero"
    if x.dtype.kind == SIGNED:
        assert not ((x == np.iinfo(x.dtype).min) & (y == -1)).any(), "integer division overflows"


def _shift(function: Callable[..., Any]) -> Callable[..., Any]:
    def shifted(x: np.ndarray, n: np.ndarray) -> np.ndarray:
        assert ((n >= 0) & (n < 8 * x.dtype.itemsize)).all(), "shift count out of range"
        return function(x, n)

    return shifted


def _popcount(x: np.ndarray) -> np.ndarray:
    return np.bitwise_count(x.view(f"u{x.dtype.itemsize}"))


# name -> (arity, kinds of the operands, meaning); the table in backends.loops says the same in
# words.
OPERATIONS: dict[str, tuple[int, str, Callable[..., Any]]] = {
    "add": (2, NUMBER, np.add),
    "sub": (2, NUMBER, np.subtract),
    "mul": (2, NUMBER, np.multiply),
    "div": (2, NUMBER, _divide),
    "rem": (2, NUMBER, _remainder),
    "neg": (1, NUMBER, np.negative),
    "abs": (1, FLOAT + SIGNED, np.abs),
    "fma": (3, FLOAT, lambda x, y, z: x * y + z),
    "sqrt": (1, FLOAT, np.sqrt),
    "floor": (1, FLOAT, np.floor),
    "ceil": (1, FLOAT, np.ceil),
    "trunc": (1, FLOAT, np.trunc),
    "roundeven": (1, FLOAT, np.rint),
    "copysign": (2, FLOAT, np.copysign),
    "min": (2, NUMBER, np.minimum),
    "max": (2, NUMBER, np.maximum),
    "and": (2, INTEGER + BOOL, np.bitwise_and),
    "or": (2, INTEGER + BOOL, np.bitwise_or),
    "xor": (2, INTEGER + BOOL, np.bitwise_xor),
    "not": (1, INTEGER + BOOL, np.invert),
    "shl": (2, INTEGER, _shift(np.left_shift)),
    "shr": (2, INTEGER, _shift(np.right_shift)),
    "popcount": (1, INTEGER, _popcount),
    "eq": (2, NUMBER + BOOL, np.equal),
    "ne": (2, NUMBER + BOOL, np.not_equal),
    "lt": (2, NUMBER, np.less),
    "le": (2, NUMBER, np.less_equal),
    "gt": (2, NUMBER, np.greater),
    "ge": (2, NUMBER, np.greater_equal),
}
COMPARE = frozenset("eq ne lt le gt ge".split())

# Functions of backends.vmath: name -> (arity, meaning in float64).
FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    **{n: (1, getattr(np, n)) for n in "exp exp2 expm1 log log2 log10 log1p sin cos tan".split()},
    **{n: (1, getattr(np, n)) for n in "sinh cosh tanh cbrt".split()},
    **{f"a{n}": (1, getattr(np, f"arc{n}")) for n in "sin cos tan sinh cosh tanh".split()},
    "atan2": (2, np.arctan2),
    "pow": (2, np.power),
    "hypot": (2, np.hypot),
    "logaddexp": (2, np.logaddexp),
    "rsqrt": (1, lambda x: 1 / np.sqrt(x)),
    "sigmoid": (1, scipy.special.expit),
    "log_sigmoid": (1, lambda x: -np.logaddexp(0.0, -x)),
    "softplus": (1, lambda x: np.logaddexp(0.0, x)),
    "erf": (1, scipy.special.erf),
    **{n: (1, getattr(scipy.special, n)) for n in "erfc erfcx ndtri exp10".split()},
    **{n: (1, REGISTRY[n].spec.evaluate) for n in "exprel log_ndtr i0 i0e i1 i1e".split()},
    "gelu": (1, lambda x: x * scipy.special.ndtr(x)),
}
INTEGER_FUNCTIONS = {"gcd": np.gcd}


def _words(key0, key1, call, stream, block):  # type: ignore[no-untyped-def]
    halves = block.astype(np.uint32), (block >> np.uint64(32)).astype(np.uint32)
    return philox4x32(key0, key1, *halves, call, stream)


def _word32(key0, key1, call, stream, low, high):  # type: ignore[no-untyped-def]
    index = low.astype(np.uint64) | high.astype(np.uint64) << np.uint64(32)
    words = _words(key0, key1, call, stream, index >> np.uint64(2))
    return np.choose((index & np.uint64(3)).astype(np.intp), words)


def _word64(key, call, stream, index):  # type: ignore[no-untyped-def]
    fixed = (x.astype(np.uint32) for x in (key, key >> np.uint64(32), call, stream))
    w0, w1, w2, w3 = (w.astype(np.uint64) for w in _words(*fixed, index >> np.uint64(1)))
    odd = (index & np.uint64(1)).astype(bool)
    return np.where(odd, w2 | w3 << np.uint64(32), w0 | w1 << np.uint64(32))


# Random words, exactly: name -> (dtype of all operands, arity, meaning).
DRAWS: dict[str, tuple[str, int, Callable[..., Any]]] = {
    "random32": ("uint32", 6, _word32),
    "random64": ("uint64", 4, _word64),
}


class ScalarOracle:
    """Scalars are NumPy arrays of one shape.

    `called` tells whether an elementary function was used.
    """

    def __init__(self) -> None:
        self.called = False
        self.operations = 0

    def const(self, value: float, like: np.ndarray) -> np.ndarray:
        if like.dtype.kind in INTEGER:
            info = np.iinfo(like.dtype)
            assert info.min <= value <= info.max, f"{value} does not fit {like.dtype}"
        return self._checked(np.full(like.shape, value, like.dtype))

    def dtype(self, x: np.ndarray) -> str:
        return str(x.dtype)

    def cast(self, x: np.ndarray, dtype: str) -> np.ndarray:
        self.operations += 1
        target = as_dtype(dtype)
        if target.is_integer and x.dtype.kind == FLOAT:
            return self._checked(saturating_cast(x, target))
        return self._checked(x.astype(target.np))

    def bitcast(self, x: np.ndarray, dtype: str) -> np.ndarray:
        self.operations += 1
        assert x.dtype.itemsize == np.dtype(dtype).itemsize and x.dtype.kind != BOOL
        return self._checked(np.ascontiguousarray(x).view(dtype))

    def select(self, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        self.operations += 1
        assert condition.dtype == bool and x.dtype == y.dtype and x.dtype.kind != BOOL
        return self._checked(np.where(condition, x, y))

    def op(self, name: str, *args: np.ndarray) -> np.ndarray:
        self.operations += 1
        arity, kinds, meaning = OPERATIONS[name]
        dtypes = {a.dtype for a in args}
        assert len(args) == arity and len(dtypes) == 1, f"{name} of {[a.dtype for a in args]}"
        assert args[0].dtype.kind in kinds, f"{name} of {args[0].dtype}"
        result = np.asarray(meaning(*args))
        return self._checked(result if name in COMPARE else result.astype(args[0].dtype))

    def call(self, function: str, *args: np.ndarray) -> np.ndarray:
        if function in DRAWS:
            dtype, arity, meaning = DRAWS[function]
            assert len(args) == arity and {str(a.dtype) for a in args} == {dtype}
            return self._checked(meaning(*args))
        self.called = True
        if function in INTEGER_FUNCTIONS:
            assert {a.dtype.kind for a in args} == {UNSIGNED} and len({a.dtype for a in args}) == 1
            return self._checked(INTEGER_FUNCTIONS[function](*args))
        arity, meaning = FUNCTIONS[function]
        assert len(args) == arity and len({a.dtype for a in args}) == 1
        assert args[0].dtype.kind == FLOAT, f"{function} of {args[0].dtype}"
        return self._checked(meaning(*[a.astype(np.float64) for a in args]).astype(args[0].dtype))

    @staticmethod
    def _checked(x: np.ndarray) -> np.ndarray:
        assert str(x.dtype) in DTYPES, f"{x.dtype} is no loop IR dtype"
        return x


def run_lower(op: Any, *arrays: np.ndarray) -> tuple[np.ndarray, ScalarOracle]:
    """op's scalar formula applied to arrays of one shape, and the builder that counted."""
    oracle = ScalarOracle()
    with np.errstate(all="ignore"):
        return oracle._checked(op.spec.lower(oracle, *arrays)), oracle
