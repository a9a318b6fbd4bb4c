"""The command line: exit codes, streams, suggestions, `info`, and the demo on one seed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import symgraph
from symgraph.nn import demo
from symgraph.nn.cli import main


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"symgraph {symgraph.__version__}\n"
    assert main(["--help"]) == 0
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected a command: demo, train, info"),
        (["inof"], "unknown command 'inof': did you mean info?"),
        (["xyz"], "unknown command 'xyz'; there are demo, train, info"),
        (["demo", "--quik"], "unknown argument '--quik': did you mean --quick?"),
        (["info", "--jsn"], "unknown argument '--jsn': did you mean --json?"),
        (["info", "more"], "unknown argument 'more'; there are -h, --help, --json"),
        (["--verison"], "unknown argument '--verison': did you mean --version?"),
    ],
)
def test_misuse(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.splitlines()[0] == f"symgraph: {message}"
    assert said.err.splitlines()[1].startswith("usage: symgraph")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "the following arguments are required: model"),
        (["train", "alexnet"], "argument model: invalid choice: 'alexnet'"),
        (["train", "lenet", "--epochs", "0"], "--epochs: expected a number from 1, got '0'"),
        (["train", "lenet", "--seed", "-1"], "--seed: expected a number from 0, got '-1'"),
        (["train", "lenet", "--seed", "x"], "--seed: expected a number from 0, got 'x'"),
        (["train", "lenet", "--epoch", "3"], "unknown argument '--epoch': did you mean --epochs?"),
    ],
)
def test_misuse_of_train(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == "" and message in said.err and "usage: symgraph" in said.err


def test_option_without_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out"]) == 2
    assert "symgraph demo: argument --out: expected one argument" in capsys.readouterr().err


def test_info_for_people_and_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for word in ("symgraph", "llvmlite", "features", "cortex-a72", "cache", "entries"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 100
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"]["symgraph"] == symgraph.__version__
    assert facts["host"]["vector bytes"] in (16, 32, 64) and facts["host"]["features"]
    assert facts["cache"]["limit"] > 0 and "x86-64-v3" in facts["targets"]


def test_info_without_a_cache(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SYMGRAPH_CACHE", "0")
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert "kept in memory only" in text and "SYMGRAPH_CACHE=0" in text


def test_an_error_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SYMGRAPH_CPU", "x86-64-v9")
    assert main(["info"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("symgraph: unknown target 'x86-64-v9'")


def test_interrupt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupted)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "symgraph: interrupted\n"


def test_reader_that_goes_away() -> None:
    code = "import sys; from symgraph.nn.cli import main; sys.exit(main(['info', '--json']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1 and errors == ""


# --- the demo


def test_demo_without_scikit_learn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert main(["demo", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == "" and 'pip install ".[demo]"' in said.err and "Traceback" not in said.err


def test_demo_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    out = tmp_path / "made" / "here"
    assert main(["demo", "--quick", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    for word in ("Claim: at least 95% - holds", "rules that fired", "the same costs", "Try next"):
        assert word in said.out
    assert sorted(p.name for p in out.iterdir()) == ["loss.png", "weights.safetensors"]


def test_demo_for_machines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["demo", "--quick", "--json", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    facts = json.loads(said.out)
    assert facts["ok"] and facts["accuracy"] >= 0.95 and facts["seconds"] < 60
    assert facts["compiler"]["host calls"] == 0 and facts["compiler"]["kernels"] > 0
    assert facts["step"]["agrees"] and facts["step"]["ratio"] > 1
    assert facts["files"] == [str(tmp_path / "weights.safetensors")]
    assert said.err.startswith("symgraph: no picture: a PNG is drawn by matplotlib")


def test_demo_checks_its_claim(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(demo, "QUICK", demo.Plan(1, 1, 0.999))
    assert main(["demo", "--quick", "--out", str(tmp_path)]) == 1
    assert "Claim: at least 100% - DOES NOT HOLD" in capsys.readouterr().out


def test_demo_into_a_place_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    (tmp_path / "file").write_text("")
    assert main(["demo", "--quick", "--out", str(tmp_path / "file" / "folder")]) == 1
    assert "Not a directory" in capsys.readouterr().err
