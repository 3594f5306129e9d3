import contextlib
import copy
import io
import json
import math
import tracemalloc
from collections import Counter

import pytest
import torch
from PIL import Image

from bisector.data.boxes import read_coco
from bisector.detection.evaluation import Detections, evaluate_boxes
from bisector.errors import ArgumentError


def annotation(**changes):
    return {"id": 11, "image_id": 3, "category_id": 7, "bbox": [2, 3, 10, 5], "area": 50, **changes}


def pycoco(path):
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    with contextlib.redirect_stdout(io.StringIO()):
        return coco.COCO(str(path))


def test_a_small_file(coco, tmp_path):
    boxes = read_coco(coco(), tmp_path / "images")
    assert [p.id for p in boxes] == [5, 3, 9]
    assert (boxes.style, boxes.class_names, boxes.category_ids) == ("coco", ("dog", "cat"), (7, 2))
    first, second, third = boxes
    assert first.boxes.tolist() == [[1.5, 1.25, 4.5, 5.25]]
    assert (second.boxes.tolist(), second.labels.tolist()) == ([[2, 3, 12, 8], [0, 0, 40, 30]], [1, 2])
    assert (second.crowd.tolist(), second.areas.tolist()) == ([False, True], [31.5, 900])
    assert (third.boxes.shape, third.labels.shape, third.file) == ((0, 4), (0,), "9.png")
    assert (boxes.counts.tolist(), boxes.image_counts.tolist()) == ([1, 1], [1, 1])
    assert boxes.image(2)[:, 0, 0].tolist() == [9, 0, 255]
    assert boxes.left_out == ()


@pytest.mark.parametrize("part", ["train", "val"])
def test_the_real_files_are_read_as_pycocotools_does(real_data, part):
    folder = real_data / "coco128"
    if not folder.is_dir():
        pytest.skip("no coco128 in the folder of real data")
    path = folder / f"instances_{part}2017.json"
    boxes, index = read_coco(path, folder / f"{part}2017"), pycoco(path)
    assert len(boxes) == len(index.imgs) == 128
    assert dict(zip(boxes.category_ids, boxes.class_names, strict=True)) == {
        i: c["name"] for i, c in index.cats.items()
    }
    for picture in boxes:
        record = index.imgs[picture.id]
        assert (picture.width, picture.height) == (record["width"], record["height"])
        own = index.loadAnns(index.getAnnIds(imgIds=picture.id))
        assert picture.ids.tolist() == [a["id"] for a in own]
        assert [boxes.category_ids[label - 1] for label in picture.labels] == [a["category_id"] for a in own]
        for box, found in zip(own, picture.boxes.tolist(), strict=True):
            x, y, width, height = box["bbox"]
            assert found == pytest.approx([x, y, x + width, y + height], abs=1e-4)
    for category, count, images in zip(boxes.category_ids, boxes.counts, boxes.image_counts, strict=True):
        assert len(index.getAnnIds(catIds=category)) == count
        assert len(index.getImgIds(catIds=category)) == images
    for number in (0, 60, 127):
        assert boxes.image(number).shape == (3, boxes[number].height, boxes[number].width)


@pytest.mark.parametrize(
    "name", ["coco128/instances_train2017.json", "coco128/instances_val2017.json", "lvis/lvis_val_100.json"]
)
def test_what_is_scored_against_is_the_file(real_data, name):
    if not (real_data / name).exists():
        pytest.skip(f"no {name} in the folder of real data")
    content = json.loads((real_data / name).read_text())
    found = read_coco(real_data / name).coco()
    assert [i["id"] for i in found["images"]] == [i["id"] for i in content["images"]]
    for kind in ("neg_category_ids", "not_exhaustive_category_ids"):
        assert [i.get(kind) for i in found["images"]] == [i.get(kind) for i in content["images"]]
    for key in ("id", "name", "frequency"):
        assert [c.get(key) for c in found["categories"]] == [c.get(key) for c in content["categories"]]
    expected = {a["id"]: a for a in content["annotations"]}
    assert len(found["annotations"]) == len(expected)
    for one in found["annotations"]:
        other = expected[one["id"]]
        assert (one["bbox"], one["category_id"], one["image_id"]) == (
            other["bbox"],
            other["category_id"],
            other["image_id"],
        )
        assert one["area"] == other["area"]
        assert one["iscrowd"] == other.get("iscrowd", 0)


def test_lvis_is_read_as_its_package_does(real_data):
    lvis = pytest.importorskip("lvis", exc_type=ImportError)
    path = real_data / "lvis" / "lvis_val_100.json"
    if not path.exists():
        pytest.skip("no lvis in the folder of real data")
    index, boxes = lvis.LVIS(str(path)), read_coco(path)
    assert (boxes.style, len(boxes), int(boxes.counts.sum())) == ("lvis", 100, 977)
    assert boxes.frequency == tuple(index.cats[i]["frequency"] for i in boxes.category_ids)
    for category, count, images in zip(boxes.category_ids, boxes.counts, boxes.image_counts, strict=True):
        assert count == sum(a["category_id"] == category for a in index.anns.values())
        assert images == len(set(index.cat_img_map[category]))
    for picture in boxes:
        record = index.imgs[picture.id]
        assert [boxes.category_ids[n - 1] for n in picture.negative] == record["neg_category_ids"]
        assert [boxes.category_ids[n - 1] for n in picture.not_exhaustive] == record[
            "not_exhaustive_category_ids"
        ]
        assert picture.file == "/".join(record["coco_url"].split("/")[-2:])
        assert sorted(picture.ids.tolist()) == sorted(index.get_ann_ids(img_ids=[picture.id]))


BAD = [
    ([-4, 3, 10, 5], [0, 3, 6, 8], "boxes that reach outside their image, cut at its border: 1"),
    ([35, 25, 10, 10], [35, 25, 40, 30], "cut at its border: 1"),
    ([-0.5, 0, 41, 30.4], [0, 0, 40, 30], None),  # rounding
    ([2, 3, 0, 5], None, "boxes without area, left out: 1"),
    ([2, 3, -4, 5], None, "boxes without area, left out: 1"),
    ([50, 3, 4, 5], None, "boxes outside their image, left out: 1"),
    ([-9, 3, 9, 5], None, "boxes outside their image, left out: 1"),
    ([2, 1e9, 1e-9, 5], None, "left out: 1"),
    ([30, 3, 1e-9, 5], None, "left out: 1"),  # flat in 32 bits
    ([2, 3, math.nan, 5], None, "boxes that are no four finite numbers, left out: 1"),
    ([2, 3, math.inf, 5], None, "no four finite numbers"),
    ([2, 3, 4], None, "no four finite numbers"),
    ([], None, "no four finite numbers"),
    (None, None, "no four finite numbers"),
    ("2 3 4 5", None, "no four finite numbers"),
    ([2, 3, None, 5], None, "no four finite numbers"),
    ([2, 3, 10**400, 5], None, "no four finite numbers"),
]


@pytest.mark.parametrize(("box", "expected", "told"), BAD)
def test_each_bad_box_is_cut_or_left_out_and_told(coco, box, expected, told):
    path = coco(annotations=[annotation(), annotation(id=21, bbox=box), annotation(id=31)])
    boxes = read_coco(path)
    found = boxes[1]
    assert found.ids.tolist() == ([11, 21, 31] if expected else [11, 31])
    if expected:
        assert found.boxes[1].tolist() == pytest.approx(expected)
    lines = [f"instances_train.json: {line}" for line in [told] if told]
    assert len(boxes.left_out) == len(lines)
    for line in boxes.left_out:
        assert told in line
        assert line.endswith("; the first: annotation 21 (3.png)")


def test_faults_are_counted_by_kind(coco):
    bad = [annotation(id=20 + i, bbox=[1, 1, 0, 0]) for i in range(5)] + [
        annotation(id=30, bbox=[90, 1, 2, 2])
    ]
    assert read_coco(coco(annotations=bad)).left_out == (
        "instances_train.json: boxes without area, left out: 5; the first: annotation 20 (3.png)",
        "instances_train.json: boxes outside their image, left out: 1; the first: annotation 30 (3.png)",
    )


def test_an_annotation_of_no_image_and_ids_that_are_not_one(coco):
    path = coco(
        annotations=[
            annotation(id=4, image_id=77),
            annotation(id=4),
            annotation(id=4, image_id=5),
            annotation(id=0),
            {k: v for k, v in annotation().items() if k != "id"},
            annotation(id="8", image_id="9"),
        ]
    )
    boxes = read_coco(path)
    assert boxes.left_out == (
        "instances_train.json: boxes of an image that is not in the file, left out: 1; "
        "the first: annotation 4 (image 77)",
        "instances_train.json: boxes without an id above 0 of their own, numbered anew: 3; "
        "the first: annotation 4 (image 5)",
    )
    ids = torch.cat([p.ids for p in boxes]).tolist()
    assert Counter(ids).most_common(1)[0][1] == 1
    assert len(ids) == 5
    assert min(ids) > 0
    assert {4, 8} < set(ids)


@pytest.mark.parametrize("category", [99, "x", None, [7], True, 7.5])
def test_an_unknown_category_names_file_and_annotation(coco, category):
    with pytest.raises(
        ArgumentError,
        match=r"instances_train\.json: annotation 21 \(image 3\) is of category .*does not list",
    ):
        read_coco(coco(annotations=[annotation(), annotation(id=21, category_id=category)]))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is no json file"),
        ("{", "is no json file"),
        ("[" * 100_000, "is no json file"),
        ("[]", "it holds a list, not an object"),
        ("3", "it holds a int, not an object"),
        ('{"images": [], "annotations": []}', "it has no 'categories'"),
        ('{"images": {}, "annotations": [], "categories": []}', "its 'images' are no list of objects"),
        ('{"images": [3], "annotations": [], "categories": []}', "its 'images' are no list of objects"),
        ('{"images": [], "annotations": [], "categories": []}', "it has no categories"),
        ('{"images": [{}], "annotations": [], "categories": [{"id": 1}]}', "image id None is no integer"),
        ('{"images": [], "annotations": [], "categories": [{"id": "x"}]}', "category id 'x' is no integer"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 4}, {"id": 4}]}',
            "category id 4 is there twice",
        ),
        (
            '{"images": [{"id": 1, "width": 0, "file_name": "a"}], "annotations": [], "categories": [{"id": 1}]}',
            r"image 1 \(a\) is 0 x None pixels",
        ),
    ],
)
def test_a_file_that_is_no_coco_file_is_one_line(tmp_path, text, told):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=told) as raised:
        read_coco(path)
    assert "\n" not in str(raised.value)
    assert "x.json" in str(raised.value)


def test_more_that_is_wrong_with_a_file(coco, tmp_path):
    with pytest.raises(ArgumentError, match=r"data: no file .*none\.json"):
        read_coco(tmp_path / "none.json")
    with pytest.raises(ArgumentError, match="cannot be read: Is a directory"):
        read_coco(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ArgumentError, match="is no json file"):
        read_coco(tmp_path / "binary.json")
    image = {"id": 5, "file_name": "5.png", "width": 40, "height": 30}
    with pytest.raises(ArgumentError, match="image id 5 is there twice"):
        read_coco(coco(images=[image, {**image, "file_name": "6.png"}], annotations=[]))
    images = [{**image, "id": 3, "neg_category_ids": [12]}]
    with pytest.raises(ArgumentError, match=r"instances_train\.json: image 3 names category 12 in neg_cat"):
        read_coco(coco(images=images, annotations=[]))


def test_missing_image_files(coco, tmp_path):
    path = coco()
    (tmp_path / "images" / "3.png").unlink()
    (tmp_path / "images" / "9.png").unlink()
    with pytest.raises(
        ArgumentError,
        match=r"images: 2 of 3 files are missing in .*images: 3\.png \(image 3\), 9\.png \(image 9\); exp",
    ):
        read_coco(path, tmp_path / "images")
    boxes = read_coco(path, tmp_path / "images", skip_missing=True)
    assert [p.id for p in boxes] == [5]
    assert boxes.left_out == (
        "instances_train.json: images without a file, left out: 2; the first: 3.png (image 3)",
    )
    (tmp_path / "images" / "5.png").unlink()
    for skip in (False, True):
        with pytest.raises(ArgumentError, match=r"3 of 3 files .*5\.png .*3\.png .*9\.png \(image 9\);"):
            read_coco(path, tmp_path / "images", skip_missing=skip)
    many = [{"id": i, "file_name": f"{i}.png", "width": 9, "height": 9} for i in range(1, 9)]
    with pytest.raises(
        ArgumentError, match=r"8 of 8 files .*: 1\.png .*2\.png .*3\.png \(image 3\), \.\.\.;"
    ):
        read_coco(coco(images=many, annotations=[], draw=False), tmp_path)
    assert len(read_coco(path)) == 8  # boxes alone need no images


def test_sizes_that_the_file_lacks_are_those_of_the_image(coco, tmp_path):
    images = [{"id": 3, "file_name": "3.png"}]
    boxes = read_coco(coco(images=images, annotations=[annotation()]), tmp_path / "images")
    assert (boxes[0].width, boxes[0].height) == (40, 30)


def test_images_are_found_by_every_name_they_have(coco, tmp_path):
    image = {"width": 40, "height": 30}
    images = [
        {"id": 1, "file_name": "C:\\data\\1.png", **image},
        {"id": 2, "file_name": "deep/er/2.png", **image},
        {"id": 3, "coco_url": "http://x.org/part/3.png", **image},
        {"id": 4, "file_name": "a/same.png", **image},
        {"id": 5, "file_name": "b/same.png", **image},
    ]
    path = coco(images=images, annotations=[], draw=False)
    for name in ("1.png", "deep/er/2.png", "part/3.png", "a/same.png", "b/same.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    files = [p.file for p in read_coco(path, tmp_path / "images")]
    assert files == ["1.png", "deep/er/2.png", "part/3.png", "a/same.png", "b/same.png"]
    # A name that two images have is not taken for either of them.
    (tmp_path / "images" / "a" / "same.png").rename(tmp_path / "images" / "same.png")
    with pytest.raises(ArgumentError, match=r"1 of 5 files are missing in .*: a/same\.png"):
        read_coco(path, tmp_path / "images")


def test_areas_that_the_file_lacks_are_those_of_the_box(coco):
    odd = [annotation(id=i, area=area) for i, area in ((1, None), (2, "x"), (3, math.nan), (4, -1), (5, 7.5))]
    odd.append(annotation(id=10**30, area=10**400))
    odd.append({k: v for k, v in annotation(id=6).items() if k != "area"})
    assert read_coco(coco(annotations=odd))[1].areas.tolist() == [50, 50, 50, 50, 7.5, 50, 50]


def test_a_frequency_alone_does_not_make_a_file_lvis(coco):
    categories = [{"id": 7, "name": "dog", "frequency": "f"}, {"id": 2, "name": "cat", "frequency": "r"}]
    boxes = read_coco(coco(categories=categories))
    # Scored by LVIS's rules nothing would count in an image that names no absent class.
    assert (boxes.style, boxes.frequency) == ("coco", ("f", "r"))
    images = [{"id": 3, "file_name": "3.png", "width": 40, "height": 30, "neg_category_ids": [2]}]
    boxes = read_coco(coco(categories=categories, images=images, annotations=[annotation()]))
    assert (boxes.style, boxes[0].negative) == ("lvis", (2,))


@pytest.mark.parametrize(
    ("letters", "told"),
    [
        (("f", "r"), ()),
        (("f", None), ("1; the first: category 2 (cat)",)),
        (("x", None), ("2; the first: category 7 (dog)",)),
        ((None, None), ("2; the first: category 7 (dog)",)),
    ],
)
def test_lvis_without_letters_is_lvis_all_the_same(coco, letters, told):
    image = {"id": 3, "file_name": "3.png", "width": 40, "height": 30}
    categories = [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}]
    for category, letter in zip(categories, letters, strict=True):
        category.update({} if letter is None else {"frequency": letter})
    lvis = {**image, "neg_category_ids": [2]}
    boxes = read_coco(coco(categories=categories, images=[lvis], annotations=[annotation()]))
    assert (boxes.style, boxes.frequency) == ("lvis", None if told else letters)
    assert boxes.coco()["images"][0]["neg_category_ids"] == [2]
    start = "instances_train.json: categories without a frequency of r, c or f; groups are by the training images: "
    assert boxes.left_out == tuple(start + line for line in told)
    # A file of COCO has no letters, and that is nothing to tell.
    plain = read_coco(coco(categories=categories, images=[image], annotations=[annotation()]))
    assert plain.style == "coco"
    assert plain.left_out == (boxes.left_out if "f" in letters else ())


def test_a_set_that_is_scored_against_keeps_every_image(coco, tmp_path):
    images = [
        {"id": 3, "file_name": "3.png", "width": 40, "height": 30},
        {"id": 4, "coco_url": "http://x.org/part/4.png", "width": 40, "height": 30},
    ]
    path = coco(images=images, annotations=[annotation()], draw=False)
    folder = tmp_path / "images"
    folder.mkdir()
    for files in ((), ("3.png",), ("3.png", "4.png")):
        for file in files:
            Image.new("RGB", (40, 30)).save(folder / file)
        for skip in (False, True):
            boxes = read_coco(path, folder, need_images=False, skip_missing=skip)
            assert [(p.id, len(p.labels)) for p in boxes] == [(3, 1), (4, 0)]
            assert boxes.left_out == ()
            assert [p.file for p in boxes] == ["3.png", "4.png" if len(files) == 2 else "part/4.png"]
    assert boxes.image(0).shape == (3, 30, 40)


def test_masks_are_let_go_of_while_they_are_parsed(coco):
    mask = {"segmentation": [[1.5] * 2000], "keypoints": [1, 2, 3] * 17}
    path = coco(annotations=[annotation(id=i, **mask) for i in range(1, 501)])
    tracemalloc.start()
    boxes = read_coco(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(boxes[1].labels) == 500
    assert peak < 3 * path.stat().st_size  # bytes and text; the numbers would take five times as much


@pytest.mark.parametrize("field", ["neg_category_ids", "not_exhaustive_category_ids"])
@pytest.mark.parametrize("value", [5, "7", {"7": 1}, 0, True])
def test_categories_of_an_image_that_are_no_list(coco, field, value):
    images = [{"id": 3, "file_name": "3.png", "width": 40, "height": 30, field: value}]
    with pytest.raises(
        ArgumentError,
        match=rf"instances_train\.json: image 3 has {field} .*; expected a list of category ids",
    ):
        read_coco(coco(images=images, annotations=[]))


def test_a_file_may_have_many_classes(coco):
    categories = [{"id": i, "name": f"c{i}"} for i in range(60_000, 0, -1)]
    assert read_coco(coco(categories=categories)).category_ids[:2] == (60_000, 59_999)


def test_a_file_may_begin_with_a_mark_of_its_encoding(coco):
    path = coco(categories=[{"id": 7, "name": "dög"}, {"id": 2, "name": "cat"}])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_coco(path).class_names == ("dög", "cat")


def test_the_classes_of_another_part(coco):
    train = read_coco(coco())
    other = [{"id": 2, "name": "cat"}, {"id": 7, "name": "dog"}]
    cat = read_coco(coco("val.json", categories=other), train=train)
    assert (cat.class_names, cat.category_ids) == (train.class_names, train.category_ids)
    assert [p.labels.tolist() for p in cat] == [p.labels.tolist() for p in train]
    alone = coco("val.json", categories=other[:1], annotations=[annotation(category_id=2)])
    assert read_coco(alone, train=train)[1].labels.tolist() == [2]
    for bad, has in (({"id": 2, "name": "cow"}, "'cat'"), ({"id": 3, "name": "cow"}, "none")):
        path = coco("val.json", categories=[bad], annotations=[])
        with pytest.raises(
            ArgumentError, match=rf"val\.json: category {bad['id']} is 'cow', and {has} in instances_train"
        ):
            read_coco(path, train=train)


def test_nothing_given_is_changed(coco):
    path = coco()
    before = copy.deepcopy(json.loads(path.read_text()))
    read_coco(path)
    assert json.loads(path.read_text()) == before


def scored(path, found):
    """AP by this reader and by pycocotools, of detections `(image, [x, y, w, h], score)` of category 7."""
    evaluator = pytest.importorskip("pycocotools.cocoeval", reason="pycocotools is not installed").COCOeval
    boxes = read_coco(path)
    of = {}
    for image, (x, y, width, height), score in found:
        of.setdefault(image, []).append(([x, y, x + width, y + height], score))
    ours = [
        Detections(
            image,
            torch.tensor([box for box, _ in some], dtype=torch.float32),
            torch.full((len(some),), 1 + boxes.category_ids.index(7)),
            torch.tensor([score for _, score in some]),
        )
        for image, some in of.items()
    ]
    index = pycoco(path)
    records = [
        {"image_id": image, "category_id": 7, "bbox": box, "score": score} for image, box, score in found
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = evaluator(index, index.loadRes(records), "bbox")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    return evaluate_boxes(boxes, ours).ap, theirs.stats[0]


@pytest.mark.parametrize(
    ("value", "crowd"),
    [
        (0, False),
        (1, True),
        (True, True),
        (False, False),
        (0.0, False),
        (1.0, True),
        ("1", True),
        (2, True),
        ("2", True),
    ],
)
def test_a_crowd_is_what_it_is_to_pycocotools(coco, value, crowd):
    """A detection within a crowd is neither right nor wrong; without, it is the surest and wrong."""
    there = annotation(iscrowd=0, bbox=[0, 0, 8, 8])
    path = coco(annotations=[there, annotation(id=12, bbox=[20, 10, 20, 20], area=400, iscrowd=value)])
    ours, theirs = scored(path, [(3, [0, 0, 8, 8], 0.9), (3, [22, 12, 8, 8], 0.95)])
    assert ours == pytest.approx(theirs, abs=1e-12)
    assert ours == pytest.approx(1.0 if crowd else 0.2524752475247525)


@pytest.mark.parametrize(
    ("value", "crowd"),
    [
        ("true", True),
        ("True", True),
        (" 1 ", True),
        ("1.0", True),
        ("0", False),
        ("false", False),
        ("", False),
        (None, False),
    ],
)
def test_a_crowd_said_in_words(coco, value, crowd):
    # Pycocotools takes none of them but "0", of which it makes half a crowd.
    boxes = read_coco(coco(annotations=[annotation(iscrowd=value)]))
    assert (boxes[1].crowd.tolist(), boxes.counts.tolist()) == ([crowd], [int(not crowd), 0])


@pytest.mark.parametrize("value", ["maybe", 0.5, -1, [1], {}, math.nan, math.inf, "1,0"])
def test_a_crowd_that_is_no_flag_is_refused(coco, value):
    with pytest.raises(ArgumentError) as raised:
        read_coco(coco(annotations=[annotation(), annotation(id=21, iscrowd=value)]))
    assert str(raised.value) == (
        f"instances_train.json: annotation 21 (image 3) has iscrowd {value!r}; expected 0, 1, true or false"
    )


@pytest.mark.parametrize("value", [1, True, "1", "true", 0, "0", False, None, "perhaps"])
def test_ignore_counts_for_nothing_as_in_pycocotools_and_is_told(coco, value):
    there = annotation(iscrowd=0, bbox=[0, 0, 8, 8])
    path = coco(
        annotations=[there, annotation(id=12, bbox=[20, 10, 20, 20], area=400, iscrowd=0, ignore=value)]
    )
    ours, theirs = scored(path, [(3, [0, 0, 8, 8], 0.9), (3, [22, 12, 8, 8], 0.95)])
    assert ours == pytest.approx(theirs, abs=1e-12)
    told = "boxes marked `ignore`, kept: COCO's rule looks at `iscrowd` alone: 1; the first: annotation 12"
    expected = (f"instances_train.json: {told} (image 3)",) if value in (1, "1", "true") else ()
    assert read_coco(path).left_out == expected


def test_ids_however_they_are_written(coco):
    images = [{"id": own, "file_name": f"{own}.png", "width": 40, "height": 30} for own in ("b2", "3", 9.0)]
    path = coco(
        images=images,
        draw=False,
        categories=[{"id": "7", "name": "dog"}, {"id": 2.0, "name": "cat"}],
        annotations=[
            annotation(id=1, image_id="b2", category_id=7),
            annotation(id=2, image_id=3, category_id="2"),
            annotation(id=3, image_id="9", category_id=7.0),
        ],
    )
    boxes = read_coco(path)
    assert ([p.id for p in boxes], boxes.category_ids) == (["b2", 3, 9], (7, 2))
    assert [p.labels.tolist() for p in boxes] == [[1], [2], [1]]
    assert boxes.left_out == ()
    assert all(type(category) is int for category in boxes.category_ids)


def test_images_of_texts_are_scored_as_pycocotools_scores_them(coco):
    # Two equal scores in two images: which is looked at first is the order of the ids, "a" before "b".
    images = [{"id": own, "file_name": f"{own}.png", "width": 40, "height": 30} for own in ("b", "a")]
    path = coco(images=images, draw=False, annotations=[annotation(image_id="b", iscrowd=0)])
    for image in "ab":
        found = [(image, [2, 3, 10, 5], 0.5), ("ab".replace(image, ""), [2, 3, 4, 4], 0.5)]
        ours, theirs = scored(path, found)
        assert ours == pytest.approx(theirs, abs=1e-12)
    assert 0 < ours < 1


MASKS = [
    [[2, 3, 12, 3, 12.5, 8.25]],
    [[2, 3, 12, 3, 12, 8], [1, 14, 9, 14, 9, 25, 1, 25]],
    [2, 3, 12, 3, 12, 8],
    {"size": [30, 40], "counts": [65, 4, 26, 4, 1101]},
]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("missing", ["absent", None, []])
def test_a_box_that_is_missing_is_that_of_the_mask(coco, mask, missing):
    masks = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    own = annotation(segmentation=mask, bbox=missing)
    if missing == "absent":
        del own["bbox"]
    boxes = read_coco(coco(annotations=[own]))
    found = boxes[1].boxes[0]
    rle = masks.frPyObjects(mask if isinstance(mask, dict) or isinstance(mask[0], list) else [mask], 30, 40)
    pixels = torch.from_numpy(masks.decode(rle)).reshape(30, 40, -1).any(2).nonzero()
    (top, left), (bottom, right) = pixels.min(0).values.tolist(), (pixels.max(0).values + 1).tolist()
    # A polygon goes along the border of its pixels, give or take one.
    slack = 0 if isinstance(mask, dict) else 1
    assert found.tolist() == pytest.approx([left, top, right, bottom], abs=slack)
    told = (
        "boxes without a bbox, which is taken from their segmentation: 1; the first: annotation 11 (image 3)"
    )
    assert boxes.left_out == (f"instances_train.json: {told}",)
    if isinstance(mask, dict):
        packed = masks.frPyObjects(mask, 30, 40)
        other = {"size": packed["size"], "counts": packed["counts"].decode()}
        del own["segmentation"]
        again = read_coco(coco(annotations=[{**own, "segmentation": other}]))
        assert again[1].boxes.equal(boxes[1].boxes)


@pytest.mark.parametrize(
    "mask",
    [
        "x", 5, [5], [[1, 2, 3]], [["a", 1, 2, 3]], [[math.nan, 1, 2, 3]], {}, {"size": [0, 0], "counts": [9]},
        {"size": [30], "counts": []}, {"size": [30, 40], "counts": "\u00ff"}, {"size": [30, 40], "counts": [-1, 5]},
        {"size": [30, 40], "counts": ["x"]}, {"counts": [3]},
    ],
)  # fmt: skip
def test_a_mask_that_is_none_is_no_box(coco, mask):
    own = {key: value for key, value in annotation(segmentation=mask).items() if key != "bbox"}
    boxes = read_coco(coco(annotations=[own, annotation(id=12)]))
    assert boxes[1].ids.tolist() == [12]
    assert len(boxes.left_out) >= 1


def test_names_of_classes_that_are_none_or_the_same(coco):
    given = ("crane", "dog", "crane", None, "")
    categories = [{"id": 10 * k + 7, "name": name} for k, name in enumerate(given)] + [{"id": 5}]
    train = read_coco(
        coco(categories=categories, annotations=[annotation(), annotation(id=12, category_id=27)])
    )
    assert train.class_names == ("crane (7)", "dog", "crane (27)", "37", "47", "5")
    assert train.counts.tolist() == [1, 0, 1, 0, 0, 0]
    # Another file may have one of the two alone.
    alone = coco("val.json", categories=categories[2:3], annotations=[annotation(category_id=27)])
    assert read_coco(alone, train=train)[1].labels.tolist() == [3]
    other = coco("val.json", categories=[{"id": 27, "name": "dog"}], annotations=[])
    with pytest.raises(ArgumentError, match=r"category 27 is 'dog', and 'crane \(27\)' in"):
        read_coco(other, train=train)


@pytest.mark.parametrize("text", ["\\ud800", "a\\uDFFFb"])
def test_half_a_character_can_be_printed(coco, text):
    path = coco(
        categories=[{"id": 7, "name": "dog"}, {"id": 2, "name": "cat 🐈"}],
        images=[{"id": "NAME", "file_name": "NAME", "width": 40, "height": 30}],
        annotations=[],
        draw=False,
    )
    path.write_text(path.read_text().replace("NAME", text).replace("dog", text))
    boxes = read_coco(path)
    assert all("?" in told for told in (boxes.class_names[0], boxes[0].id, boxes[0].file))
    assert boxes.class_names[1] == "cat 🐈"


@pytest.mark.parametrize("text", ["9" * 5000, '{"images": [{"id": %s}]}' % ("9" * 5000), '{"a": ' * 100_000])
def test_numbers_and_brackets_without_end_are_one_line(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ArgumentError, match=r"x\.json is no json file") as raised:
        read_coco(tmp_path / "x.json")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_a_file_may_be_in_any_encoding_of_json(coco, encoding):
    path = coco(categories=[{"id": 7, "name": "dög"}, {"id": 2, "name": "cat"}])
    path.write_bytes(path.read_text().encode(encoding))
    assert read_coco(path).class_names == ("dög", "cat")
