import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bisector.cli.main import main
from bisector.measurement.measurement import Measurement


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("command", ["embed", "measure"])
def test_help_imports_no_torch(command: str) -> None:
    code = (
        "import sys; from bisector.cli.main import main\n"
        f"try: main([{command!r}, '--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'numpy', 'pyarrow', 'plotly', 'sklearn', 'cleanlab'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["absent.parquet"], "absent.parquet, which is not there"),
        (["a-file"], "expected an embeddings table"),
        (["t.npz", "--label", "kind"], "expected one of kind"),
        (["t.npz", "--out", "a-file"], "a-file is a file"),
        ([], "file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[[list[str]], str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a-file").write_text("in the way")
    np.savez("t.npz", x=np.ones((2, 2)), y=[0, 1])
    said = refused(["measure", *words])
    assert told in said


def test_the_tables_hold_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = np.repeat(["a b", "猫", "\x1b[2Jx"], 30)
    x = rng.normal(size=(90, 20)) + 5 * np.repeat(rng.normal(size=(3, 20)), 30, axis=0)
    x[40] = x[3]
    x[80] = np.nan
    np.savez("t.npz", x=x, y=labels)
    assert main(["measure", "t.npz", "--out", "found"]) == 0
    said = capsys.readouterr().out
    assert "Left out: 1 row: its vector is missing or not finite" in said
    assert "No predictions" in said
    assert "\x1b" not in said  # no name steers the terminal
    assert "2 rows in 1 group of duplicates" in said
    rows = read(Path("found/classes.csv"))
    assert [(row["class"], row["count"]) for row in rows] == [("\x1b[2Jx", "29"), ("a b", "30"), ("猫", "30")]
    assert {row["accuracy"] for row in rows} == {""}
    twins = read(Path("found/duplicates.csv"))
    assert [row["row"] for row in twins] == ["3", "40"]
    assert {row["labels_differ"] for row in twins} == {"True"}
    suspects = read(Path("found/label_errors.csv"))
    assert "40" in [row["row"] for row in suspects]
    found = Measurement.read(Path("found/measure.json"))
    assert found.left_out == ["1 row: its vector is missing or not finite"]
    assert found.command == "bisector measure t.npz --out found"


def test_columns_of_probabilities_with_names_of_classes_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Callable[[list[str]], str]
) -> None:
    rng = np.random.default_rng(5)
    names = np.array(["wren", "cat", "owl"])
    true, shares = rng.integers(3, size=60), rng.dirichlet(np.ones(3), size=60).round(6)
    rows = [[names[label], names[row.argmax()], *row, "x"] for label, row in zip(true, shares, strict=True)]
    file, out = tmp_path / "p.csv", tmp_path / "measured"
    with file.open("w", newline="") as text:
        csv.writer(text).writerows([["y_true", "y_pred", *(f"prob_{name}" for name in names), "more"], *rows])
    assert main(["measure", str(file), "--out", str(out)]) == 0
    told = capsys.readouterr().err
    assert "'y_pred' as predictions, 'prob_wren to prob_owl' as scores; not used: 'more'" in told
    measured = read(out / "classes.csv")
    assert [row["class"] for row in measured] == names.tolist()
    for number, row in enumerate(measured):
        own = shares[true == number]
        assert float(row["loss"]) == pytest.approx(-np.log(own[:, number] / own.sum(axis=1)).mean(), abs=1e-5)
        assert float(row["accuracy"]) == pytest.approx((own.argmax(axis=1) == number).mean(), abs=1e-5)
    file.write_text(file.read_text().replace("prob_owl", "prob_lynx"))
    assert "no column of 'owl'" in refused(["measure", str(file), "--out", str(out)])
    file.write_text(file.read_text().replace("y_true", "truth"))
    said = refused(["measure", str(file), "--out", str(out)])
    assert "y_true or true_label; name it with --label: one of truth, more" in said
