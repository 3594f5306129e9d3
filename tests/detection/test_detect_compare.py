"""`bisector detect compare`, with real processes on tiny scenes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from bisector.cli.main import main
from bisector.detection.train import BoxResult
from bisector.training.results import read_result
from scene_cases import SCENES

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("compared")
    for name, colour in COLOURS.items():
        (folder / "discs" / name).mkdir(parents=True)
        for number in range(2):
            image = Image.new("RGBA", (32, 32))
            ImageDraw.Draw(image).ellipse((2 + 4 * number, 2, 29, 29), fill=(*colour, 255))
            image.save(folder / "discs" / name / f"{number}.png")
    (folder / "night").mkdir()
    Image.new("RGB", (70, 70)).save(folder / "night" / "black.png")
    sizes = "size=64:pictures=12:validation=4:test=6:imbalance=2"
    return f"{SCENES}:objects={folder / 'discs'}:backgrounds={folder / 'night'}:{sizes}"


def words(scenes: str, out: Path, *more: str) -> list[str]:
    tiny = ["--model", "small-fpn", "--image-size", "64", "--batch-size", "6", "--accelerator", "cpu"]
    brief = ["--epochs", "1", "--validate-every", "4", "--learning-rate", "0.04", "--no-flip"]
    return ["detect", "compare", "--data", scenes, "--heads", "igam", *tiny, *brief, "--out", str(out), *more]


@pytest.mark.slow
def test_heads_are_compared_and_kept(scenes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    typed = words(scenes, out, "--heads", "linear-softmax,igam:preset=paper", "--jobs", "1")
    assert main(typed) == 0
    said = capsys.readouterr().out
    kept = sorted(path.name for path in (out / "cells").iterdir())
    begin = [
        "igam-preset=paper-seed0-",
        "linear-softmax-seed0-",
    ]  # and a digest of what the result depends on
    assert [name.startswith(word) for name, word in zip(kept, begin, strict=True)] == [True, True]
    for name in kept:
        result = read_result(BoxResult, out / "cells" / name / "result.json")
        assert 0 <= result.scores.ap50 <= 1
        assert {
            found["category_id"]
            for found in json.loads((out / "cells" / name / "detections.json").read_text())
        }
    assert "Softmax" in said
    assert "IGAM (paper)" in said
    assert "given the true boxes" in said
    page = (out / "detections.html").read_text()
    assert "The pictures are composed" in page

    results = [(out / "cells" / name / "result.json").stat().st_mtime_ns for name in kept]
    assert main([*typed, "--json"]) == 0  # all is there: nothing is trained
    answered = capsys.readouterr()
    assert [one["head"] for one in json.loads(answered.out)["results"]] == [
        "linear-softmax",
        "igam:preset=paper",
    ]
    assert answered.err.endswith(said)
    assert [(out / "cells" / name / "result.json").stat().st_mtime_ns for name in kept] == results
    lost = out / "cells" / kept[0] / "detections.json"
    found = lost.read_bytes()
    lost.unlink()
    assert main(typed) == 0
    assert lost.read_bytes() == found  # scored again, from the checkpoint


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--heads", "linear-softmax,igma"], "head: got 'igma'; did you mean 'igam'?"),
        (["--heads", ","], "heads: got none; expected at least one"),
        (["--heads", "igam,igam"], "heads: got 'igam' twice; expected each head once"),
        (["--seeds", "0"], "seeds: got 0; expected an integer of at least 1"),
        (["--jobs", "0"], "jobs: got 0; expected an integer of at least 1"),
        (["--head", "igam"], "unrecognized arguments: --head igam; did you mean '--heads'?"),
    ],
)
def test_mistakes_are_told_in_one_line(
    scenes: str, tmp_path: Path, refused: Callable[[list[str]], str], more: list[str], told: str
) -> None:
    said = refused(words(scenes, tmp_path / "out", *more))
    assert said == f"bisector detect compare: error: {said.split('error: ', 1)[1]}"
    assert told in said
