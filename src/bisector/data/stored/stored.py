"""Stored embeddings, opened: what is known of them, and their rows as a stream."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from bisector.data.embedding_columns import Array
from bisector.data.stored.chunk import Chunk, make_chunk
from bisector.data.stored.part import Part, Source
from bisector.data.stored.survey import Survey

_KEYS = ("embeddings", "labels", "predictions", "losses", "scores", "splits")


@dataclass(frozen=True, eq=False)
class StoredEmbeddings:
    """A table of embeddings that stays where it is stored; see `bisector.data.stored.open_embeddings`.

    Small, and it may be sent to another process: it holds names and counts, and opens the files when it reads.

    Args:
        source: that reads the rows.
        survey: what the first pass found.
    """

    source: Source
    survey: Survey

    @property
    def parts(self) -> tuple[Part, ...]:
        """In the order of the rows; the same for the same files, whoever opens them."""
        return self.source.parts

    @property
    def dim(self) -> int:
        """D."""
        return self.source.about.dim

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the C classes, by the rules of `bisector.data.embeddings.read_embeddings`."""
        return self.survey.classes.names

    @property
    def counts(self) -> Array:  # (C,)
        """Labelled rows of each class in the training split, or of all rows where it has none; int64.

        A vector may yet turn out to be missing or not finite: such a row is counted here, and not in a chunk.
        """
        return self.survey.counts

    @property
    def train_only(self) -> bool:
        """Whether `counts` are those of the training split: it has a labelled row."""
        return self.survey.train_only

    @property
    def rows(self) -> int:
        """N, with those that will be left out."""
        return self.survey.rows

    @property
    def split_rows(self) -> Mapping[str, int]:
        """Rows by split, with those that will be left out; empty where there are no splits."""
        return self.survey.split_rows

    @property
    def has_predictions(self) -> bool:
        """Whether chunks have predictions, stored or made from scores."""
        return bool(self.source.about.keys & {"predictions", "scores"})

    @property
    def has_losses(self) -> bool:
        """Whether chunks have losses, stored or made from scores."""
        return bool(self.source.about.keys & {"losses", "scores"})

    @property
    def bytes_in_memory(self) -> int:
        """Bytes of the vectors and the scores of all rows, in float32."""
        return 4 * self.rows * (self.dim + (self.source.about.num_scores or 0))

    @property
    def has_splits(self) -> bool:
        """Whether chunks have splits."""
        return "splits" in self.source.about.keys

    @property
    def left_out(self) -> tuple[str, ...]:
        """What whoever wrote the data left out, a line each; see `lines` for what chunks leave out."""
        return tuple(self.source.about.notes.get("left_out", ()))

    @property
    def notes(self) -> Mapping[str, object]:
        """What was noted when the data was written: model, data, adjusted, settings."""
        return self.source.about.notes

    @property
    def stamps(self) -> tuple[tuple[str, int, int], ...]:
        """Name, size in bytes and time of change in nanoseconds of every file; 0 where unknown."""
        return self.source.stamps

    def read(self, part: Part) -> Chunk:
        """The rows of a part, however many it has.

        Raises:
            ArgumentError: it cannot be read; the message names the file and the row group, batch or slice.
        """
        chunks = list(self._chunks([part]))
        if len(chunks) == 1:
            return chunks[0]
        counted: dict[str, int] = {}
        for chunk in chunks:
            for why, count in chunk.left_out.items():
                counted[why] = counted.get(why, 0) + count
        return Chunk(
            part=part,
            rows=np.concatenate([chunk.rows for chunk in chunks]),
            embeddings=np.concatenate([chunk.embeddings for chunk in chunks]),
            labels=np.concatenate([chunk.labels for chunk in chunks]),
            predictions=_joined([chunk.predictions for chunk in chunks]),
            losses=_joined([chunk.losses for chunk in chunks]),
            splits=_joined([chunk.splits for chunk in chunks]),
            left_out=counted,
        )

    def chunks(self, parts: Iterable[Part] | None = None) -> Iterator[Chunk]:
        """The rows of these parts, or all; each part comes as one or several chunks of at most 16 MiB of vectors.

        Where a chunk ends depends on its part alone. While one is worked on, the next is read by another thread;
        no more than these two are in memory.

        Raises:
            ArgumentError: one cannot be read; the message names the file and the row group, batch or slice.
        """
        stream = self._chunks(self.parts if parts is None else parts)
        with ThreadPoolExecutor(1, thread_name_prefix="bisector-read") as reader:
            try:
                ahead = reader.submit(next, stream, None)
                while (chunk := ahead.result()) is not None:
                    ahead = reader.submit(next, stream, None)
                    yield chunk
                    del chunk  # else it would be kept while the one after the next is read
            finally:
                reader.submit(stream.close).result()

    def _chunks(self, parts: Iterable[Part]) -> Generator[Chunk]:
        about = self.source.about
        for piece in self.source.pieces(parts, _KEYS):
            yield make_chunk(piece, self.survey.classes, self.survey.kind, about.scores_name)


def lines(left_out: Mapping[str, int]) -> tuple[str, ...]:
    """What was left out, as lines for people.

    >>> lines({"no label": 2, "its vector is missing or not finite": 1})
    ('2 rows: no label', '1 row: its vector is missing or not finite')
    """
    return tuple(f"{count} row{'s' * (count > 1)}: {why}" for why, count in left_out.items() if count)


def _joined(columns: "list[Array | None]") -> Array | None:
    there = [column for column in columns if column is not None]
    return np.concatenate(there) if there else None
