"""Dot products of x86-64: pmaddwd from SSE2 on, VNNI in its AVX-512 and its AVX clothes, BF16."""

from __future__ import annotations

from .instruction import Form, any_of

_VNNI = any_of("avx512vnni avx512vl", "avxvnni")
_INT8 = any_of("avxvnniint8")
_BF16 = any_of("avx512bf16 avx512vl")


def _both(name: str, bits: tuple[int, ...], needs: tuple[frozenset[str], ...]) -> tuple[Form, ...]:
    return tuple(Form(n // 32, f"{name}.{n}", needs) for n in bits)


FORMS = {
    "dot_u8s8": (
        Form(16, "llvm.x86.avx512.vpdpbusd.512", any_of("avx512vnni")),
        *_both("llvm.x86.avx512.vpdpbusd", (256, 128), _VNNI),
    ),
    "dot_s8s8": _both("llvm.x86.avx2.vpdpbssd", (256, 128), _INT8),
    "dot_s8u8": _both("llvm.x86.avx2.vpdpbsud", (256, 128), _INT8),
    "dot_u8u8": _both("llvm.x86.avx2.vpdpbuud", (256, 128), _INT8),
    "dot_s16s16": (
        Form(16, "llvm.x86.avx512.vpdpwssd.512", any_of("avx512vnni")),
        *_both("llvm.x86.avx512.vpdpwssd", (256, 128), _VNNI),
        Form(16, "llvm.x86.avx512.pmaddw.d.512", any_of("avx512bw"), product=True),
        Form(8, "llvm.x86.avx2.pmadd.wd", any_of("avx2"), product=True),
        Form(4, "llvm.x86.sse2.pmadd.wd", any_of("sse2"), product=True),
    ),
    "dot_bf16bf16": (
        Form(16, "llvm.x86.avx512bf16.dpbf16ps.512", any_of("avx512bf16"), "bfloat"),
        Form(8, "llvm.x86.avx512bf16.dpbf16ps.256", _BF16, "bfloat"),
        Form(4, "llvm.x86.avx512bf16.dpbf16ps.128", _BF16, "bfloat"),
    ),
}
