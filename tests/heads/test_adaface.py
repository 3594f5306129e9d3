"""AdaFace against the paper's formula, one row at a time, and the losses that it is at either end."""

import copy
import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import bisector as bs
from bisector.errors import ArgumentError
from bisector.heads import build_head
from head_cases import batch, learns
from real_processes import in_processes

D, C, S, M, H = 5, 6, 16.0, 0.4, 0.333
Statistics = tuple[float, float]


def rows(B: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Embeddings of lengths from 0.1 to 30, in no order, and labels."""
    x, y = batch(B, D, C, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.logspace(-1, 1.5, B)[torch.randperm(B, generator=generator)]
    return (torch.nn.functional.normalize(x) * lengths[:, None]).double(), y


def statistics(x: Tensor) -> Statistics:
    """Mean and standard deviation of the clipped lengths, by hand."""
    lengths = [min(max(math.sqrt(sum(v * v for v in row)), 0.001), 100.0) for row in x.tolist()]
    mean = sum(lengths) / len(lengths)
    return mean, math.sqrt(sum((length - mean) ** 2 for length in lengths) / (len(lengths) - 1))


def published(x: Tensor, weight: Tensor, y: Tensor, known: Statistics, m: float = M, h: float = H) -> Tensor:
    """The losses: cross-entropy of s (cos(theta_y + g_angle) - g_add) and s cos(theta_j)."""
    losses = []
    for row, label in zip(x, y.tolist(), strict=True):
        z = (min(max(float(row.detach().norm()), 0.001), 100.0) - known[0]) / (known[1] + 1e-3) * h
        z = min(max(z, -1.0), 1.0)
        g_angle, g_add = -m * z, m * z + m
        logits = [S * (row @ w) / (row.norm() * w.norm()) for w in weight]
        theta = torch.acos(logits[label] / S) + g_angle
        logits[label] = S * (theta.clamp(1e-3, math.pi - 1e-3).cos() - g_add)
        losses.append(torch.logsumexp(torch.stack(logits), 0) - logits[label])
    return torch.stack(losses)


def made(kind: Any = bs.AdaFace, **options: Any) -> Any:
    torch.manual_seed(0)
    return kind(D, C, **{"margin": M, "scale": S, "dtype": torch.float64, **options})


@pytest.mark.parametrize("h", [H, 3.0, 0.0])
@pytest.mark.parametrize("backend", ["dense", "chunked"])
def test_loss_and_gradients_are_those_of_the_paper(backend: Any, h: float) -> None:
    head, (x, y) = made(backend=backend, h=h, reduction="none"), rows(24)
    x.requires_grad_()
    seen = rows(9, seed=1)[0] / 2
    for known in (
        statistics(x.detach()),
        statistics(seen),
    ):  # the batch's own, until a batch has been observed
        loss, expected = head(x, y), published(x, head.weight, y, known, h=h)
        torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
        pull = torch.linspace(0.5, 1.5, len(y), dtype=torch.float64)
        for got, wanted in zip(
            torch.autograd.grad((loss * pull).sum(), [x, head.weight]),
            torch.autograd.grad((expected * pull).sum(), [x, head.weight]),
            strict=True,
        ):
            torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-10)
        head.observe(seen, y[:9])


def test_the_gradient_is_that_of_finite_differences_where_lengths_stay() -> None:
    head, (x, y) = made(), rows(7)
    head.observe(*rows(9, seed=1))
    lengths = x.norm(dim=1, keepdim=True)

    def loss(directions: Tensor, weight: Tensor) -> Tensor:
        turned = torch.nn.functional.normalize(directions) * lengths
        return torch.func.functional_call(head, {"weight": weight}, (turned, y))

    assert torch.autograd.gradcheck(loss, (x.requires_grad_(), head.weight))


@pytest.mark.parametrize("backend", ["dense", "chunked"])
def test_equal_lengths_are_am_softmax_and_the_ends_are_arcface_and_its_mirror(backend: Any) -> None:
    x, y = rows(40)
    x = torch.nn.functional.normalize(x)
    ada, am, arc = made(backend=backend), made(bs.AMSoftmax), made(bs.ArcFace)
    torch.testing.assert_close(ada(3 * x, y), am(x, y), rtol=1e-12, atol=1e-12)
    ada.observe(20 + torch.rand(50, 1) * torch.eye(D)[0], torch.zeros(50))
    theta = torch.acos((arc.logits(x) / S).gather(1, y[:, None])[:, 0])
    x, y = (part[(theta > M) & (theta < math.pi - M)] for part in (x, y))  # further on ArcFace is not clipped
    torch.testing.assert_close(ada(x / 50, y), arc(x, y), rtol=1e-9, atol=1e-9)
    other = bs.CombinedMargin(D, C, m2=-M, m3=2 * M, scale=S, dtype=torch.float64)
    other.load_state_dict(arc.state_dict())
    torch.testing.assert_close(ada(99 * x, y), other(x, y), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ada.logits(99 * x), arc.logits(x))


def test_the_statistics_follow_the_batches() -> None:
    head, (x, y) = made(momentum=0.25, ignore_index=-1, background=2), rows(30)
    y[3], y[7] = -1, 2
    x[11] = math.nan
    left = [row for row in range(30) if row not in {3, 7, 11} and y[row] != 2]
    head.observe(x, y)
    mean, std = statistics(x[left])
    assert (float(head.length_mean), float(head.length_std)) == pytest.approx((mean, std), rel=1e-12)
    more = rows(8, seed=2)[0] * 5  # some longer than 100
    head.observe(more, torch.ones(8, dtype=torch.long))
    both = statistics(more)
    expected = (0.75 * mean + 0.25 * both[0], 0.75 * std + 0.25 * both[1])
    assert (float(head.length_mean), float(head.length_std)) == pytest.approx(expected, rel=1e-12)
    before = copy.deepcopy(head.state_dict())
    for few in (0, 1):  # no deviation
        head.observe(more[:few], torch.ones(few, dtype=torch.long))
    head.observe(more, torch.full((8,), -1))
    head.eval()(more, y[:8].clamp_min(0))
    head.train()(more, y[:8].clamp_min(0))  # the loss changes nothing
    assert all(torch.equal(head.state_dict()[name], value) for name, value in before.items())


def test_a_loss_is_that_of_the_statistics_it_was_computed_with() -> None:
    for reduction in ("mean", "none"):
        head, (x, y) = made(reduction=reduction, backend="chunked"), rows(9)
        x.requires_grad_()
        head.observe(x, y)
        (expected,) = torch.autograd.grad(copy.deepcopy(head)(x, y).sum(), [x])
        loss = head(x, y)
        head.observe(50 * x, y)
        torch.testing.assert_close(torch.autograd.grad(loss.sum(), [x])[0], expected, rtol=0, atol=0)


def test_rows_that_do_not_count_change_no_loss_of_others() -> None:
    x, y = rows(20)
    y[y == 2] = 3
    head = made(ignore_index=-1, background=2, reduction="none")
    for row, label in ((4, -1), (9, 2)):
        others = [other for other in range(20) if other != row]
        labels = y.clone()
        labels[row] = label
        torch.testing.assert_close(head(x, labels)[others], head(x[others], y[others]))
    plain = made(bs.AMSoftmax, margin=0.0)
    torch.testing.assert_close(head(x, torch.full_like(y, 2)).mean(), plain(x, torch.full_like(y, 2)))
    assert (head(x, torch.full_like(y, -1)) == 0).all()
    # One row has no deviation: the margin is that of a length like all others.
    torch.testing.assert_close(made()(x[:1], y[:1]), made(bs.AMSoftmax)(x[:1], y[:1]))


def test_probabilities_a_margin_of_each_class_and_a_warm_up() -> None:
    x, y = rows(20)
    margins = torch.linspace(0.1, 0.6, C).double()
    head = made(margin=margins, warmup=2, reduction="none")
    one_hot = torch.nn.functional.one_hot(y, C).double()
    head.observe(x, one_hot)
    known = statistics(x)
    assert float(head.length_mean) == pytest.approx(known[0])
    for share in (0.5, 1.0):
        alone = [
            published(x[i : i + 1], head.weight, y[i : i + 1], known, float(share * margins[y[i]]))
            for i in range(20)
        ]
        for labels in (y, one_hot):
            torch.testing.assert_close(head(x, labels), torch.cat(alone), rtol=1e-9, atol=1e-9)
        head.observe(x[:0], y[:0])  # a step, but no length
    assert float(head.length_mean) == pytest.approx(known[0])


def test_the_statistics_go_through_files_and_begin_anew_with_the_weights() -> None:
    head, (x, y) = made(), rows(12)
    head.observe(x, y)
    file = io.BytesIO()
    torch.save(head.state_dict(), file)
    file.seek(0)
    twin = made()
    twin.load_state_dict(torch.load(file, weights_only=True))
    for each in (head, twin):
        each.observe(2 * x, y)
    assert torch.equal(twin(x, y), head(x, y))
    assert (twin.length_mean, twin.length_std) == (head.length_mean, head.length_std)
    twin.add_classes(2)
    assert twin.length_mean == head.length_mean
    assert twin.half().length_mean == head.length_mean
    twin.reset_parameters()
    assert (float(twin.length_mean), float(twin.length_std)) == (0, 0)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_lengths_are_measured_in_float32_or_better(half: torch.dtype) -> None:
    x = torch.full((2, 3001), 0.5, dtype=half)  # 3001 is no number of 8 or 11 bits
    x[1] *= 3
    head = bs.AdaFace(3001, C, dtype=half)
    head.observe(x, torch.zeros(2))
    root = math.sqrt(3001) / 2
    assert float(head.length_mean) == pytest.approx(2 * root, rel=1e-6)
    assert float(head.length_std) == pytest.approx(math.sqrt(2) * root, rel=1e-6)


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        (torch.zeros(3, D + 1), torch.zeros(3), r"embeddings: got shape \(3, 6\); expected \(rows, 5\)"),
        (torch.zeros(3, D), torch.zeros(2), r"labels: got shape \(2,\); expected \(3,\) classes"),
        (torch.zeros(3, D), [0, 1, 2], "labels: got list; expected a tensor"),
    ],
)
def test_what_cannot_be_observed_is_told_and_not_counted(x: Tensor, y: Any, told: str) -> None:
    head = made(warmup=3)
    with pytest.raises(ArgumentError, match=told):
        head.observe(x, y)
    assert (int(head.steps), float(head.length_mean)) == (0, 0)


def test_a_margin_by_length_asks_for_the_lengths() -> None:
    with pytest.raises(ArgumentError, match="margin: got no lengths for a rule by length"):
        made().margin()(torch.zeros(2, C), torch.zeros(2, dtype=torch.long))
    loss = bs.margin_cross_entropy(*rows(8)[:1], made().weight, rows(8)[1], margin=made().margin(), scale=S)
    assert torch.equal(loss, made()(*rows(8)))


def test_it_learns_and_is_called_by_its_name() -> None:
    head = build_head("adaface:margin=0.2:h=0.5:momentum=0.1:scale=16", D, C)
    assert repr(head) == "AdaFace(in_features=5, num_classes=6, scale=16, margin=0.2, h=0.5, momentum=0.1)"
    assert learns(head)


def in_each_process(rank: int, world: int) -> dict[str, Any]:
    whole, sharded = made(ignore_index=-1), bs.shard_classes(made(ignore_index=-1))
    alone, found = made(together=False), []
    for step in range(4):
        x, y = rows(6, seed=step)
        y[5] = -1
        here = slice(0, 0) if rank == 1 and step == 2 else slice(rank * 2, 6 if rank else 2)
        if step == 2 and rank == 0:
            here = slice(0, 6)
        mine = x[here].requires_grad_()
        loss = sharded(mine, y[here])
        loss.backward()
        found.append({"loss": loss.detach(), "gradient": mine.grad / world, "rows": here})
        for head in (whole, sharded, alone):
            head.observe(mine, y[here])
    try:
        whole.observe(torch.zeros(1, D + rank), torch.zeros(1))
        told = ""
    except ArgumentError as error:
        told = str(error)
    statistics_of = {
        name: (float(head.length_mean), float(head.length_std))
        for name, head in (("whole", whole), ("sharded", sharded), ("alone", alone))
    }
    return {"found": found, "told": told, "weight": sharded.weight.grad.full_tensor(), **statistics_of}


@pytest.mark.slow
def test_two_processes_are_as_one_with_sharded_classes_and_with_whole_ones(tmp_path: Path) -> None:
    (found,) = in_processes(tmp_path / "work", (2, in_each_process))
    head = made(ignore_index=-1)
    for step in range(4):
        x, y = rows(6, seed=step)
        y[5] = -1
        x.requires_grad_()
        loss = head(x, y)
        loss.backward()
        head.observe(x, y)
        for process in found:
            part = process["found"][step]
            torch.testing.assert_close(part["loss"], loss.detach(), rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(part["gradient"], x.grad[part["rows"]], rtol=1e-9, atol=1e-12)
    expected = (float(head.length_mean), float(head.length_std))
    for process in found:
        torch.testing.assert_close(process["weight"], head.weight.grad, rtol=1e-9, atol=1e-12)
        assert process["whole"] == process["sharded"] == pytest.approx(expected, rel=1e-12)
        assert process["whole"] == found[0]["whole"]
    assert found[0]["alone"] != found[1]["alone"]
    assert "embeddings or labels: got illegal ones on another process" in found[0]["told"]
    assert "embeddings: got shape (1, 6)" in found[1]["told"]
