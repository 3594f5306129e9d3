import json
import math
from dataclasses import replace
from pathlib import Path
from shlex import split as words_of

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from bisector.cli.main import main
from bisector.data.tables import EmbeddingTable, read_embeddings, write_embeddings
from bisector.data.tables.scores import ScoreTable, read_scores
from bisector.information.geometry import ClassGeometry
from bisector.measurement.trials import reported_rows, train_counts, try_all, validation_rows
from bisector.metrics.groups import balanced_accuracy
from bisector.posthoc import (
    Adjustment,
    GeometryAdjustment,
    LinearAdjustment,
    cross_validated_predictions,
    load_adjustment,
)
from bisector.posthoc import (
    adjust as find_adjustment,
)
from posthoc_cases import COUNTS, posterior_scores

NAMES = ("the common", "second", "<b>third</b>", "rare 猫")
ACROSS = "each adjusted by what was fitted on the other four fifths"


@pytest.fixture(scope="module")
def table() -> EmbeddingTable:
    scores, labels = posterior_scores(2000, seed=0)
    splits = ["test"] * 1200 + ["validation"] * 400 + ["train"] * 400
    # The training rows are as uneven as the model's prior says.
    drawn = torch.multinomial(COUNTS, 400, replacement=True, generator=torch.Generator().manual_seed(0))
    labels[1600:] = drawn
    return EmbeddingTable(
        torch.randn(2000, 6, generator=torch.Generator().manual_seed(1)),
        labels,
        NAMES,
        predictions=scores.argmax(1),
        scores=scores.float(),
        names=[f"image {k}" for k in range(2000)],
        splits=splits,
    )


@pytest.fixture
def stored(table: EmbeddingTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddingTable:
    """The table as Parquet, its test and validation rows as arrays, and the counts, where the command runs."""
    monkeypatch.chdir(tmp_path)
    write_embeddings(table, Path("scores.parquet"))
    scores, names = table.scores.numpy(), np.array(NAMES)
    np.savez("test.npz", logits=scores[:1200], labels=table.labels[:1200].numpy(), class_names=names)
    np.savez("val.npz", logits=scores[1200:1600], y=table.labels[1200:1600].numpy(), class_names=names)
    np.save("scores.npy", table.scores[:1200].softmax(1).numpy())
    np.save("labels.npy", table.labels[:1200].numpy())
    Path("counts.json").write_text(json.dumps(dict(zip(NAMES, COUNTS.tolist(), strict=True))))
    Path("list.json").write_text(json.dumps(COUNTS.tolist()))
    lines = "".join(f"{n},{c:g},{c:g}\n" for n, c in zip(NAMES, COUNTS, strict=True))
    Path("counts.csv").write_text(f"class,count,amount\n{lines}")
    Path("a-file").write_text("in the way")
    return table


def adjust(words: str, out: str = "found") -> int:
    return main(["adjust", *words_of(words), "--out", out])


def numbers(said: str, row: str) -> list[float]:
    (line,) = [line for line in said.splitlines() if line.startswith(row + " ")]
    words = line.removeprefix(row).replace("%", "").replace("pp²", "").split()
    return [float(word.replace("−", "-")) for word in words[:3]]  # before, after, change


def balanced(predictions: torch.Tensor, labels: torch.Tensor) -> float:
    return 100 * float(balanced_accuracy(predictions, labels, 4))


def written(folder: str = "found") -> tuple[torch.Tensor, torch.Tensor, str]:
    """The scores and the predictions of every row, and how they were adjusted."""
    if (Path(folder) / "adjusted.parquet").exists():
        found = read_embeddings(f"{folder}/adjusted.parquet")
        return found.scores, found.predictions, found.adjusted
    with np.load(f"{folder}/adjusted.npz") as file:
        scores = file["logits"] if "logits" in file else file["probabilities"]
        return torch.from_numpy(scores), torch.from_numpy(file["predictions"]), str(file["adjusted"])


@pytest.mark.parametrize(
    "words",
    [
        "scores.parquet --method prior",
        "scores.parquet --method prior --tau fit",
        "scores.parquet --method fitted",
        "scores.parquet --method fitted --validation val.npz --penalty 0.1",
        "scores.parquet --method amount --amounts counts.csv",
        "scores.parquet --method amount",
        "test.npz --method prior --counts counts.json",
        "test.npz --method fitted --validation scores.parquet --counts counts.csv",
        "scores.npy --labels labels.npy --kind probabilities --method prior --counts list.json",
    ],
)
def test_the_table_says_what_the_files_hold(stored, words, capsys):
    assert adjust(words) == 0, capsys.readouterr().err
    said, labels, scores = capsys.readouterr().out, stored.labels[:1200], stored.scores[:1200]
    after, predictions, _ = written()
    assert torch.equal(after.argmax(1), predictions)
    if words.startswith("scores.parquet"):
        table = read_embeddings("found/adjusted.parquet")
        assert table.names == stored.names
        assert torch.equal(table.embeddings, stored.embeddings)
    scores = scores.softmax(1) if words.startswith("scores.npy") else scores
    expected = Adjustment.load(Path("found/adjustment.json")).predict(scores)
    assert torch.equal(predictions[:1200], expected)
    before, changed, difference = numbers(said, "Balanced accuracy")
    assert before == pytest.approx(balanced(stored.predictions[:1200], labels), abs=0.051)
    assert changed == pytest.approx(balanced(predictions[:1200], labels), abs=0.051)
    assert difference == pytest.approx(changed - before, abs=0.11)
    if "amount" not in words:
        assert changed > before + 8
    assert "1200 rows of 4 classes" in said
    assert ("Few %" in said) == (words.startswith("scores.parquet") or "--counts" in words)


def test_only_validation_rows_are_fitted_on(stored):
    held = {
        "scores": stored.scores.numpy(),
        "splits": np.array(stored.splits),
        "class_names": np.array(NAMES),
    }
    for change in (0, 1):
        labels = stored.labels.clone()
        labels[:1200] = (labels[:1200] + change) % 4  # the reported rows tell another story
        np.savez("some.npz", labels=labels.numpy(), **held)
        assert adjust("some.npz --method fitted", f"out{change}") == 0
    first, second = (Adjustment.load(Path(f"out{k}/adjustment.json")) for k in (0, 1))
    assert torch.equal(first.offsets, second.offsets)


@pytest.mark.parametrize("form", ["logits", "probabilities", "parquet"])
def test_cross_validated_predictions_are_what_is_reported_and_written(stored, form, capsys):
    labels, scores, name = stored.labels[:1200], stored.scores[:1200], "scores.parquet"
    if form != "parquet":
        name, values = "all.npz", scores if form == "logits" else scores.softmax(1)
        np.savez(name, **{form: values.numpy()}, labels=labels.numpy(), class_names=np.array(NAMES))
    assert adjust(f"{name} --method fitted --cross-validate --penalty 0.0001") == 0
    said = capsys.readouterr().out
    honest = cross_validated_predictions(scores, labels, penalty=0.0001)
    adjustment = Adjustment.load(Path("found/adjustment.json"))
    flattering = adjustment.predict(scores if form != "probabilities" else scores.softmax(1))
    assert not torch.equal(honest, flattering)  # else nothing is tested here
    after, predictions, told = written()
    assert ACROSS in told
    assert ACROSS in said
    assert torch.equal(predictions[:1200], honest)
    assert torch.equal(after.argmax(1), predictions)
    assert numbers(said, "Balanced accuracy")[1] == pytest.approx(balanced(honest, labels), abs=0.051)
    if form == "parquet":
        found = read_embeddings("found/adjusted.parquet")
        expected = torch.nn.functional.cross_entropy(found.scores, found.labels, reduction="none")
        assert torch.allclose(found.losses, expected)
        assert torch.equal(predictions[1200:], adjustment.predict(stored.scores[1200:]))


@pytest.mark.parametrize("name", ["scores.parquet", "test.npz", "shares.npz"])
def test_an_adjustment_that_is_stored_is_applied(stored, name, capsys):
    assert adjust("scores.parquet --method fitted", "first") == 0
    np.savez("shares.npz", probabilities=stored.scores[:1200].softmax(1).numpy(), class_names=np.array(NAMES))
    before = {path.name for path in Path("first").iterdir()}
    capsys.readouterr()
    assert adjust(f"{name} --adjustment first/adjustment.json", "second") == 0
    said = capsys.readouterr().out
    assert {path.name for path in Path("first").iterdir()} == before
    assert not Path("second/adjustment.json").exists()
    expected = Adjustment.load(Path("first/adjustment.json")).predict(stored.scores[:1200])
    assert torch.equal(written("second")[1][:1200], expected)
    assert said.startswith("fitted: an offset for each class")
    if name == "shares.npz":
        assert "No labels" in said
    else:
        told = numbers(said, "Balanced accuracy")[1]
        assert told == pytest.approx(balanced(expected, stored.labels[:1200]), abs=0.051)


def test_probabilities_called_scores_are_no_logits_and_labels_are_not_needed(stored, capsys):
    words = "scores.npy --method prior --counts list.json"
    assert adjust(f"{words} --labels labels.npy") == 0
    assert "Scores: probabilities, as every row sums to 1" in capsys.readouterr().out
    scores, predictions, _ = written()
    prior = -(COUNTS / COUNTS.sum()).log()
    assert torch.equal(predictions, (stored.scores[:1200] + prior).argmax(1))
    assert scores.sum(1).numpy() == pytest.approx(1, abs=1e-5)
    assert adjust(f"{words} --kind logits --labels labels.npy") == 0
    assert "Scores: logits, as is said" in capsys.readouterr().out
    assert "logits" in np.load("found/adjusted.npz")
    assert adjust(words) == 0
    assert "No labels" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_rows_without_scores_are_counted_and_stay_without_a_prediction(stored, form, capsys):
    scores, gone = stored.scores.clone(), [3, 700, 1300, 1700]
    scores[gone] = torch.nan
    if form == "parquet":
        write_embeddings(replace(stored, scores=scores, predictions=None), Path("holes.parquet"))
    else:
        splits = np.array([{"validation": "Val"}.get(split, split.title()) for split in stored.splits])
        held = {"labels": stored.labels.numpy(), "splits": splits, "class_names": np.array(NAMES)}
        np.savez("holes.npz", logits=scores.numpy(), **held)
    for options in ("prior", "fitted", "fitted --cross-validate --penalty 0.1"):
        assert adjust(f"holes.{form} --method {options}") == 0
        said = capsys.readouterr().out
        assert "1198 rows of 4 classes, and 2 more without finite scores" in said
        assert all(np.isfinite(numbers(said, "Accuracy")))
        adjusted, predictions, _ = written()
        assert (predictions < 0).nonzero().flatten().tolist() == gone
        assert adjusted.isnan().any(1).nonzero().flatten().tolist() == gone


@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_what_lowers_held_out_rows_is_said_before_it_is_written(stored, form, capsys):
    Path("wrong.json").write_text(json.dumps(dict(zip(NAMES, COUNTS.flip(0).tolist(), strict=True))))
    name, held = ("test.npz", "1,200 rows") if form == "npz" else ("scores.parquet", "400 validation rows")
    (Path("found") / f"adjusted.{form}").mkdir(parents=True)  # in the way of what is written
    words = f"{name} --method prior --counts"
    assert adjust(f"{words} wrong.json") != 0
    assert f"this lowers the balanced accuracy: {held} held out from it -" in capsys.readouterr().err
    assert not list(Path("found").glob("*.json"))
    assert adjust(f"{words} wrong.json", "other") == 0
    said = capsys.readouterr()
    assert "this lowers the balanced accuracy" in said.err
    for told in (said.out, Adjustment.load(Path("other/adjustment.json")).description, written("other")[2]):
        assert "so it lowers it" in told
    assert adjust(f"{words} counts.json", "good") == 0
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
    label = " --label kind" if "kind" in kept else ""
    assert adjust("full.parquet --method fitted", "full") == 0
    assert adjust(f"bare.parquet{label} --method fitted", "bare") == 0
    after, expected = (pq.read_table(f"{name}/adjusted.parquet") for name in ("bare", "full"))
    assert "embedding" not in after.schema.names
    for name in ("scores", "label", "prediction", "loss", "split"):
        assert after[name].equals(expected[name]), name
    assert after.schema.metadata == expected.schema.metadata
    again = read_scores("bare/adjusted.parquet")
    assert again.head == {"name": "am-softmax", "tau": 0.0}
    assert again.adjusted.startswith("fitted: ")
    capsys.readouterr()
    assert adjust(f"bare.parquet{label} --method amount") == 2
    assert "--amounts: got none, and no embeddings" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_head_and_adjustments_travel_with_the_scores(stored, form, capsys):
    head, name = {"name": "logit-adjusted", "tau": 1.0}, f"told.{form}"
    if form == "npz":
        with np.load("test.npz") as file:
            np.savez(name, **file, head=np.array(json.dumps(head)))
    else:
        write_embeddings(replace(stored, head=head), Path(name))
    for again in (False, True):
        assert adjust(f"{name} --method prior --tau 0.5 --counts counts.json", f"out{again}") == 0
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
    left = [split for split, there in zip(splits, kept.tolist(), strict=True) if there]
    fewer = replace(known, scores=scores[kept], labels=known.labels[kept], splits=left)
    for rows in (reported_rows, validation_rows):
        assert torch.equal(gaps.labels[rows(gaps)], fewer.labels[rows(fewer)])
    assert train_counts(gaps).tolist() == train_counts(fewer).tolist()
    assert repr(try_all(gaps)) == repr(try_all(fewer))


MISTAKES = """
nowhere.parquet --method prior => nowhere.parquet
nowhere.npz --method prior => nowhere.npz
a-file --method prior => a-file
test.npz --method prio => --method: got 'prio'; did you mean 'prior'?
test.npz --method prior => --counts: got none
test.npz --method amount --strength 3 => --amounts: got none
test.npz --method fitted => --validation: got none, and fitted needs rows that are not reported
test.npz --method prior --tau fit --counts counts.json => tau=fit needs rows
test.npz --method fitted --validation test.npz => which is SCORES
test.npz --method fitted --validation scores.npy => --validation: got '0' as class 0; expected 'the common'
test.npz --method prior --tau big => --tau: got 'big'; expected a number, or fit
test.npz --method prior --tau -1 --counts counts.json => tau: got -1.0
test.npz --method prior --cross-validate => --cross-validate: got --method prior
test.npz --method prior --counts bad.json => bad.json: got no 'the common'
test.npz --method prior --counts short.json => short.json: got 2 numbers; expected 4
test.npz --method prior --counts a-file => a-file: got no number for each class
test.npz --method prior --counts bad.csv => bad.csv: got the columns a, b; expected class
plain.npz --method prior => scores: got plain.npz with x; expected 'scores'
text.npy --method prior => text.npy; expected a readable .npy file
broken.npz --method prior => broken.npz; expected a readable .npz file
test.npz --method prior --kind shares => --kind: got 'shares'
test.npz --method prior --out a-file/inside => a-file
none.parquet --method prior => expected a column 'scores'
test.npz => --validation: got none, and auto needs rows that are not reported
test.npz --method prior --adjustment a.json => --method: got --adjustment beside it
test.npz --adjustment a-file => a-file; expected the JSON of an Adjustment
test.npz --adjustment nowhere.json => nowhere.json
test.npz --adjustment other.json => --adjustment: got 'dog' as class 1; expected 'second'
test.npz --adjustment two.json => --adjustment: got 2 classes; expected the 4
test.npz --adjustment other.json --tau 1 => --tau: got --adjustment beside it
test.npz --adjustment other.json --cross-validate => --cross-validate: got --adjustment
test.npz --adjustment other.json --seed 0 => --seed: got --adjustment beside it
test.npz --adjustment other.json --validation val.npz => --validation: got --adjustment
test.npz --method fitted --tau 2 => --tau: got --method fitted beside it; expected --method
test.npz --method prior --penalty 2 => --penalty: got --method prior beside it
test.npz --method prior --strength 2 => --strength: got --method prior beside it
test.npz --method prior --seed 0 => --seed: got --method prior beside it
test.npz --method fitted --amounts counts.csv => --amounts: got --method fitted beside
test.npz --method prior --validation val.npz => got --tau 1, which fits nothing; expected none, or --tau fit
test.npz --method amount --strength 2 --validation val.npz => --validation: got --strength 2, which fits nothing
test.npz --method fitted --validation-labels labels.npy => --validation-labels: got no
test.npz --method fitted --validation val.npz --cross-validate => --cross-validate: got --validation beside it
test.npz --method fitted --cross-validate --seed -1 => --seed: got -1
test.npz --method fitted --cross-validate --seed 18446744073709551616 => --seed: got 18446
scores.parquet --method prior --kind probabilities => scores: got rows that are negative
empty.npz --method prior => scores: got no row of finite numbers
text.npy --method prior --labels labels.npy => expected a readable .npy file
test.npz --method geometry --cross-validate => embeddings: got test.npz without them; expected some, for --method
test.npz --method geometry => --validation: got none, and geometry needs rows that are not reported
scores.parquet --method geometry --moments some => --moments: got 'some'; expected one of auto, train, held-out
scores.parquet --method geometry --scale big => --scale: got 'big'; expected one of auto, raw, unit
scores.parquet --method geometry --kappa 0 => kappa: got 0.0
scores.parquet --method geometry --kappa small => --kappa: got 'small'; expected a number, or auto
scores.parquet --method geometry --top-k 0 => --top-k: got '0'; expected an integer from 1, or all
scores.parquet --method geometry --geometry a-file => a-file; expected the safetensors of a ClassGeometry
scores.parquet --method geometry --geometry nowhere.safetensors => nowhere.safetensors
scores.parquet --method geometry --geometry two.safetensors => --geometry: got 2 classes; expected the 4
scores.parquet --method geometry --geometry two.safetensors --scale raw => --geometry: got --scale beside it
scores.parquet --method fitted --moments train => --moments: got --method fitted beside it; expected --method geom
test.npz --method lda => embeddings: got test.npz without them
vectors.npz --method lda => --geometry: got none, and no embeddings with split 'train'
vectors.npz --method nearest-mean --validation val.npz => --validation: got --method nearest-mean, which fits nothi
vectors.npz --method tau-norm --tau 1 => of their variance unexplained
holes-in-vectors.npz --method geometry --cross-validate => embeddings: got NaN or infinity
test.npz --adjustment layer.safetensors => --adjustment: got one that needs embeddings, and test.npz without them
test.npz --adjustment two.safetensors => expected the safetensors of an adjustment
test.npz --method prior --label kind => expected one of kind
test.npz --method prior --embedding v => --embedding: got test.npz beside it
scores.npy --method prior --label kind => --label: got scores.npy beside it
test.npz --method prior --labels test.npz => or the suffix .npz
"""


@pytest.mark.parametrize("mistake", MISTAKES.strip().splitlines())
def test_a_mistake_is_one_line_and_exit_code_2(stored, mistake, refused):
    Path("bad.json").write_text('{"a": 1}')
    Path("short.json").write_text("[1, 2]")
    Path("bad.csv").write_text("a,b\n1,2\n")
    Path("broken.npz").write_bytes(b"PK\x03\x04 and no more")
    Path("text.npy").write_text("no array")
    np.savez("plain.npz", x=np.zeros((3, 2)))
    np.savez("empty.npz", scores=np.full((3, 2), np.nan))
    Adjustment(torch.zeros(4), class_names=(NAMES[0], "dog", "c", "d")).save(Path("other.json"))
    Adjustment(torch.zeros(2)).save(Path("two.json"))
    ClassGeometry.fit(torch.randn(9, 6), torch.arange(9) % 2).save("two.safetensors")
    LinearAdjustment(torch.ones(4, 6), torch.zeros(4)).save(Path("layer.safetensors"))
    with np.load("test.npz") as file:
        vectors = stored.embeddings[:1200].numpy()
        np.savez("vectors.npz", embeddings=vectors, **file)
        np.savez("holes-in-vectors.npz", embeddings=np.where(vectors > 3, np.nan, vectors), **file)
    write_embeddings(EmbeddingTable(torch.eye(3), torch.tensor([0, 1, 0]), ("a", "b")), Path("none.parquet"))
    words, _, told = mistake.partition(" => ")
    assert told in refused(["adjust", *words_of(words)])
    assert Path("a-file").read_text() == "in the way"
    assert not Path("runs").exists()


def test_of_very_few_rows_it_is_said_that_they_are_too_few(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("few.npz", logits=np.eye(4, 2, dtype=np.float32), labels=[0, 1, 0, 1])
    Path("counts.json").write_text('{"0": 9, "1": 1}')
    assert main(["adjust", "few.npz", "--method", "prior", "--counts", "counts.json"]) == 0
    assert "(fewer than 9 rows: too few to tell)" in capsys.readouterr().out


@pytest.fixture
def wide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddingTable:
    """Classes of different width about near means, with the scores of a linear layer, as Parquet and npz."""
    monkeypatch.chdir(tmp_path)
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(2400) % 4
    widths = torch.tensor([0.3, 0.6, 1.2, 2.4])
    x = torch.eye(4, 6)[labels] + widths[labels, None] * torch.randn(2400, 6, generator=draw)
    splits = ["test"] * 1200 + ["validation"] * 400 + ["train"] * 800
    table = EmbeddingTable(x, labels, NAMES, scores=4 * x[:, :4], splits=splits)
    write_embeddings(table, Path("wide.parquet"))
    held = {"labels": labels.numpy(), "splits": np.array(splits), "class_names": np.array(NAMES)}
    np.savez("wide.npz", logits=table.scores.numpy(), embeddings=x.numpy(), **held)
    return table


@pytest.mark.parametrize(
    "words", ["wide.parquet --method geometry", "wide.npz --method auto --moments both --top-k all"]
)
def test_geometry_moves_boundaries_that_no_offset_moves(wide, words, capsys):
    assert adjust(words) == 0, capsys.readouterr().err
    said, test = capsys.readouterr().out, slice(0, 1200)
    assert said.startswith("geometry: ")
    assert ("chosen among 3" in said) == ("auto" in words)
    assert "Fitted: a = " in said
    before, after, change = numbers(said, "Balanced accuracy")
    assert change > 10
    assert "95% interval" in said
    assert "Harmonic mean" in said
    stored = load_adjustment("found/adjustment.safetensors")
    assert isinstance(stored, GeometryAdjustment)
    validation, train = slice(1200, 1600), slice(1600, 2400)
    expected = find_adjustment(
        wide.scores[validation],
        wide.labels[validation],
        method="geometry",
        embeddings=wide.embeddings[validation],
        train=(wide.embeddings[train], wide.labels[train]),
        scale="raw",
    )
    assert (stored.a, stored.b, stored.e, stored.t) == (expected.a, expected.b, expected.e, expected.t)
    scores, predictions, told = written()
    assert "geometry" in told
    assert torch.equal(predictions[test], expected.predict(wide.scores[test], wide.embeddings[test]))
    assert balanced(predictions[test], wide.labels[test]) == pytest.approx(after, abs=0.051)
    assert before == pytest.approx(balanced(wide.scores[test].argmax(1), wide.labels[test]), abs=0.051)
    capsys.readouterr()
    assert adjust("wide.npz --adjustment found/adjustment.safetensors", "again") == 0
    assert torch.equal(written("again")[1], predictions)
    torch.testing.assert_close(written("again")[0], scores)


@pytest.mark.parametrize("method", ["prior", "geometry"])
def test_rows_that_are_too_many_to_be_kept_are_adjusted_twice(wide, method, monkeypatch):
    assert adjust(f"wide.parquet --method {method}", "kept") == 0
    monkeypatch.setattr("bisector.cli.adjusting._KEPT", 0)
    monkeypatch.setattr("bisector.data.tables.reader._BYTES", 4 * 6 * 500)  # chunks of 500 rows
    assert adjust(f"wide.parquet --method {method}") == 0
    assert Path("found/adjusted.parquet").read_bytes() == Path("kept/adjusted.parquet").read_bytes()


def test_the_geometry_of_training_rows_may_come_from_a_file(wide, capsys):
    train = slice(1600, 2400)
    ClassGeometry.fit(wide.embeddings[train], wide.labels[train]).save("train.safetensors")
    fewer = wide.select(torch.arange(1600))
    write_embeddings(fewer, Path("fewer.parquet"))
    assert adjust("fewer.parquet --method geometry --geometry train.safetensors --moments train") == 0
    assert adjust("wide.parquet --method geometry --moments train --scale raw", "whole") == 0
    assert torch.equal(written()[1], written("whole")[1][:1600])
    assert adjust("fewer.parquet --method geometry --kappa inf --top-k all", "own") == 0
    stored = load_adjustment("own/adjustment.safetensors")
    assert (stored.k, stored.moments, stored.geometry.kappa) == (None, "held-out", math.inf)


def test_without_validation_rows_each_is_decided_by_others(wide, capsys):
    rows = torch.arange(400)
    held = {"logits": wide.scores[rows].numpy(), "embeddings": wide.embeddings[rows].numpy()}
    np.savez("rows.npz", labels=wide.labels[rows].numpy(), **held)
    assert adjust("rows.npz --method geometry --cross-validate") == 0
    said = capsys.readouterr().out
    assert ACROSS in said
    assert numbers(said, "Balanced accuracy")[2] > 10
    flattering = load_adjustment("found/adjustment.safetensors").predict(
        wide.scores[rows], wide.embeddings[rows]
    )
    assert not torch.equal(written()[1], flattering)


@pytest.mark.parametrize("method", ["nearest-mean", "lda", "tau-norm", "refit", "refit --moments both"])
def test_controls_are_other_last_layers(wide, method, capsys):
    assert adjust(f"wide.parquet --method {method}") == 0, capsys.readouterr().err
    assert isinstance(load_adjustment("found/adjustment.safetensors"), LinearAdjustment)
    assert "1200 rows of 4 classes" in capsys.readouterr().out


def test_auto_keeps_scores_where_nothing_is_gained(wide, capsys):
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(1200) % 4
    scores = torch.randn(1200, 4, generator=draw) + torch.nn.functional.one_hot(labels, 4)
    noise = torch.randn(1200, 6, generator=draw)
    splits = ["test"] * 600 + ["validation"] * 600
    write_embeddings(
        EmbeddingTable(noise, labels, NAMES, scores=scores, splits=splits), Path("noise.parquet")
    )
    assert adjust("noise.parquet --method auto") == 0
    said = capsys.readouterr().out
    assert said.startswith("none: no change, for none gains clearly; balanced log-loss gained on 600 rows")
    assert numbers(said, "Balanced accuracy")[2] == 0
    assert torch.equal(written()[1], scores.argmax(1))
