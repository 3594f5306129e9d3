import csv
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from scipy.stats import ttest_rel
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from benchmarks.decision_data import described
from benchmarks.decision_rules import (
    DECISIONS,
    TAUS,
    Rows,
    Store,
    density,
    fit_layer,
    measured,
    nearest_mean,
    read_store,
    refitted,
    tau_norm,
)
from benchmarks.decisions import COLUMNS, COSINE, KEY, LOGIT_ADJUSTED, main, read_results, summary_tables
from bisector.posthoc.geometry import fit_geometry
from real_processes import ENVIRONMENT, bisector

QUICK = ["--data", "quick", "--heads", LOGIT_ADJUSTED]


def script(*words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "benchmarks.decisions", *words]
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        command, env=ENVIRONMENT, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.slow
def test_a_killed_suite_goes_on_and_its_tables_are_those_of_the_printed_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, results = tmp_path / "stores", tmp_path / "results.csv"

    def told(*words: str) -> str:
        capsys.readouterr()
        assert main(words) == 0
        return capsys.readouterr().out

    train = ["train", "--folder", str(folder), *QUICK, "--seeds", "3"]
    killed = script(*train)
    checkpoint = folder / "quick/logit-adjusted-seed3/last.ckpt"
    while not checkpoint.exists() and killed.poll() is None:
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()

    again = script(*train, "--jobs", "2")
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert out.count("logit-adjusted-seed3.parquet") == 1  # the other process found it taken, or done
    (ours,) = folder.rglob("*.parquet")
    assert told(*train) == ""  # nothing is left to do

    elsewhere = tmp_path / "elsewhere"
    for line in told("train", "--folder", str(elsewhere), *train[3:], "--print-commands").splitlines():
        done = bisector(*shlex.split(line)[1:])
        assert done.returncode == 0, done.stderr
    (theirs,) = elsewhere.rglob("*.parquet")
    assert pyarrow.parquet.read_table(ours).equals(pyarrow.parquet.read_table(theirs))

    decide = ["decide", "--folder", str(folder), *QUICK, "--results", str(results)]
    told(*decide, "--decisions", "identity,prior")
    first = results.read_text()
    assert told(*decide, "--decisions", "identity,prior") == ""
    assert results.read_text() == first
    told(*decide, "--decisions", "prior,geometry:train,refit:train")
    told(*decide, "--decisions", "prior", "--validation", "5")
    with results.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    made = [(row["validation"], row["decision"]) for row in rows]
    assert made == [
        ("5", "prior"),
        *(("all", name) for name in ("identity", "prior", "geometry:train", "refit:train")),
    ]
    store = read_store(ours)
    accuracy = (store.test.scores.argmax(1) == store.test.labels).double().mean()
    assert float(rows[1]["accuracy"]) == pytest.approx(100 * float(accuracy), abs=0.005)
    printed = told("summary", "--results", str(results), "--exploratory", "--decisions", "prior")
    assert f"{LOGIT_ADJUSTED}: decision less identity" in printed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "--folder", "x", "--data", "digit@20"], "did you mean 'digits@20'?"),
        (["train", "--folder", "x", "--seeds", "1,b"], "--seeds: got 'b'"),
        (["train", "--folder", "x", "--heads", "logit-adjustd"], "did you mean 'logit-adjusted'?"),
        (["decide", "--folder", "x", "--decisions", "pior"], "did you mean 'prior'?"),
        (["decide", "--folder", "x", "--validation", "1"], "--validation: got 1"),
        (["summary", "--metric", "acuracy"], "did you mean 'accuracy'?"),
        (["summary", "--results", "nowhere.csv"], "--results: got nowhere.csv"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


def drawn(counts: list[int], *, dim: int = 6, seed: int = 0) -> Store:
    """Classes about means of their own, each wider than the last, and a linear layer that knows them somewhat."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(len(counts), dim, generator=generator) * 1.5
    weight, bias = means + 0.3 * torch.randn(means.shape, generator=generator), torch.arange(len(counts)) / 9

    def rows(sizes: list[int]) -> Rows:
        labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        noise = torch.randn(len(labels), dim, generator=generator)
        x = means[labels] + noise * (1 + labels[:, None] / 4)
        return Rows(x @ weight.T + bias, labels, x)

    return Store(rows(counts), rows([40] * len(counts)), rows([200] * len(counts)), len(counts))


def test_the_nearest_mean_is_that_of_scikit_learn() -> None:
    store = drawn([90, 40, 10, 5])
    peer = NearestCentroid().fit(store.train.embeddings.numpy(), store.train.labels.numpy())
    expected = peer.predict(store.test.embeddings.numpy())
    assert nearest_mean(store).scores.argmax(1).tolist() == expected.tolist()


def test_without_class_covariances_the_density_is_scikit_learns_discriminant() -> None:
    # Of equal counts: scikit-learn weighs covariances by the priors, and those shall be equal here.
    store = drawn([50] * 4)
    peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.05, priors=[0.25] * 4)
    peer.fit(store.train.embeddings.numpy(), store.train.labels.numpy())
    expected = peer.predict(store.test.embeddings.numpy())
    assert density(float("inf"))(store).scores.argmax(1).tolist() == expected.tolist()


@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
def test_the_refitted_layer_is_scikit_learns_balanced_logistic_regression(penalty: float) -> None:
    rows = drawn([90, 40, 10, 5]).train
    x, y = rows.embeddings.double(), rows.labels
    found = fit_layer(x, y, 4, penalty)
    peer = LogisticRegression(C=1 / (penalty * len(y)), class_weight="balanced", tol=1e-10, max_iter=10_000)
    peer.fit(x.numpy(), y.numpy())
    torch.testing.assert_close(found[:-1].T, torch.from_numpy(peer.coef_), atol=2e-3, rtol=2e-3)
    offsets = found[-1] - found[-1].mean()  # a number that all classes share means nothing
    peers = torch.from_numpy(peer.intercept_ - peer.intercept_.mean())
    torch.testing.assert_close(offsets, peers, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("on", ["train", "validation", "both"])
def test_a_refit_reads_the_rows_that_it_names_and_no_test_row(on: str) -> None:
    store = drawn([90, 40, 10, 5])

    def changed(part: str) -> Store:
        rows = getattr(store, part)
        parts = {"train": store.train, "validation": store.validation, "test": store.test}
        return Store(**{**parts, part: Rows(rows.scores, rows.labels.flip(0), rows.embeddings)}, classes=4)

    found = refitted(on)(store).scores
    assert torch.equal(refitted(on)(changed("test")).scores, found)
    assert torch.equal(refitted(on)(changed("train")).scores, found) == (on == "validation")


def test_tau_normalisation_divides_the_vectors_of_the_layer_by_a_power_of_their_lengths() -> None:
    store = drawn([90, 40, 10, 5])
    x = torch.cat([store.train.embeddings.double(), torch.ones(145, 1)], 1)
    weight = torch.linalg.lstsq(x, store.train.scores.double()).solution[:-1]
    found = tau_norm(store)
    assert found.numbers["tau"] in TAUS
    expected = store.test.embeddings.double() @ (weight / weight.norm(dim=0) ** found.numbers["tau"])
    torch.testing.assert_close(found.scores.double(), expected, atol=1e-3, rtol=1e-3)


def test_every_decision_is_measured_and_the_best_moments_are_those_of_auto() -> None:
    store = drawn([90, 40, 10, 5])
    rows = {name: (decide(store), measured(store, decide(store))) for name, decide in DECISIONS.items()}
    for name, (_, told) in rows.items():
        assert 25 < told["worst_class"] <= told["harmonic"] <= told["balanced_accuracy"] <= 100, name
        assert 0 < told["log_loss"] < 2, name
    found = fit_geometry(*store.validation, store.geometry(), moments="auto")
    expected = found.apply(store.test.scores, store.test.embeddings)
    assert torch.equal(rows["geometry:auto"][0].scores, expected)


def test_a_limit_of_validation_rows_holds_for_every_class(tmp_path: Path) -> None:
    from bisector.data.tables.writer import EmbeddingWriter

    store, path = drawn([30, 20]), tmp_path / "store.parquet"
    head = {"name": LOGIT_ADJUSTED, "tau": 1.0}
    with EmbeddingWriter(path, class_names=("a", "b"), model="", data="", left_out=(), head=head) as writer:
        for split in ("train", "validation", "test"):
            rows: Rows = getattr(store, split)
            how: dict[str, Any] = {"splits": [split] * len(rows.labels), "scores": rows.scores}
            predictions = rows.scores.argmax(1)
            losses = torch.zeros(len(rows.labels))
            names = [str(row) for row in range(len(rows.labels))]
            writer.write(
                rows.embeddings, rows.labels, predictions=predictions, losses=losses, names=names, **how
            )
    whole, few = read_store(path), read_store(path, validation=7)
    assert whole.scale == "raw"
    torch.testing.assert_close(whole.train.scores, store.train.scores)
    assert few.validation.labels.bincount().tolist() == [7, 7]
    assert len(few.test.labels) == len(store.test.labels)


def test_the_summary_pairs_by_seed() -> None:
    values = {(LOGIT_ADJUSTED, "identity"): [50.0, 60.0, 55.0], (LOGIT_ADJUSTED, "prior"): [51.0, 60.5, 57.0]}
    values[COSINE, "identity"] = [49.0, 61.0, 50.0]
    found = {
        ("kanji", head, f"{seed}", "all", decision): {
            **dict(zip(KEY, ("kanji", head, f"{seed}", "all", decision), strict=True)),
            "balanced_accuracy": f"{value}",
        }
        for (head, decision), each in values.items()
        for seed, value in enumerate(each, start=10)
    }
    tables = {table.title: table for table in summary_tables(found, ["kanji"], ["prior"])}
    assert tables["balanced_accuracy, scores as they are"].rows == [["kanji", "", "55.00 (3)", "53.33 (3)"]]
    for other in (LOGIT_ADJUSTED, COSINE):
        title = "identity" if other == LOGIT_ADJUSTED else COSINE
        peer = ttest_rel(values[LOGIT_ADJUSTED, "prior"], values[other, "identity"]).confidence_interval(0.95)
        cell = tables[f"balanced_accuracy, {LOGIT_ADJUSTED}: decision less {title}"].rows[0][1]
        assert cell.endswith(f"[{peer.low:+.2f}, {peer.high:+.2f}]")


def test_the_table_of_the_repository_can_be_read() -> None:
    from benchmarks.decisions import RESULTS

    for key, row in read_results(RESULTS).items():
        assert 0 <= float(row["balanced_accuracy"]) <= 100, key


def test_descriptions_of_packages_are_counted_once_and_small_sections_left_out() -> None:
    entry = "Package: {0}\nDescription: Tool {1}\n more\nSection: {2}\nSize: 1"
    entries = [entry.format(f"p{n}", n, "contrib/net") for n in range(9)]
    entries += [entry.format("again", 0, "games"), entry.format("alone", "alone", "games"), "Package: none"]
    assert described("\n\n".join(entries)) == {f"Tool {n}": "net" for n in range(9)}
