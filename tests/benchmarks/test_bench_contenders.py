from functools import partial

import pytest
import torch
from torch import Tensor

from bisector.benchmarks.contenders import Contender, floors, limits, peers
from bisector.benchmarks.heads import DEFAULT_HEADS, heads, read_specs, sharing_head
from bisector.benchmarks.problem import Problem, Size
from bisector.benchmarks.timing import Step, interleaved, threads
from bisector.errors import ArgumentError
from bisector.heads import HEADS, IGAM

CPU = torch.device("cpu")
SIZE = Size(12, 6, 40)


def results(contender: Contender) -> tuple[Tensor, Tensor, Tensor]:
    """The loss and the gradients of embeddings (N, D) and weights (C, D)."""
    problem = Problem(SIZE, "float32", CPU)
    step = contender.prepare(problem)
    loss = step.run()
    weights = problem.weight.grad if problem.weight.grad is not None else problem.transposed.grad.t()
    found = loss, problem.embeddings.grad, weights
    step.clear()
    assert problem.embeddings.grad is None
    return found


def contender(name: str) -> Contender:
    everybody = [*floors(), *peers(), *heads(list(HEADS), ["auto"])]
    return next(one for one in everybody if one.name == name)


@pytest.mark.parametrize(
    "names",
    [
        ("AM-softmax, plain PyTorch", "CosFaceLoss, pytorch-metric-learning", "bisector am-softmax [auto]"),
        ("ArcFaceLoss, pytorch-metric-learning", "bisector arcface [auto]"),
        (
            "softmax, plain PyTorch",
            "linear_cross_entropy",
            "linear_cross_entropy, chunked",
            "bisector linear-softmax [auto]",
        ),
    ],
)
def test_contenders_of_one_name_compute_the_same(names: tuple[str, ...]) -> None:
    first, *others = [results(contender(name)) for name in names]
    for other in others:
        for one, another in zip(first, other, strict=True):
            torch.testing.assert_close(one, another, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reduced", [False, True])
def test_the_products_are_those_of_a_loss(reduced: bool) -> None:
    problem = Problem(SIZE, "bfloat16" if reduced else "float32", CPU)
    x, w = problem.embeddings.detach(), problem.weight.detach()
    found = {one.name: one.prepare(problem).run() for one in limits(reduced)}
    assert len(found) == (3 if reduced else 2)
    g, dx, dw = found["three matrix products"]
    assert g.dtype == (torch.bfloat16 if reduced else torch.float32)
    tolerance = {"rtol": 0.1, "atol": 0.1} if reduced else {"rtol": 1e-4, "atol": 1e-5}
    for one, another in ((g, x @ w.T), (dx, x @ w.T @ w), (dw, w @ x.T @ x)):
        torch.testing.assert_close(one.float(), another, **tolerance)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_everybody_runs_in_every_precision(precision: str) -> None:
    for one in [*limits(True), *floors(), *peers(), *heads(["am-softmax", "igam"], ["auto"])]:
        problem = Problem(SIZE, precision, CPU)
        value = one.prepare(problem).run()
        if isinstance(value, Tensor):
            assert bool(value.isfinite()), one.name
            assert problem.embeddings.grad.dtype == torch.float32


def test_heads_share_the_weights_and_have_margins() -> None:
    problem = Problem(SIZE, "float32", CPU)
    for spec in HEADS:
        head = sharing_head(spec, problem, "auto")
        assert head.weight is problem.weight
        assert head.backend == "auto"
    guided = sharing_head("igam", problem, "auto")
    assert isinstance(guided, IGAM)
    assert float(guided.guide.largest()) > 0
    assert sharing_head("igam:sub_centers=2", problem, "auto").weight.shape == (40, 2, 6)


def test_the_labels_lean_towards_their_classes() -> None:
    problem = Problem(Size(200, 64, 100), "float32", CPU)
    cosines = torch.cosine_similarity(problem.embeddings, problem.weight[problem.labels])
    assert 0.4 < float(cosines.detach().mean()) < 0.9


def test_names_of_heads() -> None:
    assert read_specs("default") == list(DEFAULT_HEADS)
    assert read_specs("all") == list(HEADS)
    assert read_specs("arcface, igam:gain=2,arcface") == ["arcface", "igam:gain=2"]
    for wrong in ("arcfaec", ",", "igam:gian=2"):
        with pytest.raises(ArgumentError):
            read_specs(wrong)


@pytest.mark.parametrize(
    "text", ["", "3x4", "3x4x5x6", "0x4x5", "3x0x5", "3x4x1", "-3x4x5", "3.5x4x5", "axbxc"]
)
def test_a_size_that_is_none(text: str) -> None:
    with pytest.raises(ArgumentError, match="NxDxC"):
        Size.parse(text)


def test_steps_take_turns_and_one_that_fails_stops_alone() -> None:
    calls: list[str] = []

    def fail() -> None:
        calls.append("c")
        if calls.count("c") == 2:
            raise RuntimeError("no more")

    steps = {name: Step(partial(calls.append, name)) for name in "ab"} | {"c": Step(fail)}
    found = interleaved(steps, repeats=4, device=CPU)
    assert [len(found[name]) for name in "ab"] == [4, 4]
    assert str(found["c"]) == "no more"
    assert [calls.count(name) for name in "abc"] == [5, 5, 2]
    assert all(sorted(calls[start : start + 3]) == ["a", "b", "c"] for start in (0, 3))


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    with threads(1):
        assert torch.get_num_threads() == 1
    with threads(None):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before
