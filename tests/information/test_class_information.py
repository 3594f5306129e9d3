import pytest
import torch

from bisector.information.amount import information_amount
from bisector.information.class_information import (
    ClassInformation,
    OneClass,
    as_numbers,
    measure_classes,
)
from bisector.information.class_state import ClassState
from bisector.information.volume import effective_rank, padded
from bisector.statistics.moments import Moments
from bisector.statistics.shrinkage import SHRINKAGES


def rank_of(rows):
    covariance = torch.cov(rows.double().T, correction=0)
    return effective_rank(padded(torch.linalg.eigvalsh(covariance), rows.shape[1])).item()


def test_a_class_is_measured_by_its_parts():
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    anchor = x.mean(0) + torch.tensor([3.0, 0.0, 4.0])
    found = dict(measure_classes([(3, Moments.of_rows(x), "rows")], "ledoit-peche", {3: anchor}))[3]
    assert found.amount == pytest.approx(information_amount(x, shrinkage="ledoit-peche").item())
    assert found.shrinkage == "quadratic-inverse"
    assert found.effective_rank == pytest.approx(rank_of(x))
    assert found.drift == pytest.approx(5)
    assert found.count == 9


def test_below_two_instances_only_count_and_drift_are_known():
    one, forgotten = ClassState(2), ClassState(2)
    one.append(torch.ones(1, 2))
    forgotten.append(torch.ones(3, 2))
    for state in (one, forgotten.scaled(0.5)):
        anchors = {3: torch.zeros(2)}
        found = dict(measure_classes([(3, state.current(), "rows")], "none", anchors))[3]
        assert torch.tensor([found.amount, found.effective_rank]).isnan().all()
        assert found.shrinkage is None
        assert found.drift == pytest.approx(2**0.5)
        assert found.count == state.count


@pytest.mark.parametrize("shrinkage", [None, *SHRINKAGES, "quadratic-inverse+floor"])
@pytest.mark.parametrize("form", [None, "rows", "scatter", "sketch"])
def test_numbers_hold_all_that_is_known(shrinkage, form):
    known = OneClass(1.0, 5.0, 2.0, 0.5, 0.25, 0.125, shrinkage, form)
    found = ClassInformation.of(as_numbers([OneClass(), known]), skipped=3)
    assert found.skipped == 3
    assert found.count.tolist() == [0, 5]
    assert found.shrinkage == (None, shrinkage)
    assert found.form == (None, form)
    names = ("amount", "effective_rank", "drift", "error_bound", "error_estimate")
    unknown, values = torch.stack([getattr(found, name) for name in names], dim=1)
    assert unknown.isnan().all()
    assert values.tolist() == [1, 2, 0.5, 0.25, 0.125]
    assert torch.equal(found.numbers()[1], as_numbers([known])[0])


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
    found = dict(measure_classes(iter(classes), shrinkage, {}, ranks=ranks))
    assert sorted(found) == list(range(len(rows)))
    for c, x in enumerate(rows):
        assert found[c].amount == pytest.approx(information_amount(x, shrinkage=shrinkage).item(), rel=1e-9)
        assert found[c].error_bound == 0
        if ranks:
            assert found[c].effective_rank == pytest.approx(rank_of(x), rel=1e-9)
