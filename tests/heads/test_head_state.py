import copy
import io
import pickle

import pytest
import torch

from bisector.heads import (
    HEADS,
    IGAM,
    AMSoftmax,
    Circle,
    Head,
    NormalizedSoftmax,
    Seesaw,
)
from head_cases import CASES, SHOWN, Case, batch, made

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


@pytest.mark.parametrize(("head", "shown"), SHOWN)
def test_repr_shows_every_choice(head: Head, shown: str) -> None:
    assert repr(head) == shown


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_complete(name: str) -> None:
    kind = HEADS[name]
    assert kind.label, f"{name} has no label"
    assert kind.summary, f"{name} has no summary"
    same = [other for other in HEADS if other != name and HEADS[other].summary == kind.summary]
    assert not same, f"{name} has the summary of {same}"
    assert any(type(head) is kind for head, _ in SHOWN), f"tests/head_cases.py: SHOWN has no {name}"
    tried = kind in {Seesaw, Circle} or any(type(case.build(D, C)) is kind for case in CASES)
    assert tried, f"tests/head_cases.py: CASES has no {name}"


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
