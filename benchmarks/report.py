"""What a benchmark leaves behind: the JSON record, the text table, the picture."""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import json
import math
import os
import platform
from pathlib import Path
from typing import Any

#: packages whose versions a record carries, where installed
VERSIONED = (
    "symgraph", "numpy", "scipy", "sympy", "llvmlite", "ml_dtypes", "numba", "jax", "jaxlib",
    "pytensor", "torch", "onnxruntime", "openvino", "ai-edge-litert", "ncnn", "MNN",
)  # fmt: skip
SCHEMA = 2
ULPS_SHOWN = 4.0  # more, and the table states the absolute error


def machine() -> dict[str, Any]:
    """Where the figures were taken: CPU, its flags, cores, system, Python, and the load."""
    info = _cpuinfo()
    return {
        "cpu": info.get("model name", platform.processor() or platform.machine()),
        "flags": info.get("flags", info.get("Features", "")).split(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    first = text.split("\n\n")[0].splitlines()
    pairs = (line.partition(":") for line in first)
    return {key.strip(): value.strip() for key, _, value in pairs}


def versions() -> dict[str, str]:
    """Version of each package that is installed; symgraph's own from the code that runs."""
    found = {}
    for name in VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["symgraph"] = getattr(importlib.import_module("symgraph"), "__version__", "checkout")
    return found


def record(
    benchmark: str, rows: list[dict[str, Any]], limits: dict[str, float], **options: Any
) -> dict[str, Any]:
    """The one JSON schema of every benchmark.

    Units: seconds a call, FLOP/s and bytes/s. `ratio` is the best peer's time over ours (above 1
    we are faster), `fraction` the limit's time over ours (1 is the machine's limit). A row's
    clocks are `thread` and `process` (CPU time) and `wall`; `clock` names the one that `ratio`
    compares. `build` is the CPU time of making our contestant, `accuracy` its largest error against
    float64, `peak` the bytes of RAM that a contestant with a process of its own took at most,
    `resident` ours over the least of the peers, `missed` lists the goals that were not met.
    """
    return {
        "schema": SCHEMA,
        "benchmark": benchmark,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "options": options,
        "machine": machine(),
        "versions": versions(),
        "limits": limits,
        "rows": rows,
    }


# --- the table ---

UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (0.0, "ns"))


def seconds(value: float) -> str:
    """Three digits and a unit that fits."""
    scale, unit = next((scale, unit) for scale, unit in UNITS if value >= scale)
    return f"{value / (scale or 1e-9):.3g} {unit}"


def table(result: dict[str, Any]) -> str:
    """The rows as aligned text: ours, each peer, ratio to the best peer, limit, goal.

    A peer with a star is shown, and no goal is set against it.
    """
    peers = list(dict.fromkeys(name for row in result["rows"] for name in row["peers"]))
    head = ["row", "symgraph", *peers, "ratio", "of limit", "build", "error", "RAM", "goal", ""]
    lines = [head, *(_cells(row, peers) for row in result["rows"])]
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = [
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([text[0], "-" * sum(widths, 2 * len(widths) - 2), *text[1:]])


def _cells(row: dict[str, Any], peers: list[str]) -> list[str]:
    clock = row["clock"]
    return [
        row["row"],
        seconds(row["ours"][clock]),
        *(
            (seconds(row["peers"][p][clock]) + " *" * (p in row["shown"]))
            if clock in row["peers"].get(p, {})
            else "-"
            for p in peers
        ),
        "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
        "-" if row["fraction"] is None else f"{row['fraction']:.2f}",
        "-" if row["build"] is None else seconds(row["build"]),
        _error(row["accuracy"]),
        _peak(row),
        " and ".join(_goal(kind, value) for kind, value in row["goal"].items()) or "-",
        _verdict(row["missed"]),
    ]


def _error(accuracy: dict[str, float] | None) -> str:
    """In units in the last place, where nothing but an absolute bound makes sense absolutely."""
    if accuracy is None:
        return "-"
    if accuracy["ulp"] == 0 < accuracy["any ulp"] and accuracy["any ulp"] > ULPS_SHOWN:
        return f"{accuracy['absolute']:.1e}"
    return f"{accuracy['any ulp']:.2g} ulp"


def _peak(row: dict[str, Any]) -> str:
    """Megabytes, and how many times those of the smallest peer."""
    peak = row["ours"].get("peak")
    if peak is None:
        return "-"
    more = "" if row["resident"] is None else f" ({row['resident']:.2f} x)"
    return f"{peak / 1e6:.0f} MB{more}"


def _verdict(missed: list[str] | None) -> str:
    if missed is None:
        return ""
    return f"MISSED {', '.join(missed)}" if missed else "met"


def _goal(kind: str, value: float) -> str:
    return {
        "ratio": f"ratio >= {value:g}",
        "fraction": f"of limit >= {value:g}",
        "seconds": f"<= {seconds(value)}",
        "excess": f"<= best peer + {seconds(value)}",
        "build": f"build <= {seconds(value)}",
        "ulp": f"ulp <= {value:g}",
        "spread": f"spread <= {value:g}",
        "resident": f"RAM <= {value:g} x peer",
    }[kind]


# --- files ---


def write(result: dict[str, Any], folder: Path) -> list[Path]:
    """Writes NAME.json, and NAME.png where matplotlib is installed; gives the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{result['benchmark']}.json"]
    paths[0].write_text(json.dumps(result, indent=1) + "\n")
    try:
        importlib.import_module("matplotlib")
    except ModuleNotFoundError:
        print("no picture: matplotlib is not installed")
        return paths
    paths.append(folder / f"{result['benchmark']}.png")
    picture(result, paths[1])
    return paths


def picture(result: dict[str, Any], path: Path) -> None:
    """Horizontal bars, a group for each row: everybody's speed relative to ours, log axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bars = [bar for row in reversed(result["rows"]) for bar in _bars(row)]
    figure = Figure(figsize=(9, 1.2 + 0.28 * len(bars)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    lengths = [math.log2(speed) for _, speed, _ in bars]
    axes.barh(range(len(bars)), lengths, color=[color for *_, color in bars], height=0.8)
    axes.set_yticks(range(len(bars)), [label for label, *_ in bars], fontsize=8)
    ticks = range(math.floor(min(lengths, default=0)), math.ceil(max(lengths, default=0)) + 1)
    axes.set_xticks(list(ticks), [f"{2.0**t:g}x" for t in ticks])
    axes.axvline(0, color="black", linewidth=1)
    axes.set_xlabel("speed relative to symgraph (left of the line: slower than symgraph)")
    axes.set_title(f"{result['benchmark']}  ({result['machine']['cpu']}, {result['date'][:10]})")
    figure.savefig(path, dpi=120)


def _bars(row: dict[str, Any]) -> list[tuple[str, float, str]]:
    """(label, speed relative to ours, colour), lowest bar first."""
    clock = row["clock"]
    ours = row["ours"][clock]
    found = [
        (name, ours / peer[clock], "#8da0cb")
        for name, peer in row["peers"].items()
        if clock in peer
    ]
    if row["fraction"]:
        found.append(("limit", 1 / row["fraction"], "#bbbbbb"))
    return [*reversed(found), (f"{row['row']}: symgraph {seconds(ours)}", 1.0, "#fc8d62")]
