"""The measuring instruments: comparison, goals, clocks, limits, record, table, picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import (
    accuracy,
    dialects,
    harness,
    limits,
    loops,
    network_engines,
    network_files,
    network_graphs,
    networks,
    report,
)
from benchmarks.harness import Mismatch, Row, Work
from benchmarks.timing import Child, Statement, interleaved, medians

LIMITS = {"fma_f32": 1e11, "triad_DRAM": 2e10, "read_L2": 1e11}
WIDE_LIMITS = {f"{k}_{level}": 1e11 for k in ("read", "triad") for level in ("L1", "L2", "L3")}


def double(x: np.ndarray) -> Statement:
    return Statement("x + x", x=x)


def twice(x: np.ndarray) -> Statement:
    return Statement("2 * x", x=x)


def wrong(x: np.ndarray) -> Statement:
    return Statement("2.001 * x", x=x)


def absent(x: np.ndarray) -> Statement:
    import a_library_that_nobody_has  # type: ignore[import-not-found]

    return Statement("f(x)", f=a_library_that_nobody_has.f, x=x)


def row(**changes: Any) -> Row:
    settings: dict[str, Any] = dict(
        name="double",
        inputs=lambda random: (random.standard_normal(100),),
        ours=double,
        peers={"twice": twice, "absent": absent},
    )
    return Row(**{**settings, **changes})


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "BUDGET", {True: (0.0, 3)})


@pytest.mark.parametrize(
    ("got", "expected", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.5], [1.0, 2.0], 0.25),
        (np.array([np.nan, np.inf]), np.array([np.nan, np.inf]), 0.0),
        (np.array([np.nan]), np.array([1.0]), np.inf),
        (np.zeros(3), np.zeros(4), np.inf),
        (np.ones(2), np.zeros(2), np.inf),
        (np.zeros(0), np.zeros(0), 0.0),
        ((np.ones(1), np.ones(2)), [np.ones(1), np.ones(2)], 0.0),
        ({"a": 1.0, "b": 4.0}, {"b": 4.0, "a": 2.0}, 0.5),
        (np.uint8([255]), np.uint8([0]), np.inf),
    ],
)
def test_error(got: Any, expected: Any, error: float) -> None:
    assert harness.error(got, expected) == error


def test_row_is_measured_and_a_missing_peer_is_named(short: None) -> None:
    work = Work(operations=100, bytes=1600, level="read_L2")
    found = harness.measure(row(work=work, goal={"ratio": 1e-9}), LIMITS, "process", quick=True)
    assert found["best_peer"] == "twice" and found["missed"] == []
    assert found["peers"]["absent"] == {"skipped": "a_library_that_nobody_has is not installed"}
    assert found["ours"]["samples"] == found["peers"]["twice"]["samples"] == 3
    ours, theirs = found["ours"]["process"], found["peers"]["twice"]["process"]
    assert found["ratio"] == pytest.approx(theirs / ours)
    assert found["limit"] == 1600 / 1e11
    assert found["fraction"] == pytest.approx(found["limit"] / ours)


def test_peer_missing_in_a_child_is_named_and_slow_peers_wait(short: None) -> None:
    child = row(
        inputs=lambda random: (),
        ours=lambda: Child("a = 1", value="a"),
        peers={"gone": lambda: Child("import nobody_has"), "late": lambda: Child("1 / 0")},
        slow=frozenset({"late"}),
    )
    found = harness.measure(child, LIMITS, "process", quick=True)
    assert found["peers"] == {
        "gone": {"skipped": "nobody_has is not installed"},
        "late": {"skipped": "too slow for --quick"},
    }
    assert found["ratio"] is None and found["best_peer"] is None


def test_wrong_result_is_not_timed(short: None) -> None:
    with pytest.raises(Mismatch, match=r"row 'double': symgraph differs from twice by 0.0005"):
        harness.measure(row(ours=wrong), LIMITS, "process", quick=True)
    harness.measure(row(ours=wrong, tolerance=1e-3), LIMITS, "process", quick=True)


def test_unknown_goal_is_refused() -> None:
    with pytest.raises(ValueError, match="goals are"):
        row(goal={"speed": 1.0})


@pytest.mark.parametrize(
    ("goal", "missed"),
    [
        ({}, None),
        ({"ratio": 2.0}, []),
        ({"ratio": 2.1}, ["ratio"]),
        ({"seconds": 1.0, "fraction": 0.5}, []),
        ({"seconds": 0.9, "fraction": 0.5}, ["seconds"]),
        ({"fraction": 0.6}, ["fraction"]),
        ({"excess": -1.0}, []),
        ({"excess": -1.1}, ["excess"]),
        ({"ulp": 3.0, "build": 0.02}, []),
        ({"ulp": 2.9, "build": 0.01}, ["ulp", "build"]),
        ({"spread": 1.5}, None),
    ],
)
def test_goals(goal: dict[str, float], missed: list[str] | None) -> None:
    figures = {"seconds": 1.0, "best peer": 2.0, "limit": 0.5, "build": 0.02, "ulp": 3.0}
    assert harness.missed(goal, figures) == missed


def test_rows_of_a_group_are_near_each_other(short: None) -> None:
    goal = {"spread": 50.0}
    results = [
        harness.measure(r, LIMITS, "process", quick=True)
        for r in (
            row(peers={}, goal=goal, group="g"),
            row(name="long", inputs=long, peers={}, goal=goal, group="g"),
            row(name="other", inputs=long, peers={}, goal=goal, group="h"),
        )
    ]
    harness.judge_spread(results)
    assert [r["missed"] for r in results] == [[], ["spread"], []]


def long(random: np.random.Generator) -> tuple[np.ndarray]:
    return (random.standard_normal(1_000_000),)


def test_a_peer_that_is_shown_is_not_the_best(short: None) -> None:
    both = row(peers={"twice": twice, "again": twice}, shown=frozenset({"twice"}))
    found = harness.measure(both, LIMITS, "process", quick=True)
    assert found["best_peer"] == "again" and found["peers"]["twice"]["samples"] == 3


@pytest.mark.parametrize(
    ("got", "exact", "error"),
    [
        (np.float32([1, 2]), np.array([1.0, 2.0]), (0, 0, 0)),
        (np.float32([100]), np.array([100 + 2.0**-16]), (2, 2, 2.0**-16)),
        (np.float32([0]), np.array([2.0**-24]), (0, 2.0**-24 / 2.0**-47, 2.0**-24)),
        (np.float32([np.nan, np.inf]), np.array([np.nan, np.inf]), (0, 0, 0)),
        (np.float32([np.nan]), np.array([1.0]), (np.inf,) * 3),
        (np.float32([np.inf]), np.array([-np.inf]), (np.inf,) * 3),
        ((np.int64([3]), np.float32(1)), (np.int64([3]), 1.0), (0, 0, 0)),
        ((np.int64([4]), np.float32(1)), (np.int64([3]), 1.0), (np.inf,) * 3),
        (np.float32([1]), np.array([1.0, 1.0]), (np.inf,) * 3),
    ],
)
def test_accuracy(got: Any, exact: Any, error: tuple[float, ...]) -> None:
    assert tuple(accuracy.of(got, exact).values()) == error


def test_every_row_of_loops_is_right_against_numpy(
    short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On small inputs: what each row computes, its accuracy, its compilation, its goals."""
    monkeypatch.setenv("SYMGRAPH_CACHE", "0")
    monkeypatch.setattr(loops, "SIZES", (10, 1_000, 1_007))
    monkeypatch.setattr(loops, "SHAPE", (33, 50))
    monkeypatch.setattr(loops, "SIDE", 37)
    monkeypatch.setattr(loops, "CONCATENATED", (5, 7))
    monkeypatch.setattr(loops, "DRAWS", 1_001)
    monkeypatch.setattr(loops, "PEERS", {"numpy": dialects.numpy})
    monkeypatch.setattr(harness, "BUILDS", 1)
    rows = harness.chosen(loops.rows(), "1e,over,softmax,layer,trans,conca,embed", quick=False)
    assert len(rows) >= 33
    for each in rows:
        each = replace(each, peers={n: p for n, p in each.peers.items() if n == "numpy"})
        found = harness.measure(each, {**LIMITS, **WIDE_LIMITS}, "process", quick=True)
        assert 0 < found["build"] < 10 and found["fraction"] > 0
        assert found["accuracy"] is None or found["accuracy"]["ulp"] <= loops.ULP, each.name


def test_statement_times_what_it_says() -> None:
    def burn(loops: int) -> int:
        return sum(range(loops))

    small, large = Statement("f(n)", f=burn, n=2_000), Statement("f(n)", f=burn, n=40_000)
    assert small.value() == burn(2_000)
    taken = interleaved({"small": small, "large": large}, budget=0.05, rounds=5)
    assert len(taken["small"]) == len(taken["large"]) >= 5
    ratio = medians(taken["large"]).thread / medians(taken["small"]).thread
    assert 10 < ratio < 40


def test_child_times_only_its_code() -> None:
    child = Child("x = sum(range(100))", setup="a = sum(range(3_000_000))", value="[x]")
    assert child.value() == [4950]
    assert child.sample().process < 0.005
    with pytest.raises(ModuleNotFoundError, match="nobody_has"):
        Child("import nobody_has").sample()
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        Child("1 / 0").sample()


def test_limits_are_those_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(limits.CALLS, True, 2)
    found = limits.measure(threads=1, quick=True)
    assert all(rate > 1e8 for rate in found.values())
    assert found["read_L1"] > found["read_DRAM"]
    assert found["fma_f32"] > 1.5 * found["fma_f64"]
    assert "GFLOP/s" in limits.table(found)


def test_record_table_and_picture(short: None, tmp_path: Path) -> None:
    rows = [
        harness.measure(r, LIMITS, "process", quick=True)
        for r in (row(goal={"ratio": 1e9}), row(name="alone", peers={}, goal={"seconds": 1.0}))
    ]
    result = report.record("trial", rows, LIMITS, threads=1)
    table = report.table(result).splitlines()
    assert table[0].split()[:4] == ["row", "symgraph", "twice", "absent"]
    assert table[2].endswith("MISSED ratio") and table[3].endswith("met")
    paths = report.write(result, tmp_path)
    assert json.loads(paths[0].read_text()) == json.loads(json.dumps(result))
    assert result["versions"]["numpy"] == np.__version__ and result["machine"]["cores"] >= 1
    if len(paths) == 2:
        assert paths[1].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "text"), [(2.0, "2 s"), (0.0123, "12.3 ms"), (4e-6, "4 us"), (3.5e-8, "35 ns")]
)
def test_seconds(value: float, text: str) -> None:
    assert report.seconds(value) == text


# --- networks ---


@pytest.mark.parametrize("name", ["LeNet-5", "MLP 784-500-500-10", "MobileNet-V2"])
def test_networks_told_to_torch_are_the_same_networks(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    network = network_graphs.NETWORKS[name]
    x = network_graphs.batch_of(network, 1, np.random.default_rng(0))
    ours = networks.inference_symgraph(network)(x).value()
    theirs = network_engines.opened("torch", network_files.written("torch", network, tmp_path), x)
    assert harness.error(ours, theirs.value()) < networks.TOLERANCE


def test_training_steps_agree() -> None:
    pytest.importorskip("torch")
    training = networks.Training(network_graphs.NETWORKS["LeNet-5"], 8, 0.05, 1.0)
    random = np.random.default_rng(0)
    x = network_graphs.batch_of(training.network, 8, random)
    labels = random.integers(0, 10, 8)
    ours, theirs = (
        step(training)(x, labels).value() for step in (networks.step_symgraph, networks.step_torch)
    )
    assert ours == pytest.approx(theirs, rel=1e-4) and ours[2] < ours[0]


def test_a_child_tells_its_own_peak_of_memory() -> None:
    ballast = np.ones(30_000_000)  # the parent's memory is not counted
    small, large = Child("pass"), Child("x = b'1' * 100_000_000")
    for child in (small, large):
        child.sample()
    if small.peak is None or large.peak is None:
        pytest.skip("no /proc here")
    assert small.peak < ballast.nbytes / 2 and large.peak - small.peak > 90_000_000
