import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import swa_utils

from bisector.errors import ArgumentError
from bisector.guides.amount import normalized_amount
from bisector.heads import IGAM, PRESETS, NormalizedSoftmax
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
    margins = head.guide.matrix()
    head(x, y)
    assert torch.equal(head.guide.matrix(), margins)


def test_observing_labels_of_a_narrow_dtype_ignores_only_what_is_to_be_ignored() -> None:
    head = IGAM(2, 200, information={"embeddings": "raw"})
    head.observe(torch.randn(3, 2), torch.tensor([156, 156, 0], dtype=torch.uint8))  # 156 is -100 in 8 bits
    assert head.refresh().count[156] == 2


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.zeros(119).long(), ["labels", "(119,)", "(120,)"]),
        (torch.full((120, C), 1 / C), ["labels", f"(120, {C})", "(120,)"]),
        ([0] * 120, ["labels", "list", "a tensor"]),
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
    margins = head.guide.matrix()
    with pytest.raises(ArgumentError) as raised:
        head.set_amounts(amounts)
    assert all(word in str(raised.value) for word in words), str(raised.value)
    assert torch.equal(head.guide.matrix(), margins)
    assert torch.equal(head.amounts, AMOUNTS.double())


def test_a_state_that_does_not_fit_is_told_beside_the_weights_that_do_not() -> None:
    head, other = IGAM(D, C), IGAM(D, C + 1)
    other.set_amounts(torch.ones(C + 1))
    with pytest.raises(RuntimeError) as raised:
        head.load_state_dict(other.state_dict())
    assert "size mismatch for weight" in str(raised.value)
    assert "size mismatch for class_amounts" in str(raised.value)


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
    before = head.guide.matrix()
    with pytest.warns(RuntimeWarning, match="no class was observed twice"):
        head.refresh()
    assert torch.equal(head.guide.matrix(), before)


def test_equal_classes_get_margins_near_zero() -> None:
    draw = torch.Generator().manual_seed(0)
    head = IGAM(8, 10)
    head.observe(torch.randn(20_000, 8, generator=draw), torch.arange(20_000) % 10)
    head.refresh()
    assert float(head.guide.largest()) < 0.01


DAMAGED = {
    "negative": ({"class_amounts": torch.tensor([1.0, -2.0, 3.0])}, "class_amounts: got -2.0 for class 1"),
    "not a number": (
        {"class_amounts": torch.tensor([1.0, 2.0, math.nan])},
        "class_amounts: got nan for class 2",
    ),
    "known as what": ({"class_known": torch.tensor([math.inf, 1, 1])}, "class_known: got inf for class 0"),
    "of other classes": ({"class_known": torch.ones(C + 1)}, "size mismatch for class_known"),
    "bytes": ({"class_amounts": b"damaged"}, 'parameter named "class_amounts", expected torch.Tensor'),
    "older": (
        {"_extra_state": torch.zeros(9, dtype=torch.uint8)},
        "_extra_state: got one as an earlier bisector stored it",
    ),
    "complex": (
        {"class_amounts": torch.ones(C, dtype=torch.complex64)},
        "class_amounts: got torch.complex64; expected real numbers",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_state_that_does_not_fit_is_told_and_changes_no_amount(name: str) -> None:
    damage, words = DAMAGED[name]
    x, y = spread()
    head = IGAM(D, C)
    head.observe(x, y)
    head.refresh()
    head.observe(x, y)
    amounts, margins = head.amounts, head.guide.matrix()
    with pytest.raises((RuntimeError, ArgumentError)) as raised:
        head.load_state_dict(head.state_dict() | damage)
    assert words in str(raised.value)
    assert torch.equal(head.amounts, amounts)
    assert torch.equal(head.guide.matrix(), margins)
    assert head.information.counts.tolist() == [40] * C


def test_loaded_amounts_become_the_margins_of_the_heads_own_options() -> None:
    strong, weak = IGAM(D, C, max_margin=0.6), IGAM(D, C, max_margin=0.2)
    strong.set_amounts(AMOUNTS)
    weak.load_state_dict(strong.state_dict())
    torch.testing.assert_close(weak.guide.matrix() * 3, strong.guide.matrix())


def test_the_loss_before_a_refresh_keeps_its_gradient_after_it() -> None:
    x, y = spread()
    x = x.double()
    gradients = []
    for refreshed in (False, True):
        torch.manual_seed(0)
        head = IGAM(D, C, dtype=torch.float64)
        head.set_amounts(AMOUNTS)
        loss = head(x, y)
        if refreshed:
            head.set_amounts(AMOUNTS.flip(0))
        loss.backward()
        gradients.append(head.weight.grad)
    assert torch.equal(*gradients)


def ema_of_timm(version: str) -> Callable[[nn.Module], Any]:
    return lambda model: getattr(pytest.importorskip("timm.utils.model_ema"), version)(model, decay=0.5)


def averaged(model: nn.Module) -> swa_utils.AveragedModel:
    average = swa_utils.get_ema_multi_avg_fn(0.5)
    found = swa_utils.AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    found.update_parameters(model)  # the first time it copies
    return found


AVERAGES = {
    "ModelEma": ema_of_timm("ModelEma"),
    "ModelEmaV2": ema_of_timm("ModelEmaV2"),
    "ModelEmaV3": ema_of_timm("ModelEmaV3"),
    "AveragedModel": averaged,
}


@pytest.mark.parametrize("name", AVERAGES)
def test_an_average_of_models_averages_the_amounts_over_the_time_that_they_were_known(name: str) -> None:
    head = IGAM(D, C, max_margin=0.4)
    average = AVERAGES[name](head)
    update = getattr(average, "update", None) or average.update_parameters
    head.set_amounts(torch.tensor([4.0, 8.0, math.nan]))
    head.observe(*spread())  # what the meter holds has no length that could be averaged
    update(head)
    found = average.ema if name == "ModelEma" else average.module
    assert found.amounts[:2].tolist() == [4, 8]
    assert found.amounts[2].isnan()
    head.set_amounts(torch.tensor([10.0, 8.0, 6.0]))
    update(head)
    # The weights are 1/4 of the first amounts, 1/2 of the second, and 1/4 of the time when none was known.
    assert found.amounts.tolist() == pytest.approx([(4 / 4 + 10 / 2) / (3 / 4), 8, 6])
    assert found.guide.largest() > 0
    loaded = IGAM(D, C, max_margin=0.4)
    loaded.load_state_dict(found.state_dict())
    assert torch.equal(loaded.amounts, found.amounts)
