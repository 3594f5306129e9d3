"""The chunked loss is the dense one: every head, option and dtype, however rows and classes are cut."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bisector.engine import chunked
from bisector.engine.budget import MemoryBudget, Plan, Scratch, release_workspace
from bisector.engine.budget import plan as make_plan
from bisector.engine.dispatch import margin_cross_entropy
from bisector.errors import ArgumentError
from bisector.functional import reference
from bisector.functional.margins import Margin, PairwiseMargin
from bisector.functional.row_losses import RowLoss
from bisector.functional.scores import class_scores
from head_cases import CASES, SCALE, Case

DTYPES = {
    "float64": (torch.float64, None),
    "float32": (torch.float32, None),
    "bfloat16": (torch.bfloat16, None),
    "float16": (torch.float16, None),
    "autocast-bfloat16": (torch.float32, torch.bfloat16),
    "autocast-float16": (torch.float32, torch.float16),
}


@contextlib.contextmanager
def cut(rows: int, classes: int, keep: bool) -> Iterator[None]:
    """Cut the walk as told, where a budget would take problems as small as these in one piece."""

    def plan(B: int, C: int, *_: int, kept_bytes: int, **__: Any) -> Plan:
        return Plan(min(rows, B), min(classes, max(C, 1)), keep and kept_bytes > 0)

    with patch.object(chunked, "plan", plan):
        yield


def results(
    head: nn.Module, x: Tensor, labels: Tensor, upstream: Tensor, backend: str, autocast: torch.dtype | None
) -> list[Tensor]:
    """Return the loss and the gradients of embeddings and parameters."""
    head.backend = backend
    leaf = x.detach().clone().requires_grad_()
    head.zero_grad()
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        loss = head(leaf, labels)
    (loss * upstream).sum().backward()
    gradients = [None if p.grad is None else p.grad.clone() for p in head.parameters()]
    assert all(
        g is not None and g.dtype == p.dtype for g, p in zip(gradients, head.parameters(), strict=True)
    )
    return [loss.detach(), leaf.grad, *gradients]


def largest_error(results: list[Tensor], exact: list[Tensor], number: int) -> float:
    return float((results[number].double() - exact[number]).abs().max())


@contextlib.contextmanager
def rounded_scores(epsilon: float) -> Iterator[None]:
    """Move every score of the dense loss by one rounding, up or down."""

    def scores(*arguments: Any) -> Tensor:
        exact = class_scores(*arguments)
        return exact * (1 + epsilon * torch.randn_like(exact).sign())

    with patch.object(reference, "class_scores", scores):
        yield


@given(
    case=st.sampled_from(CASES),
    dtype=st.sampled_from(list(DTYPES)),
    rows=st.integers(1, 9),
    dim=st.integers(1, 6),
    classes=st.integers(2, 12),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    smoothing=st.sampled_from([0.0, 0.0, 0.1]),
    weighted=st.booleans(),
    labels=st.sampled_from(["classes", "some-ignored", "all-ignored", "soft"]),
    pieces=st.tuples(st.integers(1, 9), st.integers(1, 12), st.booleans()),
    seed=st.integers(0, 10**6),
)
def test_every_head_agrees_with_the_reference_as_well_as_the_dense_loss_does(
    case: Case,
    dtype: str,
    rows: int,
    dim: int,
    classes: int,
    reduction: str,
    smoothing: float,
    weighted: bool,
    labels: str,
    pieces: tuple[int, int, bool],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    parameters, autocast = DTYPES[dtype]
    probability = not case.soft_labels
    options: dict[str, Any] = {"reduction": reduction, "label_smoothing": 0.0 if probability else smoothing}
    if weighted:
        options["weight"] = torch.rand(classes) + 0.1
    head = case.build(dim, classes, dtype=parameters, **options)
    x = torch.randn(rows, dim).to(parameters)
    y = torch.randint(classes, (rows,))
    if labels == "some-ignored":
        y[torch.rand(rows) < 0.5] = -100
    elif labels == "all-ignored":
        y[:] = -100
    elif labels == "soft" and not probability:
        y = torch.rand(rows, classes)
    upstream = torch.rand(rows if reduction == "none" else ())
    dense = results(head, x, y, upstream, "dense", autocast)
    with cut(*pieces):
        ours = results(head, x, y, upstream, "chunked", autocast)
    exact_y = y.double() if y.is_floating_point() else y
    exact = results(head.double(), x.double(), exact_y, upstream.double(), "dense", None)
    # One rounding of the scores, in the dtype that they are worked in, moves the exact result by this much: far
    # where a row points along a weight and the angle's derivative has no bound. The dense loss may be lucky there.
    nudged = []
    for _ in range(3):
        with rounded_scores(torch.finfo(torch.promote_types(parameters, torch.float32)).eps):
            nudged.append(results(head, x.double(), exact_y, upstream.double(), "dense", None))
    epsilon = torch.finfo(autocast or parameters).eps
    # Where the dense loss happens to be exact, the rounding of the (12) terms that a gradient sums is allowed.
    shortest = min(float(v.double().norm(dim=-1).min()) for v in (x, head.weight.detach()))
    term = SCALE * float(upstream.abs().max()) / min(1.0, shortest)
    for number, one in enumerate(exact):
        unit = float(one.abs().max()) + term
        assert ours[number].dtype == dense[number].dtype
        error = max(largest_error(other, exact, number) for other in (dense, *nudged))
        assert largest_error(ours, exact, number) <= 2 * error + 8 * epsilon * unit, number


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_element_is_written(case: Case, keep: bool) -> None:
    head = case.build(5, 11, dtype=torch.float64)
    x, y = torch.randn(7, 5, dtype=torch.float64), torch.randint(11, (7,))
    y[2] = -100
    expected = results(head, x, y, torch.ones(()), "dense", None)
    torch.use_deterministic_algorithms(True)  # fills what is allocated uninitialised with NaN
    try:
        with cut(3, 4, keep), patch.object(chunked, "WORKSPACE", _Poisoned()):
            poisoned = results(head, x, y, torch.ones(()), "chunked", None)
    finally:
        torch.use_deterministic_algorithms(False)
    for ours, theirs in zip(poisoned, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


class _Poisoned:
    """A workspace whose memory is not kept, so that all of it is fresh, and poisoned."""

    def take(self, size: int, device: torch.device) -> Any:
        return Scratch(torch.full((size,), 0xFF, dtype=torch.uint8), None)


def problem(rows: int = 6, dim: int = 4, classes: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(rows, dim, dtype=torch.float64, requires_grad=True)
    w = torch.randn(classes, dim, dtype=torch.float64, requires_grad=True)
    return x, w, torch.randint(classes, (rows,))


PAIRWISE = {
    "relax": lambda C: PairwiseMargin(torch.linspace(0, 0.6, C), torch.linspace(0.1, 0.5, C), "relax"),
    "press": lambda C: PairwiseMargin(torch.linspace(0, 0.6, C), torch.linspace(0.1, 0.5, C), "press"),
    "beyond-pi": lambda C: PairwiseMargin(torch.linspace(0, 9.0, C), torch.linspace(0, 1.0, C), "relax"),
    "below-0": lambda C: PairwiseMargin(torch.linspace(0, 9.0, C), torch.linspace(0, 1.0, C), "press"),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("pairwise", [None, *PAIRWISE])
def test_gradients_are_those_of_finite_differences(pairwise: str | None, reduction: str) -> None:
    x, w, y = problem()
    y[1] = -100
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    offset = torch.randn(len(w), dtype=torch.float64, requires_grad=True)
    margin = Margin(pairwise=PAIRWISE[pairwise](len(w)) if pairwise else None, competitor_shift=0.1)

    def loss(x: Tensor, w: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        with cut(4, 5, True):
            return margin_cross_entropy(
                x,
                w,
                y,
                margin=margin,
                scale=scale,
                offset=offset,
                row_loss=RowLoss(label_smoothing=0.1),
                reduction=reduction,
                backend="chunked",
            )

    # The gradients of the forward pass and those that a second use makes again may differ in the last digit.
    assert torch.autograd.gradcheck(loss, (x, w, scale, offset), nondet_tol=1e-10)


@pytest.mark.parametrize("direction", ["relax", "press"])
def test_near_the_ends_of_the_circle_the_pairwise_margin_is_exact(direction: str) -> None:
    angles = torch.cat([torch.linspace(0, 0.4, 40), torch.linspace(2.7, 3.14159265, 40)]).double()
    w = torch.stack([angles.cos(), angles.sin()], 1).requires_grad_()
    x = torch.tensor([[1.0, 0.0], [1.0, 1e-9], [-1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    g = torch.linspace(0, 0.5, 80)[torch.randperm(80)]
    margin, y = Margin(pairwise=PairwiseMargin(g, g, direction)), torch.tensor([3, 50, 7])
    both = []
    for backend in ("dense", "chunked"):
        loss = margin_cross_entropy(x, w, y, margin=margin, scale=16.0, backend=backend)
        both.append([loss, *torch.autograd.grad(loss, [x, w])])
    for dense, ours in zip(*both, strict=True):
        torch.testing.assert_close(ours, dense, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_graph_may_be_used_twice(reduction: str) -> None:
    x, w, y = problem()
    gradients = []
    for backend in ("dense", "chunked"):
        with cut(4, 5, True):
            loss = margin_cross_entropy(x, w, y, reduction=reduction, backend=backend).sum()
            first = torch.autograd.grad(loss, [x, w], retain_graph=True)
            second = torch.autograd.grad(3 * loss, [x, w], retain_graph=True)
            third = torch.autograd.grad(loss, [x, w])
        gradients.append([*first, *second, *third])
    for dense, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, dense, rtol=1e-10, atol=1e-12)


def test_gradients_accumulate_over_calls() -> None:
    x, w, y = problem()
    with cut(4, 5, True):
        for _ in range(3):
            (margin_cross_entropy(x, w, y, backend="chunked") / 3).backward()
    (expected,) = torch.autograd.grad(margin_cross_entropy(x, w, y, backend="dense"), [w])
    torch.testing.assert_close(w.grad, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("frozen", ["embeddings", "weight"])
def test_what_is_frozen_gets_no_gradient(frozen: str) -> None:
    x, w, y = problem()
    (x if frozen == "embeddings" else w).requires_grad_(False)
    margin_cross_entropy(x, w, y, backend="chunked").backward()
    assert (x.grad is None) == (frozen == "embeddings")
    assert (w.grad is None) == (frozen == "weight")


@pytest.mark.parametrize("reentrant", [False, True])
def test_under_activation_checkpointing(reentrant: bool) -> None:
    x, w, y = problem()
    net = nn.Linear(4, 4).double()

    def loss(x: Tensor) -> Tensor:
        return margin_cross_entropy(net(x), w, y, backend="chunked")

    with cut(4, 5, True):
        checkpointed = torch.utils.checkpoint.checkpoint(loss, x, use_reentrant=reentrant)
        checkpointed.backward()
    ours = [x.grad, w.grad.clone(), net.weight.grad.clone()]
    x.grad = w.grad = net.weight.grad = None
    loss(x).backward()
    for a, b in zip(ours, [x.grad, w.grad, net.weight.grad], strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.slow
def test_inside_a_compiled_model() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.weight = nn.Linear(4, 4), nn.Parameter(torch.randn(9, 4))

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return margin_cross_entropy(torch.tanh(self.net(x)), self.weight, y, backend="chunked")

    model, x, y = Model(), torch.randn(6, 4), torch.randint(9, (6,))
    model(x, y).backward()
    plain = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch.compile(model)(x, y).backward()
    for ours, parameter in zip(plain, model.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, ours)


def learned_margins() -> dict[str, tuple[nn.Parameter, Margin]]:
    m = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
    v = nn.Parameter(torch.linspace(-1, 1, 9, dtype=torch.float64))
    return {
        "target": (m, Margin(target=lambda cos, y: cos - m.exp())),
        "target-per-class": (v, Margin(target=lambda cos, y: cos - torch.sigmoid(v)[y])),
        "target-over-the-batch": (m, Margin(target=lambda cos, y: cos - m * cos.mean())),
        "custom": (m, Margin(custom=lambda cos, y, j: torch.where(j == y, cos - m, cos * (1 - 0.1 * m)))),
        "custom-per-class": (v, Margin(custom=lambda cos, y, j: cos - 0.1 * v[j] * (j != y))),
    }


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("name", list(learned_margins()))
def test_what_is_learned_inside_a_margin_gets_its_gradient(name: str, reduction: str) -> None:
    x, w, y = problem()
    gradients = []
    for backend in ("dense", "chunked"):
        parameter, margin = learned_margins()[name]
        with cut(4, 5, True):
            loss = margin_cross_entropy(
                x, w, y, margin=margin, scale=5.0, reduction=reduction, backend=backend
            )
            gradients.append(torch.autograd.grad(loss.sum(), [parameter, x, w]))
    for dense, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, dense, rtol=1e-9, atol=1e-11)


def test_a_margin_may_compute_a_loss_of_its_own() -> None:
    x, w, y = problem()

    def nested(cos: Tensor, y: Tensor, j: Tensor) -> Tensor:
        with torch.no_grad():
            inner = margin_cross_entropy(x, w, torch.zeros(len(x), dtype=torch.long), backend="chunked")
        return cos - 0.1 * inner * (j == y)

    both = [
        margin_cross_entropy(x, w, y, margin=Margin(custom=nested), backend=backend)
        for backend in ("dense", "chunked")
    ]
    torch.testing.assert_close(both[1], both[0])


def test_twice_differentiated_it_says_so() -> None:
    x, w, y = problem()
    (gradient,) = torch.autograd.grad(
        margin_cross_entropy(x, w, y, backend="chunked"), [x], create_graph=True
    )
    with pytest.raises(ArgumentError, match=r"backend: .*twice.* expected 'dense'"):
        gradient.norm().backward()


def test_what_only_the_dense_loss_does_goes_there_or_says_so() -> None:
    x, w, _ = problem()
    soft = torch.rand(6, 9, dtype=torch.float64, requires_grad=True)
    margin_cross_entropy(x, w, soft).backward()
    assert soft.grad is not None
    with pytest.raises(ArgumentError, match="backend: got 'chunked' with a gradient for labels"):
        margin_cross_entropy(x, w, soft, backend="chunked")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_bad_row_spoils_its_own_loss_only(bad: float) -> None:
    x, w, y = problem()
    with torch.no_grad():
        x[1, 0] = bad
    rows = margin_cross_entropy(x, w, y, reduction="none", backend="chunked")
    assert rows.isnan().tolist() == [i == 1 for i in range(6)]


def test_bad_budgets_are_named() -> None:
    with pytest.raises(ArgumentError, match="chunk_bytes: got 5"):
        MemoryBudget(chunk_bytes=5)
    with pytest.raises(ArgumentError, match=r"accumulation: got torch\.float16"):
        MemoryBudget(accumulation=torch.float16)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("margin", [None, Margin(custom=lambda cos, y, j: cos - 0.1)], ids=["none", "custom"])
def test_a_validation_loss_of_parameters(mode: Any, margin: Margin | None) -> None:
    x, w, y = problem()
    with mode(), cut(4, 5, True):
        loss = margin_cross_entropy(x, nn.Parameter(w), y, margin=margin, backend="chunked")
    assert not loss.requires_grad
    torch.testing.assert_close(loss, margin_cross_entropy(x, w, y, margin=margin, backend="dense").detach())


def test_a_loss_scaler_keeps_small_gradients_of_half_precision() -> None:
    x = (torch.randn(64, 16) * 100).half()
    w, y = torch.randn(500, 16), torch.randint(500, (64,))
    zeros = []
    for backend in ("dense", "chunked"):
        leaf = x.clone().requires_grad_()
        (margin_cross_entropy(leaf, w, y, backend=backend) * 2.0**16).backward()
        zeros.append(int((leaf.grad == 0).sum()))
    assert zeros[1] <= zeros[0] + 2


def test_collapsed_embeddings_under_half_precision_have_finite_gradients() -> None:
    x, y = torch.ones(256, 64) + 1e-3 * torch.randn(256, 64), torch.randint(200, (256,))
    w = torch.randn(200, 64, requires_grad=True)
    with torch.autocast("cpu", torch.float16):
        loss = margin_cross_entropy(x, w, y, scale=64.0, backend="chunked")
    loss.backward()
    assert w.grad.isfinite().all()


def test_autocast_leaves_float64_alone() -> None:
    x, w, y = problem()
    with torch.autocast("cpu", torch.bfloat16):
        loss = margin_cross_entropy(x, w, y, backend="chunked")
    torch.testing.assert_close(loss, margin_cross_entropy(x, w, y, backend="dense"), rtol=1e-12, atol=0)


def test_the_rule_of_the_target_is_called_once_so_that_it_may_draw_numbers() -> None:
    x, w, y = problem()
    drawn = []

    def rule(cos: Tensor, labels: Tensor) -> Tensor:
        drawn.append(0.1 + 0.5 * torch.rand(len(cos), dtype=cos.dtype))
        return cos * drawn[-1]

    with cut(4, 5, True):
        loss = margin_cross_entropy(x, w, y, margin=Margin(target=rule), backend="chunked")
    ours = torch.autograd.grad(loss, [x, w])
    (factor,) = drawn
    same = Margin(target=lambda cos, labels: cos * factor)
    theirs = torch.autograd.grad(margin_cross_entropy(x, w, y, margin=same, backend="dense"), [x, w])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def in_place(cos: Tensor, labels: Tensor) -> Tensor:
    cos -= 0.3
    return cos


def custom_in_place(cos: Tensor, y: Tensor, j: Tensor) -> Tensor:
    return cos.mul_(1.5).sub_(0.1)


UNUSUAL = {
    "custom in place": Margin(custom=custom_in_place),
    "in place": Margin(target=in_place),
    "constant": Margin(target=lambda cos, y: torch.full_like(cos, 0.5)),
    "constant custom": Margin(custom=lambda cos, y, j: torch.full_like(cos, 0.5)),
}


@pytest.mark.parametrize(("rows", "keep"), [(2, True), (6, True), (6, False)])
@pytest.mark.parametrize("name", list(UNUSUAL))
def test_unusual_rules_work_as_they_do_in_the_dense_loss(name: str, rows: int, keep: bool) -> None:
    x, w, y = problem()
    with cut(rows, 4, keep):
        loss = margin_cross_entropy(x, w, y, margin=UNUSUAL[name], backend="chunked")
    expected = margin_cross_entropy(x, w, y, margin=UNUSUAL[name], backend="dense")
    torch.testing.assert_close(loss, expected)
    if expected.requires_grad:
        for a, b in zip(
            torch.autograd.grad(loss, [x, w]), torch.autograd.grad(expected, [x, w]), strict=True
        ):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("options", [{}, {"row_loss": RowLoss(label_smoothing=0.1)}], ids=["plain", "smooth"])
@pytest.mark.parametrize("score", ["cosine", "dot"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_logits_of_later_blocks_may_lie_far_above_those_of_the_first(
    score: str, options: dict[str, Any], reduction: str
) -> None:
    x, w, y = (t.detach().float() if t.is_floating_point() else t for t in problem())
    offset = torch.zeros(9)
    offset[[5, 8]] = torch.tensor([150.0, 400.0])
    both = []
    for backend, dtype in (("dense", torch.float64), ("chunked", torch.float32)):
        leaves = [t.to(dtype).requires_grad_() for t in (x, w, offset)]
        with cut(4, 2, True):
            loss = margin_cross_entropy(
                *leaves[:2], y, score=score, offset=leaves[2], reduction=reduction, backend=backend, **options
            )
        both.append([loss, *torch.autograd.grad(loss.sum(), leaves)])
    for dense, ours in zip(*both, strict=True):
        torch.testing.assert_close(ours.double(), dense, rtol=1e-4, atol=1e-4)


def test_weights_without_numbers_are_told() -> None:
    x, _, y = problem()
    with pytest.raises(
        ArgumentError, match=r"embeddings: got a tensor on cpu; expected .* meta.*shard_classes"
    ):
        margin_cross_entropy(x, torch.empty(9, 4, device="meta"), y)


def test_arguments_of_another_kind_are_named() -> None:
    x, w, y = problem()
    for name, bad in (("budget", 5), ("margin", 0.2), ("row_loss", "log")):
        with pytest.raises(ArgumentError, match=f"{name}: got"):
            margin_cross_entropy(x, w, y, **{name: bad})


def test_a_scale_may_be_any_number_and_must_be_one() -> None:
    x, w, y = problem()
    losses = [
        margin_cross_entropy(x, w, y, scale=scale, backend="chunked")
        for scale in (7.0, 7, np.float32(7), np.int64(7))
    ]
    assert all(torch.equal(loss, losses[0]) for loss in losses)
    with pytest.raises(ArgumentError, match="scale: got nan"):
        margin_cross_entropy(x, w, y, scale=float("nan"))


def test_another_default_device_does_no_harm() -> None:
    x, w, y = problem(300, 4, 800)
    release_workspace()
    with torch.device("meta"):
        loss = margin_cross_entropy(x, w, y, backend="chunked")
    torch.testing.assert_close(loss, margin_cross_entropy(x, w, y, backend="dense"))


def test_the_accumulation_may_be_finer_than_the_products() -> None:
    x, w, y = torch.randn(64, 8), torch.randn(50, 8, requires_grad=True), torch.randint(50, (64,))
    with cut(4, 50, True):
        loss = margin_cross_entropy(
            x, w, y, backend="chunked", budget=MemoryBudget(accumulation=torch.float64)
        )
    loss.backward()
    (expected,) = torch.autograd.grad(
        margin_cross_entropy(x.double(), w.double(), y, backend="dense"), [w], retain_graph=True
    )
    assert w.grad.dtype == torch.float32
    torch.testing.assert_close(w.grad, expected, rtol=1e-4, atol=1e-6)


@given(
    rows=st.integers(1, 5000),
    classes=st.integers(1, 10**7),
    dim=st.integers(1, 4096),
    mebibytes=st.integers(1, 2000),
    kept=st.booleans(),
    on_cpu=st.booleans(),
)
def test_every_plan_fits_its_budget_and_keeps_chunks_of_a_decent_size(
    rows: int, classes: int, dim: int, mebibytes: int, kept: bool, on_cpu: bool
) -> None:
    row_bytes, class_bytes, pair_bytes, budget = 20 * dim + 64, 16 * dim, 8, mebibytes << 20
    found = make_plan(rows, classes, row_bytes, class_bytes, pair_bytes, 4 * kept, budget, on_cpu)
    assert 1 <= found.rows <= rows
    assert 1 <= found.classes <= classes
    assert kept or not found.keep
    scratch = found.rows * row_bytes + found.classes * (class_bytes + found.rows * pair_bytes)
    scratch += 4 * found.rows * classes * found.keep
    assert scratch <= budget or (found.rows == 1 and found.classes == 1)
    if 64 * row_bytes < budget / 4 and class_bytes < budget / 8:
        assert found.rows >= min(rows, 32)
