"""The scores are those of pycocotools and of the lvis package."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bisector.data.boxes import BoxSet
from bisector.data.boxes.coco import read_coco
from bisector.detection.evaluation import coco_eval, evaluate_boxes

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


@pytest.mark.parametrize("style", ["coco", "lvis"])
def test_the_images_have_more_boxes_than_are_looked_at(random_boxes, style):
    """Else the tests above would say nothing of the limits of 100 and 300."""
    largest = [max(map(len, random_boxes(seed, style)[1])) for seed in range(6)]
    assert max(largest) > 300


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_real_coco_boxes_score_as_pycocotools(real_data, jitter, pycocotools_scores):
    file = real_data / "coco128" / "instances_val2017.json"
    truth = read_coco(file)
    found = jitter(truth)
    scores = evaluate_boxes(truth, found)
    assert 0.2 < scores.ap50 < 0.9
    assert_same(scores, "coco", pycocotools_scores(json.loads(file.read_text()), truth, found))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_real_lvis_boxes_score_as_lvis(real_data, jitter, lvis_scores):
    file = real_data / "lvis" / "lvis_val_100.json"
    truth = read_coco(file)
    assert truth.style == "lvis"
    found = jitter(truth)
    scores = evaluate_boxes(truth, found)
    assert 0.2 < scores.ap50 < 0.9
    assert_same(scores, "lvis", lvis_scores(json.loads(file.read_text()), truth, found))


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
