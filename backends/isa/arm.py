"""Dot products of AArch64: the dotprod and i8mm extensions."""

from __future__ import annotations

from .instruction import Form, any_of


def _neon(name: str, feature: str, swapped: bool = False) -> tuple[Form, ...]:
    return tuple(
        Form(
            lanes, f"llvm.aarch64.neon.{name}.v{lanes}i32.v{4 * lanes}i8", any_of(feature)
        )._replace(swapped=swapped)
        for lanes in (4, 2)
    )


FORMS = {
    "dot_s8s8": _neon("sdot", "dotprod"),
    "dot_u8u8": _neon("udot", "dotprod"),
    "dot_u8s8": _neon("usdot", "i8mm"),
    "dot_s8u8": _neon("usdot", "i8mm", swapped=True),
}
