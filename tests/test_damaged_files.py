"""Files of bisector's own that were cut off or overwritten: named in one line, or made again."""

import json
import math
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from bisector.cli.main import main
from bisector.data.tables import open_embeddings
from bisector.detection.checkpoint import load_detector
from bisector.detection.evaluation import BoxScores
from bisector.detection.train import BoxResult
from bisector.errors import DamagedFileError
from bisector.measurement.measurement import Measurement
from bisector.measurement.stream.options import Options
from bisector.measurement.stream.partial import Partial
from bisector.posthoc import Adjustment
from bisector.records import write_record
from bisector.training.checkpoints import resumable
from bisector.training.classification import load_trained
from bisector.training.results import Comparison, Plane, Run, read_result
from bisector.training.settings import check_settings

Damage = Callable[[Path], object]


def flip(file: Path) -> None:
    """One bit of a number, which PyTorch itself reads without a word."""
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as packed:
        part = max(packed.infolist(), key=lambda part: part.file_size * ("/data/" in part.filename))
    begin = part.header_offset
    content[begin + 300] ^= 1
    file.write_bytes(content)


def loop(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


ANY: dict[str, Damage] = {
    "empty": lambda file: file.write_bytes(b""),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "zeroed": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "garbage": lambda file: file.write_bytes(numpy.random.default_rng(0).bytes(999)),
}
JSON: dict[str, Damage] = ANY | {
    "null": lambda file: file.write_text("null"),
    "list": lambda file: file.write_text("[1, 2]"),
    "object": lambda file: file.write_text("{}"),
    "deep": lambda file: file.write_text("[" * 100_000),
    "deep object": lambda file: file.write_text('{"a":' * 100_000),
    "numbers for words": lambda file: file.write_text(
        json.dumps(dict.fromkeys(json.loads(file.read_text()), 7))
    ),
}
TENSORS: dict[str, Damage] = ANY | {
    "flipped": flip,
    "list": lambda file: torch.save([1, 2], file),
    "tensor": lambda file: torch.save(torch.ones(3), file),
    "object": lambda file: torch.save({}, file),
    "text": lambda file: torch.save("state_dict", file),
    "keys alone": lambda file: torch.save(
        dict.fromkeys(torch.load(file, weights_only=True) if file.suffix == ".pt" else CHECKPOINT, 7), file
    ),
}
CHECKPOINT = ("bisector", "state_dict", "callbacks", "epoch")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command has left its files."""
    folder = tmp_path_factory.mktemp("parent") / "made"
    folder.mkdir()
    data = folder.with_name("table.npz")
    labels = numpy.arange(60) % 3
    vectors = numpy.random.default_rng(0).normal(size=(60, 5)) + 3 * numpy.eye(3, 5)[labels]
    numpy.savez(data, embeddings=vectors.astype("f4"), labels=labels, predictions=labels)
    for words in (train(folder), compare(folder), measure(folder)):
        assert main(words) == 0
    Adjustment(torch.zeros(3)).save(folder / "adjustment.json")
    shared = {one.name: math.nan for one in fields(BoxScores) if one.default is MISSING}
    lists = {"class_names": ("owl",), "class_boxes": (1,), "class_ap": (0.5,), "class_ap50": (math.nan,)}
    scores = BoxScores(**{**shared, **lists, "ap_by_frequency": {"rare": 0.5}, "ap_by_group": {}})
    result = BoxResult("igam", 0, "faster-rcnn", "boxes", "test", scores, seconds=1.0)
    write_record(result, folder / "boxes.json")
    return folder


MACHINE = ["--accelerator", "cpu", "--epochs", "1"]


def train(folder: Path) -> list[str]:
    words = ["train", "--data", str(folder.with_name("table.npz")), "--head", "am-softmax", *MACHINE]
    return [*words, "--no-tensorboard", "--out", str(folder / "train")]


def compare(folder: Path) -> list[str]:
    words = [
        "compare",
        "--data",
        str(folder.with_name("table.npz")),
        "--heads",
        "am-softmax",
        "--planes",
        "am-softmax",
    ]
    return [*words, *MACHINE, "--seeds", "1", "--jobs", "1", "--keep", "--out", str(folder / "compare")]


def measure(folder: Path) -> list[str]:
    words = [
        "measure",
        str(folder.with_name("table.npz")),
        "--engine",
        "stream",
        "--keep-partials",
        "--leaf-rows",
        "20",
    ]
    return [*words, "--out", str(folder / "measure")]


def copied(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "made"))


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def settings_of(file: Path) -> object:
    return check_settings(file.parent, {"task": {}, "recipe": {}})


def resume(file: Path) -> object:
    return resumable(file.parent)


def partial_of(file: Path) -> None:
    stored = open_embeddings(str(file.with_name("table.npz")))
    Partial(stored, Options().resolved(stored)).load(file)


RECORDS: list[tuple[str, Callable[[Path], object]]] = [
    ("compare/comparison.json", Comparison.read),
    ("compare/cells/*0-[!p]*/result.json", partial(read_result, Run)),
    ("compare/cells/*-plane-*/result.json", partial(read_result, Plane)),
    ("train/settings.json", settings_of),
    ("measure/measure.json", Measurement.read),
    ("boxes.json", partial(read_result, BoxResult)),
    ("adjustment.json", Adjustment.load),
]
ARCHIVES: list[tuple[str, Callable[[Path], object]]] = [
    ("train/last.ckpt", resume),
    ("train/last.ckpt", load_trained),
    ("train/last.ckpt", load_detector),
    ("measure/partials/measured-*/*.pt", partial_of),
]


@pytest.mark.parametrize("damage", JSON)
@pytest.mark.parametrize(("pattern", "read"), RECORDS)
def test_a_damaged_record_is_named(made: Path, tmp_path: Path, pattern: str, read: Any, damage: str) -> None:
    _named(only(made, pattern), tmp_path, read, JSON[damage])


@pytest.mark.parametrize("damage", TENSORS)
@pytest.mark.parametrize(("pattern", "read"), ARCHIVES)
def test_a_damaged_archive_is_named(made: Path, tmp_path: Path, pattern: str, read: Any, damage: str) -> None:
    _named(only(made, pattern), tmp_path, read, TENSORS[damage])


def _named(file: Path, tmp_path: Path, read: Callable[[Path], object], damage: Damage) -> None:
    place = tmp_path / file.name
    shutil.copy(file, place)
    shutil.copy(
        next(parent / "table.npz" for parent in file.parents if (parent / "table.npz").is_file()), tmp_path
    )
    if read not in {load_detector, settings_of}:  # of another training
        read(place)
    damage(place)
    with pytest.raises(DamagedFileError) as told:
        read(place)
    assert str(place if read is not settings_of else place.parent) in str(told.value)
    assert len(str(told.value)) < 1600
    assert "\n" not in str(told.value)


def written(folder: Path) -> dict[str, Any]:
    """What a damaged file leads to, without seconds and the names of folders."""
    found = {}
    for name in ("compare/comparison.json", "train/result.json", "measure/measure.json"):
        record = json.loads((folder / name).read_text())
        for one in [record, *record.get("steps", [])]:
            one.pop("command", None)  # with the name of the folder
        for run in [record, *record.get("runs", [])]:
            run.pop("seconds", None)
        found[name] = record
    for name in ("differences.csv", "cells"):
        place = folder / "compare" / name
        found[name] = (
            sorted(str(path.relative_to(place)) for path in place.rglob("*"))
            if place.is_dir()
            else place.read_text()
        )
    return found


SEVERAL = ("truncated", "hidden", "loop")


@pytest.mark.parametrize("damage", SEVERAL)
@pytest.mark.parametrize(
    ("command", "pattern", "without", "code"),
    [
        (compare, "compare/cells/*0-[!p]*/result.json", "", 0),
        (compare, "compare/cells/*-plane-*/result.json", "", 0),
        (compare, "compare/cells/*0-[!p]*/settings.json", "result.json", 0),
        (compare, "compare/cells/*0-[!p]*/last.ckpt", "result.json", 0),
        (compare, "compare/comparison.json", "", 0),
        (train, "train/result.json", "", 0),
        (train, "train/last.ckpt", "result.json", 2),
        (train, "train/settings.json", "", 2),
        (measure, "measure/measure.json", "", 0),
        (measure, "measure/partials/measured-*/plan.json", "", 0),
        (measure, "measure/partials/measured-*/*.pt", "", 0),
        (lambda folder: ["report", str(folder / "compare")], "compare/comparison.json", "", 2),
        (lambda folder: ["embed", str(folder / "train")], "train/last.ckpt", "", 2),
    ],
)
def test_a_command_makes_it_again_or_names_it(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: Callable[[Path], list[str]],
    pattern: str,
    without: str,
    code: int,
    damage: str,
) -> None:
    folder = shutil.copytree(made, made.with_name(tmp_path.name))
    monkeypatch.chdir(tmp_path)
    file = only(folder, pattern)
    before = written(folder)
    if without:
        (file.parent / without).unlink()
    kinds = TENSORS | {"hidden": flip} if file.suffix in {".pt", ".ckpt"} else JSON | {"hidden": JSON["deep"]}
    (kinds | {"loop": loop})[damage](file)
    if damage == "loop":  # which is no file: as if it were not there, or what the system says of it
        assert main(command(folder)) in {0, 2}
    else:
        assert main(command(folder)) == code
    told = capfd.readouterr().err
    assert "Traceback" not in told
    if code == 2 and damage != "loop":
        assert file.parent.name in told.splitlines()[-1]
        assert told.count("error: ") == 1
    if code == 0:
        assert written(folder) == before


def test_a_checkpoint_of_the_other_kind_or_of_no_epochs_is_named(made: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.ckpt"
    stored = torch.load(made / "train" / "last.ckpt", weights_only=True)
    with pytest.raises(DamagedFileError, match=r"last.ckpt; expected .* \(it is a classifier's\)"):
        load_detector(made / "train" / "last.ckpt")
    torch.save({**stored, "bisector": {**stored["bisector"], "kind": "detector"}}, file)
    with pytest.raises(DamagedFileError, match=r"m.ckpt; expected .* \(it is a detector's\)"):
        load_trained(file)
    torch.save({**stored, "callbacks": {}}, file)
    with pytest.raises(DamagedFileError, match=r"m.ckpt; expected .*EpochLog"):
        load_trained(file)
