import pytest
import torch

from bisector.information.amount import information_amount
from bisector.information.effective_rank import effective_rank
from bisector.information.reading import ClassInformation, Reading
from bisector.statistics.moments import Moments


def test_a_reading_is_its_parts():
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moments = Moments.of_rows(x)
    reading = Reading.of(moments, "ledoit-peche", anchor=x.mean(0) + torch.tensor([3.0, 0.0, 4.0]))
    assert reading.amount == pytest.approx(information_amount(x, shrinkage="ledoit-peche").item())
    assert reading.shrinkage == "quadratic-inverse"
    assert reading.effective_rank == pytest.approx(effective_rank(moments.eigenvalues).item())
    assert reading.drift == pytest.approx(5)
    assert reading.count == 9


def test_below_two_instances_only_count_and_drift_are_known():
    x = torch.ones(1, 2)
    for moments in (Moments.of_rows(x), Moments.of_rows(x.repeat(3, 1)).scaled(0.5)):
        reading = Reading.of(moments, "none", anchor=torch.zeros(2))
        assert torch.tensor([reading.amount, reading.effective_rank]).isnan().all()
        assert reading.shrinkage is None
        assert reading.drift == pytest.approx(2**0.5)
        assert reading.count == moments.count


def test_side_by_side():
    information = ClassInformation.of([Reading(), Reading(1.0, 5.0, "oas", 2.0, 0.5)], skipped=3)
    assert information.amount[1] == 1
    assert information.count.tolist() == [0, 5]
    assert information.shrinkage == (None, "oas")
    assert information.effective_rank[1] == 2
    assert information.drift[1] == 0.5
    assert information.skipped == 3
    unknown = torch.stack([information.amount, information.effective_rank, information.drift])[:, 0]
    assert unknown.isnan().all()
