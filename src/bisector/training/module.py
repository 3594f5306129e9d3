"""Classifier: a backbone and a head as a LightningModule."""

from typing import Any

import torch
from torch import Tensor, nn

from bisector.engine.sharded import is_sharded
from bisector.errors import require
from bisector.heads import Head
from bisector.heads._warm_up import WarmUpHead
from bisector.optim.rowwise_adamw import RowwiseAdamW
from bisector.posthoc import BaseAdjustment
from bisector.training.divergence import diverged
from bisector.training.head_module import HeadModule

_LOSSES = 50  # after so many steps they are looked at


class Classifier(HeadModule):
    """A backbone that makes embeddings and a head that makes its loss of them.

    Each training step returns the loss together with the embeddings and labels, detached, for callbacks such as
    `InformationGuide`. After each pass over the validation part it logs ``val/accuracy`` and
    ``val/balanced_accuracy``, the mean of the accuracies of the classes.

    Args:
        backbone: images (or whatever the data are) to (B, D) embeddings.
        head: any head of bisector; its weights are trained with the backbone's.
        learning_rate: the highest of the schedule.
        weight_decay: of the optimizer.
        optimizer: "adamw" or "sgd" (Nesterov momentum 0.9). With sampled classes "adamw" is `RowwiseAdamW`, which
            leaves the rows of classes that were not drawn as they are. Trained by several processes that all hold
            the whole head (plain DDP), such a head is set to ``sparse=False``: DDP takes no sparse gradients.
        schedule: "one-cycle", "cosine" or "constant"; see `bisector.training.head_module.schedule`.
        seed: what dropout and the like draw in a step is a function of it, the step and the process alone, so that
            a resumed training sees the same numbers. None leaves the random numbers alone.

    Attributes:
        decision: how `predict` chooses classes once it is trained, fitted on rows that it has not seen (see
            `bisector.posthoc.adjust`); None for the highest logit.

    Raises:
        ArgumentError: "sgd" with weight decay, which takes no sparse gradients, for a head that has them.
        DivergedError: in training, where the loss is not finite.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: Head,
        *,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        optimizer: str = "adamw",
        schedule: str = "one-cycle",
        seed: int | None = None,
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            optimizer=optimizer,
            schedule=schedule,
            seed=seed,
        )
        decays = optimizer == "sgd" and weight_decay != 0 and head.sample < 1 and head.sparse
        got = f"{weight_decay} with optimizer='sgd' and the sparse gradients of sampled classes"
        require(not decays, "weight_decay", got, "0, or optimizer='adamw', or a head with sparse=False")
        self.backbone = backbone
        self.head = head
        # No part of the weights: it is kept in a file of its own.
        self.decision: BaseAdjustment | None = None
        self._outcomes: Tensor | None = None  # (2, C): right and all, of the validation so far
        self._losses: list[Tensor] = []  # of the steps since they were last looked at

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the (B, C) logits for inference, whatever the decision."""
        return self.head.logits(self.backbone(inputs))

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        """Return the (B,) classes by the `decision`; those of the highest logits without one.

        In the mode that the module is in: call `eval()` first, as a decision is fitted to that.
        """
        embeddings = self.backbone(inputs)
        logits = self.head.logits(embeddings)
        return logits.argmax(dim=1) if self.decision is None else self.decision.predict(logits, embeddings)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the loss, and what it was computed from."""
        inputs, labels = batch
        embeddings = self.backbone(inputs)
        loss = self.head(embeddings, labels)
        self._require_finite(loss, batch_idx)
        if isinstance(self.head, WarmUpHead):  # here, so that the checkpoint of this step holds it
            self.head.observe(embeddings.detach(), labels)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(labels))
        return {"loss": loss, "embeddings": embeddings.detach(), "labels": labels}

    def on_validation_epoch_start(self) -> None:
        """Begin to count."""
        self._outcomes = torch.zeros(2, self.head.num_classes, dtype=torch.long, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count what is right, by class."""
        inputs, labels = batch
        if not len(labels):  # another process has one more; DDP waited for this one to come too
            return
        right = self(inputs).argmax(dim=1) == labels
        assert self._outcomes is not None
        self._outcomes[0] += torch.bincount(labels[right], minlength=self.head.num_classes)
        self._outcomes[1] += torch.bincount(labels, minlength=self.head.num_classes)

    def on_validation_epoch_end(self) -> None:
        """Log the accuracies of the whole validation part, over all processes."""
        assert self._outcomes is not None
        right, seen = self.trainer.strategy.reduce(self._outcomes, reduce_op="sum")
        accuracies = (right / seen)[seen > 0]
        # A mean over no class has no value; 0 is one that never wins.
        known = len(accuracies) > 0
        found = {
            "val/accuracy": right.sum() / seen.sum().clamp(min=1),
            "val/balanced_accuracy": accuracies.mean() if known else accuracies.new_zeros(()),
        }
        self.log_dict(found, prog_bar=True)

    def make_optimizer(self, **rates: Any) -> torch.optim.Optimizer:
        """Return the optimizer; of sampled classes the one that leaves the others alone."""
        if self.head.sample < 1 and self.trainer.world_size > 1 and not is_sharded(self.head.weight):
            self.head.sparse = False
        if self.optimizer == "sgd":
            return torch.optim.SGD(self.parameters(), momentum=0.9, nesterov=True, **rates)
        if self.head.sample < 1:
            return RowwiseAdamW(self._by_class_and_others(), **rates)
        return torch.optim.AdamW(self.parameters(), **rates)

    def _require_finite(self, loss: Tensor, batch: int) -> None:
        """Raise in every process where a loss is not finite in any: the others would wait for it in vain."""
        self._losses.append(loss.detach())
        trainer = self.trainer
        # To look waits for the device and for the other processes.
        often = loss.device.type == "cpu" and trainer.world_size == 1
        if not (often or trainer.is_last_batch or len(self._losses) == _LOSSES):
            return
        losses, self._losses = torch.stack(self._losses), []
        broken = (~losses.isfinite()).nonzero().flatten().tolist()
        if trainer.strategy.reduce_boolean_decision(bool(broken), all=False):
            step = batch + 1 - len(losses) + (broken[0] if broken else 0)
            value = f"{float(losses[broken[0]])}" if broken else "NaN or infinity in another process"
            raise diverged(self, "loss", f"{value} in epoch {self.current_epoch}, step {step}")

    def _by_class_and_others(self) -> list[dict[str, Any]]:
        """Return the groups of sampled classes: where gradients are dense, zeros are rows that were not drawn."""
        by_class = [parameter for parameter in (self.head.weight, self.head.bias) if parameter is not None]
        known = {id(parameter) for parameter in by_class}
        others = [parameter for parameter in self.parameters() if id(parameter) not in known]
        groups: list[dict[str, Any]] = [{"params": others}, {"params": by_class, "skip_zero_rows": True}]
        return [group for group in groups if group["params"]]
