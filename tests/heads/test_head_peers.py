import math

import pytest
import torch
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss
from torch import Tensor
from torch.nn import functional as F
from transformers.models.wav2vec2.modeling_wav2vec2 import AMSoftmaxLoss

from bisector.heads import AMSoftmax, ArcFace, CombinedMargin, EnhancedAMSoftmax, Head

B, D, C = 16, 6, 9


def data() -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings nearer than pi - 1 to their class's vector: below the jump of the peer's ArcFace."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(C, D, generator=generator, dtype=torch.float64)
    labels = torch.randint(C, (B,), generator=generator)
    embeddings = weight[labels] + 1.5 * torch.randn(B, D, generator=generator, dtype=torch.float64)
    cosines = F.cosine_similarity(embeddings, weight[labels])
    assert float(cosines.min()) > math.cos(math.pi - 1.0)
    return embeddings.requires_grad_(), weight, labels


PEERS = [
    (AMSoftmax(D, C, margin=0.35, scale=30.0), CosFaceLoss(C, D, margin=0.35, scale=30), "W"),
    (AMSoftmax(D, C, margin=0.35, scale=30.0), AMSoftmaxLoss(D, C, scale=30, margin=0.35), "weight"),
    (
        EnhancedAMSoftmax(D, C, margin=0.2, form="code", divisor=1.0),
        CosFaceLoss(C, D, margin=0.2, scale=40),
        "W",
    ),
    (ArcFace(D, C, margin=0.5), ArcFaceLoss(C, D, margin=math.degrees(0.5), scale=64), "W"),
    (ArcFace(D, C, margin=1.0, scale=20.0), ArcFaceLoss(C, D, margin=math.degrees(1.0), scale=20), "W"),
    (CombinedMargin(D, C, m2=0.3), ArcFaceLoss(C, D, margin=math.degrees(0.3), scale=64), "W"),
]


@pytest.mark.parametrize(("head", "peer", "their_weight"), PEERS)
def test_peers_agree(head: Head, peer: torch.nn.Module, their_weight: str) -> None:
    embeddings, weight, labels = data()
    head, peer = head.double(), peer.double()
    theirs = getattr(peer, their_weight)  # (D, C)
    with torch.no_grad():
        head.weight.copy_(weight)
        theirs.copy_(weight.T)
    loss, their_loss = head(embeddings, labels), peer(embeddings, labels)
    torch.testing.assert_close(loss, their_loss, rtol=1e-10, atol=1e-10)
    gradients = torch.autograd.grad(loss, [embeddings, head.weight])
    their_gradients = torch.autograd.grad(their_loss, [embeddings, theirs])
    torch.testing.assert_close(gradients[0], their_gradients[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients[1], their_gradients[1].T, rtol=1e-10, atol=1e-10)


def test_arcface_goes_on_falling_where_peers_turn_or_jump() -> None:
    cosines = torch.tensor([-0.9, -1.0, 0.2], dtype=torch.float64, requires_grad=True)
    ours = ArcFace(D, C).margin().target(cosines, torch.zeros(3, dtype=torch.long))
    # The formula of the best-known face repository: cos(theta + m) with no continuation. It rises again.
    rising = (cosines.acos() + 0.5).cos()
    assert [round(v, 4) for v in rising.tolist()[:2]] == [-0.9988, -0.8776]
    assert [round(v, 4) for v in ours.tolist()[:2]] == [-1.0012, -1.1224]
    # Its gradient is straight-through, 64 at any angle; this is the true one.
    (slope,) = torch.autograd.grad(64 * ours[2], cosines)
    assert round(float(slope[2]), 2) == 62.43

    edge = torch.tensor([math.cos(math.pi - 0.5 - 1e-6), math.cos(math.pi - 0.5 + 1e-6)], dtype=torch.float64)
    jump = ArcFaceLoss(C, D, margin=math.degrees(0.5)).modify_cosine_of_target_classes(edge)
    assert [round(v, 3) for v in jump.tolist()] == [-1.0, -1.117]
    steady = ArcFace(D, C).margin().target(edge, torch.zeros(2, dtype=torch.long))
    torch.testing.assert_close(steady, torch.full((2,), -1.0, dtype=torch.float64), rtol=0, atol=2e-6)


@pytest.mark.parametrize("margins", [(1.0, 0.5, 0.0), (1.0, 0.0, 0.4), (1.0, 0.3, 0.2)])
def test_the_weights_and_margins_of_insightface_give_the_same_loss(
    margins: tuple[float, float, float],
) -> None:
    """Its layer holds (C, D); its true class has the logit s (cos(m1 theta + m2) - m3), Deng et al. 2019, eq. 4."""
    embeddings, weight, labels = data()
    ranks = [part.clone() for part in weight.tensor_split(4)]
    assert [len(part) for part in ranks] == [3, 2, 2, 2]  # C // R, and one more for the first C % R
    m1, m2, m3 = margins
    head = CombinedMargin(D, C, m1=m1, m2=m2, m3=m3, scale=64).double()
    head.load_state_dict({"weight": torch.cat(ranks)})
    logits = F.linear(F.normalize(embeddings), F.normalize(weight)).clamp(-1, 1)
    rows = torch.arange(B)
    logits[rows, labels] = (m1 * logits[rows, labels].acos() + m2).cos() - m3
    torch.testing.assert_close(
        head(embeddings, labels), F.cross_entropy(64 * logits, labels), rtol=1e-10, atol=1e-10
    )
