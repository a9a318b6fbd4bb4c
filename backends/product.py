"""Plans a matrix product: what its kernel is specialised to, its operands' strides, its batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from symgraph.arraytype import Array
from symgraph.dims import SizeLike, known_equal, product
from symgraph.dtypes import dtype
from symgraph.expr import Expr

from .affine import Strided, identity, resolve, row_strides, strided
from .contraction import (
    ContractionSpec,
    build_contraction,
    contraction,
    product_split,
    workspace_elements,
)
from .epilogue import Epilogue, Frame, Tail, Unfit
from .prepacked import prepacked
from .program import Launch, Ref, Repeat, Step
from .split import may_pay

if TYPE_CHECKING:
    from .body import Body


def launch(body: Body, node: Expr, finish: Finish | None = None) -> str:
    """Add the launch of a MatMul, in loops over the batch axes that its kernel cannot take.

    Gives the name of the kernel.
    Raises: Unfit if `finish` cannot be its epilogue.
    """
    rank = node.ndim
    views = [resolve(x, identity(rank), body.stored) for x in node.inputs]
    a, b = (strided(v, rank) for v in views)
    shape = node.array_type.shape
    k = node.inputs[0].array_type.shape[-1]
    c = Strided(0, row_strides(shape))
    outer, inner = batches(shape[:-2], [a, b, c])
    m, n = shape[-2:]
    dtypes = [str(x.array_type.dtype) for x in node.inputs]
    spec = ContractionSpec(
        dtypes[0],
        str(node.array_type.dtype),
        unit_axis({"k": a.strides[-1], "m": a.strides[-2]}, {"k": k, "m": m}, "k"),
        unit_axis({"n": b.strides[-1], "k": b.strides[-2]}, {"n": n, "k": k}, "n"),
        m if isinstance(m, int) else None,
        n if isinstance(n, int) else None,
        k if isinstance(k, int) else None,
        b_dtype=dtypes[1],
    )
    last = inner[-1] if inner else None
    moves = (s.strides[last] if last is not None else 0 for s in (a, b, c))
    dims = {"batch": product(shape[j] for j in inner), "M": m, "N": n, "K": k}
    dims |= dict(zip(("a_batch", "b_batch", "c_batch"), moves))
    dims |= {"a_row": a.strides[-2], "a_col": a.strides[-1], "c_row": c.strides[-2]}
    dims |= {"b_row": b.strides[-2], "b_col": b.strides[-1]}
    if finish is not None and outer:
        raise Unfit("it takes loops around its kernel")
    packed = None if outer else prepacked(body, spec, views[1].base, b.offset, dims)
    if packed is not None:
        spec, right, dims["b_batch"] = packed
    else:
        right = advance(body, body.where(views[1].base), b, outer)
    home = finish.home if finish else body.home(node)
    refs = [advance(body, body.where(views[0].base), a, outer), right]
    refs.append(advance(body, home, c, outer))
    launched = contract(body, node, spec, refs, dims, finish and finish.chain(Frame(m, n)))
    step: Step = launched
    for axis in reversed(outer):
        step = Repeat(shape[axis], (step,), False, node)
    body.steps.append(step)
    return launched.kernel.name


class Finish(NamedTuple):
    """What takes a product's values: the tail, and where its first root goes."""

    tail: Tail
    home: Ref
    stored: Callable[[Expr], bool]

    def chain(self, frame: Frame) -> Epilogue:
        """The epilogue's code.  Raises: Unfit."""
        return Epilogue(self.tail, frame, self.stored)


def contract(
    body: Body,
    node: Expr,
    spec: ContractionSpec,
    refs: Sequence[Ref],
    dims: Mapping[str, SizeLike],
    chain: Epilogue | None = None,
) -> Launch:
    """The launch of the kernel of `spec` on A, B and C at `refs`.  dims: by name."""
    target = body.p.target
    args = list(refs)
    more: list[SizeLike] = []
    if chain is None:
        kernel = contraction(spec, target)
    else:
        spec = spec._replace(out=str(chain.roots[0].array_type.dtype))
        kernel = build_contraction(spec, target, chain, chain.buffers, chain.dims.vars)
        more = chain.dims.sizes
    space = workspace_elements(spec, target)
    if space:
        args.append(body.p.temp(Array(dtype(spec.accumulate), (space,))))
    if chain is not None:
        args += [*map(body.where, chain.reads), *map(body.home, chain.roots[1:])]
    sizes = (*(dims[name] for name in spec.shape.dims()), *more)
    work = product(node.array_type.shape) * dims["K"]
    moves = chain.moves if chain is not None else ()
    split = product_split(spec, target, sizes, moves) if may_pay(work) else None
    return Launch(kernel, tuple(args), sizes, work, node, (), split)


def advance(body: Body, ref: Ref, address: Strided, outer: Sequence[int]) -> Ref:
    """`ref` moved to where a strided view starts, stepping along the outer batch axes."""
    strides = tuple(address.strides[j] for j in outer)
    return ref.moved(address.offset, body.depth, strides)


def batches(batch: Sequence[SizeLike], addresses: Sequence[Strided]) -> tuple[list[int], list[int]]:
    """Batch axes that need a loop around the kernel, and the trailing ones its own loop takes."""
    inner: list[int] = []
    for axis in reversed(range(len(batch))):
        if inner and not all(
            known_equal(s.strides[axis], s.strides[inner[0]] * batch[inner[0]]) is True
            for s in addresses
        ):
            break
        inner.insert(0, axis)
    return list(range(len(batch) - len(inner))), inner


def unit_axis(
    strides: dict[str, SizeLike], sizes: dict[str, SizeLike], preferred: str
) -> str | None:
    """The axis of an operand along which elements are neighbours; of several, one longer than 1."""
    unit = [axis for axis in (preferred, *strides) if strides[axis] == 1]
    return next((axis for axis in unit if sizes[axis] != 1), unit[0] if unit else None)
