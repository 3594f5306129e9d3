import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from bisector.heads import C2AM, ArcFace, NormalizedSoftmax
from head_cases import CASES, COSINE_CASES, SCALE, Case, batch, made

D, C = 4, 5
HALVES = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_those_of_finite_differences(case: Case) -> None:
    head = made(case, D, C, dtype=torch.float64)
    embeddings, labels = batch(3, D, C)
    names, parameters = zip(*head.named_parameters(), strict=True)

    def loss(embeddings: Tensor, *values: Tensor) -> Tensor:
        return functional_call(head, dict(zip(names, values, strict=True)), (embeddings, labels))

    # C2AM's margins follow the norms without passing them a gradient, which differences would see.
    values = [p.detach().requires_grad_(not isinstance(head, C2AM)) for p in parameters]
    inputs = (embeddings.double().requires_grad_(), *values)
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(loss, inputs, fast_mode=True, atol=1e-4)


def poles() -> tuple[Tensor, Tensor, Tensor]:
    """Weights along the axes, the last all 0; embeddings at cos_y = 1, -1, of length 0, across, beside."""
    weight = 2 * torch.eye(C, D)
    labels = torch.tensor([1, 1, 2, 0, C - 1])
    embeddings = torch.stack([3 * weight[1], -3 * weight[1], 0 * weight[0], weight[3], torch.ones(D)])
    return weight, embeddings, labels


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALVES])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_finite_at_the_poles_and_where_there_is_no_direction(
    case: Case, dtype: torch.dtype
) -> None:
    weight, embeddings, labels = poles()
    head = made(case, D, C, dtype=dtype)
    with torch.no_grad():
        head.weight.copy_(weight if head.sub_centers == 1 else weight[:, None])
    embeddings = embeddings.to(dtype).requires_grad_()
    loss = head(embeddings, labels)
    assert loss.dtype == torch.promote_types(dtype, torch.float32)
    loss.backward()
    for tensor in (loss, embeddings.grad, *(p.grad for p in head.parameters())):
        assert tensor.isfinite().all()
    if case in COSINE_CASES:
        assert (embeddings.grad[2] == 0).all()  # an embedding without a direction


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_half_precision_is_near_and_its_gradients_are_finite(case: Case, half: torch.dtype) -> None:
    head = made(case, D, C)
    embeddings, labels = batch(16, D, C)
    exact = head(embeddings, labels)
    network = torch.nn.Linear(D, D, bias=False)
    torch.nn.init.eye_(network.weight)
    with torch.autocast("cpu", half):
        loss = head(network(embeddings), labels)
    loss.backward()
    assert loss.dtype == torch.float32
    # A cosine is rounded by eps / 2 at the most, and the scale multiplies that.
    torch.testing.assert_close(loss, exact, rtol=0, atol=SCALE * torch.finfo(half).eps / 2)
    for parameter in (*head.parameters(), *network.parameters()):
        assert parameter.grad.isfinite().all()
    loss = head(embeddings.to(half), labels)  # half-precision embeddings without autocast
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, head(embeddings.to(half).float(), labels))


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("case", COSINE_CASES, ids=str)
def test_margins_are_computed_in_float32_under_autocast(case: Case, half: torch.dtype) -> None:
    # Corners of the hypercube: every cosine is 0, ±1/2 or ±1, which half precision holds exactly, so the loss
    # can differ from that of float32 only by what margin, scale and softmax lose.
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * D)
    seen = []

    def spy(cos: Tensor, y: Tensor, j: Tensor) -> Tensor:
        seen.append(cos.dtype)
        return cos

    head = made(case, D, C, custom_margin=spy)
    with torch.no_grad():
        head.weight.copy_(corners[: head.weight.numel() // D].view_as(head.weight))
    labels = torch.arange(len(corners)) % C
    with torch.autocast("cpu", half):
        loss = head(corners, labels)
    torch.testing.assert_close(loss, head(corners, labels), rtol=1e-6, atol=1e-6)
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_embedding_that_is_not_finite_gives_nan_and_no_exception(case: Case, bad: float) -> None:
    head = made(case, D, C)
    embeddings, labels = batch(3, D, C)
    embeddings[1, 0] = bad
    loss = head(embeddings, labels)
    loss.backward()
    assert loss.isnan()
    assert not head.weight.grad.isfinite().all()


@pytest.mark.parametrize("head", [NormalizedSoftmax(D, C), ArcFace(D, C, learnable_scale=True)])
def test_a_grad_scaler_skips_the_step_of_a_loss_that_is_nan(head: torch.nn.Module) -> None:
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    embeddings, labels = batch(4, D, C)
    for overflown in (True, False):
        before = [p.detach().clone() for p in head.parameters()]
        rows = embeddings.clone()
        rows[0, 0] = torch.inf if overflown else 1.0
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = head(rows, labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        assert scaler.get_scale() == 512.0
        unchanged = [torch.equal(old, new) for old, new in zip(before, head.parameters(), strict=True)]
        assert unchanged == [overflown] * len(before)
