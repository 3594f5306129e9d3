import pytest
import torch
from torch import Tensor, nn

from bisector.errors import ArgumentError
from bisector.heads import C2AM, HEADS, IGAM, LDAM, AMSoftmax, ArcFace, Head, LinearSoftmax, NormalizedSoftmax
from head_cases import CASES, Case, batch, counts, made

D, C, K = 5, 4, 3
MARGINS = torch.tensor([0.125, 0.25, 0.375, 0.25])


def given_counts(head: Head, k: int) -> list[float] | None:
    return None if head.class_counts is None else [5.0] * k


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("bias", [True, False])
def test_from_linear_starts_where_the_layer_is(name: str, bias: bool) -> None:
    linear = nn.Linear(D, C, bias=bias, dtype=torch.float64)
    head = HEADS[name].from_linear(linear, class_counts=counts(C))
    assert torch.equal(head.weight, linear.weight)
    assert head.weight.data_ptr() != linear.weight.data_ptr()
    assert {p.dtype for p in head.parameters()} == {torch.float64}
    x = torch.randn(3, D, dtype=torch.float64)
    if isinstance(head, LinearSoftmax):
        torch.testing.assert_close(head.logits(x), linear(x))
    else:
        assert head.bias is None
        cosines = nn.functional.cosine_similarity(x[:, None], linear.weight, dim=-1)
        torch.testing.assert_close(head.logits(x), head.scale * cosines)
    assert torch.equal(head.predict(x), head.logits(x).argmax(1))


def test_from_linear_takes_the_heads_options_and_its_own_place() -> None:
    linear = nn.Linear(D, C)
    head = ArcFace.from_linear(linear, margin=0.3, scale=10, dtype=torch.float64, label_smoothing=0.1)
    assert (head.target_margin, head.scale, head.weight.dtype) == (0.3, 10, torch.float64)
    meta = AMSoftmax.from_linear(nn.Linear(D, C, device="meta"))
    assert meta.weight.device.type == "meta"


@pytest.mark.parametrize("head", [LinearSoftmax, AMSoftmax])
def test_from_linear_lays_the_sub_centers_near_the_vector_but_apart(head: type[Head]) -> None:
    linear = nn.Linear(D, C)
    grown = head.from_linear(linear, sub_centers=K)
    distances = (grown.weight - linear.weight[:, None]).norm(dim=2)
    assert (distances < linear.weight.norm(dim=1, keepdim=True)).all()
    for i in range(K):
        for j in range(i):
            assert (grown.weight[:, i] != grown.weight[:, j]).any(dim=1).all()


@pytest.mark.parametrize("keep_graph", [True, False])
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "amsgrad"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_add_classes_keeps_what_is_there_and_training_goes_on(
    case: Case, optimizer: str, keep_graph: bool
) -> None:
    head = made(case, D, C)
    parameters = list(head.parameters())
    trainer = {
        "adam": lambda: torch.optim.Adam(parameters, lr=0.01),
        "amsgrad": lambda: torch.optim.AdamW(parameters, lr=0.01, amsgrad=True),
        "sgd": lambda: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
    }[optimizer]()
    embeddings, labels = batch(8, D, C)
    loss = head(embeddings, labels)
    loss.backward()
    trainer.step()
    if not keep_graph:
        del loss
    old_weight, old_logits = head.weight.detach().clone(), head.logits(embeddings)
    old_state = {key: value.clone() for key, value in trainer.state[head.weight].items()}

    assert head.add_classes(2, class_counts=given_counts(head, 2), optimizer=trainer) is head
    assert head.num_classes == C + 2
    assert all(mine is before for mine, before in zip(head.parameters(), parameters, strict=True))
    assert torch.equal(head.weight[:C], old_weight)
    torch.testing.assert_close(
        head.logits(embeddings)[:, :C], old_logits
    )  # a wider product may round otherwise
    for key, value in trainer.state[head.weight].items():
        if key == "step":
            assert value == old_state[key]
        else:
            assert value.shape == head.weight.shape
            assert torch.equal(value[:C], old_state[key])
            assert (value[C:] == 0).all()

    before = head.weight.detach().clone()
    labels[:2] = torch.tensor([C, C + 1])
    for _ in range(2):
        trainer.zero_grad()
        loss = head(embeddings, labels)
        loss.backward()
        trainer.step()
    assert loss.isfinite()
    assert (head.weight != before).flatten(1).any(dim=1).all()


def test_add_classes_grows_everything_that_a_class_has() -> None:
    head = AMSoftmax(
        D, C, margin=MARGINS, weight=[1.0, 2, 3, 4], class_counts=[4, 3, 2, 1], tau=1.0, scale="auto"
    )
    new = torch.randn(2, D)
    head.add_classes(2, weight=new, class_counts=[7, 8])
    assert torch.equal(head.weight[C:], new)
    assert head.class_weight.tolist() == [1, 2, 3, 4, 1, 1]
    assert head.class_counts.tolist() == [4, 3, 2, 1, 7, 8]
    assert head.target_margin.tolist() == [*MARGINS.tolist(), 0.25, 0.25]
    assert head.prior().exp().tolist() == pytest.approx([n / 25 for n in (4, 3, 2, 1, 7, 8)])
    wide = NormalizedSoftmax(D, 3, scale="auto").add_classes(997)
    assert round(wide.scale, 2) == 9.77

    linear = LinearSoftmax(D, C, sub_centers=K)
    with torch.no_grad():
        linear.bias.fill_(1.0)
    linear.add_classes(1)
    assert linear.weight.shape == (C + 1, K, D)
    assert linear.bias.tolist() == [1] * C + [0]

    ldam = LDAM(D, C, class_counts=[81, 81, 81, 81]).add_classes(1, class_counts=[1])
    assert ldam.class_margins().tolist() == pytest.approx([0.5 / 3] * 4 + [0.5])

    assert C2AM(D, C).add_classes(3).guide.r.shape == (C + 3,)


def test_add_classes_to_igam_counts_the_new_ones_as_average_until_they_are_measured() -> None:
    head = IGAM(D, 3, max_margin=0.3)
    head.set_amounts(torch.tensor([10.0, 30.0, 20.0]))
    head.add_classes(1)
    assert head.information.num_classes == 4
    assert head.amounts[:3].tolist() == [10, 30, 20]
    assert head.amounts[3].isnan()
    matrix = head.guide.matrix()
    assert matrix[1, 0] == pytest.approx(0.3)
    torch.testing.assert_close(matrix[3], matrix[2])
    x, y = torch.randn(40, D, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 4
    head.observe(x, y)
    assert head.refresh().count.tolist() == [10] * 4
    assert not head.amounts.isnan().any()


@pytest.mark.parametrize(
    ("head", "arguments", "words"),
    [
        (AMSoftmax(D, C), {"k": 0}, ["k", "0", "at least 1"]),
        (AMSoftmax(D, C), {"k": 2, "weight": torch.zeros(1, D)}, ["weight", f"(1, {D})", f"(2, {D})"]),
        (
            AMSoftmax(D, C, sub_centers=K),
            {"k": 2, "weight": torch.zeros(2, D)},
            ["weight", f"(2, {D})", f"(2, {K}, {D})"],
        ),
        (LDAM(D, C, class_counts=counts(C)), {"k": 2}, ["class_counts", "None", "2 new classes"]),
        (
            LDAM(D, C, class_counts=counts(C)),
            {"k": 2, "class_counts": [1, 2, 3]},
            ["class_counts", "(3,)", "(2,)"],
        ),
        (
            IGAM(D, C, class_counts=counts(C), tau=1.0),
            {"k": 2, "class_counts": [1, -3]},
            ["class_counts", "-3", "at least 0"],
        ),
        (
            AMSoftmax(D, C, margin=MARGINS, class_counts=counts(C)),
            {"k": 1, "class_counts": [float("nan")]},
            ["class_counts", "nan", "at least 0"],
        ),
    ],
)
def test_a_bad_add_classes_is_named_and_changes_nothing(
    head: Head, arguments: dict, words: list[str]
) -> None:
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    before: dict[str, Tensor] = {
        name: value.clone() for name, value in head.state_dict().items() if isinstance(value, Tensor)
    }
    with pytest.raises(ArgumentError) as raised:
        head.add_classes(**arguments, optimizer=optimizer)
    assert all(word in str(raised.value) for word in words), str(raised.value)
    assert head.num_classes == C
    for name, value in before.items():
        assert torch.equal(head.state_dict()[name], value)


def test_an_optimiser_whose_state_cannot_grow_is_refused_and_nothing_changes() -> None:
    head = AMSoftmax(4, 3)
    optimizer = torch.optim.Adafactor(head.parameters())
    head(torch.randn(6, 4), torch.arange(6) % 3).backward()
    optimizer.step()
    with pytest.raises(ArgumentError, match="optimizer: got Adafactor with a state 'row_var'"):
        head.add_classes(2, optimizer=optimizer)
    assert head.weight.shape == (3, 4)
    assert head.num_classes == 3
