"""`bisector detect` from the command line."""

import csv
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bisector.cli.main import main
from bisector.data.boxes import load_boxes
from bisector.data.tables import read_embeddings
from bisector.posthoc import GeometryAdjustment
from tiny_boxes import write_voc

SMALL = ["--model", "small-fpn", "--image-size", "64", "--batch-size", "8"]
SMALL += ["--accelerator", "cpu", "--no-tensorboard"]


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_voc(tmp_path_factory.mktemp("data") / "voc")


@pytest.fixture(scope="module")
def run(voc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "igam"
    detect("train", "--data", voc, *SMALL, "--epochs", "2", "--out", out)
    return out


@pytest.fixture(scope="module")
def coco(voc: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The flags of the same pictures in files of COCO."""
    folder, splits = tmp_path_factory.mktemp("data"), load_boxes(str(voc))
    (folder / "train.json").write_text(json.dumps(splits.train.coco()))
    (folder / "val.json").write_text(json.dumps(splits.validation.coco()))
    data = ["--data", str(folder / "train.json"), "--images", str(voc / "JPEGImages")]
    return [*data, "--validation", str(folder / "val.json")]


def detect(*words: object, code: int = 0) -> None:
    assert main(["detect", *map(str, words)]) == code


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def result(folder: Path) -> Any:
    return json.loads((folder / "result.json").read_text())


def page(folder: Path) -> str:
    """What the page says, without the command that was typed: it names the folder."""
    return re.sub("<pre>.*?</pre>", "", (folder / "detections.html").read_text(), flags=re.DOTALL)


def test_a_training_leaves_its_files_and_is_not_repeated(
    run: Path, voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = rows(run / "metrics.csv")
    assert [row["epoch"] for row in measured] == ["0", "1"]
    for name in ("train/loss", "train/loss_classifier", "val/ap", "val/ap50", "information/mean"):
        assert all(float(row[name]) >= 0 for row in measured), name
    amounts = rows(run / "amounts.csv")
    assert list(amounts[0]) == ["refresh", "(background)", "blue", "green", "red"]
    assert all(float(row["blue"]) > 0 for row in amounts)
    done = result(run)
    assert (done["part"], done["head"], done["epochs"]) == ("test", "igam", 2)
    assert done["scores"]["class_names"] == ["blue", "green", "red"]
    assert json.loads((run / "settings.json").read_text())["recipe"]["model"] == "small-fpn"
    assert "<html" in (run / "detections.html").read_text()

    # Another time on the clock is no other page.
    (run / "result.json").write_text(json.dumps({**done, "seconds": 3601.0}))
    shown = page(run)
    before = (run / "last.ckpt").stat().st_mtime_ns, done["scores"], (run / "detections.json").read_bytes()
    detect("train", "--data", f"{voc}/", *SMALL, "--epochs", "2", "--out", run)
    after = (
        (run / "last.ckpt").stat().st_mtime_ns,
        result(run)["scores"],
        (run / "detections.json").read_bytes(),
    )
    assert after == before
    assert page(run) == shown
    printed = capsys.readouterr().out
    assert "igam on voc test, seed 0: small-fpn" in printed
    assert "Training and scoring took 1 h 00 min." in printed


def test_a_run_is_scored_again_and_so_are_its_stored_results(run: Path, voc: Path, tmp_path: Path) -> None:
    detect("evaluate", run, "--device", "cpu", "--out", tmp_path / "again")
    for name in ("class_ap", "class_ap50"):  # in other batches than in the training
        found, before = (result(folder)["scores"][name] for folder in (tmp_path / "again", run))
        assert found == pytest.approx(before, abs=1e-6)
    found, before = (result(folder)["classified"] for folder in (tmp_path / "again", run))
    assert found["class_accuracy"] == pytest.approx(before["class_accuracy"], abs=1e-6)
    assert result(tmp_path / "again")["adjustment"] is None
    detect("evaluate", run / "detections.json", "--data", voc, "--out", tmp_path / "stored")
    found, before = (result(folder)["scores"]["class_ap"] for folder in (tmp_path / "stored", run))
    assert found == pytest.approx(before, abs=1e-6)
    part = ["--part", "validation", "--adjust", "prior", "--tau", "0.5"]
    detect("evaluate", run, *part, "--device", "cpu", "--out", tmp_path / "tau")
    adjusted = result(tmp_path / "tau")
    assert adjusted["part"] == "validation"
    assert adjusted["adjustment"].startswith("prior")
    assert adjusted["classified"] is not None


def test_a_training_is_not_written_over(run: Path, voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "result.json").read_bytes()
    for detector in (run, run / "detections.json"):
        detect("evaluate", detector, "--data", voc, "--out", run, code=2)
        assert "which holds a training (settings.json); expected another folder" in capsys.readouterr().err
    assert (run / "result.json").read_bytes() == before


def test_files_of_coco_are_trained_on(
    coco: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "coco"
    detect("train", *coco, *SMALL, "--epochs", "1", "--out", out)
    assert (result(out)["part"], result(out)["scores"]["images"]) == ("validation", 6)
    capsys.readouterr()
    other = ("--imbalance", 2, "--seed", 3)
    detect("adjust", out / "detections.json", *coco, *other, "--out", tmp_path / "adjusted.json")
    told = capsys.readouterr().out
    following = shlex.split(told[told.index("Next: bisector detect ") :])[3:]
    assert following[-2:] == ["--seed", "3"]
    assert set(coco) < set(following)
    detect(*following, "--out", tmp_path / "next")


@pytest.mark.parametrize("head", ["igam", "linear"])
def test_one_class_is_trained_on(coco: list[str], tmp_path: Path, head: str) -> None:
    words, out = [], tmp_path / "one"
    for word in coco:
        if not word.endswith(".json"):
            words.append(word)
            continue
        content = json.loads(Path(word).read_text())
        kept = content["categories"][0]
        for record in content["annotations"]:
            record["category_id"] = kept["id"]
        place = tmp_path / Path(word).name
        place.write_text(json.dumps({**content, "categories": [kept]}))
        words.append(str(place))
    assert words != coco
    detect("train", *words, *SMALL, "--epochs", "1", "--head", head, "--out", out)
    scores = result(out)["scores"]
    assert len(scores["class_names"]) == 1
    assert scores["bias"] is None
    assert (out / "detections.html").is_file()


def test_stored_results_are_adjusted(voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = load_boxes(str(voc))
    ids = [picture.id for picture in splits.test]
    records = [
        {"image_id": image, "category_id": category, "bbox": [1, 2, 30, 40], "score": 0.3 + 0.1 * category}
        for image in ids
        for category in (1, 2, 3)
    ]
    file, out = tmp_path / "results.json", tmp_path / "adjusted.json"
    file.write_text(json.dumps(records))
    detect("adjust", file, "--data", voc, "--out", out)
    found = json.loads(out.read_text())
    counts = splits.train.counts.double()
    for record in found:
        score, rate = 0.3 + 0.1 * record["category_id"], counts.mean() / counts[record["category_id"] - 1]
        odds = score / (1 - score) * float(rate)
        assert record["score"] == pytest.approx(odds / (1 + odds), rel=1e-6)
    capsys.readouterr()
    even = tmp_path / "counts.json"
    even.write_text(json.dumps({"blue": 5, "green": 5, "red": 5}))
    detect("adjust", file, "--data", voc, "--counts", even, "--out", out)
    for record in json.loads(out.read_text()):
        assert record["score"] == pytest.approx(0.3 + 0.1 * record["category_id"])
    words = ("evaluate", file, "--data", voc, "--adjust", "prior", "--out")
    detect(*words, tmp_path / "scored")
    assert "Adjusted: prior" in capsys.readouterr().out

    box = {"image_id": ids[0], "bbox": [1, 2, 30, 40], "scores": [0.1, 0.2, 0.3]}
    file.write_text(json.dumps([box]))
    detect(*words, tmp_path / "several", code=2)
    assert "bisector detect adjust moves these" in capsys.readouterr().err
    assert not (tmp_path / "several").exists()


def test_the_geometry_of_a_runs_classes_takes_part_in_its_decision(
    run: Path, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = Path(shutil.copytree(run, tmp_path / "run"))
    cpu = ["--device", "cpu"]
    detect("evaluate", mine, *cpu, "--adjust", "geometry", "--out", tmp_path / "none", code=2)
    told = capsys.readouterr().err
    assert (
        f"{mine}/geometry.safetensors, which is not there; expected what bisector detect adjust {mine}"
        in told
    )
    assert not (tmp_path / "none").exists()

    detect("adjust", mine, *cpu)
    told = capsys.readouterr().out
    assert "held out from it" in told
    assert re.search(r"Balanced accuracy % +\d", told)
    following = shlex.split(told[told.index("Next: bisector detect ") :])[3:]
    assert following == ["evaluate", str(mine), "--adjust", "geometry"]
    file = mine / "geometry.safetensors"
    fitted = GeometryAdjustment.load(file)
    assert fitted.class_names == ("blue", "green", "red")
    assert fitted.geometry.scale == "unit"
    detect(*following, *cpu, "--out", tmp_path / "fitted")
    assert result(tmp_path / "fitted")["adjustment"] == f"geometry, {fitted.description}"

    replace(fitted, a=1.0, b=0.0, e=0.0, t=0.0).save(file)  # the identity
    detect(*following, *cpu, "--out", tmp_path / "same")
    detect("evaluate", mine, *cpu, "--out", tmp_path / "plain")
    same, plain = ((tmp_path / name / "detections.json").read_bytes() for name in ("same", "plain"))
    assert same == plain
    replace(fitted, a=0.0, b=3.0).save(tmp_path / "moved.safetensors")
    capsys.readouterr()
    part = ("--part", "validation", "--adjust", tmp_path / "moved.safetensors", "--out", tmp_path / "moved")
    detect("evaluate", mine, *cpu, *part)
    assert (
        "Where the adjustment was fitted on these very boxes, the scores flatter." in capsys.readouterr().out
    )
    before, after = (result(tmp_path / name)["classified"]["class_accuracy"] for name in ("plain", "moved"))
    assert before != after

    for method, name in (("fitted", "fitted.json"), ("lda", "lda.safetensors")):
        detect("adjust", mine, *cpu, "--method", method)
        assert f"--adjust {mine / name}" in capsys.readouterr().out
        detect("evaluate", mine, *cpu, "--adjust", mine / name, "--out", tmp_path / method)
        assert result(tmp_path / method)["adjustment"].startswith(f"{method}, ")

    # Of another training, on other data, or of results that hold no embeddings.
    stored = torch.load(mine / "last.ckpt", weights_only=False)
    stored["state_dict"]["network.roi_heads.box_predictor.head.weight"].mul_(1.001)
    torch.save(stored, tmp_path / "other.ckpt")
    for words, complaint in (
        (
            (tmp_path / "other.ckpt", "--adjust", file),
            "adjustment: got one that was fitted on another detector",
        ),
        ((mine / "detections.json", "--data", voc, "--adjust", "geometry"), "expected a run in the place of"),
        ((mine, "--adjust", tmp_path / "no.safetensors"), "no.safetensors, which is not there"),
    ):
        detect("evaluate", *words, "--out", tmp_path / "none", code=2)
        assert complaint in capsys.readouterr().err
        assert not (tmp_path / "none").exists()


def test_adjust_says_which_input_a_method_needs(
    run: Path, coco: list[str], voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = run / "detections.json"
    data = ["--data", voc]
    empty = json.loads((Path(coco[-1])).read_text()) | {"annotations": []}
    (tmp_path / "empty.json").write_text(json.dumps(empty))
    for words, complaint in (
        ((results, *data, "--method", "geometry"), "--method: got geometry with"),
        ((run, "--method", "prior"), f"bisector detect evaluate {run} --adjust prior"),
        ((run, "--method", "geometri"), "did you mean 'geometry'"),
        ((run, "--tau", "0.5"), f"--tau: got it with {run}; expected it with results.json"),
        ((results, *data, "--moments", "train"), f"--moments: got it with {results}; expected it with a run"),
        ((results,), "--data: got none"),
        ((run, "--out", tmp_path / "offsets.json"), "expected a name that ends with .safetensors"),
        ((run, *coco[:-1], tmp_path / "empty.json"), "data: got no box in"),
        (
            (results, *data, "--adjustment", "x.safetensors"),
            "--adjustment: got x.safetensors; expected a run",
        ),
    ):
        detect("adjust", *words, code=2)
        told = capsys.readouterr().err
        assert complaint in told
        assert "Traceback" not in told
    assert not (run / "geometry.safetensors").exists()


def test_the_boxes_of_a_run_are_measured_with_its_ap(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detect("measure", run, "--device", "cpu", "--out", tmp_path)
    told = capsys.readouterr().out
    assert re.search(r"Next: [^$]*bisector detect adjust \S+igam [^$]*--method geometry", told)
    measured = json.loads((tmp_path / "measure.json").read_text())
    assert {"AP", "AP50"} <= {score["name"] for score in measured["scores"]}
    table = read_embeddings(tmp_path / "embeddings.parquet")
    assert set(table.splits or []) == {"train", "validation", "test"}
    assert (tmp_path / "measure.html").is_file()


def test_json_is_all_that_stdout_holds_and_says_what_the_words_say(
    run: Path, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = Path(shutil.copytree(run, tmp_path / "run"))
    results = mine / "detections.json"

    def asked(*words: object) -> tuple[Any, str]:
        detect(*words, "--json")
        said = capsys.readouterr()
        return json.loads(said.out), said.err

    found, words = asked("train", "--data", voc, *SMALL, "--epochs", "2", "--out", mine)
    assert found == result(mine)
    assert f"{100 * found['scores']['ap']:.1f}" in words

    cpu = ("--device", "cpu")
    found, words = asked("evaluate", mine, *cpu, "--out", tmp_path / "scored")
    assert found == result(tmp_path / "scored")
    assert f"{100 * found['classified']['balanced_accuracy']:.1f}% of them get their class" in words

    found, words = asked("measure", mine, *cpu, "--out", tmp_path / "measured")
    assert found == json.loads((tmp_path / "measured" / "measure.json").read_text())
    assert "Next: " in words

    found, words = asked("adjust", results, "--data", voc, "--tau", 0.5, "--out", tmp_path / "a.json")
    assert (found["method"], found["settings"]["tau"]) == ("prior", 0.5)
    assert found["file"] == str(tmp_path / "a.json")
    assert found["detections"] == len(json.loads((tmp_path / "a.json").read_text()))
    assert f"prior: {found['description']}\n{found['detections']:,} detections: {found['file']}" in words

    found, words = asked("adjust", mine, *cpu)
    kept = GeometryAdjustment.load(mine / "geometry.safetensors")
    assert (found["method"], found["description"]) == ("geometry", kept.description)
    assert found["adjustment"] == str(mine / "geometry.safetensors")
    assert f"{found['rows']} true boxes" in words
    for key, label in (("accuracy", "Accuracy"), ("balanced_accuracy", "Balanced accuracy")):
        old, new = (f"{100 * found[when][key]:.1f}" for when in ("before", "after"))
        assert re.search(rf"{label} % +{old} +{new} ", words)
    assert set(found["before"]) == set(found["after"]) == set(found["changes"])

    detect("adjust", tmp_path / "none.json", "--json", code=2)
    assert capsys.readouterr().out == ""


def test_other_boxes_are_measured_without_the_ap_of_the_training(
    run: Path, coco: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detect("measure", run, *coco, "--part", "train", "--device", "cpu", "--out", tmp_path)
    assert "these are other boxes: measured without AP" in capsys.readouterr().err
    measured = json.loads((tmp_path / "measure.json").read_text())
    assert {score["name"] for score in measured["scores"]}.isdisjoint({"AP", "AP50"})


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "--head", "igma"], "did you mean 'igam'"),
        (["train", "--model", "small-fnp"], "did you mean 'small-fpn'"),
        (["train", "--data", "nowhere"], "nowhere"),
        (["train", "--epochs", "0"], "epochs: got 0"),
        (["train", "--repeat-threshold", "2"], "repeat_threshold: got 2"),
        (["train", "--precision", "8-bit"], "8-bit"),
        (["train", "--pretrained"], "small-fpn"),
        (["evaluate", "nowhere"], "model: got nowhere"),
        (["evaluate", "nowhere.json"], "nowhere.json, which is not there"),
        (["measure", "nowhere"], "model: got nowhere"),
        (["adjust", "nowhere.json"], "nowhere.json, which is not there"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    voc: Path, words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    action, *rest = words
    data = [] if "--data" in words else ["--data", str(voc)]
    out = ["--out", str(tmp_path / "out")]
    detect(action, *data, *(SMALL if action == "train" else []), *rest, *out, code=2)
    complaint = capsys.readouterr().err.strip()
    assert told in complaint
    assert complaint.startswith(f"bisector detect {action}: error: ")
    assert "\n" not in complaint
    assert not (tmp_path / "out").exists()


def test_unknown_flags_and_actions_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["trian"], "did you mean 'train'"),
        (["train", "--data", "x", "--epoch", "3"], "did you mean '--epochs'"),
        (["evaluate", "x.json", "--tua", "3"], "did you mean '--tau'"),
    ):
        with pytest.raises(SystemExit) as left:
            main(["detect", *words])
        assert left.value.code == 2
        assert told in capsys.readouterr().err


def test_results_of_other_pictures_are_refused(
    voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps([{"image_id": 999, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}]))
    for words, told in (
        (["--data", str(voc)], "record 1: got image_id 999"),
        ([], "--data: got none"),
        (["--data", str(voc), "--adjust", "nowhere.json"], "--adjust: got nowhere.json"),
    ):
        detect("evaluate", file, *words, "--out", tmp_path / "out", code=2)
        assert told in capsys.readouterr().err


def start(*words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(
        [sys.executable, "-m", "bisector", "detect", "train", *SMALL, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_training_that_is_killed_ends_in_the_same_bits(run: Path, voc: Path, tmp_path: Path) -> None:
    words = ["--data", str(voc), "--epochs", "2", "--checkpoint-steps", "1", "--out", str(tmp_path / "cut")]
    last, draw, kills = tmp_path / "cut" / "last.ckpt", random.Random(3), 0
    while kills < 1:
        before, deadline = last.stat().st_mtime_ns if last.is_file() else 0, time.monotonic() + 120
        process = start(*words)
        while not (last.is_file() and last.stat().st_mtime_ns > before) and process.poll() is None:
            assert time.monotonic() < deadline, "no progress"
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.1))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
    final = start(*words)
    assert final.wait(300) == 0, final.communicate()
    assert kills >= 1
    one, other = (
        torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (run, tmp_path / "cut")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    for name in ("metrics.csv", "amounts.csv", "settings.json", "detections.json"):
        assert (run / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    assert page(run) == page(tmp_path / "cut")
    records = [{**result(folder), "seconds": 0} for folder in (run, tmp_path / "cut")]
    assert records[0] == records[1]


@pytest.mark.slow
def test_two_processes_train_one_model_and_score_all_pictures(tmp_path: Path) -> None:
    # Of 7 pictures one process validates in two batches, the other in one; after the last epoch none does.
    voc = write_voc(tmp_path / "voc", splits={"train": 12, "val": 7, "test": 7})
    words = ["--data", str(voc), "--epochs", "3", "--devices", "2", "--out", str(tmp_path / "two")]
    process = start(*words, "--batch-size", "3", "--validate-every", "2", "--score-threshold", "0")
    printed, complaint = process.communicate(timeout=300)
    assert process.returncode == 0, complaint
    assert printed.count("small-fpn") == 1  # the first process alone speaks
    assert result(tmp_path / "two")["scores"]["images"] == 7
    again = ["evaluate", str(tmp_path / "two"), "--device", "cpu", "--out", str(tmp_path / "again")]
    detect(*again)
    scores = [result(tmp_path / name)["scores"] for name in ("two", "again")]
    assert scores[0]["class_ap"] == pytest.approx(scores[1]["class_ap"], abs=1e-6)
    assert scores[0]["detections"] == scores[1]["detections"]
    found = [json.loads((tmp_path / name / "detections.json").read_text()) for name in ("two", "again")]
    assert all(one["image_id"] == other["image_id"] for one, other in zip(*found, strict=True))
    sure = [[one["score"] for one in records] for records in found]
    assert len(sure[0]) > 300  # nothing is learned in 6 steps, and no score is high
    assert sure[0] == pytest.approx(sure[1], rel=1e-3)  # in other batches, but with the same statistics
    valid = ["--part", "validation", "--out", str(tmp_path / "valid")]
    detect("evaluate", tmp_path / "two" / "best.ckpt", "--device", "cpu", *valid)
    logged = float(rows(tmp_path / "two" / "metrics.csv")[1]["val/ap50"])
    assert logged == pytest.approx(result(tmp_path / "valid")["scores"]["ap50"], abs=1e-6)
    counted = rows(tmp_path / "two" / "amounts.csv")
    assert len(counted) == 3

    wild = ["--learning-rate", "1e8", "--clip-norm", "none", "--schedule", "constant"]
    process = start(
        "--data", str(voc), *wild, "--devices", "2", "--batch-size", "2", "--out", str(tmp_path / "wild")
    )
    _, complaint = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "Traceback" not in complaint
    assert ": loss: got" in complaint or "error: gradient: got" in complaint


def test_one_class_is_scored_and_adjusted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With ids and results as other programs write them."""
    images = [{"id": f"b{k}", "file_name": f"{k}.jpg", "width": 64, "height": 64} for k in range(6)]
    box = {"bbox": [8, 8, 24, 24], "area": 576, "iscrowd": "0"}
    truth = {
        "images": images,
        "categories": [{"id": "7", "name": "thing"}],
        "annotations": [{"id": k + 1, "image_id": f"b{k}", "category_id": 7.0, **box} for k in range(6)],
    }
    found = [
        {"image_id": f"b{k}", "category_id": "7", "bbox": [8, 8, 24, 24], "score": 0.5} for k in range(3)
    ]
    for name, content in (("boxes", truth), ("found", found)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    data = ["--data", str(tmp_path / "boxes.json"), "--validation", str(tmp_path / "boxes.json")]
    detect("adjust", tmp_path / "found.json", *data, "--out", tmp_path / "a.json")
    for results in ("found.json", "a.json"):
        detect("evaluate", tmp_path / results, *data, "--out", tmp_path / "out")
        scores = result(tmp_path / "out")["scores"]
        held = {
            record["image_id"] for record in json.loads((tmp_path / "out" / "detections.json").read_text())
        }
        assert 0 < scores["ap"] < 1
        assert scores["bias"] is scores["r_count"] is None
        assert held <= {"b0", "b1", "b2"}
    assert "Spread" not in capsys.readouterr().out


def test_pictures_of_two_parts_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc, file = write_voc(tmp_path / "voc", splits={"train": 3, "val": 1}), tmp_path / "found.json"
    (voc / "ImageSets" / "Main" / "val.txt").write_text("p004\np002\n")
    file.write_text("[]")
    detect("evaluate", file, "--data", voc, "--out", tmp_path / "out")
    told = f"data: voc val: 1 of 2 images are those of voc train, in {voc}: JPEGImages/p002.jpg"
    assert told in capsys.readouterr().err
    assert told.removeprefix("data: ") in (tmp_path / "out" / "detections.html").read_text()
