import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bisector.errors import ArgumentError
from bisector.guides.amount import normalized_amount
from bisector.guides.pairwise import pairwise_guide

vectors = st.lists(st.just(0.0) | st.floats(1e-6, 500), min_size=1, max_size=12)


@given(vectors, st.sampled_from(["sum", "mean"]))
def test_it_is_the_formula(amounts: list[float], normalize: str) -> None:
    result = normalized_amount(torch.tensor(amounts, dtype=torch.float64), normalize)
    unit = sum(amounts) / (1 if normalize == "sum" else len(amounts))
    if unit == 0:
        powers = [1.0] * len(amounts)
    else:
        powers = [math.exp(amount / (unit * math.sqrt(len(amounts)))) for amount in amounts]
    expected = [len(amounts) * power / sum(powers) + 1 for power in powers]
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)
    assert float(result.mean()) == pytest.approx(2)


@pytest.mark.parametrize("normalize", ["sum", "mean"])
def test_guards(normalize: str) -> None:
    def of(*amounts: float) -> list[float]:
        return normalized_amount(torch.tensor(amounts), normalize).tolist()

    nan = float("nan")
    assert of(0, 0, 0) == of(7, 7, 7) == of(nan, nan, nan) == of(nan, 5, nan) == [2, 2, 2]
    assert of(10, 30, nan) == of(10, 30, 20)
    assert of(0, 10, 20) == sorted(of(0, 10, 20))
    assert normalized_amount(torch.tensor([1, 2, 3])).dtype == torch.float64


# C; the largest margin in radians for amounts within 50% of their mean, by "sum" and by "mean".
LARGEST = [(20, 0.0018, 0.036), (100, 0.00016, 0.016), (1203, 0.0000038, 0.0046)]


@pytest.mark.parametrize(("C", "by_sum", "by_mean"), LARGEST)
def test_the_sum_makes_the_margin_vanish_and_the_mean_keeps_it(C: int, by_sum: float, by_mean: float) -> None:
    amounts = torch.linspace(50, 150, C)
    for normalize, expected in (("sum", by_sum), ("mean", by_mean)):
        largest = float(pairwise_guide(normalized_amount(amounts, normalize)).largest())
        assert float(f"{largest:.2g}") == expected


def test_a_class_that_holds_everything_reaches_2_26_radians_and_is_clipped() -> None:
    amounts = torch.zeros(1203)
    amounts[7] = 100.0
    values = normalized_amount(amounts, "mean")
    assert round(float(pairwise_guide(values, clip=math.pi).largest()), 2) == 2.26
    assert float(pairwise_guide(values).largest()) == math.pi / 2


@pytest.mark.parametrize(
    ("amounts", "normalize", "words"),
    [
        (torch.tensor([1.0, -2.0]), "mean", ["amounts", "-2.0 for class 1", "at least 0"]),
        (torch.tensor([1.0, 2.0, torch.inf]), "mean", ["amounts", "inf for class 2", "finite"]),
        (torch.zeros(2, 2), "mean", ["amounts", "(2, 2)", "(C,)"]),
        (torch.zeros(0), "mean", ["amounts", "(0,)", "(C,)"]),
        (torch.ones(2), "maen", ["normalize", "'maen'", "did you mean 'mean'", "sum"]),
    ],
)
def test_bad_arguments_are_named(amounts: torch.Tensor, normalize: str, words: list[str]) -> None:
    with pytest.raises(ArgumentError) as raised:
        normalized_amount(amounts, normalize)
    assert all(word in str(raised.value) for word in words), str(raised.value)
