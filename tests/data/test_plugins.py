"""Data sets that a Python file of the user's makes."""

import json
import os
import pickle
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from bisector.cli.main import main
from bisector.data.boxes import load_boxes
from bisector.data.fingerprint import fingerprint
from bisector.data.places import resolvable
from bisector.data.registry import load
from bisector.errors import ArgumentError
from bisector.training.recipe import Task
from real_processes import bisector

VECTORS = """
import torch
from bisector.data.examples import InMemory
from bisector.data.source import Source

class Doubled(InMemory):
    def batch(self, positions):
        return 2 * super().batch(positions)

def load_source(reading, options):
    rows = int(options.get("rows", "90"))
    labels = torch.arange(rows) % 6
    noise = torch.rand(rows, 6, generator=torch.Generator().manual_seed(0))
    return Source(Doubled(noise + torch.eye(6)[labels]), labels, tuple("abcdef"))
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A file with six classes of vectors; of another name in every test, for a module is imported once."""
    path = tmp_path / f"vectors_{abs(hash(tmp_path))}.py"
    path.write_text(VECTORS)
    return path


def test_it_is_divided_and_thinned_like_any_other(plugin: Path) -> None:
    data = load(plugin, imbalance=4)
    assert data.name == str(plugin)
    assert data.class_names == tuple("abcdef")
    assert data.shape == (6,)
    assert len(data.test) == 18
    assert sorted(data.train_counts.tolist()) == [3, 4, 5, 6, 8, 11]
    assert float(data.test.examples.batch(torch.arange(18)).max()) > 2
    assert len(load(f"{plugin}:rows=300").test) == 60
    assert len(load(plugin, split="open-set").test_names) == 3


def test_what_is_stored_finds_it_from_any_folder(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plugin.parent)
    assert Task(data=f"{plugin.name}:rows=60").data == f"{plugin}:rows=60"
    assert resolvable(plugin.name) == str(plugin)
    assert resolvable("nowhere.py:rows=60") == "nowhere.py:rows=60"


def test_its_text_and_its_options_are_what_the_data_depend_on(plugin: Path) -> None:
    data = load(plugin)
    first = fingerprint(str(plugin), data)
    os.utime(plugin, (0, 0))
    assert fingerprint(str(plugin), data) == first
    assert fingerprint(f"{plugin}:rows=90", data) != first
    plugin.write_text(f"{VECTORS}# another")
    assert fingerprint(str(plugin), data) != first


def test_its_classes_are_read_from_a_pickle_in_a_process_that_was_started_anew(plugin: Path) -> None:
    examples = load(plugin).test.examples
    with get_context("spawn").Pool(1) as pool:
        read = pool.apply(pickle.loads, (pickle.dumps(examples),))
    assert torch.equal(read.batch(torch.arange(18)), examples.batch(torch.arange(18)))


@pytest.mark.slow
def test_trainings_in_processes_of_their_own_and_a_resume(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["compare", "--data", f"{plugin.name}:rows=120", "--heads", "linear-softmax,igam", "--seeds", "1"]
    words += ["--epochs", "2", "--jobs", "2", "--out", "found", "--keep"]
    assert main(words) == 0
    results = sorted(Path("found/cells").glob("*/result.json"))
    assert len(results) == 2
    written = [path.stat().st_mtime_ns for path in results]
    assert main(words) == 0  # all is there: nothing is trained
    assert [path.stat().st_mtime_ns for path in sorted(Path("found/cells").glob("*/result.json"))] == written
    capsys.readouterr()
    done = bisector("embed", str(results[0].parent.absolute()), "--out", "e.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "120 rows" in done.stdout
    settings = json.loads((results[0].parent / "settings.json").read_text())
    assert f"{plugin}:rows=120" in json.dumps(settings)


@pytest.mark.parametrize(
    ("text", "data", "told"),
    [
        (None, "missing.py", "'{folder}/missing.py', where no file is; expected a Python file that makes"),
        ("", "p.py", "p.py: has no function load_source, which would make this data set"),
        (
            "import no_such_module",
            "p.py",
            "cannot be imported: ModuleNotFoundError: No module named 'no_such_mod",
        ),
        ("def", "p.py", "cannot be imported: SyntaxError: "),
        (
            "def load_source(reading, options): return 3",
            "p.py",
            "got int from load_source of p.py; expected a bi",
        ),
        (VECTORS, "p.py:rows", "got 'rows' in 'p.py:rows'; expected name:option=value"),
        (VECTORS, "p.py:rows=", "got 'rows=' in 'p.py:rows='; expected name:option=value"),
        (VECTORS, "p.py:rows=7:rows=8", "rows twice in 'p.py:rows=7:rows=8'; expected each option once"),
        (VECTORS, "torch.py", "torch/__init__.py is called 'torch' too; expected a name of its own"),
        (VECTORS, "p q.py:rows=1", "got 1 class with examples to train on; expected at least 2"),
    ],
)
def test_a_mistake_is_one_line(
    text: str | None,
    data: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "p", raising=False)
    if text is not None:
        (tmp_path / data.partition(":")[0]).write_text(text)
    with pytest.raises(ArgumentError) as caught:
        load(data)
    assert told.format(folder=tmp_path) in str(caught.value)
    assert main(["compare", "--heads", "igam", "--data", data]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert said.startswith("bisector compare: error: data: ")
    sys.modules.pop("p", None)


def test_a_file_without_boxes_is_no_data_set_of_a_detector(plugin: Path) -> None:
    with pytest.raises(ArgumentError, match="has no function load_boxes"):
        load_boxes(str(plugin))
    with pytest.raises(ArgumentError, match="images: got 'x'; expected none: a plugin has its own"):
        load_boxes(str(plugin), images="x")


def test_labels_of_a_plugin_are_its_own(plugin: Path) -> None:
    with pytest.raises(ArgumentError, match="expected none: its labels are known"):
        load(plugin, label="target")


def test_a_module_of_a_package_is_imported_with_it(tmp_path: Path) -> None:
    package = tmp_path / "some_package"
    (package / "inner").mkdir(parents=True)
    for folder in (package, package / "inner"):
        (folder / "__init__.py").touch()
    (package / "named.py").write_text("NAMES = tuple('abcdef')")
    text = VECTORS.replace("import torch", "import torch\nfrom some_package.named import NAMES", 1)
    (package / "inner" / "data.py").write_text(text.replace('tuple("abcdef")', "NAMES"))
    assert load(package / "inner" / "data.py").class_names == tuple("abcdef")
    assert "some_package.inner.data" in sys.modules


def test_a_folder_whose_name_ends_in_py_is_a_folder(tmp_path: Path, paint) -> None:
    for row in range(8):
        paint(tmp_path / "photos.py" / "ab"[row % 2] / f"{row}.png", colour=(20 * row, 0, 0))
    assert load(tmp_path / "photos.py").class_names == ("a", "b")
