"""What some of the rows gave: everything that a measurement needs of them, in a form that merges and is stored."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bisector.data.tables.columns import SPLITS, Array
from bisector.data.tables.dataset import NO_PREDICTION
from bisector.errors import ArgumentError
from bisector.files import read_tensors, reading, whole_file
from bisector.information.meter import InformationMeter
from bisector.measurement.draw import EqualDraw, Rows, Vectors
from bisector.measurement.duplicates import PRINT_BYTES, Prints
from bisector.measurement.label_errors import JudgeName, rows_to_learn_from
from bisector.measurement.stream.options import Options
from bisector.measurement.tally import Tally

if TYPE_CHECKING:
    from bisector.data.tables import Chunk, Part, StoredEmbeddings

VERSION = 3
"""Of the file; one of another version is not read."""

_PRINTS = 2**30  # bytes that finding duplicates may take, where there is no budget
_BLOCK = 2**15  # rows that a meter is given at once, at least: it is fastest on many
_BLOCK_BYTES = 2**26  # of its vectors, at most


class Partial:
    """The meter, the rows drawn, the predictions and the counts of some rows. Empty at first.

    What finding suspected labels and duplicates needs is beside the memory budget: of each at most a quarter of it.

    Args:
        stored: the table.
        options: of the measurement.
    """

    def __init__(self, stored: "StoredEmbeddings", options: Options) -> None:
        budget, dim, num_classes = options.memory_budget, stored.dim, len(stored.class_names)
        self.train_only = stored.train_only
        self._drawn_bytes = options.drawn_bytes(stored)
        with self._within_budget():
            self.meter = InformationMeter(
                num_classes,
                dim,
                shrinkage=options.shrinkage,
                embeddings=options.embeddings,
                memory_budget=None if budget is None else budget - self._drawn_bytes,
            )
        self.drawn = EqualDraw(options.equal_count, dim, options.seed) if options.equal_count else None
        self.tally = Tally(num_classes)
        self.rows: Rows = np.zeros(len(SPLITS), dtype=np.int64)
        self.left_out: Counter[str] = Counter()
        self.gone: Rows = np.empty(0, dtype=np.int64)  # numbers of the rows that are left out
        room = _PRINTS if budget is None else budget // 4
        self.prints = Prints(dim) if stored.rows * PRINT_BYTES <= room else None
        self.asked: Counter[JudgeName] = Counter()  # rows that each judge is asked about
        self.learned: dict[JudgeName, EqualDraw] = {}  # those that it learns from
        seen: dict[JudgeName, int | None] = {"scores": stored.num_scores, "embeddings": dim}
        for judge, width in seen.items():
            if width and (each := rows_to_learn_from(stored.counts, width, budget)):
                self.learned[judge] = EqualDraw(each, width)

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
        parts = tuple(parts)
        following = parts[0].first if parts else 0
        gone = []

        def noted() -> "Iterator[Chunk]":
            nonlocal following
            for chunk in stored.chunks(parts):
                if len(chunk):
                    missing = np.ones(chunk.rows[-1] + 1 - following, dtype=bool)
                    missing[chunk.rows - following] = False
                    gone.append(following + np.flatnonzero(missing))
                    following = int(chunk.rows[-1]) + 1
                yield chunk

        for embeddings, labels in _blocks(self._measured(noted(), progress), stored.dim):
            with self._within_budget():
                self.meter.update(_tensor(embeddings), _tensor(labels))
        if parts:
            gone.append(np.arange(following, parts[-1].first + parts[-1].rows))
        self.gone = np.concatenate([self.gone, *gone])

    def merge(self, other: "Partial") -> None:
        """Take in what other rows gave."""
        with self._within_budget():
            self.meter.merge(other.meter)
        if self.drawn is not None and other.drawn is not None:
            self.drawn.merge(other.drawn)
        self.tally.merge(other.tally)
        self.rows += other.rows
        self.left_out.update(other.left_out)
        self.gone = np.concatenate([self.gone, other.gone])
        if self.prints is not None and other.prints is not None:
            self.prints.merge(other.prints)
        self.asked.update(other.asked)
        for judge, learned in self.learned.items():
            learned.merge(other.learned[judge])

    def positions(self, rows: Rows) -> Rows:
        """Where rows are among those that are not left out, by their numbers in the whole table."""
        return rows - np.searchsorted(self.gone, rows)

    def stored_rows(self, positions: Rows) -> Rows:
        """The numbers of rows in the whole table, by where they are among those that are not left out."""
        positions = np.asarray(positions, dtype=np.int64)
        return positions + np.searchsorted(self.gone - np.arange(len(self.gone)), positions, side="right")

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
            "gone": torch.from_numpy(self.gone),
            "prints": None if self.prints is None else self.prints.state_dict(),
            "asked": dict(self.asked),
            "learned": {judge: draw.state_dict() for judge, draw in self.learned.items()},
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
            self.gone = state["gone"].numpy()
            if self.prints is not None:
                self.prints.load_state_dict(state.pop("prints"))
            self.asked = Counter(state["asked"])
            for judge, draw in self.learned.items():
                draw.load_state_dict(state["learned"][judge])

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
            if self.prints is not None:
                self.prints.add(embeddings, labels, chunk.splits)
            for judge, asked, features in to_judge(chunk):
                self.asked[judge] += len(asked)
                if judge in self.learned:
                    self.learned[judge].add(rows[asked], labels[asked], features[asked])
            if self.train_only and splits.any():
                kept = np.flatnonzero(splits == 0)
                rows, labels, embeddings = rows[kept], labels[kept], embeddings[kept]
            if self.drawn is not None:
                self.drawn.add(rows, labels, embeddings)
            yield embeddings, labels
            gone = (count for why, count in chunk.left_out.items() if why != NO_PREDICTION)
            progress(len(chunk) + sum(gone))


def to_judge(chunk: "Chunk") -> "Iterator[tuple[JudgeName, Array, Array]]":
    """Which rows of a chunk each judge is asked about, and what it sees: see `find_label_errors`."""
    own = np.zeros(len(chunk), dtype=bool)
    if chunk.scores is not None and chunk.splits is not None:
        own = (chunk.splits > 0) & np.isfinite(chunk.scores).all(axis=1)
        yield "scores", np.flatnonzero(own), chunk.scores
    yield "embeddings", np.flatnonzero(~own), chunk.embeddings


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
