"""What a training came to, and what a comparison will take, in some lines."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bisector.metrics.summary import FIRST_METRICS
from bisector.report.tested_classes import weakest
from bisector.report.verification import format_verification, verifications
from bisector.report.words import duration
from bisector.training.results import Run

if TYPE_CHECKING:
    from bisector.data.dataset import Dataset
    from bisector.training.dry_run import Estimate
    from bisector.training.processes import AnyCell


def format_run(run: Run, dataset: "Dataset", folder: Path) -> str:
    """Return the metrics of a training, its weakest classes, and where its files are."""
    part = "validation" if dataset.open_set else "test"
    lines = [
        f"{run.head} on {dataset.name}, seed {run.seed}: trained in {duration(run.seconds)}",
        size_of(dataset),
        "",
    ]
    if dataset.open_set:
        lines += ["Classes that were trained on, in the validation part:", ""]
    decided = run.decided if run.decided is not None and run.decided.file else None
    columns = [run.metrics] if decided is None else [run.metrics, decided.metrics]
    if decided is not None:
        lines.append(f"{'':<28} {'scores':>8} {'decided':>8}")
    for info in FIRST_METRICS:
        values = [info.scale * metrics.get(info.key, math.nan) for metrics in columns]
        if math.isfinite(values[0]):
            digits = 1 if info.unit else 3
            shown = " ".join(f"{value:>8.{digits}f}" for value in values)
            lines.append(f"{info.label:<28} {shown} {info.unit}".rstrip())
    lines += ["", f"Weakest classes on the {part} part: {_weakest(run.class_accuracy, dataset)}"]
    if decided is not None:
        lines.append(f"Weakest as decided: {_weakest(decided.class_accuracy, dataset)}")
        lines += ["", f"Decided by {decided.method}, fitted on the validation part: {decided.description}"]
        lines.append(f"It is in {folder / decided.file}; scores and checkpoints are as they were.")
    elif run.decided is not None:
        lines += ["", run.decided.description]
    if run.verification is not None:
        lines += ["", "Classes never trained on:", "", format_verification(verifications([run]))]
    lines.append(f"\nEverything is in {folder}; next: bisector embed {shlex.quote(str(folder))}")
    return "\n".join(lines)


def _weakest(accuracies: Sequence[float], dataset: "Dataset") -> str:
    order = weakest(accuracies, dataset.train_counts.tolist())
    return ", ".join(f"{dataset.class_names[c]} {100 * accuracies[c]:.0f}%" for c in order[:5])


def format_estimates(
    estimates: Sequence["Estimate"],
    cells: Sequence["AnyCell"],
    left: Sequence["AnyCell"],
    data: str,
    jobs: int,
) -> str:
    """Return the table of a dry run and its sum."""
    width = max(len(e.head) for e in estimates)
    lines = [
        data,
        "",
        f"{'Head':<{width}}  {'Parameters':>11}  {'Steps':>9}  {'ms a step':>9}  {'A training':>10}  {'Memory':>9}",
    ]
    lines += [
        f"{e.head:<{width}}  {e.parameters:>11,}  {e.steps:>9,}  {1e3 * e.step_seconds:>9.1f}  "
        f"{duration(e.seconds):>10}  {e.memory / 2**20:>5,.0f} MiB"
        for e in estimates
    ]
    seconds = {e.head: e.seconds for e in estimates}
    known = max(seconds.values())
    total = sum(seconds.get(c.head, known) * c.epochs / c.recipe.epochs for c in left)
    most = sum(sorted((e.memory for e in estimates), reverse=True)[:1]) * min(jobs, max(len(left), 1))
    longest = max((seconds.get(c.head, known) * c.epochs / c.recipe.epochs for c in left), default=0.0)
    time = duration(max(longest, total / jobs))
    lines += [
        "",
        f"Trainings: {len(cells)}, {len(cells) - len(left)} done; {jobs} at a time: about {time} and "
        f"{most / 2**20:,.0f} MiB in all, besides some seconds to start.",
    ]
    return "\n".join(lines)


def size_of(dataset: "Dataset") -> str:
    """Say how many classes and examples there are."""
    parts = ", ".join(f"{len(getattr(dataset, part)):,} {part}" for part in ("train", "validation", "test"))
    return f"{dataset.name}: {dataset.num_classes:,} classes; examples: {parts}"
