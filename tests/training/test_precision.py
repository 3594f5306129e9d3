"""bfloat16 where a processor has no instructions for it: oneDNN is told to use none, in real processes."""

import json
import platform
from pathlib import Path

import pytest
import torch

from bisector.training.precision import on_cpu, slow_precision
from bisector.training.recipe import Machine
from real_processes import ENVIRONMENT, bisector

BARE = {**ENVIRONMENT, "ONEDNN_MAX_CPU_ISA": "AVX2"}
TRAIN = ["train", "--data", "digits", "--epochs", "1", "--head", "linear-softmax", "--decide", "none"]
TRAIN += ["--accelerator", "cpu", "--no-tensorboard", "--precision"]
x86 = pytest.mark.skipif(
    platform.machine() not in {"x86_64", "AMD64"}, reason="oneDNN is told so of x86 alone"
)


@x86
def test_emulated_bfloat16_is_told_in_one_line_before_it_costs_hours(tmp_path: Path) -> None:
    told = {}
    for precision in ("bf16-mixed", "32-true"):
        done = bisector(*TRAIN, precision, "--out", precision, cwd=tmp_path, env=BARE)
        assert done.returncode == 0, done.stderr
        told[precision] = [line for line in done.stderr.splitlines() if "precision" in line]
    assert told["32-true"] == []
    (line,) = told["bf16-mixed"]
    assert line.startswith(
        "bisector train: precision bf16-mixed: this processor has no fast bfloat16: products of"
    )
    assert line.endswith(" times as long as in float32; 32-true is faster")


@x86
def test_the_doctor_says_how_slow_it_is() -> None:
    done = bisector("doctor", "--json", env=BARE)
    (cpu,) = [one for one in json.loads(done.stdout)["devices"] if one["name"] == "cpu"]
    assert cpu["bf16"]
    assert cpu["bf16_slowdown"] > 1.2  # seven, of a quiet machine
    assert f"bf16 {cpu['bf16_slowdown']:.2g} times as slow as float32" in done.stderr


def test_nothing_is_told_where_a_gpu_trains_or_float32_is_asked_for() -> None:
    assert (
        slow_precision(Machine(accelerator="cpu"))
        == slow_precision(Machine(accelerator="gpu", precision="bf16-mixed"))
        == ""
    )
    assert on_cpu(Machine(accelerator="cpu"))
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    assert on_cpu(Machine()) == (not accelerated)
