import json
import math
import shutil
import string
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from bisector.data.embeddings import EmbeddingTable, is_embeddings, read_embeddings, write_embeddings
from bisector.errors import ArgumentError


def full_table(rows: int = 7, classes: int = 3) -> EmbeddingTable:
    scores = torch.randn(rows, classes)
    return EmbeddingTable(
        embeddings=torch.randn(rows, 5),
        labels=torch.arange(rows) % classes,
        class_names=("a b", "猫", "<b>"),
        predictions=scores.argmax(dim=1),
        losses=torch.rand(rows),
        scores=scores,
        names=[f"images/{row}.png" for row in range(rows)],
        splits=[("train", "validation", "test")[row % 3] for row in range(rows)],
        left_out=("x.jpg: cannot be read",),
        model="runs/one",
        data="digits",
    )


def same(table: EmbeddingTable, other: EmbeddingTable) -> None:
    for key in ("embeddings", "labels", "predictions", "losses", "scores"):
        assert torch.equal(getattr(table, key), getattr(other, key)), key
    for key in ("class_names", "names", "splits", "left_out", "model", "data"):
        assert getattr(table, key) == getattr(other, key), key


def test_what_is_written_is_read(tmp_path: Path) -> None:
    table = full_table()
    write_embeddings(table, tmp_path / "e.parquet")
    same(read_embeddings(tmp_path / "e.parquet"), table)


def test_the_schema_is_the_one_that_is_promised(tmp_path: Path) -> None:
    write_embeddings(full_table(), tmp_path / "e.parquet")
    schema = pq.read_schema(tmp_path / "e.parquet")
    assert schema.field("embedding").type == pa.list_(pa.float32(), 5)
    assert schema.field("scores").type == pa.list_(pa.float32(), 3)
    assert schema.field("label").type == schema.field("prediction").type == pa.int64()
    assert schema.field("loss").type == pa.float32()
    notes = json.loads(schema.metadata[b"bisector"])
    assert notes["class_names"] == ["a b", "猫", "<b>"]
    assert set(notes) == {"class_names", "model", "data", "left_out", "version"}


def test_a_file_stays_whole_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    write_embeddings(full_table(), path)
    before = path.read_bytes()
    broken = full_table()
    broken.names[3] = 3  # type: ignore[index, call-overload]  # arrow takes no number for a text
    with pytest.raises(pa.ArrowException):
        write_embeddings(broken, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["e.parquet"]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.text(string.printable + "é猫", min_size=1, max_size=4)),
        min_size=1,
        max_size=8,
    )
)
def test_string_labels_are_classes_in_sorted_order(labels: list[str | None]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        vectors = np.arange(len(labels) * 2, dtype=np.float32).reshape(-1, 2)
        table = pa.table({"v": pa.array(vectors.tolist()), "label": pa.array(labels, pa.string())})
        pq.write_table(table, folder / "t.parquet")
        there = [label for label in labels if label is not None]
        if not there:
            with pytest.raises(ArgumentError, match="no row"):
                read_embeddings(folder / "t.parquet")
            return
        found = read_embeddings(folder / "t.parquet")
        assert found.class_names == tuple(sorted(set(there)))
        assert [found.class_names[label] for label in found.labels] == there
        assert found.embeddings[:, 0].tolist() == [
            2.0 * row for row, label in enumerate(labels) if label is not None
        ]
        missing = len(labels) - len(there)
        assert [line.split()[0] for line in found.left_out] == ([str(missing)] if missing else [])
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float64()), pa.large_list(pa.float16()), pa.list_(pa.float32(), 2)]
)
def test_a_vector_column_is_found_by_its_type(tmp_path: Path, kind: pa.DataType) -> None:
    values = [[1.0, 2.0], None, [3.0, math.nan], [5.0, 6.0]]
    table = pa.table({"who": ["a", "b", "c", "d"], "hidden": pa.array(values, kind), "y": [4, 9, 4, 9]})
    pq.write_table(table, tmp_path / "t.parquet")
    found = read_embeddings(tmp_path / "t.parquet")
    assert found.embeddings.tolist() == [[1.0, 2.0], [5.0, 6.0]]
    assert found.class_names == ("4", "9")
    assert found.labels.tolist() == [0, 1]
    assert found.left_out == ("2 rows: its vector is missing or not finite",)


def test_a_value_too_large_for_float32_is_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=np.array([[1e300, 0.0], [1.0, 2.0]]), y=[0, 0])
    assert len(read_embeddings(tmp_path / "t.npz")) == 1


def test_scores_bring_predictions_and_losses(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    labels = np.arange(20) % 4
    expected = -log_softmax(scores, axis=1)[np.arange(20), labels]
    probabilities = np.exp(log_softmax(scores.astype(np.float64), axis=1))
    for key, values in (("logits", scores), ("probabilities", probabilities)):
        np.savez(tmp_path / "t.npz", embeddings=np.ones((20, 3)), labels=labels, **{key: values})
        found = read_embeddings(tmp_path / "t.npz")
        assert found.losses is not None
        assert found.predictions is not None
        np.testing.assert_allclose(found.losses.numpy(), expected, rtol=1e-5)
        assert found.predictions.tolist() == scores.argmax(axis=1).tolist()


def test_every_way_to_name_a_pair_of_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "embeddings.npy", np.eye(3))
    np.save(tmp_path / "labels.npy", np.array(["b", "a", "b"]))
    np.save(tmp_path / "X.npy", np.eye(3))
    ways = [tmp_path, tmp_path / "X.npy", f"{tmp_path / 'X.npy'},{tmp_path / 'labels.npy'}"]
    for way in ways:
        found = read_embeddings(way)
        assert found.labels.tolist() == [1, 0, 1]
        assert found.embeddings.tolist() == np.eye(3).tolist()
    assert all(is_embeddings(way) for way in ways[:2])


def test_a_folder_of_parquet_files_has_the_splits_of_their_names(tmp_path: Path) -> None:
    for name, first in (("train-00000-of-00002", 0), ("train-00001-of-00002", 2), ("test-00000-of-00001", 4)):
        vectors = [[float(first), 0.0], [first + 1.0, 0.0]]
        pq.write_table(pa.table({"embedding": vectors, "label": ["x", "y"]}), tmp_path / f"{name}.parquet")
    found = read_embeddings(tmp_path)
    assert found.splits == ["test", "test", "train", "train", "train", "train"]
    assert found.rows_of("test").tolist() == [0, 1]
    assert found.embeddings[:, 0].tolist() == [4.0, 5.0, 0.0, 1.0, 2.0, 3.0]
    assert is_embeddings(tmp_path)


def test_class_names_of_hugging_face_are_used(tmp_path: Path) -> None:
    features = {"info": {"features": {"label": {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}}}}
    table = pa.table({"embedding": [[1.0], [2.0]], "label": [2, 0]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, tmp_path / "t.parquet")
    found = read_embeddings(tmp_path / "t.parquet")
    assert found.class_names == ("cat", "dog", "owl")
    assert found.labels.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"embedding": [[1.0], [2.0]], "label": [0, -1]}, "classes from 0"),
        ({"embedding": [[1.0], [2.0]], "label": [0.5, 1.0]}, "whole numbers"),
        ({"embedding": [[1.0], [2.0, 3.0]], "label": [0, 1]}, "one length"),
        (
            {"embedding": [[1.0], [2.0]], "label": [0, 3], "scores": [[0.1, 2.0], [0.3, 4.0]]},
            "classes from 0 to 1",
        ),
        ({"embedding": [[1.0], [2.0]]}, "label"),
        ({"label": [0, 1]}, "columns of vectors"),
        ({"a": [[1.0], [2.0]], "b": [[1.0], [2.0]], "label": [0, 1]}, "2 columns of vectors"),
        (
            {"embedding": [[1.0], [2.0]], "label": [0, 1], "split": ["train", "elsewhere"]},
            "train, validation or test",
        ),
        ({"embedding": [[1.0], [2.0]], "label": [0, 1], "prediction": [0, None]}, "1 rows without one"),
        ({"embedding": [[1.0], [2.0]], "label": [None, None]}, "no row"),
    ],
)
def test_a_mistake_in_the_file_is_told(tmp_path: Path, columns: dict[str, list[object]], told: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(ArgumentError, match=told):
        read_embeddings(tmp_path / "t.parquet")


def test_files_that_are_none(tmp_path: Path) -> None:
    for name in ("t.parquet", "t.npz", "embeddings.npy", "t.txt"):
        (tmp_path / name).write_bytes(b"PK nothing of the kind")
        with pytest.raises(ArgumentError, match="file"):
            read_embeddings(tmp_path / name)
    with pytest.raises(ArgumentError, match="not there"):
        read_embeddings(tmp_path / "absent.parquet")
    np.savez(tmp_path / "p.npz", x=np.ones((2, 2)), y=np.array([{}, {}], dtype=object))
    with pytest.raises(ArgumentError, match="npz"):
        read_embeddings(tmp_path / "p.npz")  # nothing is unpickled
    assert not is_embeddings(tmp_path / "t.txt")
    assert not is_embeddings(tmp_path / "t.parquet")


def test_named_columns_are_taken(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"embedding": [[1.0]], "other": [[2.0]], "label": [0], "kind": ["k"]}),
        tmp_path / "t.parquet",
    )
    found = read_embeddings(tmp_path / "t.parquet", embedding="other", label="kind")
    assert found.embeddings.tolist() == [[2.0]]
    assert found.class_names == ("k",)
    with pytest.raises(ArgumentError, match="one of embedding, other"):
        read_embeddings(tmp_path / "t.parquet", embedding="absent")


def test_selecting_keeps_every_column(tmp_path: Path) -> None:
    table = full_table()
    rows = torch.tensor([4, 1])
    part = table.select(rows)
    assert part.names == ["images/4.png", "images/1.png"]
    assert part.splits == ["validation", "validation"]
    assert part.scores is not None
    assert table.scores is not None
    assert torch.equal(part.scores, table.scores[rows])


def test_columns_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ArgumentError, match="scores"):
        EmbeddingTable(torch.eye(2), torch.tensor([0, 1]), ("a", "b"), scores=torch.eye(3))
    with pytest.raises(ArgumentError, match="predictions"):
        EmbeddingTable(torch.eye(2), torch.tensor([0, 1]), ("a", "b"), predictions=torch.tensor([0, 2]))
