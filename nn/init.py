"""Initial values: functions of a shape and a generator, and what makes a parameter of one.

An initializer is any function (shape, generator) -> array. functools.partial gives options:
    Dense(784, 500, weight=partial(normal, std=0.02), rng=0)
Draws come from NumPy's Philox generator, so a seed fixes every value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from symgraph.dtypes import default_float
from symgraph.dtypes import dtype as as_dtype
from symgraph.errors import GraphError, ShapeError
from symgraph.expr import user_site
from symgraph.leaves import Shared, shared

Initializer = Callable[[Sequence[int], np.random.Generator], np.ndarray]


def generator(seed: int | np.random.Generator) -> np.random.Generator:
    """A Philox generator from a seed; a generator is handed through, to draw on from it."""
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or int(seed) < 0:
        raise GraphError(
            f"rng: expected a seed >= 0 or a numpy Generator, got {seed!r}", site=user_site()
        )
    return np.random.Generator(np.random.Philox(int(seed)))


def parameter(
    value: Initializer | Any,
    shape: Sequence[int],
    rng: int | np.random.Generator,
    name: str,
    dtype: Any = None,
) -> Shared:
    """A shared variable with an initial value.

    value: an initializer, a number, or an array of that shape. dtype: default float unless given.
    Raises: ShapeError, naming the parameter.
    """
    d = default_float() if dtype is None else as_dtype(dtype)
    shape = tuple(shape)
    if callable(value):
        array = np.asarray(value(shape, generator(rng)))
    else:
        array = np.asarray(value)
        array = np.full(shape, array) if not array.ndim else array
    if array.shape != shape:
        raise ShapeError(
            f"{name}: expected an initial value of shape {shape}, got {array.shape}",
            site=user_site(),
        )
    return shared(array.astype(d.np), name)


def zeros(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Zeros."""
    return np.zeros(shape)


def ones(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Ones."""
    return np.ones(shape)


def constant(shape: Sequence[int], rng: np.random.Generator, value: float = 0.0) -> np.ndarray:
    """One value."""
    return np.full(shape, float(value))


def normal(
    shape: Sequence[int], rng: np.random.Generator, mean: float = 0.0, std: float = 0.01
) -> np.ndarray:
    """Normally distributed numbers."""
    return rng.normal(mean, std, shape)


def uniform(
    shape: Sequence[int], rng: np.random.Generator, low: float = -0.05, high: float = 0.05
) -> np.ndarray:
    """Numbers in [low, high)."""
    return rng.uniform(low, high, shape)


def glorot_uniform(shape: Sequence[int], rng: np.random.Generator, gain: float = 1.0) -> np.ndarray:
    """Uniform with variance gain^2 * 2 / (fan_in + fan_out): tanh and linear layers.

    Source: Glorot and Bengio 2010, equation 16.
    """
    return _uniform(shape, rng, gain * math.sqrt(2 / sum(fans(shape))))


def glorot_normal(shape: Sequence[int], rng: np.random.Generator, gain: float = 1.0) -> np.ndarray:
    """Normal with variance gain^2 * 2 / (fan_in + fan_out).

    Source: Glorot and Bengio 2010, equation 12.
    """
    return rng.normal(0.0, gain * math.sqrt(2 / sum(fans(shape))), shape)


def he_uniform(
    shape: Sequence[int], rng: np.random.Generator, gain: float = math.sqrt(2)
) -> np.ndarray:
    """Uniform with variance gain^2 / fan_in; the default gain is that of relu.

    Source: He et al. 2015, equation 10.
    """
    return _uniform(shape, rng, gain / math.sqrt(fans(shape)[0]))


def he_normal(
    shape: Sequence[int], rng: np.random.Generator, gain: float = math.sqrt(2)
) -> np.ndarray:
    """Normal with variance gain^2 / fan_in; the default gain is that of relu.

    Source: He et al. 2015, equation 10.
    """
    return rng.normal(0.0, gain / math.sqrt(fans(shape)[0]), shape)


def lecun_uniform(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Uniform with variance 1 / fan_in.

    Source: LeCun et al., Efficient BackProp, 1998, section 4.6.
    """
    return he_uniform(shape, rng, gain=1.0)


def lecun_normal(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Normal with variance 1 / fan_in, as selu needs it.

    Source: LeCun et al., Efficient BackProp, 1998, section 4.6; Klambauer et al. 2017.
    """
    return he_normal(shape, rng, gain=1.0)


def orthogonal(shape: Sequence[int], rng: np.random.Generator, gain: float = 1.0) -> np.ndarray:
    """gain times a random matrix with orthonormal columns, or rows if there are fewer of them.

    More than two axes: the axes after the first are taken as one.
    Source: Saxe et al. 2014; Mezzadri 2007 for the signs, which make it uniformly distributed.
    """
    if len(shape) < 2:
        raise ShapeError(f"orthogonal: expected rank 2 or more, got shape {tuple(shape)}")
    rows, columns = shape[0], math.prod(shape[1:])
    tall = rng.normal(size=(max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    return gain * (q if rows >= columns else q.T).reshape(shape)


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """How many inputs feed one output, and how many outputs one input feeds.

    [inputs, outputs] of a matrix; [outputs, inputs, *window] of a convolution's kernel.
    """
    if len(shape) < 2:
        raise ShapeError(f"initializer: expected rank 2 or more, got shape {tuple(shape)}")
    if len(shape) == 2:
        fan_in, fan_out = shape
    else:
        window = math.prod(shape[2:])
        fan_in, fan_out = shape[1] * window, shape[0] * window
    return max(1, fan_in), max(1, fan_out)


def _uniform(shape: Sequence[int], rng: np.random.Generator, std: float) -> np.ndarray:
    """Uniform numbers of mean 0 and a standard deviation."""
    limit = math.sqrt(3) * std
    return rng.uniform(-limit, limit, shape)
