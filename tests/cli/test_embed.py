import io
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from bisector.cli.main import main
from bisector.data.registry import load
from bisector.data.tables import read_embeddings
from bisector.embedding.published import PublishedModel
from bisector.measurement.measurement import Measurement
from bisector.training.classification import load_trained
from real_processes import bisector


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("absent digits", "model: got 'absent', which is not there"),
        ("timm/test_resnt digits --no-pretrained", "did you mean"),
        ("timm/test_resnet --no-pretrained", "data: got none"),
        ("timm/test_resnet digit --no-pretrained", "did you mean 'digits'"),
        ("timm/test_resnet digits --no-pretrained --batch-size 0", "--batch-size: got 0"),
        ("timm/test_resnet digits --no-pretrained --part tset", "did you mean 'test'"),
        ("timm/test_resnet digits --no-pretrained --device abacus", "--device: got 'abacus'"),
        ("timm/test_resnet digits --weights absent.pt", "weights: got absent.pt"),
        ("timm/test_resnet digits --mean 0.5", "only with an ONNX file"),
        ("timm/test_resnet digits --out a-file/e.parquet", "a-file is a file"),
        ("timm/test_resnet digits --out e.csv", "a name that ends in .parquet"),
        ("a-file digits", "expected a folder of a run"),
        ("a-file digits --mean a,b", "argument --mean: got 'a,b'; expected a number a channel"),
        ("timm/test_resnet digits --no-pretrained --device meta", "device: got meta, on which"),
        ("timm/test_resnet digits --no-pretrained --device cuda:77", "device: got cuda:77, on which"),
        ("timm/test_resnet digits --scores-output x", "only with an ONNX file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[[list[str]], str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a-file").write_text("in the way")
    said = refused(["embed", *words.split()])
    assert told in said
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]


def test_a_network_of_timm_embeds_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "timm/test_resnet digits --no-pretrained --part validation --out new/e.parquet"
    assert main(["embed", *words.split()]) == 0
    said = capsys.readouterr()
    assert "180 rows: new/e.parquet" in said.out
    assert "bisector measure new/e.parquet" in said.out
    assert "no predictions: the model has no classes" in said.err
    found = read_embeddings("new/e.parquet")
    assert torch.equal(found.labels, load("digits").validation.labels)
    assert found.model == "timm/test_resnet"


@pytest.mark.parametrize("classes", [10, 7])
def test_your_own_classifier_keeps_its_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], classes: int
) -> None:
    monkeypatch.chdir(tmp_path)
    timm = pytest.importorskip("timm")
    torch.save(timm.create_model("test_resnet", num_classes=classes).state_dict(), "own.pth")
    assert main(["embed", "timm/test_resnet", "digits", "--weights", "own.pth", "--part", "validation"]) == 0
    said = capsys.readouterr().err
    found = read_embeddings("embeddings.parquet")
    assert f"'fc' gives scores of {classes} classes" in said
    if classes == 10:
        assert found.scores is not None
        assert found.scores.shape == (180, 10)
        assert "taken in the order of the data's" in said
    else:
        assert found.scores is None
        assert "no predictions: the model has 7 classes, the data 10" in said


def picture(side: int, shade: int) -> bytes:
    raw = io.BytesIO()
    pixels = np.random.default_rng(shade).integers(0, 255, (side, side + 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(raw, "PNG")
    return raw.getvalue()


@pytest.mark.parametrize("folder", [False, True])
def test_images_in_parquet_have_the_size_that_the_network_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"bytes": picture(150 + row, row), "path": f"{row}.png"} for row in range(16)]
    path = Path("images/all.parquet" if folder else "images.parquet")
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"image": rows, "label": [row % 2 for row in range(16)]}), path)
    sizes = []

    class Watched(PublishedModel):
        def embed(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
            sizes.append(tuple(batch.shape[1:]))
            return super().embed(batch)

    monkeypatch.setattr("bisector.embedding.published.PublishedModel", Watched)
    given = "images" if folder else "images.parquet"
    assert main(["embed", "timm/test_resnet", given, "--no-pretrained"]) == 0
    side = 160  # of test_resnet; images of 64 pixels made larger would say less
    assert set(sizes) == {(3, side, side)}
    assert "image_size" not in read_embeddings("embeddings.parquet").settings


def test_what_is_recommended_keeps_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--imbalance", "5", "--seed", "2", "--no-pretrained", "--part", "train", "--out", "e 1.parquet"]
    assert main(["embed", "timm/test_resnet", "digits", *words]) == 0
    assert "Next: bisector measure 'e 1.parquet'" in capsys.readouterr().out
    first = read_embeddings("e 1.parquet")
    assert first.settings == {
        **{"imbalance": 5.0, "seed": 2, "split": "standard", "part": "train", "pretrained": False}
    }
    assert main(["measure", "e 1.parquet", "--out", "found"]) == 0
    steps = {step.key: step for step in Measurement.read(Path("found/measure.json")).steps}
    assert "--data digits --imbalance 5 --heads" in steps["compare"].command
    Path("e 1.parquet").unlink()
    assert main(shlex.split(steps["labels"].command)[1:]) == 0
    again = read_embeddings("e 1.parquet")
    assert torch.equal(again.embeddings, first.embeddings)
    assert again.names == first.names


def test_new_images_are_read_by_the_scale_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def write(folder: str, most: int) -> None:
        for number in range(12):
            place = Path(folder) / "ab"[number % 2] / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            values = np.full((8, 10), (number + 1) * most // 12, np.uint16)
            Image.fromarray(values).save(place)

    write("old", 4000)
    write("new", 200)  # alone, these would be taken for 8 bits
    words = ["--epochs", "1", "--accelerator", "cpu", "--no-tensorboard", "--head", "linear-softmax"]
    assert main(["train", "--data", "old", *words, "--out", "run"]) == 0
    assert "12 of 12 images have more than 8 bits: their values 0 to 4095" in capsys.readouterr().err
    assert json.loads(Path("run/settings.json").read_text())["pixel_range"] == [0, 4095]
    for data, out in (("old", "old.parquet"), ("new", "new.parquet")):
        assert main(["embed", "run", data, "--out", out]) == 0
        assert "as in training, their values 0 to 4095" in capsys.readouterr().err
    found = read_embeddings("new.parquet")
    trained = load_trained(Path("run"))
    assert found.names is not None
    pixels = [
        np.floor(np.asarray(Image.open(name)).astype(float) * 255 / 4095).astype(np.float32) / 255
        for name in found.names
    ]
    with torch.inference_mode():
        expected = trained.model.backbone(torch.from_numpy(np.stack(pixels))[:, None])
    torch.testing.assert_close(found.embeddings, expected)


def test_relative_paths_are_found_from_another_folder_and_after_a_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    vectors = np.random.default_rng(0).normal(size=(60, 5)).astype("f4")
    np.savez("table.npz", embeddings=vectors, labels=np.arange(60) % 3)
    short = "--epochs 1 --accelerator cpu"
    train = f"train --data table.npz --head am-softmax {short} --no-tensorboard --out run".split()
    heads = f"compare --data ./table.npz --heads am-softmax --seeds 1 --jobs 1 {short} --out heads".split()
    assert main(train) == 0
    assert main(heads) == 0
    assert json.loads(Path("run/settings.json").read_text())["task"]["data"] == str(project / "table.npz")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["embed", "../project/run"]) == 0
    found = read_embeddings("embeddings.parquet")
    assert found.data == str(project / "table.npz")
    assert Path(found.model).is_absolute()
    assert main(["measure", "embeddings.parquet", "--out", "found"]) == 0
    steps = {step.key: step for step in Measurement.read(Path("found/measure.json")).steps}
    assert f"--data {project / 'table.npz'} " in steps["compare"].command

    project.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    trained = Path("run/last.ckpt").stat().st_mtime_ns
    capsys.readouterr()
    assert main(train) == 0
    assert Path("run/last.ckpt").stat().st_mtime_ns == trained
    assert main(heads) == 0
    assert len(list(Path("heads/cells").iterdir())) == 1


@pytest.mark.slow
def test_a_run_of_ours_embeds_what_it_was_trained_on(tmp_path: Path) -> None:
    def run(words: str) -> subprocess.CompletedProcess[str]:
        done = bisector(*words.split(), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done

    run("train --data digits --imbalance 10 --seed 3 --epochs 3 --head normalized-softmax --out run")
    run("embed run")
    found = read_embeddings(tmp_path / "embeddings.parquet")
    data = load("digits", imbalance=10, seed=3)
    assert found.splits is not None
    assert found.splits.count("train") == len(data.train)
    assert torch.equal(found.labels[found.rows_of("test")], data.test.labels)
    assert found.class_names == data.class_names
    assert found.predictions is not None
    test = found.rows_of("test")
    accuracy = (found.predictions == found.labels)[test].float().mean()
    assert accuracy > 0.2
    # A name is the position among scikit-learn's digits.
    assert found.names is not None
    truth = load_digits(return_X_y=True)[1]
    assert [truth[int(name)] for name in found.names] == found.labels.tolist()
    assert found.settings == {"imbalance": 10.0, "seed": 3, "split": "standard"}
    other = run("embed run digits --seed 4 --part test --out other.parquet")
    assert "--seed 4 is not that of the training (3)" in other.stderr
    assert "has not ended" not in other.stderr
    (tmp_path / "run" / "result.json").unlink()
    unfinished = run("embed run digits --part test --out other.parquet")
    assert "the training has not ended: epoch 3 of 3" in unfinished.stderr

    done = run("measure embeddings.parquet --out found")
    assert re.search(rf"Accuracy {100 * accuracy:.1f} %", done.stdout), done.stdout
    assert "Next: " in done.stdout
    for name in ("measure.html", "measure.json", "classes.csv", "label_errors.csv", "duplicates.csv"):
        assert (tmp_path / "found" / name).stat().st_size > 0
