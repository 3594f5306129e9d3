"""What some of the rows gave: everything that a measurement needs of them, in a form that merges and is stored."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bisector.data.tables.dataset import NO_PREDICTION
from bisector.errors import ArgumentError
from bisector.files import read_tensors, reading, whole_file
from bisector.information.meter import InformationMeter
from bisector.measurement.stream.draw import EqualDraw, Rows, Vectors
from bisector.measurement.stream.options import Options
from bisector.measurement.stream.tally import SPLITS, Tally

if TYPE_CHECKING:
    from bisector.data.tables import Chunk, Part, StoredEmbeddings

VERSION = 1
"""Of the file; one of another version is not read."""

_BLOCK = 2**15  # rows that a meter is given at once, at least: it is fastest on many
_BLOCK_BYTES = 2**26  # of its vectors, at most


class Partial:
    """The meter, the rows drawn, the predictions and the counts of some rows. Empty at first.

    Args:
        num_classes: C.
        dim: D.
        train_only: whether counts and amounts are those of the training split.
        options: of the measurement.
        drawn_bytes: of the memory budget, for the rows drawn; the meter has the rest.
    """

    def __init__(
        self, num_classes: int, dim: int, train_only: bool, options: Options, drawn_bytes: int = 0
    ) -> None:
        budget = options.memory_budget
        self.train_only = train_only
        self._drawn_bytes = drawn_bytes
        with self._within_budget():
            self.meter = InformationMeter(
                num_classes,
                dim,
                shrinkage=options.shrinkage,
                embeddings=options.embeddings,
                memory_budget=None if budget is None else budget - drawn_bytes,
            )
        self.drawn = EqualDraw(options.equal_count, dim, options.seed) if options.equal_count else None
        self.tally = Tally(num_classes)
        self.rows: Rows = np.zeros(len(SPLITS), dtype=np.int64)
        self.left_out: Counter[str] = Counter()

    @classmethod
    def empty(cls, stored: "StoredEmbeddings", options: Options) -> "Partial":
        """A partial of none of the rows."""
        drawn = options.drawn_bytes(stored)
        return cls(len(stored.class_names), stored.dim, stored.train_only, options, drawn)

    def add(
        self,
        stored: "StoredEmbeddings",
        parts: "Iterable[Part]",
        progress: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """Read these parts and take them in; `progress` is told of rows that are done.

        Raises:
            ArgumentError: if a part cannot be read, or the memory budget would be broken.
        """
        for embeddings, labels in _blocks(self._measured(stored.chunks(parts), progress), stored.dim):
            with self._within_budget():
                self.meter.update(_tensor(embeddings), _tensor(labels))

    def merge(self, other: "Partial") -> None:
        """Take in what other rows gave."""
        with self._within_budget():
            self.meter.merge(other.meter)
        if self.drawn is not None and other.drawn is not None:
            self.drawn.merge(other.drawn)
        self.tally.merge(other.tally)
        self.rows += other.rows
        self.left_out.update(other.left_out)

    def save(self, path: Path) -> None:
        """Write a file that is whole or not there.

        Raises:
            OSError: if it cannot be written.
        """
        state = {
            "version": VERSION,
            "meter": self.meter.state_dict(),
            "drawn": None if self.drawn is None else self.drawn.state_dict(),
            "tally": self.tally.state_dict(),
            "rows": torch.from_numpy(self.rows),
            "left_out": dict(self.left_out),
        }
        with whole_file(path) as file:
            torch.save(state, file)

    def load(self, path: Path) -> None:
        """Take over what was saved, in place of what this one holds.

        Raises:
            DamagedFileError: if the file is not one, or of another version or other classes.
            OSError: if it cannot be read.
        """
        with reading(
            f"partials: got {path}, which cannot be read; expected what this version of bisector wrote"
        ):
            state: dict[str, Any] = read_tensors(path)
            if state["version"] != VERSION:
                raise ValueError(f"version {state['version']}, not {VERSION}")
            self.meter.load_state_dict(state.pop("meter"))
            if self.drawn is not None:
                self.drawn.load_state_dict(state.pop("drawn"))
            self.tally.load_state_dict(state["tally"])
            self.rows = state["rows"].numpy()
            self.left_out = Counter(state["left_out"])

    @contextmanager
    def _within_budget(self) -> Iterator[None]:
        """The meter knows of its part of the budget alone; who gave the whole is told of the rest."""
        try:
            yield
        except ArgumentError as error:
            if self._drawn_bytes and str(error).startswith("memory_budget"):
                raise ArgumentError(
                    f"{error}, beside {self._drawn_bytes:,} bytes for the rows drawn for equal_count"
                ) from None
            raise

    def _measured(
        self, chunks: "Iterable[Chunk]", progress: Callable[[int], None]
    ) -> Iterator[tuple[Vectors, Rows]]:
        """Take in all but the embeddings of chunks, and yield those that the meter is to see."""
        for chunk in chunks:
            splits = np.zeros(len(chunk.labels), dtype=np.int64)
            if chunk.splits is not None:
                splits = chunk.splits.astype(np.int64)
            self.rows += np.bincount(splits, minlength=len(SPLITS))
            self.left_out.update(chunk.left_out)
            self.tally.add(splits, chunk.labels, chunk.predictions, chunk.losses)
            rows, labels, embeddings = chunk.rows, chunk.labels, chunk.embeddings
            if self.train_only and splits.any():
                kept = np.flatnonzero(splits == 0)
                rows, labels, embeddings = rows[kept], labels[kept], embeddings[kept]
            if self.drawn is not None:
                self.drawn.add(rows, labels, embeddings)
            yield embeddings, labels
            gone = (count for why, count in chunk.left_out.items() if why != NO_PREDICTION)
            progress(len(chunk) + sum(gone))


def _tensor(rows: Vectors | Rows) -> torch.Tensor:
    """Rows as a tensor; copied where they are a file's, into which PyTorch could write."""
    return torch.from_numpy(rows if rows.flags.writeable else rows.copy())


def _blocks(chunks: Iterable[tuple[Vectors, Rows]], dim: int) -> Iterator[tuple[Vectors, Rows]]:
    """The rows of chunks of any size in blocks of 32,768 to 65,536, the last one apart.

    Where these take more than 64 MiB of vectors: in blocks of 32 to 64 MiB.
    """
    least = min(_BLOCK, max(1, _BLOCK_BYTES // (8 * dim)))
    held: list[tuple[Vectors, Rows]] = []
    size = 0
    for embeddings, labels in chunks:
        for start in range(0, len(labels), least):
            piece = slice(start, start + least)
            held.append((embeddings[piece], labels[piece]))
            size += len(held[-1][1])
            if size >= least:
                yield _joined(held)
                held, size = [], 0
    if size:
        yield _joined(held)


def _joined(held: list[tuple[Vectors, Rows]]) -> tuple[Vectors, Rows]:
    if len(held) == 1:
        return held[0]
    return np.concatenate([x for x, _ in held]), np.concatenate([y for _, y in held])
