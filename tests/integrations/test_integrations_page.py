import re
from pathlib import Path
from typing import Any

import pytest
import torch

from real_processes import bisector

PAGE = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text(encoding="utf-8")


def blocks_of(library: str, language: str = "python") -> list[str]:
    section = re.search(rf"^## {library}\n(.*?)(?=^## |\Z)", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert section is not None
    return re.findall(rf"```{language}\n(.*?)```", section[1], flags=re.DOTALL)


def test_the_examples_for_scikit_learn_run_as_they_stand() -> None:
    names: dict[str, object] = {}
    for block in blocks_of("scikit-learn"):
        exec(block, names)
    balanced, X, y, test = (names[name] for name in ("balanced_accuracy_score", "X", "y", "test"))
    plain, fair = (balanced(y[test], names[name].predict(X[test] / 16)) for name in ("plain", "fair"))
    assert fair > plain + 0.02
    density, margin = (balanced(y[test], names[name].predict(X[test])) for name in ("search", "margin"))
    assert min(density, margin) > 0.7


def test_the_example_for_torchmetrics_runs_as_it_stands() -> None:
    (block,) = blocks_of("torchmetrics")
    names: dict[str, object] = {}
    exec(block, names)
    found = names["metrics"].compute()
    assert list(found) == ["many", "medium", "few", "HarmonicMeanAccuracy", "WorstClassAccuracy"]


def test_the_example_for_transformers_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("accelerate")
    monkeypatch.chdir(tmp_path)
    (block,) = blocks_of("transformers")
    names: dict[str, object] = {}
    exec(block, names)
    assert names["logits"].shape == (297, 10)
    assert names["model"].head.amounts is not None


@pytest.mark.slow
def test_the_example_for_sentence_transformers_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks_of("sentence-transformers")
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["classes"].tolist() == names["labels"]
    assert int(names["head"].steps) == 60  # 30 epochs of nine rows, eight at a time
    assert (tmp_path / "head.pt").is_file()


def test_the_example_for_timm_runs_as_it_stands() -> None:
    (block,) = blocks_of("timm")
    names: dict[str, Any] = {}
    exec(block, names)
    model, images, labels = (names[name] for name in ("model", "images", "labels"))
    assert names["result"]["output"].shape == (8, model.head.in_features)
    assert int(model.head.steps) == 1
    assert model.eval()(images).shape == (8, 10)
    assert all(parameter.grad is not None for parameter in model.parameters())
    soft = torch.nn.functional.one_hot(labels, 10) * 0.7 + 0.03
    assert names["task"].train()(images, soft)["loss"].isfinite()


@pytest.mark.slow
def test_the_examples_for_loggers_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks_of("Lightning's loggers.*?")
    exec(block, {})
    told = (tmp_path / "runs" / "digits" / "version_0" / "metrics.csv").read_text(encoding="utf-8")
    assert {"train/loss", "information/mean", "information/margin"} <= set(told.splitlines()[0].split(","))

    (tmp_path / "train.yaml").write_text(blocks_of("Lightning's loggers.*?", "yaml")[0], encoding="utf-8")
    words = ["--config", "train.yaml", "--epochs", "1", "--accelerator", "cpu", "--out", "run"]
    done = bisector("train", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = (tmp_path / "runs" / "digits" / "version_1" / "metrics.csv").read_text(encoding="utf-8")
    shown = {"train/loss", "val/balanced_accuracy", "information/mean"}
    assert shown <= set(told.splitlines()[0].split(","))
