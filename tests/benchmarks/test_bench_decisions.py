import csv
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from scipy.stats import multivariate_normal, ttest_rel
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from benchmarks.decision_data import described
from benchmarks.decision_rules import DECISIONS, EXPLORED, Rows, Store, measured, read_store
from benchmarks.decisions import COLUMNS, COSINE, KEY, LOGIT_ADJUSTED, main, read_results, summary_tables
from bisector.posthoc.geometry_fit import fit_geometry
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
    told(*decide, "--decisions", "prior,geometry:train+t,refit:both")
    told(*decide, "--decisions", "prior", "--validation", "5")
    with results.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    made = [(row["validation"], row["decision"]) for row in rows]
    assert made == [
        ("5", "prior"),
        *(("all", name) for name in ("identity", "prior", "geometry:train+t", "refit:both")),
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


def scikit_learns(name: str, store: Store) -> Any:
    """The classifier of scikit-learn that a control is."""
    x, y = (rows.numpy() for rows in (store.train.embeddings.double(), store.train.labels))
    if name == "nearest-mean":
        return NearestCentroid().fit(x, y)
    if name == "lda":
        return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.05, priors=[0.25] * 4).fit(x, y)
    both = torch.cat([store.train.embeddings, store.validation.embeddings]).double()
    # The penalty is of embeddings in units of their root mean square.
    penalty = EXPLORED["refit:train"](store).numbers["penalty"] * float(both.square().mean())
    strength = 1 / (penalty * len(y))
    return LogisticRegression(C=strength, class_weight="balanced", tol=1e-10, max_iter=10_000).fit(x, y)


@pytest.mark.parametrize("name", ["nearest-mean", "lda", "refit:train"])
def test_the_controls_decide_as_those_of_scikit_learn(name: str) -> None:
    # Of equal counts for lda: scikit-learn weighs covariances by the priors, and those shall be equal here.
    store = drawn([50] * 4 if name == "lda" else [90, 40, 10, 5])
    expected = scikit_learns(name, store).predict(store.test.embeddings.double().numpy())
    found = {**DECISIONS, **EXPLORED}[name](store).scores.argmax(1).numpy()
    assert (found == expected).mean() > 0.995


def test_the_density_is_that_of_scipy() -> None:
    store = drawn([90, 40, 10, 5])
    geometry = store.geometry()
    expected = [
        multivariate_normal(geometry.means[c].numpy(), geometry.covariance(c).numpy()).logpdf(
            store.test.embeddings.numpy()
        )
        for c in range(4)
    ]
    found = EXPLORED["density"](store).scores
    torch.testing.assert_close(found, torch.tensor(np.stack(expected, 1)), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", DECISIONS)
def test_no_decision_reads_the_labels_of_the_test_rows(name: str) -> None:
    store = drawn([90, 40, 10, 5])
    other = replace(store, test=store.test._replace(labels=store.test.labels.flip(0)), _made={})
    assert torch.equal(DECISIONS[name](other).scores, DECISIONS[name](store).scores)


@pytest.mark.parametrize(
    "name", ["geometry:train+t", "nearest-mean", "geometry:both+t", "geometry:both+t+layer", "refit:both"]
)
def test_what_is_named_after_training_rows_reads_them(name: str) -> None:
    store = drawn([90, 40, 10, 5])
    other = replace(store, train=store.train._replace(embeddings=store.train.embeddings.flip(0)), _made={})
    assert not torch.equal(DECISIONS[name](other).scores, DECISIONS[name](store).scores)


def test_every_decision_is_measured() -> None:
    store = drawn([90, 40, 10, 5])
    for name, decide in {**DECISIONS, **EXPLORED}.items():
        told = measured(store, decide(store))
        assert 25 < told["worst_class"] <= told["harmonic_mean"] <= told["balanced_accuracy"] <= 100, name
        assert 0 < told["log_loss"] < 2, name
    found = fit_geometry(*store.validation, store.geometry())  # as `bisector adjust --method geometry` does
    expected = found.apply(store.test.scores, store.test.embeddings)
    assert torch.equal(DECISIONS["geometry:both+t+layer"](store).scores, expected)


def test_a_gain_that_is_not_clear_leaves_the_scores_as_they_are() -> None:
    store = drawn([90, 40, 10, 5])
    order = torch.randperm(len(store.validation.labels), generator=torch.Generator().manual_seed(0))
    store = replace(store, validation=store.validation._replace(labels=store.validation.labels[order]))
    kept, ungated = DECISIONS["geometry:both+t"](store), EXPLORED["geometry:both+t:ungated"](store)
    assert kept.numbers["gain"] <= kept.numbers["error"]
    assert kept.scores.equal(store.test.scores)
    assert ungated.numbers["b"] != 0


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
