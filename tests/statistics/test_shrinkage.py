import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nonlinshrink import shrink_cov
from precise.nonlinear_shrinkage import nonlinear_shrinkage_spectrum
from sklearn import covariance as sklearn_covariance

from bisector.errors import ArgumentError
from bisector.information.volume import padded
from bisector.statistics.moments import Moments
from bisector.statistics.shrinkage import SHRINKAGES, linear_intensity, shrink

DIM = 64
TRUE = torch.logspace(np.log10(0.02), np.log10(20), DIM, dtype=torch.float64)
DRAWS = 20


def draw(count, seed, true=TRUE):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, len(true), generator=generator, dtype=torch.float64) * true.sqrt()


def eigenvalues_of(moments):
    return padded(torch.linalg.eigvalsh(moments.scatter.gram() / moments.count), moments.dim)


def shrunk(x, method):
    moments = Moments.of_rows(x)
    return shrink(
        eigenvalues_of(moments),
        moments.count,
        method,
        fourth_moment=moments.fourth,
        resolution=moments.resolution,
    )[0]


def bits(eigenvalues):
    return 0.5 * torch.log2(1 + eigenvalues).sum().item()


def amounts(count, method, true=TRUE, draws=DRAWS):
    return np.array([bits(shrunk(draw(count, seed, true), method)) for seed in range(draws)])


def assert_within_sampling_error(values, expected, digits=0.05):
    # Two means of 20 draws, ours and the reference, each with its error; four of them.
    error = 4 * values.std(ddof=1) * (2 / DRAWS) ** 0.5 + digits
    assert abs(values.mean() - expected) < error, (values.mean(), expected, error)


class TestOracles:
    mild = torch.linspace(1, 8, 24)

    @pytest.mark.parametrize("count", [14, 18, 35, 60, 400])
    def test_ledoit_peche_is_nonlinshrinks(self, count):
        x = draw(count, 0, self.mild)
        oracle = np.linalg.eigvalsh(shrink_cov(x.numpy()))
        np.testing.assert_allclose(np.sort(shrunk(x, "ledoit-peche")), oracle, rtol=1e-8)

    @pytest.mark.parametrize("count", [14, 18, 35, 60, 400])
    def test_ledoit_peche_is_precises(self, count):
        x = draw(count, 1, self.mild)
        unbiased = eigenvalues_of(Moments.of_rows(x)) * (count / (count - 1))
        oracle = nonlinear_shrinkage_spectrum(unbiased.numpy(), count - 1)
        np.testing.assert_allclose(shrunk(x, "ledoit-peche"), oracle, rtol=1e-8)

    @pytest.mark.parametrize("count", [2, 5, 24, 25, 60, 400])
    @pytest.mark.parametrize(
        ("method", "oracle"),
        [("ledoit-wolf", sklearn_covariance.ledoit_wolf), ("oas", sklearn_covariance.oas)],
    )
    def test_linear_shrinkages_are_scikit_learns(self, method, oracle, count):
        x = draw(count, 2, self.mild)
        matrix, rho = oracle(x.numpy())
        # The oracle's null eigenvalues are rounding of its largest, 50.
        np.testing.assert_allclose(shrunk(x, method), np.linalg.eigvalsh(matrix), rtol=1e-8, atol=1e-13)
        moments = Moments.of_rows(x)
        ours = linear_intensity(
            method,
            trace=moments.scatter.trace / count,
            squared_norm=(moments.scatter.gram() / count).square().sum().item(),
            dim=24,
            count=moments.count,
            fourth_moment=moments.fourth,
        )
        assert ours == pytest.approx(rho, rel=1e-8)


class TestReferenceValues:
    @pytest.mark.parametrize(
        ("method", "expected"),
        [
            ("none", {20: 26.5, 80: 37.0, 500: 40.4, 5000: 40.9}),
            ("floor", {20: 42.2, 80: 37.1, 500: 45.2, 5000: 50.9}),
            ("ledoit-peche", {20: 50.1, 80: 44.2, 500: 41.5, 5000: 41.0}),
            ("ledoit-wolf", {20: 53.8, 80: 49.4, 500: 43.2, 5000: 41.2}),
            ("oas", {20: 54.9, 80: 49.5, 500: 43.2, 5000: 41.2}),
        ],
    )
    def test_known_spectrum(self, method, expected):
        assert bits(TRUE) == pytest.approx(41.0, abs=0.005)
        for count, value in expected.items():
            assert_within_sampling_error(amounts(count, method), value)

    def test_quadratic_inverse_is_steady_where_rows_equal_dimensions(self):
        values = amounts(DIM + 1, "quadratic-inverse")
        assert_within_sampling_error(values, 44.1)
        assert values.std() < 1.2

    def test_quadratic_inverse_is_finite_and_biased_with_five_rows(self):
        assert_within_sampling_error(amounts(5, "quadratic-inverse"), 61, digits=0.5)

    def test_ledoit_peche_does_not_collapse_where_rows_equal_dimensions(self):
        # nonlinshrink gives 25 to 32 bits with a deviation of 10 to 15 here: cancellation.
        values = amounts(DIM + 1, "ledoit-peche", draws=40)
        assert values.min() > 41
        assert values.max() < 49
        assert values.std() < 1.2


class TestFaultsOfTheFloor:
    """Unit-norm features in 128 dimensions, whose true volume is 0.72 bits."""

    def floored(self, count):
        x = torch.nn.functional.normalize(draw(count, 0, torch.ones(128)), dim=1)
        return bits(shrunk(x, "floor"))

    def test_the_amount_is_a_function_of_the_class_size(self):
        assert bits(torch.full((128,), 1 / 128)) == pytest.approx(0.72, abs=0.005)
        for count, value in {5: 264, 20: 111, 50: 28, 500: 20, 5000: 49}.items():
            assert self.floored(count) == pytest.approx(value, abs=0.5)
        assert self.floored(128) == pytest.approx(0.71, abs=0.01)

    def test_it_lacks_the_noise_variance(self):
        # Shrinkage has no unit: a hundredfold smaller covariance shrinks to a hundredth. Not the floor.
        x = draw(40, 0)
        for method in set(SHRINKAGES) - {"floor", "ledoit-peche+floor"}:
            torch.testing.assert_close(shrunk(x / 10, method) * 100, shrunk(x, method))
        assert (shrunk(x / 10, "floor") * 100 - shrunk(x, "floor")).abs().max() > 1

    def test_it_does_not_converge(self):
        # The true smallest variance is 0.02; the floor rises towards 1.
        smallest = [shrunk(draw(count, 0), "floor")[0].item() for count in (500, 5000, 50_000)]
        assert smallest == sorted(smallest)
        assert smallest[-1] > 0.9

    def test_the_other_reading_floors_what_was_shrunk(self):
        x = draw(500, 0)
        expected = shrunk(x, "ledoit-peche").clamp(min=(1 - (DIM / 500) ** 0.5) ** 2)
        torch.testing.assert_close(shrunk(x, "ledoit-peche+floor"), expected)


class TestSupport:
    @pytest.mark.parametrize("method", ["ledoit-peche", "quadratic-inverse"])
    @pytest.mark.parametrize("count", [40, 200, 2000])
    def test_dead_features_change_nothing_and_stay_dead(self, method, count):
        x = draw(count, 0, TRUE[:20])
        padded = torch.cat([x, torch.full((count, 12), 7.0)], dim=1)
        result = shrunk(padded, method)
        torch.testing.assert_close(result[12:], shrunk(x, method), rtol=1e-8, atol=0)
        assert (result[:12] == 0).all()

    @pytest.mark.parametrize("method", ["ledoit-peche", "quadratic-inverse"])
    def test_duplicated_features_in_single_precision_are_one_feature(self, method):
        x = draw(300, 0, TRUE[:20]).float()
        mixed = x @ torch.randn(20, 64, generator=torch.Generator().manual_seed(9))
        result = shrunk(mixed, method)
        assert (result[:44] <= Moments.of_rows(mixed).resolution * result.max()).all()
        exact = shrunk(mixed.double(), method)
        torch.testing.assert_close(result[44:], exact[44:], rtol=1e-5, atol=0)
        assert result[44:].min() > 1e-3

    def test_directions_that_too_few_rows_hide_are_estimated(self):
        for method in ("ledoit-peche", "quadratic-inverse"):
            result = shrunk(draw(20, 0), method)
            assert (result > 0).all()
            assert len(result[: DIM - 19].unique()) == 1

    @pytest.mark.parametrize("method", [m for m in SHRINKAGES if "floor" not in m])
    def test_no_variance_at_all_stays_none(self, method):
        result, _ = shrink(torch.zeros(5), 20, method, fourth_moment=0.0)
        assert result.tolist() == [0.0] * 5


class TestFallback:
    def test_few_rows_go_to_quadratic_inverse_and_say_so(self):
        eigenvalues = eigenvalues_of(Moments.of_rows(draw(12, 0)))
        result, used = shrink(eigenvalues, 12, "ledoit-peche")
        assert used == "quadratic-inverse"
        torch.testing.assert_close(result, shrink(eigenvalues, 12, "quadratic-inverse")[0])
        assert shrink(eigenvalues, 12, "ledoit-peche+floor")[1] == "quadratic-inverse+floor"


@st.composite
def spectra(draw):
    values = draw(st.lists(st.floats(0, 1e3), min_size=1, max_size=30))
    unit = draw(st.sampled_from([1e-200, 1.0, 1e150]))
    count = draw(st.floats(2, 400))
    return torch.tensor(sorted(values), dtype=torch.float64) * unit, count


@given(spectra(), st.sampled_from([m for m in SHRINKAGES if m != "ledoit-wolf"]))
def test_any_spectrum_and_any_partly_forgotten_count_shrink_to_something_finite(case, method):
    # A spectrum of full rank with a count below it is what forgetting leaves behind.
    eigenvalues, count = case
    result, _ = shrink(eigenvalues, count, method)
    assert result.shape == eigenvalues.shape
    assert result.isfinite().all()
    assert (result >= 0).all()


def test_complaints():
    eigenvalues = torch.tensor([1.0, 2.0])
    with pytest.raises(ArgumentError, match="did you mean 'ledoit-peche'"):
        shrink(eigenvalues, 9, "ledoit-peché")
    with pytest.raises(ArgumentError, match=r"count: got 1\.5"):
        shrink(eigenvalues, 1.5, "none")
    for wrong in (eigenvalues.flip(0), eigenvalues.unsqueeze(0), eigenvalues[:0], eigenvalues * torch.nan):
        with pytest.raises(ArgumentError, match="eigenvalues: got"):
            shrink(wrong, 9, "none")
    with pytest.raises(ArgumentError, match="fourth_moment: got None"):
        shrink(eigenvalues, 9, "ledoit-wolf")
    with pytest.raises(ArgumentError, match="shrinkage: got 'floor'"):
        linear_intensity("floor", trace=1.0, squared_norm=1.0, dim=2, count=9)
