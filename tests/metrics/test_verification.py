import json
import math
from dataclasses import astuple

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from bisector.errors import ArgumentError
from bisector.information.amount import information_amounts
from bisector.metrics.geometry import inter_class_separability, intra_class_compactness
from bisector.metrics.pairs import SortedScores, pair_scores
from bisector.metrics.verification import (
    Verification,
    at_far,
    at_threshold,
    equal_error,
    verify,
)
from bisector.posthoc import adjust

# Few distinct values, so that most examples have ties within and across the two kinds.
tied = st.lists(st.integers(-4, 4).map(lambda k: k / 4), min_size=1, max_size=30)
free = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=30)
scores = st.one_of(tied, free)


def of_sklearn(genuine, impostor):
    truth = np.r_[np.ones(len(genuine)), np.zeros(len(impostor))]
    return roc_curve(truth, np.r_[genuine, impostor], drop_intermediate=False)


def both(genuine, impostor):
    return torch.tensor(genuine), torch.tensor(impostor)


def counted(values: torch.Tensor) -> SortedScores:
    return SortedScores(*torch.unique(values, return_counts=True))


@given(scores, scores)
def test_the_equal_error_rate_is_the_usual_recipe_on_sklearns_curve(genuine, impostor):
    far, tar, _ = of_sklearn(np.float32(genuine), np.float32(impostor))
    curve = interp1d(far, tar)
    expected = brentq(lambda f: 1 - f - curve(f), 0.0, 1.0) if far[1:].any() else math.nan
    found = equal_error(*both(genuine, impostor)).rate
    vertical = np.isclose(far, expected).sum() > 1  # where the curve rises straight up, brentq has to guess
    assert found == pytest.approx(expected, abs=1e-9) or vertical
    assert 0 <= found <= 1


@given(scores, scores)
def test_at_its_threshold_the_two_errors_differ_least(genuine, impostor):
    same, other = both(genuine, impostor)
    chosen = equal_error(same, other).threshold
    thresholds = of_sklearn(same.numpy(), other.numpy())[2]

    def gap(threshold):
        point = at_threshold(same, other, threshold)
        return abs(point.far - (1 - point.tar))

    assert gap(chosen) == pytest.approx(min(map(gap, thresholds.tolist())))


@example([0.0], [0.0, 0.0], 0.5)
@example([1.0], [1.0, 1.0], 0.5)
@given(scores, scores, st.one_of(st.sampled_from([0.01, 0.1, 0.29, 1 / 3, 0.5, 1.0]), st.floats(0.001, 1)))
def test_the_accept_rate_is_the_best_of_all_allowed_thresholds(genuine, impostor, wanted):
    far, tar, thresholds = of_sklearn(np.float32(genuine), np.float32(impostor))
    found = at_far(*both(genuine, impostor), wanted)
    if not any(k / len(impostor) <= wanted for k in range(1, len(impostor) + 1)):  # fewer than 1 / far pairs
        assert all(map(math.isnan, astuple(found)))
        return
    allowed = far <= wanted
    assert found.tar == tar[allowed].max()
    assert found.far == far[allowed].max()
    # No smaller score would do, and what it accepts is what it says.
    assert all(far[thresholds < found.threshold] > wanted)
    assert np.mean(np.float32(impostor) >= found.threshold) == found.far
    assert np.mean(np.float32(genuine) >= found.threshold) == found.tar


@given(tied, tied, st.floats(0.01, 1))
def test_counted_scores_are_the_same_scores(genuine, impostor, wanted):
    plain = both(genuine, impostor)
    compact = tuple(map(counted, plain))
    assert equal_error(*plain) == equal_error(*compact)
    assert str(at_far(*plain, wanted)) == str(at_far(*compact, wanted))  # NaN is itself as a word


@given(free, st.floats(-1.1, 1.1))
def test_a_threshold_that_float32_does_not_hold_accepts_what_is_not_below_it(genuine, threshold):
    point = at_threshold(torch.tensor(genuine), torch.zeros(1), threshold)
    assert point.tar == np.mean(np.float64(np.float32(genuine)) >= threshold)


def test_too_few_pairs_give_nan_and_not_a_number():
    same, none = torch.tensor([0.9]), torch.empty(0)
    assert math.isnan(at_far(same, torch.rand(999), far=1e-3).tar)
    assert at_far(same, torch.rand(1000) / 2, far=1e-3).tar == 1
    assert math.isnan(at_far(none, torch.rand(10), far=0.1).tar)
    assert math.isnan(equal_error(none, torch.rand(10)).rate)
    assert math.isnan(at_far(same, none, far=1.0).threshold)


def test_with_every_genuine_pair_below_the_impostors_the_threshold_accepts_none_of_either():
    point = at_far(torch.tensor([0.1, 0.2]), torch.tensor([0.8, 0.8]), far=0.5)
    assert point.far == point.tar == 0
    assert point.threshold > 0.8


@pytest.fixture(scope="module")
def faces() -> tuple[torch.Tensor, torch.Tensor]:
    """Twenty clusters of unequal size, and two classes of one embedding."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.arange(20).repeat_interleave(torch.arange(2, 22)), torch.tensor([40, 41])])
    centers = torch.randn(42, 16, generator=generator)
    return centers[labels] + 0.9 * torch.randn(len(labels), 16, generator=generator), labels


def test_the_whole_is_what_sklearn_finds_on_all_pairs(faces):
    x, labels = faces
    same, other = (scores.values.numpy() for scores in pair_scores(x, labels))
    far, tar, _ = of_sklearn(same, other)
    found = verify(x, labels)
    assert (found.embeddings, found.classes) == (len(x), 22)
    assert (found.genuine_pairs, found.impostor_pairs) == (len(same), len(other))
    assert found.resolution == 0
    assert found.tar == {wanted: tar[far <= wanted].max() for wanted in (1e-2, 1e-3, 1e-4)}
    for wanted, threshold in found.thresholds.items():
        assert np.mean(other >= threshold) <= wanted
        assert np.mean(same >= threshold) == found.tar[wanted]
    # Every point that is drawn lies on the curve, in order, and its end is the curve's.
    points = set(zip(far.tolist(), tar.tolist(), strict=True))
    drawn = list(zip(found.curve_far, found.curve_tar, strict=True))
    assert drawn[-1] == (1, 1)
    assert drawn == sorted(drawn)
    assert len(drawn) <= 400
    for point in drawn:
        best = max(t for f, t in points if f == point[0])
        assert point[1] == best


def test_beyond_the_limit_the_cosines_are_counted_and_hardly_anything_moves(faces):
    x, labels = faces
    exact, rounded = verify(x, labels), verify(x, labels, exact_pairs=10)
    assert rounded.resolution == 2**-20
    assert rounded.eer == pytest.approx(exact.eer, abs=2e-3)
    for far, tar in exact.tar.items():
        assert rounded.tar[far] == pytest.approx(tar, abs=2e-3)
        assert rounded.thresholds[far] == pytest.approx(exact.thresholds[far], abs=1e-2)
    assert rounded.genuine_pairs == exact.genuine_pairs


def test_the_same_pairs_in_another_order_or_scale_give_the_same_numbers(faces):
    x, labels = faces
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    first, second = verify(x, labels), verify(x[order] * 8, 1000 - labels[order])
    assert first.tar == pytest.approx(second.tar, abs=1e-12)
    assert first.eer == pytest.approx(second.eer, abs=1e-12)


def test_a_threshold_from_other_classes_is_carried_over(faces):
    x, labels = faces
    seen, unseen = labels < 12, labels >= 12
    chosen = verify(x[seen], labels[seen], fars=[1e-2, 1e-6])
    assert math.isnan(chosen.thresholds[1e-6])
    found = verify(x[unseen], labels[unseen], fars=[1e-2], thresholds=chosen.thresholds)
    assert set(found.carried) == {1e-2}
    point = found.carried[1e-2]
    same, other = pair_scores(x[unseen], labels[unseen])
    assert point.threshold == chosen.thresholds[1e-2]
    assert point.far == np.mean(other.values.numpy() >= point.threshold)
    assert point.tar == np.mean(same.values.numpy() >= point.threshold)


def test_it_survives_json(faces):
    x, labels = faces
    for found in (
        verify(x, labels, thresholds={1e-2: 0.4}),
        verify(x[:1], labels[:1], thresholds={1e-3: 0.5}),
        verify(x[:0], labels[:0]),
    ):
        text = json.dumps(found.to_dict(), allow_nan=False)
        assert repr(Verification.from_dict(json.loads(text))) == repr(found)  # NaN is itself as a word


def test_nothing_to_compare_is_nan():
    found = verify(torch.ones(1, 2), torch.tensor([3]))
    assert math.isnan(found.eer)
    assert all(math.isnan(tar) for tar in found.tar.values())
    assert found.curve_far == []


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: at_far(torch.ones(1), torch.ones(1), far=0), "far: got 0"),
        (lambda: verify(torch.ones(2, 2), torch.arange(2), fars=[2.0]), "fars: got 2.0"),
        (lambda: equal_error(torch.tensor([torch.nan]), torch.ones(1)), "genuine: got NaN"),
        (lambda: equal_error(torch.ones(1), torch.ones(1).long()), "impostor: got torch.int64"),
        (lambda: equal_error([0.5], torch.ones(1)), "genuine: got list; expected a tensor"),
    ],
)
def test_mistakes_are_named(call, told):
    with pytest.raises(ArgumentError, match=told):
        call()


DRAW = torch.Generator().manual_seed(0)
POINTS, KINDS = torch.randn(60, 8, generator=DRAW), torch.arange(60) % 4
ON_ANY_DEVICE = {
    "verify": lambda: verify(POINTS, KINDS),
    "geometry": lambda: [m(POINTS, KINDS) for m in (intra_class_compactness, inter_class_separability)],
    "amounts": lambda: information_amounts(POINTS, KINDS, 4, equal_count=9, generator=DRAW.manual_seed(1)),
    "fitted": lambda: adjust(POINTS[:, :4], KINDS, method="fitted"),
    "prior": lambda: adjust(POINTS[:, :4], method="prior", class_counts=[1, 2, 3, 4]),
}


@pytest.mark.parametrize("name", ON_ANY_DEVICE)
def test_the_default_device_does_not_count(name):
    expected = repr(ON_ANY_DEVICE[name]())
    with torch.device("meta"):
        found = ON_ANY_DEVICE[name]()
    assert repr(found) == expected
