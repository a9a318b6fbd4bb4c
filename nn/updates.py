"""Update rules: how parameters move along their gradients, as pairs for function(updates=...).

    adam = Adam(1e-3)
    train = sg.function([x, t], cost, updates=adam.minimize(cost, model.parameters()))
or, with the gradients in hand,
    updates = adam(parameters, clip_by_norm(sg.grad(cost, parameters), 1.0))

A rule owns its state: the step counter and what it remembers of each parameter are shared
variables, found under `variables()`. g is the gradient of a parameter p, r the rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

import symgraph as sg
from symgraph.dtypes import float64
from symgraph.errors import GraphError
from symgraph.expr import Expr, user_site
from symgraph.leaves import Shared, lift, shared
from symgraph.ops.reduce import computed_in

from .schedules import Schedule

Pairs = list[tuple[Shared, Expr]]
Clip = Callable[[Sequence[Expr]], Sequence[Expr]]


class Update:
    """Base of update rules; a subclass says how one parameter moves.

    rate: a number, a schedule, or a scalar expression (a shared variable can be set between calls).
    """

    def __init__(self, rate: float | Schedule | Expr):
        self.rate = rate
        self.step = shared(np.int64(0), "step")
        self._memory: dict[str, Shared] = {"step": self.step}

    def minimize(self, cost: Expr, parameters: Sequence[Shared], clip: Clip | None = None) -> Pairs:
        """Updates that make a scalar cost smaller. clip: what is done to the gradients first."""
        gradients: Sequence[Expr] = sg.grad(cost, list(parameters))
        return self(parameters, clip(gradients) if clip is not None else gradients)

    def __call__(self, parameters: Sequence[Shared], gradients: Sequence[Expr]) -> Pairs:
        """Updates of parameters whose gradients are given."""
        if len(parameters) != len(gradients):
            raise GraphError(
                f"{type(self).__name__}: {len(parameters)} parameters, {len(gradients)} gradients",
                site=user_site(),
            )
        step = self.step.astype(float64)
        rate = lift(self.rate(step) if callable(self.rate) else self.rate, float64)
        pairs: Pairs = [(self.step, self.step + 1)]
        for p, g in zip(parameters, gradients):
            if not isinstance(p, Shared):
                raise GraphError(
                    f"{type(self).__name__}: {p.label} is not a shared variable", site=user_site()
                )
            pairs += self.move(p, g, rate.astype(p.dtype), step + 1)
        return pairs

    def move(self, p: Shared, g: Expr, r: Expr, t: Expr) -> Pairs:
        """New values of one parameter and its state.

        r has the parameter's dtype, t counts from 1 (float64).
        """
        raise NotImplementedError(f"{type(self).__name__} lacks move(p, g, r, t)")

    def memory(self, p: Shared, what: str) -> Shared:
        """A state variable like p that starts with zeros."""
        name, copies = f"{p.label}.{what}", 2
        while name in self._memory:
            name, copies = f"{p.label}.{what}.{copies}", copies + 1
        made = shared(np.zeros_like(p.get_value(borrow=True)), name)
        self._memory[name] = made
        return made

    def variables(self) -> dict[str, Shared]:
        """The rule's state by name."""
        return dict(self._memory)


class SGD(Update):
    """p - r g."""

    def __init__(self, rate: float | Schedule | Expr = 0.01):
        super().__init__(rate)

    def move(self, p: Shared, g: Expr, r: Expr, t: Expr) -> Pairs:
        return [(p, p - r * g)]


class Momentum(Update):
    """v' = momentum v - r g;  p + v'.   Source: Polyak 1964; Sutskever et al. 2013, equation 1."""

    def __init__(self, rate: float | Schedule | Expr = 0.01, momentum: float = 0.9):
        super().__init__(rate)
        self.momentum = momentum

    def move(self, p: Shared, g: Expr, r: Expr, t: Expr) -> Pairs:
        v = self.memory(p, "velocity")
        faster = self.momentum * v - r * g
        return [(v, faster), (p, p + faster)]


class Nesterov(Momentum):
    """v' = momentum v - r g;  p + momentum v' - r g.

    p is the point that the momentum leads to, where the gradient is taken.
    Source: Sutskever et al. 2013, equation 3, so rewritten by Bengio et al. 2012, equation 7.
    """

    def move(self, p: Shared, g: Expr, r: Expr, t: Expr) -> Pairs:
        v = self.memory(p, "velocity")
        faster = self.momentum * v - r * g
        return [(v, faster), (p, p + self.momentum * faster - r * g)]


class RMSProp(Update):
    """s' = decay s + (1 - decay) g^2;  p - r g / (sqrt(s') + epsilon).

    Source: Tieleman and Hinton 2012, Coursera lecture 6.5.
    """

    def __init__(
        self, rate: float | Schedule | Expr = 1e-3, decay: float = 0.9, epsilon: float = 1e-8
    ):
        super().__init__(rate)
        self.decay, self.epsilon = decay, epsilon

    def move(self, p: Shared, g: Expr, r: Expr, t: Expr) -> Pairs:
        s = self.memory(p, "square")
        new = self.decay * s + (1 - self.decay) * sg.square(g)
        return [(s, new), (p, p - r * g / (sg.sqrt(new) + self.epsilon))]


class Adagrad(Update):
    """s' = s + g^2;  p - r g / (sqrt(s') + epsilon).   Source: Duchi et al. 2011, figure 1."""

    def __init__(self, rate: float | Schedule | Expr = 0.01, epsilon: float = 1e-8):
        super().__init__(rate)
        self.epsilon = epsilon

    def move(self, p: Shared, g: Expr, r: Expr, t: Expr) -> Pairs:
        s = self.memory(p, "square")
        new = s + sg.square(g)
        return [(s, new), (p, p - r * g / (sg.sqrt(new) + self.epsilon))]


class Adam(Update):
    """p - r (m' / (1 - a^t)) / (sqrt(s' / (1 - b^t)) + epsilon).

    m' = a m + (1 - a) g;  s' = b s + (1 - b) g^2.
    betas: a and b.   Source: Kingma and Ba 2015, algorithm 1.
    """

    def __init__(
        self,
        rate: float | Schedule | Expr = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ):
        super().__init__(rate)
        self.betas, self.epsilon = betas, epsilon

    def move(self, p: Shared, g: Expr, r: Expr, t: Expr) -> Pairs:
        pairs, direction = self.direction(p, g, t)
        return [*pairs, (p, p - r * direction)]

    def direction(self, p: Shared, g: Expr, t: Expr) -> tuple[Pairs, Expr]:
        """The moments' updates, and where they point."""
        a, b = self.betas
        m, s = self.memory(p, "mean"), self.memory(p, "square")
        mean = a * m + (1 - a) * g
        square = b * s + (1 - b) * sg.square(g)
        # 1 - a^t without cancellation
        up, down = (
            (-sg.expm1(t * math.log(k))).astype(p.dtype) if k else sg.constant(1, p.dtype)
            for k in (a, b)
        )
        return [(m, mean), (s, square)], (mean / up) / (sg.sqrt(square / down) + self.epsilon)


class AdamW(Adam):
    """Adam, and p shrinks by r * decay * p beside it.

    decays: which parameters shrink; by default those of rank 2 and more, not biases and gains.
    Source: Loshchilov and Hutter 2019, algorithm 2.
    """

    def __init__(
        self,
        rate: float | Schedule | Expr = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        decay: float = 0.01,
        decays: Callable[[Shared], bool] = lambda p: p.ndim >= 2,
    ):
        super().__init__(rate, betas, epsilon)
        self.decay, self.decays = decay, decays

    def move(self, p: Shared, g: Expr, r: Expr, t: Expr) -> Pairs:
        pairs, direction = self.direction(p, g, t)
        if self.decays(p):
            direction = direction + self.decay * p
        return [*pairs, (p, p - r * direction)]


def clip_by_value(gradients: Sequence[Expr], limit: float) -> list[Expr]:
    """Every element of every gradient between -limit and limit."""
    return [sg.clip(g, -limit, limit) for g in gradients]


def clip_by_norm(gradients: Sequence[Expr], limit: float) -> list[Expr]:
    """Gradients scaled down together, where their common norm is above the limit.

    Source: Pascanu et al. 2013, algorithm 1.
    """
    longest: Expr = sg.maximum(global_norm(gradients), limit)
    factor = limit / longest
    return [g * factor.astype(g.dtype) for g in gradients]


def global_norm(arrays: Sequence[Expr]) -> Expr:
    """The Euclidean norm of all elements of all arrays; that of half floats in float32."""
    if not arrays:
        return sg.constant(0.0)
    squares = [sg.sum(sg.square(a.astype(computed_in(a.dtype)))) for a in arrays]
    total = squares[0]
    for s in squares[1:]:
        total = total + s
    return sg.sqrt(total)
