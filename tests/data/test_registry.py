import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from bisector.data.fingerprint import fingerprint
from bisector.data.places import DATA_SETS
from bisector.data.registry import load
from bisector.data.tables import EmbeddingTable, is_embeddings, write_embeddings
from bisector.errors import ArgumentError, install_command


def test_digits_open_set_has_strangers_for_test():
    data = load("digits", split="open-set", imbalance=5, seed=3)
    assert set(data.class_names) | set(data.test_names) == set("0123456789")
    assert len(data.class_names) == len(data.test_names) == 5
    assert data.train_counts.max() >= 4 * data.train_counts.min()
    whole = torch.from_numpy(load_digits().target).bincount()
    assert data.test_counts.tolist() == [whole[int(name)] for name in data.test_names]


def test_digits_in_another_size():
    data = load("digits", image_size=20)
    assert data.shape == (1, 20, 20)
    assert data.train.examples.batch(torch.tensor([0, 5])).shape == (2, 1, 20, 20)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"data": "didgits"}, r"data: got 'didgits'; did you mean 'digits'\? .* but nothing is at that path"),
        ({"imbalance": 0.5}, "imbalance: got 0.5; expected a finite number of at least 1"),
        ({"imbalance": float("nan")}, "imbalance"),
        ({"split": "open"}, "split: got 'open'; did you mean 'open-set'"),
        ({"image_size": 0}, "image_size: got 0"),
        ({"seed": -1}, "seed: got -1"),
    ],
)
def test_mistakes_are_told(wrong, message):
    with pytest.raises(ArgumentError, match=message):
        load(**({"data": "digits"} | wrong))


def test_all_names_are_told():
    with pytest.raises(ArgumentError, match=".*".join(DATA_SETS)):
        load("nonsense-without-a-neighbour")


def test_an_unknown_folder_is_described(tmp_path):
    with pytest.raises(ArgumentError, match="but that folder holds nothing"):
        load(str(tmp_path))
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "table.csv").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ArgumentError, match=r"holds 1 folder without an image and 1 file \(.\w+\) and 1 file"
    ):
        load(str(tmp_path))
    for name in ("notes.txt", "table.csv"):
        with pytest.raises(ArgumentError, match=r"an unknown kind; known are \.parquet, .*folders") as told:
            load(str(tmp_path / name))
        assert "\n" not in str(told.value)


def test_embeddings_keep_the_split_they_were_stored_with(tmp_path):
    labels = torch.arange(60) % 3
    splits = ["train"] * 36 + ["validation"] * 12 + ["test"] * 12
    vectors = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    names = [f"image {row}" for row in range(60)]
    table = EmbeddingTable(vectors, labels, ("a", "b", "c"), splits=splits, names=names)
    write_embeddings(table, tmp_path / "e.parquet")
    data = load(str(tmp_path / "e.parquet"))
    assert data.shape == (5,)
    assert data.augmentation == "none"
    assert torch.equal(data.test.examples.batch(torch.arange(12)), vectors[48:])
    assert data.validation.examples.name(0) == "image 36"
    assert data.train_counts.tolist() == [12, 12, 12]
    with pytest.raises(ArgumentError, match="image_size: got 32; expected none for embeddings"):
        load(str(tmp_path / "e.parquet"), image_size=32)


def test_embeddings_without_a_split_are_divided(tmp_path):
    import numpy as np

    np.savez(tmp_path / "e.npz", embeddings=np.zeros((100, 4), np.float32), labels=np.arange(100) % 2)
    for path in (tmp_path, tmp_path / "e.npz"):
        data = load(str(path), imbalance=6)
        assert data.test_counts.tolist() == [10, 10]
        assert sorted(data.train_counts.tolist()) == [6, 36]


@pytest.mark.parametrize(
    ("module", "package", "extra", "data"),
    [
        ("sklearn", "scikit-learn", "train", "digits"),
        ("PIL", "Pillow", "train", "pictures"),
        ("pyarrow", "pyarrow", "measure", "table.parquet"),
    ],
)
def test_a_missing_package_names_its_extra_and_no_other_is_brought(
    tmp_path, paint, module, package, extra, data
):
    paint(tmp_path / "pictures" / "cat" / "1.png")
    (tmp_path / "table.parquet").touch()
    # A module set to None in sys.modules cannot be imported: the state of a bare installation.
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from bisector.data.registry import load\n"
        "from bisector.errors import MissingExtraError\n"
        f"try: load({data!r})\n"
        "except MissingExtraError as error: print(error)\n"
        "print([m for m in ('PIL', 'pyarrow', 'torchvision', 'scipy') if sys.modules.get(m)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    told, loaded = done.stdout.strip().splitlines()
    assert told == f"{package} is not installed; it comes with: {install_command(extra)}"
    assert loaded == "[]"  # readers bring their packages only when they read


def test_a_path_may_be_an_object(tmp_path, paint_classes):
    assert load(paint_classes(tmp_path, {"a": 3, "b": 3})).name == str(tmp_path)


def test_a_fingerprint_tells_files_and_data_apart(tmp_path: Path) -> None:
    def save(shift: float) -> None:
        vectors = numpy.random.default_rng(0).normal(size=(60, 5)) + shift
        numpy.save(tmp_path / "x.npy", vectors.astype("f4"))
        numpy.save(tmp_path / "y.npy", numpy.arange(60) % 3)

    pair = f"{tmp_path / 'x.npy'},{tmp_path / 'y.npy'}"
    save(0)
    first = fingerprint(pair, load(pair))
    assert fingerprint(pair, load(pair)) == first
    save(1)
    assert fingerprint(pair, load(pair)) != first
    assert fingerprint("digits", load("digits")) != fingerprint("digits", load("digits", imbalance=20))


def test_a_link_to_nowhere_stops_nothing(tmp_path: Path, paint_classes) -> None:
    paint_classes(tmp_path, {"a": 6, "b": 6})
    (tmp_path / "a" / ".#lock").symlink_to(tmp_path / "nowhere")
    (tmp_path / "b" / "gone.png").symlink_to(tmp_path / "nowhere")
    data = load(str(tmp_path))
    assert fingerprint(str(tmp_path), data)
    assert len(data.train) + len(data.validation) + len(data.test) == 12


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX only")
@pytest.mark.parametrize("kind", ["images", "parquet", "table", "folder of tables"])
def test_a_place_whose_name_is_no_text_is_read_like_another(tmp_path: Path, paint: Any, kind: str) -> None:
    place = tmp_path / os.fsdecode(b"caf\xe9")
    place.mkdir()
    (place / os.fsdecode(b"n\xff.txt")).touch()
    images = [paint(place / "ab"[row % 2] / f"{row}.png", colour=(20 * row, 0, 0)) for row in range(8)]
    if kind == "parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        rows = [{"bytes": image.read_bytes(), "path": image.name} for image in images]
        table = pyarrow.table({"image": rows, "label": [row % 2 for row in range(8)]})
        with (place / os.fsdecode(b"x\xe9.parquet")).open("wb") as file:
            parquet.write_table(table, file)
        place = place / os.fsdecode(b"x\xe9.parquet")
    elif "table" in kind:
        for name in "ab":
            shutil.rmtree(place / name)
        write_embeddings(EmbeddingTable(torch.eye(8), torch.arange(8) % 2, ("a", "b")), place / "x.parquet")
        place = place / "x.parquet" if kind == "table" else place
    assert is_embeddings(str(place)) == ("table" in kind)
    data = load(str(place))
    assert sum(map(len, (data.train, data.validation, data.test))) == 8
    assert fingerprint(str(place), data)


def test_images_that_lie_in_no_folder_of_a_class_are_told_where_to_go(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(
        ArgumentError, match=r"holds 1 file \(.png\); images belong into one subfolder a class"
    ):
        load(str(tmp_path))
