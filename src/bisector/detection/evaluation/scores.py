"""The scores of one detector on one data set: plain numbers, what they are called, and how classes are grouped."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bisector.data.boxes import frequency_groups
from bisector.metrics.bias import bias
from bisector.metrics.summary import MetricInfo

FREQUENCIES = ("rare", "common", "frequent")
"""LVIS's groups, as its file says, else by training images: up to 10, to 100, more (Gupta et al. 2019)."""

BOX_GROUPS = ("1-19", "20-399", "400-7999", "8000+")
"""COCO-LT's groups, by training boxes (Wang et al. 2020)."""

_WHO = {
    "rare": "shown by up to 10 training images, or that the file calls rare",
    "common": "shown by 11 to 100 training images, or that the file calls common",
    "frequent": "shown by more than 100 training images, or that the file calls frequent",
}


def _ap(key: str, label: str, text: str) -> MetricInfo:
    return MetricInfo(key, label, "%", "higher", text)


def _spread(key: str, label: str, text: str) -> MetricInfo:
    return MetricInfo(key, label, "pp", "lower", f"Standard deviation of {text} over the classes.")


def _correlation(key: str, label: str, text: str) -> MetricInfo:
    return MetricInfo(key, label, "", "", f"Correlation {text}.")


_COUNT = "the logarithm of the number of training boxes"
_OVERLAPS = "the mean over the classes and over ten overlaps from 0.50 to 0.95"

BOX_METRICS: tuple[MetricInfo, ...] = (
    _ap("ap", "AP", f"Average precision, {_OVERLAPS}."),
    _ap("ap50", "AP50", "Average precision where half an overlap is enough."),
    _ap("ap75", "AP75", "Average precision at an overlap of 0.75."),
    _ap("ap_small", "AP small", "AP of boxes below 32 x 32 pixels."),
    _ap("ap_medium", "AP medium", "AP of boxes from 32 x 32 to 96 x 96 pixels."),
    _ap("ap_large", "AP large", "AP of boxes above 96 x 96 pixels."),
    *(_ap(f"ap_{name}", f"AP {name}", f"Mean AP of the classes {who}.") for name, who in _WHO.items()),
    *(
        _ap(f"ap_{name}", f"AP {name} boxes", f"Mean AP of the classes with {name} training boxes.")
        for name in BOX_GROUPS
    ),
    _spread("spread", "Spread", "the AP"),
    _spread("spread50", "Spread of AP50", "the AP50"),
    MetricInfo("gap", "Frequent − rare", "%", "", "AP of the frequent classes less that of the rare."),
    _correlation("r_count", "r(log count, AP)", f"over the classes between {_COUNT} and AP"),
    _correlation("r_amount", "r(amount, AP)", "over the classes between information amount and AP"),
    _correlation(
        "r_amount_given_count",
        "r(amount, AP | count)",
        f"between information amount and AP with {_COUNT} held fixed",
    ),
)
"""What of `BoxScores` is shown in a table, in this order; the keys are those of `BoxScores.values`."""


@dataclass(frozen=True)
class BoxScores:
    """How well boxes were found. Fractions from 0 to 1; NaN what has no meaning, or nothing to be measured on.

    Args:
        ap: mean over the classes and over the overlaps (IoU) 0.50, 0.55 ... 0.95.
        ap50: at an overlap of 0.50.
        ap75: at an overlap of 0.75.
        ap_small: of boxes below 32^2 pixels; `ap_medium` below 96^2, `ap_large` above.
        ap_by_frequency: mean AP of the rare, common and frequent classes.
        ap_by_group: mean AP of COCO-LT's four groups of classes, by training boxes.
        class_names: (C,), as all that follows with one entry a class.
        class_ap: NaN for a class without a box to be found, 0 for one of which none was found.
        class_ap50: the same at an overlap of 0.50.
        class_boxes: boxes to be found.
        bias: population variance of `class_ap` in percentage points squared; `bias50` of `class_ap50`.
        gap: AP of the frequent classes less that of the rare.
        r_count: Pearson's correlation of the logarithm of the training boxes with `class_ap`.
        r_amount: of the information amount with `class_ap`.
        r_amount_given_count: the same with the logarithm of the training boxes held fixed.
        images: looked at.
        detections: in all of them.
        train_counts: training boxes, where known.
        class_frequency: "rare", "common" or "frequent", where known.
        class_amounts: information amounts in bits, where known.
        notes: for people: what to know when reading the numbers.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ap_by_frequency: dict[str, float]
    ap_by_group: dict[str, float]
    class_names: tuple[str, ...]
    class_ap: tuple[float, ...]
    class_ap50: tuple[float, ...]
    class_boxes: tuple[int, ...]
    bias: float
    bias50: float
    gap: float
    r_count: float
    r_amount: float = math.nan
    r_amount_given_count: float = math.nan
    images: int = 0
    detections: int = 0
    train_counts: tuple[int, ...] | None = None
    class_frequency: tuple[str, ...] | None = None
    class_amounts: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def spread(self) -> float:
        """Standard deviation of `class_ap`: the root of the bias, as a fraction."""
        return math.sqrt(self.bias) / 100

    @property
    def spread50(self) -> float:
        """Standard deviation of `class_ap50`."""
        return math.sqrt(self.bias50) / 100

    def values(self) -> dict[str, float]:
        """The numbers of `BOX_METRICS`, by key and in their order."""
        grouped = {f"ap_{name}": ap for name, ap in (self.ap_by_frequency | self.ap_by_group).items()}
        return {
            info.key: grouped[info.key] if info.key in grouped else float(getattr(self, info.key))
            for info in BOX_METRICS
        }


def frequencies(
    letters: Sequence[str] | None,  # (C,)
    train_image_counts: Tensor | None,  # (C,)
) -> tuple[str, ...] | None:
    """Whether each class is rare, common or frequent: by the letters "r", "c", "f" of a file, else by its images.

    A class without any training image is rare. None where neither is known.

    >>> frequencies(None, torch.tensor([0, 10, 11, 101]))
    ('rare', 'rare', 'common', 'frequent')
    """
    if letters is None and train_image_counts is not None:
        letters = frequency_groups(train_image_counts)
    words = {name[0]: name for name in FREQUENCIES}
    return None if letters is None else tuple(words[letter] for letter in letters)


def box_groups(train_counts: Tensor | None) -> tuple[str, ...] | None:  # (C,)
    """Which of COCO-LT's groups each class is in; one without any training box is in the first.

    >>> box_groups(torch.tensor([0, 19, 20, 8000]))
    ('1-19', '1-19', '20-399', '8000+')
    """
    if train_counts is None:
        return None
    return tuple(BOX_GROUPS[(n >= 20) + (n >= 400) + (n >= 8000)] for n in train_counts.tolist())


def group_means(
    class_scores: Tensor,  # (C,)
    members: Sequence[str] | None,  # (C,)
    groups: Sequence[str],
) -> dict[str, float]:
    """The mean score of the classes of each group; NaN scores do not count, and NaN is the mean of none.

    >>> group_means(torch.tensor([0.5, 0.25, 0.75]), ["rare", "common", "rare"], FREQUENCIES)
    {'rare': 0.625, 'common': 0.25, 'frequent': nan}
    """
    of = list(members or [""] * len(class_scores))
    masks = {group: torch.tensor([member == group for member in of], dtype=torch.bool) for group in groups}
    return {group: float(class_scores[mask].nanmean()) for group, mask in masks.items()}


def class_bias(class_scores: Tensor) -> float:  # (C,)
    """`bisector.metrics.bias.bias`, and NaN where fewer than two classes have a score: one is not biased.

    >>> class_bias(torch.tensor([0.5, 1.0])), class_bias(torch.tensor([0.5, torch.nan]))
    (625.0, nan)
    """
    known = class_scores[~class_scores.isnan()]
    return float(bias(known)) if len(known) > 1 else math.nan
