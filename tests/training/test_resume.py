"""A training that dies at any step, and goes on, ends in the same bits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy
import pytest
import torch
from torch import Tensor

from bisector.data.dataset import Dataset
from bisector.data.registry import load
from bisector.errors import ArgumentError
from bisector.training.classification import Classification, load_trained
from bisector.training.recipe import Machine, Recipe, Task
from bisector.training.results import Run

TASK = Task("digits", 20)
RECIPE = Recipe(epochs=3, batch_size=100, augment="crop-flip")  # of four steps each
Outcome = tuple[dict[str, Tensor], Run, bytes, bytes]


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
    folder: Path,
    *crash: lightning.Callback,
    head: str = "igam",
    recipe: Recipe = RECIPE,
    steps: int = 500,
    workers: int = 0,
    data: Dataset | None = None,
    options: dict[str, Any] | None = None,
) -> Outcome:
    dataset = load("digits", imbalance=20) if data is None else data
    machine = Machine(accelerator="cpu", checkpoint_steps=steps, workers=workers)
    given = {"callbacks": list(crash), **(options or {})}
    training = Classification(dataset=dataset, task=TASK, head=head, recipe=recipe, machine=machine)
    model, run, _ = training.run(folder, given)
    files = [folder / "metrics.csv", folder / "amounts.csv"]
    logs = [file.read_bytes() if file.exists() else b"" for file in files]
    return model.state_dict(), replace(run, seconds=0.0), logs[0], logs[1]


def assert_same(one: Outcome, other: Outcome) -> None:
    assert one[0].keys() == other[0].keys()
    differing = [name for name in one[0] if not torch.equal(one[0][name], other[0][name])]
    assert not differing
    assert repr(one[1]) == repr(other[1])
    assert one[2:] == other[2:]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return outcome(tmp_path_factory.mktemp("undisturbed"))


STEPS = [("on_train_batch_start", n) for n in (2, 4, 5, 8, 11)] + [
    ("on_train_batch_end", n) for n in (1, 4, 6, 12)
]
EDGES = [
    ("on_validation_start", 2),
    ("on_validation_end", 3),
    ("on_train_epoch_end", 1),
    ("on_train_epoch_end", 3),
]


@pytest.mark.parametrize("steps", [1, 3, 500])
@pytest.mark.parametrize(("hook", "n"), [*STEPS, *EDGES, ("on_train_epoch_start", 2)])
def test_it_resumes_exactly_wherever_it_died(
    undisturbed: Outcome, tmp_path: Path, hook: str, n: int, steps: int
) -> None:
    with pytest.raises(CrashError):
        outcome(tmp_path, Crasher(hook, n), steps=steps)
    assert_same(outcome(tmp_path, steps=steps), undisturbed)


def test_it_may_die_often(undisturbed: Outcome, tmp_path: Path) -> None:
    for n in (3, 2, 3, 2):
        with pytest.raises(CrashError):
            outcome(tmp_path, Crasher("on_train_batch_start", n), steps=1)
    assert_same(outcome(tmp_path, steps=1), undisturbed)


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(undisturbed: Outcome, tmp_path: Path) -> None:
    with pytest.raises(CrashError):
        outcome(tmp_path, Crasher("on_train_batch_end", 6), steps=2, workers=2)
    with pytest.raises(CrashError):
        outcome(tmp_path, Crasher("on_train_batch_end", 3), steps=2, workers=0)
    assert_same(outcome(tmp_path, steps=2, workers=1), undisturbed)


@pytest.mark.parametrize("head", ["linear-softmax", "am-softmax:sub_centers=2:learnable_scale=true"])
def test_other_heads_and_what_dropout_draws_resume_too(tmp_path: Path, head: str) -> None:
    recipe = replace(RECIPE, backbone="torchvision/mobilenet_v3_small", epochs=2)  # which has dropout
    small = replace(load("digits", imbalance=20), augmentation="none")
    expected = outcome(tmp_path / "whole", head=head, recipe=recipe, data=small)
    with pytest.raises(CrashError):
        outcome(
            tmp_path / "cut", Crasher("on_train_batch_end", 3), head=head, recipe=recipe, steps=1, data=small
        )
    assert_same(outcome(tmp_path / "cut", head=head, recipe=recipe, steps=1, data=small), expected)


@pytest.mark.parametrize("head", ["arcface:warmup=20", "adaface:warmup=20:momentum=0.3"])
@pytest.mark.parametrize("crash", [("on_train_batch_start", 4), ("on_train_batch_end", 6)])
def test_what_a_margin_counts_resumes_too(tmp_path: Path, crash: tuple[str, int], head: str) -> None:
    recipe = replace(RECIPE, epochs=2)
    expected = outcome(tmp_path / "whole", head=head, recipe=recipe)
    assert int(expected[0]["head.steps"]) == 8
    with pytest.raises(CrashError):
        outcome(tmp_path / "cut", Crasher(*crash), head=head, recipe=recipe, steps=1)
    assert_same(outcome(tmp_path / "cut", head=head, recipe=recipe, steps=1), expected)


@pytest.mark.parametrize("damaged", [b"", b"damaged", None], ids=["empty", "garbage", "gone"])
def test_it_goes_on_from_the_checkpoint_before_a_damaged_one(
    undisturbed: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str], damaged: bytes | None
) -> None:
    last, before = tmp_path / "last.ckpt", tmp_path / "before.ckpt"
    with pytest.raises(CrashError):
        outcome(tmp_path, Crasher("on_train_batch_start", 7), steps=1)
    assert [torch.load(file, weights_only=True)["global_step"] for file in (before, last)] == [5, 6]
    last.unlink()
    if damaged is not None:
        last.write_bytes(damaged)
    assert_same(outcome(tmp_path, steps=1), undisturbed)
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"{last}" in told
    assert "going on from the checkpoint before it" in told
    assert not before.exists()  # it has ended


def test_early_stopping_is_remembered_and_the_best_epoch_kept(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=30, patience=2, select="best", learning_rate=1e-5)
    expected = outcome(tmp_path / "whole", recipe=recipe)
    epochs = expected[2].decode().count("\n") - 1
    assert 3 <= epochs < 30
    with pytest.raises(CrashError):  # after the last epoch's checkpoint, before anything is evaluated
        outcome(tmp_path / "cut", Crasher("on_train_end", 1), recipe=recipe)
    assert_same(outcome(tmp_path / "cut", recipe=recipe), expected)

    rows = [line.split(",") for line in expected[2].decode().splitlines()]
    balanced = [float(row[rows[0].index("val/balanced_accuracy")]) for row in rows[1:]]
    best = int(numpy.argmax(balanced))
    stored = torch.load(tmp_path / "whole" / "best.ckpt", weights_only=True)
    assert stored["epoch"] == best
    model = load_trained(tmp_path / "whole").model
    assert all(torch.equal(value, expected[0][name]) for name, value in model.state_dict().items())


def test_no_checkpoint_is_written_between_two_accumulated_batches(tmp_path: Path) -> None:
    given = {"accumulate_grad_batches": 2}
    expected = outcome(tmp_path / "whole", options=given)
    for n in (2, 3, 5):
        with pytest.raises(CrashError):
            outcome(tmp_path / str(n), Crasher("on_train_batch_start", n), steps=1, options=given)
        assert_same(outcome(tmp_path / str(n), steps=1, options=given), expected)


def test_batches_that_are_made_anew_go_on_where_the_last_ones_were(
    undisturbed: Outcome, tmp_path: Path
) -> None:
    assert_same(outcome(tmp_path, options={"reload_dataloaders_every_n_epochs": 1}), undisturbed)


def test_a_longer_training_goes_on_from_a_shorter_one(tmp_path: Path) -> None:
    outcome(tmp_path)
    longer = outcome(tmp_path, recipe=replace(RECIPE, epochs=5))
    assert [line.split(",")[0] for line in longer[2].decode().splitlines()[1:]] == ["0", "1", "2", "3", "4"]
    assert len(longer[1].amount_history) == 5


def test_another_training_in_the_folder_is_refused(tmp_path: Path) -> None:
    outcome(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for head, recipe, told in (
        ("igam", replace(RECIPE, batch_size=50), "batch_size 100, not 50"),
        ("igam:gain=1", RECIPE, "head .igam., not .igam:gain=1."),
    ):
        with pytest.raises(ArgumentError, match=told):
            outcome(tmp_path, head=head, recipe=recipe)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_trained_model_is_built_again_from_its_checkpoint_alone(tmp_path: Path) -> None:
    state, run, *_ = outcome(tmp_path, head="igam:preset=paper")
    found = load_trained(tmp_path)
    assert (found.head, found.seed, found.task, found.recipe) == ("igam:preset=paper", 0, TASK, RECIPE)
    assert found.class_names == tuple("0123456789")
    assert found.train_counts.tolist() == run.class_count
    assert found.shape == (1, 8, 8)
    assert not found.model.training
    assert all(torch.equal(value, state[name]) for name, value in found.model.state_dict().items())


def test_what_is_no_checkpoint_of_ours_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ArgumentError, match=r"model: got .*; expected a checkpoint, or the folder of a training"
    ):
        load_trained(tmp_path)
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    for name in ("other.ckpt", "text.ckpt"):
        with pytest.raises(ArgumentError, match=f"{name}; expected a checkpoint that bisector wrote"):
            load_trained(tmp_path / name)
