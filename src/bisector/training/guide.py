"""InformationGuide: the Lightning callback that lets a head's margins follow its information amounts."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor, distributed

from bisector.errors import ArgumentError, require_integer
from bisector.heads import IGAM
from bisector.information.class_information import ClassInformation
from bisector.information.distributed import merge_onto_first
from bisector.information.meter import InformationMeter
from bisector.training._lightning import Callback, LightningModule, Trainer


class InformationGuide(Callback):
    """Feed an IGAM head's meter after every training step and refresh its margins after every epoch.

    The module's ``training_step`` must return a dict with "loss", "embeddings" and "labels", as that of
    `bisector.training.Classifier` does. After each refresh it logs ``information/mean``, ``information/min``,
    ``information/max`` (bits) and ``information/margin`` (the largest, radians).

    Where several processes train together, each feeds a meter of its own, and these are merged when the margins
    are refreshed: all measure the same amounts, those of one process with the joint batches, and no instance is
    counted twice. Observing sends nothing. A checkpoint holds what all have observed so far, and any number of
    processes can resume it. Before and after the training all evidence is with the first process: where it
    starts, what the others hold is dropped, as `DistributedDataParallel` drops their weights for those of the
    first; where it ends, theirs goes to the first. Of a head made with ``together=False`` each process measures
    by itself and keeps what it holds.

    Args:
        head: the attribute of the module that holds the head; a path such as
            ``"network.roi_heads.box_predictor.head"`` leads to one deeper inside.
        every_n_epochs: how often to refresh.

    Attributes:
        history: what each refresh measured, oldest first; a resumed training knows those before too.
    """

    def __init__(self, *, head: str = "head", every_n_epochs: int = 1) -> None:
        self.head = head
        self.every_n_epochs = require_integer("every_n_epochs", every_n_epochs, least=1)
        self.history: list[ClassInformation] = []
        self._observed: int | None = None  # the last epoch that was observed and not refreshed yet

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what would silently go wrong.

        Raises:
            ArgumentError: the head is no IGAM or has no meter.
        """
        self._meter(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs to know."""
        return {"observed": self._observed, "history": [asdict(info) for info in self.history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume."""
        self._observed = state_dict["observed"]
        self.history = [ClassInformation(**info) for info in state_dict.get("history", [])]

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put what all processes have observed into the checkpoint, which the first one writes."""
        meter = self._igam(pl_module).joint_meter()
        if meter is not None:
            checkpoint.setdefault("meters", {})[self.head] = meter.state_dict()

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up what had been observed."""
        state = checkpoint.get("meters", {}).get(self.head)
        if state is not None:
            self._meter(pl_module).load_state_dict(state)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the evidence that all processes brought, from a checkpoint say, with the first alone."""
        if self._igam(pl_module).observes_a_share() and distributed.get_rank() > 0:
            self._meter(pl_module).reset()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave what all have observed since the last refresh with the first."""
        if self._igam(pl_module).observes_a_share():
            meter = self._meter(pl_module)
            joint = merge_onto_first(meter)
            meter.reset()
            if joint is not None:
                meter.merge(joint)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Refresh late, where training was resumed from between an epoch's last step and its end.

        Lightning fires no event of that epoch's end again, nor always one of the next one's start.
        """
        if self._observed is not None and self._observed < trainer.current_epoch:
            self._end_epoch(self._observed, pl_module)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Observe the step's embeddings."""
        if not isinstance(outputs, Mapping) or not {"embeddings", "labels"} <= set(outputs):
            raise ArgumentError(
                "training_step: got no embeddings and labels; expected a dict with 'loss', 'embeddings', 'labels'"
            )
        self._igam(pl_module).observe(outputs["embeddings"], outputs["labels"])
        self._observed = trainer.current_epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refresh the margins and log the amounts."""
        self._end_epoch(trainer.current_epoch, pl_module)

    def _end_epoch(self, epoch: int, pl_module: LightningModule) -> None:
        self._observed = None
        if (epoch + 1) % self.every_n_epochs:
            return
        head = self._igam(pl_module)
        info = head.refresh()
        self.history.append(info)
        known = info.amount[~info.amount.isnan()]
        if len(known) and head.guide is not None:
            pl_module.log_dict(
                {
                    "information/mean": known.mean().float(),
                    "information/min": known.min().float(),
                    "information/max": known.max().float(),
                    "information/margin": head.guide.largest().float(),
                }
            )

    def _meter(self, pl_module: LightningModule) -> InformationMeter:
        meter = self._igam(pl_module).information
        if meter is None:
            raise ArgumentError("information: got None; expected a meter, for InformationGuide to feed")
        return meter

    def _igam(self, pl_module: LightningModule) -> IGAM:
        head: Any = pl_module
        for name in self.head.split("."):
            head = getattr(head, name, None)
            head = getattr(head, "_orig_mod", head)  # of what torch.compile wraps
        if not isinstance(head, IGAM):
            got = (
                f"{type(head).__name__} as .{self.head}" if head is not None else f"no attribute .{self.head}"
            )
            raise ArgumentError(f"head: got {got} of the module; expected an IGAM")
        return head
