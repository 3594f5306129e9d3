"""The record of a measurement, and its file."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from bisector.measurement.classes import ClassMeasure
from bisector.measurement.confusion import Pair
from bisector.measurement.duplicates import Duplicates
from bisector.measurement.label_errors import LabelErrors
from bisector.measurement.next_step import Step, recommended
from bisector.measurement.score_measures import ScoreMeasure
from bisector.metrics.verification import Verification
from bisector.posthoc.trial import Trials
from bisector.records import read_record, write_record


@dataclass(frozen=True)
class Measurement:
    """Everything that was measured on a table of embeddings. What cannot be said is NaN or empty.

    Args:
        file: that was measured.
        command: that measured it.
        version: of bisector.
        data: what was embedded, if the file says so.
        model: by what.
        rows: N.
        dimensions: D.
        splits: rows of each split; empty without splits.
        measured_on: the rows of counts and amounts, in words.
        tested_on: those of accuracy and loss; empty without predictions.
        classes: in the order of the labels.
        confused: pairs of classes, the most confused first.
        nearest: pairs of classes, the nearest means first.
        label_errors: suspected; None where they were not looked for.
        duplicates: found; None where they were not looked for.
        verification: of the test rows of classes without training rows, all pairs by cosine; None without such.
        steps: all rules, in their order.
        left_out: of the data, by the reader and by whoever wrote the file.
        notes: what the reader should know.
        scores: accuracy and the scores that the user brought, and what goes with them.
        trials: of adjustments, on held-out rows; None where there are no scores.
        equal_count: rows of each class that equal amounts are measured on; 0 for none.
        shrinkage: of the covariances.
        embeddings: "raw" or "unit", what amounts are measured on.
        streamed: whether the rows were read as a stream, which sees no label errors and no duplicates.
        tables: files that were written beside this record.
        mistakes: rows of each class that were taken for another; of many the pairs with most rows.
        angles: between the mean directions of all classes, in degrees; empty where there are more than 60.
        squared_distances: between the means of all classes, as of `ClassMeasure`; empty where there are more.
    """

    file: str
    command: str
    version: str
    data: str
    model: str
    rows: int
    dimensions: int
    splits: dict[str, int]
    measured_on: str
    tested_on: str
    classes: list[ClassMeasure]
    confused: list[Pair]
    nearest: list[Pair]
    label_errors: LabelErrors | None
    duplicates: Duplicates | None
    verification: Verification | None
    steps: list[Step]
    left_out: list[str]
    notes: list[str]
    scores: list[ScoreMeasure] = field(default_factory=list)
    trials: Trials | None = None
    equal_count: int = 0
    shrinkage: str = "quadratic-inverse"
    embeddings: str = "unit"
    streamed: bool = False
    tables: list[str] = field(default_factory=list)
    mistakes: dict[str, dict[str, int]] = field(default_factory=dict)
    angles: list[list[float]] = field(default_factory=list)
    squared_distances: list[list[float]] = field(default_factory=list)

    @property
    def step(self) -> Step:
        """The step that is recommended."""
        return recommended(self.steps)

    @property
    def accuracy(self) -> float:
        """Of all tested rows, 0 to 1; NaN without predictions."""
        tested = sum(one.tested for one in self.classes)
        right = sum(one.accuracy * one.tested for one in self.classes if one.tested)
        return right / tested if tested else math.nan

    @property
    def balanced_accuracy(self) -> float:
        """The mean of the classes' accuracies, 0 to 1; NaN without predictions."""
        known = [one.accuracy for one in self.classes if math.isfinite(one.accuracy)]
        return sum(known) / len(known) if known else math.nan

    def write(self, path: Path) -> None:
        """Write as JSON; what is not a finite number is null.

        Raises:
            OSError: if the file cannot be written.
        """
        write_record(self, path)

    @classmethod
    def read(cls, path: Path) -> "Measurement":
        """Read what `write` wrote.

        Raises:
            DamagedFileError: if it is no such file.
            OSError: if it cannot be read.
        """
        return read_record(cls, path, f"measurement: {path} is not one that bisector wrote")
