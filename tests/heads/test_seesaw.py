"""The seesaw loss beside the paper's formula, one row and one class at a time."""

import copy
import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from bisector.errors import ArgumentError
from bisector.functional.seesaw import SeesawLoss
from bisector.heads import NormalizedSoftmax, Seesaw, TrainingState, shard_classes
from head_cases import batch
from real_processes import in_processes

D, C = 5, 7
COUNTS = [640, 3, 0, 80, 80, 1, 20]


def naive_rows(
    head: Seesaw,
    embeddings: Tensor,
    labels: Tensor,
    counts: list[float],
    *,
    offset: list[float] | None = None,
    background: int | None = None,
) -> Tensor:
    """-log(e^z_y / (sum_{j != y} S_yj e^z_j + e^z_y)), number by number."""
    losses = []
    for x, y in zip(embeddings, labels.tolist(), strict=True):
        z = [head.scale * torch.cosine_similarity(x, w, dim=0) for w in head.weight]
        z = [a + b for a, b in zip(z, offset or [0.0] * len(z), strict=True)]
        taking_part = [j for j in range(len(z)) if j != background]
        total = sum(math.exp(z[j].item()) for j in taking_part)
        sigma = {j: math.exp(z[j].item()) / total for j in taking_part}
        summed = z[y].exp()
        for j in range(len(z)):
            if j == y:
                continue
            S = 1.0
            if background not in {y, j}:
                S *= min(1.0, max(counts[j], 1) / max(counts[y], 1)) ** head.p
                S *= max(1.0, sigma[j] / max(sigma[y], head.eps)) ** head.q
            summed = summed + S * z[j].exp()
        losses.append(-(z[y].exp() / summed).log())
    return torch.stack(losses)


def made(**options: Any) -> Seesaw:
    torch.manual_seed(3)
    return Seesaw(D, C, **{"dtype": torch.float64, "class_counts": COUNTS, **options})


def doubles(B: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    embeddings, labels = batch(B, D, C, seed=seed)
    return embeddings.double().requires_grad_(), labels


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"p": 0.0},
        {"q": 0.0},
        {"p": 0.0, "q": 0.0},
        {"p": 2.0, "q": 0.5, "eps": 0.3, "scale": 8},
        {"eps": 1e-9},
        {"background": 3},
        {"background": 0, "scale": 4.0},
        {"class_counts": [5.0] * C},
        {"learnable_scale": True},
    ],
    ids=str,
)
def test_value_and_gradients_are_those_of_the_formula(options: dict) -> None:
    head = made(reduction="none", **options)
    embeddings, labels = doubles(24)
    labels[0] = options.get("background", 0)
    counts = options.get("class_counts", COUNTS)
    naive = naive_rows(head, embeddings, labels, counts, background=options.get("background"))
    rows = head(embeddings, labels)
    torch.testing.assert_close(rows, naive, rtol=1e-10, atol=1e-10)
    weights = torch.linspace(0.5, 1.5, len(rows), dtype=rows.dtype)
    inputs = [embeddings, head.weight]
    ours = torch.autograd.grad((weights * rows).sum(), inputs)
    theirs = torch.autograd.grad((weights * naive).sum(), inputs)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


def test_without_its_factors_it_is_normalized_softmax() -> None:
    head, embeddings_and_labels = made(p=0.0, q=0.0), doubles(16)
    plain = NormalizedSoftmax(D, C, scale=20.0, dtype=torch.float64)
    plain.load_state_dict(head.state_dict(), strict=False)
    torch.testing.assert_close(head(*embeddings_and_labels), plain(*embeddings_and_labels))
    # Even counts mitigate nothing; the compensation is still there.
    even = made(class_counts=[9.0] * C)
    assert even(*embeddings_and_labels) > plain(*embeddings_and_labels)
    assert made(class_counts=[9.0] * C, q=0.0)(*embeddings_and_labels) == head(*embeddings_and_labels)


def test_the_gradient_of_each_logit_is_that_of_the_paper() -> None:
    head = made(reduction="sum")
    embeddings, labels = doubles(9)
    z = head.logits(embeddings).detach().requires_grad_()
    loss = SeesawLoss(log_counts=torch.tensor(COUNTS).clamp_min(1).double().log())
    (gradient,) = torch.autograd.grad(loss.rows(z, labels).sum(), z)
    S = loss.log_factors(z.detach(), labels).exp()
    expected = S * z.exp()
    expected = expected / expected.sum(1, keepdim=True)
    expected[torch.arange(9), labels] -= 1
    torch.testing.assert_close(gradient, expected.detach(), rtol=1e-10, atol=1e-12)
    assert (S[torch.arange(9), labels] == 1).all()


def test_finite_differences_where_the_factors_do_not_move() -> None:
    head = made(q=0.0)
    embeddings, labels = doubles(3)
    assert torch.autograd.gradcheck(lambda x: head(x, labels), embeddings, fast_mode=True)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weights_ignored_rows_and_the_prior_mean_what_they_mean_everywhere(reduction: str) -> None:
    weight = [1.0, 2.0, 0.5, 3.0, 1.0, 1.0, 4.0]
    head = made(reduction=reduction, weight=weight, ignore_index=-1, tau=0.7)
    embeddings, labels = doubles(12)
    labels[2::5] = -1
    total = sum(max(n, 1) for n in COUNTS)
    offset = [0.7 * math.log(max(n, 1) / total) for n in COUNTS]
    kept = labels >= 0
    each = torch.tensor(weight, dtype=torch.float64)[labels.clamp_min(0)]
    rows = each * kept * naive_rows(head, embeddings, labels.clamp_min(0), COUNTS, offset=offset)
    expected = {"none": rows, "sum": rows.sum(), "mean": rows.sum() / (each * kept).sum()}[reduction]
    torch.testing.assert_close(head(embeddings, labels), expected, rtol=1e-10, atol=1e-10)
    nothing = head(embeddings, torch.full_like(labels, -1))
    assert (nothing == 0).all()


def test_smoothing_is_cross_entropy_of_the_moved_logits_and_soft_labels_agree() -> None:
    head, smoothed = made(reduction="none"), made(reduction="none", label_smoothing=0.2)
    embeddings, labels = doubles(8)
    soft = 0.8 * torch.nn.functional.one_hot(labels, C).double() + 0.2 / C
    torch.testing.assert_close(smoothed(embeddings, labels), head(embeddings, soft))
    # Against torch: with p = q = 0 nothing is moved.
    plain = made(p=0.0, q=0.0, label_smoothing=0.2)
    expected = torch.nn.functional.cross_entropy(plain.logits(embeddings), labels, label_smoothing=0.2)
    torch.testing.assert_close(plain(embeddings, labels), expected)


def test_sub_centers_and_a_margin_of_ones_own() -> None:
    head = made(sub_centers=3, custom_margin=lambda cos, y, j: torch.where(j == y, cos - 0.1, cos))
    embeddings, labels = doubles(6)
    nearest = head.logits(embeddings) / head.scale
    nearest = nearest - 0.1 * torch.nn.functional.one_hot(labels, C).double()
    rows = []
    for cosines, y in zip(nearest, labels, strict=True):  # a head whose cosines are given: unit vectors
        flat = Seesaw(D, C, dtype=torch.float64, class_counts=COUNTS)
        flat.weight = torch.nn.Parameter(torch.stack([cosines, (1 - cosines**2).sqrt()], dim=1).detach())
        flat.in_features = 2
        rows.append(naive_rows(flat, torch.tensor([[1.0, 0.0]], dtype=torch.float64), y[None], COUNTS))
    torch.testing.assert_close(head(embeddings, labels), torch.cat(rows).mean(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_and_finite(half: torch.dtype) -> None:
    head = made(dtype=torch.float32, scale=8.0)
    embeddings, labels = batch(16, D, C)
    exact = head(embeddings, labels)
    with torch.autocast("cpu", half):
        loss = head(embeddings, labels)
    loss.backward()
    assert loss.dtype == torch.float32
    assert head.weight.grad.isfinite().all()
    torch.testing.assert_close(loss, exact, rtol=0.05, atol=0.05)
    embeddings[0, 0] = math.nan
    assert head(embeddings, labels).isnan()


def test_a_certain_mistake_is_finite_and_bounded_by_eps() -> None:
    head = Seesaw(2, 3, scale=500.0, class_counts=[1e6, 1, 1e6])
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]))
    x = torch.tensor([[-1.0, 0.0]], requires_grad=True)
    loss = head(x, torch.tensor([0]))
    loss.backward()
    # z = -500, 500, 0; the mitigation is 1e-6^0.8, the compensation 100^2.
    assert loss.item() == pytest.approx(1000 + 0.8 * math.log(1e-6) + 2 * math.log(100), rel=1e-6)
    assert x.grad.isfinite().all()


def test_it_counts_what_it_sees_and_the_loss_follows() -> None:
    head, embeddings_and_labels = made(class_counts=None, ignore_index=-1, background=0), doubles(8)
    embeddings_and_labels[1][0] = 1
    before = head(*embeddings_and_labels)
    labels = torch.tensor([1, 1, 1, 0, 0, -1, 6], dtype=torch.int32)
    for _ in range(3):
        head.observe(torch.zeros(7, D), labels)
    head.observe(torch.zeros(0, D), labels[:0])
    assert head.seen.tolist() == head.counts().tolist() == [0, 9, 0, 0, 0, 0, 3]
    assert head(*embeddings_and_labels) != before
    known = made(class_counts=[0, 9, 0, 0, 0, 0, 3], ignore_index=-1, background=0)
    assert head(*embeddings_and_labels) == known(*embeddings_and_labels)
    known.observe(torch.zeros(7, D), labels)
    assert known.counts().tolist() == [0, 12, 0, 0, 0, 0, 4]


def test_counts_survive_casts_files_copies_and_new_classes() -> None:
    head = Seesaw(D, C)
    big = 2**24 + 1  # no number of float32
    head.seen.copy_(torch.tensor([big, 70_000, 0, 0, 0, 0, 1]))
    for twin in (copy.deepcopy(head), copy.deepcopy(head).half().float().double()):
        assert twin.seen.tolist() == head.seen.tolist()
    file = io.BytesIO()
    torch.save(head.state_dict(), file)
    file.seek(0)
    twin = Seesaw(D, C)
    twin.load_state_dict(torch.load(file, weights_only=True))
    twin.observe(torch.zeros(1, D), torch.tensor([0]))
    assert twin.seen[0] == big + 1
    assert head.seen[0] == big
    head.add_classes(2)
    assert head.seen.tolist() == [big, 70_000, 0, 0, 0, 0, 1, 0, 0]
    assert head(torch.zeros(2, D), torch.tensor([0, C + 1])).isfinite()
    with pytest.raises(RuntimeError, match="size mismatch for seen"):
        twin.load_state_dict({**twin.state_dict(), "seen": head.seen})
    earlier = head.state_dict()
    earlier["_extra_state"] = earlier.pop("seen")
    heir = Seesaw(D, C + 2)
    heir.load_state_dict(earlier)
    assert torch.equal(heir.seen, head.seen)


@pytest.mark.parametrize(
    ("rows", "labels", "told"),
    [
        (2, torch.tensor([0, C]), f"labels: got {C} at position 1"),
        (3, torch.tensor([0, 1]), r"labels: got shape \(2,\); expected \(3,\)"),
        (2, torch.zeros(2), "labels: got torch.float32"),
    ],
)
def test_labels_that_are_none_are_told_and_not_counted(rows: int, labels: Tensor, told: str) -> None:
    head = Seesaw(D, C)
    with pytest.raises(ArgumentError, match=told):
        head.observe(torch.zeros(rows, D), labels)
    assert (head.seen == 0).all()


def in_each_process(rank: int, world: int) -> dict[str, Any]:
    head = Seesaw(D, C, ignore_index=-1)
    wrapped = DistributedDataParallel(torch.nn.ModuleDict({"head": head}))
    alone = Seesaw(D, C, together=False)
    for step in range(4):
        embeddings, labels = batch(6, D, C, seed=step)
        here = slice(0, 0) if rank == 1 and step == 2 else slice(rank * 2, 6 if rank else 2)
        embeddings, labels = embeddings[here], labels[here]
        head.observe(embeddings, labels)
        alone.observe(embeddings, labels)
        if step != 2:
            wrapped.module["head"](embeddings, labels).backward()
    try:
        head.observe(torch.zeros(1, D), torch.tensor([99 if rank == 0 else 0]))
        told = ""
    except ArgumentError as error:
        told = str(error)
    stored = TrainingState(wrapped.module).state_dict()["model"]["head.seen"]
    try:
        shard_classes(Seesaw(D, C))(torch.zeros(2, D), torch.tensor([0, 1]))
        sharded = ""
    except ArgumentError as error:
        sharded = str(error)
    return {"seen": head.seen, "alone": alone.seen, "told": told, "stored": stored, "sharded": sharded}


@pytest.mark.slow
def test_two_processes_count_what_one_would(tmp_path: Path) -> None:
    (found,) = in_processes(tmp_path / "work", (2, in_each_process))
    expected = torch.zeros(C, dtype=torch.int64)
    for step in range(4):
        labels = batch(6, D, C, seed=step)[1]
        expected += torch.bincount(labels[:2] if step == 2 else labels, minlength=C)
    for process in found:
        assert process["seen"].tolist() == process["stored"].tolist() == expected.tolist()
        assert "weight: got sharded classes; expected whole ones" in process["sharded"]
    assert sum(process["alone"] for process in found).tolist() == expected.tolist()
    assert "labels: got 99 at position 0" in found[0]["told"]
    assert "labels: got illegal ones on another process" in found[1]["told"]


@pytest.mark.slow
def test_compiling_it_changes_nothing() -> None:
    torch.compiler.reset()
    head = made(background=0)
    compiled = torch.compile(head, backend="aot_eager", fullgraph=True)
    embeddings, labels = doubles(6)
    torch.testing.assert_close(compiled(embeddings, labels), head(embeddings, labels))
