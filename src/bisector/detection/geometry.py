"""The geometry of a detector's classes in its decision: fitted on true boxes, background left out."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bisector.data.boxes import BoxSet
from bisector.detection.predict import class_logits, embed_targets, embed_truth
from bisector.detection.predictor import MARK, BoxPredictor
from bisector.errors import require
from bisector.information.geometry import ClassGeometry
from bisector.information.meter import InformationMeter
from bisector.posthoc import BaseAdjustment, GeometryAdjustment, adjust
from bisector.posthoc.fit import cross_validated_logits
from bisector.posthoc.trial import Trials, compare_predictions

Batches = Iterable[tuple[Sequence[Tensor], Sequence[Mapping[str, Any]]]]
"""Images and targets, as torchvision's detectors train on them: "boxes" (n, 4) and "labels" (n,) from 1."""


class TrueBoxes(NamedTuple):
    """What a detector makes of true boxes: all that a fit asks for.

    Attributes:
        scores: (n, C) logits of the classes, without the background.
        labels: (n,) classes from 0.
        embeddings: (n, D).
    """

    scores: Tensor
    labels: Tensor
    embeddings: Tensor


def fit_geometry(
    model: Any, validation: BoxSet | Batches, train: BoxSet | Batches | None = None, **options: Any
) -> GeometryAdjustment:
    r"""Fit how the geometry of the classes shares what a box has of all of them together.

    The logits l of the classes alone, those of the background left out, are pooled with how well the embedding x of
    a box fits each class (`bisector.posthoc.GeometryAdjustment`) by three numbers that are fitted on the true boxes
    of validation pictures; a box is an object as much as the detector says:

    .. math:: p'(c \mid x) = (1 - p_\mathrm{bg}(x))\; \mathrm{softmax}(a\,l + b\,g(x) - e\,A)_c

    What is returned goes into ``model.roi_heads.box_predictor.adjustment``: then the model decides with it in
    evaluation mode, before thresholds and suppression. It is the identity unless the cross-validated loss falls by
    more than a standard error.

    Args:
        model: an R-CNN with a head of ours (`attach`), trained.
        validation: pictures that it was not trained on, and that no score is reported of: a `BoxSet`, or batches of
            images and targets as torchvision's detectors train on them.
        train: its training pictures, whose means and covariances then take part, in the same forms.
        options: of `bisector.posthoc.adjust` with method "geometry", such as ``moments="train"``.

    Raises:
        ArgumentError: no head of ours is attached, there is one class alone, or there are too few boxes.

    >>> import bisector as bs
    >>> from bisector.detection.models import build_detector
    >>> model = bs.detection.attach(build_detector("small-fpn", 4, image_size=64), "linear")
    >>> box, label = torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.tensor([1])
    >>> pictures = [([torch.rand(3, 64, 64)], [{"boxes": box, "labels": label + k % 3}]) for k in range(9)]
    >>> adjustment = bs.detection.fit_geometry(model, pictures)
    >>> model.roi_heads.box_predictor.adjustment = adjustment
    """
    geometry = None if train is None else class_geometry(model, train)
    found = fit_boxes(model, true_boxes(model, validation), geometry=geometry, **options)
    assert isinstance(found, GeometryAdjustment)
    return found


def fit_boxes(model: Any, rows: TrueBoxes, *, method: str = "geometry", **options: Any) -> BaseAdjustment:
    """Fit an adjustment on true boxes by `bisector.posthoc.adjust`; it is marked as this detector's."""
    predictor = _predictor(model)
    how: Any = {"method": method, "embeddings": rows.embeddings, "scale": _scale(predictor)}
    how |= {"layer": False, **options}  # a layer that has seen true boxes alone knows nothing of all others
    found: Any = adjust(rows.scores, rows.labels, **how)
    marked: BaseAdjustment = replace(found, settings={**found.settings, MARK: predictor.mark})
    return marked


def true_boxes(model: Any, data: BoxSet | Batches, **how: Any) -> TrueBoxes:
    """Return logits, labels and embeddings of all true boxes, on the CPU; `how` goes to `embedded`.

    Raises:
        ArgumentError: there is no box.
    """
    _predictor(model)
    found = [
        (class_logits(model, embeddings).detach().float().cpu(), labels - 1, embeddings)
        for embeddings, labels in embedded(model, data, **how)
        if len(labels)
    ]
    name = data.name if isinstance(data, BoxSet) else "validation"
    require(bool(found), "data", f"no box in {name}", "true boxes to fit on")
    return TrueBoxes(*(torch.cat(column) for column in zip(*found, strict=True)))


def class_geometry(model: Any, data: BoxSet | Batches, **how: Any) -> ClassGeometry:
    """Return the geometry of the true boxes of pictures, one batch after the other; `how` goes to `embedded`."""
    predictor = _predictor(model)
    dim = predictor.cls_score.in_features
    meter = InformationMeter(predictor.num_outputs - 1, dim, embeddings=_scale(predictor))
    for embeddings, labels in embedded(model, data, **how):
        meter.update(embeddings, labels - 1)
    return ClassGeometry.from_meter(meter)


def embedded(
    model: Any,
    data: BoxSet | Batches,
    *,
    batch_size: int = 4,
    progress: Callable[[int], None] = lambda pictures: None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the (n, D) embeddings and (n,) labels from 1 of true boxes, on the CPU, batch by batch.

    Args:
        model: as in `fit_geometry`.
        data: as there.
        batch_size: of the pictures of a `BoxSet`.
        progress: gets the number of pictures after each batch.
    """
    if isinstance(data, BoxSet):
        left = len(data)
        for embeddings, labels, _ in embed_truth(model, data, batch_size=batch_size):
            yield embeddings.float().cpu(), labels.cpu()
            progress(min(batch_size, left))
            left -= batch_size
        return
    for images, targets in data:
        embeddings, labels = embed_targets(model, images, targets)
        yield embeddings.float().cpu(), labels.cpu()
        progress(len(images))


def try_boxes(model: Any, rows: TrueBoxes, *, seed: int = 0, **how: Any) -> tuple[Tensor, Trials]:
    """Return the (n,) predictions of true boxes, each by a fit on the other folds, and what they gain.

    `how` goes to `fit_boxes`.
    """

    def fit(logits: Tensor, labels: Tensor, embeddings: Tensor) -> BaseAdjustment:
        return fit_boxes(model, TrueBoxes(logits, labels, embeddings), seed=(seed + 1) % 2**63, **how)

    after = cross_validated_logits(rows.scores.double(), rows.labels, fit, rows.embeddings, seed=seed).argmax(
        1
    )
    before, classes = rows.scores.argmax(1), rows.scores.shape[1]
    tried = {how.get("method", "geometry"): after}
    return after, compare_predictions(before, tried, rows.labels, classes, on="true boxes", seed=seed)


def _predictor(model: Any) -> BoxPredictor:
    """Return the predictor of an attached R-CNN with several classes."""
    predictor = getattr(getattr(model, "roi_heads", None), "box_predictor", None)
    legal = "an R-CNN with a head of ours: bisector.detection.attach"
    if not isinstance(predictor, BoxPredictor):
        require(False, "model", type(model).__name__, legal)
    assert isinstance(predictor, BoxPredictor)
    require(predictor.num_outputs > 2, "model", "one class beside the background", "two or more")
    return predictor


def _scale(predictor: BoxPredictor) -> str:
    """Return how the head sees embeddings: a cosine head on the sphere."""
    return "unit" if predictor.cls_score.cosine else "raw"
