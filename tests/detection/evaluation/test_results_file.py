import json
import math
from dataclasses import replace

import pytest
import torch

from bisector.data.boxes import BoxSet, Picture
from bisector.detection.evaluation import Detections, evaluate_boxes, read_detections, write_detections
from bisector.errors import ArgumentError

GOOD = {"image_id": 7, "category_id": 30, "bbox": [1.5, 2, 3, 4], "score": 0.5}


@pytest.fixture
def truth():
    box = torch.tensor([[10.0, 20, 30, 60]])
    pictures = [Picture.of(k, f"{k}.jpg", 64, 64, box, torch.tensor([1])) for k in (7, 8)]
    return BoxSet(pictures, ["cat", "dog"], name="pets", category_ids=[30, 10])


def same(left, right):
    assert left.image == right.image
    order = [one.scores.sort(stable=True).indices for one in (left, right)]
    for name in ("boxes", "labels", "scores", "class_scores"):
        values = [getattr(one, name) for one in (left, right)]
        if values[0] is None:
            assert values[1] is None
        else:
            assert torch.equal(values[0][order[0]], values[1][order[1]])


@pytest.mark.parametrize("style", ["coco", "lvis"])
def test_what_is_written_is_read_to_the_last_bit(random_boxes, tmp_path, style):
    truth, found = random_boxes(4, style)
    path = tmp_path / "found.json"
    write_detections(path, truth, found[::-1])
    back = read_detections(path, truth)
    assert [one.image for one in back] == [picture.id for picture in truth.pictures]
    for left, right in zip(found, back, strict=True):
        same(left, right)
    assert str(evaluate_boxes(truth, back)) == str(evaluate_boxes(truth, found))


def test_scores_of_all_classes_are_kept(truth, tmp_path):
    vectors = torch.rand(3, 2)
    boxes = torch.tensor([[1.0, 2, 3, 4]]).expand(3, 4)
    found = Detections(8, boxes, torch.tensor([1, 2, 1]), torch.rand(3), vectors)
    write_detections(tmp_path / "found.json", truth, [found])
    none, back = read_detections(tmp_path / "found.json", truth)
    same(found, back)
    assert len(none) == 0
    assert none.class_scores.shape == (0, 2)


def test_scores_alone_decide_the_class(truth, tmp_path):
    record = {"image_id": 7, "bbox": [1, 2, 3, 4], "scores": [0.25, 0.75]}
    (tmp_path / "found.json").write_text(json.dumps([record]))
    found = read_detections(tmp_path / "found.json", truth)[0]
    assert (found.labels.tolist(), found.scores.tolist()) == ([2], [0.75])
    assert found.boxes.tolist() == [[1, 2, 4, 6]]


def test_ids_are_read_as_those_of_the_truth_are(truth, tmp_path):
    path = tmp_path / "found.json"
    path.write_text(json.dumps([GOOD | {"image_id": image} for image in (7, 7.0, "7", "8")]))
    assert [len(one) for one in read_detections(path, truth)] == [3, 1]
    path.write_text(json.dumps([GOOD | {"category_id": None, "score": None, "scores": [0.25, 0.75]}]))
    found = read_detections(path, truth)[0]
    assert (found.labels.tolist(), found.scores.tolist()) == ([2], [0.75])
    for image in ("7.0", 7.5, "", True, [7]):
        path.write_text(json.dumps([GOOD | {"image_id": image}]))
        with pytest.raises(ArgumentError, match=r"record 1: got image_id .*; expected an image of pets"):
            read_detections(path, truth)


def test_what_the_file_says_is_kept_beside_the_boxes(truth, tmp_path):
    path = tmp_path / "found.json"
    path.write_text(json.dumps([GOOD | {"bbox": [0.1, 0.2, 0.3, 0.4]}]))
    found = read_detections(path, truth)[0]
    assert found.written.tolist() == [[0.1, 0.2, 0.3, 0.4]]
    assert (found.boxes.dtype, found.scores.dtype) == (torch.float32, torch.float64)
    with pytest.raises(
        ArgumentError, match=r"boxes: got .* for detection 0 of image 7; expected the box that"
    ):
        replace(found, boxes=found.boxes + 1)
    with pytest.raises(ArgumentError, match=r"written: got shape \(1, 4\), torch.float32 in image 7"):
        replace(found, written=found.written.float())
    assert replace(found, boxes=found.boxes + 1, written=None).written is None


def test_no_detection_is_a_file_too(truth, tmp_path):
    write_detections(tmp_path / "found.json", truth, [])
    assert json.loads((tmp_path / "found.json").read_text()) == []
    assert [len(one) for one in read_detections(tmp_path / "found.json", truth)] == [0, 0]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"image_id": 9}, "image_id 9; expected an image of pets"),
        ({"image_id": True}, "image_id True; expected an image of pets"),
        ({"image_id": None}, "image_id None; expected an image of pets"),
        ({"image_id": []}, r"image_id \[\]; expected an image of pets"),
        ({"category_id": 11}, "category_id 11; expected a category of pets"),
        ({"category_id": "x"}, "category_id 'x'; expected a category of pets"),
        ({"bbox": [1, 2, 3]}, r"bbox \[1, 2, 3\]; expected \[x, y, width, height\]"),
        ({"bbox": [1, 2, 3, -4]}, r"bbox .*; expected .* no side below 0"),
        ({"bbox": "1 2 3 4"}, "bbox '1 2 3 4'"),
        ({"bbox": [1, 2, 3, True]}, "bbox"),
        ({"score": math.nan}, "score nan; expected a finite number"),
        ({"score": 10**400}, r"score 10{100,} \.\.\. 0+; expected a finite number"),
        ({"score": None}, "score None; expected a finite number"),
        ({"scores": [0.5, 0.25]}, "scores in some records; expected scores in all records or in none"),
    ],
)
def test_a_bad_record_is_named(truth, tmp_path, change, complaint):
    path = tmp_path / "found.json"
    path.write_text(json.dumps([GOOD, GOOD | change]))
    with pytest.raises(ArgumentError, match=f"found.json, record 2: got {complaint}") as raised:
        read_detections(path, truth)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("vector", [[0.5], [0.5, 0.1, 0.2], [0.5, math.inf], "high", 3])
def test_scores_that_are_not_one_a_class_are_told(truth, tmp_path, vector):
    path = tmp_path / "found.json"
    path.write_text(json.dumps([GOOD | {"scores": vector}]))
    with pytest.raises(ArgumentError, match=r"record 1: got .*scores.*; expected a finite number for each"):
        read_detections(path, truth)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{}", "found.json: got dict; expected a list of records"),
        (b"[1]", "found.json, record 1: got int; expected an object"),
        (b"[{", "found.json: is not JSON"),
        (b"\xff\xfe\x00", "found.json: is not JSON"),
        (b"[" * 100_000, "found.json: is not JSON"),
        (None, "found.json: cannot be read .*; expected a COCO results file"),
    ],
)
def test_a_file_that_is_none_is_told(truth, tmp_path, content, complaint):
    path = tmp_path / "found.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArgumentError, match=complaint):
        read_detections(path, truth)


def test_detections_of_unknown_images_are_not_written(truth, tmp_path):
    found = Detections(9, torch.zeros(1, 4), torch.tensor([1]), torch.ones(1))
    with pytest.raises(ArgumentError, match="detections: got image 9; expected an image of pets"):
        write_detections(tmp_path / "found.json", truth, [found])
    assert not list(tmp_path.iterdir())
