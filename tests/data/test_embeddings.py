import json
import shutil
import string
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from bisector.data.tables import (
    EmbeddingTable,
    is_embeddings,
    open_embeddings,
    read_embeddings,
    write_embeddings,
)
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
        labels = [
            None if label in {"None", "nan"} else label for label in labels
        ]  # as the documentation has it
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


LAYOUTS = {
    "list": pa.list_(pa.float64()),
    "large": pa.large_list(pa.float16()),
    "fixed": pa.list_(pa.float32(), 2),
    "view": pa.list_view(pa.float32()),
    "large view": pa.large_list_view(pa.float16()),
    "integers": pa.list_(pa.int8()),
}
VECTORS = [[1, 2], None, [3, None], [5, 6]]


def in_a_file(vectors: pa.Array, name: str, folder: Path) -> Path:
    """The vectors with labels as Arrow, which stores every type; and as Parquet, if it can."""
    table = pa.table({"who": ["a", "b", "c", "d"], name: vectors, "y": [4, 9, 4, 9]})
    with pa.ipc.new_file(folder / "t.arrow", table.schema) as file:
        file.write_table(table)
    if "view" not in str(vectors.type):
        pq.write_table(table, folder / "t.arrow.parquet")
    return folder


def require_vectors(folder: Path, **options: str) -> None:
    for file in sorted(folder.iterdir()):
        found, stored = read_embeddings(file, **options), open_embeddings(file, **options)
        assert found.embeddings.tolist() == [[1.0, 2.0], [5.0, 6.0]]
        assert np.concatenate([chunk.embeddings for chunk in stored.chunks()]).tolist() == [[1, 2], [5, 6]]
        assert found.class_names == stored.class_names == ("4", "9")
        assert found.labels.tolist() == [0, 1]
        assert found.left_out == ("2 rows: its vector is missing or not finite",)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_vector_column_is_found_by_its_type(tmp_path: Path, layout: str) -> None:
    require_vectors(in_a_file(pa.array(VECTORS, LAYOUTS[layout]), "hidden", tmp_path))


@pytest.mark.parametrize("outer", [pa.list_, pa.large_list, lambda kind: pa.list_(kind, 1), pa.list_view])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_vectors_as_lists_of_one_list(tmp_path: Path, layout: str, outer) -> None:
    one = [None if row is None else [row] for row in VECTORS]
    values = pa.array(one, outer(LAYOUTS[layout]))
    require_vectors(in_a_file(values, "embedding", tmp_path))
    require_vectors(in_a_file(values, "hidden", tmp_path), embedding="hidden")


def test_lists_of_lists_are_vectors_only_by_name_and_of_one_axis(tmp_path: Path) -> None:
    pictures = pa.array([[[1, 2], [3, 4]]] * 4, pa.list_(pa.list_(pa.uint8())))
    folder = in_a_file(pictures, "picture", tmp_path)
    assert not is_embeddings(folder / "t.arrow.parquet")
    with pytest.raises(ArgumentError, match=r"shape \(., 2, 2\); expected \(N, D\) or \(N, 1, D\)"):
        read_embeddings(folder / "t.arrow", embedding="picture")


@pytest.mark.parametrize("shape", [(2,), (1, 2), (2, 1)])
def test_vectors_as_tensors_of_a_fixed_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    storage = pa.array(VECTORS, pa.list_(pa.float32(), 2))
    tensors = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), shape), storage)
    require_vectors(in_a_file(tensors, "hidden", tmp_path))


@pytest.mark.parametrize("shape", [(3, 1, 2), (3, 2, 1)])
def test_arrays_with_an_axis_of_one(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x, scores = np.arange(6, dtype=np.float16), np.arange(6.0).reshape(shape)
    np.savez(tmp_path / "t.npz", x=x.reshape(shape), y=[0, 1, 1], logits=scores)
    np.save(tmp_path / "x.npy", x.reshape(shape))
    np.save(tmp_path / "y.npy", [0, 1, 1])
    for path in (tmp_path / "t.npz", f"{tmp_path}/x.npy,{tmp_path}/y.npy"):
        found = read_embeddings(path)
        assert found.embeddings.tolist() == [[0, 1], [2, 3], [4, 5]]
        (chunk,) = open_embeddings(path).chunks()
        assert chunk.embeddings.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert found.predictions is None
    assert read_embeddings(tmp_path / "t.npz").scores.tolist() == [[0, 1], [2, 3], [4, 5]]


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
        ({"embedding": [[1.0], [2.0]], "label": [0, -2]}, "classes from 0"),
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
        ({"embedding": [[1.0], [2.0]], "label": [0, 1], "prediction": [0, -2]}, "classes from 0"),
        (
            {"embedding": [[1.0], [2.0]], "label": [0, 1], "prediction": [[0, 1], [1, 0]]},
            "predictions: got shape",
        ),
        ({"embedding": [[1.0], [2.0]], "label": [[0, 1], [1, 0]]}, "one-hot; expected .N,., the number"),
        ({"embedding": [[1.0], [2.0]], "label": [[0, 2], [1, 0]]}, "labels: got shape"),
        ({"embedding": [[1.0], [2.0]], "label": [["a"], ["b"]]}, "labels: got a list"),
        ({"embedding": [[1.0], [2.0]], "label": [b"a", b"\xff"]}, "labels: got bytes"),
        ({"embedding": [[1.0], [2.0]], "label": [0, 1], "loss": ["low", "high"]}, "losses: got 'low'"),
        ({"embedding": [[1.0], [2.0]], "label": [0, 1], "loss": [[1.0, 2.0]] * 2}, "losses: got shape"),
        ({"embedding": [[1.0], [2.0]], "label": [0, 1], "name": [["a"], ["b"]]}, "names: got a list"),
        (
            {"embedding": [[1.0], [2.0]], "label": [0, 1], "probabilities": [[0.1, 2.0], [0.3, 4.0]]},
            "probabilities: got rows that are negative or do not sum to 1",
        ),
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


def test_a_row_without_scores_is_not_predicted_and_costs_the_others_nothing(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    expected = -log_softmax(scores, axis=1)[np.arange(8), np.arange(8) % 3]
    gone = [1, 4, 6]
    vectors, labels = np.ones((8, 2)), np.arange(8) % 3
    for key, values in (("logits", scores), ("probabilities", np.exp(log_softmax(scores, axis=1)))):
        holes = values.copy()
        holes[1] = np.nan
        holes[4, 2] = np.nan
        holes[6, 0] = np.inf
        np.savez(tmp_path / "t.npz", embeddings=vectors, labels=labels, scores=holes)
        cells = [None if row == 1 else holes[row].tolist() for row in range(8)]
        table = pa.table({"embedding": vectors.tolist(), "label": labels, key: pa.array(cells)})
        pq.write_table(table, tmp_path / "t.parquet")
        for name in ("t.npz", "t.parquet"):
            found = read_embeddings(tmp_path / name)
            assert found.predictions is not None
            assert found.losses is not None
            assert (found.predictions == -1).nonzero().flatten().tolist() == gone
            assert found.predicted.tolist() == [row not in gone for row in range(8)]
            assert found.losses.isnan().nonzero().flatten().tolist() == gone
            kept = found.predicted
            assert found.predictions[kept].tolist() == np.delete(scores.argmax(axis=1), gone).tolist()
            np.testing.assert_allclose(found.losses[kept].numpy(), np.delete(expected, gone), rtol=1e-5)
            assert found.left_out == ("3 rows: no prediction and no finite scores",)
            write_embeddings(found, tmp_path / "again.parquet")
            again = read_embeddings(tmp_path / "again.parquet")
            assert again.predictions is not None
            assert torch.equal(again.predictions, found.predictions)
            assert again.left_out == found.left_out
            assert pq.read_table(tmp_path / "again.parquet")["prediction"].null_count == 3


def test_a_prediction_that_is_missing_comes_from_the_scores_if_there_are_any(tmp_path: Path) -> None:
    table = {"embedding": [[1.0], [2.0], [3.0]], "label": ["a", "b", "a"], "prediction": ["b", None, None]}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    found = read_embeddings(tmp_path / "t.parquet")
    assert found.predictions is not None
    assert found.predictions.tolist() == [1, -1, -1]
    assert found.left_out == ("2 rows: no prediction and no finite scores",)
    scores = [[9.0, 1.0], [1.0, 9.0], None]
    pq.write_table(pa.table({**table, "logits": pa.array(scores)}), tmp_path / "t.parquet")
    found = read_embeddings(tmp_path / "t.parquet")
    assert found.predictions is not None
    assert found.predictions.tolist() == [1, 1, -1]


def test_a_split_without_scores_keeps_its_rows(tmp_path: Path) -> None:
    for name, scores in (("train", None), ("test", [0.5, 2.0])):
        columns = {"embedding": [[1.0]] * 2, "label": [0, 1], "logits": pa.array([scores] * 2)}
        pq.write_table(pa.table(columns), tmp_path / f"{name}-0.parquet")
    found = read_embeddings(tmp_path)
    assert found.predictions is not None
    assert found.splits == ["test", "test", "train", "train"]
    assert found.predictions.tolist() == [1, 1, -1, -1]


def test_labels_of_one_column_and_bytes_are_read(tmp_path: Path) -> None:
    words = np.array([["wren"], ["mésange"]])
    for labels in (words, np.char.encode(words, "utf-8"), np.char.encode(words[:, 0], "utf-8")):
        np.savez(tmp_path / "t.npz", x=np.eye(2), y=labels, names=np.char.encode(words, "utf-8"))
        found = read_embeddings(tmp_path / "t.npz")
        assert found.class_names == ("mésange", "wren")
        assert found.labels.tolist() == [1, 0]
        assert found.names == ["wren", "mésange"]


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"y": np.array(3)}, r"labels: got shape \(\)"),
        ({"y": np.eye(2, dtype=int)}, "one-hot"),
        ({"y": np.array([1, 2]), "names": np.array("a")}, r"names: got shape \(\)"),
        ({"y": np.array([0, 1]), "class_names": np.array("a")}, r"class_names: got shape \(\)"),
        ({"y": np.array([0, 1]), "splits": np.array("test")}, r"splits: got shape \(\)"),
        ({"y": np.array([0, 1]), "loss": np.array(["a", "b"])}, "losses: got values of type <U1"),
        ({"y": np.array([0, 1]), "scores": np.array([["a"], ["b"]])}, "scores: got values of type <U1"),
        ({"y": np.array([b"a", b"\xff"])}, "labels: got bytes"),
        ({"y": np.array([1e30, 1.0])}, "labels: got .1e.30"),
    ],
)
def test_a_mistake_in_an_archive_is_told(tmp_path: Path, arrays: dict[str, object], told: str) -> None:
    np.savez(tmp_path / "t.npz", x=np.eye(2), **arrays)
    with pytest.raises(ArgumentError, match=told):
        read_embeddings(tmp_path / "t.npz")


def test_a_file_by_the_suffix_of_another_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.arange(2))
    np.save(tmp_path / "x.npy", np.eye(2))
    np.savez(tmp_path / "z.npz", x=np.eye(2), y=np.arange(2))
    (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    (tmp_path / "z.npz").rename(tmp_path / "z.npy")
    for name in ("x.npz", "z.npy"):
        with pytest.raises(ArgumentError, match=rf"{name}.*or the suffix"):
            read_embeddings(tmp_path / name)


@pytest.mark.parametrize(
    "text", ["[1]", "3", "not json", '{"class_names": "ab"}', '{"class_names": [1]}', '{"left_out": 3}']
)
def test_other_metadata_of_our_name_is_told(tmp_path: Path, text: str) -> None:
    table = pa.table({"embedding": [[1.0]], "label": [0]}).replace_schema_metadata({"bisector": text})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(ArgumentError, match=r"t\.parquet with other metadata 'bisector'"):
        read_embeddings(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"embedding": [[1.0]]}, "without the column 'label'"),
        ({"embedding": [[1.0, 2.0]], "label": [0]}, "'embedding' of 2 numbers a row"),
        ({"embedding": [[1.0]], "label": ["a"]}, "'label' of type string"),
        ({"image": ["a"], "label": [0]}, "without the column 'embedding'"),
    ],
)
def test_of_a_mixed_folder_the_file_is_named(tmp_path: Path, columns: dict[str, object], told: str) -> None:
    pq.write_table(pa.table({"embedding": [[1.0]], "label": [0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table(columns), tmp_path / "b.parquet")
    with pytest.raises(ArgumentError, match=rf"b\.parquet .*{told}"):
        read_embeddings(tmp_path)
    (tmp_path / "b.parquet").rename(tmp_path / "0.parquet")  # now the other way round
    with pytest.raises(ArgumentError, match=r"(0|a)\.parquet"):
        read_embeddings(tmp_path)


def test_what_the_scores_are_said_to_be_decides(tmp_path: Path) -> None:
    shares = np.array([[0.25, 0.75], [0.5, 0.5]], dtype=np.float32)
    for key, kind, logarithm in (
        ("scores", None, True),
        ("scores", "logits", False),
        ("probabilities", None, True),
        ("logits", None, False),
        ("logits", "probabilities", True),
    ):
        np.savez(tmp_path / "t.npz", x=np.eye(2), y=[0, 1], **{key: shares})
        found = read_embeddings(tmp_path / "t.npz", kind=kind)
        assert found.scores is not None
        np.testing.assert_allclose(found.scores.numpy(), np.log(shares) if logarithm else shares, rtol=1e-6)
    with pytest.raises(ArgumentError, match="kind: got 'shares'"):
        read_embeddings(tmp_path / "t.npz", kind="shares")  # type: ignore[arg-type]


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


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0, -1, 1]),
        np.array([0.0, -1.0, 1.0]),
        np.array(["a", "", "b"]),
        np.array(["a", None, "b"], dtype=object).astype(str),
        np.array(["a", np.nan, "b"], dtype=object).astype(str),
        np.array([b"a", b"", b"b"]),
    ],
)
def test_what_says_that_there_is_no_label(tmp_path, labels):
    np.savez(tmp_path / "x.npz", x=np.eye(3, dtype=np.float32), y=labels)
    table = read_embeddings(tmp_path / "x.npz")
    assert table.labels.tolist() == [0, 1]
    assert len(table.class_names) == 2
    assert table.left_out == ("1 row: no label",)


def test_a_class_that_is_named_none(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.eye(2), y=["None", "scratch"], class_names=["None", "scratch"])
    assert read_embeddings(tmp_path / "x.npz").labels.tolist() == [0, 1]


def test_a_name_of_two_classes(tmp_path):
    arrays = {"x": np.eye(3), "class_names": ["crane", "dog", "crane"], "logits": 9 * np.eye(3)}
    np.savez(tmp_path / "numbers.npz", y=[0, 1, 2], **arrays)
    table = read_embeddings(tmp_path / "numbers.npz")
    assert table.class_names == ("crane (0)", "dog", "crane (2)")
    assert table.labels.tolist() == table.predictions.tolist() == [0, 1, 2]
    np.savez(tmp_path / "words.npz", y=["crane", "dog", "crane"], **arrays)
    with pytest.raises(ArgumentError, match=r"'crane'.*names of classes: crane \(0\), dog, crane \(2\)"):
        read_embeddings(tmp_path / "words.npz")


def test_names_that_differ_in_unicode_s_form_alone(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.eye(3), y=["caf\u00e9", "cafe\u0301", "tea"])
    table = read_embeddings(tmp_path / "x.npz")
    assert table.class_names == ("caf\u00e9", "tea")
    assert table.labels.tolist() == [0, 0, 1]
