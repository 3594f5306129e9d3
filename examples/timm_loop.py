"""A network of timm with a head of bisector, trained with timm's optimiser, scheduler and moving average.

``python examples/timm_loop.py`` trains on scikit-learn's digits, in seconds; nothing is downloaded.
"""

from typing import Any

import timm
import torch
from sklearn.datasets import load_digits
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from timm.scheduler import CosineLRScheduler  # type: ignore[attr-defined]
from timm.utils import ModelEmaV3  # type: ignore[attr-defined]
from torch import Tensor, nn

import bisector as bs

EPOCHS, BATCH = 3, 128
TRAIN = 1280  # the first digits; the others are for the test


class Classifier(nn.Module):
    """One module, so that optimiser, moving average and checkpoints have the weights of both."""

    def __init__(self, backbone: nn.Module, head: bs.Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings in training mode, which are what the loss takes, and logits in evaluation mode."""
        embeddings: Tensor = self.backbone(images)
        return embeddings if self.training else self.head.logits(embeddings)


def main() -> None:
    """Train, print the loss of every step, and test the model and its moving average."""
    digits, targets = load_digits(return_X_y=True)
    images = torch.tensor(digits / 16).float().view(-1, 1, 8, 8)
    labels = torch.tensor(targets)

    torch.manual_seed(0)
    # num_classes=0: it returns embeddings. Its weights are random; pretrained=True for trained ones.
    backbone: Any = timm.create_model("test_efficientnet_gn", in_chans=1, num_classes=0)
    head = bs.ArcFace(backbone.num_features, 10, scale=16, warmup=5)
    model = Classifier(backbone, head)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=3e-3, weight_decay=0.05)
    steps = TRAIN // BATCH
    scheduler = CosineLRScheduler(optimizer, t_initial=EPOCHS * steps, warmup_t=5, t_in_epochs=False)
    ema = ModelEmaV3(model, decay=0.8)

    step = 0
    for _ in range(EPOCHS):
        model.train()
        for batch in torch.split(torch.randperm(TRAIN), BATCH):
            embeddings = model(images[batch])
            loss = head(embeddings, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            head.observe(embeddings.detach(), labels[batch])  # of heads that have it
            ema.update(model)
            step += 1
            scheduler.step_update(step)
            print(f"step {step}: loss {loss.item():.6f}")

    for name, network in {"model": model.eval(), "average": ema.module}.items():
        with torch.no_grad():
            right = network(images[TRAIN:]).argmax(1) == labels[TRAIN:]
        print(f"accuracy of the {name}: {right.float().mean():.4f}")


if __name__ == "__main__":
    main()
