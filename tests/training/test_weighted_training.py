"""The class weights of a recipe, from the command line to the loss."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import bisector as bs
from bisector.cli.main import main
from bisector.data.registry import load
from bisector.errors import ArgumentError
from bisector.training.class_weights import weights_of_classes
from bisector.training.classification import Classification, load_trained
from bisector.training.compare import plan
from bisector.training.recipe import Machine, Recipe, Task
from bisector.training.results import Comparison

SMALL = [
    "--data",
    "digits",
    "--imbalance",
    "20",
    "--accelerator",
    "cpu",
    "--epochs",
    "1",
    "--batch-size",
    "99",
]
TRAIN = ["train", *SMALL, "--head", "linear-softmax", "--no-tensorboard"]


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ("auto", "auto"),
        ("effective", "effective"),
        ("effective:0.990", "effective:0.99"),
        ("cat=3.5, dog=2", {"cat": 3.5, "dog": 2.0}),
        ("a=b=0", {"a=b": 0.0}),
        ('{"cat, the": 3}', {"cat, the": 3.0}),
        ({7: 2}, {"7": 2.0}),
    ],
)
def test_a_recipe_keeps_a_word_or_numbers_by_name(asked: Any, kept: Any) -> None:
    recipe = Recipe(class_weights=asked)
    assert recipe.class_weights == kept
    assert replace(recipe, epochs=2).class_weights == kept


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("automatic", "class_weights: got 'automatic'; expected none, auto, effective"),
        ("", "class_weights: got ''"),
        ({}, "class_weights: got {}"),
        ("3=1,3=2", "class_weights: got '3' twice"),
        ("3=much", "class_weights: got 'much' in '3=much'"),
        ("3=-1", "class_weights of 3: got -1.0; expected a finite number of at least 0"),
        ("3=nan", "class_weights of 3: got nan; expected a finite number"),
        ({"3": float("inf")}, "class_weights of 3: got inf"),
        ({"3": True}, "class_weights of 3: got True"),
        ("{3: 1}", "expected JSON"),
        ("effective:1", "class_weights: got 'effective:1'; expected a beta"),
        ("effective:x", "class_weights: got 'x' in 'effective:x'"),
    ],
)
def test_what_is_no_weight_is_told(asked: Any, told: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Recipe(class_weights=asked)
    assert told in str(caught.value)


def test_names_are_looked_up_and_others_count_one() -> None:
    counts, names = torch.tensor([5, 3, 2]), ["cat", "dog", "cow"]
    found = weights_of_classes({"dog": 2.5}, names, counts)
    assert found is not None
    assert found.tolist() == [1, 2.5, 1]
    with pytest.raises(ArgumentError, match="every class"):
        weights_of_classes(dict.fromkeys(names, 0.0), names, counts)
    automatic = weights_of_classes("effective:0.5", names, counts)
    torch.testing.assert_close(automatic, bs.class_weights(counts, "effective", beta=0.5))


@pytest.mark.parametrize("text", ["33=2", "33=2,1=1"])
def test_an_unknown_class_is_one_line_and_leaves_nothing(
    text: str, tmp_path: Path, refused: Callable[[list[str]], str]
) -> None:
    for words in (TRAIN, ["compare", *SMALL, "--heads", "linear-softmax"]):
        said = refused([*words, "--class-weights", text, "--out", str(tmp_path / "out")])
        assert (
            "class_weights: got '33', which no class is called; did you mean '3'? the classes are 0, 1"
            in said
        )
        assert not (tmp_path / "out").exists()


def test_a_training_follows_them_and_its_files_say_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [*TRAIN, "--class-weights", "auto", "--out", str(out)]
    assert main(words) == 0
    assert json.loads((out / "settings.json").read_text())["recipe"]["class_weights"] == "auto"
    trained = load_trained(out)
    expected = bs.class_weights(trained.train_counts).float()
    torch.testing.assert_close(trained.model.head.class_weight, expected)
    found = json.loads((out / "result.json").read_text())["class_weight"]
    assert found == pytest.approx(expected.tolist())
    with pytest.raises(ArgumentError, match="a training with class_weights 'auto', not 'none'"):
        training(out, Recipe(epochs=1, batch_size=99))


def training(out: Path, recipe: Recipe) -> None:
    machine = Machine(accelerator="cpu")
    head = {"head": "linear-softmax", "recipe": recipe, "machine": machine}
    Classification(dataset=load("digits", imbalance=20), task=Task("digits", 20), **head).run(out)  # type: ignore[arg-type]


def test_a_folder_from_before_there_were_weights_is_one_without(tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch_size=99)
    training(tmp_path, recipe)
    settings = json.loads((tmp_path / "settings.json").read_text())
    del settings["recipe"]["class_weights"]
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    training(tmp_path, recipe)  # goes on, and finds all done
    with pytest.raises(ArgumentError, match=r"class_weights 'none', not \{'3': 2.0\}"):
        training(tmp_path, replace(recipe, class_weights="3=2"))


def test_a_comparison_takes_them_from_a_file_and_without_them_its_cells_are_called_as_before(
    tmp_path: Path,
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("heads: linear-softmax\nseeds: 1\njobs: 1\nclass_weights: {3: 2.5}\n")
    assert main(["compare", *SMALL, "--config", str(file), "--out", str(tmp_path / "out")]) == 0
    found = Comparison.read(tmp_path / "out" / "comparison.json")
    assert found.recipe["class_weights"] == {"3": 2.5}
    assert found.runs[0].class_weight == [1, 1, 1, 2.5, 1, 1, 1, 1, 1, 1]
    cells = [plan(Task("digits", 20), ["am-softmax"], seeds=1, recipe=r)[0][0] for r in (None, Recipe())]
    weighted = replace(cells[0], recipe=Recipe(class_weights="auto"))
    assert cells[0].key == cells[1].key != weighted.key


@pytest.mark.parametrize("key", ["class_weights: {3: 2.5}", "class_weights: auto"])
def test_a_file_of_train_may_have_either(key: str, tmp_path: Path) -> None:
    file, out = tmp_path / "c.yaml", tmp_path / "out"
    file.write_text(key + "\n")
    assert main([*TRAIN, "--config", str(file), "--out", str(out)]) == 0
    kept = json.loads((out / "settings.json").read_text())["recipe"]["class_weights"]
    assert kept == ({"3": 2.5} if "{" in key else "auto")
