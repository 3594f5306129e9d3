import functools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bisector.engine.sampled import sample_classes, sampled_margin_cross_entropy, take_rows
from bisector.errors import ArgumentError
from bisector.functional.margins import Margin, PairwiseMargin
from bisector.functional.row_losses import RowLoss
from bisector.heads import IGAM, AMSoftmax, Head, NormalizedSoftmax
from head_cases import CASES, Case, batch, made
from naive_losses import NaiveLoss

B, D, C = 12, 5, 9
BACKENDS = ["dense", "chunked"]


def dense_of(gradient: Tensor) -> Tensor:
    return gradient.to_dense() if gradient.is_sparse else gradient


def test_every_draw_has_the_positives_and_is_of_the_right_size() -> None:
    generator = torch.Generator().manual_seed(0)
    for fraction in (0.001, 0.1, 0.37, 0.999, 1.0):
        for rows in (1, 30, 400):
            labels = torch.randint(200, (rows,), generator=generator)
            labels[::7] = -100
            named = labels[labels >= 0].unique()
            classes = sample_classes(labels, 200, fraction, generator=generator)
            assert torch.isin(named, classes).all()
            assert len(classes) == max(math.ceil(fraction * 200), len(named))
            assert (classes.diff() > 0).all()
            assert classes.dtype == torch.long
            assert int(classes[0]) >= 0
            assert int(classes[-1]) < 200


def test_a_batch_of_nothing_but_ignored_rows_draws_all_the_same() -> None:
    head = AMSoftmax(D, 100, sample=0.05)
    x = torch.randn(3, D, requires_grad=True)
    loss = head(x, torch.full((3,), -100))
    loss.backward()
    assert float(loss.detach()) == 0
    assert (x.grad == 0).all()
    assert (head.weight.grad.to_dense() == 0).all()


def test_the_other_classes_are_drawn_uniformly_and_independently() -> None:
    generator = torch.Generator().manual_seed(3)
    classes, draws, labels = 60, 4000, torch.tensor([5, 41, 5])
    chosen = torch.zeros(draws, classes, dtype=torch.float64)
    for draw in range(draws):
        chosen[draw, sample_classes(labels, classes, 0.25, generator=generator)] = 1
    others = [c for c in range(classes) if c not in {5, 41}]
    seen = chosen[:, others]
    share = (15 - 2) / 58
    assert (chosen[:, [5, 41]] == 1).all()
    # Hypergeometric: each class with probability 13/58, each pair with 13/58 * 12/57.
    error = math.sqrt(share * (1 - share) / draws)
    assert (seen.mean(0) - share).abs().max() < 4 * error
    together = (seen.T @ seen / draws)[~torch.eye(58, dtype=torch.bool)]
    expected = share * 12 / 57
    assert (together - expected).abs().max() < 5 * math.sqrt(expected * (1 - expected) / draws)


def test_draws_follow_the_seed() -> None:
    labels = torch.tensor([1, 2])
    torch.manual_seed(7)
    first, second = (sample_classes(labels, 1000, 0.1) for _ in range(2))
    torch.manual_seed(7)
    again = sample_classes(labels, 1000, 0.1)
    own = [sample_classes(labels, 1000, 0.1, generator=torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(*own)


def gradients_of(head: Head, loss: Tensor, x: Tensor) -> list[Tensor]:
    return [dense_of(g) for g in torch.autograd.grad(loss, [x, *head.parameters()])]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_where_all_classes_are_drawn_it_is_the_full_loss(case: Case, backend: str) -> None:
    full = made(case, D, C, dtype=torch.float64, backend=backend)
    drawn = made(case, D, C, dtype=torch.float64, backend=backend, sample=0.999)
    x, y = batch(B, D, C)
    x = x.double().requires_grad_()
    losses = [head(x, y) for head in (full, drawn)]
    assert torch.equal(*losses)
    for a, b in zip(
        *(gradients_of(head, loss, x) for head, loss in zip((full, drawn), losses, strict=True)), strict=True
    ):
        assert torch.equal(a, b)


def renumbered(case: Case, head: Head, classes: Tensor) -> NaiveLoss:
    """The naive loss that knows a class by its place among the drawn ones and its rules by the class itself."""
    naive = case.naive(C, head.weight)
    number = classes.tolist()
    return NaiveLoss(
        kind=naive.kind,
        target=lambda cos, y: naive.target(cos, number[y]),
        by_row=naive.by_row and (lambda x: lambda cos, y: naive.by_row(x)(cos, number[y])),
        competitor=lambda cos, y, j: naive.competitor(cos, number[y], number[j]),
        offset=None if naive.offset is None else [naive.offset[c] for c in number],
        row=naive.row,
        added_target=naive.added_target,
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_draw_is_the_naive_loss_over_its_classes(
    case: Case, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = made(case, D, C, dtype=torch.float64, backend=backend, sample=0.7, reduction="none")
    x, y = batch(B, D, 4)
    x, y = x.double().requires_grad_(), y * 2
    torch.manual_seed(11)
    classes = sample_classes(y, C, 0.7)
    assert 4 < len(classes) < C
    torch.manual_seed(11)
    loss = head(x, y)
    scale = (
        1.0 if not hasattr(head, "log_scale") else 8.0 if head.log_scale is None else head.log_scale.exp()[0]
    )
    places = torch.searchsorted(classes, y)
    bias = None if head.bias is None else head.bias[classes]
    naive = renumbered(case, head, classes).rows(x, head.weight[classes], places, scale, bias)
    torch.testing.assert_close(loss, naive, rtol=1e-10, atol=1e-10)
    given = torch.randn(B, dtype=torch.float64)
    ours = torch.autograd.grad(loss, [x, *head.parameters()], given)
    theirs = torch.autograd.grad(naive, [x, *head.parameters()], given, allow_unused=True)
    for mine, their, name in zip(ours, theirs, ["x", *dict(head.named_parameters())], strict=True):
        if name in {"weight", "bias"}:
            assert mine.is_sparse
            assert set(mine._indices()[0].tolist()) == set(classes.tolist())
        torch.testing.assert_close(
            dense_of(mine), torch.zeros_like(their) if their is None else their, rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignore_index", [-100, 2, 6])
@pytest.mark.parametrize("sparse", [True, False])
def test_options_mean_what_they_mean_in_cross_entropy(
    sparse: bool, ignore_index: int, reduction: str, backend: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    x, w, b = (
        torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()
        for shape in [(B, D), (C, D), (C,)]
    )
    labels = torch.tensor([0, 4, -100, 2, 2, 6, 8, -100, 0, 6, 4, 4])
    labels = labels if ignore_index < 0 else labels.where(labels >= 0, ignore_index)
    weights = torch.arange(1.0, C + 1).double()
    classes = torch.tensor([0, 1, 2, 4, 6, 8])
    ours = sampled_margin_cross_entropy(
        x, w, labels, classes=classes, sparse=sparse, score="dot", scale=1.0, offset=b, class_weight=weights,
        row_loss=RowLoss(label_smoothing=0.1), reduction=reduction, ignore_index=ignore_index, backend=backend,
    )  # fmt: skip
    place = torch.searchsorted(classes, labels.clamp_min(0)).where(labels != ignore_index, -100)
    logits = F.linear(x, w[classes], b[classes])
    theirs = F.cross_entropy(logits, place, weight=weights[classes], label_smoothing=0.1, reduction=reduction)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for mine, their in zip(
        *(torch.autograd.grad(loss.sum(), [x, w, b]) for loss in (ours, theirs)), strict=True
    ):
        torch.testing.assert_close(dense_of(mine), their, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rules_see_the_classes_by_their_own_numbers(backend: str) -> None:
    classes, labels = torch.tensor([1, 4, 5, 8]), torch.tensor([4, 8, 8, 1])
    x, w = torch.randn(4, D, dtype=torch.float64), torch.randn(C, D, dtype=torch.float64, requires_grad=True)
    own = torch.linspace(0.1, 0.5, C, dtype=torch.float64)
    matrix = torch.rand(C, C, dtype=torch.float64)

    def custom(cos: Tensor, y: Tensor, j: Tensor) -> Tensor:
        return cos * (0.5 + matrix[y, j] / 2)

    pairwise = PairwiseMargin(own, own.flip(0), "press")
    margin = Margin(
        target=lambda cos, y: cos - own[y], pairwise=pairwise, custom=custom, competitor_shift=0.1
    )
    loss = sampled_margin_cross_entropy(
        x, w, labels, classes=classes, margin=margin, scale=5.0, backend=backend
    )
    logits = F.cosine_similarity(x[:, None], w, dim=-1)
    logits = margin(logits, labels)  # over all classes; then those that were not drawn are taken away
    expected = F.cross_entropy(5.0 * logits[:, classes], torch.searchsorted(classes, labels))
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    for mine, their in zip(torch.autograd.grad(loss, w), torch.autograd.grad(expected, w), strict=True):
        torch.testing.assert_close(mine.to_dense(), their, rtol=1e-10, atol=1e-10)


def test_sampling_acts_in_training_mode_only() -> None:
    torch.manual_seed(0)
    head = AMSoftmax(D, 50, sample=0.1)
    full = AMSoftmax(D, 50)
    full.load_state_dict(head.state_dict())
    x, y = torch.randn(4, D), torch.tensor([0, 7, 7, 3])
    assert not torch.equal(head(x, y), full(x, y))
    assert torch.equal(head.eval()(x, y), full(x, y))
    assert torch.equal(head.train().logits(x), full.logits(x))
    assert "sample=0.1" in repr(head)
    assert "sample" not in repr(full)


def test_gradients_of_several_micro_batches_add_up() -> None:
    head = NormalizedSoftmax(D, 40, sample=0.2)
    expected = torch.zeros(40, D)
    for seed in range(3):
        x, y = batch(6, D, 40, seed=seed)
        torch.manual_seed(seed)
        head(x, y).backward()
        classes = []
        torch.manual_seed(seed)
        classes = sample_classes(y, 40, 0.2)
        w = head.weight.detach().clone().requires_grad_()
        logits = 30.0 * F.cosine_similarity(x[:, None], w[classes], dim=-1)
        F.cross_entropy(logits, torch.searchsorted(classes, y)).backward()
        expected += w.grad
    assert head.weight.grad.is_sparse
    torch.testing.assert_close(head.weight.grad.to_dense(), expected, rtol=1e-4, atol=1e-5)
    head.zero_grad()
    assert head.weight.grad is None


def test_a_sparse_gradient_costs_its_rows_alone() -> None:
    values, rows = torch.randn(10**7, 1, requires_grad=True), torch.tensor([3, 10**6])
    (gradient,) = torch.autograd.grad(take_rows(values, rows, sparse=True).sum(), values)
    assert gradient._values().numel() == 2
    assert gradient.is_coalesced()
    dense = torch.randn(7, 2, requires_grad=True)
    assert not torch.autograd.grad(take_rows(dense, rows[:1], sparse=False).sum(), dense)[0].is_sparse


def test_activation_checkpoints_draw_the_same_classes_again() -> None:
    from torch.utils.checkpoint import checkpoint

    for reentrant in (False, True):
        head = AMSoftmax(D, 60, sample=0.2)
        x, y = batch(8, D, 60)
        x.requires_grad_()
        results = []
        for call in (head, functools.partial(checkpoint, head, use_reentrant=reentrant)):
            torch.manual_seed(1)
            head.weight.grad = x.grad = None
            call(x, y).backward()
            results.append((head.weight.grad.to_dense(), x.grad))
        for a, b in zip(*results, strict=True):
            assert torch.equal(a, b)


def test_sampled_training_learns_the_digits_nearly_as_well() -> None:
    from sklearn.datasets import load_digits

    from bisector.optim.rowwise_adamw import RowwiseAdamW

    pixels, labels = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
    pixels = pixels.float() / 16
    accuracy = {}
    for sample in (1.0, 0.3):
        torch.manual_seed(0)
        backbone, head = (
            nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16)),
            AMSoftmax(16, 100, sample=sample),
        )
        optimizer = RowwiseAdamW([*backbone.parameters(), *head.parameters()], lr=5e-3)
        for _ in range(8):
            for rows in torch.randperm(1300).split(64):
                optimizer.zero_grad()
                head(backbone(pixels[rows]), 10 * labels[rows]).backward()
                optimizer.step()
        with torch.no_grad():
            found = head.predict(backbone(pixels[1300:]))
        accuracy[sample] = float((found == 10 * labels[1300:]).double().mean())
    assert accuracy[1.0] > 0.88
    assert accuracy[0.3] > accuracy[1.0] - 0.03


BAD = [
    ({"labels": torch.full((2, C), 1 / C)}, "labels: got probabilities"),
    ({"labels": torch.tensor([0, C])}, f"labels: got {C} at position 1"),
    ({"classes": torch.tensor([0, 2])}, "labels: got 1 at position 1; expected one of the 2 drawn classes"),
    ({"classes": torch.tensor([1, 0])}, "classes"),
    ({"classes": torch.tensor([0, 1, C])}, "classes: got 9 at position 2"),
    ({"fraction": 0.5}, "fraction"),
    ({"classes": None, "fraction": 0.0}, "sample"),
    ({"offset": torch.zeros(2)}, r"offset: got shape \(2,\)"),
    ({"class_weight": torch.zeros(2)}, r"class_weight: got shape \(2,\)"),
    ({"margin": Margin(pairwise=PairwiseMargin(torch.zeros(2), torch.zeros(2)))}, "margin.pairwise.r"),
]


@pytest.mark.parametrize(("bad", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_arguments_are_named(bad: dict, message: str) -> None:
    good = {"labels": torch.tensor([0, 1]), "classes": torch.tensor([0, 1])}
    with pytest.raises(ArgumentError, match=message):
        sampled_margin_cross_entropy(torch.ones(2, D), torch.ones(C, D), **{**good, **bad})


@pytest.mark.parametrize("sample", [0.0, -0.1, 1.1, math.nan, "half"])
def test_a_head_names_an_illegal_share(sample: object) -> None:
    with pytest.raises(ArgumentError, match="sample: got"):
        IGAM(D, C, sample=sample)
