"""Logic: truth values, bits, comparisons and choices, all exact."""

from __future__ import annotations

from symgraph.ops.define import Cast

from ..constants import number
from ..pattern import const, operator, wild
from ..rule import Rules, rule
from ..words import (
    add,
    bitwise_and,
    bitwise_or,
    bitwise_xor,
    eq,
    ge,
    gt,
    invert,
    le,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    maximum,
    minimum,
    mul,
    neq,
    where,
)

x, y, z = wild("x y z", "biufc")
r, s = wild("r s")
p, q = wild("p q", "b")
i, j = wild("i j", "iu")
w, v = wild("w v", "biu")
u = wild("u", "u")
k = const("k", "iu")
truth = operator("truth", Cast)


def all_bits(k):
    """Every bit of k is set."""
    return number(k) == (-1 if k.dtype.is_signed else 2**k.dtype.bits - 1)


bools = [
    rule(invert(p), logical_not(p)),
    rule(bitwise_and(p, q), logical_and(p, q)),
    rule(bitwise_or(p, q), logical_or(p, q)),
    rule(bitwise_xor(p, q), logical_xor(p, q)),
    rule(mul(p, q), logical_and(p, q)),
    rule(add(p, q), logical_or(p, q)),
    rule(minimum(p, q), logical_and(p, q)),
    rule(maximum(p, q), logical_or(p, q)),
    rule(neq(p, q), logical_xor(p, q)),
    rule(logical_not(logical_xor(p, q)), eq(p, q)),
    rule(logical_not(logical_not(p)), p),
    rule(logical_and(p, p), p),
    rule(logical_or(p, p), p),
    rule(logical_xor(p, p), False),
    rule(logical_and(p, True), p),
    rule(logical_and(p, False), False),
    rule(logical_or(p, True), True),
    rule(logical_or(p, False), p),
    rule(logical_xor(p, False), p),
    rule(logical_xor(p, True), logical_not(p)),
    rule(logical_xor(logical_not(p), q), eq(p, q)),
    rule(eq(logical_not(p), q), logical_xor(p, q)),
    rule(logical_and(p, logical_not(p)), False),
    rule(logical_or(p, logical_not(p)), True),
    rule(logical_and(p, logical_or(p, q)), p),
    rule(logical_or(p, logical_and(p, q)), p),
    rule(logical_and(p, logical_and(p, q)), logical_and(p, q)),
    rule(logical_or(p, logical_or(p, q)), logical_or(p, q)),
    rule(neq(truth(p), 0), p),
    rule(eq(truth(p), 0), logical_not(p)),
]

bits = [
    rule(invert(invert(i)), i),
    rule(i & i, i),
    rule(i | i, i),
    rule(i ^ i, 0),
    rule(i & 0, 0),
    rule(i | 0, i),
    rule(i ^ 0, i),
    rule(i & k, i, when=all_bits),
    rule(i | k, k, when=all_bits),
    rule(i ^ k, invert(i), when=all_bits),
    rule(i & (i | j), i),
    rule(i | (i & j), i),
    rule((i ^ j) ^ j, i),
]

comparisons = [
    rule(lt(r, r), False),  # NaN included
    rule(gt(r, r), False),
    rule(le(w, w), True),
    rule(ge(w, w), True),
    rule(eq(w, w), True),
    rule(neq(w, w), False),
    rule(logical_not(eq(x, y)), neq(x, y)),
    rule(logical_not(neq(x, y)), eq(x, y)),
    rule(logical_not(lt(w, v)), ge(w, v)),  # of floats not: all comparisons with NaN are false
    rule(logical_not(le(w, v)), gt(w, v)),
    rule(logical_not(gt(w, v)), le(w, v)),
    rule(logical_not(ge(w, v)), lt(w, v)),
    rule(lt(u, 0), False),
    rule(ge(u, 0), True),
    rule(gt(u, 0), neq(u, 0)),
    rule(le(u, 0), eq(u, 0)),
    rule(logical_and(le(r, s), ge(r, s)), eq(r, s)),
    rule(logical_or(lt(r, s), eq(r, s)), le(r, s)),
    rule(logical_or(gt(r, s), eq(r, s)), ge(r, s)),
    rule(logical_and(le(r, s), neq(r, s)), lt(r, s)),
    rule(logical_and(ge(r, s), neq(r, s)), gt(r, s)),
]

choices = [
    rule(where(True, x, y), x),
    rule(where(False, x, y), y),
    rule(where(p, x, x), x),
    rule(where(logical_not(p), x, y), where(p, y, x)),
    rule(where(p, where(p, x, y), z), where(p, x, z)),
    rule(where(p, x, where(p, y, z)), where(p, x, z)),
    rule(where(p, True, False), p),
    rule(where(p, False, True), logical_not(p)),
    rule(where(p, q, False), logical_and(p, q)),
    rule(where(p, True, q), logical_or(p, q)),
    rule(where(lt(i, j), i, j), minimum(i, j)),
    rule(where(le(i, j), i, j), minimum(i, j)),
    rule(where(gt(i, j), i, j), maximum(i, j)),
    rule(where(ge(i, j), i, j), maximum(i, j)),
]

rules = Rules("logic", "canonicalize", *bools, *bits, *comparisons, *choices)
