import json

import numpy as np
import pytest
import torch

from bisector.data.boxes import BoxSet, Picture
from bisector.detection.evaluation import Detections
from bisector.report.detection_matches import LEVELS, Verdict, best_level, class_outcomes, match_all
from coco_peers import pycocotools_evaluation

CLASSES = 4
FALSE = {Verdict.WRONG, Verdict.TWICE, Verdict.NOTHING}


def random_boxes(count, generator):
    corners = 60 * torch.rand(count, 2, generator=generator)
    return torch.cat([corners, corners + 8 + 30 * torch.rand(count, 2, generator=generator)], dim=1)


def make(style, seed, pictures=40):
    """Pictures of 100 x 100 pixels, and detections of which some are near an object of them."""
    g = torch.Generator().manual_seed(seed)
    held, detections, first = [], [], 1
    for i in range(pictures):
        n = int(torch.randint(0, 6, (1,), generator=g))
        boxes = random_boxes(n, g)
        labels = torch.randint(1, CLASSES + 1, (n,), generator=g)
        spare = sorted(set(range(1, CLASSES + 1)) - set(labels.tolist()))
        picture = Picture(
            id=100 + i,
            file=f"{i}.png",
            width=100,
            height=100,
            boxes=boxes,
            labels=labels,
            ids=torch.arange(first, first + n),
            crowd=torch.rand(n, generator=g) < (0.25 if style == "coco" else 0),
            areas=(boxes[:, 2:] - boxes[:, :2]).prod(dim=1),
            negative=tuple(spare[:1]) if style == "lvis" else (),
            not_exhaustive=tuple(labels[:1].tolist()) if style == "lvis" and i % 2 else (),
        )
        first += n
        held.append(picture)
        near = boxes[torch.randint(0, max(n, 1), (7 * (n > 0),), generator=g)]
        near = near + 3 * torch.randn(near.shape, generator=g)
        near = torch.cat([near, random_boxes(3, g)]).clamp(0, 100)
        near = torch.cat(
            [torch.minimum(near[:, :2], near[:, 2:]), torch.maximum(near[:, :2], near[:, 2:]) + 1], 1
        )
        found = torch.randint(1, CLASSES + 1, (len(near),), generator=g)
        detections.append(Detections(picture.id, near, found, torch.rand(len(near), generator=g)))
    names = [f"class {c}" for c in range(1, CLASSES + 1)]
    frequency = ["r", "c", "f", "f"] if style == "lvis" else None
    return BoxSet(held, names, name="made", style=style, frequency=frequency), detections


def records(detections):
    found = []
    for one in detections:
        rows = zip(one.boxes.tolist(), one.labels.tolist(), one.scores.tolist(), strict=True)
        for (left, top, right, bottom), label, score in rows:
            box = [left, top, right - left, bottom - top]
            found.append({"image_id": one.image, "category_id": label, "bbox": box, "score": score})
    return found


def verdicts(truth, detections):
    """By picture, class and score, what each detection is."""
    return {
        (picture.id, one.label, round(one.score, 5)): one.verdict
        for picture, matches in zip(truth.pictures, match_all(truth, detections), strict=True)
        for one in matches.judged
    }


@pytest.mark.parametrize("seed", range(3))
def test_matches_are_those_of_pycocotools(seed):
    truth, detections = make("coco", seed)
    evaluation = pycocotools_evaluation(truth.coco(), records(detections))
    ours, seen = verdicts(truth, detections), 0
    for one in evaluation.evalImgs:
        if one is None or one["aRng"] != evaluation.params.areaRng[0]:
            continue
        for k, score in enumerate(one["dtScores"]):
            if score < LEVELS[0]:
                continue
            verdict = ours[one["image_id"], one["category_id"], round(score, 5)]
            seen += 1
            ignored, matched = one["dtIgnore"][0][k], one["dtMatches"][0][k]
            expected = {Verdict.UNJUDGED} if ignored else {Verdict.RIGHT} if matched else FALSE
            assert verdict in expected
    assert seen == len(ours) > 100
    assert set(ours.values()) == set(Verdict)


def test_what_lvis_does_not_judge_is_not_judged_here(tmp_path, monkeypatch):
    monkeypatch.setattr(np, "float", float, raising=False)  # lvis is older than numpy's 1.24
    lvis = pytest.importorskip("lvis", exc_type=ImportError)
    truth, detections = make("lvis", 7)
    file = tmp_path / "truth.json"
    content = truth.coco()
    for image in content["images"]:
        image["coco_url"] = image["file_name"]
    for annotation in content["annotations"]:
        annotation["segmentation"] = []
    for category, count in zip(content["categories"], truth.image_counts.tolist(), strict=True):
        category["image_count"] = count
    file.write_text(json.dumps(content))
    expected = lvis.LVIS(str(file))
    evaluation = lvis.LVISEval(expected, lvis.LVISResults(expected, records(detections)), "bbox")
    evaluation.evaluate()
    judged = {}
    for one in evaluation.eval_imgs:
        if one is None or list(one["area_rng"]) != list(evaluation.params.area_rng[0]):
            continue
        for k, score in enumerate(one["dt_scores"]):
            ignored, matched = one["dt_ignore"][0][k], one["dt_matches"][0][k] > 0
            verdict = "ignored" if ignored else "right" if matched else "false"
            judged[one["image_id"], one["category_id"], round(score, 5)] = verdict
    ours = verdicts(truth, detections)
    assert set(ours.values()) >= {Verdict.RIGHT, Verdict.UNJUDGED, Verdict.NOTHING}
    for key, verdict in ours.items():
        # LVIS has no entry for what is not verified in a picture.
        words = {Verdict.RIGHT: "right", Verdict.UNJUDGED: "ignored"}
        assert judged.get(key, "ignored") == words.get(verdict, "false")


def test_objects_are_found_missed_or_taken_for_another_class():
    boxes = torch.tensor([[0.0, 0, 40, 40], [50, 50, 90, 90], [0, 60, 20, 90]])
    truth = BoxSet([Picture.of(1, "a.png", 100, 100, boxes, torch.tensor([1, 1, 2]))], list("abc"), name="x")
    found = Detections(
        1,
        boxes[[0, 1, 1, 2, 2]],
        torch.tensor([1, 3, 2, 2, 1]),
        torch.tensor([0.9, 0.6, 0.8, 0.2, 0.4]),
    )
    (matches,) = match_all(truth, [found])
    right, wrong = Verdict.RIGHT, Verdict.WRONG
    assert [one.verdict for one in matches.judged] == [right, wrong, wrong, wrong, right]
    assert matches.found == pytest.approx((0.9, -1, 0.2))
    assert matches.missed(0.5) == [1, 2]
    assert matches.missed(0.1) == [1]
    assert [taken and taken[0] for taken in matches.taken_for] == [None, 2, 1]
    assert class_outcomes(truth, [matches], 0.3) == {1: {1: 1, 2: 1}, 2: {1: 1}}
    assert class_outcomes(truth, [matches], 0.5) == {1: {1: 1, 2: 1}, 2: {0: 1}}
    assert class_outcomes(truth, [matches], 0.1) == {1: {1: 1, 2: 1}, 2: {2: 1}}


def test_the_level_is_where_f1_is_highest():
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    truth = BoxSet([Picture.of(1, "a.png", 40, 40, boxes, torch.tensor([1, 1]))], ["a"], name="x")
    false = torch.tensor([[0.0, 30, 10, 40]]).repeat(9, 1)

    def level(right, wrong):
        scores = torch.tensor([right, right] + [wrong] * 9)
        found = Detections(1, torch.cat([boxes, false]), torch.ones(11, dtype=torch.long), scores)
        return best_level([match_all(truth, [found])])

    assert level(0.9, 0.6) == 0.7
    assert level(0.6, 0.4) == 0.5
    assert level(0.2, 0.15) == 0.1
    assert level(0.05, 0.05) == 0.7  # nothing is right at any: the highest shows least
    assert best_level([match_all(truth, [])]) == 0.7


def test_a_picture_without_boxes_or_detections_matches_nothing():
    empty = Picture.of(1, "a.png", 40, 40, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    other = Picture.of(2, "b.png", 40, 40, torch.tensor([[1.0, 1, 9, 9]]), torch.tensor([1]))
    truth = BoxSet([empty, other], ["a"], name="x")
    nothing = Detections(1, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0))
    first, second = match_all(truth, [nothing])
    assert first.judged == first.truths == ()
    assert (second.judged, second.missed(0.1)) == ((), [0])
