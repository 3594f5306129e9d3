"""What the columns of a table of embeddings may be called and may hold, whatever the format of the file."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from bisector.data.source import SPLIT_WORDS
from bisector.errors import ArgumentError, require, require_choice

Array = npt.NDArray[Any]
Kind: TypeAlias = Literal["logits", "probabilities"]
KINDS: tuple[Kind, ...] = ("logits", "probabilities")

ALIASES: Mapping[str, tuple[str, ...]] = {
    "embeddings": ("embedding", "embeddings", "features", "feature", "vector", "vectors", "x", "X"),
    "labels": ("label", "labels", "y", "target", "targets", "class", "fine_label", "y_true", "true_label"),
    "predictions": ("prediction", "predictions", "predicted", "y_pred", "pred", "preds"),
    "losses": ("loss", "losses"),
    "scores": ("scores", "logits", "probabilities", "probs", "proba", "predict_proba"),
    "names": ("name", "names", "path", "paths", "file", "file_name", "id"),
    "splits": ("split", "splits"),
    "class_names": ("class_names", "classes"),
}
"""What each column may be called, in Parquet, npz and everywhere else; the first that is there is taken."""

EXACT = 2**53
"""From which on a float64 may stand for several integers."""

SPLITS = ("train", "validation", "test")


def lines_of(text: bytes, blank: bytes | None = b"\r") -> list[tuple[int, bytes]]:
    r"""The lines that hold more than these bytes, or more than blanks if None, each with its number from 0 on.

    They end with \n alone: JSON may hold other ends of lines, as U+2028, within a text.

    >>> lines_of(b"1,2\n\r\n3,4"), lines_of(b'  \n{"a": 2}', blank=None)
    ([(0, b'1,2'), (2, b'3,4')], [(1, b'{"a": 2}')])
    """
    return [(number, line) for number, line in enumerate(text.split(b"\n")) if line.strip(blank)]


def one_each(name: str, column: Array) -> Array:  # (N,)
    """A column that has one value a row: (N,), or (N, 1) with that axis taken away.

    Raises:
        ArgumentError: it has none or several in a row, as classes that are written one-hot.

    >>> one_each("labels", np.array([[3], [1]]))
    array([3, 1])
    """
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim == 2 and column.dtype.kind in "biuf" and _is_one_hot(column):
        raise ArgumentError(
            f"{name}: got shape {column.shape}, one-hot; expected (N,), the number of the class: argmax(axis=1)"
        )
    classes = name in {"labels", "predictions"}
    if classes and column.ndim == 2 and column.shape[1] > 1:
        raise several_labels(f"{name}: got shape {column.shape}")
    require(column.ndim == 1, name, f"shape {column.shape}", "(N,), one value a row")
    if column.dtype.kind == "O":
        lists = [value for value in column if isinstance(value, (list, tuple, dict, np.ndarray))]
        require(classes or not lists, name, f"a list, {_short(lists)}", "one value a row")
        if lists:
            raise several_labels(f"{name}: got a list, {_short([list(lists[0])])}")
    return column


def several_labels(got: str) -> ArgumentError:
    """The error for data in which a row may have several labels.

    >>> str(several_labels("labels: got a list, [1, 3]"))
    'labels: got a list, [1, 3]: several labels a row (multi-label); expected one class a row (multi-class), as a
    column of one value'
    """
    return ArgumentError(
        f"{got}: several labels a row (multi-label); expected one class a row (multi-class), as a column of one "
        "value"
    )


def row_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:  # (N, D)
    """The shape of vectors in rows: (N, D), or (N, 1, D) and (N, D, 1) without the axis that says nothing.

    Raises:
        ArgumentError: a row holds something else than one vector.

    >>> row_shape("x", (5, 1, 3))
    (5, 3)
    """
    if len(shape) == 3 and 1 in shape[1:]:
        return shape[0], shape[1] * shape[2]
    require(len(shape) == 2, name, f"shape {shape}", "(N, D) or (N, 1, D), one vector a row")
    return shape


def as_rows(name: str, vectors: Array) -> Array:  # (N, D)
    """The vectors in the shape that `row_shape` says."""
    return vectors.reshape(row_shape(name, vectors.shape))


def texts(name: str, column: Array) -> Array:  # (N,)
    """The values as strings; bytes are read as UTF-8.

    Raises:
        ArgumentError: if bytes are none.

    >>> texts("names", np.array(["é".encode(), b"b"])).tolist()
    ['é', 'b']
    """
    if column.dtype.kind not in "SO":
        return np.asarray(column, dtype=str)
    try:
        words = [value.decode() if isinstance(value, bytes) else str(value) for value in column.tolist()]
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{name}: got bytes, {error.object[:20]!r}; expected UTF-8") from None
    return np.array(words, dtype=str)


def distinct_names(names: Iterable[object]) -> tuple[str, ...]:
    """Names of classes in Unicode's form NFC; one that is given to several classes gets their numbers beside it.

    >>> distinct_names(["crane", "dog", "crane"])
    ('crane (0)', 'dog', 'crane (2)')
    """
    words = [unicodedata.normalize("NFC", str(name)) for name in names]
    times = Counter(words)
    return tuple(word if times[word] == 1 else f"{word} ({number})" for number, word in enumerate(words))


def floats(name: str, column: Array) -> Array:
    """The values as float32, NaN where one is missing.

    Raises:
        ArgumentError: if a value is no number.

    >>> floats("losses", np.array([0.5, None], dtype=object))
    array([0.5, nan], dtype=float32)
    """
    require(column.dtype.kind in "biufO", name, f"values of type {column.dtype}", "numbers")
    words = (
        [value for value in column.flat if isinstance(value, (str, bytes))] if column.dtype == object else []
    )
    require(not words, name, _short(words), "numbers")  # numpy would take the text '3' for a number
    try:
        with np.errstate(over="ignore"):
            return column.astype(np.float32)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(f"{name}: got values of type {column.dtype}; expected numbers") from None


def split_codes(splits: Array) -> Array:  # (N,)
    """The splits as their positions in `SPLITS`, uint8.

    Raises:
        ArgumentError: a word is no split.

    >>> split_codes(np.array(["Test", "val"]))
    array([2, 1], dtype=uint8)
    """
    found = texts("split", one_each("split", splits))
    words, rows = np.unique(np.char.lower(found), return_inverse=True)
    for word in words:
        require(word in SPLIT_WORDS, "split", repr(str(word)), "train, validation or test in every row")
    codes = np.array([SPLITS.index(SPLIT_WORDS[str(word)]) for word in words], dtype=np.uint8)
    return codes[rows.reshape(-1)]


def kind_of_scores(
    name: str,
    scores: Array,  # (N, C)
    kind: Kind | None = None,
) -> tuple[Kind, str]:
    """What scores are, and how that is known, for people.

    What is said of them decides, then the name they are stored under. "scores" may be either: they are
    probabilities where none is negative and every row sums to 1 within 1e-3; rows that are not finite do not count.

    Args:
        name: one of `ALIASES["scores"]`.
        scores: the values.
        kind: what they are said to be.

    Raises:
        ArgumentError: they cannot be the probabilities they are said or named to be.

    >>> kind_of_scores("scores", np.array([[0.25, 0.75], [np.nan, 1.0]]))
    ('probabilities', 'probabilities, as every row sums to 1')
    """
    if kind is not None:
        require_choice("kind", kind, KINDS)
    finite = scores[np.isfinite(scores).all(axis=1)]
    off = np.abs(finite.sum(axis=1, dtype=np.float64) - 1)
    positive = not len(finite) or finite.min(initial=0) >= 0
    if kind is None and name not in {"logits", "probabilities"}:
        if len(finite) and positive and off.max() <= 1e-3:
            return "probabilities", "probabilities, as every row sums to 1"
        return "logits", "logits, as the rows are no probabilities"
    found: Kind = kind or ("logits" if name == "logits" else "probabilities")
    if found == "probabilities":
        # Wider than above: a thousand half-precision numbers may be off by a hundredth.
        legal = positive and off.max(initial=0) <= 0.02
        require(legal, name, "rows that are negative or do not sum to 1", "probabilities, or kind logits")
    return found, f"{found}, as {'is said' if kind else 'their name says'}"


def as_logits(scores: Array, kind: Kind) -> Array:  # (N, C)
    """Scores as logits: of probabilities the logarithm. A row that is not finite is NaN from end to end.

    >>> as_logits(np.array([[0.25, 0.75], [np.inf, 0.0]]), "probabilities").round(4).tolist()
    [[-1.3863, -0.2877], [nan, nan]]
    """
    finite = np.isfinite(scores).all(axis=1, keepdims=True)
    if kind == "probabilities":
        scores = np.log(np.maximum(np.where(finite, scores, np.nan), np.finfo(np.float32).tiny))
    return np.where(finite, scores, np.nan)


def _is_one_hot(column: Array) -> bool:  # (N, C)
    return bool(((column == 0) | (column == 1)).all() and (column.sum(axis=1) == 1).all())


def _short(values: list[Any]) -> str:
    return repr(values[0])[:40] if values else "none"
