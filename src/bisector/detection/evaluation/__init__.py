"""Scores of detections: COCO's and LVIS's average precision, by class and by group of classes."""

from bisector.detection.evaluation.detections import Detections, read_detections, write_detections
from bisector.detection.evaluation.evaluate import (
    BoxAccuracy,
    classify_boxes,
    evaluate_boxes,
    relate_scores,
    with_amounts,
)
from bisector.detection.evaluation.scores import BOX_METRICS, BoxScores

__all__ = [
    "BOX_METRICS",
    "BoxAccuracy",
    "BoxScores",
    "Detections",
    "classify_boxes",
    "evaluate_boxes",
    "read_detections",
    "relate_scores",
    "with_amounts",
    "write_detections",
]
