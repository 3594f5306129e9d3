"""Which of a network's outputs is the embedding and which the scores: by their names and widths."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
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


def require_outputs(widths: Collection[str], **asked: str | None) -> None:
    """Raise `ArgumentError` where an output is asked for that is not there.

    >>> require_outputs({"logits": 10}, scores_output="probs")
    Traceback (most recent call last):
    bisector.errors.ArgumentError: scores_output: got 'probs'; expected one of logits
    """
    for option, name in asked.items():
        require(name is None or name in widths, option, repr(name), f"one of {', '.join(widths)}")


def chosen_outputs(
    widths: Mapping[str, int],
    *,
    embedding_output: str | None = None,
    scores_output: str | None = None,
    classes: int = 0,
) -> tuple[str | None, str | None]:
    """The names of the embedding and of the scores; None for what is not there.

    Each is the output that is asked for, or the one whose name says so; else the scores are the output as wide as
    there are classes, and the embedding is the other one.

    Args:
        widths: of the outputs of two dimensions, by name.
        embedding_output: the name that was asked for.
        scores_output: the name that was asked for.
        classes: how many there are; 0 where that is not known.

    Raises:
        ArgumentError: there is no such output, or several may be meant.

    >>> chosen_outputs({"0": 64, "1": 10}, classes=10)
    ('0', '1')
    >>> chosen_outputs({"0": 64, "1": 10, "2": 10}, classes=10)
    Traceback (most recent call last):
    bisector.errors.ArgumentError: scores_output: got none of several that may be meant, '1' (10 wide), '2' (10 \
wide); expected the name of one, with --scores-output
    """
    require_outputs(widths, embedding_output=embedding_output, scores_output=scores_output)
    likely = _likely_scores(widths, classes)
    if embedding_output is None:
        named = [name for name in widths if _means_embedding(name) and name != scores_output]
        others = [name for name in widths if name not in {*likely, scores_output}]
        embedding_output = _only(named or others, widths, "embedding_output")
    if scores_output is None:
        others = [name for name in likely if name != embedding_output]
        scores_output = _only(_best(others, widths, classes), widths, "scores_output")
    return embedding_output, scores_output


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
    others = [name for name in widths if not _means_embedding(name)]
    fits = _best(_likely_scores(widths, classes) or others or list(widths), widths, classes)
    if len(fits) > 1:
        made = {width for _, width in layers} & {widths[name] for name in fits}
        features = {given for given, width in layers if given != width and {given, width} <= made}
        fits = [name for name in fits if widths[name] in made - features] or fits
    legal = "one that is the scores: layer= the nn.Linear that gives them, or a dictionary with 'logits'"
    return _only(fits, widths, "model", legal)


def _likely_scores(widths: Mapping[str, int], classes: int) -> list[str]:
    """The outputs that are called scores or as wide as there are classes, but not called embeddings."""
    likely = (name for name in widths if _means_scores(name) or widths[name] == classes)
    return [name for name in likely if not _means_embedding(name)]


def _best(names: list[str], widths: Mapping[str, int], classes: int) -> list[str]:
    """Those called "logits" if there are any, else those called scores, and of these those as wide as the classes.

    One number a row, as a confidence is, comes after all that are wider.

    >>> _best(["2", "probs", "logits"], {"2": 3, "probs": 3, "logits": 3}, classes=3)
    ['logits']
    >>> _best(["2", "confidence"], {"2": 3, "confidence": 1}, classes=3)
    ['2']
    """
    for fits in (
        lambda name: widths[name] != 1,
        "logits".__eq__,
        _means_scores,
        lambda name: widths[name] == classes,
    ):
        names = [name for name in names if fits(name)] or names
    return names


def _only(names: Sequence[str], widths: Mapping[str, int], option: str, legal: str = "") -> str | None:
    told = ", ".join(f"{name!r} ({widths[name]} wide)" for name in names)
    legal = legal or f"the name of one, with --{option.replace('_', '-')}"
    require(len(names) < 2, option, f"none of several that may be meant, {told}", legal)
    return next(iter(names), None)


def _means_embedding(name: str) -> bool:
    return name.lower().startswith(_EMBEDDINGS)


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
