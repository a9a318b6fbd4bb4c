"""C's fmod in the loop IR, exact: libm's is a call, and no target has an instruction."""

from __future__ import annotations

from .loops import Block, Const, Ty, Value

_FRACTION = 52  # bits of float64's fraction
_INFINITE = 0x7FF  # exponent field of infinity and NaN


def single(b: Block, x: Value, y: Value) -> Value:
    """C's fmod of float32, in float64, where x - q * y is exact for an integer q up to 29 bits.

    A larger quotient is taken from the top in turns of 25 bits; most calls need one turn.
    """
    f64, u64 = Ty("float64", x.type.lanes), Ty("uint64", x.type.lanes)
    divisor = b.let("abs", b.cast(y, "float64"))
    start = b.let("abs", b.cast(x, "float64"))
    with b.loop_while(carries=[start]) as body:
        (rest,) = body.carried
        quotient = body.let("div", rest, divisor)
        large = body.let("ge", quotient, Const(2.0**28, f64))
        bits = body.cast(quotient, "uint64", op="bitcast")
        power = body.let("and", bits, Const(0x7FF << 52, u64))
        scale = body.let("mul", body.cast(power, "float64", op="bitcast"), Const(2.0**-24, f64))
        fraction = body.let("and", bits, Const((1 << 52) - 1, u64))
        leading = body.let("or", fraction, Const((1023 + 24) << 52, u64))
        top = body.let("select", large, body.cast(leading, "float64", op="bitcast"), quotient)
        scaled = body.let("mul", divisor, body.let("select", large, scale, Const(1.0, f64)))
        times = body.let("mul", body.let("trunc", top), scaled)
        left = body.let("sub", rest, times)
        again = body.let("add", left, scaled)  # the quotient was rounded up
        body.next(body.let("select", body.let("lt", left, Const(0.0, f64)), again, left))
        body.again(_any(body, large))
    # where the divisor is infinite the quotient was 0 and 0 * inf made a NaN
    endless = b.let("eq", divisor, Const(float("inf"), f64))
    finite = b.let("lt", start, Const(float("inf"), f64))
    result = b.let("select", b.let("and", endless, finite), start, body.results[0])
    return b.let("copysign", b.cast(result, "float32"), x)


def _any(b: Block, mask: Value) -> Value:
    return mask if mask.type.lanes == 1 else b.let("hor", mask, type=Ty("bool"))


def double(b: Block, x: Value, y: Value) -> Value:
    """C's fmod of float64: x - trunc(x / y) * y, exact; NaN if x is infinite or y is 0.

    Long division of the significands in 64-bit integers, as many bits in each turn as fit beside
    the significand; a vector goes on until its last lane is done.
    """
    u64 = Ty("uint64", x.type.lanes)
    (x_exponent, x_part, x_bits), (y_exponent, y_part, y_bits) = (_split(b, v) for v in (x, y))
    divisor = b.let("max", y_part, Const(1, u64))
    gap = b.let("sub", b.let("max", x_exponent, y_exponent), y_exponent)
    rest = b.let("rem", x_part, divisor)
    with b.loop_while(carries=[rest, gap]) as body:
        rest, left = body.carried
        step = body.let("min", left, Const(63 - _FRACTION, u64))
        after = body.let("sub", left, step)
        body.next(body.let("rem", body.let("shl", rest, step), divisor), after)
        body.again(_any(body, body.let("ne", after, Const(0, u64))))
    result = _join(b, body.results[0], y_exponent)
    result = b.let("select", b.let("lt", x_bits, y_bits), b.let("abs", x), result)
    finite = b.let("lt", x_exponent, Const(_INFINITE, u64))
    y_fine = b.let("and", b.let("ne", y_bits, Const(0, u64)), b.let("eq", y, y))
    fine = b.let("and", finite, y_fine)
    result = b.let("select", fine, result, Const(float("nan"), x.type))
    return b.let("copysign", result, x)


def _split(b: Block, x: Value) -> tuple[Value, Value, Value]:
    """Exponent field (1 if subnormal), significand with its leading bit, and bits of |x|."""
    u64 = Ty("uint64", x.type.lanes)
    bits = b.cast(b.let("abs", x), "uint64", op="bitcast")
    field = b.let("shr", bits, Const(_FRACTION, u64))
    fraction = b.let("and", bits, Const((1 << _FRACTION) - 1, u64))
    leading = b.let("min", field, Const(1, u64))
    part = b.let("or", fraction, b.let("shl", leading, Const(_FRACTION, u64)))
    return b.let("max", field, Const(1, u64)), part, bits


def _join(b: Block, part: Value, exponent: Value) -> Value:
    """The float of significand `part` at exponent field `exponent`, shifted up if it can be."""
    u64 = part.type
    one = Const(1, u64)
    room = b.let("sub", b.let("clz", part), Const(63 - _FRACTION, u64))
    below = b.let("sub", exponent, one)
    shift = b.let("min", room, below)
    scaled = b.let("shl", part, shift)
    field = b.let("shl", b.let("sub", below, shift), Const(_FRACTION, u64))
    bits = b.let("add", scaled, field)
    empty = b.let("eq", part, Const(0, u64))
    bits = b.let("select", empty, Const(0, u64), bits)
    return b.cast(bits, "float64", op="bitcast")
