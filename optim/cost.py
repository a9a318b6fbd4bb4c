"""What a node costs, as a protocol that targets implement, and the predicate `cheaper`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from symgraph.arraytype import Array
from symgraph.dims import SizeLike
from symgraph.expr import Expr, toposort
from symgraph.op import Op
from symgraph.ops.attention import Attention, AttentionGradient
from symgraph.ops.contract import MatMul
from symgraph.ops.convolve import GIVES, OPERANDS, Convolve
from symgraph.ops.define import Cast, Elementwise
from symgraph.ops.movement import Reshape

if TYPE_CHECKING:
    from .rule import Match

TYPICAL_SIZE = 64  # stands for a symbol in a size


class Cost(Protocol):
    """How long a target takes for one node, its inputs given; any unit."""

    def weight(self, node: Expr) -> float:
        """The cost of all elements of the node."""


#: relative costs of one element; what is not listed is a call of an elementary function
_ELEMENT = {
    name: cost
    for cost, names in {
        0.0: "real conj",
        1.0: (
            "add sub mul neg abs square maximum minimum fmax fmin relu sign copysign signbit where "
            "eq neq lt le gt ge isnan isinf isfinite floor ceil trunc rint invert bitwise_and "
            "bitwise_or bitwise_xor logical_and logical_or logical_xor logical_not "
            "left_shift right_shift"
        ),
        5.0: "true_div reciprocal sqrt",
        8.0: "rsqrt floor_divide mod fmod",
        12.0: "exp exp2 log log2",
        15.0: "sigmoid log1p expm1 tanh",
        20.0: "softplus log_sigmoid silu sin cos erf",
        40.0: "pow",
    }.items()
    for name in names.split()
}
_CALL = 25.0
#: of ops that stand for several, for each element of their operand
_COMPOUND = {"softmax": 20.0, "log_softmax": 17.0, "logsumexp": 15.0}
_MOVE = 0.25  # movement is index arithmetic inside a kernel


def element_cost(op: Op) -> float:
    """The cost of one element of an elementwise op or a cast."""
    return 1.0 if isinstance(op, Cast) else _ELEMENT.get(op.name, _CALL)


class GenericCost:
    """Costs of machines in general: elements times operations; symbolic sizes are typical."""

    def weight(self, node: Expr) -> float:
        if isinstance(node.op, (Attention, AttentionGradient)):
            return _attention(node)
        if not isinstance(node.type, Array):
            return self._body(node)
        if not node.inputs or isinstance(node.op, Reshape):  # which moves nothing
            return 0.0
        if isinstance(node.op, Elementwise):
            return elements(node) * element_cost(node.op)
        if isinstance(node.op, MatMul):
            return elements(node) * extent(node.inputs[0].array_type.shape[-1])
        if isinstance(node.op, Convolve):
            return _products(node, node.op)
        if node.op.name in ("sum", "prod", "max", "min", "any", "all"):
            return float(elements(node.inputs[0]) + elements(node))
        if node.op.name in _COMPOUND:
            return elements(node.inputs[0]) * _COMPOUND[node.op.name]
        return elements(node) * (1.0 if isinstance(node.op, Cast) else _MOVE)

    def _body(self, node: Expr) -> float:
        """The cost of the regions of a loop or a branch."""
        once = sum(
            self.weight(x)
            for value in node.op._values
            for x in toposort(getattr(value, "results", ()))
        )
        return once * extent(getattr(node.op, "n_steps", 1))


def _attention(node: Expr) -> float:
    """The cost of the products, and of a softmax, over the elements that are not stored."""
    q, _, v, *_ = node.inputs
    m, e = v.array_type.shape[-2:]
    inner = extent(q.array_type.shape[-1]), extent(e)
    once = inner[0] + inner[1] + _COMPOUND["softmax"]
    if isinstance(node.op, AttentionGradient):
        once += 2 * inner[0] + inner[1]
    return float(elements(q) // max(1, inner[0]) * extent(m) * once)


def _products(node: Expr, op: Convolve) -> float:
    """How many products a convolution adds up: channels of x at each position for each of y's."""
    arrays = dict(zip(OPERANDS[op.role], node.inputs)) | {GIVES[op.role]: node}
    count = 1.0
    for size in (
        arrays["y"].array_type.shape[0],
        *op.form.positions,
        *arrays["w"].array_type.shape,
    ):
        count *= extent(size)
    return count


def elements(x: Expr) -> int:
    """How many elements, symbolic sizes taken as typical."""
    count = 1
    for size in x.array_type.shape:
        count *= extent(size)
    return count


def extent(size: SizeLike) -> int:
    """A size as a number: of n + 4 elements there are four more than of n."""
    if isinstance(size, int):
        return size
    return max(1, sum(k * TYPICAL_SIZE ** len(monomial) for monomial, k in size.terms))


def cheaper(match: Match) -> bool:
    """Whether the new nodes cost less than those that lose their last user."""
    result = match.result()
    if result is None:
        return False
    weight = match.cost.weight
    freed = [match.node, *(x for x in match.inner() if match.users(x) <= 1)]
    return sum(map(weight, match.made(result))) < sum(map(weight, freed))


GENERIC = GenericCost()
