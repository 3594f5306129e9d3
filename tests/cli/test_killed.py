"""`train` and `compare` in real processes, killed without warning again and again, and started again each time."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from bisector.files import read_safetensors
from real_processes import ENVIRONMENT

KILLS = 3
Words = list[str]


def start(words: Words) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "bisector", *words],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def newest(files: Iterable[Path]) -> int:
    return max((state.st_mtime_ns for file in files if (state := stat_of(file)) is not None), default=0)


def stat_of(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except FileNotFoundError:  # gone meanwhile
        return None


def kill_again_and_again(words: Callable[[int], Words], progress: Callable[[], Iterable[Path]]) -> int:
    """Kill the command at random moments after it got on, until it was killed often enough; then let it end."""
    draw, kills = random.Random(7), 0
    while kills < KILLS:
        before, deadline = newest(progress()), time.monotonic() + 240
        process = start(words(kills))
        while newest(progress()) <= before and process.poll() is None:
            assert time.monotonic() < deadline, "no progress"
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.5))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    final = start(words(kills))
    assert final.wait(600) == 0
    return kills


@pytest.mark.slow
def test_a_training_that_is_killed_three_times_ends_in_the_same_bits(tmp_path: Path) -> None:
    def words(folder: str, workers: int = 0) -> Words:
        options = "--data digits --imbalance 20 --head igam --epochs 60 --checkpoint-steps 3 --patience 60"
        machine = f"--accelerator cpu --workers {workers} --no-tensorboard --decide geometry"
        return ["train", *options.split(), *machine.split(), "--out", str(tmp_path / folder)]

    assert start(words("whole")).wait(600) == 0
    cut = tmp_path / "cut"
    # Every third life has another number of workers.
    kills = kill_again_and_again(lambda life: words("cut", int(life % 3 == 2)), lambda: [cut / "last.ckpt"])
    assert kills == KILLS

    one, other = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "cut")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    for name in ("metrics.csv", "amounts.csv", "settings.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (cut / name).read_bytes()
    assert without_seconds(tmp_path / "whole" / "result.json") == without_seconds(cut / "result.json")
    (tensors, texts), (others, other_texts) = (
        read_safetensors(tmp_path / name / "decision.safetensors") for name in ("whole", "cut")
    )
    assert texts == other_texts
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)


@pytest.mark.slow
def test_a_comparison_that_is_killed_three_times_ends_in_the_same_bits(tmp_path: Path) -> None:
    def words(folder: str) -> Words:
        options = (
            "--data digits --imbalance 20 --heads am-softmax,igam --seeds 2 --epochs 60 --planes am-softmax"
        )
        machine = "--accelerator cpu --jobs 2 --checkpoint-steps 3"
        return ["compare", *options.split(), *machine.split(), "--out", str(tmp_path / folder)]

    assert start(words("whole")).wait(600) == 0
    cells = tmp_path / "cut" / "cells"
    # Only the parent is killed: its workers must leave by themselves.
    kills = kill_again_and_again(lambda life: words("cut"), lambda: cells.glob("*/*.ckpt"))
    assert kills == KILLS
    one, other = (without_seconds(tmp_path / name / "comparison.json") for name in ("whole", "cut"))
    assert one["command"].replace("whole", "cut") == other["command"]
    assert {**one, "command": ""} == {**other, "command": ""}
    tables = []
    for name in ("whole", "cut"):
        with (tmp_path / name / "comparison.csv").open(newline="") as file:
            tables.append([{**row, "seconds": ""} for row in csv.DictReader(file)])
    assert tables[0] == tables[1]


def without_seconds(path: Path) -> Any:
    def cleaned(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: cleaned(item) for name, item in value.items() if name != "seconds"}
        return [cleaned(item) for item in value] if isinstance(value, list) else value

    return cleaned(json.loads(path.read_text()))
