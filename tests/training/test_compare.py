import math
from pathlib import Path

import pytest
import torch

from bisector.errors import ArgumentError
from bisector.training.compare import PLANE_EPOCHS, compare
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
        planes=["linear-softmax", "am-softmax:sub_centers=2"],
        progress=lambda what, epochs: told.append(epochs),
    )
    assert sum(told) == (2 + 2 * PLANE_EPOCHS) * SHORT.epochs
    softmax, igam = found.runs
    assert softmax.margins is None
    assert igam.margins is not None
    margins = torch.tensor(igam.margins)
    assert float(margins.max()) == pytest.approx(0.5)
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
