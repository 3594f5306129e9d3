import math
from pathlib import Path

import pytest
import torch

from bisector.data.embeddings import EmbeddingTable
from bisector.errors import ArgumentError
from bisector.measurement.measure import measure
from bisector.measurement.measurement import Measurement


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


def test_leakage_comes_first() -> None:
    table = blobs([30] * 6)
    x = table.embeddings.clone()
    x[30:34] = x[:4]
    step = measure(with_rows_changed(table, embeddings=x), file="e.parquet").step
    assert step.key == "leakage"
    assert step.reason.startswith("4 of the 240 rows")
    assert step.command == "bisector embed 'runs/my model' images --out e.parquet"


def test_suspected_labels_come_next() -> None:
    table = blobs([60] * 5)
    labels = table.labels.clone()
    labels[::12] = (labels[::12] + 1) % 5
    found = measure(with_rows_changed(table, labels=labels))
    assert found.step.key == "labels"
    wrong = set(range(0, len(labels), 12))
    assert wrong <= {suspect.row for suspect in found.label_errors.suspects}


def test_then_classes_that_are_too_small() -> None:
    assert measure(blobs([200, 100, 40, 10, 8])).step.key == "small"


def test_then_a_prior_where_rare_classes_lose() -> None:
    counts = [400, 250, 160, 100, 64, 40, 28, 20]
    table = blobs(counts, errors=[0.05 * c for c in range(8)])
    found = measure(table, file="e.parquet")
    assert found.step.key == "prior"
    assert "--heads linear-softmax,logit-adjusted" in found.step.command  # no scores to adjust
    scores = torch.nn.functional.one_hot(table.predictions, 8).float()
    adjusted = measure(with_rows_changed(table, scores=scores), file="e.parquet")
    assert next(step for step in adjusted.steps if step.key == "prior").command == (
        "bisector adjust e.parquet --method prior"
    )


def test_then_the_amounts_where_they_say_more_than_the_counts() -> None:
    found = measure(
        blobs([60] * 9, spreads=[0.5 + 0.3 * c for c in range(9)], errors=[0.05 * c for c in range(9)])
    )
    assert found.correlations.amount_accuracy_given_count < -0.9
    assert found.step.key == "amount"
    assert "igam" in found.step.command


def test_else_nothing_stands_out() -> None:
    found = measure(blobs([60] * 6))
    assert found.step.key == "compare"
    assert found.step.reason == "None of the above stands out."


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
