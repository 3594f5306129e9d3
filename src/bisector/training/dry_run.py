"""What a comparison will take, found by training each head for some steps in a process of its own."""

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from bisector.errors import ArgumentError, require
from bisector.heads import IGAM
from bisector.training.cells import Cell
from bisector.training.checkpoint import build_model, describe
from bisector.training.data import augmentation_of, load_task
from bisector.training.evaluate import EVALUATION_BATCH
from bisector.training.loader import TrainingBatches, plain_batches
from bisector.training.parents import leave_with
from bisector.training.recipe import Machine

WARM_UP, STEPS = 3, 12


@dataclass(frozen=True)
class Estimate:
    """What one training of a head will take.

    Args:
        head: its spec.
        parameters: how many are trained.
        steps: of the whole training.
        step_seconds: median of one step.
        seconds: of the training with its validation and evaluation.
        memory: bytes, the peak of the process that trains it (of the GPU, where it trains on one).
    """

    head: str
    parameters: int
    steps: int
    step_seconds: float
    seconds: float
    memory: int


def estimate(
    cells: Sequence[Cell], machine: Machine, tell: Callable[[str], None] = lambda line: None
) -> list[Estimate]:
    """Return what one cell of each head takes, planes apart, measured one after the other.

    The refresh of an IGAM head and the writing of checkpoints are not in it; trainings side by side share the
    memory's bandwidth and take longer than one alone.

    Args:
        cells: of the comparison.
        machine: with which means.
        tell: is given a line before each head.

    Raises:
        ArgumentError: the process of a head was killed, as the system does when memory runs out.
    """
    context = multiprocessing.get_context("spawn")
    firsts = {cell.head: cell for cell in reversed(cells) if not cell.plane}
    heads = list(dict.fromkeys(cell.head for cell in cells if not cell.plane))
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


def _measure(cell: Cell, machine: Machine) -> Estimate:
    torch.set_num_threads(machine.threads)
    task, recipe = cell.task, cell.recipe
    dataset = load_task(task, cell.seed, recipe.backbone)
    cuda = machine.accelerator != "cpu" and torch.cuda.is_available()
    asked = machine.accelerator not in {"gpu", "cuda"} or cuda
    require(asked, "accelerator", repr(machine.accelerator), "cpu: this machine has no GPU")
    device = torch.device("cuda" if cuda else "cpu")
    description = describe(task, recipe, cell.head, cell.seed, dataset, machine=machine)
    model = build_model(description, pretrained=False).to(device)
    half = torch.float16 if machine.precision.startswith("16") else torch.bfloat16
    policy = augmentation_of(dataset, recipe.augment)
    batches = TrainingBatches(dataset.train, recipe.batch_size, seed=0, augmentation=policy)
    optimizer = torch.optim.AdamW(model.parameters())
    meter = model.head if isinstance(model.head, IGAM) and model.head.information is not None else None
    times = []
    iterator = iter(batches)
    for _ in range(min(WARM_UP + STEPS, len(batches))):
        start = time.perf_counter()
        inputs, labels = (part.to(device) for part in next(iterator))
        with torch.autocast(device.type, half, enabled=machine.precision.endswith("mixed")):
            embeddings = model.backbone(inputs)
            loss = model.head(embeddings, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if meter is not None:
            meter.observe(embeddings.detach(), labels)
        loss.item()  # waits for the device
        times.append(time.perf_counter() - start)
    step = sorted(times[WARM_UP:] or times)[len(times[WARM_UP:] or times) // 2]
    model.eval()
    start = time.perf_counter()
    seen = 0
    with torch.no_grad():
        for inputs, _ in islice(plain_batches(dataset.train, EVALUATION_BATCH), 2):
            model(inputs.to(device)).cpu()
            seen += len(inputs)
    example = (time.perf_counter() - start) / max(seen, 1)
    evaluated = recipe.epochs * len(dataset.validation) + len(dataset.train) + len(dataset.test)
    return Estimate(
        head=cell.head,
        parameters=sum(p.numel() for p in model.parameters()),
        steps=recipe.epochs * len(batches),
        step_seconds=step,
        seconds=recipe.epochs * len(batches) * step + evaluated * example,
        memory=torch.cuda.max_memory_allocated() if cuda else _peak_of_process(),
    )


def _peak_of_process() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # Linux's ru_maxrss knows the parent's peak too
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
