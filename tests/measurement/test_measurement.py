import csv
import json
import math
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve

from bisector.data.tables import EmbeddingTable
from bisector.errors import ArgumentError
from bisector.measurement.measure import measure
from bisector.measurement.measurement import Measurement
from bisector.measurement.next_step import Step
from bisector.report.measurement import format_measurement
from bisector.report.measurement_files import write_measurement

TAIL = [400, 250, 160, 100, 64, 50, 40, 30, 24, 20]
LOSING = [0.05 * c for c in range(10)]  # the rarer, the more mistakes


def blobs(
    counts: list[int], spreads: list[float] | None = None, errors: list[float] | None = None, tested: int = 40
) -> EmbeddingTable:
    """Gaussian classes far apart; of class c the share `errors[c]` of the test rows is mistaken."""
    classes = len(counts)
    means = 6 * torch.randn(classes, 24)
    rows, labels, predictions, splits = [], [], [], []
    for c, count in enumerate(counts):
        spread = 1.0 if spreads is None else spreads[c]
        rows.append(means[c] + spread * torch.randn(count + tested, 24))
        labels += [c] * (count + tested)
        wrong = round((0.0 if errors is None else errors[c]) * tested)
        predictions += [c] * count + [(c + 1) % classes] * wrong + [c] * (tested - wrong)
        splits += ["train"] * count + ["test"] * tested
    return EmbeddingTable(
        torch.cat(rows),
        torch.tensor(labels),
        tuple(f"class {c}" for c in range(classes)),
        predictions=torch.tensor(predictions),
        splits=splits,
        model="runs/my model",
        data="images",
    )


def with_rows_changed(table: EmbeddingTable, **columns: object) -> EmbeddingTable:
    return EmbeddingTable(**{**vars(table), **columns})  # type: ignore[arg-type]


def step_of(found: Measurement, key: str) -> Step:
    return next(step for step in found.steps if step.key == key)


def test_leakage_comes_first() -> None:
    table = blobs([30] * 6)
    x = table.embeddings.clone()
    x[30:34] = x[:4]
    step = measure(with_rows_changed(table, embeddings=x), file="e.parquet").step
    assert step.key == "leakage"
    assert step.reason.startswith("4 of the 240 rows of validation and test are")
    assert step.command == ""  # the same embeddings again would have the same examples


def test_one_example_in_two_splits_is_told_and_no_more() -> None:
    table = blobs([30] * 6)
    x = table.embeddings.clone()
    x[30] = x[0]
    found = measure(with_rows_changed(table, embeddings=x))
    assert found.step.key == "compare"
    assert step_of(found, "leakage").reason.startswith("1 of the 240 rows of validation and test is in")
    assert found.duplicates.leaked == 1


def test_a_network_that_maps_classes_to_one_point_leaks_nothing() -> None:
    table = blobs([30] * 6)
    x = torch.nn.functional.one_hot(table.labels, 24) + 1e-4 * torch.randn(len(table), 24)
    found = measure(with_rows_changed(table, embeddings=x))
    leakage = step_of(found, "leakage")
    assert leakage.holds is None
    assert "maps 6 of 6 classes to one point" in leakage.reason
    assert [note for note in found.notes if "maps 6 classes to one point" in note]
    assert "embed" not in found.step.command


def test_a_model_near_chance_is_trained_first() -> None:
    table = blobs([30] * 10, errors=[0.82] * 10)
    x, labels = table.embeddings.clone(), table.labels.clone()
    x[30:60] = x[:30]  # and nothing else that is found comes before
    step = measure(with_rows_changed(table, embeddings=x, labels=labels, settings={"seed": 4})).step
    assert step.key == "chance"
    assert "20.0%" not in step.reason
    assert "over 10 classes is near chance (10.0%)" in step.reason
    assert step.command == "bisector train --data images --seed 4"
    assert measure(blobs([30] * 10, errors=[0.8] * 10)).step.key != "chance"
    assert step_of(measure(blobs([30, 30], errors=[0.5, 0.4])), "chance").holds is False
    few = measure(blobs([30, 30], errors=[0.5, 0.5], tested=4))
    assert step_of(few, "chance").holds is None


SETTINGS = {
    "imbalance": 50.0,
    "seed": 3,
    "split": "open-set",
    "image_size": 48,
    "part": "test",
    "pretrained": False,
    "weights": "my weights.pt",
}


def test_commands_keep_the_settings() -> None:
    table = with_rows_changed(blobs([30] * 6), model="timm/test_resnet", settings=SETTINGS)
    found = measure(table, file="e.parquet")
    data = "--imbalance 50 --split open-set --image-size 48"
    heads = "--heads linear-softmax,logit-adjusted,normalized-softmax:tau=1"
    assert found.step.command == f"bisector compare --data images {data} {heads}"
    assert step_of(found, "chance").command == (
        "bisector train --data images --imbalance 50 --seed 3 --split open-set --image-size 48"
    )
    assert step_of(found, "labels").command == (
        "bisector embed timm/test_resnet images --imbalance 50 --seed 3 --split open-set --image-size 48 "
        "--part test --no-pretrained --weights 'my weights.pt' --out e.parquet"
    )


def test_a_run_of_ours_is_told_what_is_the_default_of_others() -> None:
    settings = {"imbalance": 1.0, "seed": 0, "split": "standard"}
    table = with_rows_changed(blobs([30] * 6), settings=settings)
    again = "--imbalance 1 --seed 0 --split standard --out e.parquet"  # its training may have had others
    found = measure(table, file="e.parquet")
    assert step_of(found, "labels").command == f"bisector embed 'runs/my model' images {again}"
    assert found.step.command.startswith("bisector compare --data images --heads")
    other = measure(with_rows_changed(table, model="timm/test_resnet"), file="e.parquet")
    assert step_of(other, "labels").command == "bisector embed timm/test_resnet images --out e.parquet"


def test_what_a_file_says_is_no_more_than_a_value() -> None:
    hostile = "--out x; touch PWNED #"
    settings = {
        "seed": hostile,
        "imbalance": "1; ls",
        "split": hostile,
        "mean": ["$(ls)"],
        "rm": "-rf",
        "weights": 3,
    }
    table = with_rows_changed(blobs([30] * 6), model=hostile, data=hostile, settings=settings)
    found = measure(table, file=hostile, command="bisector measure e.parquet")
    told = f"./{hostile}"
    assert shlex.split(step_of(found, "labels").command) == [
        *("bisector", "embed", told, told, f"--split={hostile}", "--out", told)
    ]
    assert shlex.split(found.step.command)[:5] == [
        "bisector",
        "compare",
        "--data",
        told,
        f"--split={hostile}",
    ]


def test_scores_that_were_adjusted_are_not_adjusted_again() -> None:
    table = blobs(TAIL, errors=LOSING)
    scores = torch.nn.functional.one_hot(table.predictions, 10).float()
    found = measure(with_rows_changed(table, scores=scores, adjusted="prior, tau 1"))
    assert step_of(found, "prior").holds
    assert step_of(found, "prior").command.startswith("bisector compare")
    assert "The scores are not the model's own: prior, tau 1." in found.notes
    assert step_of(found, "adjust").reason == "Not tried. The scores are adjusted already: prior, tau 1."


def test_classes_never_trained_on_are_verified(tmp_path: Path) -> None:
    labels = torch.arange(6).repeat_interleave(30)
    x = 2 * torch.randn(6, 16)[labels] + torch.randn(180, 16)
    table = EmbeddingTable(x, labels, tuple("abcdef"), splits=["train"] * 90 + ["test"] * 90)
    found = measure(table)
    units = torch.nn.functional.normalize(x[90:], dim=1).double()
    rows, columns = torch.triu_indices(90, 90, offset=1)
    cosines, same = (units @ units.T)[rows, columns], labels[90:][rows] == labels[90:][columns]
    far, tar, _ = roc_curve(same, cosines, drop_intermediate=False)
    verified = found.verification
    assert verified is not None
    assert (verified.classes, verified.genuine_pairs) == (3, int(same.sum()))
    best = np.flatnonzero(far <= 1e-2)[-1]
    assert verified.tar[1e-2] == pytest.approx(tar[best])
    assert verified.eer == pytest.approx(np.min(np.maximum(far, 1 - tar)), abs=0.01)
    assert (cosines[~same] >= verified.thresholds[1e-2]).double().mean() <= 1e-2
    assert "3 classes are of the test part alone." in found.notes
    assert not [note for note in found.notes if "no row to measure" in note]
    found.write(tmp_path / "m.json")
    assert repr(Measurement.read(tmp_path / "m.json")) == repr(found)
    everywhere = with_rows_changed(table, splits=["train", "test"] * 90)
    assert measure(everywhere).verification is None
    assert measure(with_rows_changed(table, splits=["test"] * 180)).verification is None


def test_suspected_labels_come_next() -> None:
    table = blobs([60] * 5)
    labels = table.labels.clone()
    labels[::12] = (labels[::12] + 1) % 5
    found = measure(with_rows_changed(table, labels=labels))
    assert found.step.key == "labels"
    wrong = set(range(0, len(labels), 12))
    assert wrong <= {suspect.row for suspect in found.label_errors.suspects}


def test_then_classes_that_are_too_small() -> None:
    step = measure(blobs([200, 100, 40, 10, 8])).step
    assert step.key == "small"
    assert step.lead == "Until then, a prior may help:"


def test_tested_rows_alone_do_not_say_how_many_were_trained_on() -> None:
    table = blobs([200, 100, 40, 10, 8])
    tested = with_rows_changed(table, splits=["test"] * len(table.labels))
    labels = with_rows_changed(table, embeddings=table.embeddings[:, :0], splits=None)
    for one in (tested, labels):
        found = measure(one)
        assert step_of(found, "small").holds is None
        assert not step_of(found, "small").command
    assert found.scores[0].small == []  # there are no amounts to be too small for


def test_then_a_prior_where_rare_classes_lose() -> None:
    table = blobs(TAIL, errors=LOSING)
    found = measure(table, file="e.parquet")
    assert found.step.key == "prior"
    assert found.step.reason.endswith("over 10 classes: rare classes lose.")
    assert "--heads linear-softmax,logit-adjusted" in found.step.command
    assert found.step.lead == "An experiment, of which nothing is known beforehand on these data:"
    told = measure(with_rows_changed(table, head={"name": "logit-adjusted", "tau": 1.0}))
    assert step_of(told, "prior").holds is False
    assert step_of(told, "prior").reason.endswith("But the head was trained with the counts already.")


@pytest.mark.parametrize("classes", [3, 8])
def test_of_few_classes_nothing_is_concluded(classes: int, tmp_path: Path) -> None:
    spreads = [0.5 + 0.3 * c for c in range(classes)]
    found = measure(blobs(TAIL[:classes], spreads, errors=[0.05 * c for c in range(classes)]))
    assert step_of(found, "prior").holds is step_of(found, "amount").holds is None
    assert "nothing is concluded from fewer than 9 classes" in step_of(found, "prior").reason
    assert "lose" not in step_of(found, "prior").reason
    write_measurement(found, tmp_path)
    for relation in (one.relation for one in found.scores[0].relationships):
        for one in (relation.pearson, relation.spearman, relation.partial):
            assert math.isnan(one.low), one
            assert math.isnan(one.high), one
    record = json.loads((tmp_path / "measure.json").read_text())
    text, page = format_measurement(found), (tmp_path / "measure.html").read_text(encoding="utf-8")
    for one in record["scores"][0]["relationships"]:
        assert one["relation"]["pearson"]["low"] is one["relation"]["partial"]["high"] is None
    with (tmp_path / "score_correlations.csv").open() as file:
        for row in csv.DictReader(file):
            assert row["pearson"] != ""
            assert row["pearson_low"] == row["partial_high"] == row["spearman_low"] == ""
    (line,) = [line for line in text.splitlines() if line.startswith("log count ")]
    assert "(" not in line
    assert "chance alone" not in page
    if classes > 3:
        assert f"{classes} classes are too few for an interval" in page


def test_then_the_amounts_where_they_say_more_than_the_counts() -> None:
    found = measure(
        blobs([60] * 9, spreads=[0.5 + 0.3 * c for c in range(9)], errors=[0.05 * c for c in range(9)])
    )
    amount = found.scores[0].of("amount")
    assert amount is not None
    assert amount.relation.partial.value < -0.9
    assert f"{amount.relation.partial.value:+.2f} over 9 classes" in found.step.reason  # one number on a page
    assert found.step.key == "amount"
    assert "igam" in found.step.command


def test_else_nothing_stands_out() -> None:
    found = measure(blobs([60] * 6))
    assert found.step.key == "compare"
    assert found.step.reason == "Nothing stands out in these embeddings."
    assert found.step.lead == "An experiment, of which nothing is known beforehand on these data:"


def test_without_predictions_what_can_be_said_is_said() -> None:
    table = with_rows_changed(blobs([40, 30, 20, 5]), predictions=None, splits=None)
    found = measure(table)
    assert math.isnan(found.balanced_accuracy)
    assert found.tested_on == ""
    assert not found.confused
    assert len(found.nearest) == 6
    assert all(math.isfinite(one.amount) for one in found.classes)
    assert [note for note in found.notes if "No predictions" in note]
    holds = {step.key: step.holds for step in found.steps}
    assert holds["prior"] is holds["amount"] is holds["leakage"] is None


def test_accuracies_are_of_the_test_rows_and_amounts_of_the_training_rows() -> None:
    found = measure(blobs([30, 20], errors=[0.5, 0.25]))
    assert [one.count for one in found.classes] == [30, 20]
    assert [one.accuracy for one in found.classes] == [0.5, 0.75]
    assert found.accuracy == found.balanced_accuracy == pytest.approx(0.625)
    assert (found.measured_on, found.tested_on) == ("train rows", "test rows")


def test_one_class_and_one_row_are_measured_too() -> None:
    found = measure(EmbeddingTable(torch.ones(1, 3), torch.tensor([0]), ("only",)))
    assert found.rows == 1
    assert found.step.key in {"small", "compare"}


def test_a_measurement_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = blobs([40, 30, 4])
    x, labels = table.embeddings.clone(), table.labels.clone()
    x[1], labels[5] = x[0], 1
    found = measure(with_rows_changed(table, embeddings=x, labels=labels), command="bisector measure <x>")
    found.write(tmp_path / "m.json")
    read = Measurement.read(tmp_path / "m.json")
    assert repr(read) == repr(found)  # NaN equals nothing
    read.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "m.json").read_bytes()
    (tmp_path / "m.json").write_text("{}")
    with pytest.raises(ArgumentError, match="not one that bisector wrote"):
        Measurement.read(tmp_path / "m.json")
