"""What a network is trained on, how, and with which means: three frozen records, with their help texts."""

from dataclasses import dataclass, field, fields
from typing import Any

from bisector.cores import require_devices, require_tasks
from bisector.data.places import resolvable
from bisector.errors import require, require_choice, require_integer, require_number
from bisector.training.class_weights import parsed

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("one-cycle", "cosine", "constant")
PRECISIONS = (
    *("16-true", "16-mixed", "bf16-true", "bf16-mixed", "32-true", "64-true"),
    *("16", "bf16", "32", "64", "transformer-engine", "transformer-engine-float16"),
)
"""Those of Lightning's Trainer."""
SPLITS = ("standard", "open-set")
DECISIONS = ("none", "geometry", "auto", "fitted")  # methods of `adjust`, fitted on validation after training
DECIDE = "none"  # unless asked for
DECIDE_HELP = (
    f"how classes are chosen after training, one of {', '.join(DECISIONS)}: by the scores alone, or by a method of "
    f"bisector adjust, fitted on the validation part (default: {DECIDE})"
)
EMBEDDING_DIM, LEARNING_RATE = 32, 3e-3  # of a network that is trained from scratch
FINE_TUNING_RATE = 1e-4  # of AdamW, for published weights; at 3e-3 they are forgotten in the first steps


def _option(default: Any, text: str, *, hashed: bool = True) -> Any:
    """A field, with the help of its option on the command line; one that may be a mapping has no hash."""
    return field(default=default, metadata={"help": text}, hash=None if hashed else False)


@dataclass(frozen=True)
class Task:
    """The data, and what is made of them; a path is kept from the root, so that it is found from any folder.

    Raises:
        ArgumentError: a value is out of its range.
    """

    data: str = _option(
        "digits", "name of a data set, path of a folder or file, or plugin.py:option=value:..."
    )
    imbalance: float = _option(1.0, "instances of the commonest class over those of the rarest; 1 leaves all")
    split: str = _option("standard", "standard, or open-set: test on classes that are never trained on")
    image_size: int | None = _option(None, "side to which images of a folder or Parquet file are resized")
    label: str | None = _option(
        None, "column of labels in a table, Parquet of images too, where it is not found"
    )

    def __post_init__(self) -> None:
        require(bool(self.data), "data", "''", "name of a data set, or the path of a folder or file")
        object.__setattr__(self, "data", resolvable(self.data.rstrip("/") or self.data))  # photos/ is photos
        require_number("imbalance", self.imbalance, least=1)
        require_choice("split", self.split, SPLITS)
        if self.image_size is not None:
            require_integer("image_size", self.image_size, least=4)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; in a comparison the same for every head.

    What is not given is chosen when the record is made, so that it holds what is done: with published weights the
    backbone's own width and a rate for fine-tuning.

    >>> Recipe().embedding_dim, Recipe().learning_rate
    (32, 0.003)
    >>> own = Recipe(backbone="timm/resnet18", pretrained=True)
    >>> own.embedding_dim, own.learning_rate
    (None, 0.0001)

    Raises:
        ArgumentError: a value is out of its range.
    """

    backbone: str = _option("auto", "small-conv, resnet32, mlp, identity, torchvision/NAME or timm/NAME")
    pretrained: bool = _option(False, "begin with the published weights of a torchvision or timm backbone")
    embedding_dim: int | None = _option(
        0,
        "dimension of the embeddings, by a last linear layer; null: the backbone's; "
        f"0: {EMBEDDING_DIM}, or the backbone's with --pretrained",
    )
    epochs: int = _option(40, "passes over the training part")
    batch_size: int = _option(64, "examples of a step, in each process")
    optimizer: str = _option("adamw", "adamw or sgd (Nesterov momentum 0.9)")
    learning_rate: float = _option(
        None,
        f"the highest of the schedule ({LEARNING_RATE:g} unless given; "
        f"{FINE_TUNING_RATE:g} for adamw with --pretrained)",
    )
    weight_decay: float = _option(1e-2, "of the optimizer")
    schedule: str = _option("one-cycle", "one-cycle, cosine (after 5 percent of warm-up) or constant")
    augment: str = _option("auto", "none, crop, crop-flip, resized-crop-flip; auto: what suits the data")
    patience: int | None = _option(
        None, "stop after so many epochs without a better balanced accuracy on validation"
    )
    select: str = _option("last", "weights to keep: those of the last epoch, or of the best on validation")
    class_weights: str | dict[str, float] = _option(  # noqa: RUF009 (a function of ours)
        "none",
        "how much rows of each class count in the loss: none; auto (1 over the rows of the class); "
        "effective or effective:BETA (Cui et al. 2019); or by name, cat=3.5,dog=2, the others 1",
        hashed=False,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_weights", parsed(self.class_weights))
        if self.embedding_dim == 0:
            object.__setattr__(self, "embedding_dim", None if self.pretrained else EMBEDDING_DIM)
        if self.learning_rate is None:
            fine = self.pretrained and self.optimizer == "adamw"
            object.__setattr__(self, "learning_rate", FINE_TUNING_RATE if fine else LEARNING_RATE)
        if self.embedding_dim is not None:
            require_integer("embedding_dim", self.embedding_dim, least=2)
        require_integer("epochs", self.epochs, least=1)
        require_integer("batch_size", self.batch_size, least=2)  # batch normalisation needs two
        require_choice("optimizer", self.optimizer, OPTIMIZERS)
        require_number("learning_rate", self.learning_rate, above=0)
        require_number("weight_decay", self.weight_decay, least=0)
        require_choice("schedule", self.schedule, SCHEDULES)
        if self.patience is not None:
            require_integer("patience", self.patience, least=1)
        require_choice("select", self.select, ("last", "best"))


@dataclass(frozen=True)
class Machine:
    """With which means; processes and precision change the result, the rest only the speed and the rounding.

    Raises:
        ArgumentError: a value is out of its range.
    """

    accelerator: str = _option("auto", "auto, cpu, gpu, cuda or mps")
    devices: int = _option(1, "processes of one training (DDP), each with a device of its own")
    precision: str = _option(
        "32-true", "32-true, bf16-mixed or 16-mixed; for classifiers another of Lightning's too"
    )
    threads: int = _option(1, "of PyTorch in each process, on the CPU")
    workers: int = _option(0, "processes that load data, for each process that trains")
    checkpoint_steps: int = _option(500, "save after so many steps, besides at the end of every epoch")

    def __post_init__(self) -> None:
        require_choice("accelerator", self.accelerator, ("auto", "cpu", "gpu", "cuda", "mps"))
        require_devices("devices", self.devices)
        require_choice("precision", str(self.precision), PRECISIONS)
        require_tasks("threads", self.threads)
        require_tasks("workers", self.workers, least=0)
        require_integer("checkpoint_steps", self.checkpoint_steps, least=1)


def options_of(kind: type) -> list[tuple[str, Any, str]]:
    """Return (name, default, help) of every field of `Task`, `Recipe` or `Machine`.

    >>> options_of(Task)[1][:2]
    ('imbalance', 1.0)
    """
    return [(f.name, f.default, f.metadata["help"]) for f in fields(kind)]
