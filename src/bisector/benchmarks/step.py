"""Seconds and memory of whole training steps of one head, optimiser included."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from bisector.benchmarks.contenders import Contender
from bisector.benchmarks.heads import sharing_head
from bisector.benchmarks.losses import require_room, too_large
from bisector.benchmarks.memory import binary, peak_extra_bytes
from bisector.benchmarks.problem import Precision, Problem, Size
from bisector.benchmarks.timing import Step, interleaved
from bisector.cores import process_peak_bytes
from bisector.engine.dispatch import Backend
from bisector.errors import ArgumentError, require, require_integer, require_number
from bisector.optim.rowwise_adamw import RowwiseAdamW

OptimizerName: TypeAlias = Literal["adam", "adamw", "sgd", "rowwise-adamw"]
# Fused, since the plain ones make temporaries of the weights' size.
OPTIMIZERS: dict[OptimizerName, Callable[[Any], torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "sgd": partial(torch.optim.SGD, lr=0.1, momentum=0.9, fused=True),
    "rowwise-adamw": RowwiseAdamW,
}


@dataclass(frozen=True)
class TrainingStep:
    """What a training step takes."""

    seconds: list[float]  # of each timed step
    median: float  # of the seconds
    weight_bytes: int  # of the class weights alone
    tensor_bytes: int  # the peak of everything: weights, gradients, optimiser state, what the loss needs
    # the peak of the process, Python and libraries included, or None if it is not told
    process_bytes: int | None

    def __str__(self) -> str:
        process = "" if self.process_bytes is None else f", of the process {binary(self.process_bytes)}"
        return (
            f"{self.median:.3f} s a step (median of {len(self.seconds)}, {min(self.seconds):.3f} … "
            f"{max(self.seconds):.3f}); peak memory of the tensors {binary(self.tensor_bytes)}{process}; "
            f"the class weights alone are {binary(self.weight_bytes)}"
        )


def measure_step(
    size: Size,
    spec: str,
    *,
    backend: Backend = "auto",
    sample: float = 1.0,
    optimizer: OptimizerName = "adam",
    precision: Precision = "float32",
    device: torch.device | str = "cpu",
    repeats: int = 3,
) -> TrainingStep:
    """Return what forward, backward and the optimiser's step take.

    The peak is that of the first two steps, in the second of which the optimiser's state is there from the start.

    Args:
        size: of the problem.
        spec: of the head, as on the command line.
        backend: who computes the loss.
        sample: share of the classes that take part in a step; with the optimiser "rowwise-adamw" the gradients
            are sparse then.
        optimizer: of the class weights.
        precision: of the matrix products.
        device: where.
        repeats: timed steps, after the two and one more.

    Raises:
        ArgumentError: an argument is not legal, or the step would not fit into the memory.
    """
    require_integer("repeats", repeats, least=1)
    require_number("sample", sample, above=0, most=1)
    device = torch.device(device)
    # What cannot fit whoever computes: the weights, their gradient and what the optimiser keeps.
    kept = 2 if optimizer == "sgd" else 3  # the weights among them
    gradient = sample if optimizer == "rowwise-adamw" else 1
    require_room(size, int(4 * size.c * size.d * (kept + gradient)), device)
    problem = Problem(size, precision, device)
    words = spec if sample == 1 else f"{spec}:sample={sample}"
    prepare = partial(_prepare, spec=words, backend=backend, optimizer=optimizer)

    def twice(step: Step) -> Step:
        def run() -> None:
            step.run()
            step.run()

        return Step(run)

    tried = Contender(spec, "bisector", lambda problem: twice(prepare(problem)), whole=backend == "dense")
    reason = too_large(tried, problem)
    require(not reason, "size", f"{size}, which {reason}", "fewer rows or classes, or another backend")
    made: list[Step] = []

    def begin() -> None:
        made.append(prepare(problem))
        twice(made[0]).run()

    given = sum(t.nbytes for t in (problem.weight, problem.embeddings, problem.labels))
    extra = peak_extra_bytes(begin, device)
    seconds = interleaved({spec: made[0]}, repeats, device)[spec]
    if isinstance(seconds, Exception):
        raise ArgumentError(f"size: got {size}, which failed: {seconds}; expected a step that fits")
    return TrainingStep(seconds, median(seconds), problem.weight.nbytes, given + extra, process_peak_bytes())


def _prepare(problem: Problem, spec: str, backend: Backend, optimizer: OptimizerName) -> Step:
    head = sharing_head(spec, problem, backend)
    head.sparse = optimizer == "rowwise-adamw"  # the others need, or are faster with, dense gradients
    solver = OPTIMIZERS[optimizer](head.parameters())

    def run() -> Tensor:
        with problem.autocast():
            loss: Tensor = head(problem.embeddings, problem.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        solver.step()
        solver.zero_grad()
        problem.embeddings.grad = None
        return loss.detach()

    return Step(run)
