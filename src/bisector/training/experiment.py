"""One training, from data to result: killed at any moment and started again, it leaves the same result."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch

from bisector.errors import require, require_integer
from bisector.files import read_or_none, write_whole
from bisector.information.class_information import ClassInformation
from bisector.training._lightning import Callback, LightningDataModule, Trainer
from bisector.training.checkpoints import BEFORE, BEST, Checkpoints, resumable
from bisector.training.divergence import DivergedError, require_finite
from bisector.training.epoch_log import EpochLog
from bisector.training.guide import InformationGuide
from bisector.training.head_module import HeadModule
from bisector.training.recipe import Machine
from bisector.training.results import RESULT
from bisector.training.runner import Clock, Progress, fit, make_trainer, quiet_lightning
from bisector.training.settings import SETTINGS, check_settings, noted_options

Model = TypeVar("Model", bound=HeadModule)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ended:
    """A training when its last epoch is done."""

    trainer: Trainer  # that ran it
    history: Sequence[ClassInformation]  # what an IGAM head measured, a reading each refresh
    epochs: int  # that were trained
    kept: int  # epochs of the weights that are kept: all, or those up to the best on validation
    chosen: bool  # whether these are of the best epoch


@dataclass(frozen=True, kw_only=True)
class Experiment(ABC, Generic[Model, Result]):
    """One training of one head: on what, how, and with which means. A kind of model is a subclass.

    The result of a training is a dataclass with the fields `seconds` and `epochs`.
    """

    task: Any  # a record of the data
    head: str  # spec of the head
    recipe: Any  # a record of how to train, with `epochs` and `select`
    seed: int = 0  # decides the first weights, the order, and whatever else is random
    machine: Machine = Machine()  # noqa: RUF009 (frozen)

    monitor: ClassVar[str]
    """What is logged after each validation, the higher the better."""

    outdated: ClassVar[tuple[str, ...]] = ()
    """Files in the folder that are made of the trained weights, and are gone while these may change."""

    @abstractmethod
    def describe(self, trainer: Mapping[str, str]) -> dict[str, Any]:
        """Return plain values from which the model is built again, and on which its result depends."""

    @abstractmethod
    def model(self, description: dict[str, Any], begun: Mapping[str, Any]) -> Model:
        """Return the untrained model; `begun` is the description of the checkpoint that is gone on from, if any."""

    @abstractmethod
    def batches(self) -> LightningDataModule:
        """Return the data as the Trainer takes them."""

    @abstractmethod
    def class_names(self) -> Sequence[str]:
        """Return the names of the head's classes."""

    @abstractmethod
    def best(self, path: Path) -> tuple[Model, int]:
        """Load the checkpoint of the best epoch; the model, and the epochs that it was trained for."""

    @abstractmethod
    def evaluate(self, model: Model, ended: Ended) -> tuple[Result, Any]:
        """Return the result, and what else came out and is kept beside it."""

    @abstractmethod
    def looked_at(self) -> int:
        """Return how many examples are evaluated beside the steps, to estimate a training's time."""

    @abstractmethod
    def read(self, path: Path) -> Result:
        """Read the result that a training left."""

    def check(self) -> None:
        """Raise `ArgumentError` for what this kind of training cannot do, before anything is made."""

    def noted(self, description: dict[str, Any], model: Model) -> dict[str, Any]:
        """Return the description as checkpoints carry it."""
        return description

    def callbacks(self) -> list[Callback]:
        """Return further callbacks of this kind of training."""
        return []

    def trainer_options(self) -> dict[str, Any]:
        """Return options of the Trainer for this kind of training."""
        return {}

    def is_finished(self, folder: Path, trainer: Mapping[str, Any]) -> bool:
        """Say whether the folder holds all that this training shall leave; errors as of `is_trained`."""
        return self.is_trained(folder, trainer)

    def is_trained(self, folder: Path, trainer: Mapping[str, Any]) -> bool:
        """Say whether the folder holds the result of this very training.

        Raises:
            ArgumentError: the folder holds a training with other settings.
        """
        description = self.describe(noted_options(dict(trainer)))
        return check_settings(folder, description) and read_or_none(folder / RESULT, self.read) is not None

    def run(
        self,
        folder: Path | None = None,
        trainer: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> tuple[Model, Result, Any]:
        """Train and evaluate.

        With a folder, everything is kept there (``last.ckpt``, ``best.ckpt``, ``metrics.csv``, ``amounts.csv``,
        ``settings.json``), and a training of the same settings that was begun there is gone on with.

        Args:
            folder: where to keep it; nothing is kept if None.
            trainer: further arguments of Lightning's Trainer, which win over ours.
            progress: told after every epoch.

        Returns:
            The model in evaluation mode, its result, and what else came out.

        Raises:
            ArgumentError: an option is not legal, or the folder holds a training with other settings.
            DivergedError: the loss or a weight is not finite.
        """
        given = dict(trainer or {})
        # Lightning divides by it.
        require_integer("trainer.accumulate_grad_batches", given.get("accumulate_grad_batches", 1), least=1)
        description = self.describe(noted_options(given))
        check_settings(folder, description)
        self.check()
        held = self.recipe.select == "last" or folder is not None
        require(held, "select", "'best' without a folder", "a folder, where the best weights are kept")
        last, begun = resumable(folder)
        with quiet_lightning(), _named(self.head, self.seed):
            torch.set_num_threads(self.machine.threads)
            model = self.model(description, begun)
            guide, log = InformationGuide(head=model.head_path), EpochLog(folder, self.class_names())
            clock = Clock(progress or (lambda epochs: None))
            callbacks: list[Callback] = [*([guide] if model.measures else []), log, clock]
            callbacks += self.callbacks()
            if folder is not None:
                noted = self.noted(description, model)
                saving = self.machine.checkpoint_steps
                callbacks.append(Checkpoints(folder, saving, noted, self.monitor))
            runner = make_trainer(
                self.recipe.epochs, self.machine, callbacks, given, **self.trainer_options()
            )
            batches = self.batches()
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                for name in self.outdated:
                    (folder / name).unlink(missing_ok=True)
                write_whole(folder / SETTINGS, json.dumps(description, indent=1) + "\n")
            fit(runner, model, batches, last)
            require_finite(model, "weights", [*model.parameters(), *model.buffers()])
            epochs = kept = len(log.rows)
            best = None if folder is None or self.recipe.select != "best" else folder / BEST
            chosen = best is not None and best.is_file()
            if best is not None and chosen:
                model, kept = self.best(best)
            # As it is loaded, whatever it was trained in.
            model = model.to(runner.strategy.root_device).float().eval()
            result, beside = self.evaluate(model, Ended(runner, guide.history, epochs, kept, chosen))
        if folder is not None:
            (folder / BEFORE).unlink(missing_ok=True)
        ended: Any = result
        return model.cpu(), replace(ended, seconds=clock.seconds, epochs=epochs), beside


@contextmanager
def _named(head: str, seed: int) -> Iterator[None]:
    """Say which training diverged: there may be many at a time."""
    try:
        yield
    except DivergedError as error:
        raise DivergedError(f"{head}, seed {seed}: {error}") from None
