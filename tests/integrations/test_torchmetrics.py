import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import hmean
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassRecall

from bisector.errors import ArgumentError
from bisector.integrations.torchmetrics import (
    Fairness,
    GroupAccuracy,
    HarmonicMeanAccuracy,
    WorstClassAccuracy,
)
from bisector.metrics.groups import class_accuracy, group_accuracy, groups
from bisector.metrics.summary import fairness, fairness_of_counts
from real_processes import in_processes

COUNTS = torch.tensor([5, 400, 90, 12, 300, 1, 7])


def batches(number: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Return batches of scores and labels of seven classes, of which the last never occurs."""
    draw = torch.Generator().manual_seed(seed)
    labels = [torch.randint(6, (40,), generator=draw) for _ in range(number)]
    return [(torch.randn(40, 7, generator=draw) + 2 * torch.nn.functional.one_hot(y, 7), y) for y in labels]


def test_they_are_the_functions_of_bisector_and_of_torchmetrics() -> None:
    metrics = MetricCollection(
        {
            "all": Fairness(7, train_counts=COUNTS, thresholds=(20, 100)),
            "group": GroupAccuracy(COUNTS, thresholds=(20, 100)),
            "harmonic": HarmonicMeanAccuracy(7),
            "worst": WorstClassAccuracy(7),
        }
    )
    given = batches(5)
    for scores, labels in given:
        metrics.update(scores, labels)
    predictions, labels = torch.cat([x for x, _ in given]).argmax(1), torch.cat([y for _, y in given])
    found = metrics["all"].compute()
    expected = fairness(predictions, labels, 7, COUNTS, thresholds=(20, 100))
    assert {key: float(found[key]) for key in expected} == pytest.approx(expected, rel=1e-12)
    by_group = group_accuracy(class_accuracy(predictions, labels, 7), groups(COUNTS, (20, 100)))
    recalls = MulticlassRecall(7, average=None)(predictions, labels)[:6].double()
    of_group = metrics["group"].compute()
    assert {name: float(value) for name, value in of_group.items()} == pytest.approx(
        {name: float(value) for name, value in by_group.items()}
    )
    assert float(metrics["worst"].compute()) == pytest.approx(float(recalls.min()))
    assert float(metrics["harmonic"].compute()) == pytest.approx(hmean(recalls))
    assert len(metrics.compute_groups) == 1  # the counts are kept once


def test_counts_alone_say_what_rows_do() -> None:
    (scores, labels), *_ = batches(1)
    right = torch.bincount(labels[scores.argmax(1) == labels], minlength=7)
    found = fairness_of_counts(right, torch.bincount(labels, minlength=7), COUNTS)
    assert found == pytest.approx(fairness(scores.argmax(1), labels, 7, COUNTS), rel=1e-12)
    with pytest.raises(ArgumentError, match="right: got counts below 0 or above those of seen"):
        fairness_of_counts(torch.tensor([3]), torch.tensor([2]))


def share(rank: int, world: int) -> Any:
    metric = GroupAccuracy(COUNTS)
    for scores, labels in batches(5)[rank::world]:  # three batches and two
        metric.update(scores, labels)
    return metric.compute()


def test_two_processes_count_together(tmp_path: Path) -> None:
    both, (alone,) = in_processes(tmp_path / "ranks", (2, share), (1, share))
    for found in both:
        assert found == alone


def test_a_forward_is_of_its_batch_and_a_reset_forgets() -> None:
    metric = WorstClassAccuracy(7)
    first, second = batches(2)
    values = [float(metric(*batch)) for batch in (first, second)]
    assert values == [fairness(x.argmax(1), y, 7)["worst_class"] for x, y in (first, second)]
    again = pickle.loads(pickle.dumps(metric))
    assert float(again.compute()) == float(metric.compute()) not in values
    metric.reset()
    metric.update(*first)
    assert float(metric.compute()) == values[0]


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_without_a_row_nothing_is_known() -> None:
    assert HarmonicMeanAccuracy(3).compute().isnan()
    assert all(value.isnan() for value in GroupAccuracy([3, 2, 1]).compute().values())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fairness(0), "num_classes: got 0"),
        (lambda: Fairness(3, train_counts=[1, 2]), r"train_counts: got shape \(2,\); expected \(3,\)"),
        (lambda: GroupAccuracy([1, -2]), "train_counts: got -2"),
        (lambda: GroupAccuracy([1, 2], thresholds=(9, 3)), "thresholds: got"),
        (lambda: WorstClassAccuracy(3)(torch.rand(4, 2), torch.zeros(4).long()), "preds: got shape"),
        (lambda: WorstClassAccuracy(3)(torch.rand(4), torch.zeros(4).long()), "preds: got torch.float32"),
        (lambda: WorstClassAccuracy(3)(torch.rand(4, 3), torch.tensor([0, 1, 3, 0])), "target: got 3"),
    ],
)
def test_bad_arguments_of_metrics_are_named(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()
