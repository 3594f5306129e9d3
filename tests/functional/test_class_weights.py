import numpy
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

import bisector as bs
from bisector.errors import ArgumentError

COUNTS = torch.tensor([400, 90, 9, 1])


def test_auto_is_what_scikit_learn_calls_balanced() -> None:
    labels = numpy.repeat(numpy.arange(4), COUNTS.numpy())
    expected = compute_class_weight("balanced", classes=numpy.arange(4), y=labels)
    numpy.testing.assert_allclose(bs.class_weights(COUNTS).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 1 - 1e-9])
def test_effective_is_the_published_formula_at_mean_one(beta: float) -> None:
    found = bs.class_weights(COUNTS, "effective", beta=beta)
    published = [(1 - beta) / (1 - beta**n) for n in COUNTS.tolist()]
    for weight, other in zip(found.tolist(), published, strict=True):
        assert weight / found[0].item() == pytest.approx(other / published[0], rel=1e-6)
    assert float((COUNTS * found).sum() / COUNTS.sum()) == pytest.approx(1, rel=1e-12)


def test_a_class_without_rows_counts_as_one_with_one() -> None:
    found = bs.class_weights(torch.tensor([3, 0, 1]))
    assert found.tolist() == pytest.approx([2 / 3, 2, 2])


@pytest.mark.parametrize("how", ["auto", "effective"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_weighted_mean_is_that_of_torch(how: str, smoothing: float) -> None:
    weight = bs.class_weights(COUNTS, how)  # type: ignore[arg-type]
    head = bs.LinearSoftmax(5, 4, weight=weight, label_smoothing=smoothing, dtype=torch.float64)
    x, y = torch.randn(64, 5, dtype=torch.float64), torch.arange(64) % 4
    for reduction in ("mean", "sum", "none"):
        head.reduction = reduction
        expected = F.cross_entropy(
            F.linear(x, head.weight, head.bias), y, weight, reduction=reduction, label_smoothing=smoothing
        )
        torch.testing.assert_close(head(x, y), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("counts", "how", "beta", "told"),
    [
        (COUNTS, "automatic", 0.9, "how: got 'automatic'; did you mean 'auto'"),
        (COUNTS, "effective", 1.0, "beta: got 1.0; expected a number in"),
        (COUNTS, "effective", -0.1, "beta: got -0.1"),
        (torch.zeros(3), "auto", 0.9, "counts: got no rows"),
        (torch.tensor([1.0, -1.0]), "auto", 0.9, "counts: got -1.0 for class 1"),
        (torch.tensor([1.0, float("nan")]), "auto", 0.9, "counts: got nan for class 1"),
        (torch.ones(2, 2), "auto", 0.9, "counts: got torch.Size"),
    ],
)
def test_what_is_not_legal_is_told(counts: torch.Tensor, how: str, beta: float, told: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        bs.class_weights(counts, how, beta=beta)  # type: ignore[arg-type]
    assert told in str(caught.value)
