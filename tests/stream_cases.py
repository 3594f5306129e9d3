"""Stored embeddings for the tests of streams: real files, and what numpy says of them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SPLITS = np.array(["train", "validation", "test"])


def write_stream(
    path: Path,
    *,
    rows: int = 3000,
    dim: int = 6,
    classes: int = 7,
    group: int = 200,
    seed: int = 0,
    predicted: bool = True,
    split: bool = True,
    broken: int = 0,
) -> dict[str, np.ndarray]:
    """Write Parquet and return its columns; `broken` rows have a NaN. A folder gets files of `group` rows each."""
    rng = np.random.default_rng(seed)
    labels = np.minimum(rng.geometric(0.35, size=rows) - 1, classes - 1)
    labels[:classes] = range(classes)
    spread = rng.uniform(0.2, 2, size=(classes, dim))
    x = (rng.normal(size=(classes, dim))[labels] + spread[labels] * rng.normal(size=(rows, dim))).astype(
        np.float32
    )
    x[rng.choice(rows, broken, replace=False), 0] = np.nan
    columns = {"embedding": x, "label": labels}
    if predicted:
        wrong = rng.random(rows) < 0.3
        columns["prediction"] = np.where(wrong, rng.integers(0, classes, rows), labels)
        columns["loss"] = rng.exponential(size=rows).astype(np.float32)
    if split:
        columns["split"] = SPLITS[rng.choice(3, size=rows, p=[0.7, 0.1, 0.2])]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), dim)
    arrays = {name: vectors if name == "embedding" else pa.array(column) for name, column in columns.items()}
    table = pa.table(arrays)
    if path.suffix:
        pq.write_table(table, path)
        return columns
    path.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, rows, group)):
        pq.write_table(table.slice(start, group), path / f"{number:04}.parquet")
    return columns


def numbers(path: Path) -> str:
    """A measure.json without what differs between two folders: its command."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith('"command"'))
