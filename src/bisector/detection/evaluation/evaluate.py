"""From detections, and from the classes of given boxes, to scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bisector.data.boxes import BoxSet
from bisector.detection.evaluation.coco_eval import average_precision
from bisector.detection.evaluation.detections import Detections, require_detections
from bisector.detection.evaluation.scores import (
    BOX_GROUPS,
    FREQUENCIES,
    BoxScores,
    box_groups,
    class_bias,
    frequencies,
    group_means,
)
from bisector.errors import require
from bisector.metrics.groups import class_accuracy
from bisector.statistics.correlation import partial_correlation, pearson
from bisector.statistics.relation import Relation, relate


def evaluate_boxes(
    truth: BoxSet,
    detections: Sequence[Detections],
    *,
    train_counts: Tensor | None = None,  # (C,)
    train_image_counts: Tensor | None = None,  # (C,)
    amounts: Tensor | None = None,  # (C,)
) -> BoxScores:
    """Score detections by COCO's rule, or LVIS's where `truth` is of that style; see `average_precision`.

    A class without a box to be found has no AP and counts in no mean; one with boxes of which none was found has 0.
    Means over classes weigh every class the same. The bias is the population variance of the classes' AP in
    percentage points squared, as Ma et al. (ICLR 2025) give it, and NaN where only one has an AP. Rare, common and
    frequent are as the file of `truth` says, else by `train_image_counts`. Of an image that is not among the
    detections nothing was found.

    Args:
        truth: the images and the boxes in them.
        detections: of its images, each image once.
        train_counts: training boxes of each class.
        train_image_counts: training images that show each class.
        amounts: information amounts in bits, NaN where unknown.

    Raises:
        ArgumentError: if an image, a label or the number of classes does not fit `truth`.
        MissingExtraError: without faster-coco-eval.

    >>> from bisector.data.boxes import Picture
    >>> there = torch.tensor([[10.0, 20.0, 30.0, 60.0], [0.0, 0.0, 50.0, 50.0]])
    >>> truth = BoxSet([Picture.of(7, "a.jpg", 64, 64, there, torch.tensor([2, 1]))], ["cat", "dog"], name="pets")
    >>> found = Detections(7, there[:1], torch.tensor([2]), torch.tensor([0.9]))
    >>> scores = evaluate_boxes(truth, [found])
    >>> scores.class_ap, scores.ap, scores.bias
    ((0.0, 1.0), 0.5, 2500.0)
    """
    classes = len(truth.class_names)
    for name, counts in (("train_counts", train_counts), ("train_image_counts", train_image_counts)):
        if counts is not None:
            require(counts.shape == (classes,), name, f"shape {tuple(counts.shape)}", f"shape ({classes},)")
            require(bool((counts >= 0).all()), name, counts.min().item(), "no count below 0")
    require_detections(truth, detections)
    found = average_precision(truth, detections)
    by_threshold = found.by_threshold.clamp(0, 1)  # a mean of ones may round to more
    class_ap, class_ap50 = by_threshold.mean(dim=0), by_threshold[0]
    frequency = frequencies(truth.frequency, train_image_counts)
    by_frequency = group_means(class_ap, frequency, FREQUENCIES)
    small, medium, large = (float(row.nanmean()) for row in found.by_size)
    scores = BoxScores(
        ap=float(class_ap.nanmean()),
        ap50=float(class_ap50.nanmean()),
        ap75=float(by_threshold[5].nanmean()),
        ap_small=small,
        ap_medium=medium,
        ap_large=large,
        ap_by_frequency=by_frequency,
        ap_by_group=group_means(class_ap, box_groups(train_counts), BOX_GROUPS),
        class_names=tuple(truth.class_names),
        class_ap=tuple(class_ap.tolist()),
        class_ap50=tuple(class_ap50.tolist()),
        class_boxes=tuple(truth.counts.tolist()),
        bias=class_bias(class_ap),
        bias50=class_bias(class_ap50),
        gap=by_frequency["frequent"] - by_frequency["rare"],
        r_count=math.nan if train_counts is None else float(pearson(_log(train_counts), class_ap)),
        images=len(truth.pictures),
        detections=sum(map(len, detections)),
        train_counts=None if train_counts is None else tuple(map(int, train_counts.tolist())),
        class_frequency=frequency,
        notes=tuple(_notes(truth, train_image_counts if train_counts is None else train_counts)),
    )
    return scores if amounts is None else with_amounts(scores, amounts)


def with_amounts(scores: BoxScores, amounts: Tensor) -> BoxScores:  # (C,)
    """The same scores with the information amounts of the classes and their correlations with AP.

    Args:
        scores: as `evaluate_boxes` gives them.
        amounts: in bits, NaN where unknown.

    Raises:
        ArgumentError: if the amounts are of another number of classes.
    """
    amounts, class_ap, log_count = _columns(scores, amounts)
    return replace(
        scores,
        class_amounts=tuple(amounts.tolist()),
        r_amount=float(pearson(amounts, class_ap)),
        r_amount_given_count=float(partial_correlation(amounts, class_ap, log_count)),
    )


def relate_scores(scores: BoxScores, *, resamples: int = 10_000, seed: int = 0) -> dict[str, Relation]:
    """The correlations of amount and of log count with AP over the classes, with 95% intervals.

    Under "amount", with the log count held fixed in the partial one, where amounts are known; under "log count",
    with the amount held fixed where known. Classes without an AP, training boxes or (where known) amount are left
    out.

    Args:
        scores: with `train_counts`.
        resamples: for the intervals, see `relate`.
        seed: of the resamples.

    Raises:
        ArgumentError: if the training counts are not known.
    """
    known = scores.train_counts is not None
    require(known, "scores", "no train_counts", "scores of evaluate_boxes(..., train_counts=)")
    # A column without variance holds nothing fixed.
    amounts = torch.tensor(scores.class_amounts or [0.0] * len(scores.class_ap), dtype=torch.float64)
    amounts, class_ap, log_count = _columns(scores, amounts)
    found = {"log count": relate(log_count, class_ap, amounts, resamples=resamples, seed=seed)}
    if scores.class_amounts is not None:
        found["amount"] = relate(amounts, class_ap, log_count, resamples=resamples, seed=seed)
    return found


def _columns(scores: BoxScores, amounts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Amount, AP and log count of every class, float64."""
    class_ap = torch.tensor(scores.class_ap, dtype=torch.float64)
    fits = amounts.shape == class_ap.shape
    require(fits, "amounts", f"shape {tuple(amounts.shape)}", f"({len(class_ap)},)")
    amounts = amounts.detach().cpu().double()
    counts = torch.tensor(scores.train_counts or [0] * len(class_ap))
    return amounts.where(amounts.isfinite(), torch.nan), class_ap, _log(counts)


def _log(counts: Tensor) -> Tensor:
    """NaN for a class that was not there: its log is not finite, and it takes no part."""
    return counts.detach().cpu().double().where(counts.cpu() > 0, torch.nan).log()


def _notes(truth: BoxSet, train_counts: Tensor | None) -> list[str]:
    notes = []
    empty = int((truth.counts == 0).sum())
    if empty:
        verb = "has" if empty == 1 else "have"
        notes.append(f"{empty} of {len(truth.class_names)} classes {verb} no box to be found and no AP")
    unseen = 0 if train_counts is None else int((train_counts == 0).sum())
    if unseen:
        were = "class was" if unseen == 1 else "classes were"
        notes.append(f"{unseen} {were} not in training; groups by training counts have them with the rarest")
    return notes


@dataclass(frozen=True)
class BoxAccuracy:
    """How well the classes of given boxes were told apart. Fractions from 0 to 1, NaN where nothing was tested.

    Args:
        accuracy: share of the boxes.
        balanced_accuracy: mean over the classes.
        by_frequency: mean over the rare, the common and the frequent classes.
        bias: population variance of `class_accuracy` in percentage points squared.
        class_accuracy: (C,).
        class_boxes: (C,) boxes of each class.
    """

    accuracy: float
    balanced_accuracy: float
    by_frequency: dict[str, float]
    bias: float
    class_accuracy: tuple[float, ...]
    class_boxes: tuple[int, ...]


def classify_boxes(
    scores: Tensor,  # (n, C)
    labels: Tensor,  # (n,)
    frequency: Sequence[str] | None = None,  # (C,)
) -> BoxAccuracy:
    """Score the classification of ground-truth boxes; a box is of the class with the highest score.

    A detector that finds little has an AP near 0 for every class, which says nothing of how it treats them; given
    the boxes, its classifier can still be compared.

    Args:
        scores: of the classes without the background, column 0 being class 1; only their order counts.
        labels: classes from 1 to C.
        frequency: "rare", "common" or "frequent" for each class, as `frequencies` gives them.

    Raises:
        ArgumentError: if a shape does not fit, a score is NaN or a label is no class.

    >>> found = classify_boxes(torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 2, 2]))
    >>> found.class_accuracy, found.balanced_accuracy
    ((1.0, 0.5), 0.75)
    """
    fits = scores.ndim == 2 and scores.shape[1] > 0
    require(fits, "scores", f"shape {tuple(scores.shape)}", "shape (n, C) with C >= 1")
    broken = scores.isnan().any(dim=1).nonzero()
    if len(broken):
        require(False, "scores", f"NaN in row {int(broken[0])}", "numbers")
    return classify_predicted(scores.argmax(dim=1) + 1, labels, scores.shape[1], frequency)


def classify_predicted(
    predictions: Tensor,  # (n,)
    labels: Tensor,  # (n,)
    num_classes: int,
    frequency: Sequence[str] | None = None,  # (C,)
) -> BoxAccuracy:
    """Score as `classify_boxes`, from the predicted classes (1 to C) alone.

    >>> classify_predicted(torch.tensor([1, 1, 2]), torch.tensor([1, 2, 2]), 2).class_accuracy
    (1.0, 0.5)
    """
    rows = len(predictions)
    fits = labels.shape == (rows,) and not labels.is_floating_point()
    require(fits, "labels", f"shape {tuple(labels.shape)}, {labels.dtype}", f"({rows},), integers")
    wrong = (labels < 1) | (labels > num_classes)
    require(not bool(wrong.any()), "labels", labels[wrong][:1].tolist(), f"1 to {num_classes}")
    fits = frequency is None or len(frequency) == num_classes
    require(fits, "frequency", f"{len(frequency or ())} entries", f"{num_classes}, one a class")
    predictions, labels = predictions.cpu() - 1, labels.cpu() - 1
    by_class = class_accuracy(predictions, labels, num_classes).double()
    return BoxAccuracy(
        accuracy=float((predictions == labels).double().mean()) if rows else math.nan,
        balanced_accuracy=float(by_class.nanmean()),
        by_frequency=group_means(by_class, frequency, FREQUENCIES),
        bias=class_bias(by_class),
        class_accuracy=tuple(by_class.tolist()),
        class_boxes=tuple(torch.bincount(labels, minlength=num_classes).tolist()),
    )
