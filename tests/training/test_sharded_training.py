"""Training with sharded classes beside the same in one process: DDP, clipping, loss scaling, checkpoints."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed import checkpoint
from torch.nn.parallel import DistributedDataParallel

import bisector as bs
from bisector.engine.sharded import whole_on_first
from real_processes import in_processes

D, C, B, STEPS = 6, 10, 9, 4


class Model(nn.Module):
    def __init__(self, head: bs.Head) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, D))
        self.head = head

    def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return self.head(self.backbone(inputs), labels)


def made(head: type[bs.CosineHead] = bs.AMSoftmax, **options: Any) -> Model:
    torch.manual_seed(1)
    return Model(head(D, C, learnable_scale=True, backend="auto", **options)).double()


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(B, 4, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(C, (B,), generator=generator)


def rows(rank: int, world: int) -> slice:
    """All of the batch, in unequal parts."""
    return slice(rank * 2, B if rank == world - 1 else (rank + 1) * 2)


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: whole(parameter.detach()).clone() for name, parameter in model.named_parameters()}


def trained(model: nn.Module, wrapped: nn.Module, here: slice, clip: float | None) -> list[Tensor]:
    """Four steps of AdamW; the norms that clipping found."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    norms = []
    for step in range(STEPS):
        inputs, labels = batch(step)
        optimizer.zero_grad()
        wrapped(inputs[here], labels[here]).backward()
        if clip is not None:
            norms.append(bs.clip_grad_norm_(model.parameters(), clip))
        optimizer.step()
    return norms


def trains_as_one_process(rank: int, world: int) -> None:
    for clip in (None, 0.5):
        single = made()
        expected = (
            trained(single, single, slice(None), None) if clip is None else clipped_by_torch(single, clip)
        )
        model = bs.shard_classes(made())
        norms = trained(model, DistributedDataParallel(model), rows(rank, world), clip)
        torch.testing.assert_close(norms, expected, rtol=1e-9, atol=1e-12)
        theirs = parameters_of(single)
        for name, ours in parameters_of(model).items():
            torch.testing.assert_close(
                ours, theirs[name], rtol=1e-8, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}"
            )
        assert model.head.weight.grad.to_local().shape == model.head.weight.to_local().shape


def clipped_by_torch(model: Model, clip: float) -> list[Tensor]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    norms = []
    for step in range(STEPS):
        optimizer.zero_grad()
        model(*batch(step)).backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), clip))
        optimizer.step()
    assert max(norms) > clip
    return norms


def norms_agree(rank: int, world: int) -> None:
    """Any norm, also where the last process holds no classes; an infinite limit only reads it."""
    torch.manual_seed(4)
    heads = [bs.AMSoftmax(D, world + 1, learnable_scale=True).double() for _ in range(2)]
    heads[1].load_state_dict(heads[0].state_dict())
    bs.shard_classes(heads[1])
    assert (len(heads[1].weight.to_local()) == 0) == (rank == world - 1)
    for head in heads:
        rows = slice(0, 5 if head is heads[0] or rank == 0 else 0)
        torch.manual_seed(5)
        head(torch.randn(5, D, dtype=torch.float64)[rows], torch.arange(5)[rows] % (world + 1)).backward()
    for norm_type in (torch.inf, 1.0, 2.0, 3.0):
        for limit in (torch.inf, 0.01):
            expected = nn.utils.clip_grad_norm_(heads[0].parameters(), limit, norm_type)
            found = bs.clip_grad_norm_(heads[1].parameters(), limit, norm_type)
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
            for ours, theirs in zip(heads[1].parameters(), heads[0].parameters(), strict=True):
                torch.testing.assert_close(whole(ours.grad), theirs.grad, rtol=1e-9, atol=1e-12)
    for illegal in (-1.0, torch.nan):
        with pytest.raises(bs.ArgumentError, match="max_norm: got"):
            bs.clip_grad_norm_(heads[1].parameters(), illegal)
    with pytest.raises(bs.ArgumentError, match="norm_type: got 0"):
        bs.clip_grad_norm_(heads[1].parameters(), 1.0, 0)


def infinities_agree(rank: int, world: int) -> None:
    """An infinity in the part of one process makes all skip the step and halve the scale."""
    model = bs.shard_classes(made())
    wrapped = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = bs.GradScaler("cpu", init_scale=8.0)
    inputs, labels = batch(0)
    here = rows(rank, world)
    single = made()
    single(inputs, labels).backward()
    for broken in (True, False):
        before = parameters_of(model)
        optimizer.zero_grad()
        scaler.scale(wrapped(inputs[here], labels[here])).backward()
        if broken and rank == world - 1:
            model.head.weight.grad.to_local().view(-1)[0] = torch.inf
        scaler.unscale_(optimizer)
        if not broken:
            for ours, theirs in zip(model.parameters(), single.parameters(), strict=True):
                torch.testing.assert_close(whole(ours.grad), theirs.grad, rtol=1e-9, atol=1e-12)
        scaler.step(optimizer)
        scaler.update()
        told = [None] * world
        distributed.all_gather_object(told, scaler.get_scale())
        assert told == [4.0] * world
        after = parameters_of(model)
        assert all(torch.equal(before[name], after[name]) == broken for name in before)


def drawn_anywhere(rank: int, world: int) -> Tensor:
    """Weights of a head that no process ever had whole, from a seed in rank 0."""
    torch.manual_seed(7 if rank == 0 else 1000 + rank)
    head = bs.LogitAdjusted(3, 9001, device="meta", class_counts=[5.0] * 9001)
    bs.shard_classes(head)
    assert head.weight.to_local().untyped_storage().nbytes() <= -(-9001 // world) * 3 * 4
    assert head.class_counts.sum() == 5 * 9001
    scaled = bs.shard_classes(bs.AMSoftmax(3, 9001, device="meta", learnable_scale=True, scale=20.0))
    assert scaled.scale == pytest.approx(20.0)
    assert torch.isfinite(scaled(torch.randn(2, 3), torch.tensor([0, 9000])))
    assert not whole(head.bias.detach()).any()
    return whole(head.weight.detach())


def rank_zero_counts(rank: int, world: int) -> None:
    torch.manual_seed(rank)
    head = bs.AMSoftmax(D, C, learnable_scale=True)
    with torch.no_grad():
        head.log_scale.fill_(float(rank))
    bs.shard_classes(head)
    torch.manual_seed(0)
    assert torch.equal(whole(head.weight.detach()), bs.AMSoftmax(D, C).weight)
    assert float(head.log_scale) == 0.0
    # Whole weights, as of a training in one process, go into a sharded head.
    stored = bs.AMSoftmax(D, C, learnable_scale=True)
    head.load_state_dict(stored.state_dict())
    assert torch.equal(whole(head.weight.detach()), stored.weight)
    gathered = whole_on_first(head.weight, at_a_time=2 * D * 4 * world)  # blocks of two classes
    assert gathered is None if rank else torch.equal(gathered, stored.weight)
    twin = copy.deepcopy(head)
    assert torch.equal(whole(twin.weight.detach()), stored.weight)


def all_that_rank_zero_holds_counts(rank: int, world: int) -> None:
    """Amounts and margins too, as of a checkpoint that rank 0 alone has read; what it observed counts once."""
    head = bs.IGAM(D, C)
    torch.manual_seed(0)
    inputs, labels = torch.randn(5 * C, D), torch.arange(5 * C) % C
    if rank == 0:
        head.observe(inputs, labels)
        head.together = False
        head.refresh()
        head.together = True
    head.observe(inputs, labels)
    bs.shard_classes(head)
    told = [None] * world
    distributed.all_gather_object(told, (head.amounts, head.guide.r))
    for found in told:
        assert all(torch.equal(a, b) for a, b in zip(found, told[0], strict=True))
    assert head.refresh().count.tolist() == [5.0] * C


def frozen_heads_stay_frozen(rank: int, world: int) -> None:
    for device in ("cpu", "meta"):
        head = bs.LogitAdjusted(D, C, class_counts=[5.0] * C, device=device)
        head.weight.requires_grad_(False)
        bs.shard_classes(head)
        assert not head.weight.requires_grad
        assert head.bias.requires_grad
        inputs = torch.randn(2, D, requires_grad=True)
        head(inputs, torch.tensor([0, C - 1])).backward()
        assert head.weight.grad is None
        assert whole(head.bias.grad).any()
        assert inputs.grad.any()


def all_of_it(rank: int, world: int) -> None:
    trains_as_one_process(rank, world)
    infinities_agree(rank, world)
    rank_zero_counts(rank, world)
    all_that_rank_zero_holds_counts(rank, world)
    frozen_heads_stay_frozen(rank, world)
    norms_agree(rank, world)


def of_rows(model: Model) -> bs.RowwiseAdamW:
    """With dense gradients, where sharded, and with sparse ones, each class has a count of steps."""
    by_class = {"params": [model.head.weight], "skip_zero_rows": hasattr(model.head.weight, "full_tensor")}
    others = [parameter for parameter in model.parameters() if parameter is not model.head.weight]
    return bs.RowwiseAdamW([{"params": others}, by_class], lr=0.05)


def momenta_of(model: Model, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    found = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        found[f"exp_avg.{name}"] = whole(state["exp_avg"])
        found[f"step.{name}"] = whole(state["step"])
    return found


def saved(rank: int, world: int, folder: Path, sample: float = 1.0) -> dict[str, Tensor]:
    model = bs.shard_classes(made(bs.IGAM, sample=sample))
    model.head.set_amounts(torch.linspace(20, 40, C))
    wrapped = DistributedDataParallel(model)
    optimizer = of_rows(model) if sample < 1 else torch.optim.AdamW(model.parameters(), lr=0.05)
    for step in range(STEPS):
        inputs, labels = batch(step)
        optimizer.zero_grad()
        wrapped(inputs[rows(rank, world)], labels[rows(rank, world)]).backward()
        optimizer.step()
    checkpoint.save({"training": bs.TrainingState(model, optimizer)}, checkpoint_id=folder)
    momenta = momenta_of(model, optimizer)
    return {**parameters_of(model), **momenta}


def loaded(rank: int, world: int, folder: Path, sample: float = 1.0) -> dict[str, Tensor]:
    torch.manual_seed(rank)
    model = made(bs.IGAM, sample=sample)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    if world > 1:
        bs.shard_classes(model)
    optimizer = of_rows(model) if sample < 1 else torch.optim.AdamW(model.parameters(), lr=0.05)
    checkpoint.load({"training": bs.TrainingState(model, optimizer)}, checkpoint_id=folder)
    assert torch.equal(model.head.amounts.float(), torch.linspace(20, 40, C))
    momenta = momenta_of(model, optimizer)
    found = {**parameters_of(model), **momenta}
    model.eval()  # of all classes
    inputs, labels = batch(99)
    loss = model(inputs[rows(rank, world)], labels[rows(rank, world)])
    return {**found, "loss": loss.detach()}


@pytest.mark.slow
def test_training_and_checkpoints_are_those_of_one_process(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    _, drawn, again, (expected, *_), *others, (of_sampled, *_), one, three = in_processes(
        tmp_path,
        (3, all_of_it),
        (3, drawn_anywhere),
        (2, drawn_anywhere),
        (4, saved, folder),
        (1, loaded, folder),
        (2, loaded, folder),
        (3, loaded, folder),
        (2, saved, tmp_path / "sampled", 0.1),
        (1, loaded, tmp_path / "sampled", 0.1),
        (3, loaded, tmp_path / "sampled", 0.1),
    )
    assert torch.equal(drawn[2], again[1])
    assert 0.5 < drawn[0].abs().max() <= 1 / 3**0.5  # as torch.nn.Linear draws
    assert len(drawn[0].unique()) > 0.99 * drawn[0].numel()
    losses = []
    for found in (results[-1] for results in others):
        losses.append(found.pop("loss"))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)
    assert len(of_sampled["step.head.weight"].unique()) > 1
    for found in (results[-1] for results in (one, three)):
        assert all(torch.equal(found[name], value) for name, value in of_sampled.items())
    assert len(losses) == 3
    torch.testing.assert_close(losses, [losses[0]] * 3)
