"""From detections to scores."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bisector.data.boxes import BoxSet
from bisector.detection.evaluation.coco_eval import average_precision
from bisector.detection.evaluation.detections import Detections, require_detections
from bisector.detection.evaluation.frequency import (
    BOX_GROUPS,
    FREQUENCIES,
    box_groups,
    class_bias,
    frequencies,
    group_means,
)
from bisector.detection.evaluation.scores import BoxScores
from bisector.errors import require
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
        r_count=torch.nan if train_counts is None else float(pearson(_log(train_counts), class_ap)),
        images=len(truth.pictures),
        detections=sum(map(len, detections)),
        train_counts=None if train_counts is None else tuple(map(int, train_counts.tolist())),
        class_frequency=frequency,
        notes=tuple(_notes(truth, train_counts, train_image_counts)),
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
    amounts = torch.tensor(scores.class_amounts or [torch.nan] * len(scores.class_ap), dtype=torch.float64)
    amounts, class_ap, log_count = _columns(scores, amounts)
    if scores.class_amounts is None:
        nothing = torch.zeros_like(class_ap)  # a column without variance holds nothing fixed
        return {"log count": relate(log_count, class_ap, nothing, resamples=resamples, seed=seed)}
    return {
        "amount": relate(amounts, class_ap, log_count, resamples=resamples, seed=seed),
        "log count": relate(log_count, class_ap, amounts, resamples=resamples, seed=seed),
    }


def _columns(scores: BoxScores, amounts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Amount, AP and log count of every class, float64."""
    class_ap = torch.tensor(scores.class_ap, dtype=torch.float64)
    require(
        amounts.shape == class_ap.shape, "amounts", f"shape {tuple(amounts.shape)}", f"({len(class_ap)},)"
    )
    amounts = amounts.detach().cpu().double()
    log_count = torch.full_like(class_ap, torch.nan)
    if scores.train_counts is not None:
        log_count = _log(torch.tensor(scores.train_counts))
    return amounts.where(amounts.isfinite(), torch.nan), class_ap, log_count


def _log(counts: Tensor) -> Tensor:
    """NaN for a class that was not there: its log is not finite, and it takes no part."""
    return counts.detach().cpu().double().where(counts.cpu() > 0, torch.nan).log()


def _notes(truth: BoxSet, train_counts: Tensor | None, train_image_counts: Tensor | None) -> list[str]:
    notes = []
    empty = int((truth.counts == 0).sum())
    if empty:
        verb = "has" if empty == 1 else "have"
        notes.append(f"{empty} of {len(truth.class_names)} classes {verb} no box to be found and no AP")
    counts = train_image_counts if train_counts is None else train_counts
    unseen = 0 if counts is None else int((counts == 0).sum())
    if unseen:
        subject = "class was" if unseen == 1 else "classes were"
        notes.append(
            f"{unseen} {subject} not in training; groups by training counts have them with the rarest"
        )
    return notes
