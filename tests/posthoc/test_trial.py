"""What a trial says an adjustment gains, beside the truth."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from bisector.errors import ArgumentError
from bisector.posthoc import Adjustment, adjust
from bisector.posthoc.trial import Trials, compare_predictions, try_adjustments
from bisector.records import from_json, to_json
from posthoc_cases import COUNTS, posterior_scores

PRIOR = adjust(torch.zeros(1, 4), method="prior", class_counts=COUNTS)


def test_the_numbers_are_those_of_scikit_learn():
    scores, labels = posterior_scores(960, seed=3)
    kept = torch.cat([(labels == c).nonzero().flatten()[: 240 >> c] for c in range(4)])  # unlike counts
    scores, labels = scores[kept], labels[kept]
    found = try_adjustments(scores, labels, {"prior": PRIOR}, on="test rows")
    before, after = scores.argmax(1).numpy(), PRIOR.predict(scores).numpy()
    (trial,) = found.tried
    assert (found.on, found.rows) == (f"{len(labels)} test rows", len(labels))
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, before))
    assert trial.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, after))
    assert trial.gain.value == pytest.approx(trial.balanced_accuracy - found.balanced_accuracy)
    assert trial.accuracy_gain.value == pytest.approx(
        accuracy_score(labels, after) - accuracy_score(labels, before)
    )
    assert trial.helps
    assert found.best is trial
    (back,) = try_adjustments(scores - PRIOR.offsets, labels, {"again": Adjustment(-PRIOR.offsets)}).tried
    assert back.harms or back.gain.high <= 0
    assert from_json(Trials, json.loads(json.dumps(to_json(found)))) == found


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_no_row_is_judged_by_a_fit_that_has_seen_it(kind):
    scores, labels = posterior_scores(80, seed=5)
    seen = []

    def fit(logits, fitted):  # remembers each row by its logits, and predicts the class that is asked for
        seen.append({tuple(row) for row in logits.tolist()})
        return Adjustment(torch.zeros(4))

    found = try_adjustments(scores.softmax(1) if kind != "logits" else scores, labels, {"x": fit}, kind=kind)
    assert found.tried[0].gain.value == 0
    assert not found.tried[0].helps
    assert len(seen) == 5
    assert all(sum(row in rows for rows in seen) == 4 for row in set.union(*seen))


def test_what_cannot_be_fitted_is_named():
    def fit(logits, labels):
        raise ArgumentError("amounts: got none")

    scores, labels = posterior_scores(40, seed=0)
    found = try_adjustments(scores, labels, {"amount": fit, "prior": PRIOR})
    assert [trial.name for trial in found.tried] == ["prior"]
    assert found.not_tried == ("amount: amounts: got none",)


@pytest.mark.slow
def test_intervals_hold_a_gain_that_is_known():
    """Predictors that are as good as the one before gain 0, and moved boundaries what 400,000 rows say."""
    scores, labels = posterior_scores(400_000, seed=1)
    difference = (PRIOR.predict(scores) == labels).double() - (scores.argmax(1) == labels).double()
    truth = float(difference.mean())  # classes are equally frequent: of balanced accuracy too
    draws, hold, helps, moved = 120, 0, 0, 0
    random = np.random.default_rng(0)
    for draw in range(draws):
        labels = torch.from_numpy(random.choice(4, size=90, p=[0.4, 0.3, 0.2, 0.1]))
        right = torch.from_numpy(random.random((4, 90)) < random.permutation([0.5, 0.6, 0.7, 0.8])[labels])
        equal = right.long() * labels + (~right).long() * ((labels + 1) % 4)
        tried = compare_predictions(
            equal[0], {str(k): equal[k] for k in (1, 2, 3)}, labels, 4, seed=draw
        ).tried
        hold += all(trial.gain.low <= 0 <= trial.gain.high for trial in tried)
        helps += any(trial.helps for trial in tried)
        scores, labels = posterior_scores(80, seed=1000 + draw)
        (trial,) = try_adjustments(scores, labels, {"prior": PRIOR}, seed=draw).tried
        moved += trial.gain.low <= truth <= trial.gain.high
    assert hold >= 0.9 * draws
    assert helps <= 0.05 * draws
    assert moved >= 0.9 * draws
