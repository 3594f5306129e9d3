import math
from pathlib import Path

import pytest
import torch
from sklearn.metrics import confusion_matrix

from bisector.data.registry import load
from bisector.errors import ArgumentError
from bisector.heads import C2AM, IGAM
from bisector.information.amount import information_amount
from bisector.metrics.summary import summarize
from bisector.training.compare import PLANE_EPOCHS, batches, compare, fit
from bisector.training.recipe import Recipe
from bisector.training.results import Comparison, Plane, Run

SHORT = Recipe(epochs=2, embedding_dim=8)


def test_plain_softmax_learns_the_long_tailed_digits_by_the_default_recipe() -> None:
    found = compare("digits", ["linear-softmax"], imbalance=20, seeds=1)
    assert found.runs[0].metrics["balanced_accuracy"] >= 0.75
    assert max(found.train_counts) / min(found.train_counts) == pytest.approx(20, rel=0.15)


def test_the_same_comparison_twice_gives_the_same_numbers() -> None:
    heads = ["igam", "c2am:alpha=1.0", "enhanced-am-softmax:form=notebook"]
    first, second = (compare("digits", heads, imbalance=10, seeds=2, recipe=SHORT) for _ in range(2))
    for one, other in zip(first.runs, second.runs, strict=True):
        assert (one.head, one.seed) == (other.head, other.seed)
        for key, value in one.metrics.items():
            assert value == other.metrics[key] or math.isnan(value), (one.head, key)
        assert one.margins == other.margins


def test_igam_without_margins_is_the_normalised_softmax() -> None:
    # Same seed, same first weights, same batches: with a zero gain nothing else may differ.
    found = compare("digits", ["normalized-softmax", "igam:gain=0"], imbalance=10, seeds=1, recipe=SHORT)
    plain, guided = found.runs
    assert plain.metrics == pytest.approx(guided.metrics, nan_ok=True)
    assert len(guided.amount_history) == SHORT.epochs
    assert plain.amount_history == []


def test_every_run_carries_what_the_report_draws() -> None:
    told: list[int] = []
    found = compare(
        "digits",
        ["linear-softmax", "igam"],
        imbalance=10,
        seeds=1,
        recipe=SHORT,
        planes=["linear-softmax", "am-softmax"],
        progress=lambda what, epochs: told.append(epochs),
    )
    assert sum(told) == (2 + 2 * PLANE_EPOCHS) * SHORT.epochs
    softmax, igam = found.runs
    assert softmax.margins is None
    assert igam.margins is not None
    margins = torch.tensor(igam.margins)
    assert float(margins.max()) > 0
    assert bool((margins.diagonal() == 0).all())
    assert sum(map(sum, igam.confusion)) == sum(found.test_counts)
    correct = sum(row[index] for index, row in enumerate(igam.confusion))
    assert correct / sum(found.test_counts) == pytest.approx(igam.metrics["accuracy"])
    plain, cosine = found.planes
    assert plain.bias is not None
    assert cosine.bias is None
    assert torch.tensor(cosine.weights).shape == (10, 2)
    assert torch.tensor(cosine.points).shape == (len(cosine.labels), 2)


def test_a_mistake_in_the_last_head_is_told_before_anything_is_trained() -> None:
    told: list[int] = []
    with pytest.raises(ArgumentError, match="arcface"):
        compare("digits", ["igam", "arcfac"], recipe=SHORT, progress=lambda what, epochs: told.append(epochs))
    assert not told


def test_a_comparison_survives_the_disk(tmp_path: Path) -> None:
    found = compare("digits", ["igam"], imbalance=50, seeds=1, recipe=SHORT, planes=["am-softmax"])
    found.write(tmp_path / "comparison.json")
    again = Comparison.read(tmp_path / "comparison.json")
    assert repr(again) == repr(found)  # repr, since NaN equals nothing


def test_what_diverged_survives_the_disk_too(tmp_path: Path) -> None:
    run = Run("igam", 0, {"accuracy": math.nan}, [0.5, math.nan], [math.inf, 1.0], margins=[[0.0, math.nan]])
    plane = Plane("igam", [[math.nan, 1.0]], [0], [[0.0, math.nan]], 0.5, bias=[math.nan])
    found = Comparison("c", "0", "digits", 1.0, ["a", "b"], [2, 2], [1, 1], {}, [run], [plane])
    found.write(tmp_path / "comparison.json")
    again = Comparison.read(tmp_path / "comparison.json")
    assert repr(again) == repr(found).replace("inf", "nan")


@pytest.mark.parametrize("spec", ["igam:direction=relax", "c2am:alpha=5", "linear-softmax"])
def test_a_run_says_what_its_model_gives_on_the_test_split(spec: str) -> None:
    dataset = load("digits", imbalance=10, seed=1)
    run = compare("digits", [spec], imbalance=10, seeds=2, recipe=SHORT).runs[1]
    model, _ = fit(dataset, spec, 1, SHORT, lambda what, epochs: None)  # the same numbers again
    model.eval()
    with torch.no_grad():
        train, test = model.backbone(dataset.images_train), model.backbone(dataset.images_test)
        predicted = model.head.logits(test).argmax(1)
    confusion = confusion_matrix(dataset.labels_test, predicted, labels=range(10))
    assert run.confusion == confusion.tolist()
    assert run.class_accuracy == pytest.approx((confusion.diagonal() / confusion.sum(1)).tolist())
    assert run.class_count == dataset.labels_train.bincount().tolist()
    for c, amount in enumerate(run.class_amount):
        mine = train[dataset.labels_train == c]
        assert amount == pytest.approx(float(information_amount(mine, embeddings="unit")), rel=1e-9)
    expected = summarize(
        predicted,
        dataset.labels_test,
        test,
        dataset.train_counts,
        torch.tensor(run.class_amount, dtype=torch.float64),
    )
    assert run.metrics == pytest.approx(expected, nan_ok=True)
    if isinstance(model.head, IGAM | C2AM):
        assert run.direction == "relax"
        assert model.head.guide is not None
        r, c = model.head.guide.r.tolist(), model.head.guide.c.tolist()
        assert run.margins == [[pytest.approx(max(0.0, a - b)) for b in c] for a in r]
    else:
        assert run.margins is run.direction is None


def test_seeds_differ_in_split_weights_and_order() -> None:
    one, other = compare("digits", ["linear-softmax"], imbalance=10, seeds=2, recipe=SHORT).runs
    assert one.class_count != other.class_count
    images, labels = torch.arange(20.0)[:, None], torch.arange(20)
    orders = [torch.cat([labels for _, labels in batches(images, labels, 5, seed)]) for seed in (0, 1)]
    assert not torch.equal(*orders)
    assert torch.equal(orders[0].sort().values, labels)


@pytest.mark.parametrize(
    ("heads", "planes", "told"),
    [
        (["igam", "igam"], [], "heads: got 'igam' twice"),
        (["igam"], ["am-softmax:sub_centers=2"], "planes: .* expected heads with one vector a class"),
        (["am-softmax:margin=0.1:margin=0.2"], [], "margin twice"),
        (["am-softmax:learnable_scale=maybe"], [], "learnable_scale.*expected one of true, false"),
        (["am-softmax:margin="], [], "name:option=value"),
    ],
)
def test_what_cannot_be_compared_is_refused(heads: list[str], planes: list[str], told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        compare("digits", heads, planes=planes, recipe=SHORT)


def test_a_head_of_inner_products_without_a_bias_is_still_drawn_as_one() -> None:
    found = compare(
        "digits", ["igam"], seeds=1, imbalance=10, recipe=SHORT, planes=["linear-softmax:bias=false"]
    )
    plane = found.planes[0]
    scores = torch.tensor(plane.points) @ torch.tensor(plane.weights).T + torch.tensor(plane.bias)
    right = (scores.argmax(1) == torch.tensor(plane.labels)).float().mean()
    assert float(right) == pytest.approx(plane.accuracy)


def test_a_comparison_leaves_the_process_as_it_was() -> None:
    compare("digits", ["linear-softmax"], seeds=1, imbalance=10, recipe=SHORT)
    assert not torch.are_deterministic_algorithms_enabled()
