"""Second names of elementwise functions: NumPy's, SciPy's and Theano's, where ours is another."""

from __future__ import annotations

from .activation import hard_silu, hard_tanh, silu
from .arithmetic import mod, mul, neg, reciprocal, square, sub, true_div
from .compare import eq, ge, gt, le, lt, neq
from .logic import (
    bitwise_and,
    bitwise_count,
    bitwise_or,
    bitwise_xor,
    invert,
    left_shift,
    right_shift,
)
from .logistic import log_sigmoid, sigmoid
from .parts import abs, angle, conj, sign
from .root import pow
from .rounding import round, trunc
from .select import where
from .special import digamma, lgamma
from .trigonometric import acos, acosh, asin, asinh, atan, atan2, atanh, deg2rad, rad2deg

# NumPy
subtract, multiply, divide, true_divide, remainder = sub, mul, true_div, true_div, mod
power, negative, absolute, conjugate, fix = pow, neg, abs, conj, trunc
equal, not_equal, less, less_equal, greater, greater_equal = eq, neq, lt, le, gt, ge
bitwise_invert = bitwise_not = invert
bitwise_left_shift, bitwise_right_shift, around = left_shift, right_shift, round
arcsin, arccos, arctan, arctan2 = asin, acos, atan, atan2
arcsinh, arccosh, arctanh = asinh, acosh, atanh
radians, degrees = deg2rad, rad2deg

# SciPy
expit, log_expit, gammaln, psi = sigmoid, log_sigmoid, lgamma, digamma

# Theano
abs_, sgn, sqr, inv, switch = abs, sign, square, reciprocal, where
and_, or_, xor = bitwise_and, bitwise_or, bitwise_xor

# Others
popcount, swish, hard_swish, hardtanh, phase = bitwise_count, silu, hard_silu, hard_tanh, angle
