"""What IGAM's machinery costs in a training: epochs of AM-softmax and of IGAM with its guide, taking turns."""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import lightning
import torch
from torch import Tensor

from benchmarks.script import Script
from benchmarks.tables import Table, seconds
from bisector.cli.output import progress, say
from bisector.data.dataset import Dataset
from bisector.data.registry import load
from bisector.errors import ArgumentError, require_integer
from bisector.heads import IGAM, build_head
from bisector.networks.backbones import build_backbone
from bisector.training.data import DataModule
from bisector.training.guide import InformationGuide
from bisector.training.module import Classifier
from bisector.training.recipe import Recipe
from bisector.training.runner import quiet_lightning


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


def main(words: Sequence[str] | None = None) -> int:
    """Run the script; return the exit code."""
    script = Script("guide", "what IGAM's guide costs a training, epoch by epoch beside AM-softmax")
    add = script.parser.add_argument
    add("--data", help="a data set or a path (default: fashion-mnist, or digits where that is not installed)")
    add("--head", default="igam", help="an IGAM head (default: %(default)s)")
    add("--embedding-dim", type=int, default=128, help="default: %(default)s")
    add("--batch-size", type=int, default=64, help="default: %(default)s")
    add("--steps", type=int, help="of an epoch (default: all)")
    add("--repeats", type=int, default=5, help="epochs that count (default: %(default)s)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")

    def measure(arguments: argparse.Namespace) -> dict[str, Any]:
        if arguments.steps is not None:
            require_integer("--steps", arguments.steps, least=1)
        recipe = Recipe(embedding_dim=arguments.embedding_dim, batch_size=arguments.batch_size)
        dataset = _dataset(arguments.data)
        script.begin(arguments.device)
        found = measure_guide(
            dataset,
            recipe,
            guided=arguments.head,
            repeats=arguments.repeats,
            steps=arguments.steps,
            accelerator=arguments.device,
            progress=progress,
        )
        script.show(guide_table(found))
        return guide_record(found)

    return script.main(measure, words)


def _dataset(data: str | None) -> Dataset:
    try:
        return load(data or "fashion-mnist")
    except ArgumentError:
        if data:
            raise
        say("Fashion-MNIST is not installed here: scikit-learn's digits stand in for it.")
        return load("digits")


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


def guide_table(run: GuideRun) -> Table:
    """Return the epochs and where the time goes."""
    shares = run.shares()
    base = median(epoch.whole for epoch in run.plain)
    rows = [[f"epoch, {run.plain_head}", seconds(base), _extent([epoch.whole for epoch in run.plain]), "–"]]
    rows.append([
        f"epoch, {run.guided_head} with its guide",
        seconds(median(epoch.whole for epoch in run.guided)),
        _extent([epoch.whole for epoch in run.guided]),
        f"{shares['overhead']:+.1%}",
    ])  # fmt: skip
    for name, what in (("observe", "after the steps: observe"), ("refresh", "after the epoch: refresh")):
        taken = [getattr(epoch, name) for epoch in run.guided]
        rows.append([what, seconds(median(taken)), _extent(taken), f"{shares[name]:+.1%}"])
    rows.append(
        ["the rest: the loss, and noise", seconds(shares["loss"] * base), "–", f"{shares['loss']:+.1%}"]
    )
    lengths = ", ".join(f"{overhead:+.1%}" for overhead in run.overheads)
    notes = [
        f"Medians of {len(run.plain)} epochs of each, in turns, after one that warms up; the overhead is the "
        f"median of the pairs': {lengths}."
    ]
    title = f"{run.data}: {run.steps:,} steps of {run.batch_size}, D = {run.dim}"
    return Table(title, ["", "seconds", "min … max", "of the plain epoch"], rows, notes)


def guide_record(run: GuideRun) -> dict[str, Any]:
    """Return everything as builtins, for JSON."""
    epochs = {name: [vars(epoch) for epoch in getattr(run, name)] for name in ("plain", "guided")}
    return {**vars(run), **epochs, "overheads": run.overheads, "shares": run.shares()}


def _extent(values: list[float]) -> str:
    return f"{seconds(min(values))} … {seconds(max(values))}"


if __name__ == "__main__":
    sys.exit(main())
