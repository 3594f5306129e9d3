import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from bisector.errors import ArgumentError
from bisector.posthoc import adjust
from bisector.posthoc.fit import (
    _EPSILON,
    balanced_mean,
    cross_validated_predictions,
    cross_validated_scores,
    dealt_folds,
    fit_offsets,
    unit_of,
)
from posthoc_cases import COUNTS, posterior_scores


def uneven(seed: int, rows: int = 300):
    """Logits and labels of which some classes are rare."""
    scores, labels = posterior_scores(rows * 2, seed)
    keep = torch.rand(len(labels), generator=torch.Generator().manual_seed(seed)) < 1 / (1 + labels)
    return scores[keep], labels[keep]


@pytest.mark.parametrize("penalty", [0.01, 1.0])
@pytest.mark.parametrize("scale", [0.02, 1.0, 30.0])
def test_the_minimum_is_the_one_that_scipy_finds(penalty, scale):
    scores, labels = uneven(1)
    z, y = scores.numpy() * scale, labels.numpy()
    counts = np.bincount(y)

    unit = np.median(z.std(axis=1))
    assert unit_of(torch.from_numpy(z)) == pytest.approx(
        unit, rel=0.01
    )  # torch takes the lower of two medians
    unit = unit_of(torch.from_numpy(z))

    def objective(parameters):
        a, b = parameters[0], parameters[1:]
        b = b - b.mean()
        losses = -log_softmax(a * z / unit + b, axis=1)[np.arange(len(y)), y]
        return (losses / (4 * counts[y])).sum() + penalty / 8 * (b**2).sum() + _EPSILON / 2 * (a - 1) ** 2

    expected = minimize(objective, np.r_[1.0, np.zeros(4)], method="BFGS", options={"gtol": 1e-8})
    found = fit_offsets(torch.from_numpy(z), labels, penalty=penalty)
    reached = objective(np.r_[unit / found.temperature, found.offsets.numpy()])
    assert reached == pytest.approx(expected.fun, abs=1e-7)
    assert found.offsets.numpy() == pytest.approx(expected.x[1:] - expected.x[1:].mean(), abs=1e-3)


@pytest.mark.parametrize("factor", [1e-4, 1e-2, 100.0, 1e4])
@pytest.mark.parametrize(
    "options",
    [
        {"method": "fitted", "penalty": 0.1},
        {"method": "fitted"},
        {"method": "prior", "tau": "fit", "class_counts": COUNTS},
        {"method": "amount", "amounts": [3.0, 4.0, 5.0, 6.0]},
    ],
)
@pytest.mark.parametrize("tells", ["something", "the opposite"])
def test_logits_of_any_size_are_adjusted_alike(factor, options, tells):
    scores, labels = uneven(1, rows=60 if options == {"method": "fitted"} else 300)
    scores = scores if tells == "something" else -scores  # then the temperature is not fitted
    one, other = (adjust(z, labels, **options) for z in (scores, scores * factor))
    assert other.temperature == pytest.approx(factor * one.temperature, rel=1e-3)
    assert other.offsets.numpy() == pytest.approx(one.offsets.numpy(), abs=1e-4)
    assert torch.equal(one.predict(scores), other.predict(scores * factor))


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_cross_validation_does_not_know_the_size_of_logits(factor):
    scores, labels = uneven(2, rows=60)
    one, other = (cross_validated_scores(z, labels, penalty=0.1) for z in (scores, scores * factor))
    assert other.numpy() == pytest.approx(one.numpy(), abs=1e-4)
    predictions = cross_validated_predictions(scores * factor, labels, penalty=0.1)
    assert torch.equal(predictions, one.argmax(1))


def test_a_stronger_penalty_draws_the_offsets_towards_zero():
    scores, labels = uneven(2)
    sizes = [fit_offsets(scores, labels, penalty=p).offsets.norm() for p in (0.0, 0.1, 1.0, 10.0, 1000.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.05 * sizes[0]


def test_a_class_without_a_label_keeps_the_mean_offset():
    scores, labels = uneven(3)
    kept = labels != 2
    found = fit_offsets(scores[kept], labels[kept], penalty=0.1)
    assert found.absent == 1
    assert found.offsets[2] == 0
    assert found.offsets.sum() == pytest.approx(0, abs=1e-9)
    assert found.offsets[[0, 1, 3]].abs().min() > 0.01


def test_scores_that_separate_the_classes_or_mislead_or_tell_nothing_give_finite_numbers():
    labels = torch.arange(40) % 4
    perfect = torch.eye(4, dtype=torch.float64)[labels]
    for scores in (perfect, 1000 * perfect, -perfect, torch.zeros(40, 4)):
        found = fit_offsets(scores, labels, penalty=0.1)
        assert found.offsets.isfinite().all()
        assert 0 < found.temperature < 1e3
        assert found.offsets.abs().max() < 1e-3  # all classes are alike


def test_folds_deal_every_class_out_evenly():
    labels = torch.cat([torch.zeros(23), torch.ones(7), torch.full((3,), 2)]).long()
    fold = dealt_folds(labels, 5, seed=0)
    assert torch.bincount(fold).tolist() in ([7, 7, 7, 6, 6], [6, 7, 7, 7, 6])
    for label in range(3):
        sizes = torch.bincount(fold[labels == label], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    assert not torch.equal(fold, dealt_folds(labels, 5, seed=1))


def test_no_row_is_predicted_by_what_has_seen_its_label():
    scores, labels = uneven(4, rows=100)
    before = cross_validated_predictions(scores, labels, penalty=0.01)
    assert torch.equal(before, cross_validated_predictions(scores, labels, penalty=0.01))
    fold = dealt_folds(labels, 5, seed=0)
    for held_out in range(5):
        out = fold == held_out
        alone = fit_offsets(scores[~out], labels[~out], penalty=0.01)
        assert torch.equal(before[out], (scores[out] / alone.temperature + alone.offsets).argmax(1))


def test_on_pure_noise_cross_validation_reports_chance():
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(600, 20, generator=generator), torch.arange(600) % 20
    own = fit_offsets(scores, labels, penalty=0.0)
    flattered = float(((scores / own.temperature + own.offsets).argmax(1) == labels).double().mean())
    honest = float((cross_validated_predictions(scores, labels, penalty=0.0) == labels).double().mean())
    assert honest < 0.08
    assert honest < flattered + 0.02


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda: cross_validated_predictions(torch.zeros(3, 2), torch.tensor([0, 1, 1])),
            "scores: got 3 rows",
        ),
        (
            lambda: cross_validated_predictions(torch.zeros(6, 2), torch.tensor([0, 1])),
            r"labels: got shape \(2,\)",
        ),
        (
            lambda: cross_validated_predictions(torch.zeros(6, 2), torch.zeros(6).long(), folds=1),
            "folds: got 1",
        ),
        *(
            (
                lambda seed=seed: fit_offsets(torch.zeros(6, 2), torch.arange(6) % 2, seed=seed),
                f"seed: got {seed}",
            )
            for seed in (-1, 2**63, 2**70)
        ),
    ],
)
def test_complaints_name_the_argument(call, told):
    with pytest.raises(ArgumentError, match=told):
        call()


def test_the_error_of_a_balanced_mean_is_that_of_scipy_and_never_0_of_one_row_a_class() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(400) % 4
    mean, error = balanced_mean(values, labels)
    assert mean == pytest.approx(float(values.mean()))
    means = [float(values[labels == c].var() / 100) for c in range(4)]
    assert error == pytest.approx(sum(means) ** 0.5 / 4)
    assert balanced_mean(values[:50], torch.arange(50))[1] == pytest.approx(
        float(values[:50].std()) / 50**0.5
    )
