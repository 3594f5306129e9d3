"""DataModule: the batches of a data set, for the Trainer."""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from bisector.data.augmentation import POLICIES
from bisector.data.dataset import Dataset
from bisector.data.image_examples import LARGEST_SIZE
from bisector.data.registry import load
from bisector.data.tables import is_embeddings
from bisector.errors import require, require_choice
from bisector.networks.names import LIBRARIES, require_backbone
from bisector.networks.zoo import input_size
from bisector.training._lightning import LightningDataModule
from bisector.training.class_weights import require_weighted_classes
from bisector.training.loader import TrainingBatches, plain_batches
from bisector.training.recipe import FINE_TUNING_RATE, Recipe, Task


def augmentation_of(dataset: Dataset, word: str) -> str:
    """Return the policy that a word names: one of `bisector.data.augmentation`, or what suits the data for "auto".

    Raises:
        ArgumentError: it is none of them.
    """
    require_choice("augment", word, ("auto", *POLICIES))
    policy = dataset.augmentation if word == "auto" else word
    fits = policy == "none" or len(dataset.shape) == 3
    require(fits, "augment", f"{word!r} for vectors", "none: only images are varied")
    return policy


def settled(task: Task, recipe: Recipe) -> tuple[Task, str]:
    """Give a training with published weights the size of images that they were made with, if none is given.

    Returns:
        The task, and a line that says what the training takes from the weights; empty without published weights.

    Raises:
        ArgumentError: there is no such network.
        MissingExtraError: without its library.
    """
    require_backbone(recipe.backbone)  # before anything is read
    if not recipe.pretrained or not _of_library(recipe.backbone):
        return task, ""
    height, width = input_size(recipe.backbone)
    side = f"{task.image_size} x {task.image_size}, as given; its own is {height} x {width}"
    if task.image_size is None and not is_embeddings(task.data):
        task = replace(task, image_size=max(height, width))
        side = f"{task.image_size} x {task.image_size}, its own"
    dim = f"{recipe.embedding_dim}" if recipe.embedding_dim else "the backbone's own width"
    fine = ", for fine-tuning" if recipe.learning_rate == FINE_TUNING_RATE else ""
    return task, (
        f"published weights of {recipe.backbone}: images of {side}; embedding dimension {dim}; learning rate "
        f"{recipe.learning_rate:g}{fine} (--image-size, --embedding-dim, --learning-rate)"
    )


def load_task(task: Task, seed: int, recipe: Recipe | None = None, decoded: Path | None = None) -> Dataset:
    """Load what a task names, for a recipe; decoded images are kept in a folder, if one is given.

    Images of one size keep it up to `LARGEST_SIZE`, or up to the size that a network of a library was made for.
    Classes without an example to test on, and an empty validation part, are among the notes.

    Raises:
        ArgumentError: the data are not found or can't be used, or nothing is for the part that accuracies are of.
            A wrong name among the class weights is told before images are read.
    """
    recipe = recipe or Recipe()
    backbone, check = recipe.backbone, partial(require_weighted_classes, recipe.class_weights)
    largest = max(LARGEST_SIZE, *input_size(backbone)) if _of_library(backbone) else LARGEST_SIZE
    data = load(
        **{**asdict(task), "seed": seed, "largest": largest, "decoded": decoded, "check_classes": check}
    )
    return replace(data, notes=(*data.notes, *_require_held_out(data)))


def _require_held_out(data: Dataset) -> list[str]:
    """Say which classes are not tested and that nothing is for validation, where it is so.

    Raises:
        ArgumentError: nothing is for the part that accuracies are of.
    """
    part, counts = ("validation", data.validation_counts) if data.open_set else ("test", data.test_counts)
    needed = (
        "a class with 2 or more examples for a test part, with 3 or more for validation, "
        "or folders train, val and test"
    )
    most = f"{data.num_classes} classes of at most {int(data.train_counts.max())} in training"
    require(bool(counts.sum()), "data", f"no example for the {part} part: {most}", f"{needed} of your own")
    notes = []
    without = [name for name, count in zip(data.class_names, counts.tolist(), strict=True) if not count]
    if without:
        few = ", ".join(without[:3]) + (", …" if len(without) > 3 else "")
        known = f"{len(without)} of {data.num_classes} classes"
        notes.append(f"{known} have no example in the {part} part: {few}")
    if not len(data.validation):
        notes.append(f"no example for validation, which chooses the best epoch; expected {needed}")
    return notes


def _of_library(backbone: str) -> bool:
    return backbone.startswith(tuple(f"{library}/" for library in LIBRARIES))


class DataModule(LightningDataModule):
    """The training part in resumable batches and the validation part in plain ones, for each process its share.

    Args:
        dataset: what to train on.
        batch_size: examples of a step, in each process.
        seed: decides order and augmentation.
        augmentation: a policy of `bisector.data.augmentation`, or "auto" for what suits the data.
        workers: processes that load the data, for each process that trains.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int, *, seed: int, augmentation: str = "auto", workers: int = 0
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = augmentation_of(dataset, augmentation)
        self.workers = workers
        self._batches: TrainingBatches | None = None
        self._position: dict[str, int] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return where the next batch is.

        Lightning would store it too, but gives it back only where an epoch was not finished.
        """
        return {"position": None if self._batches is None else self._batches.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._position = state_dict["position"]

    def train_dataloader(self) -> TrainingBatches:
        """Return the training part's batches."""
        how: dict[str, Any] = {"seed": self.seed, "augmentation": self.augmentation, "workers": self.workers}
        batches = TrainingBatches(self.dataset.train, self.batch_size, **how, **self._share())
        if (
            self._position is None and self._batches is not None
        ):  # asked for again in the middle of a training
            self._position = self._batches.state_dict()
        if self._position is not None:
            batches.load_state_dict(self._position)
        self._batches, self._position = batches, None
        return batches

    def val_dataloader(self) -> Any:
        """Return the validation part's batches."""
        size = max(self.batch_size, 256)
        return plain_batches(self.dataset.validation, size, workers=self.workers, **self._share())

    def _share(self) -> dict[str, Any]:
        trainer = self.trainer
        return {} if trainer is None else {"rank": trainer.global_rank, "world_size": trainer.world_size}
