"""What a user waits for: import, compilation, a call, building graphs; and what keeps that short.

Times are gross limits, twice what is promised, since test machines are shared; the exact figures
come from `python -m benchmarks.overhead`. Structure is exact: what is loaded, shared, called.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from benchmarks.overhead import MLP, EmptyCache, FilledCache, call_numpy, call_symgraph
from benchmarks.timing import Child
from symgraph.backends import build, runtime, targets
from symgraph.backends.collector import PATIENCE, patient_collector
from symgraph.backends.contraction import ContractionSpec, contraction
from symgraph.backends.emit import emit
from symgraph.backends.function import make_request
from symgraph.backends.loops import INDEX, Block, Buffer, Kernel, Ty, Var
from symgraph.backends.options import Options
from symgraph.backends.stages import Stages

pytestmark = pytest.mark.alone

HEAVY = ("sympy", "llvmlite", "scipy", "symgraph.optim", "symgraph.backends", "symgraph.nn")


def quickest(child: Child, runs: int = 3) -> float:
    """Seconds of process CPU time: the least of some runs, after one that writes bytecode."""
    child.value()
    return min(child.sample().process for _ in range(runs))


# --------------------------------------------------------------------------------------- import


def test_import_loads_only_the_language() -> None:
    code = f"import json, sys, symgraph; print(json.dumps(sorted({{*{HEAVY}}} & {{*sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_import_time() -> None:
    assert quickest(Child("import symgraph", setup="import numpy"), 5) <= 2 * 0.06


# ---------------------------------------------------------------------------------- compilation


def test_compile_time_of_a_training_step() -> None:
    source: dict[str, str] = MLP["symgraph"]
    assert quickest(Child(**source, environment=EmptyCache())) <= 2 * 0.6
    assert quickest(Child(**source, environment=FilledCache(**source))) <= 2 * 0.15


def training_step() -> tuple[list[Any], Any, dict[Any, Any]]:
    """Inputs, loss and updates of a 784-500-500-10 network."""
    x, t = sg.matrix("x"), sg.matrix("t")
    sizes = (784, 500, 500, 10)
    random = np.random.default_rng(0)
    scaled = [random.standard_normal((m, n)) / m**0.5 for m, n in zip(sizes, sizes[1:])]
    w = [sg.shared(values.astype("f")) for values in scaled]
    b = [sg.shared(np.zeros(n, "f")) for n in sizes[1:]]
    h = sg.tanh(sg.tanh(x @ w[0] + b[0]) @ w[1] + b[1]) @ w[2] + b[2]
    loss = -(t * sg.log_softmax(h, axis=1)).sum(axis=1).mean()
    p = [*w, *b]
    return [x, t], loss, {v: v - 0.1 * g for v, g in zip(p, sg.grad(loss, p))}


def kernels(inputs: Any, outputs: Any, updates: Any = None) -> tuple[list[str], int]:
    """LLVM texts of the distinct kernels of a function, and how many launches use them."""
    stages, target = Stages("f"), targets.host()
    request = make_request(inputs, outputs, updates)
    program = build.make_plan(request, Options(), target, stages).program
    texts, _ = build.emit_kernels(program, target, stages)
    return texts, sum(isinstance(step, build.Launch) for step in program.steps)


def test_products_of_a_network_share_kernels() -> None:
    texts, _ = kernels(*training_step())
    products = [text for text in texts if "define i32 @matmul" in text]
    # forward, the gradient of the input, that of the weights, and 10 columns twice; a matrix that
    # stays in the cache is not packed
    assert len(products) <= 6


def test_layers_of_large_sizes_share_all_kernels() -> None:
    x = sg.array("x", (None, 512))
    texts, launches = kernels([x], sg.relu(x + 1))
    for n in (1024, 2048):
        y = sg.array("y", (None, n))
        assert kernels([y], sg.relu(y + 1)) == (texts, launches)


@pytest.mark.parametrize("a_unit, b_unit", [("k", "n"), ("k", "k"), ("m", "n")])
def test_large_products_share_their_code(a_unit: str, b_unit: str) -> None:
    def kernel(m: int | None, n: int, k: int) -> Kernel:
        spec = ContractionSpec("float32", None, a_unit, b_unit, m, n, k)
        return contraction(spec, targets.target("x86-64-v4"))

    assert kernel(1000, 1024, 2048) is kernel(500, 2048, 4096)
    assert kernel(1000, 1024, 700) is kernel(2000, 4096, 800)
    assert kernel(1000, 1024, 700) is not kernel(1000, 10, 700)


def test_addresses_move_from_what_is_fixed() -> None:
    """No addition is left in the loop: x[row * n + j] is an element of the row, j places on."""
    n, row = Var("n", Ty(INDEX)), Var("row", Ty(INDEX))
    x, y = Buffer("x", "float32", "r"), Buffer("y", "float32", "w")
    b = Block()
    start = b.let("mul", row, n)
    with b.loop(0, n) as body:
        body.store(y, body.var, body.load(x, body.let("add", start, body.var)))
    text = emit(Kernel("row", (x, y), (n, row), tuple(b.stmts)), targets.target("x86-64-v3"))
    before, _, loop = text.partition("\nloop")
    pointer = before.rsplit(" = getelementptr float, ptr %b0", 1)[0].rpartition("\n")[2].strip()
    counter = loop.partition(" = phi")[0].rpartition("\n")[2].strip()
    assert f"getelementptr float, ptr {pointer}, i64 {counter}\n" in loop


def test_collector_is_as_before_after_a_compilation() -> None:
    before = gc.get_threshold()
    with patient_collector():
        with pytest.raises(ZeroDivisionError), patient_collector():
            assert gc.get_threshold()[0] == PATIENCE
            raise ZeroDivisionError
        assert gc.get_threshold()[0] == PATIENCE
    assert gc.get_threshold() == before


# ----------------------------------------------------------------------------------------- calls


def test_a_training_step_is_one_native_call() -> None:
    """Nothing of Python runs between the kernels: no function, no call back from native code."""
    inputs, loss, updates = training_step()
    f = sg.function(inputs, loss, updates=updates, host_calls="forbid")
    x = np.random.default_rng(1).random((60, 784), dtype="f")
    t = np.eye(10, dtype="f")[np.arange(60) % 10]
    first = f(x, t)
    seen: list[tuple[str, str]] = []
    entries = runtime.host_entries
    sys.setprofile(lambda frame, event, arg: seen.append((event, frame.f_code.co_name)))
    try:
        second = f(x, t)
    finally:
        sys.setprofile(None)
    assert [name for event, name in seen if event == "call"] == []
    assert runtime.host_entries == entries
    assert second < first  # and it did train


def test_call_costs_less_than_numpys() -> None:
    one = np.ones(1, "f")
    ours, numpys = call_symgraph(one, one), call_numpy(one, one)
    ratios = sorted(ours.sample().thread / numpys.sample().thread for _ in range(31))
    assert ratios[10] <= 1.0


# ---------------------------------------------------------------------------------------- graphs


def node_time(count: int) -> float:
    """Seconds a node: the least of some chains of elementwise ops."""
    times = []
    for _ in range(3):
        y = x = sg.vector("x")
        began = time.thread_time()
        for _ in range(count // 2):
            y = sg.tanh(y) * x
        times.append(time.thread_time() - began)
    return min(times) / count


def test_nodes_are_cheap_and_cost_the_same_in_large_graphs() -> None:
    began = time.thread_time()
    table = {(i, str(i)): [i] for i in range(20_000)}
    reference = (time.thread_time() - began) / len(table)
    small, large = node_time(4_000), node_time(40_000)
    assert small <= 60 * reference
    assert large <= 2 * small


def test_numbers_are_made_once() -> None:
    values = (0.0, -0.0, 1.5, 2, np.inf)
    for value, x in [(v, sg.constant(v, "float32")) for v in values]:
        assert sg.constant(value, "float32") is x
        assert np.signbit(x.eval()) == np.signbit(np.float32(value))
    assert sg.constant(1).dtype == "int64"
    assert sg.constant(1.0).dtype == "float32"
    with pytest.raises(sg.DTypeError):
        sg.constant(300, "int8")
