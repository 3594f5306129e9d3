"""What IGAM's machinery costs in a training: epochs of AM-softmax and of IGAM with its guide, taking turns."""

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import lightning
import torch
from torch import Tensor

from bisector.data.dataset import Dataset
from bisector.errors import require_integer
from bisector.heads import IGAM
from bisector.networks.backbones import build_backbone
from bisector.training.data import DataModule
from bisector.training.guide import InformationGuide
from bisector.training.module import Classifier
from bisector.training.recipe import Recipe
from bisector.training.runner import quiet_lightning
from bisector.training.spec import build_head


@dataclass(frozen=True)
class Epoch:
    """Seconds of one epoch.

    Args:
        whole: from its first batch to the end of its refresh.
        observe: of these, in the guide after the steps.
        refresh: of these, in the guide after the epoch.
    """

    whole: float
    observe: float
    refresh: float


@dataclass(frozen=True)
class GuideRun:
    """Two trainings whose epochs took turns.

    Args:
        data: what they trained on.
        steps: of an epoch.
        batch_size: examples of a step.
        dim: D.
        plain: epochs of the head without a guide.
        guided: epochs of the head with one, at the same places.
        plain_head: spec.
        guided_head: spec.
    """

    data: str
    steps: int
    batch_size: int
    dim: int
    plain_head: str
    guided_head: str
    plain: list[Epoch]
    guided: list[Epoch]

    @property
    def overheads(self) -> list[float]:
        """Of each pair of epochs: how much longer the guided one took, as a share of the plain one."""
        return [more.whole / less.whole - 1 for less, more in zip(self.plain, self.guided, strict=True)]

    def shares(self) -> dict[str, float]:
        """Return medians as shares of the plain epoch: all, observe, refresh, and what the loss itself takes."""
        base = median(epoch.whole for epoch in self.plain)
        observe = median(epoch.observe for epoch in self.guided) / base
        refresh = median(epoch.refresh for epoch in self.guided) / base
        overhead = median(self.overheads)
        return {
            "overhead": overhead,
            "observe": observe,
            "refresh": refresh,
            "loss": overhead - observe - refresh,
        }


def measure_guide(
    dataset: Dataset,
    recipe: Recipe,
    *,
    plain: str = "am-softmax",
    guided: str = "igam",
    repeats: int = 5,
    steps: int | None = None,
    accelerator: str = "cpu",
    progress: Callable[[str], None] = lambda text: None,
) -> GuideRun:
    """Train two heads on the same batches, an epoch each in turns, and time the epochs.

    The first epoch of each warms up. Which of the two begins a round alternates. Nothing is validated.

    Args:
        dataset: what to train on.
        recipe: the network, the batches and the optimiser.
        plain: spec of the head without a guide.
        guided: spec of an IGAM head, which gets an `InformationGuide`.
        repeats: epochs that count.
        steps: of an epoch; all if None.
        accelerator: of Lightning's Trainer.
        progress: told what is going on.
    """
    require_integer("repeats", repeats, least=1)
    with quiet_lightning():
        trainings = {spec: _Training(spec, dataset, recipe, steps, accelerator) for spec in (plain, guided)}
        epochs: dict[str, list[Epoch]] = {spec: [] for spec in trainings}
        for turn in range(repeats + 1):
            order = [plain, guided] if turn % 2 else [guided, plain]
            for spec in order:
                progress(f"epoch {turn} of {repeats}, {spec}")
                epochs[spec].append(trainings[spec].epoch())
    return GuideRun(
        data=dataset.name,
        steps=trainings[plain].steps,
        batch_size=recipe.batch_size,
        dim=trainings[plain].dim,
        plain_head=plain,
        guided_head=guided,
        plain=epochs[plain][1:],
        guided=epochs[guided][1:],
    )


class _Training:
    """A training that is gone on with epoch by epoch."""

    def __init__(
        self, spec: str, dataset: Dataset, recipe: Recipe, steps: int | None, accelerator: str
    ) -> None:
        torch.manual_seed(0)
        backbone = build_backbone(recipe.backbone, dataset.shape, recipe.embedding_dim)
        self.dim = backbone.embedding_dim
        head = build_head(spec, self.dim, dataset.num_classes, class_counts=dataset.train_counts)
        self.module = Classifier(
            backbone,
            head,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            optimizer=recipe.optimizer,
            schedule="constant",  # the others would need to know the last epoch from the start
            seed=0,
        )
        self.batches = DataModule(dataset, recipe.batch_size, seed=0, augmentation=recipe.augment)
        self.guide = _TimedGuide() if isinstance(head, IGAM) else None
        self.clock = _EpochClock()
        self.trainer = lightning.Trainer(
            max_epochs=0,
            accelerator=accelerator,
            devices=1,
            limit_train_batches=steps,
            limit_val_batches=0,
            callbacks=[*([self.guide] if self.guide else []), self.clock],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return int(self.trainer.num_training_batches)

    def epoch(self) -> Epoch:
        """Go on for one epoch."""
        self.trainer.fit_loop.max_epochs = self.trainer.current_epoch + 1
        if self.guide:
            self.guide.observed = self.guide.refreshed = 0.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.trainer.fit(self.module, datamodule=self.batches)
        observed, refreshed = (self.guide.observed, self.guide.refreshed) if self.guide else (0.0, 0.0)
        return Epoch(self.clock.seconds, observed, refreshed)


class _TimedGuide(InformationGuide):
    """A guide that notes how long it took."""

    observed = refreshed = 0.0

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        start = time.perf_counter()
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self.observed += time.perf_counter() - start

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        start = time.perf_counter()
        super().on_train_epoch_end(trainer, pl_module)
        self.refreshed += time.perf_counter() - start


class _EpochClock(lightning.Callback):
    """Times an epoch; the last callback, so that the others' ends are in it."""

    seconds = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._start = self._now(pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.seconds = self._now(pl_module) - self._start

    def _now(self, module: lightning.LightningModule) -> float:
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        return time.perf_counter()
