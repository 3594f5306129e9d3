"""What a detector is trained on and how: two frozen records, with their help texts; `Machine` is everybody's."""

from dataclasses import dataclass, field
from typing import Any

from bisector.data.places import resolvable
from bisector.errors import require, require_choice, require_integer, require_number
from bisector.training.recipe import SCHEDULES

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
MODELS = (
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "small-fpn",
)
PARTS = ("train", "validation", "test")


def full_spec(head: str) -> str:
    """Return the spec of a head with the name that it has elsewhere.

    >>> full_spec("linear:bias=false")
    'linear-softmax:bias=false'
    """
    name, colon, rest = head.strip().partition(":")
    return ("linear-softmax" if name == "linear" else name) + colon + rest


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class BoxTask:
    """The pictures and their boxes.

    Raises:
        ArgumentError: a value is out of its range.
    """

    data: str = _option("", "folder of Pascal VOC, COCO or LVIS; file.json; or plugin.py:option=value:...")
    images: str | None = _option(None, "folder of the pictures of a file.json")
    validation: str | None = _option(None, "file.json with the boxes of the validation part")
    validation_images: str | None = _option(None, "folder of its pictures, where it is another one")
    imbalance: float = _option(
        1.0, "boxes of the commonest class over those of the rarest, in training; 1 leaves all"
    )

    def __post_init__(self) -> None:
        require(bool(self.data), "data", repr(self.data), "a folder, a file.json, or a plugin.py")
        object.__setattr__(self, "data", self.data.rstrip("/") or self.data)  # photos/ is photos
        for name in ("data", "images", "validation", "validation_images"):
            given = getattr(self, name)
            object.__setattr__(self, name, None if given is None else resolvable(given))
        require_number("imbalance", self.imbalance, least=1)


@dataclass(frozen=True)
class BoxRecipe:
    """How a detector is trained, and how it is asked for detections.

    Raises:
        ArgumentError: a value is out of its range.
    """

    model: str = _option(MODELS[0], f"one of {', '.join(MODELS)}")
    pretrained: bool = _option(
        False, "begin with torchvision's weights of COCO, all but those of the classes"
    )
    pretrained_backbone: bool = _option(False, "begin with a backbone that was trained on ImageNet")
    image_size: int | None = _option(
        None,
        "shorter side to which pictures are resized, the longer one 5/3 of it at most; small-fpn: longer side",
    )
    objectness: bool = _option(False, "score whether there is an object apart from which class it is")
    class_agnostic: bool = _option(False, "one box a proposal, not one for each class")
    meter_on: str = _option(
        "proposals", "what IGAM measures: proposals, or boxes (those of the ground truth)"
    )
    rois: int | None = _option(
        None, "regions of a picture that a step trains the box branch on (default: the model's, 512 or 48)"
    )
    epochs: int = _option(12, "passes over the training part")
    batch_size: int = _option(
        4,
        "pictures of a step, in each process; small-fpn, all of whose batch norms are trained, wants 8 or more",
    )
    optimizer: str = _option("sgd", "sgd (momentum 0.9) or adamw")
    learning_rate: float = _option(0.01, "the highest of the schedule")
    weight_decay: float = _option(1e-4, "of the optimizer")
    schedule: str = _option("one-cycle", "one-cycle; cosine or constant, both after 5 percent of warm-up")
    clip_norm: float | None = _option(10.0, "length that gradients are cut to; none: they are not")
    flip: bool = _option(True, "mirror every other picture")
    repeat_threshold: float = _option(
        0.0,
        "Repeat Factor Sampling: classes in a smaller share of the pictures are shown oftener; LVIS: 0.001",
    )
    validate_every: int = _option(1, "epochs between two validations")
    select: str = _option(
        "last", "weights to keep: those of the last epoch, or of the best AP50 on validation"
    )
    score_threshold: float = _option(1e-3, "detections below are dropped")
    detections: int | None = _option(
        None, "of a picture, at most (LVIS: 300; else the model's own, 100 or 50)"
    )

    def __post_init__(self) -> None:
        require_choice("model", self.model, MODELS)
        if self.image_size is not None:
            require_integer("image_size", self.image_size, least=32)
        require_choice("meter_on", self.meter_on, ("proposals", "boxes"))
        if self.rois is not None:
            require_integer("rois", self.rois, least=1)
        require_integer("epochs", self.epochs, least=1)
        require_integer("batch_size", self.batch_size, least=1)
        require_choice("optimizer", self.optimizer, ("sgd", "adamw"))
        require_number("learning_rate", self.learning_rate, above=0)
        require_number("weight_decay", self.weight_decay, least=0)
        require_choice("schedule", self.schedule, SCHEDULES)
        if self.clip_norm is not None:
            require_number("clip_norm", self.clip_norm, above=0)
        require_number("repeat_threshold", self.repeat_threshold, least=0, most=1)
        require_integer("validate_every", self.validate_every, least=1)
        require_choice("select", self.select, ("last", "best"))
        chosen = self.select == "last" or self.validate_every <= self.epochs
        got = f"{self.validate_every} with select='best' and {self.epochs} epochs"
        require(chosen, "validate_every", got, "at most the epochs: one must be validated to be the best")
        require_number("score_threshold", self.score_threshold, least=0, most=1)
        if self.detections is not None:
            require_integer("detections", self.detections, least=1)
