"""What every head must be as a torch module, as torch's own ModuleInfo tests demand it of its modules."""

import copy
import io
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.utils import parametrizations, parametrize, prune

from bisector.errors import ArgumentError
from bisector.heads import HEADS, IGAM, AdaFace, CosineHead, Head, LogitAdjusted, Seesaw
from head_cases import batch, counts
from real_processes import in_processes

D, C = 5, 6
NAMES = pytest.mark.parametrize("name", HEADS)


def build(name: str, **options: Any) -> Head:
    """A head with everything that can be learned or observed."""
    torch.manual_seed(0)
    learned = {"learnable_scale": True} if issubclass(HEADS[name], CosineHead) else {}
    return HEADS[name](D, C, **{"class_counts": counts(C), "weight": [1.0] * C, **learned, **options})


def used(name: str, **options: Any) -> Head:
    head = build(name, **options)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.25)
    if isinstance(head, (IGAM, AdaFace, Seesaw)):
        head.observe(*batch(40, D, C))
    if isinstance(head, IGAM):
        head.refresh()
    return head


def state(head: Head) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in head.state_dict().items()}


def same_state(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def through_a_file(head: Head) -> Head:
    file = io.BytesIO()
    torch.save(head, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def state_through_a_file(head: Head) -> dict[str, Tensor]:
    file = io.BytesIO()
    torch.save(head.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assigned(head: Head) -> Head:
    twin = build(NAME_OF[type(head)], device="meta")
    twin.load_state_dict(state_through_a_file(head), assign=True)
    return twin


def loaded(head: Head) -> Head:
    twin = build(NAME_OF[type(head)])
    twin.load_state_dict(state_through_a_file(head))
    return twin


NAME_OF = {head: name for name, head in HEADS.items()}
COPIES: dict[str, Callable[[Head], Head]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda head: pickle.loads(pickle.dumps(head)),
    "file": through_a_file,
    "state": loaded,
    "assign on meta": assigned,
}


@pytest.mark.parametrize("how", COPIES)
@NAMES
def test_a_copy_has_the_same_state_and_loss(name: str, how: str) -> None:
    head = used(name)
    twin = COPIES[how](head)
    assert same_state(state(twin), state(head))
    assert torch.equal(twin(*batch(8, D, C)), head(*batch(8, D, C)))


@NAMES
def test_forward_changes_no_state_even_where_it_is_refused(name: str) -> None:
    head = used(name)
    before, attributes = state(head), dict(vars(head))
    head(*batch(8, D, C))
    with pytest.raises(ArgumentError, match="embeddings"):
        head(batch(8, D, C)[0].to("meta"), batch(8, D, C)[1])
    assert same_state(state(head), before)
    assert vars(head) == attributes
    head.to("meta")
    with pytest.raises(ArgumentError, match="meta"):
        head(*batch(8, D, C))
    for buffer in dict(head.named_buffers()):
        assert torch.equal(head.get_buffer(buffer), before[buffer])
    assert (getattr(head, "guide", None) is None) == (name not in {"igam", "c2am", "count-guided"})


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@NAMES
def test_a_cast_narrows_the_weights_alone(name: str, half: torch.dtype) -> None:
    head = used(name)
    before, (embeddings, labels) = state(head), batch(8, D, C)
    expected = head(embeddings, labels)
    head(embeddings, labels).backward()
    head.to(half)
    for key, value in head.state_dict().items():
        if key in {"weight", "bias"}:
            assert value.dtype == half
        else:
            assert value.dtype == before[key].dtype
            assert torch.equal(value, before[key])
    assert all(p.grad.dtype == p.dtype for p in head.parameters())
    loss = head(embeddings.to(half), labels)
    loss.backward()
    torch.testing.assert_close(loss.detach().float(), expected.detach(), rtol=0.05, atol=0.05)
    assert head.double()(embeddings.double(), labels).dtype == torch.float64


@NAMES
def test_a_learned_scale_is_exact_in_half_precision(name: str) -> None:
    if not issubclass(HEADS[name], CosineHead):
        return
    linear = nn.Linear(D, C, dtype=torch.bfloat16)
    options: dict[str, Any] = {"scale": 16.0, "learnable_scale": True, "class_counts": counts(C)}
    made = HEADS[name](D, C, dtype=torch.bfloat16, **options)
    for head in (made, HEADS[name].from_linear(linear, **options), made.float().half(), made.bfloat16()):
        assert isinstance(head, CosineHead)
        assert head.log_scale is not None
        assert head.log_scale.shape == (1,)  # FullyShardedDataParallel refuses a scalar
        assert head.scale == pytest.approx(16, rel=1e-6)
    made.load_state_dict({**made.state_dict(), "log_scale": torch.tensor(math.log(8))})  # as it once was
    assert made.scale == pytest.approx(8, rel=1e-6)


@NAMES
def test_reset_parameters_makes_everything_anew(name: str) -> None:
    new = state(build(name))
    for head in (used(name), build(name, device="meta").to_empty(device="cpu")):
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.fill_(torch.nan)
        torch.manual_seed(0)
        head.reset_parameters()
        assert same_state(state(head), new)
        if isinstance(head, IGAM):
            assert head.guide is None
            assert not head.information.counts.any()


class Twice(nn.Module):
    def forward(self, bias: Tensor) -> Tensor:
        return 2 * bias

    def right_inverse(self, bias: Tensor) -> Tensor:
        return bias / 2


def test_reset_parameters_draws_anew_under_a_parametrisation() -> None:
    head = parametrizations.weight_norm(build("am-softmax"))
    before = head.weight.detach().clone()
    head.reset_parameters()
    assert (head.weight != before).all()
    linear = build("linear-softmax")
    parametrize.register_parametrization(linear, "bias", Twice())
    linear.bias = torch.ones(C)
    linear.reset_parameters()
    assert not linear.bias.any()


@NAMES
def test_it_can_be_made_without_drawing(name: str) -> None:
    head = nn.utils.skip_init(HEADS[name], D, C, class_counts=counts(C))
    assert head.weight.shape == (C, D)
    assert head.class_counts.tolist() == counts(C)
    assert not any(p.is_meta for p in head.parameters())


@NAMES
def test_a_default_device_does_not_reach_into_a_head(name: str) -> None:
    inputs = batch(40, D, C)
    with torch.device("meta"):
        head = build(name, device="cpu")
        if isinstance(head, (IGAM, AdaFace, Seesaw)):
            head.observe(*inputs)
        if isinstance(head, IGAM):
            head.refresh()
            head.information.load_state_dict(head.information.state_dict())
        head(*inputs).backward()
        head.logits(inputs[0])
        head.load_state_dict(head.state_dict())
        head.add_classes(2, class_counts=[1, 2])
        head.reset_parameters()
    assert not any(tensor.is_meta for tensor in head.state_dict().values())


@pytest.mark.parametrize("bias", [True, False])
def test_what_is_known_of_the_classes_may_lie_on_another_device(bias: bool) -> None:
    head = LogitAdjusted(D, C, bias=bias, class_counts=counts(C), weight=[1.0] * C, device="meta")
    assert not head.class_counts.is_meta
    assert head(torch.zeros(8, D, device="meta"), torch.zeros(8, C, device="meta")).is_meta


@pytest.mark.parametrize("sub_centers", [1, 3])
@NAMES
def test_add_classes_grows_the_originals_of_weight_norm(name: str, sub_centers: int) -> None:
    head = parametrizations.weight_norm(build(name, sub_centers=sub_centers))
    assert isinstance(head, Head)
    optimizer = torch.optim.AdamW(head.parameters())
    head(*batch(8, D, C)).backward()
    optimizer.step()
    before = head.weight.detach().clone()
    new = torch.randn(2, *before.shape[1:])
    head.add_classes(2, weight=new, class_counts=[1, 2], optimizer=optimizer)
    torch.testing.assert_close(head.weight, torch.cat([before, new]))
    originals = head.parametrizations.weight
    assert len(originals.original0) == len(originals.original1) == head.num_classes == C + 2
    optimizer.zero_grad()
    head(*batch(8, D, C + 2)).backward()
    optimizer.step()
    assert not torch.equal(head.weight[C:], new)


def by_hook(wrap: Callable[[nn.Module], Any]) -> Callable[[Head], Head]:
    def wrapped(head: Head) -> Head:
        wrap(head)
        return head

    return wrapped


class Exponential(nn.Module):
    """A parametrisation that cannot be undone."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.exp()


REFUSED = {
    "spectral_norm": (by_hook(parametrizations.spectral_norm), "remove_parametrizations"),
    "orthogonal": (by_hook(parametrizations.orthogonal), "remove_parametrizations"),
    "no inverse": (
        by_hook(lambda head: parametrize.register_parametrization(head, "weight", Exponential())),
        "remove_parametrizations",
    ),
    "old weight_norm": (by_hook(nn.utils.weight_norm), "remove_weight_norm"),
    "old spectral_norm": (by_hook(nn.utils.spectral_norm), "remove_spectral_norm"),
    "prune": (by_hook(lambda head: prune.l1_unstructured(head, "weight", 3)), r"prune\.remove"),
}


@pytest.mark.parametrize("how", REFUSED)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_add_classes_refuses_weights_that_cannot_grow_and_changes_nothing(how: str) -> None:
    wrap, words = REFUSED[how]
    head = wrap(build("linear-softmax"))
    head.eval()  # in training, spectral_norm goes on a little whenever somebody looks at the weights
    before = state(head)
    with pytest.raises(ArgumentError, match=f"weight: got one .*{words}"):
        head.add_classes(2, class_counts=[1, 2])
    assert same_state(state(head), before)
    assert head.num_classes == C


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adaface", "seesaw", "igam", "logit-adjusted"])
def test_it_compiles_whole_with_any_number_of_rows(name: str) -> None:
    torch.compiler.reset()
    head = used(name)
    compiled = torch.compile(head, backend="aot_eager", dynamic=True, fullgraph=True)
    for rows in (8, 5):
        torch.testing.assert_close(compiled(*batch(rows, D, C)), head(*batch(rows, D, C)))


def train_a_step(head: Head, embeddings: Tensor, labels: Tensor) -> None:
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    head(embeddings, labels).backward()
    optimizer.step()


def fully_sharded(rank: int, world: int) -> list[dict[str, Tensor]]:
    found = []
    for name in HEADS:
        # Each process has seen the same rows.
        head = used(name, **({"together": False} if name in {"adaface", "igam", "seesaw"} else {}))
        fully_shard(head)
        embeddings, labels = batch(8, D, C)
        train_a_step(head, embeddings[rank::world], labels[rank::world])
        repr(head)
        found.append({key: p.full_tensor().detach() for key, p in head.named_parameters()})
    return found


@pytest.mark.slow
def test_fully_sharded_heads_train_as_whole_ones(tmp_path: Path) -> None:
    (ranks,) = in_processes(tmp_path / "work", (2, fully_sharded))
    for number, name in enumerate(HEADS):
        head = used(name)
        train_a_step(head, *batch(8, D, C))  # the mean of the two halves' means
        expected = {key: p.detach() for key, p in head.named_parameters()}
        for found in ranks:
            assert found[number].keys() == expected.keys()
            for key, value in expected.items():
                torch.testing.assert_close(
                    found[number][key], value, msg=lambda m, k=key, n=name: f"{n} {k}: {m}"
                )
