import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from bisector.cli import adjust
from bisector.cli.main import COMMANDS, main
from bisector.data.tables import EmbeddingTable, read_embeddings, write_embeddings
from bisector.data.tables.scores import ScoreTable, read_scores
from bisector.measurement.trials import reported_rows, train_counts, try_all, validation_rows
from bisector.metrics.groups import balanced_accuracy
from bisector.posthoc import Adjustment, cross_validated_predictions
from posthoc_cases import COUNTS, posterior_scores

NAMES = ("the common", "second", "<b>third</b>", "rare 猫")


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "adjust", adjust)


@pytest.fixture(scope="module")
def table() -> EmbeddingTable:
    scores, labels = posterior_scores(2000, seed=0)
    splits = ["test"] * 1200 + ["validation"] * 400 + ["train"] * 400
    # The training rows are as uneven as the model's prior says.
    labels[1600:] = torch.multinomial(
        COUNTS, 400, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    generator = torch.Generator().manual_seed(1)
    return EmbeddingTable(
        torch.randn(2000, 6, generator=generator),
        labels,
        NAMES,
        predictions=scores.argmax(1),
        scores=scores.float(),
        names=[f"image {k}" for k in range(2000)],
        splits=splits,
    )


@pytest.fixture
def stored(table: EmbeddingTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddingTable:
    monkeypatch.chdir(tmp_path)
    write_embeddings(table, Path("scores.parquet"))
    np.savez(
        "test.npz",
        logits=table.scores[:1200].numpy(),
        labels=table.labels[:1200].numpy(),
        class_names=np.array(NAMES),
    )
    np.savez(
        "val.npz",
        logits=table.scores[1200:1600].numpy(),
        y=table.labels[1200:1600].numpy(),
        class_names=np.array(NAMES),
    )
    np.save("scores.npy", table.scores[:1200].softmax(1).numpy())
    np.save("labels.npy", table.labels[:1200].numpy())
    Path("counts.json").write_text(json.dumps(dict(zip(NAMES, COUNTS.tolist(), strict=True))))
    Path("counts.csv").write_text(
        "class,count,amount\n" + "".join(f"{n},{c:g},{c:g}\n" for n, c in zip(NAMES, COUNTS, strict=True))
    )
    Path("a-file").write_text("in the way")
    return table


def numbers(said: str, row: str) -> list[float]:
    (line,) = [line for line in said.splitlines() if line.startswith(row + " ")]
    return [float(word.replace("−", "-")) for word in line.removeprefix(row).replace("%", "").split()]


@pytest.mark.parametrize(
    "words",
    [
        ["scores.parquet", "--method", "prior"],
        ["scores.parquet", "--method", "prior", "--tau", "fit"],
        ["scores.parquet", "--method", "fitted"],
        ["scores.parquet", "--method", "fitted", "--validation", "val.npz", "--penalty", "0.1"],
        ["scores.parquet", "--method", "amount", "--amounts", "counts.csv"],
        ["scores.parquet", "--method", "amount"],
        ["test.npz", "--method", "prior", "--counts", "counts.json"],
        ["test.npz", "--method", "fitted", "--validation", "val.npz"],
        ["test.npz", "--method", "fitted", "--validation", "scores.parquet", "--counts", "counts.csv"],
        [
            "scores.npy",
            "--labels",
            "labels.npy",
            "--kind",
            "probabilities",
            "--method",
            "prior",
            "--counts",
            "counts.csv",
        ],
    ],
)
def test_the_table_says_what_the_files_hold(stored, words, capsys):
    if words[0] == "scores.npy":  # it knows no names
        Path("counts.csv").write_text("class,count\n" + "".join(f"{k},{n:g}\n" for k, n in enumerate(COUNTS)))
    assert main(["adjust", *words, "--out", "found"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    labels = stored.labels[:1200]
    adjustment = Adjustment.load(Path("found/adjustment.json"))
    if words[0].endswith("parquet"):
        after = read_embeddings(Path("found/adjusted.parquet"))
        assert after.names == stored.names
        assert torch.equal(after.embeddings, stored.embeddings)
        predictions = after.predictions[:1200]
        assert torch.equal(after.scores.argmax(1), after.predictions)
    else:
        after = np.load("found/adjusted.npz")
        predictions = torch.from_numpy(after["predictions"])
        assert after["labels"].tolist() == labels.tolist()
    scores = stored.scores[:1200]
    scores = scores.softmax(1) if words[0] == "scores.npy" else scores
    assert torch.equal(predictions, adjustment.predict(scores))
    before, changed, difference = numbers(said, "Balanced accuracy")
    assert before == pytest.approx(
        100 * float(balanced_accuracy(stored.predictions[:1200], labels, 4)), abs=0.051
    )
    assert changed == pytest.approx(100 * float(balanced_accuracy(predictions, labels, 4)), abs=0.051)
    assert difference == pytest.approx(changed - before, abs=0.11)
    if "amount" not in words:
        assert changed > before + 8
    assert "1200 rows of 4 classes" in said
    assert ("Few %" in said) == (words[0] == "scores.parquet" or "--counts" in words)


def test_only_validation_rows_are_fitted_on(stored):
    for name, change in (("first", 0), ("second", 1)):
        labels = stored.labels.clone()
        labels[:1200] = (labels[:1200] + change) % 4  # the reported rows tell another story
        np.savez(
            f"{name}.npz",
            scores=stored.scores.numpy(),
            labels=labels.numpy(),
            splits=np.array(stored.splits),
            class_names=np.array(NAMES),
        )
        assert main(["adjust", f"{name}.npz", "--method", "fitted", "--out", name]) == 0
    first, second = (Adjustment.load(Path(name) / "adjustment.json") for name in ("first", "second"))
    assert torch.equal(first.offsets, second.offsets)


def test_cross_validation_reports_rows_that_were_not_fitted_on(stored, capsys):
    words = ["adjust", "test.npz", "--method", "fitted", "--cross-validate", "--penalty", "0.1"]
    assert main([*words, "--out", "found"]) == 0
    said = capsys.readouterr().out
    labels = stored.labels[:1200]
    honest = cross_validated_predictions(stored.scores[:1200], labels, penalty=0.1)
    assert numbers(said, "Balanced accuracy")[1] == pytest.approx(
        100 * float(balanced_accuracy(honest, labels, 4)), abs=0.051
    )
    assert "each adjusted by what was fitted on the other four fifths" in said


@pytest.mark.parametrize("form", ["npz", "probabilities", "parquet"])
def test_cross_validated_predictions_are_what_is_written(stored, form):
    labels, scores = stored.labels[:1200], stored.scores[:1200]
    name = "scores.parquet"
    if form != "parquet":
        name = "all.npz"
        key = "logits" if form == "npz" else "probabilities"
        values = scores if form == "npz" else scores.softmax(1)
        np.savez(name, **{key: values.numpy()}, labels=labels.numpy(), class_names=np.array(NAMES))
    words = ["adjust", name, "--method", "fitted", "--cross-validate", "--penalty", "0.0001"]
    assert main([*words, "--out", "found"]) == 0
    honest = cross_validated_predictions(scores, labels, penalty=0.0001)
    adjustment = Adjustment.load(Path("found/adjustment.json"))
    flattering = adjustment.predict(scores if form != "probabilities" else scores.softmax(1))
    assert not torch.equal(honest, flattering)  # else nothing is tested here
    told = "each adjusted by what was fitted on the other four fifths"
    if form == "parquet":
        after = read_embeddings("found/adjusted.parquet")
        assert told in after.adjusted
        assert torch.equal(after.predictions[:1200], honest)
        assert torch.equal(after.scores.argmax(1), after.predictions)
        expected = torch.nn.functional.cross_entropy(after.scores, after.labels, reduction="none")
        assert torch.allclose(after.losses, expected)
        assert torch.equal(after.predictions[1200:], adjustment.predict(stored.scores[1200:]))
    else:
        after = np.load("found/adjusted.npz")
        assert told in str(after["adjusted"])
        assert after["predictions"].tolist() == honest.tolist()
        assert after[key].argmax(1).tolist() == honest.tolist()


@pytest.mark.parametrize("name", ["scores.parquet", "test.npz", "named.npy"])
def test_an_adjustment_that_is_stored_is_applied(stored, name, capsys):
    assert main(["adjust", "scores.parquet", "--method", "fitted", "--out", "first"]) == 0
    np.savez("shares.npz", probabilities=stored.scores[:1200].softmax(1).numpy(), class_names=np.array(NAMES))
    name = "shares.npz" if name == "named.npy" else name
    before = {path.name for path in Path("first").iterdir()}
    words = ["adjust", name, "--adjustment", "first/adjustment.json", "--out", "second"]
    capsys.readouterr()
    assert main(words) == 0
    said = capsys.readouterr().out
    assert {path.name for path in Path("first").iterdir()} == before
    assert not Path("second/adjustment.json").exists()
    expected = Adjustment.load(Path("first/adjustment.json")).predict(stored.scores[:1200])
    if name == "scores.parquet":
        found = read_embeddings("second/adjusted.parquet").predictions[:1200]
    else:
        found = torch.from_numpy(np.load("second/adjusted.npz")["predictions"])
    assert torch.equal(found, expected)
    assert said.startswith("fitted: an offset for each class")
    if name == "shares.npz":
        assert "No labels" in said
    else:
        balanced = 100 * float(balanced_accuracy(expected, stored.labels[:1200], 4))
        assert numbers(said, "Balanced accuracy")[1] == pytest.approx(balanced, abs=0.051)


def test_probabilities_called_scores_are_no_logits(stored, capsys):
    Path("counts.json").write_text(json.dumps(COUNTS.tolist()))
    np.save("plain.npy", stored.scores[:1200].softmax(1).numpy())
    words = ["--labels", "labels.npy", "--method", "prior", "--counts", "counts.json"]
    assert main(["adjust", "plain.npy", *words, "--out", "found"]) == 0
    assert "Scores: probabilities, as every row sums to 1" in capsys.readouterr().out
    prior = -(COUNTS / COUNTS.sum()).log()
    found = np.load("found/adjusted.npz")
    assert found["predictions"].tolist() == (stored.scores[:1200] + prior).argmax(1).tolist()
    assert "probabilities" in found
    assert main(["adjust", "plain.npy", "--kind", "logits", *words, "--out", "found"]) == 0
    assert "Scores: logits, as is said" in capsys.readouterr().out
    assert "logits" in np.load("found/adjusted.npz")


@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_rows_without_scores_are_counted_and_stay_without_a_prediction(stored, form, capsys):
    scores = stored.scores.clone()
    gone = [3, 700, 1300, 1700]
    scores[gone] = torch.nan
    if form == "parquet":
        table = EmbeddingTable(
            stored.embeddings, stored.labels, NAMES, scores=scores, splits=stored.splits, names=stored.names
        )
        write_embeddings(table, Path("holes.parquet"))
    else:
        np.savez(
            "holes.npz",
            logits=scores.numpy(),
            labels=stored.labels.numpy(),
            splits=np.array([{"validation": "Val"}.get(split, split.title()) for split in stored.splits]),
            class_names=np.array(NAMES),
        )
    for options in (["prior"], ["fitted"], ["fitted", "--cross-validate", "--penalty", "0.1"]):
        assert main(["adjust", f"holes.{form}", "--out", "found", "--method", *options]) == 0
        said = capsys.readouterr().out
        assert "1198 rows of 4 classes, and 2 more without finite scores" in said
        assert all(np.isfinite(numbers(said, "Accuracy")))
        if form == "parquet":
            after = read_embeddings("found/adjusted.parquet")
            predictions, adjusted = after.predictions, after.scores
        else:
            with np.load("found/adjusted.npz") as file:
                predictions, adjusted = (
                    torch.from_numpy(file["predictions"]),
                    torch.from_numpy(file["logits"]),
                )
        assert (predictions < 0).nonzero().flatten().tolist() == gone
        assert adjusted.isnan().any(1).nonzero().flatten().tolist() == gone


def test_without_labels_it_adjusts_and_says_what_it_cannot_tell(stored, capsys):
    assert main(["adjust", "scores.npy", "--method", "prior", "--counts", "counts-list.json"]) == 2
    Path("counts-list.json").write_text(json.dumps(COUNTS.tolist()))
    words = ["scores.npy", "--kind", "probabilities", "--method", "prior", "--counts", "counts-list.json"]
    assert main(["adjust", *words, "--out", "found"]) == 0
    assert "No labels" in capsys.readouterr().out
    assert np.load("found/adjusted.npz")["probabilities"].sum(1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_what_lowers_held_out_rows_is_said_before_it_is_written(stored, form, capsys):
    Path("wrong.json").write_text(json.dumps(dict(zip(NAMES, COUNTS.flip(0).tolist(), strict=True))))
    name, held = ("test.npz", "1,200 rows") if form == "npz" else ("scores.parquet", "400 validation rows")
    (Path("found") / f"adjusted.{form}").mkdir(parents=True)  # in the way of what is written
    words = ["adjust", name, "--method", "prior", "--counts", "wrong.json", "--out"]
    assert main([*words, "found"]) != 0
    assert f"this lowers the balanced accuracy: {held} held out from it -" in capsys.readouterr().err
    assert not list(Path("found").glob("*.json"))

    assert main([*words, "other"]) == 0
    said = capsys.readouterr()
    assert "this lowers the balanced accuracy" in said.err
    assert "so it lowers it" in said.out
    assert "so it lowers it" in Adjustment.load(Path("other/adjustment.json")).description
    written = (
        str(np.load("other/adjusted.npz")["adjusted"])
        if form == "npz"
        else read_embeddings("other/adjusted.parquet").adjusted
    )
    assert "so it lowers it" in written

    assert main(["adjust", name, "--method", "prior", "--counts", "counts.json", "--out", "good"]) == 0
    said = capsys.readouterr()
    assert "lowers" not in said.out + said.err
    assert f"balanced accuracy of {held} held out from it" in said.out


@pytest.mark.parametrize("kept", [["scores", "label", "split"], ["scores", "kind", "split", "prediction"]])
def test_parquet_of_scores_and_labels_needs_no_vectors(stored, kept, capsys):
    write_embeddings(replace(stored, head={"name": "am-softmax", "tau": 0.0}), Path("full.parquet"))
    full = pq.read_table("full.parquet")
    names = ["kind" if name == "label" else name for name in full.schema.names]
    bare = full.rename_columns(names) if "kind" in kept else full
    bare = bare.select(kept).replace_schema_metadata(full.schema.metadata)  # which renaming drops
    pq.write_table(bare, "bare.parquet")
    label = ["--label", "kind"] if "kind" in kept else []
    for file, more in (("full.parquet", []), ("bare.parquet", label)):
        assert main(["adjust", file, *more, "--method", "fitted", "--out", file[:4]]) == 0
    after = pq.read_table("bare/adjusted.parquet")
    expected = pq.read_table("full/adjusted.parquet")
    assert "embedding" not in after.schema.names
    for name in ("scores", "label", "prediction", "loss", "split"):
        assert after[name].equals(expected[name]), name
    assert after.schema.metadata == expected.schema.metadata
    again = read_scores("bare/adjusted.parquet")
    assert again.head == {"name": "am-softmax", "tau": 0.0}
    assert again.adjusted.startswith("fitted: ")
    capsys.readouterr()
    assert main(["adjust", "bare.parquet", *label, "--method", "amount"]) == 2
    assert "--amounts: got none, and no embeddings" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_head_and_adjustments_travel_with_the_scores(stored, form, capsys):
    head = {"name": "logit-adjusted", "tau": 1.0}
    if form == "npz":
        with np.load("test.npz") as file:
            np.savez("told.npz", **file, head=np.array(json.dumps(head)))
    else:
        write_embeddings(replace(stored, head=head), Path("told.parquet"))
    name = f"told.{form}"
    for again in (False, True):
        words = ["adjust", name, "--method", "prior", "--tau", "0.5", "--counts", "counts.json"]
        assert main([*words, "--out", f"out{again}"]) == 0
        said = capsys.readouterr().out
        assert "The head logit-adjusted was trained with the prior (tau = 1)" in said
        assert ("the scores are adjusted already: prior: minus tau = 0.5" in said) == again
        name = f"out{again}/adjusted.{form}"
    found = read_scores(name)
    assert found.adjusted.count("prior: minus tau = 0.5") == 2
    assert "; then prior: " in found.adjusted
    assert found.head == head
    assert try_all(found).not_tried == (f"The scores are adjusted already: {found.adjusted}.",)


def test_rows_without_a_label_are_neither_fitted_on_nor_counted_nor_reported():
    scores, labels = posterior_scores(400, seed=0)
    splits = ["train", "validation", "test", "test"] * 100
    known = ScoreTable(scores, "logits", NAMES, labels.roll(1), splits)
    kept = torch.arange(400) % 5 > 0
    gaps = replace(known, labels=known.labels.where(kept, -1))
    fewer = replace(
        known,
        scores=scores[kept],
        labels=known.labels[kept],
        splits=[split for split, there in zip(splits, kept.tolist(), strict=True) if there],
    )
    for rows in (reported_rows, validation_rows):
        assert torch.equal(gaps.labels[rows(gaps)], fewer.labels[rows(fewer)])
    assert train_counts(gaps).tolist() == train_counts(fewer).tolist()
    assert repr(try_all(gaps)) == repr(try_all(fewer))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.parquet", "--method", "prior"], "nowhere.parquet"),
        (["nowhere.npz", "--method", "prior"], "nowhere.npz"),
        (["a-file", "--method", "prior"], "a-file"),
        (["test.npz", "--method", "prio"], "--method: got 'prio'; did you mean 'prior'?"),
        (["test.npz", "--method", "prior"], "--counts: got none"),
        (["test.npz", "--method", "amount", "--strength", "3"], "--amounts: got none"),
        (
            ["test.npz", "--method", "fitted"],
            "--validation: got none, and fitted needs rows that are not reported",
        ),
        (["test.npz", "--method", "prior", "--tau", "fit", "--counts", "counts.json"], "tau=fit needs rows"),
        (["test.npz", "--method", "fitted", "--validation", "test.npz"], "which is SCORES"),
        (
            ["test.npz", "--method", "fitted", "--validation", "scores.npy"],
            "--validation: got '0' as class 0; expected 'the common'",
        ),
        (["test.npz", "--method", "prior", "--tau", "big"], "--tau: got 'big'; expected a number, or fit"),
        (["test.npz", "--method", "prior", "--tau", "-1", "--counts", "counts.json"], "tau: got -1.0"),
        (["test.npz", "--method", "prior", "--cross-validate"], "--cross-validate: got --method prior"),
        (["test.npz", "--method", "prior", "--counts", "bad.json"], "bad.json: got no 'the common'"),
        (
            ["test.npz", "--method", "prior", "--counts", "short.json"],
            "short.json: got 2 numbers; expected 4",
        ),
        (["test.npz", "--method", "prior", "--counts", "a-file"], "a-file: got no number for each class"),
        (
            ["test.npz", "--method", "prior", "--counts", "bad.csv"],
            "bad.csv: got the columns a, b; expected class",
        ),
        (["plain.npz", "--method", "prior"], "scores: got plain.npz with x; expected 'scores'"),
        (["text.npy", "--method", "prior"], "text.npy; expected a readable .npy file"),
        (["broken.npz", "--method", "prior"], "broken.npz; expected a readable .npz file"),
        (["test.npz", "--method", "prior", "--kind", "shares"], "--kind: got 'shares'"),
        (["test.npz", "--method", "prior", "--out", "a-file/inside"], "a-file"),
        (["none.parquet", "--method", "prior"], "expected a column 'scores'"),
        (["test.npz"], "--method: got none; expected one of prior, amount, fitted, or --adjustment"),
        (["test.npz", "--method", "prior", "--adjustment", "a.json"], "--method: got --adjustment beside it"),
        (["test.npz", "--adjustment", "a-file"], "a-file; expected the JSON of an Adjustment"),
        (["test.npz", "--adjustment", "nowhere.json"], "nowhere.json"),
        (["test.npz", "--adjustment", "other.json"], "--adjustment: got 'dog' as class 1; expected 'second'"),
        (["test.npz", "--adjustment", "two.json"], "--adjustment: got 2 classes; expected the 4"),
        (["test.npz", "--adjustment", "other.json", "--tau", "1"], "--tau: got --adjustment beside it"),
        (
            ["test.npz", "--adjustment", "other.json", "--cross-validate"],
            "--cross-validate: got --adjustment",
        ),
        (["test.npz", "--adjustment", "other.json", "--seed", "0"], "--seed: got --adjustment beside it"),
        (
            ["test.npz", "--adjustment", "other.json", "--validation", "val.npz"],
            "--validation: got --adjustment",
        ),
        (
            ["test.npz", "--method", "fitted", "--tau", "2"],
            "--tau: got --method fitted beside it; expected --method",
        ),
        (["test.npz", "--method", "prior", "--penalty", "2"], "--penalty: got --method prior beside it"),
        (["test.npz", "--method", "prior", "--strength", "2"], "--strength: got --method prior beside it"),
        (["test.npz", "--method", "prior", "--seed", "0"], "--seed: got --method prior beside it"),
        (
            ["test.npz", "--method", "fitted", "--amounts", "counts.csv"],
            "--amounts: got --method fitted beside",
        ),
        (
            ["test.npz", "--method", "prior", "--validation", "val.npz"],
            "--validation: got --tau 1, which fits nothing; expected none, or --tau fit",
        ),
        (
            ["test.npz", "--method", "amount", "--strength", "2", "--validation", "val.npz"],
            "--validation: got --strength 2, which fits nothing",
        ),
        (
            ["test.npz", "--method", "fitted", "--validation-labels", "labels.npy"],
            "--validation-labels: got no",
        ),
        (
            ["test.npz", "--method", "fitted", "--validation", "val.npz", "--cross-validate"],
            "--cross-validate: got --validation beside it",
        ),
        (["test.npz", "--method", "fitted", "--cross-validate", "--seed", "-1"], "--seed: got -1"),
        (["test.npz", "--method", "fitted", "--cross-validate", "--seed", str(2**64)], "--seed: got 18446"),
        (
            ["scores.parquet", "--method", "prior", "--kind", "probabilities"],
            "scores: got rows that are negative",
        ),
        (["empty.npz", "--method", "prior"], "scores: got no row of finite numbers"),
        (["text.npy", "--method", "prior", "--labels", "labels.npy"], "expected a readable .npy file"),
        (["test.npz", "--method", "prior", "--label", "kind"], "expected one of kind"),
        (["test.npz", "--method", "prior", "--embedding", "v"], "--embedding: got test.npz beside it"),
        (["scores.npy", "--method", "prior", "--label", "kind"], "--label: got scores.npy beside it"),
        (["test.npz", "--method", "prior", "--labels", "test.npz"], "or the suffix .npz"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(stored, words, told, capsys):
    Path("bad.json").write_text('{"a": 1}')
    Path("short.json").write_text("[1, 2]")
    Path("bad.csv").write_text("a,b\n1,2\n")
    Path("broken.npz").write_bytes(b"PK\x03\x04 and no more")
    Path("text.npy").write_text("no array")
    np.savez("plain.npz", x=np.zeros((3, 2)))
    np.savez("empty.npz", scores=np.full((3, 2), np.nan))
    Adjustment(torch.zeros(4), class_names=(NAMES[0], "dog", "c", "d")).save(Path("other.json"))
    Adjustment(torch.zeros(2)).save(Path("two.json"))
    write_embeddings(EmbeddingTable(torch.eye(3), torch.tensor([0, 1, 0]), ("a", "b")), Path("none.parquet"))
    code = main(["adjust", *words])
    said = capsys.readouterr().err
    assert code == 2, said
    assert said.count("\n") == 1, said
    assert told in said
    assert Path("a-file").read_text() == "in the way"
    assert not Path("runs").exists()


def test_its_help_brings_no_torch():
    code = (
        "import sys; from bisector.cli import adjust, main as line\n"
        "line.COMMANDS['adjust'] = adjust\n"
        "try: line.main(['adjust', '--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'numpy', 'pyarrow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--cross-validate" in done.stdout
