"""What came out of a training: the model on the test part, its classes' amounts on the training part."""

import torch
from torch import Tensor

from bisector.data.dataset import Dataset, Part
from bisector.functional.margins import PairwiseMargin
from bisector.information.amount import information_amounts
from bisector.metrics.groups import class_accuracy
from bisector.metrics.summary import summarize
from bisector.metrics.verification import verify_apart
from bisector.training.divergence import require_finite
from bisector.training.loader import plain_batches
from bisector.training.module import Classifier
from bisector.training.results import Run

EVALUATION_BATCH = 512
MATRIX_CLASSES = 200  # with more classes, what is kept for every pair of them would outgrow everything else


@torch.no_grad()
def embed(
    model: Classifier, part: Part, *, batch_size: int = EVALUATION_BATCH, workers: int = 0
) -> tuple[Tensor, Tensor]:  # (N, D), (N,)
    """Return the embeddings and the predicted classes of a part, on the CPU; the model is in evaluation mode.

    Raises:
        DivergedError: an embedding is not finite.
    """
    model.eval()
    embeddings, predictions = [], []
    for inputs, _ in plain_batches(part, batch_size, workers=workers):
        found = model.backbone(inputs.to(model.device)).float()
        embeddings.append(found.cpu())
        predictions.append(model.head.logits(found).argmax(dim=1).cpu())
    require_finite(model, "embeddings", embeddings)
    if not embeddings:
        return torch.empty(0, model.head.in_features), torch.empty(0, dtype=torch.long)
    return torch.cat(embeddings), torch.cat(predictions)


def evaluate(
    model: Classifier,
    dataset: Dataset,
    spec: str,
    seed: int,
    *,
    history: list[list[float]],
    workers: int = 0,
) -> Run:
    """Return what a comparison keeps of one training.

    Amounts are measured alike for every head: of the training embeddings on the sphere, since a cosine head leaves
    the norms arbitrary. With the open-set split the classes of the test part are others than those trained on:
    then the test part is verified, also at thresholds that one half of its classes chose for the other, and the
    accuracies are those of the validation part.
    """
    train, _ = embed(model, dataset.train, workers=workers)
    test, predictions = embed(model, dataset.test, workers=workers)
    labels, verification = dataset.test.labels, None
    if dataset.open_set:
        chosen, chosen_predictions = embed(model, dataset.validation, workers=workers)
        verification = verify_apart(test, labels).to_dict()
        test, predictions, labels = chosen, chosen_predictions, dataset.validation.labels
    counts, classes = dataset.train_counts, dataset.num_classes
    amounts = information_amounts(train, dataset.train.labels, classes, embeddings="unit")
    guide: PairwiseMargin | None = getattr(model.head, "guide", None)
    small = classes <= MATRIX_CLASSES
    pairs = labels * classes + predictions
    confusion = torch.bincount(pairs, minlength=classes**2).view(classes, -1).tolist() if small else []
    return Run(
        head=spec,
        seed=seed,
        metrics=summarize(predictions, labels, test, counts, amounts),
        class_accuracy=class_accuracy(predictions, labels, classes).tolist(),
        class_amount=amounts.tolist(),
        class_count=counts.tolist(),
        amount_history=history,
        margins=guide.matrix().tolist() if guide is not None and small else None,
        direction=None if guide is None else guide.direction,
        confusion=confusion,
        verification=verification,
    )
