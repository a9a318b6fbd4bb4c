"""What a user pays before any number is computed: a call, a compilation, an import.

    python -m benchmarks.overhead [--quick] [--check]

Each is compared with numpy, numba, jax and pytensor where they are installed. Compilations and
imports are timed in fresh processes. A compilation counts from the first symbolic variable to the
first result, because some peers compile when they are first called; libraries that load on first
use are included, the import of the package itself is not.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.harness import Row, main
from benchmarks.timing import Child, Statement

# --- calls ---


def two_vectors(size: int) -> Any:
    return lambda random: tuple(random.standard_normal((2, size)).astype(np.float32))


def call_symgraph(x: np.ndarray, y: np.ndarray) -> Statement:
    import symgraph as sg

    a, b = sg.vector("a"), sg.vector("b")
    return Statement("f(x, y)", f=sg.function([a, b], a + b), x=x, y=y)


def call_numpy(x: np.ndarray, y: np.ndarray) -> Statement:
    return Statement("x + y", x=x, y=y)


def call_numba(x: np.ndarray, y: np.ndarray) -> Statement:
    import numba

    return Statement("f(x, y)", f=numba.njit(lambda a, b: a + b), x=x, y=y)


def call_jax(x: np.ndarray, y: np.ndarray) -> Statement:
    import jax

    add = jax.jit(lambda a, b: a + b)
    return Statement(
        "f(x, y).block_until_ready()", f=add, x=jax.numpy.asarray(x), y=jax.numpy.asarray(y)
    )


def call_pytensor(x: np.ndarray, y: np.ndarray) -> Statement:
    import pytensor
    import pytensor.tensor as pt

    a, b = pt.fvector("a"), pt.fvector("b")
    return Statement("f(x, y)", f=pytensor.function([a, b], a + b), x=x, y=y)


CALL_PEERS = {
    "numpy": call_numpy,
    "numba": call_numba,
    "jax": call_jax,
    "pytensor": call_pytensor,
}

# --- compilations ---


def cache_variables(folder: str) -> dict[str, str]:
    """What makes everybody who caches compiled code keep it in this folder."""
    return {"SYMGRAPH_CACHE": folder, "PYTENSOR_FLAGS": f"base_compiledir={folder}/pytensor"}


class EmptyCache:
    """The environment of a process that finds nothing compiled: a new folder each time."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __call__(self) -> Mapping[str, str]:
        if self._folder is not None:
            self._folder.cleanup()
        self._folder = tempfile.TemporaryDirectory(prefix="symgraph-cold-")
        return cache_variables(self._folder.name)


class FilledCache:
    """The environment of a process whose cache another process has filled before."""

    def __init__(self, **child: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="symgraph-warm-")
        Child(**child, environment=self).value()

    def __call__(self) -> Mapping[str, str]:
        return cache_variables(self._folder.name)


CHAIN_DATA = """
data = np.linspace(-2, 2, 3000, dtype="f").reshape(3, -1)
"""

#: sigmoid(tanh(a x + b)) - x on 1000 elements
CHAIN = {
    "symgraph": dict(
        setup="import numpy as np, symgraph as sg" + CHAIN_DATA,
        code="""
x, a, b = sg.vector("x"), sg.vector("a"), sg.vector("b")
f = sg.function([x, a, b], 1 / (1 + sg.exp(-sg.tanh(a * x + b))) - x)
result = f(*data)
""",
        value="result.tolist()",
    ),
    "numba": dict(
        setup="import numpy as np, numba" + CHAIN_DATA,
        code="""
one = np.float32(1)
f = numba.njit(lambda x, a, b: one / (one + np.exp(-np.tanh(a * x + b))) - x)
result = f(*data)
""",
        value="result.tolist()",
    ),
    "jax": dict(
        setup="import numpy as np, jax, jax.numpy as jnp" + CHAIN_DATA,
        code="""
f = jax.jit(lambda x, a, b: 1 / (1 + jnp.exp(-jnp.tanh(a * x + b))) - x)
result = np.asarray(f(*data))
""",
        value="result.tolist()",
    ),
    "pytensor": dict(
        setup="import numpy as np, pytensor, pytensor.tensor as pt" + CHAIN_DATA,
        code="""
x, a, b = pt.fvector("x"), pt.fvector("a"), pt.fvector("b")
f = pytensor.function([x, a, b], 1 / (1 + pt.exp(-pt.tanh(a * x + b))) - x)
result = f(*data)
""",
        value="result.tolist()",
    ),
}

MLP_DATA = """
rng = np.random.default_rng(0)
sizes = (784, 500, 500, 10)
weights = [(rng.standard_normal((m, n)) / m**0.5).astype("f") for m, n in zip(sizes, sizes[1:])]
biases = [np.zeros(n, "f") for n in sizes[1:]]
images = rng.random((60, 784)).astype("f")
targets = np.eye(10, dtype="f")[rng.integers(0, 10, 60)]
"""

#: one SGD step of a 784-500-500-10 network: forward, gradient, update; two losses are compared
MLP = {
    "symgraph": dict(
        setup="import numpy as np, symgraph as sg" + MLP_DATA,
        code="""
x, t = sg.matrix("x"), sg.matrix("t")
w, b = [sg.shared(v) for v in weights], [sg.shared(v) for v in biases]
h = sg.tanh(sg.tanh(x @ w[0] + b[0]) @ w[1] + b[1]) @ w[2] + b[2]
loss = -(t * sg.log_softmax(h, axis=1)).sum(axis=1).mean()
p = [*w, *b]
f = sg.function([x, t], loss, updates={v: v - 0.1 * g for v, g in zip(p, sg.grad(loss, p))})
first = float(f(images, targets))
""",
        value="[first, float(f(images, targets))]",
    ),
    "jax": dict(
        setup="import numpy as np, jax, jax.numpy as jnp" + MLP_DATA,
        code="""
def loss(p, x, t):
    w, b = p
    h = jnp.tanh(jnp.tanh(x @ w[0] + b[0]) @ w[1] + b[1]) @ w[2] + b[2]
    return -(t * jax.nn.log_softmax(h, axis=1)).sum(axis=1).mean()

@jax.jit
def step(p, x, t):
    value, g = jax.value_and_grad(loss)(p, x, t)
    return value, jax.tree_util.tree_map(lambda v, d: v - 0.1 * d, p, g)

value, p = step((weights, biases), images, targets)
first = float(value)
""",
        value="[first, float(step(p, images, targets)[0])]",
    ),
    "pytensor": dict(
        setup="import numpy as np, pytensor, pytensor.tensor as pt" + MLP_DATA,
        code="""
x, t = pt.fmatrix("x"), pt.fmatrix("t")
w, b = [pytensor.shared(v) for v in weights], [pytensor.shared(v) for v in biases]
h = pt.tanh(pt.tanh(x @ w[0] + b[0]) @ w[1] + b[1]) @ w[2] + b[2]
loss = -(t * pt.special.log_softmax(h, axis=1)).sum(axis=1).mean()
p, rate = [*w, *b], np.float32(0.1)
f = pytensor.function(
    [x, t], loss, updates={v: v - rate * g for v, g in zip(p, pytensor.grad(loss, p))})
first = float(f(images, targets))
""",
        value="[first, float(f(images, targets))]",
    ),
}


def compile_rows(
    name: str, sources: Mapping[str, dict[str, str]], cold: float, warm: float, quick: bool
) -> tuple[Row, Row]:
    """Two rows: with an empty cache against the peers, and with a cache that is filled."""
    ours = sources["symgraph"]
    peers = {
        peer: (lambda source=source: Child(**source, environment=EmptyCache()))
        for peer, source in sources.items()
        if peer != "symgraph"
    }
    return (
        Row(
            f"compile {name}, cold cache",
            lambda random: (),
            lambda: Child(**ours, environment=EmptyCache()),
            peers,
            tolerance=1e-4,
            goal={"seconds": cold},
            quick=quick,
            slow=frozenset({"pytensor"}),
        ),
        Row(
            f"compile {name}, warm cache",
            lambda random: (),
            lambda: Child(**ours, environment=FilledCache(**ours)),
            goal={"seconds": warm},
            quick=quick,
        ),
    )


# --- imports ---


def importing(module: str) -> Any:
    return lambda: Child(f"import {module}")


IMPORT = Row(
    "import",
    lambda random: (),
    importing("symgraph"),
    {name: importing(name) for name in ("numpy", "numba", "jax", "pytensor")},
    tolerance=None,
    goal={"excess": 0.06},
)

ROWS = (
    Row("call x+y, 1 element", two_vectors(1), call_symgraph, CALL_PEERS, goal={"ratio": 1.0}),
    Row("call x+y, 1000 elements", two_vectors(1000), call_symgraph, CALL_PEERS),
    *compile_rows("elementwise chain", CHAIN, cold=0.3, warm=0.1, quick=False),
    *compile_rows("MLP training step", MLP, cold=0.6, warm=0.15, quick=True),
    IMPORT,
)

if __name__ == "__main__":
    sys.exit(main("overhead", ROWS))
