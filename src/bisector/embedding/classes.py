"""Which column of a model's scores is which class of the data."""

from unicodedata import normalize

import torch
from torch import Tensor

from bisector.errors import ArgumentError


def score_columns(
    model_classes: tuple[str, ...] | None,
    data_classes: tuple[str, ...],
    num_scores: int,
    *,
    required: bool,
) -> tuple[Tensor | None, str]:  # (C,)
    """The column of every class of the data, matched by name, and a line to tell; None without predictions.

    Names that are written alike match, with their accents composed or not. A model that does not name its classes
    is taken to have those of the data, if it has as many.

    Args:
        model_classes: of the model's M columns.
        data_classes: of the data's C classes.
        num_scores: M.
        required: raise where a class of the data is not one of the model's.

    Raises:
        ArgumentError: as `required` says.

    >>> score_columns(("owl", "wren", "crow"), ("crow", "owl"), 3, required=True)
    (tensor([2, 0]), 'the scores are those of 2 of the 3 classes of the model')
    """
    if model_classes is None:
        if num_scores == len(data_classes):
            return torch.arange(
                num_scores
            ), "the model does not name its classes: taken in the order of the data's"
        return None, f"no predictions: the model has {num_scores} classes, the data {len(data_classes)}"
    place = {normalize("NFC", name): column for column, name in enumerate(model_classes)}
    wanted = [normalize("NFC", name) for name in data_classes]
    unknown = [name for name in wanted if name not in place]
    if unknown and required:
        few = ", ".join(map(repr, unknown[:3])) + (" …" if len(unknown) > 3 else "")
        raise ArgumentError(
            f"data: got {few}, of which the model knows nothing; expected classes that it was trained on, as "
            f"{', '.join(map(repr, model_classes[:3]))}"
        )
    if unknown:
        return None, f"no predictions: {len(unknown)} classes of the data are none of the model's"
    told = f"the scores are those of {len(data_classes)} of the {len(model_classes)} classes of the model"
    return torch.tensor([place[name] for name in wanted]), told * (len(data_classes) < len(model_classes))
