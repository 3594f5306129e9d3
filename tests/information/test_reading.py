import pytest
import torch

from bisector.information.amount import information_amount
from bisector.information.effective_rank import effective_rank
from bisector.information.reading import ClassInformation, Reading, read_classes
from bisector.statistics.moments import Moments
from bisector.statistics.shrinkage import SHRINKAGES


def read(moments, shrinkage, anchor):
    return dict(read_classes([(3, moments, "rows")], shrinkage, {3: anchor}))[3]


def test_a_reading_is_its_parts():
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moments = Moments.of_rows(x)
    reading = read(moments, "ledoit-peche", anchor=x.mean(0) + torch.tensor([3.0, 0.0, 4.0]))
    assert reading.amount == pytest.approx(information_amount(x, shrinkage="ledoit-peche").item())
    assert reading.shrinkage == "quadratic-inverse"
    assert reading.effective_rank == pytest.approx(effective_rank(moments.eigenvalues).item())
    assert reading.drift == pytest.approx(5)
    assert reading.count == 9


def test_below_two_instances_only_count_and_drift_are_known():
    x = torch.ones(1, 2)
    for moments in (Moments.of_rows(x), Moments.of_rows(x.repeat(3, 1)).scaled(0.5)):
        reading = read(moments, "none", anchor=torch.zeros(2))
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


@pytest.mark.parametrize("shrinkage", SHRINKAGES)
@pytest.mark.parametrize("ranks", [True, False])
def test_many_classes_at_once_are_each_alone(shrinkage, ranks):
    # Sizes that share a call and sizes that do not, both sides of the dimension, and a spectrum that no
    # Cholesky takes.
    generator = torch.Generator().manual_seed(1)
    rows = [
        torch.randn(n, 20, generator=generator, dtype=torch.float64) for n in (2, 3, 15, 16, 17, 20, 21, 300)
    ]
    rows.append(rows[2] * 1e9)
    classes = [(c, Moments.of_rows(x), "rows") for c, x in enumerate(rows)]
    found = dict(read_classes(iter(classes), shrinkage, ranks=ranks))
    assert sorted(found) == list(range(len(rows)))
    for c, x in enumerate(rows):
        assert found[c].amount == pytest.approx(information_amount(x, shrinkage=shrinkage).item(), rel=1e-9)
        assert found[c].error_bound == 0
        if ranks:
            expected = effective_rank(Moments.of_rows(x).eigenvalues).item()
            assert found[c].effective_rank == pytest.approx(expected, rel=1e-9)
