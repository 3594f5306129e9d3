"""The decision of a trained classifier: how its scores and embeddings become classes, fitted on validation."""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from bisector.data.dataset import Dataset
from bisector.errors import ArgumentError, require_choice
from bisector.files import require_safetensors
from bisector.posthoc import Adjustment, BaseAdjustment, GeometryAdjustment, adjust, load_adjustment
from bisector.training.module import Classifier
from bisector.training.recipe import DECISIONS

if TYPE_CHECKING:
    from bisector.training.classification import Trained

FILES = ("decision.safetensors", "decision.json")
"""Where a training's decision is kept, beside its checkpoints."""


def require_decision(method: str) -> None:
    """Raise where a decision of this method cannot be fitted and kept, before anything is trained.

    Raises:
        ArgumentError: there is no such method.
        MissingExtraError: what its file needs is not installed.
    """
    require_choice("decide", method, DECISIONS)
    if method in {"geometry", "auto"}:
        require_safetensors("train")


def reason_against(dataset: Dataset) -> str:
    """Say why no decision can be fitted for these data; empty where one can."""
    if dataset.open_set:
        return (
            "no decision is fitted: with the open-set split the validation rows are those that are reported"
        )
    return (
        "" if len(dataset.validation) else "no decision is fitted: there are no validation rows to fit it on"
    )


def fit_decision(
    classifier: Classifier,
    dataset: Dataset,
    method: str,
    train: Tensor,  # (M, D)
    validation: tuple[Tensor, Tensor],  # (N, D), (N, C)
    *,
    seed: int = 0,
) -> tuple[BaseAdjustment | None, str]:
    """Return the decision that the validation rows give, and what was found, or none and why there is none.

    Args:
        classifier: that was trained; its head says how embeddings are scaled.
        dataset: it was trained on.
        method: of `bisector.posthoc.adjust`: "geometry", "auto" or "fitted".
        train: embeddings of the training part, not augmented.
        validation: embeddings and logits of the validation part.
        seed: of the folds.
    """
    embeddings, logits = validation
    try:
        decision = adjust(
            logits,
            dataset.validation.labels,
            method=method,  # type: ignore[call-overload]
            embeddings=embeddings,
            train=(train, dataset.train.labels),
            class_counts=dataset.train_counts,
            scale="unit" if classifier.head.score == "cosine" else "raw",
            seed=seed,
            class_names=dataset.class_names,
        )
    except (
        ArgumentError
    ) as error:  # such data, as five rows of one class: the training shall not be lost for it
        return None, f"no decision could be fitted: {error}"
    meaning = f" {decision.meaning}" if isinstance(decision, GeometryAdjustment) else ""
    return decision, f"{decision.description}.{meaning}"


def file_of(decision: BaseAdjustment) -> str:
    """Return the name of the file that a decision is kept in."""
    return FILES[isinstance(decision, Adjustment)]


def store_decision(folder: Path, decision: BaseAdjustment | None) -> None:
    """Write the decision of a training, if there is one, beside its checkpoints."""
    if decision is not None:
        decision.save(folder / file_of(decision))


def load_decision(folder: Path) -> BaseAdjustment | None:
    """Read the decision that is kept in the folder of a training; None where there is none.

    Raises:
        DamagedFileError: the file holds none.
    """
    kept = next((folder / name for name in FILES if (folder / name).is_file()), None)
    return None if kept is None else load_adjustment(kept)


def decision_network(trained: "Trained | Classifier", *, embeddings: bool = False) -> nn.Module:
    """Return one network from inputs to scores after the decision, to be exported; raw logits without a decision.

    Args:
        trained: the classifier.
        embeddings: whether the network returns (scores, embeddings), not the scores alone.

    >>> import torch
    >>> from bisector.heads import build_head
    >>> classifier = Classifier(nn.Flatten(), build_head("linear-softmax", 4, 3))
    >>> classifier.decision = Adjustment(torch.tensor([0.0, 0.0, 99.0]))
    >>> decision_network(classifier)(torch.zeros(2, 2, 2)).argmax(1)
    tensor([2, 2])
    """
    classifier = trained if isinstance(trained, Classifier) else trained.model
    return _DecisionNetwork(classifier, embeddings).eval()


class _DecisionNetwork(nn.Module):
    def __init__(self, classifier: Classifier, embeddings: bool) -> None:
        super().__init__()
        self.with_embeddings = embeddings
        self.backbone = classifier.backbone
        self.head = classifier.head
        decision = classifier.decision
        self.decision = None if decision is None else decision.module().to(classifier.device)

    def forward(self, inputs: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        embeddings = self.backbone(inputs)
        logits = self.head.logits(embeddings)
        scores = logits if self.decision is None else self.decision(logits, embeddings)
        return (scores, embeddings) if self.with_embeddings else scores
