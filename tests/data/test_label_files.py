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
    for function in (metadata_csv, metadata_jsonl, labels_csv, fiftyone, fiftyone_words, saved)
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
        (damaged("metadata.csv", b"file_name,label\nim 0.png,\xff\n"), "metadata.csv cannot be read"),
        (
            damaged("metadata.jsonl", b'{"file_name": "im 0.png", "label": 1\n'),
            "metadata.jsonl cannot be read",
        ),
        (damaged("metadata.jsonl", b"[1, 2]\n"), "metadata.jsonl with other lines; expected objects"),
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
    with pytest.raises(ArgumentError, match=r"label: got 'sort' in .*file, kind, label"):
        read_source(str(tmp_path / "set"), Reading(label="sort"))
    for name in NAMES:
        paint(tmp_path / "folders" / name, 4)
    table(tmp_path / "folders" / "labels.csv", ["id", "meaning"], [["cat", "a pet"]])
    assert read_source(str(tmp_path / "folders"), Reading()).class_names == tuple(NAMES)
    assert np.array_equal(read_source(str(tmp_path / "folders"), Reading()).labels.bincount(), [4, 4, 4])
