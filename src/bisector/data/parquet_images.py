"""Images in Parquet and Arrow, as Hugging Face writes them: a column of encoded images and a column of labels."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisector.data.image_examples import Reading
from bisector.data.image_folder import told
from bisector.data.image_source import LabelledImage, image_source
from bisector.data.images import Encoded
from bisector.data.source import Source, part_of
from bisector.data.tables.class_labels import named_labels
from bisector.errors import ArgumentError, missing_extra, reason_of, require

if TYPE_CHECKING:
    import pyarrow

_IMAGE_NAMES = ("image", "img", "picture", "photo")
_LABEL_NAMES = ("label", "labels", "fine_label", "class", "target", "category", "y")

_ARROW = {".arrow", ".feather"}

_Row = tuple[Encoded | None, str, str | None]  # image, name, label


def image_column(schema: "pyarrow.Schema") -> str | None:
    """Return the column that holds encoded images, a struct with bytes or binary; None if there is none."""
    import pyarrow.types as kinds

    found = [
        field.name
        for field in schema
        if kinds.is_binary(field.type)
        or kinds.is_large_binary(field.type)
        or (kinds.is_struct(field.type) and field.type.get_field_index("bytes") >= 0)
    ]
    return next((name for name in _IMAGE_NAMES if name in found), found[0] if found else None)


def parquet_image_source(
    files: Sequence[Path], root: Path, reading: Reading, parts: Mapping[Path, str] | None = None
) -> Source:
    """Read Parquet or Arrow files of images; names such as train-00000-of-00002.parquet tell the parts.

    The column of images is a struct with `bytes` (and `path`, which is read if the bytes are missing), or binary.
    The labels are strings, or whole numbers whose names come from the schema (a ClassLabel of Hugging Face, or
    `class_names`) or from dataset_info.json beside the files. Rows without a
    label (null or -1) are left out and named.

    Args:
        files: that are read.
        root: the folder or the file that was asked for.
        reading: how images are read.
        parts: the part of each file, where it is not told by names.

    Raises:
        ArgumentError: if a file is damaged or has no column of labels.
        MissingExtraError: without pyarrow.
    """
    images: list[LabelledImage] = []
    left_out: list[str] = []
    columns: list[str] = []
    order: dict[str, int] = {}  # class names with their numbers, 0 where they have none
    for path in files:
        called = told(str(path.relative_to(root.parent) if root.is_dir() else path))
        rows, classes, taken = _read(path, called, reading.label)
        order |= classes
        columns.append(taken)
        unlabelled = sum(label is None for _, _, label in rows)
        left_out += [f"{called}: {unlabelled} rows without a label"] if unlabelled else []
        part = part_of(path.name) or (part_of(path.parent.name) if path.parent != root.parent else None)
        part = part if parts is None else parts.get(path)
        for image, name, label in rows:
            if image is None:
                left_out.append(f"{name}: no image")
            elif label is not None:
                images.append(LabelledImage(image, name, label, part or "train"))
    require(bool(images), "data", f"{root} without a labelled image", "labelled images")
    ranked = sorted(order, key=lambda name: (order[name], name))
    return image_source(images, ranked, reading, left_out=left_out, notes=dict.fromkeys(columns))


def unlabelled_images(files: Sequence[Path], root: Path) -> list[tuple[Encoded | None, str]] | None:
    """The encoded images of Parquet files that have no column of labels, with their names; None if they have one.

    Raises:
        ArgumentError: if a file is damaged.
        MissingExtraError: without pyarrow.
    """
    found: list[tuple[Encoded | None, str]] = []
    for path in files:
        called = told(str(path.relative_to(root.parent) if root.is_dir() else path))
        schema, columns = _opened(path, called)
        image = image_column(schema)
        if image is None or _found_label(schema) is not None:
            return None
        found += zip(*_images(columns([image])[image], path, called), strict=True)
    return found


def image_schema(path: Path) -> "pyarrow.Schema":
    """The schema of a file of Parquet or Arrow.

    Raises:
        ArgumentError: if it is damaged.
        MissingExtraError: without pyarrow.
    """
    return _opened(path, told(str(path)))[0]


def _opened(path: Path, called: str) -> "tuple[pyarrow.Schema, Callable[[list[str]], pyarrow.Table]]":
    """The schema of a file, and what reads columns of it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise missing_extra("pyarrow", "measure") from None

    def tried(function: Callable[..., Any], *given: Any) -> Any:
        try:
            return function(*given)
        except Exception as error:  # what is damaged raises anything
            raise ArgumentError(f"data: {called}: cannot be read: {reason_of(error)}") from None

    source = tried(pyarrow.OSFile, os.fsencode(path))  # no name need be UTF-8
    if path.suffix.lower() in _ARROW:
        whole = tried(_arrow, source)
        return whole.schema, whole.select
    file = tried(pyarrow.parquet.ParquetFile, source)
    return file.schema_arrow, lambda columns: tried(file.read, columns)


def _arrow(source: Any) -> "pyarrow.Table":
    import pyarrow

    begins = source.read(6)
    source.seek(0)
    opened = pyarrow.ipc.open_file(source) if begins == b"ARROW1" else pyarrow.ipc.open_stream(source)
    return opened.read_all()


def _read(path: Path, called: str, wanted: str | None) -> tuple[list[_Row], dict[str, int], str]:
    """The rows of a file, its classes with their numbers, and a line that says which columns were taken."""
    schema, read = _opened(path, called)
    image, label = image_column(schema), _label_column(schema, called, wanted)
    columns = f"{called} with columns {', '.join(schema.names)}"
    require(image is not None, "data", columns, "a column of images")
    table = read([str(image), label])
    images, names = _images(table[str(image)], path, called)
    classes, labels = named_labels(table[label].to_pylist(), _class_names(schema, label, path), called, label)
    taken = f"columns: {image!r} as images, {label!r} as labels"
    return list(zip(images, names, labels, strict=True)), classes, taken


def _images(
    encoded: "pyarrow.ChunkedArray", path: Path, called: str
) -> tuple[list[Encoded | None], list[str]]:
    """The images of a column, and how a person finds each."""
    import pyarrow
    import pyarrow.compute

    images: list[Encoded | None]
    paths: list[str | None] = [None] * len(encoded)
    if pyarrow.types.is_struct(encoded.type):
        if encoded.type.get_field_index("path") >= 0:
            paths = pyarrow.compute.struct_field(encoded, "path").to_pylist()
        images = [
            str(path.parent / origin) if content is None and origin is not None else content
            for content, origin in zip(
                pyarrow.compute.struct_field(encoded, "bytes").to_pylist(), paths, strict=True
            )
        ]
    else:
        images = encoded.to_pylist()
    names = [
        f"{called}, row {row} ({origin})" if origin else f"{called}, row {row}"
        for row, origin in enumerate(paths)
    ]
    return images, names


def _label_column(schema: "pyarrow.Schema", called: str, wanted: str | None) -> str:
    import pyarrow.types as kinds

    columns = ", ".join(schema.names)
    if wanted is not None:
        got = f"{wanted!r} in {called} with the columns {columns}"
        require(wanted in schema.names, "label", got, "the name of one of them")
    name = _found_label(schema) if wanted is None else wanted
    require(name is not None, "data", f"{called} with columns {columns}", "a column of labels named 'label'")
    kind = schema.field(str(name)).type
    legal = _fits_labels(kind) or kinds.is_floating(_value_type(kind))
    expected = "labels that are integers, whole floats or strings, one a row"
    require(legal, "data", f"{called} with the column {name!r} of type {kind}", expected)
    return str(name)


def _found_label(schema: "pyarrow.Schema") -> str | None:
    """The column of labels: one of a usual name, or the only one that could be; None if there is none."""
    usual = (*_LABEL_NAMES, *_class_labels(schema.metadata))
    found: list[str] = [field.name for field in schema if _fits_labels(field.type)]
    return next((name for name in usual if name in schema.names), found[0] if len(found) == 1 else None)


def _fits_labels(kind: Any) -> bool:
    import pyarrow.types as kinds

    words = (kinds.is_string, kinds.is_large_string, kinds.is_string_view)
    return any(test(_value_type(kind)) for test in (kinds.is_integer, kinds.is_boolean, *words))


def _value_type(kind: Any) -> Any:
    import pyarrow.types

    return kind.value_type if pyarrow.types.is_dictionary(kind) else kind


def _class_labels(metadata: Mapping[bytes, bytes] | None) -> list[str]:
    """The columns that Hugging Face notes as labels in the metadata of a file."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return [name for name, feature in features.items() if feature.get("_type") == "ClassLabel"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _class_names(schema: "pyarrow.Schema", label: str, path: Path) -> list[str] | None:
    """The names of the label numbers: noted in the schema, or in dataset_info.json beside the file or above it."""
    from bisector.data.tables.arrow_columns import hugging_face_names

    noted = _json((schema.metadata or {}).get(b"class_names"))
    names = hugging_face_names(schema.metadata, label) or noted
    for folder in (path.parent, path.parent.parent):
        for file in ("dataset_info.json", "dataset_infos.json"):
            if names is None and (folder / file).is_file():
                names = _names_in(_json((folder / file).read_bytes()), label)
    return [str(name) for name in names] if isinstance(names, list) else None


def _json(text: bytes | None) -> Any:
    """What a note says; None if there is none, or it is no JSON."""
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None


def _names_in(info: Any, label: str) -> list[str] | None:
    """The names of a label in dataset_info.json, or in the first configuration of dataset_infos.json with any."""
    if not isinstance(info, dict):
        return None
    features = info.get("features")
    feature = features.get(label, {}) if isinstance(features, dict) else {}
    if isinstance(feature.get("names"), list):
        return list(feature["names"])
    inner = (_names_in(one, label) for one in info.values() if isinstance(one, dict) and "features" in one)
    return next((names for names in inner if names), None)
