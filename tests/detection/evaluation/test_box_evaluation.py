import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from bisector.data.boxes import BoxSet, Picture
from bisector.detection.evaluation import (
    BOX_METRICS,
    BoxScores,
    Detections,
    evaluate_boxes,
    relate_scores,
    with_amounts,
)
from bisector.detection.evaluation.scores import BOX_GROUPS, FREQUENCIES
from bisector.errors import ArgumentError
from bisector.records import from_json, to_json

CORNERS = torch.tensor([[10.0, 20, 30, 60], [0, 0, 50, 50], [40, 40, 60, 62]])
NOTHING = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0))


def box_set(*labels, classes=3, **options):
    """One picture for each tuple of labels."""
    pictures = [
        Picture.of(k, f"{k}.jpg", 64, 64, CORNERS[: len(of)], torch.tensor(of), first_id=1 + 3 * k)
        for k, of in enumerate(labels)
    ]
    return BoxSet(pictures, [f"class {c}" for c in range(classes)], name="few", **options)


def perfect(truth):
    return [Detections(p.id, p.boxes, p.labels, torch.ones(len(p.labels))) for p in truth.pictures]


def same(left, right):
    return left == pytest.approx(right, nan_ok=True)


def test_every_box_found_is_one():
    truth = box_set((1, 2), (1,))
    scores = evaluate_boxes(truth, perfect(truth))
    assert same(scores.class_ap, (1, 1, math.nan))
    assert (scores.ap, scores.ap50, scores.ap75, scores.bias, scores.bias50) == pytest.approx((1, 1, 1, 0, 0))
    assert (scores.images, scores.detections, scores.class_boxes) == (2, 3, (2, 1, 0))
    assert scores.notes == ("1 of 3 classes has no box to be found and no AP",)


@pytest.mark.parametrize("style", ["coco", "lvis", "voc"])
def test_no_detection_at_all_is_zero(style):
    truth = box_set((1, 2), (1,), style=style)
    empty = [Detections(picture.id, *NOTHING) for picture in truth.pictures]
    for found in ([], empty):
        scores = evaluate_boxes(truth, found)
        assert same(scores.class_ap, (0, 0, math.nan))
        assert (scores.ap, scores.bias, scores.detections) == (0, 0, 0)


@pytest.mark.parametrize("style", ["coco", "lvis", "voc"])
def test_truth_without_a_box_has_no_score(style):
    for truth in (box_set(style=style), box_set((), (), style=style)):
        found = [Detections(p.id, CORNERS[:1], torch.tensor([1]), torch.ones(1)) for p in truth.pictures]
        scores = evaluate_boxes(truth, found)
        assert all(map(math.isnan, scores.values().values()))
        assert all(map(math.isnan, scores.class_ap))


def test_false_detections_in_an_image_without_boxes_count():
    truth = box_set((1,), ())
    alone = perfect(truth)[:1]
    false = Detections(1, CORNERS[:1], torch.tensor([1]), torch.tensor([2.0]))
    assert evaluate_boxes(truth, [*alone, false]).class_ap[0] == pytest.approx(0.5)
    assert evaluate_boxes(truth, alone).class_ap[0] == pytest.approx(1)


def test_a_class_in_crowds_alone_has_no_score():
    whole = box_set((1, 2))
    crowd = torch.tensor([False, True])
    truth = BoxSet([replace(whole[0], crowd=crowd)], whole.class_names, name="crowd")
    scores = evaluate_boxes(truth, perfect(truth))
    assert same(scores.class_ap, (1, math.nan, math.nan))
    assert scores.class_boxes == (1, 0, 0)
    only = BoxSet([replace(whole[0], crowd=torch.tensor([True, True]))], whole.class_names, name="crowd")
    assert math.isnan(evaluate_boxes(only, perfect(only)).ap)


def test_an_annotation_numbered_0_is_found_like_any_other():
    """To pycocotools, and to faster-coco-eval, the number 0 means "not matched"."""
    whole = box_set((1, 1))
    truth = BoxSet([replace(whole[0], ids=torch.tensor([0, 1]))], whole.class_names, name="from 0")
    assert evaluate_boxes(truth, perfect(truth)).class_ap[0] == pytest.approx(1)


def test_of_images_with_many_boxes_lvis_looks_at_300():
    truth = box_set((1, 2), style="lvis", frequency="rcf")
    wrong = torch.tensor([[0.0, 0, 2, 2]]).expand(300, 4)
    labels, scores = torch.tensor([2] * 300 + [1]), torch.tensor([0.9] * 300 + [0.5])
    found = Detections(0, torch.cat([wrong, CORNERS[:1]]), labels, scores)
    assert evaluate_boxes(truth, [found]).class_ap[0] == 0
    sooner = Detections(0, found.boxes, labels, torch.tensor([0.9] * 300 + [0.95]))
    assert evaluate_boxes(truth, [sooner]).class_ap[0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"image": 9}, "detections: got image 9; expected an image of few"),
        ({"labels": torch.tensor([4])}, "detections: got label 4 in image 0; expected labels from 1 to 3"),
        ({"labels": torch.tensor([0])}, "detections: got label 0 in image 0; expected labels from 1 to 3"),
        (
            {"class_scores": torch.ones(1, 4)},
            "detections: got 4 scores a box in image 0; expected one for each",
        ),
        ({"scores": torch.tensor([math.nan])}, "scores: got nan for detection 0 of image 0; expected finite"),
        (
            {"boxes": torch.tensor([[0, 0, math.inf, 1]])},
            "boxes: got .* for detection 0 of image 0; expected fin",
        ),
        (
            {"boxes": torch.tensor([[5.0, 0, 4, 1]])},
            "boxes: got .*; expected corners x1 y1 x2 y2 with x2 >= x1",
        ),
        ({"boxes": torch.zeros(1, 5)}, r"boxes: got shape \(1, 5\) in image 0; expected shape \(n, 4\)"),
        ({"scores": torch.zeros(2)}, r"scores: got shape \(2,\) in image 0; expected shape \(1,\)"),
        ({"labels": torch.tensor([1.0])}, "labels: got torch.float32 in image 0; expected an integer dtype"),
        (
            {"class_scores": torch.ones(3)},
            r"class_scores: got shape \(3,\) in image 0; expected shape \(1, C\)",
        ),
    ],
)
def test_detections_that_do_not_fit_are_told(change, complaint):
    good = {"image": 0, "boxes": CORNERS[:1], "labels": torch.tensor([1]), "scores": torch.ones(1)}
    evaluate_boxes(box_set((1,)), [Detections(**good)])
    with pytest.raises(ArgumentError, match=complaint):
        evaluate_boxes(box_set((1,)), [Detections(**(good | change))])


def test_an_image_given_twice_is_told():
    truth = box_set((1,))
    with pytest.raises(ArgumentError, match="image 0 twice; expected each image once"):
        evaluate_boxes(truth, perfect(truth) * 2)


def test_counts_that_do_not_fit_are_told():
    with pytest.raises(ArgumentError, match=r"train_counts: got shape \(2,\); expected shape \(3,\)"):
        evaluate_boxes(box_set((1,)), [], train_counts=torch.ones(2))
    with pytest.raises(ArgumentError, match="train_image_counts: got -1; expected no count below 0"):
        evaluate_boxes(box_set((1,)), [], train_image_counts=torch.tensor([1, 2, -1]))


def test_nothing_is_printed():
    """In a process of its own: the evaluators print from Python and from C++."""
    program = (
        "import torch\n"
        "from bisector.data.boxes import BoxSet, Picture\n"
        "from bisector.detection.evaluation import Detections, evaluate_boxes\n"
        "box, label = torch.tensor([[1.0, 2, 30, 40]]), torch.tensor([1])\n"
        "truth = BoxSet([Picture.of(1, 'a', 64, 64, box, label)], ['a'], name='a')\n"
        "evaluate_boxes(truth, [Detections(1, box, label, torch.ones(1))])\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")


@pytest.fixture(scope="module")
def scored(random_boxes):
    truth, found = random_boxes(2, "coco")
    counts = torch.tensor([0, 19, 20, 399, 400, 8000, 9000])
    images = torch.tensor([0, 10, 11, 100, 101, 5000, 9])
    amounts = torch.tensor([5.0, 3.0, math.nan, 2.0, 4.0, 1.0, 2.5])
    return (
        evaluate_boxes(truth, found, train_counts=counts, train_image_counts=images, amounts=amounts),
        amounts.numpy(),
    )


def test_groups_are_means_of_their_classes(scored):
    scores, _ = scored
    ap = np.array(scores.class_ap)
    assert math.isnan(ap[6])  # never there
    assert scores.class_frequency == ("rare", "rare", "common", "common", "frequent", "frequent", "rare")
    assert scores.ap_by_frequency == pytest.approx(
        {"rare": ap[:2].mean(), "common": ap[2:4].mean(), "frequent": ap[4:6].mean()}
    )
    assert scores.ap_by_group == pytest.approx(
        {"1-19": ap[:2].mean(), "20-399": ap[2:4].mean(), "400-7999": ap[4], "8000+": ap[5]}
    )
    assert scores.gap == pytest.approx(ap[4:6].mean() - ap[:2].mean())
    assert any(note.startswith("1 class was not in training; groups") for note in scores.notes)


def test_bias_and_correlations_are_numpys(scored):
    scores, amounts = scored
    ap, ap50 = np.array(scores.class_ap[:6]), np.array(scores.class_ap50[:6])
    assert scores.bias == pytest.approx(np.var(100 * ap))
    assert scores.bias50 == pytest.approx(np.var(100 * ap50))
    log_count = np.log(np.array(scores.train_counts, float).clip(0.5))
    seen = slice(1, 6)  # a class that was not in training has no logarithm
    assert scores.r_count == pytest.approx(
        np.corrcoef(log_count[seen], np.array(scores.class_ap)[seen])[0, 1]
    )
    known = [0, 1, 3, 4, 5]
    assert scores.r_amount == pytest.approx(np.corrcoef(amounts[known], ap[known])[0, 1])
    given = [1, 3, 4, 5]
    fits = [
        values - np.polyval(np.polyfit(log_count[given], values, 1), log_count[given])
        for values in (amounts[given], ap[given])
    ]
    assert scores.r_amount_given_count == pytest.approx(np.corrcoef(*fits)[0, 1], abs=1e-6)


def test_frequencies_of_the_file_go_before_the_counts():
    truth = box_set((1, 2), frequency="frc", style="lvis")
    scores = evaluate_boxes(truth, perfect(truth), train_image_counts=torch.tensor([1, 1000, 1000]))
    assert scores.class_frequency == ("frequent", "rare", "common")
    without = evaluate_boxes(box_set((1, 2)), perfect(truth))
    assert without.class_frequency is None
    assert list(without.ap_by_frequency) == list(FREQUENCIES)
    assert list(without.ap_by_group) == list(BOX_GROUPS)
    assert all(map(math.isnan, [*without.ap_by_frequency.values(), without.gap, without.r_count]))


def test_correlations_have_intervals(scored):
    scores, _ = scored
    related = relate_scores(scores, resamples=200)
    assert related["amount"].partial.value == pytest.approx(scores.r_amount_given_count)
    assert related["amount"].rows == related["log count"].rows == 4
    many = replace(
        scores,
        class_names=tuple(map(str, range(60))),
        class_ap=tuple(torch.linspace(0, 1, 60).square().tolist()),
        train_counts=tuple(range(5, 65)),
        class_amounts=None,
    )
    alone = relate_scores(many, resamples=500)["log count"]
    expected = stats.spearmanr(many.train_counts, many.class_ap).statistic
    assert alone.spearman.value == pytest.approx(expected)
    assert 0.8 < alone.pearson.low < alone.pearson.value < alone.pearson.high <= 1
    with pytest.raises(ArgumentError, match="scores: got no train_counts"):
        relate_scores(replace(scores, train_counts=None))
    with pytest.raises(ArgumentError, match="amounts: got shape"):
        with_amounts(scores, torch.ones(3))


def test_scores_come_back_from_json(scored):
    for scores in (scored[0], evaluate_boxes(box_set(), [])):
        text = json.dumps(to_json(scores), allow_nan=False)
        back = from_json(BoxScores, json.loads(text) | {"of later": 1})
        assert str(back) == str(scores)  # where NaN is equal to NaN
        assert json.dumps(to_json(back)) == text


def test_groups_are_said_to_be_the_files_where_it_says():
    about = {info.key: info.help for info in BOX_METRICS}
    assert (
        about["ap_rare"]
        == "Mean AP of the classes shown by up to 10 training images, or that the file calls rare."
    )


def test_lvis_without_letters_is_grouped_by_training_images():
    truth = box_set((1, 2), (1,), style="lvis")
    images = torch.tensor([11, 10, 0])
    scores = evaluate_boxes(truth, perfect(truth), train_image_counts=images)
    assert scores.class_frequency == ("common", "rare", "rare")


def test_every_metric_has_a_value(scored):
    values = scored[0].values()
    assert list(values) == [info.key for info in BOX_METRICS]
    assert values["ap_rare"] == scored[0].ap_by_frequency["rare"]
    assert values["ap_8000+"] == scored[0].ap_by_group["8000+"]
