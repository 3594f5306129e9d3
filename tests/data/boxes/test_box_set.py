import json
import os
import pickle
import shutil
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from bisector.data.boxes import BoxSet, Picture, load_boxes, read_coco
from bisector.data.boxes.picture import stored_size
from bisector.errors import ArgumentError
from tiny_boxes import labelled


def picture(file="a.png", size=(40, 30), **changes):
    found = Picture.of(1, file, *size, torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([1]))
    return Picture(**{**vars(found), **changes})


def one(folder, **options):
    return BoxSet([picture(**options)], ["thing"], name="one", root=folder)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("LA", (9, 255), (9, 9, 9)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("I;16", 257 * 200, (200, 200, 200)),
        ("I;16", 200, (200, 200, 200)),
        ("P", 0, (0, 0, 0)),
    ],
)
def test_every_kind_of_image_becomes_rgb(tmp_path, paint, mode, colour, expected):
    paint(tmp_path / "a.png", (40, 30), colour, mode)
    pixels = one(tmp_path).image(0)
    assert (pixels.shape, pixels.dtype) == ((3, 30, 40), torch.uint8)
    assert (pixels == torch.tensor(expected)[:, None, None]).all()


@pytest.mark.parametrize(("given", "pixels"), [(None, [12, 186, 124]), ((0.0, 2000.0), [25, 255, 255])])
def test_deep_pictures_of_all_parts_have_one_scale(tmp_path, given, pixels):
    """A dark 12-bit picture stays dark: 255 x / 4095, or x / the scale of the model's training."""
    for name, values in {"train": (200, 3000), "valid": (2000,)}.items():
        folder = tmp_path / name
        folder.mkdir()
        for value in values:
            Image.fromarray(np.full((30, 40), value, np.uint16)).save(folder / f"{value}.png")
        images = [{"id": v, "file_name": f"{v}.png", "width": 40, "height": 30} for v in values]
        boxes = [
            {"id": v, "image_id": v, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 0} for v in values
        ]
        content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "lesion"}]}
        (folder / "_annotations.coco.json").write_text(json.dumps(content))
    splits = load_boxes(str(tmp_path), pixel_range=given)
    found = [part.image(i) for part in (splits.train, splits.validation) for i in range(len(part))]
    assert [image.unique().tolist() for image in found] == [[value] for value in pixels]
    told = "3 of 3 images have more than 8 bits"
    assert any(told in line for line in splits.train.left_out)
    assert splits.train.subset([0]).pixel_range == (given or (0.0, 4095.0))


def test_cmyk_and_pixels_are_those_of_pillow(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 4), dtype=np.uint8)
    Image.fromarray(noise, "CMYK").save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as opened:
        expected = np.asarray(opened.convert("RGB"))
    pixels = one(tmp_path, file="a.tif").image(0)
    assert (pixels.permute(1, 2, 0).numpy() == expected).all()


@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
def test_boxes_are_in_stored_pixels(tmp_path, orientation):
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise).save(tmp_path / "a.png", exif=exif)
    assert (one(tmp_path).image(0).permute(1, 2, 0).numpy() == noise).all()


def test_an_upright_annotation_turns_the_image(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(noise).save(tmp_path / "a.png", exif=exif)
    pixels = one(tmp_path, size=(30, 40)).image(0)
    assert (pixels.permute(1, 2, 0).numpy() == np.rot90(noise, -1)).all()


def test_what_is_wrong_with_a_file_is_told(tmp_path, paint):
    with pytest.raises(ArgumentError, match=r"images: no file for image 1 \(.*a\.png\)"):
        one(tmp_path).image(0)
    paint(tmp_path / "a.png", (41, 30))
    with pytest.raises(ArgumentError, match=r"image 1 .*a\.png\) is 41 x 30 pixels; .* says 40 x 30"):
        one(tmp_path).image(0)
    paint(tmp_path / "a.png", (30, 40))
    with pytest.raises(ArgumentError, match=r"is 30 x 40 pixels; .* says 40 x 30"):
        one(tmp_path).image(0)
    (tmp_path / "a.png").write_bytes(paint(tmp_path / "b.png", (40, 30)).read_bytes()[:60])
    with pytest.raises(ArgumentError, match=r"image 1 .*a\.png\) cannot be read"):
        one(tmp_path).image(0)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ArgumentError, match="cannot be read: it is empty"):
        one(tmp_path).image(0)
    with pytest.raises(ArgumentError, match=r"images: got none for one; expected the folder of a\.png"):
        BoxSet([picture()], ["thing"], name="one").image(0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"labels": torch.tensor([2])}, r"labels: got 2 in a\.png; expected 1 to 1"),
        ({"labels": torch.tensor([0])}, "labels: got 0 in"),
        ({"boxes": torch.tensor([[1.0, 2, 1, 4]])}, r"boxes: got \[1.0, 2.0, 1.0, 4.0\] in a\.png"),
        ({"boxes": torch.tensor([[1.0, 2, 41, 4]])}, "inside the picture"),
        ({"boxes": torch.tensor([[1.0, 2, float("nan"), 4]])}, "boxes: got"),
    ],
)
def test_no_set_of_what_cannot_be(changes, told):
    with pytest.raises(ArgumentError, match=told):
        BoxSet([picture(**changes)], ["thing"], name="one")


def test_arguments_of_a_set():
    with pytest.raises(ArgumentError, match="pictures: got an id twice"):
        BoxSet([picture(), picture()], ["thing"], name="x")
    with pytest.raises(ArgumentError, match="class_names: got none"):
        BoxSet([], [], name="x")
    with pytest.raises(ArgumentError, match="category_ids: got 1 ids; expected 2"):
        BoxSet([], ["a", "b"], name="x", category_ids=[4, 4])
    with pytest.raises(ArgumentError, match=r"frequency: got .*; expected 1 of 'r', 'c', 'f'"):
        BoxSet([], ["a"], name="x", frequency=["rare"])
    with pytest.raises(ArgumentError, match="style: got 'lvs'; did you mean 'lvis'"):
        BoxSet([], ["a"], name="x", style="lvs")
    assert BoxSet([], ["a"], name="x").counts.tolist() == [0]
    assert BoxSet([], ["a"], name="x").coco()["images"] == []


def test_counts_are_those_of_boxes_trained_on():
    labels = [[1, 1, 3], [], [3], [1, 2]]
    boxes = labelled(labels, 4)
    assert boxes.counts.tolist() == [[n for own in labels for n in own].count(c) for c in range(1, 5)]
    assert boxes.image_counts.tolist() == [sum(c in own for own in labels) for c in range(1, 5)]
    first = Picture(**{**vars(boxes[0]), "crowd": torch.tensor([True, False, True])})
    again = BoxSet([first, *boxes.pictures[1:]], boxes.class_names, name="x")
    assert again.counts.tolist() == [2, 1, 1, 0]
    assert again.image_counts.tolist() == [2, 1, 1, 0]


def test_a_subset_keeps_ids_and_its_kind():
    class Painted(BoxSet):
        composed = True

        def image(self, index):
            return torch.full((3, 8, 8), self[index].id)

    whole = labelled([[1], [2], [2, 1]], 2)
    some = Painted(whole.pictures, whole.class_names, name="painted").subset(torch.tensor([2, 1]))
    assert isinstance(some, Painted)
    assert [p.id for p in some] == [2, 1]
    assert int(some.image(0)[0, 0, 0]) == 2
    assert some.counts.tolist() == [1, 2]
    assert (whole.counts.tolist(), whole.composed, some.composed) == ([2, 2], False, True)


class Rows(Dataset):
    def __init__(self, boxes):
        self.boxes = boxes

    def __len__(self):
        return len(self.boxes)

    def __getitem__(self, index):
        return self.boxes.image(index), self.boxes[index].boxes


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_set_travels_to_workers(coco, tmp_path, context):
    boxes = read_coco(coco(), tmp_path / "images")
    loader = DataLoader(
        Rows(boxes), batch_size=None, num_workers=1, multiprocessing_context=context, timeout=120
    )
    for index, (pixels, corners) in enumerate(loader):
        assert torch.equal(pixels, boxes.image(index))
        assert torch.equal(corners, boxes[index].boxes)
    # A picture's tensors are views: alone it does not take those of the whole file with it.
    many = BoxSet([picture()], ["thing"], name="x")
    large = torch.zeros(100_000, 4)
    large[0] = torch.tensor([1.0, 2, 3, 4])
    alone = picture(boxes=large[:1])
    assert len(pickle.dumps(alone)) < 10_000
    assert torch.equal(pickle.loads(pickle.dumps(many))[0].boxes, many[0].boxes)


def test_the_fingerprint_changes_with_boxes_and_files(coco, tmp_path):
    path = coco()
    images = tmp_path / "images"
    first = read_coco(path, images).fingerprint()
    assert read_coco(path, images).fingerprint() == first
    assert read_coco(path, images).subset([0, 1]).fingerprint() != first
    moved = BoxSet(
        [Picture(**{**vars(p), "boxes": p.boxes * 0.5, "written": None}) for p in read_coco(path, images)],
        ["dog", "cat"],
        name="x",
        category_ids=[7, 2],
        root=images,
    )
    assert moved.fingerprint() != first
    assert read_coco(path, images).with_frequency(["r", "f"]).fingerprint() != first
    shutil.copy(images / "3.png", images / "9.png")
    os.utime(images / "9.png", (time.time() + 5,) * 2)
    assert read_coco(path, images).fingerprint() != first


def test_the_fingerprint_changes_with_what_is_scored_against():
    # Both boxes end beyond the border and are cut to the same.
    box = {"boxes": torch.tensor([[1.0, 2, 40, 30]])}
    far, farther = (torch.tensor([[1.0, 2, side, 99]]).double() for side in (50, 60))
    sets = [BoxSet([picture(**box, written=w)], ["thing"], name="x") for w in (far, farther, None)]
    assert len({boxes.fingerprint() for boxes in sets}) == 3


def test_boxes_changed_without_what_is_scored_are_told():
    def boxes(**changes):
        return BoxSet([picture(file="b.png", id=2), picture(**changes)], ["thing"], name="x")

    written = torch.tensor([[-9.0, 2, 12, 99]]).double()
    assert (
        boxes(boxes=torch.tensor([[0.0, 2, 3, 30]]), written=written).coco()["annotations"][1]["bbox"][0]
        == -9
    )
    told = r"boxes: got \[1.0, 2.0, 3.0, 4.0\] in a\.png; expected the box that its `written` says"
    with pytest.raises(ArgumentError, match=told):
        boxes(written=written)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"crowd": torch.tensor([1], dtype=torch.uint8)},
            r"crowd: got shape \(1,\), torch.uint8 in a.png; expected shape \(1,\), torch.bool",
        ),
        (
            {"labels": torch.tensor([1, 1])},
            r"labels: got shape \(2,\), torch.int64 in a.png; expected shape \(1,\)",
        ),
        ({"labels": torch.tensor([1.0])}, "labels: got .*torch.float32 .*torch.int64"),
        ({"ids": torch.tensor([1], dtype=torch.int32)}, "ids: got"),
        ({"areas": torch.zeros(0)}, "areas: got"),
        ({"areas": torch.tensor([4])}, "areas: got"),
        ({"boxes": torch.zeros(1, 4).double()}, "boxes: got"),
        ({"boxes": torch.zeros(1, 5)}, "boxes: got"),
        ({"written": torch.zeros(1, 4)}, "written: got"),
        ({"written": torch.zeros(2, 4).double()}, "written: got"),
    ],
)
def test_columns_of_another_length_or_dtype(changes, told):
    with pytest.raises(ArgumentError, match=told):
        picture(**changes)


def test_groups_that_are_not_one_a_class():
    boxes = BoxSet([picture()], ["thing"], name="x")
    assert boxes.with_frequency(["c"]).frequency == ("c",)
    assert boxes.with_frequency(None).frequency is None
    for wrong in (["r", "c"], [], ["rare"]):
        with pytest.raises(ArgumentError, match=r"frequency: got .*; expected 1 of 'r', 'c', 'f'"):
            boxes.with_frequency(wrong)


def test_an_image_too_large_to_be_one_is_a_line(tmp_path, monkeypatch, paint):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = paint(tmp_path / "a.png", (40, 30))
    with pytest.raises(ArgumentError, match=r"image 1 .*a\.png\) cannot be read"):
        one(tmp_path).image(0)
    with pytest.raises(ArgumentError, match=r"images: .*a\.png cannot be read: Image size"):
        stored_size(path)
    with pytest.raises(ArgumentError, match="cannot be read: embedded null"):
        stored_size(tmp_path / "a\x00.png")
