"""What a training of a detector leaves behind: plain numbers, read and written as JSON."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from bisector.detection.evaluation import BoxAccuracy, BoxScores
from bisector.records import read_record, write_record


@dataclass(frozen=True)
class BoxResult:
    """One detector trained with one seed and scored.

    Args:
        head: as on the command line, such as "igam:preset=paper".
        seed: of the training.
        model: name of the detector.
        data: what it was trained on.
        part: that was scored, "test" or "validation".
        scores: on that part.
        seconds: that training and scoring took.
        epochs: that were trained.
        classified: how well the classes of the true boxes were told apart, None where nobody looked.
        adjustment: how its scores were moved before they were scored, None where they were not.
        amount_history: (refreshes, C) information amounts in bits, NaN where unknown; of IGAM alone.
    """

    head: str
    seed: int
    model: str
    data: str
    part: str
    scores: BoxScores
    seconds: float = math.nan
    epochs: int = 0
    classified: BoxAccuracy | None = None
    adjustment: str | None = None
    amount_history: list[list[float]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all; NaN becomes null."""
        write_record(self, path)

    @classmethod
    def read(cls, path: Path) -> "BoxResult":
        """Read what `write` wrote.

        Raises:
            DamagedFileError: it is no such file.
            OSError: it cannot be read.
        """
        return read_record(cls, path, f"result: got {path}; expected the result of bisector detect")
