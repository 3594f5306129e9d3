"""Train several heads on the same data by the same recipe, several times, and say what came out."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from bisector._version import __version__
from bisector.data.dataset import Dataset
from bisector.data.registry import load
from bisector.errors import missing_extra, require, require_integer
from bisector.functional.margins import PairwiseMargin
from bisector.heads import IGAM
from bisector.information.amount import information_amounts
from bisector.metrics.groups import class_accuracy
from bisector.metrics.summary import summarize
from bisector.training.guide import InformationGuide
from bisector.training.module import Classifier
from bisector.training.networks import SmallConvNet
from bisector.training.recipe import Recipe
from bisector.training.results import Comparison, Plane, Run
from bisector.training.spec import build_head

try:
    import lightning
except ImportError as error:
    raise missing_extra("lightning", "train") from error

PLANE_EPOCHS = 3  # how many times as long a two-dimensional embedding is trained

Progress = Callable[[str, int], None]
"""``(what is being trained, epochs done since the last call)``."""


def compare(
    data: str,
    heads: Sequence[str],
    *,
    imbalance: float = 1.0,
    seeds: int = 2,
    planes: Sequence[str] = (),
    recipe: Recipe | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> Comparison:
    """Train every head with every seed and return what came out.

    Within one seed all heads get the same split, the same long tail, the same first weights of the backbone and
    the same order of batches: they differ in the head alone.

    Args:
        data: the name of a data set.
        heads: specs such as "am-softmax" or "igam:preset=paper".
        imbalance: training count of the commonest class over that of the rarest.
        seeds: how many; they are 0, 1, ...
        planes: heads to train once more with a two-dimensional embedding, for drawing.
        recipe: how to train; the default one if None.
        command: what the user typed, for the record.
        progress: told after every epoch.

    Raises:
        ArgumentError: a name, an option or a number is not legal; told before anything is trained.
    """
    recipe = Recipe() if recipe is None else recipe
    require_integer("seeds", seeds, least=1)
    require(bool(heads), "heads", "none", "at least one head")
    for spec in heads:
        require(heads.count(spec) == 1, "heads", f"{spec!r} twice", "each head once")
    first = load(data, imbalance=imbalance, seed=0)
    for spec in (*heads, *planes):
        head = build_head(spec, recipe.embedding_dim, first.num_classes, first.train_counts)
        drawn = spec not in planes or head.sub_centers == 1
        require(drawn, "planes", repr(spec), "heads with one vector a class")
    told = progress or (lambda what, epochs: None)
    runs = []
    for seed in range(seeds):
        dataset = load(data, imbalance=imbalance, seed=seed)
        runs += [_run(dataset, spec, seed, recipe, told) for spec in heads]
    # Ten classes find their places on a circle slowly.
    flat = replace(recipe, embedding_dim=2, epochs=PLANE_EPOCHS * recipe.epochs)
    return Comparison(
        command=command,
        version=__version__,
        data=data,
        imbalance=imbalance,
        class_names=list(first.class_names),
        train_counts=first.train_counts.tolist(),
        test_counts=first.test_counts.tolist(),
        recipe={
            **asdict(recipe),
            "seeds": seeds,
            "optimizer": "AdamW, one-cycle learning rate",
            "amounts": "of the training embeddings at unit length times sqrt(D), quadratic-inverse shrinkage",
            "network": "two stages of 3x3 convolution, batch normalisation, ReLU, pooling; then a linear layer",
            "plane_epochs": flat.epochs,
        },
        runs=runs,
        planes=[_plane(first, spec, flat, told) for spec in planes],
    )


def _run(dataset: Dataset, spec: str, seed: int, recipe: Recipe, progress: Progress) -> Run:
    start = time.perf_counter()
    model, history = fit(dataset, spec, seed, recipe, progress)
    head = model.head
    guide: PairwiseMargin | None = getattr(head, "guide", None)
    with torch.no_grad():
        train, test = model.backbone(dataset.images_train), model.backbone(dataset.images_test)
        predictions = head.predict(test)
    counts = dataset.train_counts
    # Measured alike for every head: on the sphere, since a cosine head leaves the norms arbitrary.
    amounts = information_amounts(train, dataset.labels_train, dataset.num_classes, embeddings="unit")
    accuracy = class_accuracy(predictions, dataset.labels_test, dataset.num_classes)
    return Run(
        head=spec,
        seed=seed,
        metrics=summarize(predictions, dataset.labels_test, test, counts, amounts),
        class_accuracy=accuracy.tolist(),
        class_amount=amounts.tolist(),
        class_count=counts.tolist(),
        amount_history=history,
        margins=None if guide is None else guide.matrix().tolist(),
        direction=None if guide is None else guide.direction,
        confusion=_confusion(predictions, dataset.labels_test, dataset.num_classes),
        seconds=time.perf_counter() - start,
    )


def _plane(dataset: Dataset, spec: str, recipe: Recipe, progress: Progress) -> Plane:
    model, _ = fit(dataset, spec, 0, recipe, progress)
    head = model.head
    with torch.no_grad():
        points = model.backbone(dataset.images_test)
        right = head.predict(points) == dataset.labels_test
    # Without a bias, the regions of inner products are still no arcs: the lengths of the vectors count.
    flat = torch.zeros(head.num_classes) if head.score == "dot" else None
    bias = flat if head.bias is None else head.bias
    return Plane(
        head=spec,
        points=points.tolist(),
        labels=dataset.labels_test.tolist(),
        weights=head.weight.tolist(),
        accuracy=float(right.float().mean()),
        bias=None if bias is None else bias.tolist(),
    )


def fit(
    dataset: Dataset, spec: str, seed: int, recipe: Recipe, progress: Progress
) -> tuple[Classifier, list[list[float]]]:
    """Train one head; return the model in evaluation mode and the amounts of every refresh."""
    with _quiet_lightning():
        lightning.seed_everything(seed, verbose=False)
        backbone = SmallConvNet(dataset.images_train.shape[1], recipe.embedding_dim)
        head = build_head(spec, recipe.embedding_dim, dataset.num_classes, dataset.train_counts)
        rates = {"learning_rate": recipe.learning_rate, "weight_decay": recipe.weight_decay}
        model = Classifier(backbone, head, **rates)
        guide = InformationGuide()
        trainer = lightning.Trainer(
            max_epochs=recipe.epochs,
            accelerator="cpu",
            deterministic=True,
            callbacks=[_Told(f"{spec}, seed {seed}", progress), *([guide] if isinstance(head, IGAM) else [])],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            trainer.fit(model, batches(dataset.images_train, dataset.labels_train, recipe.batch_size, seed))
        except SystemExit:  # how Lightning leaves when it is interrupted
            raise KeyboardInterrupt from None
    return model.eval(), [info.amount.tolist() for info in guide.history]


def batches(images: Tensor, labels: Tensor, batch_size: int, seed: int) -> DataLoader[tuple[Tensor, ...]]:
    """Return whole batches by one indexing each; the order depends on the seed alone."""
    dataset = TensorDataset(images, labels)
    # A last batch of a single row would break batch normalisation.
    shuffled = RandomSampler(dataset, generator=torch.Generator().manual_seed(seed))
    sampler = BatchSampler(shuffled, batch_size, drop_last=len(labels) % batch_size == 1)
    return DataLoader(dataset, sampler=sampler, batch_size=None)


def _confusion(predictions: Tensor, labels: Tensor, num_classes: int) -> list[list[int]]:
    pairs = labels * num_classes + predictions
    counts: list[list[int]] = torch.bincount(pairs, minlength=num_classes**2).view(num_classes, -1).tolist()
    return counts


class _Told(lightning.Callback):
    """Report every epoch."""

    def __init__(self, what: str, progress: Progress) -> None:
        self.what = what
        self.progress = progress

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.progress(self.what, 1)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence what Lightning says of devices and workers, and undo what it sets for the whole process."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    deterministic = torch.are_deterministic_algorithms_enabled()
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        try:
            yield
        finally:
            logger.setLevel(level)
            torch.use_deterministic_algorithms(deterministic)
