import json
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import softmax

from bisector.data.tables import EmbeddingTable, open_embeddings, write_embeddings
from bisector.data.tables.scores import StoredScores, open_scores, read_scores
from bisector.errors import ArgumentError

LOGITS = np.random.default_rng(0).normal(size=(6, 3))
SHARES = softmax(LOGITS, axis=1)


@pytest.mark.parametrize("suffix", ["npz", "npy"])
@pytest.mark.parametrize(
    ("values", "said", "kind"),
    [
        (LOGITS, None, "logits"),
        (SHARES, None, "probabilities"),
        (SHARES, "logits", "logits"),
        (SHARES, "probabilities", "probabilities"),
        (SHARES.astype(np.float16), None, "probabilities"),
        (np.where(np.arange(6)[:, None] == 2, np.nan, SHARES), None, "probabilities"),
        (np.where(np.arange(6)[:, None] == 2, 2 * SHARES, SHARES), None, "logits"),
    ],
)
def test_scores_whose_name_does_not_say_are_told_by_their_rows(tmp_path: Path, suffix, values, said, kind):
    path = tmp_path / f"t.{suffix}"
    np.save(path, values) if suffix == "npy" else np.savez(path, scores=values)
    found = read_scores(path, kind=said)
    assert found.kind == kind
    assert found.told.startswith(kind)
    assert ("is said" in found.told) == (said is not None)
    assert found.scored.tolist() == np.isfinite(values).all(axis=1).tolist()


def test_a_name_that_says_it_decides(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", logits=SHARES)
    assert read_scores(tmp_path / "t.npz").kind == "logits"
    np.savez(tmp_path / "t.npz", probabilities=LOGITS)
    with pytest.raises(ArgumentError, match="probabilities: got rows that are negative or do not sum to 1"):
        read_scores(tmp_path / "t.npz")


@pytest.mark.parametrize(("said", "logarithm"), [(None, True), ("logits", False), ("probabilities", True)])
def test_the_kind_counts_for_parquet_too(tmp_path: Path, said, logarithm) -> None:
    columns = {"embedding": [[1.0]] * 6, "label": [0, 1, 2] * 2, "scores": SHARES.tolist()}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    found = read_scores(tmp_path / "t.parquet", kind=said)
    assert found.kind == "logits"
    assert ("by their logarithm" in found.told) == logarithm
    np.testing.assert_allclose(found.scores.numpy(), np.log(SHARES) if logarithm else SHARES, rtol=1e-5)


def test_logits_are_no_probabilities_because_it_is_said(tmp_path: Path) -> None:
    columns = {"embedding": [[1.0]] * 6, "label": [0, 1, 2] * 2, "scores": LOGITS.tolist()}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(ArgumentError, match="scores: got rows that are negative"):
        read_scores(tmp_path / "t.parquet", kind="probabilities")


@pytest.mark.parametrize("none", [-1, np.nan])
def test_a_row_may_be_without_a_label(tmp_path: Path, none: float) -> None:
    np.savez(tmp_path / "t.npz", scores=LOGITS, labels=np.array([0, 1, 2, 0, 1, none]))
    labels = read_scores(tmp_path / "t.npz").labels
    assert labels is not None
    assert labels.tolist() == [0, 1, 2, 0, 1, -1]


def test_splits_and_labels_have_the_same_words_as_in_a_table_of_embeddings(tmp_path: Path) -> None:
    words = np.array(["Train", "val", "Test", "dev", "training", b"testing".decode()])
    np.savez(tmp_path / "t.npz", scores=LOGITS, split=words, target=np.arange(6)[:, None] % 3)
    found = read_scores(tmp_path / "t.npz")
    assert found.splits == ["train", "validation", "test", "validation", "train", "test"]
    assert found.rows_of("validation").tolist() == [1, 3]
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2]
    np.savez(
        tmp_path / "t.npz", scores=LOGITS, y=np.array(list("cabcab")), classes=np.array([b"a", b"b", b"c"])
    )
    found = read_scores(tmp_path / "t.npz")
    assert found.class_names == ("a", "b", "c")
    assert found.labels is not None
    assert found.labels.tolist() == [2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"scores": LOGITS, "labels": np.array(1)}, r"labels: got shape \(\)"),
        ({"scores": LOGITS, "labels": np.eye(3, dtype=int)[[0, 1, 2, 0, 1, 2]]}, "one-hot"),
        ({"scores": LOGITS, "labels": np.arange(5) % 3}, "labels: got 5 rows"),
        ({"scores": LOGITS, "labels": np.array(list("abcabc"))}, "expected integers, or class_names"),
        (
            {"scores": LOGITS, "labels": np.array([0, 1, 2, 0, 1, 0.5])},
            r"labels: got \[0.5\]; expected whole numbers",
        ),
        ({"scores": LOGITS, "labels": np.arange(6)}, "classes from 0 to 2"),
        ({"scores": LOGITS, "class_names": np.array("a")}, r"class_names: got shape \(\)"),
        ({"scores": LOGITS, "splits": np.array("test")}, r"split: got shape \(\)"),
        ({"scores": LOGITS, "splits": np.array(["elsewhere"] * 6)}, "train, validation or test"),
        ({"scores": LOGITS, "splits": np.array(["test"] * 5)}, "splits: got 5 rows"),
        ({"scores": np.array(1.0)}, r"scores: got float64 of shape \(\)"),
        ({"other": LOGITS}, "expected 'scores'"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, arrays, told) -> None:
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(ArgumentError, match=told):
        read_scores(tmp_path / "t.npz")


def test_a_file_by_the_suffix_of_another_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", LOGITS)
    np.savez(tmp_path / "b.npz", scores=LOGITS)
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    (tmp_path / "b.npz").rename(tmp_path / "b.npy")
    for name in ("a.npz", "b.npy"):
        with pytest.raises(ArgumentError, match=rf"{name}.*or the suffix"):
            read_scores(tmp_path / name)


def table_with_gaps(order: str, *, predicted: bool = True) -> EmbeddingTable:
    draw = torch.Generator().manual_seed(0)
    labels, vectors = torch.arange(500) % 3, torch.randn(500, 4, generator=draw)
    scores = torch.randn(500, 3, generator=draw)
    vectors[[3, 250, 499]] = torch.nan
    scores[[5, 251, 400]] = torch.nan
    codes = torch.arange(500) * 3 // 500 if order == "in turn" else torch.randint(3, (500,), generator=draw)
    splits = [("train", "validation", "test")[code] for code in codes.tolist()]
    return EmbeddingTable(
        vectors,
        labels,
        ("a", "b", "c"),
        predictions=labels.roll(1) if predicted else None,
        scores=scores,
        names=[f"row {row}" for row in range(500)],
        splits=None if order == "none" else splits,
    )


@pytest.mark.parametrize("predicted", [True, False])
@pytest.mark.parametrize("order", ["in turn", "mixed", "none"])
@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_scores_that_stay_stored_are_those_in_memory(
    tmp_path: Path, monkeypatch, form, order, predicted
) -> None:
    monkeypatch.setattr("bisector.data.tables.reader.ROWS", 30)  # parts and chunks of a few rows
    path = tmp_path / "t.parquet"
    write_embeddings(table_with_gaps(order, predicted=predicted), path)
    columns = pq.read_table(path)
    if form == "arrow":
        path = tmp_path / "t.arrow"
        with pa.ipc.new_file(path, columns.schema) as file:
            file.write_table(columns, max_chunksize=70)
    else:
        pq.write_table(columns, path, row_group_size=70)
    stored, whole = open_scores(path), read_scores(path)
    assert isinstance(stored, StoredScores)
    assert stored.left_out == whole.left_out
    for name in ("kind", "class_names", "told", "columns", "adjusted", "head", "has_splits", "dim"):
        assert getattr(stored, name) == getattr(whole, name), name
    assert torch.equal(stored.labels, whole.labels)
    asked = (
        torch.arange(len(whole))
        if order == "none"
        else torch.cat([whole.rows_of(s) for s in ("validation", "test")])
    )
    asked = asked.sort().values
    known = asked[whole.scored[asked]]
    assert torch.equal(stored.scored[asked], whole.scored[asked])
    assert torch.equal(stored.predictions_of(known), whole.predictions_of(known))
    for one, other in (
        (stored.take(known[::3]), whole.take(known[::3])),
        (stored.first(90), whole.first(90)),
    ):
        for name in ("scores", "labels", "vectors"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
    rows, blocks = zip(*stored.blocks(names=True), strict=True)
    assert torch.equal(torch.cat(rows), torch.arange(len(whole)))
    assert torch.equal(
        torch.cat([block.scores for block in blocks]).nan_to_num(9), whole.scores.nan_to_num(9)
    )
    assert [name for block in blocks for name in block.embeddings.names] == whole.embeddings.names
    ours, theirs = (list(zip(*table.train_blocks(), strict=True)) for table in (stored, whole))
    assert (order == "none") == (not ours)
    for mine, other in zip(ours, theirs, strict=False):
        assert torch.equal(torch.cat(mine), torch.cat(other))


def test_scores_of_training_rows_are_not_read_until_all_are(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("bisector.data.tables.reader.ROWS", 30)  # else these few rows are one part
    path = tmp_path / "t.parquet"
    write_embeddings(table_with_gaps("in turn"), path)
    columns = pq.read_table(path)
    pq.write_table(
        columns, path, row_group_size=80, write_page_checksum=True, compression="none", use_dictionary=False
    )
    group = pq.ParquetFile(path).metadata.row_group(1)  # training rows alone
    place = next(
        group.column(k)
        for k in range(group.num_columns)
        if group.column(k).path_in_schema.startswith("scores")
    )
    held = bytearray(path.read_bytes())
    held[place.data_page_offset + 60] ^= 1
    path.write_bytes(held)
    stored = open_scores(path, kind="logits")
    assert sum(len(labels) for _, labels in stored.train_blocks()) == 166
    assert len(stored.take(stored.rows_of("test"))) == 165
    with pytest.raises(ArgumentError, match="row group 1"):
        list(stored.blocks())


KINDS_OF = ("prob_", "probability_", "proba.", "y_prob_", "logit_", "score_", "Prob ")


def write_frame(frame: pandas.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix == ".feather":
        frame.to_feather(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True, double_precision=15)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def by_class(
    labels: list[object], names: list[str], prefix: str = "prob_", **more: object
) -> pandas.DataFrame:
    values = LOGITS if prefix == "logit_" else SHARES
    columns = {f"{prefix}{name}": values[:, place] for place, name in enumerate(names)}
    return pandas.DataFrame({"y_true": labels, **more, **columns})


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "feather", "jsonl"])
@pytest.mark.parametrize("prefix", KINDS_OF)
def test_columns_of_scores_may_have_names_of_classes(tmp_path: Path, suffix: str, prefix: str) -> None:
    labels = ["great owl", "wren", "cat_1"] * 2
    frame = by_class(labels, ["wren", "cat_1", "great owl"], prefix)
    found = read_scores(write_frame(frame, tmp_path / f"t.{suffix}"))
    assert found.class_names == ("wren", "cat_1", "great owl")
    assert found.labels is not None
    assert [found.class_names[number] for number in found.labels.tolist()] == labels
    expected = LOGITS if prefix == "logit_" else np.log(SHARES)
    np.testing.assert_allclose(found.scores.numpy(), expected, rtol=1e-5)
    assert f"'{prefix}wren to {prefix}great owl' as scores" in found.columns


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_numbers_may_be_names_of_classes_in_columns(tmp_path: Path, suffix: str) -> None:
    frame = by_class([40, 7, 12, 7, 40, None], ["12", "40", "7"])
    found = read_scores(write_frame(frame, tmp_path / f"t.{suffix}"))
    assert (found.class_names, len(found)) == (("12", "40", "7"), 5)
    assert found.labels is not None
    assert found.labels.tolist() == [1, 2, 0, 2, 1]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_a_class_without_a_column_of_scores_is_named(tmp_path: Path, suffix: str) -> None:
    frame = by_class(["cat", "dog", "owl"] * 2, ["cat", "dog", "wren"], x0=0.5, x1=0.25)
    path = write_frame(frame, tmp_path / f"t.{suffix}")
    with pytest.raises(ArgumentError) as raised:
        open_embeddings(path)
    assert (
        str(raised.value)
        == "scores: got no column of 'owl'; expected one of every class, as 'prob_cat' of 'cat'"
    )
    frame["y_pred"] = ["cat", "dog", "lynx"] * 2  # a prediction is of a class too
    frame["y_true"] = ["cat", "dog", "wren"] * 2
    with pytest.raises(ArgumentError, match="no column of 'lynx'"):
        open_embeddings(write_frame(frame, path))


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_scores_of_something_else_are_not_used_and_named(tmp_path: Path, suffix: str) -> None:
    frame = by_class(
        ["cat", "dog", "owl"] * 2, ["blur", "noise", "light"], "score_", x0=0.5, x1=0.25, more="a"
    )
    path = write_frame(frame, tmp_path / f"t.{suffix}")
    stored = open_embeddings(path)
    assert (stored.class_names, stored.num_scores, stored.dim) == (("cat", "dog", "owl"), None, 2)
    assert stored.reader.columns_line.endswith(
        "; not used: 'more', 'score_blur', 'score_noise', 'score_light'"
    )
    assert next(stored.chunks()).scores is None
    with pytest.raises(
        ArgumentError, match="'score_blur', and no class that is called so; expected those of the"
    ):
        open_scores(write_frame(frame.drop(columns=["x0", "x1"]), path))


def test_files_of_a_folder_have_the_same_classes_in_the_same_order(tmp_path: Path) -> None:
    labels = ["cat", "dog", "owl"] * 2
    write_frame(by_class(labels, ["cat", "dog", "owl"]), tmp_path / "a.parquet")
    write_frame(by_class(labels, ["cat", "owl", "dog"]), tmp_path / "b.parquet")
    with pytest.raises(
        ArgumentError, match=r"b\.parquet with scores of other classes; expected the columns of"
    ):
        open_scores(tmp_path)
    write_frame(by_class(labels, ["cat", "dog", "owl"]), tmp_path / "b.parquet")
    assert len(open_scores(tmp_path)) == 12


@pytest.mark.parametrize("names", [["cat", "dog", "owl"], ["owl", "dog", "cat"]], ids="-".join)
def test_numbers_of_classes_whose_names_are_known_have_the_order_of_the_columns(
    tmp_path: Path, names: list[str]
) -> None:
    table = pa.Table.from_pandas(by_class([0, 1, 2] * 2, names), preserve_index=False)
    noted = {"info": {"features": {"y_true": {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}}}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(noted)}), tmp_path / "t.parquet")
    if names[0] == "cat":
        assert read_scores(tmp_path / "t.parquet").class_names == ("cat", "dog", "owl")
    else:
        with pytest.raises(ArgumentError, match="columns of owl, dog, cat; expected the order cat, dog, owl"):
            read_scores(tmp_path / "t.parquet")
