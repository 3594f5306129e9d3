"""One training of a detector: what its steps compute, what it refuses, and that it goes on in the same bits."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor

from bisector.data.boxes import BoxSet, BoxSplits, Picture, load_boxes
from bisector.data.keyed import keyed_seed
from bisector.detection.checkpoint import load_detector
from bisector.detection.data import BoxBatches, pixels
from bisector.detection.evaluation import evaluate_boxes
from bisector.detection.models import build_detector
from bisector.detection.module import Detector
from bisector.detection.predict import detect
from bisector.detection.recipe import BoxRecipe, BoxTask
from bisector.detection.train import BoxResult, Detection
from bisector.errors import ArgumentError
from bisector.records import write_record
from bisector.training.head_module import schedule
from bisector.training.recipe import Machine
from bisector.training.results import read_result
from tiny_boxes import write_voc

RECIPE = BoxRecipe(model="small-fpn", image_size=64, epochs=2, batch_size=6, score_threshold=0.05)  # 3 steps
Outcome = tuple[dict[str, Tensor], BoxResult, bytes, bytes]


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_voc(tmp_path_factory.mktemp("voc"))


@pytest.fixture(scope="module")
def splits(voc: Path) -> BoxSplits:
    return load_boxes(str(voc))


class CrashError(Exception):
    pass


class Crasher(lightning.Callback):
    """Raise when a hook is called for the n-th time."""

    def __init__(self, hook: str, n: int) -> None:
        self.left = n
        setattr(self, hook, self._count)

    def _count(self, *arguments: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise CrashError


def outcome(
    splits: BoxSplits,
    folder: Path | None,
    *crash: lightning.Callback,
    head: str = "igam",
    recipe: BoxRecipe = RECIPE,
    steps: int = 500,
    workers: int = 0,
    precision: str = "32-true",
) -> Outcome:
    machine = Machine(accelerator="cpu", checkpoint_steps=steps, workers=workers, precision=precision)
    experiment = Detection(splits=splits, task=BoxTask("voc"), head=head, recipe=recipe, machine=machine)
    model, result, _ = experiment.run(folder, {"callbacks": list(crash)})
    files = [] if folder is None else [folder / "metrics.csv", folder / "amounts.csv"]
    logs = [file.read_bytes() if file.exists() else b"" for file in files]
    return model.state_dict(), replace(result, seconds=0.0), *([*logs, b"", b""][:2])  # type: ignore[return-value]


def assert_same(one: Outcome, other: Outcome) -> None:
    assert one[0].keys() == other[0].keys()
    assert not [name for name in one[0] if not torch.equal(one[0][name], other[0][name])]
    assert repr(one[1]) == repr(other[1])
    assert one[2:] == other[2:]


@pytest.fixture(scope="module")
def undisturbed(splits: BoxSplits, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return outcome(splits, tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize(
    ("hook", "n", "steps"),
    [
        ("on_train_batch_start", 2, 1),
        ("on_train_batch_end", 3, 1),
        ("on_train_batch_start", 6, 2),
        ("on_train_epoch_end", 1, 1),
        ("on_validation_end", 2, 500),
    ],
)
def test_it_resumes_exactly_wherever_it_died(
    splits: BoxSplits, undisturbed: Outcome, tmp_path: Path, hook: str, n: int, steps: int
) -> None:
    with pytest.raises(CrashError):
        outcome(splits, tmp_path, Crasher(hook, n), steps=steps)
    if (tmp_path / "last.ckpt").is_file():
        stopped = load_detector(tmp_path)
        assert stopped.unfinished.endswith(f"has done {stopped.epochs} of its 2 epochs")
    assert_same(outcome(splits, tmp_path, steps=steps), undisturbed)


@pytest.mark.slow
def test_others_resume_too_with_repeats_and_rare_validations(splits: BoxSplits, tmp_path: Path) -> None:
    recipe = replace(RECIPE, repeat_threshold=0.6, validate_every=2, optimizer="adamw", objectness=True)
    recipe = replace(recipe, schedule="constant", class_agnostic=True, learning_rate=1e-3)
    for head in ("seesaw", "igam:sub_centers=2"):
        expected = outcome(splits, tmp_path / f"{head} whole", head=head, recipe=recipe)
        assert expected[2].count(b"\n") == 3
        cut = tmp_path / f"{head} cut"
        with pytest.raises(CrashError):
            outcome(
                splits, cut, Crasher("on_train_batch_end", 5), head=head, recipe=recipe, steps=1, workers=1
            )
        with pytest.raises(CrashError):
            outcome(splits, cut, Crasher("on_train_batch_start", 2), head=head, recipe=recipe, steps=1)
        assert_same(outcome(splits, cut, head=head, recipe=recipe, steps=1), expected)


def test_two_steps_are_those_of_a_plain_loop_over_torchvision(splits: BoxSplits) -> None:
    recipe = replace(RECIPE, epochs=1, batch_size=8, clip_norm=None, schedule="cosine")
    state, *_ = outcome(splits, None, head="linear", recipe=recipe)
    torch.manual_seed(0)
    model = build_detector("small-fpn", 4, image_size=64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    factor = schedule("cosine", 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model.train()
    for step, (images, targets, _) in enumerate(BoxBatches(splits.train, 8, seed=0)):
        torch.manual_seed(keyed_seed(0, 0, step, 0))
        optimizer.param_groups[0]["lr"] = 0.01 * factor(step)
        optimizer.zero_grad()
        sum(model(pixels(images), targets).values()).backward()
        optimizer.step()
    torch.set_num_threads(threads)
    trained = {name.removeprefix("network."): value for name, value in state.items()}
    for name, value in model.state_dict().items():
        here = name.replace("box_predictor.cls_score", "box_predictor.head")
        torch.testing.assert_close(trained[here], value, rtol=1e-5, atol=1e-6, msg=name)


def test_the_result_is_that_of_the_checkpoint(splits: BoxSplits, tmp_path: Path) -> None:
    _, result, *_ = outcome(splits, tmp_path, recipe=replace(RECIPE, select="best", class_agnostic=True))
    trained = load_detector(tmp_path)
    assert trained.path.name == "best.ckpt"
    assert (trained.head, trained.seed, trained.task) == ("igam", 0, BoxTask("voc"))
    assert trained.unfinished == load_detector(tmp_path / "best.ckpt").unfinished == ""
    assert trained.class_names == splits.train.class_names
    assert torch.equal(trained.train_counts, splits.train.counts)
    assert torch.equal(trained.train_image_counts, splits.train.image_counts)
    found = detect(trained.model.network, splits.test, batch_size=4)
    again = evaluate_boxes(splits.test, found, train_counts=splits.train.counts)
    assert again.class_ap == pytest.approx(result.scores.class_ap, abs=1e-6)
    amounts = result.amount_history[trained.epochs - 1]
    assert len(result.amount_history) == 2
    assert len(amounts) == 3
    assert repr(amounts) == repr(list(result.scores.class_amounts or []))
    write_record(result, tmp_path / "result.json")
    assert repr(read_result(BoxResult, tmp_path / "result.json")) == repr(result)
    with pytest.raises(ArgumentError, match=r"data: got cats with 1 classes, cat, ...; expected the 3 of"):
        trained.require_classes(BoxSet([], ["cat"], name="cats"))
    assert trained.model.network.roi_heads.detections_per_img == 50
    lvis = BoxSet(splits.test.pictures, splits.test.class_names, name="lvis", style="lvis")
    trained.detect_like(lvis)
    assert trained.model.network.roi_heads.detections_per_img == 300
    with pytest.raises(ArgumentError, match="data: got no picture in voc"):
        trained.detect_like(splits.test.subset([]))


def test_the_scale_of_deep_pictures_is_kept(splits: BoxSplits, tmp_path: Path) -> None:
    deep = BoxSplits(*(part.subset(range(6)) for part in (splits.train, splits.validation)))
    for part in (deep.train, deep.validation):
        part.pixel_range = (0.0, 4095.0)
    outcome(deep, tmp_path, recipe=replace(RECIPE, epochs=1))
    assert load_detector(tmp_path).pixel_range == (0.0, 4095.0)


def test_the_best_epoch_is_scored_with_its_amounts_and_says_what_chose_it(
    splits: BoxSplits, tmp_path: Path
) -> None:
    # Nothing is found after one epoch or two, so that the first stays the best.
    recipe = replace(RECIPE, select="best", score_threshold=1.0)
    _, result, *_ = outcome(BoxSplits(splits.train, splits.validation, None), tmp_path, recipe=recipe)
    assert load_detector(tmp_path).epochs == 1
    assert list(result.scores.class_amounts or []) == result.amount_history[0] != result.amount_history[1]
    assert any("epoch 1, the best of 2 on these very pictures" in note for note in result.scores.notes)
    with pytest.raises(ArgumentError, match="validate_every: got 3 with select='best' and 2 epochs"):
        replace(recipe, validate_every=3)


def test_it_learns(splits: BoxSplits) -> None:
    recipe = replace(
        RECIPE, epochs=20, batch_size=8, optimizer="adamw", learning_rate=5e-3, validate_every=20
    )
    _, result, *_ = outcome(splits, None, head="linear", recipe=recipe)
    assert result.scores.ap50 > 0.2


def test_a_loss_that_explodes_is_one_clear_error_before_the_weights_are_touched(
    splits: BoxSplits, tmp_path: Path
) -> None:
    wild = replace(RECIPE, epochs=20, learning_rate=1e8, clip_norm=None, schedule="constant")
    with pytest.raises(
        ArgumentError, match=r"(loss|gradient): got .* in epoch \d+, step \d+, with .*p0.*"
    ) as told:
        outcome(splits, tmp_path, head="linear", recipe=wild, steps=1)
    assert "\n" not in str(told.value)
    if (tmp_path / "last.ckpt").is_file():
        stored = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for name, value in stored.items() if name.endswith(".weight"))


def test_pictures_without_boxes_and_classes_never_seen_are_no_trouble(splits: BoxSplits) -> None:
    names = (*splits.train.class_names, "never")

    def with_more(boxes: BoxSet) -> BoxSet:
        pictures = sorted(boxes.pictures, key=lambda picture: len(picture.labels))[:4]
        return BoxSet(pictures, names, name="few", style="voc", root=boxes.root)

    few = BoxSplits(with_more(splits.train), with_more(splits.validation), None)
    assert any(len(picture.labels) == 0 for picture in few.train)
    for head in ("adaface", "igam", "ldam", "seesaw"):
        for objectness in (False, True):
            recipe = replace(
                RECIPE, epochs=1, batch_size=1, objectness=objectness
            )  # some batches hold no box
            _, result, *_ = outcome(few, None, head=head, recipe=recipe)
            assert result.part == "validation"
            assert result.scores.class_ap[3] != result.scores.class_ap[3]  # NaN
    empty = BoxSet([p for p in few.train if not len(p.labels)], names, name="none", root=few.train.root)
    with pytest.raises(ArgumentError, match="data: got no box to train on"):
        outcome(BoxSplits(empty, few.validation), None)
    nothing = few.validation.subset([])
    with pytest.raises(ArgumentError, match="data: got no picture in the validation part"):
        outcome(BoxSplits(few.train, nothing), None)
    with pytest.raises(ArgumentError, match="data: got no picture in the test part"):
        outcome(BoxSplits(few.train, few.validation, nothing), None)


def test_mixed_precision_trains_boxes(splits: BoxSplits, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=3, meter_on="boxes")
    _, result, metrics, _ = outcome(splits, tmp_path, recipe=recipe, precision="bf16-mixed")
    names, *rows = (line.split(",") for line in metrics.decode().splitlines())
    losses = [float(row[names.index("train/loss")]) for row in rows]
    assert losses[-1] < 0.8 * losses[0] < float("inf")  # halved with every one of three seeds
    assert len(result.amount_history) == 3
    for precision in ("bf16-true", "64-true", "16"):
        with pytest.raises(ArgumentError, match=f"precision: got '{precision}'"):
            outcome(splits, tmp_path / "refused", precision=precision)
    assert not (tmp_path / "refused").exists()


def clipped(gradient: float, plugin: MixedPrecision | None = None, **options: Any) -> float:
    """The length of a gradient of three equal numbers after the Trainer's clipping."""
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, plugins=plugin, **options
    )
    how = {
        "learning_rate": 0.1,
        "weight_decay": 0.0,
        "optimizer": "sgd",
        "schedule": "constant",
        "seed": None,
    }
    model = Detector(torch.nn.Linear(3, 1, bias=False), clip_norm=2.0, **how)
    model.trainer = trainer
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model.network.weight.grad = torch.full((1, 3), gradient)
    model.configure_gradient_clipping(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
    return float(model.network.weight.grad.norm())


def test_gradients_are_cut_as_the_trainer_says_and_a_scaler_may_leave_a_step_out() -> None:
    assert clipped(5.0) == pytest.approx(2.0)
    assert clipped(5.0, gradient_clip_val=0.5) == pytest.approx(0.5)
    assert clipped(5.0, gradient_clip_val=0.5, gradient_clip_algorithm="value") == pytest.approx(0.75**0.5)
    with pytest.raises(ArgumentError, match="gradient: got a length of inf in epoch 0, step 0"):
        clipped(float("inf"))
    scaler = torch.amp.GradScaler("cpu")
    assert not math.isfinite(clipped(float("inf"), MixedPrecision("16-mixed", "cpu", scaler)))


def test_another_training_in_the_folder_is_refused_and_a_longer_one_goes_on(
    splits: BoxSplits, tmp_path: Path
) -> None:
    outcome(splits, tmp_path, recipe=replace(RECIPE, epochs=1))
    torch.manual_seed(7)
    drawn = torch.rand(3)
    torch.manual_seed(7)
    short = load_detector(tmp_path)
    assert torch.equal(torch.rand(3), drawn)  # the caller's numbers are not touched
    assert (short.epochs, short.unfinished) == (1, "")
    for head, recipe, told in (
        ("igam", replace(RECIPE, flip=False), "flip True, not False"),
        ("linear", RECIPE, "head 'igam', not 'linear'"),
    ):
        with pytest.raises(ArgumentError, match=told):
            outcome(splits, tmp_path, head=head, recipe=recipe)
    changed = copy.copy(splits.train).subset(range(8))
    with pytest.raises(ArgumentError, match="other data"):
        outcome(replace(splits, train=changed), tmp_path)
    longer = outcome(splits, tmp_path)
    assert [line.split(b",")[0] for line in longer[2].splitlines()[1:]] == [b"0", b"1"]


def test_what_is_no_checkpoint_of_a_detector_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"model: got .*; expected a checkpoint, or the folder"):
        load_detector(tmp_path)
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ArgumentError, match=r"other.ckpt; expected a checkpoint that bisector detect train"):
        load_detector(tmp_path / "other.ckpt")


def test_boxes_of_every_kind_of_trouble_are_trained_on_as_they_are_read() -> None:
    box = torch.tensor([[0.0, 0, 64, 64], [63.5, 63.5, 64, 64]])  # the whole picture, and half a pixel
    picture = Picture.of(1, "a", 64, 64, box, torch.tensor([1, 2]))

    class Grey(BoxSet):
        def image(self, index: int) -> Tensor:
            return torch.full((3, 64, 64), 128, dtype=torch.uint8)

    odd = Grey([picture], ["a", "b"], name="odd")
    _, result, *_ = outcome(BoxSplits(odd, odd), None, recipe=replace(RECIPE, epochs=2, batch_size=1))
    assert result.scores.images == 1
