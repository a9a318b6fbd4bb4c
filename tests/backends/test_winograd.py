"""Winograd convolutions compiled: their error bound, every geometry, and when they are chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.backends import winograd as planned
from symgraph.backends.plan import plan
from symgraph.backends.program import Launch
from symgraph.backends.simulate import simulate
from symgraph.backends.targets import host, target
from symgraph.backends.verify_loops import verify
from symgraph.backends.winograd import Blocks, chosen_tile
from symgraph.errors import GraphError
from symgraph.expr import Expr, apply, toposort
from symgraph.ops.convolve import Convolve
from symgraph.ops.windows import ConvForm, padded_array
from symgraph.ops.winograd import error_factor, tiled

from .test_threads import eager, for_each_count


def form_of(image: tuple[int, int], low: tuple[int, int], high: tuple[int, int]) -> ConvForm:
    return ConvForm((1, 1), low, high, (1, 1), 1, image, (3, 3))


def bound(form: ConvForm, x: np.ndarray, w: np.ndarray, tile: int) -> np.ndarray:
    """The stated error bound of each element of the result."""
    n, high, wide, o = (len(x), *form.positions, w.shape[-1])
    image = np.abs(padded_array(form.windows, x.astype("f8"), 0))
    weights = np.abs(w.astype("f8")).sum((0, 1))
    found = np.zeros((n, high, wide, o))
    for i in range(0, high, tile):
        for j in range(0, wide, tile):
            patch = image[:, i : i + tile + 2, j : j + tile + 2].max((1, 2))
            found[:, i : i + tile, j : j + tile] = (patch @ weights)[:, None, None]
    return found * error_factor(tile, x.shape[-1])


def within(form: ConvForm, x: np.ndarray, w: np.ndarray, got: np.ndarray, tile: int) -> float:
    """The largest error as a share of the bound, which holds everywhere."""
    want = Convolve(form, "output").evaluate(x.astype("f8"), w.astype("f8"))
    assert got.shape == want.shape and got.dtype == np.float32
    if not want.size:
        return 0.0
    share = np.abs(got - want) / np.maximum(bound(form, x, w, tile), 1e-30)
    assert share.max() <= 1
    return float(share.max())


class Case:
    """A convolution of a tile with its arrays."""

    def __init__(self, tile: int, form: ConvForm, sizes: tuple[int, int, int], spread: float):
        self.tile, self.form = tile, form
        n, c, o = sizes
        random = np.random.default_rng([tile, n, c, o, *form.image])
        shapes = (n, *form.image, c), (3, 3, c, o)
        self.arrays = [
            (random.standard_normal(s) * 10.0 ** random.uniform(-spread, spread, s)).astype("f4")
            for s in shapes
        ]

    def inputs(self, symbolic: bool) -> list[Expr]:
        x, w = self.arrays
        return [sg.array("x", ("n", *x.shape[1:]) if symbolic else x.shape), sg.array("w", w.shape)]

    def tiled(self, x: Expr, w: Expr) -> Expr:
        return tiled(apply(Convolve(self.form, "output"), x, w), self.tile)


@st.composite
def cases(draw: Any, most: int = 40, largest: int = 13) -> Case:
    low = draw(st.tuples(*[st.integers(-1, 3)] * 2))
    high = draw(st.tuples(*[st.integers(-1, 3)] * 2))
    image = tuple(
        max(1, 1 - a, 1 - b, 3 - a - b, draw(st.integers(1, largest))) for a, b in zip(low, high)
    )
    sizes = (
        draw(st.sampled_from([0, 1, 3])),
        draw(st.integers(1, most)),
        draw(st.integers(1, most)),
    )
    spread = draw(st.sampled_from([0.0, 3.0]))
    return Case(draw(st.sampled_from([2, 4])), form_of(image, low, high), sizes, spread)


@given(case=cases(), symbolic=st.booleans(), constant=st.booleans())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_every_geometry(case: Case, symbolic: bool, constant: bool) -> None:
    x, w = case.inputs(symbolic)
    if constant:
        f = sg.function([x], case.tiled(x, sg.constant(case.arrays[1])))
        got = f(case.arrays[0])
    else:
        got = sg.function([x, w], case.tiled(x, w))(*case.arrays)
    within(case.form, *case.arrays, got, case.tile)


@given(case=cases(most=9, largest=6), data=st.data())
@settings(max_examples=12, deadline=None, derandomize=True)
def test_every_geometry_on_other_targets(case: Case, data: Any) -> None:
    machine = target(data.draw(st.sampled_from(["x86-64", "x86-64-v3", "cortex-a72", "cortex-a9"])))
    inputs = case.inputs(False)
    program = plan(inputs, [case.tiled(*inputs)], target=machine)
    for kernel in {id(s.kernel): s.kernel for s in launches(program.steps)}.values():
        verify(kernel)
    got, _ = simulate(program, case.arrays, [])
    within(case.form, *case.arrays, got[0], case.tile)


def launches(steps: Any) -> list[Launch]:
    found: list[Launch] = []
    for step in steps:
        found += [step] if isinstance(step, Launch) else launches(getattr(step, "body", ()))
    return found


WORST = ["ones", "cancels", "signs", "spread", "peaks"]


def adversarial(kind: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Operands whose sums cancel, or whose sizes differ as much as can be."""
    random = np.random.default_rng(seed)
    signs = np.where(sum(np.indices(shape)) % 2, -1.0, 1.0)
    values = {
        "ones": np.full(shape, 1 + 2.0**-12),
        "cancels": signs * (1 + random.uniform(0, 1e-3, shape)),
        "signs": random.choice([-1.0, 1.0], shape) * (1 + 2.0**-11),
        "spread": random.standard_normal(shape) * 10.0 ** random.uniform(-8, 8, shape),
        "peaks": np.where(random.random(shape) < 0.02, 1e7, 1.0) * random.standard_normal(shape),
    }
    return values[kind].astype("f4")


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("constant", [True, False])
def test_bound_in_the_worst_cases(tile: int, constant: bool) -> None:
    """It holds for each element, and is not so wide that it says nothing."""
    form, shares = form_of((22, 19), (1, 1), (1, 1)), []
    for a in WORST:
        for b in WORST:
            x, w = adversarial(a, (2, 22, 19, 96), 1), adversarial(b, (3, 3, 96, 80), 2)
            image, kernel = sg.array("x", x.shape), sg.array("w", w.shape)
            given_kernel = sg.constant(w) if constant else kernel
            y = tiled(apply(Convolve(form, "output"), image, given_kernel), tile)
            if constant:
                got = sg.function([image], y)(x)
            else:
                got = sg.function([image, kernel], y)(x, w)
            shares.append(within(form, x, w, got, tile))
    assert max(shares) > 1e-3


BLOCKS = [Blocks(1, 0), Blocks(2, 0), Blocks(9, 0), Blocks(0, 1), Blocks(0, 2)]


@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
@pytest.mark.parametrize("image", [(11, 9), (12, 8)])
@pytest.mark.parametrize("tile", [2, 4])
def test_blocks_and_readers(
    monkeypatch: pytest.MonkeyPatch, blocks: Blocks, image: tuple[int, int], tile: int
) -> None:
    """Bias, residual, a second result and the zeros of the next layer, in every kind of block."""
    monkeypatch.setattr(planned, "_blocks", lambda stage, machine: blocks)
    random = np.random.default_rng(3)
    form = form_of(image, (1, 1), (1, 1))
    shapes = [
        (5, *image, 20),
        (3, 3, 20, 36),
        (5, *image, 36),
        (36,),
        (3, 3, 36, 20),
        (3, 3, 20, 36),
    ]
    names = [sg.array(f"x{i}", s) for i, s in enumerate(shapes)]
    x, w, residual, bias, again, other = names

    def layers(convolution: Any) -> list[Expr]:
        first = sg.relu(convolution(x, w) + bias)
        return [convolution(first, again), sg.tanh(convolution(x, other) / 32 + residual)]

    def winograd(image: Expr, kernel: Expr) -> Expr:
        return tiled(apply(Convolve(form, "output"), image, kernel), tile)

    arrays = [random.standard_normal(s).astype("f4") for s in shapes]
    wants = sg.evaluate(
        layers(lambda a, b: apply(Convolve(form, "output"), a, b)), dict(zip(names, arrays))
    )
    with eager():
        f = sg.function(names, layers(winograd), cache=False)
        for got, want in zip(for_each_count(f, arrays), wants):
            assert np.abs(got - want).max() <= 3e-5 * np.abs(want).max()
    assert "(winograd relu); ends: it is stored inside of a border" in f.explain()
    assert "(winograd mul add tanh)" in f.explain()


@pytest.mark.parametrize("sizes", [(1, 30, 17), (3, 5, 40), (0, 9, 9)])
def test_symbolic_images(sizes: tuple[int, int, int]) -> None:
    x = sg.array("x", ("n", "h", "w", 32))
    random = np.random.default_rng(1)
    kernel = random.standard_normal((3, 3, 32, 32)).astype("f4")
    y = sg.conv2d(x, sg.constant(kernel), layout="NHWC", padding="same")
    f = sg.function([x], y, precision="fast")
    assert "winograd F(4x4, 3x3)" in f.explain()
    image = random.standard_normal((*sizes, 32)).astype("f4")
    within(form_of(sizes[1:], (1, 1), (1, 1)), image, kernel, f(image), 4)


# ------------------------------------------------------------------------------- when it is chosen


def layer(size: int, channels: int, **settings: Any) -> Expr:
    """A convolution, its kernel a constant."""
    x = sg.array("x", (1, size, size, channels), settings.pop("dtype", "float32"))
    window = settings.pop("window", 3)
    inside = channels // settings.get("groups", 1)
    kernel = np.ones((window, window, inside, channels), x.dtype.np)
    return sg.conv2d(x, sg.constant(kernel), layout="NHWC", padding="same", **settings)


def convolution(y: Expr) -> Expr:
    return next(n for n in toposort([y]) if isinstance(n.op, Convolve))


@pytest.mark.parametrize(
    "size, channels, tile",
    [(56, 64, 4), (28, 128, 4), (14, 256, 4), (7, 512, 2), (2, 512, None), (56, 8, None)],
)
def test_tile_by_cost(size: int, channels: int, tile: int | None) -> None:
    assert chosen_tile(convolution(layer(size, channels)), target("znver4")) == tile


@pytest.mark.parametrize(
    "settings",
    [{"stride": 2}, {"dilation": 2}, {"groups": 2}, {"window": 5}, {"dtype": "float64"}],
    ids=str,
)
def test_not_eligible(settings: dict[str, Any]) -> None:
    assert chosen_tile(convolution(layer(56, 64, **settings)), host()) is None


def test_exact_is_the_default_and_never_tiled() -> None:
    y = layer(20, 64)
    x = next(n for n in toposort([y]) if n.name == "x")
    image = np.random.default_rng(0).standard_normal(x.array_type.shape).astype("f4")
    exact, fast = sg.function([x], y), sg.function([x], y, precision="fast")
    assert "winograd F(" not in exact.explain()
    line = next(line for line in fast.explain().splitlines() if line.startswith("winograd"))
    assert "64 channels: error <= " in line
    assert chosen_tile(convolution(y), None) is None
    assert not np.array_equal(exact(image), fast(image))  # each has code of its own in the cache
    again = sg.function([x], y)
    assert np.array_equal(exact(image), again(image))


def test_precision_by_name() -> None:
    with pytest.raises(GraphError, match="precision='loose': expected one of exact, fast"):
        sg.function([], sg.constant(1.0), precision="loose")


@pytest.mark.parametrize("machine", ["x86-64-v3", "cortex-a72", "cortex-a9"])
def test_ahead_of_time(machine: str) -> None:
    y = layer(20, 64)
    x = next(n for n in toposort([y]) if n.name == "x")
    fast = sg.compile_ahead([x], y, machine, "f", precision="fast")
    exact = sg.compile_ahead([x], y, machine, "f")
    assert fast.manifest["needs"] == exact.manifest["needs"]
    assert fast.objects != exact.objects
    with pytest.raises(GraphError, match="compile_ahead: precision='loose'"):
        sg.compile_ahead([x], y, machine, "f", precision="loose")


def test_gradients_are_tiled_too() -> None:
    """The input gradient is a convolution of the same kind; the kernel gradient is not."""
    shapes = [(2, 24, 24, 48), (3, 3, 48, 48), (2, 24, 24, 48)]
    x, w, slope = (sg.array(name, s) for name, s in zip("xws", shapes))
    loss = (sg.conv2d(x, w, layout="NHWC", padding="same") * slope).sum()
    wanted = sg.grad(loss, [x, w])
    f = sg.function([x, w, slope], wanted, precision="fast")
    assert f.explain().count("winograd F(") == 1
    random = np.random.default_rng(2)
    arrays = [random.standard_normal(s).astype("f4") for s in shapes]
    given_values = dict(zip([x, w, slope], arrays))
    for got, want in zip(f(*arrays), sg.evaluate(wanted, given_values)):
        assert np.abs(got - want).max() <= 3e-5 * np.abs(want).max()


def test_inside_of_a_loop() -> None:
    kernel = np.random.default_rng(5).standard_normal((3, 3, 32, 32)).astype("f4") / 17
    x = sg.array("x", (2, 20, 20, 32))

    def step(h: Expr) -> Expr:
        return sg.conv2d(h, sg.constant(kernel), layout="NHWC", padding="same")

    y = sg.scan(step, outputs_info=[x], n_steps=3)[0]
    f = sg.function([x], y, precision="fast")
    image = np.random.default_rng(6).standard_normal(x.array_type.shape).astype("f4")
    want = sg.evaluate(y, {x: image})
    assert np.abs(f(image) - want).max() <= 3e-5 * np.abs(want).max()
    assert "winograd F(4x4, 3x3)" in f.explain()


def test_debug_mode_takes_its_error_for_rounding() -> None:
    y = layer(20, 64)
    x = next(n for n in toposort([y]) if n.name == "x")
    f = sg.function([x], y, mode="debug", precision="fast")
    f(np.random.default_rng(7).standard_normal(x.array_type.shape).astype("f4"))
