import contextlib
import importlib
import io
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from bisector.cli import train
from bisector.cli.demo import HEADS
from bisector.cli.main import command_parser, main
from bisector.data.registry import load
from documentation import NAMES, ROOT, Block, Reader, blocks_of

# What is left out of the tests of a few seconds.
QUICK = {"docs/faq.md", "docs/information.md", "docs/margin.md", "docs/migrate.md"}
PYTHON = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
    for name in NAMES
    if any(block.language == "python" for block in blocks_of(name))
]
CONSOLES = [block for name in NAMES for block in blocks_of(name) if block.language == "console"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's own folder: photos/ with two classes, inbox/ without."""
    folder = tmp_path_factory.mktemp("reader")
    for number, name in enumerate(("owl", "wren")):
        (folder / "photos" / name).mkdir(parents=True)
        for n in range(30):
            colour = (90 + 100 * number, 40 + 4 * n, 60)
            Image.new("RGB", (32, 32), colour).save(folder / "photos" / name / f"{n}.png")
    (folder / "inbox").mkdir()
    for name in "ab":
        Image.new("RGB", (32, 32), (200, 90, 60)).save(folder / "inbox" / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the model that pages call runs/photos."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(photos, folder, dirs_exist_ok=True)
    words = ["--epochs", "2", "--decide", "geometry", "--accelerator", "cpu"]
    assert (
        main(["train", "--data", str(folder / "photos"), *words, "--out", str(folder / "runs/photos")]) == 0
    )
    return folder


@pytest.mark.parametrize("page", PYTHON)
def test_the_code_of_a_page_runs_as_it_stands(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    if page == "docs/use.md":
        shutil.copytree(request.getfixturevalue("photos"), tmp_path, dirs_exist_ok=True)
    if page == "docs/geometry.md":
        shutil.copytree(request.getfixturevalue("trained"), tmp_path, dirs_exist_ok=True)
    reader = Reader()
    reader.follow(page)
    if page in EXPECTED:
        EXPECTED[page](reader)


def _readme(reader: Reader) -> None:
    assert reader.blocks == 7
    assert reader.names["trainer"].current_epoch == 2


def _detection(reader: Reader) -> None:
    assert set(reader.names["losses"]) >= {"loss_classifier", "loss_box_reg"}


def _integrations(reader: Reader) -> None:
    names = reader.names
    X, y, test = names["X"], names["y"], names["test"]
    plain, fair = (
        balanced_accuracy_score(y[test], names[name].predict(X[test] / 16)) for name in ("plain", "fair")
    )
    assert fair > plain + 0.02
    for name in ("search", "margin"):
        assert balanced_accuracy_score(y[test], names[name].predict(X[test])) > 0.7
    many = ["many", "medium", "few", "HarmonicMeanAccuracy", "WorstClassAccuracy"]
    assert list(names["metrics"].compute()) == many
    assert names["logits"].shape == (297, 10)
    assert names["classes"].tolist() == 3 * [0, 1, 2]
    assert int(names["head"].steps) == 60  # 30 epochs of nine rows, eight at a time
    assert Path("head.pt").is_file()
    model, images = names["model"], names["images"]  # of timm
    assert names["result"]["output"].shape == (8, model.head.in_features)
    assert int(model.head.steps) == 1
    assert model.eval()(images).shape == (8, 10)
    told = Path("runs/digits/version_0/metrics.csv").read_text(encoding="utf-8")
    assert {"train/loss", "information/mean", "information/margin"} <= set(told.splitlines()[0].split(","))


def _scale(reader: Reader) -> None:
    (printed,) = (told for command, told in reader.printed.items() if command.startswith("torchrun"))
    shown = re.findall(r"rank (\d): loss (\S+), (\d+) of (\d+) classes", printed)
    assert {line[0] for line in shown} == {"0", "1"}
    assert len({line[1] for line in shown}) == 1
    assert sorted(int(line[2]) for line in shown) == [50001, 50002]
    assert Path("checkpoint/.metadata").exists()


def _use(reader: Reader) -> None:
    assert reader.names["model"].class_names == ("owl", "wren")
    assert Path("photos.onnx").exists()


def _plugins(_: Reader) -> None:
    data = load("pages.py:rows=300", imbalance=10, image_size=20)
    assert data.class_names == ("title", "text", "index")
    assert data.shape == (1, 20, 20)
    assert sorted(data.train_counts.tolist()) == [7, 23, 72]


EXPECTED: dict[str, Callable[[Reader], None]] = {
    "README.md": _readme,
    "docs/detection.md": _detection,
    "docs/integrations.md": _integrations,
    "docs/plugins.md": _plugins,
    "docs/scale.md": _scale,
    "docs/use.md": _use,
}


@pytest.mark.parametrize("page", NAMES)
def test_no_block_is_overlooked(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert len(re.findall(r"^\s*```\w+", text, flags=re.MULTILINE)) == len(blocks_of(page))
    known = r"run|output|not run: .{5,}"
    assert all(re.fullmatch(known, block.marker) for block in blocks_of(page) if block.marker)


@pytest.mark.parametrize("block", CONSOLES, ids=lambda block: f"{block.page}:{block.line}")
def test_what_a_console_shows_can_be_typed(block: Block) -> None:
    assert block.commands
    for command, _ in block.commands:
        require_legal(command)


@pytest.mark.parametrize("page", NAMES)
def test_commands_in_the_text_can_be_typed(page: str) -> None:
    text = re.sub(
        r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    for command in re.findall(r"`bisector ([^`…]+)`", text):
        words = command.split()
        verb = words[: 1 + (words[0] in {"detect", "bench"})]
        flags = [word.partition("=")[0] for word in words if word.startswith("--")]
        if flags and words[0] not in {
            "COMMAND",
            "--version",
        }:  # the text may leave out what a command requires
            told = help_of("bisector.cli.main", *verb)
            assert all(flag in told or flag.startswith("--trainer.") for flag in flags), command


def require_legal(command: str) -> None:
    """Raise unless the program that is called knows every word."""
    words = shlex.split(command, comments=True)
    ends = [words.index(sign) for sign in ("|", ">") if sign in words]  # what it prints goes elsewhere
    words = words[: min(ends, default=len(words))]
    if words[0] == "bisector" and words[1] == "train":
        train.parse(words[2:])
    elif words == ["bisector", "--version"]:
        return
    elif words[0] == "bisector":
        command_parser().parse_args(words[1:])
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE), command
    elif words[:2] == ["python", "-m"]:
        verb = [word for word in words[3:4] if not word.startswith("-")]
        told = help_of(words[2], *verb)
        assert all(word in told for word in words[3:] if word.startswith("--")), command
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file(), command
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        asked = [extra for found in re.findall(r"\[(.*?)\]", command) for extra in found.split(",")]
        assert extras.keys() >= set(asked), command
    else:
        assert words[0] in {"torchrun", "echo"} or "=" in words[0], f"{command}: no test knows this program"


def help_of(module: str, *verb: str) -> str:
    """Return what the `--help` of a program prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit):
        importlib.import_module(module).main([*verb, "--help"])
    return out.getvalue()


def test_the_table_has_every_head_of_the_demo() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^\| .* ± .*\|$", text, flags=re.MULTILINE)) == len(HEADS)
