"""Limits of control groups, read from the files of either version."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from symgraph.backends import cgroups

MEMORY = "memory/j/memory.limit_in_bytes"


@pytest.mark.parametrize(
    ("controller", "files", "membership", "limit"),
    [
        ("cpu", {"a/b/cpu.max": "150000 100000"}, "0::/a/b\n", 1.5),
        ("cpu", {"a/cpu.max": "5 10", "a/b/cpu.max": "max 10"}, "0::/a/b\n", 0.5),
        (
            "cpu",
            {"cpu/j/cpu.cfs_quota_us": "300000", "cpu/j/cpu.cfs_period_us": "100000"},
            "3:cpu,cpuacct:/j",
            3,
        ),
        (
            "cpu",
            {"cpu/j/cpu.cfs_quota_us": "-1", "cpu/j/cpu.cfs_period_us": "100000"},
            "3:cpu:/j",
            None,
        ),
        ("cpu", {"cpu/j/cpu.cfs_quota_us": "300000"}, "3:cpu:/j", None),
        ("cpu", {}, "nonsense\n", None),
        ("cpu", {"cpu.max": "broken"}, "0::/\n", None),
        ("cpu", {"a/memory.max": "7"}, "0::/a\n", None),
        ("memory", {"a/b/memory.max": "1048576\n"}, "0::/a/b\n", 1 << 20),
        ("memory", {"a/memory.max": "99", "a/b/memory.max": "max\n"}, "0::/a/b\n", 99),
        ("memory", {"a/memory.max": "99", "a/memory.high": "55"}, "0::/a\n", 55),
        ("memory", {"memory.max": "77"}, "0::/not/mounted/here\n", 77),
        ("memory", {MEMORY: "4096"}, "8:pids:/j\n4:memory:/j\n0::/\n", 4096),
        ("memory", {MEMORY: str(2**63 - 4096)}, "4:memory:/j\n", 2**63 - 4096),
        ("memory", {MEMORY: "4096"}, "4:cpu:/j\n", None),
        ("memory", {}, "", None),
    ],
)
def test_limits(
    controller: str, files: dict[str, str], membership: str, limit: Any, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "self").write_text(membership)
    found = cgroups.limit(controller, tmp_path / "self", tmp_path)
    assert found == (math.inf if limit is None else limit)


def test_no_control_groups_no_limit(tmp_path: Path) -> None:
    assert cgroups.limit("memory", tmp_path / "none", tmp_path) == math.inf
    assert cgroups.limit("cpu") > 0 and cgroups.limit("memory") > 0
