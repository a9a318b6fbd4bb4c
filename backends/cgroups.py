"""What this process's control groups allow it, in either version: time on CPUs, bytes of memory."""

from __future__ import annotations

import math
from pathlib import Path

MEMBERSHIP, ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")

#: for each controller the files that may hold a limit: of one a number, which may be followed by
#: what it is divided by; of two the number and the divisor
FILES = {
    "cpu": (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")),
    "memory": (("memory.max",), ("memory.high",), ("memory.limit_in_bytes",)),
}


def limit(controller: str, membership: Path = MEMBERSHIP, root: Path = ROOT) -> float:
    """The least that a group of this process, or one around it, sets; inf without a limit."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return math.inf
    least = math.inf
    for line in lines:
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        version1 = controller in controllers.split(",")
        if version1 or not controllers:
            top = root / controller if version1 else root
            groups = [top / p for p in _ancestors(path.lstrip("/"))]
            least = min(least, *(_read(g, files) for g in groups for files in FILES[controller]))
    return least


def _ancestors(path: str) -> list[str]:
    """A relative path and what it lies in, up to the top ('')."""
    found = [path]
    while found[-1]:
        found.append(found[-1].rpartition("/")[0])
    return found


def _read(group: Path, files: tuple[str, ...]) -> float:
    """The limit that these files of a group set."""
    try:
        words = " ".join((group / name).read_text() for name in files).split()
        value, divisor = (int(word) for word in [*words, "1"][:2])
        return value / divisor if value > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf  # "max", or no such file
