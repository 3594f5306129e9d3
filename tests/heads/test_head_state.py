import copy
import io
import pickle

import pytest
import torch

from bisector.heads import (
    C2AM,
    HEADS,
    IGAM,
    LDAM,
    AMSoftmax,
    ArcFace,
    CombinedMargin,
    CountGuided,
    EnhancedAMSoftmax,
    Head,
    LinearSoftmax,
    LogitAdjusted,
    NormalizedSoftmax,
    Seesaw,
)
from head_cases import CASES, Case, batch, counts, made

D, C = 5, 6


def through_a_file(head: Head, case: Case) -> Head:
    file = io.BytesIO()
    torch.save(head.state_dict(), file)
    file.seek(0)
    twin = case.build(D, C)
    if isinstance(twin, IGAM):
        twin.set_amounts(torch.zeros(C))
    twin.load_state_dict(torch.load(file, weights_only=True))
    return twin


COPIES = {
    "state dict": through_a_file,
    "deepcopy": lambda head, case: copy.deepcopy(head),
    "pickle": lambda head, case: pickle.loads(pickle.dumps(head)),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_copy_gives_the_same_loss_and_is_independent(case: Case, how: str) -> None:
    head = made(case, D, C)
    embeddings, labels = batch(6, D, C)
    head(embeddings, labels).backward()  # a head that has been used
    twin = COPIES[how](head, case)
    assert torch.equal(twin(embeddings, labels), head(embeddings, labels))
    assert torch.equal(twin.logits(embeddings), head.logits(embeddings))
    assert repr(twin) == repr(head)
    with torch.no_grad():
        twin.weight.zero_()
    assert not torch.equal(twin.weight, head.weight)


REPRS = [
    (LinearSoftmax(D, C), "LinearSoftmax(in_features=5, num_classes=6)"),
    (
        LogitAdjusted(D, C, class_counts=counts(C), tau=0.5),
        "LogitAdjusted(in_features=5, num_classes=6, tau=0.5)",
    ),
    (
        NormalizedSoftmax(D, C, label_smoothing=0.1, sub_centers=2, learnable_scale=True),
        "NormalizedSoftmax(in_features=5, num_classes=6, sub_centers=2, label_smoothing=0.1, scale=30 (learned))",
    ),
    (AMSoftmax(D, C), "AMSoftmax(in_features=5, num_classes=6, scale=30, margin=0.35)"),
    (
        ArcFace(D, C, margin=torch.linspace(0.25, 0.5, C), scale="auto"),
        "ArcFace(in_features=5, num_classes=6, scale=4, margin=(6 margins, 0.25 to 0.5))",
    ),
    (
        EnhancedAMSoftmax(D, C),
        "EnhancedAMSoftmax(in_features=5, num_classes=6, scale=40, margin=0.3, form='log', divisor=1.35,"
        " competitor_margin=0.3)",
    ),
    (
        CombinedMargin(D, C, m1=1.35, m2=0.1),
        "CombinedMargin(in_features=5, num_classes=6, scale=64, m1=1.35, m2=0.1, m3=0)",
    ),
    (C2AM(D, C), "C2AM(in_features=5, num_classes=6, scale=30, alpha=0.5, direction='relax')"),
    (
        IGAM(D, C, preset="paper"),
        "IGAM(in_features=5, num_classes=6, scale=30, preset='paper', normalize='sum', gain=1, direction='relax')",
    ),
    (
        CountGuided(D, C, class_counts=counts(C), gain=2.0),
        "CountGuided(in_features=5, num_classes=6, scale=30, gain=2, direction='press')",
    ),
    (LDAM(D, C, class_counts=counts(C)), "LDAM(in_features=5, num_classes=6, scale=30, max_margin=0.5)"),
    (Seesaw(D, C), "Seesaw(in_features=5, num_classes=6, scale=20, p=0.8, q=2)"),
]


@pytest.mark.parametrize(("head", "shown"), REPRS)
def test_repr_shows_every_choice(head: Head, shown: str) -> None:
    assert repr(head) == shown


def test_the_table_shows_every_head() -> None:
    assert {type(head) for head, _ in REPRS} == set(HEADS.values())


def test_igam_saves_its_meter_and_goes_on_where_it_was() -> None:
    head = IGAM(D, 3)
    x = torch.randn(60, D, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.5, 3, 60)[:, None]
    y = torch.arange(60) // 20
    head.observe(x[::2], y[::2])
    head.refresh()
    head.observe(x[1::4], y[1::4])
    file = io.BytesIO()
    torch.save({"head": head.state_dict(), "meter": head.information.state_dict()}, file)
    file.seek(0)
    twin, stored = IGAM(D, 3), torch.load(file, weights_only=True)
    twin.load_state_dict(stored["head"])
    twin.information.load_state_dict(stored["meter"])
    assert torch.equal(twin.amounts, head.amounts)
    assert torch.equal(twin.guide.matrix(), head.guide.matrix())
    for each in (head, twin):
        each.observe(x[3::4], y[3::4])
    torch.testing.assert_close(twin.refresh().amount, head.refresh().amount, rtol=1e-12, atol=0)
    torch.testing.assert_close(twin.guide.matrix(), head.guide.matrix(), rtol=1e-12, atol=0)


def test_igam_without_a_meter_takes_the_amounts_of_one_with_a_meter_and_the_other_way_round() -> None:
    measuring, by_hand = IGAM(D, 3), IGAM(D, 3, information=None)
    measuring.set_amounts(torch.tensor([1.0, 2.0, 3.0]))
    by_hand.load_state_dict(measuring.state_dict())
    assert by_hand.amounts.tolist() == [1, 2, 3]
    fresh = IGAM(D, 3)
    fresh.load_state_dict(by_hand.state_dict())
    assert fresh.amounts.tolist() == [1, 2, 3]
    fresh.load_state_dict(IGAM(D, 3).state_dict())
    assert fresh.amounts is None
    assert fresh.guide is None


def test_the_scale_of_adacos_and_a_learned_scale() -> None:
    assert NormalizedSoftmax(D, 2, scale="auto").scale == 4
    assert NormalizedSoftmax(D, 1001, scale="auto").scale == pytest.approx(2**0.5 * 6.907755)
    head = NormalizedSoftmax(D, C, scale=12, learnable_scale=True)
    assert head.scale == pytest.approx(12)
    optimizer = torch.optim.SGD([head.log_scale], lr=0.1)
    head(*batch(8, D, C)).backward()
    optimizer.step()
    assert head.scale != pytest.approx(12)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_casting_a_head_to_half_precision_keeps_what_is_counted(half: torch.dtype) -> None:
    head = AMSoftmax(
        D,
        3,
        margin=torch.tensor([0.1, 0.2, 0.3]),
        class_counts=[100_000, 257, 10],
        tau=1.0,
        weight=[0.001, 1.0, 70_000.0],
    )
    prior, counted = head.prior(), [*head.buffers()]
    head.to(half)
    assert head.weight.dtype == half
    for before, after in zip([prior, *counted], [head.prior(), *head.buffers()], strict=True):
        torch.testing.assert_close(after, before)


COMPILED = [("linear", False), ("arcface", False), ("combined", True), ("igam-relax-prior", True)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dynamic"), COMPILED)
def test_compiling_a_model_with_its_head_changes_nothing(name: str, dynamic: bool) -> None:
    torch.compiler.reset()
    head = made(next(case for case in CASES if case.name == name), D, C)
    body = torch.nn.Linear(D, D)

    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return head(body(x).relu(), y)

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for seed, B in enumerate((6, 9)):
        x, y = batch(B, D, C, seed=seed)
        gradients = []
        for function in (step, compiled):
            loss = function(x, y)
            gradients.append((loss, *torch.autograd.grad(loss, [head.weight, body.weight])))
        for plain, fast in zip(*gradients, strict=True):
            torch.testing.assert_close(fast, plain)
