import json
from pathlib import Path
from statistics import median

import pytest

from benchmarks.guide import Epoch, GuideRun, _Training, main, measure_guide
from bisector.data.registry import load
from bisector.training.recipe import Recipe

RECIPE = Recipe(backbone="small-conv:width=4", embedding_dim=6, batch_size=16)


def test_the_overhead_is_that_of_the_pairs() -> None:
    run = GuideRun(
        data="made up",
        steps=1,
        batch_size=2,
        dim=3,
        plain_head="am-softmax",
        guided_head="igam",
        plain=[Epoch(10, 0, 0), Epoch(20, 0, 0), Epoch(10, 0, 0)],
        guided=[Epoch(11, 0.5, 0.1), Epoch(30, 0.5, 0.1), Epoch(10.4, 0.5, 0.2)],
    )
    assert run.overheads == pytest.approx([0.1, 0.5, 0.04])
    shares = run.shares()
    assert shares == pytest.approx({"overhead": 0.1, "observe": 0.05, "refresh": 0.01, "loss": 0.04})


def test_both_train_and_the_guide_is_fed_every_example() -> None:
    dataset = load("digits")
    training = _Training("igam", dataset, RECIPE, steps=3, accelerator="cpu")
    before = training.module.head.weight.detach().clone()
    epochs = [training.epoch() for _ in range(2)]
    assert training.guide is not None
    assert [float(info.count.sum()) for info in training.guide.history] == [48, 48]
    assert training.trainer.global_step == 6
    assert not before.equal(training.module.head.weight.detach())
    for epoch in epochs:
        assert 0 < epoch.observe + epoch.refresh < epoch.whole


def test_heads_without_a_guide_take_turns_too() -> None:
    told: list[str] = []
    run = measure_guide(
        load("digits"), RECIPE, guided="normalized-softmax", repeats=2, steps=2, progress=told.append
    )
    assert run.steps == 2
    assert [epoch.observe + epoch.refresh for epoch in run.guided] == [0, 0]
    assert [text.rpartition(" ")[2] for text in told] == [
        "normalized-softmax", "am-softmax", "am-softmax", "normalized-softmax", "normalized-softmax", "am-softmax"
    ]  # fmt: skip


def test_the_files_hold_what_was_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", "digits", "--steps", "2", "--repeats", "3", "--batch-size", "32"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "guide.json").read_text(encoding="utf-8"))
    page = (tmp_path / "guide.md").read_text(encoding="utf-8")
    assert f"$ python -m benchmarks.guide {' '.join(words)}\n" in page
    for text in (printed, page):
        assert "digits: 2 steps of 32, D = 128" in text
    assert len(found["plain"]) == len(found["guided"]) == 3
    ratios = [
        more["whole"] / less["whole"] - 1 for less, more in zip(found["plain"], found["guided"], strict=True)
    ]
    assert found["overheads"] == ratios
    assert found["shares"]["overhead"] == median(ratios)
