import os
import pickle
import shutil
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from bisector.data.fingerprint import fingerprint
from bisector.data.image_examples import ImageFiles, Reading, read_images
from bisector.data.registry import load
from bisector.errors import ArgumentError

AWKWARD = ["<b onclick=x>&amp;", "a class, with spaces", "日本語 – ünïcode", "quote\"s and 'apostrophes'"]


@pytest.fixture
def folder(tmp_path, paint):
    """A user's folder: unequal sizes, a truncated image, an empty class, awkward names."""
    for index, name in enumerate(AWKWARD):
        for number in range(6):
            paint(tmp_path / "pictures" / name / f"{number}.png", (20 + 3 * number, 30), (40 * index, 0, 0))
    broken = tmp_path / "pictures" / AWKWARD[1] / "broken.JPG"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(broken, "JPEG")
    broken.write_bytes(broken.read_bytes()[:2000])
    (tmp_path / "pictures" / AWKWARD[2] / "0 bytes.webp").touch()
    (tmp_path / "pictures" / AWKWARD[2] / "text.gif").write_text("no image")
    (tmp_path / "pictures" / AWKWARD[2] / "notes.txt").write_text("no image either")
    (tmp_path / "pictures" / AWKWARD[2] / ".hidden.png").write_text("ignored")
    (tmp_path / "pictures" / "empty").mkdir()
    (tmp_path / "pictures" / "nothing readable").mkdir()
    (tmp_path / "pictures" / "nothing readable" / "x.png").write_text("no image")
    (tmp_path / "pictures" / ".git").mkdir()
    return tmp_path / "pictures"


def every(data):
    return [
        (part.examples.name(row), part.labels[row].item(), part.examples.batch(torch.tensor([row]))[0])
        for part in (data.train, data.validation, data.test)
        for row in range(len(part))
    ]


def test_nothing_is_lost(folder):
    data = load(str(folder))
    assert data.class_names == tuple(sorted(AWKWARD))
    assert data.shape == (3, 64, 64)
    truncated = [line for line in data.left_out if "truncated" in line]
    assert len(truncated) == 1
    assert truncated[0].startswith(f"pictures/{AWKWARD[1]}/broken.JPG: cannot be read: ")
    assert set(data.left_out) == {
        *truncated,
        f"pictures/{AWKWARD[2]}/0 bytes.webp: cannot be read: it is empty",
        f"pictures/{AWKWARD[2]}/text.gif: cannot be read: not an image of a known kind",
        f"pictures/{AWKWARD[2]}/notes.txt: files of the kind .txt are not read as images",
        "pictures/nothing readable/x.png: cannot be read: not an image of a known kind",
        "class 'empty': no readable image",
        "class 'nothing readable': no readable image",
    }
    assert min(counts.min() for counts in (data.validation_counts, data.test_counts)) == 1
    rows = every(data)
    assert len({name for name, _, _ in rows}) == len(rows) == 24
    for name, label, pixels in rows:
        assert name.split("/")[1] == data.class_names[label]
        assert pixels[0].mean().item() * 255 == pytest.approx(
            40 * AWKWARD.index(data.class_names[label]), abs=1
        )


def test_lazy_and_held_images_are_the_same(folder):
    # Without the truncated file, which only decoding finds.
    next(folder.rglob("broken.JPG")).unlink()
    held, lazy = load(str(folder), image_size=16), load(str(folder), image_size=16, memory=100)
    assert isinstance(lazy.train.examples.whole, ImageFiles)
    assert held.left_out == lazy.left_out
    assert len(held.left_out) == 6
    for (name, label, pixels), (other, also, again) in zip(every(held), every(lazy), strict=True):
        assert (name, label) == (other, also)
        assert torch.equal(pixels, again)


def test_a_truncated_image_is_named_when_it_is_met(folder):
    data = load(str(folder), memory=100)
    with pytest.raises(ArgumentError, match=r"data: pictures/.*broken\.JPG: cannot be read: .*truncated"):
        every(data)


class Rows(Dataset):
    def __init__(self, examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, row):
        return self.examples.batch(torch.tensor([row]))[0]


def test_lazy_images_travel_to_workers(folder):
    next(folder.rglob("broken.JPG")).unlink()
    examples = load(str(folder), memory=100).train.examples
    expected = examples.batch(torch.arange(len(examples)))
    again = pickle.loads(pickle.dumps(examples))
    assert torch.equal(again.batch(torch.arange(len(examples))), expected)
    loaded = torch.cat(list(DataLoader(Rows(examples), batch_size=4, num_workers=2)))
    assert torch.equal(loaded, expected)


@pytest.mark.parametrize("other", ["test", "Val"])
def test_train_and_test_folders(tmp_path, paint, paint_classes, other):
    paint_classes(tmp_path, {"Train/cat": 10, "Train/dog": 10, f"{other}/cat": 3, f"{other}/dog": 3})
    paint(tmp_path / "extra" / "x.png")
    paint(tmp_path / "stray.png")
    data = load(str(tmp_path))
    assert data.class_names == ("cat", "dog")
    assert (data.train_counts.tolist(), data.test_counts.tolist()) == ([9, 9], [3, 3])
    assert all(f"/{other}/" in data.test.examples.name(row) for row in range(6))
    assert data.left_out == (
        f"{tmp_path.name}/stray.png: in no class folder",
        f"{tmp_path.name}/extra: not a folder for training, validation or test",
    )


THREE_PARTS = {"train/a": 10, "train/b": 10, "test/a": 3, "test/b": 3, "val/a": 2, "val/b": 2}


@pytest.mark.parametrize(
    ("counts", "classes", "sizes", "left_out"),
    [
        (THREE_PARTS, "ab", (20, 4, 6), ()),
        ({"train/a": 6, "train/b": 6, "test": 12}, "ab", (8, 2, 2), ("test: 12 images in no class folder",)),
        ({"exam": 5, "test": 5}, ("exam", "test"), (6, 2, 2), ()),  # a class may be called test
    ],
)
def test_what_is_a_part_and_what_a_class(tmp_path, paint_classes, counts, classes, sizes, left_out):
    data = load(str(paint_classes(tmp_path, counts)))
    assert data.class_names == tuple(classes)
    assert (len(data.train), len(data.validation), len(data.test)) == sizes
    assert data.left_out == tuple(f"{tmp_path.name}/{line}" for line in left_out)


def test_links_nested_folders_and_one_folder_around_all(tmp_path, paint):
    top = tmp_path / "data" / "unpacked"
    for number in range(4):
        paint(top / "cat" / "deep" / "er" / f"{number}.PNG")
        paint(top / "dog" / f"{number}.jpeg")
    (top / "dog" / "circle").symlink_to(top / "dog")
    paint(tmp_path / "elsewhere.png")
    (top / "dog" / "linked.png").symlink_to(tmp_path / "elsewhere.png")
    shutil.copytree(top / "dog", tmp_path / "wolves", symlinks=True)
    (tmp_path / "wolves" / "circle").unlink()
    (top / "wolf").symlink_to(tmp_path / "wolves")
    data = load(str(tmp_path / "data"))
    assert data.class_names == ("cat", "dog", "wolf")
    assert (data.train_counts + data.validation.labels.bincount() + data.test_counts).tolist() == [4, 5, 5]
    assert data.left_out == ()


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX only")
@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ((b"caf\xe9", b"tea"), ("caf\N{REPLACEMENT CHARACTER}", "tea")),
        (
            (b"caf\xe9", b"caf\xe8"),
            ("caf\\xe8", "caf\\xe9"),
        ),  # those that differ in such bytes alone stay apart
    ],
)
def test_names_that_are_no_text_become_text(tmp_path, paint, names, shown):
    for name in names:
        for number in range(3):
            paint(tmp_path / os.fsdecode(name) / os.fsdecode(b"\xff%d.png" % number))
    data = load(str(tmp_path))
    assert data.class_names == shown
    [data.train.examples.name(row).encode() for row in range(len(data.train))]
    assert len(fingerprint(str(tmp_path), data)) == 16


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_names_that_are_written_alike_are_one_class(tmp_path, paint_classes, forms):
    for part, form in zip(("train", "test"), forms, strict=True):
        paint_classes(tmp_path / part, {unicodedata.normalize(form, name): 4 for name in ("café", "tea")})
    data = load(str(tmp_path))
    assert data.class_names == ("café", "tea")
    assert (data.train_counts.tolist(), data.test_counts.tolist()) == ([3, 3], [4, 4])  # one for validation


def test_images_without_a_suffix_are_read_and_files_of_other_kinds_named(tmp_path, paint):
    for number in range(3):
        paint(tmp_path / "a" / f"{number}.png").rename(tmp_path / "a" / str(number))
        paint(tmp_path / "b" / f"{number}.png")
        (tmp_path / "b" / f"{number}.dcm").write_bytes(b"DICM")
        (tmp_path / "c" / f"{number}.NPY").parent.mkdir(exist_ok=True)
        (tmp_path / "c" / f"{number}.NPY").touch()
    (tmp_path / "b" / "Thumbs.db").touch()
    (tmp_path / "b" / "LICENSE").write_text("no image")
    data = load(str(tmp_path))
    assert data.class_names == ("a", "b")
    assert data.left_out == (
        f"{tmp_path.name}/b/LICENSE: without a suffix, and no image",
        f"{tmp_path.name}/b/0.dcm and 2 more: files of the kind .dcm are not read as images",
        f"{tmp_path.name}/c/0.NPY and 2 more: files of the kind .npy are not read as images",
        "class 'c': no readable image",
    )
    shutil.rmtree(tmp_path / "a")
    for number in range(3):
        (tmp_path / "b" / f"{number}.png").unlink()
    with pytest.raises(
        ArgumentError, match=r"2 folders without an image and 3 files \(.dcm\) and 3 files \(.npy\)"
    ):
        load(str(tmp_path))


def test_links_that_loop_or_lead_nowhere_are_named(tmp_path, paint_classes):
    paint_classes(tmp_path, {"a": 4, "b": 4})
    links = {"a/self.png": "self.png", "a/x": "x", "b/gone.png": "gone", "class": "class"}
    for link, target in links.items():
        (tmp_path / link).symlink_to(target)
    for number in range(8):  # followed as often as the system lets, these would be 8^40 folders
        (tmp_path / "a" / f"up{number}").symlink_to(tmp_path)
        (tmp_path / "b" / f"up{number}").symlink_to(tmp_path / "b")
    data = load(str(tmp_path))
    named = [line.partition(": ")[0] for line in data.left_out]
    assert named == [f"{tmp_path.name}/{link}" for link in ("class", "a/x", "a/self.png", "b/gone.png")]
    assert len(every(data)) == 8
    fingerprint(str(tmp_path), data)  # comes to an end
    for path in (tmp_path / "class", tmp_path / "class" / "inner"):
        with pytest.raises(ArgumentError, match="nothing is at that path"):
            load(str(path))


def test_equal_images_keep_their_size_and_gray_its_channel(tmp_path, paint, paint_classes):
    paint_classes(tmp_path, {"a": 4, "b": 4}, size=(12, 7), colour=40, mode="L")
    assert load(str(tmp_path)).shape == (1, 7, 12)
    assert load(str(tmp_path), image_size=5).shape == (1, 5, 5)
    paint(tmp_path / "b" / "5.png", (12, 7))
    data = load(str(tmp_path))
    assert (data.shape, data.notes, data.pixel_range) == (
        (3, 7, 12),
        (),
        None,
    )  # none is deep
    paint(tmp_path / "b" / "6.png", (7, 7))
    assert load(str(tmp_path)).shape == (3, 64, 64)


def write_deep(folder, values, kind="uint16"):
    """Class folders of two images each, of one value an image."""
    for name, value in values.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((3, 4), value, kind)).save(folder / name)


def levels(data):
    return {name.split("/", 1)[1]: round(255 * pixels[0, 0, 0].item()) for name, _, pixels in every(data)}


@pytest.mark.parametrize("memory", [2**30, 5])
@pytest.mark.parametrize(
    ("kind", "suffix", "values", "expected", "told"),
    [
        ("uint16", "png", (0, 100, 255, 200), (0, 100, 255, 200), "0 to 255"),
        ("uint16", "tif", (16, 1606, 803, 4000), (0, 100, 50, 249), "0 to 4095"),
        ("uint16", "png", (257, 25700, 70, 65535), (1, 100, 0, 255), "0 to 65535"),
        ("int32", "tif", (-1024, 1024, 3071, 0), (0, 127, 255, 63), "-1024 to 3071"),
        ("float32", "tif", (0.5, 0.25, 1.0, 0.0), (127, 63, 255, 0), "0 to 1"),
        ("float32", "tif", (5, 2.5, 10.0, 1.0), (127, 63, 255, 25), "0 to 10"),
    ],
)
def test_deep_images_have_the_scale_of_their_data_set(tmp_path, memory, kind, suffix, values, expected, told):
    names = [f"{c}/{n}.{suffix}" for c in "ab" for n in range(2)]
    write_deep(tmp_path, dict(zip(names, values, strict=True)), kind)
    data = load(str(tmp_path), memory=memory)
    assert levels(data) == dict(zip(names, expected, strict=True))
    count = "4 of 4 images have more than 8 bits"
    assert data.notes == (f"{count}: their values {told} become 0 to 255 in every part",)
    assert load(str(tmp_path), split="standard", seed=3).pixel_range == data.pixel_range


def test_a_deep_image_is_read_by_the_scale_of_a_training(tmp_path, paint):
    write_deep(tmp_path, {"a/0.png": 100, "a/1.png": 1606, "b/0.png": 5000})
    paint(tmp_path / "b" / "1.png", (4, 3), 77, "L")
    data = load(str(tmp_path), pixel_range=(0, 4095))
    assert levels(data) == {"a/0.png": 6, "a/1.png": 100, "b/0.png": 255, "b/1.png": 77}
    assert data.notes == (
        "3 of 4 images have more than 8 bits: as in training, their values 0 to 4095 become 0 to 255 (images with "
        "values beyond, which are cut: 1); they reach from 100 to 5000",
    )
    assert data.pixel_range == (0, 4095)


def test_pixels_that_are_no_numbers_are_named_and_kinds_not_mixed(tmp_path):
    write_deep(tmp_path, {f"{c}/{n}.tif": 1.5 for c in "ab" for n in range(3)}, "float32")
    write_deep(tmp_path, {"a/nan.tif": np.nan}, "float32")
    data = load(str(tmp_path))
    assert data.left_out == (
        f"{tmp_path.name}/a/nan.tif: cannot be read: 12 of its 12 pixels are NaN or infinite",
    )
    write_deep(tmp_path, {"a/whole.png": 300})
    with pytest.raises(
        ArgumentError, match=r"whole numbers as pixels of .*whole.png and floating-point ones of"
    ):
        load(str(tmp_path))


def test_the_seed_and_the_order_of_the_disk_do_not_mix(folder, tmp_path):
    # Copied in another order: the file system may list them otherwise, the split is the same.
    again = tmp_path / "again" / "pictures"
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file():
            (again / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, again / path.relative_to(folder))
    first, second = load(str(folder), seed=2), load(str(again), seed=2)
    assert [name for name, _, _ in every(first)] == [name for name, _, _ in every(second)]


def test_a_long_tail_of_a_folder(tmp_path, paint_classes):
    data = load(str(paint_classes(tmp_path, dict.fromkeys("abc", 20), "bmp", size=(4, 4))), imbalance=7)
    assert sorted(data.train_counts.tolist()) == [2, 5, 14]
    assert data.test_counts.tolist() == [4, 4, 4]


def test_no_readable_image_is_one_clear_error(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_text("no image")
    with pytest.raises(ArgumentError, match="data: got 2 images, none of which can be read"):
        load(str(tmp_path))
    with pytest.raises(ArgumentError, match="none of which can be read"):
        read_images([b"", b"x"], ["a", "b"], Reading(image_size=4))


def test_photographs(real_data):
    files = sorted((real_data / "bccd" / "JPEGImages").glob("*.jpg"))[:12]
    if not files:
        pytest.skip("no bccd in the folder of real data")
    read = read_images([str(path) for path in files], [path.name for path in files], Reading(image_size=48))
    assert read.examples.shape == (3, 48, 48)
    assert not read.left_out
    whole = np.asarray(Image.open(files[3]).convert("RGB"), np.float32) / 255  # 640 x 480
    block = whole[:, 80:560].reshape(48, 10, 48, 10, 3).mean((1, 3)).transpose(2, 0, 1)
    assert (read.examples.batch(torch.tensor([3]))[0] - torch.from_numpy(block)).abs().mean() < 0.02


@pytest.mark.parametrize("kind", ["alike", "unequal", "deep"])
def test_decoded_images_are_kept_and_found_again(tmp_path, kind, monkeypatch):
    draw = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(6):
            high, dtype = (4096, np.uint16) if kind == "deep" else (256, np.uint8)
            side = 9 + number if kind == "unequal" else 9
            pixels = draw.integers(0, high, (side, 9), dtype=dtype)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    (tmp_path / "photos" / "a" / "broken.png").write_text("no image")
    folder, kept = tmp_path / "photos", tmp_path / "decoded"
    plain = load(folder, seed=1)
    first = load(folder, seed=0, decoded=kept)
    files = sorted(kept.iterdir())
    assert [file.suffix for file in files] == [".json", ".npy"]
    monkeypatch.setattr("bisector.data.image_examples.decode_image", None)  # nobody decodes any more
    again = load(folder, seed=1, decoded=kept)
    for part in ("train", "validation", "test"):
        examples, expected = getattr(again, part).examples, getattr(plain, part).examples
        every = torch.arange(len(expected))
        assert torch.equal(examples.batch(every), expected.batch(every))
        assert [examples.name(i) for i in every] == [expected.name(i) for i in every]
    assert (again.left_out, again.notes, again.pixel_range) == (
        plain.left_out,
        plain.notes,
        plain.pixel_range,
    )
    assert first.left_out == plain.left_out
    monkeypatch.undo()
    files[1].write_bytes(files[1].read_bytes()[:-50])  # damaged: decoded again
    mended = load(folder, seed=1, decoded=kept).train.examples
    assert torch.equal(mended.batch(torch.arange(3)), plain.train.examples.batch(torch.arange(3)))
    (folder / "a" / "0.png").write_bytes((folder / "b" / "0.png").read_bytes())  # other images, other files
    load(folder, seed=1, decoded=kept)
    assert len(list(kept.glob("*.npy"))) == 2
