from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from bisector.data.tables import EmbeddingTable, open_embeddings, read_embeddings, write_embeddings
from bisector.errors import ArgumentError
from bisector.information.amount import information_amounts
from bisector.measurement.measure import measure
from bisector.measurement.measurement import Measurement
from bisector.measurement.stream import partial as partials
from bisector.measurement.stream.folder import plan_of, remove_partials
from bisector.measurement.stream.job import Job
from bisector.measurement.stream.measure import measure_stream
from bisector.measurement.stream.options import Options
from bisector.measurement.stream.partial import Partial
from bisector.measurement.stream.tree import Node
from stream_cases import write_stream


def close(one: float, other: float) -> bool:
    return one == other or bool(np.isclose(one, other, rtol=1e-5, atol=1e-5, equal_nan=True))


def streamed(path: Path, folder: Path, **options) -> Measurement:
    return measure_stream(open_embeddings(str(path)), folder, options=Options(leaf_rows=500, **options))


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("predicted", [True, False])
def test_it_says_what_is_said_of_the_table_in_memory(split: bool, predicted: bool, tmp_path: Path) -> None:
    path = tmp_path / "e"
    write_stream(path, split=split, predicted=predicted, broken=20)
    got = streamed(path, tmp_path / "partials")
    expected = measure(read_embeddings(path))
    assert got.streamed
    for name in ("rows", "dimensions", "splits", "measured_on", "tested_on", "left_out", "equal_count"):
        assert getattr(got, name) == getattr(expected, name), name
    for one, other in zip(got.classes, expected.classes, strict=True):
        assert (one.name, one.count) == (other.name, other.count)
        assert one.tested == other.tested
        for key in ("amount", "accuracy", "loss"):
            assert close(getattr(one, key), getattr(other, key)), (key, one, other)
        assert one.error_bound == 0
    assert got.confused == expected.confused
    assert [(p.first, p.second) for p in got.nearest] == [(p.first, p.second) for p in expected.nearest]
    assert all(close(p.degrees, q.degrees) for p, q in zip(got.nearest, expected.nearest, strict=True))
    for key in ("label_errors", "duplicates", "notes"):
        assert getattr(got, key) == getattr(expected, key), key
    assert [(step.key, step.holds) for step in got.steps] == [
        (step.key, step.holds) for step in expected.steps
    ]
    got.write(tmp_path / "m.json")
    again = Measurement.read(tmp_path / "m.json")
    assert repr(again.classes) == repr(got.classes)
    assert again.streamed


def spoiled(path: Path, *, rows: int = 1200, scored: bool, seed: int = 0) -> tuple[set[int], set[int]]:
    """Write a table of four classes with wrong labels, copies and rows without a vector; return the first two."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 4
    x = (4 * rng.normal(size=(4, 24))[labels] + rng.normal(size=(rows, 24))).astype(np.float32)
    scores = (8 * np.eye(4)[labels] + rng.normal(size=(rows, 4))).astype(np.float32)
    wrong, copies = np.split(rng.permutation(rows)[:60], [40])
    copies = np.setdiff1d(copies, (copies + 500) % rows)
    given = labels.copy()
    given[wrong] = (labels[wrong] + 1) % 4
    x[copies] = x[(copies + 500) % rows] * rng.choice([1, 1 + 4e-4], size=(len(copies), 1)).astype(np.float32)
    columns = {"embedding": x.tolist(), "label": given, "name": [f"{row}.png" for row in range(rows)]}
    for row in rng.choice(np.setdiff1d(np.arange(rows), [*wrong, *copies, *(copies + 500) % rows]), 30):
        columns["embedding"][row] = None
    if scored:
        columns |= {
            "scores": scores.tolist(),
            "split": np.array(["train", "validation", "test"])[rng.integers(0, 3, rows)],
        }
    path.mkdir()
    for start in range(0, rows, 100):
        part = {name: column[start : start + 100] for name, column in columns.items()}
        part["embedding"] = pa.array(part["embedding"], pa.list_(pa.float32()))
        pq.write_table(pa.table(part), path / f"{start:04}.parquet")
    return set(wrong.tolist()), set(copies.tolist())


@pytest.mark.parametrize("scored", [True, False])
def test_both_engines_name_the_same_suspects_and_duplicates(scored: bool, tmp_path: Path) -> None:
    wrong, copies = spoiled(tmp_path / "e", scored=scored)
    expected = measure(read_embeddings(tmp_path / "e"))
    for leaf_rows in (1, 10**6):
        options = Options(leaf_rows=leaf_rows)
        got = measure_stream(open_embeddings(tmp_path / "e"), tmp_path / f"p{leaf_rows}", options=options)
        assert got.label_errors == expected.label_errors
        assert got.duplicates == expected.duplicates
        assert got.notes == expected.notes
        assert [s for s in got.steps if s.key in {"labels", "leakage"}] == [
            s for s in expected.steps if s.key in {"labels", "leakage"}
        ]
    named = {int(suspect.name.removesuffix(".png")) for suspect in got.label_errors.suspects}
    assert len(wrong & named) >= 38
    assert len(named) <= 44
    assert {suspect.judge for suspect in got.label_errors.suspects} == (
        {"scores", "embeddings"} if scored else {"embeddings"}
    )
    found = {int(name.removesuffix(".png")) for group in got.duplicates.groups for name in group.names}
    assert copies <= found
    assert got.duplicates.rows == len(found)


@pytest.mark.parametrize("scored", [True, False])
def test_rows_that_the_judge_did_not_learn_from_are_judged_in_a_second_reading(
    scored: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong, _ = spoiled(tmp_path / "e", scored=scored)
    monkeypatch.setattr("bisector.measurement.label_errors.STREAMED_ROWS", 240)  # 60 of each class
    told: list[str] = []
    stored = open_embeddings(tmp_path / "e")
    got = measure_stream(stored, tmp_path / "p", options=Options(leaf_rows=300), tell=told.append)
    learned = 480 if scored else 240
    rest = got.rows - learned
    assert told == [f"reading the table a second time: the judge of labels did not learn from {rest} rows"]
    found = got.label_errors
    assert found.judged == got.rows
    named = {int(suspect.name.removesuffix(".png")) for suspect in found.suspects}
    assert len(wrong & named) >= 36
    assert len(named - wrong) <= 12
    table = read_embeddings(tmp_path / "e")
    for suspect in found.suspects:
        assert table.name(suspect.row) == suspect.name
        assert table.class_names[table.labels[suspect.row]] == suspect.label
        assert ("" if table.splits is None else table.splits[suspect.row]) == suspect.split


def test_what_the_limits_of_a_stream_leave_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled(tmp_path / "e", scored=False)
    stored = open_embeddings(tmp_path / "e")
    free = measure_stream(stored, tmp_path / "p")
    poor = measure_stream(
        stored, tmp_path / "q", options=Options(memory_budget=4 * 1200 * 127, equal_count=0)
    )
    assert poor.duplicates is None
    assert any("Duplicates were not looked for: the prints of 1,200 rows" in note for note in poor.notes)
    assert [step.holds for step in poor.steps if step.key == "leakage"] == [None]
    monkeypatch.setattr("bisector.measurement.stream.measure.MOST_LISTED", 3)
    monkeypatch.setattr("bisector.measurement.stream.measure._VECTORS", 4 * 24 * 10)
    monkeypatch.setattr("bisector.measurement.label_errors.STREAMED_ROWS", 19)
    few = measure_stream(stored, tmp_path / "r")
    assert few.duplicates.groups == [g for g in free.duplicates.groups if g in few.duplicates.groups][:3]
    assert 0 < few.duplicates.rows < free.duplicates.rows  # equal vectors alone
    assert few.label_errors.judged == 0
    for words in ("only equal vectors count", "groups of duplicates 3 are listed", "are too many to judge"):
        assert any(words in note for note in few.notes), words


def test_a_streamed_table_is_told_that_no_adjustment_was_tried(tmp_path: Path) -> None:
    labels = torch.arange(120) % 4
    splits = ["train"] * 60 + ["validation"] * 60
    scores = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    head = {"name": "logit-adjusted", "tau": 1.0}
    table = EmbeddingTable(
        torch.randn(120, 5), labels, tuple("abcd"), scores=scores, splits=splits, head=head
    )
    write_embeddings(table, tmp_path / "e.parquet")
    got = streamed(tmp_path / "e.parquet", tmp_path / "p")
    (step,) = [step for step in got.steps if step.key == "adjust"]
    assert step.holds is None
    assert step.reason == "Not tried. The table was streamed; --engine memory tries every adjustment."
    assert step.command.endswith("--engine memory")
    assert any("was trained with the prior (tau = 1)" in note for note in got.notes)
    got.write(tmp_path / "m.json")
    assert repr(Measurement.read(tmp_path / "m.json").trials) == repr(got.trials)


@pytest.mark.parametrize("shrinkage", ["none", "oas", "quadratic-inverse"])
@pytest.mark.parametrize("embeddings", ["raw", "unit"])
def test_amounts_are_those_of_the_rows(shrinkage: str, embeddings: str, tmp_path: Path) -> None:
    columns = write_stream(tmp_path / "e", split=False)
    got = streamed(tmp_path / "e", tmp_path / "p", shrinkage=shrinkage, embeddings=embeddings)
    x, labels = torch.from_numpy(columns["embedding"]), torch.from_numpy(columns["label"])
    expected = information_amounts(x.double(), labels, 7, shrinkage=shrinkage, embeddings=embeddings)
    np.testing.assert_allclose([one.amount for one in got.classes], expected, rtol=1e-6)


@pytest.mark.parametrize("power", [-70, 60])
def test_a_power_of_two_before_all_embeddings_changes_nothing(power: int, tmp_path: Path) -> None:
    said = []
    for k in (0, power):
        columns = write_stream(tmp_path / f"{k}.parquet", rows=300)
        path = tmp_path / f"{k}.npz"
        np.savez(path, **{**columns, "embedding": columns["embedding"] * np.float32(2.0) ** np.float32(k)})
        said.append(streamed(path, tmp_path / f"p{k}"))
    for key in ("classes", "nearest", "confused"):
        assert repr(getattr(said[1], key)) == repr(getattr(said[0], key)), key


def test_equal_amounts_are_of_so_many_rows_of_each_class_whatever_the_leaves(tmp_path: Path) -> None:
    path = tmp_path / "e"
    columns = write_stream(path, split=True, broken=30)
    stored = open_embeddings(str(path))
    found = []
    for leaf_rows in (1, 700, 10**6):
        options = Options(leaf_rows=leaf_rows, equal_count=150, shrinkage="none")
        folder = tmp_path / f"p{leaf_rows}"
        found.append([one.equal_amount for one in measure_stream(stored, folder, options=options).classes])
    assert repr(found[0]) == repr(found[1]) == repr(found[2])
    kept = np.isfinite(columns["embedding"][:, 0]) & (columns["split"] == "train")
    enough = np.bincount(columns["label"][kept], minlength=7) >= 150
    assert np.isfinite(found[0]).tolist() == enough.tolist()
    assert 0 < enough.sum() < 7
    other = streamed(path, tmp_path / "seed", equal_count=150, shrinkage="none", seed=1)
    assert [one.equal_amount for one in other.classes] != found[0]


def test_equal_amounts_lie_around_the_true_one(tmp_path: Path) -> None:
    columns = write_stream(tmp_path / "e", split=False, rows=6000)
    x, labels = torch.from_numpy(columns["embedding"]), torch.from_numpy(columns["label"])
    stored = open_embeddings(str(tmp_path / "e"))
    draws, oracle = [], []
    for seed in range(20):
        partial = Partial(stored, Options(equal_count=60, seed=seed))
        partial.add(stored, stored.parts)
        drawn = partial.drawn.of_full_classes(7, 60)
        draws.append(information_amounts(*drawn, 7).numpy())
        generator = torch.Generator().manual_seed(seed)
        oracle.append(information_amounts(x, labels, 7, equal_count=60, generator=generator).numpy())
    spread = np.std(oracle, axis=0, ddof=1) * np.sqrt(2 / 20)
    difference = np.mean(draws, axis=0) - np.mean(oracle, axis=0)
    enough = np.isfinite(difference)
    assert enough.sum() >= 5
    assert (np.abs(difference) < 5 * spread)[enough].all()


def test_the_number_of_equal_rows_is_chosen_from_the_counts_and_bounded_by_the_budget(tmp_path: Path) -> None:
    write_stream(tmp_path / "e")
    stored = open_embeddings(str(tmp_path / "e"))
    free = Options().resolved(stored).equal_count
    assert free == measure(read_embeddings(tmp_path / "e")).equal_count
    assert free > 13
    tight = Options(memory_budget=4 * 7 * (4 * stored.dim + 16) * 15).resolved(stored)
    assert tight.equal_count == 15
    assert Options(memory_budget=1000).resolved(stored).equal_count == 0
    assert Options(equal_count=3).resolved(stored).equal_count == 3


@pytest.mark.parametrize("leaf_rows", [1, 333, 600, 10**6])
def test_any_leaves_give_the_same_up_to_rounding(leaf_rows: int, tmp_path: Path) -> None:
    path = tmp_path / "e"
    write_stream(path)
    expected = streamed(path, tmp_path / "p")
    got = measure_stream(
        open_embeddings(str(path)), tmp_path / "q", options=Options(leaf_rows=leaf_rows), file=expected.file
    )
    np.testing.assert_allclose(
        [one.amount for one in got.classes], [one.amount for one in expected.classes], rtol=1e-6
    )
    assert got.confused == expected.confused


def test_blocks_hold_every_row_once() -> None:
    rng = np.random.default_rng(0)
    for sizes in (
        [],
        [0],
        [1],
        [70_000],
        [20_000] * 5,
        [100, 0, 200_000, 40_000, 3],
        rng.integers(0, 60_000, 9),
    ):
        ends = np.cumsum([0, *sizes])
        chunks = [(np.arange(a, b, dtype=np.float32)[:, None], np.arange(a, b)) for a, b in pairwise(ends)]
        blocks = list(partials._blocks(chunks, 1))
        joined = np.concatenate([labels for _, labels in blocks]) if blocks else np.empty(0)
        assert joined.tolist() == list(range(ends[-1]))
        assert all(np.array_equal(x[:, 0], labels.astype(np.float32)) for x, labels in blocks)
        assert all(2**15 <= len(labels) <= 2**16 for _, labels in blocks[:-1])


def test_partials_stay_until_they_are_removed_and_the_second_call_reads_no_row(tmp_path: Path) -> None:
    path, folder = tmp_path / "e", tmp_path / "p"
    write_stream(path)
    stored = open_embeddings(str(path))
    rows: list[int] = []
    first = measure_stream(stored, folder, options=Options(leaf_rows=500), progress=rows.append)
    assert sum(rows) == stored.rows
    (own,) = folder.glob("measured-*")
    assert sorted(file.name for file in own.iterdir()) == ["L3-0.pt", "plan.json"]
    begun: list[int] = []
    told: list[str] = []
    second = measure_stream(
        stored,
        folder,
        options=Options(leaf_rows=500),
        progress=rows.append,
        begin=begun.append,
        tell=told.append,
    )
    assert sum(rows) == stored.rows == begun[0]
    assert told == [f"going on from the partials in {folder}"]
    assert second == first or repr(second) == repr(first)
    (folder / "mine.txt").write_text("not yours")
    other = folder / "measured-0123456789abcdef"
    other.mkdir()
    remove_partials(folder, plan_of(stored, Options(leaf_rows=500)))
    assert sorted(file.name for file in folder.iterdir()) == ["lock", other.name, "mine.txt"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 1}, "other options"),
        ({"shrinkage": "none"}, "other options"),
        ({"leaf_rows": 700}, "other options"),
        ({}, "other data and other columns"),
    ],
)
def test_other_data_or_options_start_anew(change: dict, told: str, tmp_path: Path) -> None:
    path, folder = tmp_path / "e", tmp_path / "p"
    write_stream(path)
    measure_stream(open_embeddings(str(path)), folder, options=Options(**{"leaf_rows": 500, **{}}))
    if not change:
        write_stream(path, seed=1)
    said: list[str] = []
    begun: list[int] = []
    measure_stream(
        open_embeddings(str(path)),
        folder,
        options=Options(**{"leaf_rows": 500, **change}),
        begin=begun.append,
        tell=said.append,
    )
    assert said == [f"the partials in {folder} are of {told}: starting anew"]
    assert begun == [0]
    assert len(list(folder.glob("measured-*"))) == 1


def test_two_at_once_in_one_folder_are_refused(tmp_path: Path) -> None:
    path, folder = tmp_path / "e", tmp_path / "p"
    write_stream(path)

    def intrude(rows: int) -> None:
        with pytest.raises(ArgumentError, match="another bisector measure works"):
            streamed(path, folder)

    measure_stream(open_embeddings(str(path)), folder, progress=intrude)


@pytest.mark.parametrize("damaged", ["L2-0.pt", "L1-1.pt", "L0-2.pt"])
def test_the_rows_of_a_damaged_partial_are_measured_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damaged: str
) -> None:
    write_stream(tmp_path / "e")
    stored, options = open_embeddings(str(tmp_path / "e")), Options(leaf_rows=800, equal_count=0)
    found = []
    for folder, wrong in ((tmp_path / "whole", ""), (tmp_path / "hurt", damaged)):
        folder.mkdir()
        job = Job(stored, options, folder)
        for node in job.tree:
            job.run(node)
            if node.name == wrong:
                job.path(node).write_bytes(job.path(node).read_bytes()[:1000])
        found.append(job.result().meter.compute().amount)
        assert [file.name for file in folder.iterdir()] == ["L2-0.pt"]
    assert torch.equal(*found)
    told = capsys.readouterr().err
    assert f"hurt/{damaged}, which cannot be read" in told
    assert told.count("its rows are measured again") == 1


def test_what_is_done_is_not_done_again_and_leftovers_are_removed(tmp_path: Path) -> None:
    write_stream(tmp_path / "e")
    job = Job(open_embeddings(str(tmp_path / "e")), Options(leaf_rows=800, equal_count=0), tmp_path)
    for node in job.tree:
        job.run(node)
        before = job.path(node).stat().st_mtime_ns
        job.run(node)
        assert job.path(node).stat().st_mtime_ns == before
    job.path(Node(0, 1)).write_bytes(b"left by somebody who was killed")
    (tmp_path / ".L0-2.pt.17-abc").write_bytes(b"a draft of somebody who was killed")
    for node in job.tree:
        assert job.done(node)
        job.run(node)
    job.tidy()
    assert sorted(file.name for file in tmp_path.glob("*L*")) == [job.tree.root.name]


def test_a_partial_merges_what_two_halves_saw(tmp_path: Path) -> None:
    write_stream(tmp_path / "e", broken=10)
    stored = open_embeddings(str(tmp_path / "e"))
    options = Options(equal_count=20)
    whole, left, right = (Partial(stored, options) for _ in range(3))
    whole.add(stored, stored.parts)
    left.add(stored, stored.parts[:4])
    right.add(stored, stored.parts[4:])
    right.save(tmp_path / "right.pt")
    loaded = Partial(stored, options)
    loaded.load(tmp_path / "right.pt")
    left.merge(loaded)
    assert left.rows.tolist() == whole.rows.tolist()
    assert left.left_out == whole.left_out
    assert torch.equal(left.meter.counts, whole.meter.counts)
    torch.testing.assert_close(left.meter.means, whole.meter.means)
    for got, expected in zip(
        left.drawn.of_full_classes(7, 20), whole.drawn.of_full_classes(7, 20), strict=True
    ):
        assert torch.equal(got, expected)


def test_threads_are_as_before(tmp_path: Path) -> None:
    write_stream(tmp_path / "e")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        seen: set[int] = set()
        stored = open_embeddings(str(tmp_path / "e"))
        measure_stream(stored, tmp_path / "p", progress=lambda rows: seen.add(torch.get_num_threads()))
        assert seen == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_table_without_rows_to_measure_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e"
    write_stream(path, rows=20, broken=20)
    with pytest.raises(ArgumentError, match="no row"):
        streamed(path, tmp_path / "p")


def test_an_empty_table_has_an_embedding_table() -> None:
    assert len(EmbeddingTable(torch.empty(0, 3), torch.empty(0, dtype=torch.long), ("a",))) == 0


def test_under_a_budget_amounts_come_with_their_error(tmp_path: Path) -> None:
    write_stream(tmp_path / "e", dim=32, split=False, predicted=False)
    exact = streamed(tmp_path / "e", tmp_path / "p", shrinkage="none", equal_count=0)
    tight = {"shrinkage": "none", "equal_count": 0, "memory_budget": 20_000}
    one, other = (streamed(tmp_path / "e", tmp_path / name, **tight) for name in ("q", "r"))
    assert repr(one) == repr(other)
    assert any(each.error_bound > 0 for each in one.classes)
    for got, wanted in zip(one.classes, exact.classes, strict=True):
        assert got.count == wanted.count
        assert abs(got.amount - wanted.amount) <= got.error_bound + 1e-6 * wanted.amount


def test_another_column_of_the_same_file_starts_anew(tmp_path: Path) -> None:
    columns, folder = write_stream(tmp_path / "e", split=False), tmp_path / "p"
    for file in (tmp_path / "e").iterdir():
        table = pq.read_table(file)
        other = pa.array((table["label"].to_numpy() + 1) % 7)
        pq.write_table(table.append_column("other", other), file)
    measure_stream(open_embeddings(str(tmp_path / "e")), folder, options=Options(leaf_rows=500))
    said: list[str] = []
    stored = open_embeddings(str(tmp_path / "e"), label="other")
    found = measure_stream(stored, folder, options=Options(leaf_rows=500), tell=said.append)
    assert said == [f"the partials in {folder} are of other columns: starting anew"]
    counts = np.bincount((columns["label"] + 1) % 7)
    assert [one.count for one in found.classes] == counts.tolist()


def test_train_rows_without_a_label_measure_all_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = 90
    labels = [None if row < 50 else row % 4 for row in range(rows)]
    table = {
        "embedding": rng.normal(size=(rows, 3)).astype(np.float32).tolist(),
        "label": pa.array(labels, pa.int64()),
        "split": ["train"] * 50 + ["test"] * 40,
    }
    pq.write_table(pa.table(table), tmp_path / "e.parquet")
    got, expected = (
        streamed(tmp_path / "e.parquet", tmp_path / "p"),
        measure(read_embeddings(tmp_path / "e.parquet")),
    )
    assert got.measured_on == expected.measured_on == "all rows"
    assert [one.count for one in got.classes] == [one.count for one in expected.classes] == [10] * 4
    assert all(
        close(one.amount, other.amount) for one, other in zip(got.classes, expected.classes, strict=True)
    )


def test_the_rows_drawn_are_within_the_budget(tmp_path: Path) -> None:
    write_stream(tmp_path / "e", dim=16, predicted=False)
    stored = open_embeddings(str(tmp_path / "e"))
    budget = 40_000
    with pytest.raises(ArgumentError, match=r"equal_count: got 500, .*expected at most ") as raised:
        Options(equal_count=500, memory_budget=budget).resolved(stored)
    most = int(str(raised.value).partition("at most ")[2].partition(":")[0])
    with pytest.raises(ArgumentError, match=f"at most {most}:"):
        Options(equal_count=most + 1, memory_budget=budget).resolved(stored)
    few = Partial(stored, Options(equal_count=2, memory_budget=2300))
    with pytest.raises(
        ArgumentError, match=r"memory_budget: got 1,180 bytes; .*, beside 1,120 bytes for the rows"
    ):
        few.add(stored, stored.parts)
    partial = Partial(stored, Options(equal_count=most, memory_budget=budget).resolved(stored))
    partial.add(stored, stored.parts)
    drawn = partial.drawn
    held = drawn.embeddings.nbytes + drawn.rows.nbytes + drawn.labels.nbytes
    assert budget // 4 < held <= budget // 2
    assert partial.meter.nbytes + held <= budget


def test_blocks_of_long_vectors_are_bounded_in_bytes() -> None:
    dim = 2**16
    chunks = [(np.zeros((60, dim), dtype=np.float32), np.arange(60) + 60 * k) for k in range(5)]
    blocks = list(partials._blocks(chunks, dim))
    assert np.concatenate([labels for _, labels in blocks]).tolist() == list(range(300))
    assert max(x.nbytes for x, _ in blocks) <= 2**26
    assert min(x.nbytes for x, _ in blocks[:-1]) >= 2**25


def test_partials_in_which_another_works_are_not_removed(tmp_path: Path) -> None:
    path, folder = tmp_path / "e", tmp_path / "p"
    write_stream(path)
    stored, options = open_embeddings(str(path)), Options(leaf_rows=500)

    def remove(rows: int) -> None:
        with pytest.raises(ArgumentError, match="another bisector measure works"):
            remove_partials(folder, plan_of(stored, options))

    measure_stream(stored, folder, options=options, progress=remove)
    remove_partials(folder, plan_of(stored, options))
    remove_partials(folder, plan_of(stored, options))
    assert [file.name for file in folder.iterdir()] == ["lock"]
