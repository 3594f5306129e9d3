"""Trials: what adjustments gain on rows that they were not fitted on, with intervals."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from bisector.checks import require_classes
from bisector.errors import ArgumentError, require
from bisector.metrics.groups import balanced_accuracy
from bisector.posthoc.adjustment import BaseAdjustment, Kind, logits_of
from bisector.posthoc.fit import cross_validated_folds
from bisector.statistics.bootstrap import Estimate, bootstrap_intervals

Candidate: TypeAlias = "BaseAdjustment | Callable[..., BaseAdjustment]"
"""An adjustment that has not seen the rows, or how one is fitted on logits (N, C), labels (N,) and `embeddings`."""

_LEVEL = 0.95
_FEW_ROWS = 100  # on which a gain of some points in accuracy can hardly be told from none


@dataclass(frozen=True)
class Trial:
    """What one adjustment does on rows that it was not fitted on.

    Args:
        name: of the adjustment.
        balanced_accuracy: after it, 0 to 1.
        accuracy: after it, 0 to 1.
        gain: of balanced accuracy, -1 to 1, with its interval.
        accuracy_gain: the same of accuracy.
    """

    name: str
    balanced_accuracy: float
    accuracy: float
    gain: Estimate
    accuracy_gain: Estimate

    @property
    def helps(self) -> bool:
        """Whether the interval of the gain lies above 0."""
        return self.gain.low > 0

    @property
    def harms(self) -> bool:
        """Whether the interval of the gain lies below 0."""
        return self.gain.high < 0


@dataclass(frozen=True)
class Trials:
    """Adjustments that were tried on the same rows.

    Args:
        on: the rows, in words; empty where nothing could be tried.
        rows: how many.
        balanced_accuracy: of the scores as they are, 0 to 1.
        accuracy: the same.
        tried: what each adjustment does.
        not_tried: why others were not, a line each.
    """

    on: str = ""
    rows: int = 0
    balanced_accuracy: float = math.nan
    accuracy: float = math.nan
    tried: tuple[Trial, ...] = ()
    not_tried: tuple[str, ...] = ()

    @property
    def few(self) -> str:
        """What must be said where none helps, but the rows are too few to see it; else empty."""
        if self.rows >= _FEW_ROWS or self.best is not None or not self.tried:
            return ""
        return (
            f"{self.rows} rows are too few to see a gain of some points in accuracy. `bisector adjust` goes by the "
            "log-loss, which needs fewer, and shows what it does to the rows of test."
        )

    @property
    def best(self) -> Trial | None:
        """Of the adjustments that help, the one that gains most; None where none helps."""
        helping = [trial for trial in self.tried if trial.helps]
        return max(helping, key=lambda trial: trial.gain.value) if helping else None


def try_adjustments(
    scores: Tensor,  # (N, C)
    labels: Tensor,  # (N,)
    candidates: Mapping[str, Candidate],
    embeddings: Tensor | None = None,  # (N, D)
    *,
    kind: Kind = "logits",
    on: str = "rows",
    folds: int = 5,
    seed: int = 0,
) -> Trials:
    """Try adjustments on labelled rows, so that none is judged by rows it was fitted on.

    What is fitted is cross-validated: each fold of the rows is adjusted by a fit on all others, its penalty
    included. What was found without these rows is applied as it is. One that cannot be found is not tried, and
    `Trials.not_tried` says why.

    Args:
        scores: (N, C) of rows that the model was not trained on.
        labels: (N,) their classes.
        candidates: by name.
        embeddings: of the rows, where there are any; those that are fitted are then given them.
        kind: what the scores are: "logits" or "probabilities".
        on: what the rows are called.
        folds: of the cross-validation, which splits every class evenly.
        seed: of the folds and of the bootstrap.

    Raises:
        ArgumentError: an argument is not as described.

    >>> from bisector.posthoc import Adjustment
    >>> scores, labels = torch.tensor([[2.0, 1.5], [3.0, 0.0]]).repeat(10, 1), torch.tensor([1, 0]).repeat(10)
    >>> found = try_adjustments(scores, labels, {"by hand": Adjustment(torch.tensor([0.0, 1.0]))})
    >>> found.balanced_accuracy, found.best.gain.value
    (0.5, 0.5)
    """
    logits = logits_of("scores", scores, kind).cpu()
    require_classes("labels", labels, logits.shape[1], rows=len(logits))
    require(len(labels) > 0, "scores", "no row", "labelled scores")
    labels = labels.cpu().long()
    predictions, failed = {}, []
    for name, candidate in candidates.items():
        try:
            if isinstance(candidate, BaseAdjustment):
                predictions[name] = candidate.adjusted_logits(logits.double(), embeddings).argmax(1)
                continue
            after = torch.empty_like(labels)  # not the logits, which are many times as large
            given = cross_validated_folds(logits, labels, candidate, embeddings, folds=folds, seed=seed)
            for out, found in given:
                after[out] = found.argmax(1)
            predictions[name] = after
        except ArgumentError as error:
            failed.append(f"{name}: {error}")
    compared = compare_predictions(logits.argmax(1), predictions, labels, logits.shape[1], on=on, seed=seed)
    return replace(compared, not_tried=tuple(failed))


def compare_predictions(
    before: Tensor,  # (N,)
    after: Mapping[str, Tensor],  # (N,)
    labels: Tensor,  # (N,)
    num_classes: int,
    *,
    on: str = "rows",
    seed: int = 0,
) -> Trials:
    r"""What predictions gain over others of the same rows, with intervals that hold together.

    With :math:`d_n` = 1 where only the prediction after is right, -1 where only the one before is, else 0, the gain
    of accuracy is the mean of d, and that of balanced accuracy the mean over the classes of their means. The
    intervals are BCa over rows drawn again (`bisector.statistics.bootstrap`), each at a level of 1 - 0.05 / k for k
    adjustments (Bonferroni): that *all* of them hold the truth is then the case in 95 of 100 data sets, so the best
    of several is not taken for more than it is. Fits are not repeated in the resamples. No interval below 9 rows.

    Args:
        before: (N,) predictions.
        after: (N,) predictions, by the name of what changed them.
        labels: (N,) classes.
        num_classes: C; classes without a row do not count.
        on: what the rows are called.
        seed: of the bootstrap.
    """
    names = list(after)
    rows = len(labels)
    shares = {
        name: (balanced_accuracy(one, labels, num_classes).item(), (one == labels).double().mean().item())
        for name, one in {"": before, **after}.items()
    }
    gains = _gains(before, list(after.values()), labels, seed) if names else []
    tried = tuple(Trial(name, *shares[name], gains[k], gains[len(names) + k]) for k, name in enumerate(names))
    return Trials(f"{rows:,} {on}", rows, *shares[""], tried)


def _gains(before: Tensor, after: Sequence[Tensor], labels: Tensor, seed: int) -> list[Estimate]:
    """Those of balanced accuracy, then those of accuracy."""
    right = (before == labels).double()
    difference = torch.stack([(one == labels).double() - right for one in after])  # (k, N)
    present = torch.bincount(labels) > 0
    of = (present.cumsum(0) - 1)[labels]

    def gains(weights: Tensor) -> Tensor:  # (R, N) -> (R, 2 k)
        sums = weights.new_zeros(len(weights), int(present.sum()))
        drawn = sums.index_add(1, of, weights)
        # The mean of a class that is not drawn is NaN, and does not count.
        balanced = [(sums.index_add(1, of, weights * one) / drawn).nanmean(1) for one in difference]
        return torch.cat([torch.stack(balanced, 1), weights @ difference.T / weights.sum(1, keepdim=True)], 1)

    return bootstrap_intervals(gains, len(labels), level=1 - (1 - _LEVEL) / len(after), seed=seed)
