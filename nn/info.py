"""What `symgraph info` tells: versions, this machine, the known targets, the cache."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import textwrap
from collections.abc import Iterable
from typing import Any

import symgraph

from ..backends import cache, targets, threads

REQUIRED = ("numpy", "scipy", "sympy", "llvmlite", "ml_dtypes")
OPTIONAL = ("scikit-learn", "matplotlib")
VARIABLES = ("CPU", "THREADS", "CACHE", "SHOW", "DUMP", "PROGRESS", "DATA", "TRACE")


def gather() -> dict[str, Any]:
    """Everything as plain data, ready for JSON.  Raises for a wrong variable of the environment."""
    return {
        "versions": _versions(),
        "host": _host(),
        "targets": targets.names(),
        "cache": cache.info(),
        "variables": {
            name: os.environ[name]
            for name in (f"SYMGRAPH_{v}" for v in VARIABLES)
            if name in os.environ
        },
    }


def _versions() -> dict[str, str | None]:
    from ..backends.jit import llvm_version

    found: dict[str, str | None] = {
        "symgraph": symgraph.__version__,
        "python": platform.python_version(),
        "llvm": llvm_version().split()[1],
    }
    for package in (*REQUIRED, *OPTIONAL):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def _host() -> dict[str, Any]:
    host = targets.host()
    return {
        "name": host.name,
        "cpu": host.cpu,
        "arch": host.arch,
        "triple": host.triple,
        "cores": os.cpu_count(),
        "threads": threads.get_threads(),
        "vector bytes": host.vector_bytes,
        "vector registers": host.vector_registers,
        "l1 bytes": host.l1,
        "l2 bytes": host.l2,
        "l3 bytes": host.l3,
        "features": sorted(host.features),
    }


def to_text(facts: dict[str, Any]) -> str:
    """The facts for people."""
    versions, host, stored = facts["versions"], facts["host"], facts["cache"]
    place = stored["folder"] or "kept in memory only"
    size = f"{stored['entries']} entries, {_bytes(stored['bytes'])} of {_bytes(stored['limit'])}"
    lines = [
        *_rows("versions", (f"{k} {v or '(not installed)'}" for k, v in versions.items())),
        *_rows("host", [f"{host['cpu']}, {host['triple']}, {host['cores']} cores"]),
        *_rows("threads", [f"{host['threads']} for each kernel with work enough"]),
        *_rows(
            "vectors", [f"{host['vector registers']} registers of {host['vector bytes']} bytes"]
        ),
        *_rows("caches", (f"{n.upper()} {_bytes(host[n + ' bytes'])}" for n in ("l1", "l2", "l3"))),
        *_rows("features", host["features"], " "),
        *_rows("targets", facts["targets"], " "),
        *_rows("cache", [place, size] if stored["folder"] else [place]),
        *_rows("variables", [f"{k}={v}" for k, v in facts["variables"].items()] or ["none set"]),
    ]
    return "\n".join(lines)


def _rows(title: str, items: Iterable[str], separator: str = ", ") -> list[str]:
    """A titled paragraph, wrapped."""
    lines = textwrap.wrap(separator.join(items), 86, break_long_words=False, break_on_hyphens=False)
    return [f"{title if i == 0 else '':<11}{line}" for i, line in enumerate(lines)]


def _bytes(count: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count} bytes"
