"""The warm-up of a margin; what the loss is half-way is in `head_cases`, beside the naive formulas."""

import copy
from typing import Any

import pytest
import torch

import bisector as bs
from bisector.errors import ArgumentError
from head_cases import batch

D, C = 5, 6
HEADS = {
    "arcface": (bs.ArcFace, {"margin": 0.5}),
    "arcface-by-class": (bs.ArcFace, {"margin": torch.linspace(0.1, 0.6, C)}),
    "am": (bs.AMSoftmax, {}),
    "combined": (bs.CombinedMargin, {"m1": 1.35, "m2": 0.2, "m3": 0.1}),
    "enhanced": (bs.EnhancedAMSoftmax, {}),
    "enhanced-parts": (bs.EnhancedAMSoftmax, {"divisor": 1.5, "competitor_margin": 0.1, "form": "printed"}),
}


def pair(name: str, warmup: int, **options: Any) -> tuple[Any, Any]:
    """The head with a warm-up and the one without, of the same weights."""
    kind, own = HEADS[name]
    warm, plain = kind(D, C, warmup=warmup, **own, **options), kind(D, C, **own, **options)
    plain.load_state_dict({key: value for key, value in warm.state_dict().items() if key != "steps"})
    return warm, plain


@pytest.mark.parametrize("backend", ["dense", "chunked"])
@pytest.mark.parametrize("name", HEADS)
def test_it_begins_without_a_margin_and_ends_with_the_whole_one(name: str, backend: Any) -> None:
    warm, plain = pair(name, 3, dtype=torch.float64, backend=backend)
    none = bs.NormalizedSoftmax(D, C, scale=warm.scale, dtype=torch.float64)
    none.load_state_dict(plain.state_dict(), strict=False)
    x, y = (tensor.double() if tensor.is_floating_point() else tensor for tensor in batch(8, D, C))
    if name != "enhanced-parts":  # whose row loss is another
        torch.testing.assert_close(warm(x, y), none(x, y), rtol=1e-12, atol=1e-12)
    losses = []
    for _ in range(5):
        losses.append(float(warm(x, y).detach()))
        assert float(warm(x, y).detach()) == losses[-1]  # the loss counts nothing
        warm.observe(x, y)
    assert losses[0] < losses[1] < losses[2] < losses[3] == losses[4]
    for ours, theirs in zip(
        (warm(x, y), *torch.autograd.grad(warm(x, y), [warm.weight])),
        (plain(x, y), *torch.autograd.grad(plain(x, y), [plain.weight])),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_gradient_is_that_of_the_margin_at_the_loss() -> None:
    warm, _ = pair("arcface", 4)
    x, y = batch(8, D, C)
    x.requires_grad_()
    (expected,) = torch.autograd.grad(copy.deepcopy(warm)(x, y), [x])
    loss = warm(x, y)
    warm.observe(x, y)
    torch.testing.assert_close(torch.autograd.grad(loss, [x])[0], expected)


def test_the_background_carries_no_margin_in_the_warm_up_either() -> None:
    warm, plain = pair("enhanced", 2, background=0)
    x, y = batch(8, D, C)
    for _ in range(2):
        warm.observe(x, y)
    warm.reduction = plain.reduction = "none"
    torch.testing.assert_close(warm(x, y), plain(x, y))


def test_the_steps_are_state_and_begin_anew_with_the_weights() -> None:
    warm, plain = pair("arcface", 4)
    warm.observe(*batch(2, D, C))
    twin = bs.ArcFace(D, C, warmup=4)
    twin.load_state_dict(warm.state_dict())
    assert int(twin.steps) == 1
    assert int(twin.half().steps) == 1
    twin.reset_parameters()
    assert int(twin.steps) == 0
    assert "steps" not in plain.state_dict()
    plain.observe(*batch(2, D, C))  # counts nothing, harms nothing
    with pytest.raises(RuntimeError, match="steps"):
        plain.load_state_dict(warm.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["arcface", "enhanced", "combined"])
def test_a_compiled_head_is_compiled_once(name: str) -> None:
    torch.compiler.reset()
    warm, _ = pair(name, 3)
    compiled = torch.compile(warm, backend="aot_eager", fullgraph=True)
    x, y = batch(8, D, C)
    compiled(x, y)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(4):
            torch.testing.assert_close(compiled(x, y), warm(x, y))
            warm.observe(x, y)


@pytest.mark.parametrize("warmup", [-1, 0.5, True])
def test_a_warm_up_is_a_number_of_steps(warmup: Any) -> None:
    with pytest.raises(ArgumentError, match=f"warmup: got {warmup!r}; expected an integer"):
        bs.ArcFace(D, C, warmup=warmup)
