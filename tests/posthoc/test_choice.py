"""The best of several adjustments: which wins where, and that none does where there is nothing to gain."""

import pytest
import torch
from torch import Tensor

from bisector.errors import ArgumentError
from bisector.posthoc import Adjustment, GeometryAdjustment, adjust

C, D = 4, 6


def wide_and_narrow(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of a linear layer over classes of different width about near means."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % C
    wide = torch.tensor([0.3, 0.6, 1.2, 2.4], dtype=torch.float64)
    x = torch.eye(C, D)[labels] + wide[labels, None] * torch.randn(n, D, generator=draw, dtype=torch.float64)
    return 4 * x[:, :C], labels, x


def of_a_prior(n: int, seed: int, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits that hold the training prior, and embeddings that are noise."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % C
    logits = torch.randn(n, C, generator=draw) + torch.nn.functional.one_hot(labels, C) * 1.0 + counts.log()
    return logits, labels, torch.randn(n, D, generator=draw)


def balanced(predicted: Tensor, labels: Tensor) -> float:
    return float((predicted == labels).double().mean())  # every class has as many rows


def test_geometry_wins_where_widths_differ() -> None:
    scores, labels, x = wide_and_narrow(400, 0)
    found = adjust(scores, labels, method="auto", embeddings=x, class_counts=[100] * C)
    assert isinstance(found, GeometryAdjustment)
    assert found.method == "geometry"
    assert found.description.startswith("chosen among 3; balanced log-loss gained on 400 rows")
    assert all(f"{name} " in found.description for name in ("prior", "fitted", "geometry"))
    new, truth, z = wide_and_narrow(2000, 1)
    assert balanced(found.predict(new, z), truth) > balanced(new.argmax(1), truth) + 0.1


def test_offsets_win_where_the_prior_is_all_there_is() -> None:
    counts = torch.tensor([1000.0, 100.0, 30.0, 10.0])
    scores, labels, x = of_a_prior(400, 0, counts)
    found = adjust(scores, labels, method="auto", embeddings=x, class_counts=counts)
    new, truth, z = of_a_prior(2000, 1, counts)
    assert balanced(found.predict(new, z), truth) > balanced(new.argmax(1), truth) + 0.1
    bare = adjust(scores, labels, method="auto", class_counts=counts)
    assert isinstance(bare, Adjustment)
    assert balanced(bare.predict(new), truth) > balanced(new.argmax(1), truth) + 0.1
    assert "geometry" not in bare.description


def test_nothing_is_done_where_nothing_is_gained() -> None:
    even = torch.ones(C)
    kept = 0
    for seed in range(10):
        scores, labels, x = of_a_prior(200, seed, even)
        found = adjust(scores, labels, method="auto", embeddings=x, class_counts=[10, 20, 30, 40], seed=seed)
        same = torch.equal(found.predict(scores, x), scores.argmax(1))
        kept += same and found.description.startswith("no change")
    assert kept >= 8


def test_probabilities_stay_probabilities_and_names_are_kept() -> None:
    scores, labels, x = wide_and_narrow(200, 0)
    names = ["a", "b", "c", "d"]
    found = adjust(
        scores.softmax(1), labels, method="auto", embeddings=x, kind="probabilities", class_names=names
    )
    assert found.class_names == tuple(names)
    after = found.apply(scores.softmax(1), x)
    torch.testing.assert_close(after.sum(1), torch.ones(200, dtype=torch.float64))


@pytest.mark.parametrize("method", ["geometry", "nearest-mean", "lda", "tau-norm", "refit"])
def test_what_needs_embeddings_says_so(method: str) -> None:
    scores, labels, _ = wide_and_narrow(100, 0)
    with pytest.raises(
        ArgumentError, match=f"embeddings: got None; expected those of the rows, for method '{method}'"
    ):
        adjust(scores, labels, method=method)  # type: ignore[call-overload]


def test_training_rows_make_the_geometry() -> None:
    scores, labels, x = wide_and_narrow(400, 0)
    train = wide_and_narrow(4000, 3)
    found = adjust(
        scores, labels, method="geometry", embeddings=x, train=(train[2], train[1]), moments="train"
    )
    assert found.geometry.counts.tolist() == [1000] * C
    both = adjust(scores, labels, method="geometry", embeddings=x, train=(train[2], train[1]), moments="both")
    assert both.geometry.counts.tolist() == [1100] * C
    assert adjust(scores, labels, method="lda", embeddings=x).weight.shape == (C, D)


@pytest.mark.parametrize("seed", range(3))
def test_scores_with_zeros_are_not_given_up_for_embeddings_that_are_noise(seed: int) -> None:
    """Zero probabilities make a log-loss that anything flat beats; balanced accuracy tells."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(400) % C
    votes = torch.randn(400, C, generator=draw) + 1.5 * torch.nn.functional.one_hot(labels, C)
    scores = votes.softmax(1).where(torch.rand(400, C, generator=draw) > 0.1, 0.0)
    scores = scores / scores.sum(1, keepdim=True).clamp_min(1e-9)
    scores = scores.where(scores.sum(1, keepdim=True) > 0, 1 / C).double()
    noise = torch.randn(400, D, generator=draw)
    found = adjust(scores[:200], labels[:200], method="auto", embeddings=noise[:200], kind="probabilities")
    before, after = scores[200:].argmax(1), found.predict(scores[200:], noise[200:])
    assert balanced(after, labels[200:]) > balanced(before, labels[200:]) - 0.05


def test_rows_of_one_class_and_gains_of_nothing_change_nothing() -> None:
    draw = torch.Generator().manual_seed(0)
    scores, x = torch.randn(60, C, generator=draw), torch.randn(60, D, generator=draw)
    found = adjust(scores, torch.zeros(60, dtype=torch.long), method="auto", embeddings=x)
    assert found.method == "none"
    labels = torch.arange(60) % C
    perfect = 20 * torch.nn.functional.one_hot(labels, C) + 0.1 * scores
    assert adjust(perfect, labels, method="auto", embeddings=x).method == "none"


def test_a_class_without_rows_is_still_chosen_and_what_cannot_be_fitted_is_named() -> None:
    scores, labels, x = wide_and_narrow(400, 0)
    train = wide_and_narrow(2000, 3)
    few = labels != 3
    found = adjust(scores[few], labels[few], method="auto", embeddings=x[few], train=(train[2], train[1]))
    assert found.layer is None  # which would never choose the class
    new, truth, z = wide_and_narrow(2000, 1)
    assert float((found.predict(new, z)[truth == 3] == 3).double().mean()) > 0.5
    same = adjust(scores, labels, method="auto", embeddings=torch.ones_like(x))
    assert "geometry cannot be fitted (embeddings: got equal rows" in same.description
