import dataclasses

import pytest
import torch

from bisector.data.dataset import Dataset, Part
from bisector.data.examples import InMemory
from bisector.errors import ArgumentError


def part(*labels):
    return Part(InMemory(torch.zeros(len(labels), 1, 8, 8)), torch.tensor(labels, dtype=torch.long))


def make(**changes):
    parts = {name: part(0, 1, 1, 1) for name in ("train", "validation", "test")}
    return Dataset(**({"name": "toy", "class_names": ("a", "b", "c")} | parts | changes))


def test_counts_include_classes_without_instances():
    data = make(test=part(0, 0, 0, 2))
    assert data.num_classes == 3
    assert data.train_counts.tolist() == [1, 3, 0]
    assert data.test_counts.tolist() == [3, 0, 1]
    assert data.shape == (1, 8, 8)


def test_is_frozen_and_compares_by_identity():
    data = make()
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"
    assert data == data  # noqa: PLR0124
    assert data != make()


def test_one_label_an_example():
    with pytest.raises(ArgumentError, match=r"labels: got shape \(3,\); expected shape \(2,\)"):
        Part(InMemory(torch.zeros(2, 4)), torch.tensor([0, 1, 1]))


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_labels_must_be_classes(name):
    with pytest.raises(ArgumentError, match=rf"{name} part: got \[3, -1\]; expected classes from 0 to 2"):
        make(**{name: part(0, 3, -1, 1)})


def test_an_open_set_is_tested_on_classes_of_its_own():
    data = make(test=part(0, 3, 3), test_names=("d", "e", "f", "g"))
    assert data.open_set
    assert data.test_counts.tolist() == [1, 0, 0, 2]
    with pytest.raises(ArgumentError, match="test part"):
        make(test=part(0, 2), test_names=("d", "e"))


def test_a_part_of_a_part_keeps_examples_and_labels_together():
    whole = Part(InMemory(torch.arange(10.0)[:, None]), torch.arange(10))
    inner = whole.select(torch.tensor([7, 2, 9])).select(torch.tensor([2, 0]))
    assert inner.examples.batch(torch.tensor([0, 1]))[:, 0].tolist() == inner.labels.tolist() == [9, 7]
    assert [inner.examples.name(row) for row in (0, 1)] == ["9", "7"]
