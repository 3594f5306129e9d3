"""What can be known to be wrong at once is told before data are read and libraries asked."""

import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bisector.cli.main import main
from real_processes import ENVIRONMENT, bisector


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["embed", "timm/resnet18"],
            "data: got none; expected the name or path of what timm/resnet18 shall embed",
        ),
        (
            ["embed", "no/such/run"],
            "model: got 'no/such/run', which is not there; expected a folder of a run",
        ),
        (["embed", "timm/resnet18", "digit"], "data: got 'digit'; did you mean 'digits'?"),
    ],
)
def test_embed_asks_no_library_for_what_cannot_be(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # A process of its own, in which torch cannot be imported.
    (tmp_path / "torch.py").write_text("raise SystemError('torch was imported')")
    done = bisector(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["train"], ["compare", "--heads", "igam"]])
def test_a_wrong_backbone_is_told_before_the_folder_is_read(
    command: list[str],
    tmp_path: Path,
    refused: Callable[[list[str]], str],
) -> None:
    # The folder holds nothing that could be read, which would be the complaint.
    words = [*command, "--data", str(tmp_path), "--backbone", "resnet33", "--out", str(tmp_path / "out")]
    assert "backbone: got 'resnet33'; did you mean 'resnet32'" in refused(words)
    assert main([*words, "--backbone", "tim/resnet18"]) == 2


def test_after_ctrl_c_a_command_that_keeps_nothing_says_so(tmp_path: Path) -> None:
    words = ["bench", "losses", "--sizes", "64x32x2000", "--repeats", "100000", "--no-peers"]
    command = [sys.executable, "-m", "bisector", *words]
    # Whoever runs the tests in the background may have told its children to ignore interrupts.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    how = {**piped, "env": {**ENVIRONMENT, "PYTHONUNBUFFERED": "1"}}
    with subprocess.Popen(command, preexec_fn=heeding, **how) as running:  # noqa: PLW1509 (it only sets a signal)
        assert running.stdout is not None
        assert running.stdout.readline()  # the machine: it measures from now on
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=120)
    assert said == "bisector bench: error: interrupted; the same command begins anew\n"
