"""attach: give a torchvision R-CNN a head of ours; detach: give it back."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from bisector.detection.predictor import BoxPredictor, PlainPredictor
from bisector.detection.recipe import full_spec
from bisector.detection.roi_heads import METER_ON, MarginRoIHeads
from bisector.errors import ArgumentError, missing_extra, require, require_choice, require_integer
from bisector.heads import Head, build_head

try:
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
    from torchvision.models.detection.roi_heads import RoIHeads
except ImportError as error:
    raise missing_extra("torchvision", "detection") from error

Model = TypeVar("Model", bound=nn.Module)


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
        model.roi_heads.observe()               # feeds the meter, after every forward that is trained on
        ...
        model.roi_heads.head.refresh()          # new margins, once an epoch

    Class 0 is the background, as torchvision counts. It has no margin against any class nor any class one against
    it where a guide gives them (IGAM, C2AM, CountGuided); its rows carry no margin of any head, but a
    custom_margin, which sees every row; it is never measured and takes no part where classes are compared. A head
    that has one margin on its true class (AMSoftmax, ArcFace) keeps that against the background as against every
    class. Scores at inference are the softmax of the logits
    without margin.

    Args:
        model: Faster R-CNN, Mask R-CNN, Keypoint R-CNN: whatever holds torchvision's `RoIHeads`, trained or not.
            Where there are several of them, as in a cascade, each gets a head of its own; of a class derived
            from `RoIHeads` what it overrides stays in force.
        head: name and options as on the command line, ``"igam:gain=2"``; "linear" is torchvision's own loss, bit
            by bit. Or a head over C + 1 classes, made with ``background=0``.
        num_classes: C + 1, with the background as torchvision counts; where it is not what the model has, head and
            box regression start anew. None: as the model has.
        class_counts: (C,) boxes of each class in training, for a prior, LDAM or CountGuided. The background counts
            as the mean of the classes: at inference a class gains (mean / n_c)^tau against it too, which may
            flood rare classes with false detections. With `objectness` a prior moves classes only among each other.
        objectness: score "is it an object" apart from "which one": :math:`p_j = \sigma(o)\,\mathrm{softmax}(z)_j`
            over the C classes alone, with one more output o. Then cosines need not tell objects from background.
            It takes at least two classes.
        class_agnostic: predict one box for all classes, by (4, D) weights, instead of one for each.
        meter_on: "proposals": the meter gets the embeddings of the step's foreground proposals, which are there
            anyway; "boxes": those of the ground-truth boxes, which is how amounts are correlated with AP.
        options: of the head, such as ``gain=2, sub_centers=3``; a ``weight`` of the classes is (C + 1,), or (C,)
            with an objectness.

    Returns:
        The model, whose ``roi_heads`` are a `MarginRoIHeads` now. A head that is made here starts from the weights
        that were there, where their shapes allow it. Parameters that are new have to be given to the optimiser, so
        attach first.

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
    stages = _stages(model)
    require(isinstance(head, str | Head), "head", repr(head), "a name such as 'igam:gain=2', or a Head")
    for name, flag in (("objectness", objectness), ("class_agnostic", class_agnostic)):
        require(isinstance(flag, bool), name, repr(flag), "True or False")
    require_choice("meter_on", meter_on, METER_ON)
    if num_classes is not None:
        require_integer("num_classes", num_classes, least=2)
    single = isinstance(head, str) or len(stages) == 1
    require(single, "head", f"one head for {len(stages)} stages", "a name, from which each gets its own")
    settings = (num_classes, class_counts, objectness, class_agnostic, options)
    predictors = [_predictor(old, head, *settings) for old in stages]
    ours = {"meter_on": meter_on, "_labels": None, "_observed": None}
    return _replaced(
        model,
        {
            old: _like(old, _margin_kind(type(old)), box_predictor=predictor, **ours)
            for old, predictor in zip(stages, predictors, strict=True)
        },
    )


def detach(model: Model) -> Model:
    """Give back a plain torchvision model, in place, which scores as the attached one does.

    Its RoI heads are torchvision's and its predictor holds the scores alone; after ``head="linear"`` it is
    torchvision's `FastRCNNPredictor`. Margins, meters and losses of ours are gone.

    Raises:
        ArgumentError: no head of ours is attached, or it decides with an adjustment, which a plain model cannot.
    """
    stages = [old for old in _stages(model) if isinstance(old, MarginRoIHeads)]
    require(bool(stages), "model", f"{type(model).__name__} without a head of ours", "an attached one")
    adjusted = any(old.box_predictor.adjusted for old in stages)
    require(
        not adjusted, "model", "one that decides with an adjustment", "box_predictor.adjustment = None before"
    )
    kinds = [RoIHeads if type(old) is MarginRoIHeads else type(old).__bases__[1] for old in stages]
    pairs = zip(stages, kinds, strict=True)
    return _replaced(
        model, {old: _like(old, kind, box_predictor=_plain(old.box_predictor)) for old, kind in pairs}
    )


def require_head(spec: str) -> None:
    """Raise `ArgumentError` unless a spec names a head of bisector and options of it, before anything is loaded.

    >>> require_head("igma")
    Traceback (most recent call last):
    bisector.errors.ArgumentError: head: got 'igma'; did you mean 'igam'? expected one of ...
    """
    build_head(full_spec(spec), 8, 4, torch.ones(4), background=0)


def _stages(model: nn.Module) -> list[Any]:
    """The RoI heads that a model holds, each once."""
    require(isinstance(model, nn.Module), "model", type(model).__name__, "a torchvision R-CNN")
    found = [part for part in model.modules() if isinstance(part, RoIHeads) and part is not model]
    got = f"{type(model).__name__}, which holds no RoIHeads of torchvision"
    require(bool(found), "model", got, "Faster R-CNN, Mask R-CNN or another R-CNN of torchvision")
    return found


def _replaced(model: Model, new: Mapping[Any, Any]) -> Model:
    """Set other RoI heads in all places of the old ones."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child in new:
                setattr(parent, name, new[child])
    return model


def _margin_kind(old: type) -> type:
    """Return the class of RoI heads with a head of ours, on top of a user's own where theirs are."""
    if issubclass(old, MarginRoIHeads):
        return old
    return MarginRoIHeads if old is RoIHeads else type(f"Margin{old.__name__}", (MarginRoIHeads, old), {})


def _like(old: Any, kind: type, **attributes: Any) -> Any:
    """Return RoI heads of another kind that share all modules and settings with the old ones."""
    new: Any = object.__new__(kind)
    ours = {"meter_on", "_labels", "_observed"}
    state = {name: value for name, value in old.__dict__.items() if name not in ours}
    new.__dict__.update({**state, "_modules": dict(old._modules)})
    for name, value in attributes.items():
        setattr(new, name, value)
    return new


def _predictor(
    roi_heads: Any,
    head: str | Head,
    num_classes: int | None,
    class_counts: Sequence[float] | Tensor | None,
    objectness: bool,
    class_agnostic: bool,
    options: dict[str, Any],
) -> BoxPredictor:
    """Return the predictor in the place of an old one, from its weights where they fit."""
    old = roi_heads.box_predictor
    scores, boxes = getattr(old, "cls_score", None), getattr(old, "bbox_pred", None)
    if scores is None or not (hasattr(scores, "in_features") and isinstance(boxes, nn.Linear)):
        raise ArgumentError(
            f"model: got a box predictor {type(old).__name__}; expected one with cls_score and bbox_pred, "
            "as FastRCNNPredictor has"
        )
    outputs: int = scores.out_features
    in_features: int = scores.in_features
    wanted = outputs if num_classes is None else num_classes
    _require_masks(roi_heads, wanted)
    built = _head(head, in_features, wanted, class_counts, objectness, options).to(boxes.weight)
    is_object = getattr(scores, "objectness", None)
    if wanted == outputs and isinstance(head, str):
        _start_from(built, scores, bool(objectness))
    if objectness and (is_object is None or wanted != outputs):
        is_object = nn.Linear(in_features, 1).to(boxes.weight)
    width = 4 if class_agnostic else 4 * wanted
    if boxes.out_features != width or wanted != outputs:
        boxes = nn.Linear(in_features, width).to(boxes.weight)
    return BoxPredictor(built, boxes, is_object if objectness else None).train(old.training)


def _require_masks(roi_heads: Any, wanted: int) -> None:
    """Refuse a number of classes that the mask branch does not have."""
    layers = roi_heads.mask_predictor.modules() if roi_heads.has_mask() else ()
    for outputs in [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)][-1:]:
        legal = f"{wanted}: a mask predictor of as many classes, set before attach"
        require(outputs == wanted, "mask_predictor", f"{outputs} classes", legal)


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
    legal = "False: of one class there is nothing but whether it is there"
    require(classes > 1, "objectness", "True with one class", legal)
    if isinstance(head, Head):
        got = f"{head.num_classes} classes of dim {head.in_features}, background={head.background}"
        legal = f"{classes} classes of dim {in_features}, background={background}"
        require(got == legal, "head", got, legal)
        require(not options and class_counts is None, "options", sorted(options), "none beside a head")
        require(head.reduction == "mean", "reduction", repr(head.reduction), "'mean'")
        return head
    require("background" not in options, "background", options.get("background"), "none: it is class 0")
    require(options.get("reduction", "mean") == "mean", "reduction", options.get("reduction"), "'mean'")
    counts = None
    if class_counts is not None:
        try:
            counts = torch.as_tensor(class_counts, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            got = type(class_counts).__name__
            raise ArgumentError(f"class_counts: got {got}; expected {wanted - 1} numbers") from None
        fits = counts.shape == (wanted - 1,)
        require(fits, "class_counts", f"shape {tuple(counts.shape)}", f"({wanted - 1},)")
        if not objectness:  # the background is as frequent as the mean of the classes
            counts = torch.cat([counts.clamp_min(1).mean()[None], counts])
    return build_head(full_spec(head), in_features, classes, counts, background=background, **options)


def _start_from(head: Head, scores: Any, objectness: bool) -> None:
    """Let a head begin with the class vectors that a predictor has; several sub-centers begin near them."""
    weight, bias = scores.weight.detach(), getattr(scores, "bias", None)
    skip = len(weight) - head.num_classes  # 1: the background, which has no vector beside an objectness
    if skip not in {0, 1} or (skip == 1 and not objectness):
        return
    vectors = weight[skip:]
    with torch.no_grad():
        if vectors.shape == head.weight.shape:
            head.weight.copy_(vectors)
        elif vectors.dim() == 2:
            head.weight.mul_(0.1).add_(vectors[:, None])
        else:
            return
        if head.bias is not None and bias is not None:
            head.bias.copy_(bias[skip:])


def _plain(predictor: BoxPredictor) -> nn.Module:
    """Return a predictor that holds scores and deltas alone."""
    if not predictor.plain or predictor.copies > 1:
        plain: nn.Module = PlainPredictor(predictor.cls_score, predictor.bbox_pred, predictor.copies)
    else:
        plain = FastRCNNPredictor(1, 1)
        out, width = predictor.head.weight.shape
        plain.cls_score = nn.Linear(width, out, device="meta")
        plain.cls_score.weight = predictor.head.weight
        plain.cls_score.register_parameter("bias", predictor.head.bias)
        plain.bbox_pred = predictor.bbox_pred
    return plain.train(predictor.training)
