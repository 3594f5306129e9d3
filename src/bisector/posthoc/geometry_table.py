"""The geometry of the classes of a stored table, in bounded memory."""

from pathlib import Path
from typing import Any

import torch

from bisector.errors import ArgumentError, require_choice
from bisector.information.geometry import ClassGeometry
from bisector.information.meter import InformationMeter


def geometry_of_table(
    path: Path | str,
    split: str | None = "train",
    *,
    scale: str = "raw",
    embedding: str | None = None,
    label: str | None = None,
    **options: Any,
) -> ClassGeometry:
    """Return the geometry of the embeddings in a file or a folder: Parquet, Arrow, CSV, npz or a pair of npy.

    The rows are read in chunks, and their scores are not: in memory are two chunks and what the classes hold, as
    `InformationMeter` says, whatever the number of rows. The numbers are those of `ClassGeometry.fit` on the rows,
    to 1e-12 where no class has more than 2 D rows; products of more are taken in float32, and agree to 1e-6.

    Args:
        path: see `bisector.data.tables.open_embeddings`; a row without a label or a finite vector is left out.
        split: "train", "validation" or "test": the rows that are taken; None for all.
        scale: of the embeddings: "raw", or "unit" for rows of length sqrt(D), as a cosine head sees them.
        embedding: the name of the vectors, where the usual ones do not find them.
        label: the name of the labels.
        options: of `ClassGeometry`.

    Raises:
        ArgumentError: nothing there is a table of embeddings, it has no such split, or no class has two rows.
        MissingExtraError: for Parquet, Arrow and text without pyarrow.

    >>> import tempfile
    >>> from bisector.data.tables import EmbeddingTable, write_embeddings
    >>> file = Path(tempfile.mkdtemp()) / "embeddings.parquet"
    >>> x, y = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 4.0], [4.0, 6.0]]), torch.tensor([0, 0, 1, 1])
    >>> write_embeddings(EmbeddingTable(x, y, ("cat", "dog")), file)
    >>> geometry_of_table(file, split=None).means
    tensor([[1., 2.],
            [4., 5.]], dtype=torch.float64)
    """
    # Here, since numpy and pyarrow are needed for tables alone.
    from bisector.data.tables import open_embeddings
    from bisector.data.tables.columns import SPLITS

    stored = open_embeddings(path, embedding=embedding, label=label)
    if split is not None:
        require_choice("split", split, SPLITS)
        if not stored.split_rows.get(split):
            raise ArgumentError(
                f"split: got {split!r}, and {path} without rows of it; expected one, or None for all"
            )
    meter = InformationMeter(len(stored.class_names), stored.dim, embeddings=scale)
    for chunk in stored.chunks(scores=False):
        vectors, labels = torch.from_numpy(chunk.embeddings), torch.from_numpy(chunk.labels)
        if split is not None:
            rows = torch.from_numpy(chunk.splits == SPLITS.index(split))
            vectors, labels = vectors[rows], labels[rows]
        meter.update(vectors, labels)
    return ClassGeometry(meter, **options)
