import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix, recall_score

from bisector.data.tables import EmbeddingTable
from bisector.information.amount import information_amount
from bisector.measurement.classes import hardest
from bisector.measurement.confusion import nearest_pairs, pairs_of_counts
from bisector.measurement.duplicates import Duplicates, find_duplicates
from bisector.measurement.label_errors import find_label_errors
from bisector.measurement.measure import measure
from bisector.measurement.tally import Tally
from bisector.metrics.geometry import inter_class_separability, intra_class_compactness
from bisector.statistics.relation import chance_limit

NAMES = ("a", "b", "c", "d")
GEOMETRY = (inter_class_separability, intra_class_compactness)


def table(
    embeddings: torch.Tensor, labels: torch.Tensor, names: tuple[str, ...] = NAMES, **columns: object
) -> EmbeddingTable:
    return EmbeddingTable(embeddings, labels, names, **columns)  # type: ignore[arg-type]


def test_classes_are_measured_on_their_rows() -> None:
    labels = torch.randint(0, 3, (200,))
    predictions = torch.randint(0, 4, (200,))
    x, losses = torch.randn(200, 6), torch.rand(200)
    splits = ["train"] * 100 + ["test"] * 100
    found = measure(table(x, labels, predictions=predictions, losses=losses, splits=splits)).classes
    recalls = recall_score(labels[100:], predictions[100:], labels=[0, 1, 2], average=None)
    for c in range(3):
        train, test = labels[:100] == c, labels[100:] == c
        assert found[c].count == train.sum()
        assert found[c].tested == test.sum()
        assert found[c].accuracy == pytest.approx(recalls[c])
        assert found[c].loss == pytest.approx(losses[100:][test].mean().item())
        expected = information_amount(x[:100][train], embeddings="unit")
        assert found[c].amount == pytest.approx(expected.item())
    assert found[3].count == 0
    assert math.isnan(found[3].amount)
    assert math.isnan(found[3].accuracy)
    assert [one.name for one in hardest(found)] == [NAMES[c] for c in np.argsort(recalls, kind="stable")]


def test_rows_without_a_prediction_or_a_loss_are_not_counted() -> None:
    labels, nothing = torch.tensor([0, 0, 0, 1]), float("nan")
    predictions, losses = torch.tensor([0, -1, 1, -1]), torch.tensor([0.5, nothing, 1.5, nothing])
    found = measure(table(torch.eye(4), labels, predictions=predictions, losses=losses)).classes
    assert [(one.count, one.tested) for one in found[:2]] == [(3, 2), (1, 0)]
    assert (found[0].accuracy, found[0].loss) == (0.5, 1.0)
    assert math.isnan(found[1].accuracy)
    assert math.isnan(found[1].loss)


@pytest.mark.parametrize("classes", [3, 4, 5, 12])
def test_the_limits_of_chance_hold_for_what_is_unrelated(classes: int) -> None:
    x, y, z = np.random.default_rng(0).normal(size=(3, 40_000, classes))

    def centred(v: np.ndarray) -> np.ndarray:
        return v - v.mean(axis=1, keepdims=True)

    def r(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a, b = centred(a), centred(b)
        return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))

    xy, xz, yz = r(x, y), r(x, z), r(y, z)
    partial = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert (abs(xy) > chance_limit(classes)).mean() == pytest.approx(0.05, abs=0.005)
    if classes > 3:
        assert (abs(partial) > chance_limit(classes, held=1)).mean() == pytest.approx(0.05, abs=0.005)
    else:
        assert math.isnan(chance_limit(classes, held=1))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_confused_pairs_are_those_of_the_confusion_matrix(rows: list[tuple[int, int]]) -> None:
    labels, predictions = (torch.tensor(column) for column in zip(*rows, strict=True))
    matrix = confusion_matrix(labels, predictions, labels=range(4))
    tally = Tally(4)
    tally.add(np.zeros(len(rows), dtype=np.int64), labels.numpy(), predictions.numpy(), None)
    found = pairs_of_counts(tally.tested(None).tolist(), tally.confused(None), NAMES)
    expected = {}
    for i in range(4):
        for j in range(i + 1, 4):
            if matrix[i, j] + matrix[j, i]:
                # A class without a tested row: the other's share is all that is known, and the mean at least half.
                shares = [matrix[r, k] / max(1, matrix[r].sum()) for r, k in ((i, j), (j, i))]
                tested = matrix[i].sum(), matrix[j].sum()
                expected[NAMES[i], NAMES[j]] = (
                    matrix[i, j],
                    matrix[j, i],
                    *tested,
                    np.mean(shares),
                    all(tested),
                )
    assert {
        (p.first, p.second): (
            *(p.first_as_second, p.second_as_first, p.first_tested, p.second_tested),
            *(pytest.approx(p.share), p.both_tested),
        )
        for p in found
    } == expected
    ranks = [(p.first_as_second + p.second_as_first < 2, -p.share) for p in found]
    assert ranks == sorted(ranks)


@pytest.mark.parametrize("most", [1, 5, 20])
def test_the_nearest_pairs_are_those_of_all_angles(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bisector.measurement.confusion._BLOCK_CELLS", 25)  # three rows at once
    names = tuple(map(str, range(9)))
    labels = torch.arange(90) % 8  # one class is absent
    x = torch.randn(90, 5)
    units = (x / x.norm(dim=1, keepdim=True)).numpy().astype(np.float64)
    means = [units[(labels == c).numpy()].mean(axis=0) for c in range(8)]
    angles = sorted(
        (
            math.degrees(
                math.acos(means[i] @ means[j] / np.linalg.norm(means[i]) / np.linalg.norm(means[j]))
            ),
            i,
            j,
        )
        for i in range(8)
        for j in range(i + 1, 8)
    )
    found = nearest_pairs(x, labels, names, most)
    assert [(int(p.first), int(p.second)) for p in found] == [(i, j) for _, i, j in angles[:most]]
    assert [p.degrees for p in found] == pytest.approx([angle for angle, *_ in angles[:most]], rel=1e-4)


@given(st.integers(0, 10_000), st.integers(16, 40))
def test_duplicates_are_those_of_all_pairs(seed: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(30, dim)) + 3 * rng.normal(size=dim)
    x = np.concatenate([x, x[:6], x[6:12] * (1 + 8e-4), x[12:18] + 0.1 * rng.normal(size=(6, dim))])
    x[-1] = 0
    near = x[:30, :] + rng.normal(size=(30, dim)) * 3e-4 * rng.uniform(size=(30, 1))
    x = np.concatenate([x, near]).astype(np.float32)
    lengths = np.linalg.norm(x, axis=1)
    distances = np.linalg.norm(x[:, None].astype(float) - x[None].astype(float), axis=2)
    alike = (
        (distances <= 1e-3 * np.maximum(lengths[:, None], lengths)) & (lengths > 0) & (lengths[:, None] > 0)
    )
    reached = alike
    for _ in range(8):
        reached = (reached.astype(int) @ alike.astype(int)) > 0
    expected = {tuple(np.flatnonzero(row)) for row in reached if row.sum() > 1}
    found = find_duplicates(table(torch.from_numpy(x), torch.zeros(len(x), dtype=torch.long)))
    assert {tuple(group.rows) for group in found.groups} == expected
    assert found.zero == 1
    assert found.rows == sum(map(len, expected))


def test_leakage_is_flagged_first_and_counted_in_the_later_split() -> None:
    x = torch.randn(8, 20)
    x[3], x[5], x[7], x[6] = x[0], x[0], x[2], x[1]
    splits = ["train", "test", "train", "validation", "train", "test", "test", "train"]
    labels = torch.tensor([0, 1, 2, 0, 0, 0, 3, 2])
    found = find_duplicates(table(x, labels, splits=splits))
    assert [group.rows for group in found.groups] == [[0, 3, 5], [1, 6], [2, 7]]
    assert [group.across_splits for group in found.groups] == [True, False, False]
    assert [group.labels_differ for group in found.groups] == [False, True, False]
    assert found.leaked == 2


def test_points_of_few_dimensions_must_be_equal() -> None:
    x = torch.rand(3000, 2)
    x[10] = x[20]
    found = find_duplicates(table(x, torch.zeros(3000, dtype=torch.long)))
    assert [group.rows for group in found.groups] == [[10, 20]]


def test_a_collapsed_network_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bisector.measurement.duplicates._MOST_PAIRS", 100)
    x = torch.ones(200, 32) + 1e-6 * torch.randn(200, 32)
    x[1] = x[0]
    found = find_duplicates(table(x, torch.zeros(200, dtype=torch.long)))
    assert [group.rows for group in found.groups] == [[0, 1]]


@pytest.mark.parametrize("noise", [0.0, 1e-5, 1e-4, 1e-3])
def test_a_class_that_is_one_point_leaks_nothing(noise: float) -> None:
    labels = torch.arange(400) % 10
    x = torch.nn.functional.one_hot(labels, 64).float() + noise * torch.randn(400, 64)
    splits = [("train", "test")[row // 10 % 2] for row in range(400)]
    found = find_duplicates(table(x, labels, tuple("abcdefghij"), splits=splits))
    assert found.leaked == 0
    assert found.points == list("abcdefghij")
    assert sum(group.size for group in found.groups) == (400 if noise == 0 else 0)


def test_beside_classes_that_are_one_point_copies_are_found() -> None:
    labels = torch.arange(80) % 4
    x = torch.randn(80, 32)
    x[labels == 0] = torch.ones(32)  # exactly
    x[labels == 1] = torch.ones(32) + 1e-4 * torch.randn(20, 32)  # nearly
    x[6], x[11], x[9] = x[2], x[7], x[1]  # of classes 2, 3 and 1
    x[11] *= 1 + 1e-4
    splits = ["train"] * 4 + ["test"] * 76
    splits[7] = "train"
    found = find_duplicates(table(x, labels, splits=splits))
    assert found.points == ["a", "b"]
    assert found.leaked == 3
    assert {tuple(group.rows) for group in found.groups if group.size == 2} == {(2, 6), (7, 11), (1, 9)}


def test_a_class_of_many_copies_is_not_one_point() -> None:
    x = torch.randn(20, 24).repeat(2, 1)
    found = find_duplicates(
        table(x, torch.zeros(40, dtype=torch.long), splits=["train"] * 20 + ["test"] * 20)
    )
    assert (found.leaked, found.points) == (20, [])


def wrong_digits() -> tuple[torch.Tensor, torch.Tensor, set[int]]:
    pixels, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(labels), 54, replace=False)
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, 54)) % 10
    return torch.from_numpy(pixels).float(), torch.from_numpy(labels), set(wrong.tolist())


def test_labels_that_were_made_wrong_are_found_from_the_embeddings() -> None:
    x, labels, wrong = wrong_digits()
    found = find_label_errors(table(x, labels, tuple("0123456789")), torch.empty(0, dtype=torch.long))
    suspects = [suspect.row for suspect in found.suspects]
    assert len(wrong & set(suspects)) >= 48
    assert len(wrong & set(suspects[:54])) >= 44  # the most suspect first
    assert found.judged == len(labels)
    assert {suspect.judge for suspect in found.suspects} == {"embeddings"}
    assert [s.confidence for s in found.suspects] == sorted(s.confidence for s in found.suspects)
    named = {
        int(s.label) == labels[s.row].item() and s.suggested != s.label
        for s in found.suspects
        if s.row in wrong
    }
    assert named == {True}


def test_rows_held_out_are_judged_by_the_scores() -> None:
    labels = torch.arange(300) % 3
    given = labels.clone()
    given[:5] = (given[:5] + 1) % 3
    scores = 8.0 * torch.nn.functional.one_hot(labels, 4).float() + torch.randn(300, 4)
    noise = torch.randn(300, 20)  # tells nothing: only the scores can
    held = torch.arange(150)
    found = find_label_errors(
        table(noise, given, scores=scores, splits=["test"] * 150 + ["train"] * 150), held
    )
    by_scores = [s.row for s in found.suspects if s.judge == "scores"]
    assert sorted(by_scores) == [0, 1, 2, 3, 4]
    assert all(s.row >= 150 for s in found.suspects if s.judge == "embeddings")


def test_rows_held_out_without_scores_are_judged_by_the_embeddings() -> None:
    labels = torch.arange(60) % 3
    scores = 8.0 * torch.nn.functional.one_hot(labels, 3).float()
    scores[:30] = torch.nan
    x = 5 * torch.nn.functional.one_hot(labels, 20).float() + torch.randn(60, 20)
    given = labels.clone()
    given[[0, 40]] = (given[[0, 40]] + 1) % 3
    found = find_label_errors(table(x, given, NAMES[:3], scores=scores), torch.arange(60))
    judges = {suspect.row: suspect.judge for suspect in found.suspects}
    assert (judges[0], judges[40], found.judged) == ("embeddings", "scores", 60)


def test_too_many_rows_to_judge_are_told_with_the_classes_that_occur(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bisector.measurement.label_errors.MOST_CELLS", 79)
    labels = torch.arange(40) % 2
    x = torch.randn(40, 8) + 5 * labels[:, None]
    found = find_label_errors(table(x, labels), torch.empty(0, dtype=torch.long))
    assert found.notes == ["40 rows of 2 classes are too many to judge their labels"]
    monkeypatch.setattr("bisector.measurement.label_errors.MOST_CELLS", 80)
    assert find_label_errors(table(x, labels), torch.empty(0, dtype=torch.long)).judged == 40


def test_classes_too_small_to_judge_are_told() -> None:
    x = torch.cat([torch.randn(20, 8), torch.randn(20, 8) + 5, torch.randn(3, 8) - 5])
    labels = torch.tensor([0] * 20 + [1] * 20 + [3] * 3)
    found = find_label_errors(table(x, labels), torch.empty(0, dtype=torch.long))
    assert found.judged == 40
    assert found.notes == ["1 class of fewer than 5 rows: labels not judged"]
    nothing = find_label_errors(table(x[:20], labels[:20]), torch.empty(0, dtype=torch.long))
    assert nothing.judged == 0
    assert math.isnan(nothing.agreement)


@pytest.mark.parametrize("power", [-70, 60])
def test_what_is_said_of_directions_does_not_depend_on_the_scale(power: int) -> None:
    labels = torch.arange(120) % 3
    x = torch.randn(120, 20, generator=torch.Generator().manual_seed(0)) + 2 * torch.eye(20)[labels]
    x[60:66] = x[:6]
    labels[30:33] = (labels[30:33] + 1) % 3
    splits = ["train"] * 60 + ["test"] * 60
    scores = torch.randn(120, 3, generator=torch.Generator().manual_seed(1))
    plain, scaled = (
        measure(table(x * 2.0**k, labels, NAMES[:3], splits=splits, scores=scores)) for k in (0, power)
    )
    assert plain.duplicates is not None
    assert plain.duplicates.rows >= 12
    assert plain.label_errors is not None
    assert plain.label_errors.suspects
    for key in (
        "classes",
        "nearest",
        "confused",
        "duplicates",
        "label_errors",
        "verification",
        "steps",
        "notes",
    ):
        assert repr(getattr(scaled, key)) == repr(getattr(plain, key)), key
    assert [metric(x * 2.0**power, labels) for metric in GEOMETRY] == [
        metric(x, labels) for metric in GEOMETRY
    ]
    for same in (same_point(x, labels, 2.0**k) for k in (0, power)):
        assert same.points == ["a"]


def same_point(x: torch.Tensor, labels: torch.Tensor, factor: float) -> Duplicates:
    collapsed = torch.where((labels == 0)[:, None], x[0] + 1e-4 * x, x)
    return find_duplicates(table(collapsed * factor, labels))


@pytest.mark.parametrize("scale", [1e19, 1e-22])
def test_the_scale_of_embeddings_does_not_count(scale):
    x, labels = torch.randn(120, 16, generator=torch.Generator().manual_seed(0)), torch.arange(120) % 3
    x[5] = x[2]
    table = EmbeddingTable(x * scale, labels, ("a", "b", "c"))
    found = find_duplicates(table)
    assert (found.zero, found.points) == (0, [])
    assert [group.rows for group in found.groups] == [[2, 5]]
    pairs, wanted = (nearest_pairs(each, labels, table.class_names) for each in (table.embeddings, x))
    assert [pair.degrees for pair in pairs] == pytest.approx([pair.degrees for pair in wanted], abs=0.01)
