"""Labels and predictions without embeddings: what they say, and that the rest cannot be told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from bisector.cli.main import main
from bisector.measurement.measurement import Measurement

NAMES = np.array(["cat", "dog", "owl"])


def frame() -> pandas.DataFrame:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    predicted = np.where(rng.random(300) < 0.3, rng.integers(0, 3, 300), labels)
    return pandas.DataFrame({"y_true": NAMES[labels], "y_pred": NAMES[predicted]})


WRITE: dict[str, Callable[[pandas.DataFrame, Any], object]] = {
    "a.csv": lambda rows, file: rows.to_csv(file, index=False),
    "a.tsv": lambda rows, file: rows.to_csv(file, index=False, sep="\t"),
    "a.jsonl": lambda rows, file: rows.to_json(file, orient="records", lines=True),
    "a.parquet": lambda rows, file: rows.to_parquet(file),
    "a.npz": lambda rows, file: np.savez(file, **{key: rows[key].to_numpy(str) for key in rows}),
}


@pytest.mark.parametrize("name", WRITE)
def test_accuracies_and_confusions_have_intervals(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = frame()
    WRITE[name](rows, tmp_path / name)
    assert main(["measure", str(tmp_path / name), "--out", str(tmp_path / "m")]) == 0
    said = capsys.readouterr().out
    found = Measurement.read(tmp_path / "m" / "measure.json")
    expected = confusion_matrix(rows["y_true"], rows["y_pred"], labels=NAMES)
    for c, one in enumerate(found.classes):
        interval = binomtest(expected[c, c], expected[c].sum()).proportion_ci(method="wilson")
        assert one.accuracy_interval.low == pytest.approx(interval.low)
        assert one.accuracy_interval.high == pytest.approx(interval.high)
        assert f"{100 * interval.low:.1f} to {100 * interval.high:.1f}" in said
    (pair,) = [pair for pair in found.confused if (pair.first, pair.second) == ("cat", "dog")]
    assert (pair.first_as_second, pair.second_as_first) == (expected[0, 1], expected[1, 0])
    assert 0 <= pair.share_interval.low < pair.share < pair.share_interval.high
    assert "300 rows without embeddings, 3 classes" in said
    assert "Note: No embeddings: information amounts" in said
    assert "bits" not in said
    assert found.step.title == "Store embeddings beside the predictions"
    assert "No embeddings" in (tmp_path / "m" / "measure.html").read_text()


@pytest.mark.parametrize("kind", ["scores", "probabilities"])
def test_scores_without_vectors_are_measured_as_their_predictions_are(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    logits = 2 * np.eye(3)[labels] + rng.normal(size=(240, 3))
    scores = logits if kind == "scores" else np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.savez(tmp_path / "s.npz", **{kind: scores, "labels": NAMES[labels], "class_names": NAMES})
    assert main(["measure", str(tmp_path / "s.npz"), "--out", str(tmp_path / "m")]) == 0
    found = Measurement.read(tmp_path / "m" / "measure.json")
    expected = confusion_matrix(labels, logits.argmax(1), normalize="true").diagonal()
    assert [one.accuracy for one in found.classes] == pytest.approx(expected)
    assert found.dimensions == 0
    assert found.trials is not None  # what scores alone allow is tried
    assert found.duplicates is None
    assert all(np.isnan(one.probe_accuracy) for one in found.classes)
    assert "240 rows without embeddings, 3 classes" in capsys.readouterr().out


def test_a_stream_needs_embeddings(tmp_path: Path, refused: Callable[[list[str]], str]) -> None:
    frame().to_csv(tmp_path / "a.csv", index=False)
    said = refused(["measure", str(tmp_path / "a.csv"), "--engine", "stream", "--out", str(tmp_path / "m")])
    assert "which has no embeddings; expected memory" in said
