"""What a training of a detector leaves behind: plain numbers, read and written as JSON."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bisector.detection.evaluation import BoxAccuracy, BoxScores
from bisector.files import read_json, reading, typed, write_whole


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
        record = {**asdict(self), "scores": self.scores.to_dict()}
        write_whole(path, json.dumps(_finite(record), indent=1, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> "BoxResult":
        """Read what `write` wrote.

        Raises:
            DamagedFileError: it is no such file.
            OSError: it cannot be read.
        """
        with reading(f"result: got {path}; expected the result of bisector detect"):
            record: dict[str, Any] = read_json(path)
            record["scores"] = BoxScores.from_dict(record["scores"])
            for name in ("amount_history", "seconds", "classified"):
                record[name] = None if record[name] is None and name == "classified" else _nan(record[name])
            if record["classified"] is not None:
                told = record["classified"]
                for name in ("class_accuracy", "class_boxes"):
                    told[name] = tuple(told[name])
                record["classified"] = BoxAccuracy(**told)
            return typed(cls(**record))


def _finite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON has no word for, by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _nan(value: Any) -> Any:
    """Put NaN where `_finite` put None, where all are numbers."""
    if isinstance(value, dict):
        return {key: _nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_nan(item) for item in value]
    return math.nan if value is None else value
