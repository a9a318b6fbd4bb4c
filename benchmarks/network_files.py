"""Networks as the files that inference engines read: ONNX, ncnn, TensorFlow Lite, torch, jax.

`written` makes a network's file for an engine; benchmarks.network_engines opens it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.network_graphs import (
    NETWORKS,
    JaxWriter,
    Network,
    TorchWriter,
    Writer,
    model,
    outer_first,
    told,
    value,
)
from benchmarks.timing import Child


def written(engine: str, network: Network, folder: Path) -> Path:
    """The file of a network for an engine, in the folder; made if it is not there.

    A process of its own makes it: converters take much memory, which none of them gives back.
    Raises: ModuleNotFoundError that names the library that is missing.
    """
    path = folder / f"{network.name.replace(' ', '-')}{FILES[engine][0]}"
    if not path.exists():
        code = "from benchmarks.network_files import write; write({!r}, {!r}, {!r})"
        Child(code.format(engine, network.name, str(path))).sample()
    return path


def write(engine: str, name: str, path: str) -> None:
    """Make the file of a network for an engine."""
    FILES[engine][1](NETWORKS[name], Path(path))


# -------------------------------------------------------------------------------------------- ONNX


class OnnxWriter(Writer):
    """Values are names; nodes and initializers are collected."""

    def __init__(self) -> None:
        import onnx  # type: ignore[import-not-found]

        super().__init__()
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def weight(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def active(self, x: str, name: str | None) -> str:
        if name == "relu6":
            low, high = (self.weight(np.array(v, np.float32)) for v in (0, 6))
            return self.node("Clip", x, low, high)
        return x if name is None else self.node("Relu", x)

    def conv(self, x: str, w: Any, b: Any, options: dict[str, int], activation: Any) -> str:
        array = outer_first(value(w))
        given = [x, self.weight(array)] + ([] if b is None else [self.weight(value(b))])
        y = self.node(
            "Conv",
            *given,
            strides=[options["stride"]] * 2,
            pads=[options["padding"]] * 4,
            group=options["groups"],
            kernel_shape=list(array.shape[2:]),
        )
        return self.active(y, activation)

    def dense(self, x: str, w: Any, b: Any, activation: Any) -> str:
        y = self.node("Gemm", x, self.weight(value(w)), self.weight(value(b)))
        return self.active(y, activation)

    def max_pool(self, x: str, window: int, stride: int, padding: int) -> str:
        size, step, around = [window] * 2, [stride] * 2, [padding] * 4
        return self.node("MaxPool", x, kernel_shape=size, strides=step, pads=around)

    def mean(self, x: str) -> str:
        return self.node("Flatten", self.node("GlobalAveragePool", x))

    def flatten(self, x: str) -> str:
        return self.node("Flatten", x)

    def add(self, x: str, y: str, activation: Any) -> str:
        return self.active(self.node("Add", x, y), activation)


def write_onnx(network: Network, path: Path) -> None:
    writer = OnnxWriter()
    helper, kind = writer.onnx.helper, writer.onnx.TensorProto.FLOAT
    result = told(model(network), "x", writer)
    given = helper.make_tensor_value_info("x", kind, [1, *network.image])
    found = helper.make_tensor_value_info(result, kind, [1, 10 if classes(network) == 10 else 1000])
    graph = helper.make_graph(writer.nodes, network.name, [given], [found], writer.weights)
    opset = [helper.make_opsetid("", 17)]
    writer.onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(path))


def classes(network: Network) -> int:
    return 1000 if network.image[-1] == 224 else 10


def write_mnn(network: Network, path: Path) -> None:
    """MNN's own converter reads ONNX."""
    import MNN  # type: ignore[import-not-found]  # noqa: F401

    onnx = written("onnxruntime", network, path.parent)
    convert = "from MNN.tools import mnnconvert; mnnconvert.main()"
    words = ["-f", "ONNX", "--modelFile", str(onnx), "--MNNModel", str(path), "--bizCode", "b"]
    done = subprocess.run([sys.executable, "-c", convert, *words], capture_output=True, text=True)
    if not path.exists():
        raise RuntimeError(f"mnnconvert made no file:\n{done.stdout}{done.stderr}")


# -------------------------------------------------------------------------------------------- ncnn


class NcnnWriter(Writer):
    """ncnn's text of layers and its file of weights; values are names of blobs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[tuple[str, list[str], str]] = []  # kind, inputs, parameters
        self.weights: list[bytes] = []

    def layer(self, kind: str, inputs: Sequence[str], parameters: str = "") -> str:
        self.layers.append((kind, list(inputs), parameters))
        return f"b{len(self.layers) - 1}"

    def keep(self, w: np.ndarray, b: Any) -> None:
        """A weight with the word in front that says it is float32, and a bias without."""
        self.weights += [bytes(4), w.tobytes(), b"" if b is None else value(b).tobytes()]

    def conv(self, x: str, w: Any, b: Any, options: dict[str, int], activation: Any) -> str:
        array, groups = outer_first(value(w)), options["groups"]
        self.keep(array, b)
        text = (
            f"0={len(array)} 1={array.shape[2]} 3={options['stride']} 4={options['padding']} "
            f"5={int(b is not None)} 6={array.size}{_NCNN_ACTIVE[activation]}"
        )
        if groups == 1:
            return self.layer("Convolution", [x], text)
        return self.layer("ConvolutionDepthWise", [x], f"{text} 7={groups}")

    def dense(self, x: str, w: Any, b: Any, activation: Any) -> str:
        array = np.ascontiguousarray(value(w).T)
        self.keep(array, b)
        text = f"0={len(array)} 1=1 2={array.size}{_NCNN_ACTIVE[activation]}"
        return self.layer("InnerProduct", [x], text)

    def max_pool(self, x: str, window: int, stride: int, padding: int) -> str:
        return self.layer("Pooling", [x], f"0=0 1={window} 2={stride} 3={padding} 5=1")

    def mean(self, x: str) -> str:
        return self.layer("Pooling", [x], "0=1 4=1")

    def flatten(self, x: str) -> str:
        return self.layer("Flatten", [x])

    def add(self, x: str, y: str, activation: Any) -> str:
        y = self.layer("BinaryOp", [x, y], "0=0")
        return y if activation is None else self.layer("ReLU", [y])

    def text(self) -> str:
        """The layers, with a Split behind each blob that is read more than once."""
        uses: dict[str, int] = {}
        for _, inputs, _ in self.layers:
            for name in inputs:
                uses[name] = uses.get(name, 0) + 1
        lines, blobs, read = [], 0, dict.fromkeys(uses, 0)
        for i, (kind, inputs, parameters) in enumerate(self.layers):
            name, given = f"b{i}", []
            for x in inputs:
                given.append(f"{x}_{read[x]}" if uses[x] > 1 else x)
                read[x] += 1
            many = uses.get(name, 0)
            lines.append(f"{kind} l{i} {len(given)} 1 {' '.join([*given, name])} {parameters}")
            blobs += 1
            if many > 1:
                copies = " ".join(f"{name}_{k}" for k in range(many))
                lines.append(f"Split s{i} 1 {many} {name} {copies}")
                blobs += many
        return "\n".join(["7767517", f"{len(lines)} {blobs}", *lines]) + "\n"


_NCNN_ACTIVE = {None: "", "relu": " 9=1", "relu6": " 9=3 -23310=2,0.0,6.0"}


def write_ncnn(network: Network, path: Path) -> None:
    import ncnn  # type: ignore[import-not-found]  # noqa: F401

    writer = NcnnWriter()
    told(model(network), writer.layer("Input", []), writer)
    path.with_suffix(".bin").write_bytes(b"".join(writer.weights))
    path.write_text(writer.text())


# --------------------------------------------------------------------------------- TensorFlow Lite


class TensorflowWriter(Writer):
    """Calls of tf.nn in channels-last order, for its converter."""

    def __init__(self) -> None:
        import tensorflow  # type: ignore[import-untyped, import-not-found, unused-ignore]

        super().__init__()
        self.tf = tensorflow

    def active(self, x: Any, name: str | None) -> Any:
        return x if name is None else getattr(self.tf.nn, name)(x)

    def conv(self, x: Any, w: Any, b: Any, options: dict[str, int], activation: Any) -> Any:
        array, stride, padding = value(w), options["stride"], options["padding"]
        same = stride == 1 and padding == array.shape[0] // 2
        if padding and not same:
            x = self.tf.pad(x, [[0, 0], [padding] * 2, [padding] * 2, [0, 0]])
        place = "SAME" if same else "VALID"
        if options["groups"] > 1:
            turned = array.transpose(0, 1, 3, 2)
            y = self.tf.nn.depthwise_conv2d(x, turned, [1, stride, stride, 1], place)
        else:
            y = self.tf.nn.conv2d(x, array, stride, place)
        return self.active(y if b is None else y + value(b), activation)

    def dense(self, x: Any, w: Any, b: Any, activation: Any) -> Any:
        return self.active(self.tf.matmul(x, value(w)) + value(b), activation)

    def max_pool(self, x: Any, window: int, stride: int, padding: int) -> Any:
        if padding:
            around = [[0, 0], [padding] * 2, [padding] * 2, [0, 0]]
            x = self.tf.pad(x, around, constant_values=float(np.finfo(np.float32).min))
        return self.tf.nn.max_pool2d(x, window, stride, "VALID")

    def mean(self, x: Any) -> Any:
        return self.tf.reduce_mean(x, [1, 2])

    def flatten(self, x: Any) -> Any:
        return self.tf.reshape(self.tf.transpose(x, [0, 3, 1, 2]), [x.shape[0], -1])

    def add(self, x: Any, y: Any, activation: Any) -> Any:
        return self.active(x + y, activation)


def write_tflite(network: Network, path: Path) -> None:
    """tensorflow converts; images are [n, h, w, c] there."""
    import ai_edge_litert  # type: ignore[import-not-found]  # noqa: F401

    writer, net = TensorflowWriter(), model(network)
    c, *size = network.image
    shape = [1, *size, c] if size else [1, c]
    spec = [writer.tf.TensorSpec(shape, writer.tf.float32)]
    function = writer.tf.function(lambda x: told(net, x, writer), input_signature=spec)
    concrete = [function.get_concrete_function()]
    path.write_bytes(writer.tf.lite.TFLiteConverter.from_concrete_functions(concrete).convert())


# -------------------------------------------------------------------------------------- torch, jax


def write_torch(network: Network, path: Path) -> None:
    """A traced module that holds its weights."""
    import torch

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.writer, self.net = TorchWriter(self.hold), model(network)
            self.held = torch.nn.ParameterList()

        def hold(self, array: np.ndarray) -> Any:
            self.held.append(torch.nn.Parameter(torch.from_numpy(array.copy()), False))
            return self.held[-1]

        def forward(self, x: Any) -> Any:
            return told(self.net, x, self.writer)

    module, x = Module().eval(), torch.zeros(1, *network.image)
    with torch.no_grad():
        module(x)
        torch.jit.trace(module, x, check_trace=False).save(str(path))


def write_jax(network: Network, path: Path) -> None:
    """An exported function of the image and the weights, and the weights beside it."""
    import jax
    import jax.export

    taken: list[np.ndarray] = []

    class Taking(JaxWriter):
        def array(self, w: Any) -> Any:
            taken.append(value(w))
            return jax.numpy.asarray(taken[-1])

    class Given(JaxWriter):
        def array(self, w: Any) -> Any:
            return next(self.weights)

        def __init__(self, weights: Sequence[Any]):
            super().__init__()
            self.weights = iter(weights)

    net, (c, *size) = model(network), network.image
    shape = jax.ShapeDtypeStruct((1, *size, c) if size else (1, c), "float32")
    jax.eval_shape(lambda x: told(net, x, Taking()), shape)
    weights = [jax.ShapeDtypeStruct(w.shape, w.dtype) for w in taken]
    function = jax.jit(lambda x, *weights: told(net, x, Given(weights)))
    path.write_bytes(jax.export.export(function)(shape, *weights).serialize())
    np.savez(path.with_suffix(".npz"), *taken)


FILES: dict[str, tuple[str, Callable[[Network, Path], None]]] = {
    "torch": (".pt", write_torch),
    "jax": (".jax", write_jax),
    "onnxruntime": (".onnx", write_onnx),
    "openvino": (".onnx", write_onnx),
    "ai-edge-litert": (".tflite", write_tflite),
    "ncnn": (".param", write_ncnn),
    "MNN": (".mnn", write_mnn),
}
