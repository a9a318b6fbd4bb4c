"""Shared variables: updates, atomicity, locks, threads, signals."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends import runtime


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


# --- updates ---


def test_all_new_values_come_from_the_old_ones() -> None:
    a, b = sg.shared(f32(1, 2), "a"), sg.shared(f32(10, 20), "b")
    f = sg.function([], [a, b, a + b], updates=[(a, b), (b, a + b)])
    first = f()
    assert [v.tolist() for v in first] == [[1, 2], [10, 20], [11, 22]]
    assert a.get_value().tolist() == [10, 20] and b.get_value().tolist() == [11, 22]


@pytest.mark.parametrize(
    "new",
    [
        lambda w: w + 1,
        lambda w: w[::-1] * 2,
        lambda w: sg.cumsum(w),
        lambda w: w - w.sum(),
        lambda w: sg.constant(f32(7, 8, 9, 10)),
        lambda w: w,
        lambda w: sg.where(w > 2, w, w[::-1]),
    ],
)
def test_updates_agree_with_the_reference(new: Callable[[Any], Any]) -> None:
    results = []
    for mode in ("native", "reference"):
        w = sg.shared(f32(1, 2, 3, 4), "w")
        f = sg.function([], w * 1, updates={w: new(w)}, mode=mode)
        results.append([v.tolist() for _ in range(3) for v in (f(), w.get_value())])
    assert results[0] == results[1]


def test_default_updates_are_collected_transitively() -> None:
    a, b, c = (sg.shared(f32(n), name) for n, name in ((1, "a"), (2, "b"), (3, "c")))
    a.default_update = a + b
    b.default_update = b + 1
    c.default_update = c + 1
    f = sg.function([], a * 2)
    assert f().tolist() == [2] and a.get_value().tolist() == [3] and b.get_value().tolist() == [3]
    assert c.get_value().tolist() == [3]  # not in the graph
    sg.function([], a, updates={a: a * 0})()
    assert a.get_value().tolist() == [0] and b.get_value().tolist() == [3]
    sg.function([], a, no_default_updates=True)()
    assert a.get_value().tolist() == [0]
    sg.function([], a + b, no_default_updates=[a])()
    assert a.get_value().tolist() == [0] and b.get_value().tolist() == [4]


def test_two_functions_share_one_variable() -> None:
    w, x = sg.shared(f32(1, 1), "w"), sg.vector("x")
    step, read = sg.function([x], None, updates={w: w + x}), sg.function([], w)
    for n in range(2, 5):
        step(f32(1, 1))
        assert read().tolist() == [n, n] == w.get_value().tolist()
    w.set_value([9, 9])
    assert read().tolist() == [9, 9]


def test_a_shape_that_changes() -> None:
    w, x = sg.shared(f32(1, 2), "w", shape=("n",)), sg.vector("x")
    grow = sg.function([x], w.shape[0], updates={w: sg.concatenate([w, x])})
    assert int(grow(f32(3))) == 2 and int(grow(f32(4, 5))) == 3
    assert w.get_value().tolist() == [1, 2, 3, 4, 5]
    w.set_value(f32(0))
    assert int(grow(f32(1))) == 1 and w.get_value().tolist() == [0, 1]


def test_a_new_shape_after_set_value_with_swaps() -> None:
    w = sg.shared(f32(1, 2), "w", shape=("n",))
    flip = sg.function([], None, updates={w: w[::-1]})
    for value in (f32(1, 2), f32(1, 2, 3), f32(5)):
        w.set_value(value)
        flip()
        assert w.get_value().tolist() == value[::-1].tolist()


def test_a_failing_call_leaves_the_state_as_it_was() -> None:
    w, v, x = sg.shared(f32(1, 2), "w"), sg.shared(f32(5, 6), "v"), sg.vector("x")
    good = sg.assert_(x, (x > 0).all(), "x must be positive")
    f = sg.function([x], good.sum(), updates={w: w + 1, v: v + good})
    with pytest.raises(sg.AssertionFault, match="x must be positive"):
        f(f32(1, -1))
    assert w.get_value().tolist() == [1, 2] and v.get_value().tolist() == [5, 6]
    f(f32(1, 1))
    assert w.get_value().tolist() == [2, 3] and v.get_value().tolist() == [6, 7]


# --- values and borrowing ---


def test_values_are_copies_unless_borrowed() -> None:
    given = f32(1, 2)
    w = sg.shared(given, "w")
    step = sg.function([], None, updates={w: w + 1})
    given[:] = 100
    got = w.get_value()
    step()
    assert got.tolist() == [1, 2] and w.get_value().tolist() == [2, 3]
    w.set_value(given)
    given[:] = 0
    step()
    assert w.get_value().tolist() == [101, 101] and given.tolist() == [0, 0]


def test_a_borrowed_value_as_an_argument() -> None:
    w, x = sg.shared(np.arange(6, dtype=np.float32), "w"), sg.vector("x")
    f = sg.function([x], (w * x).sum(), updates={w: w + x[::-1]})
    for _ in range(4):
        old = w.get_value()
        mine = w.get_value(borrow=True)
        assert float(f(mine)) == float((old * old).sum())
        assert w.get_value().tolist() == (old + old[::-1]).tolist()


def test_read_only_memory_is_never_written() -> None:
    value = f32(1, 2)
    value.flags.writeable = False
    w = sg.shared(value, "w", borrow=True)
    sg.function([], None, updates={w: w + 1})()
    assert value.tolist() == [1, 2] and w.get_value().tolist() == [2, 3]


def test_one_array_borrowed_by_two_variables() -> None:
    value = f32(1, 2)
    w, v = sg.shared(value, "w", borrow=True), sg.shared(value, "v", borrow=True)
    sg.function([], None, updates={w: w + 1})()
    assert w.get_value().tolist() == [2, 3] and v.get_value().tolist() == [1, 2]


def test_wrong_values_are_refused() -> None:
    w = sg.shared(f32(1, 2), "w")
    sg.function([], w)
    for wrong in (f32(1, 2, 3), f32(1, 2).reshape(2, 1), np.zeros(2), None, "a"):
        with pytest.raises(sg.ArgumentError):
            w.set_value(wrong)
    assert w.get_value().tolist() == [1, 2]


def test_references_are_balanced() -> None:
    w, x = sg.shared(np.ones(50, np.float32), "w"), sg.vector("x")
    f = sg.function(
        [x], [w, x], updates={w: w + x, sg.shared(np.zeros(3, np.float32)): sg.zeros(3)}
    )
    given, d = np.ones(50, np.float32), np.dtype(np.float32)
    f(given), f(given)
    before = sys.getrefcount(given), sys.getrefcount(d)
    for _ in range(500):
        f(given)
    gc.collect()
    after = sys.getrefcount(given), sys.getrefcount(d)
    assert before[0] == after[0] and abs(before[1] - after[1]) < 20


def test_a_function_is_freed() -> None:
    import weakref

    w = sg.shared(np.ones(1000, np.float32), "w")
    f = sg.function([], w * 2, updates={w: w + 1})
    f()
    alive, cell = weakref.ref(f), weakref.ref(w.runtime)
    del f
    gc.collect()
    assert alive() is None
    del w
    gc.collect()
    assert cell() is None


# --- threads ---


def run_threads(n: int, work: Callable[[int], None]) -> None:
    """Run work(i) in n threads; the first exception is raised here."""
    errors: list[BaseException] = []

    def body(i: int) -> None:
        try:
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=body, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    if errors:
        raise errors[0]


@pytest.mark.parametrize("size", [4, 300_000])
def test_no_update_is_lost_between_threads(size: int) -> None:
    w, x = sg.shared(np.zeros(size, np.float64), "w"), sg.vector("x", dtype="float64")
    add, read = sg.function([x], None, updates={w: w + x}), sg.function([], w)
    one, calls = np.ones(size), 400 if size < 100 else 12

    def work(i: int) -> None:
        for _ in range(calls):
            if i % 2:
                add(one)
            else:
                value = read() if i % 4 else w.get_value()
                assert (value == value[0]).all()  # never half an update

    run_threads(8, work)
    assert (w.get_value() == 4 * calls).all()


def test_two_writers_that_read_each_other() -> None:
    a, b = sg.shared(np.zeros(100_000), "a"), sg.shared(np.zeros(100_000), "b")
    f = sg.function([], None, updates={a: a + 1 + 0 * b})
    g = sg.function([], None, updates={b: b + 1 + 0 * a})
    run_threads(4, lambda i: [(f, g)[i % 2]() for _ in range(60)] and None)
    assert a.get_value()[0] == b.get_value()[0] == 120


def test_one_function_from_eight_threads() -> None:
    x = sg.vector("x")
    f = sg.function([x], [sg.exp(x) * 2, (x * x).sum()])
    values = [
        np.random.default_rng(i).standard_normal(5000 * (i + 1)).astype(np.float32)
        for i in range(8)
    ]
    want = [f(v) for v in values]

    def work(i: int) -> None:
        for _ in range(50):
            got = f(values[i])
            assert all(g.tobytes() == w.tobytes() for g, w in zip(got, want[i]))

    run_threads(8, work)


def test_other_threads_run_during_a_long_call() -> None:
    x = sg.vector("x")
    f = sg.function([x], long(x))
    ticks, stop = [0], threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks[0] += 1
            time.sleep(0.001)

    ticker = threading.Thread(target=tick)
    ticker.start()
    began = time.monotonic()
    ticks[0] = 0
    f(np.ones(1_000_000, np.float32))
    seconds, during = time.monotonic() - began, ticks[0]
    stop.set()
    ticker.join()
    assert during >= min(10, seconds / 0.02), (during, seconds)


def test_a_child_process_is_not_locked_out() -> None:
    w, f = slow_update()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            f()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(5):
            time.sleep(0.01)
            child = os.fork()
            if not child:
                signal.alarm(20)
                f()
                os._exit(0 if np.isfinite(w.get_value()).all() else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()


# --- signals ---


def long(x: Any, rounds: int = 10) -> Any:
    """Something that takes a while for a long vector."""
    for i in range(rounds):
        x = sg.sin(x) + sg.exp(-x * x) * (i + 1)
    return x


class Alarm(Exception):
    """What the signal handler raises."""


@contextmanager
def alarm(seconds: float, handler: Callable[..., Any]) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def slow_update() -> tuple[sg.Shared, Any]:
    w = sg.shared(np.ones(500_000, np.float32), "w")
    return w, sg.function([], w.sum(), updates={w: w + 0 * long(w, 30)})


def test_a_signal_stops_a_long_call_and_leaves_the_state() -> None:
    w, f = slow_update()
    told: list[float] = []

    def stop(*_: Any) -> None:
        told.append(time.monotonic())
        raise Alarm

    began = time.monotonic()
    with alarm(0.05, stop), pytest.raises(Alarm):
        for _ in range(1000):
            f()
            assert time.monotonic() - began < 30
    assert time.monotonic() - told[0] < 1
    value = w.get_value()
    assert (value == value[0]).all()
    f()
    assert np.isfinite(w.get_value()).all()


def test_code_in_a_signal_handler_meets_no_deadlock() -> None:
    w, f = slow_update()
    v = sg.shared(f32(1), "v")
    other = sg.function([], None, updates={v: v + 1})
    seen: list[Any] = []

    def handler(*_: Any) -> None:
        if not runtime.depth():
            signal.setitimer(signal.ITIMER_REAL, 0.02)  # between calls: try again
            return
        seen.append(float(w.get_value()[0]))
        other()
        for forbidden in (lambda: w.set_value(np.zeros(500_000, np.float32)), f):
            try:
                forbidden()
            except sg.GraphError as error:
                seen.append(str(error))

    with alarm(0.05, handler):
        for _ in range(20):
            f()
            if seen:
                break
    assert seen == [
        1.0,
        "w: cannot be set inside a call of a function that uses it",
        "function: cannot run inside a call, of the same thread, that updates w",
    ]
    assert v.get_value().tolist() == [2]
