"""What an op must tell: its type rule, its meaning in NumPy, its derivative, its smaller words.

Two ways to add one:
    a class deriving from Op for structural ops (reductions, movement, contraction, control flow),
    or the `elementwise` decorator (symgraph.ops.define) for scalar functions, 3-8 lines each.
A class that lacks a part is refused when Python reads it, naming the part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from .arraytype import Type
from .dims import Atom, Dim, evaluate_dim

if TYPE_CHECKING:
    from .expr import Expr

REQUIRED = ("name", "infer", "evaluate", "vjp")


class Op:
    """Base of all ops: an immutable value whose annotated fields are its attributes.

        class Transpose(Op):
            name = "transpose"
            axes: tuple[int, ...]

    makes `Transpose(axes)` hashable, comparable and printable. Fields hold hashable values; sizes
    in them may be Dims. Last fields named in `optional` are None, and not shown, where they are not
    given.

    infer(*types) -> type           raises ShapeError / DTypeError worded for the user
    evaluate(*arrays) -> array      the meaning, in NumPy (a tuple of arrays for a Tuple type);
                                    Dims are ints by then
    vjp(inputs, output, cotangent)  cotangents of the inputs, None where there is none; `cotangent`
                                    is a tuple with None for unused parts when the output is a
                                    Tuple. `vjp = None`: not differentiable
    jvp(inputs, output, tangents)   optional; otherwise forward mode comes from vjp of vjp
    expand(*inputs) -> Expr         optional: the same thing in smaller ops; backends use it when
                                    they have no kernel
    effect                          True for ops that must run in order (Print)
    """

    name: ClassVar[str]
    fields: ClassVar[tuple[str, ...]] = ()
    optional: ClassVar[tuple[str, ...]] = ()
    effect: ClassVar[bool] = False
    abstract: ClassVar[bool] = True
    vjp: Any
    expand: Any = None
    jvp: Any = None
    _values: tuple[Any, ...]
    _hash: int

    def __init_subclass__(cls, abstract: bool = False) -> None:
        cls.abstract = abstract
        own = tuple(n for n, a in cls.__annotations__.items() if "ClassVar" not in str(a))
        cls.fields = cls.fields + tuple(n for n in own if n not in cls.fields)
        if not abstract:
            for part in REQUIRED:
                if not hasattr(cls, part) or getattr(cls, part) is getattr(Op, part, cls):
                    raise TypeError(f"op {cls.__name__} lacks `{part}`")

    def __init__(self, *values: Any, **named: Any):
        if self.optional:
            named = dict.fromkeys(set(self.optional) & set(self.fields[len(values) :])) | named
        if len(values) + len(named) != len(self.fields):
            raise TypeError(
                f"{self.name}: expected fields {self.fields}, got {len(values) + len(named)} values"
            )
        values += tuple(named[f] for f in self.fields[len(values) :])
        object.__setattr__(self, "_values", values)
        object.__setattr__(self, "_hash", hash((type(self), values)))
        for field, value in zip(self.fields, values):
            object.__setattr__(self, field, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self.name} is immutable")

    def __eq__(self, other: object) -> bool:
        return self is other or (
            type(self) is type(other)
            and self._hash == other._hash
            and self._values == other._values
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        shown = (
            (f, v)
            for f, v in zip(self.fields, self._values)
            if v is not None or f not in self.optional
        )
        attributes = ", ".join(f"{f}={_shown(v)}" for f, v in shown)
        return f"{self.name}{{{attributes}}}" if attributes else self.name

    def infer(self, *types: Any) -> Type:
        raise NotImplementedError

    def evaluate(self, *arrays: Any) -> Any:
        raise NotImplementedError

    def with_sizes(self, values: Mapping[Atom, Any]) -> Op:
        """This op with every Dim in its fields replaced by its number."""
        if not any(map(_symbolic, self._values)):
            return self
        return type(self)(*[_concrete(v, values) for v in self._values])


Op.vjp = Op.infer  # placeholders that REQUIRED recognizes as "not given"


def _shown(value: Any) -> str:
    if type(value) is tuple:
        return "[" + ", ".join(map(_shown, value)) + "]"
    return str(value)


def _symbolic(value: Any) -> bool:
    return isinstance(value, Dim) or (isinstance(value, tuple) and any(map(_symbolic, value)))


def _concrete(value: Any, values: Mapping[Atom, Any]) -> Any:
    if isinstance(value, Dim):
        return evaluate_dim(value, values)
    if isinstance(value, tuple):
        parts = [_concrete(v, values) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


class ScalarBuilder(Protocol):
    """What `lower(b, *scalars)` may say. Scalars are opaque handles; every method returns one.

    float16 and bfloat16 never reach `lower`: they are computed in float32 and rounded after each
    op.
    """

    def const(self, value: float, like: Any) -> Any:
        """The literal `value` in the dtype of `like`."""

    def call(self, function: str, *args: Any) -> Any:
        """An elementary function by name (exp, log, sin, erf, pow, ...); see backends.vmath."""

    def dtype(self, x: Any) -> str:
        """The dtype of a scalar."""

    def cast(self, x: Any, dtype: str) -> Any:
        """C-like conversion; float to integer truncates and saturates, NaN gives 0."""

    def bitcast(self, x: Any, dtype: str) -> Any:
        """The same bits read as another dtype of the same width."""

    def select(self, condition: Any, x: Any, y: Any) -> Any:
        """x where condition else y."""

    def op(self, name: str, *args: Any) -> Any:
        """One loop-IR operation, by name.

        add sub mul div rem neg abs fma sqrt floor ceil trunc roundeven copysign min max and or xor
        not shl shr eq ne lt le gt ge popcount clz ctz. Integer div and rem need a non-zero divisor
        and no overflow.
        """


Cotangents = Sequence["Expr | None"]
