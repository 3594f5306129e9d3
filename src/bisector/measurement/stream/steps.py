"""What to do next where the rows were read as a stream."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from bisector.data.tables import EmbeddingTable
from bisector.measurement.classes import ClassMeasure
from bisector.measurement.next_step import Step, next_steps
from bisector.measurement.score_measures import ScoreMeasure
from bisector.posthoc.trial import Trials

if TYPE_CHECKING:
    from bisector.data.tables import StoredEmbeddings


def streamed_steps(
    stored: "StoredEmbeddings",
    file: str,
    classes: Sequence[ClassMeasure],
    accuracy: ScoreMeasure | None,
    command: str,
    trials: Trials | None = None,
) -> list[Step]:
    """The rules of `next_steps`; label errors and duplicates were not looked for."""
    about = EmbeddingTable(  # of no row: the rules ask it where the data come from
        torch.empty(0, stored.dim),
        torch.empty(0, dtype=torch.long),
        stored.class_names,
        model=str(stored.notes.get("model", "")),
        data=str(stored.notes.get("data", "")),
        settings=settings if isinstance(settings := stored.notes.get("settings"), dict) else {},
        head=head if isinstance(head := stored.notes.get("head"), dict) else {},
    )
    return next_steps(about, file, classes, accuracy, None, None, command, trials)
