"""COCO and LVIS files: as pycocotools and the lvis package read them, and what is told of those that are odd."""

import json
import math
import tracemalloc

import pytest
import torch
from PIL import Image

from bisector.data.boxes import read_coco
from bisector.detection.evaluation import Detections, evaluate_boxes
from bisector.errors import ArgumentError
from coco_peers import pycocotools_evaluation, pycocotools_index

START = "instances_train.json: "
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}]


def annotation(**changes):
    return {"id": 11, "image_id": 3, "category_id": 7, "bbox": [2, 3, 10, 5], "area": 50, **changes}


def image(own=3, **changes):
    return {"id": own, "file_name": f"{own}.png", "width": 40, "height": 30, **changes}


def without(record, key):
    return {name: value for name, value in record.items() if name != key}


def real(real_data, name):
    if not (real_data / name).exists():
        pytest.skip(f"no {name} in the folder of real data")
    return real_data / name


def refused(told, path, *arguments, **options):
    """Read a file that cannot be read: the complaint is one line."""
    with pytest.raises(ArgumentError, match=told) as raised:
        read_coco(path, *arguments, **options)
    assert "\n" not in str(raised.value)


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
    path = real(real_data, f"coco128/instances_{part}2017.json")
    boxes, index = read_coco(path, path.parent / f"{part}2017"), pycocotools_index(path)
    assert len(boxes) == len(index.imgs) == 128
    names = dict(zip(boxes.category_ids, boxes.class_names, strict=True))
    assert names == {i: c["name"] for i, c in index.cats.items()}
    for picture in boxes:
        record = index.imgs[picture.id]
        assert (picture.width, picture.height) == (record["width"], record["height"])
        own = index.loadAnns(index.getAnnIds(imgIds=picture.id))
        assert picture.ids.tolist() == [a["id"] for a in own]
        assert [boxes.category_ids[label - 1] for label in picture.labels] == [a["category_id"] for a in own]
        for (x, y, width, height), found in zip(
            (a["bbox"] for a in own), picture.boxes.tolist(), strict=True
        ):
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
    path = real(real_data, name)
    content, found = json.loads(path.read_text()), read_coco(path).coco()
    of_images, of_classes = (
        ("id", "neg_category_ids", "not_exhaustive_category_ids"),
        ("id", "name", "frequency"),
    )
    for kind, keys in {"images": of_images, "categories": of_classes}.items():
        for key in keys:
            assert [record.get(key) for record in found[kind]] == [
                record.get(key) for record in content[kind]
            ]
    expected = {a["id"]: {"iscrowd": 0, **a} for a in content["annotations"]}
    assert len(found["annotations"]) == len(expected)
    assert all(one == {key: expected[one["id"]][key] for key in one} for one in found["annotations"])


def test_lvis_is_read_as_its_package_does(real_data):
    lvis = pytest.importorskip("lvis", exc_type=ImportError)
    path = real(real_data, "lvis/lvis_val_100.json")
    index, boxes = lvis.LVIS(str(path)), read_coco(path)
    assert (boxes.style, len(boxes), int(boxes.counts.sum())) == ("lvis", 100, 977)
    assert boxes.frequency == tuple(index.cats[i]["frequency"] for i in boxes.category_ids)
    for category, count, images in zip(boxes.category_ids, boxes.counts, boxes.image_counts, strict=True):
        assert count == sum(a["category_id"] == category for a in index.anns.values())
        assert images == len(set(index.cat_img_map[category]))
    for picture in boxes:
        record = index.imgs[picture.id]
        negative, not_exhaustive = (
            [boxes.category_ids[n - 1] for n in labels]
            for labels in (picture.negative, picture.not_exhaustive)
        )
        assert negative == record["neg_category_ids"]
        assert not_exhaustive == record["not_exhaustive_category_ids"]
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
    *(
        (box, None, "no four finite numbers")
        for box in ([2, 3, math.inf, 5], [2, 3, 4], [], None, "2 3 4 5", [2, 3, None, 5], [2, 3, 10**400, 5])
    ),
]


@pytest.mark.parametrize(("box", "expected", "told"), BAD)
def test_each_bad_box_is_cut_or_left_out_and_told(coco, box, expected, told):
    boxes = read_coco(coco(annotations=[annotation(), annotation(id=21, bbox=box), annotation(id=31)]))
    assert boxes[1].ids.tolist() == ([11, 21, 31] if expected else [11, 31])
    if expected:
        assert boxes[1].boxes[1].tolist() == pytest.approx(expected)
    assert len(boxes.left_out) == (told is not None)
    for line in boxes.left_out:
        assert line.startswith(START)
        assert told in line
        assert line.endswith("; the first: annotation 21 (3.png)")


def test_faults_are_counted_by_kind(coco):
    flat = [annotation(id=20 + i, bbox=[1, 1, 0, 0]) for i in range(5)]
    assert read_coco(coco(annotations=[*flat, annotation(id=30, bbox=[90, 1, 2, 2])])).left_out == (
        f"{START}boxes without area, left out: 5; the first: annotation 20 (3.png)",
        f"{START}boxes outside their image, left out: 1; the first: annotation 30 (3.png)",
    )


def test_annotations_of_no_image_and_ids_that_are_none_are_told(coco):
    own = [annotation(id=4, image_id=77), annotation(id=4), annotation(id=4, image_id=5), annotation(id=0)]
    own += [without(annotation(), "id"), annotation(id="8", image_id="9")]
    boxes = read_coco(coco(annotations=own))
    assert boxes.left_out == (
        f"{START}boxes of an image that is not in the file, left out: 1; the first: annotation 4 (image 77)",
        f"{START}boxes without an id above 0 of their own, numbered anew: 3; the first: annotation 4 (image 5)",
    )
    ids = torch.cat([p.ids for p in boxes]).tolist()
    assert len(set(ids)) == len(ids) == 5
    assert min(ids) > 0
    assert {4, 8} < set(ids)


@pytest.mark.parametrize("category", [99, "x", None, [7], True, 7.5])
def test_an_unknown_category_names_file_and_annotation(coco, category):
    told = r"instances_train\.json: annotation 21 \(image 3\) is of category .*does not list"
    refused(told, coco(annotations=[annotation(), annotation(id=21, category_id=category)]))


def lists(images="[]", categories="[]"):
    return f'{{"images": {images}, "annotations": [], "categories": {categories}}}'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        *((text, "is no json file") for text in ("", "{", "[" * 100_000, '{"a": ' * 100_000, "9" * 5000)),
        (b"\xff\xd8\xff", "is no json file"),
        (lists(f'[{{"id": {"9" * 5000}}}]'), "is no json file"),
        ("[]", "it holds a list, not an object"),
        ("3", "it holds a int, not an object"),
        ('{"images": [], "annotations": []}', "it has no 'categories'"),
        (lists("{}"), "its 'images' are no list of objects"),
        (lists("[3]"), "its 'images' are no list of objects"),
        (lists(), "it has no categories"),
        (lists("[{}]", '[{"id": 1}]'), "image id None is no integer"),
        (lists('[{"id": 5}, {"id": 5}]', '[{"id": 1}]'), "image id 5 is there twice"),
        (lists("[]", '[{"id": "x"}]'), "category id 'x' is no integer"),
        (lists("[]", '[{"id": 4}, {"id": 4}]'), "category id 4 is there twice"),
        (lists('[{"id": 1, "width": 0, "file_name": "a"}]', '[{"id": 1}]'), r"image 1 \(a\) is 0 x None pixels"),
        (lists('[{"id": 1, "neg_category_ids": [12], "width": 9, "height": 9}]', '[{"id": 1}]'), "category 12 in"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_coco_file_is_one_line(tmp_path, text, told):
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(rf"x\.json.*{told}", path)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    refused(r"data: no file .*none\.json", tmp_path / "none.json")
    refused("cannot be read: Is a directory", tmp_path)


def test_missing_image_files(coco, tmp_path):
    path, folder = coco(), tmp_path / "images"
    for name in ("3.png", "9.png"):
        (folder / name).unlink()
    refused(
        r"images: 2 of 3 files are missing in .*images: 3\.png \(image 3\), 9\.png \(image 9\); exp",
        path,
        folder,
    )
    boxes = read_coco(path, folder, skip_missing=True)
    assert [p.id for p in boxes] == [5]
    assert boxes.left_out == (f"{START}images without a file, left out: 2; the first: 3.png (image 3)",)
    (folder / "5.png").unlink()
    for skip in (False, True):
        refused(r"3 of 3 files .*5\.png .*3\.png .*9\.png \(image 9\);", path, folder, skip_missing=skip)
    many = coco(images=[image(i) for i in range(1, 9)], annotations=[], draw=False)
    refused(r"8 of 8 files .*: 1\.png .*2\.png .*3\.png \(image 3\), \.\.\.;", many, tmp_path)
    assert len(read_coco(many)) == 8  # boxes alone need no images


def test_sizes_that_the_file_lacks_are_those_of_the_image(coco, tmp_path):
    path = coco(images=[{"id": 3, "file_name": "3.png"}], annotations=[annotation()])
    boxes = read_coco(path, tmp_path / "images")
    assert (boxes[0].width, boxes[0].height) == (40, 30)


def test_images_are_found_by_every_name_they_have(coco, tmp_path):
    names = ["C:\\data\\1.png", "deep/er/2.png", None, "a/same.png", "b/same.png"]
    images = [image(i, file_name=name) for i, name in enumerate(names, 1)]
    images[2]["coco_url"] = "http://x.org/part/3.png"
    path = coco(images=images, annotations=[], draw=False)
    expected, folder = (
        ["1.png", "deep/er/2.png", "part/3.png", "a/same.png", "b/same.png"],
        tmp_path / "images",
    )
    for name in expected:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert [p.file for p in read_coco(path, folder)] == expected
    # A name that two images have is not taken for either of them.
    (folder / "a" / "same.png").rename(folder / "same.png")
    refused(r"1 of 5 files are missing in .*: a/same\.png", path, folder)


def test_areas_that_the_file_lacks_are_those_of_the_box(coco):
    odd = [annotation(id=i, area=area) for i, area in ((1, None), (2, "x"), (3, math.nan), (4, -1), (5, 7.5))]
    odd += [annotation(id=10**30, area=10**400), without(annotation(id=6), "area")]
    assert read_coco(coco(annotations=odd))[1].areas.tolist() == [50, 50, 50, 50, 7.5, 50, 50]


def test_a_frequency_alone_does_not_make_a_file_lvis(coco):
    """Scored by LVIS's rules nothing would count in an image that names no absent class."""
    letters = [{**category, "frequency": f} for category, f in zip(CATEGORIES, "fr", strict=True)]
    boxes = read_coco(coco(categories=letters))
    assert (boxes.style, boxes.frequency) == ("coco", ("f", "r"))
    boxes = read_coco(
        coco(categories=letters, images=[image(neg_category_ids=[2])], annotations=[annotation()])
    )
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
    given = zip(CATEGORIES, letters, strict=True)
    categories = [c if letter is None else {**c, "frequency": letter} for c, letter in given]
    how = {"categories": categories, "annotations": [annotation()]}
    boxes = read_coco(coco(images=[image(neg_category_ids=[2])], **how))
    assert (boxes.style, boxes.frequency) == ("lvis", None if told else letters)
    assert boxes.coco()["images"][0]["neg_category_ids"] == [2]
    fault = "categories without a frequency of r, c or f; groups are by the training images: "
    assert boxes.left_out == tuple(START + fault + line for line in told)
    # A file of COCO has no letters, and that is nothing to tell.
    plain = read_coco(coco(images=[image()], **how))
    assert plain.style == "coco"
    assert plain.left_out == (boxes.left_out if "f" in letters else ())


def test_a_set_that_is_scored_against_keeps_every_image(coco, tmp_path):
    images = [image(), {**without(image(4), "file_name"), "coco_url": "http://x.org/part/4.png"}]
    path, folder = coco(images=images, annotations=[annotation()], draw=False), tmp_path / "images"
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
    told = rf"instances_train\.json: image 3 has {field} .*; expected a list of category ids"
    refused(told, coco(images=[image(**{field: value})], annotations=[]))


def test_a_file_may_have_many_classes(coco):
    categories = [{"id": i, "name": f"c{i}"} for i in range(60_000, 0, -1)]
    assert read_coco(coco(categories=categories)).category_ids[:2] == (60_000, 59_999)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_file_may_be_in_any_encoding_of_json(coco, encoding):
    path = coco(categories=[{"id": 7, "name": "dög"}, {"id": 2, "name": "cat"}])
    path.write_bytes(path.read_text().encode(encoding))
    assert read_coco(path).class_names == ("dög", "cat")


def test_the_classes_of_another_part(coco):
    train = read_coco(coco())
    cat = read_coco(coco("val.json", categories=CATEGORIES[::-1]), train=train)
    assert (cat.class_names, cat.category_ids) == (train.class_names, train.category_ids)
    assert [p.labels.tolist() for p in cat] == [p.labels.tolist() for p in train]
    alone = coco("val.json", categories=CATEGORIES[1:], annotations=[annotation(category_id=2)])
    assert read_coco(alone, train=train)[1].labels.tolist() == [2]
    for own, has in ((2, "'cat'"), (3, "none")):
        path = coco("val.json", categories=[{"id": own, "name": "cow"}], annotations=[])
        refused(rf"val\.json: category {own} is 'cow', and {has} in instances_train", path, train=train)


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
    refused(r"category 27 is 'dog', and 'crane \(27\)' in", other, train=train)


def scored(path, found):
    """AP by this reader and by pycocotools, of detections `(image, [x, y, w, h], score)` of category 7."""
    boxes, of = read_coco(path), {}
    for own, (x, y, width, height), score in found:
        of.setdefault(own, []).append((x, y, x + width, y + height, score))
    ours = []
    for own, rows in of.items():
        table = torch.tensor(rows)
        labels = torch.full((len(rows),), 1 + boxes.category_ids.index(7))
        ours.append(Detections(own, table[:, :4], labels, table[:, 4]))
    records = [{"image_id": own, "category_id": 7, "bbox": box, "score": score} for own, box, score in found]
    return evaluate_boxes(boxes, ours).ap, pycocotools_evaluation(path, records).stats[0]


FOUND = [
    (3, [0, 0, 8, 8], 0.9),
    (3, [22, 12, 8, 8], 0.95),
]  # right, and within the other box, where it is surest


def with_other(coco, **changes):
    """A file of the box that is found, and of one to which the second detection belongs if it is a crowd."""
    there = annotation(iscrowd=0, bbox=[0, 0, 8, 8])
    return coco(annotations=[there, annotation(id=12, bbox=[20, 10, 20, 20], area=400, **changes)])


@pytest.mark.parametrize(
    ("value", "crowd"),
    [
        *((value, False) for value in (0, False, 0.0)),
        *((value, True) for value in (1, True, 1.0, "1", 2, "2")),
    ],
)
def test_a_crowd_is_what_it_is_to_pycocotools(coco, value, crowd):
    """A detection within a crowd is neither right nor wrong; without, it is the surest and wrong."""
    ours, theirs = scored(with_other(coco, iscrowd=value), FOUND)
    assert ours == pytest.approx(theirs, abs=1e-12)
    assert ours == pytest.approx(1.0 if crowd else 0.2524752475247525)


@pytest.mark.parametrize(
    ("value", "crowd"),
    [
        *((value, True) for value in ("true", "True", " 1 ", "1.0")),
        *((v, False) for v in ("0", "false", "", None)),
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
    told = f"{START}annotation 21 (image 3) has iscrowd {value!r}; expected 0, 1, true or false"
    assert str(raised.value) == told


@pytest.mark.parametrize("value", [1, True, "1", "true", 0, "0", False, None, "perhaps"])
def test_ignore_counts_for_nothing_as_in_pycocotools_and_is_told(coco, value):
    path = with_other(coco, iscrowd=0, ignore=value)
    ours, theirs = scored(path, FOUND)
    assert ours == pytest.approx(theirs, abs=1e-12)
    told = "boxes marked `ignore`, kept: COCO's rule looks at `iscrowd` alone: 1; the first: annotation 12"
    assert read_coco(path).left_out == ((f"{START}{told} (image 3)",) if value in (1, "1", "true") else ())


def test_ids_however_they_are_written(coco):
    own = [("b2", 7), (3, "2"), ("9", 7.0)]
    path = coco(
        images=[image(own) for own in ("b2", "3", 9.0)],
        draw=False,
        categories=[{"id": "7", "name": "dog"}, {"id": 2.0, "name": "cat"}],
        annotations=[annotation(id=i, image_id=im, category_id=c) for i, (im, c) in enumerate(own, 1)],
    )
    boxes = read_coco(path)
    assert ([p.id for p in boxes], boxes.category_ids) == (["b2", 3, 9], (7, 2))
    assert [p.labels.tolist() for p in boxes] == [[1], [2], [1]]
    assert boxes.left_out == ()
    assert all(type(category) is int for category in boxes.category_ids)


def test_images_of_texts_are_scored_as_pycocotools_scores_them(coco):
    # Two equal scores in two images: which is looked at first is the order of the ids, "a" before "b".
    path = coco(
        images=[image("b"), image("a")], draw=False, annotations=[annotation(image_id="b", iscrowd=0)]
    )
    for own, other in ("ab", "ba"):
        ours, theirs = scored(path, [(own, [2, 3, 10, 5], 0.5), (other, [2, 3, 4, 4], 0.5)])
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
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_a_box_that_is_missing_is_that_of_the_mask(coco, mask, missing):
    masks = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    own = annotation(segmentation=mask, bbox=missing)
    own = without(own, "bbox") if missing == "absent" else own
    boxes = read_coco(coco(annotations=[own]))
    runs = isinstance(mask, dict)
    rle = masks.frPyObjects(mask if runs or isinstance(mask[0], list) else [mask], 30, 40)
    pixels = torch.from_numpy(masks.decode(rle)).reshape(30, 40, -1).any(2).nonzero()
    (top, left), (bottom, right) = pixels.min(0).values.tolist(), (pixels.max(0).values + 1).tolist()
    # A polygon goes along the border of its pixels, give or take one.
    assert boxes[1].boxes[0].tolist() == pytest.approx([left, top, right, bottom], abs=0 if runs else 1)
    told = (
        "boxes without a bbox, which is taken from their segmentation: 1; the first: annotation 11 (image 3)"
    )
    assert boxes.left_out == (START + told,)
    if runs:
        packed = masks.frPyObjects(mask, 30, 40)
        other = {"size": packed["size"], "counts": packed["counts"].decode()}
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
    own = without(annotation(segmentation=mask), "bbox")
    boxes = read_coco(coco(annotations=[own, annotation(id=12)]))
    assert boxes[1].ids.tolist() == [12]
    assert len(boxes.left_out) >= 1


@pytest.mark.parametrize("text", ["\\ud800", "a\\uDFFFb"])
def test_half_a_character_can_be_printed(coco, text):
    categories = [CATEGORIES[0], {"id": 2, "name": "cat 🐈"}]
    path = coco(categories=categories, images=[image("NAME", file_name="NAME")], annotations=[], draw=False)
    path.write_text(path.read_text().replace("NAME", text).replace("dog", text))
    boxes = read_coco(path)
    assert all("?" in told for told in (boxes.class_names[0], boxes[0].id, boxes[0].file))
    assert boxes.class_names[1] == "cat 🐈"
