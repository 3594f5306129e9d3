import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import covariance as sklearn_covariance

from bisector.errors import ArgumentError
from bisector.information.amount import class_amounts, information_amount, information_amounts
from bisector.statistics.correlation import partial_correlation, pearson
from bisector.statistics.moments import Moments
from bisector.statistics.shrinkage import SHRINKAGES, shrink


def rows(count, dim, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.linspace(0.2, 2, dim, dtype=torch.float64)
    return torch.randn(count, dim, generator=generator, dtype=torch.float64) * spread * scale


def bits(covariance):
    # By the determinant itself, which is right for these small ones.
    return 0.5 * np.log2(np.linalg.det(np.eye(len(covariance)) + covariance))


@given(st.integers(2, 30), st.integers(1, 8), st.integers(0, 999), st.sampled_from([1e-3, 1.0, 10.0]))
def test_no_and_linear_shrinkage_are_the_determinant(count, dim, seed, scale):
    x = rows(count, dim, seed, scale)
    sample = np.atleast_2d(np.cov(x.numpy(), rowvar=False, bias=True))
    for shrinkage, covariance in {
        "none": sample,
        "ledoit-wolf": sklearn_covariance.ledoit_wolf(x.numpy())[0],
        "oas": sklearn_covariance.oas(x.numpy())[0],
    }.items():
        amount = information_amount(x, shrinkage=shrinkage).item()
        assert amount == pytest.approx(bits(covariance), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("shrinkage", SHRINKAGES)
@pytest.mark.parametrize("count", [2, 6, 13, 14, 40])
def test_every_shrinkage_is_its_eigenvalues(shrinkage, count):
    by_rows, summed = Moments.of_rows(rows(count, 12)), Moments.empty(12)
    summed.merge_(by_rows)
    sample = np.linalg.eigvalsh(np.cov(rows(count, 12).numpy(), rowvar=False, bias=True)).clip(0)
    eigenvalues, used = shrink(torch.tensor(sample), count, shrinkage, fourth_moment=by_rows.fourth)
    expected = 0.5 * np.log2(1 + eigenvalues.numpy()).sum()
    classes = [("rows", by_rows), ("scatter", summed)]
    for _, amount in class_amounts(classes, shrinkage, ranks=False):
        assert amount.bits == pytest.approx(expected, rel=1e-10)
        assert amount.shrinkage == used
    assert information_amount(rows(count, 12), shrinkage=shrinkage).item() == pytest.approx(
        expected, rel=1e-10
    )


def test_the_result_is_a_double_scalar_whatever_comes_in():
    x = rows(20, 4)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        amount = information_amount(x.to(dtype).requires_grad_())
        assert amount.shape == ()
        assert amount.dtype == torch.float64
        assert not amount.requires_grad
        torch.testing.assert_close(amount, information_amount(x.to(dtype).double()))


@pytest.mark.parametrize("count", [0, 1])
def test_below_two_instances_there_is_no_amount(count):
    assert information_amount(rows(count, 4)).isnan()


@pytest.mark.parametrize("shrinkage", SHRINKAGES)
def test_a_shift_of_all_embeddings_changes_nothing(shrinkage):
    x = rows(30, 6)
    expected = information_amount(x, shrinkage=shrinkage)
    torch.testing.assert_close(information_amount(x + 1e4, shrinkage=shrinkage), expected, rtol=1e-9, atol=0)


def test_unit_scale_takes_the_length_of_every_row_out():
    x = rows(30, 6)
    lengths = torch.rand(30, 1, generator=torch.Generator().manual_seed(1)) + 0.1
    expected = information_amount(x, embeddings="unit")
    torch.testing.assert_close(information_amount(x * lengths, embeddings="unit"), expected)
    unit = x / x.norm(dim=1, keepdim=True) * 6**0.5
    torch.testing.assert_close(expected, information_amount(unit))
    assert information_amount(x * lengths) < information_amount(x) - 1


@pytest.mark.parametrize("shrinkage", SHRINKAGES)
@pytest.mark.parametrize(("count", "dim"), [(40, 4096), (40, 1024), (1100, 1024)])
def test_large_embeddings_of_high_dimension_do_not_overflow(shrinkage, count, dim):
    x = torch.randn(count, dim, generator=torch.Generator().manual_seed(0))
    amount = information_amount(1e9 * x, shrinkage=shrinkage)
    assert amount.isfinite()
    # Every direction with variance is worth log2(1e9) bits more than at length 1, or there about.
    assert amount > 0.5 * min(count - 1, dim) * np.log2(1e9)


def test_variances_so_large_that_one_drowns_in_their_rounding():
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1e15
    doubled = torch.cat([x, x], dim=1)
    for shrinkage in SHRINKAGES:
        assert information_amount(doubled, shrinkage=shrinkage).isfinite()


class TestClasses:
    labels = torch.tensor([3, 0, 0, 3, 3, 1, 0, 3] * 5)
    x = rows(40, 5)

    @pytest.mark.parametrize("shrinkage", SHRINKAGES)
    def test_each_class_is_measured_on_its_own(self, shrinkage):
        amounts = information_amounts(self.x, self.labels, 5, shrinkage=shrinkage)
        assert amounts.shape == (5,)
        assert amounts.isnan().tolist() == [False, False, True, False, True]
        for c in (0, 1, 3):
            alone = information_amount(self.x[self.labels == c], shrinkage=shrinkage)
            torch.testing.assert_close(amounts[c], alone)

    def test_equal_count_measures_all_on_as_many_and_leaves_out_the_smaller(self):
        def draw():
            generator = torch.Generator().manual_seed(4)
            return information_amounts(self.x, self.labels, 5, equal_count=6, generator=generator)

        assert draw().isnan().tolist() == [False, True, True, False, True]
        torch.testing.assert_close(draw(), draw(), equal_nan=True)
        everything = information_amounts(self.x, self.labels, 5, equal_count=5)
        torch.testing.assert_close(everything[1], information_amount(self.x[self.labels == 1]))

    def test_equal_count_draws_without_replacement(self):
        x = torch.eye(8)
        expected = information_amount(x[:4])
        for seed in range(20):
            drawn = information_amount(x, equal_count=4, generator=torch.Generator().manual_seed(seed))
            torch.testing.assert_close(drawn, expected)

    def test_the_count_leaks_into_every_estimator_and_equal_count_takes_it_out(self):
        # 200 classes with one shape of spectrum, whose volume and size are independent of each other.
        generator = torch.Generator().manual_seed(1)
        classes = 200
        counts = (torch.rand(classes, generator=generator) * np.log(50) + np.log(20)).exp().round().long()
        scale = (0.3 * torch.randn(classes, generator=generator, dtype=torch.float64)).exp()
        variances = scale.unsqueeze(1) * torch.logspace(-1.5, 1.5, 32, dtype=torch.float64)
        labels = torch.arange(classes).repeat_interleave(counts)
        x = torch.randn(len(labels), 32, generator=generator, dtype=torch.float64) * variances[labels].sqrt()
        truth, size = 0.5 * torch.log2(1 + variances).sum(dim=1), counts.double().log()

        def leak(**options):
            amounts = information_amounts(x, labels, classes, generator=generator, **options)
            return pearson(amounts, size).item(), amounts

        noise = 3 / classes**0.5
        assert abs(pearson(truth, size).item()) < noise
        for shrinkage, expected in {
            "none": 0.37,
            "floor": 0.48,
            "ledoit-peche": -0.23,
            "quadratic-inverse": -0.23,
        }.items():
            leaked, amounts = leak(shrinkage=shrinkage)
            assert leaked == pytest.approx(expected, abs=noise)
            assert abs(leaked) > 2 / classes**0.5
            assert partial_correlation(amounts, truth, size) > 0.97
            assert abs(leak(shrinkage=shrinkage, equal_count=20)[0]) < 2 / classes**0.5
        # The linear ones shrink a small class furthest towards a sphere.
        assert leak(shrinkage="ledoit-wolf")[0] < -0.3
        assert leak(shrinkage="oas")[0] < -0.3


def test_mistakes_are_named():
    x = rows(5, 3)
    with pytest.raises(ArgumentError, match="did you mean 'quadratic-inverse'"):
        information_amount(x, shrinkage="quadratic_inverse")
    with pytest.raises(ArgumentError, match="embeddings: got 'unti'; did you mean 'unit'"):
        information_amount(x, embeddings="unti")
    with pytest.raises(ArgumentError, match="equal_count: got 1"):
        information_amount(x, equal_count=1)
    for wrong in (x[0], x[0, 0]):
        with pytest.raises(ArgumentError, match="x: got shape"):
            information_amount(wrong)
    with pytest.raises(ArgumentError, match="x: got NaN or infinity in row 0"):
        information_amount(x / 0)
    with pytest.raises(ArgumentError, match="got 3 at position 1"):
        information_amounts(x, torch.tensor([0, 3, 0, 0, 0]), 3)
    with pytest.raises(ArgumentError, match="num_classes: got 0"):
        information_amounts(x, torch.zeros(5).long(), 0)
