import dataclasses

import pytest
import torch

from bisector.data.dataset import Dataset
from bisector.errors import ArgumentError


def make(**changes):
    parts = {
        f"{kind}_{part}": value
        for part in ("train", "validation", "test")
        for kind, value in (("images", torch.zeros(4, 1, 8, 8)), ("labels", torch.tensor([0, 1, 1, 1])))
    }
    return Dataset(**({"name": "toy", "class_names": ("a", "b", "c")} | parts | changes))


def test_counts_include_classes_without_instances():
    data = make(labels_test=torch.tensor([0, 0, 0, 2]))
    assert data.num_classes == 3
    assert data.train_counts.tolist() == [1, 3, 0]
    assert data.test_counts.tolist() == [3, 0, 1]


def test_is_frozen_and_compares_by_identity():
    data = make()
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"
    assert data == data  # noqa: PLR0124
    assert data != make()


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_labels_must_fit(part):
    name = f"labels_{part}"
    with pytest.raises(ArgumentError, match=rf"{name}: got shape \(3,\); expected shape \(4,\)"):
        make(**{name: torch.tensor([0, 1, 1])})
    with pytest.raises(ArgumentError, match=rf"{name}: got \[3, -1\]; expected classes from 0 to 2"):
        make(**{name: torch.tensor([0, 3, -1, 1])})
