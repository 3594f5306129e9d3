import csv
import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisector.errors import ArgumentError
from bisector.measurement.class_scores import read_class_scores

CLASSES = ("owl", "wren", "猫, of sorts")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def same(values: list[float], expected: list[float]) -> bool:
    return values == pytest.approx(expected, nan_ok=True)


def test_csv_json_and_parquet_say_the_same(tmp_path: Path) -> None:
    rows = [
        {"class": "wren", "AP": 41.5, "recall": 0.5},
        {"class": "猫, of sorts", "AP": 12.25, "recall": None},
        {"class": "owl", "AP": 0.0, "recall": 1.0},
    ]
    with (tmp_path / "ap.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["class", "AP", "recall"])
        writer.writeheader()
        writer.writerows(rows)
    write(tmp_path / "ap.json", json.dumps(rows))
    by_class = {row["class"]: {"AP": row["AP"], "recall": row["recall"]} for row in rows}
    write(tmp_path / "by.json", json.dumps(by_class))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "ap.parquet")
    for name in ("ap.csv", "ap.json", "by.json", "ap.parquet"):
        precision, recall = read_class_scores(tmp_path / name, CLASSES)
        assert (precision.name, recall.name, precision.source) == ("AP", "recall", name)
        assert same(precision.values, [0.0, 0.415, 0.1225])
        assert same(recall.values, [1.0, 0.5, math.nan])
        assert precision.percent
        assert recall.percent
        guess = "AP as percentages; recall as fractions of 1. That is a guess from names and values."
        assert precision.notes == (f"{name}: read {guess}",)
        assert recall.notes == (f"recall in {name}: no score of 1 class of 3 (猫, of sorts).",)


def test_one_number_a_class_is_a_score_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "novelty.json", '{"owl": 130, "wren": 7.5}')
    (score,) = read_class_scores(path, CLASSES)
    assert score.name == "novelty"
    assert not score.percent
    assert same(score.values, [130, 7.5, math.nan])


@pytest.mark.parametrize(
    "text", ["class,AP\n10,1\n2,3\n", "label,AP\n10.0,1\n 2 ,3\n", "CLASS,AP\n010,1\n02,3\n"]
)
def test_classes_that_are_numbers_go_by_number(text: str, tmp_path: Path) -> None:
    (score,) = read_class_scores(write(tmp_path / "a.csv", text), ("2", "10"))
    assert same(score.values, [0.03, 0.01])


def test_integers_of_parquet_are_classes_too(tmp_path: Path) -> None:
    pq.write_table(pa.table({"class": [10, 2], "AP": pa.array([0.25, 0.5], pa.float32())}), tmp_path / "a.pq")
    (score,) = read_class_scores(tmp_path / "a.pq", ("2", "10"))
    assert same(score.values, [0.5, 0.25])


def test_numbers_are_no_classes_where_classes_have_names(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="class '0'"):
        read_class_scores(write(tmp_path / "a.csv", "class,AP\n0,1\n"), CLASSES)


def test_minus_one_of_coco_is_no_score(tmp_path: Path) -> None:
    (score,) = read_class_scores(write(tmp_path / "a.csv", "class,AP\nowl,-1\nwren,0.5\n"), CLASSES)
    assert same(score.values, [math.nan, 0.5, math.nan])
    assert score.notes[0] == "AP in a.csv: -1 is taken for no score (1 class)."
    (score,) = read_class_scores(write(tmp_path / "a.csv", "class,mcc\nowl,-1\nwren,-0.5\n"), CLASSES)
    assert same(score.values, [-1, -0.5, math.nan])
    assert not score.percent


def test_counts_are_left_out_and_losses_stay_what_they_are(tmp_path: Path) -> None:
    text = "class,id,AP,loss,image_count\nowl,1,41,0.7,90\nwren,2,3,2.5,12\n"
    precision, loss = read_class_scores(write(tmp_path / "a.csv", text), CLASSES[:2])
    assert (precision.name, loss.name) == ("AP", "loss")
    assert same(loss.values, [0.7, 2.5])
    assert (precision.percent, loss.percent) == (True, False)
    assert "loss in a unit of its own" in precision.notes[0]
    assert "id, image_count are left out" in precision.notes[1]
    with pytest.raises(ArgumentError, match="numbers that are scores"):
        read_class_scores(write(tmp_path / "a.csv", "class,count\nowl,3\n"), CLASSES)


def test_columns_of_one_family_are_in_one_unit(tmp_path: Path) -> None:
    text = "class,AP,APr,AP50,recall\nowl,41,0.4,0.8,0.5\nwren,3,0.9,0.1,1\n"
    scores = read_class_scores(write(tmp_path / "a.csv", text), CLASSES[:2])
    assert [score.values[0] for score in scores] == pytest.approx([0.41, 0.004, 0.008, 0.5])


def test_an_object_of_classes_keeps_its_keys(tmp_path: Path) -> None:
    text = '{"owl": {"class": "bird", "AP": 0.5}, "wren": {"class": "bird", "AP": 0.25}}'
    (score,) = read_class_scores(write(tmp_path / "a.json", text), CLASSES[:2])
    assert score.values == [0.5, 0.25]
    (score,) = read_class_scores(
        write(tmp_path / "class.json", '{"owl": 0.5, "class": 0.1}'), ("owl", "class")
    )
    assert (score.name, score.values) == ("class", [0.5, 0.1])


def test_columns_of_words_are_left_out_and_noted(tmp_path: Path) -> None:
    text = "class,frequency,AP,empty\nowl,r,1,\nwren,f,nan,\n"
    (score,) = read_class_scores(write(tmp_path / "a.csv", text), CLASSES[:2])
    assert score.name == "AP"
    assert score.notes[1] == "a.csv: read AP as fractions of 1. That is a guess from names and values."
    assert score.notes[-1] == "a.csv: no number in frequency, empty, which are left out."


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "class,AP\nowl,1\nowel,2\n", "class 'owel'"),
        ("a.csv", "class,AP\nowl,1\nowl,2\n", "'owl' twice"),
        ("a.csv", "class,AP\nowl,1\nwren,high\n", "AP 'high' of class 'wren'"),
        ("a.csv", "class,AP\nowl,inf\nwren,1\n", "AP 'inf' of class 'owl'"),
        ("a.csv", "class,AP\nowl,1,5\n", "more cells than the heading"),
        ("a.csv", "kind,AP\nowl,1\n", "with the columns kind, AP"),
        ("a.csv", "class\nowl\n", "without a column of numbers"),
        ("a.csv", "class,AP\n", "without a row"),
        ("a.csv", "", "without a row"),
        ("a.csv", "class,AP\n,1\n", "class ''"),
        ("a.json", "{", "cannot be read"),
        ("a.json", "3", "which holds int"),
        ("a.json", '{"owl": true, "wren": 1}', "True of class 'owl'"),
        ("a.json", '{"owl": {"AP": [1]}, "wren": {"AP": 1}}', "of class 'owl'"),
        ("a.parquet", "nothing of the kind", "cannot be read"),
        ("a.txt", "class AP", r"a\.txt.*\.tsv"),
        ("\0", "", "which is not there"),
    ],
)
def test_a_mistake_is_named(name: str, text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "absent.csv" if name == "\0" else write(tmp_path / name, text)
    with pytest.raises(ArgumentError, match=told) as found:
        read_class_scores(path, CLASSES)
    assert "\n" not in str(found.value)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"class,AP\n\xff\xfe,1\n")
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_class_scores(tmp_path / "a.csv", CLASSES)
