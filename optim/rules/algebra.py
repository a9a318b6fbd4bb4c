"""Algebra that holds bit for bit: identities, signs, integers, casts."""

from __future__ import annotations

from math import inf

from symgraph.ops.define import Cast, cast
from symgraph.ops.gradient import (
    GradClip,
    GradScale,
    Normalized,
    StopGradient,
    SurrogateGradient,
)

from ..conditions import casts_merge, nonzero, power_of_two, same_shape
from ..constants import nonnegative, number
from ..cost import cheaper
from ..pattern import const, operator, wild
from ..rule import Rules, rule
from ..words import (
    abs,
    conj,
    cos,
    cosh,
    fmax,
    fmin,
    imag,
    maximum,
    minimum,
    mul,
    neg,
    real,
    reciprocal,
    relu,
    square,
)

x, y = wild("x y")
f, g = wild("f g", "f")
i, j = wild("i j", "iu")
n = wild("n", "iuf")
s = wild("s", "if")
w = wild("w", "biu")
u = wild("u", "bu")
c, d = const("c d")
k, m = const("k m", "iu")
outer, inner = operator("outer inner", Cast)
odd = operator("odd", *"sin tan tanh sinh asin atan asinh atanh erf cbrt".split())
whole = operator("whole", "floor", "ceil", "trunc", "rint")
again = operator("again", "floor", "ceil", "trunc", "rint")

identities = [
    rule(x * 1, x),
    rule(x / 1, x),
    rule(x + -0.0, x),  # x + 0.0 is not x: it turns -0 into 0
    rule(w + 0, w),
    rule(x - 0, x),
    rule(x**1, x),
    rule(x**0, 1),  # NaN**0 is 1 in NumPy too
    rule(mul(n, n), square(n)),
    rule(1 / x, reciprocal(x)),
    rule(maximum(x, x), x),
    rule(minimum(x, x), x),
    rule(fmax(x, x), x),
    rule(fmin(x, x), x),
    rule(maximum(x, -inf), x),
    rule(minimum(x, inf), x),
    rule(relu(relu(x)), relu(x)),
    rule(relu(f), f, when=lambda f: nonnegative(f)),
    rule(real(x), x),
    rule(conj(x), x),
    rule(again(whole(x)), whole(x)),
    rule(whole(w), w),
    rule(abs(u), u),
    rule(abs(abs(x)), abs(x)),
    rule(abs(f), f, when=lambda f: nonnegative(f)),
    rule(abs(-s), abs(s)),
    rule(square(-x), square(x)),
    rule(square(abs(x)), square(x)),
    rule(cos(-x), cos(x)),
    rule(cosh(-x), cosh(x)),
    rule(imag(x), 0),
]

signs = [
    rule(neg(-x), x),
    rule(x * -1, -x),
    rule(x / -1, -x),
    rule(x + -y, x - y),
    rule(x - -y, x + y),
    rule(-0.0 - x, -x),
    rule(f + 0.0, f, grade="rounds"),  # these three lose the sign of a zero
    rule(0.0 - f, -f, grade="rounds"),
    rule(-(f - g), g - f, grade="rounds"),
    rule(-x * -y, x * y),
    rule(-x / -y, x / y),
    rule(-x * c, x * -c),
    rule(-(x * c), x * -c),
    rule(-x / c, x / -c),
    rule(-(x / c), x / -c),
    rule(c / -x, -c / x),
    rule(-(c / x), -c / x),
    rule(-x * y, -(x * y), when=same_shape),
    rule(-x / y, -(x / y), when=same_shape),
    rule(y / -x, -(y / x), when=same_shape),
    rule(odd(-x), -odd(x)),
    rule(reciprocal(-x), -reciprocal(x)),
    rule(x / c, lambda x, c: x * (1 / number(c)), when=power_of_two, name="x / 2**n -> x * 2**-n"),
]

integers = [
    rule(i - i, 0),
    rule(0 - i, -i),
    rule(-(i - j), j - i),
    rule(i * 0, 0),
    rule(i // 1, i),
    rule(i % 1, 0),
    rule(i << 0, i),
    rule(i >> 0, i),
    rule((i + k) + m, i + (k + m)),
    rule((i + k) - m, i + (k - m)),
    rule((i - k) + m, i + (m - k)),
    rule((i - k) - m, i - (k + m)),
    rule((k - i) + m, (k + m) - i),
    rule((k - i) - m, (k - m) - i),
    rule(k - (i + m), (k - m) - i),
    rule(k - (i - m), (k + m) - i),
    rule(k - (m - i), i + (k - m)),
    rule((i * k) * m, i * (k * m)),
    rule(i * k + j * k, (i + j) * k, when=cheaper),
    rule(i * k + i * m, i * (k + m), when=cheaper),
    rule((i + j) - j, i),
    rule((i - j) + j, i),
    rule(i - (i - j), j),
    rule(i - (i + j), -j),
]

extremes = [
    rule(maximum(maximum(x, c), d), lambda x, c, d: maximum(x, c if number(c) >= number(d) else d),
         when=lambda c, d: nonzero(c) and nonzero(d),
         name="maximum(maximum(x, c), d) -> maximum(x, max(c, d))"),
    rule(minimum(minimum(x, c), d), lambda x, c, d: minimum(x, c if number(c) <= number(d) else d),
         when=lambda c, d: nonzero(c) and nonzero(d),
         name="minimum(minimum(x, c), d) -> minimum(x, min(c, d))"),
    rule(maximum(maximum(w, y), y), maximum(w, y)),
    rule(minimum(minimum(w, y), y), minimum(w, y)),
    rule(maximum(minimum(w, y), w), w),
    rule(minimum(maximum(w, y), w), w),
]  # fmt: skip

casts = [
    rule(outer(x), x, when=lambda x, outer: x.dtype is outer.dtype),
    rule(
        outer(inner(x)),
        lambda x, outer: cast(x, outer.dtype),
        when=casts_merge,
        name="cast(cast(x)) -> cast(x)",
    ),
]

identity = operator("identity", StopGradient, GradScale, GradClip, SurrogateGradient, Normalized)

marks = [
    rule(
        identity(), lambda node: node.inputs[0], name="stop_gradient(x) -> x"
    ),  # gradients are taken by now
]

rules = Rules("algebra", "canonicalize", *identities, *signs, *integers, *extremes, *casts, *marks)
