import gzip
import struct

import numpy as np
import pytest
import torch

from bisector.data.idx import idx_source, read_idx
from bisector.data.named import FASHION_MNIST
from bisector.data.places import download
from bisector.data.registry import load
from bisector.errors import ArgumentError


def write_idx(path, values):
    values = np.asarray(values, np.uint8)
    content = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_set(folder, part, labels, suffix="", size=(5, 4), dash="-"):
    pixels = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), *size))
    write_idx(folder / f"{part}-images{dash}idx3-ubyte{suffix}", pixels)
    write_idx(folder / f"{part}-labels{dash}idx1-ubyte{suffix}", labels)
    return pixels


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dash", ["-", "."])
def test_images_and_labels_are_those_of_the_files(tmp_path, suffix, dash):
    train = write_set(tmp_path, "train", [3, 1, 2] * 10, suffix, dash=dash)
    test = write_set(tmp_path, "t10k", [1, 2, 3, 3], suffix, dash=dash)
    source = idx_source(tmp_path)
    assert source.class_names == ("1", "2", "3")  # EMNIST counts its letters from 1
    assert source.labels[source.parts["test"]].tolist() == [0, 1, 2, 2]
    assert source.labels[source.parts["train"]].tolist() == [2, 0, 1] * 10
    for part, pixels in (("train", train), ("test", test)):
        batch = source.examples.batch(source.parts[part])
        assert batch.shape == (len(pixels), 1, 5, 4)
        assert torch.equal(batch[:, 0], torch.from_numpy(pixels).float() / 255)
    assert len(load(str(tmp_path)).test) == 4


def test_plain_files_come_before_compressed_ones(tmp_path):
    write_set(tmp_path, "train", [0, 1] * 5)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"half a download")
    assert len(idx_source(tmp_path).labels) == 10


def test_damaged_files_are_named(tmp_path):
    write_set(tmp_path, "train", [0, 1] * 5, ".gz")
    images = tmp_path / "train-images-idx3-ubyte.gz"
    images.write_bytes(images.read_bytes()[:-20])
    with pytest.raises(ArgumentError, match=r"train-images-idx3-ubyte\.gz: cannot be read"):
        load(str(tmp_path))
    write_idx(tmp_path / "a", np.zeros((3, 2)))
    content = (tmp_path / "a").read_bytes()
    for broken in (content[:-1], content + b"x", content[:6]):
        (tmp_path / "b").write_bytes(broken)
        with pytest.raises(ArgumentError, match=r"of \d+ bytes; expected \d+, as its header says"):
            read_idx(tmp_path / "b")
    (tmp_path / "b").write_bytes(b"P5 12")
    with pytest.raises(ArgumentError, match="which does not begin like one"):
        read_idx(tmp_path / "b")


def test_labels_belong_to_images(tmp_path):
    write_set(tmp_path, "train", [0, 1] * 5)
    write_idx(tmp_path / "train-labels-idx1-ubyte", [0, 1])
    with pytest.raises(ArgumentError, match=r"\(2,\) labels for 10 images"):
        load(str(tmp_path))
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(ArgumentError, match="without its labels; expected train-labels-idx1-ubyte beside it"):
        load(str(tmp_path))


def test_fashion_mnist_is_found_in_the_folder_of_the_user(tmp_path, monkeypatch):
    (tmp_path / "fashion-mnist").mkdir()
    write_set(tmp_path / "fashion-mnist", "train", list(range(10)) * 10, ".gz", (28, 28))
    write_set(tmp_path / "fashion-mnist", "t10k", list(range(10)), ".gz", (28, 28))
    monkeypatch.setenv("BISECTOR_DATA", str(tmp_path))
    data = load("fashion-mnist")
    assert data.class_names == FASHION_MNIST
    assert (len(data.train), len(data.validation), len(data.test)) == (90, 10, 10)
    assert data.augmentation == "crop-flip"


def test_fashion_mnist_of_debian_is_long_tailed(no_data):
    import bisector.data.named

    if not bisector.data.named._DEBIAN.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    data = load("fashion-mnist", imbalance=100)
    assert data.shape == (1, 28, 28)
    assert data.train_counts.max() == 5400
    assert data.train_counts.min() == 54
    assert data.test_counts.tolist() == [1000] * 10
    assert data.validation.labels.bincount().tolist() == [600] * 10


def test_a_download_that_breaks_off_leaves_nothing(no_data):
    def broken(folder):
        (no_data / ".seen").write_text(folder)
        with open(f"{folder}/half", "w") as file:  # noqa: PTH123
            file.write("half of it")
        raise OSError("connection lost\nand more")

    no_data.mkdir(parents=True)
    with pytest.raises(ArgumentError) as error:
        download("some-set", broken, "wanted", ["$BISECTOR_DATA/some-set"])
    assert str(error.value) == (
        "data: some-set is not on this machine and cannot be downloaded (connection lost and more); "
        "put its files into $BISECTOR_DATA/some-set"
    )
    assert [path.name for path in no_data.iterdir()] == [".seen"]


def test_a_download_appears_when_it_is_complete(no_data):
    def fetch(folder):
        from pathlib import Path

        (Path(folder) / "wanted").mkdir()
        (Path(folder) / "wanted" / "file").write_text("all of it")
        assert not (no_data / "wanted").exists()

    assert download("x", fetch, "wanted", []) == no_data / "wanted"
    assert (no_data / "wanted" / "file").read_text() == "all of it"
    assert [path.name for path in no_data.iterdir()] == ["wanted"]
