import json
from datetime import date
from decimal import Decimal

import numpy as np
import pytest
import torch

from bisector.data.registry import load
from bisector.errors import ArgumentError

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def pixels(count, seed=0, size=(6, 6, 3)):
    return np.random.default_rng(seed).integers(0, 256, (count, *size), dtype=np.uint8)


@pytest.fixture
def write(encode):
    """Writes images as Hugging Face does."""

    def written(
        path, images, labels, *, names=None, image="image", label="label", binary=False, metadata=None
    ):
        encoded = [encode(one) if isinstance(one, np.ndarray) else one for one in images]
        column = (
            encoded if binary else [{"bytes": one, "path": f"{row}.png"} for row, one in enumerate(encoded)]
        )
        table = pyarrow.table({image: column, label: labels})
        if names:
            feature = {label: {"names": names, "_type": "ClassLabel"}, image: {"_type": "Image"}}
            metadata = {"huggingface": json.dumps({"info": {"features": feature}})}
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table.replace_schema_metadata(metadata), path, row_group_size=7)
        return path

    return written


def test_hugging_face_s_layout(tmp_path, write):
    train, test = pixels(40, 0), pixels(10, 1)
    names = ["<b>cat</b>", "dog & co"]
    write(tmp_path / "data" / "train-00000-of-00002.parquet", train[:25], [0, 1] * 12 + [0], names=names)
    write(tmp_path / "data" / "train-00001-of-00002.parquet", train[25:], [1] + [0, 1] * 7, names=names)
    write(tmp_path / "data" / "test-00000-of-00001.parquet", test, [0, 1] * 5, names=names)
    data = load(str(tmp_path))
    assert data.class_names == tuple(names)
    assert data.test_counts.tolist() == [5, 5]
    assert len(data.train) + len(data.validation) == 40
    assert torch.equal(
        data.test.examples.batch(torch.arange(10)), torch.from_numpy(test).permute(0, 3, 1, 2).float() / 255
    )
    assert data.test.examples.name(3) == f"{tmp_path.name}/data/test-00000-of-00001.parquet, row 3 (3.png)"
    for part in (data.train, data.validation):
        for row in range(len(part)):
            file, _, number = part.examples.name(row).partition(", row ")
            origin = int(number.split()[0]) + 25 * ("00001-of" in file)
            found = part.examples.batch(torch.tensor([row]))[0] * 255
            assert np.array_equal(found.round().byte().permute(1, 2, 0).numpy(), train[origin])


@pytest.mark.parametrize(
    "kind", ["binary", "class_names", "dataset_info", "strings", "dictionary", "numbers"]
)
def test_where_class_names_come_from(tmp_path, write, kind):
    images, labels, path = pixels(20), [0, 2] * 10, tmp_path / "x" / "set.parquet"
    names = ["zero", "one", "two"]
    if kind == "class_names":
        write(path, images, labels, metadata={"class_names": json.dumps(names)})
    elif kind == "dataset_info":
        write(path, images, labels)
        info = {"features": {"label": {"names": names, "_type": "ClassLabel"}}}
        (path.parent / "dataset_info.json").write_text(json.dumps(info))
    elif kind in {"strings", "dictionary"}:
        named = pyarrow.array([names[label] for label in labels])
        write(path, images, named.dictionary_encode() if kind == "dictionary" else named, label="species")
    elif kind == "binary":
        write(path, images, labels, names=names, image="img", label="fine_label", binary=True)
    else:
        write(path, images, labels)
    expected = {"strings": ("two", "zero"), "dictionary": ("two", "zero"), "numbers": ("0", "2")}
    for place in (path, path.parent):
        data = load(str(place))
        assert data.class_names == expected.get(kind, ("zero", "two"))
        assert data.test_counts.tolist() == [2, 2]


def test_what_is_not_used_is_named(tmp_path, write):
    images = [*pixels(12), b"no image", None, *pixels(2)]
    path = write(tmp_path / "x.parquet", images, [0, 1] * 6 + [0, 1, -1, None], names=["a", "b", "c"])
    data = load(str(path))
    assert data.class_names == ("a", "b")
    assert sorted(line.removeprefix(str(path)) for line in data.left_out) == [
        ", row 12 (12.png): cannot be read: not an image of a known kind",
        ", row 13 (13.png): cannot be read: No such file or directory",
        ": 2 rows without a label",
        "class 'c': no readable image",
    ]


def test_images_beside_the_table(tmp_path, write, encode):
    for row, image in enumerate(pixels(12)):
        (tmp_path / f"{row}.png").write_bytes(encode(image))
    path = write(tmp_path / "x.parquet", [None] * 12, [0, 1] * 6)
    data = load(str(path))
    assert len(data.train) + len(data.validation) + len(data.test) == 12


def test_mistakes_are_told(tmp_path, write):
    path = write(tmp_path / "x.parquet", pixels(4), [0, 1, 5, 1], names=["a", "b"])
    with pytest.raises(ArgumentError, match=r"x\.parquet, column 'label': labels: got \[5\].* 0 to 1"):
        load(str(path))
    (tmp_path / "y.parquet").write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ArgumentError, match=r"y\.parquet: cannot be read"):
        load(str(tmp_path / "y.parquet"))
    parquet.write_table(pyarrow.table({"image": [b"x"], "f": [1.0]}), tmp_path / "z.parquet")
    with pytest.raises(ArgumentError, match=r"z\.parquet with columns image, f; expected a column of labels"):
        load(str(tmp_path / "z.parquet"))


def test_too_much_for_memory_is_decoded_by_batch(tmp_path, write):
    path = write(tmp_path / "x.parquet", pixels(30), [0, 1, 2] * 10)
    held, lazy = load(str(path), imbalance=3), load(str(path), imbalance=3, memory=100)
    everything = torch.arange(len(held.train))
    assert torch.equal(held.train.examples.batch(everything), lazy.train.examples.batch(everything))
    assert type(held.train.examples.whole) is not type(lazy.train.examples.whole)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([Decimal(n % 2) for n in range(8)], "decimal"),
        ([[n % 2] for n in range(8)], "list"),
        ([date(2020, 1, 1 + n % 2) for n in range(8)], "date"),
        ([{"a": n % 2} for n in range(8)], "struct"),
        ([b"a"] * 8, "binary"),
        ([None] * 8, "null"),
    ],
)
def test_labels_of_another_type_are_refused(tmp_path, write, labels, kind):
    path = write(tmp_path / "a.parquet", pixels(8), labels)
    table = parquet.read_table(path)
    parquet.write_table(table.append_column("fold", pyarrow.array([0, 1, 2, 3] * 2)), path)
    with pytest.raises(ArgumentError, match=f"column 'label' of type {kind}.*whole floats"):
        load(str(path))


def test_whole_floats_are_labels(tmp_path, write):
    path = write(tmp_path / "a.parquet", pixels(40), [0.0, 1.0] * 20)
    table = parquet.read_table(path)
    parquet.write_table(table.append_column("fold", pyarrow.array([0, 1, 2, 3] * 10)), path)
    assert load(str(path)).class_names == ("0", "1")
    write(path, pixels(8), [0.5, 1.0] * 4)
    with pytest.raises(ArgumentError, match=r"column 'label'.*0\.5"):
        load(str(path))


def test_a_name_of_two_classes(tmp_path, write):
    names = ["crane", "dog", "crane"]
    path = write(tmp_path / "a.parquet", pixels(60), [0, 1, 2] * 20, names=names)
    assert load(str(path)).class_names == ("crane (0)", "dog", "crane (2)")


def test_the_column_of_labels_is_said_and_can_be_named(tmp_path, encode):
    rows = {"image": [encode(one) for one in pixels(12)], "label": [0, 1, 2] * 4, "fold": [0, 1, 2, 3] * 3}
    path = str(tmp_path / "a.parquet")
    parquet.write_table(pyarrow.table(rows), path)
    plain, named = load(path), load(path, label="fold")
    assert (plain.num_classes, named.num_classes) == (3, 4)
    assert "columns: 'image' as images, 'label' as labels" in plain.notes
    assert "columns: 'image' as images, 'fold' as labels" in named.notes
    with pytest.raises(ArgumentError, match=r"label: got 'flod' in .* with the columns image, label, fold"):
        load(path, label="flod")
    with pytest.raises(ArgumentError, match="label: got 'x' with digits; expected none"):
        load("digits", label="x")
