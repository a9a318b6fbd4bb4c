"""What is known of index values while a kernel is rebuilt: uniform, consecutive, multiples of.

Facts come from the statements that made a value, noted in order.
"""

from __future__ import annotations

from math import gcd

from .loops import INDEX, Const, Let, Ty, Value, Var

_KEPT = frozenset("splat add cast iota".split())  # ops that make uniform and consecutive vectors
_SCALAR = Ty(INDEX)
_WIDE = frozenset([INDEX, "int64", "uint64"])
ZERO = 1 << 30  # 0 is a multiple of everything; this much will do


class Known:
    """Facts by variable; whatever is not known has none."""

    def __init__(self) -> None:
        self._made: dict[Var, Let] = {}
        self._multiples: dict[Var, int] = {}

    def note(self, stmt: Let) -> None:
        """Remember how a value was made."""
        if stmt.op in _KEPT:
            self._made[stmt.var] = stmt
        if stmt.var.type == _SCALAR:
            rule = _MULTIPLE.get(stmt.op)
            if rule is not None:
                self._multiples[stmt.var] = rule(self, *stmt.args)

    def loop(self, var: Var, start: Value, step: Value) -> None:
        """Remember what a loop's index steps through."""
        self._multiples[var] = gcd(self.multiple(start), self.multiple(step))

    def multiple(self, value: Value) -> int:
        """A number that divides the index value (ZERO for 0)."""
        if isinstance(value, Const):
            return abs(int(value.value)) or ZERO
        return self._multiples.get(value, 1)

    def uniform(self, value: Value) -> Value | None:
        """The scalar that every lane is, if that is known."""
        if value.type.lanes == 1:
            return value
        if isinstance(value, Const):
            return Const(value.value, Ty(value.type.dtype))
        made = self._made.get(value)
        return made.args[0] if made is not None and made.op == "splat" else None

    def consecutive(self, value: Value, wide: bool = False) -> Value | None:
        """The first lane's index if the lanes count up from it, as a scalar.

        wide: only if no conversion can have changed an index.
        """
        made = self._made.get(value) if isinstance(value, Var) else None
        while made is not None and made.op == "cast":
            if wide and made.var.type.dtype not in _WIDE:
                return None
            value = made.args[0]
            made = self._made.get(value) if isinstance(value, Var) else None
        if made is None or made.op != "add" or made.var.type.dtype != INDEX:
            return None
        base, count = made.args
        counter = self._made.get(count) if isinstance(count, Var) else None
        return self.uniform(base) if counter is not None and counter.op == "iota" else None


def _mask(known: Known, x: Value, y: Value) -> int:
    """Bits cleared by a constant mask, or the other operand's."""
    masks = [v.value & -v.value for v in (x, y) if isinstance(v, Const) and v.value]
    return max([1, *masks])


_MULTIPLE = {
    "add": lambda known, x, y: gcd(known.multiple(x), known.multiple(y)),
    "sub": lambda known, x, y: gcd(known.multiple(x), known.multiple(y)),
    "min": lambda known, x, y: gcd(known.multiple(x), known.multiple(y)),
    "mul": lambda known, x, y: min(ZERO, known.multiple(x) * known.multiple(y)),
    "and": _mask,
}
