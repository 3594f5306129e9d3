"""What a training takes where the user says nothing: the size of images, the dimension, the rate."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bisector.data.registry import load
from bisector.errors import ArgumentError
from bisector.networks.zoo import input_size
from bisector.training.data import load_task, settled
from bisector.training.recipe import Recipe, Task


def pictures(folder: Path, *sizes: tuple[int, int]) -> Path:
    for number in range(12):
        place = folder / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(
            0, 256, (*sizes[number % len(sizes)], 3), dtype=np.uint8
        )
        Image.fromarray(pixels).save(place)
    return folder


@pytest.mark.parametrize("spec", ["torchvision/resnet18", "torchvision/inception_v3", "timm/test_resnet"])
def test_published_weights_bring_their_own_size_width_and_a_rate_for_fine_tuning(
    tmp_path: Path, spec: str
) -> None:
    pytest.importorskip(spec.partition("/")[0])
    recipe = Recipe(backbone=spec, pretrained=True)
    task, told = settled(Task(str(pictures(tmp_path / "p", (40, 50)))), recipe)
    side = {"torchvision/resnet18": 224, "torchvision/inception_v3": 299, "timm/test_resnet": 160}[spec]
    assert (task.image_size, recipe.embedding_dim, recipe.learning_rate) == (side, None, 1e-4)
    assert input_size(spec) == (side, side)
    assert load_task(task, 0, recipe).shape == (3, side, side)
    assert f"images of {side} x {side}, its own" in told
    assert "the backbone's own width; learning rate 0.0001, for fine-tuning" in told
    assert "\n" not in told


@pytest.mark.parametrize("pretrained", [False, True])
def test_what_is_given_wins(pretrained: bool) -> None:
    given = {"embedding_dim": 32, "learning_rate": 3e-3}  # as from scratch, but said
    recipe = Recipe(backbone="torchvision/resnet18", pretrained=pretrained, **given)  # type: ignore[arg-type]
    assert (recipe.embedding_dim, recipe.learning_rate) == (32, 3e-3)
    task, told = settled(Task("digits", image_size=48), recipe)
    assert task.image_size == 48
    assert bool(told) == pretrained
    assert not pretrained or "48 x 48, as given; its own is 224 x 224" in told


def test_from_scratch_nothing_changes() -> None:
    recipe = Recipe(backbone="torchvision/resnet18")
    assert (recipe.embedding_dim, recipe.learning_rate) == (32, 3e-3)
    assert Recipe(pretrained=True, optimizer="sgd").learning_rate == 3e-3
    assert Recipe(embedding_dim=None).embedding_dim is None
    assert settled(Task("digits"), recipe) == (Task("digits"), "")


@pytest.mark.parametrize(
    ("sizes", "backbone", "given", "shape", "told"),
    [
        (((300, 300),), "auto", None, (128, 128), "images of 300 x 300 become 128 x 128"),
        (((100, 300),), "auto", None, (128, 128), "images of 300 x 100 become 128 x 128"),
        (((40, 300),), "auto", None, (40, 300), ""),  # fewer pixels than 128 x 128
        (((128, 128),), "auto", None, (128, 128), ""),
        (((300, 300),), "auto", 300, (300, 300), ""),
        (((224, 224),), "torchvision/resnet18", None, (224, 224), ""),
        (((300, 300),), "torchvision/resnet18", None, (224, 224), "images of 300 x 300 become 224 x 224"),
        (((20, 30), (30, 20)), "auto", None, (64, 64), "images of unequal sizes become 64 x 64"),
    ],
)
def test_large_images_of_one_size_do_not_fill_the_memory(
    tmp_path: Path, sizes: tuple[tuple[int, int]], backbone: str, given: int | None, shape: object, told: str
) -> None:
    task = Task(str(pictures(tmp_path / "p", *sizes)), image_size=given)
    data = load_task(task, 0, Recipe(backbone=backbone))
    assert data.shape[1:] == shape
    assert [note.partition("; ")[0] for note in data.notes] == [told] * bool(told)
    if len(sizes) == 1 and given is None:
        assert load(task.data).shape[1:] == sizes[0]  # who only reads is not asked to save memory


@pytest.mark.parametrize(("split", "each"), [("standard", 1), ("open-set", 2)])
def test_data_of_which_nothing_can_be_held_out_are_refused(tmp_path: Path, split: str, each: int) -> None:
    for number in range(10 * each):
        (tmp_path / str(number % 10)).mkdir(exist_ok=True)
        Image.new("L", (4, 4), number).save(tmp_path / str(number % 10) / f"{number}.png")
    part = {"standard": "test", "open-set": "validation"}[split]
    told = f"data: got no example for the {part} part: .* at most {each} in training; expected a class with 2"
    with pytest.raises(ArgumentError, match=told):
        load_task(Task(str(tmp_path), split=split), 0)
    assert len(load(str(tmp_path)).train) >= 10  # to embed them, no part is needed


def test_classes_that_are_not_tested_and_an_empty_validation_part_are_told(tmp_path: Path) -> None:
    for name, count in (("a", 2), ("b", 1), ("c", 1), ("d", 2), ("e", 1), ("f", 1)):
        for number in range(count):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("L", (4, 4), number).save(tmp_path / name / f"{number}.png")
    first, second = load_task(Task(str(tmp_path)), 0).notes
    assert first == "4 of 6 classes have no example in the test part: b, c, e, …"
    assert second.startswith(
        "no example for validation, which chooses the best epoch; expected a class with 2"
    )


def test_a_weight_for_no_class_is_told_before_images_are_read(tmp_path: Path) -> None:
    for name in ("likely-mono", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").touch()  # which cannot be read: that would be the complaint
    recipe = Recipe(class_weights={"likly-mono": 3.0})
    with pytest.raises(
        ArgumentError, match=r"got 'likly-mono', which no class .* did you mean 'likely-mono'"
    ):
        load_task(Task(str(tmp_path)), 0, recipe)
