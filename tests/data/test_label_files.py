"""Images with their labels in a file: every image under its own label, and all else named."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bisector.data.image_examples import Reading
from bisector.data.registry import load, read_source
from bisector.errors import ArgumentError

NAMES = ["cat", "dog", "owl"]


def shade(row: int) -> int:
    return 10 + 7 * row


def paint(folder: Path, rows: int = 18) -> list[tuple[str, int]]:
    """Images of one shade each, and their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(rows):
        Image.new("L", (6, 6), shade(row)).save(folder / f"im {row}.png")
    return [(f"im {row}.png", row % 3) for row in range(rows)]


def table(path: Path, headings: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([headings, *rows])


def metadata_csv(root: Path) -> None:
    table(root / "metadata.csv", ["file_name", "label"], [[n, NAMES[k]] for n, k in paint(root)])


def metadata_jsonl(root: Path) -> None:
    lines = [{"file_name": f"images/{n}", "label": NAMES[k], "text": "x"} for n, k in paint(root / "images")]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))


def labels_csv(root: Path) -> None:
    rows = [[k, n.removesuffix(".png")] for n, k in paint(root / "pictures")]
    table(root / "labels.csv", ["Class", "Image"], [[NAMES[k], n] for k, n in rows])


def fiftyone(root: Path) -> None:
    labels = {n.removesuffix(".png"): k for n, k in paint(root / "data")}
    (root / "labels.json").write_text(json.dumps({"classes": NAMES, "labels": labels}))


def fiftyone_boxed(root: Path) -> None:
    labels = {n: {"label": k} for n, k in paint(root / "data")}
    (root / "labels.json").write_text(json.dumps({"classes": NAMES, "labels": labels}))


def fiftyone_words(root: Path) -> None:
    labels = {n: NAMES[k] for n, k in paint(root / "data")}
    (root / "labels.json").write_text(json.dumps({"classes": None, "labels": labels}))


def datasets_features() -> Any:
    datasets = pytest.importorskip("datasets")
    return datasets, datasets.Features(
        {"picture": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    )


def saved(root: Path) -> None:
    datasets, features = datasets_features()
    listed = paint(root.parent / "raw")
    rows = {"picture": [str(root.parent / "raw" / n) for n, _ in listed], "label": [k for _, k in listed]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(root, num_shards=2)
    # save_to_disk keeps paths; what push_to_hub and most people write keeps bytes
    shown = datasets.load_from_disk(root)
    assert shown.num_rows == 18


WRITE: dict[str, Callable[[Path], None]] = {
    function.__name__: function
    for function in (
        metadata_csv,
        metadata_jsonl,
        labels_csv,
        fiftyone,
        fiftyone_boxed,
        fiftyone_words,
        saved,
    )
}


@pytest.mark.parametrize("kind", WRITE)
def test_every_image_has_its_label(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "set"
    root.mkdir()
    WRITE[kind](root)
    source = read_source(str(root), Reading())
    assert source.class_names == tuple(NAMES)
    assert not source.left_out
    shades = (source.examples.batch(torch.arange(18))[:, 0, 0, 0] * 255).round().int().tolist()
    found = dict(zip(shades, source.labels.tolist(), strict=True))
    assert found == {shade(row): row % 3 for row in range(18)}
    assert any("label" in note for note in source.notes)


def test_parts_of_hugging_face_are_kept(tmp_path: Path) -> None:
    for part, rows in (("train", 12), ("test", 6)):
        listed = paint(tmp_path / "a" / part, rows)
        table(tmp_path / "a" / part / "metadata.csv", ["file_name", "label"], [[n, k] for n, k in listed])
    by_folder = load(str(tmp_path / "a"))
    assert by_folder.class_names == ("0", "1", "2")
    assert len(by_folder.test) == 6
    listed = [[f"train/{n}", k] for n, k in paint(tmp_path / "b" / "train", 12)]
    listed += [[f"test/{n}", k] for n, k in paint(tmp_path / "b" / "test", 6)]
    table(tmp_path / "b" / "metadata.csv", ["file_name", "label"], listed)
    assert len(load(str(tmp_path / "b")).test) == 6
    rows = [
        [n, k, "val" if row < 3 else "test" if row < 9 else "train"]
        for row, (n, k) in enumerate(paint(tmp_path / "c"))
    ]
    table(tmp_path / "c" / "labels.csv", ["file", "label", "split"], rows)
    by_column = load(str(tmp_path / "c"))
    assert (len(by_column.validation), len(by_column.test), len(by_column.train)) == (3, 6, 9)


def test_a_dictionary_of_saved_parts(tmp_path: Path) -> None:
    datasets, features = datasets_features()
    parts = {}
    for part, rows in (("train", 12), ("validation", 3), ("test", 6)):
        listed = paint(tmp_path / part, rows)
        content = [{"bytes": (tmp_path / part / n).read_bytes(), "path": n} for n, _ in listed]
        parts[part] = datasets.Dataset.from_dict(
            {"picture": content, "label": [k for _, k in listed]}, features=features
        )
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    for part in parts:
        shutil.rmtree(tmp_path / part)
    found = load(str(tmp_path / "saved"))
    assert found.class_names == tuple(NAMES)
    assert (len(found.train), len(found.validation), len(found.test)) == (12, 3, 6)
    shades = (found.test.examples.batch(torch.arange(6))[:, 0, 0, 0] * 255).round().int().tolist()
    assert shades == [shade(row) for row in range(6)]


def test_what_is_not_used_is_named(tmp_path: Path) -> None:
    listed = [[n, NAMES[k]] for n, k in paint(tmp_path / "set")]
    listed[3][1] = ""
    listed += [["absent.png", "cat"], listed[4], [listed[5][0], "cat"], ["", "cat"]]
    del listed[0]
    (tmp_path / "set" / "im 7.png").write_bytes(b"no image")
    table(tmp_path / "set" / "labels.csv", ["file", "label"], listed)
    left_out = read_source(str(tmp_path / "set"), Reading()).left_out
    expected = [
        "labels.csv, row 21: no file name",
        "set/im 5.png: listed with the labels 'owl' and 'cat'",
        "labels.csv: 1 rows without a label",
        "set/im 4.png and 1 more: listed twice in labels.csv",
        "set/im 0.png: not listed in labels.csv",
    ]
    assert list(left_out[:5]) == expected
    assert any("set/absent.png: cannot be read: No such file" in line for line in left_out)
    assert any("set/im 7.png: cannot be read: not an image" in line for line in left_out)
    assert len(left_out) == 7


def damaged(name: str, content: bytes) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        paint(root)
        (root / name).write_bytes(content)

    return write


def shuffled(root: Path) -> None:
    datasets, features = datasets_features()
    rows = {"picture": [{"bytes": b"", "path": None}] * 4, "label": [0, 1, 2, 0]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(root)
    state = json.loads((root / "state.json").read_text())
    (root / "state.json").write_text(json.dumps({**state, "_indices_data_files": [{"filename": "i.arrow"}]}))


def cut(root: Path) -> None:
    saved(root)
    file = next(root.glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:200])


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (
            damaged("metadata.csv", b"file_name,label\nim 0.png,\xff\n"),
            "metadata.csv, line 2, cannot be read: .*utf-8",
        ),
        (damaged("labels.csv", b"file,label\n" + b"x" * 140_000), "labels.csv cannot be read: line 2: field"),
        (
            damaged("metadata.jsonl", b'{"file_name": "im 0.png", "label": 1\n'),
            "metadata.jsonl, line 1, cannot be read",
        ),
        (
            damaged("metadata.jsonl", b"[1, 2]\n"),
            "metadata.jsonl, line 1, with .*1, 2.*; expected a JSON object a line",
        ),
        (damaged("labels.csv", b"file,label\nnone.png,1\n"), "1 images, none of which can be read"),
        (damaged("labels.csv", b"file,label\nim 0.png,\n"), "without an image that labels.csv lists"),
        (
            damaged("labels.json", b'{"classes": ["a"], "labels": {"im 0": 3}}'),
            "label .3.; expected one of 1 classes",
        ),
        (
            damaged("labels.json", b'{"classes": ["a"], "labels": {"im 0": [0, 1]}}'),
            "one number or name an image",
        ),
        (damaged("labels.json", b'{"classes": 3, "labels": {"im 0": 0}}'), "expected a list of names"),
        (damaged("labels.json", b"{"), "labels.json cannot be read"),
        (damaged("labels.json", b'{"a":' * 100_000), "labels.json cannot be read: .*recursion"),
        (damaged("metadata.jsonl", b'\n{"a":' + b"[" * 100_000), "line 2, cannot be read: .*recursion"),
        (damaged("metadata.jsonl", b'{"a": ' + b"1" * 5000 + b"}"), "line 1, cannot be read: .*4300 digits"),
        (
            damaged("metadata.jsonl", b'{"file_name": "im 0.png", "label": "\\ud800"}'),
            r"row 1, with the label '.*ud800'; expected text",
        ),
        (
            damaged("labels.json", b'{"classes": ["\\ud800"], "labels": {"im 0": 0}}'),
            r"with the label '.*ud800'; expected text",
        ),
        (
            damaged("labels.csv", b"file,label,split\nim 0.png,1,train\nim 1.png,2,holdout\n"),
            "labels.csv, column 'split', split: got 'holdout'; expected train, validation or test",
        ),
        (
            damaged("labels.csv", b"file,label,set\nim 0.png,1,test\nim 1.png,2,odd\n"),
            "'set', split: got 'odd'",
        ),
        (damaged("metadata.jsonl", b'{"file": "im 0.png", "y": 1, "split": "\\ud800"}'), "expected train"),
        (shuffled, "flatten_indices"),
        (cut, "arrow: cannot be read"),
    ],
)
def test_a_file_of_labels_that_cannot_be_read_is_one_line(
    tmp_path: Path, write: Callable[[Path], None], words: str
) -> None:
    (tmp_path / "set").mkdir()
    write(tmp_path / "set")
    with pytest.raises(ArgumentError, match=words) as error:
        load(str(tmp_path / "set"))
    assert "\n" not in str(error.value)


def test_another_column_and_a_table_of_something_else(tmp_path: Path) -> None:
    listed = paint(tmp_path / "set")
    table(tmp_path / "set" / "labels.csv", ["file", "kind", "label"], [[n, NAMES[k], 0] for n, k in listed])
    assert read_source(str(tmp_path / "set"), Reading(label="kind")).class_names == tuple(NAMES)
    (tmp_path / "one").mkdir()
    fiftyone(tmp_path / "one")
    for word in ("label", "labels"):
        assert read_source(str(tmp_path / "one"), Reading(label=word)).class_names == tuple(NAMES)
    with pytest.raises(ArgumentError, match=r"label: got 'sort' in .*file, kind, label"):
        read_source(str(tmp_path / "set"), Reading(label="sort"))
    for name in NAMES:
        paint(tmp_path / "folders" / name, 4)
    (tmp_path / "folders" / "labels.json").write_text(json.dumps({"file": "im 0.png", "labels": ["cat"]}))
    table(tmp_path / "folders" / "labels.csv", ["id", "meaning"], [["cat", "a pet"]])
    assert read_source(str(tmp_path / "folders"), Reading()).class_names == tuple(NAMES)
    assert np.array_equal(read_source(str(tmp_path / "folders"), Reading()).labels.bincount(), [4, 4, 4])


def pairs(source: Any) -> dict[int, str]:
    """The class of every image, by its shade."""
    pixels = source.examples.batch(torch.arange(len(source.labels)))
    shades = (pixels[:, 0, 0, 0] * 255).round().int().tolist()
    return {s: source.class_names[k] for s, k in zip(shades, source.labels.tolist(), strict=True)}


def test_every_folder_of_a_path_may_tell_the_part(tmp_path: Path) -> None:
    listed = [[f"images/Training/{n}", k] for n, k in paint(tmp_path / "a" / "images" / "Training", 9)]
    listed += [[n, k] for n, k in [("extra 1", 0), ("extra 2", 1)]]  # told by their names alone
    for row, folder in enumerate(("test", "val"), start=1):
        paint(tmp_path / "a" / "images" / folder, 1)
        image = tmp_path / "a" / "images" / folder / "im 0.png"
        image.rename(image.with_name(f"extra {row}.png"))
    table(tmp_path / "a" / "labels.csv", ["file", "label"], listed)
    parts = read_source(str(tmp_path / "a"), Reading()).parts
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 9, "test": 1, "validation": 1}
    classes = ("test tube", "flask")  # a class may be called so
    listed = [[f"{name}/{n}", name] for name in classes for n, _ in paint(tmp_path / "b" / name, 4)]
    table(tmp_path / "b" / "labels.csv", ["file", "label"], listed)
    assert {*read_source(str(tmp_path / "b"), Reading()).parts} == {"train"}


def test_a_column_that_is_no_split_is_named(tmp_path: Path) -> None:
    rows = [[n, k, "wing"] for n, k in paint(tmp_path / "set")]
    table(tmp_path / "set" / "labels.csv", ["file", "label", "part"], rows)
    source = read_source(str(tmp_path / "set"), Reading())
    assert source.left_out == ("labels.csv: the column 'part' tells no split: 'wing'",)


def test_images_without_a_file_of_labels_are_named(tmp_path: Path) -> None:
    listed = [[n, NAMES[k]] for n, k in paint(tmp_path / "set" / "train")]
    table(tmp_path / "set" / "train" / "metadata.csv", ["file_name", "label"], listed)
    for name in NAMES:
        paint(tmp_path / "set" / "test" / name, 2)
    paint(tmp_path / "set", 1)
    left_out = read_source(str(tmp_path / "set"), Reading()).left_out
    why = "not read: no file of labels there, as set/train/metadata.csv"
    assert left_out == (f"set: 1 image {why}", f"set/test: 6 images {why}")


def test_labels_are_typed_once_for_all_files(tmp_path: Path) -> None:
    for part, rows, text in (("train", 12, "{}.0"), ("test", 6, "{}")):
        listed = [[n, text.format(k)] for n, k in paint(tmp_path / "a" / part, rows)]
        if part == "train":
            listed[0][1] = ""
        table(tmp_path / "a" / part / "labels.csv", ["file", "label"], listed)
    assert read_source(str(tmp_path / "a"), Reading()).class_names == ("0", "1", "2")
    lines = [{"file": n, "label": k} for n, k in paint(tmp_path / "a" / "val", 3)]
    (tmp_path / "a" / "val" / "labels.jsonl").write_text("\n".join(map(json.dumps, lines)))
    table(tmp_path / "a" / "test" / "labels.csv", ["file", "label"], [["im 0.png", "owl"], ["im 1.png", "1"]])
    assert read_source(str(tmp_path / "a"), Reading()).class_names == ("0", "1", "2", "owl")
    listed = [[n, ["--5", "1" * 5000, "007"][k]] for n, k in paint(tmp_path / "b")]
    table(tmp_path / "b" / "labels.csv", ["file", "label"], listed)
    assert read_source(str(tmp_path / "b"), Reading()).class_names == ("--5", "007", "1" * 5000)


def test_true_and_false_are_two_classes(tmp_path: Path) -> None:
    lines = [{"file_name": n, "label": k > 0} for n, k in paint(tmp_path / "set", 6)]
    (tmp_path / "set" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = pairs(read_source(str(tmp_path / "set"), Reading()))
    assert found == {shade(row): str(int(row % 3 > 0)) for row in range(6)}


def test_lines_of_json_end_where_json_says(tmp_path: Path) -> None:
    lines = [{"file_name": n, "label": f"a\u2028{NAMES[k]}"} for n, k in paint(tmp_path / "set")]
    lines += [{"file_name": "\ud800.png", "label": "x"}, {"file_name": "a\0.png", "label": "x"}]
    text = "\r\n".join(json.dumps(line, ensure_ascii="\ud800" in line["file_name"]) for line in lines)
    (tmp_path / "set" / "metadata.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\n  \n")
    source = read_source(str(tmp_path / "set"), Reading())
    assert set(pairs(source).values()) == {f"a\u2028{name}" for name in NAMES}
    rows = [f"metadata.jsonl, row {row}: no file name" for row in (19, 20)]
    assert source.left_out == tuple(rows)


def test_labels_that_cannot_be_read_are_named_where_they_would_have_told(tmp_path: Path) -> None:
    names = [name for name, _ in paint(tmp_path)]
    (tmp_path / "labels.csv").write_text("".join(f"{name}   1.0  mono\n" for name in names))  # no header
    told = r"labels\.csv: not read: .*, got '.* 1\.0 +mono'; expected labels in"
    with pytest.raises(ArgumentError, match=told):
        read_source(str(tmp_path), Reading())
    paint(tmp_path / "one", 3)
    with pytest.raises(ArgumentError, match=told):
        read_source(str(tmp_path), Reading())
    paint(tmp_path / "two", 3)
    source = read_source(str(tmp_path), Reading())
    assert len(source.class_names) == 2
    assert "labels.csv: not read: expected a column of files" in source.left_out[0]


def test_a_table_of_something_else_hides_no_labels(tmp_path: Path) -> None:
    labels_csv(tmp_path)
    table(tmp_path / "metadata.csv", ["file_name", "caption"], [["pictures/im 0.png", "an owl"]])
    (tmp_path / "labels.json").write_text("{}")
    source = read_source(str(tmp_path), Reading())
    assert source.class_names == tuple(NAMES)
    assert source.left_out == (
        f"{tmp_path.name}/metadata.csv: not read: expected a column of files (file_name, ...) and one of labels "
        "(label, ...), got 'file_name, caption'",
        f"{tmp_path.name}/labels.json: not read beside labels.csv",
    )
    assert read_source(str(tmp_path), Reading(label="Class")).class_names == tuple(NAMES)
    with pytest.raises(ArgumentError, match=r"label: got 'sort' in .*file_name, caption"):
        read_source(str(tmp_path), Reading(label="sort"))


def test_a_picture_beside_parquet_and_a_file_of_names_hides_no_table(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    paint(tmp_path, 1)  # as the repository of a data set shows one
    encoded = (tmp_path / "im 0.png").read_bytes()
    columns = {"image": [{"bytes": encoded, "path": None}] * 4, "label": [0, 1, 0, 1]}
    (tmp_path / "data").mkdir()
    parquet.write_table(pa.table(columns), tmp_path / "data" / "train.parquet")
    (tmp_path / "labels.json").write_text(json.dumps({"0": "cat", "1": "dog"}))
    assert read_source(str(tmp_path), Reading()).labels.tolist() == [0, 1, 0, 1]
