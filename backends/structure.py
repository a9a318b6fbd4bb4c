"""The structural key of a graph: equal, in any process, for graphs with the same code.

Inputs, shared variables and anonymous sizes count by order of first use, constants by value, user
names only where they name sizes. A value in an op's fields that has no canonical text makes the
graph unkeyed (None): it is then compiled anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from symgraph.arraytype import Array
from symgraph.dims import Dim, Fn, Size, ValueOf
from symgraph.dtypes import DType
from symgraph.expr import Expr, toposort
from symgraph.leaves import Constant, Input, SharedOp
from symgraph.op import Op
from symgraph.ops.define import Spec
from symgraph.region import Region
from symgraph.relations import Guard


class _Unkeyed(Exception):
    """A field has no canonical text."""


def graph_key(
    inputs: Sequence[Expr], roots: Sequence[Expr], shared: Sequence[Expr], guards: Sequence[Guard]
) -> str | None:
    """SHA-256 over `roots` as a function of inputs and shared variables, or None."""
    writer = _Writer()
    try:
        for kind, nodes in (("in", inputs), ("shared", shared)):
            for x in nodes:
                writer.leaf(kind, x)
        writer.graph(roots)
        for guard in guards:
            writer.line(
                guard.relation, writer.text(guard.left), writer.text(guard.right), repr(guard.what)
            )
    except _Unkeyed:
        return None
    return writer.digest.hexdigest()


class _Writer:
    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self._numbers: dict[int, str] = {}  # of nodes, by id
        self._atoms: dict[Any, str] = {}
        self._keep: list[Expr] = []

    def line(self, *words: str) -> None:
        self.digest.update("\t".join(words).encode() + b"\n")

    def leaf(self, kind: str, x: Expr) -> None:
        self._define(x, kind)
        if isinstance(x.op, Input):
            self._atoms[ValueOf(x.label, x.op.uid)] = self._numbers[id(x)]
        self.line(self._numbers[id(x)], kind, self.text(x.type))

    def _define(self, x: Expr, prefix: str) -> None:
        self._keep.append(x)
        self._numbers[id(x)] = f"{prefix}{len(self._numbers)}"

    def graph(self, roots: Sequence[Expr]) -> None:
        """Every node below the roots on a line of its own, then the roots."""
        for x in toposort(roots):
            if id(x) in self._numbers:
                continue
            if isinstance(x.op, (Input, SharedOp)):
                raise _Unkeyed
            op = self._constant(x.op) if isinstance(x.op, Constant) else self._op(x.op)
            self._define(x, "n")
            self.line(self._numbers[id(x)], op, *(self._numbers[id(i)] for i in x.inputs))
        self.line("roots", *(self._numbers[id(x)] for x in roots))

    def _constant(self, op: Constant) -> str:
        return f"constant {self.text(op.type)} {hashlib.sha256(op.value.tobytes()).hexdigest()}"

    def _op(self, op: Op) -> str:
        kind = type(op)
        return f"{kind.__module__}.{kind.__qualname__}({', '.join(map(self.text, op._values))})"

    def text(self, value: Any) -> str:
        """A canonical text of a field's value."""
        for kinds, write in _TEXTS:
            if isinstance(value, kinds):
                return write(self, value)
        return _function_text(value)

    def _dim(self, value: Dim) -> str:
        terms = (f"{k}*{'*'.join(sorted(map(self._atom, m)))}" for m, k in value.terms)
        return f"dim {'+'.join(sorted(terms))}"

    def _array(self, value: Array) -> str:
        return f"{str.__str__(value.dtype)}[{', '.join(map(self.text, value.shape))}]"

    def _tuple(self, value: tuple[Any, ...]) -> str:
        return f"{type(value).__name__}({', '.join(map(self.text, value))})"

    def _atom(self, atom: Any) -> str:
        if isinstance(atom, Fn):
            return f"{atom.fn}({', '.join(map(self.text, atom.args))})"
        if isinstance(atom, Size) and not atom.uid:
            return f"'{atom.name}'"
        found = self._atoms.get(atom)
        if found is None:
            found = self._atoms[atom] = f"?{len(self._atoms)}"
        return found

    def _region(self, region: Region) -> str:
        """Regions are keyed apart: their parameters are numbered already."""
        inner = _Writer()
        inner._atoms = self._atoms
        inner.line("params", *(inner.text(t) for t in region.params))
        inner.graph(region.results)
        return f"region {inner.digest.hexdigest()}"


# Tried in order: a DType is a str, an Array a tuple, a bool an int.
_TEXTS: tuple[tuple[Any, Any], ...] = (
    (DType, lambda w, v: str.__repr__(v)),
    ((type(None), int, str, bytes, complex), lambda w, v: repr(v)),
    (float, lambda w, v: v.hex()),
    (Dim, _Writer._dim),
    (Array, _Writer._array),
    (tuple, _Writer._tuple),
    (Op, _Writer._op),
    (Spec, lambda w, v: v.name),
    (Region, _Writer._region),
)


def _function_text(value: Any) -> str:
    """A module-level function or class by name; nothing else has a lasting text."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if module is None or name is None or "<" in name:
        raise _Unkeyed
    return f"{module}.{name}"
