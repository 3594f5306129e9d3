"""A head of bisector on a model of transformers, for its `Trainer`."""

from typing import Any

from torch import Tensor, nn

from bisector.errors import missing_extra, require
from bisector.heads import Head

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise missing_extra("transformers", "hf") from error

__all__ = ["HeadCallback", "ImageClassifier"]


class ImageClassifier(nn.Module):
    """An image model of transformers without its classifier, and a head, as `transformers.Trainer` takes a model.

    Embeddings are the encoder's pooled output where it has one, else the first token of its last layer.

    Args:
        encoder: such as `ViTModel` or `ResNetModel`: it takes `pixel_values`.
        head: any head of bisector whose `in_features` is the dimension of the embeddings. Of an IGAM or a Seesaw
            head, give the trainer a `HeadCallback` too.

    Raises:
        ArgumentError: `head` is no head.

    >>> import torch, bisector as bs
    >>> from transformers import ResNetConfig, ResNetModel
    >>> config = ResNetConfig(num_channels=1, embedding_size=4, hidden_sizes=[8], depths=[1], layer_type="basic")
    >>> model = ImageClassifier(ResNetModel(config), bs.AMSoftmax(8, 10))
    >>> output = model(torch.rand(2, 1, 8, 8), labels=torch.tensor([3, 7]))
    >>> output["loss"].shape, output["logits"].shape
    (torch.Size([]), torch.Size([2, 10]))
    """

    accepts_loss_kwargs = False  # the loss is a mean over the batch: the trainer divides by accumulated ones

    def __init__(self, encoder: nn.Module, head: Head) -> None:
        super().__init__()
        require(isinstance(head, Head), "head", type(head).__name__, "a head of bisector")
        self.encoder = encoder
        self.head = head
        self._unobserved: tuple[Tensor, Tensor] | None = None  # the last training batch

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Return the (B, D) embeddings of (B, channels, height, width) images."""
        output = self.encoder(pixel_values=pixel_values)
        pooled: Tensor | None = getattr(output, "pooler_output", None)
        first: Tensor = output.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)
        return first

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the loss, where there are labels, and the logits for inference, without margin."""
        embeddings = self.embed(pixel_values)
        logits = self.head.logits(embeddings)
        if labels is None:
            return {"logits": logits}
        if self.training and hasattr(self.head, "observe"):
            self._unobserved = embeddings.detach(), labels
        return {"loss": self.head(embeddings, labels), "logits": logits}

    def observe(self) -> None:
        """Let the head observe the last training batch, if it has not yet."""
        observe: Any = getattr(self.head, "observe", None)
        if self._unobserved is not None and observe is not None:
            observe(*self._unobserved)
        self._unobserved = None


class HeadCallback(TrainerCallback):
    """Let the head of an `ImageClassifier` observe each batch, and IGAM's margins be refreshed after each epoch.

    Other heads need none and are left alone. What has been observed since the last refresh is not in the trainer's
    checkpoints: save once an epoch, as ``save_strategy="epoch"`` does.

    >>> HeadCallback.__mro__[1].__name__
    'TrainerCallback'
    """

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Observe a batch whose gradient is accumulated."""
        for model in _classifiers(kwargs["model"]):
            model.observe()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Observe a batch."""
        self.on_substep_end(args, state, control, **kwargs)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Refresh."""
        for model in _classifiers(kwargs["model"]):
            refresh: Any = getattr(model.head, "refresh", None)
            if refresh is not None:
                refresh()


def _classifiers(model: nn.Module) -> list[ImageClassifier]:
    """Return the classifiers within what the trainer may have wrapped."""
    return [module for module in model.modules() if isinstance(module, ImageClassifier)]
