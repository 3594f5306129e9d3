import json
from pathlib import Path

import numpy as np
import pytest

from bisector.data.tables.class_values import read_class_values
from bisector.errors import ArgumentError

NAMES = ("cat", "dög")


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "class,count\ndög,2\ncat,1\n"),
        ("t.json", '{"dög": 2, "cat": 1.0}'),
        ("t.json", "[1, 2]"),
        ("T.CSV", "name,count,more\ncat,1\ndög,2,3\nowl,7,7\n"),
    ],
)
def test_every_form_is_read_with_and_without_a_byte_order_mark(tmp_path: Path, mark, name, text) -> None:
    (tmp_path / name).write_text(mark + text, encoding="utf-8")
    assert read_class_values(tmp_path / name, NAMES, ["count"]).tolist() == [1, 2]


def test_an_empty_cell_is_nan(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("class,count\ncat,\ndög,3\n")
    (tmp_path / "t.json").write_text("[null, 3]")
    for name in ("t.csv", "t.json"):
        values = read_class_values(tmp_path / name, NAMES, ["count"])
        assert values.isnan().tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("t.json", '"12"', "got str; expected a list or an object"),
        ("t.json", "12", "got int; expected a list or an object"),
        ("t.json", '["1", "2"]', "'1' is no number"),
        ("t.json", "[true, 2]", "'True' is no number"),
        ("t.json", "[[1], [2]]", "is no number"),
        ("t.json", f"[{'9' * 400}, 2]", "no number for each class"),
        ("t.json", f"[{'9' * 9000}, 2]", "no number for each class"),
        ("t.json", "[" * 100_000, "no number for each class"),
        ("t.json", '{"cat": 1, "cat": 2, "dög": 3}', "'cat' is there twice"),
        ("t.csv", "class,count\ncat,1\ndög,2\ncat,3\n", "'cat' is there twice"),
        ("t.csv", "class,count\ncat,many\ndög,2\n", "no number for each class"),
        ("t.csv", f"class,count\n{'x' * 200_000},1\n", "field larger than field limit"),
        ("t.csv", "", "got the columns ; expected class and count"),
        ("t.npy", "no array", "no number for each class"),
    ],
)
def test_anything_else_is_one_argument_error_that_names_the_file(tmp_path: Path, name, text, told) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ArgumentError, match=told) as error:
        read_class_values(path, NAMES, ["count"])
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("array", [np.array(3.0), np.ones((2, 2)), np.array(["1", "2"]), np.ones(2) * 1j])
def test_other_arrays_are_refused(tmp_path: Path, array) -> None:
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(ArgumentError, match=r"t\.npy"):
        read_class_values(tmp_path / "t.npy", NAMES, ["count"])


def test_an_array_is_read_in_the_order_of_the_classes(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.array([3, 4], dtype=np.uint8))
    assert read_class_values(tmp_path / "t.npy", NAMES, ["count"]).tolist() == [3, 4]
    (tmp_path / "t.json").write_text(json.dumps([1, 2, 3]))
    with pytest.raises(ArgumentError, match="3 numbers; expected 2"):
        read_class_values(tmp_path / "t.json", NAMES, ["count"])
