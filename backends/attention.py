"""Plans attention and its gradient: what their kernels are specialised to, strides, batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from symgraph.arraytype import Array
from symgraph.dims import SizeLike, product
from symgraph.expr import Expr
from symgraph.ops.attention import Attention, AttentionGradient

from .affine import Strided, identity, resolve, row_strides, strided
from .attention_gradient import gradient_kernel, gradient_workspace
from .attention_kernel import AttentionSpec, attention_kernel, workspace_elements
from .loops import Kernel
from .microkernel import BYTES
from .product import advance, batches
from .program import Group, Launch, Ref, Repeat, Step
from .split import LINE, Slice, Split, may_pay
from .targets import Target

if TYPE_CHECKING:
    from .body import Body


class Access(NamedTuple):
    """An array that a kernel reads or writes: where it lies, strides by axis of the batch and on.

    strides: how many of its last ones are dims of the kernel; by_query: how far it moves from one
    query to the next.
    """

    ref: Ref
    address: Strided
    strides: int = 2
    by_query: SizeLike = 0


def launch(body: Body, node: Expr) -> None:
    """Add the launch of an Attention."""
    reads = [_operand(body, x) for x in node.inputs]
    spec = _spec(node, reads)._replace(total=1 in body.gets.get(id(node), {}))
    arrays = [*reads, _result(body, node, 0)._replace(strides=1)]
    if spec.total:
        arrays.append(_result(body, node, 1))
    moved = (0, *range(3, len(arrays)))  # what has a row for each query
    for i in moved:
        address = arrays[i].address
        axis = -1 if spec.total and i == len(arrays) - 1 else -2
        arrays[i] = arrays[i]._replace(by_query=address.strides[axis])
    kernel = _forward(spec, body.p.target)
    d, e = node.inputs[0].array_type.shape[-1], node.inputs[2].array_type.shape[-1]
    _launch(body, node, kernel, arrays, workspace_elements(spec, body.p.target, d, e))


def launch_gradient(body: Body, node: Expr) -> None:
    """Add the launch of an AttentionGradient."""
    *first, total, delta, slope = node.inputs
    reads = [_operand(body, x) for x in (*first, slope)]
    spec = _spec(node, reads)
    statistics = [
        Access(body.whole(x), Strided(0, row_strides(x.array_type.shape)), 0)
        for x in (total, delta)
    ]
    arrays = [*reads, *statistics, *(_result(body, node, i) for i in range(3))]
    kernel = _gradient(spec, body.p.target)
    (m, d), e = first[1].array_type.shape[-2:], first[2].array_type.shape[-1]
    _launch(body, node, kernel, arrays, gradient_workspace(spec, body.p.target, m, d, e))


@lru_cache(maxsize=64)
def _forward(spec: AttentionSpec, target: Target) -> Kernel:
    return attention_kernel(spec, target)


@lru_cache(maxsize=64)
def _gradient(spec: AttentionSpec, target: Target) -> Kernel:
    return gradient_kernel(spec, target)


def _operand(body: Body, x: Expr) -> Access:
    view = resolve(x, identity(x.ndim), body.stored)
    return Access(body.where(view.base), strided(view, x.ndim))


def _result(body: Body, node: Expr, index: int) -> Access:
    """Where a result goes: to whoever wants it, or nowhere."""
    get = body.gets.get(id(node), {}).get(index)
    type = node.type.items[index]  # type: ignore[union-attr]
    ref = body.home(get) if get is not None else body.p.temp(type)
    return Access(ref, Strided(0, row_strides(type.shape)), 0)


def _spec(node: Expr, reads: Sequence[Access]) -> AttentionSpec:
    """What is known of the operands that are read through strides, in the kernel's order."""
    op = node.op
    assert isinstance(op, (Attention, AttentionGradient))
    n = node.inputs[0].array_type.shape[-2]
    has_mask = len(reads) == (4 if isinstance(op, Attention) else 5)
    units = []
    for x in reads:
        row, column = x.address.strides[-2:]
        units.append("k" if column == 1 else "n" if row == 1 else None)
    return AttentionSpec(
        str(node.inputs[0].dtype),
        op.causal,
        op.scale,
        tuple(units),
        str(node.inputs[3].dtype) if has_mask else "",
        by_key=has_mask and (reads[3].address.strides[-2] == 0 or n == 1),
        strict=op.strict,
        n=n if isinstance(n, int) else None,
    )


def _launch(
    body: Body, node: Expr, kernel: Kernel, arrays: Sequence[Access], elements: SizeLike
) -> None:
    """A launch over the batch, in loops over those of its axes that the kernel cannot take.

    arrays: in the order of the kernel's buffers; elements: of its workspace.
    """
    (*lead, n, d), (m, e) = node.inputs[0].array_type.shape, node.inputs[2].array_type.shape[-2:]
    outer, inner = batches(lead, [x.address for x in arrays])
    batch = product(lead[j] for j in inner)
    items = [x.address.strides[inner[-1]] if inner else 0 for x in arrays]
    strides: list[SizeLike] = []
    for x, item in zip(arrays, items):
        if x.strides:
            strides += [item, *x.address.strides[-2:][: x.strides]]
    space = body.p.temp(Array(node.inputs[0].dtype, (elements,)))
    refs = [advance(body, x.ref, x.address, outer) for x in arrays]
    work = product([batch, n, m, d + e])
    before = (0,) if isinstance(node.op, Attention) else ()
    sizes = (batch, n, m, d, e, *strides, *before)
    split = _split(node, sizes, arrays, items, elements) if may_pay(work) else None
    step: Step = Launch(kernel, (*refs, space), sizes, work, node, (), split)
    for axis in reversed(outer):
        step = Repeat(lead[axis], (step,), False, node)
    body.steps.append(step)
    reason = "the matrix of scores is not stored: attention has a kernel of its own"
    body.p.groups.append(Group(kernel.name, (node,), reason))


def _split(
    node: Expr,
    sizes: tuple[SizeLike, ...],
    arrays: Sequence[Access],
    items: Sequence[SizeLike],
    elements: SizeLike,
) -> Split | None:
    """How the launch may be cut: by items; one item by queries, but for the gradient."""
    if not isinstance(elements, int):
        return None
    scratch, space = len(arrays), elements * BYTES[str(node.inputs[0].dtype)]
    if sizes[0] != 1:
        return Split(sizes[0], 1, slice=Slice(0, (*items, 0), scratch, space))
    if isinstance(node.op, AttentionGradient):
        return None
    moves = (*(x.by_query for x in arrays), 0)
    return Split(sizes[1], LINE, slice=Slice(1, moves, scratch, space, len(sizes) - 1))


HANDLERS: dict[type, Callable[[Body, Expr], None]] = {
    Attention: launch,
    AttentionGradient: launch_gradient,
}
