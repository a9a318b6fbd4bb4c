"""Checking derivatives against finite differences: `verify_grad` for op authors and tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arraytype import Array
from .errors import VerifyError
from .evaluate import evaluate
from .expr import Expr
from .grad import grad
from .leaves import array, constant


def verify_grad(
    fun: Callable[..., Any],
    points: Sequence[Any],
    *,
    tests: int = 2,
    rng: Any = 0,
    eps: float = 1e-3,
    abs_tol: float = 1e-6,
    rel_tol: float = 1e-6,
    make: Callable[..., Callable[..., Any]] | None = None,
) -> None:
    """Compare the gradient of `fun` at `points` with finite differences in float64.

    fun: takes one expression per point, returns one expression or a list. points: arrays; floats
    (and complexes) are differentiated in double precision, others held fixed. Each test projects
    the results on random weights, so that one scalar stands for the whole Jacobian. Differences are
    central with two Richardson steps (error of order eps^6); eps is relative to max(|x|, 1). The
    caller keeps points away from kinks. make(inputs, outputs): compiles what is computed, as
    symgraph.function does; NumPy evaluates it unless given.

    Raises: VerifyError naming the worst element, its analytic and its numeric derivative.
    """
    values = [_double(p) for p in points]
    inputs = [array(f"x{i}", v.shape, v.dtype) for i, v in enumerate(values)]
    results = fun(*inputs)
    outputs = list(results) if isinstance(results, (list, tuple)) else [results]
    generator = np.random.default_rng(rng)
    moving = [i for i, v in enumerate(values) if v.dtype.kind in "fc"]
    shapes = [evaluate(y, dict(zip(inputs, values))).shape for y in outputs]
    compile_ = make or _evaluator
    for _ in range(tests):
        weights = [_weights(y.array_type, s, generator) for y, s in zip(outputs, shapes)]
        cost = _projection(outputs, weights)
        slopes = grad(cost, [inputs[i] for i in moving], disconnected_inputs="zero")
        analytic = compile_(inputs, slopes)(*values)
        at = compile_(inputs, cost)
        for i, found in zip(moving, analytic):
            numeric = _numeric(at, values, i, eps)
            _compare(f"argument {i}", found, numeric, abs_tol, rel_tol)


def _double(point: Any) -> np.ndarray:
    x = np.asarray(point)
    kind = "f" if x.dtype.kind == "V" or x.dtype.name == "bfloat16" else x.dtype.kind
    return x.astype({"f": np.float64, "c": np.complex128}.get(kind, x.dtype))


def _weights(type: Array, shape: tuple[int, ...], generator: np.random.Generator) -> Any:
    """Weights in [0.5, 1.5] with random signs: none so small that it hides an error."""

    def draw() -> np.ndarray:
        return generator.uniform(0.5, 1.5, shape) * generator.choice([-1.0, 1.0], shape)

    return (draw(), draw()) if type.dtype.kind == "c" else (draw(), None)


def _projection(outputs: Sequence[Expr], weights: Sequence[Any]) -> Expr:
    """sum(weights * outputs) as a real scalar; imaginary parts have weights of their own."""
    from .ops.elementwise import imag, real

    total: Any = None
    for y, (w, v) in zip(outputs, weights):
        term = (real(y) * constant(w, "float64")).sum()
        if v is not None:
            term = term + (imag(y) * constant(v, "float64")).sum()
        total = term if total is None else total + term
    return total


def _evaluator(inputs: Sequence[Expr], outputs: Any) -> Callable[..., Any]:
    """What `make` gives, by NumPy."""
    return lambda *values: evaluate(outputs, dict(zip(inputs, values)))


def _numeric(
    cost: Callable[..., Any], values: Sequence[np.ndarray], i: int, eps: float
) -> np.ndarray:
    """The derivative of the cost with respect to each element of values[i]."""
    base = values[i]
    result = np.zeros(base.shape, base.dtype)

    def at(moved: np.ndarray) -> float:
        return float(cost(*[moved if k == i else v for k, v in enumerate(values)]))

    for index in np.ndindex(base.shape):
        for unit in (1.0, 1j) if base.dtype.kind == "c" else (1.0,):
            slope = _slope(at, base, index, unit, eps * max(float(abs(base[index])), 1.0))
            result[index] += slope * np.conj(unit)  # df/dx - i df/dy, as grad has it
    return result


def _slope(
    at: Callable[[np.ndarray], float], base: np.ndarray, index: Any, unit: Any, step: float
) -> float:
    """Central differences at step, step/2, step/4, extrapolated to step 0."""
    rows = []
    for h in (step, step / 2, step / 4):
        up, down = base.copy(), base.copy()
        up[index] += h * unit
        down[index] -= h * unit
        rows.append((at(up) - at(down)) / (2 * h))
    first = [(4 * fine - coarse) / 3 for coarse, fine in zip(rows, rows[1:])]
    return (16 * first[1] - first[0]) / 15


def _compare(
    what: str, analytic: np.ndarray, numeric: np.ndarray, abs_tol: float, rel_tol: float
) -> None:
    scale = float(np.max(np.abs(numeric), initial=0.0))
    error = np.abs(np.asarray(analytic) - numeric)
    bad = ~(error <= abs_tol + rel_tol * np.maximum(np.abs(numeric), scale))
    if not bad.any():
        return
    worst = np.unravel_index(int(np.argmax(np.where(np.isnan(error), np.inf, error))), error.shape)
    place = f"[{', '.join(map(str, map(int, worst)))}]" if worst else ""
    raise VerifyError(
        f"verify_grad: {what}{place}: the gradient is {analytic[worst]}, "
        f"finite differences give {numeric[worst]} "
        f"(error {error[worst]:.3g}; {int(bad.sum())} of {bad.size} elements differ)"
    )
