"""The cells of a comparison: one head with one seed each, trained alone, kept in a folder of its own."""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic

from bisector._version import __version__
from bisector.errors import require, require_integer
from bisector.files import read_or_none
from bisector.heads._names import require_distinct
from bisector.records import write_record
from bisector.training.checkpoints import BEST, LAST, remove_damaged
from bisector.training.experiment import Experiment, Model, Result
from bisector.training.recipe import Machine
from bisector.training.results import RESULT
from bisector.training.settings import WHEN_ABSENT


@dataclass(frozen=True)
class Cell(ABC, Generic[Model, Result]):
    """One training of a comparison. A kind of model is a subclass."""

    task: Any  # a record of what it is trained on
    head: str  # spec of the head
    recipe: Any  # how to train
    seed: int  # of data and training
    precision: str = "32-true"  # of the training
    fingerprint: str = ""  # of the data; a cell of other data is another cell

    leaves: ClassVar[tuple[str, ...]] = (RESULT,)
    """The files without which it is not done."""

    weights: ClassVar[tuple[str, ...]] = (LAST, BEST)
    """The files that go when it is done, unless they are to be kept."""

    @abstractmethod
    def experiment(self, machine: Machine, cells: Path | None = None) -> Experiment[Model, Result]:
        """Return the training, its data loaded; what all cells can share is kept in the folder of theirs."""

    @abstractmethod
    def read(self, folder: Path) -> Result:
        """Read what the training left in its folder."""

    def keep_beside(self, folder: Path, beside: Any) -> None:
        """Write what came out beside the result."""

    def record(self, experiment: Experiment[Model, Result], model: Model, result: Result) -> Result:
        """Return what is kept of the training."""
        return result

    @property
    def epochs(self) -> int:
        """How many epochs it is trained for."""
        epochs: int = self.recipe.epochs
        return epochs

    @property
    def key(self) -> str:
        """A name for its folder, different for everything on which its result depends."""
        depends = {**asdict(self), "version": __version__}
        depends.pop("decide", None)  # which changes no weight
        for name, value in WHEN_ABSENT.items():
            if depends["recipe"].get(name) == value:
                del depends["recipe"][name]
        if self.fingerprint:  # which knows the data, wherever they lie
            del depends["task"]["data"]
        text = json.dumps(depends, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        words = re.sub(r"[^\w.=-]+", "-", self.head)[:60]
        return f"{words}-seed{self.seed}{self._kind()}-{digest}"

    def done(self, cells: Path | None, *, keep: bool = False) -> Result | None:
        """Return the result, if it is there already, and the checkpoint too if that is to be kept."""
        own = None if cells is None else cells / self.key
        needed = (*self.leaves, LAST) if keep else self.leaves
        if own is None or not all((own / name).is_file() for name in needed):
            return None
        return read_or_none(own / RESULT, lambda path: self.read(path.parent))

    def train(
        self, cells: Path | None, machine: Machine, progress: Callable[[int], None], *, keep: bool = False
    ) -> Result:
        """Train it, or go on with it, and keep the result in a folder of its own, if there is one for all cells.

        Without `keep` the checkpoints go when the result is there.
        """
        own = None if cells is None else cells / self.key
        remove_damaged(own)
        experiment = self.experiment(machine, cells)
        if own is not None:  # else a kill would leave it beside weights that are on their way
            (own / RESULT).unlink(missing_ok=True)
        model, result, beside = experiment.run(own, progress=progress)
        record = self.record(experiment, model, result)
        if own is not None:
            self.keep_beside(own, beside)
            write_record(record, own / RESULT)  # last: whoever finds it finds all the rest
            for name in () if keep else self.weights:
                (own / name).unlink(missing_ok=True)
        return record

    def _kind(self) -> str:
        """What tells cells of one head and seed apart, for people."""
        return ""


def require_heads(heads: Sequence[str], seeds: int, machine: Machine, name: str = "heads") -> None:
    """Raise `ArgumentError` for what no comparison can do."""
    alone = "1: a comparison runs its trainings side by side instead"
    require(machine.devices == 1, "devices", machine.devices, alone)
    require_distinct(heads, name)
    require_integer("seeds", seeds, least=1)
