"""What every network that is trained here has: a head, steps whose random numbers are known, a schedule."""

import math
import warnings
from collections.abc import Callable
from operator import attrgetter
from typing import Any, ClassVar

import torch

from bisector.data.keyed import keyed_seed
from bisector.errors import missing_extra
from bisector.heads import IGAM
from bisector.training.guide import InformationGuide
from bisector.training.schedules import schedule

try:
    import lightning
except ImportError as error:
    raise missing_extra("lightning", "train") from error


class HeadModule(lightning.LightningModule):
    """A LightningModule with a head of bisector somewhere in it.

    Args:
        learning_rate: the highest of the schedule.
        weight_decay: of the optimizer.
        optimizer: its name.
        schedule: see `bisector.training.schedules`.
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
