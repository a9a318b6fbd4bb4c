"""Errors of the elementary functions: all 2**32 float32 inputs, 10**8 stratified ones of float64.

    python -m benchmarks.vmath_ulp                     everything not yet known of these formulas
    python -m benchmarks.vmath_ulp --function exp tanh --dtype float32
    python -m benchmarks.vmath_ulp --quick --check     minutes; status 1 if a bound is broken
    python -m benchmarks.vmath_ulp --quick --cpu x86-64-v3

Each result is kept in vmath_ulp.json beside this file as soon as it is there, under the formula it
was measured for: a run that is stopped goes on where it was, and a formula that changes is measured
again. The table in backends/vmath/README.md is written from it (by --table alone as well).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from symgraph.backends import targets, vmath

STORE = Path(__file__).with_suffix(".json")
TABLE = Path(vmath.__file__).resolve().with_name("README.md")
NAMES = sorted(name for name, known in vmath.FUNCTIONS.items() if known.ulp)
DTYPES = ("float32", "float64", "float16", "bfloat16")
CPUS = ("host", "x86-64-v3", "x86-64")
EVERY = 1 << 32
STRIDE = 257  # of --quick: every so many float32
QUICK, FULL = 10**6, 10**8  # samples
ROUNDED = 0.5 + 2.0**-10  # half floats: float32's result rounded once more

HEAD = """\
# Errors of the elementary functions

Written by `python -m benchmarks.vmath_ulp`, which measures them; bounds are those stated in the
code. Units in the last place (0.5 is correctly rounded), and for float32 where the largest error
is. float32 of one argument: ALL 2**32 inputs on the host (AVX-512, fused multiply-add), but every
257th where a ~ stands and on the others, against float64. Two arguments and float64: stratified
samples (random bit patterns, moderate arguments, near 0, 1 and multiples of pi/4, edges), against
long double or mpmath. float16 and bfloat16: all 2**16 inputs; float32's result, rounded. Zeros and
their signs, infinities, NaN and subnormal results are right everywhere unless the last column
counts wrong ones. Nanoseconds are for one element, in cache, on the host named at the end.

logaddexp is in units of its larger argument where it cancels; gelu of a negative x in units of the
result's last place times max(1, x*x), which is what a unit in x makes of its tail.

"""
COLUMNS = (
    "function",
    "bound",
    "float32",
    "worst at",
    "x86-64-v3",
    "x86-64 (bound)",
    "float64 (bound)",
    "float16",
    "bfloat16",
    "ns float32",
    "ns float64",
    "wrong",
)


def known() -> dict[str, dict[str, Any]]:
    """What was measured: "cpu dtype function" -> a record."""
    return json.loads(STORE.read_text()) if STORE.exists() else {}


def keep(key: str, record: dict[str, Any]) -> None:
    """Add one record; the file is whole at every moment."""
    records = {**known(), key: record}
    fresh = STORE.with_suffix(".new")
    lines = [f"{json.dumps(k)}: {json.dumps(records[k])}" for k in sorted(records)]
    fresh.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    fresh.replace(STORE)


def formula(name: str, dtype: str, cpu: str) -> str:
    """A fingerprint of the code that a function becomes, but for the names of its values."""
    from benchmarks.vmath_errors import kernel_of
    from symgraph.backends.legalize import legalize
    from symgraph.backends.loops_text import to_text

    wide = dtype if dtype == "float64" else "float32"
    kernel = legalize(kernel_of(name, wide, 4), targets.target(cpu))
    return hashlib.sha256(to_text(kernel).encode()).hexdigest()[:16]


def bound(name: str, dtype: str, cpu: str) -> float:
    """What the code states for float32 and float64; halves are correctly rounded, nearly."""
    if dtype not in ("float32", "float64"):
        return ROUNDED
    return vmath.FUNCTIONS[name].ulp[dtype][not targets.target(cpu).has_fma]


def measure(name: str, dtype: str, cpu: str, step: int, count: int) -> dict[str, Any]:
    """The worst error of one function through a compiled graph, and the speed of its kernel."""
    from benchmarks import vmath_errors as errors

    start = time.thread_time()
    function = errors.graph_function(name, dtype)
    single = vmath.FUNCTIONS[name].arity == 1
    if dtype == "float32" and single:
        worst, inputs = errors.exhaustive(name, function, step), -(-EVERY // step)
    elif dtype in ("float32", "float64"):
        each = max(1, count // errors.STRATA)
        worst, inputs = errors.sampled(name, dtype, function, each), each * errors.STRATA
    else:
        worst, inputs = errors.every_half(name, dtype, function), 1 << 16
    record = {
        "formula": formula(name, dtype, cpu),
        "inputs": inputs,
        "ulp": round(worst.ulp, 4),
        "at": [float.hex(x) for x in worst.at],
        "wrong": worst.wrong,
        "wrong_at": [float.hex(x) for x in worst.wrong_at],
        "seconds": round(time.thread_time() - start, 1),
    }
    if dtype in ("float32", "float64"):
        kernel = errors.Compiled(name, dtype, targets.target(cpu))
        record["ns"] = round(errors.nanoseconds(kernel), 3)
    return record


def broken(name: str, dtype: str, cpu: str, record: dict[str, Any]) -> bool:
    return record["ulp"] > bound(name, dtype, cpu) or record["wrong"] > 0


def table(records: dict[str, dict[str, Any]]) -> str:
    """The page of the table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(row(records, name)) + " |" for name in NAMES]
    return HEAD + "\n".join(lines) + f"\n\nHost: {targets.detect().cpu}.\n"


def row(records: dict[str, dict[str, Any]], name: str) -> list[str]:
    """One line of the table; a dash where nothing was measured."""

    def get(cpu: str, dtype: str) -> dict[str, Any]:
        return records.get(f"{cpu} {dtype} {name}", {})

    def ulp(cpu: str, dtype: str) -> str:
        found = get(cpu, dtype)
        part = (cpu, dtype) == ("host", "float32") and found.get("inputs", 0) < EVERY
        mark = "~" if part and vmath.FUNCTIONS[name].arity == 1 else ""
        return f"{mark}{found['ulp']:.3f}" if found else "-"

    stated = vmath.FUNCTIONS[name].ulp
    main = get("host", "float32")
    place = ", ".join(f"{float.fromhex(x):.9g}" for x in main.get("at", [])) if main else "-"
    all_wrong = sum(get(cpu, d).get("wrong", 0) for cpu in CPUS for d in DTYPES)
    return [
        name,
        f"{stated['float32'].fused:g}",
        ulp("host", "float32"),
        place,
        ulp("x86-64-v3", "float32"),
        f"{ulp('x86-64', 'float32')} ({stated['float32'].split:g})",
        f"{ulp('host', 'float64')} ({stated['float64'].fused:g})",
        ulp("host", "float16"),
        ulp("host", "bfloat16"),
        str(main.get("ns", "-")),
        str(get("host", "float64").get("ns", "-")),
        str(all_wrong),
    ]


def write_table() -> None:
    TABLE.write_text(table(known()))


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--function", nargs="+", default=NAMES, metavar="NAME")
    parser.add_argument("--dtype", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--quick", action="store_true", help=f"every {STRIDE}th, {QUICK} samples")
    parser.add_argument("--step", type=int, help="take every step-th float32")
    parser.add_argument("--count", type=int, help="stratified samples in all")
    parser.add_argument("--cpu", default="host", choices=CPUS, help="mask this host")
    parser.add_argument("--check", action="store_true", help="status 1 if a bound is broken")
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args(arguments)
    options.step = options.step or (STRIDE if options.quick else 1)
    options.count = options.count or (QUICK if options.quick else FULL)
    return options


def main(arguments: list[str] | None = None) -> int:
    options = options_of(arguments)
    if options.cpu != "host":
        os.environ["SYMGRAPH_CPU"] = options.cpu
    failures = 0
    if not options.table:
        print(f"{'function':24} {'ulp':>8} {'bound':>6} {'wrong':>6} {'CPU s':>7}  at")
        for dtype in options.dtype:
            for name in options.function:
                failures += one(name, dtype, options)
    write_table()
    return int(options.check and failures > 0)


def one(name: str, dtype: str, options: argparse.Namespace) -> bool:
    """Measure one function unless as much is known; print it; whether its bound is broken."""
    key = f"{options.cpu} {dtype} {name}"
    record = known().get(key)
    exhaustive = dtype == "float32" and vmath.FUNCTIONS[name].arity == 1
    wanted = EVERY // options.step if exhaustive else options.count
    wanted = min(wanted, 1 << 16) if dtype in ("float16", "bfloat16") else wanted
    current = record is not None and record["formula"] == formula(name, dtype, options.cpu)
    if record is None or not current or record["inputs"] < wanted - 8:
        record = measure(name, dtype, options.cpu, options.step, options.count)
        keep(key, record)
        write_table()
    places = ", ".join(f"{float.fromhex(x):.9g}" for x in record["at"])
    stated = bound(name, dtype, options.cpu)
    print(
        f"{dtype + ' ' + name:24} {record['ulp']:8.4f} {stated:6.2f} {record['wrong']:6d} "
        f"{record['seconds']:7.1f}  {places}",
        flush=True,
    )
    return broken(name, dtype, options.cpu, record)


if __name__ == "__main__":
    sys.exit(main())
