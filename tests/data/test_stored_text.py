"""CSV and TSV say what Parquet of the same rows says, wherever a block ends; and which line is damaged."""

import csv
import math
import pickle
import random
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bisector.data.tables import EmbeddingTable, arrow, is_embeddings, open_embeddings, read_embeddings
from bisector.data.tables.listing import locate
from bisector.errors import ArgumentError
from bisector.measurement.measure import measure
from bisector.measurement.stream.measure import measure_stream
from bisector.measurement.stream.options import Options

BLOCKS = (1, 7, 64, 2**20)


@pytest.fixture(params=BLOCKS)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(arrow, "_BLOCK", request.param)
    return int(request.param)


def same(table: EmbeddingTable, other: EmbeddingTable) -> None:
    assert table.embeddings.numpy().tobytes() == other.embeddings.numpy().tobytes()
    for key in ("labels", "predictions", "losses", "scores"):
        one, two = getattr(table, key), getattr(other, key)
        assert (one is None) == (two is None), key
        assert one is None or torch.equal(one.nan_to_num(-9), two.nan_to_num(-9)), key
    for key in ("class_names", "names", "splits", "left_out"):
        assert getattr(table, key) == getattr(other, key), key


def cell(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return "" if value is None else str(value)


def write_text(path: Path, rows: list[dict[str, object]], *, ends: str = "\n", last: bool = True) -> Path:
    text = tempfile.SpooledTemporaryFile(mode="w+", newline="", encoding="utf-8")  # noqa: SIM115
    writer = csv.DictWriter(
        text, list(rows[0]), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", lineterminator=ends
    )
    writer.writeheader()
    writer.writerows({key: cell(value) for key, value in row.items()} for row in rows)
    text.seek(0)
    written = text.read()
    path.write_bytes((written if last else written.removesuffix(ends)).encode())
    return path


def spread(rows: list[dict[str, object]], name: str, width: int) -> list[dict[str, object]]:
    """The same rows with one column a dimension."""
    wide = []
    for row in rows:
        numbers = row["embedding"] or [None] * width
        others = {key: value for key, value in row.items() if key != "embedding"}
        wide.append(others | {f"{name}{k}": number for k, number in enumerate(numbers)})  # type: ignore[arg-type]
    return wide


@st.composite
def stored_rows(draw: st.DrawFn) -> tuple[list[dict[str, object]], int]:
    width = draw(st.integers(2, 4))
    words = draw(st.booleans())
    usual = st.floats(-1e6, 1e6, width=32)
    odd = st.sampled_from([math.nan, math.inf, -math.inf, 1e-30])
    vector = st.lists(usual, min_size=width, max_size=width)
    label = st.sampled_from(["b", "é, ü", 'a"c', "10", "007", "猫"]) if words else st.sampled_from([7, 0, 12])
    fields: dict[str, st.SearchStrategy[object]] = {
        "embedding": st.one_of(
            vector, vector, vector, st.none(), st.lists(st.one_of(usual, odd), min_size=width, max_size=width)
        ),
        "label": st.one_of(label, label, label, st.none()),
    }
    if draw(st.booleans()):
        fields["prediction"] = st.one_of(label, st.none())
    if draw(st.booleans()):
        fields["loss"] = st.one_of(st.none(), st.floats(0, 9, width=32))
    if draw(st.booleans()):
        fields["split"] = st.sampled_from(["train", "val", "Test"])
    if draw(st.booleans()):
        fields["name"] = st.sampled_from(["a b.png", "3", "1.50", "x,y", "é"])
    rows = draw(st.lists(st.fixed_dictionaries(fields), min_size=1, max_size=12))
    whole: dict[str, object] = {**rows[0], "embedding": [0.5] * width, "label": "b" if words else 7}
    return [whole, *rows], width


@given(
    made=stored_rows(),
    size=st.sampled_from(BLOCKS),
    ends=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    name=st.sampled_from(["x", "embedding_", ""]),
)
def test_text_has_what_parquet_has(
    made: tuple[list[dict[str, object]], int], size: int, ends: str, last: bool, name: str
) -> None:
    rows, width = made
    words = isinstance(rows[0]["label"], str)
    kind = pa.string() if words else pa.int64()
    types = {"embedding": pa.list_(pa.float32()), "label": kind, "prediction": kind, "loss": pa.float32()}
    stored = pa.table(
        {key: pa.array([row[key] for row in rows], types.get(key, pa.string())) for key in rows[0]}
    )
    with tempfile.TemporaryDirectory() as made_folder, pytest.MonkeyPatch.context() as patch:
        folder = Path(made_folder)
        pq.write_table(stored, folder / "a.parquet")
        patch.setattr(arrow, "_BLOCK", size)
        expected = read_embeddings(folder / "a.parquet")
        for path, given_rows in (
            (folder / "list.csv", rows),
            (folder / "list.tsv", rows),
            (folder / "wide.csv", spread(rows, name, width)),
            (folder / "wide.TSV", spread(rows, name, width)),
        ):
            write_text(path, given_rows, ends=ends, last=last)
            same(read_embeddings(path), expected)


def table_of(rows: int = 300, dim: int = 5, classes: int = 6) -> pa.Table:
    rng = np.random.default_rng(0)
    labels = np.arange(rows) % classes
    vectors = rng.normal(size=(classes, dim))[labels] + rng.normal(size=(rows, dim))
    return pa.table(
        {
            "label": labels,
            "embedding": list(vectors.astype(np.float32)),
            "prediction": np.where(rng.random(rows) < 0.3, rng.integers(0, classes, rows), labels),
            "split": np.array(["train", "validation", "test"])[rng.integers(0, 3, rows)],
            "name": [f"{row}.png" for row in range(rows)],
        }
    )


def written(folder: Path, rows: pa.Table) -> list[Path]:
    pq.write_table(rows, folder / "a.parquet")
    listed = rows.to_pylist()
    return [
        write_text(folder / "a.csv", spread(listed, "x", 5)),
        write_text(folder / "b.csv", listed),
        write_text(folder / "a.tsv", listed),
    ]


def numbers(measured: object) -> dict[str, object]:
    """What was measured; not of which file, nor by which command."""
    return {key: value for key, value in vars(measured).items() if key not in {"file", "command"}}


def test_text_is_measured_as_parquet_is(tmp_path: Path, block: int) -> None:
    texts = written(tmp_path, table_of())
    expected = measure(read_embeddings(tmp_path / "a.parquet"))
    options = Options(leaf_rows=1)
    streamed = measure_stream(open_embeddings(tmp_path / "a.parquet"), tmp_path / "p", options=options)
    for path in texts:
        assert repr(numbers(measure(read_embeddings(path)))) == repr(numbers(expected))
        found = measure_stream(open_embeddings(path), tmp_path / path.name[0], options=options)
        assert repr(numbers(found)) == repr(numbers(streamed))


def test_parts_are_read_in_any_order_by_any_process(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bisector.data.tables.reader.ROWS", 40)
    expected = np.array(table_of()["embedding"].to_pylist(), dtype=np.float32)
    for path in written(tmp_path, table_of()):
        stored = pickle.loads(pickle.dumps(open_embeddings(path)))
        assert sum(part.rows for part in stored.parts) == stored.rows == 300
        assert (len(stored.parts) > 6) == (block < 2**20)
        for part in reversed(stored.parts):
            for chunk in stored.chunks([part], names=True):
                assert np.array_equal(chunk.embeddings, expected[chunk.rows])
                assert chunk.names.tolist() == [f"{row}.png" for row in chunk.rows]
        assert stored.vectors_of(np.array([3, 299])).tolist() == expected[[3, 299]].tolist()
        assert is_embeddings(path)


def test_what_pandas_writes(tmp_path: Path, block: int) -> None:
    """With its index, whose heading is empty, and with integers that gaps make floats."""
    vectors = np.random.default_rng(1).normal(size=(50, 4))
    frame = pandas.DataFrame(vectors, columns=[f"dim_{k}" for k in range(4)])
    frame["label"] = [None if row == 7 else row % 3 for row in range(50)]
    frame.to_csv(tmp_path / "a.csv")
    frame.to_parquet(tmp_path / "a.parquet")
    same(read_embeddings(tmp_path / "a.csv"), read_embeddings(tmp_path / "a.parquet"))
    assert read_embeddings(tmp_path / "a.csv").left_out == ("1 row: no label",)


@pytest.mark.parametrize(
    ("labels", "names", "left_out"),
    [
        (["10", "9", "9.0"], ("9", "10"), 0),
        (["10", "9", "x"], ("10", "9", "x"), 0),
        (["3.0", "3", "x"], ("3", "x"), 0),
        (["007", "7", "08"], ("007", "08", "7"), 0),
        (["1e5", "100000", "a3f"], ("100000", "1e5", "a3f"), 0),
        (["NA", "null", "x"], ("NA", "null", "x"), 0),
        (["5", "nan", "None", "-1", "", "4"], ("4", "5"), 4),
        (["a", "nan", "None", "-1", "", "b"], ("a", "b"), 4),
        (["12345678901234567890", "5"], ("12345678901234567890", "5"), 0),
    ],
)
def test_what_labels_mean_is_the_same_wherever_a_block_ends(
    tmp_path: Path, block: int, labels: list[str], names: tuple[str, ...], left_out: int
) -> None:
    rows = "".join(f"{label},0.5,{place}\n" for place, label in enumerate(labels))
    (tmp_path / "a.csv").write_text(f"label,x0,x1\n{rows}")
    table = read_embeddings(tmp_path / "a.csv")
    assert table.class_names == names
    assert len(labels) - len(table) == left_out


def test_labels_that_are_no_whole_numbers_are_refused_as_in_parquet(tmp_path: Path, block: int) -> None:
    (tmp_path / "a.csv").write_text("label,x0,x1\n0.25,1,2\n1.5,3,4\n")
    with pytest.raises(ArgumentError, match=r"labels: got \[0\.25, 1\.5\]; expected whole numbers"):
        read_embeddings(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "lists",
    [
        ['"[0.5, 1, -2e-3]"', '"[1,2,3]"'],
        ["[0.5 1. -2e-3]", "[ 1.  2.  3.]"],  # as numpy prints them
        ['"[0.5, 1, -2e-3]"', "[1 2 3]"],
        ['"[[0.5, 1, -2e-3]]"', '" [1, 2, 3] "'],
    ],
)
def test_lists_as_they_are_written(tmp_path: Path, block: int, lists: list[str]) -> None:
    (tmp_path / "a.csv").write_text(f"label,embedding\n0,{lists[0]}\n1,{lists[1]}\n0,\n")
    table = read_embeddings(tmp_path / "a.csv")
    assert table.embeddings.tolist() == [list(map(float, np.float32([0.5, 1, -2e-3]))), [1, 2, 3]]
    assert table.left_out == ("1 row: its vector is missing or not finite",)


def test_scores_are_read(tmp_path: Path, block: int) -> None:
    (tmp_path / "a.csv").write_text('label,x,logits\n1,"[1, 2]","[0.5, 1.5]"\n0,"[3, 4]","[2, None]"\n')
    table = read_embeddings(tmp_path / "a.csv")
    assert table.predictions is not None
    assert table.predictions.tolist() == [1, -1]


def test_a_mark_at_the_start_spaces_and_blank_lines(tmp_path: Path, block: int) -> None:
    (tmp_path / "a.csv").write_bytes(
        b'\xef\xbb\xbflabel, x0 ,x1,name,\r\n\r\n0,1, 2.5,5" long,\r\n\n1,NA,3,,\r\n1,3,4,"say ""a""",\n\n'
    )
    table = read_embeddings(tmp_path / "a.csv")
    assert table.embeddings.tolist() == [[1, 2.5], [3, 4]]
    assert table.names == ['5" long', 'say "a"']
    assert open_embeddings(tmp_path / "a.csv").rows == 3


DAMAGED = [
    ("", "line 1, which is empty"),
    ("\nlabel,x0,x1\n1,2,3\n", "line 1, which is empty"),
    ("label,x0,x1\n", "which ends after its heading"),
    ("label,x0,x0\n1,2,3\n", "line 1, with the column 'x0' twice"),
    ('label,"x0,x1\n1,2,3\n', "line 1, with an open quotation mark"),
    ("label,x0\rlabel,x1\r1,2\r", "line 1, which is no line of text"),
    ("0.25,1.5,0.75\n1.5,3.5,2.5\n", "line 1, with 0.25, 1.5 among its headings"),
    ("label;x0;x1\n1;2;3\n", "between headings; expected commas in .csv"),
    (
        "kind,x0,x1\n1,2,3\n",
        "with no column label, labels, y, target, targets, class, fine_label, y_true or true_label; name it with "
        "--label: one of kind",
    ),
    (
        "name,prediction,probability,x0,x1\na,b,1,2,3\n",
        "true_label; expected one: the true class of each row",
    ),
    ("label,x0,x1\n1,2,3\n\n0,2\n1,2,3\n", "line 4, with 2 cells; expected 3"),
    ("label,x0,x1\n1,2,3\n0,2,3,4\n1,2,3\n", "line 3, with 4 cells; expected 3"),
    ("label,x0,x1\n1,2,3\n0,2,O.5\n1,2,3\n", "line 3, with 'O.5' in the column 'x1'; expected a number"),
    ("label,x0,x1\n1,2,3\n" * 2, "line 3, with 'x0' in the column 'x0'; expected a number"),
    (
        "label,x0,x1,loss\n1,2,3,1\n1,2,3,high\n",
        "line 3, with 'high' in the column 'loss'; expected a number",
    ),
    ('label,x0,x1\n1,2,3\n"0,2,3\n1,2,3\n', "line 3, with a quotation mark that is not closed"),
    ('label,x0,x1\n1,2,3\n"0,2,3\n1",2,3\n1,2,3\n', "line 3, with a quotation mark that is not closed"),
    ('label,e\n1,"[1, 2]"\n0,"[1]"\n', "line 3, with '[1]' in the column 'e'; expected a list of 2 numbers"),
    ('label,e\n1,"[1, 2]"\n0,"[1, two]"\n', "line 3, with '[1, two]' in the column 'e'; expected a list"),
    ('label,e\n1,"[1, 2]"\n0,"[1, ... 2]"\n', "line 3, with '[1, ... 2]' in the column 'e'"),
    ('label,e\n1,"[1, 2]"\n0,"[1, 2"\n', "line 3, with '[1, 2' in the column 'e'"),
    (
        "label,x0,x1\n1,2,3\ncaf\udce9,2,3\n",
        "line 3, with 'caf\ufffd' in the column 'label'; expected text in UTF-8",
    ),
    ("caf\udce9,label,x0,x1\n1,2,3,4\n", "line 1, which is not UTF-8"),
    ("\udcff\udcfel\0a\0", "line 1, in UTF-16"),
]


@pytest.mark.parametrize(("text", "told"), DAMAGED)
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_damaged_file_is_one_line_that_names_its_line(
    tmp_path: Path, block: int, text: str, told: str, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "tsv":
        text = text.replace(", ", " ").replace(",", "\t").replace(";", ",")
        told = (
            told
            if "among" in told
            else told.replace("1, t", "1 t").replace("1, .", "1 .").replace("[1, 2", "[1 2")
        )
    path.write_bytes(text.encode(errors="surrogateescape"))
    for read in (read_embeddings, lambda path: list(open_embeddings(path).chunks())):
        with pytest.raises(ArgumentError) as raised:
            read(path)
        assert str(raised.value).startswith(f"file: got {path}")
        assert told in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_labels_among_the_vectors_are_refused(tmp_path: Path, suffix: str) -> None:
    """A frame of pandas without names of columns: its labels would be a coordinate."""
    frame = pandas.DataFrame(np.arange(12.0).reshape(4, 3)).rename(columns=str)
    path = tmp_path / f"a.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    with pytest.raises(ArgumentError, match="label column: got '0', which is one of '0 to 2'"):
        open_embeddings(path, label="0")


def test_a_file_that_shrinks_while_it_is_open(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("label,x0,x1\n" + "1,2,3\n" * 50_000)
    file = arrow._open(locate(tmp_path / "a.csv"), str(tmp_path / "a.csv"), "text")
    (tmp_path / "a.csv").write_text("label,x0,x1\n1,2,3")
    assert sum(batch.num_rows for batch in file.batches(0, 100)) == 1
    file.close()


def test_a_line_far_into_the_file(tmp_path: Path) -> None:
    lines = ["label,x0,x1", *(f"{row % 3},0.5,{row}" for row in range(300_000))]
    lines[250_000 - 1] = "1,0.5,zero"
    (tmp_path / "a.csv").write_text("\n".join(lines))
    assert (tmp_path / "a.csv").stat().st_size > 3 * 2**20
    with pytest.raises(ArgumentError, match=r"a\.csv, line 250000, with 'zero' in the column 'x1'"):
        list(open_embeddings(tmp_path / "a.csv").chunks())


@pytest.mark.parametrize("engine", ["memory", "stream"])
@pytest.mark.parametrize("text", ["", "label,x0,x1\n1,2\n", "label,x0,x1\n1,2,3\n0,b,3\n", "a,b\n1,2\n"])
def test_the_command_says_it_in_one_line(
    tmp_path: Path, refused: Callable[[list[str]], str], engine: str, text: str
) -> None:
    path = tmp_path / "embeddings.csv"
    path.write_text(text)
    said = refused(["measure", str(path), "--engine", engine, "--out", str(tmp_path / "out")])
    assert str(path) in said


def test_bits_turned_over_anywhere_are_one_line_or_nothing(tmp_path: Path, block: int) -> None:
    draw = random.Random(0)
    for path in written(tmp_path, table_of(30)):
        whole = path.read_bytes()
        for _ in range(60):
            damaged = bytearray(whole)
            damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            path.write_bytes(damaged[: draw.choice((len(whole), draw.randrange(len(whole))))])
            try:
                read_embeddings(path)
            except ArgumentError as error:
                assert "\n" not in str(error)  # noqa: PT017, a digit for another is no damage that can be seen


def test_a_file_that_changed_after_it_was_opened(tmp_path: Path) -> None:
    path = written(tmp_path, table_of(40))[0]
    stored = open_embeddings(path)
    path.write_text("\n".join(path.read_text().splitlines()[:20]))
    with pytest.raises(ArgumentError, match=r"a\.csv, blocks 0 to 0, with 19 rows; expected 40"):
        list(stored.chunks())


def test_text_behind_a_url(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    path = written(tmp_path, table_of(40))[0]
    memory = fsspec.filesystem("memory")
    memory.put(str(path), "/stored-text/a.csv")
    try:
        same(read_embeddings("memory://stored-text/a.csv"), read_embeddings(path))
        same(read_embeddings(path.as_uri()), read_embeddings(path))
    finally:
        memory.rm("/stored-text", recursive=True)


def test_scores_in_a_list_hide_no_numbered_vectors(tmp_path):
    """One column a dimension beside a list of scores: in text as in Parquet."""
    rows = {
        "label": ["owl", "tit", "owl"],
        **{f"dim_{k}": [0.5 * k, 1.5, -2.0] for k in range(3)},
        "scores": [[0.5, 1.0], [2.0, 0.25], [1.0, 1.0]],
    }
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    lines = [
        ",".join(rows),
        *(f'{a},{b},{c},{d},"{e}"' for a, b, c, d, e in zip(*rows.values(), strict=True)),
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    for name in ("t.parquet", "t.csv"):
        table = read_embeddings(tmp_path / name)
        assert table.embeddings.tolist() == [[0.0, 0.5, 1.0], [1.5] * 3, [-2.0] * 3]
        assert table.scores.tolist() == rows["scores"]


def test_blanks_around_words_are_no_part_of_a_class(tmp_path):
    (tmp_path / "t.csv").write_text("label, x0, x1\n owl, 0.5, 1\nowl , 1.5, 2\n tit , 2.5, 1\n")
    assert read_embeddings(tmp_path / "t.csv").class_names == ("owl", "tit")


@pytest.mark.parametrize(("name", "mark"), [("t.csv", ";"), ("t.csv", "\t"), ("t.tsv", ","), ("t.tsv", ";")])
def test_another_separator_is_named(tmp_path, name, mark):
    (tmp_path / name).write_text(f"label{mark}x0{mark}x1\nowl{mark}0,5{mark}1\n")
    with pytest.raises(ArgumentError, match=f"line 1, with {re.escape(repr(mark))} between headings"):
        read_embeddings(tmp_path / name)
