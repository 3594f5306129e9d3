import json
import os
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from bisector.data.boxes import load_boxes
from bisector.errors import ArgumentError, install_command


def refused(told, data, **options):
    with pytest.raises(ArgumentError, match=told):
        load_boxes(str(data), **options)


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("annotations/instances_{}2017.json", "{}2017"),
        ("instances_{}2017.json", "{}2017"),
        ("annotations/instances_{}.json", "images/{}"),
        ("annotations/{}.json", "images"),
        ("lvis_v1_{}.json", "images"),
        ("annotations/instances_{}2017.json", "."),
    ],
)
def test_the_usual_folders(coco, tmp_path, file, images):
    folder, names = tmp_path / "set", [file.format(part) for part in ("train", "val")]
    for name, part in zip(names, ("train", "val"), strict=True):
        coco(name, folder)
        if images != "images":
            shutil.copytree(folder / "images", folder / images.format(part), dirs_exist_ok=True)
    for image in (folder / "images").glob("*.png" if images != "images" else "none"):
        image.unlink()
    splits = load_boxes(str(folder))
    assert [part.name for part in splits.parts] == [name.split("/")[-1][:-5] for name in names]
    for part in splits.parts:
        assert [int(part.image(i)[0, 0, 0]) for i in range(3)] == [5, 3, 9]
    assert splits.train.left_out == ()
    # Where there is one folder, the three images of both parts are the same files.
    assert len(splits.validation.left_out) == (0 if "{}" in images else 1)


def test_the_real_folder(real_data):
    if not (real_data / "coco128").is_dir():
        pytest.skip("no coco128 in the folder of real data")
    splits = load_boxes(str(real_data / "coco128"))
    assert (len(splits.train), len(splits.validation)) == (128, 128)
    assert int(splits.train.counts.sum()) == 929
    assert int(splits.validation.counts.sum()) == 898
    assert splits.train.class_names == splits.validation.class_names
    assert splits.validation.image(5).shape[0] == 3


def test_annotations_beside_their_images(coco, tmp_path):
    for part in ("train", "valid", "test"):
        path = coco("_annotations.coco.json", tmp_path / "set" / part)
        for image in (path.parent / "images").iterdir():
            image.rename(path.parent / image.name)
    splits = load_boxes(str(tmp_path / "set"))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [3, 3, 3]
    assert splits.test.image(0).shape == (3, 30, 40)


def test_a_file_alone_is_divided(coco, tmp_path):
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(1, 31)]
    path = coco("my.json", images=images)
    splits = load_boxes(str(path), seed=3)
    assert (len(splits.train), len(splits.validation)) == (24, 6)
    ids = [p.id for p in splits.train] + [p.id for p in splits.validation]
    assert sorted(ids) == list(range(1, 31))
    assert splits.train.left_out == ("my: no validation part: 6 of its 30 pictures were drawn (seed 3)",)
    assert splits.validation.name == "my validation"
    again, other = load_boxes(str(path), seed=3), load_boxes(str(path), seed=4)
    assert again.train.fingerprint() == splits.train.fingerprint() != other.train.fingerprint()


def test_files_given_one_by_one(coco, tmp_path):
    train, val = coco("here/a.json"), coco("there/b.json")
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    refused(r"images: 3 of 3 files are missing in .*here: 5\.png", train)
    given = str(tmp_path / "elsewhere")
    for options in ({}, {"validation_images": given}):
        splits = load_boxes(str(train), images=given, validation=str(val), **options)
        assert (len(splits.train), len(splits.validation)) == (3, 3)
        assert splits.validation.image(1).shape == (3, 30, 40)
    assert len(load_boxes(str(train), validation=str(val), need_images=False).train) == 3
    refused("images: no folder /nowhere", train, images="/nowhere")
    refused("seed: got -1; expected an integer of at least 0", train, images=given, seed=-1)
    refused("validation_images: expected validation", train, images=given, validation_images=given)
    refused("data: no file or folder '/nowhere'", train, images=given, validation="/nowhere")


@pytest.mark.parametrize(
    ("given", "train_folder", "val_folder", "val_file"),
    [
        ("pictures/train", "pictures/train", "pictures/val", "val_boxes.json"),
        ("pictures/train2017", "pictures/train2017", "pictures/val2017", "instances_val2017.json"),
        ("pictures/train2017", "pictures/train2017", "pictures/val2017", "held_out.json"),
        ("pictures", "pictures", "pictures/val2017", "instances_val2017.json"),
        ("pictures", "pictures", "pictures/valid", "val.json"),
        ("train_pictures", "train_pictures", "validation_pictures", "b.json"),
    ],
)
def test_validation_is_not_looked_for_among_files_of_training(
    coco, tmp_path, given, train_folder, val_folder, val_file
):
    """Files of the same names in two folders: other pixels under the same boxes, and nothing to be seen of it."""
    train, val = coco("a/train.json"), coco(f"b/{val_file}")
    shutil.rmtree(tmp_path / "images")
    for folder, blue in ((train_folder, 10), (val_folder, 200)):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for image in (5, 3, 9):
            Image.new("RGB", (40, 30), (0, 0, blue)).save(tmp_path / folder / f"{image}.png")
    splits = load_boxes(str(train), images=str(tmp_path / given), validation=str(val))
    assert [int(part.image(0)[2, 0, 0]) for part in (splits.train, splits.validation)] == [10, 200]
    assert splits.validation.left_out == ()
    whole = load_boxes(
        str(train),
        images=str(tmp_path / given),
        validation=str(val),
        validation_images=str(tmp_path / train_folder),
    )
    assert int(whole.validation.image(0)[2, 0, 0]) == 10


def test_images_of_both_parts_are_told(coco, tmp_path):
    train = coco("train.json")
    ids = [{"id": 10 * i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (3, 9)]
    ids.append({"id": 4, "file_name": "4.png", "width": 40, "height": 30})
    val = coco("val.json", images=ids, annotations=[])
    splits = load_boxes(str(train), images=str(tmp_path / "images"), validation=str(val))
    assert splits.train.left_out == ()
    assert splits.validation.left_out == (
        f"val: 2 of 3 images are those of train, in {tmp_path / 'images'}: 3.png, 9.png; if they are others, their "
        "folder is to be given",
    )


@pytest.mark.parametrize("how", ["linked folder", "linked files", "same files"])
def test_images_of_both_parts_are_told_through_links(coco, tmp_path, how):
    # Another path to the same file is the same picture.
    coco("instances_train2017.json")
    coco("instances_val2017.json")
    (tmp_path / "images").rename(tmp_path / "train2017")
    if how == "linked folder":
        (tmp_path / "val2017").symlink_to(tmp_path / "train2017")
    else:
        (tmp_path / "val2017").mkdir()
        for file in (tmp_path / "train2017").iterdir():
            link = tmp_path / "val2017" / file.name
            link.symlink_to(file) if how == "linked files" else link.hardlink_to(file)
    told = load_boxes(str(tmp_path)).validation.left_out
    assert len(told) == 1
    assert "val2017: 3 of 3 images are those of instances_train2017: 5.png, 3.png, 9.png" in told[0]


@pytest.mark.parametrize("names", [("5.png", "5.png"), ("5.png", "./5.png"), ("5.png", "link.png")])
def test_pictures_of_one_file_are_told_and_never_part(coco, tmp_path, names):
    def image(own, name):
        return {"id": own, "file_name": name, "width": 40, "height": 30}

    images = [image(i, f"{i}.png") for i in range(1, 11)]
    coco("my.json", images=images, annotations=[])
    (tmp_path / "images" / "link.png").symlink_to("5.png")
    twins = [image(21, names[0]), image(22, names[1])]
    path = coco("my.json", images=[*images, *twins], annotations=[], draw=False)
    one_file, where = {5, 21, 22}, set()
    for seed in range(12):
        splits = load_boxes(str(path), seed=seed)
        train, validation = ({p.id for p in part} for part in (splits.train, splits.validation))
        assert len(train | validation) == len(train) + len(validation) == 12
        held = one_file <= validation
        assert held or one_file <= train
        assert len(validation) == 2 + 2 * held
        where.add(held)
    assert where == {True, False}
    told = splits.train.left_out[0]
    assert told.startswith(
        "my: files that several images have, which stay in one part where parts are drawn: 1: "
    )
    assert told.endswith(f": 5.png (image 5) = 5.png (image 21) = {names[1]} (image 22)")
    # One file is none to divide.
    alone = coco("one.json", images=twins, annotations=[], draw=False)
    refused("1 file in one; expected at least 2", alone, images=str(tmp_path / "images"))


def test_every_word_for_validation_may_be_its_folder(coco, tmp_path):
    for name in ("train", "val"):
        coco(f"annotations/{name}.json", tmp_path / "set")
    for folder in ("train", "valid"):
        shutil.copytree(tmp_path / "set" / "images", tmp_path / "set" / folder)
    shutil.rmtree(tmp_path / "set" / "images")
    splits = load_boxes(str(tmp_path / "set"))
    assert [p.root.rpartition("/")[2] for p in (splits.train, splits.validation)] == ["train", "valid"]


def test_coco_and_lvis_in_one_folder_are_told(coco, tmp_path):
    for name in ("instances_train2017", "instances_val2017", "lvis_v1_train", "lvis_v1_val"):
        coco(f"annotations/{name}.json", tmp_path / "set")
    told = (
        r"holds instances_train2017\.json, lvis_v1_train\.json; expected one of these files, and its images"
    )
    refused(told, tmp_path / "set")


def test_other_categories_for_validation_are_an_error(coco, tmp_path):
    coco("instances_train.json")
    coco("instances_val.json", categories=[{"id": 7, "name": "wolf"}], annotations=[])
    refused(r"instances_val\.json: category 7 is 'wolf', and 'dog' in", tmp_path)


def test_what_is_no_data_set_is_told(coco, tmp_path):
    refused("data: no file or folder '/nowhere'; expected a Pascal VOC", "/nowhere")
    (tmp_path / "empty").mkdir()
    refused(r"data: nothing to train on in .*empty; expected a Pascal VOC", tmp_path / "empty")
    coco("two/instances_train2014.json")
    coco("two/instances_train2017.json")
    told = r"holds instances_train2014\.json, instances_train2017\.json; expected one"
    refused(told, tmp_path / "two")
    refused(r"imbalance: got 0\.5; expected a finite number of at least 1", tmp_path / "two", imbalance=0.5)


def test_options_that_a_kind_of_data_does_not_have(voc):
    folder = voc({"train": {"a": [("dog", (1, 1, 5, 5), 0)]}, "val": {"b": []}})
    refused("images: got 'x'; expected none: a VOC folder has its own", folder, images="x")
    refused("validation: got 'x'; expected none: a plugin has its own", "plugin.py:classes=3", validation="x")


def test_a_long_tail_changes_training_alone(coco, tmp_path):
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(1, 41)]
    boxes = [
        {"id": i, "image_id": i, "category_id": 7 if i % 2 else 2, "bbox": [1, 1, 5, 5]} for i in range(1, 41)
    ]
    groups = [{"id": 7, "name": "dog", "frequency": "f"}, {"id": 2, "name": "cat", "frequency": "f"}]
    for part in ("train", "val"):
        coco(f"instances_{part}.json", images=images, annotations=boxes, categories=groups)
    whole, thin = load_boxes(str(tmp_path)), load_boxes(str(tmp_path), imbalance=10)
    assert whole.train.counts.tolist() == [20, 20]
    assert sorted(thin.train.counts.tolist()) == [2, 20]
    assert thin.validation.counts.tolist() == [20, 20]
    assert "22 of 40 pictures kept for a long tail in the style of COCO-LT" in thin.train.left_out[-1]
    # What is rare is what now is, in every part; the file's word was about the whole.
    assert whole.train.frequency == ("f", "f")
    expected = tuple("c" if count > 10 else "r" for count in thin.train.counts.tolist())
    assert thin.train.frequency == thin.validation.frequency == expected


@pytest.mark.slow
def test_boxes_are_read_without_the_extra(coco, voc):
    """In a process in which faster-coco-eval and torchvision cannot be imported."""
    runs = {
        "id": 1,
        "image_id": 3,
        "category_id": 7,
        "segmentation": {"size": [30, 40], "counts": [9, 9, 1182]},
    }
    folder = voc({"train": {"a": [("dog", (1, 1, 5, 5), 0)]}, "val": {"b": []}})
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['faster_coco_eval', 'torchvision']))\n"
        "from bisector.data.boxes import load_boxes, read_coco\n"
        "from bisector.errors import MissingExtraError\n"
        "print(len(read_coco(sys.argv[1])), len(load_boxes(sys.argv[3]).train))\n"
        "try: read_coco(sys.argv[2])\n"
        "except MissingExtraError as error: print(error)\n"
    )
    files = [str(coco()), str(coco("masks.json", annotations=[runs])), str(folder)]
    words = [sys.executable, "-c", code, *files]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(words, capture_output=True, text=True, check=True, env=environment, timeout=300)
    assert ran.stdout.splitlines() == [
        "3 1",
        f"faster-coco-eval is not installed; it comes with: {install_command('detection')}",
    ]


def test_the_truth_is_json(coco):
    path = coco()
    truth = load_boxes(str(path), validation=str(path)).validation.coco()
    assert json.loads(json.dumps(truth)) == truth
