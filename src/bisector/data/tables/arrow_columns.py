"""The columns of Parquet and Arrow: which of them holds what, and their values as numpy."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bisector.data.tables.columns import ALIASES, EXACT, Array, as_rows, distinct_names, several_labels
from bisector.errors import ArgumentError, missing_extra, require

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError:
    raise missing_extra("pyarrow", "measure") from None

_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)


def vector_column(schema: "pa.Schema", wanted: str | None = None, *, file: Path | str = "file") -> str:
    """The name of the column of embeddings.

    Args:
        schema: of the file.
        wanted: the name that it must have.
        file: for the message.

    Raises:
        ArgumentError: if there is none, or more than one and none has a usual name.
    """
    vectors = [field.name for field in schema if _is_vector(field.type, nested=True)]
    if wanted is not None:
        require(wanted in vectors, "embedding column", f"{wanted!r} in {file}", _one_of(vectors))
        return wanted
    for name in ALIASES["embeddings"]:
        if name in vectors:
            return name
    others = _vectors(schema)
    require(len(others) == 1, "file", f"{file} with {len(others)} columns of vectors", _one_of(others))
    return others[0]


def _vectors(schema: "pa.Schema") -> list[str]:
    """The columns of vectors that are no scores."""
    no_vectors = {*ALIASES["scores"], *_ranked(schema.names)}
    return [field.name for field in schema if _is_vector(field.type) and field.name not in no_vectors]


def _ranked(names: Sequence[str]) -> set[str]:
    """The columns of the most probable classes, in the order of a row, as `bisector predict` writes them.

    >>> sorted(_ranked(["label", "probability", "top_1", "probability_1"]))
    ['probability_1', 'top_1', 'top_classes', 'top_probabilities']
    """
    by_rank = [name for name in names if re.fullmatch(r"(?:top|probability)_[0-9]+", name)]
    return {"top_classes", "top_probabilities", *(by_rank if "top_1" in names else ())}


def find_columns(
    schema: "pa.Schema",
    groups: "Groups",
    embedding: str | None,
    label: str | None,
    file: Path | str,
    *,
    vectors_needed: bool = True,
) -> dict[str, str]:
    """Which column holds what, by the keys of `ALIASES`; what there is no column for is not in it.

    Args:
        schema: of the file.
        groups: the numbered columns that are one vector.
        embedding: the column of vectors; the only one, or the one with a usual name, if None.
        label: the column of labels; the one with a usual name if None.
        file: for the message.
        vectors_needed: whether scores or predictions without vectors are refused.

    Raises:
        ArgumentError: there are no vectors or no labels, or not under that name.
    """
    others = {
        key: _first(schema, ALIASES[key]) for key in ("predictions", "losses", "scores", "names", "splits")
    }
    said = others["scores"] or others["predictions"]
    taken = {*filter(None, others.values()), *(name for group in groups.values() for name in group)}
    bare = not vectors_needed and embedding is None and said and not _vectors(schema)
    return {
        **({} if bare else {"embeddings": vector_column(schema, embedding, file=file)}),
        "labels": _label_column(schema, label, taken, file),
        **{key: name for key, name in others.items() if name is not None},
    }


def unused(schema: "pa.Schema", groups: "Groups", columns: Mapping[str, str]) -> tuple[str, ...]:
    """The columns that `find_columns` took for nothing; of numbered ones the vector that they are."""
    taken = {*columns.values(), *(name for group in groups.values() for name in group)}
    return tuple(name for name in schema.names if name not in taken)


def require_same_columns(
    schema: "pa.Schema", other: "pa.Schema", names: Sequence[str], *, file: Path | str, like: Path | str
) -> None:
    """Raise `ArgumentError` unless the schema of `file` has these columns as that of `like` has them."""
    for name in names:
        require(name in other.names, "file", f"{file} without the column {name!r}", f"those of {like}")
        sorts = {_sort_of(each.field(name).type) for each in (schema, other)}
        same = len(sorts - {"empty"}) <= 1
        got = f"{file} with {name!r} of type {other.field(name).type}"
        require(same, "file", got, f"{schema.field(name).type}, as in {like}")


def _is_vector(kind: Any, *, nested: bool = False) -> bool:
    """Whether it is a list of numbers (if `nested`, of lists of them), or a tensor of one axis longer than 1."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return sum(size != 1 for size in kind.shape) <= 1 and _is_vector(kind.storage_type)
    if isinstance(kind, pa.BaseExtensionType):
        return _is_vector(kind.storage_type, nested=nested)
    if not any(test(kind) for test in _LISTS):
        return False
    values = kind.value_type
    return bool(
        pa.types.is_floating(values) or pa.types.is_integer(values) or (nested and _is_vector(values))
    )


def to_array(chunk: Any, name: str) -> Array:
    """A chunk as numpy: (N,), or (N, D) of vectors with NaN where one is missing."""
    if pa.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary_decode()
    if not _is_vector(chunk.type, nested=True):
        if pa.types.is_integer(chunk.type) and chunk.null_count:
            return _integers_with_gaps(chunk)
        text = pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type)
        array: Array = chunk.to_numpy(zero_copy_only=False)
        return np.asarray(array, dtype=object) if text else array
    if isinstance(chunk, pa.ExtensionArray):
        chunk = chunk.storage
    lengths = set(pc.unique(pc.list_value_length(chunk)).to_pylist()) - {None}
    require(
        len(lengths) <= 1,
        f"column {name!r}",
        f"vectors of {min(lengths, default=0)} to {max(lengths, default=0)} numbers",
        "one length",
    )
    there = chunk.is_valid().to_numpy(zero_copy_only=False)
    values = chunk.drop_null().flatten()
    width = (
        lengths.pop() if lengths else (chunk.type.list_size if pa.types.is_fixed_size_list(chunk.type) else 0)
    )
    if _is_vector(values.type):
        inner = to_array(values, name)
        rows = as_rows(f"column {name!r}", inner.reshape(int(there.sum()), width, inner.shape[1]))
        width = rows.shape[1]
    else:
        numbers = values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
        rows = numbers.reshape(int(there.sum()), width)
    if there.all():
        return rows
    full = np.full((len(chunk), width), np.nan, dtype=np.float32)
    full[there] = rows
    return full


def _integers_with_gaps(chunk: Any) -> Array:  # (N,)
    """Integers of which some are missing: floats with NaN where these are exact, else objects with None."""
    values: Array = pc.fill_null(chunk, 0).to_numpy(zero_copy_only=False)
    gaps = ~chunk.is_valid().to_numpy(zero_copy_only=False)
    if values.max() < EXACT and values.min() > -EXACT:
        values = values.astype(np.float64)
        values[gaps] = np.nan
    else:
        values = values.astype(object)
        values[gaps] = None
    return values


def absent(rows: int, width: int | None) -> Array:
    """Cells that are all empty, of vectors of this width or of single values."""
    return np.full(rows, None, dtype=object) if width is None else np.full((rows, width), np.nan, np.float32)


def _label_column(schema: Any, wanted: str | None, others: Iterable[str], file: Path | str) -> str:
    """The column of labels: of this name, or that has a usual one; `others` are taken for something else."""
    vectors = {field.name for field in schema if _is_vector(field.type, nested=True)}
    no_labels = {*others, *vectors, *_ranked(schema.names)}
    free = [name for name in schema.names if name not in no_labels and not _SCORES.match(name)]
    if wanted is not None:
        require(
            wanted in schema.names, "label column", f"{wanted!r} in {file}", _one_of(free or schema.names)
        )
        return wanted
    name = _first(schema, ALIASES["labels"])
    if name is None:
        several = [one for one in schema.names if _ONE_OF_LABELS.fullmatch(one)]
        if len(several) > 1:
            raise several_labels(f"file: got {file} with {', '.join(several[:3])}, a column a class")
        usual = f"{', '.join(ALIASES['labels'][:-1])} or {ALIASES['labels'][-1]}"
        legal = (
            f"; name it with --label: {_one_of(free)}"
            if free
            else "; expected one: the true class of each row"
        )
        raise ArgumentError(f"file: got {file} with no column {usual}{legal}")
    return name


def _sort_of(kind: Any) -> str:
    """What a column holds, apart from its precision: files of one folder may differ in that alone."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if _is_vector(kind, nested=True):
        return "vectors"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "numbers"
    if pa.types.is_null(kind):
        return "empty"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "words"
    return str(kind)


def _first(schema: Any, names: Sequence[str]) -> str | None:
    """The first of these names that is a column."""
    return next((name for name in names if name in schema.names), None)


def _one_of(names: Sequence[str]) -> str:
    """What is legal where one of these columns is wanted, for a message."""
    return (
        f"one of {', '.join(names)}"
        if names
        else "a column of lists of numbers, or one column a dimension, as dim_0, dim_1"
    )


def notes_of(metadata: Mapping[bytes, bytes] | None, path: Path | str) -> dict[str, Any]:
    """What `bisector embed` noted in the metadata of a file: class_names, model, data, left_out.

    Raises:
        ArgumentError: what stands there under our name is not ours.
    """
    text = (metadata or {}).get(b"bisector")
    if text is None:
        return {}
    try:
        notes = json.loads(text)
    except ValueError:
        notes = None
    fits = isinstance(notes, dict) and all(
        isinstance(notes.get(key, []), list) and all(isinstance(word, str) for word in notes.get(key, []))
        for key in ("class_names", "left_out")
    )
    expected = "a JSON object whose class_names and left_out are lists of strings"
    require(fits, "file", f"{path} with other metadata 'bisector'", expected)
    return dict(notes)


_ONE_OF_LABELS = re.compile(r"(?:label|labels|target|targets|class|y|y_true)[_.]?[0-9]+")
_NUMBERED_SCORES = {
    "scores": re.compile(r"(?:y_)?scores?[_. ]?"),
    "logits": re.compile(r"logits?[_. ]?"),
    "probabilities": re.compile(r"(?:predict_|y_)?prob(?:abilities|ability|a|s)?[_. ]?"),
}
_SCORES = re.compile("score|logit|prob|pred|conf|softmax|loss|top", re.IGNORECASE)

Groups = Mapping[str, tuple[str, ...]]
"""The numbered columns that are one vector, by the name that the vector gets."""


def with_vectors(schema: "pa.Schema") -> "tuple[pa.Schema, Groups]":
    """The schema with a column more for every group of numbered columns, and what these are.

    A group has one prefix and the numbers from 0 or 1 on, without a gap: `0`, `1`, … or `dim_0`, `dim_1`, …; they
    are floating-point numbers, since whole ones may be anything. There is no group of vectors beside a column of
    vectors, and none of scores (`logit_0`, `prob_0`, …) beside a column of scores, by whose name it is called.
    Scores may have names of classes in place of numbers (`prob_cat`, `prob_dog`); they keep their order.

    Raises:
        UnicodeDecodeError: a name is no text: pyarrow decodes them when they are first asked for.

    >>> names = ["label", "dim_1", "dim_0", "x1", "x3"]
    >>> schema, groups = with_vectors(pa.schema([(name, pa.float32()) for name in names]))
    >>> schema.names[5:], dict(groups)
    (['dim_0 to dim_1'], {'dim_0 to dim_1': ('dim_0', 'dim_1')})
    >>> with_vectors(pa.schema([("prob_0", pa.float32()), ("prob_1", pa.float32())]))[1]
    {'probabilities': ('prob_0', 'prob_1')}
    """
    found: dict[str, dict[int, str]] = {}
    of_classes: dict[str, list[str]] = {}
    names = schema.names
    held = [field.name for field in schema if _is_vector(field.type, nested=True)]
    ranked = _ranked(names)
    vectors, scores = set(held) - {*ALIASES["scores"], *ranked}, set(names) & set(ALIASES["scores"])
    for name, field in zip(names, schema, strict=True):
        number = None if name in ranked else re.search(r"(?:0|[1-9][0-9]*)$", name)
        if number and pa.types.is_floating(field.type):
            found.setdefault(name[: number.start()], {})[int(number[0])] = name
        if pa.types.is_floating(field.type) and name not in ranked and (prefix := _class_prefix(name)):
            of_classes.setdefault(prefix, []).append(name)
    groups: dict[str, tuple[str, ...]] = {}
    for prefix, columns in found.items():
        first = min(columns)
        ordered = tuple(columns[number] for number in sorted(columns))
        if len(columns) == 1 or first not in {0, 1} or max(columns) != first + len(columns) - 1:
            continue
        if kind := _kind_of(prefix):
            if not scores:
                groups.setdefault(kind, ordered)
        elif not vectors and not _SCORES.match(prefix):
            groups[f"{ordered[0]} to {ordered[-1]}"] = ordered
    for prefix, named in of_classes.items():
        if len(named) > 1 and not scores:
            groups.setdefault(_kind_of(prefix), tuple(named))
    for name, ordered in groups.items():
        schema = schema.append(pa.field(name, pa.list_(pa.float32(), len(ordered))))
    return schema, groups


def _kind_of(prefix: str) -> str:
    """What scores whose columns begin so are, as `ALIASES` calls them; empty where they are none."""
    lower = prefix.lower()
    return next((kind for kind, names in _NUMBERED_SCORES.items() if names.fullmatch(lower)), "")


def _class_prefix(column: str) -> str:
    """What stands before the name of a class in a column of its scores, as `prob_`; empty where nothing does."""
    found = (names.match(column.lower()) for names in _NUMBERED_SCORES.values())
    ends = (one.end() for one in found if one and one[0][-1] in "_. ")
    return column[:end] if (end := next(ends, 0)) < len(column) else ""


def class_columns(groups: "Groups", scores: str) -> dict[str, str]:
    """The columns of scores that are called after classes, by the names of these; none where they are numbered.

    >>> class_columns({"probabilities": ("prob_cat", "prob_dog")}, "probabilities")
    {'cat': 'prob_cat', 'dog': 'prob_dog'}
    """
    columns = groups.get(scores, ())
    words = [column[len(_class_prefix(column)) :] for column in columns]
    numbered = any(words == [str(first + place) for place in range(len(words))] for first in (0, 1))
    named = all(map(_class_prefix, columns)) and not numbered
    return dict(zip(distinct_names(words), columns, strict=True)) if named else {}


def stored_names(names: Sequence[str] | None, groups: Groups) -> list[str] | None:
    """The columns of a file that hold these; None for all."""
    if names is None:
        return None
    return list(dict.fromkeys(one for name in names for one in groups.get(name, (name,))))


def with_vectors_joined(batch: Any, names: Sequence[str] | None, groups: Groups) -> Any:
    """A record batch with the vectors of the groups that were asked for; a missing number is NaN."""
    for name in groups if names is None else [name for name in names if name in groups]:
        columns = [batch.column(one).to_numpy(zero_copy_only=False) for one in groups[name]]
        values = np.stack(columns, axis=1).astype(np.float32, copy=False)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), len(columns))
        batch = batch.append_column(name, vectors)
    return batch


def hugging_face_names(metadata: Mapping[bytes, bytes] | None, label: str) -> list[str] | None:
    """The names that Hugging Face's `ClassLabel` wrote into the metadata of a file, if it did."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return names if isinstance(names, list) else None
