"""What a comparison of heads leaves behind: plain numbers, read and written as JSON."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bisector.files import read_json, reading, typed, write_whole

RESULT = "result.json"  # of one training, in its folder


@dataclass(frozen=True)
class Run:
    """One head trained with one seed. Lists are indexed by class."""

    head: str  # as on the command line, e.g. "igam:preset=paper"
    seed: int
    metrics: dict[str, float]  # keys as in `metrics.summary.METRICS`
    class_accuracy: list[float]  # on the test split, 0 to 1
    class_amount: list[float]  # bits, of the training embeddings; NaN where unknown
    class_count: list[int] = field(default_factory=list)  # training instances; they differ between seeds
    amount_history: list[list[float]] = field(default_factory=list)  # one row a refresh; IGAM alone
    margins: list[list[float]] | None = (
        None  # (C, C) radians, margins[true][competitor]; pairwise heads alone
    )
    direction: str | None = None  # of those margins, "relax" or "press"
    confusion: list[list[int]] = field(default_factory=list)  # (C, C) test counts, [true][predicted]
    seconds: float = 0.0
    epochs: int = 0
    verification: dict[str, Any] | None = None  # of classes never trained on; the open-set split alone


@dataclass(frozen=True)
class Plane:
    """One head trained with a two-dimensional embedding, for drawing."""

    head: str
    points: list[list[float]]  # (N, 2) test embeddings
    labels: list[int]
    weights: list[list[float]]  # (C, 2) class weights
    accuracy: float
    bias: list[float] | None = (
        None  # (C,) for linear-softmax, whose boundaries do not pass through the origin
    )


@dataclass(frozen=True)
class Comparison:
    """Everything one `bisector compare` found, with what is needed to repeat it."""

    command: str
    version: str
    data: str
    imbalance: float
    class_names: list[str]
    train_counts: list[int]
    test_counts: list[int]
    recipe: dict[str, Any]
    runs: list[Run]
    planes: list[Plane] = field(default_factory=list)
    baseline: str = ""  # the head that differences are taken from; the first if empty
    left_out: list[str] = field(default_factory=list)  # what of the data could not be used, and why

    @property
    def heads(self) -> list[str]:
        """The heads in the order in which they were first run."""
        return list(dict.fromkeys(run.head for run in self.runs))

    @property
    def baseline_head(self) -> str:
        """The head that differences are taken from; the first if none was named or the named one was not run."""
        return self.baseline if self.baseline in self.heads else next(iter(self.heads), "")

    def write(self, path: Path) -> None:
        """Write as JSON; numbers that are not finite become null."""
        write_record(self, path)

    @classmethod
    def read(cls, path: Path) -> "Comparison":
        """Read what `write` wrote; null becomes NaN where a number belongs.

        Raises:
            DamagedFileError: it is no such file.
            OSError: it cannot be read.
        """
        with reading(f"results: got {path}; expected the comparison.json of bisector compare"):
            raw = read_json(path)
            runs = [_run(run) for run in raw.pop("runs")]
            planes = [_plane(plane) for plane in raw.pop("planes")]
            return typed(cls(runs=runs, planes=planes, **raw))


def write_record(record: Run | Plane | Comparison, path: Path) -> None:
    """Write as JSON, whole or not at all; numbers that are not finite become null."""
    write_whole(path, json.dumps(_finite(asdict(record)), indent=1, allow_nan=False) + "\n")


def read_run(path: Path) -> Run:
    """Read the `Run` that `write_record` wrote; null becomes NaN where a number belongs.

    Raises:
        DamagedFileError: it is no such file.
        OSError: it cannot be read.
    """
    with reading(f"result: got {path}; expected the result of a training"):
        return _run(read_json(path))


def read_plane(path: Path) -> Plane:
    """Read the `Plane` that `write_record` wrote; raises as `read_run`."""
    with reading(f"result: got {path}; expected the result of a training"):
        return _plane(read_json(path))


def _run(record: Any) -> Run:
    return typed(Run(**_restored(record)))


def _plane(record: Any) -> Plane:
    return typed(Plane(**_restored(record)))


def _finite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON has no word for, by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value


def _restored(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value if value is None else _nan_for_null(value) for name, value in record.items()}


def _nan_for_null(value: Any) -> Any:
    """Put NaN where `_finite` put null; lists and the metrics hold numbers throughout."""
    if isinstance(value, list):
        return [_nan_for_null(item) for item in value]
    if isinstance(value, dict):
        return {key: _nan_for_null(item) for key, item in value.items()}
    return math.nan if value is None else value
