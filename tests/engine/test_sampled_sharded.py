"""Sampled classes that are sharded too, in real processes, beside the loss of one process over the same draw."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bisector as bs
from bisector.engine.sampled import sample_classes, sampled_margin_cross_entropy
from head_cases import CASES, batch, made
from real_processes import in_processes

D, IGNORED = 6, -7
NAMES = ["linear", "normalized-prior", "am-per-class-learned-scale", "am-sub-centers", "c2am", "igam-press"]


def rows_of(rank: int) -> slice:
    """Unequal batches: 3, 5, 7, ... rows a rank."""
    return slice(rank * (rank + 2), (rank + 1) * (rank + 3))


def close(ours: Tensor, theirs: Tensor, what: str) -> None:
    ours = ours.full_tensor() if hasattr(ours, "full_tensor") else ours
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10, msg=lambda m: f"{what}: {m}")


def compare(head: bs.Head, rank: int, world: int, what: str) -> None:
    head.class_weight = torch.linspace(0.5, 2.0, head.num_classes, dtype=torch.float64)
    head.ignore_index, single = IGNORED, copy.deepcopy(head)
    inputs, labels = batch(world * (world + 2), D, head.num_classes)
    labels[1] = labels[4] = IGNORED
    torch.manual_seed(9)
    generator = torch.Generator().manual_seed(int(torch.randint(1 << 62, (1,))))
    classes = sample_classes(labels, head.num_classes, 0.6, ignore_index=IGNORED, generator=generator)
    joint = inputs.double().requires_grad_()
    bias, prior = single.bias, single.prior()
    expected = sampled_margin_cross_entropy(
        joint,
        single.weight,
        labels,
        classes=classes,
        sparse=False,
        score=single.score,
        margin=single.margin(),
        row_loss=single.row_loss,
        scale=single.logit_scale(),
        offset=bias if prior is None else prior,
        class_weight=single.class_weight,
        ignore_index=IGNORED,
        backend="dense",
    )
    expected.backward()

    head.sample = 0.6
    bs.shard_classes(head)
    mine = inputs[rows_of(rank)].double().requires_grad_()
    torch.manual_seed(9 + rank)  # the first process decides
    loss = head(mine, labels[rows_of(rank)])
    loss.backward()
    close(loss.detach(), expected.detach(), f"{what}, loss")
    close(mine.grad, world * joint.grad[rows_of(rank)], f"{what}, embeddings")
    for (name, ours), theirs in zip(head.named_parameters(), single.parameters(), strict=True):
        close(ours.grad, theirs.grad, f"{what}, {name}")


class Learned(nn.Module):
    """A custom margin with a number that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.m = nn.Parameter(torch.tensor(0.2, dtype=torch.float64))

    def forward(self, cosine: Tensor, y: Tensor, j: Tensor) -> Tensor:
        return torch.where(y == j, cosine - self.m, cosine * self.m.cos())


def one_process_holds_all_drawn(rank: int, world: int) -> None:
    """It must take part in what the others sum all the same."""
    torch.manual_seed(2)
    head = bs.AMSoftmax(4, 100, sample=0.01, custom_margin=Learned(), dtype=torch.float64)
    x, y = torch.randn(2, 4, dtype=torch.float64), torch.tensor([3, 5])
    single = copy.deepcopy(head)
    expected = sampled_margin_cross_entropy(
        x, single.weight, y, classes=y, sparse=False, margin=single.margin(), scale=single.logit_scale()
    )
    expected.backward()
    bs.shard_classes(head)
    mine = slice(0, 2 if rank == 0 else 0)
    loss = head(x[mine], y[mine])
    loss.backward()
    close(loss.detach(), expected.detach(), "loss, all drawn classes in one process")
    for ours, theirs in zip(head.parameters(), single.parameters(), strict=True):
        close(ours.grad, theirs.grad, "gradient, all drawn classes in one process")


def the_function_alone(rank: int, world: int) -> None:
    """Its defaults are those of the loss over all classes, and None means them."""
    head = bs.shard_classes(bs.NormalizedSoftmax(D, 9, scale=30.0))
    x, y = torch.randn(2, D), torch.tensor([0, 8])
    whole = bs.margin_cross_entropy(x, head.weight, y)
    for options in ({}, {"row_loss": None, "margin": None, "budget": None}):
        close(sampled_margin_cross_entropy(x, head.weight, y, fraction=1.0, **options), whole, f"{options}")
    with pytest.raises(bs.ArgumentError, match=r"sample: got 1\.5"):
        sampled_margin_cross_entropy(x, head.weight, y, fraction=1.5)


def check(rank: int, world: int) -> None:
    one_process_holds_all_drawn(rank, world)
    the_function_alone(rank, world)
    for case in CASES:
        if case.name in NAMES:
            for C in (23, world + 1):
                compare(made(case, D, C, dtype=torch.float64), rank, world, f"{case}, C={C}")
    head = bs.shard_classes(bs.AMSoftmax(D, 9, sample=0.3))
    with pytest.raises(bs.ArgumentError) as told:  # an illegal label of one process is told to all
        head(torch.randn(2, D), torch.tensor([0, 9 if rank else 1]))
    assert ("labels: got 9" in str(told.value)) == bool(rank)
    train(rank, world)


def train(rank: int, world: int) -> None:
    """Rows that were not drawn stay where they are, and the loss falls."""
    head = bs.shard_classes(bs.AMSoftmax(D, 40, sample=0.25, device="meta"))
    backbone = nn.Linear(D, D)
    groups = [
        {"params": backbone.parameters()},
        {"params": head.parameters(), "skip_zero_rows": True},
    ]
    optimizer = bs.RowwiseAdamW(groups, lr=0.05)
    torch.manual_seed(rank)
    x, y = torch.randn(4, D), torch.arange(4) * 7
    losses = []
    for step in range(40):
        before = head.weight.full_tensor().detach()
        optimizer.zero_grad()
        loss = head(backbone(x), y)
        losses.append(float(loss.detach()))
        loss.backward()
        optimizer.step()
        moved = (head.weight.full_tensor().detach() != before).any(dim=1)
        assert int(moved.sum()) == 10, step
        assert moved[y].all()
    assert losses[-1] < losses[0] / 2, losses
    steps = optimizer.state[head.weight]["step"].full_tensor()
    assert int(steps.sum()) == 400
    assert (steps[y] == 40).all()


def replicate(rank: int, world: int) -> None:
    """Whole weights on every process, each with a draw of its own: DDP averages dense gradients."""
    torch.manual_seed(0)
    head = bs.AMSoftmax(D, 40, sample=0.25, sparse=False)
    model = nn.parallel.DistributedDataParallel(head)
    optimizer = bs.RowwiseAdamW(model.parameters(), lr=0.05, skip_zero_rows=True)
    torch.manual_seed(rank)
    model(torch.randn(4, D), torch.arange(4) + 4 * rank).backward()
    expected = head.weight.grad.clone()
    torch.distributed.all_reduce(expected)
    close(head.weight.grad, expected / world, "averaged gradient")
    before = head.weight.detach().clone()
    optimizer.step()
    moved = (head.weight != before).any(dim=1)
    assert torch.equal(moved, (expected != 0).any(dim=1))
    assert 10 < int(moved.sum()) < 10 * world + 1


@pytest.mark.slow
def test_a_shared_draw_is_that_of_one_process(tmp_path: Path) -> None:
    in_processes(tmp_path, (2, check), (3, check), (2, replicate))
