"""A folder as users have them, through train, embed, measure and adjust."""

import csv
import json
import shlex
from pathlib import Path

import numpy
import pytest
from PIL import Image

from bisector.cli.main import main
from bisector.data.tables import read_embeddings
from bisector.measurement.measurement import Measurement
from bisector.metrics.groups import balanced_accuracy
from bisector.report.measurement import format_measurement

NAMES = ["white cats", "naïve 猫", "<img src=x onerror=window.pwned=1>", "plain"]
CORRUPT = "naïve 猫/broken.jpg"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("my photos")
    draw = numpy.random.default_rng(0)
    for c, name in enumerate(NAMES):
        (folder / name).mkdir()
        for n in range(20 - 3 * c):
            height, width = draw.integers(20, 60, size=2)
            pixels = draw.integers(0, 120, size=(height, width, 3))
            pixels[..., c % 3] += 40 * (1 + c // 3)
            suffix = (".jpg", ".PNG", ".webp")[n % 3]
            Image.fromarray(pixels.astype("u1")).save(folder / name / f"{n} <b>{suffix}")
    whole = folder / NAMES[1] / "1 <b>.PNG"
    (folder / CORRUPT).write_bytes(whole.read_bytes()[:200])
    (folder / "empty class").mkdir()
    (folder / NAMES[0] / "notes.txt").write_text("no image")
    (folder / NAMES[0] / ".hidden.jpg").write_bytes(b"")
    return folder


def test_nothing_is_lost_and_what_is_broken_is_named(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, stored, found = tmp_path / "run", tmp_path / "photos.parquet", tmp_path / "found"
    small = ["--epochs", "3", "--batch-size", "16", "--image-size", "24", "--accelerator", "cpu"]
    assert main(["train", "--data", str(photos), "--head", "am-softmax", *small, "--out", str(run)]) == 0
    told = capsys.readouterr().err
    assert CORRUPT in told
    assert "empty class" in told
    assert "notes.txt: files of the kind .txt are not read as images" in told

    assert main(["embed", str(run), "--out", str(stored)]) == 0
    assert CORRUPT in capsys.readouterr().err
    table = read_embeddings(str(stored))
    assert table.class_names == tuple(sorted(NAMES))
    assert table.names is not None
    images = set(photos.rglob("* <b>.*"))
    assert len(images) == 20 + 17 + 14 + 11
    assert len(table.names) == len(images)
    # Each image once, under the class of its folder.
    for name, label in zip(table.names, table.labels.tolist(), strict=True):
        matching = {path for path in images if path.as_posix().endswith(name)}
        assert len(matching) == 1
        assert matching.pop().parent.name == table.class_names[label]
    assert set(table.names) == {path.relative_to(photos.parent).as_posix() for path in images}
    assert any(CORRUPT in line for line in table.left_out)

    assert main(["measure", str(stored), "--out", str(found)]) == 0
    assert CORRUPT in capsys.readouterr().out
    page = (found / "measure.html").read_text(encoding="utf-8")
    assert "<img" not in page.split("<script")[0]
    assert CORRUPT in page
    assert "Content-Security-Policy" in page
    with (found / "classes.csv").open(newline="", encoding="utf-8") as file:
        assert {row["class"] for row in csv.DictReader(file)} == set(NAMES)

    assert main(["adjust", str(stored), "--method", "prior", "--out", str(tmp_path / "adjusted")]) == 0
    assert "Balanced accuracy" in capsys.readouterr().out
    adjustment = json.loads((tmp_path / "adjusted" / "adjustment.json").read_text(encoding="utf-8"))
    assert len(adjustment["offsets"]) == len(NAMES)


def test_a_comparison_takes_the_folder_too(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(photos), "--heads", "linear-softmax,igam", "--seeds", "2", "--epochs", "2"]
    machine = ["--batch-size", "16", "--image-size", "24", "--accelerator", "cpu", "--jobs", "1"]
    assert main(["compare", *words, *machine, "--out", str(tmp_path)]) == 0
    assert "Softmax" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<img" not in page.split("<script")[0]


def test_the_open_set_split_verifies_classes_never_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data", "digits", "--split", "open-set", "--epochs", "2", "--accelerator", "cpu"]
    words = [*common, "--heads", "linear-softmax,am-softmax", "--seeds", "2", "--jobs", "1"]
    assert main(["compare", *words, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.index("EER %") < printed.index("Balanced")
    stored = json.loads((tmp_path / "comparison.json").read_text())
    assert len(stored["class_names"]) == 5
    for run in stored["runs"]:
        assert run["verification"]["classes"] == 5
        assert 0 < run["verification"]["eer"] < 0.5
    assert (tmp_path / "verification.html").is_file()

    assert main(["train", *common, "--head", "arcface", "--out", str(tmp_path / "one")]) == 0
    printed = capsys.readouterr().out
    assert "EER %" in printed
    assert "validation part" in printed


def test_what_is_recommended_was_tried_and_keeps_what_it_promises(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--data", "digits", "--imbalance", "50", "--epochs", "6", "--accelerator", "cpu"]
    for head, tau in (("logit-adjusted", 1.0), ("linear-softmax", 0.0)):
        stored = f"{head}.parquet"
        assert main(["train", *small, "--head", head, "--out", head]) == 0
        assert main(["embed", head, "--out", stored]) == 0
        table = read_embeddings(stored)
        assert table.head == {"name": head, "tau": tau}

        assert main(["measure", stored, "--out", "found"]) == 0
        found = Measurement.read(Path("found/measure.json"))
        assert found.trials is not None
        gains = {trial.name: trial.gain for trial in found.trials.tried}
        assert set(gains) == {"prior", "prior --tau fit", "amount", "geometry", "fitted"}
        assert (gains["prior"].high < 0) == (tau > 0)  # twice the prior ruins what once the prior mended
        assert any("was trained with the prior (tau = 1)" in note for note in found.notes) == (tau > 0)
        step = found.step
        assert step.key == "adjust"
        assert f"{100 * gains['fitted'].value:+.1f} points" in step.reason
        assert "180 validation rows" in format_measurement(found)

        capsys.readouterr()
        assert main([*shlex.split(step.command)[1:], "--out", "adjusted"]) == 0
        printed = capsys.readouterr()
        assert "lowers" not in printed.out + printed.err
        test = table.rows_of("test")
        after = read_embeddings("adjusted/adjusted.parquet")
        before, now = (
            balanced_accuracy(of.predictions[test], of.labels[test], of.num_classes) for of in (table, after)
        )
        assert now > before
        assert after.head == table.head
        assert "180 validation rows held out from it" in after.adjusted

        assert main(["measure", "adjusted/adjusted.parquet", "--out", "again"]) == 0
        assert "--method" not in Measurement.read(Path("again/measure.json")).step.command
        capsys.readouterr()
        assert main(["adjust", stored, "--method", "prior", "--out", "prior"]) == 0
        printed = capsys.readouterr()
        assert ("this lowers the balanced accuracy: 180 validation rows" in printed.err) == (tau > 0)
        assert ("was trained with the prior (tau = 1)" in printed.out) == (tau > 0)
        told = json.loads(Path("prior/adjustment.json").read_text())["description"]
        assert ("so it lowers it" in told) == (tau > 0)
