"""How one contestant is timed: statements in this process or code in fresh ones, interleaved.

Three clocks are read: CPU time of the calling thread, CPU time of the whole process (a peer may
hand work to a pool of its own), and wall time. On a shared machine the CPU clocks leave out the
neighbours.
"""

from __future__ import annotations

import gc
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache
from itertools import repeat
from statistics import median
from typing import Any, NamedTuple, Protocol

#: seconds that one timed batch of calls takes at least, so that the clocks cost less than 1 %
BATCH_SECONDS = 2e-4
WARM_UP_CALLS = 3


class Sample(NamedTuple):
    """Seconds of one call on the three clocks."""

    thread: float
    process: float
    wall: float


class Contestant(Protocol):
    """What takes part in a row: it can show its result and be timed."""

    def value(self) -> Any: ...

    def sample(self) -> Sample: ...


class Statement:
    """An expression timed in this process, written as code so that no lambda adds to the call.

    `names` become local variables of the timing loop: Statement("f(x, y)", f=f, x=x, y=y).
    """

    def __init__(self, code: str, **names: Any) -> None:
        self._names = names
        self._value = _compiled(f"def value({', '.join(names)}):\n    return {code}")
        self._loop = _compiled(
            f"def loop(calls, {', '.join(names)}):\n    for _ in calls:\n        {code}"
        )
        self._batch = 0

    def value(self) -> Any:
        return self._value(**self._names)

    def sample(self) -> Sample:
        if not self._batch:
            self._warm_up()
        return self._run(self._batch)

    def _warm_up(self) -> None:
        self._run(WARM_UP_CALLS)
        calls = 1
        while self._run(calls).wall * calls < BATCH_SECONDS:
            calls *= 2
        self._batch = calls

    def _run(self, calls: int) -> Sample:
        wall, process, thread = time.perf_counter(), time.process_time(), time.thread_time()
        self._loop(repeat(None, calls), **self._names)
        thread, process = time.thread_time() - thread, time.process_time() - process
        wall = time.perf_counter() - wall
        return Sample(thread / calls, process / calls, wall / calls)


def _compiled(source: str) -> Callable[..., Any]:
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    return next(value for name, value in namespace.items() if name != "__builtins__")


_CHILD = """
import json, time
{setup}
_w, _p, _t = time.perf_counter(), time.process_time(), time.thread_time()
{code}
_t, _p, _w = time.thread_time() - _t, time.process_time() - _p, time.perf_counter() - _w
import sys
_value = {value}
_status = open("/proc/self/status").read() if sys.platform == "linux" else ""
_peak = [int(line.split()[1]) << 10 for line in _status.splitlines() if line.startswith("VmHWM")]
print("\\n" + json.dumps(dict(time=[_t, _p, _w], value=_value, peak=(_peak or [None])[0])))
"""


class Child:
    """Code timed once in a fresh process: imports and first compilations cannot be timed twice.

    `setup` runs before the clock starts, `value` (a JSON-able expression) after it stops.
    `environment()` is asked before each run, for instance for an empty cache folder.
    `peak`: the most memory that lay in RAM, in bytes, in the run so far that took least; only on
    Linux (VmHWM: the parent's memory, which rusage counts in, has no part in it).
    Modules are loaded from bytecode, as those of an installed package are: the first run, of
    `value`, writes it, wherever the package lies.
    """

    def __init__(
        self,
        code: str,
        setup: str = "",
        value: str = "None",
        environment: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._source = _CHILD.format(setup=setup, code=code, value=value)
        self._environment = environment
        self.peak: int | None = None

    def value(self) -> Any:
        return self._run()["value"]

    def sample(self) -> Sample:
        return Sample(*self._run()["time"])

    def _run(self) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-c", self._source],
            env={**os.environ, **_bytecode(), **self._environment()},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            missing = re.search(r"^ModuleNotFoundError: No module named '(.+)'", done.stderr, re.M)
            if missing:
                raise ModuleNotFoundError(missing[0], name=missing[1])
            raise RuntimeError(f"a child process failed:\n{done.stderr}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if result["peak"] is not None:
            self.peak = min(result["peak"], self.peak or result["peak"])
        return result


@cache
def _bytecode_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="symgraph-bytecode-")


def _bytecode() -> dict[str, str]:
    """What makes Python keep bytecode in a folder of its own, even if the user wants none kept."""
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": _bytecode_folder().name}


def interleaved(
    contestants: Mapping[str, Contestant], budget: float, rounds: int, patience: float = 30.0
) -> dict[str, list[Sample]]:
    """Samples of each contestant, taken in turn: at least `rounds`, then until `budget` seconds.

    Every round has an order of its own, so that nobody always runs after the same neighbour, in the
    caches that it left.
    Who has used up `patience` seconds (a compilation of half a minute) is not asked again.
    """
    names = list(contestants)
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    used = dict.fromkeys(names, 0.0)
    order = random.Random(0)
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        done = 0
        while done < rounds or time.perf_counter() - start < budget:
            for name in order.sample(names, len(names)):
                if used[name] < patience:
                    before = time.perf_counter()
                    samples[name].append(contestants[name].sample())
                    used[name] += time.perf_counter() - before
            done += 1
    finally:
        if was_enabled:
            gc.enable()
    return samples


def medians(samples: list[Sample]) -> Sample:
    """The median of each clock on its own."""
    return Sample(*(median(clock) for clock in zip(*samples)))
