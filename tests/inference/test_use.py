"""From a training to its use: `bisector predict`, `bs.load`, `bisector export`, on one real training."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn

import bisector as bs
from bisector.cli.main import main
from bisector.data.image_examples import decode_each
from bisector.data.registry import load
from bisector.data.tables import read_embeddings
from bisector.inference.card import model_card
from bisector.inference.export import export, preprocessing
from bisector.inference.formats import FORMATS
from real_processes import bisector

WORDS = ["--data", "digits", "--imbalance", "20", "--epochs", "2", "--accelerator", "cpu", "--no-tensorboard"]
CPU = ["--device", "cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training with geometry in its decision, made in a process of its own."""
    out = tmp_path_factory.mktemp("trained") / "run"
    ended = bisector("train", *WORDS, "--head", "logit-adjusted", "--decide", "geometry", "--out", str(out))
    assert ended.returncode == 0, ended.stderr
    return out


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """The test part."""
    test = load("digits", imbalance=20).test
    return test.examples.batch(torch.arange(len(test)))


@pytest.fixture
def colours(tmp_path: Path) -> tuple[Path, Path]:
    """A training on coloured squares of two classes in folders, and the folder."""
    draw = np.random.default_rng(0)
    for name, shade in (("owl", 60), ("wren", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = draw.integers(shade - 50, shade + 50, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    words = [
        "--data",
        str(tmp_path / "photos"),
        "--image-size",
        "16",
        "--epochs",
        "2",
        "--accelerator",
        "cpu",
    ]
    words += ["--batch-size", "4", "--no-tensorboard", "--head", "am-softmax", "--out", str(tmp_path / "run")]
    assert main(["train", *words]) == 0
    return tmp_path / "run", tmp_path / "photos"


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    text = path.read_text()
    if path.suffix == ".csv":
        return list(csv.DictReader(text.splitlines()))
    return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]


def test_all_ways_to_ask_give_what_embed_stores(
    trained: Path, images: torch.Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    stored, asked, graph = tmp_path / "e.parquet", tmp_path / "p.parquet", tmp_path / "m.onnx"
    assert main(["embed", str(trained), "--part", "test", "--out", str(stored), *CPU]) == 0
    capsys.readouterr()
    assert main(["predict", str(trained), "--part", "test", "--out", str(asked), *CPU]) == 0
    assert "the decision of the training is followed: geometry" in capsys.readouterr().err
    assert main(["export", str(trained), "--out", str(graph)]) == 0
    table, rows = read_embeddings(stored), rows_of(asked)
    assert table.predictions is not None
    expected = [table.class_names[index] for index in table.predictions.tolist()]
    assert [row["prediction"] for row in rows] == expected
    assert [row["name"] for row in rows] == table.names
    assert [row["label"] for row in rows] == [table.class_names[index] for index in table.labels.tolist()]
    assert {row["split"] for row in rows} == {"test"}

    session = runtime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    scores, embeddings = session.run(None, {"images": images.numpy()})
    assert [table.class_names[index] for index in scores.argmax(1).tolist()] == expected
    np.testing.assert_allclose(embeddings, table.embeddings.numpy(), rtol=1e-4, atol=1e-4)

    model = bs.load(trained, device="cpu")
    assert model.predict(images) == expected
    assert repr(model) == (
        "Predictor(head='logit-adjusted', backbone='small-conv', shape=(1, 8, 8), classes=10, decision='geometry')"
    )
    found = model.probabilities(images)
    np.testing.assert_allclose(nn.functional.softmax(torch.from_numpy(scores), 1), found, atol=1e-3)
    # Without the decision they would be others.
    assert not torch.equal(model.trained.model(images).argmax(1), model.indices(images))

    # What a row says of its most probable classes is what the probabilities say.
    probabilities, order = found.sort(dim=1, descending=True)
    assert [row["top_classes"] for row in rows] == [
        [model.class_names[index] for index in top] for top in order[:, :5].tolist()
    ]
    told = np.array([row["top_probabilities"] for row in rows])
    np.testing.assert_allclose(told, probabilities[:, :5].numpy(), rtol=1e-4, atol=1e-7)


def test_every_format_holds_the_same(trained: Path, tmp_path: Path) -> None:
    found = {}
    for suffix in ("parquet", "csv", "json", "jsonl"):
        out = tmp_path / "new" / f"p.{suffix}"
        words = ["predict", str(trained), "--part", "validation", "--top-k", "2", "--batch-size", "50", *CPU]
        assert main([*words, "--out", str(out)]) == 0
        found[suffix] = rows_of(out)
        assert len(found[suffix]) == 180
    assert found["json"] == found["jsonl"]
    for json_row, csv_row, row in zip(found["json"], found["csv"], found["parquet"], strict=True):
        assert list(json_row) == list(row)
        assert [json_row[key] for key in ("name", "split", "label", "prediction", "top_classes")] == [
            row[key] for key in ("name", "split", "label", "prediction", "top_classes")
        ]
        assert [csv_row["top_1"], csv_row["top_2"]] == row["top_classes"]
        assert [float(csv_row["probability_1"]), float(csv_row["probability_2"])] == json_row[
            "top_probabilities"
        ]
        assert json_row["top_probabilities"] == pytest.approx(row["top_probabilities"], rel=1e-5)
    notes = json.loads(pq.read_metadata(tmp_path / "new" / "p.parquet").metadata[b"bisector"])
    assert notes["decision"] == "geometry"
    assert notes["class_names"] == list("0123456789")


@pytest.mark.parametrize("top_k", ["1", "5", "10"])
@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_measure_takes_labels_and_predictions_alone_from_what_predict_wrote(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    refused: Callable[[list[str]], str],
    suffix: str,
    top_k: str,
) -> None:
    """Probabilities that are sorted in every row are neither embeddings nor scores, of all classes neither."""
    asked, out = tmp_path / f"p.{suffix}", tmp_path / "measured"
    assert main(["predict", str(trained), "--part", "test", "--top-k", top_k, "--out", str(asked), *CPU]) == 0
    capsys.readouterr()
    assert main(["measure", str(asked), "--out", str(out)]) == 0
    first = "'top_1'" if suffix == "csv" else "'top_classes'"
    columns = "'label' as labels, 'prediction' as predictions, 'name' as names, 'split' as splits"
    told = capsys.readouterr().err
    assert f"columns: {columns}; not used: 'probability'{', ' + first if top_k != '1' else chr(10)}" in told
    rows = rows_of(asked)
    right = {
        name: [row["prediction"] == name for row in rows if row["label"] == name] for name in "0123456789"
    }
    with (out / "classes.csv").open() as file:
        measured = {row["class"]: row for row in csv.DictReader(file)}
    assert set(measured) == set(right)
    for name, hits in right.items():
        assert float(measured[name]["accuracy"]) == pytest.approx(np.mean(hits), abs=1e-6)
        assert not measured[name].get("amount")
    said = refused(["adjust", str(asked), "--out", str(tmp_path / "adjusted")])
    assert "a column a class (prob_cat), of all classes: `bisector embed RUN` writes them" in said


def test_a_folder_without_labels_with_a_text_and_a_broken_image(
    colours: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, photos = colours
    inbox = tmp_path / "inbox"
    (inbox / "monday").mkdir(parents=True)
    for number, (name, shade) in enumerate((("a", 60), ("monday/b", 200), ("c", 210))):
        Image.new("RGB", (40, 30 + number), (shade, shade, shade)).save(inbox / f"{name}.png")
    (inbox / "notes.txt").write_text("no image")
    (inbox / "broken.png").write_bytes((inbox / "a.png").read_bytes()[:40])
    (inbox / "empty.jpg").write_bytes(b"")
    capsys.readouterr()
    out = tmp_path / "p.csv"
    assert main(["predict", str(run), str(inbox), "--out", str(out), "--batch-size", "2", *CPU]) == 0
    told = capsys.readouterr().err
    for line in (
        "inbox/broken.png: cannot be read",
        "inbox/empty.jpg: cannot be read",
        "inbox/notes.txt: files",
    ):
        assert f"left out: {line}" in told
    assert "the folders (monday) are none of the model's classes" in told
    rows = rows_of(out)
    assert [row["name"] for row in rows] == ["inbox/a.png", "inbox/c.png", "inbox/monday/b.png"]
    assert "label" not in rows[0]
    assert "split" not in rows[0]
    # One by one, by path, content or as an image of Pillow, they are the same.
    model = bs.load(run, device="cpu")
    files = [inbox.parent / row["name"] for row in rows]
    expected = [row["prediction"] for row in rows]
    assert model.predict(files) == expected
    assert [model.predict(str(file))[0] for file in files] == expected
    together = model.probabilities(files)
    for given in ([file.read_bytes() for file in files], [Image.open(file) for file in files]):
        torch.testing.assert_close(model.probabilities(given), together)
    # A single folder that is called like a class is no data set, but has labels.
    assert (
        main(["predict", str(run), str(photos / "owl" / "3.png"), str(photos / "wren"), "--out", str(out)])
        == 0
    )
    assert str(rows_of(out)[0]["name"]).endswith("owl/3.png")
    assert len(rows_of(out)) == 13
    (tmp_path / "other").mkdir()
    (photos / "owl").rename(tmp_path / "other" / "owl")
    assert main(["predict", str(run), str(tmp_path / "other"), "--out", str(out), *CPU]) == 0
    assert {row["label"] for row in rows_of(out)} == {"owl"}


def test_images_in_parquet_need_no_labels(colours: tuple[Path, Path], tmp_path: Path) -> None:
    run, photos = colours
    files = sorted(photos.rglob("*.png"))
    rows = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    rows[3]["bytes"] = b"no image"
    pq.write_table(pa.table({"image": rows}), tmp_path / "inbox.parquet")
    out = tmp_path / "inbox.csv"
    assert main(["predict", str(run), str(tmp_path / "inbox.parquet"), "--out", str(out), *CPU]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert main(["predict", str(run), *map(str, files), "--out", str(out), *CPU]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        expected = [row["prediction"] for row in csv.DictReader(file)]
    del expected[3]
    assert [row["prediction"] for row in found] == expected
    assert "label" not in found[0]
    assert "row 4 (4.png)" in found[3]["name"] or "row 4 " in found[3]["name"]


def test_pixels_are_those_of_training(colours: tuple[Path, Path]) -> None:
    run, photos = colours
    model, data = bs.load(run, device="cpu"), load(photos, image_size=16)
    for part in (data.train, data.test):
        whole = part.examples.batch(torch.arange(len(part)))
        files = [photos.parent / part.examples.name(position) for position in range(len(part))]
        torch.testing.assert_close(model.scores(files), model.scores(whole))
        torch.testing.assert_close(model.scores((whole * 255).round().byte()), model.scores(whole))


def test_the_first_rows_are_printed(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(trained), "--part", "test", *CPU]) == 0
    told = capsys.readouterr().out
    assert "Prediction" in told
    assert "the first 10 of 540 examples" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("predict absent digits", "model: got absent; expected a checkpoint, or the folder of a training"),
        ("predict inbox digits", "model: got inbox; expected"),
        ("predict RUN digits --out p.txt", "--out: got p.txt; expected a name that ends in .parquet"),
        ("predict RUN digits --out file/p.csv", "file is a file"),
        ("predict RUN digits --out inbox.csv", "inbox.csv, a folder; expected a file to write"),
        ("predict RUN digits --top-k 0", "--top-k: got 0"),
        ("predict RUN digits --batch-size 0", "--batch-size: got 0"),
        ("predict RUN digits --device abacus", "--device: got 'abacus'"),
        ("predict RUN digit", "did you mean 'digits'"),
        ("predict RUN digits fashion-mnist", "expected one data set, or images"),
        ("predict RUN vectors.npz --out p.csv", "examples of shape (5,); expected (1, 8, 8)"),
        ("predict RUN inbox --out p.csv", "1 images, none of which can be read (inbox/a.png: cannot be read"),
        ("predict RUN inbox --part test", "part: got 'test'"),
        ("predict RUN inbox.csv", "that folder holds nothing"),
        ("export RUN --format pickle", "invalid choice: 'pickle'"),
        (
            "export RUN --out m.pth",
            "--out: got m.pth; expected a name that ends in .onnx, .pt2, .safetensors",
        ),
        ("export RUN --out m.onnx --format torch", "expected a name that ends in .pt2"),
        ("export RUN --out file/m.onnx", "file is a file"),
        ("export RUN --out m.onnx --opset 5", "--opset: got 5"),
        ("export RUN --out m.pt2 --opset 17", "it only with onnx"),
        ("export absent --out m.onnx", "model: got absent"),
        ("export RUN vectors.npz --out m.onnx", "examples of shape (5,); expected (1, 8, 8)"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    words: str,
    told: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[[list[str]], str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("in the way")
    Path("inbox").mkdir()
    Path("inbox.csv").mkdir()
    Path("inbox/a.png").write_text("no image")
    np.savez("vectors.npz", embeddings=np.eye(8, 5, dtype="f4"), labels=np.arange(8) % 4)
    before = sorted(tmp_path.rglob("*"))
    assert told in refused([str(trained) if word == "RUN" else word for word in words.split()]).replace(
        "  ", " "
    )
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_to(
    trained: Path, tmp_path: Path, refused: Callable[[list[str]], str]
) -> None:
    tmp_path.chmod(0o500)
    for words in (["predict", str(trained), "--out", str(tmp_path / "p.csv")], ["export", str(trained)]):
        out = [] if words[0] == "predict" else ["--out", str(tmp_path / "m.onnx")]
        assert "Permission denied" in refused([*words, *out])


def test_what_is_no_image_of_the_model_is_refused(trained: Path) -> None:
    model = bs.load(trained, device="cpu")
    for given, told in (
        (torch.zeros(2, 3, 8, 8), r"images: got shape \(2, 3, 8, 8\); expected \(N, 1, 8, 8\)"),
        (torch.full((1, 8, 8), 16.0), "pixels from 16 to 16; expected 0 to 1"),
        (torch.full((1, 8, 8), torch.nan), "NaN or infinity"),
        (torch.zeros(1, 8, 8, dtype=torch.long), "torch.int64"),
        ("absent.png", "absent.png: cannot be read"),
        ([b"no image"], "number 0: cannot be read: not an image"),
        ([3], "int at 0; expected paths, bytes"),
    ):
        with pytest.raises(bs.ArgumentError, match=told):
            model.predict(given)  # type: ignore[arg-type]
    assert model.predict([]) == []
    assert model.probabilities(torch.zeros(0, 1, 8, 8)).shape == (0, 10)
    assert len(model.predict(torch.zeros(1, 8, 8))) == 1


@pytest.mark.parametrize("opset", [14, 20])
def test_an_onnx_file_says_what_it_is(
    trained: Path, images: torch.Tensor, opset: int, tmp_path: Path
) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    model, path = bs.load(trained, device="cpu"), tmp_path / "m.onnx"
    done = export(model, path, "onnx", images[:3], opset=opset)
    assert (done.rows, done.other) == (3, 0)
    assert done.difference < 1e-3
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    assert graph.opset_import[0].version == opset
    told = runtime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert json.loads(told["class_names"]) == list("0123456789")
    assert json.loads(told["input_shape"]) == [1, 8, 8]
    assert (told["head"], told["decision"], told["data"]) == ("logit-adjusted", "geometry", "digits")
    # `bisector embed` reads it, with the names of its classes.
    words = ["digits", "--imbalance", "20", "--part", "test", "--out", str(tmp_path / "e.parquet")]
    assert main(["embed", str(path), *words, *CPU]) == 0
    predictions = read_embeddings(tmp_path / "e.parquet").predictions
    assert predictions is not None
    assert torch.equal(predictions, model.indices(images))


def test_a_file_that_gives_other_scores_is_not_written(
    trained: Path, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    right = runtime.InferenceSession.run

    def wrong(session: Any, names: Any, given: Any) -> list[Any]:
        return [1.1 * right(session, names, given)[0]]

    monkeypatch.setattr(runtime.InferenceSession, "run", wrong)
    with pytest.raises(
        bs.ArgumentError, match=r"whose scores differ from PyTorch's by .*; nothing is written"
    ):
        export(bs.load(trained, device="cpu"), tmp_path / "m.onnx", "onnx", images[:9])
    assert not list(tmp_path.iterdir())


def test_a_program_decides_alike_for_any_number_of_rows(
    trained: Path, images: torch.Tensor, tmp_path: Path
) -> None:
    model, path = bs.load(trained, device="cpu"), tmp_path / "m.pt2"
    export(model, path, "torch", images[:1])
    notes = {"bisector.json": ""}
    program = torch.export.load(path, extra_files=notes).module()
    assert json.loads(notes["bisector.json"])["class_names"] == list(model.class_names)
    for rows in (1, 2, 540):
        scores, embeddings = program(images[:rows])
        assert torch.equal(scores.argmax(1), model.indices(images[:rows]))
        assert embeddings.shape == (rows, 32)


def test_a_device_that_there_is_not_is_one_error(trained: Path) -> None:
    for word in ("abacus", "meta"):
        with pytest.raises(bs.ArgumentError, match=f"device: got {word}, on which PyTorch cannot compute"):
            bs.load(trained, device=word)


def test_weights_are_those_of_the_checkpoint(trained: Path, images: torch.Tensor, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    model, path = bs.load(trained, device="cpu"), tmp_path / "m.safetensors"
    export(model, path, "safetensors", images[:1])
    with safetensors.safe_open(path, "pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        noted = json.loads(file.metadata()["bisector"])
        assert (noted["head"], noted["backbone"]) == ("logit-adjusted", "small-conv")
    kept = torch.load(trained / "last.ckpt", weights_only=True)["state_dict"]
    for name, tensor in kept.items():
        assert torch.equal(stored[name], tensor)


@pytest.mark.parametrize("format", FORMATS)
def test_what_the_card_says_to_type_runs(trained: Path, format: str, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    out = tmp_path / "out" / f"m{FORMATS[format]}"
    assert (
        main(["export", str(trained), "--format", format, "--out", str(out), "--license", "apache-2.0"]) == 0
    )
    card = (out.parent / "README.md").read_text()
    _, header, body = card.split("---\n", 2)
    assert "- Backbone: small-conv\n" in body  # which was asked for as "auto"
    assert yaml.safe_load(header)["license"] == "apache-2.0"
    run = json.loads((trained / "result.json").read_text())
    for c, (count, right) in enumerate(
        zip(run["class_count"], run["decided"]["class_accuracy"], strict=True)
    ):
        assert f"| {c} | {count} | {100 * right:.1f}% |" in body
    code = body.split("```python\n")[1].split("```")[0]
    draw = np.random.default_rng(0)  # of another size, aspect and kind than the 8 x 8 grays of training
    sizes = {"a.png": (31, 20), "b.jpg": (90, 200), "c.png": (8, 8), "d.webp": (17, 64)}
    for name, size in sizes.items():
        wide = Image.fromarray(draw.integers(0, 256, (6, 5, 4 if name == "a.png" else 3), dtype=np.uint8))
        wide.resize(size).save(out.parent / name)
    code = code.replace('["image.jpg"]', repr(list(sizes)))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=out.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = bs.load(trained, device="cpu").predict([out.parent / name for name in sizes])
    assert eval(done.stdout) == expected


def test_the_card_reads_photographs_as_the_model_does(colours: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    run, _ = colours
    assert main(["export", str(run), "--out", str(tmp_path / "m.onnx")]) == 0
    card = (tmp_path / "README.md").read_text()
    model = bs.load(run, device="cpu")
    assert f"Preprocessing: {preprocessing(model)}." in card
    assert "BILINEAR" in preprocessing(model)
    path = tmp_path / "wide.jpg"  # so large that it is decoded at a part of its size
    draw = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(draw).save(path, exif=turned)
    code = card.split("```python\n")[1].split("```")[0].split("model = ")[0]
    given: dict[str, Any] = {}
    exec(code, given)
    (pixels,) = decode_each([str(path)], ["wide.jpg"], model.shape)[0].numpy()
    np.testing.assert_array_equal(given["read"](path), pixels)


def test_a_readme_of_somebody_else_stays(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "README.md").write_text("# mine\n")
    words = ["export", str(trained), "--out", str(tmp_path / "m.safetensors")]
    assert main(words) == 0
    assert "README.md is there and is none of ours" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "# mine\n"
    assert main([*words, "--card", str(tmp_path / "card.md")]) == 0
    card = (tmp_path / "card.md").read_text()
    assert "license" not in card
    assert str(tmp_path) not in card
    model = bs.load(trained / "last.ckpt", device="cpu")  # which knows neither a result nor a decision
    assert "Nothing is known of it" in model_card(model, tmp_path / "m.onnx", "onnx")
