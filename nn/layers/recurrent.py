"""Recurrent layers: a state carried along a sequence by a scan, one product for all gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from symgraph.expr import Expr
from symgraph.ops.creation import zeros
from symgraph.ops.elementwise import sigmoid, tanh
from symgraph.ops.movement import flip_axes
from symgraph.ops.scan import scan

from ..init import Initializer, generator, glorot_uniform, orthogonal, parameter
from .layer import Layer


class Recurrent(Layer):
    """Base of recurrent layers.   x: [steps, n, inputs] -> the states [steps, n, size].

    What x gives to the gates of all steps is one product before the loop; a step adds one product,
    of its state by `recurrent` [size, gates * size], whose columns are the gates' in turn, as those
    of `weight` [inputs, gates * size]. weight, recurrent: initializers, drawn for each gate by
    itself, or arrays. reverse: from the last step to the first; states lie at their step's place.
    """

    gates: ClassVar[int]
    carried: ClassVar[int] = 1  # states, the first of which is the result

    def __init__(
        self,
        inputs: int,
        size: int,
        *,
        rng: int | np.random.Generator,
        weight: Initializer | Any = glorot_uniform,
        recurrent: Initializer | Any = orthogonal,
        bias: Initializer | Any = 0.0,
        reverse: bool = False,
        name: str = "recurrent",
        dtype: Any = None,
    ):
        rng = generator(rng)
        self.size, self.reverse = size, reverse
        self.weight, self.recurrent = (
            parameter(
                self._each_gate(w, (rows, size), rng),
                (rows, self.gates * size),
                rng,
                f"{name}.{part}",
                dtype,
            )
            for part, w, rows in (("weight", weight, inputs), ("recurrent", recurrent, size))
        )
        self.bias = parameter(bias, (self.gates * size,), rng, f"{name}.bias", dtype)

    def _each_gate(self, w: Any, shape: tuple[int, int], rng: np.random.Generator) -> Any:
        """Fans are those of a gate, not of all of them side by side."""
        if not callable(w):
            return w
        return np.concatenate([w(shape, rng) for _ in range(self.gates)], axis=1)

    def __call__(self, x: Expr, deterministic: bool = False) -> Expr:
        states = [
            zeros((x.array_type.shape[1], self.size), self.weight.dtype)
            for _ in range(self.carried)
        ]
        return self.run(x, states)[0]

    def run(self, x: Expr, states: Sequence[Expr]) -> list[Expr]:
        """Every state at every step, from initial states [n, size]."""
        given = x @ self.weight + self.bias
        stacked, _ = scan(
            self.step, given, list(states), go_backwards=self.reverse, return_list=True
        )
        return [flip_axes(s, (0,)) for s in stacked] if self.reverse else stacked

    def step(self, given: Expr, *states: Expr) -> list[Expr]:
        """The states [n, size] after a step.   given: x @ weight + bias of the step."""
        raise NotImplementedError(f"{type(self).__name__} lacks step(given, *states)")

    def parts(self, x: Expr) -> list[Expr]:
        """Gate by gate what lies side by side."""
        return [x[..., k * self.size : (k + 1) * self.size] for k in range(self.gates)]

    def describe(self) -> str:
        return f"{self.weight.array_type.shape[0]} -> {self.size}" + ", reverse" * self.reverse


class RNN(Recurrent):
    """h = tanh(x @ weight + bias + h @ recurrent).   x: [steps, n, inputs] -> [steps, n, size]

    Arguments as Recurrent's.   Source: Elman 1990.
    """

    gates = 1

    def step(self, given: Expr, *states: Expr) -> list[Expr]:
        (h,) = states
        return [tanh(given + h @ self.recurrent)]


class LSTM(Recurrent):
    """Long short-term memory; the gates are input, forget, candidate, output.

    c = f * c + i * g,  h = o * tanh(c).   x: [steps, n, inputs] -> h [steps, n, size]; `run` has c
    too. Arguments as Recurrent's; forget: added to that gate's bias, to begin with remembering.
    Source: Hochreiter and Schmidhuber 1997, Gers et al. 2000.
    """

    gates, carried = 4, 2

    def __init__(self, inputs: int, size: int, *, forget: float = 1.0, **named: Any):
        super().__init__(inputs, size, **named)
        bias = self.bias.get_value()
        bias[size : 2 * size] += forget
        self.bias.set_value(bias)

    def step(self, given: Expr, *states: Expr) -> list[Expr]:
        h, c = states
        i, f, g, o = self.parts(given + h @ self.recurrent)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return [sigmoid(o) * tanh(c), c]


class GRU(Recurrent):
    """Gated recurrent unit; the gates are reset, update, candidate.

    g = tanh(x's part + r * (h @ recurrent's part + inner)),  h = g + z * (h - g).
    x: [steps, n, inputs] -> [steps, n, size]. Arguments as Recurrent's; inner: the candidate's
    second bias.   Source: Cho et al. 2014, with the reset behind the product, so that there is one.
    """

    gates = 3

    def __init__(
        self, inputs: int, size: int, *, inner: Initializer | Any = 0.0, rng: Any, **named: Any
    ):
        rng = generator(rng)
        super().__init__(inputs, size, rng=rng, **named)
        label = f"{named.get('name', 'recurrent')}.inner"
        self.inner = parameter(inner, (size,), rng, label, named.get("dtype"))

    def step(self, given: Expr, *states: Expr) -> list[Expr]:
        (h,) = states
        xr, xz, xg = self.parts(given)
        hr, hz, hg = self.parts(h @ self.recurrent)
        r, z = sigmoid(xr + hr), sigmoid(xz + hz)
        g = tanh(xg + r * (hg + self.inner))
        return [g + z * (h - g)]
