"""What every network that is trained here has: a head, steps whose random numbers are known, a schedule."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar

import torch

from bisector.data.keyed import keyed_seed
from bisector.heads import IGAM
from bisector.training._lightning import LightningModule
from bisector.training.guide import InformationGuide


class HeadModule(LightningModule):
    """A LightningModule with a head of bisector somewhere in it.

    Args:
        learning_rate: the highest of the schedule.
        weight_decay: of the optimizer.
        optimizer: its name.
        schedule: "one-cycle", "cosine" or "constant", as `schedule` says.
        seed: what dropout and the like draw in a step is a function of it, the step and the process alone, so that
            a resumed training sees the same numbers. None leaves the random numbers alone.
    """

    head_path: ClassVar[str] = "head"
    """Where the head is, from the module on."""

    def __init__(
        self, *, learning_rate: float, weight_decay: float, optimizer: str, schedule: str, seed: int | None
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.optimizer = optimizer
        self.schedule = schedule
        self.seed = seed

    @property
    def measures(self) -> bool:
        """Whether the head is an IGAM with a meter, which `InformationGuide` feeds."""
        head = attrgetter(self.head_path)(self)
        return isinstance(head, IGAM) and head.information is not None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make the random numbers of this step a function of the seed and the step."""
        if self.seed is not None:
            torch.manual_seed(keyed_seed(self.seed, self.current_epoch, batch_idx, self.global_rank))

    def on_fit_start(self) -> None:
        """Warn of an IGAM head that nobody feeds."""
        guided = any(isinstance(callback, InformationGuide) for callback in self.trainer.callbacks)  # type: ignore[attr-defined]
        if self.measures and not guided:
            message = (
                "the IGAM head has a meter, but no InformationGuide is among the Trainer's callbacks: its "
            )
            warnings.warn(message + "margins will not change", RuntimeWarning, stacklevel=2)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule over the whole training."""
        optimizer = self.make_optimizer(lr=self.learning_rate, weight_decay=self.weight_decay)
        steps = self.trainer.estimated_stepping_batches
        if steps == math.inf:  # trained for a time, not for a number of steps: there is no cycle to plan
            return optimizer
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, self.factor(int(steps)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    def make_optimizer(self, **rates: Any) -> torch.optim.Optimizer:
        """Return the optimizer that `self.optimizer` names."""
        raise NotImplementedError

    def factor(self, steps: int) -> Callable[[int], float]:
        """Return the factor of the learning rate for every step of so many."""
        return schedule(self.schedule, steps)


def schedule(name: str, steps: int) -> Callable[[int], float]:
    """Return the factor of the highest learning rate for every step, from 0, of a training of `steps` steps.

    It depends on the step alone, so that a resumed training continues it exactly.

    - `"one-cycle"`: from 1/25 up to 1 in the first 30%, then down to 1/250,000, both along half a cosine
      (Smith and Topin 2018, in the two-phase form that PyTorch's OneCycleLR has).
    - `"cosine"`: linearly up in the first 5%, then half a cosine down to 0.
    - `"constant"`: 1.

    >>> [round(schedule("one-cycle", 10)(step), 3) for step in (0, 2, 9)]
    [0.04, 1.0, 0.0]
    """
    known = {"one-cycle": _one_cycle, "cosine": _cosine, "constant": lambda step, steps: 1.0}
    return partial(known[name], steps=steps)


def _one_cycle(step: int, steps: int) -> float:
    top = max(0.3 * steps - 1, 1e-9)
    last = max(steps - 1, 1)
    if step <= top:
        return _half_cosine(1 / 25, 1, step / top)
    return _half_cosine(1, 1 / 250_000, min((step - top) / max(last - top, 1e-9), 1))


def _cosine(step: int, steps: int) -> float:
    warm = max(1, round(0.05 * steps))
    if step < warm:
        return (step + 1) / warm
    return _half_cosine(1, 0, min((step - warm) / max(steps - warm, 1), 1))


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
