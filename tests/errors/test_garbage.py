"""Every public function given anything at all answers with a message of its own, and at once.

Arguments are drawn from a list of what people pass by mistake. Allowed are results, errors of
symgraph that are not its own bugs, and the TypeErrors of a Python call that cannot be.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgraph as sg

# Not given garbage: what changes settings, compiles, draws or prints.
LEFT_OUT = {
    *("set_default_float", "set_threads", "function", "compile_ahead", "debugprint"),
    *("from_sympy", "sum_to"),
}
CALLS = 6  # of each function


def arguments() -> list[Any]:
    v, w = sg.vector("v"), sg.shared(np.zeros(3, np.float32), "w")
    expressions: list[Any] = [
        v,
        w,
        sg.scalar("s"),
        sg.array("x", ("n", 3)),
        sg.array("k", (2, 3, 4), "int8"),
        sg.array("b", (3,), "bool"),
        sg.vector("z", "complex64"),
        sg.scalar("i", "int64"),
        sg.zeros((0,)),
        v.shape[0],
        sg.dim("n"),
        [v, v],
        [v, "a"],
        (w,),
    ]
    return [
        *expressions,
        None,
        "x",
        "ij,jk->ik",
        b"y",
        -1,
        0,
        1,
        2**70,
        1.5,
        float("nan"),
        float("inf"),
        1j,
        True,
        (2, -1),
        (0, 1),
        [],
        {},
        {"x": 1},
        object(),
        slice(None),
        Ellipsis,
        abs,
        np.zeros(3),
        np.zeros((2, 2), object),
        np.array("a"),
        sg.float32,
        np.float16,
    ]


def functions() -> dict[str, Callable[..., Any]]:
    """The public functions, without the families of typed constructors but for one."""
    typed = {name for name in dir(sg) if name[1:] in dir(sg) and name[0] in "bwilufdcz"}
    found = {name: getattr(sg, name) for name in dir(sg) if name not in LEFT_OUT | typed}
    return {
        name: f
        for name, f in found.items()
        if callable(f) and not inspect.isclass(f) and not name.startswith("_")
    }


@pytest.mark.parametrize("seed", range(3))
def test_anything_at_all(seed: int) -> None:
    pool = arguments()
    wrong = []
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for name, f in functions().items():
            rng = random.Random(f"{name} {seed}")
            for _ in range(CALLS):
                given = [rng.choice(pool) for _ in range(rng.choice([0, 1, 1, 2, 2, 3, 4]))]
                try:
                    f(*given)
                except sg.InternalError as error:
                    wrong.append((name, given, error))
                except (sg.SymgraphError, TypeError):
                    pass
                except Exception as error:
                    wrong.append((name, given, error))
    assert not wrong, "\n".join(f"{n}{tuple(g)}: {e!r}" for n, g, e in wrong)
