"""All rows of a stored table at once, as they are stored."""

import numpy as np

from bisector.data.embedding_columns import Array, Columns
from bisector.data.stored.part import Source

_KEYS = ("embeddings", "labels", "predictions", "losses", "scores", "names", "splits")


def whole(source: Source) -> Columns:
    """The columns of all parts, before anything is checked.

    Raises:
        ArgumentError: a file cannot be read; the message names it and the group.
    """
    about = source.about
    pieces = [piece.columns for piece in source.pieces(source.parts, _KEYS)]
    # Column by column, and each piece let go of: the vectors are held twice, and nothing else with them.
    found = {
        key: np.concatenate([piece.pop(key) for piece in pieces])
        for key in _KEYS
        if pieces and key in pieces[0]
    }
    rows = len(found.get("labels", ()))
    nothing: dict[str, Array] = {
        "embeddings": np.empty((rows, about.dim), dtype=np.float32),
        "labels": np.empty(0),
    }
    return Columns(
        **nothing | found,
        scores_name=about.scores_name,
        class_names=about.class_names,
        notes=about.notes,
    )
