import math

import pytest
import torch

import bisector as bs
from bisector.errors import ArgumentError
from bisector.guides.amount import normalized_amount
from bisector.guides.pairwise import pairwise_guide
from bisector.metrics.groups import balanced_accuracy, class_accuracy
from posthoc_cases import COUNTS, posterior_scores


def balanced(adjustment, scores, labels):
    return float(balanced_accuracy(adjustment.predict(scores), labels, 4))


def test_the_prior_gives_the_bayes_decisions_of_equal_classes():
    scores, labels = posterior_scores(4000, seed=0)
    adjustment = bs.posthoc.adjust(scores[:1], method="prior", class_counts=COUNTS)
    without_prior = (scores - (COUNTS / COUNTS.sum()).double().log()).argmax(1)  # the likelihood alone
    assert torch.equal(adjustment.predict(scores), without_prior)
    before = float(balanced_accuracy(scores.argmax(1), labels, 4))
    assert balanced(adjustment, scores, labels) > before + 0.1


@pytest.mark.parametrize("temperature", [0.25, 1.0, 6.0])
def test_a_fitted_tau_undoes_the_prior_of_overconfident_scores_too(temperature):
    scores, labels = posterior_scores(2000, seed=1, temperature=temperature)
    found = bs.posthoc.adjust(scores, labels, method="prior", class_counts=COUNTS, tau="fit")
    # The scores are temperature times the posterior, which holds the prior once.
    assert found.temperature == pytest.approx(temperature, rel=0.15)
    assert found.settings["tau"] == pytest.approx(1, abs=0.15)
    fresh, classes = posterior_scores(4000, seed=2, temperature=temperature)
    known = bs.posthoc.adjust(fresh, method="prior", class_counts=COUNTS, tau=1.0)
    ideal = balanced(known, fresh / temperature, classes)
    assert balanced(found, fresh, classes) == pytest.approx(ideal, abs=0.01)


def test_fitted_offsets_find_the_prior_without_being_told_the_counts():
    scores, labels = posterior_scores(2000, seed=3, temperature=2.0)
    found = bs.posthoc.adjust(scores, labels, method="fitted")
    prior = -(COUNTS / COUNTS.sum()).double().log()
    assert (found.offsets - found.offsets.mean() - prior + prior.mean()).abs().max() < 0.5
    fresh, classes = posterior_scores(4000, seed=4, temperature=2.0)
    known = bs.posthoc.adjust(fresh, method="prior", class_counts=COUNTS, tau=2.0)
    assert balanced(found, fresh, classes) == pytest.approx(balanced(known, fresh, classes), abs=0.015)


def test_where_nothing_is_wrong_fitted_offsets_stay_small():
    scores, labels = posterior_scores(400, seed=5)
    even = scores - (COUNTS / COUNTS.sum()).double().log()
    found = bs.posthoc.adjust(even, labels, method="fitted")
    assert found.offsets.abs().max() < 0.3


def test_the_offsets_of_amounts_move_each_pair_by_the_margin_of_the_head():
    amounts = torch.tensor([10.0, 40.0, 25.0, float("nan")])
    head = bs.IGAM(8, 4, information=None)
    head.set_amounts(amounts)
    assert head.guide is not None
    margins = head.guide.matrix()
    found = bs.posthoc.adjust(torch.zeros(1, 4), method="amount", amounts=amounts, strength=30.0)
    shifts = found.offsets[:, None] - found.offsets  # [i, j]: by how much i is favoured over j
    assert torch.allclose(shifts.clamp_min(0), 30 * margins)
    # The amount that is not known counts as the mean of the others, 25 bits.
    assert found.offsets[3] == pytest.approx(float(found.offsets[2]))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_fitted_strength_tells_which_way_the_amounts_point(sign):
    # Scores off by exactly a multiple of the guide, one way or the other.
    amounts = torch.tensor([10.0, 60.0, 30.0, 20.0])
    guide = pairwise_guide(normalized_amount(amounts, "ratio"), gain=3.0).r
    scores, labels = posterior_scores(4000, seed=6)
    scores = scores - (COUNTS / COUNTS.sum()).double().log() - sign * 2.0 * guide
    found = bs.posthoc.adjust(scores, labels, method="amount", amounts=amounts)
    assert found.settings["strength"] == pytest.approx(2 * sign, abs=0.3)
    assert found.temperature == pytest.approx(1, abs=0.1)
    assert float(class_accuracy(found.predict(scores), labels, 4).min()) > 0.6


def test_probabilities_are_adjusted_as_their_logits_are():
    scores, labels = posterior_scores(600, seed=7)
    shares = scores.softmax(1)
    for options in (
        {"method": "prior", "class_counts": COUNTS},
        {"method": "prior", "class_counts": COUNTS, "tau": "fit"},
        {"method": "fitted", "penalty": 0.1},
        {"method": "amount", "amounts": [3.0, 4.0, 5.0, 6.0]},
    ):
        first = bs.posthoc.adjust(scores, labels, **options)
        second = bs.posthoc.adjust(shares, labels, kind="probabilities", **options)
        assert torch.allclose(first.offsets, second.offsets, atol=1e-4)
        assert torch.equal(first.predict(scores), second.predict(shares))


def test_a_class_without_training_instances_counts_as_the_rarest():
    found = bs.posthoc.adjust(torch.zeros(1, 3), class_counts=[90, 10, 0])
    assert found.offsets[2] == found.offsets[1]
    assert found.offsets.isfinite().all()


def test_names_and_settings_stay_with_it():
    found = bs.posthoc.adjust(torch.zeros(1, 2), class_counts=[3, 1], tau=0.5, class_names=["a", "b"])
    assert (found.class_names, found.settings, found.method) == (("a", "b"), {"tau": 0.5}, "prior")
    assert found.offsets.tolist() == pytest.approx([-0.5 * math.log(0.75), -0.5 * math.log(0.25)])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"method": "priors"}, "method: got 'priors'; did you mean 'prior'"),
        ({"method": "prior"}, "class_counts: got None"),
        (
            {"method": "prior", "class_counts": [1, 2]},
            "class_counts: got 2 classes; expected the 3 of the scores",
        ),
        ({"method": "prior", "class_counts": [1, -2, 3]}, "class_counts: got -2.0 for class 1"),
        ({"method": "prior", "class_counts": [1, math.nan, 3]}, "class_counts: got nan for class 1"),
        ({"method": "prior", "class_counts": [0, 0, 0]}, "class_counts: got 0 for every class"),
        ({"method": "prior", "class_counts": "many"}, "class_counts: got 'many'"),
        ({"method": "prior", "class_counts": [[1], [2, 3]]}, r"class_counts: got \[\[1\], \[2, 3\]\]"),
        ({"method": "prior", "class_counts": [10**400, 2, 3]}, "class_counts: got"),
        ({"method": "fitted", "labels": [[0], [1, 2]]}, "labels: got"),
        ({"method": "fitted", "labels": [0, 1], "seed": -1}, "seed: got -1"),
        ({"method": "prior", "class_counts": [1, 2, 3], "tau": -1}, "tau: got -1"),
        (
            {"method": "prior", "class_counts": [1, 2, 3], "tau": "fit"},
            "labels: got None; expected the classes of the",
        ),
        ({"method": "amount"}, "amounts: got None"),
        ({"method": "amount", "amounts": [1.0, 2.0, 3.0]}, "labels: got None"),
        ({"method": "amount", "amounts": [1.0, 2.0, 3.0], "strength": "big"}, "strength: got 'big'"),
        ({"method": "fitted"}, "labels: got None"),
        ({"method": "fitted", "labels": [0, 3]}, "labels: got 3 at position 1; expected 0 to 2"),
        ({"method": "fitted", "labels": [0]}, r"labels: got shape \(1,\); expected \(2,\)"),
        ({"method": "fitted", "labels": [0, 1], "penalty": -1}, "penalty: got -1"),
        ({"method": "fitted", "labels": [0, 1], "penalty": "auto"}, "penalty: got 'auto'"),
    ],
)
def test_complaints_name_the_argument(options, told):
    with pytest.raises(ArgumentError, match=told):
        bs.posthoc.adjust(torch.zeros(2, 3), **options)
