"""One formula in every library: the words it is written in, and how the library runs it.

    Dialect.build(formula) -> a builder of a contestant (benchmarks.harness)

A formula is a function of a dialect's words and the arguments: `lambda m, x: m.tanh(x) * x`. Words
have NumPy's meaning in every dialect; a word that a library has as one fused operation of its own
(torch's softmax) is that operation. Numba takes no formula: its loops are written out in
benchmarks.numba_loops, and a row names one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.timing import Statement

Formula = Callable[..., Any]
EPSILON = 1e-5  # of layer_norm

# --- numpy: also the meaning of every row, on float64 ---


def numpy_words() -> SimpleNamespace:
    from scipy import special

    return SimpleNamespace(
        tanh=np.tanh,
        sigmoid=special.expit,
        erf=special.erf,
        exp=np.exp,
        log=np.log,
        sum=np.sum,
        mean=np.mean,
        max=np.max,
        var=np.var,
        argmax=np.argmax,
        softmax=_numpy_softmax,
        layer_norm=_numpy_layer_norm,
        cross_entropy=_numpy_cross_entropy,
        transposed=lambda x: np.ascontiguousarray(x.T),
        concatenate=np.concatenate,
        relu=lambda x: np.maximum(x, 0),
        embedding=_numpy_embedding,
    )


def _numpy_softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _numpy_layer_norm(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=1, keepdims=True)
    variance = np.mean(centred * centred, axis=1, keepdims=True)
    return centred / np.sqrt(variance + x.dtype.type(EPSILON)) * scale + shift


def _numpy_cross_entropy(x: np.ndarray, labels: np.ndarray) -> tuple[Any, np.ndarray]:
    rows = np.arange(len(x))
    top = x.max(axis=1, keepdims=True)
    gradient = np.exp(x - top)
    total = gradient.sum(axis=1, keepdims=True)
    loss = np.mean(top[:, 0] + np.log(total[:, 0]) - x[rows, labels])
    gradient /= total
    gradient[rows, labels] -= 1
    gradient /= len(x)
    return loss, gradient


def _numpy_embedding(table: np.ndarray, words: np.ndarray, weights: np.ndarray) -> tuple[Any, Any]:
    gradient = np.zeros_like(table)
    np.add.at(gradient, words, weights)
    return table[words], gradient


def numpy(formula: Formula) -> Any:
    """NumPy, with SciPy for what NumPy lacks: one temporary for each operation."""

    def build(*arrays: np.ndarray) -> Statement:
        words = numpy_words()
        return Statement("f(m, *arrays)", f=formula, m=words, arrays=arrays)

    return build


def exact(formula: Formula) -> Any:
    """The formula's value in float64."""

    def value(*arrays: np.ndarray) -> Any:
        return formula(
            numpy_words(), *(a.astype("d") if a.dtype.kind == "f" else a for a in arrays)
        )

    return value


# --- symgraph ---


def symgraph(formula: Formula) -> Any:
    """Ours: compiled for the arguments' dtypes and ranks, for any sizes."""

    def build(*arrays: np.ndarray) -> Statement:
        import symgraph as sg

        names = "abcdefgh"[: len(arrays)]
        known: dict[int, str] = {}  # equal sizes are one symbolic size
        inputs = []
        for name, a in zip(names, arrays):
            shape = tuple(known.setdefault(size, f"n{len(known)}") for size in a.shape)
            inputs.append(sg.array(name, shape, a.dtype))
        f = sg.function(inputs, formula(_symgraph_words(), *inputs))
        return Statement(f"f({', '.join(names)})", f=f, **dict(zip(names, arrays)))

    return build


def _symgraph_words() -> SimpleNamespace:
    import symgraph as sg

    def cross_entropy(x: Any, labels: Any) -> tuple[Any, Any]:
        loss = sg.softmax_cross_entropy(x, labels).mean()
        return loss, sg.grad(loss, x)

    def embedding(table: Any, words: Any, weights: Any) -> tuple[Any, Any]:
        rows = sg.take(table, words, axis=0)
        return rows, sg.grad((rows * weights).sum(), table)

    own = "tanh sigmoid erf exp log sum mean max var argmax softmax concatenate relu".split()
    return SimpleNamespace(
        **{word: getattr(sg, word) for word in own},
        layer_norm=lambda x, scale, shift: sg.layer_norm(x, scale, shift, epsilon=EPSILON),
        cross_entropy=cross_entropy,
        embedding=embedding,
        transposed=lambda x: x.T,
    )


# --- jax ---


def jax(formula: Formula) -> Any:
    """jax.jit, waiting for the result."""

    def build(*arrays: np.ndarray) -> Statement:
        import jax

        words = _jax_words()
        f = jax.jit(lambda *x: formula(words, *x))
        x = tuple(map(jax.numpy.asarray, arrays))
        return Statement("wait(f(*x))", f=f, x=x, wait=jax.block_until_ready)

    return build


def _jax_words() -> SimpleNamespace:
    import jax
    import jax.numpy as jnp

    def layer_norm(x: Any, scale: Any, shift: Any) -> Any:
        centred = x - x.mean(axis=1, keepdims=True)
        variance = (centred * centred).mean(axis=1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + EPSILON) * scale + shift

    def cross_entropy(x: Any, labels: Any) -> Any:
        def loss(x: Any) -> Any:
            chosen = jnp.take_along_axis(jax.nn.log_softmax(x, axis=1), labels[:, None], axis=1)
            return -chosen.mean()

        return jax.value_and_grad(loss)(x)

    def embedding(table: Any, words: Any, weights: Any) -> Any:
        def loss(table: Any) -> Any:
            rows = table[words]
            return (rows * weights).sum(), rows

        gradient, rows = jax.grad(loss, has_aux=True)(table)
        return rows, gradient

    own = "tanh exp log sum mean max var argmax concatenate".split()
    return SimpleNamespace(
        **{word: getattr(jnp, word) for word in own},
        sigmoid=jax.nn.sigmoid,
        erf=jax.scipy.special.erf,
        softmax=lambda x: jax.nn.softmax(x, axis=1),
        relu=jax.nn.relu,
        layer_norm=layer_norm,
        cross_entropy=cross_entropy,
        embedding=embedding,
        transposed=lambda x: x.T,
    )


# --- torch ---


def torch(formula: Formula) -> Any:
    """torch, eager."""

    def build(*arrays: np.ndarray) -> Statement:
        import torch

        torch.set_num_threads(threads())
        words = _torch_words()
        x = tuple(map(torch.from_numpy, arrays))
        return Statement("f(m, *x)", f=formula, m=words, x=x)

    return build


def threads() -> int:
    """How many threads the benchmark's options ask for."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def _torch_words() -> SimpleNamespace:
    import torch
    from torch.nn import functional

    def cross_entropy(x: Any, labels: Any) -> tuple[Any, Any]:
        leaf = x.detach().requires_grad_()
        loss = functional.cross_entropy(leaf, labels)
        return loss.detach(), torch.autograd.grad(loss, leaf)[0]

    def embedding(table: Any, words: Any, weights: Any) -> tuple[Any, Any]:
        leaf = table.detach().requires_grad_()
        rows = functional.embedding(words, leaf)
        return rows.detach(), torch.autograd.grad(rows, leaf, weights)[0]

    own = "tanh sigmoid erf exp log sum mean argmax relu".split()
    return SimpleNamespace(
        **{word: getattr(torch, word) for word in own},
        max=lambda x, axis: x.max() if axis is None else torch.amax(x, axis),
        var=lambda x, axis: torch.var(x, axis, correction=0),
        softmax=lambda x: torch.softmax(x, 1),
        layer_norm=lambda x, scale, shift: functional.layer_norm(
            x, (x.shape[1],), scale, shift, EPSILON
        ),
        cross_entropy=cross_entropy,
        embedding=embedding,
        transposed=lambda x: x.T.contiguous(),
        concatenate=torch.cat,
    )


# --- pytensor ---


def pytensor(formula: Formula) -> Any:
    """pytensor with its default linker."""

    def build(*arrays: np.ndarray) -> Statement:
        import pytensor
        import pytensor.tensor as pt

        inputs = [pt.tensor(dtype=a.dtype.name, shape=(None,) * a.ndim) for a in arrays]
        made = formula(_pytensor_words(), *inputs)
        f = pytensor.function(inputs, list(made) if isinstance(made, tuple) else made)
        return Statement("f(*arrays)", f=f, arrays=arrays)

    return build


def _pytensor_words() -> SimpleNamespace:
    import pytensor
    import pytensor.tensor as pt

    def layer_norm(x: Any, scale: Any, shift: Any) -> Any:
        centred = x - x.mean(axis=1, keepdims=True)
        variance = (centred * centred).mean(axis=1, keepdims=True)
        return centred / pt.sqrt(variance + np.float32(EPSILON)) * scale + shift

    def cross_entropy(x: Any, labels: Any) -> tuple[Any, Any]:
        chosen = pt.special.log_softmax(x, axis=1)[pt.arange(x.shape[0]), labels]
        loss = -chosen.mean(dtype="float32")
        return loss, pytensor.grad(loss, x)

    def embedding(table: Any, words: Any, weights: Any) -> tuple[Any, Any]:
        rows = table[words]
        return rows, pytensor.grad((rows * weights).sum(), table)

    own = "tanh sigmoid erf exp log sum mean max var argmax concatenate".split()
    return SimpleNamespace(
        **{word: getattr(pt, word) for word in own},
        softmax=lambda x: pt.special.softmax(x, axis=1),
        relu=lambda x: pt.maximum(x, 0),
        layer_norm=layer_norm,
        cross_entropy=cross_entropy,
        embedding=embedding,
        transposed=lambda x: x.T.copy(),
    )


# --- numba ---


def numba(loop: str) -> Any:
    """The loop of this name in benchmarks.numba_loops."""

    def build(*arrays: np.ndarray) -> Statement:
        from benchmarks import numba_loops

        return Statement("f(*arrays)", f=getattr(numba_loops, loop), arrays=arrays)

    return build
