"""Which of a network's outputs is the embedding and which the scores: by their names and widths."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from bisector.data.tables.columns import Kind, as_logits, kind_of_scores
from bisector.errors import require

_EMBEDDINGS = ("embedding", "feature", "pooler", "pooled")
_SCORES = ("logit", "score", "prob", "softmax", "predict", "confidence")


def named_outputs(output: Any) -> dict[str, Tensor]:
    """The tensors of shape (B, D) or (B, D, 1, ...) that a network returned, by name; of a tuple, by their place.

    >>> import torch
    >>> x = torch.zeros(2, 3)
    >>> list(named_outputs((x, x[0]))), list(named_outputs({"logits": x})), list(named_outputs(x))
    (['0'], ['logits'], ['output'])
    """
    if isinstance(output, Tensor):
        held: Iterable[tuple[Any, Any]] = [("output", output)]
    elif isinstance(output, Mapping):
        held = output.items()
    elif hasattr(output, "_asdict"):  # a named tuple
        held = output._asdict().items()
    else:
        held = enumerate(output) if isinstance(output, tuple | list) else ()
    return {
        str(name): value.flatten(1)
        for name, value in held
        if isinstance(value, Tensor) and value.ndim >= 2 and set(value.shape[2:]) <= {1}
    }


def scores_among(widths: Mapping[str, int], classes: int) -> list[str]:
    """The outputs that seem to be scores: by a word of their names, or as wide as there are classes.

    Args:
        widths: of the outputs, by name.
        classes: 0 where they are not known.

    >>> scores_among({"embedding": 3, "class_logits": 4, "2": 3}, 3)
    ['class_logits', '2']
    """
    return [
        name
        for name, width in widths.items()
        if not means_embedding(name) and (_means_scores(name) or width == classes)
    ]


def means_embedding(name: str) -> bool:
    """Whether an output is called as embeddings are."""
    return name.lower().startswith(_EMBEDDINGS)


def chosen_outputs(
    widths: Mapping[str, int], *, embedding: str | None, scores: str | None, classes: int
) -> tuple[str | None, str | None]:
    """The names of the embedding and of the scores; None for what is not there.

    The embedding is the output that is asked for, or the first whose name says so, or the last that is no scores.

    Args:
        widths: of the outputs of two dimensions, by name.
        embedding: the name that was asked for.
        scores: the name that was asked for.
        classes: how many there are; 0 where that is not known.

    Raises:
        ArgumentError: there is no such output.

    >>> chosen_outputs({"0": 64, "1": 10}, embedding=None, scores=None, classes=10)
    ('0', '1')
    """
    for key, name in (("embedding_output", embedding), ("scores_output", scores)):
        require(name is None or name in widths, key, repr(name), f"one of {', '.join(widths)}")
    found = scores_among(widths, classes)
    if embedding is None:
        others = [name for name in widths if name not in {*found, scores}]
        named = [name for name in widths if means_embedding(name) and name != scores]
        embedding = next(iter([*named, *others[-1:]]), None)
    chosen = [name for name in found if name != embedding] if scores is None else [scores]
    return embedding, next(iter(chosen), None)


def chosen_scores(widths: Mapping[str, int], classes: int, layers: Collection[tuple[int, int]]) -> str | None:
    """The name of the output that is the scores; None where there is no output.

    It is what is called so, or as wide as there are classes, or as what a linear layer gives, in this order; an
    output as wide as what the layer of another is given is features.

    Args:
        widths: of the outputs of two dimensions, by name.
        classes: 0 where they are not known.
        layers: widths of the input and the output of every linear layer that was called.

    Raises:
        ArgumentError: there are several and none, or more than one, seems to be the scores.

    >>> chosen_scores({"0": 16, "1": 10}, classes=0, layers=[(64, 16), (16, 10), (16, 5)])
    '1'
    """
    named = [name for name in widths if _means_scores(name) and not means_embedding(name)]
    if named:
        return named[0]
    others = [name for name in widths if not means_embedding(name)] or list(widths)
    fits = [name for name in others if widths[name] == classes] or others
    if len(fits) > 1:
        fits = [name for name in fits if widths[name] in {made for _, made in layers}]
        there = {widths[name] for name in fits}
        features = {given for given, made in layers if given != made and {given, made} <= there}
        fits = [name for name in fits if widths[name] not in features]
        told = ", ".join(f"{name!r} ({width} wide)" for name, width in widths.items())
        legal = "one that is the scores: layer= the nn.Linear that gives them, or a dictionary with 'logits'"
        require(len(fits) == 1, "model", f"several outputs, {told}", legal)
    return next(iter(fits), None)


class Logits:
    """Turns what a model returns, batch by batch, into logits; the first that is finite says which.

    Scores that are not negative and sum to 1 in every row are probabilities, of which the logarithm is taken, as
    the reader of tables does.

    >>> import torch
    >>> logits = Logits()
    >>> logits.of(torch.tensor([[0.25, 0.75]])), logits.note
    (tensor([[-1.3863, -0.2877]]), 'the scores are probabilities, as every row sums to 1; their logarithm is taken')
    """

    def __init__(self) -> None:
        self.note = ""
        """What was done to the scores, for people; empty where they are logits."""
        self._kind: Kind | None = None

    def of(self, scores: Tensor) -> Tensor:  # (B, C) on the CPU
        """The scores as logits; of probabilities a row that is not finite is NaN.

        Raises:
            ArgumentError: after a batch of probabilities come scores that are none.
        """
        found = scores.detach().numpy()
        if self._kind is None and scores.isfinite().all(dim=1).any():
            self._kind, told = kind_of_scores("scores", found)
            if self._kind == "probabilities":
                self.note = f"the scores are {told}; their logarithm is taken"
        if self._kind in {None, "logits"}:
            return scores
        kind_of_scores("scores", found, "probabilities")
        return torch.from_numpy(as_logits(found, "probabilities"))


def _means_scores(name: str) -> bool:
    return any(word.startswith(_SCORES) for word in re.split(r"[^a-z0-9]+", name.lower()))
