"""The geometry of classes against scipy and a naive loop."""

import math
from pathlib import Path

import numpy
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal
from torch import Tensor

from bisector.errors import ArgumentError, DamagedFileError
from bisector.information.geometry import ClassGeometry, nearest_means
from bisector.information.meter import InformationMeter


def rows_of(counts: list[int], dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of classes that differ in mean, width and direction, shuffled."""
    draw = torch.Generator().manual_seed(seed)
    parts, labels = [], []
    for c, n in enumerate(counts):
        shape = torch.randn(dim, dim, generator=draw, dtype=torch.float64) * (0.3 + 0.2 * c)
        centre = 3 * torch.randn(dim, generator=draw, dtype=torch.float64)
        parts.append(torch.randn(n, dim, generator=draw, dtype=torch.float64) @ shape + centre)
        labels += [c] * n
    order = torch.randperm(sum(counts), generator=draw)
    return torch.cat(parts)[order], torch.tensor(labels)[order]


def naive(x: Tensor, y: Tensor, classes: int, kappa: float = 16.0, ridge: float = 0.05) -> dict[int, tuple]:
    """Mean and covariance of each class, as the formulas say."""
    dim = x.shape[1]
    own = {c: x[y == c].numpy() for c in range(classes)}
    unbiased = {c: numpy.cov(r, rowvar=False).reshape(dim, dim) for c, r in own.items() if len(r) > 1}
    pooled = sum(len(own[c]) * s for c, s in unbiased.items()) / sum(len(own[c]) for c in unbiased)
    w = (1 - ridge) * pooled + ridge * numpy.trace(pooled) / dim * numpy.eye(dim)
    found = {}
    for c, r in own.items():
        if len(r):
            n = len(r)
            mixed = w if n == 1 or kappa == math.inf else (n * unbiased[c] + kappa * w) / (n + kappa)
            found[c] = (r.mean(0), mixed)
    return found


# Fewer rows than dimensions, as many, more; one row; none.
COUNTS = [3, 7, 200, 1, 0, 30]


@pytest.mark.parametrize("dim", [1, 7, 31])
@pytest.mark.parametrize("kappa", [0.5, 16.0, math.inf])
def test_densities_equal_scipys(dim: int, kappa: float) -> None:
    x, y = rows_of(COUNTS, dim)
    geometry = ClassGeometry.fit(x, y, len(COUNTS), kappa=kappa)
    found = geometry.log_density(x[:40])
    for c, (mean, covariance) in naive(x, y, len(COUNTS), kappa).items():
        expected = multivariate_normal(mean, covariance).logpdf(x[:40].numpy())
        numpy.testing.assert_allclose(found[:, c], expected, rtol=1e-10, atol=1e-10)
        numpy.testing.assert_allclose(geometry.covariance(c), covariance, rtol=1e-10, atol=1e-10)
        amount = numpy.linalg.slogdet(numpy.eye(dim) + covariance)[1] / 2 / math.log(2)
        assert float(geometry.amount[c]) == pytest.approx(amount, rel=1e-10)
    assert found[:, 4].isnan().all()


def test_evidence_has_the_tail_of_student_and_becomes_gaussian() -> None:
    x, y = rows_of([20, 30], 5)
    squared = ClassGeometry.fit(x, y).distances(x).square()
    torch.testing.assert_close(ClassGeometry.fit(x, y).evidence(x), -2.5 * (1 + squared / 1.0).log())
    torch.testing.assert_close(ClassGeometry.fit(x, y, dof=math.inf).evidence(x), -squared / 2)


def test_the_classes_asked_for_are_those_of_all() -> None:
    x, y = rows_of(COUNTS, 7)
    geometry = ClassGeometry.fit(x, y, len(COUNTS))
    classes = torch.randint(len(COUNTS), (len(x), 3), generator=torch.Generator().manual_seed(1))
    whole = geometry.distances(x).gather(1, classes)
    torch.testing.assert_close(geometry.distances(x, classes), whole, rtol=1e-12, atol=0, equal_nan=True)


@pytest.mark.parametrize("scale", ["raw", "unit"])
def test_any_split_of_the_rows_is_the_same_geometry(scale: str) -> None:
    x, y = rows_of(COUNTS, 7)
    whole = ClassGeometry.fit(x, y, len(COUNTS), scale=scale)
    meter = InformationMeter(len(COUNTS), 7, embeddings=scale, queue=5)
    for start in range(0, len(x), 11):
        meter.update(x[start : start + 11], y[start : start + 11])
    parts = [ClassGeometry.fit(x[i::2], y[i::2], len(COUNTS), scale=scale) for i in range(2)]
    for other in (ClassGeometry.from_meter(meter), parts[0].merge(parts[1])):
        torch.testing.assert_close(
            other.log_density(x), whole.log_density(x), rtol=1e-9, atol=1e-9, equal_nan=True
        )
        assert other.scale == scale


def test_a_geometry_is_of_its_moment_and_merging_changes_neither() -> None:
    x, y = rows_of([20, 30], 5)
    meter = InformationMeter(2, 5)
    meter.update(x[:30], y[:30])
    geometry = ClassGeometry.from_meter(meter)
    before = geometry.log_density(x)
    meter.update(x[30:], y[30:])
    geometry.merge(ClassGeometry.fit(x[30:], y[30:], 2))
    assert torch.equal(geometry.log_density(x), before)
    assert torch.equal(ClassGeometry.fit(x[:30], y[:30]).log_density(x), before)


def test_no_memory_for_factors_gives_the_same_numbers() -> None:
    x, y = rows_of(COUNTS, 7)
    lean, rich = (ClassGeometry.fit(x, y, len(COUNTS), memory_budget=budget) for budget in (0, None))
    assert torch.equal(lean.log_density(x).nan_to_num(), rich.log_density(x).nan_to_num())
    held = [[f for f in one._kept.values() if f.matrix is not None] for one in (lean, rich)]
    assert list(map(len, held)) == [0, 4]


def test_the_nearest_class_is_that_of_a_loop() -> None:
    x, y = rows_of(COUNTS, 7)
    shapes = naive(x, y, len(COUNTS), kappa=math.inf)
    present = sorted(shapes)
    means = numpy.stack([shapes[c][0] for c in present])
    inverse = numpy.linalg.inv(shapes[present[0]][1])
    noise = numpy.array([7 / COUNTS[c] for c in present])
    corrected = cdist(means, means, "mahalanobis", VI=inverse) ** 2 - noise[:, None] - noise
    numpy.fill_diagonal(corrected, numpy.inf)
    nearest = ClassGeometry.fit(x, y, len(COUNTS)).nearest()
    numpy.testing.assert_allclose(nearest.squared_distance[present], corrected.min(1), rtol=1e-9)
    assert nearest.neighbour[present].tolist() == [present[k] for k in corrected.argmin(1)]
    assert int(nearest.neighbour[4]) == -1


@pytest.mark.parametrize("budget", [None, 7500])
def test_the_nearest_of_moments_alone_is_that_of_the_geometry(budget: int | None) -> None:
    x, y = rows_of([*COUNTS, *[4] * 20], 7)
    meter = InformationMeter(26, 7, memory_budget=budget)
    meter.update(x, y)
    assert ("sketch" in meter.forms) == (budget is not None)
    found = nearest_means(meter.moments(), 26, 7)
    expected = ClassGeometry.from_meter(meter).nearest()
    torch.testing.assert_close(found.squared_distance, expected.squared_distance, equal_nan=True)
    assert torch.equal(found.neighbour, expected.neighbour)


def test_two_samples_of_one_class_are_at_no_distance_on_average() -> None:
    found = []
    for seed in range(200):
        draw = torch.Generator().manual_seed(seed)
        x = torch.randn(30, 4, generator=draw, dtype=torch.float64)
        far = torch.randn(4000, 4, generator=draw, dtype=torch.float64) + 50
        y = torch.tensor([0] * 20 + [1] * 10 + [2] * 4000)
        found.append(float(ClassGeometry.fit(torch.cat([x, far]), y).nearest().squared_distance[0]))
    mean, error = numpy.mean(found), numpy.std(found) / len(found) ** 0.5
    assert abs(mean) < 4 * error


def test_overlap_is_the_bhattacharyya_coefficient_by_integration() -> None:
    x, y = rows_of([40, 60, 50], 1, seed=3)
    geometry = ClassGeometry.fit(x, y)
    overlap = geometry.overlap(3)
    grid = torch.linspace(-60, 60, 400_001, dtype=torch.float64)[:, None]
    density = geometry.log_density(grid).exp()
    for i, j, coefficient in zip(*(part.tolist() for part in overlap), strict=True):
        integral = (density[:, i] * density[:, j]).sqrt().sum() * (120 / 400_000)
        assert coefficient == pytest.approx(float(integral), abs=1e-6)
    assert overlap.coefficient.tolist() == sorted(overlap.coefficient.tolist(), reverse=True)
    assert len(geometry.overlap(1).first) == 1


def test_a_file_gives_the_geometry_back(tmp_path: Path) -> None:
    x, y = rows_of(COUNTS, 7)
    geometry = ClassGeometry.fit(x, y, len(COUNTS), scale="unit", kappa=3.0, ridge=0.2, dof=math.inf)
    geometry.save(tmp_path / "geometry.safetensors")
    again = ClassGeometry.load(tmp_path / "geometry.safetensors")
    assert torch.equal(again.log_density(x).nan_to_num(), geometry.log_density(x).nan_to_num())
    assert (again.kappa, again.ridge, again.dof, again.scale) == (3.0, 0.2, math.inf, "unit")
    assert torch.equal(again.merge(geometry).counts, 2 * geometry.counts)
    content = (tmp_path / "geometry.safetensors").read_bytes()
    for damaged in (b"", content[:100], content[:-50], bytes(1000)):
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(DamagedFileError, match=r"path: got .*damaged; expected the safetensors"):
            ClassGeometry.load(tmp_path / "damaged")


def test_duplicates_and_constant_features_have_a_defined_result() -> None:
    x, y = rows_of([30, 40], 5)
    x[:, 2] = 7.0
    x[y == 1] = x[y == 1][0].clone()
    density = ClassGeometry.fit(x, y).log_density(x)
    assert density.isfinite().all()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda x, y: ClassGeometry.fit(x[:1], y[:1]), "embeddings: got no class with two rows"),
        (lambda x, y: ClassGeometry.fit(x[:0], y[:0]), "embeddings: got no row"),
        (
            lambda x, y: ClassGeometry.fit(torch.ones_like(x), y),
            "embeddings: got equal rows within every class",
        ),
        (lambda x, y: ClassGeometry.fit(x.index_fill(0, y.new_tensor([3]), math.nan), y), "in row 3"),
        (lambda x, y: ClassGeometry.fit(x, y, 1), "labels: got 1"),
        (lambda x, y: ClassGeometry.fit(x, y, kappa=0), "kappa: got 0"),
        (lambda x, y: ClassGeometry.fit(x, y, ridge=2), "ridge: got 2"),
        (lambda x, y: ClassGeometry.fit(x, y, dof=-1), "dof: got -1"),
        (lambda x, y: ClassGeometry.fit(x, y, memory_budget=-1), "memory_budget: got -1"),
        (lambda x, y: ClassGeometry(x), "meter: got Tensor"),  # type: ignore[arg-type]
        (lambda x, y: ClassGeometry.fit(x, y).distances(x[:, :2]), r"embeddings: got shape \(50, 2\)"),
        (lambda x, y: ClassGeometry.fit(x, y).distances(x, y), r"classes: got shape \(50,\)"),
        (lambda x, y: ClassGeometry.fit(x, y).distances(x, y[:, None] + 2), "classes: got"),
        (
            lambda x, y: ClassGeometry.fit(x, y).distances(x * math.inf),
            "embeddings: got NaN or infinity in row 0",
        ),
        (lambda x, y: ClassGeometry.fit(x, y).overlap(0), "k: got 0"),
        (lambda x, y: ClassGeometry.fit(x, y).merge(3), "other: got int"),  # type: ignore[arg-type]
        (lambda x, y: ClassGeometry.fit(x, y).merge(ClassGeometry.fit(x[:, :3], y)), "other.dim: got 3"),
    ],
)
def test_illegal_arguments_are_named(make, said: str) -> None:
    x, y = rows_of([20, 30], 5)
    with pytest.raises(ArgumentError, match=said):
        make(x, y)
