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
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks import accuracy, limits, report
from benchmarks.timing import Contestant, Sample, interleaved, medians

SEED = 20240229
#: quick or full -> seconds of measurement for each row, and the fewest rounds
BUDGET = {True: (0.5, 3), False: (4.0, 9)}
GOALS = ("ratio", "fraction", "seconds", "excess", "build", "ulp", "spread", "resident")
BUILDS = 3  # of our contestant, each from an empty cache; the median counts

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
    exact      the inputs -> what they should give, in float64; for the goal `ulp`
    work       for `fraction`, the share of the machine's limit
    goal       at least: ratio, fraction. At most: seconds, excess over the best peer, build (CPU
               seconds that making our contestant takes), ulp (of an element, unless its absolute
               error is below accuracy.ABSOLUTE), spread (our time over that of our fastest row of
               the same group), resident (our peak of memory over the smallest one of the peers that
               count; for children)
    group      rows whose times `spread` compares
    quick      whether --quick measures it
    slow       peers that --quick leaves out
    shown      peers that are measured, but never the best one: no goal is set against them
    needs      a public name of ours without which the row is skipped, with a message
    """

    name: str
    inputs: Callable[[np.random.Generator], tuple[Any, ...]]
    ours: Build
    peers: Mapping[str, Build] = field(default_factory=dict)
    reference: str | None = None
    tolerance: float | None = 0.0
    exact: Callable[..., Any] | None = None
    work: Work | None = None
    goal: Mapping[str, float] = field(default_factory=dict)
    group: str | None = None
    quick: bool = True
    slow: frozenset[str] = frozenset()
    shown: frozenset[str] = frozenset()
    needs: str | None = None

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
    arguments: tuple[Any, ...]


def enter(row: Row, quick: bool) -> Field:
    """Builds every contestant and runs it once.

    Raises: whatever a contestant raises, but for a missing library of a peer.
    """
    arguments = row.inputs(np.random.default_rng(SEED))
    entered = Field({}, {}, {}, arguments)
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


def build_seconds(row: Row, arguments: tuple[Any, ...]) -> float:
    """CPU time of making our contestant when nothing it needs has been compiled before.

    The libraries are loaded already, and the cache on disk is off (see `environment`).
    """
    from symgraph.backends import cache

    times = []
    for _ in range(BUILDS):
        cache.clear()
        start = time.process_time()
        row.ours(*arguments)
        times.append(time.process_time() - start)
    return median(times)


def measure(row: Row, measured: Mapping[str, float], clock: str, quick: bool) -> dict[str, Any]:
    """The row's part of the JSON record."""
    present, values, skipped, arguments = enter(row, quick)
    errors = compare(row, values)
    close = accuracy.of(values["symgraph"], row.exact(*arguments)) if row.exact else None
    building = build_seconds(row, arguments) if "build" in row.goal else None
    budget, rounds = BUDGET[quick]
    samples = interleaved(present, budget, rounds)
    times = {name: medians(taken) for name, taken in samples.items()}
    ours = times.pop("symgraph")
    counted = [name for name in times if name not in row.shown]
    best = min(counted, key=lambda name: getattr(times[name], clock), default=None)
    figures = {
        "seconds": getattr(ours, clock),
        "best peer": None if best is None else getattr(times[best], clock),
        "limit": row.work.seconds(measured) if row.work else None,
        "build": building,
        "ulp": None if close is None else close["ulp"],
    }
    peaks = {name: p for name, c in present.items() if (p := getattr(c, "peak", None)) is not None}
    least = min((peaks[name] for name in counted if name in peaks), default=None)
    figures["resident"] = _over(peaks.get("symgraph"), least)
    return {
        "row": row.name,
        "clock": clock,
        "ours": _entry(ours, samples["symgraph"], errors.get("symgraph"), peaks.get("symgraph")),
        "peers": {
            name: _entry(t, samples[name], errors.get(name), peaks.get(name))
            for name, t in times.items()
        }
        | {name: {"skipped": why} for name, why in skipped.items()},
        "best_peer": best,
        "shown": sorted(row.shown),
        "ratio": _over(figures["best peer"], figures["seconds"]),
        "work": asdict(row.work) if row.work else None,
        "limit": figures["limit"],
        "fraction": _over(figures["limit"], figures["seconds"]),
        "build": building,
        "resident": figures["resident"],
        "accuracy": close,
        "group": row.group,
        "goal": dict(row.goal),
        "missed": missed(row.goal, figures),
    }


def _entry(
    middle: Sample, taken: list[Sample], wrong: float | None, peak: int | None
) -> dict[str, Any]:
    return {**middle._asdict(), "samples": len(taken), "error": wrong, "peak": peak}


def _over(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else above / below


def missed(goal: Mapping[str, float], figures: Mapping[str, float | None]) -> list[str] | None:
    """The goals that are not met; None where none is stated or none can be judged here.

    figures: seconds (ours), best peer, limit, build, ulp, group best, resident; what is not known
    is left out or None.
    """
    at = figures.get
    seconds, peer = at("seconds"), at("best peer")
    reached = {
        "ratio": _over(peer, seconds),
        "fraction": _over(at("limit"), seconds),
        "seconds": seconds,
        "excess": None if peer is None or seconds is None else seconds - peer,
        "build": at("build"),
        "ulp": at("ulp"),
        "spread": _over(seconds, at("group best")),
        "resident": at("resident"),
    }
    judged = {kind: value for kind in goal if (value := reached[kind]) is not None}
    if not judged:
        return None
    return [
        kind
        for kind, value in judged.items()
        if not (value >= goal[kind] if kind in ("ratio", "fraction") else value <= goal[kind])
    ]


def judge_spread(results: list[dict[str, Any]]) -> None:
    """Completes rows that belong to a group, once all of them are measured."""
    best: dict[str, float] = {}
    for row in results:
        if row["group"] is not None:
            ours = row["ours"][row["clock"]]
            best[row["group"]] = min(ours, best.get(row["group"], ours))
    for row in results:
        if row["group"] is None:
            continue
        figures = {"seconds": row["ours"][row["clock"]], "group best": best[row["group"]]}
        row["spread"] = _over(figures["seconds"], figures["group best"])
        row["missed"] = (row["missed"] or []) + (missed(row["goal"], figures) or [])


# --- the command line ---


def parser(name: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    made.add_argument("--quick", action="store_true", help="fewer rows and rounds: under a minute")
    made.add_argument("--threads", type=int, default=1, help="threads for everybody (default 1)")
    made.add_argument("--cpu", help="mask this host, e.g. x86-64-v3 (sets SYMGRAPH_CPU)")
    made.add_argument("--check", action="store_true", help="exit 1 if a row misses its goal")
    made.add_argument(
        "--rows", metavar="A,B", help="only rows whose name contains one of these, quick or not"
    )
    made.add_argument("--out", type=Path, default=Path("benchmarks/out"), metavar="DIR")
    return made


def environment(threads: int, cpu: str | None) -> dict[str, str]:
    """What makes everybody use this many threads, and us compile; libraries read it once."""
    pools = ("OMP", "OPENBLAS", "MKL", "NUMBA")
    wanted = {f"{pool}_NUM_THREADS": str(threads) for pool in pools}
    wanted["SYMGRAPH_THREADS"] = str(threads)
    wanted["SYMGRAPH_CACHE"] = "0"
    wanted["NPROC"] = str(threads)  # the size of XLA's pool
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
    wanted = environment(options.threads, options.cpu)
    if any(os.environ.get(key) != value for key, value in wanted.items()):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **wanted})
    clock = "process" if options.threads == 1 else "wall"
    print(f"the machine's limits, {options.threads} thread(s):", flush=True)
    measured = limits.measure(options.threads, options.quick)
    print(limits.table(measured) + "\n", flush=True)
    results = []
    for row in chosen(rows, options.rows, options.quick):
        results.append(measure(row, measured, clock, options.quick))
        _tell(results[-1])
    judge_spread(results)
    result = report.record(
        name, results, measured, threads=options.threads, cpu=options.cpu, quick=options.quick
    )
    print("\n" + report.table(result))
    for path in report.write(result, options.out):
        print(f"wrote {path}")
    below = [f"{row['row']} ({', '.join(row['missed'])})" for row in results if row["missed"]]
    if below:
        print(f"below the goal: {'; '.join(below)}")
    return 1 if options.check and below else 0


def chosen(rows: Iterable[Row], names: str | None, quick: bool) -> list[Row]:
    """The rows that --rows names, or else those of a quick or a full run; says which must wait."""
    import symgraph

    if names is None:
        wanted = [row for row in rows if row.quick or not quick]
    else:
        wanted = [row for row in rows if any(part in row.name for part in names.split(","))]
    for row in wanted:
        if row.needs and not hasattr(symgraph, row.needs):
            print(f"{row.name}: skipped, symgraph has no {row.needs}")
    return [row for row in wanted if not row.needs or hasattr(symgraph, row.needs)]


def _tell(row: dict[str, Any]) -> None:
    """One line as soon as a row is done, and why a peer is not in it."""
    ratio = "" if row["ratio"] is None else f", {row['ratio']:.2f} x {row['best_peer']}"
    print(f"{row['row']}: {report.seconds(row['ours'][row['clock']])}{ratio}", flush=True)
    for name, peer in row["peers"].items():
        if "skipped" in peer:
            print(f"  without {name}: {peer['skipped']}")
