"""Labels that are large numbers, and labels that are missing, read at once and as a stream."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisector.data.tables import open_embeddings, read_embeddings
from bisector.errors import ArgumentError

LARGE = [2**60 + 1, 2**60 + 2, 2**60 + 3]


def write(path: Path, labels: pa.Array, **columns: pa.Array) -> Path:
    vectors = np.random.default_rng(0).normal(size=(len(labels), 4)).astype(np.float32)
    pq.write_table(
        pa.table({"embedding": vectors.tolist(), "label": labels, **columns}), path, row_group_size=3
    )
    return path


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()])
def test_large_labels_beside_missing_ones_stay_what_they_are(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array([LARGE[0], None, LARGE[2], LARGE[1], LARGE[1], LARGE[2]], kind)
    path = write(tmp_path / "a.parquet", column, prediction=column)
    names = tuple(map(str, LARGE))
    table, stored = read_embeddings(path), open_embeddings(path)
    assert table.class_names == stored.class_names == names
    assert table.labels.tolist() == table.predictions.tolist() == [0, 2, 1, 1, 2]
    assert stored.counts.tolist() == [1, 2, 2]
    chunks = list(stored.chunks())
    assert np.concatenate([chunk.labels for chunk in chunks]).tolist() == [0, 2, 1, 1, 2]


@pytest.mark.parametrize("words", [False, True])
def test_floats_that_may_be_several_labels_are_refused(tmp_path: Path, words: bool) -> None:
    if words:
        path = tmp_path / "a.npz"
        np.savez(path, x=np.eye(3), y=[2.0**53, 1.0, 2.0], class_names=["a", "b", "c"])
    else:
        path = write(tmp_path / "a.parquet", pa.array([2.0**53, 1.0, None]))
    for read in (read_embeddings, open_embeddings):
        with pytest.raises(ArgumentError, match=r"labels: got \[9007199254740992\.0\]"):
            read(path)
    fine = write(tmp_path / "b.parquet", pa.array([2.0**53 - 1, 1.0, None]))
    assert read_embeddings(fine).class_names == ("1", str(2**53 - 1))


def test_an_array_that_lies_column_by_column_is_told_by_its_remedy(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.asfortranarray(np.random.default_rng(0).normal(size=(6, 3))), y=[0, 1] * 3)
    with pytest.raises(ArgumentError, match=r"column by column.*--engine memory"):
        open_embeddings(path)
    assert len(read_embeddings(path)) == 6
