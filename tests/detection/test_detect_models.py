"""Detectors by name, with published weights or without."""

import os
from pathlib import Path

import pytest
import torch
from torchvision.models import MobileNet_V3_Large_Weights, mobilenet_v3_large
from torchvision.models.detection import FasterRCNN_MobileNet_V3_Large_320_FPN_Weights as PublishedWeights
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn as published

from bisector.detection.models import build_detector, fix_parts, fixed_parts
from bisector.detection.recipe import MODELS
from bisector.errors import ArgumentError

NAME = "fasterrcnn_mobilenet_v3_large_320_fpn"


@pytest.fixture
def weights_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights where torchvision keeps those that it has downloaded; ours are random."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(5)
    backbone = mobilenet_v3_large(weights=None).state_dict()
    torch.save(backbone, folder / Path(MobileNet_V3_Large_Weights.DEFAULT.url).name)
    whole = published(weights=None, weights_backbone=None, num_classes=91).state_dict()
    whole = {k: v for k, v in whole.items() if not k.endswith("num_batches_tracked")}  # its norms are frozen
    torch.save(whole, folder / Path(PublishedWeights.DEFAULT.url).name)
    return folder


@pytest.mark.parametrize("name", ["small-fpn", NAME])
def test_a_model_has_the_classes_and_the_size_that_were_asked_for(name: str) -> None:
    model = build_detector(name, 6, image_size=96)
    assert model.roi_heads.box_predictor.cls_score.out_features == 6
    assert model.transform.min_size == (96,)
    assert model.transform.max_size == (96 if name == "small-fpn" else 160)


@pytest.mark.slow
def test_every_name_builds_and_the_first_weights_are_a_function_of_the_seed() -> None:
    for name in MODELS:
        first = []
        for _ in range(2):
            torch.manual_seed(1)
            first.append(next(build_detector(name, 3).parameters()))
        assert torch.equal(*first), name


@pytest.mark.parametrize("kind", ["pretrained", "pretrained_backbone"])
def test_from_a_checkpoint_a_pretrained_model_is_built_without_its_weights(
    weights_at_hand: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    model = build_detector(NAME, 5, image_size=64, **{kind: True})
    assert model.roi_heads.box_predictor.cls_score.out_features == 5
    fixed = fixed_parts(model)
    assert fixed["norms"]
    assert fixed["parameters"]

    monkeypatch.setenv("TORCH_HOME", os.devnull)
    again = build_detector(NAME, 5, image_size=64)
    fix_parts(again, fixed)
    again.load_state_dict(model.state_dict())
    assert fixed_parts(again) == fixed
    image = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))]
    with torch.no_grad():
        one, other = model.eval()(image)[0], again.eval()(image)[0]
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_what_cannot_be_had_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(ArgumentError, match=r"pretrained: got .*, whose weights cannot be downloaded"):
        build_detector(NAME, 5, pretrained=True)
    with pytest.raises(ArgumentError, match="small-fpn; expected one of torchvision's models"):
        build_detector("small-fpn", 5, pretrained=True)
    with pytest.raises(ArgumentError, match="did you mean 'small-fpn'"):
        build_detector("small-fnp", 5)
