import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix

from bisector.data import image_examples
from bisector.data.images import decode_image
from bisector.data.registry import load
from bisector.errors import ArgumentError
from bisector.heads import C2AM, IGAM
from bisector.information.amount import information_amount
from bisector.metrics.summary import summarize
from bisector.training.classification import Classification
from bisector.training.compare import PLANE_EPOCHS, compare, plan
from bisector.training.dry_run import estimate
from bisector.training.recipe import Machine, Recipe, Task
from bisector.training.results import Comparison, Plane, Run

SHORT = Recipe(epochs=2, embedding_dim=8)
DIGITS = Task("digits", 10)
briefly = partial(compare, DIGITS, jobs=1, seeds=1, recipe=SHORT)


def test_plain_softmax_learns_the_long_tailed_digits_by_the_default_recipe() -> None:
    found = compare(Task("digits", 20), ["linear-softmax"], jobs=1, seeds=1)
    assert found.runs[0].metrics["balanced_accuracy"] >= 0.75
    assert max(found.train_counts) / min(found.train_counts) == pytest.approx(20, rel=0.15)


def test_the_same_comparison_twice_gives_the_same_numbers() -> None:
    heads = ["igam", "c2am:alpha=1.0", "enhanced-am-softmax:form=notebook"]
    first, second = (briefly(heads, seeds=2) for _ in range(2))
    for one, other in zip(first.runs, second.runs, strict=True):
        assert (one.head, one.seed) == (other.head, other.seed)
        for key, value in one.metrics.items():
            assert value == other.metrics[key] or math.isnan(value), (one.head, key)
        assert one.margins == other.margins


def test_igam_without_margins_is_the_normalised_softmax() -> None:
    # Same seed, same first weights, same batches: with a zero gain nothing else may differ.
    found = briefly(["normalized-softmax", "igam:gain=0"])
    plain, guided = found.runs
    assert plain.metrics == pytest.approx(guided.metrics, nan_ok=True)
    assert len(guided.amount_history) == SHORT.epochs
    assert plain.amount_history == []


def test_every_run_carries_what_the_report_draws_and_survives_the_disk(tmp_path: Path) -> None:
    told: list[int] = []
    planes = ["linear-softmax", "am-softmax"]
    found = briefly(
        ["linear-softmax", "igam"], planes=planes, progress=lambda what, epochs: told.append(epochs)
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
    found.write(tmp_path / "comparison.json")
    again = Comparison.read(tmp_path / "comparison.json")
    assert repr(again) == repr(found)  # repr, since NaN equals nothing
    plain, cosine = found.planes
    assert plain.bias is not None
    assert cosine.bias is None
    assert torch.tensor(cosine.weights).shape == (10, 2)
    assert torch.tensor(cosine.points).shape == (len(cosine.labels), 2)


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
    run = briefly([spec], seeds=2).runs[1]
    training = Classification(dataset=dataset, task=DIGITS, head=spec, recipe=SHORT, seed=1)
    model, _, _ = training.run()  # the same numbers again
    with torch.no_grad():
        seen, test = (
            model.backbone(part.examples.batch(torch.arange(len(part))))
            for part in (dataset.train, dataset.test)
        )
        predicted = model.head.logits(test).argmax(1)
    labels = dataset.test.labels
    confusion = confusion_matrix(labels, predicted, labels=range(10))
    assert run.confusion == confusion.tolist()
    assert run.class_accuracy == pytest.approx((confusion.diagonal() / confusion.sum(1)).tolist())
    assert run.class_count == dataset.train.labels.bincount().tolist()
    for c, amount in enumerate(run.class_amount):
        mine = seen[dataset.train.labels == c]
        # The batches differ in size, and their rounding.
        assert amount == pytest.approx(float(information_amount(mine, embeddings="unit")), rel=1e-4)
    amounts = torch.tensor(run.class_amount, dtype=torch.float64)
    expected = summarize(predicted, labels, test, dataset.train_counts, amounts)
    assert run.metrics == pytest.approx(expected, nan_ok=True, abs=1e-4)
    if isinstance(model.head, IGAM | C2AM):
        assert run.direction == "relax"
        assert model.head.guide is not None
        r, c = model.head.guide.r.tolist(), model.head.guide.c.tolist()
        assert run.margins == [[pytest.approx(max(0.0, a - b)) for b in c] for a in r]
    else:
        assert run.margins is run.direction is None


def test_seeds_differ() -> None:
    one, other = briefly(["linear-softmax"], seeds=2).runs
    assert one.class_count != other.class_count
    assert one.metrics != other.metrics


@pytest.mark.parametrize(
    ("heads", "planes", "told"),
    [
        (["igam", "igam"], [], "heads: got 'igam' twice"),
        (["igam"], ["am-softmax:sub_centers=2"], "planes: .* expected heads with one vector a class"),
        (["igam"], ["am-softmax", "am-softmax"], "planes: got 'am-softmax' twice"),
        (["am-softmax:margin=0.1:margin=0.2"], [], "margin twice"),
        (["am-softmax:learnable_scale=maybe"], [], "learnable_scale.*expected one of true, false"),
        (["am-softmax:margin="], [], "name:option=value"),
        (["igam", "arcfac"], [], "arcface"),  # the last of them too
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_training(
    heads: list[str], planes: list[str], told: str
) -> None:
    trained: list[int] = []
    with pytest.raises(ArgumentError, match=told):
        briefly(heads, planes=planes, progress=lambda what, epochs: trained.append(epochs))
    with pytest.raises(ArgumentError, match="baseline: got 'x'; expected one of the heads compared: igam"):
        briefly(["igam"], baseline="x", progress=lambda what, epochs: trained.append(epochs))
    assert not trained


def test_a_head_of_inner_products_without_a_bias_is_still_drawn_as_one() -> None:
    (plane,) = briefly(["igam"], planes=["linear-softmax:bias=false"]).planes
    scores = torch.tensor(plane.points) @ torch.tensor(plane.weights).T + torch.tensor(plane.bias)
    right = (scores.argmax(1) == torch.tensor(plane.labels)).float().mean()
    assert float(right) == pytest.approx(plane.accuracy)
    assert not torch.are_deterministic_algorithms_enabled()  # the process is as it was


def test_parallel_processes_give_the_numbers_of_one_and_cells_are_not_trained_twice(tmp_path: Path) -> None:
    heads = ["linear-softmax", "igam"]
    alone = briefly(heads, seeds=2)
    told: list[str] = []
    beside = compare(
        Task("digits", 10),
        heads,
        jobs=2,
        seeds=2,
        recipe=SHORT,
        folder=tmp_path,
        progress=lambda w, e: told.append(w),
    )
    assert told.count("igam, seed 1") == SHORT.epochs
    assert without_seconds(alone) == without_seconds(beside)
    places = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/result.json")}
    assert len(places) == 4
    assert not list(tmp_path.glob("*/*.ckpt"))  # gone with the result

    more = briefly([*heads, "arcface"], seeds=2, folder=tmp_path)
    assert [run.head for run in more.runs] == ["linear-softmax", "igam", "arcface"] * 2
    assert {path: path.stat().st_mtime_ns for path in places} == places
    assert more.runs[1].seconds == beside.runs[1].seconds


def test_the_cells_of_files_that_changed_are_trained_again(tmp_path: Path) -> None:
    vectors = torch.randn(90, 6, generator=torch.Generator().manual_seed(0)).numpy()
    numpy.savez(tmp_path / "table.npz", embeddings=vectors, labels=numpy.arange(90) % 3)
    cells = tmp_path / "cells"
    once = partial(compare, Task(str(tmp_path / "table.npz")), ["am-softmax"], jobs=1, seeds=1, recipe=SHORT)
    for _ in range(2):
        once(folder=cells)
        assert len(list(cells.iterdir())) == 1
    numpy.savez(tmp_path / "table.npz", embeddings=vectors + 1, labels=numpy.arange(90) % 3)
    once(folder=cells)
    assert len(list(cells.iterdir())) == 2


def test_another_precision_is_another_cell_and_kept_checkpoints_are_there(tmp_path: Path) -> None:
    one = partial(briefly, ["am-softmax"], folder=tmp_path)
    one()
    assert not list(tmp_path.glob("*/last.ckpt"))
    one(keep=True)
    assert len(list(tmp_path.iterdir())) == len(list(tmp_path.glob("*/last.ckpt"))) == 1
    one(machine=Machine(precision="bf16-mixed"))
    assert len(list(tmp_path.iterdir())) == 2


def test_the_open_set_trains_on_the_same_classes_with_every_seed() -> None:
    task = Task("digits", split="open-set")
    first, second = (load("digits", split="open-set", seed=seed) for seed in (0, 1))
    assert first.class_names == second.class_names
    found = compare(task, ["am-softmax"], jobs=1, seeds=2, recipe=SHORT)
    assert found.class_names == list(first.class_names)
    assert all(run.verification is not None for run in found.runs)


def test_a_dry_run_tells_time_and_memory_of_every_head() -> None:
    cells, dataset = plan(Task("digits", 10), ["linear-softmax", "igam"], seeds=2, recipe=Recipe(epochs=50))
    told: list[str] = []
    found = estimate(cells, Machine(), told.append)
    assert [line.partition(",")[0] for line in told] == ["1 of 2: linear-softmax", "2 of 2: igam"]
    assert [one.head for one in found] == ["linear-softmax", "igam"]
    steps = 50 * math.ceil(len(dataset.train) / 64)
    for one in found:
        assert one.steps == steps
        assert one.seconds > one.steps * one.step_seconds > 0
        assert 50 * 2**20 < one.memory < 8 * 2**30
        assert one.parameters > 10_000


def without_seconds(found: Comparison) -> str:
    return repr([replace(run, seconds=0.0) for run in found.runs])


def test_images_are_decoded_once_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = numpy.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(12):
            pixels = draw.integers(0, 256, (20, 16 + number, 3), dtype=numpy.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    calls = []
    counted = lambda *a, **k: calls.append(1) or decode_image(*a, **k)  # noqa: E731
    monkeypatch.setattr(image_examples, "decode_image", counted)
    task = Task(str(tmp_path / "photos"), image_size=8)
    twice = partial(compare, task, ["am-softmax"], jobs=1, seeds=2, recipe=SHORT)
    kept = twice(folder=tmp_path / "cells")
    assert len(calls) == 24
    assert len(list((tmp_path / "cells").iterdir())) == 2
    assert without_seconds(twice()) == without_seconds(kept)
