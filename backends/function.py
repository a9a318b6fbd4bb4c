"""`function()`: an expression graph becomes a callable; it calls the stages and decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from symgraph.leaves import Shared

from . import bundle
from .calls import Core, Function, swapped
from .collector import patient_collector
from .ctypes_calls import native
from .describe import describer
from .options import Options, require
from .request import In, Out, Request, make_request
from .signature import Signature
from .stages import Stages

__all__ = ["Function", "In", "Out", "function"]


def function(
    inputs: Any,
    outputs: Any = None,
    updates: Any = None,
    givens: Any = None,
    mode: str | None = None,
    name: str | None = None,
    on_unused_input: str = "raise",
    allow_input_downcast: bool | None = None,
    no_default_updates: Any = False,
    host_calls: str = "allow",
    optimize: str = "full",
    exclude: Iterable[str] = (),
    show: Any = None,
    cache: bool = True,
    profile: bool = False,
    precision: str = "exact",
) -> Function:
    """Compile a graph to one native function.

    inputs: list of expressions, or In(...) with a default or a name; any expression may be given in
    place of its value.
    outputs: an expression, or a list, tuple or dict of them; results come in the same form (None:
    an empty list).
    updates: {shared: new value} or pairs; all new values are computed from the old ones, and
    nothing is stored if a call fails. Default updates are added unless no_default_updates (True, or
    a list of variables).
    givens: {expression: replacement}, put in all at once.
    mode: "native", "reference" (NumPy on the graph as written), "debug" (compare every stage on
    every call), "check_nan".
    optimize: "full", "safe" (no change of rounding), "none"; exclude: rules or families of rules by
    name.
    host_calls: "forbid" refuses ops that have no native form. show: stages to print; see
    SYMGRAPH_SHOW.
    cache: keep the plan on disk for the next process. profile: time every kernel; see
    Function.profile.
    precision: "fast" lets convolutions of 3 x 3 in float32 take Winograd's method where it is
    quicker, whose error is bounded, but larger; Function.explain says where, and the bound.
    Constant kernels then take up to four times their memory, and an infinity or a NaN in an image
    may make NaN of results up to 5 places away.

    Raises: GraphError, MissingInputError, UnusedInputError, DTypeError, ShapeError, HostCallError.
    """
    mode = mode or "native"
    require("function", mode=mode, optimize=optimize, host_calls=host_calls, precision=precision)
    request = make_request(inputs, outputs, updates, givens, no_default_updates, on_unused_input)
    signature = Signature(
        name or "function", request.arguments, request.inputs, allow_input_downcast
    )
    excluded = tuple([exclude] if isinstance(exclude, str) else exclude)
    options = Options(optimize, excluded, host_calls, profile, precision)
    maker = _Maker(options, mode, show, cache)
    return maker.make(request, signature)


class _Maker:
    """Makes the Function of a request, and its copies, in one mode with one set of options."""

    def __init__(self, options: Options, mode: str, show: Any, cache: bool):
        self.options, self.mode, self.show, self.cache = options, mode, show, cache

    def make(self, request: Request, signature: Signature) -> Function:
        """Compile, unless the mode needs no native code."""
        stages = Stages(signature.label, self.show)
        if self.mode != "native":
            from .modes import in_mode

            return in_mode(
                self.mode,
                request,
                signature,
                self.options,
                stages,
                describer(request, self.options),
                self.remake,
            )
        with patient_collector():
            code, planned = bundle.compiled_code(request, self.options, stages, self.cache)
        stages.finish()
        core = Core(code, code.contract.shared, request.keys)
        return native(
            core, request, signature, describer(request, self.options, planned, stages), self.remake
        )

    def remake(
        self, old: Function, swap: Mapping[Shared, Shared], name: str | None, delete_updates: bool
    ) -> Function:
        """A copy: the same code on other variables, or a new compilation without updates."""
        at = dict(zip(old.shared, swapped(old.shared, swap)))
        request = old.request.with_shared(at, delete_updates)
        signature = old.signature.renamed(name)
        if delete_updates or not isinstance(old.core, Core):
            return self.make(request, signature)
        core = Core(old.core.code, [at[w] for w in old.core.variables], request.keys)
        return native(core, request, signature, describer(request, self.options), self.remake)
