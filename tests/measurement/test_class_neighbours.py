"""The nearest class of each and its intrinsic dimension, both engines, against scipy and known manifolds."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist

from bisector.data.tables import EmbeddingTable, open_embeddings, read_embeddings, write_embeddings
from bisector.measurement.classes import ClassMeasure, hard_with_neighbour
from bisector.measurement.measure import measure
from bisector.measurement.measurement import Measurement
from bisector.measurement.stream.measure import measure_stream
from bisector.measurement.stream.options import Options
from bisector.report.measurement import format_measurement, render_measurement
from bisector.report.measurement_files import write_measurement
from bisector.statistics.intrinsic_dimension import intrinsic_dimension
from page_text import Page
from stream_cases import write_stream


def naive(x: np.ndarray, labels: np.ndarray, classes: int, scale: str) -> np.ndarray:
    """The noise-corrected squared distances of all pairs, infinite to itself and to classes without rows."""
    x = x.astype(np.float64)
    if scale == "unit":
        x = x / np.linalg.norm(x, axis=1, keepdims=True) * x.shape[1] ** 0.5
    dim, own = x.shape[1], {c: x[labels == c] for c in range(classes) if (labels == c).any()}
    pooled = sum(len(r) * np.cov(r, rowvar=False) for r in own.values() if len(r) > 1)
    pooled = pooled / sum(len(r) for r in own.values() if len(r) > 1)
    w = 0.95 * pooled + 0.05 * np.trace(pooled) / dim * np.eye(dim)
    present = list(own)
    means = np.stack([own[c].mean(0) for c in present])
    noise = np.array([dim / len(own[c]) for c in present])
    found = np.full((classes, classes), np.inf)
    between = cdist(means, means, "mahalanobis", VI=np.linalg.inv(w)) ** 2 - noise[:, None] - noise
    found[np.ix_(present, present)] = between
    np.fill_diagonal(found, np.inf)
    return found


def table_of(counts: list[int], dim: int = 12, seed: int = 0, tested: int = 30) -> EmbeddingTable:
    """Gaussian classes whose test rows are taken for the class whose mean is nearest to them."""
    draw = torch.Generator().manual_seed(seed)
    means = torch.randn(len(counts), dim, generator=draw)
    labels = torch.cat([torch.full((n + tested,), c) for c, n in enumerate(counts)])
    x = means[labels] + 0.8 * torch.randn(len(labels), dim, generator=draw)
    splits = [name for n in counts for name in ["train"] * n + ["test"] * tested]
    names = tuple(f"kind {c}" for c in range(len(counts)))
    return EmbeddingTable(x, labels, names, predictions=torch.cdist(x, means).argmin(1), splits=splits)


@pytest.mark.parametrize("scale", ["raw", "unit"])
def test_the_nearest_class_is_that_of_scipy_and_its_errors_those_of_a_loop(
    scale: str, tmp_path: Path
) -> None:
    table = table_of([3, 9, 40, 200, 1, 25])
    found = measure(table, embeddings=scale)
    train = np.array(table.splits) == "train"
    labels, predictions = table.labels.numpy(), table.predictions.numpy()
    expected = naive(table.embeddings.numpy()[train], labels[train], 6, scale)
    distances = [one.squared_distance for one in found.classes]
    np.testing.assert_allclose(distances, expected.min(1), rtol=1e-4, atol=1e-4)
    nearest = expected.argmin(1)
    every = np.where(np.eye(6, dtype=bool), np.nan, expected)
    np.testing.assert_allclose(found.squared_distances, every, rtol=1e-4, atol=1e-4)
    assert [one.neighbour for one in found.classes] == [f"kind {j}" for j in nearest]
    for c, one in enumerate(found.classes):
        of_it, taken = labels[~train] == c, predictions[~train]
        assert one.taken_for_neighbour == (of_it & (taken == nearest[c])).sum()
        assert one.false_positives == (~of_it & (taken == c)).sum()
        assert one.errors == (of_it & (taken != c)).sum()
        others = np.bincount(taken[of_it & (taken != c)], minlength=6)
        told = found.mistakes.get(one.name, {})
        assert told == {f"kind {j}": n for j, n in enumerate(others.tolist()) if n}
        assert one.as_mistaken == others.max()
        assert told.get(one.mistaken_for, 0) == others.max()
    write_measurement(found, tmp_path)
    with (tmp_path / "classes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["neighbour"] for row in rows] == [one.neighbour for one in found.classes]
    assert [float(row["squared_distance"]) for row in rows] == distances
    assert repr(Measurement.read(tmp_path / "measure.json").classes) == repr(found.classes)


@pytest.mark.parametrize("scale", ["raw", "unit"])
@pytest.mark.parametrize(("split", "broken"), [(True, 0), (False, 20)])
def test_a_stream_finds_the_same_without_the_rows_that_are_not_finite(
    scale: str, split: bool, broken: int, tmp_path: Path
) -> None:
    columns = write_stream(tmp_path / "e", split=split, broken=broken)
    options = Options(leaf_rows=500, embeddings=scale)
    got = measure_stream(open_embeddings(tmp_path / "e"), tmp_path / "p", options=options)
    expected = measure(read_embeddings(tmp_path / "e"), embeddings=scale)
    for one, other in zip(got.classes, expected.classes, strict=True):
        for key in ("neighbour", "taken_for_neighbour", "false_positives"):
            assert getattr(one, key) == getattr(other, key), key
        assert one.squared_distance == pytest.approx(other.squared_distance, rel=1e-4, abs=1e-4)
        dimensions = one.intrinsic_dimension, other.intrinsic_dimension
        assert math.isnan(dimensions[0]) == math.isnan(dimensions[1])
        if not broken:  # without some rows the others are numbered, so drawn, differently
            assert dimensions[0] == pytest.approx(dimensions[1], rel=1e-9, nan_ok=True)
    kept = np.isfinite(columns["embedding"]).all(axis=1)
    kept &= columns["split"] == "train" if split else True
    oracle = naive(columns["embedding"][kept], columns["label"][kept], 7, scale).min(1)
    np.testing.assert_allclose([one.squared_distance for one in got.classes], oracle, rtol=1e-4, atol=1e-4)
    distance, other = (m.scores[0].of("distance to the nearest class") for m in (got, expected))
    assert distance is not None
    assert other is not None
    assert distance.relation.spearman.value == pytest.approx(other.relation.spearman.value)
    assert got.scores[0].of("intrinsic dimension") is not None


def test_intrinsic_dimensions_are_those_of_the_manifolds_on_as_many_rows_of_each() -> None:
    draw = torch.Generator().manual_seed(0)
    around = torch.linalg.qr(torch.randn(20, 20, generator=draw)).Q
    angle = 2 * math.pi * torch.rand(400, 1, generator=draw)
    circle = torch.cat([angle.sin(), angle.cos()], 1) @ around[:2]
    plane, solid = (torch.rand(n, d, generator=draw) @ around[:d] for n, d in ((500, 2), (900, 5)))
    few = torch.rand(20, 3, generator=draw) @ around[:3]
    x = torch.cat([circle, plane, solid, few])
    labels = torch.tensor([0] * 400 + [1] * 500 + [2] * 900 + [3] * 20)
    table = EmbeddingTable(x, labels, tuple("abcd"))
    dimensions = [
        one.intrinsic_dimension for one in measure(table, equal_count=400, embeddings="raw").classes
    ]
    assert dimensions[0] == pytest.approx(intrinsic_dimension(circle), rel=1e-9)  # all of its rows
    for found, true in zip(dimensions, (1, 2, 5), strict=False):
        assert found == pytest.approx(true, rel=0.2)
    assert math.isnan(dimensions[3])
    alike = EmbeddingTable(torch.cat([solid, solid[:300]]), torch.zeros(1200).long(), ("a",))
    (one,) = measure(alike, equal_count=900, embeddings="raw").classes
    assert one.intrinsic_dimension == pytest.approx(5, rel=0.2)  # on 500 rows, copies counted once


def plain_table(x: torch.Tensor, labels: torch.Tensor, classes: int) -> EmbeddingTable:
    return EmbeddingTable(x, labels, tuple(f"kind {c}" for c in range(classes)), predictions=labels * 0)


HOSTILE = {
    "one class": (torch.randn(40, 5, generator=torch.Generator().manual_seed(0)), torch.zeros(40).long(), 1),
    "a row a class": (torch.eye(6), torch.arange(6), 6),
    "one row": (torch.ones(1, 3), torch.zeros(1).long(), 2),
    "equal rows within every class": (torch.eye(3).repeat_interleave(20, 0), torch.arange(60) // 20, 3),
    "zeros": (torch.zeros(60, 4), torch.arange(60) % 3, 3),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("streamed", [False, True])
def test_where_there_is_no_neighbour_nothing_is_said_of_one(
    case: str, streamed: bool, tmp_path: Path
) -> None:
    table = plain_table(*HOSTILE[case])
    if streamed:
        write_embeddings(table, tmp_path / "e.parquet")
        found = measure_stream(open_embeddings(tmp_path / "e.parquet"), tmp_path / "p")
    else:
        found = measure(table)
    for one in found.classes:
        assert (one.neighbour, one.taken_for_neighbour) == ("", 0)
        assert math.isnan(one.squared_distance)
        assert math.isnan(one.intrinsic_dimension)
    assert [note for note in found.notes if note.startswith("No intrinsic dimensions: they take 8 ")]
    page, text = Page(render_measurement(found)).text, format_measurement(found)
    for told in (page, text):
        assert "its distance" not in told.lower()
        assert "dimension" not in told.partition("Note")[0].partition("Class by class")[2]
        assert "nan" not in told
    write_measurement(found, tmp_path / "out")


def test_rows_all_as_far_from_each_other_have_no_dimension_and_relate_to_nothing() -> None:
    x = torch.cat([torch.eye(40) + 5 * c for c in range(4)])
    predictions = torch.randint(4, (160,), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(4).repeat_interleave(40)
    found = measure(EmbeddingTable(x, labels, tuple("abcd"), predictions=predictions), embeddings="raw")
    assert found.equal_count == 40
    assert all(math.isnan(one.intrinsic_dimension) for one in found.classes)
    assert found.scores[0].of("intrinsic dimension") is None


def test_what_goes_with_accuracy_is_what_scipy_says() -> None:
    found = measure(table_of([30 + 10 * c for c in range(12)], tested=60, seed=1))
    for quantity, key in (
        ("distance to the nearest class", "squared_distance"),
        ("intrinsic dimension", "intrinsic_dimension"),
    ):
        x, y = ([getattr(one, name) for one in found.classes] for name in (key, "accuracy"))
        one, n = found.scores[0].of(quantity), np.log([each.count for each in found.classes])
        assert one is not None
        assert one.given == "log count"
        assert one.relation.spearman.value == pytest.approx(stats.spearmanr(x, y).statistic)
        design = np.column_stack([np.ones(12), n])
        left, right = (np.array(v) - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y))
        assert one.relation.partial.value == pytest.approx(np.corrcoef(left, right)[0, 1])
        assert quantity in format_measurement(found)
        assert quantity.capitalize() in Page(render_measurement(found)).text


def a_class(
    name: str, accuracy: float, to: str, taken: int, positives: int, far: float = 9.0
) -> ClassMeasure:
    return ClassMeasure(
        name,
        50,
        20,
        9.0,
        accuracy,
        0.1,
        neighbour=to,
        squared_distance=far,
        taken_for_neighbour=taken,
        false_positives=positives,
    )


ANIMALS = [
    a_class("horse", 0.5, "deer", 8, 1),
    a_class("deer", 0.9, "horse", 1, 9),
    a_class("ship", 0.9, "car", 1, 2, far=60.0),
    a_class("car", 0.9, "ship", 1, 1, far=60.0),
    a_class("bird", 0.9, "deer", 1, 1, far=30.0),
]


def near(classes: list[ClassMeasure]) -> dict[str, bool]:
    return {one.name: because for one, because in hard_with_neighbour(classes)}


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({}, True),
        ({"taken_for_neighbour": 5}, False),  # half of its errors are not most
        ({"accuracy": 0.8, "taken_for_neighbour": 4}, False),  # too few errors
        ({"squared_distance": 61.0}, False),  # others have nearer neighbours, and are not hard
        ({"neighbour": "ship", "taken_for_neighbour": 2}, False),  # they go elsewhere
    ],
)
def test_a_class_is_hard_because_of_its_neighbour_where_its_errors_say_so(
    change: dict, because: bool
) -> None:
    assert near([replace(ANIMALS[0], **change), *ANIMALS[1:]]) == {"horse": because}


@pytest.mark.parametrize("share", [0.045, 0.055])
def test_a_neighbour_that_overlaps_is_near_though_half_of_the_classes_have_a_nearer_one(share: float) -> None:
    apart = 4 * stats.norm.isf(share) ** 2  # where the best boundary takes this share of either for the other
    nearer = [replace(one, squared_distance=1.0) for one in ANIMALS[1:]]
    assert near([replace(ANIMALS[0], squared_distance=apart), *nearer]) == {"horse": share > 0.05}


def test_a_class_that_attracts_all_others_explains_nothing_and_of_two_each_is_the_only_other() -> None:
    sink = [
        a_class("horse", 0.5, "deer", 8, 0),
        a_class("deer", 1.0, "horse", 0, 30),
        a_class("ship", 0.4, "car", 2, 0),
        a_class("car", 0.4, "ship", 0, 0),
    ]
    assert near(sink) == {"ship": False, "car": False, "horse": False}
    assert near([replace(sink[1], false_positives=8), *sink[2:], sink[0]])["horse"]
    two = [a_class("horse", 0.5, "deer", 10, 0), a_class("deer", 1.0, "horse", 0, 10)]
    assert near(two) == {"horse": False}
    assert hard_with_neighbour([]) == []
    assert near([replace(one, accuracy=math.nan, tested=0) for one in ANIMALS]) == {}


@pytest.mark.parametrize("most", [8, 1, 0])
def test_page_and_text_say_of_a_hard_class_where_its_errors_go(most: int) -> None:
    labels = torch.arange(100) // 20
    predictions = labels.clone()
    predictions[:10] = torch.tensor([1] * most + [3] * (10 - most))
    at = torch.tensor([0.0, 1.0, 8.0, 16.0, 24.0])
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0)) + at[labels][:, None]
    names = ("7", "<b>deer", "ship", "car", "bird")
    found = measure(EmbeddingTable(x, labels, names, predictions=predictions), embeddings="raw")
    assert [one.neighbour for one in found.classes[:2]] == ["<b>deer", "7"]
    told = {
        8: "class 7 is hard because <b>deer is near: 8 of its 10 errors go to it.",
        1: "class 7: its nearest class is <b>deer, to which 1 of its 10 errors goes; 9 go to car.",
        0: "class 7: its nearest class is <b>deer, to which none of its 10 errors goes; 10 go to car.",
    }[most]
    page = render_measurement(found)
    assert told in format_measurement(found).splitlines()
    assert told in Page(page).text
    assert "<b>deer" not in page.partition("<script")[0]
    assert (
        sum(
            "nearest class is" in line or "is hard" in line for line in format_measurement(found).splitlines()
        )
        == 1
    )


def test_a_sketch_says_that_distances_may_be_off(tmp_path: Path) -> None:
    write_stream(tmp_path / "e", dim=32, split=False, predicted=False)
    options = Options(shrinkage="none", equal_count=0, memory_budget=20_000)
    found = measure_stream(open_embeddings(tmp_path / "e"), tmp_path / "p", options=options)
    assert all(math.isfinite(one.squared_distance) for one in found.classes)
    assert [note for note in found.notes if "distances to the nearest class too" in note]
