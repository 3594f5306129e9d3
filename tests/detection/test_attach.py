"""A torchvision R-CNN with a head of ours, against torchvision itself and references written by hand."""

import copy
import io
import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads

import bisector as bs
from bisector.detection import attach, detach
from bisector.detection.roi_heads import MarginRoIHeads
from detection_cases import CLASSES, batch, detections, step, tiny

HEADS = [
    ("igam", {}),
    ("igam", {"sub_centers": 2, "learnable_scale": True}),
    ("igam:gain=2", {"objectness": True}),
    ("c2am", {"class_agnostic": True}),
    ("normalized-softmax", {"objectness": True, "class_agnostic": True}),
    ("arcface", {}),
    ("linear", {"sub_centers": 3}),
    ("logit-adjusted", {"class_counts": [50, 40, 3, 2, 1]}),
    ("count-guided", {"class_counts": torch.tensor([50, 40, 3, 2, 1])}),
]
IN_PREDICTOR = "roi_heads.box_predictor."


def same(a: list[dict[str, Tensor]], b: list[dict[str, Tensor]]) -> bool:
    return all(torch.equal(x[key], y[key]) for x, y in zip(a, b, strict=True) for key in x)


@pytest.mark.parametrize("classes", [CLASSES, 2])
@pytest.mark.parametrize("kind", [FasterRCNN, MaskRCNN])
def test_linear_is_torchvision_bit_for_bit(kind, classes):
    plain, ours = tiny(kind, classes=classes), attach(tiny(kind, classes=classes), "linear")
    masks = kind is MaskRCNN
    how = {"masks": masks, "classes": classes}
    (losses, gradients), (our_losses, our_gradients) = step(plain, **how), step(ours, **how)
    assert {name: loss.item() for name, loss in losses.items()} == {
        name: loss.item() for name, loss in our_losses.items()
    }
    assert len(losses) == (5 if masks else 4)
    renamed = {f"{IN_PREDICTOR}head.{k}": f"{IN_PREDICTOR}cls_score.{k}" for k in ("weight", "bias")}
    assert {renamed.get(name, name) for name in our_gradients} == set(gradients)
    for name, gradient in our_gradients.items():
        assert torch.equal(gradient, gradients[renamed.get(name, name)]), name
    assert same(detections(plain), detections(ours))


def test_without_margin_a_step_is_the_one_written_by_hand():
    ours, plain = attach(tiny(), "igam:scale=12"), tiny()
    losses, gradients = step(ours)
    plain.train()
    torch.manual_seed(1)
    images, targets = plain.transform(*batch())
    features = plain.backbone(images.tensors)
    proposals, of_rpn = plain.rpn(images, features, targets)
    heads = plain.roi_heads
    proposals, _, labels, aims = heads.select_training_samples(proposals, targets)
    x = heads.box_head(heads.box_roi_pool(features, proposals, images.image_sizes))
    labels, aims = torch.cat(labels), torch.cat(aims)
    weight = heads.box_predictor.cls_score.weight
    loss = F.cross_entropy(12 * F.normalize(x) @ F.normalize(weight).T, labels)
    deltas = heads.box_predictor.bbox_pred(x).view(len(x), CLASSES, 4)
    there = labels.nonzero()[:, 0]
    boxes = F.smooth_l1_loss(deltas[there, labels[there]], aims[there], beta=1 / 9, reduction="sum") / len(x)
    (loss + boxes + sum(of_rpn.values())).backward()
    torch.testing.assert_close(losses["loss_classifier"], loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses["loss_box_reg"], boxes)
    by_hand = dict(plain.named_parameters())
    for name, gradient in gradients.items():
        expected = by_hand[name.replace("box_predictor.head.", "box_predictor.cls_score.")].grad
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("spec", "options"), HEADS)
def test_a_detached_model_is_torchvisions_and_scores_the_same(spec, options):
    model = attach(tiny(), spec, **options)
    step(model)
    before = detections(model)
    plain = detach(model)
    assert plain is model
    assert type(model.roi_heads) is RoIHeads
    assert not any(isinstance(part, bs.Head) for part in model.modules())
    assert same(before, detections(model))
    scores = before[0]["scores"]
    assert len(scores)
    assert bool(((scores >= 0) & (scores <= 1)).all())


def test_after_linear_the_plain_model_has_torchvisions_predictor():
    plain, model = tiny(), detach(attach(tiny(), "linear"))
    assert type(model.roi_heads.box_predictor) is FastRCNNPredictor
    assert list(model.state_dict()) == list(plain.state_dict())
    assert same(detections(plain), detections(model))
    step(model)


@pytest.mark.parametrize(("spec", "options"), HEADS)
def test_torchscript_takes_the_attached_model_and_leaves_it_attached(spec, options):
    model = attach(tiny(), spec, **options)
    found = detections(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        scripted = torch.jit.script(model)
        file = io.BytesIO()
        torch.jit.save(scripted, file)
        file.seek(0)
        again = torch.jit.load(file)
    with torch.no_grad():
        _, theirs = again(batch()[0])
    for mine, other in zip(found, theirs, strict=True):
        torch.testing.assert_close(mine["scores"], other["scores"])
        torch.testing.assert_close(mine["boxes"].sum(0), other["boxes"].sum(0), rtol=1e-3, atol=1e-2)
    assert isinstance(model.roi_heads, MarginRoIHeads)
    assert isinstance(model.roi_heads.head, bs.Head)
    step(model)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{}, {"objectness": True, "class_agnostic": True}])
def test_onnx_takes_the_attached_model(options, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = attach(tiny(), "igam", **options)
    step(model)
    image = batch()[0][0]
    with torch.no_grad():
        found = model.eval()([image])[0]
    file = tmp_path / "detector.onnx"
    torch.onnx.export(model, ([image],), file, input_names=["image"], dynamo=False, opset_version=17)
    boxes, labels, scores = onnxruntime.InferenceSession(file).run(None, {"image": image.numpy()})
    assert boxes.shape == (len(scores), 4)
    assert labels.shape == scores.shape
    first = slice(5)  # the last ones may fall on the other side of a threshold
    torch.testing.assert_close(torch.from_numpy(scores[first]), found["scores"][first], rtol=1e-3, atol=1e-4)


def test_the_background_takes_no_part():
    model = attach(tiny(), "igam")
    head, amounts = model.roi_heads.head, torch.tensor([float("nan"), 5.0, 9.0, 2.0, 7.0, 3.0])
    head.set_amounts(amounts)
    alone = bs.IGAM(24, CLASSES - 1)
    alone.set_amounts(amounts[1:])
    matrix = head.guide.matrix()
    assert torch.equal(matrix[1:, 1:], alone.guide.matrix())
    assert matrix[0].abs().max() == matrix[:, 0].abs().max() == 0
    assert matrix.max() > 0
    x, everywhere = torch.randn(60, 24), torch.arange(60) % CLASSES
    head.observe(x, everywhere)
    assert head.information.counts.tolist() == [0, 10, 10, 10, 10, 10]
    weights = attach(tiny(), "c2am").roi_heads.head
    with torch.no_grad():
        weights.weight[0] *= 1e6  # a background whose vector is long moves nothing
        weights.weight[1] *= 10
    assert weights.guide.matrix()[0].max() == weights.guide.matrix()[:, 0].max() == 0
    reference = bs.C2AM(24, CLASSES - 1)
    reference.load_state_dict({"weight": weights.weight[1:]})
    torch.testing.assert_close(weights.guide.matrix()[1:, 1:], reference.guide.matrix())


@pytest.mark.parametrize("name", bs.HEADS)
def test_one_class_beside_the_background_trains_and_detects(name):
    """As torchvision does with ``num_classes=2``; whatever compares classes has nothing to compare."""
    scale = "" if name in {"linear-softmax", "logit-adjusted"} else ":scale=auto"
    model = attach(tiny(), name + scale, num_classes=2, class_counts=[40])
    head = model.roi_heads.head
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(2):
        losses, gradients = step(model, classes=2)
        optimizer.step()
        model.roi_heads.observe()
        if hasattr(head, "refresh"):
            head.refresh()
        values = [*losses.values(), *gradients.values(), *model.parameters()]
        assert all(value.isfinite().all() for value in values)
    if getattr(head, "guide", None) is not None:
        assert head.guide.largest() == 0
    if name == "igam":
        assert head.amounts.isnan().tolist() == [True, False]
    assert any(len(found["labels"]) for found in detections(model))
    for found in detections(model):
        assert (found["labels"] == 1).all()
        assert found["scores"].isfinite().all()


@pytest.mark.parametrize("head", [bs.AMSoftmax, bs.ArcFace, bs.EnhancedAMSoftmax])
def test_rows_of_background_carry_no_margin(head):
    torch.manual_seed(0)
    made, x = head(8, 4, background=0), torch.randn(6, 8)
    labels = torch.tensor([0, 1, 2, 3, 0, 2])
    rows = head(8, 4, background=0, reduction="none")
    rows.load_state_dict(made.state_dict())
    without = F.cross_entropy(rows.logits(x), labels, reduction="none")
    found = rows(x, labels)
    torch.testing.assert_close(found[labels == 0], without[labels == 0])
    assert bool((found[labels > 0] != without[labels > 0]).all())


def test_with_an_objectness_the_loss_is_of_the_probabilities_that_score():
    model = attach(tiny(), "normalized-softmax", objectness=True)
    predictor = model.roi_heads.box_predictor
    x, labels = torch.randn(40, 24), torch.arange(40) % CLASSES
    expected = F.cross_entropy(predictor.cls_score(x), labels)
    torch.testing.assert_close(predictor.loss(x, labels), expected)
    assert predictor.loss(x, torch.zeros_like(labels)) > 0  # background alone
    probabilities = predictor.cls_score(x).softmax(1)
    torch.testing.assert_close(probabilities[:, 1:].sum(1), predictor.cls_score.objectness(x)[:, 0].sigmoid())


def test_one_box_for_all_classes():
    model = attach(tiny(), "linear", class_agnostic=True)
    assert model.roi_heads.box_predictor.bbox_pred.out_features == 4
    step(model)
    found = detections(model)[0]
    assert len(set(map(tuple, found["boxes"].round(decimals=3).tolist()))) < len(found["boxes"])


@pytest.mark.parametrize("meter_on", ["proposals", "boxes"])
def test_the_meter_sees_the_foreground(meter_on):
    model = attach(tiny(), "igam", meter_on=meter_on)
    for seed in range(3):
        step(model, seed=seed)
        embeddings, _ = model.roi_heads.observed
        assert not embeddings.requires_grad
        model.roi_heads.observe()
        assert model.roi_heads.observed is None
        model.roi_heads.observe()  # nothing is counted twice
    counts = model.roi_heads.head.information.counts
    assert counts[0] == counts[2] == counts[4] == 0
    if meter_on == "boxes":
        assert counts.tolist() == [0, 3, 0, 3, 0, 3]
        found = embeddings_of_truth(model)
        torch.testing.assert_close(embeddings, found)
    else:
        assert counts.sum() >= 9
    info = model.roi_heads.head.refresh()
    assert info.amount[[1, 3, 5]].isfinite().all()
    losses, _ = step(model)
    assert all(loss.isfinite() for loss in losses.values())


def embeddings_of_truth(model: nn.Module) -> Tensor:
    """Those of the boxes by torchvision's own parts."""
    model.eval()
    with torch.no_grad():
        images, targets = model.transform(*batch())
        pooled = model.roi_heads.box_roi_pool(
            model.backbone(images.tensors), [t["boxes"] for t in targets], images.image_sizes
        )
        return model.roi_heads.box_head(pooled)


def test_a_batch_of_background_alone():
    images, targets = batch()
    empty = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)} for _ in targets]
    for options in ({}, {"objectness": True}, {"meter_on": "boxes"}):
        model = attach(tiny(), "igam", **options)
        losses = model(images, empty)
        sum(losses.values()).backward()
        assert all(loss.isfinite() for loss in losses.values())
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        model.roi_heads.observe()
        with pytest.warns(RuntimeWarning, match="no class was observed"):
            model.roi_heads.head.refresh()


def test_weights_that_are_there_are_taken_over_and_others_begin_anew():
    plain = tiny()
    weight = plain.roi_heads.box_predictor.cls_score.weight.detach().clone()
    model = attach(copy.deepcopy(plain), "igam")
    assert torch.equal(model.roi_heads.head.weight, weight)
    model = attach(copy.deepcopy(plain), "igam", objectness=True)
    assert torch.equal(model.roi_heads.head.weight, weight[1:])
    model = attach(copy.deepcopy(plain), "igam", num_classes=11)
    assert model.roi_heads.head.num_classes == 11
    assert model.roi_heads.box_predictor.bbox_pred.out_features == 44
    again = attach(attach(copy.deepcopy(plain), "igam"), "arcface")  # another head in its place
    assert torch.equal(again.roi_heads.head.weight, weight)
    step(again)
    own = bs.IGAM(24, CLASSES, background=0)
    assert attach(copy.deepcopy(plain), own).roi_heads.head is own


def test_a_state_dict_and_a_copy_hold_the_head():
    model = attach(tiny(), "igam")
    step(model)
    model.roi_heads.head.set_amounts(torch.arange(1.0, 1 + model.roi_heads.head.num_classes))
    twin = attach(tiny(seed=5), "igam")
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.roi_heads.head.guide.matrix(), model.roi_heads.head.guide.matrix())
    assert same(detections(model), detections(twin))
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied.roi_heads.head.weight.normal_()
    assert torch.equal(copied.roi_heads.box_predictor.cls_score.weight, copied.roi_heads.head.weight)
    names = [name for name, _ in model.named_parameters()]
    assert len({id(p) for p in model.parameters()}) == len(names)
    double = attach(tiny(), "igam").double()
    assert double.roi_heads.box_predictor.cls_score.weight is double.roi_heads.head.weight


class Cascade(nn.Module):
    """Two stages of RoI heads, the second on the boxes of the first."""

    def __init__(self) -> None:
        super().__init__()
        first, second = tiny(), tiny(seed=1)
        self.model = first
        self.stages = nn.ModuleList([first.roi_heads, second.roi_heads])
        del first.roi_heads

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        images, targets = self.model.transform(images, targets)
        features = self.model.backbone(images.tensors)
        proposals, losses = self.model.rpn(images, features, targets)
        for number, stage in enumerate(self.stages):
            _, of_stage = stage(features, proposals, images.image_sizes, targets)
            losses |= {f"{name}_{number}": loss for name, loss in of_stage.items()}
        return losses


def test_each_stage_of_a_cascade_gets_a_head():
    cascade = attach(Cascade(), "igam")
    first, second = (stage.head for stage in cascade.stages)
    assert first is not second
    losses = cascade(*batch())
    assert {"loss_classifier_0", "loss_classifier_1"} <= set(losses)
    sum(losses.values()).backward()
    assert first.weight.grad is not None
    assert second.weight.grad is not None
    with pytest.raises(bs.ArgumentError, match="one head for 2 stages"):
        attach(Cascade(), bs.IGAM(24, CLASSES, background=0))


def test_under_autocast_margins_are_computed_in_float32():
    model = attach(tiny(), "igam")
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(*batch())
    assert losses["loss_classifier"].dtype == torch.float32
    model.eval()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert model.roi_heads.box_predictor(torch.randn(3, 24))[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("head", "options", "told"),
    [
        ("igum", {}, "did you mean 'igam'"),
        ("igam", {"meter_on": "box"}, "meter_on: got 'box'"),
        ("igam", {"num_classes": 1}, "num_classes"),
        (
            "igam",
            {"num_classes": 2, "objectness": True},
            "objectness: got True with one class; expected False",
        ),
        ("ldam", {}, "class_counts: got None"),
        ("ldam", {"class_counts": [1, 2]}, r"class_counts: got shape \(2,\); expected \(5,\)"),
        ("igam", {"reduction": "sum"}, "reduction"),
        ("igam", {"margni": 3}, "margni"),
        ("igam", {"background": 0}, "background: got 0; expected none"),
        ("igam", {"objectness": 2}, "objectness: got 2"),
        ("igam", {"class_agnostic": "no"}, "class_agnostic: got 'no'"),
        ("ldam", {"class_counts": "many"}, "class_counts: got str"),
        (bs.IGAM, {}, "head: got <class"),
        (None, {}, "head: got None"),
        (bs.IGAM(24, CLASSES), {}, "background=None; expected 6 classes of dim 24, background=0"),
        (bs.IGAM(24, CLASSES, background=0), {"gain": 2}, "options"),
    ],
)
def test_what_cannot_be_attached_is_told_and_changes_nothing(head, options, told):
    model = tiny()
    with pytest.raises(bs.ArgumentError, match=told):
        attach(model, head, **options)
    assert type(model.roi_heads) is RoIHeads
    step(model)


def test_models_without_roi_heads_are_refused():
    for model in (nn.Linear(2, 2), "fasterrcnn"):
        with pytest.raises(bs.ArgumentError, match="model: got"):
            attach(model)
    with pytest.raises(bs.ArgumentError, match="without a head of ours"):
        detach(tiny())


def test_the_functions_are_there_whatever_was_imported_before():
    program = (
        "import bisector.detection.attaching, bisector.detection.roi_heads, bisector as bs;"
        "from bisector.detection import attach, detach; assert callable(attach) and bs.detection.attach is attach"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


class Halved(RoIHeads):
    """RoI heads of a user, whose scores are halved."""

    def postprocess_detections(self, *arguments):
        boxes, scores, labels = super().postprocess_detections(*arguments)
        return boxes, [score / 2 for score in scores], labels


def test_what_a_user_overrides_stays_in_force():
    plain, model = tiny(), tiny()
    model.roi_heads.__class__ = Halved
    attach(model, "linear")
    assert isinstance(model.roi_heads, Halved)
    assert isinstance(model.roi_heads, MarginRoIHeads)
    step(model)
    model.load_state_dict({**model.state_dict(), **plain.state_dict()})
    for ours, theirs in zip(detections(model), detections(plain), strict=True):
        assert torch.equal(ours["scores"], theirs["scores"] / 2)
    attach(model, "igam")
    assert type(detach(model).roi_heads) is Halved


def test_parts_that_are_frozen_stay_so_where_boxes_are_measured():
    head = nn.Sequential(
        nn.Conv2d(8, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 24), nn.ReLU()
    )
    model = attach(tiny(box_head=head), "igam", meter_on="boxes").train()
    head[1].eval()
    before = head[1].running_mean.clone()
    model(*batch())
    assert [part.training for part in head] == [True, False, True, True, True]
    assert torch.equal(head[1].running_mean, before)


def test_a_head_with_amounts_by_hand_is_not_fed():
    model = attach(tiny(), "igam", information=None)
    step(model)
    model.roi_heads.observe()
    assert model.roi_heads.observed is None


@pytest.mark.parametrize("head", ["linear", "igam"])
def test_labels_that_are_no_classes_are_told(head):
    model = attach(tiny(), head)
    for label in (0, CLASSES, -1):
        images, targets = batch()
        targets[0]["labels"][1] = label
        with pytest.raises(bs.ArgumentError, match=f"targets: got label {label}; expected 1 to 5"):
            model(images, targets)
    step(model)


def test_masks_of_another_number_of_classes_are_told():
    model = tiny(MaskRCNN)
    with pytest.raises(bs.ArgumentError, match="mask_predictor: got 6 classes; expected 11"):
        attach(model, "igam", num_classes=11)
    model.roi_heads.mask_predictor = nn.Conv2d(4, 11, 1)
    step(attach(model, "igam", num_classes=11), masks=True)


def test_losses_that_are_only_looked_at_are_no_evidence():
    model = attach(tiny(), "igam")
    with torch.no_grad():
        model(*batch())
    assert model.roi_heads.observed is None


def test_attached_again_a_head_goes_on_from_its_weights():
    for options in ({"sub_centers": 3}, {"objectness": True}):
        model = attach(tiny(), "igam", **options)
        weight = model.roi_heads.head.weight.detach().clone()
        objectness = model.roi_heads.box_predictor.cls_score.objectness
        attach(model, "arcface", **options)
        assert torch.equal(model.roi_heads.head.weight, weight)
        assert model.roi_heads.box_predictor.cls_score.objectness is objectness
        step(model)


def test_an_ignored_class_is_ignored():
    head = bs.LinearSoftmax(24, CLASSES, background=0, ignore_index=1)
    model = attach(tiny(), head)
    assert not model.roi_heads.box_predictor.plain
    step(model)


def test_scores_follow_the_head_where_loading_makes_new_parameters():
    model, other = (
        attach(tiny(), "igam", learnable_scale=True),
        attach(tiny(seed=3), "igam", learnable_scale=True),
    )
    copied = {name: value.clone() for name, value in other.state_dict().items()}
    model.load_state_dict(copied, assign=True)
    predictor = model.roi_heads.box_predictor
    assert predictor.cls_score.weight is predictor.head.weight
    assert predictor.cls_score.log_scale is predictor.head.log_scale
    assert same(detections(model), detections(other))
    model.to_empty(device="cpu")
    assert predictor.cls_score.weight is predictor.head.weight


def test_one_object_in_two_places_gets_one_head():
    model = tiny()
    model.stages = nn.ModuleList([model.roi_heads])
    attach(model, bs.IGAM(24, CLASSES, background=0))
    assert model.stages[0] is model.roi_heads
    assert detach(model).stages[0] is model.roi_heads


def test_the_mode_of_the_predictor_alone_changes_nothing():
    model = attach(tiny(), "igam")
    model.roi_heads.box_predictor.eval()
    losses = model(*batch())
    assert losses["loss_classifier"].isfinite()
    found = detections(model)
    model.roi_heads.box_predictor.train()
    with torch.no_grad():
        assert same(found, model(batch()[0]))


def test_nothing_is_held_where_a_forward_fails():
    model = attach(tiny(MaskRCNN), "igam")
    with pytest.raises(ValueError, match="masks"):  # torchvision's own complaint
        model(*batch())
    model.roi_heads.mask_predictor = nn.Linear(1, 1)
    with pytest.raises(RuntimeError):
        model(*batch(masks=True))
    assert not model.roi_heads.box_predictor.embeddings
    copy.deepcopy(model)


def test_a_step_without_a_single_proposal_is_a_zero():
    images, targets = batch()
    empty = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)} for _ in targets]
    for head in ("linear", "igam"):
        model = attach(tiny(rpn_score_thresh=1.0), head)
        losses = model(images, empty)
        assert losses["loss_classifier"] == losses["loss_box_reg"] == 0
        sum(losses.values()).backward()
        assert all(p.grad is not None for p in model.roi_heads.box_predictor.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["keypointrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"])
def test_torchvisions_other_rcnns_train_and_export(name):
    import torchvision

    torch.manual_seed(0)
    made = getattr(torchvision.models.detection, name)
    model = made(weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=96)
    attach(model, "igam").train()
    images, targets = batch()
    for target in targets:
        target["labels"] = target["labels"].clamp(max=2)
        target["keypoints"] = torch.ones(len(target["labels"]), 17, 3)
    losses = model(images[:1], targets[:1])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    plain = detach(model.eval())
    with torch.no_grad():
        found, (_, again) = plain(images[:1]), torch.jit.script(plain)(images[:1])
    torch.testing.assert_close(found[0]["scores"], again[0]["scores"])
