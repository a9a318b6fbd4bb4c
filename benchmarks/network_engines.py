"""Files of networks opened by the engines that run them. Nothing of symgraph is imported here.

`opened` gives a statement that runs a network on one image; its result is the scores [1, classes].
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.timing import Statement

MODULES = {
    "torch": "torch",
    "jax": "jax",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "ncnn": "ncnn",
    "MNN": "MNN",
}


def opened(engine: str, path: Path, x: np.ndarray) -> Statement:
    """The engine's run of the network in a file on x: [1, c, h, w] or [1, features]."""
    return _OPENED[engine](Path(path), x, int(os.environ.get("OMP_NUM_THREADS", "1")))


def channels_last(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


def _torch(path: Path, x: np.ndarray, threads: int) -> Statement:
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    module = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.load(str(path)).eval()))
    return Statement("f(x)", f=module, x=torch.from_numpy(x))


def _jax(path: Path, x: np.ndarray, threads: int) -> Statement:
    import jax
    import jax.export

    function = jax.jit(jax.export.deserialize(bytearray(path.read_bytes())).call)
    with np.load(path.with_suffix(".npz")) as kept:
        weights = [jax.numpy.asarray(kept[name]) for name in kept.files]
    given = jax.numpy.asarray(channels_last(x))
    return Statement("f(x, *w).block_until_ready()", f=function, x=given, w=weights)


def _onnxruntime(path: Path, x: np.ndarray, threads: int) -> Statement:
    import onnxruntime  # type: ignore[import-not-found]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Statement("f(None, given)", f=session.run, given={"x": x})


def _openvino(path: Path, x: np.ndarray, threads: int) -> Statement:
    import openvino  # type: ignore[import-not-found]

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    request, result = compiled.create_infer_request(), compiled.output(0)
    return Statement("f([x])[result]", f=request.infer, x=x, result=result)


def _litert(path: Path, x: np.ndarray, threads: int) -> Statement:
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found]

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    given, result = (
        details[0]["index"]
        for details in (interpreter.get_input_details(), interpreter.get_output_details())
    )
    code = "[put(given, x), run(), get(result)][2]"
    names = {"put": interpreter.set_tensor, "run": interpreter.invoke}
    names |= {"get": interpreter.get_tensor, "given": given, "result": result}
    return Statement(code, x=channels_last(x), **names)


def _ncnn(path: Path, x: np.ndarray, threads: int) -> Statement:
    import ncnn  # type: ignore[import-not-found]

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_bf16_storage = False
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise RuntimeError(f"ncnn does not read {path}")
    last = path.read_text().split("\n")[-2].split()
    result = last[4 + int(last[2])]

    def run(given: object) -> np.ndarray:
        extractor = net.create_extractor()
        extractor.input("b0", given)
        return np.array(extractor.extract(result)[1])[None]

    return Statement("f(x)", f=run, x=ncnn.Mat(x[0]).clone())


def _mnn(path: Path, x: np.ndarray, threads: int) -> Statement:
    import MNN  # type: ignore[import-not-found]

    interpreter = MNN.Interpreter(str(path))
    session = interpreter.createSession({"numThread": threads, "backend": "CPU"})
    order, kind = MNN.Tensor_DimensionType_Caffe, MNN.Halide_Type_Float
    given = MNN.Tensor(x.shape, kind, x, order)
    into, result = interpreter.getSessionInput(session), interpreter.getSessionOutput(session)

    def run() -> np.ndarray:
        into.copyFrom(given)
        interpreter.runSession(session)
        found = MNN.Tensor(result.getShape(), kind, np.zeros(result.getShape(), "f4"), order)
        result.copyToHostTensor(found)
        return np.array(found.getData(), np.float32).reshape(result.getShape())

    return Statement("f()", f=run)


_OPENED: dict[str, Callable[[Path, np.ndarray, int], Statement]] = {
    "torch": _torch,
    "jax": _jax,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "ai-edge-litert": _litert,
    "ncnn": _ncnn,
    "MNN": _mnn,
}
