"""`bisector train` in real processes."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from bisector.cli.main import main
from bisector.training.classification import load_trained
from real_processes import bisector

SMALL = ["--data", "digits", "--imbalance", "20", "--accelerator", "cpu", "--no-tensorboard"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_file_says_how_and_the_command_line_wins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        "data: digits\nimbalance: 20\nhead: 'igam:gain=2'\nepochs: 9\nbatch_size: 100\naccelerator: cpu\n"
        "trainer:\n  gradient_clip_val: 0.5\n"
    )
    out = tmp_path / "out"
    assert main(["train", "--config", str(config), "--epochs", "2", "--seed", "3", "--out", str(out)]) == 0
    settings = json.loads((out / "settings.json").read_text())
    assert settings["recipe"]["epochs"] == 2
    assert settings["recipe"]["batch_size"] == 100
    assert (settings["head"], settings["seed"]) == ("igam:gain=2", 3)
    assert [row["epoch"] for row in rows(out / "metrics.csv")] == ["0", "1"]
    for name in ("train/loss", "val/balanced_accuracy", "information/mean", "information/margin"):
        assert all(float(row[name]) >= 0 for row in rows(out / "metrics.csv")), name
    amounts = rows(out / "amounts.csv")
    assert len(amounts) == 2
    assert all(float(amounts[1][str(c)]) > 0 for c in range(10))
    assert list((out / "tensorboard").glob("events.out.tfevents.*"))
    printed = capsys.readouterr().out
    assert "Balanced accuracy" in printed
    assert "Weakest classes on the test part" in printed

    # Once more: nothing is trained again.
    before = (out / "last.ckpt").stat().st_mtime_ns
    assert main(["train", "--config", str(config), "--epochs", "2", "--seed", "3", "--out", str(out)]) == 0
    assert capsys.readouterr().out == printed
    assert (out / "last.ckpt").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--head", "igma"], "did you mean 'igam'"),
        (["--data", "digit"], "did you mean 'digits'"),
        (["--epochs", "many"], "epochs"),
        (["--epochs", "0"], "epochs: got 0"),
        (["--backbone", "resnet33"], "resnet"),
        (["--split", "open"], "open-set"),
        (["--precision", "8-bit"], "8-bit"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--out", ""], "--out: got ''; expected a folder"),
        (["--data", ""], "data: got ''; expected name of a data set"),
        (["--trainer.accumulate_grad_batches", "0"], "accumulate_grad_batches: got 0; expected an integer"),
        (["--no-such", "1"], "no-such"),
        (["--augment", "cropflip"], "crop-flip"),
        (["--trainer.gradient_clip_val", "much"], "gradient_clip_val"),
        (["--epoch", "1"], "--epoch"),
        (["--image-size", "big"], "image_size: got 'big'; expected an integer or null"),
        (["--trainer.gradient_clip_vall", "1"], "did you mean '--trainer.gradient_clip_val'?"),
        (["--trainer", "missing.yaml"], "missing.yaml"),
        (["--trainer.logger", "NoSuch"], "--trainer.logger: got NoSuch; expected the class of one"),
        (["--trainer.logger", "true"], "--trainer.logger: got true; expected the class of one"),
        (
            ["--trainer.logger", "lightning.pytorch.loggers.CSVLogger"],  # which needs to know where
            "--trainer.logger: got lightning.pytorch.loggers.CSVLogger without all that it needs",
        ),
        (["--backbone", "resnet18"], "did you mean 'torchvision/resnet18' or 'timm/resnet18'?"),
        (["--seed", "5000000000"], "seed: got 5000000000"),
        (["--workers", "100000"], "workers: got 100000; expected an integer of at least 0 and of at most"),
        (["--threads", "100000"], "threads: got 100000; expected an integer of at least 1 and of at most"),
        (["--devices", "1000"], "devices: got 1000; expected an integer of at least 1 and of at most"),
        (["--precision", "transformer-engine"], "trainer: "),
        (["--accelerator", "gpu", "--devices", "9"], "trainer: "),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    words: list[str], told: str, tmp_path: Path, refused: Any
) -> None:
    complaint = refused(["train", *SMALL, "--out", str(tmp_path / "out"), *words])
    assert told in complaint
    assert complaint.startswith("bisector train: error: ")
    assert not (tmp_path / "out").exists()


def test_a_pretrained_network_is_trained_at_its_own_size_and_the_choice_is_kept(
    tmp_path: Path, paint: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = pytest.importorskip("torchvision.models")
    monkeypatch.setenv(
        "TORCH_HOME", str(tmp_path / "torch")
    )  # where torchvision keeps what it has downloaded
    kept = tmp_path / "torch" / "hub" / "checkpoints"
    kept.mkdir(parents=True)
    file = models.get_model_weights("squeezenet1_1").DEFAULT.url.rpartition("/")[2]
    torch.save(models.get_model("squeezenet1_1").state_dict(), kept / file)
    for number in range(12):
        paint(
            tmp_path / "photos" / "ab"[number % 2] / f"{number}.png", (30 + number, 40), (20 * number, 0, 0)
        )
    options = (
        "--backbone torchvision/squeezenet1_1 --pretrained --epochs 1 --accelerator cpu --no-tensorboard"
    )
    words = ["train", *options.split(), "--head", "linear-softmax", "--augment", "none"]
    words += ["--data", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    told = capsys.readouterr()
    assert told.err.count("published weights of torchvision/squeezenet1_1: images of 224 x 224, its own") == 1
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["task"]["image_size"] == 224
    assert settings["shape"] == [3, 224, 224]
    assert (settings["recipe"]["embedding_dim"], settings["recipe"]["learning_rate"]) == (None, 1e-4)
    assert main(words) == 0  # the same words mean the same training
    assert capsys.readouterr().out == told.out
    assert main([*words, "--image-size", "64"]) == 2
    assert "a training with image_size 224, not 64" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"- 1\n- 2\n", "--config: Unexpected config"),
        (b"hello", "expected YAML with a line for each option, as epochs: 10"),
        (b"epochs: [1\n", "--config: Problems parsing config"),
        (b"epohcs: 3\n", "--config: got the option 'epohcs'; did you mean 'epochs'? expected those"),
        (b"recipe:\n  epochs: 3\n", "--config: got the option 'recipe.epochs'; did you mean 'epochs'?"),
        ("head: é\n".encode("latin-1"), "--config: got a file that is no text in UTF-8; expected YAML"),
        (b"\x00\xff\xfe", "no text in UTF-8"),
        (b"epochs: many\n", "epochs: got 'many'; expected an integer"),
        (b"epochs: null\n", "epochs: got None; expected an integer of at least 1"),
        (b"learning_rate: .nan\n", "learning_rate: got nan; expected a finite number above 0"),
        (b"trainer: 3\n", "trainer: got '3'; expected options"),
        (b"trainer:\n  no_such: 1\n", "does not accept option 'no_such'"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(text: bytes, told: str, tmp_path: Path, refused: Any) -> None:
    config = tmp_path / "run.yaml"
    config.write_bytes(text)
    complaint = refused(["train", "--config", str(config), "--out", str(tmp_path / "out")])
    assert complaint.startswith("bisector train: error: ")
    assert told in complaint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("head", ["linear-softmax", "am-softmax", "igam"])
@pytest.mark.parametrize("rate", ["1e9", "1e30"])
def test_a_training_that_diverges_says_so(
    head: str, rate: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--head", head, "--learning-rate", rate, "--epochs", "2", "--out", str(tmp_path / "out")]
    for _ in range(2):  # the same command once more goes on from what was kept, and says the same
        assert main(["train", *SMALL, *words]) == 2
        told = capfd.readouterr().err.strip().splitlines()[-1]
        assert told.startswith(f"bisector train: error: {head}, seed 0: ")
        assert f"the training diverged at learning rate {float(rate):g}; expected finite numbers" in told
        assert "a lower learning rate (try 0.001)" in told
    assert not (tmp_path / "out" / "result.json").exists()


def test_a_cell_that_diverges_is_named_and_the_others_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--heads", "linear-softmax,am-softmax", "--seeds", "1", "--epochs", "1", "--jobs", "1"]
    out = tmp_path / "out"
    assert main(["compare", *words, "--learning-rate", "1e9", "--accelerator", "cpu", "--out", str(out)]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("bisector compare: error: linear-softmax, seed 0: ")
    assert "diverged" in told
    assert not (out / "report.html").exists()


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_trains(precision: str, tmp_path: Path) -> None:
    if precision == "16-mixed" and not torch.cuda.is_available():
        pytest.skip("16-mixed needs CUDA")
    words = ["--head", "igam", "--epochs", "3", "--precision", precision, "--out", str(tmp_path)]
    assert main(["train", *SMALL, *words]) == 0
    losses = [float(row["train/loss"]) for row in rows(tmp_path / "metrics.csv")]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_joint_batch(tmp_path: Path) -> None:
    draw = numpy.random.default_rng(0)
    labels = numpy.arange(450) % 3
    spread = 1 + labels[:, None]
    vectors = numpy.eye(3, 12)[labels] * 2 + spread * draw.normal(size=(450, 12))
    numpy.savez(tmp_path / "table.npz", embeddings=vectors.astype("f4"), labels=labels)
    data = ["--data", str(tmp_path / "table.npz"), "--backbone", "identity", "--embedding-dim", "8"]
    rates = ["--epochs", "4", "--optimizer", "sgd", "--learning-rate", "0.05"]
    same = [*data, *rates, "--head", "igam", "--accelerator", "cpu", "--no-tensorboard"]
    same += ["--decide", "geometry"]
    for devices, batch in (("1", "64"), ("2", "32")):
        machine = ["--devices", devices, "--batch-size", batch]
        ended = bisector("train", *same, *machine, "--out", str(tmp_path / devices))
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count("Balanced accuracy") == 1  # the first process alone speaks
        assert ended.stdout.count("Decided by geometry") == 1
        assert load_trained(tmp_path / devices).decision is not None
    one, two = (torch.load(tmp_path / n / "last.ckpt", weights_only=True)["state_dict"] for n in ("1", "2"))
    for name, value in one.items():
        if "_extra_state" not in name:
            torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5)
    amounts, metrics = (
        [rows(tmp_path / n / f"{name}.csv") for n in ("1", "2")] for name in ("amounts", "metrics")
    )
    for mine, theirs in zip(*amounts, strict=True):
        assert [*map(float, mine.values())] == pytest.approx([*map(float, theirs.values())], rel=1e-4)
    for mine, theirs in zip(*metrics, strict=True):
        assert float(mine["val/accuracy"]) == pytest.approx(float(theirs["val/accuracy"]), abs=0.03)


def test_what_a_finished_folder_holds_is_not_passed_off_as_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "table.npz"
    vectors = numpy.random.default_rng(0).normal(size=(60, 5)).astype("f4")
    numpy.savez(data, embeddings=vectors, labels=numpy.arange(60) % 3)
    words = ["train", "--data", str(data), "--head", "am-softmax", "--epochs", "2", "--accelerator", "cpu"]
    words += ["--no-tensorboard", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    for other, told in (
        (["--trainer.max_steps", "1"], "trainer"),
        (["--precision", "bf16-mixed"], "precision"),
        (["--epochs", "1"], "epochs 2, not 1"),
    ):
        assert main([*words, *other]) == 2
        assert told in capsys.readouterr().err
    numpy.savez(data, embeddings=vectors + 1, labels=numpy.arange(60) % 3)
    assert main(words) == 2
    assert "the files have changed since" in capsys.readouterr().err
    (tmp_path / "out" / "settings.json").write_text("[]")
    assert main(words) == 2
    assert "did not write" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", *SMALL, "--epochs", "1", "--head", "am-softmax", "--out", str(tmp_path)]
    assert main(words) == 0
    (tmp_path / "result.json").unlink()
    (tmp_path / "last.ckpt").write_bytes(b"damaged")
    assert main(words) == 2
    assert "last.ckpt; expected a checkpoint that bisector wrote" in capsys.readouterr().err


def test_weights_of_half_precision_are_evaluated_too(tmp_path: Path) -> None:
    words = ["--head", "am-softmax", "--epochs", "1", "--precision", "bf16-true", "--out", str(tmp_path)]
    assert main(["train", *SMALL, *words]) == 0
