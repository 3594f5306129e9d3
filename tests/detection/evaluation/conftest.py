import json

import numpy as np
import pytest
import torch

from bisector.data.boxes import BoxSet, Picture
from bisector.detection.evaluation import Detections, write_detections
from coco_peers import class_table, pycocotools_evaluation

SIDE = 500


def boxes_near(boxes, chance, spread):
    """The boxes with their corners moved, each box in order."""
    moved = boxes + torch.from_numpy(chance.normal(0, spread, boxes.shape)).to(boxes)
    return torch.cat(
        [torch.minimum(moved[:, :2], moved[:, 2:]), torch.maximum(moved[:, :2], moved[:, 2:])], dim=1
    )


def random_picture(chance, number, first, style, classes):
    rows = int(chance.integers(0, 12))
    corner, sides = chance.integers(0, 300, (rows, 2)), chance.integers(1, 180, (rows, 2))
    return Picture(
        id=1000 - 3 * number,
        file=f"{number}.jpg",
        width=SIDE,
        height=SIDE,
        boxes=torch.from_numpy(np.concatenate([corner, corner + sides], axis=1)).float(),
        labels=torch.from_numpy(chance.integers(1, classes, rows)),  # the last class is never there
        ids=torch.arange(first, first + rows),
        crowd=torch.from_numpy(chance.random(rows) < (0.15 if style == "coco" else 0)),
        areas=torch.from_numpy(sides.prod(axis=1) * chance.uniform(0.4, 1, rows)).float(),
        negative=tuple(chance.choice(np.arange(1, classes + 1), 3, replace=False).tolist()),
        not_exhaustive=tuple(chance.choice(np.arange(1, classes + 1), 1).tolist()),
    )


def random_detections(chance, picture, most, classes):
    """Copies of the boxes that are there, moved, some with another label, with scores many of which are equal."""
    if not len(picture.boxes):
        return Detections(picture.id, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0))
    rows = int(chance.integers(0, most))
    of = torch.from_numpy(chance.integers(0, len(picture.boxes), rows))
    other = torch.from_numpy(chance.integers(1, classes + 1, rows))
    labels = torch.where(torch.from_numpy(chance.random(rows) < 0.7), picture.labels[of], other)
    scores = torch.from_numpy(chance.random(rows).round(1)).float()
    return Detections(picture.id, boxes_near(picture.boxes[of], chance, 12.0), labels, scores)


@pytest.fixture(scope="session")
def random_boxes():
    """`random_boxes(seed, style)`: ground truth of 12 images and 7 classes, and detections, in one image > 300."""

    def drawn(seed, style):
        chance, classes = np.random.default_rng(seed), 7
        pictures, first = [], 1
        for number in range(12):
            pictures.append(random_picture(chance, number, first, style, classes))
            first += len(pictures[-1].boxes)
        crowded = max(range(12), key=lambda k: len(pictures[k].boxes))
        found = [
            random_detections(chance, p, 900 if k == crowded else 40, classes) for k, p in enumerate(pictures)
        ]
        truth = BoxSet(
            pictures,
            [f"class {c}" for c in range(classes)],
            name="random",
            style=style,
            category_ids=chance.permutation(1000)[:classes].tolist(),
            frequency=chance.choice(list("rcf"), classes).tolist() if style == "lvis" else None,
        )
        return truth, found

    return drawn


@pytest.fixture(scope="session")
def jitter():
    """`jitter(truth, seed)`: boxes moved, a fifth missing, a tenth with another label, and some out of the blue."""

    def moved(truth, seed=0, spread=4.0):
        chance, found = np.random.default_rng(seed), []
        for picture in truth.pictures:
            kept = torch.from_numpy(chance.random(len(picture.boxes)) > 0.2)
            boxes, labels = picture.boxes[kept], picture.labels[kept]
            known = torch.unique(torch.cat([labels, torch.tensor([1, *picture.negative])]))
            other = known[torch.from_numpy(chance.integers(0, len(known), len(labels)))]
            labels = torch.where(torch.from_numpy(chance.random(len(labels)) < 0.9), labels, other)
            blue = boxes_near(boxes, chance, 60.0)
            boxes = torch.cat([boxes_near(boxes, chance, spread), blue])
            scores = torch.from_numpy(chance.random(len(boxes))).float()
            found.append(Detections(picture.id, boxes, torch.cat([labels, labels]), scores))
        return found

    return moved


@pytest.fixture
def pycocotools_scores(tmp_path):
    """`(content of the truth, truth, detections) -> the six APs, AP and AP50 of every class`."""

    def scored(content, truth, detections):
        write_detections(tmp_path / "found.json", truth, detections)
        evaluation = pycocotools_evaluation(content, tmp_path / "found.json")
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        return evaluation.stats[:6], *class_table(precision, evaluation.params.catIds, truth.category_ids)

    return scored


@pytest.fixture
def lvis_scores(tmp_path, monkeypatch):
    """As `pycocotools_scores`, by the lvis package: nine APs, the last three rare, common and frequent."""
    lvis = pytest.importorskip("lvis", exc_type=ImportError)
    monkeypatch.setattr(np, "float", float, raising=False)  # the package is older than numpy 1.24

    def scored(content, truth, detections):
        there, path = tmp_path / "there.json", tmp_path / "found.json"
        there.write_text(json.dumps(content))
        write_detections(path, truth, detections)
        evaluator = lvis.LVISEval(lvis.LVIS(str(there)), str(path), "bbox")
        evaluator.run()
        found = evaluator.get_results()
        names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
        precision = evaluator.eval["precision"][:, :, :, 0]
        table = class_table(precision, evaluator.params.cat_ids, truth.category_ids)
        return [found[name] for name in names], *table

    return scored
