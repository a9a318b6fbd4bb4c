"""The one way we measure: rows of contestants, checked against each other, timed in turn, reported.

A benchmark is a list of rows and a call of `main`:

    def ours(x, y): f = sg.function(...); return Statement("f(x, y)", f=f, x=x, y=y)
    def theirs(x, y): return Statement("x + y", x=x, y=y)
    main("add", [Row("add 1000", inputs, ours, {"numpy": theirs}, goal={"ratio": 1.0})])

A contestant's builder may import its library: where that is not installed the peer is skipped, with
a message. Outputs are compared before anything is timed. Rows we lose stay in the table.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import limits, report
from benchmarks.timing import Contestant, Sample, interleaved, medians

SEED = 20240229
#: quick or full -> seconds of measurement for each row, and the fewest rounds
BUDGET = {True: (1.0, 3), False: (4.0, 9)}
GOALS = ("ratio", "fraction", "seconds", "excess")

Build = Callable[..., Contestant]


@dataclass(frozen=True)
class Work:
    """What a row must do at least: operations of a kind, and bytes from a level of memory.

    `peak` and `level` name limits of benchmarks.limits: "fma_f32", "read_L2", "triad_DRAM".
    """

    operations: float = 0.0
    peak: str = "fma_f32"
    bytes: float = 0.0
    level: str = "triad_DRAM"

    def seconds(self, measured: Mapping[str, float]) -> float:
        """The roofline: no correct implementation on this machine is faster."""
        return max(self.operations / measured[self.peak], self.bytes / measured[self.level])


@dataclass(frozen=True)
class Row:
    """One line of the table.

    inputs     generator -> the arguments of every builder, the same for all
    ours       builder of our contestant; a failure here is a failure of the benchmark
    peers      name -> builder; a missing library skips the peer
    reference  name of the peer that outputs are compared with; the first one there if None
    tolerance  max|error| / max|reference| allowed between contestants; None: nothing to compare
    work       for `fraction`, the share of the machine's limit
    goal       any of ratio, fraction (at least), seconds, excess over the best peer (at most)
    quick      whether --quick measures it
    slow       peers that --quick leaves out
    """

    name: str
    inputs: Callable[[np.random.Generator], tuple[Any, ...]]
    ours: Build
    peers: Mapping[str, Build] = field(default_factory=dict)
    reference: str | None = None
    tolerance: float | None = 0.0
    work: Work | None = None
    goal: Mapping[str, float] = field(default_factory=dict)
    quick: bool = True
    slow: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        unknown = set(self.goal) - set(GOALS)
        if unknown:
            raise ValueError(f"row {self.name!r}: goals are {GOALS}, got {sorted(unknown)}")


class Mismatch(AssertionError):
    """Two contestants of a row do not compute the same thing."""


# --- outputs ---


def flat(value: Any) -> list[np.ndarray]:
    """A result as a list of arrays: containers opened in order, foreign arrays converted."""
    if isinstance(value, dict):
        return [array for key in sorted(value) for array in flat(value[key])]
    if isinstance(value, (list, tuple)) and not all(isinstance(v, (int, float)) for v in value):
        return [array for part in value for array in flat(part)]
    return [np.asarray(value)]


def error(got: Any, expected: Any) -> float:
    """max|got - expected| / max|expected| over all parts; infinite where the structure differs."""
    ours, theirs = flat(got), flat(expected)
    if [a.shape for a in ours] != [a.shape for a in theirs]:
        return float("inf")
    worst = 0.0
    for a, b in zip(ours, theirs):
        if a.size == 0 or np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"):
            continue
        wide = np.result_type(a, b, np.float64)
        gap = np.max(np.abs(a.astype(wide) - b.astype(wide)))
        scale = np.max(np.abs(b.astype(wide)))
        worst = max(worst, float(gap / scale) if scale else float("inf"))
        if not np.isfinite(gap):
            return float("inf")
    return worst


def compare(row: Row, values: Mapping[str, Any]) -> dict[str, float]:
    """Each contestant's error against the reference.   Raises: Mismatch where one is too large."""
    peers = [name for name in values if name != "symgraph"]
    if row.tolerance is None or not peers:
        return {}
    reference = next((name for name in peers if name == row.reference), peers[0])
    expected = values[reference]
    errors = {n: error(value, expected) for n, value in values.items() if n != reference}
    for name, found in errors.items():
        if not found <= row.tolerance:
            raise Mismatch(
                f"row {row.name!r}: {name} differs from {reference} by {found:.3g}, "
                f"more than {row.tolerance:g}"
            )
    return errors


# --- one row ---


class Field(NamedTuple):
    """The contestants of a row that are there, ours first, with their results; who is not, why."""

    present: dict[str, Contestant]
    values: dict[str, Any]
    skipped: dict[str, str]


def enter(row: Row, quick: bool) -> Field:
    """Builds every contestant and runs it once.

    Raises: whatever a contestant raises, but for a missing library of a peer.
    """
    arguments = row.inputs(np.random.default_rng(SEED))
    entered = Field({}, {}, {})
    for name, build in {"symgraph": row.ours, **row.peers}.items():
        if quick and name in row.slow:
            entered.skipped[name] = "too slow for --quick"
            continue
        try:
            contestant = build(*arguments)
            entered.values[name] = contestant.value()
        except ModuleNotFoundError as missing:
            if name == "symgraph":
                raise
            entered.skipped[name] = f"{missing.name} is not installed"
        else:
            entered.present[name] = contestant
    return entered


def measure(row: Row, measured: Mapping[str, float], clock: str, quick: bool) -> dict[str, Any]:
    """The row's part of the JSON record."""
    present, values, skipped = enter(row, quick)
    errors = compare(row, values)
    budget, rounds = BUDGET[quick]
    samples = interleaved(present, budget, rounds)
    times = {name: medians(taken) for name, taken in samples.items()}
    ours = times.pop("symgraph")
    best = min(times, key=lambda name: getattr(times[name], clock), default=None)
    our_time = getattr(ours, clock)
    limit = row.work.seconds(measured) if row.work else None
    fraction = None if limit is None else limit / our_time
    best_time = getattr(times[best], clock) if best is not None else None
    return {
        "row": row.name,
        "clock": clock,
        "ours": _entry(ours, samples["symgraph"], errors.get("symgraph")),
        "peers": {name: _entry(t, samples[name], errors.get(name)) for name, t in times.items()}
        | {name: {"skipped": why} for name, why in skipped.items()},
        "best_peer": best,
        "ratio": None if best_time is None else best_time / our_time,
        "work": asdict(row.work) if row.work else None,
        "limit": limit,
        "fraction": fraction,
        "goal": dict(row.goal),
        "met": met(row.goal, our_time, best_time, fraction),
    }


def _entry(middle: Sample, taken: list[Sample], wrong: float | None) -> dict[str, Any]:
    return {**middle._asdict(), "samples": len(taken), "error": wrong}


def met(
    goal: Mapping[str, float], ours: float, best_peer: float | None, fraction: float | None
) -> bool | None:
    """Whether every stated goal is met; None where none is stated or none can be judged here."""
    verdicts = []
    if "seconds" in goal:
        verdicts.append(ours <= goal["seconds"])
    if "fraction" in goal and fraction is not None:
        verdicts.append(fraction >= goal["fraction"])
    if "ratio" in goal and best_peer is not None:
        verdicts.append(best_peer / ours >= goal["ratio"])
    if "excess" in goal and best_peer is not None:
        verdicts.append(ours - best_peer <= goal["excess"])
    return all(verdicts) if verdicts else None


# --- the command line ---


def parser(name: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    made.add_argument("--quick", action="store_true", help="fewer rows and rounds: under a minute")
    made.add_argument("--threads", type=int, default=1, help="threads for everybody (default 1)")
    made.add_argument("--cpu", help="mask this host, e.g. x86-64-v3 (sets SYMGRAPH_CPU)")
    made.add_argument("--check", action="store_true", help="exit 1 if a row misses its goal")
    made.add_argument("--only", help="measure only rows whose name contains this")
    made.add_argument("--out", type=Path, default=Path("benchmarks/out"), metavar="DIR")
    return made


def thread_environment(threads: int, cpu: str | None) -> dict[str, str]:
    """What makes everybody use this many threads; libraries read it when they are loaded."""
    pools = ("OMP", "OPENBLAS", "MKL", "NUMBA")
    wanted = {f"{pool}_NUM_THREADS": str(threads) for pool in pools}
    wanted["SYMGRAPH_THREADS"] = str(threads)
    wanted["XLA_FLAGS"] = (
        f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()} "
        f"intra_op_parallelism_threads={threads}"
    )
    wanted["JAX_PLATFORMS"] = "cpu"
    if cpu is not None:
        wanted["SYMGRAPH_CPU"] = cpu
    return wanted


def main(name: str, rows: Iterable[Row]) -> int:
    """Runs the benchmark `name` with the options of the command line; gives the exit status.

    Libraries read the number of threads when they are loaded, so the process starts itself again
    with the environment the options ask for.
    """
    options = parser(name).parse_args()
    wanted = thread_environment(options.threads, options.cpu)
    if any(os.environ.get(key) != value for key, value in wanted.items()):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **wanted})
    clock = "process" if options.threads == 1 else "wall"
    print(f"the machine's limits, {options.threads} thread(s):", flush=True)
    measured = limits.measure(options.threads, options.quick)
    print(limits.table(measured) + "\n", flush=True)
    chosen = [row for row in rows if row.quick or not options.quick]
    chosen = [row for row in chosen if options.only is None or options.only in row.name]
    results = []
    for row in chosen:
        results.append(measure(row, measured, clock, options.quick))
        _tell(results[-1])
    result = report.record(
        name, results, measured, threads=options.threads, cpu=options.cpu, quick=options.quick
    )
    print("\n" + report.table(result))
    for path in report.write(result, options.out):
        print(f"wrote {path}")
    missed = [row["row"] for row in results if row["met"] is False]
    if missed:
        print(f"below the goal: {', '.join(missed)}")
    return 1 if options.check and missed else 0


def _tell(row: dict[str, Any]) -> None:
    """One line as soon as a row is done, and why a peer is not in it."""
    ratio = "" if row["ratio"] is None else f", {row['ratio']:.2f} x {row['best_peer']}"
    print(f"{row['row']}: {report.seconds(row['ours'][row['clock']])}{ratio}", flush=True)
    for name, peer in row["peers"].items():
        if "skipped" in peer:
            print(f"  without {name}: {peer['skipped']}")
