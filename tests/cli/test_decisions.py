"""`train --decide` and `compare --decide`: what is reported, kept, gone on with, embedded and exported."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn

from bisector.cli.main import main
from bisector.data.dataset import Dataset, Part
from bisector.data.examples import InMemory
from bisector.data.registry import load
from bisector.data.tables import read_embeddings
from bisector.embedding.embed import embed
from bisector.embedding.trained import TrainedModel
from bisector.files import read_safetensors
from bisector.metrics.summary import fairness
from bisector.posthoc import Adjustment, GeometryAdjustment, adjust
from bisector.training.classification import load_trained
from bisector.training.decision import decision_network
from bisector.training.results import Comparison
from real_processes import bisector

CPU = torch.device("cpu")
DATA = ["--data", "digits", "--imbalance", "20", "--epochs", "3", "--accelerator", "cpu"]
SMALL = [*DATA, "--no-tensorboard", "--head", "logit-adjusted"]


def result(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return {**record, "seconds": None}


def content(file: Path) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """All that a safetensors file holds; its bytes depend on the order of its texts, which is random."""
    tensors, texts = read_safetensors(file)
    return {name: tensor.tolist() for name, tensor in tensors.items()}, texts


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training with geometry in its decision, made in a process of its own."""
    out = tmp_path_factory.mktemp("decided") / "run"
    ended = bisector("train", *SMALL, "--decide", "geometry", "--out", str(out))
    assert ended.returncode == 0, ended.stderr
    (out.parent / "told.txt").write_text(ended.stdout)
    return out


@pytest.mark.parametrize(
    ("head", "method", "scale"),
    [
        ("logit-adjusted", "geometry", "raw"),
        ("normalized-softmax", "geometry", "unit"),
        ("linear-softmax", "auto", "raw"),
        ("linear-softmax", "fitted", "raw"),
    ],
)
def test_what_train_reports_is_what_its_embeddings_and_adjust_give(
    head: str, method: Any, scale: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, stored = tmp_path / "run", tmp_path / "e.parquet"
    words = [*DATA, "--no-tensorboard", "--head", head, "--decide", method]
    assert main(["train", *words, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert main(["embed", str(out), "--out", str(stored), "--device", "cpu"]) == 0
    told = capsys.readouterr().err
    table = read_embeddings(stored)
    assert table.splits is not None
    assert table.scores is not None
    assert table.predictions is not None
    train, validation, test = (
        torch.tensor([split == part for split in table.splits]) for part in ("train", "validation", "test")
    )
    counts = table.labels[train].bincount(minlength=10)
    again = adjust(
        table.scores[validation],
        table.labels[validation],
        method=method,
        embeddings=table.embeddings[validation],
        train=(table.embeddings[train], table.labels[train]),
        class_counts=counts,
        scale=scale,
    )
    assert table.head["decision"] == again.method  # of "auto" the one that was chosen
    assert f"predictions and losses follow the decision of the training, by {again.method};" in told
    run, truth = result(out), table.labels[test]
    alone = table.scores[test].argmax(1)
    changed = again.predict(table.scores[test], table.embeddings[test])
    assert not torch.equal(alone, changed)
    assert torch.equal(changed, table.predictions[test])
    decided = again.apply(table.scores[test].double(), table.embeddings[test])
    losses = nn.functional.cross_entropy(decided, truth, reduction="none")
    torch.testing.assert_close(table.losses[test].double(), losses, rtol=1e-4, atol=1e-5)
    for record, predicted in ((run, alone), (run["decided"], changed)):
        expected = fairness(predicted, truth, 10, counts)
        assert {key: record["metrics"][key] for key in expected} == pytest.approx(expected, nan_ok=True)
        right = predicted == truth
        each = [float(right[truth == c].double().mean()) for c in range(10)]
        assert record["class_accuracy"] == pytest.approx(each)
        assert [record["confusion"][c][c] for c in range(10)] == [
            int(right[truth == c].sum()) for c in range(10)
        ]
    # It is kept, as its kind is, and loaded with the model.
    kept = out / ("decision.json" if isinstance(again, Adjustment) else "decision.safetensors")
    assert run["decided"]["file"] == kept.name
    assert kept.is_file()
    assert str(kept) in printed
    trained = load_trained(out)
    assert trained.decision is not None
    assert trained.decision.method == again.method
    if isinstance(trained.decision, GeometryAdjustment):
        assert trained.decision.geometry.scale == scale
    images = load("digits", imbalance=20).test.examples.batch(torch.arange(int(test.sum())))
    assert torch.equal(trained.model.predict(images), changed)
    torch.testing.assert_close(trained.model(images), table.scores[test], rtol=1e-4, atol=1e-4)
    # A checkpoint alone has none.
    assert load_trained(out / "last.ckpt").decision is None


def test_both_are_printed_and_a_second_time_nothing_is_made_again(
    decided: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = (decided.parent / "told.txt").read_text()
    run = result(decided)
    before, after = (100 * record["metrics"]["balanced_accuracy"] for record in (run, run["decided"]))
    assert f"Balanced accuracy            {before:>8.1f} {after:>8.1f} %" in printed
    assert "Decided by geometry, fitted on the validation part: with means and covariances" in printed
    page = (decided / "report.html").read_bytes()

    def written() -> dict[str, int]:
        # The page is drawn again each time, by the version that is installed.
        return {
            path.name: path.stat().st_mtime_ns for path in decided.iterdir() if path.name != "report.html"
        }

    made = written()
    assert main(["train", *SMALL, "--decide", "geometry", "--out", str(decided)]) == 0
    assert capsys.readouterr().out == printed
    assert written() == made
    assert (decided / "report.html").read_bytes() == page


def test_what_a_kill_after_training_leaves_is_decided_by_the_same_command(
    decided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, lost in enumerate((["result.json", "decision.safetensors"], ["result.json"])):
        out = tmp_path / str(number)
        shutil.copytree(decided, out)
        for name in lost:
            (out / name).unlink()
        weights = (out / "last.ckpt").stat().st_mtime_ns
        assert main(["train", *SMALL, "--decide", "geometry", "--out", str(out)]) == 0
        assert f"the training in {out} is finished and its weights stay" in capsys.readouterr().err
        assert result(out) == result(decided)
        assert content(out / "decision.safetensors") == content(decided / "decision.safetensors")
        assert (out / "last.ckpt").stat().st_mtime_ns == weights


def test_a_decision_is_made_changed_and_taken_away_without_training_again(
    decided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(decided, out)
    weights = (out / "last.ckpt").stat().st_mtime_ns
    for method, left in (("fitted", ["decision.json"]), ("none", []), ("geometry", ["decision.safetensors"])):
        assert main(["train", *SMALL, "--decide", method, "--out", str(out)]) == 0
        told, fitted = capsys.readouterr().err, f"the decision by {method} is fitted"
        assert (f"the training in {out} is finished" in told, fitted in told) == (True, method != "none")
        assert [path.name for path in out.glob("decision*")] == left
        run = result(out)
        assert (run["decided"] or {"method": "none"})["method"] == method
        assert {**run, "decided": None} == {**result(decided), "decided": None}
        assert (out / "last.ckpt").stat().st_mtime_ns == weights
    assert result(out) == result(decided)
    # A longer training has other weights, and so another decision; while it lasts there is none.
    longer = ["train", *SMALL, "--epochs", "4", "--decide", "geometry", "--out", str(out)]
    assert main(longer) == 0
    assert f"going on with the training in {out}, in epoch 4 of 4" in capsys.readouterr().err
    assert content(out / "decision.safetensors") != content(decided / "decision.safetensors")
    assert result(out)["epochs"] == 4


def test_unseen_classes_and_data_without_validation_have_one_line_and_no_decision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.npz"
    numpy.savez(pairs, embeddings=numpy.eye(8, 4, dtype="f4"), labels=numpy.arange(8) % 4)
    whole = ["--epochs", "1", "--accelerator", "cpu", "--decide", "geometry"]
    for words, reason in (
        (["--data", "digits", "--split", "open-set"], "the validation rows are those that are reported"),
        (["--data", str(pairs), "--batch-size", "2"], "there are no validation rows to fit it on"),
    ):
        out = tmp_path / "".join(filter(str.isalnum, reason))
        alone = ["--no-tensorboard", "--head", "am-softmax", "--out", str(out)]
        assert main(["train", *words, *whole, *alone]) == 0
        told = capsys.readouterr()
        assert told.err.count(reason) == 1
        assert told.out.count(reason) == 1
        assert not list(out.glob("decision*"))
        assert load_trained(out).decision is None
        found = out / "compared"
        together = ["--heads", "am-softmax", "--seeds", "1", "--jobs", "1", "--out", str(found)]
        assert main(["compare", *words, *whole, *together]) == 0
        assert capsys.readouterr().err.count(reason) == 1
        assert Comparison.read(found / "comparison.json").heads == ["am-softmax"]


def test_too_few_rows_of_validation_cost_no_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, rows = tmp_path / "few.npz", numpy.arange(8) % 2
    numpy.savez(table, embeddings=numpy.eye(8, 4, dtype="f4"), labels=rows)
    words = ["--data", str(table), "--batch-size", "2", "--epochs", "1", "--accelerator", "cpu"]
    words += ["--no-tensorboard", "--head", "am-softmax", "--decide", "geometry"]
    assert main(["train", *words, "--out", str(tmp_path / "out")]) == 0
    assert "no decision could be fitted: scores: got 2 rows; expected at least 5" in capsys.readouterr().out
    assert result(tmp_path / "out")["decided"]["file"] == ""


@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_method_that_there_is_not_is_one_line(
    command: str, tmp_path: Path, refused: Callable[[list[str]], str]
) -> None:
    heads = ["--heads", "igam"] if command == "compare" else []
    complaint = refused([command, *DATA, *heads, "--decide", "geometri", "--out", str(tmp_path / "out")])
    assert "--decide" in complaint
    assert "geometry" in complaint
    assert not (tmp_path / "out").exists()


def test_data_of_some_classes_are_decided_by_the_whole_model(decided: Path, tmp_path: Path) -> None:
    model, digits = TrainedModel(decided, CPU), load("digits", imbalance=20)
    rows = ((digits.test.labels == 2) | (digits.test.labels == 7)).nonzero().flatten()
    images, names = digits.test.examples.batch(rows), ("7", "2")
    part = Part(InMemory(images, [str(row) for row in rows]), (digits.test.labels[rows] == 2).long())
    none = Part(InMemory(images[:0], []), part.labels[:0])
    embed(model, Dataset("two", none, none, part, names), tmp_path / "two.parquet")
    found = read_embeddings(tmp_path / "two.parquet")
    trained = load_trained(decided)
    with torch.no_grad():
        embeddings = trained.model.backbone(images)
        scores = trained.model.head.logits(embeddings)
    assert trained.decision is not None
    adjusted = trained.decision.apply(scores.double(), embeddings)[:, [7, 2]]
    assert found.predictions is not None
    assert torch.equal(found.predictions, adjusted.argmax(1))
    torch.testing.assert_close(found.scores, scores[:, [7, 2]], rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_one_onnx_file_decides_as_the_training_does(decided: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    trained, file = load_trained(decided), io.BytesIO()
    network = decision_network(trained)
    assert isinstance(network, nn.Module)
    images = load("digits", imbalance=20).test.examples.batch(torch.arange(540))
    names: dict[str, Any] = {"input_names": ["images"], "dynamic_axes": {"images": {0: "rows"}}}
    torch.onnx.export(network, (images[:7],), file, dynamo=False, **names)
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"images": images.numpy()})
    assert numpy.array_equal(scores.argmax(1), trained.model.predict(images).numpy())
    assert not numpy.array_equal(scores.argmax(1), trained.model(images).argmax(1).numpy())


def test_a_comparison_has_every_head_with_and_without_and_trains_what_was_kept_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = ["linear-softmax", "normalized-softmax:tau=1"]
    words = ["compare", *DATA, "--heads", ",".join(heads), "--seeds", "2", "--jobs", "1", "--keep"]
    out = tmp_path / "out"
    words += ["--out", str(out)]
    assert main(words) == 0
    plain = Comparison.read(out / "comparison.json")
    weights = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/last.ckpt")}
    assert len(weights) == 4
    capsys.readouterr()

    assert main([*words, "--decide", "geometry"]) == 0
    told = capsys.readouterr().out
    found = Comparison.read(out / "comparison.json")
    assert {path: path.stat().st_mtime_ns for path in out.glob("cells/*/last.ckpt")} == weights
    assert len(list(out.glob("cells/*/decision.safetensors"))) == 4
    assert list(plain.models) == heads
    assert list(found.models.values()) == list(plain.models.values())
    kept = {head: load_trained(out / path).decision for head, path in found.models.items()}
    assert {head: one and one.method for head, one in kept.items()} == {
        f"{head} + geometry": "geometry" for head in heads
    }
    assert found.heads == [heads[0], f"{heads[0]} + geometry", heads[1], f"{heads[1]} + geometry"]
    assert found.decided_heads == {f"{head} + geometry": head for head in heads}
    alone = [run for run in found.runs if run.decided is None]
    assert [{**vars(run), "seconds": 0} for run in alone] == [
        {**vars(run), "seconds": 0} for run in plain.runs
    ]
    assert "What the decisions change" in told
    assert told.count("Softmax + geometry") >= 3
    with (out / "differences.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    own = [
        row for row in rows if row["head"] == f"{row['baseline']} + geometry" and row["baseline"] == heads[1]
    ]
    by_head = {(run.head, run.seed): run.metrics["balanced_accuracy"] for run in found.runs}
    expected = sum(by_head[f"{heads[1]} + geometry", seed] - by_head[heads[1], seed] for seed in (0, 1)) / 2
    assert float(own[0]["difference"]) == pytest.approx(expected)
    # Each is what `train --decide` makes of the same head and seed.
    alike = [*DATA, "--no-tensorboard", "--head", heads[0], "--seed", "1", "--decide", "geometry"]
    assert main(["train", *alike, "--out", str(tmp_path / "one")]) == 0
    run = next(run for run in found.runs if (run.head, run.seed) == (f"{heads[0]} + geometry", 1))
    assert result(tmp_path / "one")["decided"]["class_accuracy"] == run.class_accuracy

    # Without a decision nothing is done again either, and the tables are those of before.
    assert main(words) == 0
    assert Comparison.read(out / "comparison.json").heads == heads
    assert {path: path.stat().st_mtime_ns for path in out.glob("cells/*/last.ckpt")} == weights


def test_a_cell_whose_model_is_gone_is_trained_anew_for_a_decision(tmp_path: Path) -> None:
    words = ["compare", *DATA, "--heads", "linear-softmax", "--seeds", "1", "--jobs", "1"]
    words += ["--out", str(tmp_path)]
    assert main(words) == 0
    before = Comparison.read(tmp_path / "comparison.json").runs[0]
    assert main([*words, "--decide", "fitted"]) == 0
    assert len(list((tmp_path / "cells").iterdir())) == 1
    assert not [*tmp_path.glob("cells/*/decision*"), *tmp_path.glob("cells/*/*.ckpt")]
    after, with_it = Comparison.read(tmp_path / "comparison.json").runs
    assert after.metrics == pytest.approx(before.metrics, nan_ok=True)
    assert with_it.head == "linear-softmax + fitted"
    # Done is done: the second time it costs nothing.
    stored = next(tmp_path.glob("cells/*/result.json")).stat().st_mtime_ns
    assert main([*words, "--decide", "fitted"]) == 0
    assert next(tmp_path.glob("cells/*/result.json")).stat().st_mtime_ns == stored
