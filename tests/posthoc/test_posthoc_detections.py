"""Offsets on the scores of detectors, beside brute force, scipy, transformers and pycocotools."""

import math
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax
from torch import Tensor

from bisector.errors import ArgumentError, install_command
from bisector.information.geometry import ClassGeometry
from bisector.posthoc import (
    Adjustment,
    GeometryAdjustment,
    adjust,
    adjust_detr,
    adjust_results,
    adjust_scores,
    level_offsets,
    offsets_from_counts,
)
from bisector.posthoc.detections import adjust_logits
from coco_peers import pycocotools_evaluation
from posthoc_cases import COUNTS, posterior_scores

IDS = [3, 18, 44]


def boxes_of(seed: int, rows: int, classes: int) -> tuple[Tensor, Tensor]:
    """Softmax scores with the background last, some of them 0, and offsets."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([0.3] * (classes + 1), size=rows)
    p[rng.random(p.shape) < 0.1] = 0
    return torch.from_numpy(p), torch.from_numpy(2 * rng.normal(size=classes))


@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0.5, 3))
def test_a_softmax_keeps_what_is_foreground_and_moves_the_odds_within(seed, classes, temperature):
    p, b = boxes_of(seed, 5, classes)
    found = adjust_scores(p, Adjustment(b, temperature), background=-1)
    for row, mine in zip(p.tolist(), found.tolist(), strict=True):
        foreground = row[:-1]
        weights = [s ** (1 / temperature) * math.exp(o) for s, o in zip(foreground, b.tolist(), strict=True)]
        total = sum(weights)
        expected = [sum(foreground) * w / total if total else 0.0 for w in weights]
        assert mine == pytest.approx([*expected, row[-1]], rel=1e-9, abs=1e-12)
    first = adjust_scores(p.roll(1, dims=1), Adjustment(b, temperature), background=0)
    torch.testing.assert_close(first.roll(-1, dims=1), found)
    torch.testing.assert_close(adjust_scores(p[:, :-1], Adjustment(b, temperature)), found[:, :-1])
    # Only differences of the offsets matter, and zeros change nothing.
    torch.testing.assert_close(adjust_scores(p, Adjustment(b + 7, temperature), background=-1), found)
    torch.testing.assert_close(adjust_scores(p, 0 * b, background=-1), p)


def geometry_for(seed: int, classes: int, dim: int = 4) -> tuple[ClassGeometry, Tensor]:
    """The geometry of some rows, and embeddings of five others."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(6 * classes) % classes
    x = torch.randn(len(y), dim, generator=draw, dtype=torch.float64) + 2 * y[:, None]
    return ClassGeometry.fit(x, y), torch.randn(5, dim, generator=draw, dtype=torch.float64)


@given(st.integers(0, 10**6), st.integers(2, 6), st.floats(0, 2), st.floats(-1, 1), st.floats(-1, 1))
def test_a_geometry_keeps_what_is_foreground_and_decides_within(seed, classes, a, b, e):
    p, _ = boxes_of(seed, 5, classes)
    geometry, x = geometry_for(seed, classes)
    found = adjust_scores(p, GeometryAdjustment(geometry, a, b, e), background=-1, embeddings=x)
    fit, volume = geometry.evidence(x).numpy(), geometry.log_volume.numpy()
    foreground = p[:, :-1].numpy()
    z = a * np.log(np.maximum(foreground, np.finfo(float).tiny)) + b * fit - e * (volume - volume.mean())
    expected = foreground.sum(1, keepdims=True) * softmax(z, axis=1)
    np.testing.assert_allclose(found[:, :-1].numpy(), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found[:, -1].numpy(), p[:, -1].numpy(), rtol=1e-12)
    np.testing.assert_allclose(found.sum(1).numpy(), p.sum(1).numpy(), rtol=1e-9)
    whole = GeometryAdjustment(geometry, a, b, e)
    p = p.clamp_min(1e-9)
    logits = adjust_logits(p.log() + 3, whole, background=-1, embeddings=x)
    torch.testing.assert_close(
        logits.softmax(1), adjust_scores(p / p.sum(1, keepdim=True), whole, background=-1, embeddings=x)
    )
    assert torch.equal(logits[:, -1], p[:, -1].log() + 3)


def test_a_geometry_that_is_the_identity_gives_the_very_scores():
    p, _ = boxes_of(0, 5, 3)
    geometry, x = geometry_for(0, 3)
    identity = GeometryAdjustment(geometry)
    for scores in (p, p.float(), p.half()):
        assert torch.equal(adjust_scores(scores, identity, background=-1, embeddings=x), scores)
        assert torch.equal(adjust_logits(scores, identity, background=-1), scores)
    other = adjust_scores(p, GeometryAdjustment(geometry, a=0.5), background=-1, embeddings=x)
    torch.testing.assert_close(other, adjust_scores(p, Adjustment(torch.zeros(3), 2.0), background=-1))
    assert not torch.equal(other, p)  # a temperature changes no class, but an AP


def test_where_a_geometry_cannot_decide_it_says_what_is_missing():
    p, _ = boxes_of(0, 5, 3)
    geometry, x = geometry_for(0, 3)
    moved = GeometryAdjustment(geometry, b=1.0)
    for how, told in (
        ({"background": -1}, "embeddings: got None; expected those of the rows"),
        ({"background": -1, "embeddings": x[:4]}, "embeddings: got shape"),
        ({"background": -1, "embeddings": x[:, :3]}, "embeddings"),
        (
            {"embeddings": x, "activation": "sigmoid"},
            "offsets: got a GeometryAdjustment; expected class offsets",
        ),
    ):
        with pytest.raises(ArgumentError, match=told):
            adjust_scores(p if "background" in how else p[:, :-1], moved, **how)
    with pytest.raises(ArgumentError, match=r"expected \(\.\.\., 4\)"):
        adjust_scores(p[:, :-1], moved, background=-1, embeddings=x)
    for refused in (
        lambda: adjust_results([], moved, [1, 2, 3]),
        lambda: adjust_detr({"logits": p[None].log()}, moved, activation="softmax"),
    ):
        with pytest.raises(ArgumentError, match="expected class offsets: any other moves a softmax"):
            refused()


@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0.5, 3))
def test_sigmoids_move_each_by_itself(seed, classes, temperature):
    rng = np.random.default_rng(seed)
    p, b = rng.random((2, 4, classes)), rng.normal(size=classes)
    p[0, 0, 0], p[1, 1, 0] = 0, 1
    found = adjust_scores(
        torch.from_numpy(p), Adjustment(torch.from_numpy(b), temperature), activation="sigmoid"
    )
    assert found.numpy() == pytest.approx(expit(logit(p) / temperature + b))


def test_the_prior_taken_out_leaves_the_balanced_posterior_among_the_classes():
    logits, _ = posterior_scores(200, seed=1)
    objectness = torch.linspace(0.01, 0.99, 200, dtype=torch.float64)[:, None]
    scores = torch.cat([1 - objectness, objectness * logits.softmax(1)], dim=1)
    found = adjust_scores(scores, offsets_from_counts(COUNTS), background=0)
    balanced = (logits - (COUNTS / COUNTS.sum()).log()).softmax(1)
    torch.testing.assert_close(found, torch.cat([1 - objectness, objectness * balanced], dim=1))


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_offsets_of_counts_are_those_of_the_prior_and_keep_the_expected_number(tau: float) -> None:
    counts = torch.tensor([900.0, 90.0, 9.0, 0.0], dtype=torch.float64)
    found = offsets_from_counts(counts, tau, class_names=("a", "b", "c", "d"))
    prior = adjust(torch.zeros(1, 4), method="prior", class_counts=counts, tau=tau)
    torch.testing.assert_close(found.offsets - found.offsets[0], prior.offsets - prior.offsets[0])
    filled = counts.clamp_min(9)
    assert float((filled * found.offsets.exp()).sum()) == pytest.approx(float(filled.sum()))
    if tau == 1:
        torch.testing.assert_close(found.offsets, -(filled / filled.mean()).log())
    assert (found.method, found.settings["tau"], found.class_names[3]) == ("prior", tau, "d")
    shifted = level_offsets(found.offsets + 3, filled)
    torch.testing.assert_close(shifted, found.offsets)


def test_the_dtype_that_came_in_goes_out_and_no_box_is_fine() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        scores = torch.tensor([[0.5, 0.25, 0.25]], dtype=dtype)
        found = adjust_scores(scores, torch.zeros(2), background=0)
        assert found.dtype == dtype
        torch.testing.assert_close(found, scores)
    assert adjust_scores(torch.zeros(0, 3), torch.zeros(3)).shape == (0, 3)
    assert adjust_scores(torch.full((2, 5, 4), 0.2), torch.zeros(3), background=-1).shape == (2, 5, 4)


SMALL = {"d_model": 16, "num_queries": 6, "num_labels": 4} | {
    f"{part}_{what}": n
    for part in ("encoder", "decoder")
    for what, n in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))
}
TINY = {"embedding_size": 8, "layer_type": "basic"}


def detr() -> tuple[Any, Any]:
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor, ResNetConfig

    backbone = ResNetConfig(hidden_sizes=[8, 16], depths=[1, 1], out_features=["stage2"], **TINY)
    own = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}
    return DetrForObjectDetection(DetrConfig(backbone_config=backbone, **own, **SMALL)), DetrImageProcessor()


def rt_detr() -> tuple[Any, Any]:
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrImageProcessor, RTDetrResNetConfig

    stages = ["stage2", "stage3", "stage4"]
    backbone = RTDetrResNetConfig(hidden_sizes=[8, 16, 16, 16], depths=[1] * 4, out_features=stages, **TINY)
    own = {"encoder_in_channels": [16] * 3, "decoder_in_channels": [16] * 3, "encoder_hidden_dim": 16}
    own |= {"use_pretrained_backbone": False, "num_denoising": 0}
    model = RTDetrForObjectDetection(RTDetrConfig(backbone_config=backbone, **own, **SMALL))
    return model, RTDetrImageProcessor()


@pytest.mark.slow
@pytest.mark.parametrize("build", [detr, rt_detr])
def test_outputs_of_transformers_go_through_their_own_post_processing(build: Any) -> None:
    model, processor = build()
    torch.manual_seed(0)
    with torch.no_grad():
        outputs = model.eval()(torch.randn(2, 3, 64, 64))
        outputs["logits"] = outputs.logits + 2 * torch.randn_like(outputs.logits)
    b = torch.tensor([0.0, 1.0, -1.0, 2.0])
    before = outputs.logits.clone()
    adjusted = adjust_detr(outputs, b, activation="softmax" if build is detr else "sigmoid")
    assert type(adjusted) is type(outputs)
    assert torch.equal(outputs.logits, before)
    sizes = [(100, 100)] * 2
    found = processor.post_process_object_detection(adjusted, threshold=0.0, target_sizes=sizes)
    plain = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=sizes)
    for image in range(2):
        if build is detr:  # one class a query, in the order of the queries
            p = adjust_scores(before[image].softmax(-1), b, background=-1)
            scores, labels = p[:, :-1].max(-1)
            assert found[image]["labels"].tolist() == labels.tolist()
            torch.testing.assert_close(found[image]["boxes"], plain[image]["boxes"])
            torch.testing.assert_close(p[:, -1], before[image].softmax(-1)[:, -1])
        else:  # the best of all queries and classes
            p = adjust_scores(before[image].sigmoid(), b, activation="sigmoid")
            scores = p.flatten().topk(len(found[image]["scores"])).values
        torch.testing.assert_close(found[image]["scores"], scores)


def test_other_outputs_with_logits() -> None:
    logits = torch.randn(2, 3, 5)
    b = torch.randn(4)
    by_name = adjust_detr({"pred_logits": logits, "pred_boxes": "as they were"}, b, activation="softmax")
    assert by_name["pred_boxes"] == "as they were"
    moved = by_name["pred_logits"]
    torch.testing.assert_close(
        moved.softmax(-1), adjust_scores(logits.softmax(-1), b, background=-1), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(moved[..., -1], logits[..., -1])
    space = SimpleNamespace(logits=logits[..., :4], other=1)
    twin = adjust_detr(space, Adjustment(b, temperature=2.0), activation="sigmoid")
    torch.testing.assert_close(twin.logits, logits[..., :4] / 2 + b)
    assert (twin.other, twin is space, space.logits.shape) == (1, False, (2, 3, 4))


def records_of(seed: int, vectors: bool, images: int = 4, boxes: int = 12) -> list[dict]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(images * boxes):
        box = {
            "image_id": int(rng.integers(1, images + 1)),
            "bbox": [float(v) for v in (*(60 * rng.random(2)), *(10 + 30 * rng.random(2)))],
        }
        if vectors:
            box["scores"] = rng.dirichlet([0.5] * 4).tolist()
        else:
            box |= {"score": float(rng.random()), "category_id": IDS[int(rng.integers(3))]}
        found.append({**box, "note": len(found)})
    return found


OFFSETS = torch.tensor([-1.0, 0.5, 2.0])


@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_every_class_of_a_vector_above_the_threshold_becomes_a_record(threshold: float) -> None:
    records = records_of(0, vectors=True)
    kept = [dict(record) for record in records]
    found = adjust_results(records, OFFSETS, IDS, background=0, threshold=threshold)
    expected = {}
    for record in records:
        p = adjust_scores(torch.tensor(record["scores"], dtype=torch.float64), OFFSETS, background=0)
        for category, score in zip(IDS, p[1:].tolist(), strict=True):
            if score >= threshold:
                expected[record["note"], category] = score
    assert {(r["note"], r["category_id"]): r["score"] for r in found} == pytest.approx(expected)
    assert len(found) == len(expected)
    assert [(r["image_id"], -r["score"]) for r in found] == sorted(
        (r["image_id"], -r["score"]) for r in found
    )
    assert all(set(r) == {"image_id", "bbox", "note", "category_id", "score"} for r in found)
    assert records == kept


def test_one_score_keeps_its_class_and_its_odds_are_multiplied() -> None:
    records = records_of(1, vectors=False)
    found = adjust_results(records, OFFSETS, IDS)
    assert len(found) == len(records)
    for record in found:
        before = records[record["note"]]
        assert record["category_id"] == before["category_id"]
        factor = math.exp(OFFSETS[IDS.index(before["category_id"])])
        odds = factor * before["score"] / (1 - before["score"])
        assert record["score"] == pytest.approx(odds / (1 + odds))
    best = adjust_results(records, OFFSETS, IDS, per_image=2)
    images = sorted({record["image_id"] for record in records})
    assert best == [r for image in images for r in [f for f in found if f["image_id"] == image][:2]]


@pytest.mark.parametrize("vectors", [True, False])
def test_suppression_is_that_of_each_image_and_class(vectors: bool) -> None:
    from torchvision.ops import box_convert, nms

    records = records_of(2, vectors)
    options = {"background": 0, "threshold": 0.1}
    every = adjust_results(records, OFFSETS, IDS, **options)
    found = adjust_results(records, OFFSETS, IDS, nms_iou=0.3, **options)
    expected = []
    for image in {r["image_id"] for r in every}:
        for category in IDS:
            group = [r for r in every if (r["image_id"], r["category_id"]) == (image, category)]
            if group:
                boxes = box_convert(
                    torch.tensor([r["bbox"] for r in group], dtype=torch.float64), "xywh", "xyxy"
                )
                scores = torch.tensor([r["score"] for r in group], dtype=torch.float64)
                expected += [group[k] for k in nms(boxes, scores, 0.3).tolist()]
    assert 0 < len(found) < len(every)
    assert sorted((r["note"], r["category_id"]) for r in found) == sorted(
        (r["note"], r["category_id"]) for r in expected
    )


def coco_precision(records: list[dict]) -> np.ndarray:
    """COCO's precision (10 overlaps, 101 recalls, 3 classes) against random boxes."""
    rng = np.random.default_rng(5)
    annotations = []
    for number, record in enumerate(records_of(2, vectors=False)[::2], start=1):
        box = [float(v + rng.normal()) for v in record["bbox"]]
        there = {"id": number, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        annotations.append(there | {key: record[key] for key in ("image_id", "category_id")})
    truth = {
        "info": {},
        "images": [{"id": k} for k in range(1, 5)],
        "categories": [{"id": k, "name": str(k)} for k in IDS],
        "annotations": annotations,
    }
    evaluation = pycocotools_evaluation(truth, [dict(record) for record in records])
    return evaluation.eval["precision"][:, :, :, 0, 2]


def test_scores_by_themselves_change_an_ap_only_through_a_limit_of_boxes() -> None:
    records = records_of(2, vectors=False)
    plain = coco_precision(records)
    assert plain.mean() > 0.1
    assert coco_precision(adjust_results(records, OFFSETS, IDS)) == pytest.approx(plain)
    limited = [adjust_results(records, b, IDS, per_image=6) for b in (0 * OFFSETS, OFFSETS)]
    few = [coco_precision(r).mean(axis=(0, 1)) for r in limited]
    assert few[1][2] > few[0][2]  # the class that was lifted
    assert few[1][0] < few[0][0]  # the class that was pressed


NAN = torch.full((3,), torch.nan)
GOOD = {"image_id": 1, "category_id": 3, "score": 0.5}


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: adjust_scores(torch.zeros(2, 3), torch.zeros(3), background=0), r"shape \(2, 3\).*, 4\)"),
        (lambda: adjust_scores(torch.zeros(2, 3).long(), torch.zeros(3)), "scores: got torch.int64"),
        (lambda: adjust_scores(torch.ones(2, 3), torch.zeros(3)), "probabilities of a softmax"),
        (
            lambda: adjust_scores(NAN[None], torch.zeros(3), activation="sigmoid"),
            "probabilities of a sigmoid",
        ),
        (lambda: adjust_scores(torch.zeros(2, 3), torch.zeros(3), activation="sigmod"), "did you mean 'sigm"),
        (lambda: adjust_scores(torch.zeros(2, 3), torch.zeros(2), background=1), "background: got 1"),
        (lambda: adjust_scores([0.5], torch.zeros(1)), "scores: got list"),
        (lambda: adjust_scores(torch.zeros(2, 3), torch.zeros(2), background=[0]), r"background: got \[0\]"),
        (lambda: adjust_scores(torch.zeros(2, 3), NAN), "offsets: got NaN"),
        (
            lambda: adjust_detr({"boxes": 1}, torch.zeros(3), activation="softmax"),
            "outputs: got dict without logits",
        ),
        (
            lambda: adjust_detr({"logits": torch.zeros(1, 2, 3)}, torch.zeros(3), activation="softmax"),
            r"\(1, 2, 3\); expected \(N, Q, 4\) of a softmax",
        ),
        (lambda: offsets_from_counts([1, -2]), "class_counts: got -2.0"),
        (lambda: offsets_from_counts([0, 0]), "class_counts: got 0 for every class"),
        (lambda: offsets_from_counts("many"), "class_counts: got str"),
        (lambda: offsets_from_counts([1, 2], tau=-1), "tau: got -1"),
        (lambda: level_offsets(torch.zeros(2), torch.ones(3)), r"class_counts: got shape \(3,\)"),
        (lambda: adjust_results([GOOD], OFFSETS, [3, 18]), "category_ids: got 2 ids; expected 3"),
        (lambda: adjust_results([GOOD], OFFSETS, [3, 3, 4]), "category_ids: got an id twice"),
        (
            lambda: adjust_results([GOOD, {**GOOD, "category_id": 99}], OFFSETS, IDS),
            r"records\[1\]: got category_id 99; expected one of the 3",
        ),
        (lambda: adjust_results([{**GOOD, "score": 3}], OFFSETS, IDS), r"records\[0\]: got score 3"),
        (lambda: adjust_results([{"image_id": 1}], OFFSETS, IDS), r"records\[0\]: got score None"),
        (lambda: adjust_results([{"score": 0.5}], OFFSETS, IDS), r"records\[0\]: got image_id None"),
        (lambda: adjust_results([7], OFFSETS, IDS), r"records\[0\]: got int"),
        (
            lambda: adjust_results([{"image_id": 1, "scores": [0.1]}], OFFSETS, IDS, background=-1),
            r"records\[0\]: got 1 scores; expected 4",
        ),
        (
            lambda: adjust_results([{"image_id": 4, "scores": [0.9, 0.9, 0.1]}], OFFSETS, IDS),
            "records of image 4: scores: .*probabilities of a softmax",
        ),
        (
            lambda: adjust_results([{"image_id": 4, "scores": [0.1, None, 0.1]}], OFFSETS, IDS),
            "records of image 4: ",
        ),
        (lambda: adjust_results([GOOD], OFFSETS, IDS, nms_iou=0.5), r"records\[0\]: got bbox None"),
        (lambda: adjust_results([GOOD], OFFSETS, IDS, per_image=0), "per_image: got 0"),
        (lambda: adjust_results([GOOD], OFFSETS, IDS, threshold=2), "threshold: got 2"),
    ],
)
def test_complaints_are_one_line_and_name_what_is_wrong(call: Any, told: str) -> None:
    with pytest.raises(ArgumentError, match=told) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_no_record_is_no_record() -> None:
    assert adjust_results([], OFFSETS, IDS) == []


def test_torchvision_is_asked_for_only_where_it_is_needed() -> None:
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "import torch\n"
        "from bisector.posthoc import adjust_results\n"
        "record = {'image_id': 1, 'category_id': 3, 'score': 0.5, 'bbox': [0, 0, 1, 1]}\n"
        "print(adjust_results([record], torch.zeros(1), [3])[0]['score'])\n"
        "try:\n    adjust_results([record], torch.zeros(1), [3], nms_iou=0.5)\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout.splitlines()[0] == "0.5", done.stderr
    assert install_command("detection") in done.stdout
