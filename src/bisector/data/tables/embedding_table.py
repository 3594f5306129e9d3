"""A table of embeddings in memory: what `embed` writes and `measure`, `train` and `adjust` read."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bisector.data.tables.columns import SPLITS, Array, Kind
from bisector.data.tables.dataset import Chunk, StoredEmbeddings, open_embeddings
from bisector.errors import require

NO_ROW = ("file", "no row that has a label and a finite vector", "at least one")
"""What is said of a table without a row that can be used."""

_ROWS = 65536  # written at once


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """Embeddings with their labels, and what a model said of them.

    Args:
        embeddings: (N, D), float32; D is 0 in a table of scores alone.
        labels: (N,), integers from 0 to C - 1.
        class_names: of the C classes.
        predictions: (N,), classes; -1 where there is none, which is no wrong prediction: see `predicted`.
        losses: (N,), cross-entropy in nats; NaN where there is none.
        scores: (N, C), logits without a margin; NaN in the rows that have none.
        names: where each example comes from.
        splits: `"train"`, `"validation"` or `"test"` for each row.
        left_out: one line for everything that was found and is not in the table, or not all of it.
        model: where the embeddings come from.
        data: what was embedded.
        adjusted: what was done to the scores after the model; empty where they are its own.
        settings: options of the command that made the table, by name with underscores.
        head: that made the scores, where it is one of ours: `name`, its spec, and `tau`, the strength of the prior
            in its training.

    Raises:
        ArgumentError: if the columns do not fit each other or a label is not a class.

    >>> table = EmbeddingTable(torch.eye(3), torch.tensor([0, 1, 0]), ("cat", "dog"))
    >>> len(table), table.num_classes, table.counts
    (3, 2, tensor([2, 1]))
    >>> table.select(torch.tensor([1])).labels
    tensor([1])
    """

    embeddings: Tensor  # (N, D)
    labels: Tensor  # (N,)
    class_names: tuple[str, ...]
    predictions: Tensor | None = None  # (N,)
    losses: Tensor | None = None  # (N,)
    scores: Tensor | None = None  # (N, C)
    names: list[str] | None = None
    splits: list[str] | None = None
    left_out: tuple[str, ...] = ()
    model: str = ""
    data: str = ""
    adjusted: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows, classes = len(self.labels), len(self.class_names)
        shape = tuple(self.embeddings.shape)
        require(
            len(shape) == 2 and shape[0] == rows,
            "embeddings",
            f"shape {shape}",
            f"({rows}, D), a row a label",
        )
        for key in ("predictions", "losses", "names", "splits"):
            column = getattr(self, key)
            got = rows if column is None else len(column)
            require(got == rows, key, f"{got} rows", f"{rows}, as labels")
        if self.scores is not None:
            cells = tuple(self.scores.shape)
            require(
                cells == (rows, classes), "scores", f"shape {cells}", f"({rows}, {classes}), a column a class"
            )
        for key in ("labels", "predictions"):
            column = getattr(self, key)
            if column is not None:
                least = -1 if key == "predictions" else 0
                stray = column[(column < least) | (column >= classes)]
                require(not len(stray), key, stray[:3].tolist(), f"classes from 0 to {classes - 1}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """C, with those that have no row."""
        return len(self.class_names)

    @property
    def counts(self) -> Tensor:
        """Rows of every class, (C,)."""
        return torch.bincount(self.labels, minlength=self.num_classes)

    @property
    def predicted(self) -> Tensor:
        """Whether a row has a prediction, (N,) bool."""
        return torch.zeros(len(self), dtype=torch.bool) if self.predictions is None else self.predictions >= 0

    @property
    def split_codes(self) -> Array | None:
        """The splits as positions in `bisector.data.tables.columns.SPLITS`, (N,) uint8."""
        return (
            None if self.splits is None else np.array([SPLITS.index(name) for name in self.splits], np.uint8)
        )

    def rows_of(self, split: str) -> Tensor:  # (M,)
        """The positions of a split; all of them where the table has no splits."""
        if self.splits is None:
            return torch.arange(len(self))
        return torch.tensor([row for row, name in enumerate(self.splits) if name == split], dtype=torch.long)

    def select(self, rows: Tensor) -> "EmbeddingTable":  # (M,)
        """The table of these rows, in this order."""
        positions = rows.tolist()
        return replace(
            self,
            embeddings=self.embeddings[rows],
            labels=self.labels[rows],
            predictions=None if self.predictions is None else self.predictions[rows],
            losses=None if self.losses is None else self.losses[rows],
            scores=None if self.scores is None else self.scores[rows],
            names=None if self.names is None else [self.names[row] for row in positions],
            splits=None if self.splits is None else [self.splits[row] for row in positions],
        )

    def name(self, row: int) -> str:
        """Where an example comes from, or its row."""
        return f"row {row}" if self.names is None else self.names[row]


def read_embeddings(
    path: str | Path, *, embedding: str | None = None, label: str | None = None, kind: Kind | None = None
) -> EmbeddingTable:
    """Read a table of embeddings: what `bisector embed` wrote, or anybody else's.

    - **Parquet**, a file or a folder of files (of which `train-*.parquet` and `test-*.parquet` are splits): the
      column of vectors is found by its type and name; `label` (integers or strings) and, if they are there,
      `prediction`, `loss`, `scores` (or `logits`, `probabilities`), `name`, `split`.
    - **Arrow**: `.arrow` and `.feather`, a folder of them, or what `save_to_disk` of Hugging Face's datasets wrote,
      with its splits; by the same rules.
    - **CSV** and **TSV** (`.tsv`), UTF-8 with a heading, a row a line: `label`, and the vectors as one column a
      dimension (`x0`, `x1`, ...) or as a list in one cell (`"[0.5, 1.25]"`); by the same rules, where a whole
      number may also be a coordinate. Labels that are all numbers are numbers; `007` is a word. Parquet, Arrow and
      text may lie behind a URL of pyarrow or fsspec.
    - **npz**: `embeddings` (or `x`, `features`, `vectors`), `labels` (or `y`), and the same, with `class_names`.
    - **JSON Lines** (`.jsonl`, `.ndjson`): an object a line; a vector is a list, or a key a dimension.
    - **pt** (`.pth`) and **safetensors**: tensors by the same names, or in a .pt a pair, vectors and labels.
    - **a pair of npy**: `vectors.npy,labels.npy`; a folder that holds `embeddings.npy` and `labels.npy`; or the
      path of a vectors file that has a `labels.npy` beside it.

    A vector may be a list of any layout of Arrow, a tensor of a fixed shape, or a list of one list (1 x D);
    lists of lists are taken for vectors under a usual name or the one in `embedding` alone.

    Labels that are strings are classes in sorted order. Labels that are integers are classes by number if the names
    of the classes are known or there are scores; else the values that occur, in ascending order, are the classes.
    A row without a label, or whose vector is missing or not finite, is left out, and counted in `left_out`. Scores
    that are probabilities are turned into logits by their logarithm; predictions and losses that are not there are
    made from them. A row without finite scores stays, without a prediction, and is counted there too.

    Args:
        path: of the file or folder; its URL; or two of .npy with a comma between.
        embedding: name of the vectors, where the usual ones do not find them.
        label: name of the labels.
        kind: what the scores are: "logits" or "probabilities"; None for what their name says, or their rows.

    Raises:
        ArgumentError: if nothing there is an embeddings table, or a label is not a class.
        MissingExtraError: for Parquet, Arrow and text without pyarrow.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "birds.npz"
    >>> np.savez(file, x=[[1.0, 0.0], [0.0, np.nan], [0.0, 1.0]], y=["wren", "wren", "owl"])
    >>> table = read_embeddings(file)
    >>> table.class_names, table.labels, table.left_out
    (('owl', 'wren'), tensor([1, 0]), ('1 row: its vector is missing or not finite',))
    """
    return whole_table(open_embeddings(path, embedding=embedding, label=label, kind=kind, at_once=True))


def whole_table(stored: StoredEmbeddings) -> EmbeddingTable:
    """All rows of a stored table at once: its chunks, one after another.

    Raises:
        ArgumentError: a file cannot be read, a row holds what it may not, or no row can be used.
    """
    # Vectors and scores are put where they will stay: they are in memory once.
    vectors = np.empty((stored.rows, stored.dim), dtype=np.float32)
    scores = None if stored.num_scores is None else np.empty((stored.rows, stored.num_scores), np.float32)
    others: dict[str, list[Array]] = {}
    counted: Counter[str] = Counter()
    rows = 0
    for chunk in stored.chunks(names=True):
        counted.update(chunk.left_out)
        vectors[rows : rows + len(chunk)] = chunk.embeddings
        if scores is not None:
            scores[rows : rows + len(chunk)] = chunk.scores
        for key in ("labels", "predictions", "losses", "names", "splits"):
            if (column := getattr(chunk, key)) is not None:
                others.setdefault(key, []).append(column)
        rows += len(chunk)
    require(rows > 0, *NO_ROW)
    columns = {key: np.concatenate(held) for key, held in others.items()}
    names, splits = columns.pop("names", None), columns.pop("splits", None)
    tensors: dict[str, Any] = {key: torch.from_numpy(column) for key, column in columns.items()}
    return EmbeddingTable(
        embeddings=torch.from_numpy(vectors[:rows]),
        **tensors,
        class_names=stored.class_names,
        scores=None if scores is None else torch.from_numpy(scores[:rows]),
        names=None if names is None else names.tolist(),
        splits=None if splits is None else [SPLITS[code] for code in splits.tolist()],
        left_out=stored.left_out_lines(counted),
        **stored.about,
    )


def table_of(stored: StoredEmbeddings, chunk: Chunk) -> EmbeddingTable:
    """The rows of one chunk of a stored table, with what is noted of all; what is left out of it is not said."""
    tensors: dict[str, Any] = {
        key: None if (column := getattr(chunk, key)) is None else torch.from_numpy(column)
        for key in ("embeddings", "labels", "predictions", "losses", "scores")
    }
    return EmbeddingTable(
        **tensors,
        class_names=stored.class_names,
        names=None if chunk.names is None else chunk.names.tolist(),
        splits=None if chunk.splits is None else [SPLITS[code] for code in chunk.splits.tolist()],
        **stored.about,
    )


def write_embeddings(table: EmbeddingTable, path: str | Path) -> None:
    """Write the table as Parquet; a file that was there is replaced only when all is written.

    Raises:
        ArgumentError: if the table has no row.
        MissingExtraError: without pyarrow.
        OSError: if the file cannot be written.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "embeddings.parquet"
    >>> write_embeddings(EmbeddingTable(torch.eye(2), torch.tensor([1, 0]), ("cat", "dog")), file)
    >>> read_embeddings(file).labels
    tensor([1, 0])
    """
    from bisector.data.tables.writer import EmbeddingWriter

    require(len(table) > 0, "table", "no row", "at least one")
    writer = EmbeddingWriter(
        Path(path),
        class_names=table.class_names,
        model=table.model,
        data=table.data,
        left_out=table.left_out,
        adjusted=table.adjusted,
        settings=table.settings,
        head=table.head,
    )
    with writer:
        for start in range(0, len(table), _ROWS):
            part = table.select(torch.arange(start, min(start + _ROWS, len(table))))
            writer.write(
                part.embeddings,
                part.labels,
                predictions=part.predictions,
                losses=part.losses,
                scores=part.scores,
                names=part.names,
                splits=part.splits,
            )
