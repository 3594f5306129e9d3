import json
import os
from collections import Counter
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image

from bisector.data.boxes import load_boxes
from bisector.detection.evaluation import Detections, read_detections, write_detections
from bisector.errors import ArgumentError

BOX = (1, 1, 5, 5)
THING = [("dog", BOX, 0)]


def refused(told, folder, **options):
    """Load a folder that cannot be loaded: the complaint is one line."""
    with pytest.raises(ArgumentError, match=told) as raised:
        load_boxes(str(folder), **options)
    assert "\n" not in str(raised.value)
    assert str(raised.value).count("data: ") <= 1


def files(*parts):
    return [[p.file for p in part] for part in parts]


def test_the_real_folder_is_read_as_elementtree_does(real_data):
    folder = real_data / "bccd"
    if not folder.is_dir():
        pytest.skip("no bccd in the folder of real data")
    splits = load_boxes(str(folder))
    lists = {"train": splits.train, "val": splits.validation, "test": splits.test}
    flat, ids = 0, []
    for name, boxes in lists.items():
        images = (folder / "ImageSets" / "Main" / f"{name}.txt").read_text().split()
        assert [p.file for p in boxes] == [f"JPEGImages/{image}.jpg" for image in images]
        ids += [p.id for p in boxes]
        assert boxes.class_names == ("Platelets", "RBC", "WBC")
        counts = Counter()
        for image, picture in zip(images, boxes, strict=True):
            expected = []
            for thing in ElementTree.parse(folder / "Annotations" / f"{image}.xml").getroot().iter("object"):
                box = [float(thing.find(f"bndbox/{side}").text) for side in ("xmin", "ymin", "xmax", "ymax")]
                if box[0] < box[2] and box[1] < box[3]:
                    expected.append((thing.find("name").text, box))
                else:
                    flat += 1
            names = [boxes.class_names[label - 1] for label in picture.labels]
            assert list(zip(names, picture.boxes.tolist(), strict=True)) == expected
            counts.update(names)
        assert dict(zip(boxes.class_names, boxes.counts.tolist(), strict=True)) == counts
        assert boxes.image(7).shape == (3, 480, 640)
    assert sum(int(boxes.counts.sum()) for boxes in lists.values()) == 4888 - flat
    assert flat == 2
    assert ids == list(range(1, 365))
    assert splits.train.left_out == (
        "bccd train: boxes without area, left out: 1; the first: annotation 2288 (JPEGImages/BloodImage_00343.jpg)",
    )


def test_voc_names_keep_their_order_and_difficult_is_a_crowd(voc):
    folder = voc(
        {
            "train": {"a": [("tvmonitor", (1, 2, 30, 20), 0), ("bird", (3, 3, 9, 9), 1)], "b": []},
            "val": {"c": [("cat", (1, 1, 5.5, 7.25), 0)]},
        }
    )
    splits = load_boxes(str(folder))
    assert len(splits.train.class_names) == 20
    assert (splits.train.style, splits.test, len(splits.train)) == ("voc", None, 2)
    first, second = splits.train
    assert first.labels.tolist() == [20, 3]
    assert first.crowd.tolist() == [False, True]
    assert (len(second.labels), second.boxes.shape) == (0, (0, 4))
    assert splits.train.counts.sum() == 1
    assert splits.validation[0].boxes.tolist() == [[1, 1, 5.5, 7.25]]
    truth = splits.train.coco()
    assert [(a["bbox"], a["iscrowd"], a["area"]) for a in truth["annotations"]] == [
        ([1, 2, 29, 18], 0, 522),
        ([3, 3, 6, 6], 1, 36),
    ]


def test_other_names_are_sorted_over_all_parts(voc):
    folder = voc({"train": {"a": [("b2", BOX, 0)]}, "val": {"c": [("A", BOX, 0)]}, "test": {"d": []}})
    assert {part.class_names for part in load_boxes(str(folder)).parts} == {("A", "b2")}


def test_bad_boxes_are_told(voc):
    bad = [(1, 1, 5, 5), (5, 1, 1, 5), (50, 1, 60, 5), (-7, 1, 5, 5), ("x", 1, 5, 5), ("", 1, 5, 5)]
    folder = voc({"train": {"a": [("dog", box, 0) for box in bad]}, "val": {"c": []}})
    train = load_boxes(str(folder)).train
    assert train[0].boxes.tolist() == [[1, 1, 5, 5], [0, 1, 5, 5]]
    assert train[0].ids.tolist() == [1, 4]
    where = "(JPEGImages/a.jpg)"
    assert train.left_out == (
        f"voc train: boxes that are no four finite numbers, left out: 2; the first: annotation 5 {where}",
        f"voc train: boxes without area, left out: 1; the first: annotation 2 {where}",
        f"voc train: boxes outside their image, left out: 1; the first: annotation 3 {where}",
        f"voc train: boxes that reach outside their image, cut at its border: 1; the first: annotation 4 {where}",
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<annotation><object>", "cannot be read: no element found"),
        ("", "cannot be read"),
        ("<annotation/>", "is no VOC annotation"),
        ("<other><object><name>dog</name></object></other>", "is no VOC annotation"),
        ("<annotation><object><bndbox/></object></annotation>", "is no VOC annotation"),
        ("<annotation><object><name/></object></annotation>", "is no VOC annotation"),
        ("<annotation><object><name>a</name><name>b</name></object></annotation>", "is no VOC annotation"),
        ("<a>" * 20_000 + "</a>" * 20_000, "is no VOC annotation"),
        ("<annotation>" + "<object>" * 3000 + "</object>" * 3000 + "</annotation>", "is no VOC annotation"),
        ("<?xml version='1.0' encoding='klingon'?><annotation/>", "cannot be read"),
        ("<?xml version='1.0' encoding='base64'?><annotation/>", "cannot be read"),
        ("\0\5\26\7", "cannot be read"),
        ("<annotation>\0</annotation>", "cannot be read"),
    ],
)
def test_xml_that_is_no_annotation_is_one_line(voc, text, told):
    folder = voc({"train": {"a": [], "b": THING}, "val": {"c": []}})
    (folder / "Annotations" / "a.xml").write_text(text)
    refused(rf"data: .*a\.xml {told}", folder)


def test_an_object_without_a_box_and_a_size_that_is_not_told(voc):
    folder = voc({"train": {"a": [], "b": THING}, "val": {"c": []}}, size=(0, 0))
    (folder / "Annotations" / "a.xml").write_text(
        "<annotation><object><name>dog</name><part><name>head</name></part></object></annotation>"
    )
    train = load_boxes(str(folder)).train
    assert [(p.width, p.height, len(p.labels)) for p in train] == [(40, 30, 0), (40, 30, 1)]
    assert "no four finite numbers, left out: 1" in train.left_out[0]
    whole = (folder / "Annotations" / "b.xml").read_text()
    (folder / "Annotations" / "b.xml").write_text(whole.replace("</annotation>", "<object/></annotation>"))
    assert [len(p.labels) for p in load_boxes(str(folder)).train] == [0, 1]


def test_missing_images_and_annotations(voc):
    folder = voc({"train": dict.fromkeys("abcde", THING), "val": {"f": THING}})
    (folder / "JPEGImages" / "b.jpg").unlink()
    refused(r"images: 1 of 5 files are missing in .*JPEGImages: b\.jpg \(image 2\);", folder)
    train = load_boxes(str(folder), skip_missing=True).train
    assert [p.id for p in train] == [1, 3, 4, 5]
    assert train.left_out == ("voc train: images without a file, left out: 1; the first: b.jpg (image 2)",)
    (folder / "Annotations" / "c.xml").unlink()
    refused(r"1 of 5 annotations of train\.txt are missing: c\.xml", folder, skip_missing=True)


def test_a_folder_without_images_can_be_scored_against(voc):
    folder = voc({"train": {"a": THING}, "val": {"b": THING}})
    for file in (folder / "JPEGImages").iterdir():
        file.unlink()
    refused("images: 1 of 1 files are missing", folder)
    Image.new("RGB", (40, 30)).save(folder / "JPEGImages" / "other.png")
    for skip in (False, True):
        whole = load_boxes(str(folder), need_images=False, skip_missing=skip)
        found = [(p.id, p.file) for part in whole.parts for p in part]
        assert found == [(1, "JPEGImages/a.jpg"), (2, "JPEGImages/b.jpg")]
        assert whole.train.left_out == ()
    (folder / "JPEGImages" / "other.png").unlink()
    boxes = load_boxes(str(folder), need_images=False).validation
    assert json.dumps(boxes.coco())
    with pytest.raises(ArgumentError, match="images: got none for voc val"):
        boxes.image(0)


def test_images_of_another_suffix_or_name(voc):
    folder = voc({"train": {"a": THING, "b": THING}, "val": {"c": THING}}, suffix=".png")
    xml = folder / "Annotations" / "b.xml"
    xml.write_text(xml.read_text().replace("b.png", "other.bmp"))
    (folder / "JPEGImages" / "b.png").unlink()
    Image.new("RGB", (40, 30), (7, 8, 9)).save(folder / "JPEGImages" / "other.bmp")
    train = load_boxes(str(folder)).train
    assert [p.file for p in train] == ["JPEGImages/a.png", "JPEGImages/other.bmp"]
    assert train.image(1)[:, 0, 0].tolist() == [7, 8, 9]


def test_what_is_there_decides_the_parts(voc, tmp_path):
    ten = {f"{i}": THING for i in range(10)}
    whole = load_boxes(str(voc({"trainval": ten, "test": {"x": THING}}, tmp_path / "a")), seed=1)
    assert (len(whole.train), len(whole.validation), len(whole.test)) == (8, 2, 1)
    assert {p.file for p in whole.train}.isdisjoint(p.file for p in whole.validation)
    line = "a trainval: no validation part: 2 of its 10 pictures were drawn (seed 1)"
    assert whole.train.left_out == whole.validation.left_out == (line,)
    # Lists of one class each, as VOC has too, are none of the parts.
    (tmp_path / "a" / "ImageSets" / "Main" / "dog_train.txt").write_text("1 -1\n")
    assert len(load_boxes(str(tmp_path / "a")).train) == 8

    # Half of a pair is none: what is told apart from test.txt is trained on.
    (tmp_path / "a" / "ImageSets" / "Main" / "train.txt").write_text("1\n2\n")
    assert len(load_boxes(str(tmp_path / "a")).train) == 8
    (tmp_path / "a" / "ImageSets" / "Main" / "val.txt").write_text("3\n")
    assert len(load_boxes(str(tmp_path / "a")).train) == 2

    unlisted = voc({"train": ten}, tmp_path / "b")
    for file in (unlisted / "ImageSets" / "Main").iterdir():
        file.unlink()
    assert len(load_boxes(str(unlisted)).train) == 8

    secret = voc({"train": ten, "val": {"y": THING}, "test": {"z": THING}}, tmp_path / "c")
    (secret / "Annotations" / "z.xml").unlink()
    told = load_boxes(str(secret))
    assert told.test is None
    assert told.train.left_out == ("c: test.txt has no annotations: no test part",)


def test_the_folder_may_be_within_another(voc, tmp_path):
    lists = {"train": {"a": THING}, "val": {"b": THING}}
    voc(lists, tmp_path / "data" / "VOCdevkit" / "VOC2012")
    for place in ("data", "data/VOCdevkit", "data/VOCdevkit/VOC2012"):
        assert load_boxes(str(tmp_path / place)).train.name == "VOC2012 train"
    voc(lists, tmp_path / "data" / "VOCdevkit" / "VOC2007")
    with pytest.raises(ArgumentError, match=r"data: .* holds VOC2007, VOC2012; expected one of them"):
        load_boxes(str(tmp_path / "data"))


def test_no_box_and_no_image_at_all(voc):
    refused("no annotation has a box", voc({"train": {"a": []}, "val": {"b": []}}))
    refused(r"no image in train\.txt", voc({"train": {}, "val": {"b": THING}}))


def test_ids_of_the_parts_are_different_however_they_are_loaded(voc):
    folder = voc(
        {"train": dict.fromkeys("abc", THING), "val": dict.fromkeys("de", THING), "test": {"f": THING}}
    )

    def ids(**options):
        splits = load_boxes(str(folder), **options)
        return [[p.id for p in part] for part in (splits.train, splits.validation, splits.test)]

    assert ids() == ids(need_images=False) == [[1, 2, 3], [4, 5], [6]]
    (folder / "JPEGImages" / "b.jpg").unlink()
    (folder / "JPEGImages" / "d.jpg").unlink()
    assert ids(skip_missing=True) == [[1, 3], [5], [6]]
    # Detections of one part are not scored against another.
    splits = load_boxes(str(folder), need_images=False)
    found = folder / "found.json"
    box = torch.tensor([[1.0, 1, 5, 5]])
    write_detections(found, splits.test, [Detections(6, box, torch.tensor([1]), torch.ones(1))])
    with pytest.raises(ArgumentError, match="record 1: got image_id 6; expected an image of voc val"):
        read_detections(found, splits.validation)


def test_ids_of_a_drawn_validation_part_are_different_too(voc):
    splits = load_boxes(str(voc({"trainval": dict.fromkeys("abcde", THING), "test": {"f": THING}})))
    ids = [p.id for part in (splits.train, splits.validation, splits.test) for p in part]
    assert sorted(ids) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("need_images", [True, False])
def test_lists_that_overlap_are_told(voc, need_images):
    lists = {
        "train": dict.fromkeys("abcdef", THING),
        "val": dict.fromkeys("xfabcd", THING),
        "test": {"x": []},
    }
    folder = voc(lists)
    for file in () if need_images else (folder / "JPEGImages").iterdir():
        file.unlink()
    splits = load_boxes(str(folder), need_images=need_images)
    where = f", in {folder}" if need_images else ""
    some = "JPEGImages/f.jpg, JPEGImages/a.jpg, JPEGImages/b.jpg, ..."
    assert splits.train.left_out == ()
    assert splits.validation.left_out == (f"voc val: 5 of 6 images are those of voc train{where}: {some}",)
    assert splits.test.left_out == (f"voc test: 1 of 1 images are those of voc val{where}: JPEGImages/x.jpg",)


def test_two_annotations_of_one_image_are_told_and_never_part(voc):
    folder = voc({"trainval": dict.fromkeys("abcde", THING)})
    (folder / "JPEGImages" / "b.jpg").unlink()
    xml = folder / "Annotations" / "b.xml"
    xml.write_text(xml.read_text().replace("b.jpg", "a.jpg"))
    for seed in range(8):
        splits = load_boxes(str(folder), seed=seed)
        assert {p.file for p in splits.train}.isdisjoint(p.file for p in splits.validation)
    assert "JPEGImages/a.jpg (image 1) = JPEGImages/a.jpg (image 2)" in splits.train.left_out[0]


@pytest.mark.parametrize(
    ("value", "crowd"),
    [
        *((value, True) for value in ("1", "True", "true", "TRUE", " 1 ", "2", "1.0")),
        *((value, False) for value in ("0", "False", "false", "0.0", "", "Unspecified")),
    ],
)
def test_difficult_however_it_is_written(voc, value, crowd):
    folder = voc({"train": {"a": [("dog", (1, 1, 5, 5), value)]}, "val": {"c": THING}})
    train = load_boxes(str(folder)).train
    assert (train[0].crowd.tolist(), train.counts.tolist()[11]) == ([crowd], int(not crowd))
    # Truncated and occluded are nobody's crowd, whatever they say.
    xml = folder / "Annotations" / "a.xml"
    xml.write_text(
        xml.read_text().replace("<difficult>", "<truncated>1</truncated><occluded>?</occluded><difficult>")
    )
    assert load_boxes(str(folder)).train[0].crowd.tolist() == [crowd]


@pytest.mark.parametrize(
    "value", ["maybe", "-1", "0.5", "nan", "<deep>1</deep>", "1</difficult><difficult>0"]
)
def test_difficult_that_is_no_flag_is_refused(voc, value):
    folder = voc({"train": {"a": [*THING, ("cat", (1, 1, 5, 5), value)]}, "val": {"c": THING}})
    with pytest.raises(
        ArgumentError, match=r"a\.xml: object 2 \(cat\) has difficult .*; expected 0, 1, true or"
    ):
        load_boxes(str(folder))


@pytest.mark.parametrize(
    ("declared", "written"),
    [
        ("utf8", "utf-8"),  # as ElementTree.write(encoding="utf8") does
        ("UTF-8", "utf-8-sig"),
        (None, "utf-8"),
        (None, "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-16", "utf-16-le"),
        ("UTF-16", "utf-16-be"),
        ("utf-16", "utf-8"),  # as .NET's StringWriter does
        ("utf-32", "utf-32"),
        ("gbk", "gbk"),
        ("gb2312", "gbk"),
        ("big5", "big5"),
        ("GB18030", "gb18030"),
    ],
)
def test_every_encoding_of_xml(voc, declared, written):
    folder = voc({"train": {"a": [("NAME", (1, 1, 5, 5), 0)]}, "val": {"c": []}})
    file = folder / "Annotations" / "a.xml"
    text = file.read_text().replace("NAME", "貓")
    head = "" if declared is None else f"<?xml version='1.0' encoding='{declared}'?>\n"
    file.write_bytes((head + text).encode(written))
    splits = load_boxes(str(folder))
    assert splits.train.class_names == ("貓",)
    assert splits.train[0].boxes.tolist() == [[1, 1, 5, 5]]


@pytest.mark.parametrize("encoding", ["utf8", "utf-8", "utf-16", "us-ascii", "iso-8859-1", "unicode"])
@pytest.mark.parametrize("namespace", [False, True])
def test_what_elementtree_writes_is_read(voc, encoding, namespace):
    folder = voc({"train": {"a": [("Käfer", (1, 1, 5, 5), 1)]}, "val": {"c": []}})
    file = folder / "Annotations" / "a.xml"
    text = file.read_text(encoding="utf-8")
    if namespace:
        text = text.replace(
            "<annotation>", '<v:annotation xmlns:v="http://x.org/voc" xmlns="http://x.org/other">'
        )
        text = text.replace("</annotation>", "</v:annotation>")
    tree = ElementTree.ElementTree(ElementTree.fromstring(text))
    tree.write(file, encoding=encoding)
    train = load_boxes(str(folder)).train
    assert (train.class_names, train[0].crowd.tolist()) == (("Käfer",), [True])


LINES = [
    *("{name}", "{name}.jpg", "{name}.JPG", "{name}.xml", "JPEGImages/{name}.jpg", "./JPEGImages/{name}.jpg"),
    *(
        "/home/x/VOC/JPEGImages/{name}.jpg",
        "C:\\data\\JPEGImages\\{name}.jpg",
        "{name} 1",
        "{name}  -1",
        "{name} 0",
    ),
    *("{name}.jpg 1", "JPEGImages/{name}.jpg Annotations/{name}.xml", "  {name}\t"),
]


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_way_to_list_an_image(voc, line, encoding):
    names = ["a", "b.v2", "my image 1", "two words"]
    folder = voc({"train": dict.fromkeys(names, THING), "val": {"c": THING}})
    lines = [line.format(name=name) for name in names]
    end = "\r\n" if encoding == "utf-16" else "\n"
    text = end.join([*lines, "", lines[0]]) + end
    (folder / "ImageSets" / "Main" / "train.txt").write_bytes(text.encode(encoding))
    train = load_boxes(str(folder)).train
    assert [p.file for p in train] == [f"JPEGImages/{name}.jpg" for name in names]
    assert train.left_out == ()


def test_lists_of_single_classes_alone_are_joined(voc):
    folder = voc({"train": {}, "val": {}, "other": dict.fromkeys("abcd", THING)})
    main = folder / "ImageSets" / "Main"
    for name, text in {
        "dog_train": "a  1\nb -1\n",
        "cat_train": "a -1\nb  1\n",
        "dog_val": "c  0\nd -1\n",
    }.items():
        (main / f"{name}.txt").write_text(text)
    for name in ("train", "val"):
        (main / f"{name}.txt").unlink()
    splits = load_boxes(str(folder))
    assert [[p.file[-5] for p in part] for part in (splits.train, splits.validation)] == [
        ["a", "b"],
        ["c", "d"],
    ]


def test_a_line_that_names_nothing_is_told_what_one_may_be(voc):
    folder = voc({"train": {"a": THING}, "val": {"c": THING}})
    listed = folder / "ImageSets" / "Main" / "train.txt"
    listed.write_text("a\nb.jpg\n")
    legal = r"the name of an image or its path, and at most a flag behind it: 1, 0 or -1"
    refused(rf"1 of 2 annotations of train\.txt are missing: b\.xml; .*{legal}", folder)
    listed.write_bytes("a\nmüll\n".encode("latin-1"))
    refused(r"train\.txt cannot be read: .*; expected UTF-8", folder)


def test_images_that_no_list_has_are_trained_on_where_no_list_is_for_it(voc):
    folder = voc({"test": {"x": THING, "y": THING}, "other": dict.fromkeys("abcdef", THING)})
    splits = load_boxes(str(folder))
    assert [p.file[-5] for p in splits.test] == ["x", "y"]
    assert sorted(p.file[-5] for p in (*splits.train, *splits.validation)) == list("abcdef")
    assert "voc: no train.txt: 6 images that are in no list are for it" in splits.train.left_out


@pytest.fixture
def unlisted(voc):
    """A VOC folder of four images without lists."""
    folder = voc({"train": dict.fromkeys("abcd", THING)})
    (folder / "ImageSets" / "Main" / "train.txt").unlink()
    return folder


def test_xml_of_any_case_and_depth_is_read_without_lists(unlisted):
    xml, images = unlisted / "Annotations", unlisted / "JPEGImages"
    (xml / "a.xml").rename(xml / "a.XML")
    for name, place in (("b", "deep/er"), ("c", "deep")):
        (xml / place).mkdir(parents=True, exist_ok=True)
        (xml / f"{name}.xml").rename(xml / place / f"{name}.Xml")
    (images / "deep").mkdir()
    (images / "c.jpg").rename(images / "deep" / "c.jpg")
    for place in (xml, images):
        (place / "._a.xml").write_bytes(b"\0\5\26\7Mac OS X")
        (place / "._a.jpg").write_bytes(b"\0\5\26\7Mac OS X")
    splits = load_boxes(str(unlisted))
    files = sorted(p.file for p in (*splits.train, *splits.validation))
    assert files == [f"JPEGImages/{name}.jpg" for name in ("a", "b", "d", "deep/c")]
    assert splits.train.left_out[0] == (
        "voc: files of macOS's own, not annotations, passed over: 1; the first: Annotations/._a.xml"
    )
    # In a list the path may be told, or not.
    (unlisted / "ImageSets" / "Main" / "train.txt").write_text("a\ndeep/er/b\nc\n")
    (unlisted / "ImageSets" / "Main" / "val.txt").write_text("d\n")
    assert [p.file[-5] for p in load_boxes(str(unlisted)).train] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("xml", "images"),
    [
        *(("annotations", "images"), ("Annotations", "images"), ("annotations", "JPEGImages")),
        *(("", ""), ("", "images"), ("Annotations", "")),
    ],
)
def test_other_layouts(unlisted, xml, images):
    """Kaggle's annotations and images, a flat folder of labelImg, and what lies between."""
    things = {"Annotations": xml, "JPEGImages": images}
    for was, now in things.items():
        (unlisted / was).rename(unlisted / f"old-{was}")
        (unlisted / now).mkdir(exist_ok=True)
        for file in (unlisted / f"old-{was}").iterdir():
            file.rename(unlisted / now / file.name)
        (unlisted / f"old-{was}").rmdir()
    splits = load_boxes(str(unlisted), seed=1)
    files = sorted(p.file for p in (*splits.train, *splits.validation))
    assert files == [f"{images}/{name}.jpg".removeprefix("/") for name in "abcd"]
    assert splits.train.image(0).shape == (3, 30, 40)
    assert len(splits.train.left_out) == 1  # that validation was drawn


def test_parts_in_folders_of_their_own(voc, tmp_path):
    """XML beside its images in train, valid and test, where the names may be the same."""
    for part, name in (("train", "a"), ("train", "b"), ("valid", "a"), ("test", "a")):
        folder = voc({"x": {name: THING}}, tmp_path / part)
        target = tmp_path / "set" / part
        target.mkdir(parents=True, exist_ok=True)
        for file in (folder / "Annotations" / f"{name}.xml", folder / "JPEGImages" / f"{name}.jpg"):
            file.rename(target / file.name)
    splits = load_boxes(str(tmp_path / "set"))
    assert [[p.file for p in part] for part in (splits.train, splits.validation, splits.test)] == [
        ["train/a.jpg", "train/b.jpg"],
        ["valid/a.jpg"],
        ["test/a.jpg"],
    ]
    assert splits.validation.left_out == ()
    # An image that is missing is not that of the same name in another part.
    (tmp_path / "set" / "valid" / "a.jpg").unlink()
    with pytest.raises(ArgumentError, match=r"1 of 1 files are missing in .*set: valid/a\.jpg"):
        load_boxes(str(tmp_path / "set"))


def test_json_goes_before_xml_that_lies_about(coco, voc, tmp_path):
    coco("annotations/instances_train.json")
    coco("annotations/instances_val.json")
    stray = voc({"x": {"a": THING}}, tmp_path / "voc") / "Annotations" / "a.xml"
    stray.rename(tmp_path / "annotations" / "a.xml")
    assert load_boxes(str(tmp_path)).train.name == "instances_train"


@pytest.mark.parametrize("what", ["xml", "list", "image"])
def test_a_link_that_loops_is_one_line(voc, what):
    folder = voc({"train": {"a": THING, "b": THING}, "val": {"c": []}})
    names = {"xml": "Annotations/a.xml", "list": "ImageSets/Main/train.txt", "image": "JPEGImages/a.jpg"}
    file = folder / names[what]
    file.unlink()
    file.symlink_to(file.name)
    if what == "list":  # no list to train on is none
        assert any("no train.txt" in line for line in load_boxes(str(folder)).train.left_out)
        return
    with pytest.raises(ArgumentError, match=r"a\.(xml|jpg)") as raised:
        load_boxes(str(folder)).train.image(0)
    assert "\n" not in str(raised.value)


def test_folders_that_link_in_a_circle_and_names_that_are_no_text(unlisted):
    (unlisted / "Annotations" / "again").symlink_to("../..")
    (unlisted / "JPEGImages" / "again").symlink_to("..")
    (unlisted / "JPEGImages" / "linked").symlink_to(unlisted.parent / "elsewhere")
    (unlisted.parent / "elsewhere").mkdir()
    (unlisted / "JPEGImages" / "d.jpg").rename(unlisted.parent / "elsewhere" / "d.jpg")
    odd = os.fsencode(unlisted / "Annotations") + b"/\xff.xml"
    with open(odd, "wb") as file:  # noqa: PTH123 - a path cannot hold it
        file.write((unlisted / "Annotations" / "a.xml").read_bytes())
    splits = load_boxes(str(unlisted))
    assert any("files whose name is not UTF-8, passed over: " in line for line in splits.train.left_out)
    files = {p.file for p in (*splits.train, *splits.validation)}
    assert {"JPEGImages/a.jpg", "JPEGImages/linked/d.jpg"} <= files
    "\n".join(splits.train.left_out).encode()
