import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score

from bisector.errors import ArgumentError
from bisector.metrics.summary import METRICS, fairness, fairness_changes, summarize


@pytest.fixture
def example():
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(9).repeat(40)
    wrong = torch.rand(len(labels), generator=generator) < labels / 12
    predictions = torch.where(wrong, torch.randint(9, labels.shape, generator=generator), labels)
    return {
        "predictions": predictions,
        "labels": labels,
        "embeddings": torch.randn(len(labels), 4, generator=generator),
        "train_counts": torch.tensor([900, 500, 400, 200, 150, 90, 30, 12, 5]),
        "class_amounts": 50 * torch.rand(9, generator=generator),
    }


def test_metrics_and_summary_have_the_same_keys_in_the_same_order(example):
    keys = [info.key for info in METRICS]
    assert list(summarize(**example)) == keys
    parts = {name: example[name] for name in ("predictions", "labels", "train_counts")}
    assert list(fairness(**parts, num_classes=9)) == keys[:10]


def test_against_scikit_learn_and_scipy(example):
    found = summarize(**example)
    predictions, labels = example["predictions"].numpy(), example["labels"].numpy()
    recalls = recall_score(labels, predictions, average=None)
    log_counts, amounts = np.log(example["train_counts"].numpy()), example["class_amounts"].numpy()
    expected = {
        "accuracy": accuracy_score(labels, predictions),
        "balanced_accuracy": balanced_accuracy_score(labels, predictions),
        "many": recalls[:3].mean(),
        "medium": recalls[3:6].mean(),
        "few": recalls[6:].mean(),
        "worst_class": recalls.min(),
        "spread": np.std(recalls),
        "bias": np.var(100 * recalls),
        "r_amount_accuracy": stats.pearsonr(amounts, recalls).statistic,
        "r_count_accuracy": stats.pearsonr(log_counts, recalls).statistic,
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-9)
    xy, xz, yz = found["r_amount_accuracy"], np.corrcoef(amounts, log_counts)[0, 1], found["r_count_accuracy"]
    partial = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
    assert found["r_amount_accuracy_given_count"] == pytest.approx(partial, abs=1e-9)
    assert found["bias_corrected"] < found["bias"]


def test_unknown_amounts_and_unseen_classes_are_left_out_of_the_correlations(example):
    example["class_amounts"][0] = torch.nan
    example["class_amounts"][4] = torch.inf
    example["train_counts"][8] = 0
    found = summarize(**example)
    accuracy = recall_score(example["labels"], example["predictions"], average=None)
    known = [1, 2, 3, 5, 6, 7, 8]
    amounts = example["class_amounts"].numpy()
    assert found["r_amount_accuracy"] == pytest.approx(np.corrcoef(amounts[known], accuracy[known])[0, 1])
    log_counts = np.log(example["train_counts"].numpy()[:8])
    assert found["r_count_accuracy"] == pytest.approx(np.corrcoef(log_counts, accuracy[:8])[0, 1])
    assert math.isfinite(found["r_amount_accuracy_given_count"])


def test_equal_counts_correlate_with_nothing(example):
    example["train_counts"] = torch.full((9,), 100)
    found = summarize(**example)
    assert math.isnan(found["r_count_accuracy"])
    assert found["r_amount_accuracy_given_count"] == pytest.approx(found["r_amount_accuracy"])


def test_thresholds_decide_the_groups(example):
    found = summarize(**example, thresholds=(20, 100))
    recalls = recall_score(example["labels"], example["predictions"], average=None)
    assert found["many"] == pytest.approx(recalls[:5].mean())
    assert found["few"] == pytest.approx(recalls[7:].mean())


def test_amounts_of_another_number_of_classes_are_refused(example):
    example["class_amounts"] = torch.ones(3)
    with pytest.raises(ArgumentError, match=r"class_amounts: got shape \(3,\); expected .* \(9,\)"):
        summarize(**example)


def test_changes_are_differences_of_fairness_with_the_intervals_of_scipy(example):
    labels, counts = example["labels"], example["train_counts"]
    draw = torch.Generator().manual_seed(3)
    after = labels.where(torch.rand(len(labels), generator=draw) < 0.8, example["predictions"])
    found = fairness_changes(example["predictions"], after, labels, 9, counts)
    old, new = (fairness(one, labels, 9, counts) for one in (example["predictions"], after))
    assert {key: one.value for key, one in found.items()} == pytest.approx(
        {key: new[key] - old[key] for key in new}, nan_ok=True
    )
    difference = ((after == labels).double() - (example["predictions"] == labels).double()).numpy()
    expected = stats.bootstrap((difference,), np.mean, n_resamples=9999, random_state=0).confidence_interval
    assert (found["accuracy"].low, found["accuracy"].high) == pytest.approx(tuple(expected), abs=0.02)


def test_the_harmonic_mean_is_scipys_and_0_where_a_class_is_never_right():
    labels = torch.arange(40) % 4
    predictions = labels.where(torch.arange(40) > 9, 0)
    found = fairness(predictions, labels, 5)  # the fifth class has no row
    shares = [(predictions[labels == c] == c).double().mean().item() for c in range(4)]
    assert found["harmonic_mean"] == pytest.approx(stats.hmean(shares))
    assert fairness(torch.zeros(40, dtype=torch.long), labels, 4)["harmonic_mean"] == 0
