"""attach: give a torchvision R-CNN a head of ours; detach: give it back."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from bisector.detection.predictor import BoxPredictor
from bisector.detection.roi_heads import METER_ON, MarginRoIHeads
from bisector.errors import ArgumentError, missing_extra, require, require_choice, require_integer
from bisector.heads.base import Head
from bisector.training.spec import build_head

try:
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
    from torchvision.models.detection.roi_heads import RoIHeads
except ImportError as error:
    raise missing_extra("torchvision", "detection") from error

Model = TypeVar("Model", bound=nn.Module)

SHORT_NAMES = {"linear": "linear-softmax"}


def attach(
    model: Model,
    head: str | Head = "igam",
    *,
    num_classes: int | None = None,
    class_counts: Sequence[float] | Tensor | None = None,  # (C,)
    objectness: bool = False,
    class_agnostic: bool = False,
    meter_on: str = "proposals",
    **options: Any,
) -> Model:
    r"""Let a head of ours classify the boxes of a torchvision R-CNN, in place; all else stays torchvision's.

    The loop of training is torchvision's, with two lines more for heads that measure::

        losses = model(images, targets)         # the dict that torchvision returns
        sum(losses.values()).backward()
        optimizer.step()
        model.roi_heads.observe()               # feeds the meter, once a step
        ...
        model.roi_heads.head.refresh()          # new margins, once an epoch

    Class 0 is the background, as torchvision counts. It has no margin against any class nor any class one against
    it where a guide gives them (IGAM, C2AM, CountGuided); its rows carry none in any head; it is never measured
    and takes no part where classes are compared. A head that has one margin on its true class (AMSoftmax, ArcFace)
    keeps that against the background as against every class. Scores at inference are the softmax of the logits
    without margin.

    Args:
        model: Faster R-CNN, Mask R-CNN, Keypoint R-CNN: whatever holds torchvision's `RoIHeads`, trained or not.
            Where there are several of them, as in a cascade, each gets a head of its own.
        head: name and options as on the command line, ``"igam:gain=2"``; "linear" is torchvision's own loss, bit
            by bit. Or a head over C + 1 classes, made with ``background=0``.
        num_classes: C + 1, with the background as torchvision counts; where it is not what the model has, head and
            box regression start anew. None: as the model has.
        class_counts: (C,) boxes of each class in training, for a prior, LDAM or CountGuided. The background counts
            as the mean of the classes: a prior then shifts classes among each other, not all against it.
        objectness: score "is it an object" apart from "which one": :math:`p_j = \sigma(o)\,\mathrm{softmax}(z)_j`
            over the C classes alone, with one more output o. Then cosines need not tell objects from background.
        class_agnostic: predict one box for all classes, by (4, D) weights, instead of one for each.
        meter_on: "proposals": the meter gets the embeddings of the step's foreground proposals, which are there
            anyway; "boxes": those of the ground-truth boxes, which is how amounts are correlated with AP.
        options: of the head, such as ``gain=2, sub_centers=3``.

    Returns:
        The model, whose ``roi_heads`` are a `MarginRoIHeads` now. A head starts from the weights that were there;
        parameters that are new have to be given to the optimiser, so attach first.

    Raises:
        ArgumentError: the model has no torchvision RoI heads, or an argument is not legal; the model is unchanged.

    >>> from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn as detector
    >>> model = attach(detector(weights=None, weights_backbone=None, num_classes=21), "igam", sub_centers=2)
    >>> model.roi_heads.head
    IGAM(in_features=1024, num_classes=21, sub_centers=2, background=0, scale=30, preset='recommended',
    normalize='ratio', gain=3, direction='press')
    >>> type(detach(model).roi_heads).__name__
    'RoIHeads'
    """
    places = _places(model)
    require_choice("meter_on", meter_on, METER_ON)
    if num_classes is not None:
        require_integer("num_classes", num_classes, least=3)
    single = isinstance(head, str) or len(places) == 1
    require(single, "head", f"one head for {len(places)} stages", "a name, from which each gets its own")
    made = [
        _predictor(
            old.box_predictor, head, num_classes, class_counts, objectness, class_agnostic, options
        ).train(old.training)
        for *_, old in places
    ]
    for (parent, name, old), predictor in zip(places, made, strict=True):
        setattr(parent, name, _like(old, MarginRoIHeads, box_predictor=predictor, meter_on=meter_on))
    return model


def detach(model: Model) -> Model:
    """Give back a plain torchvision model, in place, which scores as the attached one does.

    Its RoI heads are torchvision's and its predictor holds the scores alone; after ``head="linear"`` it is
    torchvision's `FastRCNNPredictor`. Margins, meters and losses of ours are gone.

    Raises:
        ArgumentError: no head of ours is attached.
    """
    places = [place for place in _places(model) if isinstance(place[2], MarginRoIHeads)]
    require(bool(places), "model", f"{type(model).__name__} without a head of ours", "an attached one")
    for parent, name, old in places:
        setattr(parent, name, _like(old, RoIHeads, box_predictor=_plain(old.box_predictor)))
    return model


class PlainPredictor(nn.Module):
    """Scores and box deltas, as torchvision's `FastRCNNPredictor` gives them.

    Args:
        cls_score: from (N, D) embeddings to (N, C + 1) logits.
        bbox_pred: to (N, 4) or (N, 4 (C + 1)) deltas.
        copies: for how many classes the deltas hold, each.
    """

    def __init__(self, cls_score: nn.Module, bbox_pred: nn.Linear, copies: int) -> None:
        super().__init__()
        self.cls_score = cls_score
        self.bbox_pred = bbox_pred
        self.copies = copies

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and deltas."""
        x = x.flatten(start_dim=1)
        return self.cls_score(x), self.bbox_pred(x).repeat(1, self.copies)


def _places(model: nn.Module) -> list[tuple[nn.Module, str, Any]]:
    """Where a model holds RoI heads: the parent, the name there, the RoI heads."""
    require(isinstance(model, nn.Module), "model", type(model).__name__, "a torchvision R-CNN")
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, RoIHeads)
    ]
    kind = f"{type(model).__name__} without torchvision's RoIHeads"
    require(bool(found), "model", kind, "Faster R-CNN, Mask R-CNN or another R-CNN of torchvision")
    return found


def _like(old: Any, kind: type, **attributes: Any) -> Any:
    """Return RoI heads of another kind that share all modules and settings with the old ones."""
    new: Any = object.__new__(kind)
    state = {
        name: value
        for name, value in old.__dict__.items()
        if name not in {"meter_on", "_labels", "_observed"}
    }
    new.__dict__.update({**state, "_modules": dict(old._modules)})
    if issubclass(kind, MarginRoIHeads):
        new._labels = new._observed = None
    for name, value in attributes.items():
        setattr(new, name, value)
    return new


def _predictor(
    old: Any,
    head: str | Head,
    num_classes: int | None,
    class_counts: Sequence[float] | Tensor | None,
    objectness: bool,
    class_agnostic: bool,
    options: dict[str, Any],
) -> BoxPredictor:
    """Return the predictor in the place of an old one, from its weights where they fit."""
    scores, boxes = getattr(old, "cls_score", None), getattr(old, "bbox_pred", None)
    if scores is None or not (hasattr(scores, "in_features") and isinstance(boxes, nn.Linear)):
        kind = type(old).__name__
        raise ArgumentError(
            f"model: got a box predictor {kind}; expected one with cls_score and bbox_pred, "
            "as FastRCNNPredictor has"
        )
    outputs: int = scores.out_features
    in_features: int = scores.in_features
    wanted = outputs if num_classes is None else num_classes
    built = _head(head, in_features, wanted, class_counts, objectness, options).to(boxes.weight)
    if wanted == outputs and isinstance(head, str):
        _start_from(built, scores, objectness)
    width = 4 if class_agnostic else 4 * wanted
    if boxes.out_features != width or wanted != outputs:
        boxes = nn.Linear(in_features, width).to(boxes.weight)
    is_object = nn.Linear(in_features, 1).to(boxes.weight) if objectness else None
    return BoxPredictor(built, boxes, is_object)


def _head(
    head: str | Head,
    in_features: int,
    wanted: int,
    class_counts: Sequence[float] | Tensor | None,
    objectness: bool,
    options: dict[str, Any],
) -> Head:
    classes = wanted - objectness
    background = None if objectness else 0
    if isinstance(head, Head):
        got = f"{head.num_classes} classes of dim {head.in_features}, background={head.background}"
        legal = (head.num_classes, head.in_features, head.background) == (classes, in_features, background)
        require(legal, "head", got, f"{classes} classes of dim {in_features}, background={background}")
        require(not options and class_counts is None, "options", sorted(options), "none beside a head")
        require(head.reduction == "mean", "reduction", repr(head.reduction), "'mean'")
        return head
    counts = None
    if class_counts is not None:
        counts = torch.as_tensor(class_counts, dtype=torch.float64)
        require(
            counts.shape == (wanted - 1,), "class_counts", f"shape {tuple(counts.shape)}", f"({wanted - 1},)"
        )
        if not objectness:
            counts = torch.cat([counts.clamp_min(1).mean()[None], counts])
    require(options.get("reduction", "mean") == "mean", "reduction", options.get("reduction"), "'mean'")
    name, colon, rest = head.partition(":")
    spec = SHORT_NAMES.get(name, name) + colon + rest
    return build_head(spec, in_features, classes, counts, background=background, **options)


def _start_from(head: Head, scores: Any, objectness: bool) -> None:
    """Let a head begin with the class vectors that a predictor has; several sub-centers begin near them."""
    weight = getattr(scores, "weight", None)
    bias = getattr(scores, "bias", None)
    if weight is None or weight.dim() != 2 or len(weight) not in {head.num_classes, head.num_classes + 1}:
        return
    skip = len(weight) - head.num_classes
    if skip != int(objectness):
        return
    with torch.no_grad():
        vectors = weight[skip:]
        if head.sub_centers == 1:
            head.weight.copy_(vectors)
        else:
            head.weight.mul_(0.1).add_(vectors[:, None])
        if head.bias is not None and bias is not None:
            head.bias.copy_(bias[skip:])


def _plain(predictor: BoxPredictor) -> nn.Module:
    """Return a predictor that holds scores and deltas alone."""
    if not predictor.plain or predictor.copies > 1:
        return PlainPredictor(predictor.cls_score, predictor.bbox_pred, predictor.copies)
    found = FastRCNNPredictor(1, 1)
    out, width = predictor.head.weight.shape
    found.cls_score = nn.Linear(width, out, device="meta")
    found.cls_score.weight, found.cls_score.bias = predictor.head.weight, predictor.head.bias
    found.bbox_pred = predictor.bbox_pred
    plain: nn.Module = found.train(predictor.training)
    return plain
