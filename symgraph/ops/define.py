"""How an elementwise op is defined: the decorator, promotion, broadcasting and their registry.

    @elementwise("tanh", accepts=inexact)
    class tanh(Formula):
        '''Hyperbolic tangent of each element.'''
        evaluate = wide(np.tanh)
        def vjp(x, y, dy): return (dy * (1 - y * y),)
        def lower(b, x): return b.call("tanh", x)

binds the user function `tanh` (hence the lower case), and gives its type rule, broadcasting and
its inverse in the gradient, docs, printing, and rows in the conformance suite. `Formula` tells
type checkers that the name is a function. Complex operands have no native form: they always run
through evaluate. Fields:
    accepts     dtypes computed in; others are cast: bools to int8 where that is accepted, else
                bools and integers to the default float where only floats are
    refuses     {dtype: hint} dtypes that are an error instead of being cast
    result      the result's dtype if not the operands', or a function of the operands' dtype
    promote     positions of the operands that share a dtype (all but the fixed, unless given)
    fixed       {position: dtype} operands with a dtype of their own
    evaluate    static: the meaning, in NumPy; half floats come as float32
    vjp         static: vjp(*inputs, output, cotangent) -> cotangents, None for none;
                `vjp = None` gives no cotangents (piecewise constant functions)
    lower       static: the scalar formula through a ScalarBuilder; or
    expand      static: the same in other ops; or
    host        a reason why there is no native form (then evaluate runs in Python)
    domain      (low, high) from which tests draw arguments for finite differences
    kinks       points that they avoid
    apart       True if they keep operands apart from each other (maximum has a kink at x == y)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import relations
from ..arraytype import Array
from ..dims import Shape, SizeLike
from ..dtypes import DType, bool_, default_float, every, int8, promote, signed, to_inexact, weak
from ..dtypes import dtype as as_dtype
from ..errors import ArgumentError, DTypeError, ShapeError
from ..expr import Expr, apply, user_site
from ..leaves import Constant, constant, lift
from ..op import Op

REGISTRY: dict[str, Elementwise] = {}

Result = DType | Callable[[DType], DType] | None

if TYPE_CHECKING:
    Formula: Any
else:

    class Formula:
        """Base of the classes under `elementwise`: to type checkers they are functions."""


class Elementwise(Op):
    """A scalar function applied element by element to operands of one broadcast shape."""

    name = "elementwise"
    spec: Any

    def __init__(self, spec: Any):
        super().__init__(spec)
        object.__setattr__(self, "name", spec.name)
        object.__setattr__(self, "expand", spec.expand)

    def infer(self, *types: Any) -> Array:
        spec = self.spec
        dtype = types[spec.promote[0]].dtype if spec.promote and types else bool_
        if not (spec.uniform and [t.dtype for t in types] == [dtype] * spec.arity):
            self._check(types)
        elif dtype not in spec.accepts:
            raise DTypeError(f"{spec.name}: dtype {dtype} is not accepted")
        shapes = {t.shape for t in types if t.shape}
        if len(shapes) > 1:
            return Array(
                spec.result_dtype(dtype), broadcast_shapes(spec.name, *[t.shape for t in types])
            )
        if not shapes:
            return Array(spec.result_dtype(dtype), ())
        full = next(t for t in types if t.shape)
        result = spec.result_dtype(dtype)
        return full if full.dtype is result else Array(result, full.shape)

    def _check(self, types: Sequence[Array]) -> None:
        """Refuse operands of a wrong number or of dtypes that `call` never gives."""
        spec = self.spec
        if len(types) != spec.arity:
            raise DTypeError(f"{spec.name}: expected {spec.arity} operands, got {len(types)}")
        for position, type in enumerate(types):
            allowed = spec.fixed.get(position)
            if (
                (type.dtype is not allowed)
                if allowed is not None
                else (type.dtype not in spec.accepts)
            ):
                raise DTypeError(f"{spec.name}: dtype {type.dtype} is not accepted")
        shared = {types[i].dtype for i in spec.promote}
        if len(shared) > 1:
            raise DTypeError(f"{spec.name}: operands of different dtypes {sorted(shared)}")

    def evaluate(self, *arrays: Any) -> np.ndarray:
        spec = self.spec
        dtype = as_dtype(arrays[spec.promote[0]].dtype) if spec.promote else bool_
        if dtype.is_float and dtype.bits == 16:
            arrays = tuple(a.astype(np.float32) if a.dtype == dtype.np else a for a in arrays)
        with np.errstate(all="ignore"):
            result = np.asarray(spec.evaluate(*arrays))
            wanted = spec.result_dtype(dtype).np
            return result if result.dtype == wanted else result.astype(wanted)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> Sequence[Expr | None]:
        if self.spec.vjp is None:
            return [None] * len(inputs)
        return self.spec.vjp(*inputs, output, cotangent)  # grad sums over broadcast axes

    def __repr__(self) -> str:
        return self.spec.name

    def __reduce__(self) -> Any:
        return (REGISTRY.__getitem__, (self.spec.name,))


class Spec:
    """The fields of one elementwise op, checked."""

    def __init__(
        self,
        name: str,
        body: type,
        accepts: Sequence[DType],
        refuses: Mapping[DType, str],
        result: Result,
        promote: Sequence[int] | None,
        fixed: dict[int, DType],
    ):
        parts = dict(vars(body))
        for required in ("evaluate", "vjp"):
            if required not in parts:
                raise TypeError(f"elementwise op {name} lacks `{required}`")
        if sum(part in parts for part in ("lower", "expand", "host")) != 1:
            raise TypeError(f"elementwise op {name} needs one of `lower`, `expand`, `host`")
        self.name = name
        self.doc = body.__doc__
        self.module = body.__module__
        self.evaluate: Callable[..., Any] = parts["evaluate"]
        self.vjp: Callable[..., Any] | None = parts["vjp"]
        self.lower: Callable[..., Any] | None = parts.get("lower")
        self.expand: Callable[..., Any] | None = parts.get("expand")
        self.host: str | None = parts.get("host")
        self.domain: tuple[float, float] = parts.get("domain", (-3.0, 3.0))
        self.kinks: tuple[float, ...] = parts.get("kinks", ())
        self.apart: bool = parts.get("apart", False)
        self.operands: tuple[str, ...] = _operand_names(parts)
        self.arity = len(self.operands)
        self.accepts = frozenset(accepts)
        self.refuses = refuses
        self.result = result
        self.fixed = fixed
        rest = tuple(i for i in range(self.arity) if i not in fixed)
        self.promote = tuple(promote) if promote is not None else rest
        self.uniform = len(self.promote) == self.arity > 0  # all operands share one dtype

    def result_dtype(self, operands: DType) -> DType:
        """The result's dtype from the one that the operands share."""
        if self.result is None or isinstance(self.result, DType):
            return self.result or operands
        return self.result(operands)


def _operand_names(parts: Mapping[str, Any]) -> tuple[str, ...]:
    """The operands' names, as the first part that is written out calls them."""
    for part, others in (("lower", 1), ("expand", 0), ("vjp", -2)):
        code = getattr(parts.get(part), "__code__", None)
        if code is not None:
            names = code.co_varnames[: code.co_argcount]
            return names[others:] if others >= 0 else names[:others]
    raise TypeError("an elementwise op with no vjp and no native form needs `expand`")


def elementwise(
    name: str,
    accepts: Sequence[DType] = every,
    result: Result = None,
    promote: Sequence[int] | None = None,
    fixed: dict[int, DType] | None = None,
    refuses: Mapping[DType, str] | None = None,
) -> Callable[[type], Callable[..., Expr]]:
    """Class decorator: registers the op, gives the function users call. See the module's text."""

    def define(body: type) -> Callable[..., Expr]:
        op = Elementwise(Spec(name, body, accepts, refuses or {}, result, promote, fixed or {}))
        if name in REGISTRY:
            raise TypeError(f"elementwise op {name} is defined twice")
        REGISTRY[name] = op

        def function(*operands: Any) -> Expr:
            return call(op, operands)

        function.__name__ = function.__qualname__ = name
        function.__doc__ = f"{name}({', '.join(op.spec.operands)})\n\n    {body.__doc__}"
        function.__module__ = body.__module__
        function.op = op  # type: ignore[attr-defined]
        return function

    return define


def call(op: Elementwise, operands: Sequence[Any]) -> Expr:
    """Apply an elementwise op to anything liftable: promote, cast, broadcast, build."""
    spec = op.spec
    if len(operands) != spec.arity:
        raise ArgumentError(
            f"{spec.name}({', '.join(spec.operands)}) takes {spec.arity} operands, "
            f"got {len(operands)}",
            site=user_site(),
        )
    nodes: list[Any] | None = _alike(spec, operands) if spec.uniform else None
    if nodes is not None:
        return apply(op, *nodes)
    nodes = list(operands)
    if spec.promote:
        shared = promote_operands(
            spec.name,
            [operands[i] for i in spec.promote],
            spec.accepts,
            spec.refuses,
            exact=spec.result is bool_,
        )
        for i, node in zip(spec.promote, shared):
            nodes[i] = node
    for i, d in spec.fixed.items():
        nodes[i] = _cast_fixed(spec.name, lift(operands[i]), d)
    return apply(op, *nodes)


def _alike(spec: Spec, operands: Sequence[Any]) -> list[Expr] | None:
    """Operands that need no promotion: expressions of one dtype, floats and ints beside floats.

    None if they are others. A shorter way to what `promote_operands` gives, for most nodes.
    """
    d = None
    for x in operands:
        if isinstance(x, Expr):
            if type(x.type) is not Array or x.type.dtype is not (d or x.type.dtype):
                return None
            d = x.type.dtype
    if d not in spec.accepts or d in spec.refuses:
        return None
    nodes: list[Expr] = []
    for x in operands:
        if not isinstance(x, Expr):
            if type(x) not in (float, int) or d.kind != "f":
                return None
            x = constant(x, d)
        nodes.append(x)
    return nodes


def _cast_fixed(what: str, x: Expr, d: DType) -> Expr:
    if d.is_integer and x.dtype.kind not in "biu":
        raise DTypeError(
            f"{what}: expected an integer operand, got {x.dtype}", site=user_site(), operands=[x]
        )
    return cast(x, d)


def promote_operands(
    what: str,
    operands: Sequence[Any],
    accepts: frozenset[DType],
    refuses: Mapping[DType, str] | None = None,
    exact: bool = False,
) -> list[Expr]:
    """Operands lifted and cast to their common dtype (numbers weakly), or one that `accepts` holds.

    exact: a Python int beyond the common integer dtype widens it (comparisons) instead of being an
    error.
    """
    strong = [x if isinstance(x, Expr) else lift(x) for x in operands if not _is_weak(x)]
    numbers = [x for x in operands if _is_weak(x)]
    if strong:
        common = promote(*[x.dtype for x in strong])
        for value in numbers:
            common = weak(value, common)
            if exact and common.is_integer and not isinstance(value, (float, complex)):
                common = _widened(common, int(value))
    else:
        common = promote(*[lift(x).dtype for x in numbers])
    common = _accepted(what, common, accepts, refuses or {}, strong)
    parts = iter(strong)
    return [constant(x, common) if _is_weak(x) else cast(next(parts), common) for x in operands]


def _widened(d: DType, value: int) -> DType:
    """The smallest dtype that holds all of `d` and this integer, if there is one."""
    holds = (w for w in (d, *signed) if w.bits >= d.bits and promote(w, d) is w)
    return next((w for w in holds if np.iinfo(w.np).min <= value <= np.iinfo(w.np).max), d)


def _accepted(
    what: str,
    d: DType,
    accepts: frozenset[DType],
    refuses: Mapping[DType, str],
    operands: Sequence[Expr],
) -> DType:
    """`d`, or the dtype that stands for it in an op that does not compute in `d`."""
    if d not in refuses:
        for candidate in (d, int8 if d is bool_ else d, to_inexact(d)):
            if candidate in accepts:
                return candidate
    raise DTypeError(
        f"{what}: dtype {d} is not accepted",
        site=user_site(),
        hint=refuses.get(d) or f"it takes {kinds_of(accepts)}",
        operands=operands,
    )


def kinds_of(accepts: Iterable[DType]) -> str:
    """The kinds of dtypes in words: "bool, integers, floats"."""
    found = {d.kind for d in accepts}
    return ", ".join(name for letters, name in _KIND_NAMES.items() if found & set(letters))


_KIND_NAMES = {"b": "bool", "iu": "integers", "f": "floats", "c": "complex numbers"}


def wide(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` computed in float64 for float32 operands; Elementwise rounds its result once."""

    def evaluate(*arrays: np.ndarray) -> Any:
        return function(*[a.astype(_WIDER.get(a.dtype.char, a.dtype), copy=False) for a in arrays])

    return evaluate


def scipy_special(name: str) -> Callable[..., Any]:
    """`wide` of a function of scipy.special, which is loaded at the first call."""

    def function(*arrays: np.ndarray) -> Any:
        import scipy.special

        return getattr(scipy.special, name)(*arrays)

    return wide(function)


_WIDER = {"f": np.dtype(np.float64), "F": np.dtype(np.complex128)}


def _is_weak(x: Any) -> bool:
    return isinstance(x, (bool, int, float, complex)) and not isinstance(x, np.generic)


# --------------------------------------------------------------------------------------------- cast


class Cast(Op):
    """Conversion of each element.

    Float to integer truncates and saturates (NaN gives 0); to bool is != 0.
    """

    name = "cast"
    dtype: DType

    def infer(self, x: Array) -> Array:
        if x.dtype.kind == "c" and self.dtype.kind not in "cb":
            raise DTypeError(
                f"cast: {x.dtype} to {self.dtype} drops the imaginary part",
                hint="use real(x) or abs(x)",
            )
        return Array(self.dtype, x.shape)

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        if self.dtype.is_integer and x.dtype.kind not in "biu":
            return saturating_cast(x, self.dtype)
        with np.errstate(all="ignore"):
            return x.astype(self.dtype.np)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> Sequence[Expr | None]:
        x = inputs[0]
        if not self.dtype.is_inexact or not x.dtype.is_inexact:
            return [None]
        if cotangent.dtype.kind == "c" and x.dtype.kind != "c":
            cotangent = call(REGISTRY["real"], (cotangent,))
        return [cast(cotangent, x.dtype)]


def saturating_cast(x: np.ndarray, d: DType) -> np.ndarray:
    """Float to integer: truncate, clamp to the range, NaN to 0."""
    info = np.iinfo(d.np)
    wide = x.astype(np.float64) if x.dtype.itemsize < 4 else x
    with np.errstate(all="ignore"):
        inside = (wide > float(info.min) - 1) & (wide < float(info.max) + 1)
        if d.bits >= 32:  # the bounds themselves are not exact in the float type
            inside = (wide >= wide.dtype.type(info.min)) & (
                wide < wide.dtype.type(2.0 ** (d.bits - d.is_signed))
            )
        safe = np.where(inside, wide, 0).astype(d.np)
        return np.where(
            inside,
            safe,
            np.where(np.isnan(wide), 0, np.where(wide < 0, info.min, info.max)).astype(d.np),
        )


def cast(x: Any, dtype: Any) -> Expr:
    """x with another dtype; x itself if it has that one.

    `dtype` is a name, a NumPy dtype or "default".
    """
    node = lift(x)
    d = as_dtype(dtype)
    if node.dtype is d:
        return node
    if isinstance(node.op, Constant) and node.op.value.size <= 64:
        if node.dtype.kind != "c" or d.kind in "cb":
            return apply(Constant(Cast(d).evaluate(node.op.value), d))
    return apply(Cast(d), node)


# ------------------------------------------------------------------------------------ shapes


def broadcast_shapes(what: str, *shapes: Shape) -> Shape:
    """NumPy's broadcast of known sizes.

    A symbolic size equals its partner (recorded as a guard), never silently 1.
    """
    if not shapes:
        return ()
    rank = max(map(len, shapes))
    return tuple(
        _broadcast_axis(
            what, axis, [s[axis - rank + len(s)] for s in shapes if axis - rank + len(s) >= 0]
        )
        for axis in range(rank)
    )


def _broadcast_axis(what: str, axis: int, sizes: list[SizeLike]) -> SizeLike:
    rest = [s for s in sizes if s != 1]
    if not rest:
        return 1
    chosen = next((s for s in rest if isinstance(s, int)), rest[0])
    for s in rest:
        if s is not chosen:
            try:
                relations.require_equal(chosen, s, f"{what}: axis {axis}")
            except ShapeError:
                found = " and ".join(dict.fromkeys(map(str, rest)))
                raise ShapeError(
                    f"{what}: shapes do not broadcast: axis {axis} has sizes {found}"
                ) from None
    return chosen


__all__ = [
    "REGISTRY",
    "Cast",
    "Elementwise",
    "bool_",
    "broadcast_shapes",
    "call",
    "cast",
    "default_float",
    "elementwise",
]
