import pytest
import torch

from bisector.errors import ArgumentError
from bisector.metrics.groups import LONG_TAIL_THRESHOLDS
from bisector.metrics.streaming import GroupAccuracy
from bisector.metrics.summary import METRICS, summarize

COUNTS = torch.tensor([300, 120, 80, 40, 15, 3])


def batches(seed: int, sizes: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.randint(6, (2, size), generator=generator)) for size in sizes]


@pytest.mark.parametrize("thresholds", [None, LONG_TAIL_THRESHOLDS])
def test_a_stream_gives_what_the_whole_gives(thresholds):
    stream = batches(0, [7, 1, 50, 0, 22])
    metric = GroupAccuracy(COUNTS, thresholds)
    for predictions, labels in stream:
        metric.update(predictions, labels)
    whole = summarize(
        *map(torch.cat, zip(*stream, strict=True)),
        embeddings=torch.randn(80, 2),
        train_counts=COUNTS,
        class_amounts=torch.ones(6),
        thresholds=thresholds,
    )
    found = metric.compute()
    assert found.keys() < {info.key for info in METRICS}
    for key, value in found.items():
        assert value.item() == pytest.approx(whole[key], abs=1e-15), key


def test_two_processes_merge_to_one():
    halves = [GroupAccuracy(COUNTS) for _ in range(2)]
    one = GroupAccuracy(COUNTS)
    for half, (predictions, labels) in zip(halves, batches(1, [40, 30]), strict=True):
        half.update(predictions, labels)
        one.update(predictions, labels)
    halves[0].merge_state(halves[1])
    assert halves[0].compute() == one.compute()


def test_reset_forgets():
    metric = GroupAccuracy([2, 1])
    metric.update(torch.tensor([0]), torch.tensor([1]))
    metric.reset()
    metric.update(torch.tensor([1]), torch.tensor([1]))
    assert metric.compute()["accuracy"] == 1


def test_a_bad_batch_changes_nothing():
    metric = GroupAccuracy([2, 1])
    metric.update(torch.tensor([0]), torch.tensor([0]))
    with pytest.raises(ArgumentError, match="labels: got 2 at position 1; expected 0 to 1"):
        metric.update(torch.tensor([0, 0]), torch.tensor([0, 2]))
    assert metric.total.tolist() == [1, 0]
