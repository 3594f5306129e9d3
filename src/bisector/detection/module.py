"""Detector: a torchvision R-CNN with a head of ours as a LightningModule."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bisector.data.boxes import BoxSet
from bisector.detection.data import BoxBatch, pixels
from bisector.detection.evaluation import Detections, evaluate_boxes
from bisector.detection.predict import detections_of, gathered
from bisector.training.divergence import DivergedError, diverged
from bisector.training.head_module import HeadModule


class Detector(HeadModule):
    """A detector with a head of ours, trained by the losses that torchvision returns.

    Each training step returns the loss, its parts, and the embeddings and labels that the head measures, detached,
    for callbacks such as `InformationGuide`. After each pass over the validation part it logs ``val/ap`` and
    ``val/ap50``, of all processes. A loss or a gradient that is not finite ends the training with one clear error,
    before the weights are touched.

    Args:
        network: of torchvision, attached by `bisector.detection.attach`.
        clip_norm: length that the gradient is cut to, or None.
        truth: the validation part; nothing is logged of it if None.
        how: arguments of `HeadModule`; the optimizer is "sgd" (momentum 0.9) or "adamw", and "constant" has 5% of
            warm-up too, at most 500 steps.
    """

    head_path = "network.roi_heads.box_predictor.head"

    def __init__(
        self, network: Any, *, clip_norm: float | None = 10.0, truth: BoxSet | None = None, **how: Any
    ) -> None:
        super().__init__(**how)
        self.network = network
        self.clip_norm = clip_norm
        self.truth = truth
        self._found: list[Detections] = []
        self._files: list[str] = []  # of the batch, for messages

    def training_step(self, batch: BoxBatch, batch_idx: int) -> dict[str, Any]:
        """Return the loss, its parts, and what the head measures.

        Raises:
            DivergedError: the loss is not finite.
        """
        images, targets, self._files = batch
        parts: dict[str, Tensor] = self.network(pixels(images), targets)
        loss = torch.stack([part.float() for part in parts.values()]).sum()
        self._require_finite(loss, parts)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(images))
        embeddings, labels = self.network.roi_heads.observed
        if not self.measures:  # nobody else feeds a head that counts, and a checkpoint shall hold its counts
            self.network.roi_heads.observe()
        return {
            "loss": loss,
            "parts": {name: part.detach() for name, part in parts.items()},
            "embeddings": embeddings,
            "labels": labels,
        }

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Cut the gradient, which is unscaled here, as the Trainer says, or else to `clip_norm`.

        Raises:
            DivergedError: it is not finite, and no scaler of float16 is there that would leave the step out.
        """
        parameters = [p for p in self.parameters() if p.grad is not None]
        by_value = gradient_clip_algorithm == "value" and gradient_clip_val
        limit = math.inf if by_value else gradient_clip_val or self.clip_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
        if by_value:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        if getattr(self.trainer.precision_plugin, "scaler", None) is None and not bool(norm.isfinite()):
            raise self._not_finite("gradient", f"a length of {float(norm)}")

    def on_validation_epoch_start(self) -> None:
        """Begin to collect."""
        self._found = []

    def validation_step(self, batch: BoxBatch, batch_idx: int) -> None:
        """Detect."""
        images, targets, _ = batch
        if not images:  # another process has one more; DDP waited for this one to come too
            return
        outputs = self.network(pixels(images))
        self._found += detections_of(outputs, [target["image_id"] for target in targets])

    def on_validation_epoch_end(self) -> None:
        """Log the average precision over the whole validation part, of all processes."""
        found, self._found = gathered(self._found), []
        if self.truth is None:
            return
        scores = evaluate_boxes(self.truth, found)
        # A mean over no class has no value; 0 is one that never wins.
        named = {"val/ap": scores.ap, "val/ap50": scores.ap50}
        values = {name: torch.tensor(0.0 if math.isnan(ap) else ap) for name, ap in named.items()}
        self.log_dict(values, prog_bar=True, batch_size=1)

    def make_optimizer(self, **rates: Any) -> torch.optim.Optimizer:
        """Return the optimizer of what is not fixed."""
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, momentum=0.9, **rates)
        return torch.optim.AdamW(parameters, **rates)

    def factor(self, steps: int) -> Callable[[int], float]:
        """Return the factor of the learning rate for every step: detectors stand no full step at the start."""
        if self.schedule != "constant":
            return super().factor(steps)
        rising = max(1, min(500, round(0.05 * steps)))
        return lambda step: min(1.0, (step + 1) / rising)

    def _require_finite(self, loss: Tensor, parts: Mapping[str, Tensor]) -> None:
        """Raise in every process where the loss of any is not finite: the others would wait for it in vain."""
        broken = (~loss.detach().isfinite()).float()
        if not bool(self.trainer.strategy.reduce(broken.clone(), reduce_op="sum")):
            return
        shown = ", ".join(f"{name} {float(part.detach()):.4g}" for name, part in parts.items())
        elsewhere = "" if broken else "; not finite in another process"
        raise self._not_finite("loss", f"{float(loss.detach()):.6g} ({shown}{elsewhere})")

    def _not_finite(self, what: str, got: str) -> DivergedError:
        files = ", ".join(map(str, self._files))
        where = f"epoch {self.current_epoch}, step {self.global_step}, with {files}"
        return diverged(self, what, f"{got} in {where}")
