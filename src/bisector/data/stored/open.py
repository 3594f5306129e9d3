"""Which kind of stored data lies at a path or URL."""

import os
from pathlib import Path

from bisector.data.embedding_columns import Kind
from bisector.data.stored.arrays import ColumnOrderError, open_npz, open_pair
from bisector.data.stored.part import Source
from bisector.data.stored.stored import StoredEmbeddings
from bisector.data.stored.survey import survey
from bisector.errors import ArgumentError, require

_EXPECTED = (
    "an embeddings table: .parquet, .arrow or .feather, a folder of them, a data set of Hugging Face, .npz, "
    "or a pair of .npy"
)


def open_embeddings(
    path: str | os.PathLike[str],
    *,
    embedding: str | None = None,
    label: str | None = None,
    kind: Kind | None = None,
) -> StoredEmbeddings:
    """Open a table of embeddings to read it as a stream, in bounded memory.

    What `bisector.data.embeddings.read_embeddings` reads at once: its rules say which columns are taken and what
    the classes are. A first pass reads labels, predictions and splits, and never a vector.

    - **Parquet**: a file or a folder, and in it every folder whose name begins with no dot and no underscore.
    - **Arrow**: `.arrow` and `.feather`, with an index or a stream; a folder of them, or what `save_to_disk` of
      Hugging Face's datasets wrote, with its splits.
    - **npz**, and **a pair of npy**: on this machine.

    Parquet and Arrow may lie behind a URL of pyarrow or fsspec.

    Args:
        path: of the file or folder; its URL; or two of .npy with a comma between.
        embedding: name of the vectors, where the usual ones do not find them.
        label: name of the labels.
        kind: what the scores are: "logits" or "probabilities"; None for what their name says, or their rows.

    Raises:
        ArgumentError: nothing there is an embeddings table, it cannot be read, or a label is not a class.
        MissingExtraError: for Parquet and Arrow without pyarrow.

    >>> import tempfile
    >>> import numpy as np
    >>> file = Path(tempfile.mkdtemp()) / "birds.npz"
    >>> np.savez(file, x=[[1.0, 0.0], [0.0, np.nan], [0.0, 1.0]], y=["wren", "wren", "owl"])
    >>> birds = open_embeddings(file)
    >>> birds.class_names, birds.counts
    (('owl', 'wren'), array([1, 2]))
    >>> [(chunk.labels.tolist(), dict(chunk.left_out)) for chunk in birds.chunks()]
    [([1, 0], {'its vector is missing or not finite': 1})]
    """
    source = open_source(path, embedding, label)
    return StoredEmbeddings(source, survey(source, kind))


def open_source(
    path: str | os.PathLike[str],
    embedding: str | None = None,
    label: str | None = None,
    *,
    vectors_needed: bool = True,
) -> Source:
    """The reader of what lies there; see `open_embeddings`.

    Where vectors are not needed, Parquet and Arrow may hold scores without them.

    Raises:
        ArgumentError: nothing there is an embeddings table, or it cannot be read.
    """
    text = os.fspath(path)
    arrays = array_files(text)
    require(
        "://" in text or bool(arrays) or Path(text).exists(), "file", f"{text}, which is not there", _EXPECTED
    )
    if arrays is None:
        return _open_tables(text, embedding, label, vectors_needed)
    return open_npz(arrays[0], embedding, label) if len(arrays) == 1 else open_pair(*arrays)


def columns_taken(
    path: str | os.PathLike[str], embedding: str | None = None, label: str | None = None
) -> str:
    """Say in a line which column of a table is taken for what: whoever has another one in mind must see it.

    Raises:
        ArgumentError: nothing there is a table, or it cannot be read.
    """
    try:
        return columns_of(open_source(path, embedding, label, vectors_needed=False))
    except ColumnOrderError:  # an array that is read all at once, or not at all
        return "the arrays are stored column by column"


def columns_of(source: Source) -> str:
    """Say in a line which column of an open table is taken for what."""
    columns = source.about.columns
    return "columns: " + ", ".join(f"{name!r} as {key}" for key, name in columns.items())


def array_files(path: str | os.PathLike[str]) -> tuple[Path] | tuple[Path, Path] | None:
    """The .npz, or the .npy of vectors and that of labels, that a path means; None where it means none.

    >>> [file.name for file in array_files("train/X.npy,train/y.npy")]
    ['X.npy', 'y.npy']
    """
    text = os.fspath(path)
    pair = text.split(",")
    if len(pair) == 2 and all(part.strip().lower().endswith(".npy") for part in pair):
        return Path(pair[0].strip()), Path(pair[1].strip())
    where = Path(text)
    if "://" in text or (where.is_dir() and not (where / "embeddings.npy").is_file()):
        return None
    if where.is_dir():
        return where / "embeddings.npy", where / "labels.npy"
    suffix = where.suffix.lower()
    if suffix in {".npz", ".npy"} and where.is_file():
        return (where,) if suffix == ".npz" else (where, where.with_name("labels.npy"))
    return None


def has_vectors(path: str | os.PathLike[str]) -> bool:
    """Whether there are Parquet or Arrow files, the first of which has a column of embeddings."""
    from bisector.data.arrow_columns import vector_column
    from bisector.data.stored.listing import list_files
    from bisector.data.stored.location import locate
    from bisector.data.stored.tables import READERS

    location = locate(path)
    try:
        found = list_files(location)
        if found is None:
            return False
        reader = READERS[found.format](location, found.files[0])
        try:
            vector_column(reader.schema)
        finally:
            reader.close()
    except ArgumentError:
        return False
    return True


def _open_tables(text: str, embedding: str | None, label: str | None, vectors_needed: bool) -> Source:
    from bisector.data.stored.listing import list_files
    from bisector.data.stored.location import locate
    from bisector.data.stored.tables import open_tables

    location = locate(text)
    found = list_files(location)
    if found is None:
        run = "://" not in text and (Path(text) / "settings.json").is_file()
        hint = f"; of the training in it: bisector embed {text}, first" if run else ""
        raise ArgumentError(f"file: got {text}; expected {_EXPECTED}{hint}")
    return open_tables(location, found, embedding, label, vectors_needed=vectors_needed)
