"""Matrix products and convolutions against NumPy (OpenBLAS), torch (oneDNN) and jax (XLA).

    python -m benchmarks.contractions [--quick] [--check] [--threads N] [--cpu NAME] [--rows A,B]

Products are named M x K x N; "T" marks an operand that is given transposed, as gradients have it.
Convolutions are named by image, channels and window; images lie channels-last for us and for jax;
torch gets them in either order. Kernels are constants in "inference" rows, arguments elsewhere.
Attention counts the products that a causal mask leaves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import narrow_products
from benchmarks.attention_rows import attention_rows
from benchmarks.harness import Row, Work, main
from benchmarks.timing import Statement
from benchmarks.torch_peer import torch_of_one_pool

Build = Callable[..., Statement]

# --------------------------------------------------------------------------------- matrix products

PEAK = {"float32": "fma_f32", "float64": "fma_f64"}


class Product(NamedTuple):
    """[batch x] M x K x N, which operands are transposed, and goals."""

    sizes: tuple[int, int, int]
    turn_a: bool = False
    turn_b: bool = False
    goal: float = 1.0
    fraction: float | None = None
    dtype: str = "float32"
    batch: tuple[int, ...] = ()
    quick: bool = False

    @property
    def name(self) -> str:
        m, k, n = self.sizes
        batch = "".join(f"{b} x " for b in self.batch)
        product = f"{batch}{m}{'T' * self.turn_a} x {k} x {n}{'T' * self.turn_b}"
        return product if self.dtype == "float32" else f"{product} {self.dtype}"


def squares(dtype: str) -> list[Product]:
    """Cubes; those that fit no cache have the highest aims."""
    return [
        Product(
            (n, n, n),
            fraction=0.9 if dtype == "float32" and 256 <= n <= 1024 else None,
            dtype=dtype,
            quick=dtype == "float32" and n in (64, 512),
        )
        for n in (64, 128, 256, 512, 1024, 2048)
    ]


SHAPES = [
    Product((4, 512, 512)),
    Product((16, 512, 512)),
    Product((196, 1152, 128)),
    Product((100, 100, 100)),
    Product((37, 129, 65)),
    Product((128, 784, 500), quick=True),
    Product((784, 128, 500), turn_a=True),
    Product((128, 500, 784), turn_b=True),
    Product((128, 500, 10), goal=0.9),
    Product((1, 784, 500), goal=0.9, quick=True),
    Product((1, 1024, 1024), goal=0.9),
    Product((1, 1024, 1024), turn_b=True, goal=0.9),
    Product((1024, 1024, 1), goal=0.9),
    Product((1, 4096, 4096)),
    Product((512, 512, 512), turn_b=True),
    Product((512, 512, 512), turn_a=True),
    Product((64, 64, 64), batch=(64,)),
]


def random_shapes(many: int = 50) -> list[Product]:
    """Sizes from 1 to 700, the same ones each time."""
    random = np.random.default_rng(1)
    drawn = (tuple(int(s) for s in random.integers(1, 701, 3)) for _ in range(many))
    return [Product(sizes, goal=0.9) for sizes in drawn]  # type: ignore[arg-type]


def product_inputs(case: Product) -> Any:
    """A maker of A and B as they lie in memory."""
    m, k, n = case.sizes
    a, b = (k, m) if case.turn_a else (m, k), (n, k) if case.turn_b else (k, n)
    shapes = (*case.batch, *a), (*case.batch, *b)
    return lambda random: tuple(random.standard_normal(s).astype(case.dtype) for s in shapes)


def product_symgraph(case: Product) -> Build:
    """Ours, compiled for the sizes at hand."""

    def build(a: np.ndarray, b: np.ndarray) -> Statement:
        import symgraph as sg

        x, y = sg.array("x", a.shape, case.dtype), sg.array("y", b.shape, case.dtype)
        result = (x.mT if case.turn_a else x) @ (y.mT if case.turn_b else y)
        return Statement("f(a, b)", f=sg.function([x, y], result), a=a, b=b)

    return build


def product_numpy(case: Product) -> Build:
    """NumPy's, on the same memory."""

    def build(a: np.ndarray, b: np.ndarray) -> Statement:
        x, y = a.mT if case.turn_a else a, b.mT if case.turn_b else b
        return Statement("x @ y", x=x, y=y)

    return build


def product_torch(case: Product) -> Build:
    """torch's, on the same memory."""

    def build(a: np.ndarray, b: np.ndarray) -> Statement:
        torch = torch_of_one_pool()
        x, y = torch.from_numpy(a), torch.from_numpy(b)
        x, y = x.mT if case.turn_a else x, y.mT if case.turn_b else y
        return Statement("f(x, y)", f=torch.matmul, x=x, y=y)

    return build


def product_row(case: Product) -> Row:
    """One product; the tolerance is K * eps for operands of unit variance."""
    m, k, n = case.sizes
    many = int(np.prod(case.batch))
    width = np.dtype(case.dtype).itemsize
    size = many * width * (m * k + k * n + m * n)
    goal = {"ratio": case.goal} | ({"fraction": case.fraction} if case.fraction else {})
    return Row(
        case.name,
        product_inputs(case),
        product_symgraph(case),
        {"numpy": product_numpy(case), "torch": product_torch(case)},
        tolerance=k * float(np.finfo(case.dtype).eps),
        work=Work(2 * many * m * k * n, PEAK[case.dtype], size, "read_L2"),
        goal=goal,
        quick=case.quick,
    )


# ------------------------------------------------------------------------------------ convolutions


class Layer(NamedTuple):
    """One convolution of square images."""

    size: int
    channels: int
    outputs: int
    window: int
    stride: int = 1
    padding: int = 0
    groups: int = 1

    @property
    def name(self) -> str:
        depthwise = " depthwise" if self.groups == self.channels > 1 else ""
        step = f"/{self.stride}" if self.stride > 1 else ""
        return (
            f"conv {self.window}x{self.window}{step}{depthwise} "
            f"{self.size}x{self.size}x{self.channels}->{self.outputs}"
        )

    @property
    def positions(self) -> int:
        return (self.size + 2 * self.padding - self.window) // self.stride + 1

    @property
    def steps(self) -> int:
        """Products that an element of the result is the sum of."""
        return self.window**2 * self.channels // self.groups

    def operations(self, batch: int) -> int:
        return 2 * batch * self.positions**2 * self.outputs * self.steps


SQUARE = [Layer(size, c, c, 3, padding=1) for size, c in ((56, 64), (28, 128), (14, 256), (7, 512))]
POINTS = [Layer(56, 64, 256, 1), Layer(7, 2048, 512, 1)]
STEM = Layer(224, 3, 64, 7, 2, 3)
DEPTHWISE = [Layer(112, 32, 32, 3, 1, 1, 32), Layer(14, 384, 384, 3, 1, 1, 384)]
TRANSPOSED = Layer(28, 64, 128, 4, 2, 1)  # from the positions of this one to its image
BATCH = 16  # of gradients


def layer_inputs(layer: Layer, batch: int, names: str) -> Any:
    """A maker of the image, the kernel and the slope of the result, channels-last."""
    shapes = {
        "x": (batch, layer.size, layer.size, layer.channels),
        "w": (layer.window, layer.window, layer.channels // layer.groups, layer.outputs),
        "y": (batch, layer.positions, layer.positions, layer.outputs),
    }
    return lambda random: tuple(
        random.standard_normal(shapes[name]).astype(np.float32) for name in names
    )


def convolved(layer: Layer, x: Any, w: Any) -> Any:
    """The convolution in our words."""
    import symgraph as sg

    return sg.conv2d(
        x, w, stride=layer.stride, padding=layer.padding, groups=layer.groups, layout="NHWC"
    )


def inference_symgraph(layer: Layer, precision: str = "exact") -> Build:
    def build(x: np.ndarray, w: np.ndarray) -> Statement:
        import symgraph as sg

        image = sg.array("x", x.shape)
        y = convolved(layer, image, sg.constant(w))
        f = sg.function([image], y, precision=precision)
        return Statement("f(x)", f=f, x=x)

    return build


def forward_symgraph(layer: Layer) -> Build:
    def build(x: np.ndarray, w: np.ndarray) -> Statement:
        import symgraph as sg

        image, kernel = sg.array("x", x.shape), sg.array("w", w.shape)
        f = sg.function([image, kernel], convolved(layer, image, kernel))
        return Statement("f(x, w)", f=f, x=x, w=w)

    return build


def gradients_symgraph(layer: Layer) -> Build:
    """Both gradients in one function, from the slope of the result."""

    def build(x: np.ndarray, w: np.ndarray, y: np.ndarray) -> Statement:
        import symgraph as sg

        given = [sg.array(name, v.shape) for name, v in zip("xwy", (x, w, y))]
        loss = (convolved(layer, *given[:2]) * given[2]).sum()
        f = sg.function(given, sg.grad(loss, given[:2]))
        return Statement("f(x, w, y)", f=f, x=x, w=w, y=y)

    return build


def transposed_symgraph(layer: Layer) -> Build:
    def build(w: np.ndarray, y: np.ndarray) -> Statement:
        import symgraph as sg

        kernel, given = sg.array("w", w.shape), sg.array("y", y.shape)
        image = sg.array("x", (len(y), layer.size, layer.size, layer.channels))
        slope = sg.grad((convolved(layer, image, kernel) * given).sum(), image)
        f = sg.function([kernel, given], slope)
        return Statement("f(w, y)", f=f, w=w, y=y)

    return build


def torch_arrays(torch: Any, last: bool, *arrays: np.ndarray) -> list[Any]:
    """Images and slopes as torch has them; kernels are those of square windows."""
    order = torch.channels_last if last else torch.contiguous_format
    return [torch.from_numpy(a).contiguous(memory_format=order) for a in arrays]


def torch_image(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def torch_kernel(w: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(w.transpose(3, 2, 0, 1))


def forward_torch(layer: Layer, last: bool) -> Build:
    def build(x: np.ndarray, w: np.ndarray) -> Statement:
        torch = torch_of_one_pool()
        image, kernel = torch_arrays(torch, last, torch_image(x), torch_kernel(w))
        return Statement(
            "f(x, w, None, s, p, 1, g).permute(0, 2, 3, 1)",
            **{"f": torch.conv2d, "x": image, "w": kernel},
            **{"s": layer.stride, "p": layer.padding, "g": layer.groups},
        )

    return build


def backward_torch(layer: Layer, last: bool, wanted: str) -> Build:
    """Gradients of the operands that `wanted` names."""
    mask = ["x" in wanted, "w" in wanted, False]
    parts = {"x": "r[0].permute(0, 2, 3, 1)", "w": "r[1].permute(2, 3, 1, 0)"}
    given = ", ".join(parts[name] for name in wanted)

    def build(*arrays: np.ndarray) -> Statement:
        torch = torch_of_one_pool()
        *first, w, y = arrays
        x = first[0] if first else np.zeros((len(y), layer.size, layer.size, layer.channels), "f4")
        image, kernel, slope = torch_arrays(
            torch, last, torch_image(x), torch_kernel(w), torch_image(y)
        )
        s, p = [layer.stride] * 2, [layer.padding] * 2
        settings = (None, s, p, [1, 1], False, [0, 0], layer.groups, mask)
        return Statement(
            f"[({given}) for r in [f(y, x, w, *settings)]][0]",
            **{"f": torch.ops.aten.convolution_backward, "settings": settings},
            **{"x": image, "w": kernel, "y": slope},
        )

    return build


def jax_convolution(layer: Layer) -> Any:
    """The convolution as jax writes it: not compiled yet."""
    import jax

    pad = [(layer.padding, layer.padding)] * 2
    return lambda x, w: jax.lax.conv_general_dilated(
        *(x, w, (layer.stride, layer.stride), pad),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=layer.groups,
    )


def forward_jax(layer: Layer) -> Build:
    def build(x: np.ndarray, w: np.ndarray) -> Statement:
        import jax

        f = jax.jit(jax_convolution(layer))
        given = {"x": jax.numpy.asarray(x), "w": jax.numpy.asarray(w)}
        return Statement("f(x, w).block_until_ready()", f=f, **given)

    return build


def backward_jax(layer: Layer, wanted: str) -> Build:
    def build(*arrays: np.ndarray) -> Statement:
        import jax

        *first, w, y = (jax.numpy.asarray(v) for v in arrays)
        x = first[0] if first else jax.numpy.zeros((len(y), layer.size, layer.size, layer.channels))
        forward = jax_convolution(layer)

        def gradients(x: Any, w: Any, y: Any) -> Any:
            found = dict(zip("xw", jax.vjp(forward, x, w)[1](y)))
            return [found[name] for name in wanted] if len(wanted) > 1 else found[wanted]

        f = jax.jit(gradients)
        return Statement("block(f(x, w, y))", f=f, x=x, w=w, y=y, block=jax.block_until_ready)

    return build


def layer_row(
    name: str,
    inputs: Any,
    ours: Build,
    peers: dict[str, Build],
    work: tuple[int, int],
    goal: dict[str, float],
    quick: bool = False,
) -> Row:
    """work: operations, and the products summed for one element."""
    operations, steps = work
    return Row(
        name,
        inputs,
        ours,
        peers,
        tolerance=max(64, steps) * float(np.finfo(np.float32).eps),
        work=Work(operations, "fma_f32"),
        goal=goal,
        quick=quick,
        needs="conv2d",
    )


def forward_peers(layer: Layer) -> dict[str, Build]:
    return {
        "torch": forward_torch(layer, True),
        "torch NCHW": forward_torch(layer, False),
        "jax": forward_jax(layer),
    }


def backward_peers(layer: Layer, wanted: str) -> dict[str, Build]:
    return {
        "torch": backward_torch(layer, True, wanted),
        "torch NCHW": backward_torch(layer, False, wanted),
        "jax": backward_jax(layer, wanted),
    }


def forward_rows() -> list[Row]:
    """One image, the kernel a constant; and a kernel that comes with the call."""
    goals: list[tuple[Layer, dict[str, float]]] = [
        *((layer, {"ratio": 1.0, "fraction": 0.93}) for layer in SQUARE),
        *((layer, {"ratio": 1.0}) for layer in (*POINTS, STEM, *DEPTHWISE)),
    ]
    rows = []
    for layer, goal in goals:
        inputs, work = layer_inputs(layer, 1, "xw"), (layer.operations(1), layer.steps)
        peers, quick = forward_peers(layer), layer is SQUARE[0]
        ours = inference_symgraph(layer)
        rows.append(layer_row(f"{layer.name} inference", inputs, ours, peers, work, goal, quick))
        if layer in SQUARE:
            ours = forward_symgraph(layer)
            rows.append(layer_row(layer.name, inputs, ours, peers, work, {"ratio": 1.0}))
    return rows


def fast_rows() -> list[Row]:
    """The kernel a constant, precision="fast": against our own direct convolution as well."""
    rows = []
    for layer, goal in zip(SQUARE, (1.9, 1.9, 1.0, 1.0)):
        peers = {"direct": inference_symgraph(layer), **forward_peers(layer)}
        ours, work = inference_symgraph(layer, "fast"), (layer.operations(1), layer.steps)
        inputs, name = layer_inputs(layer, 1, "xw"), f"{layer.name} inference, fast"
        rows.append(layer_row(name, inputs, ours, peers, work, {"ratio": goal}))
    return rows


def backward_rows() -> list[Row]:
    """Both gradients, and the transposed convolution, which is one of them."""
    rows = []
    for layer in (*SQUARE, *POINTS):
        inputs = layer_inputs(layer, BATCH, "xwy")
        steps = max(layer.window**2 * layer.outputs, BATCH * layer.positions**2)
        rows.append(
            layer_row(
                f"gradients of {layer.name}, batch {BATCH}",
                inputs,
                gradients_symgraph(layer),
                backward_peers(layer, "xw"),
                (2 * layer.operations(BATCH), steps),
                {"ratio": 1.1},
                quick=layer is SQUARE[1],
            )
        )
    layer = TRANSPOSED
    rows.append(
        layer_row(
            f"transposed {layer.window}x{layer.window}/{layer.stride} "
            f"{layer.positions}x{layer.positions}x{layer.outputs}->{layer.channels}",
            layer_inputs(layer, 1, "wy"),
            transposed_symgraph(layer),
            backward_peers(layer, "x"),
            (layer.operations(1), layer.steps),
            {"ratio": 1.0},
        )
    )
    return rows


def rows() -> Sequence[Row]:
    products = [*squares("float32"), *SHAPES, *random_shapes(), *squares("float64")]
    convolutions = [*forward_rows(), *fast_rows(), *backward_rows()]
    narrow = narrow_products.rows(SQUARE)
    return [*map(product_row, products), *convolutions, *narrow, *attention_rows()]


if __name__ == "__main__":
    sys.exit(main("contractions", rows()))
