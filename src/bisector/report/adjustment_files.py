"""The adjusted scores as a file, in the form that the scores came in."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import cross_entropy

from bisector.data.embeddings import write_embeddings
from bisector.data.scores import ScoreTable
from bisector.files import whole_file


def write_adjusted(
    table: ScoreTable,
    scores: Tensor,  # (N, C)
    predictions: Tensor,  # (N,)
    adjusted: str,
    folder: Path,
) -> Path:
    """Write adjusted.parquet for a table of embeddings, else adjusted.npz; return its path.

    The file says how the scores were adjusted, before too, and by which head they were made.

    Args:
        table: the scores before.
        scores: after, of the same kind; NaN in the rows that have none.
        predictions: the classes after; -1 in those rows.
        adjusted: how they were adjusted; the file says so, by that name.
        folder: that there is.

    Raises:
        OSError: the file cannot be written.
    """
    adjusted = "; then ".join(filter(None, [table.adjusted, adjusted]))
    if table.embeddings is not None:
        path = folder / "adjusted.parquet"
        losses = cross_entropy(scores, table.embeddings.labels, reduction="none")
        after = replace(
            table.embeddings, scores=scores, predictions=predictions, losses=losses, adjusted=adjusted
        )
        write_embeddings(after, path)
        return path
    path = folder / "adjusted.npz"
    arrays: dict[str, Any] = {
        table.kind: scores.numpy(),
        "predictions": predictions.numpy(),
        "class_names": np.array(table.class_names),
        "adjusted": np.array(adjusted),
    }
    if table.head:
        arrays["head"] = np.array(json.dumps(dict(table.head)))
    if table.labels is not None:
        arrays["labels"] = table.labels.numpy()
    if table.splits is not None:
        arrays["splits"] = np.array(table.splits)
    with whole_file(path) as file:
        np.savez(file, **arrays)
    return path
