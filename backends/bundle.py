"""The second level of the disk cache: whole functions by the structure of their graphs.

An entry is a manifest (JSON): sizes and guards as polynomials over numbered atoms, fault messages,
the cache keys of the kernels' objects, and the constants that folding made. A warm start hashes the
graph, reads the manifest and links; it neither rewrites nor plans nor emits. Whatever does not fit
(a missing object, an unknown field) is a miss.
"""

from __future__ import annotations

import base64
import functools
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph import dims, errors
from symgraph.arraytype import Array
from symgraph.dims import Atom, Dim, Fn, SizeLike
from symgraph.dtypes import dtype
from symgraph.expr import Expr, toposort
from symgraph.leaves import Constant, Input
from symgraph.relations import Guard

from . import cache, jit, targets
from .code import Code, Frame, LaunchInfo, link
from .layout_check import layout
from .options import Options
from .program import Bind
from .request import Request
from .signature import Contract, Fault
from .stages import Stages
from .structure import graph_key

CONSTANT_BYTES = 1 << 24  # functions with more constant data are planned anew each time


def compiled_code(
    request: Request, options: Options, stages: Stages, use_cache: bool
) -> tuple[Code, Any]:
    """The code of a request, from the cache or compiled; and the plan, if one was made."""
    key = bundle_key(request, options, stages) if use_cache else None
    if key is not None:
        with stages.timed("warm start"):
            code = _load(cache.get(key), request)
        if code is not None and not stages.shows_code:
            return code, None
    from .build import build

    built = build(request, options, stages)
    if key is not None and not built.code.hosts:
        with stages.timed("keep"):
            manifest = _Manifest(request).write(built.code, built.objects, built.imports)
        if manifest is not None:
            cache.put(key, manifest)
    return built.code, built.planned


def bundle_key(request: Request, options: Options, stages: Stages) -> str | None:
    """The key of a request's manifest, or None if its graph has no structural key."""
    with stages.timed("hash"):
        guards = [g for g, _ in request.guards]
        structure = graph_key(request.inputs, request.roots, request.shared, guards)
        if structure is None:
            return None
        place = {
            id(variable): k for k, variable in enumerate(request.shared)
        }  # `==` is elementwise
        updated = repr([place[id(w)] for w, _ in request.updates])
        shape = f"{len(request.outputs)} {request.result} {updated} {layout() is not None}"
        return cache.key(
            "bundle",
            structure,
            shape,
            options.key,
            targets.host().key,
            jit.llvm_version(),
            source_stamp(),
        )


@functools.cache
def source_stamp() -> str:
    """A hash that changes with any file of this package: what it decides may change the code."""
    import symgraph

    stamps = []
    for folder in symgraph.__path__:
        for top, _, files in os.walk(folder, followlinks=True):
            for name in files:
                if name.endswith(".py"):
                    path = os.path.join(top, name)
                    status = os.stat(path)
                    place = path[len(folder) :]
                    stamps.append(f"{place} {status.st_size} {status.st_mtime_ns}")
    return cache.key(*sorted(stamps))


def _load(data: bytes | None, request: Request) -> Code | None:
    """The code that a manifest describes, or None if there is none or it cannot be used."""
    if data is None:
        return None
    try:
        manifest = json.loads(data)
        objects = [cache.get(key) for key in manifest["objects"]]
        if any(o is None for o in objects):
            return None
        return _Manifest(request).read(manifest, objects)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, errors.InternalError):
        return None


class _Manifest:
    """Writes and reads the manifest of one request; leaves number the atoms they show."""

    def __init__(self, request: Request):
        self.request = request
        order = toposort(request.roots)
        self._sites = [x.site for x in order]
        self._site_number = {site: i for i, site in reversed(list(enumerate(self._sites)))}
        self._constants = [x.op.value for x in order if isinstance(x.op, Constant)]
        self._constant_number = {id(c): i for i, c in enumerate(self._constants)}
        self.atoms: list[Atom] = []
        for x in (*request.inputs, *request.shared):
            for size in x.array_type.shape:
                if isinstance(size, Dim):
                    self.atoms += sorted(dims.atoms(size), key=str)
            if isinstance(x.op, Input) and not x.array_type.shape and x.array_type.dtype.is_integer:
                self.atoms.append(dims.ValueOf(x.label, x.op.uid))
        self.atoms = list(dict.fromkeys(self.atoms))
        self._number = {atom: i for i, atom in enumerate(self.atoms)}

    # --- writing ---

    def write(self, code: Code, objects: Sequence[str], imports: Sequence[str]) -> bytes | None:
        """The manifest, or None if the function has something that cannot be kept."""
        new = [c for c in code.constants if id(c) not in self._constant_number]
        if sum(c.nbytes for c in new) > CONSTANT_BYTES:
            return None
        contract, frame, shared = code.contract, code.frame, list(self.request.shared)
        content = {
            "objects": list(objects),
            "imports": list(imports),
            "shared": [_position(shared, w) for w in contract.shared],
            "binds": [[self._number[b.atom], b.kind, b.position, b.axis] for b in contract.binds],
            "guards": [
                [
                    self.size(g.left),
                    self.size(g.right),
                    g.relation,
                    g.what,
                    g.of_index,
                    self.site(s),
                ]
                for g, s in contract.guards
            ],
            "types": [self.type(t) for t in contract.types],
            "arena": self.size(contract.arena),
            "faults": [
                [f.exception.__name__, f.message, self.site(f.site)] for f in contract.faults
            ],
            "outputs": frame.outputs,
            "output_types": [self.type(t) for t in frame.output_types],
            "updates": [[s, mode, i, self.type(t)] for s, mode, i, t in frame.updates],
            "table": frame.table,
            "writes": code.writes,
            "swaps": code.swaps,
            "constants": [self.constant(c) for c in code.constants],
            "launches": [
                [i.kernel, i.what, self.site(i.site), self.size(i.work), self.size(i.bytes)]
                for i in code.launches
            ],
        }
        return json.dumps(content, separators=(",", ":")).encode()

    def site(self, site: Any) -> int | None:
        """A user's line, as the number of a node that comes from it: files move, graphs do not."""
        return self._site_number.get(site)

    def size(self, size: SizeLike) -> Any:
        if isinstance(size, int):
            return size
        return [[k, [self._atom(a) for a in monomial]] for monomial, k in size.terms]

    def _atom(self, atom: Atom) -> Any:
        if isinstance(atom, Fn):
            return [atom.fn, *map(self.size, atom.args)]
        return self._number[atom]

    def type(self, type: Array) -> Any:
        return [str(type.dtype), *map(self.size, type.shape)]

    def constant(self, array: np.ndarray) -> Any:
        """A constant of the graph by number, another one by value."""
        number = self._constant_number.get(id(array))
        return _packed(array) if number is None else number

    # --- reading ---

    def read(self, m: Any, objects: Sequence[Any]) -> Code:
        library = link(objects, "f", m["imports"], layout() is not None)
        contract = Contract(
            self.request.inputs,
            tuple(self.request.shared[i] for i in m["shared"]),
            tuple(Bind(self.atoms[a], kind, index, axis) for a, kind, index, axis in m["binds"]),
            tuple(
                (Guard(self.to_size(a), self.to_size(b), r, what, index), self.to_site(s))
                for a, b, r, what, index, s in m["guards"]
            ),
            tuple(map(self.to_type, m["types"])),
            self.to_size(m["arena"]),
            tuple(
                Fault(_exception(name), message, self.to_site(s))
                for name, message, s in m["faults"]
            ),
        )
        frame = Frame(
            tuple(m["outputs"]),
            tuple(map(self.to_type, m["output_types"])),
            tuple((s, mode, i, self.to_type(t)) for s, mode, i, t in m["updates"]),
            m["table"],
        )
        return Code(
            library,
            library.address("f.entry") if layout() is not None else None,
            library.address("f.sizes"),
            library.address("f.run"),
            contract,
            frame,
            tuple(m["writes"]),
            tuple(m["swaps"]),
            tuple(map(self.to_constant, m["constants"])),
            (),
            tuple(
                LaunchInfo(k, w, self.to_site(s), self.to_size(n), self.to_size(b))
                for k, w, s, n, b in m["launches"]
            ),
        )

    def to_site(self, number: int | None) -> Any:
        return None if number is None else self._sites[number]

    def to_constant(self, data: Any) -> np.ndarray:
        return self._constants[data] if isinstance(data, int) else _unpacked(data)

    def to_size(self, data: Any) -> SizeLike:
        if isinstance(data, int):
            return data
        total: SizeLike = 0
        for k, monomial in data:
            term: SizeLike = k
            for atom in monomial:
                term = term * self._to_dim(atom)
            total = total + term
        return total

    def _to_dim(self, data: Any) -> SizeLike:
        if isinstance(data, list):
            fn, *args = data
            return Dim((((Fn(fn, tuple(map(self.to_size, args))),), 1),))
        return Dim((((self.atoms[data],), 1),))

    def to_type(self, data: Any) -> Array:
        name, *shape = data
        return Array(dtype(name), tuple(map(self.to_size, shape)))


def _position(nodes: Sequence[Expr], node: Expr) -> int:
    return next(i for i, x in enumerate(nodes) if x is node)


def _exception(name: str) -> type:
    found = getattr(errors, name)
    if not (isinstance(found, type) and issubclass(found, errors.SymgraphError)):
        raise ValueError(name)
    return found


def _packed(array: np.ndarray) -> list[Any]:
    return [str(dtype(array.dtype)), list(array.shape), base64.b64encode(array.tobytes()).decode()]


def _unpacked(data: Any) -> np.ndarray:
    name, shape, text = data
    return np.frombuffer(base64.b64decode(text, validate=True), dtype(name).np).reshape(shape)
