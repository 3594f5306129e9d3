"""The table of classes as Parquet or JSON, for whoever reads it with a program."""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from bisector.errors import missing_extra, require_choice
from bisector.files import write_whole
from bisector.measurement.classes import ClassMeasure

FORMATS = ("parquet", "json")


def write_classes(classes: Sequence[ClassMeasure], path: Path) -> None:
    """Write a row for every class, with the names and the units of `ClassMeasure`; what is not known is null.

    Args:
        classes: in the order of their numbers.
        path: ends with .parquet or .json.

    Raises:
        ArgumentError: if it does not.
        MissingExtraError: for Parquet without pyarrow.
        OSError: if the file cannot be written.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "classes.json"
    >>> write_classes([ClassMeasure("cat", 2, 0, 1.5, math.nan, math.nan)], file)
    >>> json.loads(file.read_text())[0]["amount"]
    1.5
    """
    kind = require_choice("format", path.suffix[1:], FORMATS)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{key: _known(value) for key, value in asdict(one).items()} for one in classes]
    if kind == "json":
        write_whole(path, json.dumps(rows, ensure_ascii=False, indent=1, allow_nan=False))
        return
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise missing_extra("pyarrow", "measure") from None
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    names = {field.name: kinds[field.type] for field in fields(ClassMeasure) if field.type in kinds}
    table = pa.table({name: pa.array([row[name] for row in rows], type=kind) for name, kind in names.items()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_whole(path, buffer.getvalue())


def _known(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
