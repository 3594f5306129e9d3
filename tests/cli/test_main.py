import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from bisector.cli import detect
from bisector.cli.main import COMMANDS, main
from bisector.errors import ArgumentError, plain
from bisector.heads import HEADS, OTHER_NAMES, build_head
from real_processes import bisector


def bare_commands() -> list[list[str]]:
    """Every command, action and benchmark, by its words."""
    actions = [["detect", action] for action in detect.ACTIONS]
    return [[], *([name] for name in COMMANDS), *actions, ["bench", "losses"], ["bench", "step"]]


def test_help_and_typos_import_nothing_heavy() -> None:
    helps = [[*words, "--help"] for words in bare_commands()]
    typos = [[*words, "--no-such-option", "1"] for words in bare_commands() if words]
    wrong = [
        ["--version"],
        ["trian"],
        ["train", "--epochs", "many"],
        ["train", "--epochs", "0"],
        ["train", "--head", "igma"],
        ["train", "--data", "digit"],
        ["train", "--config", "missing.yaml"],
        ["compare", "--heads", "igma"],
        ["compare", "--heads", "igam", "--planes", "igma"],
        ["compare", "--heads", "igam", "--data", "digit"],
        ["compare", "--heads", "igam", "--imbalance", "0"],
        ["demo", "--dry-run", "--data", "digit"],
        ["report", "missing"],
    ]
    code = (
        "import io, sys; from contextlib import redirect_stderr, redirect_stdout\n"
        "from bisector.cli.main import main\n"
        f"for words in {[*helps, *typos, *wrong]!r}:\n"
        "    out, err = io.StringIO(), io.StringIO()\n"
        "    try:\n"
        "        with redirect_stdout(out), redirect_stderr(err): code = main(words)\n"
        "    except SystemExit as end: code = end.code or 0\n"
        "    asked = {'--help', '--version'} & set(words)\n"
        "    assert code == (0 if asked else 2), (words, code, err.getvalue())\n"
        "    assert 'bisector' in (out if asked else err).getvalue(), words\n"
        "    heavy = {'torch', 'numpy', 'lightning', 'plotly', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "    assert not heavy, (words, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [["compare"], ["detect", "compare"], ["detect", "train"]])
def test_the_help_names_every_head(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    assert ", ".join(HEADS) in re.sub(r"-\s+", "-", " ".join(capsys.readouterr().out.split()))


def test_the_manual_names_every_head() -> None:
    text = (Path(__file__).parents[2] / "docs" / "workbench.md").read_text(encoding="utf-8")
    listed = text[text.index("Heads: ") : text.index("Backbones: ")]
    found = set(re.findall("`([a-z0-9-]+)`", listed))
    assert not HEADS.keys() - found, "docs/workbench.md: the list of heads lacks one"


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("cosface", "am-softmax"),
        ("CosFace", "am-softmax"),
        ("AM_Softmax", "am-softmax"),
        ("ArcFace", "arcface"),
        ("aam-softmax", "arcface"),
        ("normface", "normalized-softmax"),
        ("softmax", "linear-softmax"),
        ("ce", "linear-softmax"),
        ("cross-entropy", "linear-softmax"),
        ("cross_entropy", "linear-softmax"),
        ("sphereface", "combined-margin:m1=1.35"),
        ("balanced-softmax", "logit-adjusted"),
        ("logit-adjustment", "logit-adjusted"),
        ("seesaw-loss", "seesaw"),
        ("igma", "igam"),
    ],
)
def test_a_head_by_another_name_is_known(word: str, meant: str) -> None:
    with pytest.raises(ArgumentError, match=f"head: got '{word}'; did you mean '{meant}'[?] expected one of"):
        build_head(word, 4, 3)
    assert build_head(meant, 4, 3, torch.ones(3)).num_classes == 3


def test_every_other_name_stands_for_a_head_and_is_none() -> None:
    for word, spec in OTHER_NAMES.items():
        assert word not in HEADS
        assert word == plain(word)
        assert spec.partition(":")[0] in HEADS


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["demoo"], "did you mean 'demo'"),
        ([], "COMMAND"),
        (["compare"], "--heads"),
        (["compare", "--heads", "igm"], "head: got 'igm'; did you mean 'igam'?"),
        (["compare", "--heads", ","], "heads: got none"),
        (["compare", "--heads", "am-softmax:margn=1"], "did you mean 'margin'?"),
        (["compare", "--heads", "am-softmax:budget=64"], "option of head"),
        (["compare", "--heads", "am-softmax:sparse=no"], "expected one of true, false"),
        (["compare", "--heads", "am-softmax:margin"], "name:option=value"),
        (
            ["compare", "--heads", "am-softmax:margin=wide"],
            "margin of head 'am-softmax:margin=wide': got 'wide'; expected a number",
        ),
        (["compare", "--heads", "igam:preset=papr"], "preset: got 'papr'; did you mean 'paper'?"),
        (["compare", "--heads", "igam", "--data", "digit"], "data: got 'digit'; did you mean 'digits'?"),
        (["compare", "--heads", "igam", "--imbalance", "0.5"], "imbalance: got 0.5"),
        (["compare", "--heads", "igam", "--imbalance", "much"], "--imbalance"),
        (["compare", "--heads", "igam", "--seeds", "0"], "seeds: got 0; expected an integer of at least 1"),
        (["compare", "--heads", "am-softmax:sub_centers=two"], "got 'two'; expected a number"),
        (["compare", "--heads", "igam", "--epochs", "0"], "epochs: got 0"),
        (["compare", "--heads", "igam", "--embedding-dim", "1"], "embedding_dim: got 1"),
        (["demo", "--out", "a-file/inside"], "a-file"),
        (["compare", "--heads", "igam", "--jobs", "0", "--dry-run"], "jobs: got 0"),
        (["compare", "--heads", "igam", "--out", ""], "argument --out: got ''; expected a path"),
        (["compare", "--heads", "igam", "--data", ""], "data: got ''"),
        (["report", ""], "argument results: got ''; expected a path"),
        (["embed", "model", "--weights", ""], "argument --weights: got ''; expected a path"),
        (["measure", "a-file", "--out", ""], "argument --out: got ''; expected a path"),
        (["bench", "losses", "--out", ""], "argument --out: got ''; expected a path"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[[list[str]], str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a-file").write_text("in the way")
    said = refused(words)
    assert told in said
    assert Path("a-file").read_text() == "in the way"


def test_a_dry_run_says_at_once_what_it_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--dry-run", "--heads", "am-softmax", "--epochs", "2", "--seeds", "1"]
    assert main(["compare", *words, "--out", str(tmp_path / "x")]) == 0
    said = capsys.readouterr()
    first, second = said.err.splitlines()[:2]
    assert first == "dry run: reading digits"
    assert second.startswith("dry run: 1 of 1: am-softmax")
    assert "Trainings: 1, 0 done" in said.out
    assert not (tmp_path / "x").exists()


def test_in_a_real_process_a_mistake_leaves_one_line_and_no_traceback(tmp_path: Path) -> None:
    done = bisector("compare", "--heads", "igam,am-sotfmax", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(
        "bisector compare: error: head: got 'am-sotfmax'; did you mean 'am-softmax'?"
    )
    assert done.stdout == ""


@pytest.mark.slow
def test_the_demo_writes_its_table_and_its_page(tmp_path: Path) -> None:
    done = bisector("demo", "--epochs", "2", "--seeds", "1", "--out", "found", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("Softmax", "IGAM (paper)", "Enhanced AM-softmax", "C2AM", "found/report.html"):
        assert word in done.stdout
    assert "100%" in done.stderr  # the progress bar arrived
    for name in ("comparison.json", "comparison.csv", "report.html"):
        assert (tmp_path / "found" / name).stat().st_size > 1000
    page = (tmp_path / "found" / "report.html").read_text(encoding="utf-8")
    assert "epochs 2 --seeds 1" in re.sub("</?span.*?>", "", page)


@pytest.mark.slow
def test_an_interrupted_comparison_says_so(tmp_path: Path) -> None:
    words = ["compare", "--heads", "linear-softmax,igam", "--epochs", "200", "--out", "found"]
    command = [sys.executable, "-m", "bisector", *words]
    # Whoever runs the tests in the background may have told its children to ignore interrupts.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    piped = {"stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    with subprocess.Popen(command, preexec_fn=heeding, **piped) as running:  # noqa: PLW1509 (it only sets a signal)
        assert running.stderr is not None
        seen = ""
        while not re.search(r"[1-9]\d*/1200 ", seen):  # it trains; the bar may leave out a number
            read = running.stderr.read(1)
            assert read, seen
            seen += read
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
        assert running.wait(60) == 130
    assert rest.endswith("bisector compare: interrupted; the same command goes on where it was\n")
    assert "Traceback" not in rest


@pytest.mark.slow
def test_a_narrow_terminal_without_plus_minus_costs_nothing(tmp_path: Path) -> None:
    words = ["compare", "--heads", "linear-softmax", "--epochs", "1", "--seeds", "2", "--out", "found"]
    narrow = {**os.environ, "COLUMNS": "30", "PYTHONIOENCODING": "ascii"}
    done = bisector(*words, cwd=tmp_path, env=narrow)
    assert done.returncode == 0, done.stderr
    assert "found/report.html" in done.stdout
    assert (tmp_path / "found" / "report.html").exists()


def test_a_report_is_made_again_from_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--heads", "linear-softmax,am-softmax", "--seeds", "2", "--epochs", "1", "--jobs", "1"]
    assert main(["compare", *words, "--imbalance", "20", "--out", str(tmp_path / "one")]) == 0
    printed = capsys.readouterr().out
    assert main(["report", str(tmp_path / "one"), "--out", str(tmp_path / "two")]) == 0
    assert capsys.readouterr().out == printed.replace("/one/", "/two/")
    for name in ("comparison.json", "comparison.csv", "differences.csv", "report.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert main(["report", str(tmp_path / "one"), "--baseline", "am-softmax"]) == 0
    rows = (tmp_path / "one" / "differences.csv").read_text().splitlines()
    assert rows[1].startswith("linear-softmax,am-softmax,balanced_accuracy,")
    (tmp_path / "other.json").write_text("[1]")
    for words, told in (
        ([str(tmp_path / "other.json")], "other.json; expected the comparison.json of bisector compare"),
        ([str(tmp_path / "missing")], "missing"),
        ([str(tmp_path / "one"), "--baseline", "igam"], "--baseline: got 'igam'; expected one of"),
    ):
        assert main(["report", *words]) == 2
        assert told in capsys.readouterr().err
