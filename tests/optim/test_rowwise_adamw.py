import copy
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributed import checkpoint

from bisector.errors import ArgumentError
from bisector.heads import AMSoftmax, ArcFace, LinearSoftmax, TrainingState
from bisector.optim import rowwise_adamw
from bisector.optim.rowwise_adamw import RowwiseAdamW

OPTIONS = {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}
C = 11


def sparse(rows: list[int], values: Tensor, like: Tensor) -> Tensor:
    return torch.sparse_coo_tensor(torch.tensor([rows]), values, like.shape, check_invariants=False)


def drawn(steps: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    draws = [torch.randperm(C, generator=generator)[: 2 + step % 5].tolist() for step in range(steps)]
    return [sorted(rows) if step % 2 else rows for step, rows in enumerate(draws)]


@pytest.fixture
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rowwise_adamw, "CPU_BLOCK", 100)


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("shape", [(C, 3), (C, 2, 3), (C,)])
@pytest.mark.parametrize("betas", [(0.8, 0.95), (0.0, 0.9), (0.9, 0.999)])
def test_each_row_is_a_parameter_of_its_own_to_adamw(
    shape: tuple[int, ...], betas: tuple[float, float]
) -> None:
    options = {**OPTIONS, "betas": betas}
    weight = nn.Parameter(torch.randn(shape, dtype=torch.float64))
    rows = [nn.Parameter(row.detach().clone()) for row in weight]
    ours, theirs = RowwiseAdamW([weight], **options), torch.optim.AdamW(rows, **options)
    for named in drawn(12):
        values = torch.randn(len(named), *shape[1:], dtype=torch.float64)
        weight.grad = sparse(named, values, weight)
        theirs.zero_grad()
        for row, value in zip(named, values, strict=True):
            rows[row].grad = value.clone()
        ours.step()
        theirs.step()
        torch.testing.assert_close(weight, torch.stack(list(rows)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_rate_may_be_a_tensor_that_is_changed_in_place(shape: tuple[int, ...]) -> None:
    by_row, dense = nn.Parameter(torch.ones(C, 3)), nn.Parameter(torch.ones(4))
    twins = [nn.Parameter(each.detach().clone()) for each in (by_row, dense)]
    rate = torch.full(shape, 0.03)
    ours = RowwiseAdamW([by_row, dense], **{**OPTIONS, "lr": rate})
    theirs = RowwiseAdamW(twins, **OPTIONS)
    for lr in (0.03, 0.01):
        rate.fill_(lr)
        theirs.param_groups[0]["lr"] = lr
        values, rows = torch.randn(2, 3), torch.randn(4)
        for optimizer, (first, second) in ((ours, (by_row, dense)), (theirs, twins)):
            first.grad, second.grad = sparse([1, 4], values, first), rows.clone()
            optimizer.step()
    torch.testing.assert_close(by_row, twins[0])
    torch.testing.assert_close(dense, twins[1])
    with pytest.raises(ArgumentError, match=r"lr: got a tensor of shape \(2,\)"):
        RowwiseAdamW([dense], lr=torch.ones(2))
    with pytest.raises(ArgumentError, match=r"lr: got -1.0"):
        RowwiseAdamW([dense], lr=torch.tensor(-1.0))


def test_with_all_rows_in_every_step_it_is_adamw_and_without_decay_sparse_adam() -> None:
    start = torch.randn(C, 3, dtype=torch.float64)
    for decay, rival in ((0.1, torch.optim.AdamW), (0.0, torch.optim.SparseAdam)):
        mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
        options = {**OPTIONS, "weight_decay": decay, "eps": 1e-12}  # SparseAdam has its eps elsewhere
        ours = RowwiseAdamW([mine], **options)
        if rival is torch.optim.SparseAdam:
            del options["weight_decay"]
        other = rival([theirs], **options)
        for _ in range(6):
            values = torch.randn(C, 3, dtype=torch.float64)
            mine.grad = sparse(list(range(C)), values, mine)
            theirs.grad = values if rival is torch.optim.AdamW else mine.grad.clone()
            ours.step()
            other.step()
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_dense_gradients_are_trained_as_adamw_does() -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    twin = copy.deepcopy(net)
    ours, theirs = RowwiseAdamW(net.parameters(), **OPTIONS), torch.optim.AdamW(twin.parameters(), **OPTIONS)
    for _ in range(5):
        x = torch.randn(8, 4)
        for model, optimizer in ((net, ours), (twin, theirs)):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    for mine, their in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, their)


def test_a_parameter_may_have_dense_gradients_before_and_after_sparse_ones() -> None:
    weight = nn.Parameter(torch.randn(C, 3, dtype=torch.float64))
    rows = [nn.Parameter(row.detach().clone()) for row in weight]
    ours, theirs = RowwiseAdamW([weight], **OPTIONS), torch.optim.AdamW(rows, **OPTIONS)
    for named in (None, [1, 4], None, [4, 9], [0]):
        given = list(range(C)) if named is None else named
        values = torch.randn(len(given), 3, dtype=torch.float64)
        weight.grad = values if named is None else sparse(given, values, weight)
        theirs.zero_grad()
        for row, value in zip(given, values, strict=True):
            rows[row].grad = value.clone()
        ours.step()
        theirs.step()
    torch.testing.assert_close(weight, torch.stack(list(rows)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(C, 3), (C,)])
def test_zero_rows_of_a_dense_gradient_can_be_skipped(shape: tuple[int, ...]) -> None:
    one, two = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    ours = [RowwiseAdamW([one], **OPTIONS), RowwiseAdamW([two], **OPTIONS, skip_zero_rows=True)]
    for named in drawn(9):
        one.grad = sparse(named, torch.randn(len(named), *shape[1:]), one)
        two.grad = one.grad.to_dense()
        for optimizer in ours:
            optimizer.step()
        assert torch.equal(one, two)


def test_rows_that_come_twice_are_added_up() -> None:
    one, two = (nn.Parameter(torch.ones(C, 2)) for _ in range(2))
    first, second = torch.randn(2, 2), torch.randn(2, 2)
    one.grad = sparse([3, 5], first, one) + sparse([5, 7], second, one)
    two.grad = sparse([3, 5, 7], torch.stack([first[0], first[1] + second[0], second[1]]), two)
    for parameter in (one, two):
        RowwiseAdamW([parameter], **OPTIONS).step()
    assert torch.equal(one, two)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rows_follow_adamw(dtype: torch.dtype) -> None:
    start = torch.randn(C, 4).to(dtype)
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.double())
    ours, other = RowwiseAdamW([mine], lr=0.05), torch.optim.AdamW([theirs], lr=0.05)
    for _ in range(300):
        values = torch.randn(C, 4).to(dtype)
        mine.grad, theirs.grad = sparse(list(range(C)), values, mine), values.double()
        ours.step()
        other.step()
    assert ours.state[mine]["step"].tolist() == [300] * C  # bfloat16 could count to 256
    assert mine.dtype == dtype
    moved = (theirs - start.double()).norm()
    assert (mine.double() - theirs).norm() < 0.25 * moved


def test_training_goes_on_bitwise_from_a_state_dict(tmp_path: object) -> None:
    def trained(resumed: bool) -> Tensor:
        torch.manual_seed(5)
        head, backbone = ArcFace(4, 50, sample=0.2), nn.Linear(6, 4)
        model = nn.ModuleList([backbone, head])
        optimizer = RowwiseAdamW(model.parameters(), lr=0.02)
        for step in range(8):
            if step == 4 and resumed:
                torch.save([model.state_dict(), optimizer.state_dict()], f"{tmp_path}/half.pt")
                weights, state = torch.load(f"{tmp_path}/half.pt", weights_only=True)
                head, backbone = ArcFace(4, 50, sample=0.2), nn.Linear(6, 4)
                model = nn.ModuleList([backbone, head])
                model.load_state_dict(weights)
                optimizer = RowwiseAdamW(model.parameters(), lr=0.5)
                optimizer.load_state_dict(state)
            torch.manual_seed(step)
            x, y = torch.randn(16, 6), torch.randint(50, (16,))
            optimizer.zero_grad()
            head(backbone(x), y).backward()
            optimizer.step()
        return head.weight.detach()

    assert torch.equal(trained(resumed=True), trained(resumed=False))


@pytest.mark.filterwarnings("ignore")
def test_a_distributed_checkpoint_goes_into_a_new_optimiser(tmp_path: Path) -> None:
    def made(seed: int) -> tuple[nn.ModuleList, RowwiseAdamW]:
        torch.manual_seed(seed)
        model = nn.ModuleList([nn.Linear(4, 4), AMSoftmax(4, 50, sample=0.2, learnable_scale=True)])
        return model, RowwiseAdamW(model.parameters(), lr=0.02)

    def train(model: nn.ModuleList, optimizer: RowwiseAdamW, first: int) -> list[Tensor]:
        for step in range(first, first + 2):
            torch.manual_seed(step)
            optimizer.zero_grad()
            model[1](model[0](torch.randn(6, 4)), torch.arange(6) * 7).backward()
            optimizer.step()
        state = [value for parts in optimizer.state.values() for value in parts.values()]
        return [tensor.detach().clone() for tensor in [*model.parameters(), *state]]

    model, optimizer = made(0)
    train(model, optimizer, 0)
    checkpoint.save({"t": TrainingState(model, optimizer)}, checkpoint_id=tmp_path)
    expected = train(model, optimizer, 2)
    assert {value.dim() for value in (parts["step"] for parts in optimizer.state.values())} == {0, 1}
    resumed, its_own = made(1)
    checkpoint.load({"t": TrainingState(resumed, its_own)}, checkpoint_id=tmp_path)
    for ours, theirs in zip(train(resumed, its_own, 2), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_it_takes_the_state_of_adamw() -> None:
    one, two = (nn.Parameter(torch.ones(C, 2)) for _ in range(2))
    theirs, ours = torch.optim.AdamW([one], **OPTIONS), RowwiseAdamW([two], **OPTIONS)
    for step in range(4):
        one.grad = torch.randn(C, 2)
        two.grad = one.grad.clone()
        theirs.step()
        if step == 1:
            two.data.copy_(one.data)
            ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
        elif step > 1:
            ours.step()
    assert torch.equal(one, two)


def test_steps_are_counted_beyond_256_where_bfloat16_is_the_default() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = RowwiseAdamW([weight], **OPTIONS)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        for _ in range(300):
            weight.grad = sparse([1], torch.ones(1, 2, dtype=torch.float32), weight)
            optimizer.step()
    finally:
        torch.set_default_dtype(usual)
    assert optimizer.state[weight]["step"].tolist() == [0, 300]


def test_state_grows_with_added_classes() -> None:
    torch.manual_seed(0)
    head = LinearSoftmax(4, 20, sample=0.3)
    optimizer = RowwiseAdamW(head.parameters(), lr=0.1)
    x, y = torch.randn(6, 4), torch.arange(6)
    head(x, y).backward()
    optimizer.step()
    counts = {name: optimizer.state[p]["step"].clone() for name, p in head.named_parameters()}
    head.add_classes(3, optimizer=optimizer)
    for name, parameter in head.named_parameters():
        state = optimizer.state[parameter]
        assert state["step"].tolist() == counts[name].tolist() + [0] * 3
        assert state["exp_avg"].shape == state["exp_avg_sq"].shape == parameter.shape
    before = head.weight.detach().clone()
    optimizer.zero_grad()
    head(x, y + 17).backward()
    optimizer.step()
    changed = (head.weight != before).any(dim=1)
    assert changed[17:].all()
    assert int(changed.sum()) == 7


def test_clipping_and_scaling_see_the_sparse_gradients() -> None:
    head, backbone = ArcFace(4, 50, sample=0.2), nn.Linear(4, 4)
    parameters = [*backbone.parameters(), *head.parameters()]
    optimizer = RowwiseAdamW(parameters, lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def backward(factor: float) -> None:
        optimizer.zero_grad()
        torch.manual_seed(0)
        scaler.scale(head(backbone(torch.randn(8, 4)), torch.arange(8)) * factor).backward()
        scaler.unscale_(optimizer)

    backward(1.0)
    dense = [p.grad.to_dense().clone() for p in parameters]
    norm = torch.nn.utils.clip_grad_norm_(parameters, 0.1)
    torch.testing.assert_close(norm, torch.cat([g.flatten() for g in dense]).norm())
    for parameter, gradient in zip(parameters, dense, strict=True):
        torch.testing.assert_close(parameter.grad.to_dense(), gradient * (0.1 / norm), rtol=1e-4, atol=1e-7)
    scaler.step(optimizer)
    scaler.update()

    before = head.weight.detach().clone()
    backward(float("inf"))
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(head.weight, before)
    assert scaler.get_scale() == 512.0


def test_it_runs_closures_and_schedules() -> None:
    weight = nn.Parameter(torch.ones(C, 2))
    optimizer = RowwiseAdamW([weight], lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert optimizer.step(closure) == 2 * C
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.05


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"lr": -1.0}, "lr"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"eps": -1e-8}, "eps"),
        ({"weight_decay": -1}, "weight_decay"),
    ],
)
def test_bad_options_are_named(bad: dict, word: str) -> None:
    with pytest.raises(ArgumentError, match=f"{word}: got"):
        RowwiseAdamW([nn.Parameter(torch.ones(2))], **bad)
