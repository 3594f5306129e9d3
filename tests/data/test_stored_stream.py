"""The stream says what the whole file says, and both what a loop over its rows says."""

import math
import pickle
import shutil
import tempfile
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather
from scipy.special import log_softmax

from bisector.data.tables import (
    EmbeddingTable,
    StoredEmbeddings,
    open_embeddings,
    read_embeddings,
    write_embeddings,
)
from bisector.data.tables.columns import SPLITS
from bisector.errors import ArgumentError

KINDS = ("fixed", "list", "large", "half")


def told(stored: StoredEmbeddings) -> tuple[str, ...]:
    counted: Counter[str] = Counter()
    for chunk in stored.chunks():
        counted.update(chunk.left_out)
    return stored.left_out_lines(counted)


def same(stored: StoredEmbeddings, table: EmbeddingTable) -> None:
    chunks = list(stored.chunks())
    assert stored.class_names == table.class_names
    assert stored.dim == table.embeddings.shape[1]
    assert np.array_equal(np.concatenate([chunk.embeddings for chunk in chunks]), table.embeddings.numpy())
    assert np.concatenate([chunk.labels for chunk in chunks]).tolist() == table.labels.tolist()
    for key in ("predictions", "losses"):
        whole = getattr(table, key)
        there = whole is not None
        for chunk in chunks:
            assert (getattr(chunk, key) is not None) == there
        if there:
            found = np.concatenate([getattr(chunk, key) for chunk in chunks])
            assert np.array_equal(found, whole.numpy(), equal_nan=key == "losses"), key
    assert stored.has_splits == (table.splits is not None)
    if table.splits is not None:
        assert [SPLITS[code] for chunk in chunks for code in chunk.splits.tolist()] == table.splits
    assert told(stored) == table.left_out


def arrow_table(rows: list[dict[str, object]], kind: str = "list", **types: pa.DataType) -> pa.Table:
    width = next((len(row["embedding"]) for row in rows if row["embedding"] is not None), 1)  # type: ignore[arg-type]
    vector = {
        "fixed": pa.list_(pa.float32(), width),
        "list": pa.list_(pa.float32()),
        "large": pa.large_list(pa.float64()),
        "half": pa.list_(pa.float16()),
    }[kind]
    columns = {"embedding": vector, **types}
    return pa.table({key: pa.array([row[key] for row in rows], columns.get(key)) for key in rows[0]})


def write_every_way(table: pa.Table, folder: Path, rows: int) -> list[Path]:
    """The same table in every format there is, in groups of so many rows."""
    pq.write_table(table, folder / "a.parquet", row_group_size=rows)
    feather.write_feather(table, str(folder / "a.feather"), chunksize=rows)
    with pa.OSFile(str(folder / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=rows)
    return [folder / "a.parquet", folder / "a.feather", folder / "a.arrow"]


@st.composite
def stored_rows(draw: st.DrawFn) -> list[dict[str, object]]:
    width, classes = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    number = st.sampled_from([0.0, 1.5, -2.0, 3.25, math.nan, math.inf])
    usual = st.sampled_from([0.0, 1.5, -2.0, 3.25])
    words = draw(st.booleans())
    label = st.sampled_from(["b", "é", "a", "10"][: classes + 1]) if words else st.integers(0, classes - 1)
    label = st.one_of(label, label, label, st.none())
    fields: dict[str, st.SearchStrategy[object]] = {
        "embedding": st.one_of(
            st.none(),
            st.lists(usual, min_size=width, max_size=width),
            st.lists(usual, min_size=width, max_size=width),
            st.lists(number, min_size=width, max_size=width),
        ),
        "label": label,
    }
    if draw(st.booleans()):
        fields["prediction"] = label
    if draw(st.booleans()):
        fields["loss"] = st.one_of(st.none(), st.floats(0, 9, width=32))
    if not words and draw(st.booleans()):
        logits = st.lists(number, min_size=classes, max_size=classes)
        shares = [st.just([1.0 if place == at else 0.0 for place in range(classes)]) for at in range(classes)]
        even = st.just([1 / classes] * classes)
        name = draw(st.sampled_from(["scores", "logits", "probabilities"]))
        legal = name == "probabilities" or draw(st.booleans())
        fields[name] = st.one_of(st.none(), *shares, even) if legal else st.one_of(st.none(), logits)
    if draw(st.booleans()):
        fields["split"] = st.sampled_from(["train", "val", "Test"])
    return draw(st.lists(st.fixed_dictionaries(fields), min_size=1, max_size=12))


@given(rows=stored_rows(), group=st.integers(1, 5), kind=st.sampled_from(KINDS))
def test_a_stream_has_what_the_whole_table_has(rows: list[dict[str, object]], group: int, kind: str) -> None:
    words = any(isinstance(row[key], str) for row in rows for key in ("label", "prediction") if key in row)
    folder = Path(tempfile.mkdtemp())
    try:
        label = pa.string() if words else pa.int64()
        loss, scores = pa.float32(), pa.list_(pa.float32())
        types = {"label": label, "prediction": label, "loss": loss, "split": pa.string()}
        types |= dict.fromkeys(("scores", "logits", "probabilities"), scores)
        table = arrow_table(rows, kind, **types)
        kept = [
            position
            for position, row in enumerate(rows)
            if row["label"] is not None
            and row["embedding"] is not None
            and all(map(math.isfinite, row["embedding"]))  # type: ignore[call-overload]
        ]
        for path in write_every_way(table, folder, group):
            if not kept:
                with pytest.raises(ArgumentError, match="no row"):
                    read_embeddings(path)
                continue
            stored = open_embeddings(path)
            same(stored, read_embeddings(path))
            found = np.concatenate([chunk.rows for chunk in stored.chunks()])
            assert found.tolist() == kept
            numbers = np.concatenate([chunk.labels for chunk in stored.chunks()])
            names = [stored.class_names[number] for number in numbers]
            assert names == [str(rows[position]["label"]) for position in kept]
            labelled = [row for row in rows if row["label"] is not None]
            train = [row for row in labelled if row.get("split", "train") == "train"]
            expected = [str(row["label"]) for row in train or labelled]
            counts = dict(zip(stored.class_names, stored.counts.tolist(), strict=True))
            assert counts == {name: expected.count(name) for name in stored.class_names}
    finally:
        shutil.rmtree(folder)


def scored(rows: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    scores = random.normal(size=(rows, classes)).astype(np.float32)
    return random.normal(size=(rows, 3)).astype(np.float32), np.arange(rows) % classes, scores


@pytest.mark.parametrize("name", ["scores", "logits", "probabilities"])
def test_scores_bring_predictions_and_losses(tmp_path: Path, name: str) -> None:
    vectors, labels, scores = scored(50, 4)
    logs = log_softmax(scores.astype(np.float64), axis=1)
    stored_as = np.exp(logs) if name != "logits" else scores
    columns = {"embedding": vectors.tolist(), "label": labels, name: pa.array(stored_as.tolist())}
    for path in write_every_way(pa.table(columns), tmp_path, 7):
        stored = open_embeddings(path)
        same(stored, read_embeddings(path))
        chunks = list(stored.chunks())
        predictions = np.concatenate([chunk.predictions for chunk in chunks])
        losses = np.concatenate([chunk.losses for chunk in chunks])
        assert predictions.tolist() == scores.argmax(axis=1).tolist()
        np.testing.assert_allclose(losses, -logs[np.arange(50), labels], rtol=1e-5)


def test_one_row_late_in_the_file_says_that_scores_are_logits(tmp_path: Path) -> None:
    vectors, labels, _ = scored(40, 2)
    scores = np.tile(np.float32([0.25, 0.75]), (40, 1))
    scores[39] = (3.0, 1.0)
    columns = {"embedding": vectors.tolist(), "label": labels, "scores": scores.tolist()}
    for path in write_every_way(pa.table(columns), tmp_path, 4):
        same(open_embeddings(path), read_embeddings(path))
        (chunk,) = open_embeddings(path).chunks()
        assert chunk.losses is not None
        assert chunk.losses[0] == pytest.approx(-log_softmax([0.25, 0.75])[0])


@pytest.mark.parametrize("mixed", ["int", "float", "binary"])
def test_numbers_and_words_in_one_table(tmp_path: Path, mixed: str) -> None:
    kind = {"int": pa.int32(), "float": pa.float64(), "binary": pa.binary()}[mixed]
    labels = {"int": [3, 7, None, 3], "float": [3.0, 7.0, math.nan, 3.0], "binary": [b"3", b"7", None, b"3"]}[
        mixed
    ]
    columns = {
        "embedding": [[1.0]] * 4,
        "label": pa.array(labels, kind),
        "prediction": pa.array(["3", "3", "7", None]),
    }
    for path in write_every_way(pa.table(columns), tmp_path, 1):
        stored = open_embeddings(path)
        same(stored, read_embeddings(path))
        assert stored.class_names == ("3", "7")
        assert told(stored) == ("1 row: no label", "1 row: no prediction and no finite scores")


def test_an_archive_and_a_pair(tmp_path: Path) -> None:
    vectors, labels, scores = scored(70_000, 3)
    vectors[5] = np.nan
    splits = np.where(labels == 1, "test", "train")
    names = np.array(["x", "y", "z"])
    fields = {"x": vectors, "y": labels, "logits": scores, "split": splits, "class_names": names}
    np.savez(tmp_path / "a.npz", **fields)
    np.savez_compressed(tmp_path / "b.npz", **fields)
    np.save(tmp_path / "embeddings.npy", vectors.astype(np.float64))
    np.save(tmp_path / "labels.npy", labels)
    for path in (tmp_path / "a.npz", tmp_path / "b.npz", tmp_path):
        stored = open_embeddings(path)
        assert [part.rows for part in stored.parts] == [65536, 70_000 - 65536]
        same(stored, read_embeddings(path))
        last, first = stored.parts[1], stored.parts[0]
        for part in (last, first, last):  # backwards too
            assert list(stored.chunks([part]))[-1].rows[-1] == part.first + part.rows - 1
    assert open_embeddings(tmp_path / "a.npz").counts.tolist() == [23334, 0, 23333]


def test_the_table_that_embed_writes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    table = EmbeddingTable(
        embeddings=torch.randn(9, 5),
        labels=torch.arange(9) % 3,
        class_names=("a b", "猫", "<b>", "no row"),
        predictions=torch.tensor([0, 1, -1] * 3),
        losses=torch.rand(9),
        splits=[("train", "validation", "test")[row // 3] for row in range(9)],
        left_out=("x.jpg: cannot be read",),
        model="runs/one",
    )
    write_embeddings(table, tmp_path / "e.parquet")
    stored = open_embeddings(tmp_path / "e.parquet")
    same(stored, read_embeddings(tmp_path / "e.parquet"))
    assert stored.counts.tolist() == [1, 1, 1, 0]
    assert stored.rows == 9
    assert stored.split_rows == {"train": 3, "validation": 3, "test": 3}
    assert stored.notes["model"] == "runs/one"
    assert [name for name, size, time in stored.reader.stamps if size and time] == [
        str(tmp_path / "e.parquet")
    ]


def test_rows_are_numbered_over_files_and_parts(tmp_path: Path) -> None:
    for name, rows, group in (("a", 10, 3), ("b/c", 70_000, 70_000), ("b/a", 140_000, 60_000)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        vectors = pa.FixedSizeListArray.from_arrays(np.arange(2 * rows, dtype=np.float32), 2)
        table = pa.table({"embedding": vectors, "label": np.zeros(rows, np.int64)})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=group)
    stored = open_embeddings(tmp_path)
    assert [Path(part.file).name for part in stored.parts] == ["a.parquet", *["a.parquet"] * 3, "c.parquet"]
    assert [(part.group, part.groups, part.rows, part.first) for part in stored.parts] == [
        (0, 4, 10, 0),
        (0, 1, 60_000, 10),
        (1, 1, 60_000, 60_010),
        (2, 1, 20_000, 120_010),
        (0, 1, 70_000, 140_010),
    ]
    chunks = list(stored.chunks())
    assert [len(chunk) for chunk in chunks] == [10, 60_000, 60_000, 20_000, 65_536, 70_000 - 65_536]
    assert np.array_equal(np.concatenate([chunk.rows for chunk in chunks]), np.arange(stored.rows))
    last = np.concatenate([chunk.embeddings for chunk in stored.chunks(stored.parts[-1:])])
    assert np.array_equal(last, np.arange(140_000, dtype=np.float32).reshape(-1, 2))


def test_another_process_reads_the_same(tmp_path: Path) -> None:
    vectors, labels, scores = scored(20, 3)
    table = pa.table({"embedding": vectors.tolist(), "label": labels, "logits": scores.tolist()})
    for path in write_every_way(table, tmp_path, 6):
        stored = open_embeddings(path)
        list(stored.chunks())
        again = pickle.loads(pickle.dumps(stored))
        same(again, read_embeddings(path))
        assert again.parts == stored.parts


def test_a_stream_that_is_given_up_leaves_no_thread(tmp_path: Path) -> None:
    np.save(tmp_path / "embeddings.npy", np.ones((200_000, 2), np.float32))
    np.save(tmp_path / "labels.npy", np.zeros(200_000, np.int64))
    stream = open_embeddings(tmp_path).chunks()
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("bisector-read")]


@pytest.mark.parametrize(
    ("columns", "wrong"),
    [
        (
            {"embedding": [[1.0], [2.0, 3.0]], "label": [0, 1]},
            r"t\.parquet with 'embedding' of 2 numbers .* group 1",
        ),
        (
            {"embedding": [[1.0], [2.0]], "label": [0, 1], "probabilities": [[0.5, 0.5], [3.0, 4.0]]},
            "probabilities",
        ),
        ({"embedding": pa.array([None, None], pa.list_(pa.float32())), "label": [0, 1]}, "no row"),
    ],
)
def test_a_mistake_in_a_later_row_group_is_told(
    tmp_path: Path, columns: dict[str, object], wrong: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet", row_group_size=1)
    with pytest.raises(ArgumentError, match=wrong):
        list(open_embeddings(tmp_path / "t.parquet").chunks())


@pytest.mark.parametrize("suffix", ["parquet", "feather", "arrow"])
@pytest.mark.parametrize("name", ["{}", "dim_{}", "x{}"])
@pytest.mark.parametrize("first", [0, 1])
def test_one_column_a_dimension_is_a_column_of_vectors(tmp_path, suffix, name, first):
    vectors = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
    vectors[3, 5] = np.nan
    labels = np.arange(40) % 3
    columns = {name.format(k + first): vectors[:, k] for k in reversed(range(12))}
    other = {"top1": vectors[:, 0], "top2": vectors[:, 1], "width7": vectors[:, 0], "count0": labels}
    rows = pa.table({"label": labels, **columns, **other})
    for path, table in (
        (tmp_path / f"a.{suffix}", rows),
        (tmp_path / f"b.{suffix}", vectors_table(vectors, labels)),
    ):
        if suffix == "parquet":
            pq.write_table(table, path, row_group_size=15)
        elif suffix == "feather":
            feather.write_feather(table, path, compression="uncompressed", chunksize=15)
        else:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=15)
    numbered, plain = (read_embeddings(tmp_path / f"{letter}.{suffix}") for letter in "ab")
    assert numbered.embeddings.numpy().tobytes() == plain.embeddings.numpy().tobytes()
    assert (len(numbered), numbered.left_out) == (39, plain.left_out)
    chunks = list(open_embeddings(tmp_path / f"a.{suffix}").chunks())
    assert np.array_equal(np.concatenate([chunk.embeddings for chunk in chunks]), plain.embeddings.numpy())


@pytest.mark.parametrize("names", [["prob_0", "prob_1"], ["x0", "x2"], ["x2", "x3"], ["x0"]], ids="-".join)
def test_other_numbers_are_no_vectors(tmp_path, names):
    rows = {"label": [0, 1] * 5, **{name: np.ones(10, np.float32) for name in names}}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    with pytest.raises(ArgumentError, match="0 columns of vectors"):
        read_embeddings(tmp_path / "a.parquet")


def vectors_table(vectors, labels):
    return pa.table({"embedding": list(vectors), "label": labels})
