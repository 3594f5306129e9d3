"""No process of bisector's outlives the one that started it, and each that is killed is told in one line."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy
import pytest

from real_processes import ENVIRONMENT

SECONDS = 20  # in which the others have to be gone: less than any of Lightning's or PyTorch's own limits

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks /proc who is alive")


@pytest.fixture
def table(tmp_path: Path) -> str:
    labels = numpy.arange(3000) % 3
    vectors = numpy.random.default_rng(0).normal(size=(3000, 5)).astype("f4")
    numpy.savez(tmp_path / "table.npz", embeddings=vectors, labels=labels)
    return str(tmp_path / "table.npz")


def start(*words: str, cwd: Path) -> "subprocess.Popen[str]":
    # Shells start what runs in the background with interrupts ignored, which is inherited.
    return subprocess.Popen(
        [sys.executable, "-m", "bisector", *words],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def descendants(of: int) -> dict[int, str]:
    """The processes below one, by number, with what they run."""
    parents, commands = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (place / "stat").read_text().rpartition(")")[2].split()[:2]
            commands[int(place.name)] = (place / "cmdline").read_text().replace("\0", " ")
        except OSError:  # gone meanwhile
            continue
        if state != "Z":
            parents[int(place.name)] = int(parent)
    found, left = {}, [of]
    while left:
        children = [child for child, parent in parents.items() if parent == left[-1]]
        left.pop()
        left += children
        found |= {child: commands[child] for child in children}
    return found


def alive(numbers: list[int]) -> list[int]:
    def lives(number: int) -> bool:
        try:
            return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return [number for number in numbers if lives(number)]


def wait_for(what: Callable[[], object], process: "subprocess.Popen[str]", seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < end
        time.sleep(0.05)


def assert_gone(numbers: list[int]) -> None:
    end = time.monotonic() + SECONDS
    while (left := alive(numbers)) and time.monotonic() < end:
        time.sleep(0.1)
    for number in left:  # nothing of a failed test stays
        os.kill(number, signal.SIGKILL)
    assert not left


LONG = ["--accelerator", "cpu", "--epochs", "100000", "--no-tensorboard"]


@pytest.mark.slow
def test_with_a_killed_parent_all_processes_of_a_training_end(tmp_path: Path, table: str) -> None:
    words = ["train", "--data", table, "--head", "am-softmax", *LONG, "--devices", "2", "--workers", "1"]
    with start(*words, "--out", "out", cwd=tmp_path) as process:
        wait_for((tmp_path / "out" / "last.ckpt").exists, process)
        others = list(descendants(process.pid))
        assert sum("bisector" in command for command in descendants(process.pid).values()) >= 2
        process.kill()
        process.wait()
        assert_gone(others)


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_dry_run_says_at_once_what_it_does_and_leaves_nobody_behind(
    tmp_path: Path, table: str, kill: signal.Signals
) -> None:
    words = ["compare", "--data", table, "--heads", "am-softmax,igam", "--dry-run", "--accelerator", "cpu"]
    with start(*words, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"dry run: reading {table}\n"
        assert process.stdout.readline().startswith("dry run: 1 of 2: am-softmax, ")
        wait_for(lambda: any("spawn_main" in one for one in descendants(process.pid).values()), process)
        others = list(descendants(process.pid))
        process.send_signal(kill)
        told = process.stdout.read()
        assert process.wait(60) == (130 if kill == signal.SIGINT else -signal.SIGKILL)
        assert "Traceback" not in told
        assert_gone(others)


@pytest.mark.slow
def test_a_killed_loader_is_one_line(tmp_path: Path, table: str) -> None:
    words = ["train", "--data", table, "--head", "am-softmax", *LONG, "--workers", "1", "--out", "out"]
    with start(*words, cwd=tmp_path) as process:
        wait_for((tmp_path / "out" / "last.ckpt").exists, process)
        wait_for(lambda: len(descendants(process.pid)) == 2, process)  # loaders of training and of validation
        os.kill(max(descendants(process.pid)), signal.SIGKILL)
        try:
            told = process.communicate(timeout=120)[0]
        finally:
            process.kill()
    assert process.returncode == 2, told
    assert "Traceback" not in told
    assert re.search(r"^bisector train: error: workers: a process that loads data was killed", told, re.M)


TWICE = """
import os
from pathlib import Path
from bisector.data.registry import load
from bisector.training.classification import Classification
from bisector.training.recipe import Machine, Recipe, Task

if __name__ == "__main__":
    machine = Machine(accelerator="cpu", devices=2)
    for seed in (0, 1):
        data = {"dataset": load("digits"), "task": Task("digits")}
        Classification(**data, head="am-softmax", recipe=Recipe(epochs=1), seed=seed, machine=machine).run()
    Path(f"done-{os.environ['LOCAL_RANK']}").touch()
"""


@pytest.mark.slow
def test_a_script_may_train_on_several_processes_twice(tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text(TWICE)
    with subprocess.Popen([sys.executable, "twice.py"], env=ENVIRONMENT, cwd=tmp_path) as process:
        assert process.wait(240) == 0
    wait = time.monotonic() + SECONDS
    while not (tmp_path / "done-1").exists() and time.monotonic() < wait:
        time.sleep(0.1)
    assert sorted(path.name for path in tmp_path.glob("done-*")) == ["done-0", "done-1"]
