import pytest
import torch

from bisector.information.amount import information_amount
from bisector.information.class_information import UNSEEN, ClassInformation, measure_classes
from bisector.information.class_state import ClassState
from bisector.information.volume import effective_rank, padded
from bisector.statistics.moments import Moments
from bisector.statistics.shrinkage import SHRINKAGES


def rank_of(rows):
    covariance = torch.cov(rows.double().T, correction=0)
    return effective_rank(padded(torch.linalg.eigvalsh(covariance), rows.shape[1])).item()


def measured(moments, shrinkage, anchors, ranks=True):
    numbers = dict(measure_classes(moments, shrinkage, anchors, ranks=ranks))
    rows = torch.tensor([numbers.get(c, UNSEEN) for c in range(max(numbers) + 1)], dtype=torch.float64)
    return ClassInformation.of(rows, skipped=3)


def test_a_class_is_measured_by_its_parts():
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    anchor = x.mean(0) + torch.tensor([3.0, 0.0, 4.0])
    found = measured([(1, Moments.of_rows(x), "rows")], "ledoit-peche+floor", {1: anchor})
    assert found.amount[1] == pytest.approx(information_amount(x, shrinkage="ledoit-peche+floor").item())
    assert found.shrinkage == (None, "quadratic-inverse+floor")
    assert found.form == (None, "rows")
    assert found.effective_rank[1] == pytest.approx(rank_of(x))
    assert found.drift[1] == pytest.approx(5)
    assert found.count.tolist() == [0, 9]
    assert found.skipped == 3
    unseen = (found.amount, found.effective_rank, found.drift, found.error_bound, found.error_estimate)
    assert all(column[0].isnan() for column in unseen)


def test_below_two_instances_only_count_and_drift_are_known():
    one, forgotten = ClassState(2), ClassState(2)
    one.append(torch.ones(1, 2))
    forgotten.append(torch.ones(3, 2))
    for state in (one, forgotten.scaled(0.5)):
        found = measured([(0, state.current(), "rows")], "none", {0: torch.zeros(2)})
        assert found.amount.isnan()
        assert found.effective_rank.isnan()
        assert found.shrinkage == (None,)
        assert found.drift.item() == pytest.approx(2**0.5)
        assert found.count.item() == state.count


@pytest.mark.parametrize("shrinkage", SHRINKAGES)
@pytest.mark.parametrize("ranks", [True, False])
def test_many_classes_at_once_are_each_alone(shrinkage, ranks):
    # Sizes that share a call and sizes that do not, both sides of the dimension, and a spectrum that no
    # Cholesky takes.
    generator = torch.Generator().manual_seed(1)
    sizes = (2, 3, 15, 16, 17, 20, 21, 300)
    rows = [torch.randn(n, 20, generator=generator, dtype=torch.float64) for n in sizes]
    rows.append(rows[2] * 1e9)
    classes = [(c, Moments.of_rows(x), "rows") for c, x in enumerate(rows)]
    found = measured(iter(classes), shrinkage, {}, ranks)
    assert (found.error_bound == 0).all()
    for c, x in enumerate(rows):
        assert found.amount[c] == pytest.approx(information_amount(x, shrinkage=shrinkage).item(), rel=1e-9)
        if ranks:
            assert found.effective_rank[c] == pytest.approx(rank_of(x), rel=1e-9)
