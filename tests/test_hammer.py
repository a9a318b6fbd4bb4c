"""Two processes and eight threads use one cache and the same functions at once: nothing differs.

Each process runs the same work in eight threads: calls of one function with arguments of every
size, updates of one variable, compilations of a set of small programs from an empty cache that the
other process fills, clears and damages at the same time. Both must print the same digest.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import symgraph as sg

pytestmark = pytest.mark.alone

THREADS, ROUNDS, PROGRAMS = 8, 24, 6
WORK = """
import hashlib, os, random, sys, threading, warnings
from pathlib import Path
import numpy as np
import symgraph as sg
from symgraph.backends import cache

threads, rounds, programs, seed = map(int, sys.argv[1:])
warnings.simplefilter("error")
rng = np.random.default_rng(0)
x, m = sg.vector("x"), sg.matrix("m")
total = sg.shared(np.zeros(3, np.int64), "total")
f = sg.function([x], [sg.exp(-x * x), x.sum(), sg.cumsum(x)])
add = sg.function([], total.sum(), updates={total: total + sg.constant(np.array([1, 2, 3]))})
data = [rng.standard_normal(n).astype(np.float32) for n in (0, 1, 7, 64, 1000, 30_000, 5, 300_001)]
want = [[a.tobytes() for a in f(d)] for d in data]
square = rng.standard_normal((9, 9)).astype(np.float32)

def program(k):
    y = m
    for i in range(k + 1):
        y = sg.tanh(y @ m + float(i))
    return sg.function([m], sg.softmax(y) if k % 2 else y.sum(axis=0), name=f"p{k}")

expected = [program(k)(square).tobytes() for k in range(programs)]
start = threading.Barrier(threads)
errors = []

def disturb(random_):
    # Forget, give back, clear and damage what all the others use.
    cache._memory.clear()
    f.free()
    action = random_.randrange(4)
    if action == 0:
        cache.clear()
        return
    folder = Path(os.environ["SYMGRAPH_CACHE"])
    files = [p for p in folder.rglob("*") if p.is_file()]
    for path in random_.sample(files, len(files) // 3):
        try:
            if action == 1:
                with open(path, "r+b") as file:
                    file.seek(random_.randrange(200))
                    file.write(b"\\x55")
            elif action == 2:
                os.truncate(path, random_.randrange(200))
            else:
                path.unlink()
        except OSError:
            pass

def work(t):
    try:
        random_ = random.Random(100 * seed + t)
        start.wait()
        for i in range(rounds):
            d = random_.randrange(len(data))
            assert [a.tobytes() for a in f(data[d])] == want[d], "a call differs"
            add()
            if t == 0:
                disturb(random_)
            elif i % 3 == 0:
                k = random_.randrange(programs)
                assert program(k)(square).tobytes() == expected[k], "a program differs"
    except BaseException as error:
        errors.append(error)

pool = [threading.Thread(target=work, args=(t,)) for t in range(threads)]
for t in pool:
    t.start()
for t in pool:
    t.join()
if errors:
    raise errors[0]
done = total.get_value()
assert done.tolist() == [threads * rounds * k for k in (1, 2, 3)], done
digest = hashlib.sha256(b"".join(b"".join(w) for w in want) + b"".join(expected))
print(digest.hexdigest())
"""


def test_two_processes_and_eight_threads(tmp_path: Path) -> None:
    environment = {**os.environ, "SYMGRAPH_CACHE": str(tmp_path / "cache")}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, *map(str, (THREADS, ROUNDS, PROGRAMS, seed))],
            cwd=Path(sg.__file__).parent.parent,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(2)
    ]
    results = [w.communicate(timeout=120) for w in workers]
    assert [w.returncode for w in workers] == [0, 0], results
    assert results[0][0] == results[1][0] and len(results[0][0].strip()) == 64
    assert not [r[1] for r in results if r[1]]
