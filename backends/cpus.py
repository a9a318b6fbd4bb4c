"""Tables of the CPUs and features that targets may name, spelled as LLVM spells them."""

from __future__ import annotations

from typing import NamedTuple


class Arch(NamedTuple):
    """One instruction set: its triple, what every CPU of it has, and every known feature."""

    triple: str  # all four parts: without the environment LLVM makes soft-float code for Arm
    triple_names: tuple[str, ...]
    pointer_bytes: int
    base: frozenset[str]
    features: frozenset[str]


class Cpu(NamedTuple):
    """One CPU or level: LLVM's name, features beyond the architecture's base, caches in KiB."""

    arch: str
    llvm: str
    features: str
    extra: str = ""  # features LLVM must be told because its CPU entry lacks them
    l1: int = 32
    l2: int = 512
    l3: int = 0


# What a feature brings with it, as LLVM has it; only chains that a capability asks for.
IMPLIES = {
    "sse2": "sse",
    "sse3": "sse2",
    "ssse3": "sse3",
    "sse4.1": "ssse3",
    "sse4.2": "sse4.1",
    "avx": "sse4.2",
    "avx2": "avx",
    "fma": "avx",
    "f16c": "avx",
    "avxvnni": "avx2",
    "avxvnniint8": "avx2",
    "avxvnniint16": "avx2",
    "avxifma": "avx2",
    "avxneconvert": "avx2",
    "avx512f": "avx2 fma f16c",
    "avx512vbmi2": "avx512bw",
    "avx512vbmi": "avx512bw",
    "avx512bitalg": "avx512bw",
    "avx512bf16": "avx512bw",
    "avx512fp16": "avx512bw avx512vl avx512dq",
    "vfp4": "vfp3 fp16",
    "neon": "vfp3",
    "dotprod": "neon",
    "fullfp16": "fp-armv8",
    "i8mm": "neon",
    "bf16": "neon",
    "sve": "fullfp16",
    "sve2": "sve",
} | dict.fromkeys(
    "avx512bw avx512cd avx512dq avx512vl avx512vnni avx512vpopcntdq avx512ifma".split(), "avx512f"
)

_X86 = """64bit adx aes amx-bf16 amx-int8 amx-tile avx avx2 avx512bf16 avx512bitalg avx512bw
    avx512cd avx512dq avx512f avx512fp16 avx512ifma avx512vbmi avx512vbmi2 avx512vl avx512vnni
    avx512vpopcntdq avxifma avxneconvert avxvnni avxvnniint16 avxvnniint8 bmi bmi2 clflushopt
    clwb cmov crc32 cx16 cx8 f16c fma fma4 fsgsbase fxsr gfni lzcnt mmx movbe movdir64b movdiri
    mwaitx pclmul pku popcnt prfchw rdpid rdrnd rdseed sahf serialize sha shstk sse sse2 sse3
    sse4.1 sse4.2 sse4a ssse3 tbm vaes vpclmulqdq waitpkg xop xsave xsavec xsaveopt xsaves"""
_AARCH64 = """fp-armv8 neon aes sha2 sha3 crc lse rdm rcpc dotprod fullfp16 fp16fml bf16 i8mm sve
    sve2 jsconv complxnum"""
_ARM = "neon vfp3 vfp4 fp16 fullfp16 dotprod hwdiv hwdiv-arm d32 crc aes sha2"

ARCHS = {
    "x86-64": Arch(
        "x86_64-unknown-linux-gnu",
        ("x86_64", "amd64"),
        8,
        frozenset("64bit cmov cx8 fxsr mmx sse sse2".split()),
        frozenset(_X86.split()),
    ),
    "aarch64": Arch(
        "aarch64-unknown-linux-gnu",
        ("aarch64", "arm64"),
        8,
        frozenset(["fp-armv8", "neon"]),
        frozenset(_AARCH64.split()),
    ),
    "armv7": Arch(
        "armv7-unknown-linux-gnueabihf",
        ("armv7", "armv7l", "armv7a"),
        4,
        frozenset(["neon", "vfp3", "d32"]),
        frozenset(_ARM.split()),
    ),
}

_V2 = "cx16 sahf popcnt sse4.2 crc32"
_V3 = _V2 + " avx2 bmi bmi2 f16c fma lzcnt movbe xsave"
_V4 = _V3 + " avx512f avx512bw avx512cd avx512dq avx512vl"
_ICELAKE = _V4 + (
    " avx512vnni avx512vbmi avx512vbmi2 avx512bitalg avx512vpopcntdq avx512ifma gfni vaes"
    " vpclmulqdq"
)
_SAPPHIRE = _ICELAKE + " avx512bf16 avx512fp16 avxvnni amx-tile amx-int8 amx-bf16"
_A76 = "crc lse rdm rcpc dotprod fullfp16"
_V1 = _A76 + " bf16 i8mm"

CPUS = {
    "x86-64": Cpu("x86-64", "x86-64", ""),
    "x86-64-v2": Cpu("x86-64", "x86-64-v2", _V2),
    "x86-64-v3": Cpu("x86-64", "x86-64-v3", _V3),
    "x86-64-v4": Cpu("x86-64", "x86-64-v4", _V4, l2=1024),
    "haswell": Cpu("x86-64", "haswell", _V3, l2=256, l3=8192),
    "skylake": Cpu("x86-64", "skylake", _V3, l2=256, l3=8192),
    "skylake-avx512": Cpu("x86-64", "skylake-avx512", _V4, l2=1024, l3=16384),
    "cascadelake": Cpu("x86-64", "cascadelake", _V4 + " avx512vnni", l2=1024, l3=16384),
    "icelake-server": Cpu("x86-64", "icelake-server", _ICELAKE, l1=48, l2=1280, l3=24576),
    "sapphirerapids": Cpu("x86-64", "sapphirerapids", _SAPPHIRE, l1=48, l2=2048, l3=32768),
    "alderlake": Cpu(
        "x86-64", "alderlake", _V3 + " avxvnni gfni vaes vpclmulqdq", l1=48, l2=1280, l3=24576
    ),
    "znver2": Cpu("x86-64", "znver2", _V3, l3=16384),
    "znver3": Cpu("x86-64", "znver3", _V3 + " vaes vpclmulqdq", l3=32768),
    "znver4": Cpu("x86-64", "znver4", _ICELAKE + " avx512bf16", l2=1024, l3=32768),
    "znver5": Cpu("x86-64", "znver5", _ICELAKE + " avx512bf16 avxvnni", l1=48, l2=1024, l3=32768),
    "aarch64": Cpu("aarch64", "generic", ""),
    "cortex-a53": Cpu("aarch64", "cortex-a53", "crc"),
    "cortex-a55": Cpu("aarch64", "cortex-a55", _A76, l2=256),
    "cortex-a72": Cpu("aarch64", "cortex-a72", "crc", l2=1024),
    "cortex-a76": Cpu("aarch64", "cortex-a76", _A76, l1=64, l3=2048),
    "cortex-a78": Cpu("aarch64", "cortex-a78", _A76, l1=64, l3=4096),
    "neoverse-n1": Cpu("aarch64", "neoverse-n1", _A76, l1=64, l2=1024, l3=32768),
    "neoverse-v1": Cpu("aarch64", "neoverse-v1", _V1 + " sve", l1=64, l2=1024, l3=32768),
    "neoverse-n2": Cpu("aarch64", "neoverse-n2", _V1 + " sve2", l1=64, l2=1024, l3=32768),
    "apple-m1": Cpu("aarch64", "apple-m1", _A76, l1=128, l2=12288),
    "armv7": Cpu("armv7", "generic", "", extra="+neon"),
    "cortex-a7": Cpu("armv7", "cortex-a7", "vfp4 hwdiv hwdiv-arm"),
    "cortex-a9": Cpu("armv7", "cortex-a9", "fp16"),
    "cortex-a15": Cpu("armv7", "cortex-a15", "vfp4 hwdiv hwdiv-arm", l2=1024),
}
