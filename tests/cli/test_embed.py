import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from bisector.cli.main import main
from bisector.data.embeddings import read_embeddings
from bisector.data.registry import load


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["absent", "digits"], "model: got 'absent', which is not there"),
        (["timm/test_resnt", "digits", "--no-pretrained"], "did you mean"),
        (["timm/test_resnet", "--no-pretrained"], "data: got none"),
        (["timm/test_resnet", "digit", "--no-pretrained"], "did you mean 'digits'"),
        (["timm/test_resnet", "digits", "--no-pretrained", "--batch-size", "0"], "batch_size: got 0"),
        (["timm/test_resnet", "digits", "--no-pretrained", "--part", "tset"], "did you mean 'test'"),
        (["timm/test_resnet", "digits", "--no-pretrained", "--device", "abacus"], "--device: got 'abacus'"),
        (["timm/test_resnet", "digits", "--weights", "absent.pt"], "weights: got absent.pt"),
        (["timm/test_resnet", "digits", "--mean", "0.5"], "only with an ONNX file"),
        (["timm/test_resnet", "digits", "--out", "a-file/e.parquet"], "a-file is a file"),
        (["a-file", "digits"], "expected a folder of a run"),
        (["a-file", "digits", "--mean", "a,b"], "--mean"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a-file").write_text("in the way")
    try:
        code = main(["embed", *words])
    except SystemExit as end:  # argparse leaves this way
        code = int(str(end.code))
    said = capsys.readouterr().err
    assert code == 2
    assert said.count("\n") == 1, said
    assert told in said
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]


def test_a_network_of_timm_embeds_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "embed",
        "timm/test_resnet",
        "digits",
        "--no-pretrained",
        "--part",
        "validation",
        "--out",
        "new/e.parquet",
    ]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "180 rows: new/e.parquet" in said.out
    assert "bisector measure new/e.parquet" in said.out
    assert "no predictions: the model has no classes" in said.err
    found = read_embeddings("new/e.parquet")
    assert torch.equal(found.labels, load("digits").validation.labels)
    assert found.model == "timm/test_resnet"


@pytest.mark.slow
def test_a_run_of_ours_embeds_what_it_was_trained_on(tmp_path: Path) -> None:
    def bisector(*words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "bisector", *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return done

    trained = [
        "--data",
        "digits",
        "--imbalance",
        "10",
        "--seed",
        "3",
        "--epochs",
        "3",
        "--head",
        "normalized-softmax",
    ]
    bisector("train", *trained, "--out", "run")
    bisector("embed", "run")
    found = read_embeddings(tmp_path / "embeddings.parquet")
    data = load("digits", imbalance=10, seed=3)
    assert found.splits is not None
    assert found.splits.count("train") == len(data.train)
    assert torch.equal(found.labels[found.rows_of("test")], data.test.labels)
    assert found.class_names == data.class_names
    assert found.predictions is not None
    test = found.rows_of("test")
    accuracy = (found.predictions == found.labels)[test].float().mean()
    assert accuracy > 0.2
    # A name is the position among scikit-learn's digits.
    assert found.names is not None
    truth = load_digits(return_X_y=True)[1]
    assert [truth[int(name)] for name in found.names] == found.labels.tolist()
    other = bisector("embed", "run", "digits", "--seed", "4", "--part", "test", "--out", "other.parquet")
    assert "--seed 4 is not that of the training (3)" in other.stderr

    done = bisector("measure", "embeddings.parquet", "--out", "found")
    assert re.search(rf"Accuracy {100 * accuracy:.1f} %", done.stdout), done.stdout
    assert "Next: " in done.stdout
    for name in ("measure.html", "measure.json", "classes.csv", "label_errors.csv", "duplicates.csv"):
        assert (tmp_path / "found" / name).stat().st_size > 0
