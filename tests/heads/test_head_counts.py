import pytest
import torch

from bisector.heads import HEADS, LDAM, LogitAdjusted, NormalizedSoftmax


def test_a_class_without_instances_is_taken_to_have_one() -> None:
    empty, one = [[16.0, n, 256.0] for n in (0.0, 1.0)]
    assert torch.equal(
        LDAM(4, 3, class_counts=empty).class_margins(), LDAM(4, 3, class_counts=one).class_margins()
    )
    priors = [LogitAdjusted(4, 3, class_counts=counts).prior() for counts in (empty, one)]
    assert torch.equal(*priors)
    assert priors[0].exp().sum() == pytest.approx(1)


def test_ldam_gives_the_rarest_class_the_whole_margin() -> None:
    margins = LDAM(4, 4, class_counts=[625, 81, 16, 1], max_margin=0.6).class_margins()
    assert margins.tolist() == pytest.approx([0.6 / 5, 0.6 / 3, 0.6 / 2, 0.6])


@pytest.mark.parametrize("name", HEADS)
def test_the_prior_is_in_the_loss_and_not_in_the_logits(name: str) -> None:
    x, y = torch.randn(5, 4), torch.arange(5) % 3
    plain, prior = (HEADS[name](4, 3, class_counts=[90, 9, 1], tau=tau) for tau in (0.0, 2.0))
    prior.load_state_dict(plain.state_dict())
    assert plain.prior() is None
    assert prior.prior().exp().tolist() == pytest.approx([0.81, 0.0081, 0.0001])
    assert torch.equal(prior.logits(x), plain.logits(x))
    assert not torch.equal(prior(x, y), plain(x, y))


def test_counts_without_tau_change_nothing() -> None:
    x, y = torch.randn(5, 4), torch.arange(5) % 3
    head, counted = NormalizedSoftmax(4, 3), NormalizedSoftmax(4, 3, class_counts=[3, 2, 1])
    with torch.no_grad():
        counted.weight.copy_(head.weight)
    assert torch.equal(head(x, y), counted(x, y))
