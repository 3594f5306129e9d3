import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score

from bisector.detection.evaluation import classify_boxes
from bisector.errors import ArgumentError


def test_accuracies_are_scikit_learns():
    labels, scores = torch.randint(1, 6, (200,)), torch.randn(200, 6)  # the last class has no box
    scores[torch.arange(200), labels - 1] += 1.5
    found = classify_boxes(scores, labels, ["rare", "common", "common", "frequent", "rare", "frequent"])
    truth, predicted = labels.numpy(), scores.argmax(dim=1).numpy() + 1
    by_class = recall_score(truth, predicted, labels=range(1, 6), average=None)
    assert found.accuracy == pytest.approx(accuracy_score(truth, predicted))
    assert found.balanced_accuracy == pytest.approx(by_class.mean())
    assert found.class_accuracy == pytest.approx([*by_class, math.nan], nan_ok=True)
    assert found.class_boxes == tuple(np.bincount(truth, minlength=7)[1:])
    assert found.by_frequency == pytest.approx(
        {"rare": by_class[[0, 4]].mean(), "common": by_class[1:3].mean(), "frequent": by_class[3]}
    )
    assert found.bias == pytest.approx(np.var(100 * by_class))


def test_balanced_accuracy_is_scikit_learns():
    labels = torch.randint(1, 4, (50,))
    scores = torch.randn(50, 3)
    expected = balanced_accuracy_score(labels, scores.argmax(dim=1) + 1)
    assert classify_boxes(scores, labels).balanced_accuracy == pytest.approx(expected)


def test_no_box_has_no_accuracy():
    found = classify_boxes(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    assert math.isnan(found.accuracy)
    assert math.isnan(found.balanced_accuracy)
    assert math.isnan(found.bias)
    assert found.class_boxes == (0, 0, 0)


@pytest.mark.parametrize(
    ("scores", "labels", "frequency", "complaint"),
    [
        (torch.zeros(3), torch.tensor([1]), None, r"scores: got shape \(3,\)"),
        (torch.zeros(1, 3), torch.tensor([0]), None, r"labels: got \[0\]; expected 1 to 3"),
        (torch.zeros(1, 3), torch.tensor([4]), None, r"labels: got \[4\]; expected 1 to 3"),
        (torch.zeros(1, 3), torch.tensor([1, 1]), None, r"labels: got shape \(2,\)"),
        (torch.tensor([[0.0, math.nan]]), torch.tensor([1]), None, "scores: got NaN in row 0"),
        (torch.zeros(1, 3), torch.tensor([1]), ["rare"], "frequency: got 1 entries; expected 3"),
    ],
)
def test_what_does_not_fit_is_told(scores, labels, frequency, complaint):
    with pytest.raises(ArgumentError, match=complaint):
        classify_boxes(scores, labels, frequency)
