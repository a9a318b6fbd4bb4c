"""Dot products of x86-64: pmaddwd from SSE2 on, VNNI in its AVX-512 and its AVX clothes, BF16.

Operands of VNNI are vectors of words here: LLVM 22 has other types, and reads these as well.
"""

from __future__ import annotations

from .instruction import Form, any_of

_VNNI = any_of("avx512vnni avx512vl", "avxvnni")
_INT8 = any_of("avxvnniint8")
_BF16 = any_of("avx512bf16 avx512vl")


def _words(name: str, bits: int, needs: tuple[frozenset[str], ...]) -> Form:
    return Form(bits // 32, f"llvm.x86.{name}.{bits}", needs, f"<{bits // 32} x i32>")


def _vnni(name: str) -> tuple[Form, ...]:
    widest = _words(f"avx512.{name}", 512, any_of("avx512vnni"))
    return (widest, *(_words(f"avx512.{name}", bits, _VNNI) for bits in (256, 128)))


def _int8(name: str) -> tuple[Form, ...]:
    return tuple(_words(f"avx2.{name}", bits, _INT8) for bits in (256, 128))


def _bf16(bits: int, needs: tuple[frozenset[str], ...]) -> Form:
    name = f"llvm.x86.avx512bf16.dpbf16ps.{bits}"
    return Form(bits // 32, name, needs, f"<{bits // 16} x bfloat>")


FORMS = {
    "dot_u8s8": _vnni("vpdpbusd"),
    "dot_s8s8": _int8("vpdpbssd"),
    "dot_s8u8": _int8("vpdpbsud"),
    "dot_u8u8": _int8("vpdpbuud"),
    "dot_s16s16": (
        *_vnni("vpdpwssd"),
        Form(16, "llvm.x86.avx512.pmaddw.d.512", any_of("avx512bw"), product=True),
        Form(8, "llvm.x86.avx2.pmadd.wd", any_of("avx2"), product=True),
        Form(4, "llvm.x86.sse2.pmadd.wd", any_of("sse2"), product=True),
    ),
    "dot_bf16bf16": (_bf16(512, any_of("avx512bf16")), _bf16(256, _BF16), _bf16(128, _BF16)),
}
