"""Plans a convolution without zeros around its image: a product whose rows and steps are nests.

    role "output":  rows (n, positions), steps (window, c), B = w      C = y
    role "kernel":  rows (window, c), steps (n, positions), B = y      C = w

In either case A is the image, where position and window meet: along a position it moves by the
stride, along the window by the dilation. Groups are the batch. Axes that lie behind each other
become one: the last axis of a window with its channels, all rows of a window of one point.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from symgraph.dims import SizeLike, known_equal, product
from symgraph.expr import Expr, apply
from symgraph.ops.convolve import Convolve
from symgraph.ops.movement import Place
from symgraph.ops.windows import ConvForm, padded

from . import depthwise
from .affine import Strided, identity, resolve, row_strides, strided
from .contraction import ContractionSpec, lead_axes
from .depthwise import MOST_TAPS, Depthwise
from .epilogue import Frame, Unfit
from .lower.request import Dims
from .nested import Shape
from .prepacked import prepacked
from .product import Finish, contract, unit_axis
from .program import Ref
from .units import Group

if TYPE_CHECKING:
    from .body import Body


class Axis(NamedTuple):
    """An axis of rows or steps: its size, and how far two arrays move along it."""

    size: SizeLike
    a: SizeLike
    other: SizeLike  # C for rows, B for steps


class Geometry(NamedTuple):
    """A convolution as a product: axes outermost first; batch: groups, and moves of A, B, C."""

    rows: list[Axis]
    steps: list[Axis]
    columns: SizeLike
    b_column: SizeLike
    batch: tuple[SizeLike, SizeLike, SizeLike, SizeLike]


def has_kernel(node: Expr) -> bool:
    """Whether `launch` takes a Convolve as it is."""
    op = node.op
    assert isinstance(op, Convolve)
    if op.role == "input" or _is_padded(op.form):
        return False
    return not _is_depthwise(node) or _has_lines(node)


def smaller(node: Expr) -> Expr:
    """A Convolve that has no kernel in ops that have one: with its zeros stored, or its expansion.

    Rewrite: convolve(x, w) with zeros --> convolve(padded x, w) without
    """
    op = node.op
    assert isinstance(op, Convolve) and op.expand is not None
    if op.role == "input" or (_is_depthwise(node) and not _has_lines(node)):
        return op.expand(*node.inputs)
    x, other = node.inputs
    none = (0,) * op.form.rank
    form = op.form._replace(low=none, high=none, image=op.form.padded)
    return apply(Convolve(form, op.role, op.dtype), padded(op.form.windows, x), other)


def _is_padded(form: ConvForm) -> bool:
    return any(n != 0 for n in (*form.low, *form.high))


def _is_depthwise(node: Expr) -> bool:
    """Each channel of the image is a group of its own: nothing is summed over channels."""
    op = node.op
    assert isinstance(op, Convolve)
    groups = op.form.groups
    if op.role == "input":
        return groups > 1 and node.inputs[0].array_type.shape[-2] == 1
    return groups > 1 and known_equal(node.inputs[0].array_type.shape[-1], groups) is True


def _has_lines(node: Expr) -> bool:
    """A depthwise convolution that has the kernel of `depthwise`."""
    op = node.op
    assert isinstance(op, Convolve)
    w, taps = node.inputs[1].array_type.shape, product(op.form.window)
    alike = op.role == "output" and known_equal(w[-1], op.form.groups) is True
    return alike and isinstance(taps, int) and taps <= MOST_TAPS


def launch(body: Body, node: Expr, finish: Finish | None = None) -> str:
    """Add the launch of a Convolve; gives the name of its kernel.

    Raises: Unfit if `finish` cannot be its epilogue.
    """
    views = [resolve(x, identity(x.ndim), body.stored) for x in node.inputs]
    x, other = (strided(v, n.ndim) for v, n in zip(views, node.inputs))
    goal, strides, scattered = home(body, node, finish)
    if _is_depthwise(node):
        refs = [body.where(v.base).moved(s.offset) for v, s in zip(views, (x, other))]
        return _launch_lines(body, node, finish, [*refs, goal], (x, other, strides))
    geometry = _geometry(node, x, other, strides)
    rows, steps = _merged(geometry.rows), _merged(geometry.steps)
    shape = Shape(len(rows), len(steps), scattered=scattered and len(rows) > 1)
    sizes = (product(a.size for a in rows), geometry.columns, product(a.size for a in steps))
    m, n, k = (s if isinstance(s, int) else None for s in sizes)
    left, right = (str(x.array_type.dtype) for x in node.inputs)
    inner = steps[-1].size
    spec = ContractionSpec(
        left,
        str(node.array_type.dtype),
        unit_axis(
            {"k": steps[-1].a, "m": rows[-1].a}, {"k": steps[-1].size, "m": rows[-1].size}, "k"
        ),
        unit_axis(
            {"n": geometry.b_column, "k": steps[-1].other},
            {"n": geometry.columns, "k": steps[-1].size},
            "n",
        ),
        *(m, n, k),
        shape=shape,
        b_dtype=right,
        innermost=inner if isinstance(inner, int) else None,
    )
    lead = lead_axes(spec, body.p.target, [a.size for a in steps])
    spec = spec._replace(shape=shape._replace(lead=lead))
    dims = _dims(geometry, rows, steps, sizes[2])
    packed = prepacked(body, spec, views[1].base, other.offset, dims)
    if packed is not None:
        spec, b, dims["b_batch"] = packed
    else:
        b = body.where(views[1].base).moved(other.offset)
    refs = [body.where(views[0].base).moved(x.offset), b]
    chain = None
    if finish is not None:
        chain = finish.chain(Frame(sizes[0], node.array_type.shape[-1], geometry.columns))
    launched = contract(body, node, spec, [*refs, goal], dims, chain)
    body.steps.append(launched)
    return launched.kernel.name


def _launch_lines(
    body: Body,
    node: Expr,
    finish: Finish | None,
    refs: list[Ref],
    arrays: tuple[Strided, Strided, tuple[SizeLike, ...]],
) -> str:
    """The launch of a depthwise convolution."""
    op, (x, w, y) = node.op, arrays
    assert isinstance(op, Convolve)
    form, shape = op.form, node.array_type.shape
    chain = None if finish is None else finish.chain(Frame(product(shape[:-1]), shape[-1]))
    out = node.array_type.dtype if chain is None else chain.roots[0].array_type.dtype
    what = Depthwise(
        (str(node.inputs[0].array_type.dtype), str(node.inputs[1].array_type.dtype)),
        *(str(out), shape[:-1], shape[-1]),
        x=(x.strides[0], *(s * a for s, a in zip(form.strides, x.strides[1:-1]))),
        y=y[:-1],
        window=form.windows.known,
        taps=tuple(d * a for d, a in zip(form.dilations, x.strides[1:-1])),
        w=w.strides[:-2],
    )
    dims = Dims() if chain is None else chain.dims
    kernel = depthwise.build(what, body.p.target, dims, chain, chain.buffers if chain else ())
    if chain is not None:
        refs += [*map(body.where, chain.reads), *map(body.home, chain.roots[1:])]
    body.launch(kernel, refs, tuple(dims.sizes), product((*shape, *form.window)), node)
    return kernel.name


def home(body: Body, node: Expr, finish: Finish | None) -> tuple[Ref, tuple[SizeLike, ...], bool]:
    """Where the result goes, its strides there, and whether that is not an array of its own."""
    shape = node.array_type.shape
    if finish is None:
        return body.home(node), row_strides(shape), False
    if isinstance(finish.tail.unit, Group):
        return finish.home, row_strides(shape), False
    place = finish.tail.unit.node
    assert isinstance(place.op, Place)
    if place.ndim != len(shape):
        raise Unfit("its reader sees it in another shape")
    strides = row_strides(place.op.shape)
    offset: SizeLike = 0
    for start, stride in zip(place.op.starts, strides):
        offset = offset + start * stride
    return finish.home.moved(offset), strides, True


def _geometry(node: Expr, x: Strided, other: Strided, result: tuple[SizeLike, ...]) -> Geometry:
    op = node.op
    assert isinstance(op, Convolve)
    form = op.form
    batch, channels = node.inputs[0].array_type.shape[0], node.inputs[0].array_type.shape[-1]
    places = list(zip(form.positions, form.strides, x.strides[1:-1]))
    windows = list(zip(form.window, form.dilations, x.strides[1:-1]))
    columns = node.array_type.shape[-1] // form.groups
    inner = channels // form.groups
    groups = (form.groups, inner * x.strides[-1], columns * other.strides[-1], columns)
    if op.role == "output":
        y, w = result, other.strides
    else:
        y, w = other.strides, result
    positions = [Axis(batch, x.strides[0], y[0])]
    positions += [Axis(p, s * a, c) for (p, s, a), c in zip(places, y[1:])]
    window = [Axis(k, d * a, c) for (k, d, a), c in zip(windows, w)]
    window.append(Axis(inner, x.strides[-1], w[-2]))
    rows, steps = (positions, window) if op.role == "output" else (window, positions)
    return Geometry(rows, steps, columns, other.strides[-1], groups)


def _merged(axes: Sequence[Axis]) -> list[Axis]:
    """The axes without those of size 1, neighbours as one where both arrays go on straight."""
    found: list[Axis] = []
    for axis in axes:
        if axis.size == 1:
            continue
        if found and all(
            known_equal(outer, inner * axis.size) is True
            for outer, inner in zip(found[-1][1:], axis[1:])
        ):
            found[-1] = axis._replace(size=found[-1].size * axis.size)
        else:
            found.append(axis)
    return found or [axes[-1]]


def _dims(
    geometry: Geometry, rows: Sequence[Axis], steps: Sequence[Axis], count: SizeLike
) -> dict[str, SizeLike]:
    """The kernel's dims by name."""
    groups, a_batch, b_batch, c_batch = geometry.batch
    dims = {"batch": groups, "a_batch": a_batch, "b_batch": b_batch, "c_batch": c_batch}
    dims |= {"M": rows[0].size, "N": geometry.columns, "K": count}
    dims |= {"a_row": rows[-1].a, "c_row": rows[-1].other, "b_col": geometry.b_column}
    dims |= {"a_col": steps[-1].a, "b_row": steps[-1].other}
    for j, axis in enumerate(rows[1:], 1):
        dims[f"m{j}"] = axis.size
    for j, axis in enumerate(rows[:-1]):
        dims[f"a_m{j}"], dims[f"c_m{j}"] = axis.a, axis.other
    for j, axis in enumerate(steps):
        dims[f"k{j}"] = axis.size
        dims[f"a_k{j}"], dims[f"b_k{j}"] = axis.a, axis.other
    return dims
