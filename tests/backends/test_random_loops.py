"""Random loop IR: interpreter and compiled code agree bit for bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from symgraph.backends.loops import Block, Buffer, Const, Kernel, Ty
from tests.backends.loop_cases import samples
from tests.backends.loop_kernels import BOOL, check, n


@given(st.data())
def test_random_programs(data: st.DataObject) -> None:
    """Random expressions of integers, floats and bools in nested loops and branches."""
    lanes = data.draw(st.sampled_from([1, 4, 8]))
    kernel = random_kernel(data, lanes)
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    size = 3 * lanes
    arrays = [samples(d, rng, size) for d in ("int32", "float32")]
    arrays += [np.zeros(size, d) for d in ("int32", "float32")]
    check(kernel, arrays, [size])


_RANDOM_OPS = {
    "int32": "add sub mul and or xor min max".split(),
    "float32": "add sub mul div copysign".split(),
    "bool": "and or xor".split(),
}


def random_kernel(data: st.DataObject, lanes: int) -> Kernel:
    """Loads, a random body, stores of the last integer and the last float."""
    b = Block()
    inputs = [Buffer("x", "int32"), Buffer("y", "float32")]
    outputs = [Buffer("u", "int32", "w"), Buffer("v", "float32", "w")]
    with b.loop(0, n, lanes) as body:
        pool = {x.dtype: [body.load(x, body.var, lanes)] for x in inputs}
        pool["bool"] = [body.let("lt", pool["int32"][0], Const(3, Ty("int32", lanes)))]
        random_body(data, body, pool, lanes, depth=2)
        for out in outputs:
            body.store(out, body.var, pool[out.dtype][-1])
    return Kernel("random", (*inputs, *outputs), (n,), tuple(b.stmts))


def random_body(data: st.DataObject, b: Block, pool: dict, lanes: int, depth: int) -> None:
    """Append up to eight statements that use and extend the pool of values."""
    for kind in data.draw(st.lists(st.sampled_from(["op", "op", "mix", "loop", "if"]), max_size=8)):
        dtype = data.draw(st.sampled_from(["int32", "float32", "bool"]))
        pick = lambda d: data.draw(st.sampled_from(pool[d]))
        if kind == "op" or depth == 0:
            op = data.draw(st.sampled_from(_RANDOM_OPS[dtype]))
            pool[dtype].append(b.let(op, pick(dtype), pick(dtype)))
        elif kind == "mix":
            source = data.draw(st.sampled_from(["int32", "float32"]))
            pool["bool"].append(b.let("le", pick(source), pick(source)))
            pool[source].append(b.let("select", pick("bool"), pick(source), pick(source)))
            pool["float32"].append(b.cast(pick("int32"), "float32"))
            pool["int32"].append(b.cast(pick("float32"), "int32"))
        elif kind == "loop":
            with b.loop(0, b.index(data.draw(st.integers(0, 3))), carries=[pick(dtype)]) as body:
                inside = {d: list(v) for d, v in pool.items()}
                inside[dtype].append(body.carried[0])
                random_body(data, body, inside, lanes, depth - 1)
                body.next(inside[dtype][-1])
            pool[dtype].append(body.results[0])
        else:
            cond = pick("bool")
            if lanes > 1:
                cond = b.let("hor", cond, type=BOOL)

            def arm(block: Block, dtype: str = dtype) -> list:
                inside = {d: list(v) for d, v in pool.items()}
                random_body(data, block, inside, lanes, depth - 1)
                return [inside[dtype][-1]]

            pool[dtype] += b.branch(cond, arm, arm)
