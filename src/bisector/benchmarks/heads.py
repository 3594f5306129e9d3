"""The heads of bisector as contenders."""

from collections.abc import Sequence
from functools import partial

import torch
from torch.nn import Parameter

from bisector.benchmarks.contenders import Contender, step_of
from bisector.benchmarks.problem import Problem
from bisector.benchmarks.timing import Step
from bisector.engine.budget import MemoryBudget
from bisector.engine.dispatch import Backend
from bisector.errors import require
from bisector.heads import HEADS, IGAM, Head, build_head

DEFAULT_HEADS = (
    "linear-softmax",
    "normalized-softmax",
    "am-softmax",
    "arcface",
    "enhanced-am-softmax",
    "c2am",
    "igam",
    "count-guided",
)


def read_specs(text: str) -> list[str]:
    """Return the heads that a word of the command line names: some specs, "default" or "all".

    Raises:
        ArgumentError: one of them is not legal.

    >>> read_specs("am-softmax,igam:direction=relax")
    ['am-softmax', 'igam:direction=relax']
    """
    if text in {"default", "all"}:
        return list(DEFAULT_HEADS if text == "default" else HEADS)
    specs = [part.strip() for part in text.split(",") if part.strip()]
    require(bool(specs), "losses", repr(text), "names of heads, 'default' or 'all'")
    for spec in specs:
        build_head(spec, 1, 2, class_counts=torch.ones(2))
    return list(dict.fromkeys(specs))


def heads(
    specs: Sequence[str], backends: Sequence[Backend], budget: MemoryBudget | None = None
) -> list[Contender]:
    """Return every head with every backend, within a budget of memory."""
    return [
        Contender(
            name=f"bisector {spec} [{backend}]",
            kind="bisector",
            prepare=partial(_prepare, spec=spec, backend=backend, budget=budget),
            whole=backend == "dense" or spec.startswith("seesaw"),
        )
        for spec in specs
        for backend in backends
    ]


def sharing_head(spec: str, problem: Problem, backend: Backend) -> Head:
    """Return a head over the problem's own weights, with margins as in the middle of a training."""
    size = problem.size
    # One dimension, since the weights (and what a meter would keep) are exchanged at once.
    head = build_head(f"{spec}:backend={backend}", 1, size.c, class_counts=problem.long_tail())
    head.in_features = size.d
    if head.sub_centers == 1:
        head.weight = problem.weight
    else:
        head.weight = Parameter(torch.randn(size.c, head.sub_centers, size.d) * size.d**-0.5)
    head.to(problem.device)
    if isinstance(head, IGAM):
        head.set_amounts(problem.random_amounts())
    return head


def _prepare(problem: Problem, spec: str, backend: Backend, budget: MemoryBudget | None) -> Step:
    head = sharing_head(spec, problem, backend)
    head.budget = budget
    leaves = [problem.embeddings, *head.parameters()]
    return step_of(problem, lambda: head(problem.embeddings, problem.labels), leaves)
