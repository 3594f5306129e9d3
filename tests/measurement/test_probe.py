"""Embeddings and labels alone: the accuracy of a probe, named as that."""

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import recall_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from bisector.cli.main import main
from bisector.data.tables import open_embeddings, read_embeddings
from bisector.measurement.measure import measure
from bisector.measurement.measurement import Measurement
from bisector.measurement.stream.measure import measure_stream
from bisector.measurement.stream.options import Options
from bisector.report.measurement import format_measurement

WHOSE = "of a probe on these embeddings, not of your model"


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """Two classes that overlap, one that lies apart, and one of three rows."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["crow", "raven", "owl", "wren"], [60, 40, 50, 3])
    means = {"crow": [0, 2, 0, 0], "raven": [0, 2, 1, 0], "owl": [4, 0, 0, 0], "wren": [0, 0, 0, 9]}
    x = np.array([means[name] for name in labels]) + rng.normal(size=(len(labels), 4))
    np.savez(tmp_path / "birds.npz", embeddings=x.astype("f4"), labels=labels)
    return tmp_path / "birds.npz"


def test_the_accuracies_are_those_of_scikit_learn_and_say_whose_they_are(
    birds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = birds.parent / "m"
    assert main(["measure", str(birds), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    held = np.load(birds)
    large = held["labels"] != "wren"
    x, y = held["embeddings"][large], held["labels"][large]
    lda = make_pipeline(Normalizer(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))
    guessed = cross_val_predict(lda, x, y, cv=StratifiedKFold(5, shuffle=True, random_state=0))
    expected = recall_score(y, guessed, labels=["crow", "owl", "raven"], average=None)

    found = Measurement.read(out / "measure.json")
    accuracies = {one.name: one.probe_accuracy for one in found.classes}
    assert [accuracies[name] for name in ("crow", "owl", "raven")] == pytest.approx(expected)
    assert np.isnan(accuracies["wren"])
    assert [one.probed for one in found.classes] == [60, 50, 40, 0]
    assert all(np.isnan(one.accuracy) for one in found.classes)
    (note,) = [note for note in found.notes if WHOSE in note]
    assert (
        f"asked about 150 rows that it was not fitted to (5 folds), is right in {100 * expected.mean():.1f} %"
        in note
    )
    assert note in " ".join(said.split())
    page = (out / "measure.html").read_text(encoding="utf-8")
    assert WHOSE in page
    assert WHOSE.capitalize() in page
    with (out / "classes.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert float(rows["crow"]["probe_accuracy"]) == accuracies["crow"]
    assert (rows["wren"]["probe_accuracy"], rows["crow"]["accuracy"]) == ("", "")


def test_a_stream_finds_the_same(birds: Path) -> None:
    expected = measure(read_embeddings(birds))
    got = measure_stream(open_embeddings(birds), birds.parent / "p", options=Options(leaf_rows=50))
    assert [(one.probe_accuracy, one.probed) for one in got.classes[:3]] == [
        (one.probe_accuracy, one.probed) for one in expected.classes[:3]
    ]
    assert [note for note in got.notes if WHOSE in note] == [note for note in expected.notes if WHOSE in note]


def test_a_table_with_predictions_has_no_probe(birds: Path) -> None:
    held = dict(np.load(birds))
    np.savez(birds, **held, predictions=held["labels"])
    found = measure(read_embeddings(birds))
    assert all(np.isnan(one.probe_accuracy) and not one.probed for one in found.classes)
    assert WHOSE not in format_measurement(found)
