"""What the compiler knows of a machine, this one or a named one: CPU, features, vectors, caches.

Kernels ask a `Target` for capabilities (`has_fma`, `gather(4)`), never for the name of a CPU. LLVM
ends the process on a CPU name it does not know and ignores a feature it does not know, so both are
checked here, against the tables below, before LLVM sees them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from typing import NamedTuple

from symgraph.errors import TargetError, did_you_mean
from symgraph.sites import user_site

from .cpus import ARCHS, CPUS, IMPLIES

MOST_SPACED = 8  # vectors that one of spaced elements is put together of


class Target(NamedTuple):
    """One machine to compile for. Made by `host()` or `target(name)`, not by hand.

    features: every feature the CPU has, implied ones included; llvm_features: what LLVM is told on
    top of `cpu`.
    Units: vector_bytes, l1, l2, l3 in bytes (l3 is 0 where there is none); vector_registers counts
    architectural ones.
    """

    name: str
    arch: str  # "x86-64", "aarch64", "armv7"
    triple: str
    cpu: str
    features: frozenset[str]
    llvm_features: str
    pointer_bits: int
    vector_bytes: int
    vector_registers: int
    l1: int
    l2: int
    l3: int

    def has(self, feature: str) -> bool:
        """Whether the CPU has `feature` (LLVM's name). Raises TargetError for an unknown name."""
        if feature not in self.features and not any(feature in a.features for a in ARCHS.values()):
            raise TargetError(
                f"no target has a feature {feature!r}", hint=did_you_mean(feature, _all_features())
            )
        return feature in self.features

    @property
    def index_dtype(self) -> str:
        """The language's dtype of an "index" on this target."""
        return f"int{self.pointer_bits}"

    @property
    def key(self) -> str:
        """Everything that decides what LLVM makes of a module, as one string."""
        return f"{self.triple} {self.cpu} {self.llvm_features}"

    @property
    def is_x86(self) -> bool:
        return self.arch == "x86-64"

    @property
    def has_fma(self) -> bool:
        """Fused multiply-add in one instruction, scalar and vector."""
        return self.arch == "aarch64" or bool(self.features & {"fma", "vfp4"})

    @property
    def has_rounding(self) -> bool:
        """floor, ceil, trunc and roundeven of floats in one instruction."""
        return self.arch == "aarch64" or "sse4.1" in self.features

    @property
    def has_scaleb(self) -> bool:
        """A float times a power of two in one instruction, also where it over- or underflows."""
        return {"avx512f", "avx512vl"} <= self.features

    @property
    def has_lookup(self) -> bool:
        """Lanes looked up in a table of 16 float32, in registers, in one instruction."""
        return {"avx512f", "avx512vl"} <= self.features

    @property
    def f16_convert(self) -> bool:
        """float16 <-> float32 in one instruction, scalar and vector, subnormals right."""
        return self.arch == "aarch64" or "f16c" in self.features

    @property
    def cheap_f64_vectors(self) -> bool:
        """Vectors of float64 are as good as scalars or better (Armv7 NEON has none)."""
        return self.arch != "armv7"

    @property
    def has_i32_division(self) -> bool:
        """Integer division of up to 32 bits without a library call."""
        return self.arch != "armv7" or "hwdiv-arm" in self.features

    @property
    def flushes_subnormals(self) -> bool:
        """Vector float32 arithmetic treats subnormal numbers as zero (Armv7 NEON)."""
        return self.arch == "armv7"

    def masked_memory(self, element_bytes: int) -> bool:
        """Masked contiguous access is one instruction; else a branch for each lane."""
        if element_bytes >= 4:
            return bool(self.features & {"avx", "sve"})
        return bool(self.features & {"avx512bw", "sve"})

    def gather(self, element_bytes: int) -> bool:
        """Gathers are one instruction; else a scalar load for each lane, often as fast."""
        return element_bytes >= 4 and "avx2" in self.features

    def scatter(self, element_bytes: int) -> bool:
        """Scatters are one instruction; else a scalar store for each lane."""
        return element_bytes >= 4 and "avx512f" in self.features

    def spaced(self, lanes: int, element_bytes: int) -> int:
        """The largest step at which vectors of elements are read whole and picked by shuffles.

        Each vector that they reach over but the first is one shuffle of few instructions; what is
        left is a load for each lane.
        """
        cheap = element_bytes >= 4 or not self.is_x86 or "ssse3" in self.features
        return min(MOST_SPACED, lanes // 2) if cheap else 1

    def lanes(self, element_bytes: int) -> int:
        """Elements of one full vector register."""
        return self.vector_bytes // element_bytes

    def covers(self, other: Target) -> bool:
        """Whether code for `other` runs here: same architecture, all its features present."""
        return self.arch == other.arch and other.features <= self.features


def target(name: str) -> Target:
    """The target of a name such as "host", "x86-64-v3", "cortex-a72" or "x86-64-v2,+avx2,-popcnt".

    Raises: TargetError, with the nearest known name, for an unknown CPU or feature.
    Example:
        >>> target("cortex-a9").has_fma, target("x86-64-v2,+avx2").vector_bytes
        (False, 32)
    """
    if not isinstance(name, str):
        raise TargetError(f"target: expected a name, got {name!r}", site=user_site())
    base, *changes = (part.strip() for part in name.split(","))
    if base == "host":
        return _changed(detect(), changes)
    return _changed(_named(base), changes)


def host() -> Target:
    """This machine, or what SYMGRAPH_CPU says to use of it (a name as for `target`).

    Raises: TargetError if SYMGRAPH_CPU names nothing known or something this machine cannot run.
    """
    return _host(os.environ.get("SYMGRAPH_CPU", ""))


@functools.cache
def _host(mask: str) -> Target:
    if not mask:
        return detect()
    here, asked = detect(), target(mask)
    if not here.covers(asked):
        missing = " ".join(sorted(asked.features - here.features)) or asked.arch
        raise TargetError(
            f"SYMGRAPH_CPU={mask}: this machine ({here.cpu}) lacks {missing}",
            hint="ahead-of-time compilation accepts any target",
        )
    return asked._replace(
        triple=here.triple, l1=here.l1, l2=here.l2, l3=here.l3, name=f"host as {mask}"
    )


@functools.cache
def detect() -> Target:
    """This machine with all its features. Raises TargetError if it is of no known kind."""
    from llvmlite import binding

    triple = binding.get_process_triple()
    arch = arch_of(triple)
    flags = binding.get_host_cpu_features()
    present = frozenset(f for f, on in flags.items() if on)
    if arch == "aarch64":
        present |= {"neon", "fp-armv8"}
    target = Target(
        "host",
        arch,
        triple,
        binding.get_host_cpu_name(),
        _closure(present),
        flags.flatten(),
        64 if ARCHS[arch].pointer_bytes == 8 else 32,
        *_vectors(arch, present),
        *_cache_sizes(),
    )
    return target


def arch_of(triple: str) -> str:
    """The architecture of an LLVM triple. Raises TargetError for an unknown one."""
    first = triple.partition("-")[0]
    for name, arch in ARCHS.items():
        if first in arch.triple_names:
            return name
    raise TargetError(f"no target for the triple {triple!r}", hint="known: " + ", ".join(ARCHS))


def names() -> list[str]:
    """Every name `target` knows, "host" apart."""
    return list(CPUS)


def _named(name: str) -> Target:
    cpu = CPUS.get(name)
    if cpu is None:
        raise TargetError(f"unknown target {name!r}", hint=did_you_mean(name, ["host", *CPUS]))
    arch = ARCHS[cpu.arch]
    features = _closure(frozenset(cpu.features.split()) | arch.base)
    return Target(
        name,
        cpu.arch,
        arch.triple,
        cpu.llvm,
        features,
        cpu.extra,
        8 * arch.pointer_bytes,
        *_vectors(cpu.arch, features),
        cpu.l1 * 1024,
        cpu.l2 * 1024,
        cpu.l3 * 1024,
    )


def _changed(base: Target, changes: list[str]) -> Target:
    """`base` with "+feature" and "-feature" applied in order."""
    if not changes:
        return base
    known, features = ARCHS[base.arch].features, base.features
    for change in changes:
        sign, feature = change[:1], change[1:]
        if sign not in ("+", "-") or feature not in known:
            signed = [s + f for f in sorted(known) for s in "+-"]
            raise TargetError(
                f"target {base.name!r}: unknown feature {change!r}",
                hint=f"write +{change} or -{change}"
                if change in known
                else did_you_mean(change, signed),
            )
        if sign == "+":
            features = _closure(features | {feature})
        else:
            features = frozenset(f for f in features if feature not in _closure({f}))
    width, registers = _vectors(base.arch, features)
    return base._replace(
        name=",".join([base.name, *changes]),
        features=features,
        llvm_features=",".join(filter(None, [base.llvm_features, *changes])),
        vector_bytes=width,
        vector_registers=registers,
    )


def _closure(features: Iterable[str]) -> frozenset[str]:
    """The features with all that they imply."""
    found, todo = set(), list(features)
    while todo:
        feature = todo.pop()
        if feature not in found:
            found.add(feature)
            todo.extend(IMPLIES.get(feature, "").split())
    return frozenset(found)


def _vectors(arch: str, features: frozenset[str]) -> tuple[int, int]:
    """Bytes in a vector register, and how many there are."""
    if arch == "x86-64":
        if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= features:
            return 64, 32
        return (32 if "avx2" in features else 16), 16
    return 16, 32 if arch == "aarch64" else 16


def _cache_sizes() -> tuple[int, int, int]:
    """L1 data, L2 and L3 bytes of the first core as the kernel tells, or modest values."""
    sizes = {1: 32 * 1024, 2: 256 * 1024, 3: 0}
    folder = "/sys/devices/system/cpu/cpu0/cache"
    for index in range(8):
        try:
            level, kind, size = (
                _first_line(f"{folder}/index{index}/{fact}") for fact in ("level", "type", "size")
            )
            if kind != "Instruction" and int(level) in sizes:
                sizes[int(level)] = int(size.rstrip("K")) * 1024
        except (OSError, ValueError):
            continue
    return sizes[1], sizes[2], sizes[3]


def _first_line(path: str) -> str:
    with open(path) as f:
        return f.readline().strip()


def _all_features() -> list[str]:
    return sorted({f for a in ARCHS.values() for f in a.features})
