"""What can be known to be wrong at once is told before data are read and libraries asked."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import pytest

from bisector.cli.main import main
from bisector.training.recipe import PRECISIONS
from real_processes import ENVIRONMENT, bisector


@pytest.mark.parametrize(
    "line",
    [
        "train --head igma => head: got 'igma'; did you mean 'igam'?",
        "train --head arcface:margn=0.3 => option of head 'arcface:margn=0.3': got 'margn'; did you mean 'margin'?",
        "train --head igam:margin=1:margin=2 => got margin twice",
        "train --head linear-softmax:bias=maybe => bias of head",
        "train --head linear-softmax:custom_margin=1 => got 'custom_margin'; expected one of bias, tau",
        "train --head arcface:margin=big => margin of head 'arcface:margin=big': got 'big'; expected a number\n",
        "train --head arcface:scale=atuo => got 'atuo'; expected a number or 'auto'",
        "train --head igam:together=maybe => got 'maybe'; expected one of true, false",
        "compare --heads igam,arcface,igam => heads: got 'igam' twice; expected each head once",
        "compare --heads igam --planes ldam,ldam => planes: got 'ldam' twice",
        "detect compare --data empty --heads igam,igam => heads: got 'igam' twice",
        "train --backbone resnet17 => did you mean 'resnet20'?",
        "predict m.onnx digits => an ONNX file is run by onnxruntime, as its model card shows",
        "compare --heads am-softmax,arcface:margn=0.3 => did you mean 'margin'?",
        "detect train --data empty --head linear:bais=true => got 'bais'; did you mean 'bias'?",
        "detect compare --data empty --heads igam:presett=paper => did you mean 'preset'?",
        "train --backbone resnet33 => backbone: got 'resnet33'; did you mean 'resnet32'?",
        "train --backbone resnet18 => did you mean 'torchvision/resnet18' or 'timm/resnet18'?",
        "train --backbone tim/resnet18 => did you mean 'timm'?",
        "train --epohcs 3 => unrecognized arguments: --epohcs 3; did you mean '--epochs'?",
        "train --data digit => data: got 'digit'; did you mean 'digits'?",
        "train --data no/folder => data: got 'no/folder'; expected one of digits, ",
        "train --decide geometri => --decide: got 'geometri'; did you mean 'geometry'?",
        "train --precision 17 => precision: got '17'; expected one of 16-true, ",
        "train --epochs 0 => epochs: got 0; expected an integer of at least 1",
        "train --out file/x => --out: got file/x, but file is a file",
        "compare --heads igma => head: got 'igma'; did you mean 'igam'?",
        "compare --heads igam --backbone resnet33 => did you mean 'resnet32'?",
        "compare --heads igam --data no/folder => data: got 'no/folder'",
        "compare --heads igam --precision 17 => precision: got '17'",
        "compare --heads igam --seeds 0 => seeds: got 0",
        "compare --heads igam --baseline arcface => baseline: got 'arcface'; expected one of the heads",
        "embed timm/resnet18 => data: got none; expected the name or path of what timm/resnet18 shall embed",
        "embed no/such/run => model: got 'no/such/run', which is not there; expected a folder of a run",
        "embed timm/resnet18 digit => data: got 'digit'; did you mean 'digits'?",
        "embed timm/resnet18 no/folder => data: got 'no/folder'",
        "embed timm/resnet18 digits --batch-size 0 => --batch-size: got 0",
        "measure no.parquet => file: got no.parquet, which is not there",
        "measure t.csv --out file/x => --out: got file/x, but file is a file",
        "measure t.csv --equal-count 1 => --equal-count: got 1",
        "adjust no.parquet => scores: got no.parquet, which is not there",
        "adjust t.csv --method piror => --method: got 'piror'; did you mean 'prior'?",
        "adjust t.csv --adjustment no.json => adjustment: got no.json, which is not there",
        "predict no/run => model: got no/run; expected a checkpoint, or the folder of a training",
        "predict empty digits => model: got empty; expected a checkpoint",
        "export empty => model: got empty; expected a checkpoint",
        "export empty --fromat onnx => did you mean '--format'?",
        "detect train --data no/folder => data: got no/folder, where no file or folder is",
        "detect train --data empty --head igma => head: got 'igma'; did you mean 'igam'?",
        "detect train --data empty --precision 17 => precision: got '17'",
        "detect train --data empty --epochs 0 => epochs: got 0",
    ],
)
def test_what_is_known_at_once_is_told_without_pytorch(line: str, tmp_path: Path) -> None:
    words, _, told = line.partition(" => ")
    (tmp_path / "file").touch()
    (tmp_path / "m.onnx").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "t.csv").write_text("label,e0,e1\na,1,2\nb,2,3\n")
    for name in ("torch", "lightning"):  # which cannot be imported in the process
        (tmp_path / f"{name}.py").write_text(f"raise SystemError('{name} was imported')")
    done = bisector(*words.split(), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="there is no user who may do nothing")
def test_a_folder_that_cannot_be_written_to_is_told_at_once() -> None:
    nobody = "os.geteuid() or os.setuid(65534)"  # root writes everywhere
    code = f"import os; from pathlib import Path; from bisector.cli.output import require_folder; {nobody}; "
    code += "require_folder(Path('/nowhere/below'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == "PermissionError: [Errno 13] Permission denied: '/'"


def test_precisions_are_those_of_lightning() -> None:
    precision = pytest.importorskip("lightning.fabric.plugins.precision.precision")
    legal = {str(one) for kind in get_args(precision._PRECISION_INPUT) for one in get_args(kind)}
    assert legal == set(PRECISIONS)


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
    assert said == "bisector bench: interrupted; the same command begins anew\n"


def test_an_interrupt_within_an_import_ends_in_130_too(tmp_path: Path) -> None:
    text = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)"
    (tmp_path / "torch.py").write_text(f"exec({text!r})")  # as dataclasses do
    words = [sys.executable, "-m", "bisector", "bench", "losses", "--no-peers"]
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    done = subprocess.run(
        words,
        preexec_fn=heeding,
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130
    assert done.stderr == "bisector bench: interrupted; the same command begins anew\n"
