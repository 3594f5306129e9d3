"""The scores are those of pycocotools and of the lvis package."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from bisector.data.boxes import BoxSet, Picture
from bisector.data.boxes.coco import read_coco
from bisector.detection.evaluation import (
    Detections,
    coco_eval,
    evaluate_boxes,
    read_detections,
    write_detections,
)
from coco_peers import pycocotools_evaluation

CLOSE = 1e-6


def numbers(scores, style):
    six = [scores.ap, scores.ap50, scores.ap75, scores.ap_small, scores.ap_medium, scores.ap_large]
    found = [*six, *(scores.ap_by_frequency.values() if style == "lvis" else ())]
    return [-1 if np.isnan(value) else value for value in found]  # as the peers write it


def assert_same(scores, style, expected):
    summary, class_ap, class_ap50 = expected
    assert numbers(scores, style) == pytest.approx(summary, abs=CLOSE)
    assert scores.class_ap == pytest.approx(class_ap, abs=CLOSE, nan_ok=True)
    assert scores.class_ap50 == pytest.approx(class_ap50, abs=CLOSE, nan_ok=True)


@pytest.mark.parametrize("cells", [2**20, 30])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_random_detections_score_as_pycocotools(random_boxes, pycocotools_scores, monkeypatch, seed, cells):
    monkeypatch.setattr(coco_eval, "_CELLS", cells)  # all classes at once, and two at a time
    truth, found = random_boxes(seed, "coco")
    assert any(picture.crowd.any() for picture in truth.pictures)
    assert_same(evaluate_boxes(truth, found), "coco", pycocotools_scores(truth.coco(), truth, found))


@pytest.mark.parametrize("cells", [2**20, 30])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_random_detections_score_as_lvis(random_boxes, lvis_scores, monkeypatch, seed, cells):
    monkeypatch.setattr(coco_eval, "_CELLS", cells)
    truth, found = random_boxes(seed, "lvis")
    assert_same(evaluate_boxes(truth, found), "lvis", lvis_scores(truth.coco(), truth, found))


def test_the_images_have_more_boxes_than_are_looked_at(random_boxes):
    """Else the tests above would say nothing of the limits: 100 of an image and class, 300 of an image."""
    of_class = [
        max(int(one.labels.bincount().max()) for one in random_boxes(seed, "coco")[1] if len(one))
        for seed in range(6)
    ]
    assert sum(count > 100 for count in of_class) >= 2
    assert max(max(map(len, random_boxes(seed, "lvis")[1])) for seed in range(6)) > 300


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_real_coco_boxes_score_as_pycocotools(real_data, jitter, pycocotools_scores):
    file = real_data / "coco128" / "instances_val2017.json"
    if not file.exists():
        pytest.skip("no coco128 in the folder of real data")
    truth = read_coco(file)
    found = jitter(truth)
    scores = evaluate_boxes(truth, found)
    assert 0.2 < scores.ap50 < 0.9
    assert_same(scores, "coco", pycocotools_scores(json.loads(file.read_text()), truth, found))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_real_lvis_boxes_score_as_lvis(real_data, jitter, lvis_scores):
    file = real_data / "lvis" / "lvis_val_100.json"
    if not file.exists():
        pytest.skip("no lvis in the folder of real data")
    truth = read_coco(file)
    assert truth.style == "lvis"
    found = jitter(truth)
    scores = evaluate_boxes(truth, found)
    assert 0.2 < scores.ap50 < 0.9
    assert_same(scores, "lvis", lvis_scores(json.loads(file.read_text()), truth, found))


def ground_truth(boxes):
    """A file of COCO: one image of 640 x 480, and boxes of one class."""
    annotations = [
        {"id": i, "image_id": 1, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for i, box in enumerate(boxes, 1)
    ]
    image = {"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}
    return {"images": [image], "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}


@pytest.mark.parametrize("share", [0.5, 0.75, 0.6])
def test_overlaps_that_are_a_threshold_are_as_the_files_have_them(tmp_path, share):
    """In 32 bits an overlap of 0.5 is above it or below, as it falls."""
    chance = np.random.default_rng(0)
    boxes, found = [], []
    for number in range(60):
        x, y = float(chance.integers(1, 4000)) / 10, float(chance.integers(1, 3000)) / 10
        side = float(chance.integers(4, 90)) / 10
        boxes.append([x, y, side, 20 * side])
        bbox = [x, y, side, 20 * side * share]
        found.append({"image_id": 1, "category_id": 1, "bbox": bbox, "score": 1 - number / 100})
    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    truth.write_text(json.dumps(ground_truth(boxes)))
    results.write_text(json.dumps(found))
    read = read_coco(truth)
    back = read_detections(results, read)
    scores = evaluate_boxes(read, back)
    expected = pycocotools_evaluation(truth, results).stats[:6]
    assert numbers(scores, "coco") == pytest.approx(expected, abs=1e-12)
    # Written and read again they are scored the same.
    write_detections(results, read, back)
    again = evaluate_boxes(read, read_detections(results, read))
    assert numbers(again, "coco") == pytest.approx(expected, abs=1e-12)


def test_sizes_and_scores_keep_all_their_digits(tmp_path):
    content = ground_truth([[10, 10, 40, 40], [100, 10, 40, 40]])
    # In 32 bits these areas are 32 x 32 and 96 x 96, which is of both sizes, and the scores are equal.
    content["annotations"][0]["area"] = 1023.99999
    content["annotations"][1]["area"] = 9216.0001
    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    truth.write_text(json.dumps(content))
    wrong = {"image_id": 1, "category_id": 1, "bbox": [300, 300, 9, 9], "score": 0.5}
    right = [{**wrong, "bbox": a["bbox"], "score": 0.5 + 1e-12} for a in content["annotations"]]
    results.write_text(json.dumps([wrong, *right]))
    read = read_coco(truth)
    scores = evaluate_boxes(read, read_detections(results, read))
    expected = pycocotools_evaluation(truth, results).stats[:6]
    assert expected[0] == pytest.approx(1)
    assert numbers(scores, "coco") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("style", ["coco", "lvis", "voc"])
def test_nothing_found_is_scored_without_the_evaluator(random_boxes, pycocotools_scores, monkeypatch, style):
    """Versions of it have failed on an empty list; one false detection of each class is worth as much."""
    truth, _ = random_boxes(3, "coco")
    image = next(picture for picture in truth.pictures if len(picture.boxes))
    edges = [[0.0, 0, 32, 32], [0, 0, 96, 96]]  # each is of two sizes
    areas = torch.cat([torch.tensor([32.0**2, 96.0**2]), image.areas[2:]])
    truth = BoxSet(
        [replace(p, areas=areas) if p is image else p for p in truth.pictures],
        truth.class_names,
        name="random",
        style=style,
        category_ids=truth.category_ids,
    )
    classes = len(truth.class_names)
    corner = torch.tensor([[498.0, 498, 500, 500]]).expand(classes, 4)
    false = Detections(image.id, corner, torch.arange(1, classes + 1), torch.ones(classes))
    expected = pycocotools_scores(truth.coco(), truth, [false])
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "faster_coco_eval", None)  # it cannot be imported
        scores = evaluate_boxes(truth, [])
    assert_same(scores, "coco", expected)
    assert scores.ap == 0
    few = BoxSet(
        [Picture.of(1, "a.jpg", 500, 500, torch.tensor(edges), torch.tensor([1, 2]))], "ab", name="few"
    )
    nothing = evaluate_boxes(few, [])
    assert (nothing.ap_small, nothing.ap_medium, nothing.ap_large) == (0, 0, 0)
    one = evaluate_boxes(few.subset([0]).with_frequency("rf"), [])
    assert one.class_ap == (0, 0)


def test_large_ids_are_no_trouble(random_boxes):
    truth, found = random_boxes(1, "coco")
    far = BoxSet(
        [replace(p, id=p.id + 2**40) for p in truth.pictures],
        truth.class_names,
        name="far",
        category_ids=[c + 2**35 for c in truth.category_ids],
    )
    moved = [replace(one, image=one.image + 2**40) for one in found]
    assert evaluate_boxes(far, moved).class_ap == pytest.approx(
        evaluate_boxes(truth, found).class_ap, nan_ok=True
    )
