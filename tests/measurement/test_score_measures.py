import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from bisector.data.tables import EmbeddingTable
from bisector.information.amount import information_amount
from bisector.measurement.class_scores import ClassScores
from bisector.measurement.classes import (
    ClassMeasure,
    affordable_equal_count,
    choose_equal_count,
    fewest_rows,
    small_note,
)
from bisector.measurement.measure import measure
from bisector.measurement.measurement import Measurement
from bisector.measurement.score_measures import AMOUNT, COUNT, EQUAL, ScoreMeasure, measure_scores
from bisector.metrics.bias import bias, bias_corrected
from bisector.records import from_json, to_json

NOTHING = math.nan


def classes_of(number: int, seed: int = 0) -> list[ClassMeasure]:
    rng = np.random.default_rng(seed)
    counts = np.exp(rng.normal(4, 1, number)).astype(int) + 2
    tested = rng.integers(5, 50, number)
    return [
        ClassMeasure(
            f"class {c}",
            int(counts[c]),
            int(tested[c]),
            rng.normal(20, 5),
            rng.integers(0, tested[c] + 1) / tested[c],
            0.0,
            equal_amount=rng.normal(20, 5) if c % 3 else NOTHING,
        )
        for c in range(number)
    ]


def test_every_number_is_that_of_scipy_and_numpy() -> None:
    classes = classes_of(60)
    classes[4] = replace(classes[4], amount=NOTHING)
    ap = [math.sin(c) if c != 7 else NOTHING for c in range(60)]
    accuracy, precision = measure_scores(
        classes, [ClassScores("AP", "ap.csv", ap, percent=False)], dimensions=64, tested_on="test rows"
    )
    assert (accuracy.name, accuracy.source, accuracy.brought) == ("accuracy", "test rows", False)
    assert (precision.name, precision.source, precision.brought) == ("AP", "ap.csv", True)
    kept = [c for c in range(60) if c not in {4, 7}]
    x = np.array([classes[c].amount for c in kept])
    n = np.log([classes[c].count for c in kept])
    y = np.array(ap)[kept]
    one = precision.of(AMOUNT)
    assert one is not None
    assert one.relation.rows == precision.classes == 58
    assert one.relation.pearson.value == pytest.approx(stats.pearsonr(x, y).statistic)
    assert one.relation.spearman.value == pytest.approx(stats.spearmanr(x, y).statistic)
    design = np.column_stack([np.ones(58), n])
    left, right = (v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y))
    assert one.relation.partial.value == pytest.approx(np.corrcoef(left, right)[0, 1])
    assert one.adds.r2_base == pytest.approx(np.corrcoef(n, y)[0, 1] ** 2)
    full = np.column_stack([design, x])
    residual = y - full @ np.linalg.lstsq(full, y, rcond=None)[0]
    assert one.adds.r2_full == pytest.approx(1 - residual @ residual / ((y - y.mean()) ** 2).sum())
    assert precision.bias == pytest.approx(np.nanvar(ap))
    counted, equal = precision.of(COUNT), precision.of(EQUAL)
    assert counted is not None
    assert equal is not None
    assert counted.relation.pearson.value == pytest.approx(np.corrcoef(n, y)[0, 1])
    assert equal.relation.rows == sum(math.isfinite(classes[c].equal_amount) and c != 7 for c in range(60))
    scores = torch.tensor([c.accuracy for c in classes], dtype=torch.float64)
    assert accuracy.bias == bias(scores).item()
    assert accuracy.bias_corrected == bias_corrected(scores, torch.tensor([c.tested for c in classes])).item()
    assert math.isnan(precision.bias_corrected)


def test_bias_of_a_percentage_is_in_points_squared() -> None:
    ap = ClassScores("AP", "ap.csv", [0.1, 0.3], percent=True)
    classes = [replace(one, accuracy=NOTHING) for one in classes_of(2)]
    (score,) = measure_scores(classes, [ap], dimensions=4)
    assert score.bias == pytest.approx(100)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 7])
def test_few_classes_are_measured_as_far_as_they_go(number: int) -> None:
    found = measure_scores(classes_of(number), dimensions=64)
    assert len(found) == (number > 0)
    for score in found:
        assert score.of(AMOUNT) is None or number > 2
        for one in score.relationships:
            assert math.isnan(one.relation.pearson.low)
    json.dumps([asdict(score) for score in found])


def test_equal_counts_and_equal_scores_are_nan_and_no_error() -> None:
    same = [replace(one, count=50, equal_amount=one.amount) for one in classes_of(20)]
    (score,) = measure_scores(same, dimensions=64)
    amount, counted = score.of(AMOUNT), score.of(COUNT)
    assert amount is not None
    assert counted is not None
    assert math.isnan(counted.relation.pearson.value)
    assert amount.relation.partial.value == pytest.approx(amount.relation.pearson.value)
    assert amount.adds.r2_base == 0
    (perfect,) = measure_scores([replace(one, accuracy=1.0) for one in same], dimensions=64)
    assert perfect.bias == 0
    assert all(math.isnan(one.relation.pearson.value) for one in perfect.relationships)


def test_classes_that_are_too_small_are_named_by_the_dimension() -> None:
    classes = classes_of(10)
    small = [one.name for one in classes if one.count < 64]
    (score,) = measure_scores(classes, dimensions=512)
    assert (score.fewest, score.small, score.classes) == (64, small, 10)
    note = small_note(classes, 512)
    assert note.startswith(f"{len(small)} of 10 classes")
    assert "fewer than 64 rows, an eighth of the dimensions" in note
    assert small_note([replace(one, count=100) for one in classes], 512) == ""


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [16, 64, 256])
def test_the_border_is_where_amounts_begin_to_tell_classes_apart(dimensions: int) -> None:
    """Classes of one spectrum each, all measured on as many rows, against the same on many."""
    random = torch.Generator().manual_seed(dimensions)
    border, classes, many = fewest_rows(dimensions), 40, 4 * dimensions + 500
    sizes = {"few": max(3, border // 4), "border": border, "many": many}
    amounts: dict[str, list[float]] = {name: [] for name in sizes}
    for _ in range(classes):
        decay, length = (torch.empty(2).uniform_(-0.5, 0.5, generator=random)).tolist()
        spectrum = torch.arange(1, dimensions + 1) ** -math.exp(decay)
        spectrum *= dimensions * math.exp(2 * length) / spectrum.sum()
        mean = torch.randn(dimensions, generator=random)
        x = mean + torch.randn(many, dimensions, generator=random) * spectrum.sqrt()
        for name, size in sizes.items():
            amounts[name].append(information_amount(x[:size], embeddings="unit").item())
    few, border_r = (np.corrcoef(amounts[name], amounts["many"])[0, 1] for name in ("few", "border"))
    assert border_r > 0.9
    assert few < 0.85


def test_the_equal_count_is_one_that_nearly_all_classes_reach() -> None:
    counts = torch.tensor([3, 0, 1, *range(100, 140)])
    assert choose_equal_count(counts, 64) == 102  # of 40, two may be left out
    assert choose_equal_count(torch.tensor([14, 20, 30]), 1024) == 14  # none has 128: then of those with 13
    assert choose_equal_count(torch.tensor([14] * 30 + [200] * 12), 1024) == 200
    assert choose_equal_count(torch.tensor([30]), 16) == 0
    assert choose_equal_count(torch.tensor([], dtype=torch.long), 16) == 0


def test_a_table_in_memory_is_measured_on_equal_counts_too(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    counts = [400, 90, 60, 40, 30, 5]
    labels = torch.cat([torch.full((rows,), c) for c, rows in enumerate(counts)])
    x = torch.randn(len(labels), 16, generator=random)
    predictions = torch.where(torch.rand(len(labels), generator=random) < 0.7, labels, 0)
    table = EmbeddingTable(x, labels, tuple("abcdef"), predictions=predictions)
    ap = ClassScores("AP", "ap.csv", [0.5, 0.4, NOTHING, 0.3, 0.2, 0.1], percent=True, notes=("as told",))
    found = measure(table, scores=[ap])
    assert found.equal_count == 30
    equal = [one.equal_amount for one in found.classes]
    assert math.isnan(equal[5])
    assert equal[4] == pytest.approx(found.classes[4].amount)  # all of its rows
    assert max(equal[:5]) - min(equal[:5]) < 2  # one distribution: the count is out of it
    assert [score.name for score in found.scores] == ["accuracy", "AP"]
    assert "as told" in found.notes
    again = measure(table, scores=[ap])
    assert repr(again.scores) == repr(found.scores)
    other = measure(table, equal_count=13, embeddings="raw", shrinkage="oas", seed=1)
    assert (other.equal_count, other.embeddings, other.shrinkage) == (13, "raw", "oas")
    assert other.classes[0].amount == pytest.approx(
        information_amount(x[labels == 0], shrinkage="oas").item()
    )
    found.write(tmp_path / "m.json")
    assert repr(Measurement.read(tmp_path / "m.json")) == repr(found)


def test_an_infinite_f_is_read_as_it_was_written() -> None:
    (score,) = measure_scores(classes_of(9), dimensions=4, resamples=100)
    one = score.of(AMOUNT)
    assert one is not None
    endless = replace(one, adds=replace(one.adds, f=math.inf, p=0.0))
    unknown = replace(one, adds=replace(one.adds, f=NOTHING, p=NOTHING))
    record = to_json(replace(score, relationships=[endless, unknown]))
    read = from_json(ScoreMeasure, record)
    assert read.relationships[0].adds.f == math.inf
    assert math.isnan(read.relationships[1].adds.f)


def test_memory_and_stream_choose_one_equal_count(monkeypatch: pytest.MonkeyPatch) -> None:
    table = EmbeddingTable(torch.randn(120, 8), torch.arange(120) % 3, ("a", "b", "c"))
    assert measure(table).equal_count == 40
    monkeypatch.setattr("bisector.measurement.classes._LEAST_DRAWN", 3 * 48 * 20)
    counts = torch.full((3,), 40)
    assert measure(table).equal_count == affordable_equal_count(counts, 8) == 20


def test_a_streamed_measurement_is_read_as_it_was_written_and_an_older_one_too(tmp_path: Path) -> None:
    table = EmbeddingTable(torch.randn(90, 4), torch.arange(90) % 3, ("a", "b", "c"))
    found = replace(measure(table), label_errors=None, duplicates=None, streamed=True)
    found.write(tmp_path / "m.json")
    assert repr(Measurement.read(tmp_path / "m.json")) == repr(found)
    content = json.loads((tmp_path / "m.json").read_text())
    for key in ("scores", "equal_count", "shrinkage", "embeddings", "streamed"):
        del content[key]
    for one in content["classes"]:
        for key in [
            key for key in one if key not in {"name", "count", "tested", "amount", "accuracy", "loss"}
        ]:
            del one[key]
    (tmp_path / "old.json").write_text(json.dumps(content))
    old = Measurement.read(tmp_path / "old.json")
    assert old.scores == []
    assert old.classes[0].error_bound == 0
    assert old.classes[0].neighbour == ""
