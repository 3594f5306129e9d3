import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from bisector.errors import ArgumentError
from bisector.metrics.groups import (
    LONG_TAIL_THRESHOLDS,
    Groups,
    balanced_accuracy,
    class_accuracy,
    group_accuracy,
    groups,
    worst_class,
)

CLASSES = 6
answers = st.lists(
    st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=60
).map(lambda pairs: torch.tensor(pairs).unbind(1))
counts = st.lists(st.integers(0, 500), min_size=1, max_size=30).map(torch.tensor)


@given(answers)
def test_class_accuracy_is_the_diagonal_of_the_confusion_matrix(answer):
    predictions, labels = answer
    confusion = confusion_matrix(labels, predictions, labels=range(CLASSES))
    with np.errstate(invalid="ignore"):
        expected = confusion.diagonal() / confusion.sum(axis=1)
    np.testing.assert_array_equal(class_accuracy(predictions, labels, CLASSES).numpy(), expected)


@given(answers)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
def test_balanced_accuracy_is_scikit_learns(answer):
    predictions, labels = answer
    found = balanced_accuracy(predictions, labels, CLASSES)
    assert found.item() == pytest.approx(balanced_accuracy_score(labels, predictions), abs=1e-12)


def test_no_instances_give_nan():
    none = torch.tensor([], dtype=torch.long)
    assert class_accuracy(none, none, 3).isnan().all()
    assert balanced_accuracy(none, none, 3).isnan()


@given(counts, st.sampled_from([None, LONG_TAIL_THRESHOLDS, (0, 0), (5.5, 5.5)]))
def test_every_class_lies_in_one_group(train_counts, thresholds):
    assert torch.stack(groups(train_counts, thresholds)).sum(0).eq(1).all()


@given(counts)
def test_thirds_are_ordered_by_count_and_of_one_size(train_counts):
    many, medium, few = (train_counts[mask].tolist() for mask in groups(train_counts))
    assert many + medium + few  # every class is somewhere
    assert sorted(many + medium + few) == sorted(train_counts.tolist())
    for upper, lower in ((many, medium), (medium, few), (many, few)):
        assert not upper or not lower or min(upper) >= max(lower)
        assert 0 <= len(upper) - len(lower) <= 1


def test_thresholds_of_the_field():
    found = groups(torch.tensor([101, 100, 20, 19]), thresholds=LONG_TAIL_THRESHOLDS)
    assert [mask.tolist() for mask in found] == [
        [True, False, False, False],
        [False, True, True, False],
        [False, False, False, True],
    ]


def test_group_accuracy_is_the_mean_over_known_classes():
    nan = float("nan")
    scores = torch.tensor([0.9, 0.7, nan, 0.5, nan, nan], dtype=torch.float64)
    found = group_accuracy(scores, groups(torch.tensor([60, 50, 40, 30, 20, 10])))
    assert found["many"] == pytest.approx(0.8)
    assert found["medium"] == pytest.approx(0.5)
    assert found["few"].isnan()


def test_worst_class_passes_over_unknown_classes():
    nan = float("nan")
    assert worst_class(torch.tensor([nan, 0.25, 0.5])) == 0.25
    assert worst_class(torch.tensor([nan])).isnan()


ONE = torch.tensor([0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_accuracy(ONE, torch.tensor([3]), 3), "labels: got 3 at position 0; expected 0 to 2"),
        (lambda: class_accuracy(torch.tensor([-1]), ONE, 3), "predictions: got -1 at position 0; expected 0"),
        (
            lambda: class_accuracy(torch.tensor([0.0]), ONE, 3),
            "predictions: got torch.float32; expected an int",
        ),
        (lambda: class_accuracy(torch.tensor([0, 0]), ONE, 3), r"predictions: got shape \(2,\); expected"),
        (lambda: class_accuracy(ONE[None], ONE[None], 3), r"labels: got shape \(1, 1\); expected"),
        (lambda: class_accuracy(ONE, ONE, 0), "num_classes: got 0; expected at least 1"),
        (lambda: groups(torch.tensor([])), r"train_counts: got shape \(0,\)"),
        (lambda: groups(torch.tensor([-1])), "train_counts: got -1; expected no count below 0"),
        (lambda: groups(ONE, thresholds=(5, 2)), r"thresholds: got \(5, 2\); expected"),
        (lambda: group_accuracy(torch.ones(2), Groups(*torch.ones(3, 1).bool())), "class_scores: got shape"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
