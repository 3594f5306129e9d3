"""Sharded classes beside the dense float64 loss of one process with the joint batch, in real processes."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.nn import functional as F

import bisector as bs
from bisector.engine.budget import MemoryBudget
from head_cases import CASES, batch, made
from real_processes import in_processes

D = 6
IGNORED = -7


def rows_of(rank: int, world: int) -> list[int]:
    """Unequal batches: 3, 5, 7, ... rows a rank."""
    sizes = [3 + 2 * r for r in range(world)]
    return list(range(sum(sizes[:rank]), sum(sizes[: rank + 1])))


def averaged(gradient: Tensor) -> Tensor:
    """What DDP does to the gradients of parameters that every process has."""
    total = gradient.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def close(ours: Tensor, theirs: Tensor, what: str, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(
        ours, theirs.to(ours.dtype), rtol=tolerance, atol=tolerance, msg=lambda m: f"{what}: {m}"
    )


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def joint_objective(loss: Tensor, world: int) -> Tensor:
    """The mean over the processes of what each makes of its loss; ours is the mean of its rows."""
    if loss.dim() == 0:
        return loss
    return torch.stack([loss[rows_of(rank, world)].mean() for rank in range(world)]).mean()


def compare(head: bs.Head, C: int, rank: int, world: int, what: str) -> None:
    head = head.double()
    rows = rows_of(world, world + 1)[0]
    inputs, labels = batch(rows, D, C)
    inputs = inputs.double()
    labels[1] = labels[4] = IGNORED
    backbone = nn.Linear(D, D).double()
    with torch.no_grad():
        backbone.weight.copy_(torch.eye(D) + torch.linspace(-0.3, 0.3, D * D).view(D, D))
        backbone.bias.fill_(0.1)
    single, twin = copy.deepcopy(head), copy.deepcopy(backbone)
    single.backend = "dense"
    expected = single(twin(inputs), labels)
    joint_objective(expected, world).backward()

    bs.shard_classes(head)
    here = rows_of(rank, world)
    loss = head(backbone(inputs[here]), labels[here])
    close(loss.detach(), expected.detach() if loss.dim() == 0 else expected.detach()[here], f"{what}, loss")
    loss.mean().backward()
    for (name, ours), theirs in zip(backbone.named_parameters(), twin.parameters(), strict=True):
        close(averaged(ours.grad), theirs.grad, f"{what}, backbone.{name}")
    for (name, ours), theirs in zip(head.named_parameters(), single.parameters(), strict=True):
        close(whole(ours.grad), theirs.grad, f"{what}, {name}")
        assert name in {"log_scale"} or type(ours.grad).__name__ == "DTensor"
    logits_train_too(head, single, backbone, twin, inputs, labels, rank, world, what)
    with torch.no_grad():
        close(head.logits(backbone(inputs[here])), single.logits(twin(inputs))[here], f"{what}, logits")
        assert torch.equal(head.predict(backbone(inputs[here])), single.predict(twin(inputs))[here]), what


def logits_train_too(
    head: bs.Head,
    single: bs.Head,
    backbone: nn.Module,
    twin: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    rank: int,
    world: int,
    what: str,
) -> None:
    """A loss of one's own on the logits, which DDP averages over the processes."""
    theirs = [*twin.parameters(), *single.parameters()]
    rows = F.cross_entropy(single.logits(twin(inputs)), labels, ignore_index=IGNORED, reduction="none")
    expected = torch.autograd.grad(joint_objective(rows, world), theirs)
    here = rows_of(rank, world)
    loss = F.cross_entropy(
        head.logits(backbone(inputs[here])), labels[here], ignore_index=IGNORED, reduction="none"
    ).mean()
    ours = torch.autograd.grad(loss, [*backbone.parameters(), *head.parameters()])
    for number, (a, e) in enumerate(zip(ours, expected, strict=True)):
        close(averaged(a) if number < 2 else whole(a), e, f"{what}, logits, parameter {number}")


def heads_agree(rank: int, world: int, sizes: tuple[int, ...], reductions: tuple[str, ...]) -> None:
    """Every head, each reduction with one of the options and one of the numbers of classes in turn."""
    for number, case in enumerate(CASES):
        reduction = reductions[number % len(reductions)]
        C = sizes[number % len(sizes)]
        options: dict[str, Any] = {"reduction": reduction, "ignore_index": IGNORED}
        if (number + world) % 2:
            options["weight"] = [0.25 + (c % 4) for c in range(C)]
        if (number + world) % 3 and case.soft_labels:
            options["label_smoothing"] = 0.2
        compare(made(case, D, C, **options), C, rank, world, f"{case}, {reduction}, {C} classes")


def margins_agree(rank: int, world: int) -> None:
    """What heads do not show: learned margins, whole offsets with a gradient, many chunks, float32, bfloat16."""
    generator = torch.Generator().manual_seed(5)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    C = 2 * world - 3  # the last process holds none
    x, w, b, scale = drawn(12, D), drawn(C, D), drawn(C), torch.tensor(7.0).double()
    m, n = torch.tensor(0.2).double(), torch.tensor(0.1).double()
    y = torch.randint(C, (12,), generator=generator)
    mine = (
        slice(0, 0) if rank == 0 else slice(0, 6) if rank == 1 else slice(6, 12) if rank == 2 else slice(0, 0)
    )

    def loss(leaves: list[Tensor], weight: Tensor, rows: slice, **options: Any) -> Tensor:
        x, b, scale, m, n = leaves
        margin = bs.Margin(
            target=lambda cosine, y: cosine - m.square(),
            custom=lambda cosine, y, j: torch.where(y == j, cosine - n, cosine * n.cos()),
        )
        return bs.margin_cross_entropy(
            x[rows],
            weight,
            y[rows],
            margin=margin,
            scale=scale,
            offset=b,
            class_weight=b.detach().exp(),
            **options,
        )

    leaves = [leaf.clone().requires_grad_() for leaf in (x, b, scale, m, n)]
    weight = w.clone().requires_grad_()
    expected = loss(leaves, weight, slice(None), backend="dense")
    theirs = torch.autograd.grad(expected, [weight, *leaves])
    leaves = [leaf.clone().requires_grad_() for leaf in (x, b, scale, m, n)]
    sharded = cut(w).requires_grad_()
    found = loss(leaves, sharded, mine)
    for again in (False, True):  # a graph that is used twice makes its gradients again
        ours = torch.autograd.grad(found, [sharded, *leaves], retain_graph=not again)
        close(found.detach(), expected.detach(), "a rank without rows")
        for name, a, e in zip(["w", "x", "b", "scale", "m", "n"], ours, theirs, strict=True):
            close(averaged(a) if name == "x" else whole(a), e, f"gradient of {name}, {again=}")

    # Many chunks of rows and blocks of classes, the same on all ranks, in float32; none of it wanted on rank 0.
    C, rows = 4001, 700
    x, w = drawn(rows * world, 64).float(), drawn(C, 64).float()
    y = torch.randint(C, (len(x),), generator=generator)
    r = torch.linspace(0, 0.5, C)
    here = slice(rank * rows, (rank + 1) * rows)
    options = {"margin": bs.Margin(pairwise=bs.PairwiseMargin(r, r, "press")), "scale": 20.0}
    xd, wd = x.double().requires_grad_(), w.double().requires_grad_()
    exact = bs.margin_cross_entropy(xd, wd, y, backend="dense", **options)
    exact.backward()
    own, sharded = x[here].clone().requires_grad_(rank > 0), cut(w).requires_grad_()
    budget = MemoryBudget(chunk_bytes=2 << 20)
    found = bs.margin_cross_entropy(own, sharded, y[here], budget=budget, **options)
    found.backward()
    close(found.detach().double(), exact.detach(), "many chunks", 1e-5)
    close(whole(sharded.grad).double(), wd.grad, "many chunks, weights", 1e-5)
    if rank > 0:
        close(own.grad.double() / world, xd.grad[here], "many chunks, embeddings", 1e-5)
    half, sharded16 = own.detach().bfloat16().requires_grad_(), cut(w).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = bs.margin_cross_entropy(half, sharded16, y[here], **options)
    found.backward()
    assert found.dtype == torch.float32
    assert half.grad.dtype == torch.bfloat16
    assert abs(float(found) / float(exact) - 1) < 0.02
    assert float(F.cosine_similarity(half.grad.double().flatten(), xd.grad[here].flatten(), dim=0)) > 0.999
    assert (
        float(F.cosine_similarity(whole(sharded16.grad).double().flatten(), wd.grad.flatten(), dim=0)) > 0.999
    )
    with torch.no_grad():
        losses = [
            bs.margin_cross_entropy(own, sharded, y[here], reduction=how, **options)
            for how in ("sum", "none")
        ]
    close(averaged(losses[1].sum()[None])[0] * world, losses[0], "sum and none", 1e-5)


def cut(weight: Tensor) -> Tensor:
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    return distribute_tensor(weight, mesh, [Shard(0)])


def errors_reach_all(rank: int, world: int) -> None:
    weight = cut(torch.randn(5, D))
    x = torch.randn(2, D)
    wrong = torch.tensor([0, 5 if rank == 1 else 4])
    expected = "labels: got 5 at position 1" if rank == 1 else "illegal ones on rank 1"
    with pytest.raises(bs.ArgumentError, match=expected):
        bs.margin_cross_entropy(x, weight, wrong)
    for labels, options, words in (
        (torch.full((2, 5), 0.2), {}, "labels: got probabilities"),
        (wrong.clamp(max=4), {"backend": "dense"}, "backend: got 'dense' with sharded classes"),
        (wrong.clamp(max=4)[:0], {}, r"labels: got shape \(0,\)"),
    ):
        with pytest.raises(bs.ArgumentError, match=words):
            bs.margin_cross_entropy(x, weight, labels, **options)
    with pytest.raises(bs.ArgumentError, match="embeddings: got no row on any process"):
        bs.margin_cross_entropy(x[:0], weight, wrong[:0])
    head = bs.shard_classes(bs.ArcFace(D, 5))
    for broken, words in ((x[:, 1:], rf"got shape \(2, {D - 1}\)"), (None, "got NoneType")):
        expected = words if rank == 1 else "illegal ones on rank 1"
        for scores in (head.logits, head.predict):
            with pytest.raises(bs.ArgumentError, match=expected):
                scores(broken if rank == 1 else x)
    with pytest.raises(bs.ArgumentError, match="weight: got sharded classes"):
        head.add_classes(2)
    with pytest.raises(bs.ArgumentError, match="model: got Linear without a head"):
        bs.shard_classes(nn.Linear(2, 2))
    assert f"sharded over {world} processes" in repr(head)
    tied = nn.ModuleDict({"words": nn.Embedding(5, D), "head": bs.ArcFace(D, 5)})
    tied["words"].weight = tied["head"].weight
    with pytest.raises(bs.ArgumentError, match="weight: got a parameter that another module has"):
        bs.shard_classes(tied)


# Of 5 and 3 classes, torch gives four processes 2, 2, 1, 0 and 1, 1, 1, 0.
@pytest.mark.slow
def test_every_head_is_that_of_one_process(tmp_path: Path) -> None:
    in_processes(
        tmp_path,
        (4, heads_agree, (5, 3, 10), ("sum", "none")),
        (3, heads_agree, (10, 11), ("mean",)),
        (3, margins_agree),
        (3, errors_reach_all),
    )


def test_one_process_and_no_process_group() -> None:
    with pytest.raises(bs.ArgumentError, match="mesh: got None"):
        bs.shard_classes(bs.ArcFace(D, 5))
