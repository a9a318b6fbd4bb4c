"""symgraph: array expressions, differentiated, rewritten and compiled to one native function.

This is the door. The language (types, inputs, NumPy-like functions, gradients) is loaded at once,
which costs little more than NumPy itself; compilation, rewriting, networks, control flow and SymPy
are loaded when first named.

    import symgraph as sg
    x, W = sg.array("x", ("n", 784)), sg.shared(weights, "W")
    f = sg.function([x], sg.softmax(x @ W))
"""

from __future__ import annotations

import builtins as _builtins
import importlib as _importlib
from math import e, inf, nan, pi
from typing import TYPE_CHECKING, Any

from . import dims, dtypes, errors, variable
from .arraytype import Array, Tuple
from .dims import Dim, dim
from .dtypes import (
    bfloat16,
    bool_,
    complex64,
    complex128,
    default_float,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    promote,
    set_default_float,
    uint8,
    uint16,
    uint32,
    uint64,
)
from .errors import (
    ArgumentError,
    AssertionFault,
    AxisError,
    DisconnectedInputError,
    DTypeError,
    GraphError,
    HostCallError,
    IndexFault,
    InternalError,
    MissingInputError,
    NonFiniteError,
    ShapeError,
    SizeError,
    SymgraphError,
    TargetError,
    UnusedInputError,
    VerifyError,
)
from .evaluate import evaluate
from .expr import Expr
from .from_sympy import from_sympy
from .grad import Lop, grad
from .leaves import (
    Shared,
    array,
    col,
    constant,
    matrix,
    row,
    scalar,
    shared,
    tensor3,
    tensor4,
    vector,
)
from .ops.agreement import *
from .ops.attention import *
from .ops.binary_floats import *
from .ops.contract import *
from .ops.conv import *
from .ops.creation import *
from .ops.define import cast
from .ops.einsum import einsum
from .ops.elementwise import *
from .ops.gamma_products import *
from .ops.gradient import (
    consider_constant,
    disconnected_grad,
    grad_clip,
    grad_scale,
    stop_gradient,
    surrogate_gradient,
    zero_grad,
)
from .ops.grids import *
from .ops.joining import *
from .ops.names import *
from .ops.nan_statistics import *
from .ops.nnet import *
from .ops.pool import *
from .ops.reduce import *
from .ops.resize import *
from .ops.running import *
from .ops.shaping import *
from .ops.statistics import *
from .ops.subtensor import inc_subtensor, set_subtensor
from .ops.take import *
from .show import debugprint

__version__ = "0.1.0"
newaxis = None

_LAZY_MODULES = {
    ".derivatives": "Rop hessian hvp jacobian",
    ".verify": "verify_grad",
    ".ops.branch": "cond ifelse",
    ".ops.loop": "loop",
    ".ops.scan": "scan until map reduce foldl foldr",
    ".ops.effects": "Print assert_ specify_shape",
    ".ops.random": "RandomStream RandomStreams=RandomStream MRG_RandomStreams=RandomStream",
    ".backends.function": "function Function In Out",
    ".backends.values": "save load",
    ".backends.aot": "Ahead compile_ahead",
    ".backends.targets": "Target target",
    ".backends.threads": "get_threads set_threads",
    ".typed_inputs": " ".join(
        [
            f"{letter}{kind}"
            for letter in "bwilufdcz"
            for kind in "scalar vector matrix row col tensor3 tensor4 tensor5 tensor6 tensor7 "
            "scalars vectors matrices rows cols tensor3s tensor4s".split()
        ]
        + ["tensor5 tensor6 tensor7 scalars vectors matrices rows cols tensor3s tensor4s"]
    ),
}
# public name -> (module, its name there)
_LAZY = {
    entry.partition("=")[0]: (module, entry.rpartition("=")[2])
    for module, entries in _LAZY_MODULES.items()
    for entry in entries.split()
}
_FLOORS = ("optim", "backends", "nn")

if TYPE_CHECKING:
    from .backends.aot import Ahead, compile_ahead
    from .backends.function import Function, In, Out, function
    from .backends.targets import Target, target
    from .backends.threads import get_threads, set_threads
    from .backends.values import load, save
    from .derivatives import Rop, hessian, hvp, jacobian
    from .ops.branch import cond, ifelse
    from .ops.effects import Print, assert_, specify_shape
    from .ops.loop import loop
    from .ops.random import RandomStream
    from .ops.scan import foldl, foldr, map, reduce, scan, until
    from .verify import verify_grad


def __getattr__(name: str) -> Any:
    if name in _FLOORS:
        return _importlib.import_module(f".{name}", __name__)
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, original = _LAZY[name]
    value = globals()[name] = getattr(_importlib.import_module(module, __name__), original)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_FLOORS})


# `from symgraph import *` leaves Python's own sum, min, abs, ... alone; sg.sum is always there.
__all__ = [
    name
    for name in dict.fromkeys([*globals(), *_LAZY])
    if not name.startswith("_")
    and not hasattr(_builtins, name)
    and name not in ("annotations", "Any", "TYPE_CHECKING", "e")
    and not isinstance(globals().get(name), type(_builtins))
]
