import math

import pytest
import torch

from bisector.errors import ArgumentError
from bisector.guides.amount import normalized_amount
from bisector.heads import IGAM, NormalizedSoftmax
from bisector.heads.igam import PRESETS
from bisector.information.amount import information_amounts
from bisector.information.meter import InformationMeter
from naive_losses import information_margins

D, C = 6, 3


def spread() -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes of 40 whose extents are 0.5, 1 and 2."""
    x = torch.randn(120, D, generator=torch.Generator().manual_seed(0))
    y = torch.arange(120) % C
    return x * torch.tensor([0.5, 1.0, 2.0])[y, None], y


def test_before_the_first_refresh_it_is_normalized_softmax() -> None:
    x, y = spread()
    head, plain = IGAM(D, C), NormalizedSoftmax(D, C)
    plain.load_state_dict({"weight": head.weight})
    head.observe(x, y)
    assert torch.equal(head(x, y), plain(x, y))
    assert head.amounts is None
    assert head.guide is None


def test_the_paper_preset_is_the_poster() -> None:
    head = IGAM(D, C, preset="paper")
    meter = head.information
    assert (meter.shrinkage, meter.embeddings, meter.forgetting) == ("floor", "raw", 1.0)
    assert (head.normalize, head.gain, head.max_margin, head.direction) == ("sum", 1.0, None, "relax")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_refresh_measures_and_sets_the_margins_of_the_formula(preset: str) -> None:
    x, y = spread()
    head = IGAM(D, C, preset=preset)
    for rows in torch.arange(len(x)).split(50):
        head.observe(x[rows], y[rows])
    info = head.refresh()
    meter = head.information
    expected = information_amounts(x, y, C, shrinkage=meter.shrinkage, embeddings=meter.embeddings)
    torch.testing.assert_close(info.amount, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(head.amounts, info.amount, rtol=0, atol=0)
    margins = information_margins(expected.tolist(), head.normalize, head.gain, head.max_margin)
    torch.testing.assert_close(head.guide.matrix(), torch.tensor(margins).double(), rtol=1e-6, atol=1e-9)
    assert head.guide.direction == PRESETS[preset].direction
    assert head.information.counts.tolist() == [0] * C  # the next epoch starts empty


def test_observing_leaves_out_ignored_rows_and_gradients_and_the_loss_changes_nothing() -> None:
    x, y = spread()
    head, twin = IGAM(D, C), IGAM(D, C)
    masked = y.clone()
    masked[::4] = -100
    head.observe(x.requires_grad_(), masked)
    head(x, masked).backward()
    twin.observe(x[masked >= 0], y[masked >= 0])
    assert torch.equal(head.refresh().amount, twin.refresh().amount)
    head.eval()
    guide = head.guide
    head(x, y)
    assert head.guide is guide


def test_observing_labels_of_a_narrow_dtype_ignores_only_what_is_to_be_ignored() -> None:
    head = IGAM(2, 200, information={"embeddings": "raw"})
    head.observe(torch.randn(3, 2), torch.tensor([156, 156, 0], dtype=torch.uint8))  # 156 is -100 in 8 bits
    assert head.refresh().count[156] == 2


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.zeros(119).long(), ["labels", "(119,)", "(120,)"]),
        (torch.full((120, C), 1 / C), ["labels", f"(120, {C})", "(120,)"]),
        (torch.zeros(120), ["labels", "torch.float32", "integer"]),
        (torch.full((120,), C), ["labels", f"{C} at position 0", f"0 to {C - 1}"]),
    ],
)
def test_observing_bad_labels_is_named_and_changes_nothing(labels: torch.Tensor, words: list[str]) -> None:
    head = IGAM(D, C)
    with pytest.raises(ArgumentError) as raised:
        head.observe(spread()[0], labels)
    assert all(word in str(raised.value) for word in words), str(raised.value)
    assert head.information.counts.tolist() == [0] * C


def test_a_class_that_was_not_measured_keeps_its_last_amount() -> None:
    x, y = spread()
    head = IGAM(D, C)
    head.observe(x, y)
    first = head.refresh().amount
    head.observe(x[y > 0] * 1.5, y[y > 0])
    second = head.refresh().amount
    assert second[0].isnan()
    assert head.amounts[0] == first[0]
    assert torch.equal(head.amounts[1:], second[1:])
    assert not head.guide.r.isnan().any()


def test_a_meter_may_be_given_or_described_or_left_out() -> None:
    meter = InformationMeter(C, D, shrinkage="oas", forgetting=0.5)
    assert IGAM(D, C, information=meter).information is meter
    described = IGAM(D, C, preset="paper", information={"forgetting": 0.25}).information
    assert (described.shrinkage, described.embeddings, described.forgetting) == ("floor", "raw", 0.25)
    by_hand = IGAM(D, C, information=None)
    for needs_a_meter in (by_hand.refresh, lambda: by_hand.observe(*spread())):
        with pytest.raises(ArgumentError, match=r"information: got None; expected a meter"):
            needs_a_meter()


def test_amounts_by_hand_and_what_is_not_known() -> None:
    head = IGAM(D, C, max_margin=0.4, direction="press")
    head.set_amounts(torch.tensor([4.0, 8.0, math.nan]))
    g = normalized_amount(torch.tensor([4.0, 8.0, 6.0]), head.normalize).log() / math.pi
    g = (g - g[0]) * 0.4 / (g[1] - g[0])
    torch.testing.assert_close(head.guide.r, g)
    assert head.guide.direction == "press"
    mine = torch.full((C,), 5.0, dtype=torch.float64)
    head.set_amounts(mine)
    mine[0] = 9.0
    assert head.amounts.tolist() == [5.0] * C
    assert (head.guide.matrix() == 0).all()


def test_the_margins_follow_the_head_to_another_dtype() -> None:
    x, y = spread()
    head = IGAM(D, C, max_margin=0.4)
    head.set_amounts(torch.tensor([4.0, 8.0, 5.0]))
    loss = head(x, y)
    assert head.double()(x.double(), y).dtype == torch.float64
    torch.testing.assert_close(head(x.double(), y).float(), loss)


AMOUNTS = torch.tensor([4.0, 8.0, 5.0])


@pytest.mark.parametrize(
    ("amounts", "words"),
    [
        (torch.ones(C + 1), ["amounts", f"({C + 1},)", f"({C},)"]),
        (torch.ones(C, 1), ["amounts", f"({C}, 1)", "(C,)"]),
        (torch.tensor([1.0, -1.0, 2.0]), ["amounts", "-1.0 for class 1", "at least 0"]),
        (torch.tensor([1.0, 2.0, torch.inf]), ["amounts", "inf for class 2", "finite"]),
    ],
)
def test_bad_amounts_are_named_and_change_nothing(amounts: torch.Tensor, words: list[str]) -> None:
    head = IGAM(D, C)
    head.set_amounts(AMOUNTS)
    guide = head.guide
    with pytest.raises(ArgumentError) as raised:
        head.set_amounts(amounts)
    assert all(word in str(raised.value) for word in words), str(raised.value)
    assert head.guide is guide
    assert torch.equal(head.amounts, AMOUNTS.double())


def with_amounts_of_other_classes(head: IGAM) -> torch.Tensor:
    head.amounts = torch.ones(C + 1)  # which set_amounts would refuse
    return head.get_extra_state()


def test_a_state_that_does_not_fit_is_told_beside_the_weights_that_do_not() -> None:
    head, other = IGAM(D, C), IGAM(D, C + 1)
    other.set_amounts(torch.ones(C + 1))
    with pytest.raises(RuntimeError) as raised:
        head.load_state_dict(other.state_dict())
    assert "size mismatch for weight" in str(raised.value)
    assert "_extra_state does not fit this head: amounts" in str(raised.value)


def test_the_state_is_tensors_alone_which_tools_can_move_and_store() -> None:
    head = IGAM(D, C)
    head.set_amounts(torch.tensor([1.0, 2.0, math.nan]))
    moved = {name: value.cpu() for name, value in head.state_dict().items()}
    twin = IGAM(D, C)
    twin.load_state_dict(moved)
    assert torch.equal(twin.guide.r, head.guide.r)


def test_it_is_built_on_the_meta_device() -> None:
    with torch.device("meta"):
        head = IGAM(D, C)
    assert head.weight.is_meta


def test_a_refresh_without_anything_observed_says_so_and_keeps_the_margins() -> None:
    head = IGAM(D, C)
    head.set_amounts(torch.tensor([1.0, 2.0, 3.0]))
    before = head.guide
    with pytest.warns(RuntimeWarning, match="no class was observed twice"):
        head.refresh()
    assert head.guide is before


def test_equal_classes_get_margins_near_zero() -> None:
    draw = torch.Generator().manual_seed(0)
    head = IGAM(8, 10)
    head.observe(torch.randn(20_000, 8, generator=draw), torch.arange(20_000) % 10)
    head.refresh()
    assert float(head.guide.largest()) < 0.01


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    x, y = spread()
    head, other = IGAM(D, C), IGAM(D, C + 1)
    for each in (head, other):
        each.observe(x, y)
    head.refresh()
    head.observe(x, y)
    before = head.get_extra_state()
    for state in (
        other.get_extra_state(),
        with_amounts_of_other_classes(IGAM(D, C)),
    ):
        with pytest.raises(ArgumentError):
            head.set_extra_state(state)
        assert torch.equal(head.get_extra_state(), before)
        assert head.information.counts.tolist() == [40] * C
