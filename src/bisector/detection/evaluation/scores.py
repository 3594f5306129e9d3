"""The scores of one detector on one data set: plain numbers, and what they are called."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from bisector.detection.evaluation.frequency import BOX_GROUPS, FREQUENCIES
from bisector.errors import require
from bisector.metrics.summary import MetricInfo
from bisector.records import fields_from_json, fields_to_json

_WHO = {
    "rare": "shown by up to 10 training images, or that the file calls rare",
    "common": "shown by 11 to 100 training images, or that the file calls common",
    "frequent": "shown by more than 100 training images, or that the file calls frequent",
}


def _size(key: str, label: str, which: str) -> MetricInfo:
    return MetricInfo(key, label, "%", "higher", f"AP of boxes {which} pixels.")


BOX_METRICS: tuple[MetricInfo, ...] = (
    MetricInfo(
        "ap",
        "AP",
        "%",
        "higher",
        "Average precision, the mean over the classes and over ten overlaps from 0.50 to 0.95.",
    ),
    MetricInfo("ap50", "AP50", "%", "higher", "Average precision where half an overlap is enough."),
    MetricInfo("ap75", "AP75", "%", "higher", "Average precision at an overlap of 0.75."),
    _size("ap_small", "AP small", "below 32 x 32"),
    _size("ap_medium", "AP medium", "from 32 x 32 to 96 x 96"),
    _size("ap_large", "AP large", "above 96 x 96"),
    *(
        MetricInfo(f"ap_{name}", f"AP {name}", "%", "higher", f"Mean AP of the classes {_WHO[name]}.")
        for name in FREQUENCIES
    ),
    *(
        MetricInfo(
            f"ap_{name}",
            f"AP {name} boxes",
            "%",
            "higher",
            f"Mean AP of the classes with {name} training boxes.",
        )
        for name in BOX_GROUPS
    ),
    MetricInfo(
        "bias", "Bias", "pp²", "lower", "Variance of the AP over the classes, in percentage points squared."
    ),
    MetricInfo(
        "bias50", "Bias of AP50", "pp²", "lower", "Variance of the AP50 over the classes, in the same unit."
    ),
    MetricInfo("gap", "Frequent − rare", "%", "", "AP of the frequent classes less that of the rare."),
    MetricInfo(
        "r_count",
        "r(log count, AP)",
        "",
        "",
        "Correlation over the classes between the logarithm of the number of training boxes and AP.",
    ),
    MetricInfo(
        "r_amount", "r(amount, AP)", "", "", "Correlation over the classes between information amount and AP."
    ),
    MetricInfo(
        "r_amount_given_count",
        "r(amount, AP | count)",
        "",
        "",
        "Correlation between information amount and AP with the logarithm of the number of training boxes held "
        "fixed.",
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

    def values(self) -> dict[str, float]:
        """The numbers of `BOX_METRICS`, by key and in their order."""
        grouped = {f"ap_{name}": ap for name, ap in (self.ap_by_frequency | self.ap_by_group).items()}
        return {
            info.key: grouped[info.key] if info.key in grouped else float(getattr(self, info.key))
            for info in BOX_METRICS
        }

    def to_dict(self) -> dict[str, Any]:
        """Numbers, texts, lists and dictionaries alone, ready for JSON; null for NaN."""
        return fields_to_json(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "BoxScores":
        """What `to_dict` made; NaN for null. Entries that are not known are passed over.

        Raises:
            ArgumentError: if one is missing, or this is no such record.
        """
        good = isinstance(record, Mapping)
        require(good, "record", type(record).__name__, "the scores that BoxScores.to_dict wrote")
        needed = [one.name for one in fields(cls) if one.default is MISSING]
        missing = [name for name in needed if name not in record]
        require(not missing, "record", f"no {', '.join(missing)}", "the scores that BoxScores.to_dict wrote")
        found: BoxScores = fields_from_json(cls, dict(record))
        return found
