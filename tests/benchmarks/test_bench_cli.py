import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from bisector.benchmarks.contenders import Contender
from bisector.benchmarks.losses import compare_losses
from bisector.benchmarks.problem import Problem, Size
from bisector.benchmarks.timing import Step
from bisector.cli.main import main

TINY = ["--sizes", "8x4x30", "--repeats", "2"]


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from bisector.cli.main import main\n"
        "try: main(['bench', 'losses', '--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'numpy', 'pytorch_metric_learning'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "BENCHMARK"),
        (["loses"], "did you mean 'losses'?"),
        (["losses", "--sizes", "8x4"], "size: got '8x4'; expected NxDxC"),
        (["losses", "--sizes", "8x4x30,"], "size: got ''"),
        (["losses", "--losses", "am-sotfmax"], "did you mean 'am-softmax'?"),
        (["losses", "--losses", "am-softmax:margn=1"], "did you mean 'margin'?"),
        (["losses", "--losses", ","], "losses: got ','"),
        (["losses", "--backends", "dens"], "backend: got 'dens'; did you mean 'dense'?"),
        (["losses", "--dtype", "float8"], "float32"),
        (["losses", "--repeats", "0"], "--repeats: got 0"),
        (["losses", "--threads", "0"], "--threads: got 0"),
        (["losses", "--out", "a-file"], "a-file is a file"),
        (["losses", "--sise", "8x4x30"], "--sise"),
        (["step", "--size", "8"], "size: got '8'"),
        (["step", "--head", "igm"], "did you mean 'igam'?"),
        (["step", "--sample", "0", "--size", "8x4x30"], "sample: got 0"),
        (["step", "--optimizer", "adan"], "did you mean 'adam"),
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
    said = refused(["bench", *words])
    assert told in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("benchmark", ["losses", "step"])
def test_no_gpu_is_one_line(benchmark: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", benchmark, "--device", "cuda"]) == 2
    said = capsys.readouterr().err
    assert said == (
        "bisector bench: error: --device: got 'cuda'; expected cpu: this machine has no GPU that PyTorch can use\n"
    )


def test_the_files_hold_what_was_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--sizes", "8x4x30,6x5x40", "--repeats", "3", "--losses", "am-softmax,igam", "--backends"]
    assert main(["bench", "losses", *sizes, "auto,dense", "--out", str(tmp_path / "found")]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "found" / "losses.json").read_text(encoding="utf-8"))
    page = (tmp_path / "found" / "losses.md").read_text(encoding="utf-8")
    check(found, sizes=[(8, 4, 30), (6, 5, 40)], repeats=3)
    for text in (page, json.dumps(found)):
        assert str(tmp_path) not in text
    words = "--losses am-softmax,igam --backends auto,dense --dtype float32 --device cpu --repeats 3"
    assert found["settings"]["command"] == f"bisector bench losses --sizes 8x4x30,6x5x40 {words}"
    assert found["settings"]["command"] in page
    assert "N = 6, D = 5, C = 40" in printed
    for row in found["sizes"][0]["rows"]:
        assert row["name"] in printed
        assert f"| {row['name']} |" in page
    assert "/ fp32" not in printed


def check(found: dict[str, Any], sizes: list[tuple[int, int, int]], repeats: int) -> None:
    assert found.keys() == {"version", "settings", "machine", "sizes"}
    assert found["version"] == 1
    machine = found["machine"]
    assert machine["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert machine["threads"] >= 1
    assert machine["cores"] >= 1
    assert machine["gpu"] is None
    assert [(size["n"], size["d"], size["c"]) for size in found["sizes"]] == sizes
    for size in found["sizes"]:
        rows = {row["name"]: row for row in size["rows"]}
        products = rows["three matrix products"]
        kept = rows["three matrix products, kept buffers"]
        assert products["times_products"] == kept["times_kept"] == 1
        n, d, c = size["n"], size["d"], size["c"]
        assert products["extra_bytes"] == kept["extra_bytes"] == 4 * (n * c + n * d + c * d)
        shares = [row["share_of_metric_learning"] for name, row in rows.items() if "metric-learning" in name]
        assert min(shares) == 1
        for row in rows.values():
            assert row["note"] == ""
            assert len(row["seconds"]) == repeats
            assert row["median"] == median(row["seconds"])
            assert row["times_products"] == row["median"] / products["median"]
            assert row["times_float32"] is None
            assert (row["loss"] is None) == (row["kind"] == "products")
        plain, ours = rows["AM-softmax, plain PyTorch"], rows["bisector am-softmax [dense]"]
        assert ours["loss"] == pytest.approx(plain["loss"], rel=1e-5)
        theirs = [row["median"] for name, row in rows.items() if "pytorch-metric-learning" in name]
        assert ours["faster_than_metric_learning"] == min(theirs) / ours["median"]


def test_in_a_real_process_without_the_peer_and_in_bfloat16(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pytorch_metric_learning'] = None  # as if it were not there\n"
        "from bisector.cli.main import main\n"
        f"sys.exit(main(['bench', 'losses', *{TINY!r}, '--losses', 'arcface', '--dtype', 'bfloat16',"
        "'--threads', '1', '--out', 'found']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("pytorch-metric-learning is not installed") == 2
    assert "1 thread used" in done.stdout
    found = json.loads((tmp_path / "found" / "losses.json").read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in found["sizes"][0]["rows"]}
    missing = rows["CosFaceLoss, pytorch-metric-learning"]
    assert missing["seconds"] == []
    assert missing["median"] is None
    assert missing["note"] == "pytorch-metric-learning is not installed"
    assert rows["three matrix products, float32"]["times_float32"] == 1
    assert rows["bisector arcface [auto]"]["times_float32"] > 0


def test_everybody_else_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "losses", *TINY, "--no-peers", "--losses", "all"]) == 0
    printed = capsys.readouterr().out
    assert "pytorch-metric-learning," not in printed
    assert "bisector logit-adjusted [auto]" in printed
    assert "–" in printed  # no peer to compare with


def test_one_that_fails_or_would_not_fit_is_a_row_that_says_so() -> None:
    def greedy(problem: Problem) -> Step:
        matrices = 20 * problem.size.n
        return Step(lambda: torch.empty(matrices, problem.size.c).numel())

    def absurd(problem: Problem) -> Step:
        return Step(lambda: torch.empty(2**60))

    def broken(problem: Problem) -> Step:
        raise RuntimeError("first line\nsecond line")

    contenders = [
        Contender("well", "products", lambda problem: Step(lambda: None)),
        Contender("greedy", "peer", greedy),
        Contender("absurd", "peer", absurd, whole=False),
        Contender("broken", "bisector", broken, whole=False),
    ]
    found = compare_losses(Size(5000, 1, 10**6), contenders, repeats=1)
    notes = {row.name: row.note for row in found.rows}
    assert notes["well"] == ""
    assert notes["greedy"].startswith("needs about 372.53 GiB, ")
    assert "are free" in notes["greedy"]
    assert notes["absurd"] == "out of memory"
    assert notes["broken"] == "RuntimeError: first line"
    assert [len(row.seconds) for row in found.rows] == [1, 0, 0, 0]


def test_a_training_step_tells_its_seconds_and_its_memory(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        [],
        ["--head", "igam", "--optimizer", "sgd", "--dtype", "bfloat16"],
        ["--sample", "0.1"],
        ["--sample", "0.1", "--optimizer", "rowwise-adamw"],
    ):
        assert main(["bench", "step", "--size", "8x64x5000", "--repeats", "2", *words]) == 0
        said = capsys.readouterr().out
        assert "s a step (median of 2" in said
        assert "the class weights alone are 1.2 MiB" in said
        memory = float(said.partition("tensors ")[2].split()[0])
        # Weights, gradients and the optimiser's one or two numbers for each.
        assert memory > (2 if "sgd" in words else 3) * 1.2


def test_a_training_step_that_would_not_fit_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "step", "--size", "10000x1x6000000", "--backend", "dense"]) == 2
    said = capsys.readouterr().err
    assert "10000x1x6000000, which needs about" in said
    assert said.count("\n") == 1
