"""What a comparison will take, found by training each head for some steps in a process of its own."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Any

import torch

from bisector.cores import process_peak_bytes
from bisector.errors import ArgumentError, require
from bisector.training._lightning import Callback
from bisector.training.guide import InformationGuide
from bisector.training.parents import leave_with
from bisector.training.processes import AnyCell
from bisector.training.recipe import Machine
from bisector.training.runner import fit, make_trainer, quiet_lightning

WARM_UP, STEPS = 3, 12


@dataclass(frozen=True)
class Estimate:
    """What one training of a head will take."""

    head: str  # its spec
    parameters: int  # how many are trained
    steps: int  # of the whole training
    step_seconds: float  # median of one step
    seconds: float  # of the training with its validation and evaluation
    memory: int  # bytes, the peak of the process that trains it (of the GPU, where it trains on one)


def estimate(
    cells: Sequence[AnyCell], machine: Machine, tell: Callable[[str], None] = lambda line: None
) -> list[Estimate]:
    """Return what one cell of each head takes, measured one after the other.

    The refresh of an IGAM head and the writing of checkpoints are not in it; trainings side by side share the
    memory's bandwidth and take longer than one alone.

    Raises:
        ArgumentError: the process of a head was killed, as the system does when memory runs out.
    """
    context = multiprocessing.get_context("spawn")
    firsts = {cell.head: cell for cell in reversed(cells)}
    heads = list(dict.fromkeys(cell.head for cell in cells))
    found = []
    for number, head in enumerate(heads, 1):
        tell(f"{number} of {len(heads)}: {head}, at most {WARM_UP + STEPS} steps in a process of its own")
        # A new process each, for its peak of memory.
        with ProcessPoolExecutor(
            1, mp_context=context, initializer=leave_with, initargs=(os.getpid(),)
        ) as pool:
            try:
                found.append(pool.submit(_measure, firsts[head], machine).result())
            except BrokenProcessPool:
                raise ArgumentError(
                    f"heads: the process that tried {head} was killed, perhaps for want of memory"
                ) from None
    return found


def _measure(cell: AnyCell, machine: Machine) -> Estimate:
    torch.set_num_threads(machine.threads)
    cuda = machine.accelerator != "cpu" and torch.cuda.is_available()
    asked = machine.accelerator not in {"gpu", "cuda"} or cuda
    require(asked, "accelerator", repr(machine.accelerator), "cpu: this machine has no GPU")
    drawn = {name: False for name in ("pretrained", "pretrained_backbone") if hasattr(cell.recipe, name)}
    experiment = replace(cell, recipe=replace(cell.recipe, **drawn)).experiment(machine)
    experiment.check()
    with quiet_lightning():
        model = experiment.model(experiment.describe({}), {})
        batches, watch = experiment.batches(), _Stopwatch()
        guide = [InformationGuide(head=model.head_path)] if model.measures else []
        few = {"max_steps": WARM_UP + STEPS, "limit_val_batches": 2, "check_val_every_n_epoch": 1}
        options = {**experiment.trainer_options(), **few}
        trainer = make_trainer(1, machine, [*guide, *experiment.callbacks(), watch], options)
        fit(trainer, model, batches, None)
        steps = experiment.recipe.epochs * len(batches.train_dataloader())
        watch.begin()
        trainer.validate(model, datamodule=batches, verbose=False)
    step = statistics.median(watch.steps[WARM_UP:] or watch.steps)
    example = watch.evaluation_seconds / max(1, watch.evaluated)
    return Estimate(
        head=cell.head,
        parameters=sum(p.numel() for p in model.parameters()),
        steps=steps,
        step_seconds=step,
        seconds=steps * step + experiment.looked_at() * example,
        memory=torch.cuda.max_memory_allocated() if cuda else process_peak_bytes() or 0,
    )


class _Stopwatch(Callback):
    """Times steps, from one batch to the end of the step, and evaluations of batches."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.begin()

    def begin(self) -> None:
        """Forget the evaluations."""
        self.evaluation_seconds = 0.0
        self.evaluated = 0
        self._start = time.perf_counter()

    def on_train_epoch_start(self, *arguments: Any) -> None:
        """Start."""
        self._start = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *others: Any) -> None:
        """Note a step; the loss waits for the device."""
        outputs["loss"].item()
        now = time.perf_counter()
        self.steps.append(now - self._start)
        self._start = now

    def on_validation_batch_start(self, *arguments: Any, **others: Any) -> None:
        """Start."""
        self._start = time.perf_counter()

    def on_validation_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, *others: Any
    ) -> None:
        """Note an evaluation."""
        self.evaluation_seconds += time.perf_counter() - self._start
        self.evaluated += len(batch[0])
