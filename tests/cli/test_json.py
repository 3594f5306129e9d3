"""`--json`: stdout holds one JSON object, which is the record that the command writes, and words are on stderr."""

import json
from pathlib import Path
from typing import Any

import pytest

from bisector.cli.main import main
from real_processes import bisector

TRAIN = ["--data", "digits", "--imbalance", "20", "--epochs", "1", "--head", "am-softmax"]
TRAIN += ["--accelerator", "cpu", "--no-tensorboard"]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_step_of_a_model_answers_with_its_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def asked(*words: str) -> tuple[Any, str]:
        assert main([*words, "--json"]) == 0
        said = capsys.readouterr()
        found = json.loads(said.out)
        assert isinstance(found, dict)
        return found, said.err

    found, words = asked("train", *TRAIN, "--decide", "fitted", "--out", "run")
    assert found == read(Path("run/result.json"))
    assert "Weakest classes on the test part" in words

    found, words = asked("predict", "run", "--part", "test", "--top-k", "2")
    assert found["rows"] == len(found["predictions"]) > 10
    assert found["decision"] == "fitted"
    first = found["predictions"][0]
    assert first["prediction"] == first["top_classes"][0]
    assert len(first["top_classes"]) == 2
    written, _ = asked("predict", "run", "--part", "test", "--top-k", "2", "--out", "test.json")
    assert (written["rows"], written["file"]) == (found["rows"], "test.json")
    assert read(Path("test.json")) == found["predictions"]

    found, words = asked("export", "run", "--out", "model.safetensors")
    assert (found["file"], found["format"], found["card"]) == (
        "model.safetensors",
        "safetensors",
        "README.md",
    )
    assert "Model card: README.md" in words

    found, words = asked("embed", "run", "--out", "e.parquet")
    assert found["file"] == "e.parquet"
    assert f"{found['rows']} rows: e.parquet" in words

    found, words = asked("measure", "e.parquet", "--out", "measured")
    assert found == read(Path("measured/measure.json"))
    assert "The page: " in words

    found, words = asked("adjust", "e.parquet", "--method", "prior", "--out", "adjusted")
    kept = read(Path("adjusted/adjustment.json"))
    assert {key: found[key] for key in ("method", "settings", "description")} == {
        key: kept[key] for key in ("method", "settings", "description")
    }
    assert found["adjustment"] == "adjusted/adjustment.json"
    assert set(found["before"]) == set(found["after"]) == set(found["changes"])
    assert f"{100 * found['after']['accuracy']:.1f}" in words


@pytest.mark.slow
def test_a_comparison_in_real_processes_prints_nothing_else(tmp_path: Path) -> None:
    options = ["--heads", "am-softmax,linear-softmax", "--seeds", "1", "--epochs", "1", "--jobs", "2"]
    done = bisector("compare", *options, "--out", "found", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == read(tmp_path / "found" / "comparison.json")
    assert "The page with the pictures" in done.stderr
    again = bisector("report", "found", "--json", cwd=tmp_path)
    assert again.stdout == done.stdout
    planned = bisector("compare", *options, "--dry-run", "--json", cwd=tmp_path)
    assert {one["head"] for one in json.loads(planned.stdout)["estimates"]} == {
        "am-softmax",
        "linear-softmax",
    }


def test_a_mistake_leaves_stdout_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "missing.parquet", "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
