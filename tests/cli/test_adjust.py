import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bisector.cli import adjust
from bisector.cli.main import COMMANDS, main
from bisector.data.embeddings import EmbeddingTable, read_embeddings, write_embeddings
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


def test_without_labels_it_adjusts_and_says_what_it_cannot_tell(stored, capsys):
    assert main(["adjust", "scores.npy", "--method", "prior", "--counts", "counts-list.json"]) == 2
    Path("counts-list.json").write_text(json.dumps(COUNTS.tolist()))
    words = ["scores.npy", "--kind", "probabilities", "--method", "prior", "--counts", "counts-list.json"]
    assert main(["adjust", *words, "--out", "found"]) == 0
    assert "No labels" in capsys.readouterr().out
    assert np.load("found/adjusted.npz")["probabilities"].sum(1) == pytest.approx(1, abs=1e-5)


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
        (["test.npz", "--method", "fitted", "--validation", "scores.npy"], "--validation: got 4 classes"),
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
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(stored, words, told, capsys):
    Path("bad.json").write_text('{"a": 1}')
    Path("short.json").write_text("[1, 2]")
    Path("bad.csv").write_text("a,b\n1,2\n")
    Path("broken.npz").write_bytes(b"PK\x03\x04 and no more")
    Path("text.npy").write_text("no array")
    np.savez("plain.npz", x=np.zeros((3, 2)))
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
