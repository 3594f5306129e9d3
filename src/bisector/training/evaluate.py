"""What came out of a training: the model on the test part, its classes' amounts on the training part."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bisector.data.dataset import Dataset, Part
from bisector.functional.margins import PairwiseMargin
from bisector.information.amount import information_amounts
from bisector.metrics.groups import class_accuracy
from bisector.metrics.summary import summarize
from bisector.metrics.verification import verify_apart
from bisector.posthoc import BaseAdjustment
from bisector.training.decision import file_of, fit_decision, reason_against
from bisector.training.divergence import require_finite
from bisector.training.loader import plain_batches
from bisector.training.module import Classifier
from bisector.training.results import Decided, Run

EVALUATION_BATCH = 512
MATRIX_CLASSES = 200  # with more classes, what is kept for every pair of them would outgrow everything else


class Outputs(NamedTuple):
    """What a model gives for the rows of a part, on the CPU."""

    embeddings: Tensor  # (N, D)
    predictions: Tensor  # (N,) of the highest logits
    decided: Tensor  # (N,) by the decision; those of the highest logits without one


@torch.no_grad()
def outputs(
    model: Classifier, part: Part, *, batch_size: int = EVALUATION_BATCH, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:  # (B, D), (B, C)
    """Yield embeddings and logits of a part, batch by batch; the model is in evaluation mode.

    Raises:
        DivergedError: an embedding is not finite.
    """
    model.eval()
    for inputs, _ in plain_batches(part, batch_size, workers=workers):
        embeddings = model.backbone(inputs.to(model.device)).float()
        require_finite(model, "embeddings", [embeddings])
        yield embeddings, model.head.logits(embeddings)


def embed(
    model: Classifier,
    part: Part,
    decision: BaseAdjustment | None = None,
    *,
    batch_size: int = EVALUATION_BATCH,
    workers: int = 0,
) -> Outputs:
    """Return the embeddings and the predicted classes of a part; logits are not kept, which may be many.

    Raises:
        DivergedError: an embedding is not finite.
    """
    found = [(torch.empty(0, model.head.in_features), *[torch.empty(0, dtype=torch.long)] * 2)]
    for embeddings, logits in outputs(model, part, batch_size=batch_size, workers=workers):
        predictions = logits.argmax(dim=1)
        decided = predictions if decision is None else decision.predict(logits, embeddings)
        found.append((embeddings.cpu(), predictions.cpu(), decided.cpu()))
    return Outputs(*map(torch.cat, zip(*found, strict=True)))


def evaluate(
    model: Classifier,
    dataset: Dataset,
    spec: str,
    seed: int,
    *,
    history: list[list[float]],
    workers: int = 0,
    decide: str = "none",
) -> tuple[Run, BaseAdjustment | None]:
    """Return what a comparison keeps of one training, and the decision, if one was asked for and could be fitted.

    Amounts are measured alike for every head: of the training embeddings on the sphere, since a cosine head leaves
    the norms arbitrary. With the open-set split the classes of the test part are others than those trained on:
    then the test part is verified, also at thresholds that one half of its classes chose for the other, and the
    accuracies are those of the validation part.
    """
    train = embed(model, dataset.train, workers=workers).embeddings
    asked, verification = decide != "none", None
    decision, told = None, reason_against(dataset) if asked else ""
    if asked and not told:
        held_out = zip(*outputs(model, dataset.validation, workers=workers), strict=True)
        embeddings, logits = (torch.cat(batches).cpu() for batches in held_out)
        decision, told = fit_decision(model, dataset, decide, train, (embeddings, logits), seed=seed)
    test, labels = embed(model, dataset.test, decision, workers=workers), dataset.test.labels
    if dataset.open_set:
        verification = verify_apart(test.embeddings, labels).to_dict()
        test, labels = embed(model, dataset.validation, workers=workers), dataset.validation.labels
    counts, classes = dataset.train_counts, dataset.num_classes
    amounts = information_amounts(train, dataset.train.labels, classes, embeddings="unit")
    guide: PairwiseMargin | None = getattr(model.head, "guide", None)

    def accuracies(predictions: Tensor) -> dict[str, Any]:
        pairs = labels * classes + predictions
        small = classes <= MATRIX_CLASSES
        return {
            "metrics": summarize(predictions, labels, test.embeddings, counts, amounts),
            "class_accuracy": class_accuracy(predictions, labels, classes).tolist(),
            "confusion": torch.bincount(pairs, minlength=classes**2).view(classes, -1).tolist()
            if small
            else [],
        }

    decided = Decided(decide, told) if asked else None
    if decision is not None:
        decided = Decided(decide, told, file_of(decision), **accuracies(test.decided))
    run = Run(
        head=spec,
        seed=seed,
        **accuracies(test.predictions),
        class_amount=amounts.tolist(),
        class_count=counts.tolist(),
        class_weight=None if model.head.class_weight is None else model.head.class_weight.tolist(),
        amount_history=history,
        margins=guide.matrix().tolist() if guide is not None and classes <= MATRIX_CLASSES else None,
        direction=None if guide is None else guide.direction,
        verification=verification,
        decided=decided,
    )
    return run, decision
