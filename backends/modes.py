"""The modes beside native: reference (NumPy), check_nan, and debug (every stage compared).

reference   each op's own meaning, node by node; needs no compiler
check_nan   the same, and the first expression that turns finite numbers into NaN or infinity is an
error debug       the native function, with every call also evaluated as written, as rewritten, and
(if small) as loops
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from symgraph import dims, guards
from symgraph.dims import Atom
from symgraph.dtypes import dtype
from symgraph.errors import NonFiniteError, VerifyError
from symgraph.evaluate import bind_sizes, evaluate
from symgraph.expr import Expr
from symgraph.leaves import Shared

from ..optim.pipeline import checked_names, optimize
from .calls import Core, Function
from .ctypes_calls import native
from .options import Options
from .request import Request
from .rounding import spread
from .signature import Signature
from .stages import Stages

SIMULATED_WORK = 100_000  # element-operations up to which debug mode also interprets the loops
NOISE = 16.0  # how far results may lie apart, in changes that other roundings make
REPORT = "please report it with the program that shows it"
TOLERANCE = {
    "float16": 2e-2,
    "bfloat16": 1e-1,
    "float32": 2e-4,
    "float64": 1e-11,
    "complex64": 2e-4,
    "complex128": 1e-11,
}


def in_mode(
    mode: str, request: Request, signature: Signature, options: Options, stages: Stages, *rest: Any
) -> Function:
    """The Function of a request in another mode than native."""
    checked_names(options.exclude)
    if mode == "debug":
        return DebugFunction(request, signature, options, stages, *rest)
    return {"reference": ReferenceFunction, "check_nan": CheckedFunction}[mode](
        request, signature, *rest
    )


class ReferenceFunction(Function):
    """Evaluates the graph as written, in NumPy."""

    mode = "reference"

    def __call__(self, *args: Any, **named: Any) -> Any:
        arrays = self.signature.convert(self.signature.arrange(args, named))
        with locked(self.shared):
            outputs, new = self._evaluate(arrays)
            for (w, _), value in zip(self.request.updates, new):
                w.set_value(value, borrow=True)
        return packed(self.request, outputs)

    def _evaluate(self, arrays: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Outputs and new values, all fresh arrays."""
        return split(
            self.request, evaluated(self.request, self.request.roots, arrays, self._observe)
        )

    _observe: Callable[[Expr, Any], None] | None = None


class CheckedFunction(ReferenceFunction):
    """Raises NonFiniteError for the first expression that gives NaN or infinity."""

    mode = "check_nan"

    def _observe(self, node: Expr, value: Any) -> None:
        parts = value if isinstance(value, tuple) else (value,)
        for part in parts:
            if part.dtype.kind in "fcV" and not np.isfinite(part).all():
                at = tuple(int(i) for i in np.argwhere(~np.isfinite(part))[0])
                bad = part[at]
                where = f" at {list(at)}" if at else ""
                count = np.count_nonzero(~np.isfinite(part))
                raise NonFiniteError(
                    f"{node.label}: {bad}{where}; {count} of {part.size} elements are not finite",
                    site=node.site,
                    operands=node.inputs,
                )


def evaluated(
    request: Request, roots: Sequence[Expr], arrays: Sequence[np.ndarray], observe: Any = None
) -> list[np.ndarray]:
    """Values of expressions for a call's arguments, each a fresh array.  Raises ShapeError."""
    given, sizes = given_values(request, arrays)
    for guard, node in request.guards:
        guards.check(guard, sizes, list(given), node.site)
    values = evaluate(list(roots), given, observe=observe, sizes=sizes)
    return [np.array(v, order="C", copy=True, subok=False) for v in values]


def given_values(
    request: Request, arrays: Sequence[np.ndarray]
) -> tuple[dict[Expr, Any], dict[Atom, Any]]:
    """Values of inputs and shared variables, and the sizes that they show."""
    given: dict[Expr, Any] = dict(zip(request.inputs, arrays))
    given.update({w: w.get_value(borrow=True) for w in request.shared})
    return given, bind_sizes(given)


def split(
    request: Request, values: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Outputs, new values of shared variables."""
    n = len(request.outputs)
    return list(values[:n]), list(values[n:])


def packed(request: Request, outputs: Sequence[np.ndarray]) -> Any:
    """Outputs in the form the user asked for."""
    if request.result == "single":
        return outputs[0]
    if request.result == "dict":
        return dict(zip(request.keys, outputs))
    return list(outputs) if request.result == "list" else tuple(outputs)


@contextlib.contextmanager
def locked(variables: Sequence[Shared]) -> Iterator[None]:
    """Exclusive access to shared variables, taken in the order of their ids."""
    with contextlib.ExitStack() as stack:
        for w in sorted(variables, key=lambda w: w.uid):
            stack.enter_context(w.lock)
        yield


# --- debug ---


class Difference(NamedTuple):
    """Where two stages part."""

    which: str  # "output 0", "new value of w"
    at: tuple[int, ...]
    expected: Any
    got: Any

    def __str__(self) -> str:
        where = f" at {list(self.at)}" if self.at else ""
        return f"{self.which}{where}: expected {self.expected}, got {self.got}"


class DebugFunction(Function):
    """Compares every stage with the reference on each call."""

    mode = "debug"

    def __init__(
        self, request: Request, signature: Signature, options: Options, stages: Stages, *rest: Any
    ):
        super().__init__(request, signature, *rest)
        from .build import build

        listed = request._replace(result="list")
        built = build(listed, options, stages)
        stages.finish()
        self._options = options
        self._planned = built.planned
        self.core = Core(built.code, built.code.contract.shared, ())
        self._native = native(self.core, listed, signature, *rest)

    def __call__(self, *args: Any, **named: Any) -> Any:
        arrays = self.signature.convert(self.signature.arrange(args, named))
        before = [a.copy() for a in arrays]
        with locked(self.shared):
            old = [w.get_value() for w in self.shared]
            expected = evaluated(self.request, self.request.roots, arrays)
            noise = _Noise(self.request, arrays, expected)
            self._check_rewrites(arrays, expected, noise)
            self._simulate(arrays, old, expected, noise)
        return self._run(arrays, before, old, expected, noise)

    def _simulate(
        self,
        arrays: Sequence[np.ndarray],
        old: Sequence[np.ndarray],
        expected: Sequence[np.ndarray],
        noise: _Noise,
    ) -> None:
        from .driver import total_work
        from .simulate import simulate

        program = self._planned.program
        sizes = self.core.contract.sizes(arrays, old) if self.core is not None else {}
        if dims.evaluate_dim(total_work(program), sizes) > SIMULATED_WORK:
            return
        values: dict[Expr, np.ndarray] = dict(zip(self.shared, old))
        outputs, state = simulate(program, arrays, [values[w] for w in program.shared])
        new = dict(zip(program.shared, state))
        self._check(
            "loops", expected, [*outputs, *(new[w] for w, _ in self.request.updates)], noise
        )

    def _run(
        self,
        arrays: Sequence[np.ndarray],
        before: Sequence[np.ndarray],
        old: Sequence[np.ndarray],
        expected: Sequence[np.ndarray],
        noise: _Noise,
    ) -> Any:
        outputs = list(self._native(*arrays))
        try:
            new = [w.get_value() for w, _ in self.request.updates]
            self._check("machine code", expected, [*outputs, *new], noise)
            self._check_memory(arrays, before, outputs)
        except VerifyError:
            for w, value in zip(self.shared, old):
                w.set_value(value)
            raise
        return packed(self.request, outputs)

    def _check_memory(
        self,
        arrays: Sequence[np.ndarray],
        before: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
    ) -> None:
        for name, a, b in zip(self.signature.names, arrays, before):
            if a.tobytes() != b.tobytes():
                raise VerifyError(f"{self.signature}: the call changed its argument {name}")
        others = [*arrays, *(w.get_value(borrow=True) for w in self.shared)]
        for i, out in enumerate(outputs):
            if any(np.may_share_memory(out, o) for o in [*others, *outputs[:i]]):
                raise VerifyError(f"{self.signature}: output {i} shares memory with something else")

    def _check(
        self,
        stage: str,
        expected: Sequence[np.ndarray],
        got: Sequence[np.ndarray],
        noise: _Noise,
    ) -> None:
        found = self._difference(expected, got, noise)
        if found is not None:
            number, what = found
            site = self.request.roots[number].site
            raise VerifyError(f"{self.signature}: {stage} changed {what}", site=site, hint=REPORT)

    def _difference(
        self, expected: Sequence[np.ndarray], got: Sequence[np.ndarray], noise: _Noise
    ) -> tuple[int, Difference] | None:
        """The first result that parts from the reference, and where."""
        n = len(self.request.outputs)
        for i, (e, g) in enumerate(zip(expected, got)):
            which = f"output {i}"
            if i >= n:
                which = f"new value of {self.request.updates[i - n][0].label}"
            found = difference(which, e, g, partial(noise.__getitem__, i))
            if found is not None:
                return i, found
        return None

    def _check_rewrites(
        self, arrays: Sequence[np.ndarray], expected: Sequence[np.ndarray], noise: _Noise
    ) -> None:
        """Compare the rewritten graph; a difference is traced to the firing that made it."""
        for a, b in zip(self.request.roots, self._planned.outputs):
            if not a.array_type.accepts(b.array_type):
                raise VerifyError(f"rewriting changed {a.type} to {b.type}", site=a.site)
        found = self._difference(
            expected, evaluated(self.request, self._planned.outputs, arrays), noise
        )
        if found is None:
            return
        good, bad = 0, len(self._planned.journal)
        while bad - good > 1:
            middle = (good + bad) // 2
            partly, _ = optimize(
                self.request.roots, self._options.optimize, self._options.exclude, limit=middle
            )
            parted = self._difference(expected, evaluated(self.request, partly, arrays), noise)
            if parted is None:
                good = middle
            else:
                bad, found = middle, parted
        firing = list(self._planned.journal)[bad - 1]
        raise VerifyError(
            f"{self.signature}: rule {firing.rule!r} ({firing.family}) changed {found[1]}",
            site=firing.site,
            hint=f"leave it out with exclude=[{firing.rule!r}]",
        )


class _Noise:
    """How far each result moves when operations round another way; computed if asked."""

    def __init__(
        self, request: Request, arrays: Sequence[np.ndarray], expected: Sequence[np.ndarray]
    ):
        self._request, self._arrays, self._expected = request, arrays, expected
        self._moved: list[np.ndarray] | None = None

    def __getitem__(self, i: int) -> np.ndarray:
        if self._moved is None:
            given, sizes = given_values(self._request, self._arrays)
            self._moved = spread(self._request.roots, given, sizes, self._expected)
        return self._moved[i]


def difference(
    which: str, expected: np.ndarray, got: np.ndarray, noise: Callable[[], np.ndarray]
) -> Difference | None:
    """The worst element where two arrays part by more than rounding explains, or None.

    Integers and booleans must be equal, floats within TOLERANCE of the largest magnitude; beyond
    that an element may differ by NOISE times what other roundings do to it.
    """
    if expected.dtype != got.dtype or expected.shape != got.shape:
        return Difference(
            which, (), f"{expected.dtype}{list(expected.shape)}", f"{got.dtype}{list(got.shape)}"
        )
    bad = _bad(expected, got, 0.0)
    if bad.any():
        bad &= _bad(expected, got, NOISE * noise())
    if not bad.any():
        return None
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    return Difference(which, index, expected[index], got[index])


def _bad(expected: np.ndarray, got: np.ndarray, allowed: Any) -> np.ndarray:
    """Elements that differ by more than tolerance and `allowed`."""
    wide = (
        np.complex128
        if expected.dtype.kind == "c"
        else np.float64
        if expected.dtype.kind in "fV"
        else expected.dtype
    )
    e, g = expected.astype(wide), got.astype(wide)
    if e.dtype.kind not in "fc":
        return (e != g) & ~(np.asarray(allowed) > 0)
    with np.errstate(all="ignore"):
        finite = np.isfinite(e)
        scale = float(np.abs(e[finite]).max()) if finite.any() else 0.0
        limit = TOLERANCE[dtype(expected.dtype)] * scale + allowed
        close = np.abs(e - g) <= limit
    same = (e == g) | (np.isnan(e) & np.isnan(g))
    return ~(same | (finite & np.isfinite(g) & close) | np.isinf(np.broadcast_to(allowed, e.shape)))
