import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bisector.errors import ArgumentError
from bisector.guides.pairwise import pairwise_guide

VALUES = [1.0, 4.0, 2.0, 2.5]


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=10), st.floats(0, 2))
def test_it_is_the_formula_up_to_the_clip(values: list[float], gain: float) -> None:
    matrix = pairwise_guide(torch.tensor(values, dtype=torch.float64), gain=gain).matrix()
    g = [min(gain / math.pi * math.log(v / min(values)), math.pi / 2) for v in values]
    expected = torch.tensor([[max(0.0, a - b) for b in g] for a in g], dtype=torch.float64)
    torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-12)


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=10), st.floats(0, math.pi))
def test_max_margin_is_the_largest_margin_whatever_the_spread(values: list[float], largest: float) -> None:
    guide = pairwise_guide(torch.tensor(values, dtype=torch.float64), max_margin=largest)
    differ = torch.tensor(values, dtype=torch.float64).log().unique().numel() > 1
    assert float(guide.largest()) == pytest.approx(largest if differ else 0, abs=1e-12)
    assert torch.equal(guide.largest(), guide.matrix().max())
    assert torch.equal(
        guide.r.argsort(stable=True), torch.tensor(values).double().log().argsort(stable=True)
    ) or (largest < 1e-300)


def test_stretching_keeps_the_proportions() -> None:
    plain = pairwise_guide(torch.tensor(VALUES))
    stretched = pairwise_guide(torch.tensor(VALUES), max_margin=0.3)
    torch.testing.assert_close(stretched.matrix(), plain.matrix() * (0.3 / plain.largest()))
    unclipped = pairwise_guide(torch.tensor(VALUES), max_margin=3.0, clip=0.1)
    assert float(unclipped.largest()) == pytest.approx(3.0)


@pytest.mark.parametrize("silent", [0.0, float("nan")])
def test_a_class_that_says_nothing_is_average(silent: float) -> None:
    guide = pairwise_guide(torch.tensor([1.0, silent, 4.0]))
    assert float(guide.r[1]) == pytest.approx(float(guide.r[[0, 2]].mean()))


@pytest.mark.parametrize(
    "values", [[0.0, 0.0], [3.0, 3.0], [float("nan"), float("nan")], [float("nan"), 2.0]]
)
@pytest.mark.parametrize("max_margin", [None, 0.3])
def test_classes_that_do_not_differ_have_no_margins(values: list[float], max_margin: float | None) -> None:
    assert (pairwise_guide(torch.tensor(values), max_margin=max_margin).matrix() == 0).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"values": torch.tensor([1.0, -1.0])}, ["values", "-1.0 for class 1", "at least 0"]),
        ({"values": torch.tensor([torch.inf, 1.0])}, ["values", "inf for class 0", "finite"]),
        ({"values": torch.ones(1, 2)}, ["values", "(1, 2)", "(C,)"]),
        ({"gain": -1.0}, ["gain", "-1.0", "at least 0"]),
        ({"gain": math.inf}, ["gain", "inf", "finite"]),
        ({"max_margin": 4.0}, ["max_margin", "4.0", "at least 0", "3.14"]),
        ({"max_margin": math.nan}, ["max_margin", "nan", "at least 0", "3.14"]),
        ({"max_margin": 0.3, "gain": 2.0}, ["gain", "2.0", "max_margin=0.3"]),
        ({"clip": 0.0}, ["clip", "0.0", "above 0", "3.14"]),
        ({"clip": 4.0}, ["clip", "4.0", "above 0", "3.14"]),
        ({"direction": "relaxed"}, ["direction", "'relaxed'", "did you mean 'relax'", "press"]),
    ],
)
def test_bad_arguments_are_named(options: dict, words: list[str]) -> None:
    with pytest.raises(ArgumentError) as raised:
        pairwise_guide(**{"values": torch.tensor(VALUES), **options})
    assert all(word in str(raised.value) for word in words), str(raised.value)
