"""What a comparison of heads leaves behind: plain numbers, read and written as JSON."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from bisector.errors import require
from bisector.records import read_record, write_record

Result = TypeVar("Result")

RESULT = "result.json"  # of one training, in its folder
_RUN_BY = {
    ".onnx": "an ONNX file is run by onnxruntime, as its model card shows, and by bisector embed",
    ".pt2": "a .pt2 is run by torch.export.load, as its model card shows",
}
WITH = " + "  # between a head and the method of its decision


@dataclass(frozen=True)
class Decided:
    """What a decision that was fitted on the validation part makes of the same rows. Lists are indexed by class."""

    method: str  # that was asked for
    description: str  # what was found, or why there is none
    file: str = ""  # it is kept in, beside the checkpoints; empty where there is none
    metrics: dict[str, float] = field(default_factory=dict)  # empty where there is none, as the rest
    class_accuracy: list[float] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)


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
    decided: Decided | None = None  # where a decision was asked for
    class_weight: list[float] | None = None  # in the loss; None where rows of all classes count alike

    def rows(self) -> "list[Run]":
        """Return what a comparison shows of it: the run as it was trained, and the one with its decision.

        The latter is called as the head, plus its method. It has neither the margins nor the amounts of the former.
        """
        alone = replace(self, decided=None)
        if self.decided is None or not self.decided.file:
            return [alone]
        told = Decided(self.decided.method, self.decided.description, self.decided.file)
        with_it = Run(
            head=f"{self.head}{WITH}{self.decided.method}",
            seed=self.seed,
            metrics=self.decided.metrics,
            class_accuracy=self.decided.class_accuracy,
            class_amount=[],
            class_count=self.class_count,
            class_weight=self.class_weight,
            confusion=self.decided.confusion,
            seconds=self.seconds,
            epochs=self.epochs,
            decided=told,
        )
        return [alone, with_it]


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
    models: dict[str, str] = field(
        default_factory=dict
    )  # each head's folder of seed 0 in that of the comparison, if kept

    @property
    def heads(self) -> list[str]:
        """The heads in the order in which they were first run."""
        return list(dict.fromkeys(run.head for run in self.runs))

    @property
    def decided_heads(self) -> dict[str, str]:
        """The heads with a decision, and each of them without it."""
        return {run.head: run.head.rpartition(WITH)[0] for run in self.runs if run.decided is not None}

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
        return read_record(
            cls, path, f"results: got {path}; expected the comparison.json of bisector compare"
        )


def require_model(path: Path) -> None:
    """Raise `ArgumentError` where nothing is that could be a trained classifier; known without PyTorch."""
    legal = "a checkpoint, or the folder of a training that holds one, or an exported .safetensors"
    held = path.is_file() or any((path / name).is_file() for name in ("last.ckpt", "model.safetensors"))
    other = _RUN_BY.get(path.suffix.lower()) if path.is_file() else None
    require(held and not other, "model", str(path), f"{legal}; {other}" if other else legal)


def read_result(kind: type[Result], path: Path) -> Result:
    """Read the `Run` or `Plane` of a training; null becomes NaN where a number belongs.

    Raises:
        DamagedFileError: it is no such file.
        OSError: it cannot be read.
    """
    return read_record(kind, path, f"result: got {path}; expected the result of a training")
