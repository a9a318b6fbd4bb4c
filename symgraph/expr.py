"""The expression graph: immutable, interned nodes, their sites, and iterative traversal.

`apply(op, *inputs)` is the only way a node is made: it infers the type (errors carry the user's
line), looks the node up in a weak table and returns the one object there is for it. Inputs and
shared variables are unique objects; everything else that is structurally equal is identical, so
graphs compare with `is`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from . import relations
from .arraytype import Array, Tuple, Type
from .errors import GraphError, SymgraphError
from .sites import Site, at_site, default_site, user_site

if TYPE_CHECKING:
    from .op import Op


class Expr:
    """A node: an op applied to inputs.

    op: what it computes; inputs: its operands; type: Array or Tuple; site: the user's (file, line);
    name: a label. Operators and NumPy-like methods are installed by symgraph.variable.
    """

    __slots__ = ("op", "inputs", "type", "site", "_name", "__weakref__")

    op: Op
    inputs: tuple[Expr, ...]
    type: Type
    site: Site | None
    _name: str | None
    __array_ufunc__ = None  # a NumPy array on the left defers to our reflected operators
    __array_priority__ = 1000

    def __init__(
        self,
        op: Op,
        inputs: tuple[Expr, ...],
        type: Type,
        site: Site | None,
        name: str | None = None,
    ):
        self.op = op
        self.inputs = inputs
        self.type = type
        self.site = site
        self._name = name

    __hash__ = object.__hash__

    @property
    def name(self) -> str | None:
        """What the user calls it: a label in messages and listings."""
        return self._name

    @name.setter
    def name(self, name: str | None) -> None:
        self._name = checked_name(name)

    @property
    def dtype(self) -> Any:
        return self.array_type.dtype

    @property
    def ndim(self) -> int:
        return len(self.array_type.shape)

    @property
    def array_type(self) -> Array:
        """The type, when it is an array's; a tuple-typed node is not a value."""
        if isinstance(self.type, Array):
            return self.type
        raise GraphError(
            f"{self.op.name} has {len(self.type.items)} outputs: take one of them first",
            site=user_site(),
        )

    @property
    def label(self) -> str:
        """The name, or the op's."""
        return self.name or self.op.name

    def __bool__(self) -> bool:
        raise GraphError(
            f"the truth of {self.label} is not known until the function is called",
            site=user_site(),
            hint="use where(c, a, b) or cond(c, a, b) for choices, `is` for identity, "
            "& and | for logic",
        )

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d expression")
        size = self.array_type.shape[0]
        if isinstance(size, int):
            return size
        raise GraphError(
            f"len({self.label}): axis 0 is symbolic",
            site=user_site(),
            hint=f"use {self.label}.shape[0]",
        )

    def _no_value(self, *_: Any, **__: Any) -> Any:
        raise GraphError(
            f"{self.label} has no value until the function is called",
            site=user_site(),
            hint="compile it with function(inputs, outputs), or use .eval({input: value})",
        )

    __array__ = __index__ = __int__ = __float__ = __complex__ = _no_value

    def __deepcopy__(self, _: Any) -> Expr:
        return self

    def __copy__(self) -> Expr:
        return self

    def __reduce_ex__(self, _: Any) -> Any:
        raise TypeError(
            f"{self.label}: an expression cannot be pickled: inputs and shared variables are equal "
            "only to themselves; save values, and build it again"
        )

    if TYPE_CHECKING:  # installed by symgraph.variable

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, key: Any) -> Expr: ...
        def __add__(self, other: Any) -> Expr: ...
        def __radd__(self, other: Any) -> Expr: ...
        def __sub__(self, other: Any) -> Expr: ...
        def __rsub__(self, other: Any) -> Expr: ...
        def __mul__(self, other: Any) -> Expr: ...
        def __rmul__(self, other: Any) -> Expr: ...
        def __truediv__(self, other: Any) -> Expr: ...
        def __rtruediv__(self, other: Any) -> Expr: ...
        def __floordiv__(self, other: Any) -> Expr: ...
        def __mod__(self, other: Any) -> Expr: ...
        def __pow__(self, other: Any) -> Expr: ...
        def __rpow__(self, other: Any) -> Expr: ...
        def __matmul__(self, other: Any) -> Expr: ...
        def __neg__(self) -> Expr: ...
        def __abs__(self) -> Expr: ...
        def __invert__(self) -> Expr: ...
        def __and__(self, other: Any) -> Expr: ...
        def __or__(self, other: Any) -> Expr: ...
        def __xor__(self, other: Any) -> Expr: ...
        def __lt__(self, other: Any) -> Expr: ...
        def __le__(self, other: Any) -> Expr: ...
        def __gt__(self, other: Any) -> Expr: ...
        def __ge__(self, other: Any) -> Expr: ...


# ---------------------------------------------------------------------------------------- interning


def checked_name(name: Any, what: str = "name") -> str | None:
    """The name, which must be a string or None.   Raises: GraphError."""
    if name is not None and not isinstance(name, str):
        raise GraphError(f"{what} must be a string, got {name!r}", site=user_site())
    return name


class _Entry(weakref.ref["Expr"]):
    """A weak reference that knows its key, and drops out of the table with its node."""

    __slots__ = ("key",)

    key: tuple[Any, ...]


_table: dict[tuple[Any, ...], _Entry] = {}
_lock = threading.RLock()


def _forget(entry: _Entry, table: dict[tuple[Any, ...], _Entry] = _table) -> None:
    """Drop the entry, unless a new node has taken the key; at exit globals may be gone."""
    if table.get(entry.key) is entry:
        del table[entry.key]


def apply(op: Op, *inputs: Expr, site: Site | None = None) -> Expr:
    """The node `op(*inputs)`: interned, typed, with the user's line.

    Raises: what op.infer raises, with that line.
    """
    key = (op, *map(id, inputs))
    found = _table.get(key)
    node = found() if found is not None else None
    if node is not None:
        return node
    try:
        type = op.infer(*[x.type for x in inputs])
    except SymgraphError as error:
        raise error.at(site or user_site(), inputs) from None
    node = Expr(op, inputs, type, site or default_site())
    entry = _Entry(node, _forget)
    entry.key = key
    found = _table.setdefault(key, entry)
    return node if found is entry else _agree(found, node, entry)


def _agree(found: _Entry, node: Expr, entry: _Entry) -> Expr:
    """The node that all threads use, where the table has got an entry meanwhile."""
    with _lock:
        other = _table.get(entry.key, found)()
        if other is None:
            _table[entry.key] = entry
        return node if other is None else other


def interned_count() -> int:
    """How many nodes are alive in the table."""
    return len(_table)


# ---------------------------------------------------------------------------------------- traversal


def toposort(outputs: Iterable[Expr], blockers: Iterable[Expr] = ()) -> list[Expr]:
    """Every node that the outputs need, inputs before users, in a deterministic order.

    Nothing below a blocker is entered.
    """
    stop = set(map(id, blockers))
    seen: set[int] = set()
    order: list[Expr] = []
    stack: list[Expr] = list(outputs)[::-1]
    while stack:
        node = stack[-1]
        if id(node) in seen:
            stack.pop()
            continue
        waiting = () if id(node) in stop else [x for x in node.inputs if id(x) not in seen]
        if waiting:
            stack.extend(reversed(waiting))
        else:
            stack.pop()
            seen.add(id(node))
            order.append(node)
    return order


def rebuild(node: Expr, inputs: Sequence[Expr]) -> Expr:
    """The same op on other inputs, with the node's site; the node itself if nothing changed."""
    if all(a is b for a, b in zip(node.inputs, inputs)):
        return node
    return apply(node.op, *inputs, site=node.site)


def substitute(outputs: Sequence[Expr], replace: Iterable[tuple[Expr, Expr]]) -> list[Expr]:
    """The outputs with nodes replaced, all at once (replacements are not searched again)."""
    done: dict[int, Expr] = {}
    pairs = list(replace)
    for old, new in pairs:
        done[id(old)] = new
    for node in toposort(outputs, blockers=[old for old, _ in pairs]):
        if id(node) not in done:
            done[id(node)] = rebuild(node, [done[id(x)] for x in node.inputs])
    return [done[id(x)] for x in outputs]


def leaves(outputs: Iterable[Expr]) -> Iterator[Expr]:
    """The nodes without inputs, in first-use order."""
    return (node for node in toposort(outputs) if not node.inputs)


def graph_guards(outputs: Iterable[Expr]) -> list[tuple[relations.Guard, Expr]]:
    """The undecided size relations of a graph, each once, with the node that needs it."""
    found: dict[tuple[Any, Any, str], tuple[relations.Guard, Expr]] = {}
    for node in toposort(outputs):

        def sink(guard: relations.Guard, node: Expr = node) -> None:
            found.setdefault((guard.left, guard.right, guard.relation), (guard, node))

        if not _static(node):
            with relations.recording(sink):
                node.op.infer(*[x.type for x in node.inputs])
    return list(found.values())


def _static(node: Expr) -> bool:
    return all(isinstance(x.type, Array) and x.type.is_static for x in (node, *node.inputs))


Visitor = Callable[[Expr], Any]
__all__ = [
    "Array",
    "Expr",
    "Tuple",
    "Type",
    "apply",
    "at_site",
    "rebuild",
    "substitute",
    "toposort",
    "user_site",
]
