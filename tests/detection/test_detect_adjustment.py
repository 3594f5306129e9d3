"""Detectors that decide with class offsets, or with the geometry of their classes."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import Tensor

from bisector.data.boxes import BoxSplits, load_boxes
from bisector.detection import attach, detach, fit_geometry
from bisector.detection.data import PlainBoxBatches, pixels
from bisector.detection.geometry import TrueBoxes, class_geometry, fit_boxes, true_boxes, try_boxes
from bisector.detection.models import build_detector
from bisector.detection.predict import class_logits, classify_truth, embed_truth
from bisector.errors import ArgumentError
from bisector.information.geometry import ClassGeometry
from bisector.posthoc import Adjustment, GeometryAdjustment
from detection_cases import batch, detections, step, tiny
from tiny_boxes import write_voc


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> BoxSplits:
    return load_boxes(str(write_voc(tmp_path_factory.mktemp("voc"))))


def network(head: str = "linear", **options: Any) -> Any:
    torch.manual_seed(2)
    model: Any = attach(build_detector("small-fpn", 4, image_size=96), head, **options)
    return model.eval()


def geometry_of(dim: int, classes: int) -> ClassGeometry:
    draw = torch.Generator().manual_seed(1)
    y = torch.arange(20 * classes) % classes
    return ClassGeometry.fit(torch.randn(len(y), dim, generator=draw) + torch.eye(classes, dim)[y], y)


def scored(model: Any, embeddings: Tensor) -> Any:
    with torch.no_grad():
        return model.roi_heads.box_predictor(embeddings)[0].softmax(1).double().numpy()


@pytest.mark.parametrize("objectness", [False, True])
def test_offsets_move_classes_and_leave_the_background(objectness: bool) -> None:
    model = network(objectness=objectness)
    offsets = torch.tensor([1.0, -0.5, 2.0])
    embeddings = torch.randn(7, 256, generator=torch.Generator().manual_seed(0))
    before = scored(model, embeddings)
    model.roi_heads.box_predictor.adjustment = Adjustment(offsets)
    after = scored(model, embeddings)
    moved = before[:, 1:] * np.exp(offsets.double().numpy())
    expected = moved / moved.sum(1, keepdims=True) * before[:, 1:].sum(1, keepdims=True)
    np.testing.assert_allclose(after[:, 1:], expected, rtol=1e-5)
    np.testing.assert_allclose(after[:, 0], before[:, 0], rtol=1e-5)
    model.roi_heads.box_predictor.adjustment = None
    np.testing.assert_array_equal(scored(model, embeddings), before)
    with pytest.raises(ArgumentError, match="adjustment: got one of 2 classes; expected one of 3"):
        model.roi_heads.box_predictor.adjustment = Adjustment(torch.zeros(2))


@pytest.mark.parametrize("head", ["linear", "igam", "linear+objectness"])
def test_geometry_shares_what_a_box_has_of_all_classes(head: str) -> None:
    name, plus, _ = head.partition("+")
    model = network(name, objectness=bool(plus))
    predictor = model.roi_heads.box_predictor
    embeddings = torch.randn(9, 256, generator=torch.Generator().manual_seed(0))
    before = scored(model, embeddings)
    geometry = geometry_of(256, 3)
    predictor.adjustment = GeometryAdjustment(geometry, 0.7, 0.4, 0.2, 0.1)
    with torch.no_grad():
        logits = class_logits(model, embeddings).double().numpy()
    volume, fit = geometry.log_volume.numpy(), geometry.evidence(embeddings).numpy()
    z = 0.7 * logits + 0.4 * fit - 0.2 * (volume - volume.mean())
    z += 0.1 * np.log(geometry.counts.numpy())
    after = scored(model, embeddings)
    np.testing.assert_allclose(after[:, 0], before[:, 0], rtol=1e-5)
    np.testing.assert_allclose(after[:, 1:], (1 - before[:, :1]) * softmax(z, axis=1), rtol=1e-5, atol=1e-9)
    predictor.adjustment = GeometryAdjustment(geometry)
    np.testing.assert_array_equal(scored(model, embeddings), before)


@pytest.mark.filterwarnings("ignore")  # of tracing
def test_what_is_trained_and_exported_does_not_see_it() -> None:
    model = attach(tiny(), "igam")
    losses, gradients = step(copy.deepcopy(model))
    found = detections(copy.deepcopy(model))
    model.roi_heads.box_predictor.adjustment = GeometryAdjustment(geometry_of(24, 5), b=2.0)
    again, moved = step(copy.deepcopy(model))
    assert all(torch.equal(losses[name], again[name]) for name in losses)
    assert all(torch.equal(gradients[name], moved[name]) for name in gradients)
    assert model.state_dict().keys() == attach(tiny(), "igam").state_dict().keys()
    after = detections(copy.deepcopy(model))
    assert not torch.equal(found[0]["scores"], after[0]["scores"])
    model.eval()
    with pytest.raises(ArgumentError, match="TorchScript"):
        torch.jit.script(model)
    with pytest.raises(ArgumentError, match="to be exported"):
        torch.onnx.export(model, (batch()[0],), "never.onnx", dynamo=False)
    with pytest.raises(ArgumentError, match="decides with an adjustment"):
        detach(model)
    model.roi_heads.box_predictor.adjustment = None
    assert all(
        torch.equal(one["scores"], other["scores"])
        for one, other in zip(found, detections(detach(model)), strict=True)
    )


@pytest.mark.parametrize("head", ["linear", "igam", "igam+objectness"])
def test_true_boxes_are_read_from_sets_and_from_batches_alike(splits: BoxSplits, head: str) -> None:
    name, plus, _ = head.partition("+")
    model = network(name, objectness=bool(plus))

    def batches(boxes: Any) -> Any:
        for images, targets, _ in PlainBoxBatches(boxes, 4):
            yield pixels(images), targets

    rows, same = true_boxes(model, splits.train), true_boxes(model, batches(splits.train))
    assert all(torch.equal(one, other) for one, other in zip(rows, same, strict=True))
    embedded = [(x, y) for x, y, _ in embed_truth(model, splits.train)]
    x, y = (torch.cat(column) for column in zip(*embedded, strict=True))
    assert torch.equal(rows.embeddings, x)
    assert torch.equal(rows.labels + 1, y)
    with torch.no_grad():
        z = model.roi_heads.box_predictor.cls_score(x)[:, 1:]
    torch.testing.assert_close(rows.scores.softmax(1), z.softmax(1))
    whole = ClassGeometry.fit(x, y - 1, 3, scale="unit" if "igam" in head else "raw")
    streamed = class_geometry(model, splits.train)
    torch.testing.assert_close(streamed.means, whole.means)
    torch.testing.assert_close(streamed.log_volume, whole.log_volume)
    found = fit_geometry(model, splits.train, splits.train, moments="train")
    again = fit_geometry(model, batches(splits.train), batches(splits.train), moments="train")
    assert (found.a, found.b, found.e) == (again.a, again.b, again.e)
    adjusted = found.apply(rows.scores, rows.embeddings).argmax(1)
    model.roi_heads.box_predictor.adjustment = found
    told = classify_truth(model, splits.train)
    assert told is not None
    assert told.accuracy == pytest.approx(float((adjusted == rows.labels).double().mean()))


def apart(rows: int, seed: int) -> TrueBoxes:
    """Boxes of three classes that their embeddings tell apart and their logits do not."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(rows) % 3
    return TrueBoxes(
        torch.randn(rows, 3, generator=draw),
        y,
        torch.randn(rows, 256, generator=draw) + 9 * torch.eye(3, 256)[y],
    )


def test_what_is_fitted_is_tried_on_boxes_that_it_has_not_seen(tmp_path: Path) -> None:
    model = network()
    found = fit_boxes(model, apart(90, 0))
    after, trials = try_boxes(model, apart(90, 0))
    assert trials.rows == 90
    assert trials.tried[0].helps
    assert trials.tried[0].balanced_accuracy == float((after == apart(90, 0).labels).double().mean()) > 0.95
    noise = apart(90, 1)._replace(labels=torch.randint(3, (90,), generator=torch.Generator().manual_seed(5)))
    _, trials = try_boxes(model, noise)
    # By means of the boxes themselves nearly all would be right: there are more dimensions than boxes.
    assert trials.tried[0].accuracy < 1 / 3 + 3 * (2 / 9 / 90) ** 0.5

    found.save(tmp_path / "geometry.safetensors")
    read = GeometryAdjustment.load(tmp_path / "geometry.safetensors")
    model.roi_heads.box_predictor.adjustment = read
    other = network()
    with torch.no_grad():
        other.roi_heads.head.weight[0, 0] += 1e-3
    with pytest.raises(ArgumentError, match="fitted on another detector"):
        other.roi_heads.box_predictor.adjustment = read
    model.roi_heads.box_predictor.adjustment = GeometryAdjustment(geometry_of(24, 3), b=1.0)
    with pytest.raises(ArgumentError, match="embeddings: got shape"):
        scored(model, torch.zeros(1, 256))


def test_what_cannot_be_fitted_is_said(splits: BoxSplits) -> None:
    plain = build_detector("small-fpn", 4, image_size=96)
    with pytest.raises(ArgumentError, match="model: got FasterRCNN; expected an R-CNN with a head of ours"):
        fit_geometry(plain, splits.validation)
    alone = attach(build_detector("small-fpn", 2, image_size=96), "linear")
    with pytest.raises(ArgumentError, match="one class beside the background"):
        fit_geometry(alone, splits.validation)
    empty = splits.test.subset([i for i, picture in enumerate(splits.test) if not len(picture.labels)])
    with pytest.raises(ArgumentError, match="data: got no box in voc"):
        fit_geometry(network(), empty)
    with pytest.raises(ArgumentError, match="data: got no box in validation"):
        fit_geometry(network(), [])
