"""Who is timed beside the heads: the bare matrix products, the plain softmax, other people's margin losses."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bisector.benchmarks.problem import Problem
from bisector.benchmarks.timing import Step

Kind: TypeAlias = Literal["products", "softmax", "peer", "bisector"]
Loss: TypeAlias = Callable[[], Tensor]

# What the margin losses of one name agree on, ours included.
AM_MARGIN, AM_SCALE = 0.35, 30.0
ARC_MARGIN, ARC_SCALE = 0.5, 64.0


@dataclass(frozen=True)
class Contender:
    """Something to be timed."""

    name: str  # in the table
    kind: Kind  # "products" is the limit, "softmax" the floor below any margin, "peer" another's margin loss
    # makes its forward and backward pass for a problem. What it needs beyond the problem's own tensors is
    # made there, outside the time
    prepare: Callable[[Problem], Step]
    # it holds (N, C) matrices, so that what it will take can be told from smaller numbers of classes
    whole: bool = True


PRODUCTS = "three matrix products"
KEPT = "three matrix products, kept buffers"
PRODUCTS32 = "three matrix products, float32"


def limits(reduced: bool) -> list[Contender]:
    """Return the bare products; for a reduced precision those in float32 too."""
    found = [Contender(PRODUCTS, "products", _products), Contender(KEPT, "products", _kept_products)]
    return (
        [*found, Contender(PRODUCTS32, "products", partial(_products, dtype=torch.float32))]
        if reduced
        else found
    )


def floors() -> list[Contender]:
    """Return the plain softmax in its forms."""
    return [
        Contender("softmax, plain PyTorch", "softmax", _plain_softmax),
        Contender("linear_cross_entropy", "softmax", _linear_cross_entropy),
        Contender(
            "linear_cross_entropy, chunked",
            "softmax",
            partial(_linear_cross_entropy, chunked=True),
            whole=False,
        ),
    ]


def peers() -> list[Contender]:
    """Return the margin losses of others."""
    return [
        Contender("AM-softmax, plain PyTorch", "peer", _plain_am_softmax),
        Contender(
            "CosFaceLoss, pytorch-metric-learning", "peer", partial(_metric_learning, name="CosFaceLoss")
        ),
        Contender(
            "ArcFaceLoss, pytorch-metric-learning", "peer", partial(_metric_learning, name="ArcFaceLoss")
        ),
    ]


def step_of(problem: Problem, loss: Loss, leaves: Sequence[Tensor]) -> Step:
    """Return the forward and backward pass of a loss; it returns the loss."""

    def run() -> Tensor:
        with problem.autocast():
            value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    return Step(run, list(leaves))


def _products(problem: Problem, dtype: torch.dtype | None = None) -> Step:
    leaves = problem.embeddings, problem.weight
    x, w = (leaf.detach().to(problem.dtype if dtype is None else dtype) for leaf in leaves)

    def run() -> tuple[Tensor, ...]:
        # The scores stand for their own gradient, as if a loss had turned one into the other in place.
        g = x @ w.t()
        return g, g @ w, g.t() @ x

    return Step(run)


def _kept_products(problem: Problem) -> Step:
    x, w = (leaf.detach().to(problem.dtype) for leaf in (problem.embeddings, problem.weight))
    kept: list[Tensor] = []

    def run() -> None:
        if not kept:  # they count in the first call's memory
            kept.extend([x.new_empty(len(x), len(w)), torch.empty_like(x), torch.empty_like(w)])
        g, dx, dw = kept
        torch.mm(x, w.t(), out=g)
        torch.mm(g, w, out=dx)
        torch.mm(g.t(), x, out=dw)

    return Step(run)


def _plain_softmax(problem: Problem) -> Step:
    x, w, y = problem.embeddings, problem.weight, problem.labels
    return step_of(problem, lambda: F.cross_entropy(F.linear(x, w), y), [x, w])


def _linear_cross_entropy(problem: Problem, *, chunked: bool = False) -> Step:
    for module, name in ((F, "linear_cross_entropy"), *[(nn, "LinearCrossEntropyOptions")] * chunked):
        if not hasattr(module, name):
            raise ImportError(f"torch {torch.__version__} has no {name}")
    options: Any = nn.LinearCrossEntropyOptions() if chunked else None
    x, w, y = problem.embeddings, problem.weight, problem.labels

    def loss() -> Tensor:
        # Autocast does not reach into its chunked form, which would stay float32.
        value: Tensor = F.linear_cross_entropy(x.to(problem.dtype), w.to(problem.dtype), y, options=options)
        return value

    return step_of(problem, loss, [x, w])


def _plain_am_softmax(problem: Problem) -> Step:
    x, w, y = problem.embeddings, problem.weight, problem.labels

    def loss() -> Tensor:
        cosines = F.linear(F.normalize(x), F.normalize(w))
        margin = AM_MARGIN * F.one_hot(y, len(w)).to(cosines.dtype)
        return F.cross_entropy(AM_SCALE * (cosines - margin), y)

    return step_of(problem, loss, [x, w])


def _metric_learning(problem: Problem, name: str) -> Step:
    from pytorch_metric_learning import losses

    options = {
        "CosFaceLoss": {"margin": AM_MARGIN, "scale": AM_SCALE},
        "ArcFaceLoss": {"margin": math.degrees(ARC_MARGIN), "scale": ARC_SCALE},
    }[name]
    # Made with one dimension, since its own weights would be thrown away here.
    loss = getattr(losses, name)(problem.size.c, 1, **options)
    loss.W = problem.transposed
    x, y = problem.embeddings, problem.labels
    return step_of(problem, lambda: loss(x, y), [x, problem.transposed])
