"""Targets: tables against LLVM, capabilities, masks, and names that must not reach LLVM."""

from __future__ import annotations

import pytest

from symgraph.backends import jit, targets
from symgraph.backends.cpus import ARCHS, CPUS, IMPLIES
from symgraph.errors import TargetError


def test_host() -> None:
    here = targets.detect()
    assert here.name == "host" and here.pointer_bits in (32, 64)
    assert here.l1 >= 8192 and here.l2 >= here.l1
    assert here.covers(here) and targets.target("host") == here


@pytest.mark.parametrize("name", targets.names())
def test_table_agrees_with_llvm(name: str) -> None:
    """LLVM knows the CPU: it would end this process otherwise."""
    target = targets.target(name)
    assert len(target.triple.split("-")) == 4
    text = f'target triple = "{target.triple}"\ndefine i32 @f() {{\n  ret i32 1\n}}\n'
    assert jit.compile_object(text, target)[:4] == b"\x7fELF"


@pytest.mark.parametrize(
    "name, fma, half, width, registers, bits, rounding",
    [
        ("x86-64", False, False, 16, 16, 64, False),
        ("x86-64-v2", False, False, 16, 16, 64, True),
        ("x86-64-v3", True, True, 32, 16, 64, True),
        ("x86-64-v4", True, True, 64, 32, 64, True),
        ("cortex-a53", True, True, 16, 32, 64, True),
        ("cortex-a7", True, False, 16, 16, 32, False),
        ("cortex-a9", False, False, 16, 16, 32, False),
    ],
)
def test_capabilities(
    name: str, fma: bool, half: bool, width: int, registers: int, bits: int, rounding: bool
) -> None:
    target = targets.target(name)
    assert (target.has_fma, target.f16_convert, target.has_rounding) == (fma, half, rounding)
    assert (target.vector_bytes, target.vector_registers) == (width, registers)
    assert (target.pointer_bits, target.index_dtype) == (bits, f"int{bits}")
    assert target.lanes(4) == width // 4


def test_memory_capabilities() -> None:
    v3, v4, arm = (targets.target(n) for n in ("x86-64-v3", "x86-64-v4", "cortex-a72"))
    assert v3.masked_memory(4) and not v3.masked_memory(1) and v4.masked_memory(1)
    assert v3.gather(4) and not v3.gather(2) and not v3.scatter(4) and v4.scatter(8)
    assert not (arm.masked_memory(4) or arm.gather(4) or arm.scatter(4))
    assert arm.cheap_f64_vectors and not targets.target("cortex-a7").cheap_f64_vectors


def test_changes_follow_implications() -> None:
    wide = targets.target("x86-64-v2,+avx512vnni")
    assert wide.has("avx512f") and wide.has("fma") and wide.has("avx")
    narrow = targets.target("x86-64-v4,-avx2")
    assert not narrow.has("avx512f") and narrow.has("fma") and narrow.vector_bytes == 16
    assert narrow.llvm_features == "-avx2" and narrow.name == "x86-64-v4,-avx2"
    assert targets.target("cortex-a53,+dotprod").has("dotprod")


def test_tables_are_closed() -> None:
    known = {f for arch in ARCHS.values() for f in arch.features}
    used = {f for cpu in CPUS.values() for f in cpu.features.split()} | set(IMPLIES)
    used |= {f for implied in IMPLIES.values() for f in implied.split()}
    assert used <= known
    assert all(cpu.arch in ARCHS for cpu in CPUS.values())


@pytest.mark.parametrize(
    "name, message",
    [
        (
            "cortex-a77",
            "unknown target 'cortex-a77'\n"
            "  hint: did you mean cortex-a7 or cortex-a78 or cortex-a76?",
        ),
        ("zzz", "unknown target 'zzz'"),
        ("", "unknown target ''"),
        (
            "x86-64-v3,+avx512vni",
            "target 'x86-64-v3': unknown feature '+avx512vni'\n"
            "  hint: did you mean +avx512vnni or -avx512vnni or +avx512vbmi?",
        ),
        ("cortex-a53,+avx2", "target 'cortex-a53': unknown feature '+avx2'"),
        ("x86-64,avx2", "target 'x86-64': unknown feature 'avx2'"),
        ("host,+nosuch", "target 'host': unknown feature '+nosuch'"),
    ],
)
def test_unknown_names_never_reach_llvm(name: str, message: str) -> None:
    with pytest.raises(TargetError) as caught:
        targets.target(name)
    assert str(caught.value).startswith(message)


def test_unknown_feature_in_a_question() -> None:
    with pytest.raises(TargetError, match="no target has a feature 'avx3'"):
        targets.target("x86-64").has("avx3")


def test_unknown_triple() -> None:
    with pytest.raises(TargetError, match="no target for the triple 'sparc-sun-solaris'"):
        targets.arch_of("sparc-sun-solaris")


def test_mask_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    here = targets.detect()
    base = {"x86-64": "x86-64", "aarch64": "aarch64", "armv7": "armv7"}[here.arch]
    monkeypatch.setenv("SYMGRAPH_CPU", base)
    masked = targets.host()
    assert masked.vector_bytes == 16 and masked.triple == here.triple and masked.l2 == here.l2
    monkeypatch.setenv("SYMGRAPH_CPU", "")
    assert targets.host() == here


def test_mask_beyond_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = "cortex-a53" if targets.detect().arch != "aarch64" else "x86-64"
    monkeypatch.setenv("SYMGRAPH_CPU", foreign)
    with pytest.raises(TargetError, match=f"SYMGRAPH_CPU={foreign}: this machine .* lacks"):
        targets.host()
    monkeypatch.setenv("SYMGRAPH_CPU", "x86-64-v9")
    with pytest.raises(TargetError, match="unknown target 'x86-64-v9'"):
        targets.host()
