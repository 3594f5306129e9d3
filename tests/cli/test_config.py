"""--config and --dry-run of the commands that compare and of those that train detectors."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bisector.cli.main import main
from bisector.training.results import Comparison
from tiny_boxes import write_voc

TINY = {"model": "small-fpn", "image-size": 64, "batch-size": 6, "accelerator": "cpu", "flip": False}


def yaml(path: Path, options: dict[str, object]) -> str:
    path.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in options.items()))
    return str(path)


def test_a_file_of_options_is_what_one_would_type_and_what_is_typed_wins(tmp_path: Path) -> None:
    given = {"heads": ["am-softmax:margin=0.2", "igam"], "batch_size": 99, "epochs": 9, "seeds": 1, "jobs": 1}
    file = yaml(tmp_path / "c.yaml", {**given, "keep": True, "image_size": None, "accelerator": "cpu"})
    assert main(["compare", "--epochs", "1", "--config", file, "--out", str(tmp_path / "out")]) == 0
    found = Comparison.read(tmp_path / "out" / "comparison.json")
    assert found.heads == given["heads"]
    assert (found.recipe["batch_size"], found.recipe["epochs"]) == (99, 1)
    assert found.recipe["backbone"] == "small-conv"  # that was chosen
    assert f"--config {file}" in found.command
    assert len(list(tmp_path.glob("out/cells/*/last.ckpt"))) == 2


@pytest.mark.parametrize("command", [["compare"], ["detect", "train"], ["detect", "compare"]], ids=" ".join)
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epohcs: 3\n", "got the option 'epohcs'; expected one that --help lists; did you mean 'epochs'?"),
        ("- 1\n- 2\n", "(list, not options)"),
        ("epochs: [1\n", "expected YAML with a line for each option, as epochs: 10"),
        ("epochs: {a: 1}\n", "--config: got epochs: {'a': 1}; expected a text, a number"),
        ("epochs: three\n", "argument --epochs: invalid int value: 'three'"),
        (None, "No such file or directory: "),
    ],
)
def test_a_mistake_in_the_file_is_one_line(
    tmp_path: Path, refused: Callable[[list[str]], str], command: list[str], text: str | None, told: str
) -> None:
    file = tmp_path / "c.yaml"
    if text is not None:
        file.write_text(text)
    needed = {"compare": ["--heads", "igam"], "train": ["--data", "x"]}[command[-1]]
    words = [*command, *needed, *(["--data", "x"] if command[0] == "detect" else []), "--config", str(file)]
    said = refused(words)
    assert told in said
    assert said.startswith(f"bisector {' '.join(command)}: error: ")


def compare_detectors(folder: Path, **options: object) -> list[str]:
    file = yaml(folder / "c.yaml", {**TINY, "data": str(write_voc(folder / "voc")), **options})
    return ["detect", "compare", "--config", file, "--out", str(folder / "out")]


def test_a_dry_run_tells_what_detectors_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = compare_detectors(tmp_path, heads=["igam", "linear"], epochs=20)
    assert main([*words, "--dry-run", "--seeds", "2"]) == 0
    said = capsys.readouterr()
    assert "dry run: 2 of 2: linear, at most 15 steps in a process of its own" in said.err
    assert "voc train: 3 classes; pictures: 16 train, 6 validation, 6 test" in said.out
    rows = [line.split() for line in said.out.splitlines() if line.startswith(("igam", "linear"))]
    assert [row[2] for row in rows] == ["60", "60"]
    assert "Trainings: 4, 0 done" in said.out
    assert not (tmp_path / "out").exists()


def test_detectors_are_compared_with_a_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = compare_detectors(tmp_path, heads="igam,linear", epochs=1, jobs=1)
    assert main([*words, "--seeds", "2", "--baseline", "linear"]) == 0
    assert "Difference from Linear, seed by seed (95% interval)" in capsys.readouterr().out
    assert main([*words, "--baseline", "arcface"]) == 2
    told = "baseline: got 'arcface'; expected one of the heads compared: igam, linear"
    assert told in capsys.readouterr().err
