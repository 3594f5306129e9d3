"""A head of bisector as a loss of sentence-transformers, for its `SentenceTransformerTrainer`."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from bisector.errors import missing_extra, require
from bisector.heads import Head

try:
    from sentence_transformers import SentenceTransformer
except ImportError as error:
    raise missing_extra("sentence-transformers", "sentence-transformers") from error

__all__ = ["HeadLoss"]


class HeadLoss(nn.Module):
    """The loss of a head on the embeddings of one column of texts, with class labels.

    Its weights are trained with the model's, but the trainer saves the model alone: keep ``loss.head.state_dict()``
    to classify with ``loss.head``. A head that counts (a warm-up, AdaFace, Seesaw) or measures (IGAM) observes each
    training batch; call ``loss.head.refresh()`` after each epoch of IGAM.

    Args:
        model: whose embeddings are `head.in_features` long.
        head: any head of bisector.

    Raises:
        ArgumentError: `head` is no head, or its dimension is another.
    """

    def __init__(self, model: SentenceTransformer, head: Head) -> None:
        super().__init__()
        require(isinstance(head, Head), "head", type(head).__name__, "a head of bisector")
        dim = model.get_embedding_dimension()
        require(dim == head.in_features, "head", f"in_features={head.in_features}", f"{dim}, the model's")
        self.model = model
        self.head = head

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Return the loss of a batch of one column; in training the head observes it.

        Raises:
            ArgumentError: there is another number of columns.
        """
        columns = list(sentence_features)
        require(len(columns) == 1, "train_dataset", f"{len(columns)} columns of texts", "one, and labels")
        embeddings: Tensor = self.model(columns[0])["sentence_embedding"]
        loss: Tensor = self.head(embeddings, labels)
        observe: Any = getattr(self.head, "observe", None)
        if self.training and loss.requires_grad and observe is not None:
            observe(embeddings.detach(), labels)
        return loss
