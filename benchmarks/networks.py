"""Whole networks: inference, training steps, compilation, loading and memory, against everybody.

    python -m benchmarks.networks [--quick] [--check] [--threads N] [--cpu NAME] [--rows A,B]

ResNet-18, ResNet-50, VGG-16, MobileNet-V2, LeNet-5 and a perceptron with the same weights and
inputs for torch, jax, onnxruntime, openvino, ai-edge-litert (which takes tensorflow to convert),
ncnn and MNN, as far as they are installed. Inference is of one image, the weights constants with
batch normalizations folded into them; a training step is plain gradient descent. "load" counts from
a file of weights to the first scores in a process of its own, whose peak of memory is told; what
may be cached on disk is.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import symgraph as sg
from benchmarks.harness import Row, Work, main
from benchmarks.network_engines import MODULES, channels_last, opened
from benchmarks.network_files import FILES, written
from benchmarks.network_graphs import (
    NETWORKS,
    JaxTrainer,
    Network,
    TorchTrainer,
    batch_of,
    model,
    told,
    training_step,
)
from benchmarks.overhead import EmptyCache, FilledCache
from benchmarks.timing import Child, Statement
from symgraph import nn

TOLERANCE = 1e-4  # of scores, over the largest one
WINOGRAD = frozenset({"ncnn", "MNN"})  # they multiply less than a direct convolution: shown only


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="symgraph-networks-")


def folder() -> Path:
    """Where the engines' files lie while the benchmark runs."""
    return Path(_folder().name)


# --------------------------------------------------------------------------------------- inference


def inference(net: nn.Layer, shape: Sequence[int]) -> Any:
    """Our function of an image, the weights constants."""
    x = sg.array("x", tuple(shape))
    return sg.function([x], net(x, deterministic=True), givens=net.constants())


def inference_symgraph(network: Network) -> Callable[..., Statement]:
    return lambda x: Statement("f(x)", f=inference(model(network), x.shape), x=x)


def inference_engine(engine: str, network: Network) -> Callable[..., Statement]:
    return lambda x: opened(engine, written(engine, network, folder()), x)


def inference_row(network: Network) -> Row:
    return Row(
        f"{network.name} inference",
        lambda random: (batch_of(network, 1, random),),
        inference_symgraph(network),
        {engine: inference_engine(engine, network) for engine in FILES},
        tolerance=TOLERANCE,
        work=Work(2 * network.products, "fma_f32"),
        goal={"ratio": 1.03},
        quick=network.name in ("MobileNet-V2", "LeNet-5"),
        slow=frozenset({"jax", "MNN", "ai-edge-litert"}),
        shown=WINOGRAD,
    )


# ---------------------------------------------------------------------------------------- training


class Training(NamedTuple):
    """A network trained in minibatches, and the ratio that is aimed at."""

    network: Network
    batch: int
    rate: float
    goal: float


TRAININGS = (
    Training(NETWORKS["MLP 784-500-500-10"], 128, 0.1, 1.1),
    Training(NETWORKS["LeNet-5"], 128, 0.05, 1.9),
    Training(NETWORKS["ResNet-18"], 8, 0.01, 1.1),
)


class Steps(Statement):
    """A step that changes the weights: what is compared is the costs of three of them in turn."""

    def value(self) -> Any:
        return [float(super(Steps, self).value()) for _ in range(3)]


def step_symgraph(t: Training) -> Callable[..., Steps]:
    def build(x: np.ndarray, labels: np.ndarray) -> Steps:
        f = training_step(t.network, t.batch, t.rate)
        return Steps("f(x, labels)", f=f, x=x, labels=labels)

    return build


def step_torch(t: Training) -> Callable[..., Steps]:
    def build(x: np.ndarray, labels: np.ndarray) -> Steps:
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        torch.set_grad_enabled(True)
        net = model(t.network, settled=False)
        writer = TorchTrainer(lambda w: torch.from_numpy(w.copy()).requires_grad_())
        weights = [writer.tensor(w) for w in net.parameters()]
        rule = torch.optim.SGD(weights, t.rate)
        image, wanted = torch.from_numpy(x), torch.from_numpy(labels)

        def step() -> Any:
            cost = torch.nn.functional.cross_entropy(told(net, image, writer), wanted)
            rule.zero_grad()
            cost.backward()
            rule.step()
            return cost.detach()

        return Steps("f()", f=step)

    return build


def step_jax(t: Training) -> Callable[..., Steps]:
    def build(x: np.ndarray, labels: np.ndarray) -> Steps:
        import jax

        net = model(t.network, settled=False)
        trained = [id(w) for w in net.parameters()]

        def cost(weights: dict[int, Any], rest: dict[int, Any], x: Any, labels: Any) -> Any:
            writer = JaxTrainer({**rest, **weights})
            rows = jax.nn.log_softmax(told(net, x, writer))
            picked = jax.numpy.take_along_axis(rows, labels[:, None], 1)
            return -picked.mean(), {**rest, **writer.moved}

        def stepped(weights: Any, rest: Any, x: Any, labels: Any) -> Any:
            slope = jax.value_and_grad(cost, has_aux=True)
            (found, moved), slopes = slope(weights, rest, x, labels)
            return found, {k: w - t.rate * slopes[k] for k, w in weights.items()}, moved

        held = {id(w): jax.numpy.array(w.get_value()) for w in net.variables().values()}
        state = [{k: held.pop(k) for k in trained}, held]
        jitted = jax.jit(stepped, donate_argnums=(0, 1))
        image, wanted = jax.numpy.asarray(channels_last(x)), jax.numpy.asarray(labels)

        def step() -> Any:
            found, *state[:] = jitted(*state, image, wanted)
            return jax.block_until_ready((found, state))[0]

        return Steps("f()", f=step)

    return build


def training_row(t: Training) -> Row:
    classes = 1000 if t.network.name == "ResNet-18" else 10

    def inputs(random: np.random.Generator) -> tuple[np.ndarray, ...]:
        return batch_of(t.network, t.batch, random), random.integers(0, classes, t.batch)

    return Row(
        f"{t.network.name} training step, batch {t.batch}",
        inputs,
        step_symgraph(t),
        {"torch": step_torch(t), "jax": step_jax(t)},
        tolerance=10 * TOLERANCE,
        work=Work(2 * t.batch * (3 * t.network.products - t.network.first), "fma_f32"),
        goal={"ratio": t.goal},
        quick=t.network.name != "ResNet-18",
        slow=frozenset({"jax"}) if t.network.name == "LeNet-5" else frozenset(),
    )


# ----------------------------------------------------------------------- compiling, loading, memory


FORWARD = dict(
    setup="""
import numpy as np, symgraph as sg
from symgraph import nn
net, image = nn.resnet18(rng=0, weight=nn.init.zeros), np.zeros((1, 3, 224, 224), "f")
""",
    code="""
x = sg.array("x", (1, 3, 224, 224))
f = sg.function([x], net(x, deterministic=True))
result = f(image)
""",
)
STEP = dict(
    setup="""
import numpy as np, symgraph as sg
from symgraph import nn
net, image, wanted = nn.lenet5(rng=0), np.zeros((128, 1, 28, 28), "f"), np.zeros(128, int)
""",
    code="""
x, labels = sg.array("x", (128, 1, 28, 28)), sg.array("labels", (128,), "int64")
cost = nn.cross_entropy(net(x), labels)
f = sg.function([x, labels], cost, updates=nn.SGD(0.05).minimize(cost, net.parameters()))
result = f(image, wanted)
""",
)
COMPILED = (
    ("ResNet-18 forward", FORWARD, 0.8, 0.2),
    ("LeNet-5 training step", STEP, 0.8, 0.2),
)


def compile_rows() -> list[Row]:
    """CPU time from the first symbolic variable to the first result, in a process of its own."""
    rows = []
    for name, source, cold, warm in COMPILED:
        for how, goal, environment in (
            ("cold", cold, lambda source: EmptyCache()),
            ("warm", warm, lambda source: FilledCache(**source)),
        ):
            rows.append(
                Row(
                    f"compile {name}, {how} cache",
                    lambda random: (),
                    lambda s=source, e=environment: Child(**s, environment=e(s)),
                    goal={"seconds": goal},
                    quick=how == "warm",
                )
            )
    return rows


LOAD_SYMGRAPH = dict(
    setup="""
import numpy as np, symgraph as sg
from symgraph import nn
from benchmarks.network_graphs import NETWORKS
from benchmarks.networks import inference
image, network = np.load({image!r}), NETWORKS[{name!r}]
""",
    code="""
net = network.make(rng=0, weight=nn.init.zeros)
sg.load({weights!r}, net.variables())
result = inference(net, image.shape)(image)
""",
    value="result.tolist()",
)
LOAD_ENGINE = dict(
    setup="""
import importlib, numpy as np
importlib.import_module({module!r})
from benchmarks.network_engines import opened
image = np.load({image!r})
""",
    code="result = opened({engine!r}, {path!r}, image).value()",
    value="np.asarray(result).tolist()",
)


def filled(source: dict[str, str], **names: str) -> dict[str, Any]:
    return {part: text.format(**names) for part, text in source.items()}


def load_symgraph(network: Network) -> Callable[..., Child]:
    def build(x: np.ndarray) -> Child:
        weights, image = folder() / f"{network.name}.safetensors", folder() / f"{network.name}.npy"
        sg.save(weights, model(network).variables())
        np.save(image, x)
        names = {"name": network.name, "weights": str(weights), "image": str(image)}
        source = filled(LOAD_SYMGRAPH, **names)
        return Child(**source, environment=FilledCache(**source))

    return build


def load_engine(engine: str, network: Network) -> Callable[..., Child]:
    def build(x: np.ndarray) -> Child:
        path, image = written(engine, network, folder()), folder() / f"{network.name}.npy"
        np.save(image, x)
        names = {"engine": engine, "module": MODULES[engine], "path": str(path)}
        return Child(**filled(LOAD_ENGINE, image=str(image), **names))

    return build


def load_row(network: Network) -> Row:
    return Row(
        f"load {network.name}",
        lambda random: (batch_of(network, 1, random),),
        load_symgraph(network),
        {engine: load_engine(engine, network) for engine in FILES},
        tolerance=TOLERANCE,
        goal={"resident": 1.1} if network.name == "ResNet-50" else {},
        quick=False,
    )


def rows() -> list[Row]:
    images = [network for network in NETWORKS.values() if network.image[-1] == 224]
    return [
        *map(inference_row, NETWORKS.values()),
        *map(training_row, TRAININGS),
        *compile_rows(),
        *map(load_row, images),
    ]


if __name__ == "__main__":
    sys.exit(main("networks", rows()))
