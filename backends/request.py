"""What a user asks `function` for, checked and put in order as one closed graph.

Everything Theano's `function` decides about inputs, givens, default updates and unused or missing
inputs is decided here; the result needs nothing but its inputs and its shared variables. Nothing is
compiled here.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from symgraph import dims
from symgraph.arraytype import Array
from symgraph.dims import Atom, Dim, SizeLike
from symgraph.errors import (
    DTypeError,
    GraphError,
    MissingInputError,
    ShapeError,
    UnusedInputError,
    describe,
)
from symgraph.expr import Expr, substitute, toposort, user_site
from symgraph.leaves import Constant, Input, Shared, array, as_dim_any, lift
from symgraph.region import Placeholder
from symgraph.relations import Guard

from .resize import atoms_of, resize_graph


class In:
    """An argument of a function, with what is special about it.

    variable: the input; name: its keyword (the variable's name); value: its default (none: it must
    be given); strict: refuse whatever needs a conversion; allow_downcast: overrides the function's
    allow_input_downcast. borrow and mutable are accepted as in Theano; arguments are never written,
    whatever they say.
    """

    def __init__(
        self,
        variable: Expr,
        name: str | None = None,
        value: Any = None,
        *,
        strict: bool = False,
        allow_downcast: bool | None = None,
        borrow: bool = False,
        mutable: bool = False,
    ):
        self.variable = variable
        self.name = name if name is not None else getattr(variable, "name", None)
        # what a caller does to the array later does not change the default
        self.value = copy.deepcopy(value) if isinstance(value, (np.ndarray, list)) else value
        self.strict = strict
        self.allow_downcast = allow_downcast


class Out:
    """An output. borrow is accepted as in Theano; outputs are fresh arrays, whatever it says."""

    def __init__(self, variable: Any, borrow: bool = False):
        self.variable = variable


class Request(NamedTuple):
    """A closed graph with its signature.

    result: "single", "list", "tuple" or "dict" with its keys; shared: every shared variable,
    updated ones first; guards: size relations that follow from updates and givens, beside those of
    the graph itself.
    """

    arguments: tuple[In, ...]
    inputs: tuple[Expr, ...]
    outputs: tuple[Expr, ...]
    result: str
    keys: tuple[Any, ...]
    updates: tuple[tuple[Shared, Expr], ...]
    shared: tuple[Shared, ...]
    guards: tuple[tuple[Guard, Expr], ...]

    @property
    def roots(self) -> tuple[Expr, ...]:
        """Outputs, then new values."""
        return (*self.outputs, *(value for _, value in self.updates))

    def with_shared(self, new: Mapping[Shared, Shared], delete_updates: bool = False) -> Request:
        """The same request on other shared variables; without updates if they are to go."""
        pairs = [(old, w) for old, w in new.items() if old is not w]
        roots = substitute(self.roots, pairs) if pairs else list(self.roots)
        split = len(self.outputs)
        updates = (
            ()
            if delete_updates
            else tuple((new.get(w, w), v) for (w, _), v in zip(self.updates, roots[split:]))
        )
        kept = roots[:split] if delete_updates else roots
        used = [x for x in toposort(kept) if isinstance(x, Shared)]
        shared = tuple(dict.fromkeys([*(w for w, _ in updates), *used]))
        guards = () if delete_updates else self.guards
        return self._replace(
            outputs=tuple(roots[:split]), updates=updates, shared=shared, guards=guards
        )


def make_request(
    inputs: Any,
    outputs: Any,
    updates: Any = None,
    givens: Any = None,
    no_default_updates: Any = False,
    on_unused_input: str = "raise",
) -> Request:
    """Check and close what was asked for.

    Raises: GraphError, MissingInputError, UnusedInputError, DTypeError, ShapeError, each with the
    user's lines.
    """
    if on_unused_input not in ("raise", "warn", "ignore"):
        raise GraphError(
            f"function: on_unused_input={on_unused_input!r}: expected one of raise, warn, ignore",
            site=user_site(),
        )
    arguments = _arguments(inputs)
    result, keys, wanted = _outputs(outputs)
    new = _updates(updates)
    _default_updates(wanted, new, no_default_updates)
    guards: list[tuple[Guard, Expr]] = []
    pairs = [(w, _fitting(w, value, guards)) for w, value in new.items()]
    roots = [*wanted, *(value for _, value in pairs)]
    leaves = [_as_leaf(a.variable) for a in arguments]
    roots = substitute(
        roots, [(a.variable, x) for a, x in zip(arguments, leaves) if a.variable is not x]
    )
    pairs_given = _givens(givens)
    if pairs_given:
        roots = _replace(roots, pairs_given, leaves, guards)
    order = toposort(roots)
    _check_inputs(arguments, leaves, order, guards, on_unused_input)
    values = tuple(zip(new, roots[len(wanted) :]))
    shared = dict.fromkeys([*new, *(x for x in order if isinstance(x, Shared))])
    return Request(
        tuple(arguments),
        tuple(leaves),
        tuple(roots[: len(wanted)]),
        result,
        keys,
        values,
        tuple(shared),
        tuple(guards),
    )


# --- arguments, outputs ---


def _arguments(inputs: Any) -> list[In]:
    if isinstance(inputs, (Expr, In)):
        inputs = [inputs]
    if not isinstance(inputs, (list, tuple)):
        raise GraphError(
            f"function: inputs must be a list, got {type(inputs).__name__}", site=user_site()
        )
    found = [x if isinstance(x, In) else In(x) for x in inputs]
    seen: dict[int, int] = {}
    for position, a in enumerate(found):
        x = a.variable
        if not isinstance(x, Expr):
            raise GraphError(
                f"function: input {position} is not an expression but {x!r}", site=user_site()
            )
        if isinstance(x, Shared):
            raise GraphError(
                f"function: {x.label} is a shared variable, not an input",
                site=user_site(),
                hint=f"give it another value with givens={{{x.label}: x}}",
            )
        if isinstance(x.op, Constant) or not isinstance(x.type, Array):
            raise GraphError(
                f"function: input {position} cannot be given: it is {describe(x)}", site=user_site()
            )
        if id(x) in seen:
            raise GraphError(
                f"function: input {x.label} is listed twice "
                f"(positions {seen[id(x)]} and {position})",
                site=user_site(),
            )
        seen[id(x)] = position
    return found


def _as_leaf(x: Expr) -> Expr:
    """The input itself; for a computed expression an input of its type that stands in its place."""
    if isinstance(x.op, Input):
        return x
    return array(x.name, x.array_type.shape, x.array_type.dtype)


def _outputs(outputs: Any) -> tuple[str, tuple[Any, ...], list[Expr]]:
    """How results are handed back, their keys (dict only), and the expressions."""
    if outputs is None:
        return "list", (), []
    if isinstance(outputs, Mapping):
        return "dict", tuple(outputs), [_output(v, f"output {k!r}") for k, v in outputs.items()]
    if isinstance(outputs, (list, tuple)):
        kind = "list" if isinstance(outputs, list) else "tuple"
        return kind, (), [_output(v, f"output {i}") for i, v in enumerate(outputs)]
    return "single", (), [_output(outputs, "the output")]


def _output(value: Any, what: str) -> Expr:
    if isinstance(value, Out):
        value = value.variable
    try:
        node = lift(value)
    except DTypeError as error:
        raise GraphError(
            f"function: {what} is no expression: {error.message}", site=user_site()
        ) from None
    node.array_type  # noqa: B018  a tuple-typed node is refused here
    return node


# --- updates ---


def _updates(updates: Any) -> dict[Shared, Expr]:
    found: dict[Shared, Expr] = {}
    for pair in _pairs("updates", updates):
        w, value = _pair("updates", pair)
        if not isinstance(w, Shared):
            what = w.label if isinstance(w, Expr) else repr(w)
            raise GraphError(
                f"function: updates: {what} is not a shared variable", site=user_site()
            )
        if w in found:
            raise GraphError(
                f"function: {w.label} is updated twice", site=user_site(), operands=[w]
            )
        found[w] = _lifted(value, w, f"update of {w.label}")
    return found


def _lifted(value: Any, like: Expr, what: str) -> Expr:
    try:
        return lift(value, like.array_type.dtype)
    except DTypeError as error:
        raise DTypeError(
            f"function: {what}: {error.message}", site=user_site(), operands=[like]
        ) from None


def _default_updates(outputs: Sequence[Expr], new: dict[Shared, Expr], refused: Any) -> None:
    """Add the default updates of the shared variables in use, and of those that these bring in."""
    if refused is True:
        return
    without = set(map(id, refused or ()))
    waiting = [*outputs, *new.values()]
    while waiting:
        order, waiting = toposort(waiting), []
        for x in order:
            if (
                isinstance(x, Shared)
                and x.default_update is not None
                and x not in new
                and id(x) not in without
            ):
                new[x] = x.default_update
                waiting.append(x.default_update)


def _fitting(w: Shared, value: Expr, guards: list[tuple[Guard, Expr]]) -> Expr:
    """The new value, if its type fits the variable's; undecided sizes become guards."""
    _check_type(f"function: update of {w.label}", w, value)
    for axis, (have, got) in enumerate(zip(w.array_type.shape, value.array_type.shape)):
        if isinstance(have, int):
            _require_equal(have, got, f"update of {w.label}: axis {axis}", value, guards)
    return value


def _check_type(what: str, old: Expr, new: Expr) -> None:
    want, have = old.array_type, new.array_type
    if want.dtype is not have.dtype:
        hint = f'write {new.name or "new"}.astype("{want.dtype}")'
        raise DTypeError(
            f"{what}: expected {want}, got {have}", site=user_site(), hint=hint, operands=[old, new]
        )
    if want.ndim != have.ndim:
        raise ShapeError(
            f"{what}: expected rank {want.ndim} ({want}), got rank {have.ndim} ({have})",
            site=user_site(),
            operands=[old, new],
        )


def _require_equal(
    want: SizeLike, have: SizeLike, what: str, node: Expr, guards: list[tuple[Guard, Expr]]
) -> None:
    known = dims.known_equal(want, have)
    if known is False:
        raise ShapeError(
            f"{what}: expected size {want}, got {have}", site=user_site(), operands=[node]
        )
    if known is None:
        guards.append((Guard(want, have, "==", what), node))


def _pairs(what: str, given: Any) -> Iterable[Any]:
    """Pairs as a mapping or a list gives them."""
    if isinstance(given, Mapping):
        return given.items()
    if given is None or (isinstance(given, Iterable) and not isinstance(given, (Expr, str))):
        return given or ()
    raise GraphError(
        f"function: {what} must be a dict or a list of pairs, got {given!r}", site=user_site()
    )


def _pair(what: str, pair: Any) -> tuple[Any, Any]:
    if isinstance(pair, (tuple, list)) and len(pair) == 2:
        return pair[0], pair[1]
    raise GraphError(f"function: {what} must be pairs (old, new), got {pair!r}", site=user_site())


# --- givens ---


def _givens(givens: Any) -> list[tuple[Expr, Expr]]:
    """Pairs (old, new) of matching types; none may need what another replaces."""
    pairs: list[tuple[Expr, Expr]] = []
    for pair in _pairs("givens", givens):
        old, value = _pair("givens", pair)
        if not isinstance(old, Expr):
            raise GraphError(f"function: givens: {old!r} is not an expression", site=user_site())
        new = _lifted(value, old, f"givens: replacement of {old.label}")
        _check_type(f"function: givens: replacement of {old.label}", old, new)
        if any(old is other for other, _ in pairs):
            raise GraphError(f"function: givens: {old.label} is replaced twice", site=user_site())
        pairs.append((old, new))
    replaced = {id(old): old for old, _ in pairs}
    for old, new in pairs:
        for x in toposort([new]):
            if id(x) in replaced:
                raise GraphError(
                    f"function: givens: the replacement of {old.label} depends on {x.label}, "
                    "which is replaced too",
                    site=user_site(),
                    hint="all givens are put in at once: put one into the other first",
                )
    return pairs


def _replace(
    roots: list[Expr],
    pairs: list[tuple[Expr, Expr]],
    leaves: Sequence[Expr],
    guards: list[tuple[Guard, Expr]],
) -> list[Expr]:
    """The graph with givens put in; sizes only a replaced input showed become its value's."""
    roots = substitute(roots, pairs)
    replaced = {id(old) for old, _ in pairs}
    shown = {a for x in [*leaves, *toposort(roots)] if id(x) not in replaced for a in _shown(x)}
    sizes: dict[Atom, SizeLike] = {}
    for old, new in pairs:
        if (
            isinstance(old.op, Input)
            and not old.array_type.shape
            and old.array_type.dtype.is_integer
        ):
            _value_given(old, new, sizes)
        for axis, (have, got) in enumerate(zip(old.array_type.shape, new.array_type.shape)):
            atom = plain_atom(have)
            if atom is not None and atom not in shown and atom not in sizes:
                sizes[atom] = got
            else:
                _require_equal(
                    dims.substitute(have, sizes),
                    got,
                    f"givens: axis {axis} of {old.label}",
                    new,
                    guards,
                )
    return resize_graph(roots, sizes) if sizes else roots


def _value_given(old: Expr, new: Expr, sizes: dict[Atom, SizeLike]) -> None:
    """An integer input that may stand for a size: so does its replacement, if it can."""
    try:
        sizes[dims.ValueOf(old.label, old.op.uid)] = as_dim_any(new)  # type: ignore[attr-defined]
    except (GraphError, KeyError):
        return


def _shown(x: Expr) -> Iterator[Atom]:
    """The atoms whose value a call learns from this leaf."""
    if not isinstance(x.op, Input) and not isinstance(x, Shared):
        return
    for size in x.array_type.shape:
        atom = plain_atom(size)
        if atom is not None:
            yield atom
    if isinstance(x.op, Input) and not x.array_type.shape and x.array_type.dtype.is_integer:
        yield dims.ValueOf(x.label, x.op.uid)


def plain_atom(size: SizeLike) -> Atom | None:
    """The atom that a size is, if it is one and nothing more."""
    if isinstance(size, Dim) and len(size.terms) == 1:
        monomial, k = size.terms[0]
        if k == 1 and len(monomial) == 1 and not isinstance(monomial[0], dims.Fn):
            return monomial[0]
    return None


# --- missing and unused ---


def _check_inputs(
    arguments: Sequence[In],
    leaves: Sequence[Expr],
    order: Sequence[Expr],
    guards: Sequence[tuple[Guard, Expr]],
    on_unused: str,
) -> None:
    for x in order:
        if isinstance(x.op, Placeholder):
            raise GraphError(
                "function: a step's variable was used outside of the step function", site=x.site
            )
    given = set(map(id, leaves))
    missing = [x for x in order if isinstance(x.op, Input) and id(x) not in given]
    if missing:
        lines = "".join(f"\n  {describe(x)}" for x in missing)
        raise MissingInputError(
            f"function: {_inputs(missing, ' of the graph')} not given:{lines}", site=user_site()
        )
    needed = {a for x in order for a in atoms_of(x)}
    needed |= {a for g, _ in guards for size in (g.left, g.right) for a in dims.atoms(size)}
    shown = {a for x in [*leaves, *order] for a in _shown(x)}
    unknown = sorted(str(a) for a in needed - shown)
    if unknown:
        raise MissingInputError(
            f"function: no input shows the size {', '.join(unknown)}",
            site=user_site(),
            hint="list an input that has it in its shape",
        )
    used = set(map(id, order))
    idle = [
        a
        for a, x in zip(arguments, leaves)
        if id(x) not in used and not needed.intersection(_shown(x))
    ]
    if idle and on_unused != "ignore":
        names = "".join(f"\n  {describe(a.variable)}" for a in idle)
        message = f"function: {_inputs(idle)} not used by the outputs or updates:{names}"
        if on_unused == "raise":
            raise UnusedInputError(
                message, site=user_site(), hint='drop it, or on_unused_input="ignore"'
            )
        warnings.warn(message, stacklevel=4)


def _inputs(found: Sequence[Any], of: str = "") -> str:
    return f"1 input{of} is" if len(found) == 1 else f"{len(found)} inputs{of} are"
